//! Hashes of rows: of their key on the device, and of the whole row.
//!
//! Takes the columns of a batch; gives a hash for each row. A text is hashed once for each entry of a dictionary. A
//! row's hash combines those of its values, which are independent of each other: each column has a seed of its own.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow_array::ArrayRef;
use foldhash::quality::RandomState;

use super::change_filter::ChangeFilter;
use super::roles::Roles;
use super::rows::{RowColumns, TextColumn, ValueColumn};

/// The seed is random, so that no input is known to collide.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Returns the hash of a device's id.
pub fn device_hash(id: &str) -> u64 {
    HASH.hash_one(id)
}

/// What is made of each value of a text column, by code; made again if the dictionary is another one.
#[derive(Debug)]
pub struct CodeTable<T> {
    dictionary: Option<ArrayRef>,
    by_code: Vec<T>,
}

impl<T> Default for CodeTable<T> {
    fn default() -> Self {
        Self { dictionary: None, by_code: Vec::new() }
    }
}

impl<T> CodeTable<T> {
    /// Returns what `make` makes of the column's values.
    pub fn of(&mut self, column: &TextColumn, make: impl FnMut(Option<&str>) -> T) -> &mut [T] {
        let is_known = self.dictionary.as_ref().is_some_and(|known| Arc::ptr_eq(known, column.dictionary()));
        if !is_known {
            self.by_code = column.map(make);
            self.dictionary = Some(Arc::clone(column.dictionary()));
        }
        &mut self.by_code
    }
}

/// Hashes the rows of batches, some columns of them.
#[derive(Debug, Default)]
pub struct RowHasher {
    tables: Vec<CodeTable<u64>>,
    hashes: Vec<u64>,
}

impl RowHasher {
    /// Returns a hash of each row's values in `columns`.
    pub fn hash(&mut self, columns: &[&'static str], rows: &RowColumns<'_>) -> &[u64] {
        self.tables.resize_with(columns.len(), CodeTable::default);
        self.hashes.clear();
        self.hashes.resize(rows.num_rows(), 0);
        for (name, table) in columns.iter().zip(&mut self.tables) {
            match rows.values(name) {
                ValueColumn::Text(column) => {
                    let by_code = table.of(&column, |value| HASH.hash_one((name, value)));
                    for (hash, code) in self.hashes.iter_mut().zip(column.codes()) {
                        *hash ^= by_code[*code as usize];
                    }
                }
                ValueColumn::Numbers(column) => {
                    let [null, seed] = [0, 1].map(|number: u8| HASH.hash_one((name, number)));
                    for (row, hash) in self.hashes.iter_mut().enumerate() {
                        *hash ^= column.number(row).map_or(null, |number| folded(number ^ seed, MULTIPLIER));
                    }
                }
            }
        }
        &self.hashes
    }
}

/// Odd, half of its bits set.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the hash of a row with such a key and such values: not their sum, which would hide values that change places.
pub fn row_hash(key: u64, values: u64) -> u64 {
    folded(key ^ MULTIPLIER, values ^ 0x2545_f491_4f6c_dd1d)
}

/// Returns as much of a key's hash as tells keys of one device apart; keys that share it are compared together.
pub fn short_key(key: u64) -> u32 {
    (key >> 32) as u32
}

/// Multiplies to 128 bits and folds them.
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let halves = [product as u64, (product >> 64) as u64];
    halves[0] ^ halves[1]
}

/// Selects rows by the values of products, and leaves out rows that say nothing but that the device is there.
#[derive(Debug, Default)]
pub struct RowFilter {
    tables: Vec<CodeTable<bool>>,
    wanted: Vec<bool>,
}

impl RowFilter {
    /// Returns whether each row is wanted; nothing if all are.
    pub fn wanted(&mut self, roles: Roles, filter: &ChangeFilter, rows: &RowColumns<'_>) -> Option<&[bool]> {
        let filtered = roles.product.iter().filter(|column| filter.has(Some(column)));
        let columns: Vec<_> = filtered.copied().chain(roles.only_with).collect();
        if columns.is_empty() {
            return None;
        }
        self.tables.resize_with(columns.len(), CodeTable::default);
        self.wanted.clear();
        self.wanted.resize(rows.num_rows(), true);
        for (name, table) in columns.into_iter().zip(&mut self.tables) {
            let column = rows.text(name);
            let is_required = roles.only_with == Some(name);
            let by_code = table
                .of(&column, |value| filter.allows(Some(name), value) && (value.is_some() || !is_required));
            for (wanted, code) in self.wanted.iter_mut().zip(column.codes()) {
                *wanted &= by_code[*code as usize];
            }
        }
        Some(&self.wanted)
    }
}
