//! The tables of the page, each with the snapshots that its sections are about, and the head of the page.
//!
//! Takes a lake and what was asked for; gives the tables, and what a reader should know before believing the figures.
//! Reads manifests alone.

use std::ops::Range;

use chrono::{Days, NaiveDate};
use schema::ReportRoles;

use super::data::{DatasetFacts, DayRange, Head, Note};
use super::request::{PageRequest, Since};
use crate::cancel::Cancel;
use crate::history::roles::Roles;
use crate::history::{HistoryError, SnapshotReader};
use crate::lake::{Lake, PublishedSnapshot, Table};

/// An export a day: the newest snapshot is stale if it is older than two.
const STALE_DAYS: i64 = 2;

/// Days after which a figure is compared with itself.
const MONTH_DAYS: u64 = 30;

/// The tables of a page.
#[derive(Debug)]
pub(super) struct PageTables {
    pub(super) tables: Vec<TableSnapshots>,
    date: NaiveDate,
    since: NaiveDate,
}

/// A table and its snapshots.
#[derive(Debug)]
pub(super) struct TableSnapshots {
    pub(super) table: Table,
    pub(super) roles: Roles,
    pub(super) report: &'static ReportRoles,
    /// All snapshots of the table, oldest first.
    pub(super) published: Vec<PublishedSnapshot>,
    /// Position of the snapshot that the page is about.
    pub(super) newest: usize,
    /// Positions of the history, the newest last.
    pub(super) history: Range<usize>,
}

impl TableSnapshots {
    /// Returns the name of the table.
    pub(super) fn dataset(&self) -> &'static str {
        self.table.dataset().name
    }

    /// Returns the snapshot that the page is about.
    pub(super) fn snapshot(&self) -> &PublishedSnapshot {
        &self.published[self.newest]
    }

    /// Returns the date of that snapshot.
    pub(super) fn date(&self) -> NaiveDate {
        self.snapshot().id.date()
    }

    /// Opens that snapshot, which has identifiers of devices.
    pub(super) fn open(&self, cancel: &Cancel) -> Result<SnapshotReader<'_>, HistoryError> {
        let reader = SnapshotReader::open(&self.table, self.snapshot(), cancel)?;
        reader.check_columns(&[self.roles.device])?;
        Ok(reader)
    }

    /// Returns the position of the snapshot before.
    pub(super) fn before(&self) -> Option<usize> {
        self.newest.checked_sub(1)
    }

    /// Returns the position of the newest snapshot that is at least a month older.
    pub(super) fn month_before(&self) -> Option<usize> {
        let month_ago = self.date().checked_sub_days(Days::new(MONTH_DAYS))?;
        self.published[..self.newest].iter().rposition(|snapshot| snapshot.id.date() <= month_ago)
    }

    /// Returns the names of a product's columns as people know them.
    pub(super) fn name_columns(&self) -> Vec<String> {
        self.report.name.iter().map(|column| self.roles.label(column).to_owned()).collect()
    }

    /// Returns the bytes of a snapshot's data files.
    pub(super) fn bytes(&self, position: usize) -> u64 {
        self.published[position].manifest.totals.bytes
    }

    /// Returns the bytes that stand for the sections about the newest snapshot: it is read several times.
    pub(super) fn newest_bytes(&self) -> u64 {
        /// About as often as it is read.
        const READS: u64 = 4;
        READS * self.bytes(self.newest)
    }

    /// Whether what came and went is shown over time.
    pub(super) fn has_flow(&self) -> bool {
        (self.report.products.is_some() || self.report.exposure.is_some()) && self.history.len() > 1
    }

    /// Returns the bytes that stand for all work on the table.
    pub(super) fn work_bytes(&self) -> u64 {
        let history: u64 = self.history.clone().map(|position| self.bytes(position)).sum();
        let figures = if self.report.figures.is_empty() { 0 } else { history };
        let flow = if self.has_flow() { history } else { 0 };
        figures + flow + self.newest_bytes()
    }

    /// Returns the days without a snapshot between those of the history.
    fn gaps(&self) -> Vec<DayRange> {
        let pairs = self.published[self.history.clone()].windows(2);
        let gap = |pair: &[PublishedSnapshot]| {
            let first = pair[0].id.date().succ_opt()?;
            let last = pair[1].id.date().pred_opt()?;
            (first <= last).then_some(DayRange { first, last })
        };
        pairs.filter_map(gap).collect()
    }
}

fn num_days(gaps: &[DayRange]) -> u64 {
    let days = |gap: &DayRange| (gap.last - gap.first).num_days().unsigned_abs() + 1;
    gaps.iter().map(days).sum()
}

impl PageTables {
    /// Selects the snapshots that the page is about: of each table the newest that is not after the page's date.
    pub(super) fn read(lake: &Lake, request: &PageRequest) -> Result<Self, HistoryError> {
        let mut all = Vec::new();
        for dataset in lake.datasets()? {
            let table = lake.table(dataset);
            let published = table.snapshots()?;
            if !published.is_empty() && dataset.history.is_some() {
                all.push((table, published));
            }
        }
        let dates =
            || all.iter().flat_map(|(_, published)| published.iter().map(|snapshot| snapshot.id.date()));
        let date = match request.date {
            Some(date) => {
                let nearest = dates().min_by_key(|known| (*known - date).num_days().abs());
                match nearest.ok_or(HistoryError::EmptyLake)? {
                    nearest if nearest == date => date,
                    nearest => return Err(HistoryError::NoSnapshotOn { date, nearest }),
                }
            }
            None => dates().max().ok_or(HistoryError::EmptyLake)?,
        };
        let since = match request.since {
            Since::Date(since) => since.min(date),
            Since::Days(days) => date.checked_sub_days(Days::new(days.into())).unwrap_or(NaiveDate::MIN),
        };
        let mut tables = Vec::new();
        for (table, published) in all {
            let end = published.partition_point(|snapshot| snapshot.id.date() <= date);
            let Some(newest) = end.checked_sub(1) else { continue };
            let start = published.partition_point(|snapshot| snapshot.id.date() < since).min(newest);
            let roles = Roles::of(table.dataset())?;
            let report = &table.dataset().report;
            tables.push(TableSnapshots { table, roles, report, published, newest, history: start..end });
        }
        Ok(Self { tables, date, since })
    }

    /// Returns the head of the page.
    pub(super) fn head(&self, lake: &Lake, request: &PageRequest) -> Head {
        let facts = |table: &TableSnapshots| DatasetFacts {
            dataset: table.dataset().to_owned(),
            date: table.date(),
            generated_time: table.snapshot().id.generated_time(),
            rows: table.snapshot().manifest.totals.rows,
            num_snapshots: table.history.len() as u64,
            first_date: table.published[table.history.start].id.date(),
            num_missing_days: num_days(&table.gaps()),
        };
        let generated_times = self.tables.iter().map(|table| table.snapshot().id.generated_time());
        let generated_time = generated_times.max().expect("a table has a snapshot of the date");
        let mut notes = Vec::new();
        let age = request.made_at - generated_time;
        if request.date.is_none() && age.num_days() >= STALE_DAYS {
            notes.push(Note::Stale { generated_time, days: age.num_days().unsigned_abs() });
        }
        self.tables.iter().for_each(|table| notes.extend(self.notes(table)));
        Head {
            lake: lake.root().display().to_string(),
            generated_time,
            made_at: request.made_at,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            date: self.date,
            since: self.since,
            datasets: self.tables.iter().map(facts).collect(),
            notes,
        }
    }

    fn notes(&self, table: &TableSnapshots) -> Vec<Note> {
        let dataset = || table.dataset().to_owned();
        let manifest = &table.snapshot().manifest;
        let mut notes = Vec::new();
        let days = (self.date - table.date()).num_days().unsigned_abs();
        if days > 0 {
            notes.push(Note::Behind { dataset: dataset(), date: table.date(), days });
        }
        let gaps = table.gaps();
        if !gaps.is_empty() {
            notes.push(Note::MissingDays { dataset: dataset(), days: num_days(&gaps), gaps });
        }
        let (records, fields) = (manifest.totals.rejected_records, manifest.totals.field_rejects);
        if records + fields > 0 {
            notes.push(Note::Rejects { dataset: dataset(), records, fields });
        }
        if !manifest.undocumented_fields.is_empty() {
            notes.push(Note::UndocumentedFields {
                dataset: dataset(),
                fields: manifest.undocumented_fields.clone(),
            });
        }
        if table.before().is_none() {
            notes.push(Note::OneSnapshot { dataset: dataset() });
        }
        notes
    }
}
