//! Takes values, as JSON text or as values; gives the columns of one partition's next row group.
//!
//! Rows come one by one as values, or in runs: then each column in turn reads all its values, from
//! where they lie in the text.

pub(super) mod dictionary;

use std::sync::Arc;

use arrow_array::builder::NullBufferBuilder;
use arrow_array::types::{ArrowPrimitiveType, Date32Type, Int32Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{ArrayRef, DictionaryArray, ListArray, PrimitiveArray, UInt32Array};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use schema::ColumnType;

use super::field_map::FieldMap;
use super::spans::{Run, Span};
use super::timestamp::{self, ParsedTime};
use super::value::{JsonValue, List};
use dictionary::{Dictionary, Lookups, NULL_KEY, position};

/// Rows of a row group: DuckDB's unit of work, and small enough that every partition can have one
/// open for each thread.
pub const MAX_ROWS: usize = 122_880;

/// What a set of columns holds before its first row, about.
const EMPTY_BYTES: usize = 8 * 1024;

/// The value is not just as documented.
#[derive(Debug)]
pub struct Unpredicted;

/// Rows of one partition on their way into a row group, as columns.
#[derive(Debug)]
pub struct Columns {
    /// In the order of [`FieldMap::properties`]; none for the one that names the partition.
    pub(super) properties: Vec<Option<Column>>,
    pub(super) extra_fields: StringColumn,
    pub(super) num_rows: usize,
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
pub(super) enum Column {
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

    /// Whether there is a column for values of a type.
    pub(super) fn can_hold(column_type: ColumnType) -> bool {
        match column_type {
            ColumnType::Utf8
            | ColumnType::Utf8List
            | ColumnType::Int32
            | ColumnType::TimestampMicros
            | ColumnType::Date32 => true,
            ColumnType::Int64
            | ColumnType::Float64
            | ColumnType::Boolean
            | ColumnType::Json
            | ColumnType::StructList(_) => false,
        }
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

/// Strings: one key each.
#[derive(Debug)]
pub(super) struct StringColumn {
    pub(super) dictionary: Dictionary,
    pub(super) keys: Vec<u32>,
}

impl StringColumn {
    fn new() -> Self {
        Self { dictionary: Dictionary::new(), keys: Vec::new() }
    }

    /// Adds strings up to the first that is invalid; returns how many.
    fn push_run(&mut self, text: &[u8], strings: &[Span], lookups: &mut Lookups) -> usize {
        /// Looked up together: more of them would only take memory, several times their own text.
        const MAX_LOOKUPS: usize = 16 * 1024;
        let num_before = self.keys.len();
        for strings in strings.chunks(MAX_LOOKUPS) {
            // What is invalid has no key, nor has anything behind it.
            if self.dictionary.intern_all(text, strings, &mut self.keys, lookups).is_err() {
                break;
            }
        }
        self.keys.len() - num_before
    }

    fn push(&mut self, text: &str) {
        self.keys.push(self.dictionary.intern_text(text));
    }

    fn num_bytes(&self) -> usize {
        self.dictionary.num_bytes() + self.keys.capacity() * size_of::<u32>()
    }

    fn append(&mut self, other: &mut Self) {
        let keys = self.dictionary.intern_entries(&other.dictionary);
        let key = |key: &u32| if *key == NULL_KEY { NULL_KEY } else { keys[*key as usize] };
        self.keys.extend(other.keys.iter().map(key));
    }

    fn finish(&mut self, order: &[u32]) -> DictionaryArray<UInt32Type> {
        let keys = order.iter().map(|row| self.keys[*row as usize]).collect();
        self.keys.clear();
        self.finish_with(keys)
    }

    /// Takes the entries, with these keys of them.
    fn finish_with(&mut self, mut keys: Vec<u32>) -> DictionaryArray<UInt32Type> {
        let mut nulls = None;
        if keys.contains(&NULL_KEY) {
            nulls = Some(BooleanBuffer::collect_bool(keys.len(), |at| keys[at] != NULL_KEY).into());
            keys.iter_mut().filter(|key| **key == NULL_KEY).for_each(|key| *key = 0);
        }
        let keys = UInt32Array::new(ScalarBuffer::from(keys), nulls);
        DictionaryArray::new(keys, Arc::new(self.dictionary.finish()))
    }
}

/// A column of lists: where each ends, and one key an element.
#[derive(Debug)]
pub(super) struct ListColumn {
    pub(super) elements: StringColumn,
    pub(super) offsets: Vec<i32>,
    pub(super) nulls: NullBufferBuilder,
}

impl ListColumn {
    fn new() -> Self {
        Self { elements: StringColumn::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    fn push_run(&mut self, text: &[u8], lists: &[Span], elements: &[Span], lookups: &mut Lookups) -> usize {
        let start = self.elements.keys.len();
        let num_rows_before = self.offsets.len() - 1;
        let mut num_elements = 0;
        for list in lists {
            if *list == Span::NULL {
                self.nulls.append_null();
            } else {
                self.nulls.append_non_null();
                num_elements += list.len();
            }
            self.push_offset(start + num_elements);
        }
        let num_valid = self.elements.push_run(text, &elements[..num_elements], lookups);
        if num_valid < num_elements {
            let is_whole = |end: &&i32| position(**end) <= start + num_valid;
            let num_whole = self.offsets[num_rows_before + 1..].iter().take_while(is_whole).count();
            self.truncate(num_rows_before + num_whole);
        }
        self.offsets.len() - 1 - num_rows_before
    }

    fn push(&mut self, list: List<'_>) {
        /// From so many elements on, room is made for them alone, and not for twice as many.
        const MANY: usize = 64 * 1024;
        if list.len() > MANY {
            self.elements.keys.reserve_exact(list.len());
        }
        list.for_each(|text| match text {
            Some(text) => self.elements.push(text),
            None => self.elements.keys.push(NULL_KEY),
        });
        self.push_offset(self.elements.keys.len());
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        self.push_offset(self.elements.keys.len());
        self.nulls.append_null();
    }

    pub(super) fn push_offset(&mut self, end: usize) {
        self.offsets.push(i32::try_from(end).expect("fewer elements than bytes"));
    }

    fn truncate(&mut self, num_rows: usize) {
        self.offsets.truncate(num_rows + 1);
        self.nulls.truncate(num_rows);
        self.elements.keys.truncate(position(self.offsets[num_rows]));
    }

    fn num_bytes(&self) -> usize {
        self.elements.num_bytes()
            + self.offsets.capacity() * size_of::<i32>()
            + self.nulls.allocated_size() / 8
    }

    fn append(&mut self, mut other: Self) {
        let num_elements = self.elements.keys.len();
        self.elements.append(&mut other.elements);
        let start = i32::try_from(num_elements).expect("fewer elements than bytes");
        self.offsets.extend(other.offsets[1..].iter().map(|offset| start + offset));
        append_nulls(&mut self.nulls, &mut other.nulls);
    }

    fn finish(&mut self, order: &[u32]) -> ListArray {
        let (offsets, keys) = (&self.offsets, &self.elements.keys);
        let mut ordered = Vec::with_capacity(keys.len());
        let mut ends = Vec::with_capacity(offsets.len());
        ends.push(0);
        for row in order {
            let (start, end) = (offsets[*row as usize], offsets[*row as usize + 1]);
            ordered.extend_from_slice(&keys[position(start)..position(end)]);
            ends.push(ends[ends.len() - 1] + (end - start));
        }
        self.offsets.truncate(1);
        self.elements.keys.clear();
        let elements = Arc::new(self.elements.finish_with(ordered));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        ListArray::new(
            schema::arrow::batch_list_element(),
            offsets,
            elements,
            ordered_nulls(&mut self.nulls, order),
        )
    }
}

/// A column of numbers.
#[derive(Debug)]
pub(super) struct PrimitiveColumn<T: ArrowPrimitiveType> {
    pub(super) values: Vec<T::Native>,
    pub(super) nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> PrimitiveColumn<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    /// Adds values up to the first whose text is a surprise; returns how many.
    fn push_run(
        &mut self,
        text: &[u8],
        values: &[Span],
        parse: impl Fn(&[u8]) -> Result<Option<T::Native>, Unpredicted>,
    ) -> usize {
        let num_before = self.values.len();
        let mut num_valid = 0;
        for value in values {
            let parsed = if *value == Span::NULL { Ok(None) } else { parse(value.of(text)) };
            let Ok(parsed) = parsed else { break };
            self.values.push(parsed.unwrap_or_default());
            if parsed.is_some() {
                num_valid += 1;
            } else {
                self.nulls.append_n_non_nulls(std::mem::take(&mut num_valid));
                self.nulls.append_null();
            }
        }
        self.nulls.append_n_non_nulls(num_valid);
        self.values.len() - num_before
    }

    #[inline]
    pub(super) fn push(&mut self, value: Option<T::Native>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.append(value.is_some());
    }

    fn truncate(&mut self, num_rows: usize) {
        self.values.truncate(num_rows);
        self.nulls.truncate(num_rows);
    }

    fn num_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.nulls.allocated_size() / 8
    }

    fn append(&mut self, mut other: Self) {
        self.values.extend_from_slice(&other.values);
        append_nulls(&mut self.nulls, &mut other.nulls);
    }

    fn finish(&mut self, order: &[u32]) -> PrimitiveArray<T> {
        let ordered: Vec<T::Native> = order.iter().map(|row| self.values[*row as usize]).collect();
        self.values.clear();
        PrimitiveArray::new(ScalarBuffer::from(ordered), ordered_nulls(&mut self.nulls, order))
    }
}

fn append_nulls(nulls: &mut NullBufferBuilder, other: &mut NullBufferBuilder) {
    let len = other.len();
    match other.finish() {
        Some(other) => nulls.append_buffer(&other),
        None => nulls.append_n_non_nulls(len),
    }
}

fn ordered_nulls(nulls: &mut NullBufferBuilder, order: &[u32]) -> Option<NullBuffer> {
    let nulls = nulls.finish()?;
    Some(BooleanBuffer::collect_bool(order.len(), |at| nulls.is_valid(order[at] as usize)).into())
}

/// An integer in its plain form.
#[inline]
fn integer(text: &[u8]) -> Result<Option<i32>, Unpredicted> {
    /// As many digits as always fit.
    const MAX_DIGITS: usize = 9;
    match text {
        [] | [b'0', _, ..] => Err(Unpredicted),
        digits if digits.len() <= MAX_DIGITS && digits.iter().all(u8::is_ascii_digit) => {
            Ok(Some(digits.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0'))))
        }
        _ => Err(Unpredicted),
    }
}

#[inline]
fn micros(text: &[u8]) -> Result<Option<i64>, Unpredicted> {
    match timestamp::parse(text) {
        ParsedTime::Micros(micros) => Ok(Some(micros)),
        ParsedTime::Null => Ok(None),
        ParsedTime::Invalid => Err(Unpredicted),
    }
}

#[inline]
fn days(text: &[u8]) -> Result<Option<i32>, Unpredicted> {
    micros(text).map(|micros| micros.map(timestamp::days))
}
