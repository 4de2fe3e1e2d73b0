//! Which installations could have changed: sums of hashes by device and product.
//!
//! Nearly all rows of a snapshot are those of the day before. Here they are told from the others at
//! the price of two numbers for each device and product: its rows of the old snapshot are added up,
//! those of the new one taken away, and where nothing is left nothing has changed. What is left may
//! be a change or not (rows in other numbers); a change is missed only where hashes of 64 bits
//! collide on the same device and product.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use hashbrown::{HashMap, HashSet};

/// Parts of the table that threads take turns in.
const SHARDS: usize = 64;

/// Bytes that a device and product takes, with the room that a growing table leaves free.
pub const BYTES_PER_PRODUCT: u64 = 40;

/// What is left of each device and product.
#[derive(Debug)]
pub struct Fingerprints {
    shards: Vec<Mutex<HashMap<u64, u64, BuildHasherDefault<Hashed>>>>,
}

/// The products of devices that could have changed.
#[derive(Debug, Default)]
pub struct Touched(HashSet<u64, BuildHasherDefault<Hashed>>);

/// HashedRows of one batch, by shard: the hash of device and product, and that of the whole row.
#[derive(Debug)]
pub struct HashedRows {
    by_shard: [Vec<(u64, u64)>; SHARDS],
}

impl Default for HashedRows {
    fn default() -> Self {
        Self { by_shard: std::array::from_fn(|_| Vec::new()) }
    }
}

impl HashedRows {
    /// Adds a row.
    pub fn push(&mut self, product: u64, row: u64) {
        self.by_shard[shard_of(product)].push((product, row));
    }
}

impl Fingerprints {
    /// A table with room for so many products of devices; it grows where they are more.
    pub fn with_capacity(num_products: u64) -> Self {
        let of_shard = usize::try_from(num_products / SHARDS as u64).unwrap_or(0);
        let shard = || Mutex::new(HashMap::with_capacity_and_hasher(of_shard, BuildHasherDefault::default()));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    /// Adds the rows of the old snapshot, taking them out of `rows`.
    pub fn add(&self, rows: &mut HashedRows) {
        self.change(rows, u64::wrapping_add);
    }

    /// Takes away the rows of the new snapshot, taking them out of `rows`.
    pub fn subtract(&self, rows: &mut HashedRows) {
        self.change(rows, u64::wrapping_sub);
    }

    fn change(&self, rows: &mut HashedRows, change: impl Fn(u64, u64) -> u64) {
        for (rows, shard) in rows.by_shard.iter_mut().zip(&self.shards) {
            // A thread that panicked ends the program; what it held is of no interest.
            let mut sums = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (product, row) in rows.drain(..) {
                let sum = sums.entry(product).or_insert(0);
                *sum = change(*sum, row);
            }
        }
    }

    /// What could have changed.
    pub fn into_touched(self) -> Touched {
        let mut touched = HashSet::default();
        for shard in self.shards {
            let sums = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            touched.extend(sums.into_iter().filter(|(_, sum)| *sum != 0).map(|(product, _)| product));
        }
        Touched(touched)
    }
}

impl Touched {
    /// Number of products of devices.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the product could have changed.
    pub fn contains(&self, product: u64) -> bool {
        self.0.contains(&product)
    }

    /// Takes in what `other` has.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Bits that the shards' tables use neither for the place of an entry nor for its tag.
fn shard_of(product: u64) -> usize {
    (product >> 40) as usize % SHARDS
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_left() {
        let fingerprints = Fingerprints::with_capacity(4);
        let rows = |pairs: &[(u64, u64)]| {
            let mut rows = HashedRows::default();
            for (product, row) in pairs {
                rows.push(*product, *row);
            }
            rows
        };
        fingerprints.add(&mut rows(&[(1, 10), (2, 20), (2, 21), (3, 30)]));
        fingerprints.subtract(&mut rows(&[(2, 21), (2, 20), (3, 31), (4, 40), (1, 10)]));
        let touched = fingerprints.into_touched();
        assert_eq!([1, 2, 3, 4].map(|product| touched.contains(product)), [false, false, true, true]);
        assert_eq!(touched.len(), 2);
    }
}
