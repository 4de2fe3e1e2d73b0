//! A snapshot that is staged and not yet published.

use super::disk;
use super::store::{StoreCommit, Uploaded};
use super::{CommitError, Published};
use crate::lake::{self, Place, TableKind, TableLock, local};
use crate::manifest::Manifest;
use crate::staging::Destination;

/// A snapshot being written, under the table's lock. If it is dropped unpublished, its files are removed.
#[derive(Debug)]
pub struct StagedSnapshot {
    destination: Destination,
    /// Uploads to an object store, which readers do not see yet.
    uploaded: Option<Uploaded>,
    /// Dropped last: staged files are removed under the lock.
    lock: TableLock,
}

impl StagedSnapshot {
    pub(super) fn new(lock: TableLock, destination: Destination) -> Self {
        Self { lock, destination, uploaded: None }
    }

    /// Where its files are written.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Uploads the staged files to an object store, where readers do not see them before [`Self::publish`]. Does
    /// nothing on a local disk. Calls `on_bytes` with the bytes sent and the bytes in total; stops once `cancelled`
    /// returns true.
    ///
    /// # Errors
    ///
    /// What [`Self::publish`] refuses, storage, and [`lake::LakeError::Cancelled`]. The lake is then as it was.
    pub fn upload(
        &mut self,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), CommitError> {
        if let Place::Store(store) = self.lock.table().place() {
            let run = StoreCommit::of_run(&self.lock, store, self.destination.run_id().as_str());
            self.uploaded = Some(self.upload_by(&run, manifest, on_bytes, cancelled)?);
        }
        Ok(())
    }

    fn upload_by(
        &self,
        run: &StoreCommit<'_>,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Uploaded, CommitError> {
        self.check(manifest)?;
        self.lock.check_publishable(self.destination.snapshot())?;
        run.upload(self.destination.folder(), manifest, on_bytes, cancelled)
    }

    /// Publishes the snapshot, and removes what it replaces.
    ///
    /// # Errors
    ///
    /// A manifest that does not balance or does not list exactly the staged files, what
    /// [`TableLock::check_publishable`] refuses, and storage. The lake is then as it was.
    pub fn publish(mut self, manifest: &Manifest) -> Result<Published, CommitError> {
        let lock = self.lock.clone();
        match lock.table().place() {
            Place::Disk(_) => {
                self.check(manifest)?;
                lock.check_publishable(self.destination.snapshot())?;
                let publish = match lock.kind()? {
                    TableKind::Plain => disk::swap::publish,
                    TableKind::Delta => disk::delta::publish,
                };
                publish(&lock, &mut self.destination, manifest)
            }
            Place::Store(store) => {
                let run = StoreCommit::of_run(&lock, store, self.destination.run_id().as_str());
                let uploaded = match self.uploaded.take() {
                    Some(uploaded) => uploaded,
                    None => self.upload_by(&run, manifest, &|_, _| (), &|| false)?,
                };
                run.publish(&uploaded, manifest, self.destination.folder())
            }
        }
    }

    /// Checks the manifest against the staged files.
    fn check(&self, manifest: &Manifest) -> Result<(), CommitError> {
        let fail =
            |reason: String| Err(CommitError::Inconsistent { snapshot: self.destination.snapshot(), reason });
        let dataset = self.lock.table().dataset().name;
        if (manifest.snapshot_id(), &manifest.run_id, manifest.dataset.as_str())
            != (self.destination.snapshot(), self.destination.run_id(), dataset)
        {
            return fail(format!(
                "the manifest is of {} snapshot {}, run {}; staged is {dataset}, run {}",
                manifest.dataset,
                manifest.snapshot_id(),
                manifest.run_id,
                self.destination.run_id()
            ));
        }
        if let Some(reason) = manifest.imbalance() {
            return fail(reason);
        }
        let date = self.destination.snapshot().date();
        let prefix = lake::data_folder_name(date);
        let mut staged = local::list_files(self.destination.data_folder())?;
        for file in &manifest.files {
            if file.snapshot_date != date {
                return fail(format!("{} is listed under date {}", file.path, file.snapshot_date));
            }
            let name = file.path.strip_prefix(&prefix).and_then(|name| name.strip_prefix('/'));
            match name.and_then(|name| staged.remove(name)) {
                Some(bytes) if bytes == file.bytes => {}
                Some(bytes) => {
                    return fail(format!("{} has {bytes} bytes, listed {}", file.path, file.bytes));
                }
                None => return fail(format!("{} is listed and not staged", file.path)),
            }
        }
        // File servers and desktops are quick to leave something in a new folder.
        staged.retain(|name, bytes| !lake::is_ignored_file(name, *bytes));
        if let Some(name) = staged.into_keys().next() {
            return fail(format!("{prefix}/{name} is staged and not listed"));
        }
        let has_rejects = manifest.totals.rejected_records + manifest.totals.field_rejects > 0;
        match (has_rejects, local::exists(&self.destination.rejects_path())?) {
            (true, false) => fail("the manifest counts rejects and their file is not staged".to_owned()),
            (false, true) => fail("a file of rejects is staged and the manifest counts none".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Drop for StagedSnapshot {
    fn drop(&mut self) {
        if let (Some(uploaded), Place::Store(store)) = (self.uploaded.take(), self.lock.table().place()) {
            StoreCommit::of_run(&self.lock, store, self.destination.run_id().as_str()).give_up(&uploaded);
        }
        if self.destination.is_removed_on_drop {
            disk::discard_journal(self.destination.folder());
        }
    }
}
