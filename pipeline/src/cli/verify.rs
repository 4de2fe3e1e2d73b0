//! `verify`: checks the lake against its manifests and prints the findings.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use bytesize::ByteSize;

use super::command_error::{CommandError, CommandResult};
use super::log::{LogOptions, start_log};
use super::output::{print, print_json};
use super::table_options::TablesOptions;
use crate::display::count;
use crate::exit_code::ExitCode;
use crate::lake::{PublishedSnapshot, Table};
use crate::printable::printable;
use crate::progress::ByteProgress;
use crate::verify::{self, Finding, VerifyOptions, VerifyReport};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    table: TablesOptions,
    /// Verify only the snapshot of this date
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<chrono::NaiveDate>,
    /// Also count rows beyond the first of their key
    #[arg(long)]
    keys: bool,
    /// Limit the memory for counting keys [default: 256MiB]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<ByteSize>,
    /// Print the findings as one JSON object; with all tables one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogOptions,
}

pub(super) fn run(options: &VerifyArgs) -> CommandResult {
    start_log(&options.log);
    let tables = options.table.open()?;
    let mut verify_options = VerifyOptions { keys: options.keys, ..VerifyOptions::default() };
    if let Some(memory) = options.memory {
        verify_options.key_memory_bytes = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
    }
    let mut printed = Ok(ExitCode::Success);
    let mut num_tables = 0;
    let code = tables.for_each(|table| {
        let Some(verified) = verify_table(options, table, &verify_options)? else { return Ok(()) };
        num_tables += 1;
        if options.json {
            printed = print_json(&verified.to_json(table));
        } else if !options.log.quiet {
            let gap = if num_tables > 1 { "\n" } else { "" };
            printed = print(&format!("{gap}{}{}", tables.heading(table), verified.to_text()));
        }
        // Damage sets the exit code even if the findings could not be printed.
        verified.check()
    })?;
    if num_tables == 0 && code == ExitCode::Success {
        if let Some(date) = options.date {
            let missing = anyhow::anyhow!("the lake has no snapshot of {date}");
            return Err(CommandError::new(ExitCode::Lake, missing));
        }
        if !options.json && !options.log.quiet {
            printed = print(NOTHING);
        }
    }
    if code == ExitCode::Success { printed } else { Ok(code) }
}

const NOTHING: &str = "No snapshots to verify.\n";

/// What verifying a table found.
struct Verified {
    snapshots: Vec<VerifyReport>,
    /// Findings of the table as a whole.
    findings: Vec<Finding>,
}

/// Verifies a table. Returns `None` if it lacks the only snapshot that is asked for.
fn verify_table(
    options: &VerifyArgs,
    table: &Table,
    verify_options: &VerifyOptions,
) -> CommandResult<Option<Verified>> {
    let mut findings: Vec<Finding> = Vec::new();
    if options.date.is_none() {
        findings.extend(verify::verify_layout(table)?);
    }
    findings.extend(verify::delta_log::verify_log(table, options.date)?);
    let snapshots: Vec<PublishedSnapshot> = table
        .try_snapshots()?
        .into_iter()
        // Damaged manifests are findings of the layout.
        .filter_map(Result::ok)
        .filter(|snapshot| options.date.is_none_or(|date| snapshot.id.date() == date))
        .collect();
    if options.date.is_some() && snapshots.is_empty() {
        return Ok(None);
    }
    let mut reports = Vec::new();
    let total_bytes = |snapshot| verify::total_bytes(snapshot, verify_options);
    let all_bytes = snapshots.iter().map(total_bytes).fold(0, u64::saturating_add);
    let mut display = ByteProgress::start(options.log.progress_mode(), "verify", all_bytes);
    let mut done_bytes: u64 = 0;
    for snapshot in &snapshots {
        let mut tick = |progress: verify::VerifyProgress| {
            display.show(done_bytes.saturating_add(progress.bytes), &snapshot.id);
            ControlFlow::Continue(())
        };
        let report = verify::verify_snapshot(table, snapshot, verify_options, &mut tick)?;
        let dataset = table.dataset().name;
        tracing::info!(dataset, snapshot = %snapshot.id, findings = report.findings.len(), "snapshot verified");
        done_bytes = done_bytes.saturating_add(total_bytes(snapshot));
        reports.push(report);
    }
    Ok(Some(Verified { snapshots: reports, findings }))
}

impl Verified {
    fn to_json(&self, table: &Table) -> serde_json::Value {
        serde_json::json!({
            "dataset": table.dataset().name,
            "snapshots": self.snapshots,
            "findings": self.findings,
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for report in &self.snapshots {
            let keys = report
                .duplicate_keys
                .map_or_else(String::new, |keys| format!(", {}", count(keys, "duplicate key")));
            let verdict = if report.findings.is_empty() { "ok" } else { "DAMAGED" };
            let _ = writeln!(
                text,
                "{}  {verdict}  {} in {}{keys}",
                report.snapshot,
                count(report.rows, "row"),
                count(report.files, "file")
            );
            for finding in &report.findings {
                let _ = writeln!(text, "  {}", printable(&finding.to_string()));
            }
        }
        for finding in &self.findings {
            let _ = writeln!(text, "{}", printable(&finding.to_string()));
        }
        if text.is_empty() {
            text.push_str(NOTHING);
        }
        text
    }

    /// Fails if anything was found.
    fn check(&self) -> CommandResult<()> {
        let of_snapshots = self.snapshots.iter().map(|report| report.findings.len()).sum::<usize>();
        let num_findings = (self.findings.len() + of_snapshots) as u64;
        if num_findings == 0 {
            return Ok(());
        }
        let damage = anyhow::anyhow!("verify found damage: {}", count(num_findings, "finding"));
        let hint = "ingest the damaged snapshot again with --if-published replace, from kept parts or while the service still has it";
        Err(CommandError::new(ExitCode::Lake, damage).with_hint(hint))
    }
}
