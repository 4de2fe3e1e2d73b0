//! A snapshot that is staged and not yet published.

use super::checks::{check_manifest, check_rejects, check_staged, check_uploads};
use super::disk;
use super::gather::{gather_files, gather_rejects};
use super::store::StoreCommit;
use super::{CommitError, Published};
use crate::lake::{Place, TableKind, TableLock};
use crate::manifest::Manifest;
use crate::staging::{Destination, Portion};

/// A snapshot being written, under the table's lock. If it is dropped unpublished, what the run and its tasks have
/// written and sent is removed.
#[derive(Debug)]
pub struct StagedSnapshot {
    destination: Destination,
    /// Whether the run's own file of rejects has those of its tasks.
    has_gathered_rejects: bool,
    /// Whether publishing has begun, which leaves nothing to give up.
    is_settled: bool,
    /// Dropped last: staged files are removed under the lock.
    lock: TableLock,
}

impl StagedSnapshot {
    pub(super) fn new(lock: TableLock, destination: Destination) -> Self {
        Self { destination, has_gathered_rejects: false, is_settled: false, lock }
    }

    /// The run's own folder. A run without tasks writes its files there.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Gathers the rejects of tasks, in the order of `portions`, in the run's own folder
    /// ([`Destination::rejects_path`]): for a run that keeps them and publishes nothing. [`Self::publish`] does so too.
    ///
    /// # Errors
    ///
    /// Rejects that are missing or not those of the portions, storage.
    pub fn gather_rejects(&mut self, portions: &[Portion]) -> Result<(), CommitError> {
        if !self.has_gathered_rejects {
            gather_rejects(self.lock.table(), &self.destination, portions)?;
            self.has_gathered_rejects = true;
        }
        Ok(())
    }

    /// Publishes the files of `portions`, which were handed over ([`super::send`]), and removes what they replace. Of a
    /// task with several attempts, `portions` has the one that counts; nothing of the others is published. Rejects of
    /// tasks are concatenated in the order of `portions`. Once `cancelled` returns true, no more of them are sent.
    ///
    /// # Errors
    ///
    /// A manifest that does not balance or does not list exactly the files of `portions`, files that are not those that
    /// it lists, what [`TableLock::check_publishable`] refuses, storage, and [`crate::lake::LakeError::Cancelled`]. The
    /// lake is then as it was.
    pub fn publish(
        mut self,
        manifest: &Manifest,
        portions: &[Portion],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Published, CommitError> {
        let lock = self.lock.clone();
        let table = lock.table();
        let statistics = check_manifest(table, &self.destination, manifest, portions)?;
        lock.check_publishable(self.destination.snapshot())?;
        self.gather_rejects(portions)?;
        check_rejects(&self.destination, manifest)?;
        match table.place() {
            Place::Disk(_) => {
                gather_files(table, &self.destination, portions)?;
                check_staged(&self.destination, manifest.files.iter())?;
                match lock.kind()? {
                    TableKind::Plain => disk::swap::publish(&lock, &self.destination, manifest),
                    TableKind::Delta => disk::delta::publish(&lock, &self.destination, manifest, &statistics),
                }
            }
            Place::Store(store) => {
                for portion in portions {
                    check_uploads(table, self.destination.snapshot(), portion)?;
                }
                self.is_settled = true;
                let run = StoreCommit::of_run(&lock, store, self.destination.run_id().as_str());
                run.publish(&self.destination, portions, manifest, &statistics, cancelled)
            }
        }
    }
}

impl Drop for StagedSnapshot {
    fn drop(&mut self) {
        match self.lock.table().place() {
            Place::Disk(_) if !self.destination.is_kept() => {
                disk::discard_journal(self.destination.folder());
            }
            Place::Store(store) if !self.is_settled => {
                StoreCommit::of_run(&self.lock, store, self.destination.run_id().as_str()).give_up();
            }
            _ => {}
        }
    }
}
