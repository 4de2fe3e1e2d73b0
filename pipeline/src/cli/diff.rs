//! `diff`: shows what changed between two snapshots.

use std::path::PathBuf;

use chrono::NaiveDate;

use super::command_error::{CommandError, CommandResult};
use super::history::{AnswerFile, MemoryOption};
use super::output::{print, print_json};
use super::runtime::start_runtime;
use super::table_options::{TableOptions, find_dataset};
use crate::exit_code::ExitCode;
use crate::history::change_batches::ChangeBatches;
use crate::history::change_filter::ChangeFilter;
use crate::history::diff::Diff;
use crate::history::roles::Roles;
use crate::history::summary::{Compared, Summary};
use crate::history::{self, SnapshotReader};
use crate::lake::PublishedSnapshot;

/// The syntax of `--where`.
pub(super) const WHERE: &str = "\
Conditions of --where, by the names that a dataset has; software-inventory has vendor, product, platform and group.
  --where vendor=adobe                         one value
  --where vendor=adobe,platform=Windows11      of different fields: all
  --where vendor=adobe --where vendor=oracle   of the same field: any
Values are matched whole and as written; `group=` stands for devices without a group.
Conditions apply to the columns of a change: a change of a device itself has no vendor and no product.";

#[derive(Debug, clap::Args)]
pub(super) struct DiffOptions {
    #[command(flatten)]
    table: TableOptions,
    /// Compare with the snapshot of this date [default: the one before --to]
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// Compare the snapshot of this date [default: the newest]
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// Keep only matching changes, such as vendor=adobe,platform=Windows11; see below
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    conditions: Vec<String>,
    /// Write all changes to a file: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &DiffOptions) -> CommandResult {
    let memory_bytes = options.memory.bytes()?;
    let dataset = find_dataset(options.table.dataset.as_deref())?;
    let roles = Roles::of(dataset)?;
    let filter = ChangeFilter::parse(roles, options.conditions.iter().map(String::as_str))
        .map_err(|error| CommandError::new(ExitCode::Usage, error))?;
    let table = options.table.open()?;
    let published = table.snapshots()?;
    let (from, to) = history::choose_pair(&published, dataset.name, options.from, options.to)?;
    let (from, to) = (&published[from], &published[to]);
    let compared = |snapshot: &PublishedSnapshot| Compared {
        generated_time: snapshot.id.generated_time(),
        rows: snapshot.manifest.totals.rows,
    };
    let mut summary = Summary::new(roles, compared(from), compared(to), filter.clone());
    let mut batches = ChangeBatches::new(roles, [from, to].map(|snapshot| snapshot.id.generated_time()));
    let mut out = options.out.as_deref().map(AnswerFile::new).transpose()?;
    let (runtime, cancel) = start_runtime()?;
    let mut run = || {
        let [old, new] = [from, to].map(|snapshot| SnapshotReader::open(&table, snapshot, &cancel));
        let (old, new) = (&old?, &new?);
        let diff = Diff { roles, old, new, filter: &filter, memory_bytes };
        diff.run(&cancel, |change| {
            summary.add(change);
            match &mut out {
                Some(out) => batches.add(change, |batch| out.write(batch)),
                None => Ok(()),
            }
        })?;
        // At least one, so that a file of no changes has its columns.
        out.as_mut().map_or(Ok(()), |out| out.write(&batches.take()))
    };
    let result = run();
    runtime.shutdown_background();
    result?;
    summary.finish();
    if let Some(out) = out {
        summary.out = Some(out.path.display().to_string());
        out.finish()?;
    }
    if options.json {
        return print_json(&summary);
    }
    print(&summary.text())
}
