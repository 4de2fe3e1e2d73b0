//! Holds the manifest of a snapshot, what the tasks of its run say that they wrote, and the staged files against each
//! other. Opens no file.

use std::collections::BTreeMap;

use super::CommitError;
use crate::delta::FileStatistics;
use crate::lake::{self, LakeError, Table, check_name, local};
use crate::manifest::{DataFile, Manifest};
use crate::snapshot::SnapshotId;
use crate::staging::{Destination, Portion};

pub(super) fn inconsistent(snapshot: SnapshotId, reason: String) -> CommitError {
    CommitError::Inconsistent { snapshot, reason }
}

/// Checks that the manifest is of this run and balances, and that it lists exactly the files of `portions`. Returns the
/// statistics of its files, in order.
pub(super) fn check_manifest(
    table: &Table,
    destination: &Destination,
    manifest: &Manifest,
    portions: &[Portion],
) -> Result<Vec<FileStatistics>, CommitError> {
    let snapshot = destination.snapshot();
    let fail = |reason: String| Err(inconsistent(snapshot, reason));
    let dataset = table.dataset().name;
    if (manifest.snapshot_id(), &manifest.run_id, manifest.dataset.as_str())
        != (snapshot, destination.run_id(), dataset)
    {
        return fail(format!(
            "the manifest is of {} snapshot {}, run {}; staged is {dataset}, run {}",
            manifest.dataset,
            manifest.snapshot_id(),
            manifest.run_id,
            destination.run_id()
        ));
    }
    if let Some(reason) = manifest.imbalance() {
        return fail(reason);
    }
    let mut written = BTreeMap::new();
    for file in portions.iter().flat_map(|portion| &portion.files) {
        if written.insert(file.facts.path.as_str(), file).is_some() {
            return fail(format!("{} was written twice", file.facts.path));
        }
    }
    let mut statistics = Vec::new();
    for file in &manifest.files {
        if file.snapshot_date != snapshot.date() {
            return fail(format!("{} is listed under date {}", file.path, file.snapshot_date));
        }
        name_below_date(snapshot, file)?;
        match written.remove(file.path.as_str()) {
            Some(found) if found.facts == *file => statistics.push(found.statistics.clone()),
            Some(found) => {
                let (bytes, listed) = (found.facts.bytes, file.bytes);
                return fail(format!(
                    "{} was written with {bytes} bytes, and {listed} are listed",
                    file.path
                ));
            }
            None => return fail(format!("{} is listed and was not written", file.path)),
        }
    }
    match written.into_keys().next() {
        Some(path) => fail(format!("{path} was written and is not listed")),
        None => Ok(statistics),
    }
}

/// Checks that the folder of a run or a task holds exactly `files`, by name and size.
pub(super) fn check_staged<'f>(
    destination: &Destination,
    files: impl Iterator<Item = &'f DataFile>,
) -> Result<(), CommitError> {
    let snapshot = destination.snapshot();
    let fail = |reason: String| Err(inconsistent(snapshot, reason));
    let mut staged = local::list_files(destination.data_folder())?;
    for file in files {
        match staged.remove(name_below_date(snapshot, file)?) {
            Some(bytes) if bytes == file.bytes => {}
            Some(bytes) => return fail(format!("{} has {bytes} bytes, listed {}", file.path, file.bytes)),
            None => return fail(format!("{} is listed and not staged", file.path)),
        }
    }
    // File servers and desktops are quick to leave something in a new folder.
    staged.retain(|name, bytes| !lake::is_ignored_file(name, *bytes));
    match staged.into_keys().next() {
        Some(name) => {
            let folder = lake::data_folder_name(snapshot.date());
            fail(format!("{folder}/{name} is staged and not listed"))
        }
        None => Ok(()),
    }
}

/// Checks that the run's own folder has a file of rejects exactly if the manifest counts some.
pub(super) fn check_rejects(destination: &Destination, manifest: &Manifest) -> Result<(), CommitError> {
    let has_rejects = manifest.totals.rejected_records + manifest.totals.field_rejects > 0;
    let reason = match (has_rejects, local::exists(&destination.rejects_path())?) {
        (true, false) => "the manifest counts rejects and their file is not staged",
        (false, true) => "a file of rejects is staged and the manifest counts none",
        _ => return Ok(()),
    };
    Err(inconsistent(destination.snapshot(), reason.to_owned()))
}

/// Checks that a portion has an upload of each of its files, and no other.
pub(super) fn check_uploads(
    table: &Table,
    snapshot: SnapshotId,
    portion: &Portion,
) -> Result<(), CommitError> {
    let root = table.root();
    let wanted =
        portion.files.iter().map(|file| (table.below_lake(&root.join(&file.facts.path)), file.facts.bytes));
    let sent = portion.uploads.iter().map(|upload| (upload.path.clone(), upload.bytes));
    if wanted.eq(sent) {
        return Ok(());
    }
    Err(inconsistent(snapshot, "the uploads that were sent are not those of the files".to_owned()))
}

/// Returns a file's path from the folder of the snapshot's date, which it must be below.
fn name_below_date(snapshot: SnapshotId, file: &DataFile) -> Result<&str, LakeError> {
    check_name(&file.path)?;
    let name = file.path.strip_prefix(&lake::data_folder_name(snapshot.date()));
    name.and_then(|name| name.strip_prefix('/'))
        .ok_or_else(|| LakeError::UnsafeName { name: file.path.clone() })
}
