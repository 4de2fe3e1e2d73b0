//! Counts of one snapshot, for each value of some columns.
//!
//! Takes an open snapshot; gives exact counts. Text is hashed once a row group; devices and products are
//! numbered as they are met, and counted as distinct numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::FixedState;
use schema::{Counted, Status};

use super::HistoryError;
use super::roles::Roles;
use super::rows::{RowGroupColumns, SnapshotReader, TextColumn};
use crate::cancel::Cancel;

/// Bytes of a pair of value and device while the threads' pairs are merged. A row makes one pair at most.
const BYTES_PER_PAIR: u64 = 32;

/// Assigns devices to passes and finds values in tables; equal hashes are never taken for equal values.
const HASH: FixedState = FixedState::with_seed(1);

/// Values of the columns that are counted by, null among them.
pub type Values = Vec<Option<Box<str>>>;

/// The counts of one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    /// Distinct devices.
    pub devices: i64,
    /// What the dataset's measures count, in their order.
    pub measures: Vec<i64>,
}

/// Counts for each value of `by`, two columns at most; all rows as one if there is none. Reads
/// the snapshot in as many passes as the memory asks for.
///
/// # Errors
///
/// What [`SnapshotReader::visit`] returns.
pub fn count(
    roles: Roles,
    reader: &SnapshotReader<'_>,
    by: &[&str],
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<BTreeMap<Values, SnapshotCounts>, HistoryError> {
    let by = Grouping { columns: by, platform: roles.platform };
    let [values, products] = [Numbers::default(), Numbers::default()];
    if by.columns.is_empty() {
        values.of(Vec::new());
    }
    let columns = columns(roles, by);
    let product = Grouping { columns: roles.product, platform: roles.platform };
    let num_turns = (reader.num_rows() * BYTES_PER_PAIR).div_ceil(memory_bytes / 4 * 3).max(1);
    let mut counts: Vec<SnapshotCounts> = Vec::new();
    let extend_to = |counts: &mut Vec<SnapshotCounts>, len: usize| {
        let none = SnapshotCounts { devices: 0, measures: vec![0; roles.measures.len()] };
        counts.resize(counts.len().max(len), none);
    };
    for turn in 0..num_turns {
        let devices = Numbers::default();
        let is_in_turn = |id: Option<&str>| num_turns == 1 || HASH.hash_one(id) % num_turns == turn;
        let tallies = reader.visit(
            &columns,
            |_| true,
            cancel,
            |tally: &mut Tally, rows| {
                let value_of_row = values.of_rows(rows, by);
                let ids = rows.text(roles.device);
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
                    let product_of_row = products.of_rows(rows, product);
                    tally.count_rows(roles, rows, &value_of_row, &product_of_row);
                }
                Ok(())
            },
        )?;
        let [mut in_turn, mut of_products] = [Pairs::default(), Pairs::default()];
        for tally in tallies {
            in_turn.extend(tally.devices);
            of_products.extend(tally.products);
            for (index, sums) in tally.sums.into_iter().enumerate() {
                extend_to(&mut counts, sums.len());
                counts.iter_mut().zip(sums).for_each(|(counts, sum)| counts.measures[index] += sum);
            }
        }
        extend_to(&mut counts, values.len());
        in_turn.for_each_value(|value| counts[value].devices += 1);
        let product_measure = roles.measures.iter().position(|measure| measure.counted == Counted::Products);
        if let Some(index) = product_measure {
            of_products.for_each_value(|value| counts[value].measures[index] += 1);
        }
    }
    extend_to(&mut counts, values.len());
    Ok(values.into_iter().map(|(values, number)| (values, counts[number as usize].clone())).collect())
}

/// Columns to group by. The platform is not a column of the files: all rows of a file have the same one.
#[derive(Debug, Clone, Copy)]
struct Grouping<'c> {
    columns: &'c [&'c str],
    platform: Option<&'c str>,
}

impl<'c> Grouping<'c> {
    fn is_in_files(self, column: &str) -> bool {
        Some(column) != self.platform
    }

    fn in_files(self) -> impl Iterator<Item = &'c str> {
        self.columns.iter().copied().filter(move |column| self.is_in_files(column))
    }
}

/// Returns the columns to read.
fn columns(roles: Roles, by: Grouping<'_>) -> Vec<&str> {
    let mut columns: Vec<&str> = roles.product_columns();
    columns.extend(roles.measures.iter().filter_map(|measure| match measure.counted {
        Counted::Sum(column) => Some(column),
        Counted::Status => roles.status.map(|status| status.column),
        Counted::Rows | Counted::Products => None,
    }));
    columns.extend(by.in_files());
    let mut known = HashSet::new();
    columns.retain(|column| known.insert(*column));
    columns
}

/// What one thread has counted; values by their numbers.
#[derive(Debug, Default)]
struct Tally {
    /// By measure and value; 0 for measures that are not sums.
    sums: Vec<Vec<i64>>,
    devices: Pairs,
    products: Pairs,
}

impl Tally {
    fn count_rows(&mut self, roles: Roles, rows: &RowGroupColumns<'_>, values: &[u32], products: &[u32]) {
        let num_values = values.iter().max().map_or(0, |most| *most as usize + 1);
        self.sums.resize(roles.measures.len(), Vec::new());
        for (sums, measure) in self.sums.iter_mut().zip(roles.measures) {
            sums.resize(sums.len().max(num_values), 0);
            match measure.counted {
                Counted::Rows => values.iter().for_each(|value| sums[*value as usize] += 1),
                Counted::Sum(column) => {
                    for (value, number) in values.iter().zip(rows.integers(column)) {
                        sums[*value as usize] += i64::from(number.unwrap_or(0));
                    }
                }
                Counted::Status => {
                    let Some(Status { column, prefix, .. }) = roles.status else { continue };
                    let statuses = rows.text(column);
                    let is_counted =
                        statuses.map(|status| status.is_some_and(|status| status.starts_with(prefix)));
                    for (value, code) in values.iter().zip(statuses.codes()) {
                        sums[*value as usize] += i64::from(is_counted[*code]);
                    }
                }
                Counted::Products => {}
            }
        }
        let mut last = None;
        for pair in values.iter().zip(products) {
            if last.replace(pair) != Some(pair) {
                self.products.push(*pair.0, *pair.1);
            }
        }
    }
}

/// Numbers for values, from 0 on in the order in which they are met.
#[derive(Debug, Default)]
struct Numbers(Mutex<HashMap<Values, u32>>);

impl Numbers {
    fn of(&self, values: Values) -> u32 {
        // A thread that panicked ends the program, so poisoning does not matter.
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(numbers.len()).expect("fewer values than fit into memory");
        *numbers.entry(values).or_insert(next)
    }

    /// The number of each row's values in `by`, two columns at most.
    fn of_rows(&self, rows: &RowGroupColumns<'_>, by: Grouping<'_>) -> Vec<u32> {
        let text = |name: &&str| by.is_in_files(name).then(|| rows.text(name));
        let texts: Vec<_> = by.columns.iter().map(text).collect();
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

/// Distinct pairs of a value's number and another, 8 bytes each; doubled at most before duplicates are removed.
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
