//! The key figures of a table with their history, and the same figures by platform and group.
//!
//! Takes a table's snapshots; gives what `trend` and `trend --by` say of them.

use std::collections::BTreeMap;

use schema::ReportFigure;

use super::data::{Better, Breakdown, BreakdownFigure, BreakdownRow, Figure, FigureValue, Point};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::counts::{self, SnapshotCounts};
use crate::history::trend::Trend;
use crate::history::{HistoryError, SnapshotReader};

/// Platforms or groups that are shown, at most.
const MAX_BREAKDOWN_ROWS: usize = 100;

/// Returns the figures of a table. `done` is called with the bytes of snapshots that were counted.
pub(super) fn read(
    table: &TableSnapshots,
    memory_bytes: u64,
    mut done: impl FnMut(u64),
    cancel: &Cancel,
) -> Result<Vec<Figure>, HistoryError> {
    if table.report.figures.is_empty() {
        return Ok(Vec::new());
    }
    let mut positions: Vec<usize> =
        table.history.clone().chain(table.before()).chain(table.month_before()).collect();
    positions.sort_unstable();
    positions.dedup();
    let mut left: u64 = table.history.clone().map(|position| table.bytes(position)).sum();
    let counted = |position: usize| {
        let bytes = table.bytes(position).min(left);
        left -= bytes;
        done(bytes);
    };
    let trend =
        Trend::read_cached(&table.table, &table.published, &positions, memory_bytes, counted, cancel)?;
    done(left);
    let points: Vec<_> = positions.into_iter().zip(trend.counts().map(|(.., counts)| counts)).collect();
    let figure = |figure: &ReportFigure| {
        let point = |(position, counts): &(usize, &SnapshotCounts)| Point {
            date: table.published[*position].id.date(),
            value: value(table, figure, counts),
        };
        let at = |position: Option<usize>| {
            let position = position?;
            points.iter().find(|(known, _)| *known == position).map(point)
        };
        let series: Vec<_> =
            points.iter().filter(|(position, _)| table.history.contains(position)).map(point).collect();
        Figure {
            name: figure.name.to_owned(),
            title: figure.title.to_owned(),
            dataset: table.dataset().to_owned(),
            date: table.date(),
            value: series.last().expect("the history ends with the newest").value,
            before: at(table.before()),
            month_before: at(table.month_before()),
            series,
            better: match figure.better {
                schema::Better::More => Better::More,
                schema::Better::Less => Better::Less,
                schema::Better::Neither => Better::Neither,
            },
        }
    };
    Ok(table.report.figures.iter().map(figure).collect())
}

fn value(table: &TableSnapshots, figure: &ReportFigure, counts: &SnapshotCounts) -> FigureValue {
    match counts.figure(table.roles, figure.measure).expect("tests hold this") {
        counts::Figure::Count(count) => FigureValue::Count(count),
        counts::Figure::Share(share) => FigureValue::Share(share),
    }
}

/// The figures of all tables by a property of devices.
#[derive(Debug, Default)]
pub(super) struct Breakdowns {
    figures: Vec<BreakdownFigure>,
    rows: BTreeMap<Option<String>, Vec<Option<FigureValue>>>,
}

impl Breakdowns {
    /// Adds the figures of a table by one of its columns.
    pub(super) fn add(
        &mut self,
        table: &TableSnapshots,
        newest: &SnapshotReader<'_>,
        column: Option<&'static str>,
        memory_bytes: u64,
        cancel: &Cancel,
    ) -> Result<(), HistoryError> {
        let Some(column) = column.filter(|_| !table.report.figures.is_empty()) else { return Ok(()) };
        let counted = counts::count(table.roles, newest, &[column], memory_bytes, cancel)?;
        let num_before = self.figures.len();
        self.figures.extend(table.report.figures.iter().map(|figure| BreakdownFigure {
            name: figure.name.to_owned(),
            title: figure.title.to_owned(),
            dataset: table.dataset().to_owned(),
        }));
        for (values, counts) in &counted {
            let row = self.rows.entry(values[0].as_deref().map(str::to_owned)).or_default();
            row.resize(num_before, None);
            row.extend(table.report.figures.iter().map(|figure| Some(value(table, figure, counts))));
        }
        Ok(())
    }

    /// Returns the rows with the highest first figure first; nothing if there are none.
    pub(super) fn finish(self) -> Option<Breakdown> {
        let num_figures = self.figures.len();
        let mut rows: Vec<_> = self
            .rows
            .into_iter()
            .map(|(value, mut figures)| {
                figures.resize(num_figures, None);
                BreakdownRow { value, figures }
            })
            .collect();
        rows.sort_by_key(|row| match row.figures.first() {
            Some(Some(FigureValue::Count(count))) => -*count,
            _ => 0,
        });
        let left_out = rows.len().saturating_sub(MAX_BREAKDOWN_ROWS) as u64;
        rows.truncate(MAX_BREAKDOWN_ROWS);
        (!rows.is_empty()).then_some(Breakdown { figures: self.figures, rows, left_out })
    }
}
