//! Publishing a snapshot of a Delta table on a local disk: new files beside old ones, and the log decides.
//!
//! 1. Everything is written and synced; the journal comes last. It names the new and the replaced files, and has
//!    the transaction number of the commit.
//! 2. The new files move to their places. No other file ever had their names, and readers of the log do not
//!    see them.
//! 3. The log commit. **This decides.**
//! 4. The manifest changes places with the old one, and `_SUCCESS` moves in.
//! 5. What was replaced is removed, manifests before files; then the staging folder.
//!
//! An error before step 3 is rolled back at once. After it nothing can be rolled back, and what is left is done by
//! this run or the next. After a crash the next run looks for the transaction in the log: if it is there, the run
//! goes on from step 4, else it undoes step 2.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::change::Change;
use super::journal::{self, DeltaAppendJournal, DiskJournal};
use super::placement::Placement;
use crate::commit::delta_log::{TableLog, remove_empty_root};
use crate::commit::{CommitError, Published, Recovered};
use crate::delta::FileStatistics;
use crate::lake::{LakeError, MANIFEST_FILE, Table, TableLock, local};
use crate::manifest::Manifest;
use crate::staging::Destination;

/// Publishes what is staged, with the snapshots that the log does not have. `statistics` are of the manifest's files, in
/// order. Once that cannot be rolled back, the folder is not to be removed.
pub(in crate::commit) fn publish(
    lock: &TableLock,
    destination: &Destination,
    manifest: &Manifest,
    statistics: &[FileStatistics],
) -> Result<Published, CommitError> {
    let table = lock.table();
    let result = local::create_dir(&table.root())
        .map_err(CommitError::from)
        .and_then(|_| publish_in_root(lock, destination, manifest, statistics));
    if result.is_err() {
        // Best effort: an error is ignored. What stays is empty, and the next run removes it.
        let _ = remove_empty_root(table);
    }
    result
}

fn publish_in_root(
    lock: &TableLock,
    destination: &Destination,
    manifest: &Manifest,
    statistics: &[FileStatistics],
) -> Result<Published, CommitError> {
    let table = lock.table();
    let folder = destination.folder().to_path_buf();
    let snapshot = manifest.snapshot_id();
    let mut log = TableLog::open_or_new(table)?;
    log.read_unseen(Some(snapshot.date()))?;
    let mut replaced = Vec::new();
    let mut replaced_files = Vec::new();
    for id in table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()) {
        replaced.push(id);
        let files = table.read_snapshot(id)?.map(|old| old.manifest.files).unwrap_or_default();
        replaced_files.extend(files.into_iter().map(|file| file.path));
    }
    let transaction = log.delta().next_transaction(snapshot);
    let journal = DeltaAppendJournal { transaction, replaced: replaced_files, manifest: manifest.clone() };
    let append = DeltaAppend { table, folder: &folder, journal: &journal };
    append.placement().stage_manifest(lock)?;
    DiskJournal::DeltaAppend(journal.clone()).write(&folder)?;
    let failure = match append.place_files() {
        Ok(()) => log.publish(manifest, transaction, statistics).err(),
        Err(failure) => Some(failure.into()),
    };
    if let Some(failure) = failure
        && !append.settle(&failure, destination)?
    {
        return Err(failure);
    }
    destination.keep();
    let left_over = append.finish().err();
    let manifest_path = table.snapshot_folder(snapshot).join(MANIFEST_FILE);
    Ok(Published { manifest_path, replaced, left_over })
}

/// The publish of one snapshot, by this run or an interrupted one.
pub(super) struct DeltaAppend<'a> {
    pub table: &'a Table,
    /// `staging/<run id>`.
    pub folder: &'a Path,
    pub journal: &'a DeltaAppendJournal,
}

impl DeltaAppend<'_> {
    fn placement(&self) -> Placement<'_> {
        Placement { table: self.table, folder: self.folder, manifest: &self.journal.manifest }
    }

    fn places(&self) -> impl Iterator<Item = PathBuf> {
        let root = self.table.root();
        self.journal.manifest.files.iter().map(move |file| root.join(&file.path))
    }

    /// The folders that the new files are in, innermost first.
    fn folders(&self) -> Vec<PathBuf> {
        let root = self.table.root();
        let mut folders = BTreeSet::from([self.placement().data_place()]);
        for place in self.places() {
            folders.extend(place.ancestors().skip(1).take_while(|f| *f != root).map(Path::to_path_buf));
        }
        folders.into_iter().rev().collect()
    }

    /// Step 2.
    fn place_files(&self) -> Result<(), LakeError> {
        let folders = self.folders();
        for folder in folders.iter().rev() {
            local::create_dir(folder)?;
        }
        for (file, place) in self.journal.manifest.files.iter().zip(self.places()) {
            local::rename(&self.folder.join(&file.path), &place)?;
        }
        for folder in folders.iter().chain([&self.table.root()]) {
            local::sync_dir(folder)?;
        }
        local::sync_dir(local::parent(&self.table.root()))
    }

    fn is_in_log(&self) -> Result<bool, LakeError> {
        let log = TableLog::open(self.table)?;
        let DeltaAppendJournal { manifest, transaction, .. } = self.journal;
        Ok(log.is_some_and(|log| log.has_committed(manifest, *transaction)))
    }

    /// Returns, after a failure, whether the commit is in the log all the same; rolls everything back if it is not.
    /// If either fails, the next run has to.
    fn settle(&self, failure: &CommitError, destination: &Destination) -> Result<bool, CommitError> {
        let settled = self.is_in_log().and_then(|is_in_log| {
            if !is_in_log {
                self.roll_back()?;
            }
            Ok(is_in_log)
        });
        settled.map_err(|source| {
            destination.keep();
            CommitError::CommitStateUnknown { failure: failure.to_string(), source: Box::new(source) }
        })
    }
}

impl Change for DeltaAppend<'_> {
    fn is_decided(&self) -> Result<bool, CommitError> {
        Ok(self.is_in_log()?)
    }

    /// Steps 4 and 5.
    fn finish(&self) -> Result<(), LakeError> {
        let placement = self.placement();
        placement.swap_in_manifest()?;
        placement.back_up_older_manifests()?;
        let new: BTreeSet<_> = self.journal.manifest.files.iter().map(|file| &file.path).collect();
        for path in self.journal.replaced.iter().filter(|path| !new.contains(path)) {
            let place = self.table.root().join(path);
            local::remove_file(&place)?;
            local::remove_empty_dir(local::parent(&place))?;
        }
        local::remove_tree(self.folder)
    }

    /// Undoes step 2.
    fn roll_back(&self) -> Result<(), LakeError> {
        for place in self.places() {
            local::remove_file(&place)?;
        }
        for folder in self.folders() {
            local::remove_empty_dir(&folder)?;
        }
        remove_empty_root(self.table)?;
        journal::remove(self.folder)
    }

    fn recovered(&self, run_id: String, is_decided: bool) -> Recovered {
        if is_decided {
            Recovered::Finished { run_id, snapshot: self.journal.manifest.snapshot_id() }
        } else {
            Recovered::Removed { run_id }
        }
    }
}
