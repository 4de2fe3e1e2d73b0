//! Finds the keys of a device whose rows could have changed, by sums of row hashes.
//!
//! Nearly all rows of a snapshot equal those of the day before. For each key of a device one sum is kept: the hashes
//! of its rows in the old snapshot are added, those in the new one subtracted. A sum of 0 means no change, and is not
//! kept. Another sum may be a change or not (repeated rows); a change is missed only if 64-bit hashes collide on the
//! same key.
//!
//! The sums of a device are an array ordered by key: its rows arrive nearly all at once, so they are sorted and merged
//! in the processor's cache, and one table of all keys would miss it with every row.

/// Bytes of a key.
pub const BYTES_PER_KEY: u64 = size_of::<KeySum>() as u64;

/// A row: the hash of its key on the device, and that of the whole row.
pub type HashedRow = (u32, u64);

/// Sums of row hashes of one device, by key.
#[derive(Debug, Default)]
pub struct KeySums(Box<[KeySum]>);

/// The sum is halved, so that it is aligned to 4 bytes: there is one for each row of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct KeySum {
    key: u32,
    sum: [u32; 2],
}

impl KeySum {
    fn new(key: u32, sum: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "its halves")]
        let sum = [sum as u32, (sum >> 32) as u32];
        Self { key, sum }
    }

    fn sum(&self) -> u64 {
        u64::from(self.sum[1]) << 32 | u64::from(self.sum[0])
    }
}

impl KeySums {
    /// Adds rows of the old snapshot, or subtracts rows of the new one; `rows` are in any order. `merged` is room that
    /// is used again.
    pub fn merge(&mut self, rows: &mut [HashedRow], is_old: bool, merged: &mut Vec<KeySum>) {
        rows.sort_unstable_by_key(|(key, _)| *key);
        merged.clear();
        let mut known = self.0.iter().copied().peekable();
        for rows in rows.chunk_by(|(one, _), (other, _)| one == other) {
            let key = rows[0].0;
            let sum = rows.iter().fold(0, |sum: u64, (_, row)| sum.wrapping_add(*row));
            let mut sum = if is_old { sum } else { sum.wrapping_neg() };
            while let Some(before) = known.next_if(|known| known.key < key) {
                merged.push(before);
            }
            if let Some(same) = known.next_if(|known| known.key == key) {
                sum = sum.wrapping_add(same.sum());
            }
            if sum != 0 {
                merged.push(KeySum::new(key, sum));
            }
        }
        merged.extend(known);
        self.0 = merged.as_slice().into();
    }

    /// Returns the keys that could have changed, in order, and forgets the sums.
    pub fn take_keys(&mut self) -> Box<[u32]> {
        std::mem::take(&mut self.0).iter().map(|sum| sum.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_left() {
        let mut sums = KeySums::default();
        let mut merged = Vec::new();
        sums.merge(&mut [(3, 30), (1, 10), (2, 20)], true, &mut merged);
        sums.merge(&mut [(2, u64::MAX)], true, &mut merged);
        sums.merge(&mut [(2, u64::MAX), (4, 40), (2, 20), (3, 31)], false, &mut merged);
        sums.merge(&mut [(1, 10)], false, &mut merged);
        assert_eq!(*sums.take_keys(), [3, 4]);
        assert!(sums.take_keys().is_empty());
    }
}
