//! Numbers for values of text columns, shared by all threads.
//!
//! Takes values, gives each its number, the same whenever it is met again. Equal hashes are never taken for equal values.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

const HASH: FixedState = FixedState::with_seed(1);

/// Values of the columns that are counted by or told apart, null among them.
pub type Values = Vec<Option<Box<str>>>;

/// Numbers for values, from 0 on in the order in which they are met.
#[derive(Debug, Default)]
pub struct Numbers(Mutex<HashTable<NumberedValues>>);

#[derive(Debug)]
struct NumberedValues {
    hash: u64,
    values: Values,
    number: u32,
}

impl Numbers {
    /// Returns the number of values, the next one if they are new.
    ///
    /// # Panics
    ///
    /// If there are 2³² of them, which no memory holds.
    pub fn of(&self, values: &[Option<&str>]) -> u32 {
        let hash = HASH.hash_one(values);
        // A thread that panicked ends the program, so poisoning does not matter.
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same =
            |known: &NumberedValues| known.values.iter().map(Option::as_deref).eq(values.iter().copied());
        if let Some(known) = numbers.find(hash, is_same) {
            return known.number;
        }
        let number = u32::try_from(numbers.len()).expect("fewer values than fit into memory");
        let values = values.iter().map(|value| value.map(Into::into)).collect();
        numbers.insert_unique(hash, NumberedValues { hash, values, number }, |known| known.hash);
        number
    }

    /// Returns how many values have a number.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns all values with their numbers.
    pub fn into_entries(self) -> impl Iterator<Item = (Values, u32)> {
        let numbers = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        numbers.into_iter().map(|known| (known.values, known.number))
    }
}
