//! Where a snapshot's folders are on a local disk: staged, in place, and the backups of what was there.
//!
//! ```text
//! staging/<run id>/snapshot_date=2021-01-11/…   the new data folder
//! staging/<run id>/snapshot/                    the new manifest, and the rejects
//! staging/<run id>/_SUCCESS
//! staging/<run id>/replaced_…                   backups, until the change is finished
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use crate::lake::{
    LakeError, MANIFEST_FILE, SUCCESS_FILE, Table, TableLock, data_folder_name, is_ignored_file, local,
};
use crate::manifest::{Manifest, to_json};

/// The folders of one snapshot. Its methods look at what is already done before they act.
pub(super) struct Placement<'a> {
    pub table: &'a Table,
    /// `staging/<run id>`.
    pub folder: &'a Path,
    pub manifest: &'a Manifest,
}

impl Placement<'_> {
    fn date(&self) -> NaiveDate {
        self.manifest.snapshot_id().date()
    }

    pub(super) fn data_place(&self) -> PathBuf {
        self.table.data_folder(self.date())
    }

    pub(super) fn data_staged(&self) -> PathBuf {
        self.folder.join(data_folder_name(self.date()))
    }

    fn data_backup(&self) -> PathBuf {
        self.folder.join("replaced_data")
    }

    fn manifest_place(&self) -> PathBuf {
        self.table.snapshot_folder(self.manifest.snapshot_id())
    }

    fn manifest_staged(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    fn manifest_backup(&self) -> PathBuf {
        self.folder.join("replaced_snapshot")
    }

    /// Whether `folder` is the new data folder: it holds the files whose names have this run's id. A snapshot without
    /// files is recognised by `_SUCCESS`, which it gets last and which the replaced one has.
    pub(super) fn data_is_in(&self, folder: &Path) -> Result<bool, LakeError> {
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

    /// Writes the manifest and `_SUCCESS` into staging, and syncs everything that was staged.
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

    /// Swaps the data folder in.
    pub(super) fn swap_in_data(&self) -> Result<(), LakeError> {
        if !self.data_is_in(&self.data_place())? {
            swap_in(&self.data_staged(), &self.data_place(), &self.data_backup())?;
        }
        let root = self.table.root();
        for folder in [root.as_path(), local::parent(&root), self.folder] {
            local::sync_dir(folder)?;
        }
        Ok(())
    }

    /// Swaps the manifest in; then `_SUCCESS` moves to its place.
    pub(super) fn swap_in_manifest(&self) -> Result<(), LakeError> {
        local::create_dir(&self.table.snapshots_root())?;
        if !self.manifest_is_in_place()? {
            swap_in(&self.manifest_staged(), &self.manifest_place(), &self.manifest_backup())?;
        }
        for folder in [self.table.snapshots_root(), self.table.own_root(), self.folder.to_path_buf()] {
            local::sync_dir(&folder)?;
        }
        let success = self.folder.join(SUCCESS_FILE);
        if local::exists(&success)? {
            local::rename(&success, &self.data_place().join(SUCCESS_FILE))?;
        }
        local::sync_dir(&self.data_place())
    }

    /// Moves the older manifests of the date to their backups.
    pub(super) fn back_up_older_manifests(&self) -> Result<(), LakeError> {
        let id = self.manifest.snapshot_id();
        for older in self.table.snapshot_ids()?.into_iter().filter(|o| o.date() == id.date() && *o < id) {
            let backup = self.folder.join(format!("replaced_{older}"));
            local::rename(&self.table.snapshot_folder(older), &backup)?;
        }
        local::sync_dir(&self.table.snapshots_root())
    }

    /// Undoes [`Self::swap_in_manifest`] and [`Self::swap_in_data`], as far as they went.
    pub(super) fn roll_back(&self) -> Result<(), LakeError> {
        if self.manifest_is_in_place()? {
            swap_out(&self.manifest_staged(), &self.manifest_place(), &self.manifest_backup())?;
        } else {
            restore(&self.manifest_place(), &self.manifest_backup())?;
        }
        if self.data_is_in(&self.data_place())? && !self.data_is_in(&self.data_staged())? {
            swap_out(&self.data_staged(), &self.data_place(), &self.data_backup())?;
        } else {
            restore(&self.data_place(), &self.data_backup())?;
        }
        for folder in [self.table.snapshots_root(), self.table.root()] {
            if local::exists(&folder)? {
                local::sync_dir(&folder)?;
            }
        }
        Ok(())
    }
}

/// Moves the folder `new` to `place`. What was there goes to where `new` was or, if the file system cannot
/// exchange two folders, to `backup`.
fn swap_in(new: &Path, place: &Path, backup: &Path) -> Result<(), LakeError> {
    if !local::exists(place)? {
        return local::rename(new, place);
    }
    if local::exchange(new, place)? {
        return Ok(());
    }
    local::rename(place, backup)?;
    local::rename(new, place)
}

/// Undoes a whole [`swap_in`].
fn swap_out(new: &Path, place: &Path, backup: &Path) -> Result<(), LakeError> {
    if local::exists(new)? {
        if local::exchange(new, place)? {
            return Ok(());
        }
        return Err(local::io_error("exchange", place)(io::ErrorKind::Unsupported.into()));
    }
    local::rename(place, new)?;
    restore(place, backup)
}

/// Undoes the first half of a [`swap_in`] without exchange.
fn restore(place: &Path, backup: &Path) -> Result<(), LakeError> {
    if local::exists(backup)? && !local::exists(place)? {
        return local::rename(backup, place);
    }
    Ok(())
}
