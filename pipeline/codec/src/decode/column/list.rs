//! A column of lists of text.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ListArray;
use arrow_array::builder::NullBufferBuilder;
use arrow_buffer::{OffsetBuffer, ScalarBuffer};

use super::dictionary::{Lookups, NULL_KEY, position};
use super::primitive::{append_nulls, ordered_nulls};
use super::spill_format::{Bytes, put_words};
use super::string::StringColumn;
use crate::decode::spans::Span;
use crate::decode::value::List;

/// Stands for a list that is null among the lengths of lists.
const NULL_LIST: u32 = u32::MAX;

/// A column of lists: where each ends, and one key an element.
#[derive(Debug)]
pub(super) struct ListColumn {
    elements: StringColumn,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ListColumn {
    pub(super) fn new() -> Self {
        Self { elements: StringColumn::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    /// Adds lists, whose elements stand one behind the other among `elements`, those of equal lists once, up to the first
    /// that has an invalid one; returns how many.
    pub(super) fn push_spans(
        &mut self,
        text: &[u8],
        lists: &[Span],
        elements: &[Span],
        lookups: &mut Lookups,
    ) -> usize {
        let start = self.elements.keys.len();
        let num_rows_before = self.offsets.len() - 1;
        let mut range: Option<Range<usize>> = None;
        let mut num_elements = 0;
        for list in lists {
            if *list == Span::NULL {
                self.nulls.append_null();
            } else {
                self.nulls.append_non_null();
                num_elements += list.len();
                let end = list.start() + list.len();
                range = Some(range.map_or(list.start(), |range| range.start)..end);
            }
            self.push_offset(start + num_elements);
        }
        let range = range.unwrap_or_default();
        let elements = &elements[range.clone()];
        let num_whole = if elements.len() == num_elements {
            let num_valid = self.elements.push_spans(text, elements, lookups);
            let is_whole = |end: &&i32| position(**end) <= start + num_valid;
            self.offsets[num_rows_before + 1..].iter().take_while(is_whole).count()
        } else {
            let mut keys = std::mem::take(&mut lookups.element_keys);
            keys.clear();
            // An invalid string has no key, nor do those behind it.
            let _ = self.elements.dictionary.intern_all(text, elements, &mut keys, lookups);
            let keys_of = |list: &Span| match *list {
                Span::NULL => Some(&[][..]),
                list => keys[..].get(list.start() - range.start..)?.get(..list.len()),
            };
            let whole = lists.iter().map_while(keys_of);
            let num_whole = whole.map(|keys| self.elements.keys.extend_from_slice(keys)).count();
            lookups.element_keys = keys;
            num_whole
        };
        if num_whole < lists.len() {
            self.truncate(num_rows_before + num_whole);
        }
        num_whole
    }

    pub(super) fn push(&mut self, list: List<'_>) {
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

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.offsets.resize(self.offsets.len() + num_rows, self.offsets[self.offsets.len() - 1]);
        self.nulls.append_n_nulls(num_rows);
    }

    pub(super) fn push_offset(&mut self, end: usize) {
        self.offsets.push(i32::try_from(end).expect("fewer elements than bytes"));
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.offsets.truncate(num_rows + 1);
        self.nulls.truncate(num_rows);
        self.elements.keys.truncate(position(self.offsets[num_rows]));
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.elements.num_bytes()
            + self.offsets.capacity() * size_of::<i32>()
            + self.nulls.allocated_size() / 8
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.elements.used_bytes() + self.offsets.len() * size_of::<i32>() + self.nulls.allocated_size() / 8
    }

    pub(super) fn append(&mut self, mut other: Self) {
        let num_elements = self.elements.keys.len();
        self.elements.append(other.elements);
        let start = i32::try_from(num_elements).expect("fewer elements than bytes");
        self.offsets.extend(other.offsets[1..].iter().map(|offset| start + offset));
        append_nulls(&mut self.nulls, &mut other.nulls);
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> ListArray {
        let (offsets, keys) = (&self.offsets, &self.elements.keys);
        let mut ordered = Vec::with_capacity(keys.len());
        let mut ends = Vec::with_capacity(offsets.len());
        ends.push(0);
        for row in order {
            let (start, end) = (offsets[*row as usize], offsets[*row as usize + 1]);
            // Lists have few elements: a loop costs less than a call.
            ordered.extend(keys[position(start)..position(end)].iter().copied());
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

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.elements.write_to(out);
        let len = |(row, ends): (usize, &[i32])| {
            if self.nulls.is_valid(row) { (ends[1] - ends[0]).cast_unsigned() } else { NULL_LIST }
        };
        put_words(&self.offsets.windows(2).enumerate().map(len).collect::<Vec<_>>(), out);
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        self.elements.read_from(bytes);
        let mut end = 0;
        for len in bytes.words() {
            self.nulls.append(len != NULL_LIST);
            end += if len == NULL_LIST { 0 } else { len as usize };
            self.push_offset(end);
        }
    }
}
