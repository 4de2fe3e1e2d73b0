//! Takes bytes; gives what is known of them. Remembers while that is of use: a column of values that do not repeat
//! is not looked up.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::byte_search::begins_alike;
use crate::decode::arena::Arena;
use crate::decode::spans::Span;

/// Bytes of texts that may be looked up in vain before it is asked whether lookups are of use.
const TRIAL_BYTES: usize = 256 * 1024;

/// One of so many lookups finds something if they are of use.
const LEAST_SHARE: usize = 4;

/// What is known of some bytes.
#[derive(Debug)]
pub(super) struct TextMap<V> {
    entries: HashTable<(Span, V)>,
    texts: Arena,
    hasher: RandomState,
    num_lookups: usize,
    num_found: usize,
    /// Of the texts that were not found.
    missed_bytes: usize,
}

impl<V: Copy> TextMap<V> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashTable::new(),
            texts: Arena::default(),
            hasher: RandomState::default(),
            num_lookups: 0,
            num_found: 0,
            missed_bytes: 0,
        }
    }

    /// Whether looking up is of use.
    pub(super) fn is_of_use(&self) -> bool {
        self.missed_bytes < TRIAL_BYTES || self.num_found * LEAST_SHARE >= self.num_lookups
    }

    /// Returns what is known of `text`.
    pub(super) fn get(&mut self, text: &[u8]) -> Option<V> {
        self.num_lookups += 1;
        let texts = &self.texts;
        let is_it = |(span, _): &(Span, V)| {
            span.len() == text.len() && begins_alike(text, texts.at(span.start()), text.len())
        };
        let found = self.entries.find(hash(&self.hasher, text), is_it).map(|(_, value)| *value);
        match found {
            Some(_) => self.num_found += 1,
            None => self.missed_bytes += text.len(),
        }
        found
    }

    /// Remembers what [`Self::get`] did not know.
    pub(super) fn insert(&mut self, text: &[u8], value: V) {
        let span = Span::new(self.texts.push(text), text.len());
        let Self { entries, texts, hasher, .. } = self;
        let rehash = |(span, _): &(Span, V)| hash(hasher, &texts.at(span.start())[..span.len()]);
        entries.insert_unique(hash(hasher, text), (span, value), rehash);
    }

    /// Forgets all texts, but not whether looking them up was of use.
    pub(super) fn forget(&mut self) {
        if !self.entries.is_empty() {
            self.entries = HashTable::new();
            self.texts = Arena::default();
        }
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(Span, V)>() + self.texts.num_bytes()
    }
}

fn hash(hasher: &RandomState, text: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(text);
    hasher.finish()
}
