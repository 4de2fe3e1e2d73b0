//! `snapshots`: lists the published snapshots.

use std::fmt::Write as _;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use tracing::level_filters::LevelFilter;

use super::command_error::CommandResult;
use super::log::{LogFormat, start_log_at};
use super::output::{print, print_json};
use super::table_options::TablesOptions;
use crate::display::{count, grouped, table, time_cell};
use crate::exit_code::ExitCode;
use crate::lake::PublishedSnapshot;

#[derive(Debug, clap::Args)]
pub(super) struct SnapshotsOptions {
    #[command(flatten)]
    table: TablesOptions,
    /// Print the manifests as a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &SnapshotsOptions) -> CommandResult {
    start_log_at(LevelFilter::WARN, LogFormat::Text);
    let tables = options.table.open()?;
    let mut listed = Vec::new();
    let code = tables.for_each(|table| {
        listed.push((table, table.snapshots()?));
        Ok(())
    })?;
    let printed = if options.json {
        let snapshots = listed.iter().flat_map(|(_, snapshots)| snapshots);
        print_json(&snapshots.map(|snapshot| &snapshot.manifest).collect::<Vec<_>>())
    } else {
        let now = Utc::now();
        let sections = listed.iter().map(|(table, snapshots)| {
            let text = if snapshots.is_empty() {
                format!("No snapshots of {} yet.\n", table.dataset().name)
            } else {
                format!("{}\n{}", snapshots_table(snapshots, now), snapshots_summary(snapshots, now))
            };
            tables.heading(table) + &text
        });
        let sections: Vec<_> = sections.collect();
        print(&if sections.is_empty() { "No snapshots yet.\n".to_owned() } else { sections.join("\n") })
    };
    if code == ExitCode::Success { printed } else { Ok(code) }
}

/// Returns the snapshots as a table. Ages count from the generated time until `now`.
pub(super) fn snapshots_table(snapshots: &[PublishedSnapshot], now: DateTime<Utc>) -> String {
    let header = ["date", "generated", "age", "rows", "files", "bytes", "rejected", "field rejects"];
    let rows = snapshots.iter().map(|PublishedSnapshot { id, manifest, .. }| {
        let totals = &manifest.totals;
        vec![
            id.date().to_string(),
            time_cell(&manifest.generated_time),
            age(now - manifest.generated_time),
            grouped(totals.rows),
            grouped(totals.files),
            ByteSize(totals.bytes).to_string(),
            grouped(totals.rejected_records),
            grouped(totals.field_rejects),
        ]
    });
    table(&header, 2, rows)
}

/// Returns a line with the number and bytes of all snapshots, missing days and the age of the newest.
fn snapshots_summary(snapshots: &[PublishedSnapshot], now: DateTime<Utc>) -> String {
    let bytes: u64 = snapshots.iter().map(|snapshot| snapshot.manifest.totals.bytes).sum();
    let mut text = format!("{}, {}", count(snapshots.len() as u64, "snapshot"), ByteSize(bytes));
    if let [first, .., last] = snapshots {
        let num_days = (last.id.date() - first.id.date()).num_days() + 1;
        let num_dates = snapshots.chunk_by(|one, other| one.id.date() == other.id.date()).count();
        let missing = u64::try_from(num_days).unwrap_or(0).saturating_sub(num_dates as u64);
        if missing > 0 {
            let _ = write!(text, "; {} missing in between", count(missing, "day"));
        }
    }
    if let Some(newest) = snapshots.last() {
        let _ = write!(text, "; the newest was generated {} ago", age(now - newest.manifest.generated_time));
    }
    text.push('\n');
    text
}

/// Returns an age in its largest unit: `3 h`, `5 days`.
fn age(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (..0, ..) | (_, ..0, _) | (.., ..=0) => "0 min".to_owned(),
        (_, 0, minutes) => format!("{minutes} min"),
        (..2, hours, _) => format!("{hours} h"),
        (days, ..) => count(days.unsigned_abs(), "day"),
    }
}
