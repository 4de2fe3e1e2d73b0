//! Changes of a table on a local disk, and how one that was interrupted ends.
//!
//! A run writes everything below `staging/<run id>/`, and then a [`DiskJournal`] that says what is about to
//! change. [`recover`] finishes a change that has a journal or rolls it back; a folder without a journal is removed. `../protocol.md` has the states. A plain table's snapshot is swapped in (`swap.rs`), a Delta table's is
//! appended (`delta.rs`), and snapshots are moved out (`removal.rs`).

mod change;
pub(super) mod delta;
pub(super) mod journal;
mod placement;
pub(super) mod removal;
pub(super) mod swap;

use std::path::Path;

use self::change::Change;
use self::delta::DeltaAppend;
use self::journal::DiskJournal;
use self::removal::Removal;
use self::swap::Swap;
use super::delta_log::{self, remove_empty_root};
use super::{CommitError, Recovered};
use crate::lake::{LakeError, Table, TableLock, local};

/// See [`TableLock::recover`].
pub(super) fn recover(lock: &TableLock) -> Result<Vec<Recovered>, CommitError> {
    let table = lock.table();
    delta_log::remove_unfinished(table)?;
    let mut recovered = Vec::new();
    for run_id in table.place().list_folders(&table.staging_root())? {
        let folder = table.staging_root().join(&run_id);
        recovered.push(match DiskJournal::read(table, &folder)? {
            None => Recovered::Removed { run_id },
            Some(DiskJournal::Swap(journal)) => settle(&Swap::new(table, &folder, &journal), run_id)?,
            Some(DiskJournal::DeltaAppend(journal)) => {
                settle(&DeltaAppend { table, folder: &folder, journal: &journal }, run_id)?
            }
            Some(DiskJournal::Removal(journal)) => {
                settle(&Removal { table, folder: &folder, journal: &journal }, run_id)?
            }
        });
        remove_empty_root(table)?;
        local::remove_tree(&folder)?;
    }
    Ok(recovered)
}

/// Finishes an interrupted change that was decided, and rolls back any other.
fn settle(change: &impl Change, run_id: String) -> Result<Recovered, CommitError> {
    let is_decided = change.is_decided()?;
    if is_decided {
        change.finish()?;
    } else {
        change.roll_back()?;
    }
    Ok(change.recovered(run_id, is_decided))
}

/// Returns the runs that have a journal: they are changing the table, or were interrupted while they did.
pub(super) fn unfinished_runs(table: &Table) -> Result<Vec<String>, LakeError> {
    let mut runs = table.place().list_folders(&table.staging_root())?;
    runs.retain(|run| journal::is_in(&table.staging_root().join(run)));
    Ok(runs)
}

/// Removes the journal in `folder` before the rest of it: while there is a journal the rest has to be complete. Best
/// effort: an error is ignored, the next run cleans up.
pub(super) fn discard_journal(folder: &Path) {
    let _ = journal::remove(folder);
}
