//! Checks of a table as a whole: files of no snapshot, damaged manifests, dates with several manifests.

use std::collections::BTreeSet;

use super::finding::Finding;
use crate::commit;
use crate::delta::LOG_FOLDER;
use crate::lake::{self, LakeError, Table};
use crate::snapshot::SnapshotId;

/// Finds files that belong to no snapshot, damaged manifests, and dates with several manifests.
///
/// # Errors
///
/// Fails if the table's folders cannot be listed.
pub fn verify_layout(table: &Table) -> Result<Vec<Finding>, LakeError> {
    let mut findings = Vec::new();
    for run_id in commit::unfinished_changes(table)? {
        findings.push(Finding::UnfinishedChange { run_id });
    }
    for snapshot in table.try_snapshots()? {
        match snapshot {
            Ok(_) => {}
            Err(LakeError::DamagedManifest { path, reason }) => {
                findings.push(Finding::Unreadable { file: table.below_lake(&path), reason });
            }
            Err(LakeError::Io { path, source, .. }) => findings
                .push(Finding::Unreadable { file: table.below_lake(&path), reason: source.to_string() }),
            Err(error) => return Err(error),
        }
    }
    let mut unlisted = BTreeSet::new();
    for (path, bytes) in table.list_files(&table.snapshots_root())? {
        let name = path.split('/').next().unwrap_or_default();
        if SnapshotId::parse(name).is_none() && !lake::is_ignored_file(&path, bytes) {
            unlisted.insert(name.to_owned());
        }
    }
    findings.extend(unlisted.into_iter().map(|name| {
        let file = table.below_lake(&table.snapshots_root().join(name));
        Finding::Unlisted { file }
    }));
    findings.extend(foreign_names(table)?);
    let ids = table.snapshot_ids()?;
    for same_date in ids.chunk_by(|one, other| one.date() == other.date()).filter(|ids| ids.len() > 1) {
        let snapshots = same_date.iter().map(SnapshotId::to_string).collect();
        findings.push(Finding::SeveralManifests { date: same_date[0].date(), snapshots });
    }
    let folders: BTreeSet<_> = ids.iter().map(|id| lake::data_folder_name(id.date())).collect();
    findings.extend(files_of_no_snapshot(table, &folders)?);
    Ok(findings)
}

/// Finds what a table does not have beside its data. The cache is known, and whatever it says is not damage: it is counted
/// again.
fn foreign_names(table: &Table) -> Result<Vec<Finding>, LakeError> {
    let mut names = BTreeSet::new();
    for (path, bytes) in table.list_files(&table.own_root())? {
        let name = path.split('/').next().unwrap_or_default();
        if !lake::is_own_name(name) && !lake::is_ignored_file(&path, bytes) {
            names.insert(name.to_owned());
        }
    }
    let file = |name| table.below_lake(&table.own_root().join(name));
    Ok(names.into_iter().map(|name| Finding::Unlisted { file: file(name) }).collect())
}

/// Finds files outside of the data folders of published snapshots, which are `known`. Empty folders and ignored files
/// are not findings.
fn files_of_no_snapshot(table: &Table, known: &BTreeSet<String>) -> Result<Vec<Finding>, LakeError> {
    let prefix = format!("{}=", schema::SNAPSHOT_DATE.name);
    let mut names = BTreeSet::new();
    for (path, bytes) in table.list_files(&table.root())? {
        let first = path.split('/').next().unwrap_or_default();
        if first == LOG_FOLDER || known.contains(first) || lake::is_ignored_file(&path, bytes) {
            continue;
        }
        let name = if lake::is_ignored_folder(first) { path } else { first.to_owned() };
        names.insert(name);
    }
    let findings = names.into_iter().map(|name| {
        let path = table.below_lake(&table.root().join(&name));
        if name.starts_with(&prefix) {
            Finding::NoManifest { folder: path }
        } else {
            Finding::Unlisted { file: path }
        }
    });
    Ok(findings.collect())
}
