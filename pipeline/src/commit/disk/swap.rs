//! Publishing a snapshot of a plain table on a local disk, where folders can change places in one step.
//!
//! 1. Everything is written and synced; the journal comes last.
//! 2. The data folder changes places with the one that is published, in one step of the file system.
//!    **This decides.**
//! 3. So does the manifest's folder, then `_SUCCESS` moves in.
//! 4. What was replaced is removed, with the staging folder.
//!
//! An error before the end of step 3 is rolled back at once. After a crash the next run looks where the new data
//! folder is: in its final place the publish is finished, in staging it is rolled back. Publishing and recovery
//! are the same code. On a file system without exchange the old folder is moved into staging first, and for that
//! moment readers see no snapshot of the date.

use std::path::Path;

use super::change::Change;
use super::journal::{self, DiskJournal, SwapJournal};
use super::placement::Placement;
use crate::commit::{CommitError, Published, Recovered};
use crate::lake::{LakeError, MANIFEST_FILE, Table, TableLock, local};
use crate::manifest::Manifest;
use crate::staging::Destination;

/// Publishes what is staged. Once that cannot be rolled back, or the folder may hold the only copy of what was
/// there, the folder is not to be removed.
pub(in crate::commit) fn publish(
    lock: &TableLock,
    destination: &Destination,
    manifest: &Manifest,
) -> Result<Published, CommitError> {
    let table = lock.table();
    let snapshot = manifest.snapshot_id();
    let replaced: Vec<_> =
        table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()).collect();
    let folder = destination.folder().to_path_buf();
    let swap = Swap { placement: Placement { table, folder: &folder, manifest } };
    swap.placement.stage_manifest(lock)?;
    // Not rolled back if the journal may not have reached the disk: nothing has moved yet, so the staging folder
    // goes either way.
    DiskJournal::Swap(SwapJournal { manifest: manifest.clone() }).write(&folder)?;
    let made_root = match local::create_dir(&table.root()) {
        Ok(made) => made,
        Err(error) => return Err(swap.roll_back_after(error, false, destination)),
    };
    if let Err(error) = swap.advance() {
        return Err(swap.roll_back_after(error, made_root, destination));
    }
    destination.keep();
    let left_over = swap.clean_up().err();
    let manifest_path = table.snapshot_folder(snapshot).join(MANIFEST_FILE);
    Ok(Published { manifest_path, replaced, left_over })
}

/// The publish of one snapshot, by this run or an interrupted one.
pub(super) struct Swap<'a> {
    placement: Placement<'a>,
}

impl<'a> Swap<'a> {
    pub(super) fn new(table: &'a Table, folder: &'a Path, journal: &'a SwapJournal) -> Self {
        Self { placement: Placement { table, folder, manifest: &journal.manifest } }
    }

    /// Steps 2 and 3.
    fn advance(&self) -> Result<(), LakeError> {
        self.placement.swap_in_data()?;
        self.placement.swap_in_manifest()
    }

    /// Step 4. The journal lasts until the older manifests of the date are out of the way, and all else is in
    /// the staging folder.
    fn clean_up(&self) -> Result<(), LakeError> {
        self.placement.back_up_older_manifests()?;
        local::remove_tree(self.placement.folder)
    }

    /// Rolls everything back after `failure`; returns the error to report.
    fn roll_back_after(&self, failure: LakeError, made_root: bool, destination: &Destination) -> CommitError {
        let root = self.placement.table.root();
        let undone =
            self.roll_back().and_then(|()| if made_root { local::remove_empty_dir(&root) } else { Ok(()) });
        match undone {
            Ok(()) => CommitError::Lake(failure),
            Err(source) => {
                // The staging folder may hold the only copy of the old snapshot.
                destination.keep();
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
            }
        }
    }
}

impl Change for Swap<'_> {
    fn is_decided(&self) -> Result<bool, CommitError> {
        let placement = &self.placement;
        if placement.data_is_in(&placement.data_place())? {
            Ok(true)
        } else if placement.data_is_in(&placement.data_staged())? {
            Ok(false)
        } else {
            Err(CommitError::Unrecoverable { folder: placement.folder.to_path_buf() })
        }
    }

    fn finish(&self) -> Result<(), LakeError> {
        self.advance()?;
        self.clean_up()
    }

    fn roll_back(&self) -> Result<(), LakeError> {
        self.placement.roll_back()?;
        // Synced before the staged files are removed: while there is a journal they have to be complete.
        journal::remove(self.placement.folder)
    }

    fn recovered(&self, run_id: String, is_decided: bool) -> Recovered {
        if is_decided {
            Recovered::Finished { run_id, snapshot: self.placement.manifest.snapshot_id() }
        } else {
            Recovered::Removed { run_id }
        }
    }
}
