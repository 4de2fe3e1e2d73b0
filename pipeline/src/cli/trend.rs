//! `trend`: shows key counts over time.

use std::path::PathBuf;

use chrono::NaiveDate;

use super::command_error::CommandResult;
use super::history::{AnswerFile, MemoryOption};
use super::output::{print, print_json};
use super::runtime::start_runtime;
use super::table_options::TableOptions;
use crate::history::HistoryError;
use crate::history::roles::Roles;
use crate::history::trend::{By, Trend};

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
    let mut published = table.snapshots()?;
    let in_range = |date: NaiveDate| {
        options.from.is_none_or(|from| date >= from) && options.to.is_none_or(|to| date <= to)
    };
    published.retain(|snapshot| in_range(snapshot.id.date()));
    if published.is_empty() {
        let from = options.from.map(|date| format!(" from {date}")).unwrap_or_default();
        let to = options.to.map(|date| format!(" to {date}")).unwrap_or_default();
        let range = format!("{from}{to}");
        return Err(HistoryError::NoSnapshots { dataset: table.dataset().name, range }.into());
    }
    let out = options.out.as_deref().map(AnswerFile::new).transpose()?;
    let (runtime, cancel) = start_runtime()?;
    let result = Trend::read(&table, &published, by, memory_bytes, &cancel);
    runtime.shutdown_background();
    let trend = result?;
    if let Some(mut out) = out {
        out.write(&trend.batch())?;
        out.finish()?;
    }
    if options.json { print_json(&trend.json(options.top)) } else { print(&trend.text(options.top)) }
}
