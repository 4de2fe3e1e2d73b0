//! How a dataset's columns become record batches: which columns there are, in which order its rows stand, and
//! what text is.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryViewArray, Date32Array, DictionaryArray, StringArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow_schema::{DataType, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use schema::{Column, ColumnType, Dataset, Origin, Presence};

use crate::decode::column::{Columns, plain};
use crate::decode::field_map::FieldMap;
use crate::partition::PartitionKey;
use crate::rows::EarlyColumn;

/// Rows of which those of one product stand together. Exports mostly have a device's rows together, and
/// its products in no order: who asks for a product then reads every page of every column. Sorting
/// whole row groups would help that question more, and the one for all of a device would pay for it.
/// A multiple of what DuckDB takes at a time, 2,048 rows. Figures: pipeline/benches/RESULTS.md#queries.
const BLOCK_ROWS: usize = 15 * 2048;

/// What record batches are to be like; by default as data files are written from them.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchOptions {
    /// Whether undocumented fields become the column [`schema::EXTRA_FIELDS`].
    pub extra_fields: bool,
    /// Type of text.
    pub text: TextType,
    /// Whether the partition columns, whose values are in the names of folders, are columns too: the last ones.
    pub partition_columns: bool,
    /// Order of the rows of a batch.
    pub order: RowOrder,
}

/// Type of text in record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextType {
    /// `Dictionary(UInt32, Utf8)`: each text once.
    #[default]
    Dictionary,
    /// `Utf8`.
    Plain,
}

/// Order of the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowOrder {
    /// A device's rows together, and then by [`schema::Layout::cluster_by`] inside blocks of rows.
    #[default]
    Clustered,
    /// As in the part.
    AsRead,
}

/// How the record batches of one export are laid out.
#[derive(Debug)]
pub struct BatchLayout {
    field_map: Arc<FieldMap>,
    file_schema: SchemaRef,
    schema: SchemaRef,
    fields: Vec<Filled>,
    early_properties: Vec<usize>,
    order: RowOrder,
    /// Properties that rows are ordered by inside a block, the coarsest first.
    cluster_by: Vec<usize>,
    generated_time: DateTime<Utc>,
    text: TextType,
}

/// What fills a column.
#[derive(Debug, Clone, Copy)]
enum Filled {
    Property(usize),
    GeneratedTime,
    ExtraFields,
    SnapshotDate,
    Partition,
}

impl BatchLayout {
    /// Lays out the batches of an export of `dataset` that was generated at `generated_time`.
    ///
    /// # Panics
    ///
    /// If the declaration breaks what the tests of crate `schema` check.
    pub fn new(dataset: &'static Dataset, generated_time: DateTime<Utc>, options: BatchOptions) -> Self {
        let BatchOptions { extra_fields, text, partition_columns, order } = options;
        let field_map = FieldMap::new(dataset, extra_fields);
        let filled = |column: &'static Column| match column.origin {
            Origin::Property => {
                Filled::Property(field_map.property_of(column).expect("a property is mapped"))
            }
            Origin::Export => Filled::GeneratedTime,
            Origin::Undocumented => Filled::ExtraFields,
        };
        let position = |name: &&str| {
            let mut properties = field_map.properties().iter();
            properties.position(|column| column.name == *name).expect("schema's tests hold this")
        };
        let extra = extra_fields.then_some(&schema::EXTRA_FIELDS);
        let mut fields: Vec<Filled> = dataset.file_columns().chain(extra).map(filled).collect();
        let file_schema = schema::arrow::file_schema_with_ids(dataset, extra_fields);
        let mut schema = match text {
            TextType::Dictionary => schema::arrow::batch_schema(dataset, extra_fields),
            TextType::Plain => schema::arrow::file_schema(dataset, extra_fields),
        };
        if partition_columns {
            fields.push(Filled::SnapshotDate);
            fields.extend(dataset.partition_by.map(|_| Filled::Partition));
            let partition_fields = dataset.partition_columns().map(|column| {
                let field = schema::arrow::field(column);
                match text {
                    TextType::Dictionary if *field.data_type() == DataType::Utf8 => {
                        field.with_data_type(schema::arrow::dictionary())
                    }
                    _ => field,
                }
            });
            let files = schema.fields().iter().map(|field| field.as_ref().clone());
            schema = Arc::new(Schema::new(files.chain(partition_fields).collect::<Vec<_>>()));
        }
        // With a row for each device there is nothing to gather.
        let order = if field_map.is_row_a_device() && dataset.layout.cluster_by.is_empty() {
            RowOrder::AsRead
        } else {
            order
        };
        let may_be_early = |column: &Column| {
            let layout = &dataset.layout;
            let is_special =
                layout.uncompressed.contains(&column.name) || layout.bloom.contains(&column.name);
            column.column_type == ColumnType::Json && column.presence == Presence::Optional && !is_special
        };
        let early_properties = match order {
            RowOrder::Clustered => Vec::new(),
            RowOrder::AsRead => {
                let properties = field_map.properties().iter().enumerate();
                properties.filter(|(_, column)| may_be_early(column)).map(|(index, _)| index).collect()
            }
        };
        Self {
            file_schema,
            schema,
            fields,
            early_properties,
            order,
            cluster_by: dataset.layout.cluster_by.iter().map(position).collect(),
            field_map: Arc::new(field_map),
            generated_time,
            text,
        }
    }

    /// The Arrow schema of the data files, with field ids.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// The Arrow schema of the record batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Which property of a record fills which column.
    pub fn field_map(&self) -> &Arc<FieldMap> {
        &self.field_map
    }

    /// The properties that may be encoded before all rows of a row group have come: JSON, if rows stay as they came.
    pub(crate) fn early_properties(&self) -> &[usize] {
        &self.early_properties
    }

    /// Takes the pages of `columns` that are encoded already.
    pub(crate) fn take_early(&self, columns: &mut Columns) -> Vec<EarlyColumn> {
        let early = |property: &usize| {
            let is_it = |filled: &Filled| matches!(filled, Filled::Property(other) if other == property);
            let index = self.fields.iter().position(is_it).expect("every property fills a column");
            EarlyColumn { index, pages: columns.take_early_pages(*property) }
        };
        self.early_properties.iter().map(early).filter(|column| !column.pages.is_empty()).collect()
    }

    /// Makes a column of texts that do not repeat as [`Self::take`] does, without moving them; `None` if it is another column.
    pub(crate) fn take_views(
        &self,
        index: usize,
        columns: &mut Columns,
        order: &[u32],
    ) -> Option<BinaryViewArray> {
        match self.fields[index] {
            Filled::Property(property) => columns.take_views(property, order),
            _ => None,
        }
    }

    /// Makes a column of the rows of one partition, in the order that [`Self::order`] gave; its values are then gone from
    /// `columns`.
    pub(crate) fn take(
        &self,
        index: usize,
        key: &PartitionKey,
        columns: &mut Columns,
        order: &[u32],
    ) -> ArrayRef {
        let num_rows = order.len();
        let array = match self.fields[index] {
            Filled::Property(property) => columns.take(property, order),
            Filled::ExtraFields => columns.take_extra_fields(order),
            Filled::GeneratedTime => self.generated_times(num_rows),
            Filled::SnapshotDate => self.snapshot_dates(num_rows),
            Filled::Partition => partition_values(key, num_rows),
        };
        match self.text {
            TextType::Dictionary => array,
            TextType::Plain => plain(array, self.schema.field(index).data_type()),
        }
    }

    /// Returns which row each row of the batch is.
    pub(crate) fn order(&self, columns: &Columns) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(columns.num_rows()).collect();
        if self.order == RowOrder::AsRead {
            return order;
        }
        let mut sorted = vec![0; order.len()];
        // Exports mostly have a device's rows together, but nothing promises it.
        let devices = columns.keys(self.field_map.required());
        if !devices.is_sorted() {
            let mut ends = vec![0; columns.num_keys(self.field_map.required())];
            sort_by_rank(&mut order, devices, &mut ends, &mut sorted);
        }
        // Stable sorts from the finest column to the coarsest.
        for property in self.cluster_by.iter().rev() {
            let (ranks, num_ranks) = columns.ranks(*property);
            let mut ends = vec![0; num_ranks];
            for block in order.chunks_mut(BLOCK_ROWS) {
                sort_by_rank(block, &ranks, &mut ends, &mut sorted);
            }
        }
        order
    }

    fn generated_times(&self, num_rows: usize) -> ArrayRef {
        let micros = self.generated_time.timestamp_micros();
        let data_type = schema::arrow::data_type(ColumnType::TimestampMicros);
        Arc::new(TimestampMicrosecondArray::from_value(micros, num_rows).with_data_type(data_type))
    }

    fn snapshot_dates(&self, num_rows: usize) -> ArrayRef {
        let days = self.generated_time.date_naive().signed_duration_since(DateTime::UNIX_EPOCH.date_naive());
        let days = i32::try_from(days.num_days()).expect("years of chrono have fewer days");
        Arc::new(Date32Array::from_value(days, num_rows))
    }
}

/// Sorts rows by their ranks, of which there are as many as `ends`, by counting; stable.
fn sort_by_rank(rows: &mut [u32], ranks: &[u32], ends: &mut [usize], sorted: &mut [u32]) {
    ends.fill(0);
    for row in &*rows {
        ends[ranks[*row as usize] as usize] += 1;
    }
    let mut end = 0;
    for count in &mut *ends {
        end += *count;
        *count = end;
    }
    for row in rows.iter().rev() {
        let end = &mut ends[ranks[*row as usize] as usize];
        *end -= 1;
        sorted[*end] = *row;
    }
    rows.copy_from_slice(&sorted[..rows.len()]);
}

/// One text for all rows.
fn partition_values(key: &PartitionKey, num_rows: usize) -> ArrayRef {
    match key.value() {
        None => new_null_array(&schema::arrow::dictionary(), num_rows),
        Some(value) => Arc::new(DictionaryArray::new(
            UInt32Array::from_value(0, num_rows),
            Arc::new(StringArray::from_iter_values([value])),
        )),
    }
}
