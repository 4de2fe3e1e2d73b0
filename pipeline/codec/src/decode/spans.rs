//! Where values lie in the text that is being read.

use std::ops::Range;

/// Where the content of a string, or another value, lies in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Stands for null.
    pub const NULL: Self = Self { start: 0, len: u32::MAX };

    /// Takes positions in a text of less than 4 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "texts are far smaller")]
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    /// Where it begins.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Bytes; more than any text has for [`Self::NULL`].
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether nothing lies there; null is something.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// What lies there; nothing for [`Self::NULL`].
    #[inline]
    pub fn of(self, text: &[u8]) -> &[u8] {
        if self == Self::NULL { &[] } else { &text[self.start()..][..self.len()] }
    }
}

/// Most records at a time: what lies between finding values and reading them stays in a core's
/// second-level cache.
pub const MAX_SPAN_RECORDS: usize = 1024;

/// From one slot's values to the next: one null and those of the records. Not a power of two, which
/// would make a first-level cache keep all slots' values in the same few places.
const STRIDE: usize = MAX_SPAN_RECORDS + 8;

/// The values of records that follow each other in a text, one for each record and slot.
///
/// A list's span is that of its elements among those of its slot. Records that follow each other may share them.
#[derive(Debug, Default)]
pub struct RecordSpans {
    /// A slot's values behind each other, after a null.
    values: Vec<Span>,
    /// By slot, the elements of its lists.
    elements: Vec<Vec<Span>>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl RecordSpans {
    /// Clears it.
    pub fn begin(&mut self, num_slots: usize) {
        self.values.resize(num_slots * STRIDE, Span::NULL);
        self.elements.iter_mut().for_each(Vec::clear);
        self.elements.resize_with(num_slots, Vec::new);
        self.ends.clear();
    }

    /// A slot's value in the record before, null at first, and its place in the next record, which is
    /// not null before it is set.
    #[inline]
    pub fn next_value(&mut self, slot: usize) -> (Span, &mut Span) {
        let place = slot * STRIDE + self.ends.len();
        let [previous, value] = &mut self.values[place..][..2] else { unreachable!("two are two") };
        (*previous, value)
    }

    /// The elements of a slot's lists; those of the next record's list go to their end.
    #[inline]
    pub fn elements_mut(&mut self, slot: usize) -> &mut Vec<Span> {
        &mut self.elements[slot]
    }

    /// Ends a record at `end`.
    #[inline]
    pub fn end_record(&mut self, end: usize) {
        self.ends.push(end);
    }

    /// Where each record ends in the text.
    #[inline]
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// A slot's values in these records.
    pub fn values(&self, slot: usize, records: Range<usize>) -> &[Span] {
        &self.values[slot * STRIDE + 1..][records]
    }

    /// The elements of a slot's lists, and perhaps some of a record that did not match.
    pub fn elements(&self, slot: usize) -> &[Span] {
        &self.elements[slot]
    }

    /// Writes records into `other`, in the order given: their values, and not where they end.
    pub fn reorder(&self, order: &[u32], other: &mut Self) {
        other.begin(self.elements.len());
        for (slot, elements) in self.elements.iter().enumerate() {
            let values = &self.values[slot * STRIDE + 1..];
            let reordered = other.values[slot * STRIDE + 1..].iter_mut().zip(order);
            if elements.is_empty() {
                reordered.for_each(|(value, record)| *value = values[*record as usize]);
                continue;
            }
            let to = &mut other.elements[slot];
            let mut copied = (Span::NULL, Span::NULL);
            for (value, record) in reordered {
                let list = values[*record as usize];
                if list != copied.0 {
                    copied = (list, list);
                    if list != Span::NULL {
                        copied.1 = Span::new(to.len(), list.len());
                        to.extend_from_slice(&elements[list.start()..][..list.len()]);
                    }
                }
                *value = copied.1;
            }
        }
    }
}
