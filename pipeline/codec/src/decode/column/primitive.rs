//! A column of numbers, dates or timestamps.

use std::ops::{Add, Mul};

use arrow_array::PrimitiveArray;
use arrow_array::builder::NullBufferBuilder;
use arrow_array::types::ArrowPrimitiveType;
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use super::spill_format::{Bytes, put};
use super::unpredicted::Unpredicted;
use crate::decode::json::{JsonKind, Reader, ascii, finite};
use crate::decode::spans::Span;
use crate::decode::timestamp::{self, ParsedTime};

/// A column of numbers.
#[derive(Debug)]
pub(super) struct PrimitiveColumn<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> PrimitiveColumn<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    /// Adds values up to the first that is unpredicted; returns how many.
    pub(super) fn push_spans(
        &mut self,
        text: &[u8],
        values: &[Span],
        parse: impl Fn(&[u8]) -> Result<Option<T::Native>, Unpredicted>,
    ) -> usize {
        let num_before = self.values.len();
        let mut num_valid = 0;
        let mut last = (Span::NULL, None);
        for value in values {
            if *value != last.0 {
                let parsed = if *value == Span::NULL { Ok(None) } else { parse(value.of(text)) };
                let Ok(parsed) = parsed else { break };
                last = (*value, parsed);
            }
            let (_, parsed) = last;
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

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.values.resize(self.values.len() + num_rows, T::Native::default());
        self.nulls.append_n_nulls(num_rows);
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.values.truncate(num_rows);
        self.nulls.truncate(num_rows);
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.nulls.allocated_size() / 8
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.values.extend_from_slice(&other.values);
        append_nulls(&mut self.nulls, &mut other.nulls);
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> PrimitiveArray<T> {
        let ordered: Vec<T::Native> = order.iter().map(|row| self.values[*row as usize]).collect();
        self.values.clear();
        PrimitiveArray::new(ScalarBuffer::from(ordered), ordered_nulls(&mut self.nulls, order))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>, to: impl Fn(T::Native) -> i64) {
        put(self.values.len(), out);
        for (row, value) in self.values.iter().enumerate() {
            out.push(u8::from(self.nulls.is_valid(row)));
            out.extend_from_slice(&to(*value).to_le_bytes());
        }
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>, from: impl Fn(i64) -> T::Native) {
        for _ in 0..bytes.number() {
            let is_valid = bytes.take(1) == [1];
            let number = i64::from_le_bytes(*bytes.array());
            self.push(is_valid.then(|| from(number)));
        }
    }
}

pub(super) fn append_nulls(nulls: &mut NullBufferBuilder, other: &mut NullBufferBuilder) {
    let len = other.len();
    match other.finish() {
        Some(other) => nulls.append_buffer(&other),
        None => nulls.append_n_non_nulls(len),
    }
}

pub(super) fn ordered_nulls(nulls: &mut NullBufferBuilder, order: &[u32]) -> Option<NullBuffer> {
    let nulls = nulls.finish()?;
    Some(BooleanBuffer::collect_bool(order.len(), |at| nulls.is_valid(order[at] as usize)).into())
}

/// An integer in its plain form, of at most `MAX_DIGITS` digits: as many as always fit.
#[inline]
pub(super) fn integer<T, const MAX_DIGITS: usize>(text: &[u8]) -> Result<Option<T>, Unpredicted>
where
    T: From<u8> + Add<Output = T> + Mul<Output = T>,
{
    match text {
        [] | [b'0', _, ..] => Err(Unpredicted),
        digits if digits.len() <= MAX_DIGITS && digits.iter().all(u8::is_ascii_digit) => {
            let number =
                digits.iter().fold(T::from(0), |number, digit| number * T::from(10) + T::from(digit - b'0'));
            Ok(Some(number))
        }
        _ => Err(Unpredicted),
    }
}

/// A number of JSON.
pub(super) fn float(text: &[u8]) -> Result<Option<f64>, Unpredicted> {
    let mut reader = Reader::new(text);
    match reader.value(1) {
        Ok((JsonKind::Number, number)) if number.len() == text.len() => {
            finite(ascii(number)).map(Some).ok_or(Unpredicted)
        }
        _ => Err(Unpredicted),
    }
}

#[inline]
pub(super) fn micros(text: &[u8]) -> Result<Option<i64>, Unpredicted> {
    match timestamp::parse(text) {
        ParsedTime::Micros(micros) => Ok(Some(micros)),
        ParsedTime::Null => Ok(None),
        ParsedTime::Invalid => Err(Unpredicted),
    }
}

#[inline]
pub(super) fn days(text: &[u8]) -> Result<Option<i32>, Unpredicted> {
    micros(text).map(|micros| micros.map(timestamp::days))
}
