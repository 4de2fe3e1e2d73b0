//! Finds the products of devices that could have changed, by sums of row hashes.
//!
//! Nearly all rows of a snapshot equal those of the day before. For each device and product one sum is kept:
//! the hashes of its rows in the old snapshot are added, those in the new one subtracted. A sum of 0 means no
//! change. Another sum may be a change or not (repeated rows); a change is missed only if 64-bit hashes collide
//! on the same device and product.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use hashbrown::{HashMap, HashSet};

/// Shards of the table, each with a lock.
const SHARDS: usize = 64;

/// Bytes of a device and product, with the free room of a growing table.
pub const BYTES_PER_PRODUCT: u64 = 40;

/// Sums of row hashes by device and product.
#[derive(Debug)]
pub struct Fingerprints {
    shards: Vec<Mutex<HashMap<u64, u64, BuildHasherDefault<Hashed>>>>,
}

/// The products of devices that could have changed.
#[derive(Debug, Default)]
pub struct Touched(HashSet<u64, BuildHasherDefault<Hashed>>);

/// Rows of one batch, by shard: the hash of device and product, and that of the whole row.
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
    /// Creates a table with room for so many products of devices; it grows if there are more.
    pub fn with_capacity(num_products: u64) -> Self {
        let of_shard = usize::try_from(num_products / SHARDS as u64).unwrap_or(0);
        let shard = || Mutex::new(HashMap::with_capacity_and_hasher(of_shard, BuildHasherDefault::default()));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    /// Adds rows of the old snapshot and drains them.
    pub fn add(&self, rows: &mut HashedRows) {
        self.change(rows, u64::wrapping_add);
    }

    /// Subtracts rows of the new snapshot and drains them.
    pub fn subtract(&self, rows: &mut HashedRows) {
        self.change(rows, u64::wrapping_sub);
    }

    fn change(&self, rows: &mut HashedRows, change: impl Fn(u64, u64) -> u64) {
        for (rows, shard) in rows.by_shard.iter_mut().zip(&self.shards) {
            // A thread that panicked ends the program, so poisoning does not matter.
            let mut sums = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (product, row) in rows.drain(..) {
                let sum = sums.entry(product).or_insert(0);
                *sum = change(*sum, row);
            }
        }
    }

    /// Returns the products that could have changed.
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
    /// Returns the number of products of devices.
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

    /// Adds the products of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Uses bits that the shards' tables use neither for an entry's position nor for its tag.
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
