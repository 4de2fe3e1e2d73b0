//! Publishing: from staging to the final place, all or nothing.
//!
//! Takes the data files that a run wrote into its [`Staging`] and their manifest, gives a published
//! snapshot; never opens a data file. Staging is on a local disk always. From there a snapshot gets to its
//! place under the table's lock, in one of two ways: on a local disk folders are exchanged (`exchange.rs`); in
//! an object store, which renames nothing, new objects appear beside the old ones and one of them decides
//! (`objects.rs`). A Delta table on a local disk is published beside what is there too, since its log and not
//! a folder decides (`beside.rs`); `log.rs` is where the others write it.

mod error;
mod outcome;
mod publishable;
mod staged_snapshot;
pub(crate) mod delta_log;
mod disk;
mod store;

use serde::Serialize;

use self::delta_log::DeltaLog;
pub use self::error::CommitError;
pub use self::outcome::{Published, Recovered, RemovedSnapshots};
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
    /// Puts the table in order after runs that were killed: finishes or undoes their publish, and
    /// removes what they staged. Comes before anything else under the lock.
    ///
    /// # Errors
    ///
    /// Storage, and [`CommitError::Unrecoverable`]. Recovery can be interrupted and repeated at will.
    pub fn recover(&self) -> Result<Vec<Recovered>, CommitError> {
        match self.table().place() {
            Place::Disk(_) => disk::recover(self),
            Place::Store(store) => store::recover(self, store),
        }
    }

    /// Brings the snapshots that the log of a Delta table has not seen into it, without touching their data:
    /// all of a plain table that is to become one. Does nothing for a plain table.
    ///
    /// # Errors
    ///
    /// Storage, and a log that does not take them.
    pub fn adopt_snapshots(&self, run_id: &RunId) -> Result<(), CommitError> {
        let table = self.table();
        // Without snapshots there may be no folder either, and the first one makes the table.
        if self.kind()? == TableKind::Plain || table.snapshot_ids()?.is_empty() {
            return Ok(());
        }
        let mut log = DeltaLog::open_or_new(table)?;
        match table.place() {
            Place::Disk(_) => log.adopt_snapshots(),
            Place::Store(store) => {
                log.read_unseen(None)?;
                if log.has_unseen() { StoreCommit::new(self, store, run_id).adopt() } else { Ok(()) }
            }
        }
    }

    /// Says early what [`StagedSnapshot::publish`] would refuse: a date that holds a newer snapshot, or
    /// somebody else's files.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`], [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    pub fn check_publishable(&self, snapshot: SnapshotId) -> Result<(), CommitError> {
        self.unless_lost(publishable::check(self.table(), snapshot))
    }

    /// To a run that has lost the table, what the next one writes is neither newer nor foreign.
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
    /// Storage; a run id that is staged already.
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
        if let Some(log) = DeltaLog::open(table)? {
            log.check_removable(snapshots.iter().map(|id| id.date()))?;
        }
        match table.place() {
            Place::Disk(_) => disk::removal::remove_snapshots(table, run_id, &published, snapshots),
            Place::Store(store) => StoreCommit::new(self, store, run_id).remove(&published, snapshots),
        }
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("text keys and plain values serialise");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
pub(crate) mod tests;
