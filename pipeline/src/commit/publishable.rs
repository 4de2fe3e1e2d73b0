//! Checks whether a snapshot may be published on its date.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::CommitError;
use super::delta_log::TableLog;
use crate::lake::{self, PublishedSnapshot, SUCCESS_FILE, Table};
use crate::snapshot::SnapshotId;

/// See [`crate::lake::TableLock::check_publishable`].
pub(super) fn check(table: &Table, snapshot: SnapshotId) -> Result<(), CommitError> {
    let mut of_date = Vec::new();
    for published in table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()) {
        if published > snapshot {
            return Err(CommitError::Superseded { snapshot, published });
        }
        of_date.extend(table.read_snapshot(published)?);
    }
    check_date(table, snapshot.date(), &of_date.iter().collect::<Vec<_>>())?;
    match TableLog::open(table)? {
        Some(log) => Ok(log.check_publishable(snapshot.date())?),
        None => Ok(()),
    }
}

/// Checks that the data folder of `date` holds only files that the manifests of `published` list.
///
/// # Errors
///
/// [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
pub(super) fn check_date(
    table: &Table,
    date: NaiveDate,
    published: &[&PublishedSnapshot],
) -> Result<(), CommitError> {
    let folder = table.data_folder(date);
    if table.place().is_obstructed(&folder)? {
        return Err(CommitError::NotAFolder { path: folder });
    }
    let listed: BTreeSet<&str> =
        published.iter().flat_map(|one| &one.manifest.files).map(|file| file.path.as_str()).collect();
    let prefix = lake::data_folder_name(date);
    let is_ours = |name: &str, bytes: u64| {
        lake::is_ignored_file(name, bytes)
            || (!published.is_empty() && name == SUCCESS_FILE)
            || listed.contains(format!("{prefix}/{name}").as_str())
    };
    match table.list_files(&folder)?.into_iter().find(|(name, bytes)| !is_ours(name, *bytes)) {
        Some((name, _)) => Err(CommitError::ForeignFile { folder, name }),
        None => Ok(()),
    }
}
