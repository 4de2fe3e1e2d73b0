//! What a run of several datasets shows: a line for each that has ended, and a table of all in the end.

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;

use crate::display::{count, grouped, table};
use crate::ingest::{IngestError, Position, TakenDataset};
use crate::printable::printable;
use crate::report::{RunOutcome, shell_text};

/// Returns the line of a dataset that has ended: `2 of 9  software_vulnerabilities  published, 60,860 rows, 1.6 MiB`.
pub(super) fn ended_line(position: Position, taken: &TakenDataset) -> String {
    let width = schema::DATASETS.iter().map(|dataset| dataset.name.len()).max().unwrap_or(0);
    let Position { dataset, number, num_datasets } = position;
    let mut line = format!("{number} of {num_datasets}  {dataset:<width$}  {}", words(taken));
    if let Some((rows, bytes)) = amounts(taken) {
        let _ = write!(line, ", {} rows, {}", grouped(rows), ByteSize(bytes));
    }
    line
}

/// Returns how a dataset ended, in words.
fn words(taken: &TakenDataset) -> &'static str {
    match &taken.result {
        Err(IngestError::Interrupted) => "interrupted",
        _ => outcome(taken).words(),
    }
}

/// Returns a table of all datasets, and what it comes to.
pub(super) fn summary_of_several(lake: &str, taken: &[TakenDataset]) -> String {
    let header = ["dataset", "outcome", "rows", "bytes", "seconds"];
    let rows = taken.iter().map(|taken| {
        let outcome = outcome(taken);
        let (rows, bytes) = amounts(taken).unzip();
        vec![
            taken.dataset.name.to_owned(),
            words(taken).to_owned(),
            rows.map(grouped).unwrap_or_default(),
            bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default(),
            if outcome == RunOutcome::NotPermitted { String::new() } else { seconds(taken.elapsed) },
        ]
    });
    let mut text = table(&header, 2, rows);
    let _ = writeln!(text, "\n{}", total(lake, taken));
    for (hint, datasets) in hints(taken) {
        let _ = writeln!(text, "Not permitted: {}: {hint}.", datasets.join(", "));
    }
    if taken.iter().any(|taken| outcome(taken) == RunOutcome::Published) {
        let lake = shell_text(lake);
        let _ = writeln!(
            text,
            "\nTables and views for DuckDB:\n  defender-lake schema --lake {lake} --format duckdb"
        );
    }
    text
}

/// Returns the line below the table: `9 datasets to ./lake in 3.4 s: 7 published, 1 skipped, 1 failed; 60,860 rows, 1.6 MiB`.
fn total(lake: &str, taken: &[TakenDataset]) -> String {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for words in taken.iter().map(words) {
        match counts.iter_mut().find(|(known, _)| *known == words) {
            Some((_, number)) => *number += 1,
            None => counts.push((words, 1)),
        }
    }
    let counts =
        counts.iter().map(|(words, number)| format!("{number} {words}")).collect::<Vec<_>>().join(", ");
    let elapsed = seconds(taken.iter().map(|taken| taken.elapsed).sum());
    let (rows, bytes) = taken.iter().filter_map(amounts).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    let amounts =
        if rows > 0 { format!("; {} rows, {}", grouped(rows), ByteSize(bytes)) } else { String::new() };
    let datasets = count(taken.len() as u64, "dataset");
    format!("{datasets} to {} in {elapsed} s: {counts}{amounts}", printable(lake))
}

/// What to do about datasets that are not permitted, and those that it is about.
fn hints(taken: &[TakenDataset]) -> Vec<(&str, Vec<&'static str>)> {
    let mut hints: Vec<(&str, Vec<&'static str>)> = Vec::new();
    for taken in taken {
        if let Ok(report) = &taken.result
            && report.outcome == RunOutcome::NotPermitted
        {
            let hint = report.hint().unwrap_or_default();
            match hints.iter_mut().find(|(known, _)| *known == hint) {
                Some((_, datasets)) => datasets.push(taken.dataset.name),
                None => hints.push((hint, vec![taken.dataset.name])),
            }
        }
    }
    hints
}

fn outcome(taken: &TakenDataset) -> RunOutcome {
    taken.result.as_ref().map_or(RunOutcome::Failed, |report| report.outcome)
}

/// Rows and bytes of what was published.
fn amounts(taken: &TakenDataset) -> Option<(u64, u64)> {
    let totals = taken.result.as_ref().ok()?.totals()?;
    Some((totals.rows, totals.bytes))
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1}", elapsed.as_secs_f64())
}
