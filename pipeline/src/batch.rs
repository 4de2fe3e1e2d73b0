//! Takes cells; gives record batches, one set of columns for each partition.
//!
//! Rows are routed as they come, so that nothing is ever split or copied again by partition. Rows
//! held are bounded in number for a partition, and in bytes for all of them together.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, Date32Builder, Int32Builder, ListBuilder, StringDictionaryBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use chrono::{DateTime, Utc};
use schema::{Column, ColumnType, Origin};

use crate::decode::binding::Binding;
use crate::decode::cell::Cell;
use crate::partition::PartitionKey;

/// Rows of a batch: it becomes a row group.
const MAX_BATCH_ROWS: usize = crate::write::MAX_ROW_GROUP_ROWS;

/// Fixed cost of a row in the builders, beside the bytes of its text: offsets, numbers, validity.
const ROW_BYTES: usize = 96;

/// Rows on their way into batches, by partition.
#[derive(Debug)]
pub struct Batcher<'b> {
    layout: &'b BatchLayout<'b>,
    partitions: Vec<(PartitionKey, Columns)>,
    index: HashMap<PartitionKey, usize>,
    /// The last row's partition: a device's rows stand together, so the next row mostly has it too.
    last: usize,
    num_bytes: usize,
    max_bytes: usize,
    /// Partitions that have reached [`MAX_BATCH_ROWS`].
    full: Vec<usize>,
}

/// How a dataset's cells become the columns of its files.
#[derive(Debug)]
pub struct BatchLayout<'b> {
    binding: &'b Binding,
    schema: SchemaRef,
    batch_schema: SchemaRef,
    fields: Vec<Filled>,
    generated_time: DateTime<Utc>,
}

/// What fills a column of the files.
#[derive(Debug, Clone, Copy)]
enum Filled {
    Cell(usize, ColumnType),
    GeneratedTime,
    ExtraFields,
}

impl<'b> BatchLayout<'b> {
    /// Lays out the files of one export.
    ///
    /// # Panics
    ///
    /// Where the binding is of another dataset than it says: a mistake of ours.
    pub fn new(binding: &'b Binding, generated_time: DateTime<Utc>) -> Self {
        let dataset = binding.dataset();
        let schema = schema::arrow::file_schema(dataset, binding.captures_extra_fields());
        let filled = |column: &'static Column| match column.origin {
            Origin::Property => {
                Filled::Cell(binding.property_of(column).expect("a property is bound"), column.column_type)
            }
            Origin::Export => Filled::GeneratedTime,
            Origin::Undocumented => Filled::ExtraFields,
        };
        let extra = binding.captures_extra_fields().then_some(&schema::EXTRA_FIELDS);
        let fields = dataset.file_columns().chain(extra).map(filled).collect();
        let batch_schema = schema::arrow::batch_schema(dataset, binding.captures_extra_fields());
        Self { binding, schema, batch_schema, fields, generated_time }
    }

    /// The Arrow schema of the files.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl<'b> Batcher<'b> {
    /// Begins with no rows; [`Self::take`] hands over early what exceeds `max_bytes`.
    pub fn new(layout: &'b BatchLayout<'b>, max_bytes: usize) -> Self {
        Self {
            layout,
            partitions: Vec::new(),
            index: HashMap::new(),
            last: 0,
            num_bytes: 0,
            max_bytes,
            full: Vec::new(),
        }
    }

    /// Adds a row to its partition.
    pub fn push(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        let platform = match cells[self.layout.binding.partition()] {
            Cell::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        };
        let partition = self.partition(platform);
        let (_, columns) = &mut self.partitions[partition];
        self.num_bytes += columns.push(&self.layout.fields, cells, extra_fields);
        if columns.num_rows == MAX_BATCH_ROWS {
            self.full.push(partition);
        }
    }

    fn partition(&mut self, platform: Option<&str>) -> usize {
        if self.partitions.get(self.last).is_some_and(|(key, _)| key.value() == platform) {
            return self.last;
        }
        let key = PartitionKey::new(platform);
        self.last = *self.index.entry(key).or_insert_with_key(|key| {
            self.partitions.push((key.clone(), Columns::new(&self.layout.fields)));
            self.partitions.len() - 1
        });
        self.last
    }

    /// Takes the batches that are due: those that are full, and all where the rows held exceed the
    /// bytes allowed. Call it between stretches of rows.
    pub fn take(&mut self) -> Vec<(PartitionKey, RecordBatch)> {
        if self.num_bytes > self.max_bytes {
            return self.take_all();
        }
        let full = std::mem::take(&mut self.full);
        full.into_iter().map(|partition| self.finish(partition)).collect()
    }

    /// Takes everything.
    pub fn take_all(&mut self) -> Vec<(PartitionKey, RecordBatch)> {
        self.full.clear();
        (0..self.partitions.len())
            .filter(|partition| self.partitions[*partition].1.num_rows > 0)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|partition| self.finish(partition))
            .collect()
    }

    fn finish(&mut self, partition: usize) -> (PartitionKey, RecordBatch) {
        let (key, columns) = &mut self.partitions[partition];
        self.num_bytes -= columns.num_bytes;
        (key.clone(), columns.finish(self.layout))
    }
}

/// Builders of one partition's columns.
#[derive(Debug)]
struct Columns {
    builders: Vec<Builder>,
    num_rows: usize,
    num_bytes: usize,
}

enum Builder {
    Utf8(StringDictionaryBuilder<UInt32Type>),
    Int32(Int32Builder),
    Utf8List(ListBuilder<StringDictionaryBuilder<UInt32Type>>),
    TimestampMicros(TimestampMicrosecondBuilder),
    Date32(Date32Builder),
    /// The same for every row: built when the batch is.
    GeneratedTime,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Utf8(_) => "Utf8",
            Self::Int32(_) => "Int32",
            Self::Utf8List(_) => "Utf8List",
            Self::TimestampMicros(_) => "TimestampMicros",
            Self::Date32(_) => "Date32",
            Self::GeneratedTime => "GeneratedTime",
        })
    }
}

impl Columns {
    /// Begins with builders that hold no memory: partitions may be many, each with a few rows, and
    /// what Arrow sets aside by default is more than most of them need.
    fn new(fields: &[Filled]) -> Self {
        let text = || StringDictionaryBuilder::with_capacity(0, 0, 0);
        let builder = |filled: &Filled| match filled {
            Filled::ExtraFields | Filled::Cell(_, ColumnType::Utf8) => Builder::Utf8(text()),
            Filled::Cell(_, ColumnType::Int32) => Builder::Int32(Int32Builder::with_capacity(0)),
            Filled::Cell(_, ColumnType::Utf8List) => Builder::Utf8List(
                ListBuilder::with_capacity(text(), 0).with_field(schema::arrow::batch_list_element()),
            ),
            Filled::Cell(_, ColumnType::TimestampMicros) => Builder::TimestampMicros(
                TimestampMicrosecondBuilder::with_capacity(0)
                    .with_data_type(schema::arrow::data_type(ColumnType::TimestampMicros)),
            ),
            Filled::Cell(_, ColumnType::Date32) => Builder::Date32(Date32Builder::with_capacity(0)),
            Filled::GeneratedTime => Builder::GeneratedTime,
        };
        Self { builders: fields.iter().map(builder).collect(), num_rows: 0, num_bytes: 0 }
    }

    /// Appends one row and returns about how many bytes it takes.
    fn push(&mut self, fields: &[Filled], cells: &[Cell<'_>], extra_fields: Option<&str>) -> usize {
        let mut num_bytes = ROW_BYTES;
        for (builder, filled) in self.builders.iter_mut().zip(fields) {
            let cell = match filled {
                Filled::Cell(index, _) => cells[*index],
                Filled::ExtraFields => extra_fields.map_or(Cell::Null, Cell::Text),
                Filled::GeneratedTime => continue,
            };
            num_bytes += builder.append(cell);
        }
        self.num_rows += 1;
        self.num_bytes += num_bytes;
        num_bytes
    }

    fn finish(&mut self, layout: &BatchLayout<'_>) -> RecordBatch {
        let num_rows = std::mem::take(&mut self.num_rows);
        self.num_bytes = 0;
        let columns =
            self.builders.iter_mut().map(|builder| builder.finish(layout.generated_time, num_rows)).collect();
        RecordBatch::try_new(Arc::clone(&layout.batch_schema), columns).expect("builders follow the schema")
    }
}

impl Builder {
    /// Appends a cell and returns how many bytes of text it has.
    fn append(&mut self, cell: Cell<'_>) -> usize {
        match (self, cell) {
            (Self::Utf8(builder), Cell::Text(text)) => {
                builder.append_value(text);
                return size_of::<u32>() + text.len();
            }
            (Self::Utf8(builder), Cell::Null) => builder.append_null(),
            (Self::Int32(builder), Cell::Int32(number)) => builder.append_value(number),
            (Self::Int32(builder), Cell::Null) => builder.append_null(),
            (Self::TimestampMicros(builder), Cell::Micros(micros)) => builder.append_value(micros),
            (Self::TimestampMicros(builder), Cell::Null) => builder.append_null(),
            (Self::Date32(builder), Cell::Days(days)) => builder.append_value(days),
            (Self::Date32(builder), Cell::Null) => builder.append_null(),
            (Self::Utf8List(builder), Cell::Null) => builder.append_null(),
            (Self::Utf8List(builder), Cell::List(list)) => {
                let mut num_bytes = 0;
                list.for_each(|text| {
                    builder.values().append_option(text);
                    num_bytes += size_of::<i32>() + text.map_or(0, str::len);
                });
                builder.append(true);
                return num_bytes;
            }
            (builder, cell) => unreachable!("{cell:?} is not for {builder:?}"),
        }
        0
    }

    fn finish(&mut self, generated_time: DateTime<Utc>, num_rows: usize) -> ArrayRef {
        match self {
            Self::Utf8(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Utf8List(builder) => ArrayBuilder::finish(builder),
            Self::TimestampMicros(builder) => Arc::new(builder.finish()),
            Self::Date32(builder) => Arc::new(builder.finish()),
            Self::GeneratedTime => {
                let micros = generated_time.timestamp_micros();
                let DataType::Timestamp(_, zone) = schema::arrow::data_type(ColumnType::TimestampMicros)
                else {
                    unreachable!("timestamps are timestamps")
                };
                Arc::new(TimestampMicrosecondArray::from_value(micros, num_rows).with_timezone_opt(zone))
            }
        }
    }
}
