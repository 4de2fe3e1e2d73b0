//! Commit: changes a table under its lock, all or nothing.
//!
//! Takes a run's [`StagedSnapshot`], its manifest and the [`crate::staging::Portion`]s of its tasks, which they handed
//! over with [`send`], gives a [`Published`] snapshot; removes snapshots; and recovers what interrupted runs left. Opens
//! a data file only to send it, or to read the footer of one that the Delta log does not have.
//!
//! On a local disk (`disk/`) folders change places, or a Delta log decides. In an object store (`store/`), which
//! renames nothing, new objects appear beside the old ones and a journal decides. `protocol.md` has the states of both,
//! and what recovery does.

mod error;
mod outcome;
mod publishable;
mod checks;
mod gather;
mod send;
mod staged_snapshot;
pub(crate) mod delta_log;
mod disk;
mod store;

use self::delta_log::TableLog;
pub use self::error::CommitError;
pub use self::outcome::{Published, Recovered, RemovedSnapshots};
pub use self::send::send;
pub use self::staged_snapshot::StagedSnapshot;
use self::store::StoreCommit;
use crate::lake::{LakeError, Place, Table, TableKind, TableLock};
use crate::snapshot::{RunId, SnapshotId};
use crate::staging::Destination;

/// The runs that are changing `table`, or were interrupted in that.
pub(crate) fn unfinished_changes(table: &Table) -> Result<Vec<String>, LakeError> {
    match table.place() {
        Place::Disk(_) => disk::unfinished_runs(table),
        Place::Store(store) => store::unfinished_runs(table, store),
    }
}

impl TableLock {
    /// Recovers the table after runs that were killed: finishes or rolls back their changes, and removes what they
    /// staged. To be called before anything else under the lock.
    ///
    /// # Errors
    ///
    /// Storage, and [`CommitError::Unrecoverable`]. Recovery can be interrupted and repeated.
    pub fn recover(&self) -> Result<Vec<Recovered>, CommitError> {
        match self.table().place() {
            Place::Disk(_) => disk::recover(self),
            Place::Store(store) => store::recover(self, store),
        }
    }

    /// Adds the snapshots that the Delta log does not have to it, without touching their data: all of them if a plain
    /// table is to become a Delta table. Does nothing if the table stays plain.
    ///
    /// # Errors
    ///
    /// Storage, and a log that refuses the commit.
    pub fn adopt_snapshots(&self, run_id: &RunId) -> Result<(), CommitError> {
        let table = self.table();
        // Without snapshots there may be no folder either, and the first one makes the table.
        if self.kind()? == TableKind::Plain || table.snapshot_ids()?.is_empty() {
            return Ok(());
        }
        let mut log = TableLog::open_or_new(table)?;
        match table.place() {
            Place::Disk(_) => log.adopt_snapshots(),
            Place::Store(store) => {
                log.read_unseen(None)?;
                if log.has_unseen() {
                    StoreCommit::of_run(self, store, run_id.as_str()).adopt()
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Checks early what [`StagedSnapshot::publish`] would refuse: a date that holds a newer snapshot, or files that no
    /// manifest lists.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`], [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    pub fn check_publishable(&self, snapshot: SnapshotId) -> Result<(), CommitError> {
        self.unless_lost(publishable::check(self.table(), snapshot))
    }

    /// Returns `result`, or that the lock was lost if it was: what the next run writes then looks newer or foreign.
    fn unless_lost<T>(&self, result: Result<T, CommitError>) -> Result<T, CommitError> {
        result.or_else(|error| {
            self.confirm()?;
            Err(error)
        })
    }

    /// Makes the folder that a run writes its snapshot in.
    ///
    /// # Errors
    ///
    /// Storage; a run that has a staging folder already.
    pub fn stage(&self, run_id: &RunId, snapshot: SnapshotId) -> Result<StagedSnapshot, LakeError> {
        let destination = Destination::create(self.table(), snapshot, run_id, None)?;
        Ok(StagedSnapshot::new(self.clone(), destination))
    }

    /// Removes published snapshots, data and manifests, all of them or none.
    ///
    /// # Errors
    ///
    /// A snapshot that is not published or whose manifest is damaged, files in its data folder that no
    /// manifest lists, and storage. The lake is then as it was.
    pub fn remove_snapshots(
        &self,
        run_id: &RunId,
        snapshots: &[SnapshotId],
    ) -> Result<RemovedSnapshots, CommitError> {
        let table = self.table();
        let published = table.snapshots()?;
        for id in snapshots {
            let of_date: Vec<_> = published.iter().filter(|one| one.id.date() == id.date()).collect();
            self.unless_lost(publishable::check_date(table, id.date(), &of_date))?;
        }
        if let Some(log) = TableLog::open(table)? {
            log.check_removable(snapshots.iter().map(|id| id.date()))?;
        }
        match table.place() {
            Place::Disk(_) => disk::removal::remove_snapshots(table, run_id, &published, snapshots),
            Place::Store(store) => {
                StoreCommit::of_run(self, store, run_id.as_str()).remove(&published, snapshots)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
