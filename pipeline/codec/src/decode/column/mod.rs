//! Takes rows; gives the columns of one partition's next row group.
//!
//! Rows come one by one as values, or many at a time: then each column in turn reads all its values from the
//! text.

pub(super) mod dictionary;
mod string;
mod json;
mod primitive;
mod boolean;
mod list;
mod struct_list;
mod text_map;
mod spill;
mod spill_format;
mod unpredicted;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BinaryViewArray};
use schema::ColumnType;

pub use self::unpredicted::Unpredicted;
use super::field_map::FieldMap;
use super::spans::RecordSpans;
use super::value::JsonValue;
use crate::rows::EarlyPage;
use boolean::BooleanColumn;
use dictionary::{Lookups, NULL_KEY};
use json::JsonColumn;
use list::ListColumn;
use primitive::{PrimitiveColumn, days, float, integer, micros};
use spill_format::Bytes;
use string::StringColumn;
pub(crate) use string::plain;
pub use string::plain_strings;
use struct_list::{Member, StructListColumn};

/// Rows of a row group: DuckDB's unit of work, and small enough that every partition can have one
/// open for each thread.
pub const MAX_ROWS: usize = 122_880;

/// Memory of a set of columns before its first row, about.
const EMPTY_BYTES: usize = 8 * 1024;

/// Rows of one partition on their way into a row group, as columns.
#[derive(Debug)]
pub struct Columns {
    /// In the order of [`FieldMap::properties`]; none for the one that names the partition.
    properties: Vec<Option<ColumnBuilder>>,
    extra_fields: StringColumn,
    num_rows: usize,
}

/// Finished columns: in the order of the properties, `None` for the one that names the partition.
#[cfg(test)]
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
enum ColumnBuilder {
    Utf8(StringColumn),
    Int32(PrimitiveColumn<Int32Type>),
    Int64(PrimitiveColumn<Int64Type>),
    Float64(PrimitiveColumn<Float64Type>),
    Boolean(BooleanColumn),
    Date32(PrimitiveColumn<Date32Type>),
    TimestampMicros(PrimitiveColumn<TimestampMicrosecondType>),
    Json(JsonColumn),
    Utf8List(ListColumn),
    StructList(StructListColumn<ColumnBuilder>),
}

impl Columns {
    /// Begins without rows.
    pub fn new(field_map: &FieldMap) -> Self {
        let column = |(index, column): (usize, &&'static schema::Column)| {
            // A device's rows are found by its key.
            let is_exact = index == field_map.required() && !field_map.is_row_a_device();
            let builder = || {
                if is_exact {
                    ColumnBuilder::Utf8(StringColumn::exact())
                } else {
                    ColumnBuilder::new(column.column_type)
                }
            };
            (Some(index) != field_map.partition()).then(builder)
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
        let columns = self.properties.iter().flatten().map(ColumnBuilder::num_bytes).sum::<usize>();
        EMPTY_BYTES + columns + self.extra_fields.num_bytes()
    }

    /// Memory that the rows take, about, without what is there for further ones.
    pub(crate) fn used_bytes(&self) -> usize {
        self.properties.iter().flatten().map(ColumnBuilder::used_bytes).sum::<usize>()
            + self.extra_fields.used_bytes()
    }

    /// Adds `records` of `text` as rows, up to the first that has a value not just as its column is
    /// documented; returns how many. By property, `slots` says which of their values are its; a
    /// property without is null.
    pub fn push_spans(
        &mut self,
        text: &[u8],
        spans: &RecordSpans,
        records: Range<usize>,
        slots: &[Option<usize>],
        lookups: &mut Lookups,
    ) -> usize {
        let mut num_rows = records.len();
        for (column, slot) in self.properties.iter_mut().zip(slots) {
            if let Some(column) = column {
                num_rows = match *slot {
                    Some(slot) => {
                        let records = records.start..records.start + num_rows;
                        column.push_spans(text, spans, slot, records, lookups)
                    }
                    None => column.push_nulls(num_rows),
                };
            }
        }
        self.num_rows += num_rows;
        if num_rows < records.len() {
            self.truncate(self.num_rows);
        }
        num_rows
    }

    /// Takes rows away behind the first `num_rows`; none of them came with captured fields.
    pub fn truncate(&mut self, num_rows: usize) {
        self.num_rows = num_rows;
        self.properties.iter_mut().flatten().for_each(|column| column.truncate(num_rows));
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

    /// Adds the rows of `other`, columns of the same field map.
    pub fn append(&mut self, other: Self) {
        for (column, other) in self.properties.iter_mut().zip(other.properties) {
            if let (Some(column), Some(other)) = (column, other) {
                column.append(other);
            }
        }
        let extra_fields = other.extra_fields;
        if !extra_fields.keys.is_empty() {
            self.extra_fields.keys.resize(self.num_rows, NULL_KEY);
            self.extra_fields.append(extra_fields);
        }
        self.num_rows += other.num_rows;
    }

    /// The key of each row's text of a required text property, in the order of first occurrence.
    ///
    /// # Panics
    ///
    /// If the property is not text.
    pub fn keys(&self, property: usize) -> &[u32] {
        &self.text(property).keys
    }

    /// How many keys a text property has.
    ///
    /// # Panics
    ///
    /// If the property is not text.
    pub fn num_keys(&self, property: usize) -> usize {
        self.text(property).dictionary.num_entries()
    }

    fn text(&self, property: usize) -> &StringColumn {
        let Some(ColumnBuilder::Utf8(column)) = &self.properties[property] else { panic!("no text") };
        column
    }

    /// The place of each row's text among those of a text property, nulls first, and how many places
    /// there are. They are in the order of the bytes as they came.
    ///
    /// # Panics
    ///
    /// If the property is not text.
    pub fn ranks(&self, property: usize) -> (Vec<u32>, usize) {
        let column = self.text(property);
        let ranks = column.dictionary.ranks();
        let rank = |key: &u32| if *key == NULL_KEY { 0 } else { ranks[*key as usize] };
        (column.keys.iter().map(rank).collect(), ranks.len() + 1)
    }

    /// The column of a JSON property.
    ///
    /// # Panics
    ///
    /// If the property is not JSON.
    fn json(&mut self, property: usize) -> &mut JsonColumn {
        let Some(ColumnBuilder::Json(column)) = &mut self.properties[property] else { panic!("not JSON") };
        column
    }

    /// Bytes of the texts of a JSON property that can be encoded, see [`Self::encode_early`]: none if they repeat.
    pub(crate) fn bytes_to_encode(&mut self, property: usize) -> usize {
        self.json(property).bytes_to_encode()
    }

    /// Whether rows of a JSON property are encoded.
    pub(crate) fn has_early_pages(&mut self, property: usize) -> bool {
        self.json(property).has_early_pages()
    }

    /// Encodes the texts of a JSON property of all rows so far that are not encoded. No row is taken away after that, the
    /// rest is encoded too before other columns are appended, and rows are not brought into another order.
    pub(crate) fn encode_early(
        &mut self,
        property: usize,
        encode: impl FnOnce(&[Option<&[u8]>]) -> Vec<EarlyPage>,
    ) {
        self.json(property).encode_early(encode);
    }

    /// Takes the encoded pages of a JSON property: of all rows, and [`Self::finish`] gives nulls then, or none.
    pub(crate) fn take_early_pages(&mut self, property: usize) -> Vec<EarlyPage> {
        self.json(property).take_early_pages()
    }

    /// Takes the values of a property of all rows, in the order given; none of them are left.
    ///
    /// # Panics
    ///
    /// If the property is the one that names the partition.
    pub(crate) fn take(&mut self, property: usize, order: &[u32]) -> ArrayRef {
        debug_assert_eq!(self.num_rows, order.len());
        self.properties[property].as_mut().expect("a partition is no column").finish(order)
    }

    /// Takes texts of a property of all rows where they lie, in the order given, if they do not repeat: none of them are left
    /// then.
    pub(crate) fn take_views(&mut self, property: usize, order: &[u32]) -> Option<BinaryViewArray> {
        match &mut self.properties[property] {
            Some(ColumnBuilder::Utf8(column)) => column.take_views(order),
            _ => None,
        }
    }

    /// Takes the captured fields of all rows, in the order given; none of them are left.
    pub(crate) fn take_extra_fields(&mut self, order: &[u32]) -> ArrayRef {
        self.extra_fields.keys.resize(self.num_rows, NULL_KEY);
        Arc::new(self.extra_fields.finish(order))
    }

    /// Takes the memory for further rows, once the values of all have been taken.
    pub(crate) fn take_memory(&mut self) -> Self {
        self.truncate(0);
        self.extra_fields.truncate(0);
        Self {
            properties: std::mem::take(&mut self.properties),
            extra_fields: std::mem::replace(&mut self.extra_fields, StringColumn::new()),
            num_rows: 0,
        }
    }

    /// Takes all rows, in the order given; none are left.
    #[cfg(test)]
    pub fn finish(&mut self, order: &[u32]) -> FinishedColumns {
        let has_column: Vec<bool> = self.properties.iter().map(Option::is_some).collect();
        let properties = has_column.iter().enumerate();
        let properties =
            properties.map(|(index, has_column)| has_column.then(|| self.take(index, order))).collect();
        let extra_fields = self.take_extra_fields(order);
        *self = self.take_memory();
        FinishedColumns { properties, extra_fields, num_rows: order.len() }
    }
}

/// Calls a method of any kind of column.
macro_rules! each_kind {
    ($column:expr, $kind:ident => $call:expr) => {
        match $column {
            ColumnBuilder::Utf8($kind) => $call,
            ColumnBuilder::Json($kind) => $call,
            ColumnBuilder::Int32($kind) => $call,
            ColumnBuilder::Int64($kind) => $call,
            ColumnBuilder::Float64($kind) => $call,
            ColumnBuilder::Boolean($kind) => $call,
            ColumnBuilder::Date32($kind) => $call,
            ColumnBuilder::TimestampMicros($kind) => $call,
            ColumnBuilder::Utf8List($kind) => $call,
            ColumnBuilder::StructList($kind) => $call,
        }
    };
}

impl ColumnBuilder {
    fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Utf8 => Self::Utf8(StringColumn::new()),
            ColumnType::Int32 => Self::Int32(PrimitiveColumn::new()),
            ColumnType::Int64 => Self::Int64(PrimitiveColumn::new()),
            ColumnType::Float64 => Self::Float64(PrimitiveColumn::new()),
            ColumnType::Boolean => Self::Boolean(BooleanColumn::new()),
            ColumnType::Date32 => Self::Date32(PrimitiveColumn::new()),
            ColumnType::TimestampMicros => Self::TimestampMicros(PrimitiveColumn::new()),
            ColumnType::Json => Self::Json(JsonColumn::new()),
            ColumnType::Utf8List => Self::Utf8List(ListColumn::new()),
            ColumnType::StructList(members) => Self::StructList(StructListColumn::new(members)),
        }
    }

    fn push(&mut self, value: JsonValue<'_>) {
        match (self, value) {
            (column, JsonValue::Null) => {
                column.push_nulls(1);
            }
            (Self::Utf8(column), JsonValue::Text(text)) => column.push(text),
            (Self::Json(column), JsonValue::Text(text)) => column.push(text),
            (Self::Utf8List(column), JsonValue::List(list)) => column.push(list),
            (Self::Int32(column), JsonValue::Int32(number)) => column.push(Some(number)),
            (Self::Int64(column), JsonValue::Int64(number)) => column.push(Some(number)),
            (Self::Float64(column), JsonValue::Float64(number)) => column.push(Some(number)),
            (Self::Boolean(column), JsonValue::Boolean(value)) => column.push(Some(value)),
            (Self::TimestampMicros(column), JsonValue::Micros(micros)) => column.push(Some(micros)),
            (Self::Date32(column), JsonValue::Days(days)) => column.push(Some(days)),
            (Self::StructList(column), JsonValue::Structs(structs)) => column.push(structs),
            (column, value) => unreachable!("{value:?} is not for {column:?}"),
        }
    }

    /// Adds the values that a slot has in `records`, up to the first that is unpredicted; returns how
    /// many.
    fn push_spans(
        &mut self,
        text: &[u8],
        spans: &RecordSpans,
        slot: usize,
        records: Range<usize>,
        lookups: &mut Lookups,
    ) -> usize {
        let values = spans.values(slot, records);
        match self {
            Self::Utf8(column) => column.push_spans(text, values, lookups),
            Self::Utf8List(column) => column.push_spans(text, values, spans.elements(slot), lookups),
            Self::Int32(column) => column.push_spans(text, values, integer::<i32, 9>),
            Self::Int64(column) => column.push_spans(text, values, integer::<i64, 18>),
            Self::Float64(column) => column.push_spans(text, values, float),
            Self::Boolean(column) => column.push_spans(text, values),
            Self::TimestampMicros(column) => column.push_spans(text, values, micros),
            Self::Date32(column) => column.push_spans(text, values, days),
            Self::Json(column) => column.push_spans(text, values),
            Self::StructList(column) => column.push_spans(text, values),
        }
    }

    fn push_nulls(&mut self, num_rows: usize) -> usize {
        each_kind!(self, column => column.push_nulls(num_rows));
        num_rows
    }

    fn truncate(&mut self, num_rows: usize) {
        each_kind!(self, column => column.truncate(num_rows));
    }

    fn num_bytes(&self) -> usize {
        each_kind!(self, column => column.num_bytes())
    }

    fn used_bytes(&self) -> usize {
        match self {
            Self::Utf8(column) => column.used_bytes(),
            Self::Utf8List(column) => column.used_bytes(),
            Self::Int32(column) => column.used_bytes(),
            Self::Int64(column) => column.used_bytes(),
            Self::Float64(column) => column.used_bytes(),
            Self::Boolean(column) => column.used_bytes(),
            Self::Date32(column) => column.used_bytes(),
            Self::TimestampMicros(column) => column.used_bytes(),
            Self::Json(_) | Self::StructList(_) => self.num_bytes(),
        }
    }

    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Utf8(column), Self::Utf8(other)) => column.append(other),
            (Self::Json(column), Self::Json(other)) => column.append(other),
            (Self::Utf8List(column), Self::Utf8List(other)) => column.append(other),
            (Self::Int32(column), Self::Int32(other)) => column.append(other),
            (Self::Int64(column), Self::Int64(other)) => column.append(other),
            (Self::Float64(column), Self::Float64(other)) => column.append(other),
            (Self::Boolean(column), Self::Boolean(other)) => column.append(other),
            (Self::TimestampMicros(column), Self::TimestampMicros(other)) => column.append(other),
            (Self::Date32(column), Self::Date32(other)) => column.append(other),
            (Self::StructList(column), Self::StructList(other)) => column.append(other),
            (column, other) => unreachable!("{other:?} is not like {column:?}"),
        }
    }

    fn finish(&mut self, order: &[u32]) -> ArrayRef {
        if let Self::TimestampMicros(column) = self {
            let data_type = schema::arrow::data_type(ColumnType::TimestampMicros);
            return Arc::new(column.finish(order).with_data_type(data_type));
        }
        each_kind!(self, column => Arc::new(column.finish(order)))
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Utf8(column) => column.write_to(out),
            Self::Json(column) => column.write_to(out),
            Self::Int32(column) => column.write_to(out, i64::from),
            Self::Int64(column) => column.write_to(out, |number| number),
            Self::Float64(column) => column.write_to(out, |number| number.to_bits().cast_signed()),
            Self::Boolean(column) => column.write_to(out),
            Self::Date32(column) => column.write_to(out, i64::from),
            Self::TimestampMicros(column) => column.write_to(out, |number| number),
            Self::Utf8List(column) => column.write_to(out),
            Self::StructList(column) => column.write_to(out),
        }
    }

    fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        let int = |number| i32::try_from(number).expect("written as such");
        match self {
            Self::Utf8(column) => column.read_from(bytes),
            Self::Json(column) => column.read_from(bytes),
            Self::Int32(column) => column.read_from(bytes, int),
            Self::Int64(column) => column.read_from(bytes, |number| number),
            Self::Float64(column) => column.read_from(bytes, |number| f64::from_bits(number.cast_unsigned())),
            Self::Boolean(column) => column.read_from(bytes),
            Self::Date32(column) => column.read_from(bytes, int),
            Self::TimestampMicros(column) => column.read_from(bytes, |number| number),
            Self::Utf8List(column) => column.read_from(bytes),
            Self::StructList(column) => column.read_from(bytes),
        }
    }
}

impl Member for ColumnBuilder {
    fn new(column_type: ColumnType) -> Self {
        Self::new(column_type)
    }

    fn push(&mut self, value: JsonValue<'_>) {
        self.push(value);
    }

    fn num_bytes(&self) -> usize {
        self.num_bytes()
    }

    fn append(&mut self, other: Self) {
        self.append(other);
    }

    fn finish(&mut self, order: &[u32]) -> ArrayRef {
        self.finish(order)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        self.write_to(out);
    }

    fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        self.read_from(bytes);
    }
}
