//! Publishing on a local disk, where folders can change places in one step.
//!
//! ```text
//! staging/<run id>/snapshot_date=2021-01-11/…   the new data folder
//! staging/<run id>/snapshot/                    the new manifest, and the rejects
//! staging/<run id>/_SUCCESS
//! staging/<run id>/intent.json                  from here on a crash is recovered from
//! ```
//!
//! 1. Everything is written and synced; the intent, a copy of the manifest, comes last.
//! 2. The data folder changes places with the one that is published, in one step of the file system.
//! 3. So does the manifest's folder, then `_SUCCESS` moves in.
//! 4. What was replaced goes, with the staging folder.
//!
//! An error before the end of step 3 is undone at once. After a crash the next run decides by where
//! the new data folder is found ([`recover`]): in its final place the publish is finished,
//! in staging it is undone. Steps 2 to 4 ask what is already done before they act, so publishing and
//! recovery are the same code. Where a file system has no exchange, the old folder is moved into
//! staging first, and for that moment readers see no snapshot of the date.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::{delta as beside, removal};
use crate::commit::{CommitError, Published, Recovered, delta_log as log, to_json};
use crate::lake::{
    LakeError, MANIFEST_FILE, SUCCESS_FILE, Table, TableLock, data_folder_name, is_ignored_file, local,
};
use crate::manifest::Manifest;
use crate::staging::Destination;

pub(in crate::commit) const INTENT_FILE: &str = "intent.json";

/// See [`TableLock::recover`].
pub(in crate::commit) fn recover(lock: &TableLock) -> Result<Vec<Recovered>, CommitError> {
    let table = lock.table();
    log::remove_unfinished(table)?;
    let mut recovered = Vec::new();
    for run_id in table.staged_runs()? {
        let folder = table.staging_root().join(&run_id);
        if let Some(is_removed) = removal::recover(table, &folder)? {
            remove_staged(table, &folder)?;
            recovered.push(if is_removed {
                Recovered::Expired { run_id }
            } else {
                Recovered::PutBack { run_id }
            });
            continue;
        }
        if let Some(of_delta) = beside::recover(lock, &folder)? {
            recovered.push(of_delta);
            continue;
        }
        let Some(manifest) = table.read_manifest(&folder.join(INTENT_FILE))? else {
            remove_staged(table, &folder)?;
            recovered.push(Recovered::Removed { run_id });
            continue;
        };
        let publish = Publish { table, folder, manifest: &manifest };
        if publish.data_is_in(&publish.data_place())? {
            publish.advance()?;
            publish.clean_up()?;
            recovered.push(Recovered::Finished { run_id, snapshot: manifest.snapshot_id() });
        } else if publish.data_is_in(&publish.data_staged())? {
            publish.undo()?;
            remove_staged(table, &publish.folder)?;
            recovered.push(Recovered::Removed { run_id });
        } else {
            return Err(CommitError::Undecided { folder: publish.folder });
        }
    }
    Ok(recovered)
}

/// Removes what a run left, first the table's folder where that run made it and published nothing.
fn remove_staged(table: &Table, folder: &Path) -> Result<(), LakeError> {
    beside::remove_empty_root(table)?;
    local::remove_tree(folder)
}

/// Puts what is staged in place. Once that cannot be taken back, or the folder may hold the only copy of
/// what was there, it is not to be removed.
pub(in crate::commit) fn publish(
    lock: &TableLock,
    destination: &mut Destination,
    manifest: &Manifest,
) -> Result<Published, CommitError> {
    let table = lock.table();
    let snapshot = manifest.snapshot_id();
    let replaced: Vec<_> =
        table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()).collect();
    let publish = Publish { table, folder: destination.folder().to_path_buf(), manifest };
    publish.write_intent(lock)?;
    let made_root = match local::create_dir(&table.root()) {
        Ok(made) => made,
        Err(error) => return Err(publish.undo_after(error, false, destination)),
    };
    if let Err(error) = publish.advance() {
        return Err(publish.undo_after(error, made_root, destination));
    }
    destination.is_removed_on_drop = false;
    let left_over = publish.clean_up().err();
    let manifest_path = table.snapshot_folder(snapshot).join(MANIFEST_FILE);
    Ok(Published { manifest_path, replaced, left_over })
}

/// One publish, by this run or an interrupted one. Every step first looks what is done already.
pub(super) struct Publish<'a> {
    pub(super) table: &'a Table,
    /// `staging/<run id>`.
    pub(super) folder: PathBuf,
    pub(super) manifest: &'a Manifest,
}

impl Publish<'_> {
    fn date(&self) -> NaiveDate {
        self.manifest.snapshot_id().date()
    }

    pub(super) fn data_place(&self) -> PathBuf {
        self.table.data_folder(self.date())
    }

    fn data_staged(&self) -> PathBuf {
        self.folder.join(data_folder_name(self.date()))
    }

    fn data_aside(&self) -> PathBuf {
        self.folder.join("replaced_data")
    }

    fn manifest_place(&self) -> PathBuf {
        self.table.snapshot_folder(self.manifest.snapshot_id())
    }

    fn manifest_staged(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    fn manifest_aside(&self) -> PathBuf {
        self.folder.join("replaced_snapshot")
    }

    /// Whether `folder` is the new data folder: it holds the files whose names carry our run. A snapshot
    /// without files is told by `_SUCCESS`, which it gets last and which the replaced one has.
    fn data_is_in(&self, folder: &Path) -> Result<bool, LakeError> {
        let found = local::list_files(folder)?;
        let prefix = data_folder_name(self.date());
        if self.manifest.files.is_empty() {
            let no_data =
                found.iter().all(|(name, bytes)| name == SUCCESS_FILE || is_ignored_file(name, *bytes));
            let success = self.table.read_success_in(folder)?;
            let no_other = success.is_none_or(|s| s.is_ok_and(|s| s.run_id == self.manifest.run_id));
            return Ok(no_data && no_other && local::is_folder(folder)?);
        }
        Ok(self.manifest.files.iter().all(|file| {
            let name = file.path.strip_prefix(&prefix).and_then(|name| name.strip_prefix('/'));
            name.is_some_and(|name| found.contains_key(name))
        }))
    }

    /// Whether the manifest in place is the new one.
    fn manifest_is_in_place(&self) -> Result<bool, LakeError> {
        match self.table.read_manifest(&self.manifest_place().join(MANIFEST_FILE)) {
            Ok(manifest) => Ok(manifest.is_some_and(|manifest| manifest.run_id == self.manifest.run_id)),
            Err(LakeError::DamagedManifest { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Step 1: brings all that was staged to disk, and says what is going to happen.
    fn write_intent(&self, lock: &TableLock) -> Result<(), LakeError> {
        self.stage_manifest(lock)?;
        let unready = self.folder.join("intent.tmp");
        local::write_new(&unready, &to_json(self.manifest))?;
        // No undo for an intent that may not have reached the disk: nothing has moved yet, so the
        // staging folder goes either way.
        local::rename(&unready, &self.folder.join(INTENT_FILE))?;
        local::sync_dir(&self.folder)
    }

    /// Brings all that was staged to disk, with manifest and `_SUCCESS`.
    pub(super) fn stage_manifest(&self, lock: &TableLock) -> Result<(), LakeError> {
        let snapshot = self.manifest_staged();
        local::write_new(&snapshot.join(MANIFEST_FILE), &to_json(self.manifest))?;
        local::write_new(&self.folder.join(SUCCESS_FILE), &to_json(&self.table.success_of(self.manifest)))?;
        let mut folders = BTreeSet::from([self.data_staged(), snapshot]);
        for file in local::list_files(&self.data_staged())?.into_keys() {
            let path = self.data_staged().join(file);
            folders.extend(path.ancestors().skip(1).take_while(|f| *f != self.folder).map(Path::to_path_buf));
        }
        folders.extend(lock.folders_above());
        folders.insert(self.table.staging_root());
        for folder in folders {
            local::sync_dir(&folder)?;
        }
        Ok(())
    }

    /// Steps 2 and 3: data folder, manifest, `_SUCCESS`.
    fn advance(&self) -> Result<(), LakeError> {
        if !self.data_is_in(&self.data_place())? {
            put(&self.data_staged(), &self.data_place(), &self.data_aside())?;
        }
        for folder in [self.table.root(), parent_of(&self.table.root()), self.folder.clone()] {
            local::sync_dir(&folder)?;
        }
        self.advance_manifest()
    }

    /// Step 3.
    pub(super) fn advance_manifest(&self) -> Result<(), LakeError> {
        local::create_dir(&self.table.snapshots_root())?;
        if !self.manifest_is_in_place()? {
            put(&self.manifest_staged(), &self.manifest_place(), &self.manifest_aside())?;
        }
        for folder in [self.table.snapshots_root(), self.table.own_root(), self.folder.clone()] {
            local::sync_dir(&folder)?;
        }
        let success = self.folder.join(SUCCESS_FILE);
        if local::exists(&success)? {
            local::rename(&success, &self.data_place().join(SUCCESS_FILE))?;
        }
        local::sync_dir(&self.data_place())
    }

    /// Step 4: removes what was replaced. The intent lasts until the older manifests of the date are
    /// out of the way, and all else is in the staging folder.
    fn clean_up(&self) -> Result<(), LakeError> {
        self.set_older_manifests_aside()?;
        local::remove_tree(&self.folder)
    }

    pub(super) fn set_older_manifests_aside(&self) -> Result<(), LakeError> {
        let id = self.manifest.snapshot_id();
        for older in self.table.snapshot_ids()?.into_iter().filter(|o| o.date() == id.date() && *o < id) {
            local::rename(
                &self.table.snapshot_folder(older),
                &self.folder.join(format!("replaced_{older}")),
            )?;
        }
        local::sync_dir(&self.table.snapshots_root())
    }

    /// Takes everything back after `failure`; returns what to report.
    fn undo_after(&self, failure: LakeError, made_root: bool, destination: &mut Destination) -> CommitError {
        let undone = self
            .undo()
            .and_then(|()| if made_root { local::remove_empty_dir(&self.table.root()) } else { Ok(()) });
        match undone {
            Ok(()) => CommitError::Lake(failure),
            Err(source) => {
                // The staging folder may hold the only copy of the old snapshot.
                destination.is_removed_on_drop = false;
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
            }
        }
    }

    /// Takes steps 2 and 3 back, as far as they went, and the intent.
    fn undo(&self) -> Result<(), LakeError> {
        if self.manifest_is_in_place()? {
            take_back(&self.manifest_staged(), &self.manifest_place(), &self.manifest_aside())?;
        } else {
            restore(&self.manifest_place(), &self.manifest_aside())?;
        }
        if self.data_is_in(&self.data_place())? && !self.data_is_in(&self.data_staged())? {
            take_back(&self.data_staged(), &self.data_place(), &self.data_aside())?;
        } else {
            restore(&self.data_place(), &self.data_aside())?;
        }
        for folder in [self.table.snapshots_root(), self.table.root()] {
            if local::exists(&folder)? {
                local::sync_dir(&folder)?;
            }
        }
        // Gone for good before the staged files go: with an intent they have to be complete.
        local::remove_file(&self.folder.join(INTENT_FILE))?;
        local::sync_dir(&self.folder)
    }
}

/// Puts the folder `new` at `place`. What was there goes to where `new` was, or, where the file system
/// cannot exchange two folders, to `aside`.
fn put(new: &Path, place: &Path, aside: &Path) -> Result<(), LakeError> {
    if !local::exists(place)? {
        return local::rename(new, place);
    }
    if local::exchange(new, place)? {
        return Ok(());
    }
    local::rename(place, aside)?;
    local::rename(new, place)
}

/// Undoes a whole [`put`].
fn take_back(new: &Path, place: &Path, aside: &Path) -> Result<(), LakeError> {
    if local::exists(new)? {
        if local::exchange(new, place)? {
            return Ok(());
        }
        return Err(local::io_error("exchange", place)(io::ErrorKind::Unsupported.into()));
    }
    local::rename(place, new)?;
    restore(place, aside)
}

/// Undoes the first half of a [`put`] without exchange.
fn restore(place: &Path, aside: &Path) -> Result<(), LakeError> {
    if local::exists(aside)? && !local::exists(place)? {
        return local::rename(aside, place);
    }
    Ok(())
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}
