//! Takes values, as JSON text or as values; gives the columns of one partition's next row group.
//!
//! Rows come one by one as values, or in runs: then each column in turn reads all its values, from
//! where they lie in the text.

pub(super) mod dictionary;
mod string;
mod list;
mod primitive;
mod column_type;
mod spill;
mod spill_format;
mod unpredicted;

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::{Date32Type, Int32Type, TimestampMicrosecondType};
use schema::ColumnType;

pub(super) use self::column_type::can_hold;
pub use self::unpredicted::Unpredicted;
use super::field_map::FieldMap;
use super::spans::Run;
use super::value::JsonValue;
use dictionary::{Lookups, NULL_KEY};
use list::ListColumn;
use primitive::{PrimitiveColumn, days, integer, micros};
use string::StringColumn;

/// Rows of a row group: DuckDB's unit of work, and small enough that every partition can have one
/// open for each thread.
pub const MAX_ROWS: usize = 122_880;

/// What a set of columns holds before its first row, about.
const EMPTY_BYTES: usize = 8 * 1024;

/// Rows of one partition on their way into a row group, as columns.
#[derive(Debug)]
pub struct Columns {
    /// In the order of [`FieldMap::properties`]; none for the one that names the partition.
    properties: Vec<Option<Column>>,
    extra_fields: StringColumn,
    num_rows: usize,
}

/// A finished column: in the order of the properties, `None` for the one that names the partition.
#[derive(Debug)]
pub struct FinishedColumns {
    /// The properties' columns.
    pub properties: Vec<Option<ArrayRef>>,
    /// Captured fields.
    pub extra_fields: ArrayRef,
    /// Length of each.
    pub num_rows: usize,
}

#[derive(Debug)]
enum Column {
    Utf8(StringColumn),
    Utf8List(ListColumn),
    Int32(PrimitiveColumn<Int32Type>),
    TimestampMicros(PrimitiveColumn<TimestampMicrosecondType>),
    Date32(PrimitiveColumn<Date32Type>),
}

impl Columns {
    /// Begins without rows.
    pub fn new(field_map: &FieldMap) -> Self {
        let column = |(index, column): (usize, &&'static schema::Column)| {
            (index != field_map.partition()).then(|| Column::new(column.column_type))
        };
        let properties = field_map.properties().iter().enumerate().map(column).collect();
        Self { properties, extra_fields: StringColumn::new(), num_rows: 0 }
    }

    /// Rows held.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Memory held, about.
    pub fn num_bytes(&self) -> usize {
        let columns = self.properties.iter().flatten().map(Column::num_bytes).sum::<usize>();
        EMPTY_BYTES + columns + self.extra_fields.num_bytes()
    }

    /// Adds the records of a run of `text` as rows, up to the first that has a value not just as its
    /// column is documented; returns how many. By property, `slots` says which values of the run are
    /// its; a property without is null.
    pub fn push_run(
        &mut self,
        text: &[u8],
        run: &Run,
        slots: &[Option<usize>],
        lookups: &mut Lookups,
    ) -> usize {
        let num_records = run.ends().len();
        let mut num_rows = num_records;
        for (column, slot) in self.properties.iter_mut().zip(slots) {
            if let Some(column) = column {
                num_rows = match *slot {
                    Some(slot) => column.push_run(text, run, slot, num_rows, lookups),
                    None => column.push_nulls(num_rows),
                };
            }
        }
        self.num_rows += num_rows;
        if num_rows < num_records {
            self.properties.iter_mut().flatten().for_each(|column| column.truncate(self.num_rows));
        }
        num_rows
    }

    /// Adds a row of values, in the order of the properties, and its captured fields.
    pub fn push(&mut self, values: &[JsonValue<'_>], extra_fields: Option<&str>) {
        for (column, value) in self.properties.iter_mut().zip(values) {
            if let Some(column) = column {
                column.push(*value);
            }
        }
        // Rows before that have none are filled up then, or in the end.
        if let Some(text) = extra_fields {
            self.extra_fields.keys.resize(self.num_rows, NULL_KEY);
            self.extra_fields.push(text);
        }
        self.num_rows += 1;
    }

    /// Adds the rows of `other`, columns of the same field_map.
    pub fn append(&mut self, other: Self) {
        for (column, other) in self.properties.iter_mut().zip(other.properties) {
            if let (Some(column), Some(other)) = (column, other) {
                column.append(other);
            }
        }
        let mut extra_fields = other.extra_fields;
        if !extra_fields.keys.is_empty() {
            self.extra_fields.keys.resize(self.num_rows, NULL_KEY);
            self.extra_fields.append(&mut extra_fields);
        }
        self.num_rows += other.num_rows;
    }

    /// The place of each row's text among those of a text property, nulls first, and how many places
    /// there are. They are in the order of the bytes as they came.
    ///
    /// # Panics
    ///
    /// Where the property is no text.
    pub fn ranks(&self, property: usize) -> (Vec<u32>, usize) {
        let Some(Column::Utf8(column)) = &self.properties[property] else { panic!("no text") };
        let ranks = column.dictionary.ranks();
        let rank = |key: &u32| if *key == NULL_KEY { 0 } else { ranks[*key as usize] };
        (column.keys.iter().map(rank).collect(), ranks.len() + 1)
    }

    /// Takes all rows, in the order given, and begins anew.
    pub fn finish(&mut self, order: &[u32]) -> FinishedColumns {
        let num_rows = std::mem::take(&mut self.num_rows);
        debug_assert_eq!(num_rows, order.len());
        self.extra_fields.keys.resize(num_rows, NULL_KEY);
        FinishedColumns {
            properties: self
                .properties
                .iter_mut()
                .map(|column| column.as_mut().map(|column| column.finish(order)))
                .collect(),
            extra_fields: Arc::new(self.extra_fields.finish(order)),
            num_rows,
        }
    }
}

impl Column {
    fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Utf8 => Self::Utf8(StringColumn::new()),
            ColumnType::Utf8List => Self::Utf8List(ListColumn::new()),
            ColumnType::Int32 => Self::Int32(PrimitiveColumn::new()),
            ColumnType::TimestampMicros => Self::TimestampMicros(PrimitiveColumn::new()),
            ColumnType::Date32 => Self::Date32(PrimitiveColumn::new()),
            other => unreachable!("a field map has no column of type {other}"),
        }
    }

    fn push(&mut self, value: JsonValue<'_>) {
        match (self, value) {
            (Self::Utf8(column), JsonValue::Text(text)) => column.push(text),
            (Self::Utf8(column), JsonValue::Null) => column.keys.push(NULL_KEY),
            (Self::Utf8List(column), JsonValue::List(list)) => column.push(list),
            (Self::Utf8List(column), JsonValue::Null) => column.push_null(),
            (Self::Int32(column), JsonValue::Int32(number)) => column.push(Some(number)),
            (Self::Int32(column), JsonValue::Null) => column.push(None),
            (Self::TimestampMicros(column), JsonValue::Micros(micros)) => column.push(Some(micros)),
            (Self::TimestampMicros(column), JsonValue::Null) => column.push(None),
            (Self::Date32(column), JsonValue::Days(days)) => column.push(Some(days)),
            (Self::Date32(column), JsonValue::Null) => column.push(None),
            (column, value) => unreachable!("{value:?} is not for {column:?}"),
        }
    }

    /// Adds the values that a slot has in the first `num_rows` records of a run, up to the first that
    /// is a surprise; returns how many.
    fn push_run(
        &mut self,
        text: &[u8],
        run: &Run,
        slot: usize,
        num_rows: usize,
        lookups: &mut Lookups,
    ) -> usize {
        let values = run.values(slot, num_rows);
        match self {
            Self::Utf8(column) => column.push_run(text, values, lookups),
            Self::Utf8List(column) => column.push_run(text, values, run.elements(slot), lookups),
            Self::Int32(column) => column.push_run(text, values, integer),
            Self::TimestampMicros(column) => column.push_run(text, values, micros),
            Self::Date32(column) => column.push_run(text, values, days),
        }
    }

    fn push_nulls(&mut self, num_rows: usize) -> usize {
        (0..num_rows).for_each(|_| self.push(JsonValue::Null));
        num_rows
    }

    fn truncate(&mut self, num_rows: usize) {
        match self {
            Self::Utf8(column) => column.keys.truncate(num_rows),
            Self::Utf8List(column) => column.truncate(num_rows),
            Self::Int32(column) => column.truncate(num_rows),
            Self::TimestampMicros(column) => column.truncate(num_rows),
            Self::Date32(column) => column.truncate(num_rows),
        }
    }

    fn num_bytes(&self) -> usize {
        match self {
            Self::Utf8(column) => column.num_bytes(),
            Self::Utf8List(column) => column.num_bytes(),
            Self::Int32(column) => column.num_bytes(),
            Self::TimestampMicros(column) => column.num_bytes(),
            Self::Date32(column) => column.num_bytes(),
        }
    }

    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Utf8(column), Self::Utf8(mut other)) => column.append(&mut other),
            (Self::Utf8List(column), Self::Utf8List(other)) => column.append(other),
            (Self::Int32(column), Self::Int32(other)) => column.append(other),
            (Self::TimestampMicros(column), Self::TimestampMicros(other)) => column.append(other),
            (Self::Date32(column), Self::Date32(other)) => column.append(other),
            (column, other) => unreachable!("{other:?} is not like {column:?}"),
        }
    }

    fn finish(&mut self, order: &[u32]) -> ArrayRef {
        match self {
            Self::Utf8(column) => Arc::new(column.finish(order)),
            Self::Utf8List(column) => Arc::new(column.finish(order)),
            Self::Int32(column) => Arc::new(column.finish(order)),
            Self::TimestampMicros(column) => {
                let data_type = schema::arrow::data_type(ColumnType::TimestampMicros);
                Arc::new(column.finish(order).with_data_type(data_type))
            }
            Self::Date32(column) => Arc::new(column.finish(order)),
        }
    }
}
