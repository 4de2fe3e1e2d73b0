//! `trend`: shows key counts over time.

use std::path::PathBuf;

use chrono::NaiveDate;

use super::command_error::CommandResult;
use super::history::{AnswerFile, MemoryOption};
use super::output::print;
use super::runtime::start_runtime;
use super::table_options::TableOptions;
use crate::history::HistoryError;
use crate::history::roles::Roles;
use crate::history::trend::{self, By};

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
    /// Group the counts
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Show the N groups with most installations
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Write all counts to a file: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
}

pub(super) fn run(options: &TrendOptions) -> CommandResult {
    let memory_bytes = options.memory.bytes()?;
    let table = options.table.open()?;
    let roles = Roles::of(table.dataset())?;
    let by = options.by.map_or_else(Vec::new, |by| by.columns(roles));
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
    let mut out = options.out.as_deref().map(AnswerFile::new).transpose()?;
    let (runtime, cancel) = start_runtime()?;
    let result = trend::trend(&table, &published, &by, memory_bytes, &cancel);
    runtime.shutdown_background();
    let trend = result?;
    if let Some(out) = &mut out {
        out.write(&trend)?;
    }
    if let Some(out) = out {
        out.finish()?;
    }
    print(&trend::text(roles, &trend, &by, options.top)?)
}
