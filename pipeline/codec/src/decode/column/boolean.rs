//! A column of booleans.

use arrow_array::BooleanArray;
use arrow_array::builder::NullBufferBuilder;
use arrow_buffer::BooleanBuffer;

use super::primitive::{append_nulls, ordered_nulls};
use super::spill_format::{Bytes, put};
use super::unpredicted::Unpredicted;
use crate::decode::spans::Span;

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
        for value in values {
            match parse(value.of(text)) {
                _ if *value == Span::NULL => self.push(None),
                Ok(value) => self.push(Some(value)),
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
        put(self.values.len(), out);
        for (row, value) in self.values.iter().enumerate() {
            out.extend([u8::from(self.nulls.is_valid(row)), u8::from(*value)]);
        }
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        for _ in 0..bytes.number() {
            let [is_valid, value] = *bytes.array();
            self.push((is_valid == 1).then_some(value == 1));
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
