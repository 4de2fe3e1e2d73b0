//! `verify`: checks the lake against its manifests and prints the findings.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use bytesize::ByteSize;

use super::command_error::{CommandError, CommandResult};
use super::log::{LogOptions, start_log};
use super::output::{print, print_json};
use super::table_options::TableOptions;
use crate::display::count;
use crate::exit_code::ExitCode;
use crate::lake::PublishedSnapshot;
use crate::printable::printable;
use crate::progress::ByteProgress;
use crate::verify::{self, Finding, VerifyOptions};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    table: TableOptions,
    /// Verify only the snapshot of this date
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<chrono::NaiveDate>,
    /// Also count rows beyond the first of their key
    #[arg(long)]
    keys: bool,
    /// Limit the memory for counting keys [default: 256MiB]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<ByteSize>,
    /// Print the findings as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogOptions,
}

pub(super) fn run(options: &VerifyArgs) -> CommandResult {
    start_log(&options.log);
    let table = options.table.open()?;
    let mut verify_options = VerifyOptions { keys: options.keys, ..VerifyOptions::default() };
    if let Some(memory) = options.memory {
        verify_options.key_memory_bytes = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
    }
    let mut findings: Vec<Finding> = Vec::new();
    if options.date.is_none() {
        findings.extend(verify::verify_layout(&table)?);
    }
    findings.extend(verify::delta_log::verify_log(&table, options.date)?);
    let snapshots: Vec<PublishedSnapshot> = table
        .try_snapshots()?
        .into_iter()
        // Damaged manifests are findings of the layout.
        .filter_map(Result::ok)
        .filter(|snapshot| options.date.is_none_or(|date| snapshot.id.date() == date))
        .collect();
    if let (Some(date), true) = (options.date, snapshots.is_empty()) {
        let missing = anyhow::anyhow!("the lake has no snapshot of {date}");
        return Err(CommandError::new(ExitCode::Lake, missing));
    }
    let mut reports = Vec::new();
    let total_bytes = |snapshot| verify::total_bytes(snapshot, &verify_options);
    let all_bytes = snapshots.iter().map(total_bytes).fold(0, u64::saturating_add);
    let mut display = ByteProgress::start(options.log.progress_mode(), "verify", all_bytes);
    let mut done_bytes: u64 = 0;
    for snapshot in &snapshots {
        let mut tick = |progress: verify::VerifyProgress| {
            display.show(done_bytes.saturating_add(progress.bytes), &snapshot.id);
            ControlFlow::Continue(())
        };
        let report = verify::verify_snapshot(&table, snapshot, &verify_options, &mut tick)?;
        tracing::info!(snapshot = %snapshot.id, findings = report.findings.len(), "snapshot verified");
        done_bytes = done_bytes.saturating_add(total_bytes(snapshot));
        reports.push(report);
    }
    drop(display);
    let num_findings = findings.len() + reports.iter().map(|report| report.findings.len()).sum::<usize>();
    let mut printed = Ok(ExitCode::Success);
    if options.json {
        printed = print_json(&serde_json::json!({ "snapshots": reports, "findings": findings }));
    } else if !options.log.quiet {
        let mut text = String::new();
        for report in &reports {
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
        for finding in &findings {
            let _ = writeln!(text, "{}", printable(&finding.to_string()));
        }
        if reports.is_empty() && findings.is_empty() {
            text.push_str("No snapshots to verify.\n");
        }
        printed = print(&text);
    }
    // Damage sets the exit code even if the findings could not be printed.
    if num_findings > 0 {
        let damage = anyhow::anyhow!("verify found damage: {}", count(num_findings as u64, "finding"));
        let hint = "ingest the damaged snapshot again with --if-published replace, from kept parts or while the service still has it";
        return Err(CommandError::new(ExitCode::Lake, damage).with_hint(hint));
    }
    printed
}
