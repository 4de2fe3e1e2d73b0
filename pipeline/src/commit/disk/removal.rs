//! Removing published snapshots from a local disk, all that were asked for or none.
//!
//! Each is hidden from readers by one rename of its data folder and one of its manifest's, and is then deleted:
//!
//! ```text
//! staging/<run id>/journal.json     the snapshots; while it exists, recovery restores all of them
//! staging/<run id>/<id>.data/       the data folder
//! staging/<run id>/<id>.snapshot/   the manifest, and the rejects
//! ```
//!
//! The journal is written first and removed when the last snapshot is moved. **This decides.** After an error before
//! that, the run rolls back at once, and after a crash the next run does; later, the staging folder is deleted like
//! any other without a journal.
//!
//! For a Delta table the removal is committed to the log before any folder moves, and that decides: from then on
//! this run or the next one finishes it.

use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};

use super::change::Change;
use super::journal::{self, DiskJournal, RemovalEntry, RemovalJournal};
use crate::commit::delta_log::TableLog;
use crate::commit::{CommitError, Recovered, RemovedSnapshots};
use crate::lake::{LakeError, PublishedSnapshot, Table, local};
use crate::snapshot::{RunId, SnapshotId};

/// See [`crate::lake::TableLock::remove_snapshots`]; `published` is what the table holds.
pub(in crate::commit) fn remove_snapshots(
    table: &Table,
    run_id: &RunId,
    published: &[PublishedSnapshot],
    snapshots: &[SnapshotId],
) -> Result<RemovedSnapshots, CommitError> {
    let folder = table.staging_root().join(run_id.as_str());
    let mut log = TableLog::open(table)?;
    let journal = RemovalJournal::new(published, snapshots, log.is_some());
    let removal = Removal { table, folder: &folder, journal: &journal };
    local::create_dir(&table.staging_root())?;
    local::create_dir(&folder)?;
    let mut moved = removal.write_journal();
    if let (Ok(()), Some(log)) = (&moved, &mut log) {
        let committed = log.remove_dates(journal.dates(), Utc::now());
        if committed.is_ok() || removal.is_in_log()? {
            let left_over = removal.finish().and_then(|()| local::remove_tree(&folder)).err();
            return Ok(RemovedSnapshots { left_over });
        }
        moved = committed;
    }
    let moved = moved.and_then(|()| removal.finish());
    if let Err(failure) = moved {
        return Err(match removal.roll_back() {
            Ok(()) => {
                // Best effort: an error is ignored. What stays is empty, and the next run removes it.
                let _ = local::remove_tree(&folder);
                CommitError::Lake(failure)
            }
            Err(source) => CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) },
        });
    }
    Ok(RemovedSnapshots { left_over: local::remove_tree(&folder).err() })
}

impl RemovalJournal {
    fn new(published: &[PublishedSnapshot], snapshots: &[SnapshotId], is_delta: bool) -> Self {
        let newest_of_date =
            |id: SnapshotId| published.iter().rev().find(|one| one.id.date() == id.date()).map(|one| one.id);
        let snapshots = snapshots
            .iter()
            .map(|&id| RemovalEntry {
                generated_time: id.generated_time(),
                has_data: newest_of_date(id) == Some(id),
            })
            .collect();
        Self { snapshots, is_delta }
    }

    /// Returns the dates whose data is removed.
    fn dates(&self) -> impl Iterator<Item = NaiveDate> {
        self.snapshots.iter().filter(|one| one.has_data).map(|one| one.generated_time.date_naive())
    }
}

/// The removal of snapshots, by this run or an interrupted one.
pub(super) struct Removal<'a> {
    pub table: &'a Table,
    /// `staging/<run id>`.
    pub folder: &'a Path,
    pub journal: &'a RemovalJournal,
}

impl Removal<'_> {
    fn write_journal(&self) -> Result<(), LakeError> {
        DiskJournal::Removal(self.journal.clone()).write(self.folder)?;
        local::sync_dir(&self.table.staging_root())
    }

    /// Returns each folder's place, and where it is moved to.
    fn moves(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        self.journal.snapshots.iter().flat_map(|snapshot| {
            let id = SnapshotId::new(snapshot.generated_time);
            let data = snapshot
                .has_data
                .then(|| (self.table.data_folder(id.date()), self.folder.join(format!("{id}.data"))));
            let manifest = (self.table.snapshot_folder(id), self.folder.join(format!("{id}.snapshot")));
            data.into_iter().chain([manifest])
        })
    }

    /// Whether the Delta log has no files of the removed dates any more.
    fn is_in_log(&self) -> Result<bool, LakeError> {
        let Some(log) = TableLog::open(self.table)?.filter(|_| self.journal.is_delta) else {
            return Ok(false);
        };
        Ok(self.journal.dates().all(|date| !log.delta().has_files_on(date)))
    }

    /// Makes the moves durable, and only then removes the journal.
    fn sync_and_remove_journal(&self) -> Result<(), LakeError> {
        for folder in [self.table.root(), self.table.snapshots_root(), self.folder.to_path_buf()] {
            local::sync_dir(&folder)?;
        }
        journal::remove(self.folder)
    }
}

impl Change for Removal<'_> {
    /// The removal from a plain table is decided when its journal goes, so never while there is one.
    fn is_decided(&self) -> Result<bool, CommitError> {
        Ok(self.is_in_log()?)
    }

    fn finish(&self) -> Result<(), LakeError> {
        for (place, moved) in self.moves() {
            // A data folder may have been deleted by hand.
            if local::exists(&place)? {
                local::rename(&place, &moved)?;
            }
        }
        self.sync_and_remove_journal()
    }

    fn roll_back(&self) -> Result<(), LakeError> {
        for (place, moved) in self.moves() {
            if local::exists(&moved)? {
                local::rename(&moved, &place)?;
            }
        }
        self.sync_and_remove_journal()
    }

    fn recovered(&self, run_id: String, is_decided: bool) -> Recovered {
        if is_decided { Recovered::Expired { run_id } } else { Recovered::RolledBack { run_id } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Recovered;
    use crate::commit::tests::{
        Content, NEXT_DAY, NOON, list_tree, lock, open_table, publish, run_id, snapshot_id, temp_dir,
    };
    use crate::lake::local::faults::{self, Fault};

    const DAY_AFTER: &str = "20210113T120000Z";

    fn lake(root: &Path) -> Table {
        let table = open_table(root);
        for (id, run) in [(NOON, "aaaaaaaa"), (NEXT_DAY, "bbbbbbbb"), (DAY_AFTER, "cccccccc")] {
            publish(&table, id, run, Content::Full).unwrap();
        }
        table
    }

    fn remove(table: &Table, ids: &[&str]) -> Result<RemovedSnapshots, CommitError> {
        let lock = table.lock(|| panic!("the lock is free"), &|| false)?;
        let ids: Vec<_> = ids.iter().map(|id| snapshot_id(id)).collect();
        lock.remove_snapshots(&run_id("dddddddd"), &ids)
    }

    #[test]
    fn removal_leaves_other_snapshots_unchanged() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let mut expected = list_tree(temp.path());
        expected.retain(|name, _| {
            !["2021-01-11", "20210111", "2021-01-12", "20210112"].iter().any(|date| name.contains(date))
        });
        assert!(remove(&table, &[NOON, NEXT_DAY]).unwrap().left_over.is_none());
        assert_eq!(list_tree(temp.path()), expected);
    }

    #[test]
    fn snapshot_whose_data_is_gone_can_be_removed() {
        let temp = temp_dir();
        let table = lake(temp.path());
        std::fs::remove_dir_all(table.data_folder(snapshot_id(NOON).date())).unwrap();
        remove(&table, &[NOON]).unwrap();
        assert_eq!(table.snapshots().unwrap().len(), 2);
    }

    #[test]
    fn foreign_file_keeps_every_snapshot() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let folder = table.data_folder(snapshot_id(NEXT_DAY).date());
        std::fs::write(folder.join("theirs.parquet"), "theirs").unwrap();
        let before = list_tree(temp.path());
        let error = remove(&table, &[NOON, NEXT_DAY]).unwrap_err();
        assert!(
            matches!(&error, CommitError::ForeignFile { name, .. } if name == "theirs.parquet"),
            "{error}"
        );
        assert_eq!(list_tree(temp.path()), before);
    }

    #[test]
    fn failure_or_crash_at_any_change_removes_all_or_none() {
        for is_crash in [false, true] {
            let mut is_removed = false;
            for step in 0.. {
                let temp = temp_dir();
                let table = lake(temp.path());
                let before = list_tree(temp.path());
                faults::set(Fault::at(step, is_crash));
                let result = remove(&table, &[NOON, NEXT_DAY]);
                let num_changes = faults::clear();
                if !is_crash && result.is_err() {
                    assert_eq!(list_tree(temp.path()), before, "failed at change {step}");
                }
                let lock = lock(&table);
                let recovered = lock.recover().unwrap();
                assert!(recovered.iter().all(|one| !matches!(one, Recovered::Finished { .. })));
                assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
                drop(lock);
                let ids: Vec<_> = table.snapshots().unwrap().iter().map(|one| one.id.to_string()).collect();
                if ids == [DAY_AFTER] {
                    is_removed = true;
                } else {
                    assert!(!is_removed && result.is_err(), "once removed they stay away");
                    assert_eq!(list_tree(temp.path()), before, "change {step}, crash: {is_crash}");
                }
                if num_changes <= step {
                    assert!(step > 5 && is_removed);
                    break;
                }
            }
        }
    }

    #[test]
    fn crash_of_a_rollback_is_recovered() {
        for first in 0.. {
            let mut num_changes = 0;
            for second in 0.. {
                let temp = temp_dir();
                let table = lake(temp.path());
                let before = list_tree(temp.path());
                faults::set(Fault { for_good: first, ..Fault::NONE });
                let removed = remove(&table, &[NOON, NEXT_DAY]).is_ok();
                num_changes = faults::clear();
                faults::set(Fault { for_good: second, ..Fault::NONE });
                let held = table.lock(|| (), &|| false);
                let _ = held.map(|lock| lock.recover());
                let num_later = faults::clear();
                lock(&table).recover().unwrap();
                let found = list_tree(temp.path());
                assert!(found == before || table.snapshots().unwrap().len() == 1, "{first} {second}");
                assert!(!removed || found != before);
                if num_later <= second {
                    break;
                }
            }
            if num_changes <= first {
                break;
            }
        }
    }
}
