//! A column of numbers, dates or timestamps.

use std::ops::{Add, Mul};

use arrow_array::PrimitiveArray;
use arrow_array::builder::NullBufferBuilder;
use arrow_array::types::ArrowPrimitiveType;
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use super::spill_format::{Bytes, put, put_words};
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

    pub(super) fn used_bytes(&self) -> usize {
        size_of_val(&*self.values) + self.nulls.allocated_size() / 8
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
        let is_valid = (0..self.values.len()).map(|row| u32::from(self.nulls.is_valid(row)));
        put_words(&is_valid.collect::<Vec<_>>(), out);
        let same = |value: &T::Native, next: &T::Native| to(*value) == to(*next);
        let runs = self.values.chunk_by(same);
        put(runs.clone().count(), out);
        for run in runs {
            out.extend_from_slice(&to(run[0]).to_le_bytes());
            put(run.len(), out);
        }
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>, from: impl Fn(i64) -> T::Native) {
        bytes.words().iter().for_each(|is_valid| self.nulls.append(*is_valid == 1));
        for _ in 0..bytes.number() {
            let number = i64::from_le_bytes(*bytes.array());
            self.values.extend(std::iter::repeat_n(from(number), bytes.number()));
        }
        assert_eq!(self.values.len(), self.nulls.len(), "every row has a value or none");
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
    if let Some(number) = short_decimal(text) {
        return Ok(Some(number));
    }
    let mut reader = Reader::new(text);
    match reader.value(1) {
        Ok((JsonKind::Number, number)) if number.len() == text.len() => {
            finite(ascii(number)).map(Some).ok_or(Unpredicted)
        }
        _ => Err(Unpredicted),
    }
}

/// A number of few digits, a fraction among them or not: as an integer it is exact, as is the power of ten that it is divided
/// by, so that the quotient is the nearest float.
fn short_decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        None => (text, None),
        Some(point) => (&text[..point], Some(&text[point + 1..])),
    };
    if matches!(whole, [] | [b'0', _, ..]) || fraction.is_some_and(<[u8]>::is_empty) || text.len() > 15 {
        return None;
    }
    let mut number = 0_u64;
    for digit in whole.iter().chain(fraction.unwrap_or_default()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    #[expect(clippy::cast_precision_loss, reason = "fifteen digits are exact")]
    let number = number as f64;
    Some(number / POWERS[fraction.map_or(0, <[u8]>::len)])
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn short_decimals_are_the_nearest_floats(text in r"-?[0-9]{0,17}(\.[0-9]{0,17})?(e[0-9])?") {
            let expected = match Reader::new(text.as_bytes()).value(0) {
                Ok((JsonKind::Number, number)) if number.len() == text.len() => finite(&text),
                _ => None,
            };
            let found = float(text.as_bytes()).ok().flatten();
            proptest::prop_assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits));
        }
    }
}
