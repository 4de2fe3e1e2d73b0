//! A column of text: its texts in a dictionary, and a key a row.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, BinaryViewArray, DictionaryArray, ListArray, StringArray, UInt32Array};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::DataType;

use super::dictionary::{Dictionary, Lookups, NULL_KEY};
use super::spill_format::{Bytes, put, put_texts, put_words};
use crate::decode::spans::Span;

/// Strings: one key each.
#[derive(Debug)]
pub(super) struct StringColumn {
    pub(super) dictionary: Dictionary,
    pub(super) keys: Vec<u32>,
}

impl StringColumn {
    pub(super) fn new() -> Self {
        Self { dictionary: Dictionary::new(), keys: Vec::new() }
    }

    /// A column whose equal strings have one key.
    pub(super) fn exact() -> Self {
        Self { dictionary: Dictionary::exact(), keys: Vec::new() }
    }

    /// Adds strings up to the first that is invalid; returns how many.
    pub(super) fn push_spans(&mut self, text: &[u8], strings: &[Span], lookups: &mut Lookups) -> usize {
        let num_before = self.keys.len();
        // An invalid string has no key, nor do those behind it.
        let _ = self.dictionary.intern_all(text, strings, &mut self.keys, lookups);
        self.keys.len() - num_before
    }

    pub(super) fn push(&mut self, text: &str) {
        self.keys.push(self.dictionary.intern_text(text));
    }

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.keys.extend(std::iter::repeat_n(NULL_KEY, num_rows));
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.keys.truncate(num_rows);
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.dictionary.num_bytes() + self.keys.capacity() * size_of::<u32>()
    }

    pub(super) fn append(&mut self, other: Self) {
        let keys = self.dictionary.intern_entries(other.dictionary);
        let key = |key: &u32| if *key == NULL_KEY { NULL_KEY } else { keys[*key as usize] };
        self.keys.extend(other.keys.iter().map(key));
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> DictionaryArray<UInt32Type> {
        let keys = order.iter().map(|row| self.keys[*row as usize]).collect();
        self.keys.clear();
        self.finish_with(keys)
    }

    /// Takes the texts where they lie, in the order given, if they do not repeat. They are text, which the type does not say.
    pub(super) fn take_views(&mut self, order: &[u32]) -> Option<BinaryViewArray> {
        let (entries, buffers) = self.dictionary.take_views()?;
        let keys = std::mem::take(&mut self.keys);
        let key = |at: usize| keys[order[at] as usize];
        let nulls = keys
            .contains(&NULL_KEY)
            .then(|| NullBuffer::from(BooleanBuffer::collect_bool(order.len(), |at| key(at) != NULL_KEY)));
        // Null has a key that no entry has.
        let views = (0..order.len()).map(|at| entries.get(key(at) as usize).copied().unwrap_or_default());
        let views = BinaryViewArray::try_new(views.collect(), buffers, nulls);
        Some(views.expect("entries lie where they were put"))
    }

    /// Takes the entries, with these keys of them.
    pub(super) fn finish_with(&mut self, keys: Vec<u32>) -> DictionaryArray<UInt32Type> {
        dictionary_array(keys, self.dictionary.finish())
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        put(usize::from(self.dictionary.is_distinct()), out);
        put_texts(self.dictionary.num_entries(), self.dictionary.entries(), out);
        put_words(&self.keys, out);
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        if bytes.number() == 1 {
            self.dictionary.forgo_lookups();
        }
        let dictionary = &mut self.dictionary;
        let num_entries = bytes.texts(|entry| {
            dictionary.intern(entry).expect("an entry is valid");
        });
        assert_eq!(dictionary.num_entries(), num_entries, "entries differ");
        self.keys = bytes.words();
    }

    /// Bytes that the rows take, without what is there for further ones.
    pub(super) fn used_bytes(&self) -> usize {
        self.dictionary.used_bytes() + self.keys.len() * size_of::<u32>()
    }
}

/// Makes an array of keys into `texts`, some of them perhaps null.
pub(super) fn dictionary_array(mut keys: Vec<u32>, texts: StringArray) -> DictionaryArray<UInt32Type> {
    let mut nulls = None;
    if keys.contains(&NULL_KEY) {
        nulls = Some(BooleanBuffer::collect_bool(keys.len(), |at| keys[at] != NULL_KEY).into());
        keys.iter_mut().filter(|key| **key == NULL_KEY).for_each(|key| *key = 0);
    }
    DictionaryArray::new(UInt32Array::new(ScalarBuffer::from(keys), nulls), Arc::new(texts))
}

/// Writes out text that is in dictionaries, for a column of `data_type`.
pub(crate) fn plain(array: ArrayRef, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Utf8 => Arc::new(plain_strings(array.as_dictionary())),
        DataType::List(element) if *element.data_type() == DataType::Utf8 => {
            let (_, offsets, elements, nulls) = array.as_list::<i32>().clone().into_parts();
            let elements = Arc::new(plain_strings(elements.as_dictionary()));
            Arc::new(ListArray::new(Arc::clone(element), offsets, elements, nulls))
        }
        _ => array,
    }
}

/// Writes out text that is in a dictionary.
pub fn plain_strings(texts: &DictionaryArray<UInt32Type>) -> StringArray {
    let values = texts.values().as_string::<i32>();
    let num_bytes = texts.keys().iter().flatten().map(|key| values.value(key as usize).len()).sum();
    let mut strings = StringBuilder::with_capacity(texts.len(), num_bytes);
    texts.keys().iter().for_each(|key| strings.append_option(key.map(|key| values.value(key as usize))));
    strings.finish()
}
