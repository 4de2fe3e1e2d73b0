//! Takes text out of its dictionaries: takes a record batch as it is decoded, gives columns of plain text for some rows after the
//! others, bounded in rows and in bytes. A text that many rows share is there once before and as often as they are after.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, ListArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use codec::decode::column::plain_strings;

/// Bytes of text of the rows given at a time, unless one row has more.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// The rows of a batch, some after the others.
pub(crate) struct PlainSlices<'b> {
    batch: &'b RecordBatch,
    max_rows: usize,
    next_row: usize,
}

impl<'b> PlainSlices<'b> {
    /// Begins with the first row; `max_rows` are given at a time at most.
    pub(crate) fn new(batch: &'b RecordBatch, max_rows: usize) -> Self {
        Self { batch, max_rows, next_row: 0 }
    }
}

impl Iterator for PlainSlices<'_> {
    type Item = Vec<ArrayRef>;

    fn next(&mut self) -> Option<Vec<ArrayRef>> {
        let mut num_rows = self.max_rows.max(1).min(self.batch.num_rows() - self.next_row);
        if num_rows == 0 {
            return None;
        }
        let mut rows = self.batch.slice(self.next_row, num_rows);
        while num_rows > 1 && rows.columns().iter().map(num_text_bytes).sum::<usize>() > MAX_TEXT_BYTES {
            num_rows /= 2;
            rows = rows.slice(0, num_rows);
        }
        self.next_row += num_rows;
        Some(rows.columns().iter().map(plain).collect())
    }
}

fn texts_of(array: &ArrayRef) -> Option<&DictionaryArray<UInt32Type>> {
    array.as_dictionary_opt()
}

/// Returns the elements of the lists of a slice, and where each list begins among them.
fn elements_of(lists: &ListArray) -> (OffsetBuffer<i32>, ArrayRef) {
    let offsets = lists.offsets();
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let num_elements = usize::try_from(last - first).expect("offsets ascend");
    let start = usize::try_from(first).expect("offsets are positive");
    let elements = lists.values().slice(start, num_elements);
    (OffsetBuffer::new(offsets.iter().map(|offset| offset - first).collect()), elements)
}

/// Counts the bytes of the text of an array once it is plain.
fn num_text_bytes(array: &ArrayRef) -> usize {
    let of_texts = |texts: &DictionaryArray<UInt32Type>| {
        let values = texts.values().as_string::<i32>();
        texts.keys().iter().flatten().map(|key| values.value(key as usize).len()).sum()
    };
    match (texts_of(array), array.as_list_opt::<i32>()) {
        (Some(texts), _) => of_texts(texts),
        (None, Some(lists)) => texts_of(&elements_of(lists).1).map_or(0, of_texts),
        (None, None) => 0,
    }
}

fn plain(array: &ArrayRef) -> ArrayRef {
    if let Some(texts) = texts_of(array) {
        return Arc::new(plain_strings(texts));
    }
    let Some(lists) = array.as_list_opt::<i32>() else { return Arc::clone(array) };
    let (offsets, elements) = elements_of(lists);
    let Some(texts) = texts_of(&elements) else { return Arc::clone(array) };
    let name = match array.data_type() {
        DataType::List(element) => element.name(),
        _ => unreachable!("it is a list"),
    };
    let element = Arc::new(Field::new(name, DataType::Utf8, true));
    Arc::new(ListArray::new(element, offsets, Arc::new(plain_strings(texts)), lists.nulls().cloned()))
}
