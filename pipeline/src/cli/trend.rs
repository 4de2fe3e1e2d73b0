//! `trend`: shows key counts over time.

use std::ops::Range;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use chrono::NaiveDate;

use super::command_error::CommandResult;
use super::history::{AnswerFile, MemoryOption};
use super::output::{print, print_json};
use super::runtime::start_runtime;
use super::table_options::TableOptions;
use crate::history::HistoryError;
use crate::history::changes_over_time::ChangesOverTime;
use crate::history::roles::Roles;
use crate::history::trend::{By, Trend};
use crate::lake::PublishedSnapshot;

#[derive(Debug, clap::Args)]
pub(super) struct TrendOptions {
    #[command(flatten)]
    table: TableOptions,
    /// Start at this date
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// End at this date
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// Count what was installed, removed, changed and so on between every two snapshots; the lake keeps the counts
    #[arg(long, conflicts_with_all = ["by", "top"])]
    changes: bool,
    /// Group the counts: by platform, group, vendor or product, as far as the dataset has them
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Show the N groups with the highest counts
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Write all counts to a file: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
    /// Print the counts as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &TrendOptions) -> CommandResult {
    let memory_bytes = options.memory.bytes()?;
    let table = options.table.open()?;
    let roles = Roles::of(table.dataset())?;
    let by = options.by.as_deref().map(|name| By::parse(roles, name)).transpose()?;
    let by = by.as_ref().map_or(&[][..], By::columns);
    let published = table.snapshots()?;
    let range = positions(&published, options.from, options.to);
    if range.is_empty() {
        let from = options.from.map(|date| format!(" from {date}")).unwrap_or_default();
        let to = options.to.map(|date| format!(" to {date}")).unwrap_or_default();
        let range = format!("{from}{to}");
        return Err(HistoryError::NoSnapshots { dataset: table.dataset().name, range }.into());
    }
    let out = options.out.as_deref().map(AnswerFile::new).transpose()?;
    let (runtime, cancel) = start_runtime()?;
    if options.changes {
        let result = ChangesOverTime::read(&table, &published, range, memory_bytes, |_| {}, &cancel);
        runtime.shutdown_background();
        let changes = result?;
        return answer(options, out, &changes.batch(), || changes.json(), || changes.text());
    }
    let result = Trend::read(&table, &published[range], by, memory_bytes, &cancel);
    runtime.shutdown_background();
    let trend = result?;
    answer(options, out, &trend.batch(), || trend.json(options.top), || trend.text(options.top))
}

/// Writes and prints the counts as the options ask for.
fn answer(
    options: &TrendOptions,
    out: Option<AnswerFile<'_>>,
    batch: &RecordBatch,
    json: impl FnOnce() -> serde_json::Value,
    text: impl FnOnce() -> String,
) -> CommandResult {
    if let Some(mut out) = out {
        out.write(batch)?;
        out.finish()?;
    }
    if options.json { print_json(&json()) } else { print(&text()) }
}

/// Returns the positions of the snapshots from one date to another; `published` is oldest first.
fn positions(
    published: &[PublishedSnapshot],
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Range<usize> {
    let is_before = |snapshot: &PublishedSnapshot| from.is_some_and(|from| snapshot.id.date() < from);
    let is_within = |snapshot: &PublishedSnapshot| to.is_none_or(|to| snapshot.id.date() <= to);
    published.partition_point(is_before)..published.partition_point(is_within)
}
