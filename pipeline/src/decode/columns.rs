//! Takes values, as JSON text or as cells; gives the columns of one partition's next row group.
//!
//! Rows come in runs, or one by one as cells. In a run, values are read where they stand in the
//! text ([`Columns::read`]) and made rows of ([`Columns::end_row`]); the strings among them are
//! looked up when the run ends ([`Columns::end_run`]), a column at a time. A run is whole or it is
//! not there: its end takes it away where a string is invalid.

use std::sync::Arc;

use arrow_array::builder::NullBufferBuilder;
use arrow_array::types::{ArrowPrimitiveType, Date32Type, Int32Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{ArrayRef, DictionaryArray, ListArray, PrimitiveArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use schema::ColumnType;

use super::binding::Binding;
use super::cell::{Cell, List};
use super::dictionary::{Dictionary, Invalid, NULL_KEY, Span, begins_alike, position};
use super::timestamp::{self, ParsedTime};

/// Rows of a row group: DuckDB's unit of work, and small enough that every partition can have one
/// open for each thread.
pub const MAX_ROWS: usize = 122_880;

/// What a set of columns holds before its first row, about.
const EMPTY_BYTES: usize = 8 * 1024;

/// The value is not just as documented.
#[derive(Debug)]
pub struct Surprise;

impl From<Invalid> for Surprise {
    fn from(_: Invalid) -> Self {
        Self
    }
}

/// Rows of one partition on their way into a row group, as columns.
#[derive(Debug)]
pub struct Columns {
    /// In the order of [`Binding::properties`]; none for the one that names the partition.
    properties: Vec<Option<Column>>,
    extra_fields: Texts,
    num_rows: usize,
    /// Those among them that are of the run.
    num_run_rows: usize,
    /// Which properties the row that is being read has.
    seen: u32,
    all: u32,
}

/// A finished column: in the order of the properties, `None` for the one that names the partition.
#[derive(Debug)]
pub struct Finished {
    /// The properties' columns.
    pub properties: Vec<Option<ArrayRef>>,
    /// Captured fields.
    pub extra_fields: ArrayRef,
    /// Length of each.
    pub num_rows: usize,
}

#[derive(Debug)]
enum Column {
    Utf8(Texts),
    Utf8List(Lists),
    Int32(Numbers<Int32Type>),
    TimestampMicros(Numbers<TimestampMicrosecondType>),
    Date32(Numbers<Date32Type>),
}

impl Columns {
    /// Begins without rows.
    pub fn new(binding: &Binding) -> Self {
        let column = |(index, column): (usize, &&'static schema::Column)| {
            (index != binding.partition()).then(|| Column::new(column.column_type))
        };
        let properties: Vec<_> = binding.properties().iter().enumerate().map(column).collect();
        let all = properties
            .iter()
            .enumerate()
            .fold(0, |all, (index, column)| all | (u32::from(column.is_some()) << index));
        Self { properties, extra_fields: Texts::new(), num_rows: 0, num_run_rows: 0, seen: 0, all }
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

    /// Reads the value of a property at `at` in the text of the run to the end of its column;
    /// returns where it ends. What follows a number must be looked at by the caller.
    ///
    /// # Errors
    ///
    /// Where it is not just as documented, or the row has it already.
    #[inline]
    pub fn read(&mut self, property: usize, text: &[u8], at: usize) -> Result<usize, Surprise> {
        let bit = 1 << property;
        if self.seen & bit != 0 {
            return Err(Surprise);
        }
        self.seen |= bit;
        match &mut self.properties[property] {
            Some(Column::Utf8(column)) => column.read(text, at),
            Some(Column::Utf8List(column)) => column.read(text, at),
            Some(Column::Int32(column)) => column.read(text, at, integer),
            Some(Column::TimestampMicros(column)) => column.read(text, at, micros),
            Some(Column::Date32(column)) => column.read(text, at, days),
            None => Err(Surprise),
        }
    }

    /// Whether the row that is being read has text for this property.
    #[inline]
    pub fn has_text(&self, property: usize) -> bool {
        match &self.properties[property] {
            Some(Column::Utf8(column)) if self.seen & (1 << property) != 0 => column.ends_with_text(),
            _ => false,
        }
    }

    /// Makes a row of what was read; the properties that it does not have are null.
    #[inline]
    pub fn end_row(&mut self) {
        let mut absent = self.all & !self.seen;
        while absent != 0 {
            let property = absent.trailing_zeros() as usize;
            absent &= absent - 1;
            if let Some(column) = &mut self.properties[property] {
                column.read_absent();
            }
        }
        self.seen = 0;
        self.num_rows += 1;
        self.num_run_rows += 1;
    }

    /// Takes away what was read of a row that is none.
    pub fn undo_row(&mut self) {
        self.seen = 0;
        for column in self.properties.iter_mut().flatten() {
            column.truncate(self.num_rows, self.num_run_rows);
        }
    }

    /// Ends the run that `text` is the text of.
    ///
    /// # Errors
    ///
    /// Where a string is invalid; the columns are then as before the run.
    pub fn end_run(&mut self, text: &[u8]) -> Result<(), Surprise> {
        let ended = self.properties.iter_mut().flatten().try_for_each(|column| match column {
            Column::Utf8(column) => column.end_run(text),
            Column::Utf8List(column) => column.elements.end_run(text),
            Column::Int32(_) | Column::TimestampMicros(_) | Column::Date32(_) => Ok(()),
        });
        if ended.is_err() {
            self.num_rows -= self.num_run_rows;
            self.num_run_rows = 0;
            self.undo_row();
        }
        self.num_run_rows = 0;
        ended
    }

    /// Adds a row of cells, in the order of the properties, and its captured fields.
    pub fn push(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        for (column, cell) in self.properties.iter_mut().zip(cells) {
            if let Some(column) = column {
                column.push(*cell);
            }
        }
        // Rows before that have none are filled up then, or in the end.
        if let Some(text) = extra_fields {
            self.extra_fields.keys.resize(self.num_rows, NULL_KEY);
            self.extra_fields.push(text);
        }
        self.num_rows += 1;
    }

    /// Adds the rows of `other`, columns of the same binding.
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
    pub fn finish(&mut self, order: &[u32]) -> Finished {
        let num_rows = std::mem::take(&mut self.num_rows);
        debug_assert_eq!(num_rows, order.len());
        self.extra_fields.keys.resize(num_rows, NULL_KEY);
        Finished {
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
            ColumnType::Utf8 => Self::Utf8(Texts::new()),
            ColumnType::Utf8List => Self::Utf8List(Lists::new()),
            ColumnType::Int32 => Self::Int32(Numbers::new()),
            ColumnType::TimestampMicros => Self::TimestampMicros(Numbers::new()),
            ColumnType::Date32 => Self::Date32(Numbers::new()),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Utf8(column), Cell::Text(text)) => column.push(text),
            (Self::Utf8(column), Cell::Null) => column.keys.push(NULL_KEY),
            (Self::Utf8List(column), Cell::List(list)) => column.push(list),
            (Self::Utf8List(column), Cell::Null) => column.push_null(),
            (Self::Int32(column), Cell::Int32(number)) => column.push(Some(number)),
            (Self::Int32(column), Cell::Null) => column.push(None),
            (Self::TimestampMicros(column), Cell::Micros(micros)) => column.push(Some(micros)),
            (Self::TimestampMicros(column), Cell::Null) => column.push(None),
            (Self::Date32(column), Cell::Days(days)) => column.push(Some(days)),
            (Self::Date32(column), Cell::Null) => column.push(None),
            (column, cell) => unreachable!("{cell:?} is not for {column:?}"),
        }
    }

    fn read_absent(&mut self) {
        match self {
            Self::Utf8(column) => column.spans.push(Span::NULL),
            column => column.push(Cell::Null),
        }
    }

    /// Cuts the column to `num_rows`, of which `num_run_rows` are of the run.
    fn truncate(&mut self, num_rows: usize, num_run_rows: usize) {
        match self {
            Self::Utf8(column) => column.truncate(num_rows - num_run_rows, num_run_rows),
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

/// Strings: one key each, or a span while they are of the run.
#[derive(Debug)]
struct Texts {
    dictionary: Dictionary,
    keys: Vec<u32>,
    spans: Vec<Span>,
}

impl Texts {
    fn new() -> Self {
        Self { dictionary: Dictionary::new(), keys: Vec::new(), spans: Vec::new() }
    }

    #[inline]
    fn read(&mut self, text: &[u8], at: usize) -> Result<usize, Surprise> {
        if text.get(at) != Some(&b'"') {
            self.spans.push(Span::NULL);
            return null(text, at);
        }
        let start = at + 1;
        let rest = &text[start..];
        // A device's rows stand together: half of the columns repeat the row before.
        if let Some(&last) = self.spans.last()
            && last != Span::NULL
            && rest.get(last.len()) == Some(&b'"')
            && begins_alike(rest, &text[last.start()..], last.len())
        {
            self.spans.push(last);
            return Ok(start + last.len() + 1);
        }
        let len = content_len(rest)?;
        self.spans.push(Span::new(start, len));
        Ok(start + len + 1)
    }

    fn ends_with_text(&self) -> bool {
        self.spans.last().is_some_and(|span| *span != Span::NULL && !span.is_empty())
    }

    fn end_run(&mut self, text: &[u8]) -> Result<(), Surprise> {
        self.dictionary.intern_all(text, &self.spans, &mut self.keys)?;
        self.spans.clear();
        Ok(())
    }

    fn truncate(&mut self, num_keys: usize, num_spans: usize) {
        self.keys.truncate(num_keys);
        self.spans.truncate(num_spans);
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
            nulls = Some(keys.iter().map(|key| *key != NULL_KEY).collect());
            keys.iter_mut().filter(|key| **key == NULL_KEY).for_each(|key| *key = 0);
        }
        let keys = UInt32Array::new(ScalarBuffer::from(keys), nulls);
        DictionaryArray::new(keys, Arc::new(self.dictionary.finish()))
    }
}

/// A column of lists: where each ends, and one key an element.
#[derive(Debug)]
struct Lists {
    elements: Texts,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Lists {
    fn new() -> Self {
        Self { elements: Texts::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    fn read(&mut self, text: &[u8], mut at: usize) -> Result<usize, Surprise> {
        if text.get(at) != Some(&b'[') {
            self.push_null();
            return null(text, at);
        }
        at += 1;
        if text.get(at) == Some(&b']') {
            at += 1;
        } else {
            loop {
                at = self.elements.read(text, at)? + 1;
                match text.get(at - 1) {
                    Some(b',') => {}
                    Some(b']') => break,
                    _ => return Err(Surprise),
                }
            }
        }
        self.end();
        Ok(at)
    }

    fn push(&mut self, list: List<'_>) {
        list.for_each(|text| match text {
            Some(text) => self.elements.push(text),
            None => self.elements.keys.push(NULL_KEY),
        });
        self.end();
    }

    fn end(&mut self) {
        self.push_offset();
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        self.push_offset();
        self.nulls.append_null();
    }

    fn push_offset(&mut self) {
        let num_elements = self.elements.keys.len() + self.elements.spans.len();
        self.offsets.push(i32::try_from(num_elements).expect("fewer elements than bytes"));
    }

    fn truncate(&mut self, num_rows: usize) {
        self.offsets.truncate(num_rows + 1);
        self.nulls.truncate(num_rows);
        let end = position(self.offsets.last().copied().unwrap_or_default());
        let num_keys = self.elements.keys.len().min(end);
        self.elements.truncate(num_keys, end - num_keys);
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
struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    fn read(
        &mut self,
        text: &[u8],
        at: usize,
        parse: impl FnOnce(&[u8]) -> Result<(Option<T::Native>, usize), Surprise>,
    ) -> Result<usize, Surprise> {
        let (value, len) = parse(&text[at..])?;
        self.push(value);
        Ok(at + len)
    }

    #[inline]
    fn push(&mut self, value: Option<T::Native>) {
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
    Some(order.iter().map(|row| nulls.is_valid(*row as usize)).collect())
}

/// `null` at `at` in `text`: where it ends.
fn null(text: &[u8], at: usize) -> Result<usize, Surprise> {
    const NULL: &[u8] = b"null";
    if text[at..].starts_with(NULL) { Ok(at + NULL.len()) } else { Err(Surprise) }
}

/// Length of a string's content, given what follows its opening quote.
#[inline]
fn content_len(text: &[u8]) -> Result<usize, Surprise> {
    let mut end = memchr::memchr(b'"', text).ok_or(Surprise)?;
    // A quote behind an odd number of backslashes is one of them escaped.
    while text[..end].ends_with(br"\")
        && text[..end].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
    {
        let rest = &text[end + 1..];
        end += 1 + memchr::memchr(b'"', rest).ok_or(Surprise)?;
    }
    Ok(end)
}

/// An integer in its plain form.
#[inline]
fn integer(text: &[u8]) -> Result<(Option<i32>, usize), Surprise> {
    /// As many digits as always fit.
    const MAX_DIGITS: usize = 9;
    let len = text.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match &text[..len] {
        [] => null(text, 0).map(|len| (None, len)),
        [b'0', _, ..] => Err(Surprise),
        digits if len <= MAX_DIGITS => {
            let number = digits.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0'));
            Ok((Some(number), len))
        }
        _ => Err(Surprise),
    }
}

#[inline]
fn micros(text: &[u8]) -> Result<(Option<i64>, usize), Surprise> {
    let Some((b'"', rest)) = text.split_first() else {
        return null(text, 0).map(|len| (None, len));
    };
    let len = content_len(rest)?;
    match timestamp::parse(&rest[..len]) {
        ParsedTime::Micros(micros) => Ok((Some(micros), len + 2)),
        ParsedTime::Null => Ok((None, len + 2)),
        ParsedTime::Invalid => Err(Surprise),
    }
}

#[inline]
fn days(text: &[u8]) -> Result<(Option<i32>, usize), Surprise> {
    micros(text).map(|(micros, len)| (micros.map(timestamp::days), len))
}
