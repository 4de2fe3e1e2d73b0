//! A column of booleans.

use arrow_array::BooleanArray;
use arrow_array::builder::NullBufferBuilder;
use arrow_buffer::BooleanBuffer;

use super::primitive::{append_nulls, ordered_nulls};
use super::spill_format::{Bytes, put_words};
use super::unpredicted::Unpredicted;
use crate::decode::spans::Span;

/// Stands for null where booleans are written as words.
const NULL: u32 = u32::MAX;

/// Booleans, a byte each until the row group is finished.
#[derive(Debug)]
pub(super) struct BooleanColumn {
    values: Vec<bool>,
    nulls: NullBufferBuilder,
}

impl BooleanColumn {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    /// Adds values up to the first that is unpredicted; returns how many.
    pub(super) fn push_spans(&mut self, text: &[u8], values: &[Span]) -> usize {
        let num_before = self.values.len();
        for same in values.chunk_by(|value, next| value == next) {
            match parse(same[0].of(text)) {
                _ if same[0] == Span::NULL => {
                    self.push_nulls(same.len());
                }
                Ok(value) => {
                    self.values.resize(self.values.len() + same.len(), value);
                    self.nulls.append_n_non_nulls(same.len());
                }
                Err(Unpredicted) => break,
            }
        }
        self.values.len() - num_before
    }

    pub(super) fn push(&mut self, value: Option<bool>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.append(value.is_some());
    }

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.values.resize(self.values.len() + num_rows, false);
        self.nulls.append_n_nulls(num_rows);
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.values.truncate(num_rows);
        self.nulls.truncate(num_rows);
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.values.capacity() + self.nulls.allocated_size() / 8
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.values.len() + self.nulls.allocated_size() / 8
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.values.append(&mut other.values);
        append_nulls(&mut self.nulls, &mut other.nulls);
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> BooleanArray {
        let values = BooleanBuffer::collect_bool(order.len(), |at| self.values[order[at] as usize]);
        self.values.clear();
        BooleanArray::new(values, ordered_nulls(&mut self.nulls, order))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let word = |(row, value): (usize, &bool)| {
            if self.nulls.is_valid(row) { u32::from(*value) } else { NULL }
        };
        put_words(&self.values.iter().enumerate().map(word).collect::<Vec<_>>(), out);
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        for word in bytes.words() {
            self.push((word != NULL).then_some(word == 1));
        }
    }
}

fn parse(text: &[u8]) -> Result<bool, Unpredicted> {
    match text {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(Unpredicted),
    }
}
