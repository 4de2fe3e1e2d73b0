//! SnapshotCounts of one snapshot, for each value of some columns.
//!
//! Takes an open snapshot; gives numbers. Text is looked at once a row group, and a row is a few
//! numbers. Devices and products are told apart by the numbers that they are given when they are
//! first met, so the counts are exact.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use arrow_array::Array;
use foldhash::quality::FixedState;

use super::HistoryError;
use super::rows::{RowGroupColumns, SnapshotReader, TextColumn};
use super::summary::END_OF_SUPPORT;
use crate::cancel::Cancel;

/// What a pair of value and device takes while threads' pairs are brought together. A row makes one
/// pair at most.
const BYTES_PER_PAIR: u64 = 32;

/// Which turn a device is counted in, and where values are looked up; never which they are.
const HASH: FixedState = FixedState::with_seed(1);

/// Values of the columns that are counted by, null among them.
pub type Values = Vec<Option<Box<str>>>;

/// The numbers of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    /// Distinct devices.
    pub devices: i64,
    /// Rows.
    pub installations: i64,
    /// Distinct products, each with its vendor.
    pub products: i64,
    /// Sum of `NumberOfWeaknesses`.
    pub weaknesses: i64,
    /// Rows whose support has ended.
    pub end_of_support: i64,
}

/// SnapshotCounts for each value of `by`, two columns at most; all rows as one where there is none. Reads
/// the snapshot in as many turns as the memory asks for.
///
/// # Errors
///
/// What [`SnapshotReader::visit`] returns.
pub fn count(
    source: &SnapshotReader<'_>,
    by: &[&str],
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<BTreeMap<Values, SnapshotCounts>, HistoryError> {
    let [values, products] = [Numbers::default(), Numbers::default()];
    if by.is_empty() {
        values.of(Vec::new());
    }
    let num_turns = (source.num_rows() * BYTES_PER_PAIR).div_ceil(memory_bytes / 4 * 3).max(1);
    let mut counts: Vec<SnapshotCounts> = Vec::new();
    for turn in 0..num_turns {
        let devices = Numbers::default();
        let is_in_turn = |id: Option<&str>| num_turns == 1 || HASH.hash_one(id) % num_turns == turn;
        let mut columns =
            vec!["DeviceId", "SoftwareVendor", "SoftwareName", "NumberOfWeaknesses", "EndOfSupportStatus"];
        columns.extend(
            by.iter().filter(|name| **name != PLATFORM && !columns.contains(name)).collect::<Vec<_>>(),
        );
        let tallies = source.visit(
            &columns,
            |_| true,
            cancel,
            |tally: &mut Tally, rows| {
                let value_of_row = values.of_rows(rows, by);
                let [ids, statuses] = ["DeviceId", "EndOfSupportStatus"].map(|name| rows.text(name));
                let device_of_code =
                    ids.map(|id| is_in_turn(id).then(|| devices.of(vec![id.map(Into::into)])));
                // Mostly a device's rows have the same value, one after the other or with others in between.
                let mut last_value = vec![u32::MAX; ids.num_codes()];
                for (id, value) in ids.codes().iter().zip(&value_of_row) {
                    if std::mem::replace(&mut last_value[*id], *value) != *value
                        && let Some(device) = device_of_code[*id]
                    {
                        tally.devices.push(*value, device);
                    }
                }
                if turn == 0 {
                    let product_of_row = products.of_rows(rows, &["SoftwareVendor", "SoftwareName"]);
                    tally.count_rows(rows, &statuses, &value_of_row, &product_of_row);
                }
                Ok(())
            },
        )?;
        let [mut in_turn, mut of_products] = [Pairs::default(), Pairs::default()];
        for tally in tallies {
            in_turn.extend(tally.devices);
            of_products.extend(tally.products);
            extend_to(&mut counts, tally.rows.len());
            for (counts, rows) in counts.iter_mut().zip(tally.rows) {
                counts.installations += rows.installations;
                counts.weaknesses += rows.weaknesses;
                counts.end_of_support += rows.end_of_support;
            }
        }
        extend_to(&mut counts, values.len());
        in_turn.for_each_value(|value| counts[value].devices += 1);
        of_products.for_each_value(|value| counts[value].products += 1);
    }
    extend_to(&mut counts, values.len());
    Ok(values.into_iter().map(|(values, number)| (values, counts[number as usize])).collect())
}

fn extend_to(counts: &mut Vec<SnapshotCounts>, len: usize) {
    counts.resize(counts.len().max(len), SnapshotCounts::default());
}

/// The column that is in no file: all rows of one have the same.
const PLATFORM: &str = "OSPlatform";

/// What one thread has counted; values by their numbers.
#[derive(Debug, Default)]
struct Tally {
    /// Sums alone.
    rows: Vec<SnapshotCounts>,
    devices: Pairs,
    products: Pairs,
}

impl Tally {
    fn count_rows(
        &mut self,
        rows: &RowGroupColumns<'_>,
        statuses: &TextColumn,
        values: &[u32],
        products: &[u32],
    ) {
        let has_ended =
            statuses.map(|status| status.is_some_and(|status| status.starts_with(END_OF_SUPPORT)));
        let weaknesses = rows.numbers("NumberOfWeaknesses");
        extend_to(&mut self.rows, values.iter().max().map_or(0, |most| *most as usize + 1));
        let mut last = None;
        for (row, (value, product)) in values.iter().zip(products).enumerate() {
            let counts = &mut self.rows[*value as usize];
            counts.installations += 1;
            counts.weaknesses += if weaknesses.is_valid(row) { i64::from(weaknesses.value(row)) } else { 0 };
            counts.end_of_support += i64::from(has_ended[statuses.codes()[row]]);
            if last.replace((value, product)) != Some((value, product)) {
                self.products.push(*value, *product);
            }
        }
    }
}

/// Numbers for values, from nought in the order in which they are met.
#[derive(Debug, Default)]
struct Numbers(Mutex<HashMap<Values, u32>>);

impl Numbers {
    fn of(&self, values: Values) -> u32 {
        // A thread that panicked ends the program; what it held is of no interest.
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(numbers.len()).expect("fewer values than fit into memory");
        *numbers.entry(values).or_insert(next)
    }

    /// The number of each row's values in `columns`, two at most.
    fn of_rows(&self, rows: &RowGroupColumns<'_>, columns: &[&str]) -> Vec<u32> {
        let texts: Vec<_> = columns.iter().map(|name| (*name != PLATFORM).then(|| rows.text(name))).collect();
        let mut known = hashbrown::HashMap::with_hasher(HASH);
        let mut last = ([usize::MAX; 2], 0);
        let number = |row: usize| {
            let mut codes = [0; 2];
            for (code, text) in codes.iter_mut().zip(&texts) {
                *code = text.as_ref().map_or(0, |text| text.codes()[row]);
            }
            if last.0 != codes {
                let number = *known.entry(codes).or_insert_with(|| {
                    let value = |(text, code): (&Option<TextColumn>, usize)| match text {
                        Some(text) => text.value(code).map(Into::into),
                        None => rows.platform.map(Into::into),
                    };
                    self.of(texts.iter().zip(codes).map(value).collect())
                });
                last = (codes, number);
            }
            last.1
        };
        (0..rows.num_rows()).map(number).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn into_iter(self) -> impl Iterator<Item = (Values, u32)> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter()
    }
}

/// Distinct pairs of a value's number and another, 8 bytes each, and as many again before they are
/// looked through.
#[derive(Debug, Default)]
struct Pairs {
    pairs: Vec<u64>,
}

impl Pairs {
    const LEAST_ROOM: usize = 1 << 16;

    fn push(&mut self, value: u32, other: u32) {
        if self.pairs.len() == self.pairs.capacity() {
            self.compact();
            self.pairs.reserve_exact(self.pairs.len().max(Self::LEAST_ROOM));
        }
        self.pairs.push(u64::from(value) << 32 | u64::from(other));
    }

    fn extend(&mut self, mut other: Self) {
        other.compact();
        if self.pairs.is_empty() {
            *self = other;
        } else {
            self.pairs.extend(other.pairs);
        }
    }

    fn compact(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }

    /// Calls `count` with a pair's value, for every pair.
    fn for_each_value(mut self, mut count: impl FnMut(usize)) {
        self.compact();
        self.pairs.iter().for_each(|pair| count((pair >> 32) as usize));
    }
}
