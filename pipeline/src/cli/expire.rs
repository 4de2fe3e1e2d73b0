//! `expire`: shows what would be removed, asks, and removes it.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU32;

use bytesize::ByteSize;
use chrono::Utc;

use super::command_error::{CommandError, CommandResult};
use super::log::{LogOptions, start_log};
use super::output::{after_change, print, print_json};
use super::runtime::start_runtime;
use super::snapshots::snapshots_table;
use super::table_options::{Tables, TablesOptions, lake_or_default};
use crate::display::count;
use crate::exit_code::ExitCode;
use crate::expire::{self, ExpireOutcome, ExpirePlan, Retention};
use crate::lake::{PublishedSnapshot, Table};
use crate::printable::printable_lines;
use crate::progress::LogWriter;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct ExpireOptions {
    #[command(flatten)]
    table: TablesOptions,
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
    /// Print the report as one JSON object on stdout; with all tables one a line
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
    let tables = options.table.open()?;
    let retention = Retention { keep_days: options.keep.keep_days, keep_monthly: options.keep.keep_monthly };
    let mut plans = Vec::new();
    let code = tables.for_each(|table| {
        plans.push((table, retention.plan(table.snapshots()?)));
        Ok(())
    })?;
    let is_silent = options.json || options.log.quiet;
    if plans.is_empty() && code == ExitCode::Success && !is_silent {
        return print("Nothing to remove: the lake has no snapshots.\n");
    }
    let mut output =
        ExpireOutput { options, tables: &tables, needs_gap: None, printed: Ok(ExitCode::Success) };
    let to_remove: Vec<_> = plans.iter().filter(|(_, plan)| !plan.expired.is_empty()).collect();
    if to_remove.is_empty() || options.dry_run {
        for (table, plan) in &plans {
            output.print(table, plan, ExpireOutcome::Planned);
        }
        return if code == ExitCode::Success { output.printed } else { Ok(code) };
    }
    let is_agreed =
        options.yes_remove_most || (options.yes && !to_remove.iter().any(|(_, plan)| plan.is_most()));
    if !is_agreed {
        if options.yes || !std::io::stdin().is_terminal() {
            return Err(unasked(&tables, &to_remove));
        }
        if !confirm(&tables, &to_remove)? {
            return if is_silent { Ok(code) } else { print("Nothing was removed.\n").map(|_| code) };
        }
    }
    let (runtime, cancel) = start_runtime()?;
    let mut is_removed = false;
    let removed = tables.each(plans.iter().map(|(table, plan)| (*table, plan)), |table, plan| {
        if !plan.expired.is_empty() {
            expire::expire(table, plan, &cancel)?;
            is_removed = true;
        }
        output.print(table, plan, ExpireOutcome::Removed);
        Ok(())
    });
    runtime.shutdown_background();
    let removed = removed?;
    if is_removed {
        after_change(output.printed, "the snapshots were removed");
    }
    Ok(if code == ExitCode::Success { removed } else { code })
}

/// Returns the error of a removal that was not confirmed.
fn unasked(tables: &Tables, plans: &[&(&Table, ExpirePlan)]) -> CommandError {
    let text = format!("expire would permanently remove {}", expired(tables, plans));
    let most = most(plans);
    let Some((table, plan)) = most.first() else {
        return CommandError::new(ExitCode::Usage, anyhow::anyhow!(text))
            .with_hint("check with --dry-run, then pass --yes");
    };
    let error = if tables.is_all() {
        anyhow::anyhow!("{text}, more than half of the snapshots of {}", names(&most))
    } else {
        let newest = plan
            .kept
            .last()
            .map(|snapshot| format!("; days count back from the newest, {}", snapshot.id.date()));
        anyhow::anyhow!(
            "{text}, more than half of the {} of {}{}",
            count((plan.kept.len() + plan.expired.len()) as u64, "snapshot"),
            table.dataset().name,
            newest.unwrap_or_default()
        )
    };
    CommandError::new(ExitCode::Usage, error).with_hint("check with --dry-run, then pass --yes-remove-most")
}

/// Returns the plans that remove more than half of a table's snapshots.
fn most<'p>(plans: &[&'p (&'p Table, ExpirePlan)]) -> Vec<&'p (&'p Table, ExpirePlan)> {
    plans.iter().copied().filter(|(_, plan)| plan.is_most()).collect()
}

fn names(plans: &[&(&Table, ExpirePlan)]) -> String {
    plans.iter().map(|(table, _)| table.dataset().name).collect::<Vec<_>>().join(", ")
}

/// Returns the number and bytes of the expired snapshots: `12 snapshots, 3.1 GiB`.
fn expired(tables: &Tables, plans: &[&(&Table, ExpirePlan)]) -> String {
    let num_snapshots: u64 = plans.iter().map(|(_, plan)| plan.expired.len() as u64).sum();
    let bytes = plans.iter().map(|(_, plan)| plan.expired_bytes()).sum();
    let datasets =
        if tables.is_all() { format!(" of {}", count(plans.len() as u64, "dataset")) } else { String::new() };
    snapshots_and_bytes(num_snapshots, &datasets, bytes)
}

fn snapshots_and_bytes(num_snapshots: u64, datasets: &str, bytes: u64) -> String {
    format!("{}{datasets}, {}", count(num_snapshots, "snapshot"), ByteSize(bytes))
}

/// Asks on the terminal, once for all tables. Any answer but `y` or `yes` means no.
fn confirm(tables: &Tables, plans: &[&(&Table, ExpirePlan)]) -> CommandResult<bool> {
    let now = Utc::now();
    let mut question = String::new();
    for (table, plan) in plans {
        let _ = writeln!(question, "{}{}", tables.heading(table), snapshots_table(&plan.expired, now));
    }
    let most = most(plans);
    let most = match (most.is_empty(), tables.is_all()) {
        (true, _) => String::new(),
        (false, false) => ", more than half of all".to_owned(),
        (false, true) => format!(", more than half of all of {}", names(&most)),
    };
    let _ = write!(question, "Permanently remove these {}{most}? [y/N] ", expired(tables, plans));
    let _ = LogWriter.write_all(printable_lines(&question).as_bytes());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| {
        CommandError::new(ExitCode::Internal, anyhow::Error::new(error).context("cannot read the answer"))
    })?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Prints what was, or would be, removed of each table.
struct ExpireOutput<'e> {
    options: &'e ExpireOptions,
    tables: &'e Tables,
    /// Whether something with a table was printed before.
    needs_gap: Option<bool>,
    printed: CommandResult,
}

impl ExpireOutput<'_> {
    /// Prints a plan, with `outcome` unless it removes nothing. After an error of printing, nothing is printed.
    fn print(&mut self, table: &Table, plan: &ExpirePlan, outcome: ExpireOutcome) {
        let outcome = if plan.expired.is_empty() { ExpireOutcome::Unchanged } else { outcome };
        if self.printed.is_err() {
            return;
        }
        if self.options.json {
            self.printed = print_json(&self.json(table, plan, outcome));
        } else if !self.options.log.quiet {
            // Of all tables, what has a table of snapshots stands apart; anything else is a line.
            let has_table = outcome == ExpireOutcome::Planned;
            let gap = if self.needs_gap.is_some_and(|before| before || has_table) { "\n" } else { "" };
            let heading = match self.tables.heading(table) {
                heading if has_table || heading.is_empty() => heading,
                heading => format!("{}: ", heading.trim_end()),
            };
            let mut text = text(plan, outcome);
            if heading.ends_with(' ') {
                text[..1].make_ascii_lowercase();
            }
            self.printed = print(&format!("{gap}{heading}{text}"));
            self.needs_gap = Some(has_table);
        }
    }

    fn json(&self, table: &Table, plan: &ExpirePlan, outcome: ExpireOutcome) -> serde_json::Value {
        let ids = |snapshots: &[PublishedSnapshot]| -> Vec<String> {
            snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect()
        };
        serde_json::json!({
            "outcome": outcome,
            "lake": lake_or_default(self.options.table.lake.as_deref()),
            "dataset": table.dataset().name,
            "removed": ids(&plan.expired),
            "removed_bytes": plan.expired_bytes(),
            "kept": ids(&plan.kept),
        })
    }
}

fn text(plan: &ExpirePlan, outcome: ExpireOutcome) -> String {
    let kept = count(plan.kept.len() as u64, "snapshot");
    let expired = snapshots_and_bytes(plan.expired.len() as u64, "", plan.expired_bytes());
    match outcome {
        ExpireOutcome::Unchanged => format!("Nothing to remove; {kept} kept.\n"),
        ExpireOutcome::Planned => {
            let table = snapshots_table(&plan.expired, Utc::now());
            let most = if plan.is_most() { "This is more than half: pass --yes-remove-most.\n" } else { "" };
            format!("{table}\nWould remove {expired}; {kept} kept.\n{most}")
        }
        ExpireOutcome::Removed => format!("Removed {expired}; {kept} kept.\n"),
    }
}
