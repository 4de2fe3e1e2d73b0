//! Publishing into a Delta table on a local disk: new files beside old ones, and the log decides.
//!
//! ```text
//! staging/<run id>/snapshot_date=2021-01-11/…   the new files
//! staging/<run id>/snapshot/                    the new manifest, and the rejects
//! staging/<run id>/_SUCCESS
//! staging/<run id>/journal.json                 from here on a crash is recovered from
//! ```
//!
//! 1. Everything is written and synced; the journal comes last. It names what comes and what goes, and has
//!    the transaction number of the commit.
//! 2. The new files move to their places. No other file ever had their names, and readers of the log do not
//!    see them.
//! 3. The log commit. **This decides.**
//! 4. The manifest changes places with the old one, and `_SUCCESS` moves in.
//! 5. What was replaced goes, manifests before files; then the staging folder.
//!
//! An error before step 3 is undone at once. After it nothing can be taken back, and what is left is done by
//! this run or the next. After a crash the next run looks for the transaction in the log: where it is, it
//! goes on from step 4, else it undoes step 2.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::swap::Publish;
use crate::commit::delta_log::{Log, log_folder, staged_statistics};
use crate::commit::{CommitError, Published, Recovered, to_json};
use crate::lake::{
    LakeError, MANIFEST_FILE, MAX_MANIFEST_BYTES, Table, TableLock, check_name, data_folder_name, local,
};
use crate::manifest::Manifest;
use crate::staging::Destination;

pub(in crate::commit) const JOURNAL_FILE: &str = "journal.json";

/// What a run brings and takes away.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    /// The number of the commit.
    transaction: i64,
    /// Data files that go, from the table's root.
    replaced: Vec<String>,
    /// The new snapshot.
    manifest: Manifest,
}

impl Journal {
    /// Whether all files that it names are below the snapshot's data folder, as those that we write are.
    fn is_of_one_date(&self) -> bool {
        let folder = data_folder_name(self.manifest.snapshot_id().date());
        let new = self.manifest.files.iter().map(|file| &file.path);
        new.chain(&self.replaced).all(|path| {
            check_name(path).is_ok() && path.strip_prefix(&folder).is_some_and(|below| below.starts_with('/'))
        })
    }
}

/// Finishes or undoes what an interrupted run has left in `folder`; nothing where it was no run of ours.
pub(super) fn recover(lock: &TableLock, folder: &Path) -> Result<Option<Recovered>, CommitError> {
    let table = lock.table();
    let Some(bytes) = local::read_bounded(&folder.join(JOURNAL_FILE), 2 * MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    let journal = serde_json::from_slice(&bytes).ok().filter(Journal::is_of_one_date);
    let journal = journal.ok_or_else(|| CommitError::Undecided { folder: folder.to_path_buf() })?;
    let run_id = journal.manifest.run_id.to_string();
    let beside = Beside { table, folder, journal: &journal };
    let log = Log::open(table)?;
    if log.is_some_and(|log| log.has_committed(&journal.manifest, journal.transaction)) {
        beside.finish()?;
        return Ok(Some(Recovered::Finished { run_id, snapshot: journal.manifest.snapshot_id() }));
    }
    beside.undo()?;
    local::remove_tree(folder)?;
    Ok(Some(Recovered::Removed { run_id }))
}

/// Puts what is staged in place, after the snapshots that the log has not seen. Once that cannot
/// be taken back, the folder is not to be removed.
pub(in crate::commit) fn publish(
    lock: &TableLock,
    destination: &mut Destination,
    manifest: &Manifest,
) -> Result<Published, CommitError> {
    let table = lock.table();
    let result = local::create_dir(&table.root())
        .map_err(CommitError::from)
        .and_then(|_| publish_in_root(lock, destination, manifest));
    if result.is_err() {
        // Errors have nowhere to go: what stays is empty, and the next run removes it.
        let _ = remove_empty_root(table);
    }
    result
}

fn publish_in_root(
    lock: &TableLock,
    destination: &mut Destination,
    manifest: &Manifest,
) -> Result<Published, CommitError> {
    let table = lock.table();
    let folder = &destination.folder().to_path_buf();
    let snapshot = manifest.snapshot_id();
    let statistics = staged_statistics(table, folder, manifest)?;
    let mut log = Log::open_or_new(table)?;
    log.read_unseen(Some(snapshot.date()))?;
    let mut replaced = Vec::new();
    let mut replaced_files = Vec::new();
    for id in table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()) {
        replaced.push(id);
        let files = table.read_snapshot(id)?.map(|old| old.manifest.files).unwrap_or_default();
        replaced_files.extend(files.into_iter().map(|file| file.path));
    }
    let transaction = log.delta().next_transaction(snapshot);
    let journal = Journal { transaction, replaced: replaced_files, manifest: manifest.clone() };
    let beside = Beside { table, folder, journal: &journal };
    beside.write_journal(lock)?;
    let failure = match beside.place() {
        Ok(()) => log.publish(manifest, transaction, &statistics).err(),
        Err(failure) => Some(failure.into()),
    };
    if let Some(failure) = failure
        && !beside.settle(&failure, destination)?
    {
        return Err(failure);
    }
    destination.is_removed_on_drop = false;
    let left_over = beside.finish().err();
    let manifest_path = table.snapshot_folder(snapshot).join(MANIFEST_FILE);
    Ok(Published { manifest_path, replaced, left_over })
}

/// Removes the folders of a table that has nothing in it.
pub(super) fn remove_empty_root(table: &Table) -> Result<(), LakeError> {
    local::remove_empty_dir(&log_folder(table))?;
    local::remove_empty_dir(&table.root())
}

/// One publish, by this run or an interrupted one.
struct Beside<'a> {
    table: &'a Table,
    /// `staging/<run id>`.
    folder: &'a Path,
    journal: &'a Journal,
}

impl Beside<'_> {
    /// The part of publishing that a plain table has too.
    fn plain(&self) -> Publish<'_> {
        Publish { table: self.table, folder: self.folder.to_path_buf(), manifest: &self.journal.manifest }
    }

    /// Step 1.
    fn write_journal(&self, lock: &TableLock) -> Result<(), LakeError> {
        self.plain().stage_manifest(lock)?;
        let unready = self.folder.join("journal.tmp");
        local::write_new(&unready, &to_json(self.journal))?;
        local::rename(&unready, &self.folder.join(JOURNAL_FILE))?;
        local::sync_dir(self.folder)
    }

    fn places(&self) -> impl Iterator<Item = PathBuf> {
        let root = self.table.root();
        self.journal.manifest.files.iter().map(move |file| root.join(&file.path))
    }

    /// The folders that the new files are in, innermost first.
    fn folders(&self) -> Vec<PathBuf> {
        let root = self.table.root();
        let mut folders = BTreeSet::from([self.plain().data_place()]);
        for place in self.places() {
            folders.extend(place.ancestors().skip(1).take_while(|f| *f != root).map(Path::to_path_buf));
        }
        folders.into_iter().rev().collect()
    }

    /// Step 2.
    fn place(&self) -> Result<(), LakeError> {
        let folders = self.folders();
        for folder in folders.iter().rev() {
            local::create_dir(folder)?;
        }
        for (file, place) in self.journal.manifest.files.iter().zip(self.places()) {
            local::rename(&self.folder.join(&file.path), &place)?;
        }
        for folder in folders.iter().chain([&self.table.root()]) {
            local::sync_dir(folder)?;
        }
        local::sync_dir(local::parent(&self.table.root()))
    }

    /// After a failure: whether the commit is in the log all the same. Where it is not, everything is taken
    /// back. Where that cannot be said or done, the next run has to.
    fn settle(&self, failure: &CommitError, destination: &mut Destination) -> Result<bool, CommitError> {
        let settled = Log::open(self.table).and_then(|log| {
            let journal = self.journal;
            if log.is_some_and(|log| log.has_committed(&journal.manifest, journal.transaction)) {
                return Ok(true);
            }
            self.undo().map(|()| false)
        });
        settled.map_err(|source| {
            destination.is_removed_on_drop = false;
            CommitError::Unsettled { failure: failure.to_string(), source: Box::new(source) }
        })
    }

    /// Takes step 2 back, and the journal.
    fn undo(&self) -> Result<(), LakeError> {
        for place in self.places() {
            local::remove_file(&place)?;
        }
        for folder in self.folders() {
            local::remove_empty_dir(&folder)?;
        }
        remove_empty_root(self.table)?;
        local::remove_file(&self.folder.join(JOURNAL_FILE))?;
        local::sync_dir(self.folder)
    }

    /// Steps 4 and 5. Can be interrupted and repeated.
    fn finish(&self) -> Result<(), LakeError> {
        let plain = self.plain();
        plain.advance_manifest()?;
        plain.set_older_manifests_aside()?;
        let new: BTreeSet<_> = self.journal.manifest.files.iter().map(|file| &file.path).collect();
        for path in self.journal.replaced.iter().filter(|path| !new.contains(path)) {
            let place = self.table.root().join(path);
            local::remove_file(&place)?;
            local::remove_empty_dir(local::parent(&place))?;
        }
        local::remove_tree(self.folder)
    }
}
