//! Changes over time: how many of each kind lie between every two consecutive snapshots.
//!
//! Takes published snapshots; gives a row for each pair. A pair is counted once: the table's cache keeps what was
//! counted, and only the snapshots of other pairs are opened. Repeated keys and null count as in a diff.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::change_batches::timestamp_type;
use super::count_cache::{CountCache, Counts};
use super::roles::{NEW_GENERATED_TIME, OLD_GENERATED_TIME, Roles};
use super::trend::{epoch_days, sparkline};
use super::{HistoryError, SnapshotReader, diff};
use crate::cancel::Cancel;
use crate::display::{grouped, table, time_text};
use crate::lake::{PublishedSnapshot, Table};

/// The counts of each pair, oldest first.
#[derive(Debug)]
pub struct ChangesOverTime {
    roles: Roles,
    pairs: Vec<PairChanges>,
    num_counted: u64,
}

#[derive(Debug)]
struct PairChanges {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    counts: Counts,
}

impl ChangesOverTime {
    /// Counts the changes between the snapshots in `range` of `published`, which are all of the table's, oldest first.
    /// `on_pair` is called with the position of each pair's older snapshot when it is done.
    ///
    /// # Errors
    ///
    /// Fewer than two snapshots, one that cannot be read, or an interruption. What was counted until then is kept in
    /// the cache.
    pub fn read(
        table: &Table,
        published: &[PublishedSnapshot],
        range: Range<usize>,
        memory_bytes: u64,
        mut on_pair: impl FnMut(usize),
        cancel: &Cancel,
    ) -> Result<Self, HistoryError> {
        let roles = Roles::of(table.dataset())?;
        if range.len() < 2 {
            let found = range.len() as u64;
            return Err(HistoryError::TooFewSnapshots { dataset: table.dataset().name, found });
        }
        let mut cache = CountCache::of_changes(table, roles, published);
        let mut changes = Self { roles, pairs: Vec::new(), num_counted: 0 };
        // A lake in a store is read over the network, so the newer snapshot of a pair stays open for the next one.
        let mut last_open: Option<(usize, SnapshotReader<'_>)> = None;
        let counted = (range.start..range.end - 1).try_for_each(|position| {
            let counts = cache.get_or_count(position, || {
                let old = match last_open.take() {
                    Some((open, reader)) if open == position => reader,
                    _ => SnapshotReader::open(table, &published[position], cancel)?,
                };
                let new = SnapshotReader::open(table, &published[position + 1], cancel)?;
                changes.num_counted += 1;
                let counts = diff::count(roles, &old, &new, memory_bytes, cancel);
                last_open = Some((position + 1, new));
                counts
            })?;
            let [from, to] = [position, position + 1].map(|index| published[index].id.generated_time());
            changes.pairs.push(PairChanges { from, to, counts });
            on_pair(position);
            Ok(())
        });
        cache.write();
        counted.map(|()| changes)
    }

    /// Returns the counts of a kind, oldest pair first: the generated times of both snapshots, and the count.
    ///
    /// # Panics
    ///
    /// If the dataset has no such kind: a mistake of ours.
    pub fn counts(&self, kind: &str) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>, i64)> {
        let index = self.roles.kinds().iter().position(|known| *known == kind).expect("a declared kind");
        self.pairs.iter().map(move |pair| (pair.from, pair.to, pair.counts[index]))
    }

    /// Returns a row for each pair: the date of the newer snapshot, the generated times of both, and
    /// [`Roles::kinds`].
    ///
    /// # Panics
    ///
    /// If columns were of different lengths: a mistake of ours.
    pub fn batch(&self) -> RecordBatch {
        let times = |time: &dyn Fn(&PairChanges) -> DateTime<Utc>| -> ArrayRef {
            let micros: Vec<_> = self.pairs.iter().map(|pair| time(pair).timestamp_micros()).collect();
            Arc::new(TimestampMicrosecondArray::from(micros).with_data_type(timestamp_type()))
        };
        let dates: Vec<_> = self.pairs.iter().map(|pair| epoch_days(pair.to.date_naive())).collect();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (schema::SNAPSHOT_DATE.name, Arc::new(Date32Array::from(dates))),
            (OLD_GENERATED_TIME, times(&|pair| pair.from)),
            (NEW_GENERATED_TIME, times(&|pair| pair.to)),
        ];
        for (index, kind) in self.roles.kinds().into_iter().enumerate() {
            columns.push((kind, Arc::new(Int64Array::from_iter_values(self.series(index)))));
        }
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    /// Returns the counts as one JSON object. `counted` is the number of pairs that the cache did not have.
    pub fn json(&self) -> Value {
        let pairs = self.pairs.iter().map(|pair| {
            let kinds = self.roles.kinds().into_iter().map(str::to_owned);
            let changes: Map<_, _> = kinds.zip(pair.counts.iter().map(|count| (*count).into())).collect();
            json!({ "from": time_text(&pair.from), "to": time_text(&pair.to), "changes": changes })
        });
        json!({
            "dataset": self.roles.dataset_name(),
            "pairs": pairs.collect::<Vec<_>>(),
            "counted": self.num_counted,
        })
    }

    /// Returns the counts for people: all pairs, and a sparkline for each kind.
    pub fn text(&self) -> String {
        let kinds = self.roles.kinds();
        let mut header = vec!["from", "to"];
        header.extend(kinds.iter().map(|kind| kind.trim_end_matches("_changed")));
        let mut rows: Vec<Vec<String>> = Vec::new();
        for pair in &self.pairs {
            let dates = [pair.from, pair.to].map(|time| time.date_naive().to_string());
            let counts = pair.counts.iter().map(|count| grouped(count.unsigned_abs()));
            rows.push(dates.into_iter().chain(counts).collect());
        }
        let sparks = (0..kinds.len()).map(|kind| {
            let series: Vec<_> = self.series(kind).map(Some).collect();
            sparkline(&series)
        });
        rows.push([String::new(), String::new()].into_iter().chain(sparks).collect());
        table(&header, 2, rows)
    }

    /// The counts of a kind, by its position.
    fn series(&self, kind: usize) -> impl Iterator<Item = i64> {
        self.pairs.iter().map(move |pair| pair.counts[kind])
    }
}
