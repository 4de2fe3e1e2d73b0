//! Compares the log of a Delta table with the manifests.
//!
//! The log must list the files that the manifests list, with the same size, rows and partition. `files` compares the
//! files themselves with the manifests.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use schema::SNAPSHOT_DATE;

use super::finding::{Fact, Finding};
use crate::commit::delta_log::TableLog;
use crate::delta::{DeltaError, LOG_FOLDER, LiveFile};
use crate::lake::{LakeError, Table};
use crate::manifest::DataFile;

/// How often the table may change during the comparison.
const MAX_ATTEMPTS: u32 = 5;

/// Compares the log of a Delta table with the manifests of all dates, or of one. A plain table has no findings.
///
/// # Errors
///
/// Fails if the log or the manifests cannot be read. A damaged log and one with unsupported features are findings;
/// [`super::verify_layout`] reports damaged manifests.
pub fn verify_log(table: &Table, only: Option<NaiveDate>) -> Result<Vec<Finding>, LakeError> {
    let mut listed = listed(table, only)?;
    let mut attempt = 1;
    loop {
        let findings = match TableLog::open(table) {
            Ok(Some(log)) => compare(table, &listed, log.delta().live_files(), only),
            Ok(None) => Vec::new(),
            Err(LakeError::Delta(error)) => vec![unreadable(table, &error)],
            Err(error) => return Err(error),
        };
        if findings.is_empty() || attempt == MAX_ATTEMPTS {
            return Ok(findings);
        }
        // A run may have published between reading the manifests and the log.
        let now = self::listed(table, only)?;
        if now == listed {
            return Ok(findings);
        }
        listed = now;
        attempt += 1;
    }
}

/// Reads the files of all manifests, by path.
fn listed(table: &Table, only: Option<NaiveDate>) -> Result<BTreeMap<String, DataFile>, LakeError> {
    let snapshots = table.try_snapshots()?.into_iter().filter_map(Result::ok);
    let of_date = snapshots.filter(|snapshot| only.is_none_or(|date| snapshot.id.date() == date));
    let files = of_date.flat_map(|snapshot| snapshot.manifest.files);
    Ok(files.map(|file| (file.path.clone(), file)).collect())
}

fn unreadable(table: &Table, error: &DeltaError) -> Finding {
    let folder = format!("{}/{LOG_FOLDER}", table.dataset().name);
    match error {
        DeltaError::Damaged { path, reason } => {
            let name = path.rsplit('/').next().unwrap_or(path);
            let file = if name == LOG_FOLDER { folder } else { format!("{folder}/{name}") };
            Finding::Unreadable { file, reason: reason.clone() }
        }
        other => Finding::Unreadable { file: folder, reason: other.to_string() },
    }
}

fn compare(
    table: &Table,
    listed: &BTreeMap<String, DataFile>,
    live: impl Iterator<Item = LiveFile>,
    only: Option<NaiveDate>,
) -> Vec<Finding> {
    let file_name = |path: &str| format!("{}/{path}", table.dataset().name);
    let mut findings = Vec::new();
    let mut missing: BTreeMap<_, _> = listed.iter().collect();
    for file in live {
        let date = file.partition_values.get(SNAPSHOT_DATE.name).and_then(Option::as_deref);
        if only.is_some_and(|only| date != Some(only.to_string().as_str())) {
            continue;
        }
        let Some(facts) = missing.remove(&file.path) else {
            findings.push(Finding::OnlyInLog { file: file_name(&file.path) });
            continue;
        };
        let mut differ = |what, expected: String, found: String| {
            if expected != found {
                findings.push(Finding::Differs { file: file_name(&file.path), what, expected, found });
            }
        };
        differ(Fact::LoggedBytes, facts.bytes.to_string(), file.bytes.to_string());
        let rows = file.rows.map_or_else(|| "none".to_owned(), |rows| rows.to_string());
        differ(Fact::LoggedRows, facts.rows.to_string(), rows);
        let partition = |date: Option<&str>, platform: Option<&str>| {
            format!("{} {}", date.unwrap_or("null"), platform.unwrap_or("null"))
        };
        let platform = table.dataset().partition_by;
        let logged = platform.and_then(|name| file.partition_values.get(name)?.as_deref());
        let expected = partition(Some(&facts.snapshot_date.to_string()), facts.os_platform.as_deref());
        differ(Fact::LoggedPartition, expected, partition(date, logged));
    }
    findings.extend(missing.into_keys().map(|path| Finding::NotInLog { file: file_name(path) }));
    findings
}
