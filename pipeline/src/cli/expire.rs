//! `expire`: shows what would be removed, asks, and removes it.

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU32;

use bytesize::ByteSize;
use chrono::Utc;

use super::command_error::{CommandError, CommandResult};
use super::log::{LogOptions, start_log};
use super::output::{after_change, print, print_json};
use super::runtime::start_runtime;
use super::snapshots::snapshots_table;
use super::table_options::{TableOptions, lake_or_default};
use crate::display::count;
use crate::exit_code::ExitCode;
use crate::expire::{self, ExpirePlan, Retention};
use crate::lake::PublishedSnapshot;
use crate::printable::printable_lines;
use crate::progress::LogWriter;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct ExpireOptions {
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    keep: KeepOptions,
    /// Remove without asking
    #[arg(long)]
    yes: bool,
    /// Remove without asking, even more than half of the table's snapshots
    #[arg(long)]
    yes_remove_most: bool,
    /// Print what would be removed, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the report as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogOptions,
}

/// The retention rules; a snapshot is kept if either rule keeps it.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct KeepOptions {
    /// Keep the snapshots of the last N days, counted back from the newest snapshot
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_days: Option<NonZeroU32>,
    /// Keep the last snapshot of each month
    #[arg(long)]
    keep_monthly: bool,
}

pub(super) fn run(options: &ExpireOptions) -> CommandResult {
    start_log(&options.log);
    let table = options.table.open()?;
    let retention = Retention { keep_days: options.keep.keep_days, keep_monthly: options.keep.keep_monthly };
    let plan = retention.plan(table.snapshots()?);
    let quiet = options.json || options.log.quiet;
    if plan.expired.is_empty() || options.dry_run {
        let outcome = if plan.expired.is_empty() {
            expire::ExpireOutcome::Unchanged
        } else {
            expire::ExpireOutcome::Planned
        };
        return print_expired(options, &plan, outcome);
    }
    let is_agreed = options.yes_remove_most || (options.yes && !plan.is_most());
    if !is_agreed {
        if options.yes || !std::io::stdin().is_terminal() {
            return Err(unasked(&plan));
        }
        if !confirm(&plan)? {
            return if quiet { Ok(ExitCode::Success) } else { print("Nothing was removed.\n") };
        }
    }
    let (runtime, cancel) = start_runtime()?;
    let removed = expire::expire(&table, &plan, &cancel);
    runtime.shutdown_background();
    removed?;
    let printed = print_expired(options, &plan, expire::ExpireOutcome::Removed);
    Ok(after_change(printed, "the snapshots were removed"))
}

/// Returns the error of a removal that was not confirmed.
fn unasked(plan: &ExpirePlan) -> CommandError {
    let (error, hint) = if plan.is_most() {
        let newest = plan
            .kept
            .last()
            .map(|snapshot| format!("; days count back from the newest, {}", snapshot.id.date()));
        let error = anyhow::anyhow!(
            "expire would permanently remove {}, more than half of the {} of {}{}",
            expired(plan),
            count((plan.kept.len() + plan.expired.len()) as u64, "snapshot"),
            plan.expired[0].manifest.dataset,
            newest.unwrap_or_default()
        );
        (error, "check with --dry-run, then pass --yes-remove-most")
    } else {
        (
            anyhow::anyhow!("expire would permanently remove {}", expired(plan)),
            "check with --dry-run, then pass --yes",
        )
    };
    CommandError::new(ExitCode::Usage, error).with_hint(hint)
}

/// Returns the number and bytes of the expired snapshots: `12 snapshots, 3.1 GiB`.
fn expired(plan: &ExpirePlan) -> String {
    format!("{}, {}", count(plan.expired.len() as u64, "snapshot"), ByteSize(plan.expired_bytes()))
}

/// Asks on the terminal. Any answer but `y` or `yes` means no.
fn confirm(plan: &ExpirePlan) -> CommandResult<bool> {
    let table = snapshots_table(&plan.expired, Utc::now());
    let most = if plan.is_most() { ", more than half of all" } else { "" };
    let question = format!("{table}\nPermanently remove these {}{most}? [y/N] ", expired(plan));
    let _ = LogWriter.write_all(printable_lines(&question).as_bytes());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| {
        CommandError::new(ExitCode::Internal, anyhow::Error::new(error).context("cannot read the answer"))
    })?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn print_expired(
    options: &ExpireOptions,
    plan: &ExpirePlan,
    outcome: expire::ExpireOutcome,
) -> CommandResult {
    if options.json {
        let ids = |snapshots: &[PublishedSnapshot]| -> Vec<String> {
            snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect()
        };
        let report = serde_json::json!({
            "outcome": outcome,
            "lake": lake_or_default(options.table.lake.as_deref()),
            "removed": ids(&plan.expired),
            "removed_bytes": plan.expired_bytes(),
            "kept": ids(&plan.kept),
        });
        return print_json(&report);
    }
    if options.log.quiet {
        return Ok(ExitCode::Success);
    }
    let kept = count(plan.kept.len() as u64, "snapshot");
    print(&match outcome {
        expire::ExpireOutcome::Unchanged => format!("Nothing to remove; {kept} kept.\n"),
        expire::ExpireOutcome::Planned => {
            let table = snapshots_table(&plan.expired, Utc::now());
            let most = if plan.is_most() { "This is more than half: pass --yes-remove-most.\n" } else { "" };
            format!("{table}\nWould remove {}; {kept} kept.\n{most}", expired(plan))
        }
        expire::ExpireOutcome::Removed => format!("Removed {}; {kept} kept.\n", expired(plan)),
    })
}
