//! Removing published snapshots for good, all that were asked for or none.
//!
//! Takes the ids of snapshots, moves each out of readers' sight with one rename of its data folder and
//! one of its manifest's, and then deletes them. On disk, under the table's lock:
//!
//! ```text
//! staging/<run id>/removal.json     the snapshots; while it is there, all of them are to come back
//! staging/<run id>/<id>.data/       the data folder
//! staging/<run id>/<id>.snapshot/   the manifest, and the rejects
//! ```
//!
//! `removal.json` comes first and goes when the last snapshot is moved: that is the moment of decision.
//! An error before it is undone at once, a crash by the next run ([`super::swap`]); after it,
//! what is in staging is deleted like everything that no intent holds.
//!
//! Of a Delta table the removal is committed to the log before any folder moves, and that decides: from then
//! on this run or the next one carries it to its end.

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::commit::delta_log::Log;
use crate::commit::{CommitError, RemovedSnapshots, to_json};
use crate::lake::{LakeError, PublishedSnapshot, Table, local};
use crate::snapshot::{RunId, SnapshotId};

pub(in crate::commit) const REMOVAL_FILE: &str = "removal.json";

/// Some 20 bytes a snapshot: a century of days is under a megabyte.
const MAX_REMOVAL_BYTES: u64 = 16 << 20;

/// See [`crate::lake::TableLock::remove_snapshots`]; `published` is what the table holds.
pub(in crate::commit) fn remove_snapshots(
    table: &Table,
    run_id: &RunId,
    published: &[PublishedSnapshot],
    snapshots: &[SnapshotId],
) -> Result<RemovedSnapshots, CommitError> {
    let removal = Removal { table, folder: table.staging_root().join(run_id.as_str()) };
    let mut log = Log::open(table)?;
    let listed = Listed::new(published, snapshots, log.is_some());
    local::create_dir(&table.staging_root())?;
    local::create_dir(&removal.folder)?;
    let mut moved = removal.announce(&listed);
    if let (Ok(()), Some(log)) = (&moved, &mut log) {
        let committed = log.remove_dates(listed.dates(), Utc::now());
        if committed.is_ok() || removal.is_in_log(&listed)? {
            let left_over = removal.take(&listed).and_then(|()| local::remove_tree(&removal.folder)).err();
            return Ok(RemovedSnapshots { left_over });
        }
        moved = committed;
    }
    let moved = moved.and_then(|()| removal.take(&listed));
    if let Err(failure) = moved {
        return Err(match removal.put_back(&listed) {
            Ok(()) => {
                // What cannot be removed now is empty, and the next run removes it.
                let _ = local::remove_tree(&removal.folder);
                CommitError::Lake(failure)
            }
            Err(source) => CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) },
        });
    }
    Ok(RemovedSnapshots { left_over: local::remove_tree(&removal.folder).err() })
}

/// Finishes an interrupted removal that is in the log of a Delta table, puts back what any other had taken;
/// says which, and nothing where `folder` is no removal's.
pub(super) fn recover(table: &Table, folder: &Path) -> Result<Option<bool>, CommitError> {
    let path = folder.join(REMOVAL_FILE);
    let Some(bytes) = local::read_bounded(&path, MAX_REMOVAL_BYTES)? else { return Ok(None) };
    let listed = serde_json::from_slice(&bytes)
        .map_err(|error| LakeError::DamagedManifest { path, reason: error.to_string() })?;
    let removal = Removal { table, folder: folder.to_path_buf() };
    let is_in_log = removal.is_in_log(&listed)?;
    if is_in_log {
        removal.take(&listed)?;
    } else {
        removal.put_back(&listed)?;
    }
    Ok(Some(is_in_log))
}

/// What `removal.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    snapshots: Vec<ListedSnapshot>,
    /// Whether the table is a Delta table.
    #[serde(default)]
    is_delta: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ListedSnapshot {
    #[serde(with = "crate::manifest::rfc3339_seconds")]
    generated_time: DateTime<Utc>,
    /// Whether the data folder of the date is this snapshot's, and not a newer one's.
    has_data: bool,
}

impl Listed {
    fn new(published: &[PublishedSnapshot], snapshots: &[SnapshotId], is_delta: bool) -> Self {
        let newest_of_date =
            |id: SnapshotId| published.iter().rev().find(|one| one.id.date() == id.date()).map(|one| one.id);
        let snapshots = snapshots
            .iter()
            .map(|&id| ListedSnapshot {
                generated_time: id.generated_time(),
                has_data: newest_of_date(id) == Some(id),
            })
            .collect();
        Self { snapshots, is_delta }
    }

    /// The dates whose data goes.
    fn dates(&self) -> impl Iterator<Item = NaiveDate> {
        self.snapshots.iter().filter(|one| one.has_data).map(|one| one.generated_time.date_naive())
    }
}

struct Removal<'a> {
    table: &'a Table,
    /// `staging/<run id>`.
    folder: PathBuf,
}

impl Removal<'_> {
    /// Where the folders of a snapshot are, and where they are taken to.
    fn moves(&self, snapshot: &ListedSnapshot) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let id = SnapshotId::new(snapshot.generated_time);
        let data = snapshot
            .has_data
            .then(|| (self.table.data_folder(id.date()), self.folder.join(format!("{id}.data"))));
        let manifest = (self.table.snapshot_folder(id), self.folder.join(format!("{id}.snapshot")));
        data.into_iter().chain([manifest])
    }

    fn announce(&self, listed: &Listed) -> Result<(), LakeError> {
        let unready = self.folder.join("removal.tmp");
        local::write_new(&unready, &to_json(listed))?;
        local::rename(&unready, &self.folder.join(REMOVAL_FILE))?;
        local::sync_dir(&self.folder)?;
        local::sync_dir(&self.table.staging_root())
    }

    /// Whether the log of a Delta table has nothing any more of the dates whose data goes.
    fn is_in_log(&self, listed: &Listed) -> Result<bool, LakeError> {
        let Some(log) = Log::open(self.table)?.filter(|_| listed.is_delta) else { return Ok(false) };
        Ok(listed.dates().all(|date| !log.delta().has_files_on(date)))
    }

    fn take(&self, listed: &Listed) -> Result<(), LakeError> {
        for (place, taken) in listed.snapshots.iter().flat_map(|snapshot| self.moves(snapshot)) {
            // Somebody may have deleted a data folder by hand.
            if local::exists(&place)? {
                local::rename(&place, &taken)?;
            }
        }
        self.conclude()
    }

    /// Undoes [`Self::take`], as far as it went. Can be interrupted and repeated.
    fn put_back(&self, listed: &Listed) -> Result<(), LakeError> {
        for (place, taken) in listed.snapshots.iter().flat_map(|snapshot| self.moves(snapshot)) {
            if local::exists(&taken)? {
                local::rename(&taken, &place)?;
            }
        }
        self.conclude()
    }

    /// Makes the moves durable, and only then forgets what was to be moved.
    fn conclude(&self) -> Result<(), LakeError> {
        for folder in [self.table.root(), self.table.snapshots_root(), self.folder.clone()] {
            local::sync_dir(&folder)?;
        }
        local::remove_file(&self.folder.join(REMOVAL_FILE))?;
        local::sync_dir(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Recovered;
    use crate::commit::tests::{
        Content, NEXT_DAY, NOON, lock, open_table, picture, publish, run_id, snapshot_id, temp_dir,
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
        let lock = table.lock(|| panic!("nobody holds the lock"), &|| false)?;
        let ids: Vec<_> = ids.iter().map(|id| snapshot_id(id)).collect();
        lock.remove_snapshots(&run_id("dddddddd"), &ids)
    }

    #[test]
    fn removed_snapshots_leave_nothing_and_the_others_as_they_were() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let mut expected = picture(temp.path());
        expected.retain(|name, _| {
            !["2021-01-11", "20210111", "2021-01-12", "20210112"].iter().any(|date| name.contains(date))
        });
        assert!(remove(&table, &[NOON, NEXT_DAY]).unwrap().left_over.is_none());
        assert_eq!(picture(temp.path()), expected);
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
        let before = picture(temp.path());
        let error = remove(&table, &[NOON, NEXT_DAY]).unwrap_err();
        assert!(
            matches!(&error, CommitError::ForeignFile { name, .. } if name == "theirs.parquet"),
            "{error}"
        );
        assert_eq!(picture(temp.path()), before);
    }

    #[test]
    fn failure_or_crash_at_any_change_removes_all_or_none() {
        for is_crash in [false, true] {
            let mut is_removed = false;
            for step in 0.. {
                let temp = temp_dir();
                let table = lake(temp.path());
                let before = picture(temp.path());
                let fault = if is_crash {
                    Fault { for_good: step, ..Fault::NONE }
                } else {
                    Fault { once: step, ..Fault::NONE }
                };
                faults::set(fault);
                let result = remove(&table, &[NOON, NEXT_DAY]);
                let num_changes = faults::clear();
                if !is_crash && result.is_err() {
                    assert_eq!(picture(temp.path()), before, "failed at change {step}");
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
                    assert_eq!(picture(temp.path()), before, "change {step}, crash: {is_crash}");
                }
                if num_changes <= step {
                    assert!(step > 5 && is_removed);
                    break;
                }
            }
        }
    }

    #[test]
    fn crash_while_putting_back_is_recovered() {
        for first in 0.. {
            let mut num_changes = 0;
            for second in 0.. {
                let temp = temp_dir();
                let table = lake(temp.path());
                let before = picture(temp.path());
                faults::set(Fault { for_good: first, ..Fault::NONE });
                let removed = remove(&table, &[NOON, NEXT_DAY]).is_ok();
                num_changes = faults::clear();
                faults::set(Fault { for_good: second, ..Fault::NONE });
                let held = table.lock(|| (), &|| false);
                let _ = held.map(|lock| lock.recover());
                let num_later = faults::clear();
                lock(&table).recover().unwrap();
                let found = picture(temp.path());
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
