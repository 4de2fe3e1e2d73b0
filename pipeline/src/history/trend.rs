//! Key counts over time: the measures of every snapshot in a range.
//!
//! Takes published snapshots and reads two at a time, within a budget for memory;
//! gives a row for each snapshot, or for each snapshot and value of what is asked by.
//! Rows are counted as they are: a repeated key counts as often as it is repeated.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use schema::Counted;
use serde_json::{Map, Value, json};

use super::change_batches::timestamp_type;
use super::count_cache::CountCache;
use super::counts::{self, Figure, SnapshotCounts};
use super::numbers::Values;
use super::roles::{DEVICES, Roles};
use super::{HistoryError, SnapshotReader};
use crate::cancel::Cancel;
use crate::display::{grouped, named, table, time_text};
use crate::lake::{PublishedSnapshot, Table};
use crate::threads;

/// Snapshots that are counted at once: while one is opened or its counts are merged, which is the work of one thread,
/// the rows of the other are counted by all.
const SNAPSHOTS_AT_ONCE: usize = 2;

/// What counts are grouped by: the columns of a name that [`schema::HistoryRoles::filters`] declares. A part of the
/// product comes with the coarser ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By(Vec<&'static str>);

impl By {
    /// Finds the columns of a name.
    ///
    /// # Errors
    ///
    /// [`HistoryError::UnknownGroup`], if the dataset has none of that name.
    pub fn parse(roles: Roles, name: &str) -> Result<Self, HistoryError> {
        let lower = name.to_lowercase();
        let Some((_, column)) = roles.filters.iter().find(|(known, _)| *known == lower) else {
            let known: Vec<_> = roles.filters.iter().map(|(name, _)| *name).collect();
            return Err(HistoryError::UnknownGroup {
                given: name.to_owned(),
                dataset: roles.dataset_name(),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            });
        };
        let product = roles.declared_product();
        Ok(match product.iter().position(|known| known == column) {
            Some(index) => Self(product[..=index].to_vec()),
            None => Self(vec![column]),
        })
    }

    /// Returns the columns.
    pub fn columns(&self) -> &[&'static str] {
        &self.0
    }
}

/// The counts of every snapshot, oldest first.
#[derive(Debug)]
pub struct Trend {
    roles: Roles,
    by: Vec<&'static str>,
    snapshots: Vec<CountedSnapshot>,
}

#[derive(Debug)]
struct CountedSnapshot {
    generated_time: DateTime<Utc>,
    rows: u64,
    /// By the values of what is asked by, ordered by their text, null first.
    counts: BTreeMap<Values, SnapshotCounts>,
}

impl Trend {
    /// Counts every snapshot by the columns of `by`.
    ///
    /// # Errors
    ///
    /// A snapshot that cannot be read, or an interruption.
    pub fn read(
        table: &Table,
        snapshots: &[PublishedSnapshot],
        by: &[&'static str],
        memory_bytes: u64,
        cancel: &Cancel,
    ) -> Result<Self, HistoryError> {
        let roles = Roles::of(table.dataset())?;
        let num_at_once = snapshots.len().clamp(1, SNAPSHOTS_AT_ONCE);
        let memory_bytes = memory_bytes / num_at_once as u64;
        let count = |snapshot| -> Result<CountedSnapshot, HistoryError> {
            let reader = SnapshotReader::open(table, snapshot, cancel)?;
            reader.check_columns(&[roles.device])?;
            let counts = counts::count(roles, &reader, by, memory_bytes, cancel)?;
            Ok(CountedSnapshot { generated_time: reader.generated_time(), rows: reader.num_rows(), counts })
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut counted = Vec::new();
            while let Some(snapshot) = snapshots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let count = count(snapshot).inspect_err(|_| next.store(snapshots.len(), Ordering::Relaxed));
                counted.push(count?);
            }
            Ok::<_, HistoryError>(counted)
        };
        let counted = threads::on_threads(num_at_once, work).into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut snapshots: Vec<_> = counted.into_iter().flatten().collect();
        snapshots.sort_by_key(|snapshot: &CountedSnapshot| snapshot.generated_time);
        Ok(Self { roles, by: by.to_vec(), snapshots })
    }

    /// Counts the snapshots at `positions` of `published`, which are all of the table's, oldest first. Those that the
    /// table's cache has are not read; `counted` is called with the position of each that is done.
    ///
    /// # Errors
    ///
    /// A snapshot that cannot be read, or an interruption. What was counted until then is kept in the cache.
    ///
    /// # Panics
    ///
    /// If a snapshot has no counts: a mistake of ours.
    pub fn read_cached(
        table: &Table,
        published: &[PublishedSnapshot],
        positions: &[usize],
        memory_bytes: u64,
        mut counted: impl FnMut(usize),
        cancel: &Cancel,
    ) -> Result<Self, HistoryError> {
        let roles = Roles::of(table.dataset())?;
        let mut cache = CountCache::of_figures(table, roles, published);
        let is_missing = |position: &usize| cache.get(*position).is_none();
        let missing: Vec<_> = positions.iter().copied().filter(is_missing).collect();
        let read = missing.chunks(SNAPSHOTS_AT_ONCE).try_for_each(|chunk| {
            let snapshots: Vec<_> = chunk.iter().map(|position| published[*position].clone()).collect();
            let read = Self::read(table, &snapshots, &[], memory_bytes, cancel)?;
            for (position, snapshot) in chunk.iter().zip(read.snapshots) {
                cache.insert(*position, snapshot.counts[&Values::new()].counted());
                counted(*position);
            }
            Ok::<_, HistoryError>(())
        });
        cache.write();
        read?;
        let snapshots = positions.iter().map(|position| {
            let snapshot = &published[*position];
            let counts = SnapshotCounts::of_counted(roles, cache.get(*position).expect("counted above"));
            CountedSnapshot {
                generated_time: snapshot.id.generated_time(),
                rows: snapshot.manifest.totals.rows,
                counts: [(Values::new(), counts)].into(),
            }
        });
        Ok(Self { roles, by: Vec::new(), snapshots: snapshots.collect() })
    }

    /// Returns the counts of every snapshot, oldest first: its generated time, the values of what is asked by, and them.
    pub fn counts(&self) -> impl Iterator<Item = (DateTime<Utc>, &Values, &SnapshotCounts)> {
        self.snapshots.iter().flat_map(|snapshot| {
            let generated_time = snapshot.generated_time;
            snapshot.counts.iter().map(move |(values, counts)| (generated_time, values, counts))
        })
    }

    /// Returns a row for each snapshot and value: its date, its generated time, the columns that it is counted by, and
    /// [`Roles::measure_names`].
    ///
    /// # Panics
    ///
    /// If columns were of different lengths: a mistake of ours.
    pub fn batch(&self) -> RecordBatch {
        let rows = || {
            self.snapshots.iter().flat_map(|snapshot| {
                snapshot.counts.iter().map(move |(values, counts)| (snapshot.generated_time, values, counts))
            })
        };
        let dates: Vec<i32> = rows().map(|(time, ..)| epoch_days(time.date_naive())).collect();
        let times: Vec<i64> = rows().map(|(time, ..)| time.timestamp_micros()).collect();
        let times = TimestampMicrosecondArray::from(times).with_data_type(timestamp_type());
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (schema::SNAPSHOT_DATE.name, Arc::new(Date32Array::from(dates))),
            (self.roles.generated_time(), Arc::new(times)),
        ];
        for (index, name) in self.by.iter().enumerate() {
            let values: StringArray = rows().map(|(_, values, _)| values[index].as_deref()).collect();
            columns.push((name, Arc::new(values)));
        }
        let devices: Int64Array = rows().map(|(.., counts)| Some(counts.devices)).collect();
        columns.push((DEVICES, Arc::new(devices)));
        for (index, measure) in self.roles.measures.iter().enumerate() {
            let figures = rows().map(|(.., counts)| counts.measures[index]);
            let column: ArrayRef = match measure.counted {
                Counted::Share { .. } => Arc::new(figures.map(share).collect::<Float64Array>()),
                _ => Arc::new(figures.map(count).collect::<Int64Array>()),
            };
            columns.push((measure.name, column));
        }
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    /// Returns the counts as one JSON object: all of each snapshot, and the `top` values by the main measure in the
    /// newest snapshot.
    pub fn json(&self, top: usize) -> Value {
        let snapshots = self.snapshots.iter().map(|snapshot| {
            let mut object = Map::new();
            object.insert("generated_time".to_owned(), time_text(&snapshot.generated_time).into());
            object.insert("rows".to_owned(), snapshot.rows.into());
            if self.by.is_empty() {
                snapshot.counts.values().for_each(|counts| object.extend(self.figures(counts)));
            }
            Value::Object(object)
        });
        let mut object = json!({
            "dataset": self.roles.dataset_name(),
            "snapshots": snapshots.collect::<Vec<_>>(),
        });
        if !self.by.is_empty() {
            let (values, num_values) = self.top(top);
            let groups = values.into_iter().map(|value| {
                let labels = self.by.iter().map(|column| self.roles.label(column).to_owned());
                let mut object: Map<_, _> = labels.zip(value.iter().map(|value| json!(value))).collect();
                let counts = self.snapshots.iter().map(|snapshot| match snapshot.counts.get(value) {
                    Some(counts) => Value::Object(self.figures(counts).collect()),
                    None => Value::Null,
                });
                object.insert("snapshots".to_owned(), counts.collect());
                Value::Object(object)
            });
            object["groups"] = groups.collect();
            object["num_groups"] = num_values.into();
        }
        object
    }

    fn figures(&self, counts: &SnapshotCounts) -> impl Iterator<Item = (String, Value)> {
        let names = self.roles.measure_names().into_iter().map(str::to_owned);
        let devices = std::iter::once(Figure::Count(counts.devices));
        let figures = devices.chain(counts.measures.clone()).map(|figure| match figure {
            Figure::Count(count) => Value::from(count),
            Figure::Share(share) => Value::from(share),
        });
        names.zip(figures)
    }

    /// Returns the trend for people: all snapshots and a sparkline for each measure, or the `top` values by the main
    /// measure in the newest snapshot.
    pub fn text(&self, top: usize) -> String {
        if self.by.is_empty() { self.overall() } else { self.by_value(top) }
    }

    fn overall(&self) -> String {
        let measures = self.roles.measure_names();
        let mut header = vec!["snapshot"];
        header.extend(&measures);
        let counts = || self.snapshots.iter().flat_map(|snapshot| snapshot.counts.values());
        let rows = self.snapshots.iter().zip(counts()).map(|(snapshot, counts)| {
            let date = snapshot.generated_time.date_naive().to_string();
            std::iter::once(date).chain(figures(counts).map(cell)).collect()
        });
        let sparks = (0..measures.len()).map(|measure| {
            let series: Vec<_> =
                counts().map(|counts| figures(counts).nth(measure).and_then(height)).collect();
            sparkline(&series)
        });
        let sparks = std::iter::once(String::new()).chain(sparks).collect();
        table(&header, 1, rows.chain([sparks]))
    }

    /// Returns the `top` values by the main measure in the newest snapshot, and how many there are.
    fn top(&self, top: usize) -> (Vec<&Values>, usize) {
        let mut all: Vec<&Values> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for snapshot in &self.snapshots {
            all.extend(snapshot.counts.keys().filter(|value| known.insert(*value)));
        }
        let newest = |value: &Values| self.snapshots.last().map_or(0, |snapshot| self.main(snapshot, value));
        all.sort_by_cached_key(|value| std::cmp::Reverse(newest(value)));
        let num_values = all.len();
        all.truncate(top);
        (all, num_values)
    }

    /// The main measure of a value in a snapshot, 0 if it has no such rows.
    fn main(&self, snapshot: &CountedSnapshot, value: &Values) -> i64 {
        snapshot.counts.get(value).map_or(0, |counts| self.main_of(counts))
    }

    fn main_of(&self, counts: &SnapshotCounts) -> i64 {
        let names = self.roles.measure_names();
        let main = names.iter().position(|name| *name == self.roles.main_measure).expect("tests hold this");
        figures(counts).nth(main).and_then(height).unwrap_or(0)
    }

    fn by_value(&self, top: usize) -> String {
        let measures = self.roles.measure_names();
        let (values, num_values) = self.top(top);
        let mut header: Vec<_> = self.by.iter().map(|column| self.roles.label(column)).collect();
        header.extend(&measures);
        header.extend(["change", self.roles.main_measure]);
        let newest = self.snapshots.last();
        let rows = values.into_iter().map(|value| {
            let mut cells: Vec<_> = value.iter().map(|value| named(value.as_deref())).collect();
            match newest.and_then(|snapshot| snapshot.counts.get(value)) {
                Some(counts) => cells.extend(figures(counts).map(cell)),
                None => cells.extend(measures.iter().map(|_| "0".to_owned())),
            }
            let at = |snapshot: Option<&CountedSnapshot>| {
                snapshot.map_or(0, |snapshot| self.main(snapshot, value))
            };
            let (before, after) = (at(self.snapshots.first()), at(newest));
            let sign = if after < before { "-" } else { "+" };
            cells.push(format!("{sign}{}", grouped(after.abs_diff(before))));
            let series =
                self.snapshots.iter().map(|snapshot| Some(self.main_of(snapshot.counts.get(value)?)));
            cells.push(sparkline(&series.collect::<Vec<_>>()));
            cells
        });
        let mut text = table(&header, self.by.len(), rows);
        if num_values > top {
            let more = grouped((num_values - top) as u64);
            let _ = writeln!(text, "{more} more; --top shows more of them, --out writes all");
        }
        text
    }
}

/// Returns the days since the epoch.
pub(super) fn epoch_days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - NaiveDate::default().num_days_from_ce()
}

/// Devices, then the measures.
fn figures(counts: &SnapshotCounts) -> impl Iterator<Item = Figure> {
    std::iter::once(Figure::Count(counts.devices)).chain(counts.measures.iter().copied())
}

fn count(figure: Figure) -> Option<i64> {
    match figure {
        Figure::Count(count) => Some(count),
        Figure::Share(_) => None,
    }
}

fn share(figure: Figure) -> Option<f64> {
    match figure {
        Figure::Count(_) => None,
        Figure::Share(share) => share,
    }
}

/// Returns a figure for people: a share as a percentage.
fn cell(figure: Figure) -> String {
    match figure {
        Figure::Count(count) if count < 0 => format!("-{}", grouped(count.unsigned_abs())),
        Figure::Count(count) => grouped(count.unsigned_abs()),
        Figure::Share(share) => share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0)),
    }
}

/// Returns what is drawn of a figure: a share in parts of a million.
fn height(figure: Figure) -> Option<i64> {
    match figure {
        Figure::Count(count) => Some(count),
        #[expect(clippy::cast_possible_truncation, reason = "a share is from 0 to 1")]
        Figure::Share(share) => share.map(|share| (share * 1e6).round() as i64),
    }
}

/// Characters of a sparkline at most.
const MAX_SPARKS: usize = 40;

/// Draws a sparkline between minimum and maximum, with a blank for `None`. Long series are thinned.
pub(super) fn sparkline(series: &[Option<i64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let least = series.iter().flatten().min().copied().unwrap_or(0);
    let spread = series.iter().flatten().max().map_or(0, |most| most.abs_diff(least));
    let len = series.len().min(MAX_SPARKS);
    let sparks = (0..len).map(|index| {
        // The newest value is always kept.
        let from_end = (len - 1 - index) * series.len() / len;
        match series[series.len() - 1 - from_end] {
            None => ' ',
            Some(_) if spread == 0 => BLOCKS[3],
            Some(number) => {
                let height =
                    u128::from(number.abs_diff(least)) * (BLOCKS.len() as u128 - 1) / u128::from(spread);
                BLOCKS[usize::try_from(height).unwrap_or(0)]
            }
        }
    });
    sparks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_spans_the_least_and_the_most() {
        let line = |series: &[i64]| sparkline(&series.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(line(&[0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
        assert_eq!(line(&[100, 101]), "▁█");
        assert_eq!(line(&[5]), "▄");
        assert_eq!(line(&[5, 5]), "▄▄");
        assert_eq!(line(&[]), "");
        assert_eq!(sparkline(&[Some(i64::MIN), None, Some(i64::MAX)]), "▁ █");
        let long: Vec<i64> = (0..1000).collect();
        assert_eq!(line(&long).chars().count(), MAX_SPARKS);
        assert!(line(&long).ends_with('█'));
    }
}
