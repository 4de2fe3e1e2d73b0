//! Counts of one snapshot, for each value of some columns.
//!
//! Takes an open snapshot; gives exact counts. Text is hashed once a row group; devices and the values of measures are
//! numbered as they are met, and counted as distinct numbers. A column that a file lacks is null in its rows.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::ArrayRef;
use foldhash::quality::FixedState;
use schema::{Condition, Counted, Is, Status};

use super::HistoryError;
use super::numbers::{Numbers, Values};
use super::roles::Roles;
use super::row_group_counts::{self, RowGroupFigure};
use super::row_hash::CodeTable;
use super::rows::{NumberColumn, RowColumns, RowGroup, SnapshotReader, TextColumn};
use super::value::signed_number;
use crate::cancel::Cancel;

/// Bytes of a pair of value and device, with the room that is kept for more, while the threads' pairs are merged. A row
/// makes one pair at most.
const BYTES_PER_PAIR: u64 = 32;

/// Columns that are counted by, or whose values are told apart, at most.
const MAX_COLUMNS: usize = 4;

/// Assigns devices to passes and finds values in tables; equal hashes are never taken for equal values.
const HASH: FixedState = FixedState::with_seed(1);

/// The counts of one value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SnapshotCounts {
    /// Distinct devices.
    pub devices: i64,
    /// The dataset's measures, in their order.
    pub measures: Vec<Figure>,
}

/// The value of a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// A count or a sum.
    Count(i64),
    /// A share from 0 to 1; nothing if there is nothing to have a share of.
    Share(Option<f64>),
}

impl Figure {
    /// Returns a count as it is, 0 for a share.
    fn count(self) -> i64 {
        match self {
            Self::Count(count) => count,
            Self::Share(_) => 0,
        }
    }
}

/// Counts for each value of `by`; all rows as one if there is none. Reads the snapshot once if the memory is enough for its
/// pairs, which are mostly far fewer than its rows; else again, in as many passes as suffice if each row makes one.
///
/// # Errors
///
/// What [`SnapshotReader::visit`] returns.
pub fn count(
    roles: Roles,
    reader: &SnapshotReader<'_>,
    by: &[&'static str],
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<BTreeMap<Values, SnapshotCounts>, HistoryError> {
    let max_bytes = memory_bytes / 4 * 3;
    let most_turns = (reader.num_rows() * BYTES_PER_PAIR).div_ceil(max_bytes).max(1);
    let mut num_turns = 1;
    loop {
        let max_bytes = if num_turns < most_turns { max_bytes } else { u64::MAX };
        if let Some(counts) = count_in_turns(roles, reader, by, num_turns, max_bytes, cancel)? {
            return Ok(counts);
        }
        num_turns = most_turns;
    }
}

/// Counts in so many turns; returns nothing if a turn's pairs exceed `max_bytes`.
fn count_in_turns(
    roles: Roles,
    reader: &SnapshotReader<'_>,
    by: &[&'static str],
    num_turns: u64,
    max_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<BTreeMap<Values, SnapshotCounts>>, HistoryError> {
    let values = Numbers::default();
    if by.is_empty() {
        values.of(&[]);
    }
    let distinct: Vec<(&[&'static str], Numbers)> = roles
        .measures
        .iter()
        .map(|measure| (roles.distinct_columns(measure.counted), Numbers::default()))
        .collect();
    let columns = columns(roles, by);
    let mut counts: Vec<SnapshotCounts> = Vec::new();
    let extend_to = |counts: &mut Vec<SnapshotCounts>, len: usize| {
        let none = SnapshotCounts { devices: 0, measures: vec![Figure::Count(0); roles.measures.len()] };
        counts.resize(counts.len().max(len), none);
    };
    for turn in 0..num_turns {
        let devices = Numbers::default();
        let num_bytes = AtomicU64::new(0);
        let is_too_much = || num_bytes.load(Ordering::Relaxed) > max_bytes;
        let is_in_turn = |id: Option<&str>| num_turns == 1 || HASH.hash_one(id) % num_turns == turn;
        let device = |id: Option<&str>| is_in_turn(id).then(|| devices.of(&[id]));
        let count_rows = |tally: &mut Tally, rows: &RowColumns<'_>| {
            tally.values.number(rows, by, &values, true);
            let ids = rows.text(roles.device);
            let device_of_code = tally.device_of_code.of(&ids, device);
            // Mostly a device's rows have the same value, one after the other or with others in between.
            let mut last_value = vec![u32::MAX; ids.num_codes()];
            for (id, value) in ids.codes().iter().zip(&tally.values.numbers) {
                if std::mem::replace(&mut last_value[*id as usize], *value) != *value
                    && let Some(device) = device_of_code[*id as usize]
                {
                    tally.devices.push(*value, device);
                }
            }
            if turn == 0 {
                tally.count_rows(roles, reader, rows, &distinct);
            }
            Ok(())
        };
        let tallies = reader.visit_row_groups(
            |_| true,
            cancel,
            |tally: &mut Tally, row_group| {
                let before = tally.bytes();
                let is_counted =
                    by.is_empty() && tally.count_row_group(roles, row_group, turn == 0, device, &distinct)?;
                if !is_counted {
                    row_group.visit(&columns, |rows| count_rows(tally, rows))?;
                }
                num_bytes.fetch_add(tally.bytes() - before, Ordering::Relaxed);
                // Ends the read.
                if is_too_much() { Err(HistoryError::Interrupted) } else { Ok(()) }
            },
        );
        if is_too_much() {
            return Ok(None);
        }
        let mut in_turn = Pairs::default();
        let mut of_measures: Vec<Pairs> = distinct.iter().map(|_| Pairs::default()).collect();
        for tally in tallies? {
            in_turn.extend(tally.devices);
            for (index, measured) in tally.measured.into_iter().enumerate() {
                of_measures[index].extend(measured.distinct);
                extend_to(&mut counts, measured.sums.len());
                for (counts, sum) in counts.iter_mut().zip(measured.sums) {
                    add(&mut counts.measures[index], sum);
                }
            }
        }
        extend_to(&mut counts, values.len());
        in_turn.for_each_value(|value| counts[value].devices += 1);
        for (index, pairs) in of_measures.into_iter().enumerate() {
            pairs.for_each_value(|value| add(&mut counts[value].measures[index], 1));
        }
    }
    extend_to(&mut counts, values.len());
    for counts in &mut counts {
        add_shares(roles, counts);
    }
    let counts = values.into_entries().map(|(values, number)| (values, counts[number as usize].clone()));
    Ok(Some(counts.collect()))
}

fn add(figure: &mut Figure, more: i64) {
    *figure = Figure::Count(figure.count() + more);
}

impl SnapshotCounts {
    /// Creates the counts of [`Roles::counted_names`]; the shares follow from them.
    ///
    /// # Panics
    ///
    /// If there are fewer: a mistake of ours.
    pub fn of_counted(roles: Roles, counted: &[i64]) -> Self {
        let mut counted = counted.iter().copied();
        let mut next = || counted.next().expect("a count for each name");
        let devices = next();
        let measures = roles.measures.iter().map(|measure| match measure.counted {
            Counted::Share { .. } => Figure::Share(None),
            _ => Figure::Count(next()),
        });
        let mut counts = Self { devices, measures: measures.collect() };
        add_shares(roles, &mut counts);
        counts
    }

    /// Returns the counts of [`Roles::counted_names`].
    pub fn counted(&self) -> Vec<i64> {
        let measures = self.measures.iter().filter_map(|figure| match figure {
            Figure::Count(count) => Some(*count),
            Figure::Share(_) => None,
        });
        std::iter::once(self.devices).chain(measures).collect()
    }

    /// Returns a count by its name among [`Roles::measure_names`].
    pub fn figure(&self, roles: Roles, name: &str) -> Option<Figure> {
        let names = roles.measure_names();
        match names.iter().position(|known| *known == name)? {
            0 => Some(Figure::Count(self.devices)),
            index => self.measures.get(index - 1).copied(),
        }
    }
}

fn add_shares(roles: Roles, counts: &mut SnapshotCounts) {
    for (index, measure) in roles.measures.iter().enumerate() {
        if let Counted::Share { of, but } = measure.counted {
            let count = |name: &str| {
                let index = roles.measures.iter().position(|measure| measure.name == name);
                counts.measures[index.expect("tests hold this")].count()
            };
            let (all, others) = (count(of), count(but));
            let share = (all > 0).then(|| (all - others) as f64 / all as f64);
            counts.measures[index] = Figure::Share(share);
        }
    }
}

/// Returns the columns to read.
fn columns<'c>(roles: Roles, by: &[&'c str]) -> Vec<&'c str> {
    let mut columns = vec![roles.device];
    columns.extend(roles.only_with);
    for measure in roles.measures {
        match measure.counted {
            Counted::Sum(column) => columns.push(column),
            Counted::Status => columns.extend(roles.status.map(|status| status.column)),
            Counted::Where(conditions) => columns.extend(conditions.iter().map(|condition| condition.column)),
            Counted::Products | Counted::Distinct(_) => {
                columns.extend(roles.distinct_columns(measure.counted));
            }
            Counted::Rows | Counted::Share { .. } => {}
        }
    }
    columns.extend(by);
    let mut known = HashSet::new();
    columns.retain(|column| known.insert(*column));
    columns
}

/// What one thread has counted; values by their numbers.
#[derive(Debug, Default)]
struct Tally {
    values: RowNumbers,
    device_of_code: CodeTable<Option<u32>>,
    devices: Pairs,
    measured: Vec<Measured>,
}

/// What one thread has counted for one measure.
#[derive(Debug, Default)]
struct Measured {
    /// By value.
    sums: Vec<i64>,
    distinct: Pairs,
    numbers: RowNumbers,
}

impl Tally {
    fn bytes(&self) -> u64 {
        let of_measures = self.measured.iter().map(|measured| &measured.distinct);
        let num_pairs: usize = of_measures.chain([&self.devices]).map(|pairs| pairs.pairs.capacity()).sum();
        // The room for more is part of the capacity.
        num_pairs as u64 * (BYTES_PER_PAIR / 2)
    }

    /// Counts a row group as a whole, if that can be.
    fn count_row_group(
        &mut self,
        roles: Roles,
        row_group: &RowGroup<'_>,
        takes_measures: bool,
        device: impl Fn(Option<&str>) -> Option<u32>,
        distinct: &[(&'static [&'static str], Numbers)],
    ) -> Result<bool, HistoryError> {
        // Other programs may write entries that no row has, and pages of another version.
        if !row_group.is_ours() {
            return Ok(false);
        }
        let mut figures = Vec::new();
        if takes_measures {
            match row_group_counts::figures(roles, row_group, |index| &distinct[index].1)? {
                Some(found) => figures = found,
                None => return Ok(false),
            }
        }
        let add_device = |id: Option<&str>| device(id).into_iter().for_each(|id| self.devices.push(0, id));
        if !row_group_counts::for_each_device(roles, row_group, add_device)? {
            return Ok(false);
        }
        self.measured.resize_with(roles.measures.len(), Measured::default);
        for (measured, figure) in self.measured.iter_mut().zip(figures) {
            measured.sums.resize(measured.sums.len().max(1), 0);
            match figure {
                RowGroupFigure::Count(count) => measured.sums[0] += count,
                RowGroupFigure::Distinct(numbers) => {
                    for number in numbers {
                        measured.distinct.push(0, number);
                    }
                }
            }
        }
        Ok(true)
    }

    fn count_rows(
        &mut self,
        roles: Roles,
        reader: &SnapshotReader<'_>,
        rows: &RowColumns<'_>,
        distinct: &[(&'static [&'static str], Numbers)],
    ) {
        let values = &self.values.numbers;
        let num_values = values.iter().max().map_or(0, |most| *most as usize + 1);
        // Rows that say nothing but that the device is there.
        let is_counted = roles.only_with.map(|column| {
            let column = rows.text(column);
            let has_value = column.map(|value| value.is_some());
            column.codes().iter().map(|code| has_value[*code as usize]).collect::<Vec<_>>()
        });
        let is_counted = |row: usize| is_counted.as_ref().is_none_or(|is_counted| is_counted[row]);
        self.measured.resize_with(roles.measures.len(), Measured::default);
        for (index, (measured, measure)) in self.measured.iter_mut().zip(roles.measures).enumerate() {
            let sums = &mut measured.sums;
            sums.resize(sums.len().max(num_values), 0);
            let mut add_where = |is_so: &dyn Fn(usize) -> bool| {
                for (row, value) in values.iter().enumerate() {
                    sums[*value as usize] += i64::from(is_counted(row) && is_so(row));
                }
            };
            match measure.counted {
                Counted::Rows => add_where(&|_| true),
                Counted::Sum(column) => {
                    let Some(numbers) = rows.numbers(column) else { continue };
                    let zero = signed_number(0);
                    for (row, value) in values.iter().enumerate().filter(|(row, _)| is_counted(*row)) {
                        let number = numbers.number(row).unwrap_or(zero);
                        sums[*value as usize] += number.wrapping_sub(zero).cast_signed();
                    }
                }
                Counted::Status => {
                    let Some(Status { column, prefix, .. }) = roles.status else { continue };
                    let statuses = rows.text(column);
                    let is_status =
                        statuses.map(|status| status.is_some_and(|status| status.starts_with(prefix)));
                    add_where(&|row| is_status[statuses.codes()[row] as usize]);
                }
                Counted::Where(conditions) => {
                    let met: Vec<_> =
                        conditions.iter().map(|condition| Met::new(*condition, reader, rows)).collect();
                    add_where(&|row| met.iter().all(|met| met.is_so(row)));
                }
                Counted::Products | Counted::Distinct(_) => {
                    let (columns, numbers) = &distinct[index];
                    let takes_nulls = measure.counted == Counted::Products;
                    measured.numbers.number(rows, columns, numbers, takes_nulls);
                    let mut last = None;
                    for (row, pair) in values.iter().zip(&measured.numbers.numbers).enumerate() {
                        if *pair.1 != NULLS && is_counted(row) && last.replace(pair) != Some(pair) {
                            measured.distinct.push(*pair.0, *pair.1);
                        }
                    }
                }
                Counted::Share { .. } => {}
            }
        }
    }
}

/// A condition on the rows of a batch.
enum Met {
    Text(TextColumn, Vec<bool>),
    Numbers(NumberColumn, [u64; 2]),
    /// The file lacks the column.
    Never,
}

impl Met {
    fn new(condition: Condition, reader: &SnapshotReader<'_>, rows: &RowColumns<'_>) -> Self {
        /// Microseconds of a day.
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let now = reader.generated_time().timestamp_micros();
        let numbers = |range: [u64; 2]| {
            rows.numbers(condition.column).map_or(Self::Never, |numbers| Self::Numbers(numbers, range))
        };
        match condition.is {
            Is::Boolean(value) => numbers([u64::from(value), u64::from(value) + 1]),
            Is::Past => numbers([0, signed_number(now)]),
            Is::WithinDays(days) => {
                numbers([now, now.saturating_add(i64::from(days) * DAY)].map(signed_number))
            }
            Is::OneOf(texts) => {
                let column = rows.text(condition.column);
                let is_so = column.map(|value| value.is_some_and(|value| texts.contains(&value)));
                Self::Text(column, is_so)
            }
        }
    }

    fn is_so(&self, row: usize) -> bool {
        match self {
            Self::Text(column, is_so) => is_so[column.codes()[row] as usize],
            Self::Numbers(numbers, [start, end]) => {
                numbers.number(row).is_some_and(|number| number >= *start && number < *end)
            }
            Self::Never => false,
        }
    }
}

/// Stands for values that are all null, if they are left out.
const NULLS: u32 = u32::MAX;

/// The number of each row's values in some columns. What was found is kept for as long as the dictionaries are the same.
#[derive(Debug, Default)]
struct RowNumbers {
    numbers: Vec<u32>,
    dictionaries: Vec<ArrayRef>,
    known: hashbrown::HashMap<[u32; MAX_COLUMNS], u32, FixedState>,
}

impl RowNumbers {
    /// Numbers the rows of a batch; those whose values are all null only if it `takes_nulls`.
    fn number(
        &mut self,
        rows: &RowColumns<'_>,
        columns: &[&'static str],
        values: &Numbers,
        takes_nulls: bool,
    ) {
        self.numbers.clear();
        if columns.is_empty() {
            self.numbers.resize(rows.num_rows(), 0);
            return;
        }
        let texts: Vec<_> = columns.iter().map(|name| rows.text(name)).collect();
        let is_same = self.dictionaries.len() == texts.len()
            && self
                .dictionaries
                .iter()
                .zip(&texts)
                .all(|(known, text)| Arc::ptr_eq(known, text.dictionary()));
        if !is_same {
            self.known.clear();
            self.dictionaries = texts.iter().map(|text| Arc::clone(text.dictionary())).collect();
        }
        let mut last = ([u32::MAX; MAX_COLUMNS], 0);
        for row in 0..rows.num_rows() {
            let mut codes = [0; MAX_COLUMNS];
            for (code, text) in codes.iter_mut().zip(&texts) {
                *code = text.codes()[row];
            }
            if last.0 != codes {
                let number = *self.known.entry(codes).or_insert_with(|| {
                    let found: Vec<_> =
                        texts.iter().zip(codes).map(|(text, code)| text.value(code)).collect();
                    let is_left_out = !takes_nulls && found.iter().all(Option::is_none);
                    if is_left_out { NULLS } else { values.of(&found) }
                });
                last = (codes, number);
            }
            self.numbers.push(last.1);
        }
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
