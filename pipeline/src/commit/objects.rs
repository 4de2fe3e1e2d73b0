//! Publishing in an object store, which can put one object in place at once and rename none.
//!
//! New files get their final names beside the old ones, whose names they never have: each holds its run's
//! id. The journal of a run names everything that the run brings or takes away:
//!
//! ```text
//! _defender/<table>/staging/<run id>/journal.json
//! ```
//!
//! 1. Every file becomes an upload, which nobody sees: its id goes into the journal, then its parts to the
//!    store.
//! 2. The journal gets the parts' ids, the manifest, and what is going to be removed: the intent.
//! 3. If the table's lock is still ours, all uploads are completed at once.
//! 4. Of a Delta table the commit is written to the log, and that decides for it.
//! 5. The manifest is put: created where there was none of the snapshot, else exchanged for the one that was
//!    read. **This decides** for a plain table. Of two runs that both believe to have the lock, one gets here.
//! 6. The rejects are completed, and `_SUCCESS` is put.
//! 7. What is replaced goes, manifests before files; then the journal.
//!
//! An error before the decision is undone at once. After a crash the next run reads the journals
//! ([`recover`]): one that is decided is carried on from there, any other is undone, that is its
//! uploads are given up and its objects removed. Only what a journal names is ever removed. A removal of
//! snapshots is a journal without uploads; it is decided when it is written, and the log of a Delta table
//! gets its commit before any object goes.
//!
//! What is left: between the first completion and the end of step 7 a reader that looks at names alone sees
//! new files beside old ones, or some of the new ones; `_SUCCESS` and the manifests say which are whole. A run
//! that is killed between beginning an upload and writing its journal leaves an upload without a byte; and
//! Azure cannot give one up, it drops those a week old.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::log::{Log, staged_statistics};
use super::{CommitError, Published, Recovered, RemovedSnapshots, to_json};
use crate::lake::store::{Put, Store, Upload, private_folder};
use crate::lake::{
    LakeError, MAX_MANIFEST_BYTES, PublishedSnapshot, REJECTS_FILE, SUCCESS_FILE, Table, TableKind,
    TableLock, check_name, local,
};
use crate::manifest::Manifest;
use crate::snapshot::{RunId, SnapshotId};

const JOURNAL_FILE: &str = "journal.json";

/// A journal holds a manifest, and as much again for its uploads.
const MAX_JOURNAL_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// How often a manifest is put whose fate an error left open.
const MAX_MANIFEST_ATTEMPTS: u32 = 5;

/// What a run brings and takes away. Paths are from the lake's folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Journal {
    /// New files.
    uploads: Vec<JournalUpload>,
    /// Their manifest, once all of them can be completed.
    manifest: Option<Manifest>,
    /// The number of the commit to the log of a Delta table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transaction: Option<i64>,
    /// What goes, once the manifest is in place.
    removes: Removes,
    /// Dates that the log of a Delta table loses first, where a removal of snapshots is all there is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    removed_dates: BTreeSet<NaiveDate>,
}

impl Journal {
    /// Whether all that it names belongs to the table.
    fn is_below(&self, table: &Table) -> bool {
        let folders =
            [table.root(), table.own_root()].map(|folder| format!("{}/", table.below_lake(&folder)));
        let uploads = self.uploads.iter().map(|upload| &upload.path);
        uploads.chain(&self.removes.first).chain(&self.removes.then).all(|path| {
            check_name(path).is_ok() && folders.iter().any(|folder| path.starts_with(folder.as_str()))
        })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct JournalUpload {
    path: String,
    id: String,
    parts: Vec<String>,
    bytes: u64,
}

/// Objects that go: first, one after the other, what says that the rest is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Removes {
    first: Vec<String>,
    then: Vec<String>,
}

impl Removes {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.then.is_empty()
    }

    /// Everything of `snapshot`; its rejects before the manifest that counts them.
    fn add(&mut self, table: &Table, snapshot: &PublishedSnapshot) {
        let rejects = table.below_lake(&table.rejects_path(snapshot.id));
        self.first.extend([rejects, table.below_lake(&snapshot.manifest_path)]);
        self.add_files(table, &snapshot.manifest);
    }

    fn add_files(&mut self, table: &Table, manifest: &Manifest) {
        let root = table.root();
        self.then.extend(manifest.files.iter().map(|file| table.below_lake(&root.join(&file.path))));
    }
}

/// Makes the local folder of a run, and removes those of runs that are no more. What is in use is locked.
pub(super) fn make_staging(store: &Store, run_id: &RunId) -> Result<(PathBuf, File), LakeError> {
    let parent = store.work_dir().join("staging");
    private_folder(&parent).map_err(local::io_error("create", &parent))?;
    let folder = parent.join(run_id.as_str());
    loop {
        local::create_dir(&folder)?;
        let opened = File::open(&folder).and_then(|open| open.lock().map(|()| open));
        match opened {
            // Between the two another run may have thought it left behind.
            Ok(open) if is_at(&open, &folder) => {
                sweep(&parent);
                return Ok((folder, open));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(local::io_error("lock", &folder)(error)),
        }
    }
}

fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Removes the folders that no run has locked. What cannot be removed is tried again by the next run.
fn sweep(parent: &Path) {
    for name in local::list_names(parent).unwrap_or_default() {
        let folder = parent.join(name);
        if let Ok(open) = File::open(&folder)
            && open.try_lock().is_ok()
            && local::remove_tree(&folder).is_ok()
        {
            tracing::info!(folder = %folder.display(), "removed what an earlier run had staged");
        }
    }
}

/// Whether a run's journal says more than that it uploads. One that cannot be read may.
pub(super) fn is_decided(table: &Table, run_id: &str) -> bool {
    match read_journal(table, &table.staging_root().join(run_id)) {
        Ok(Some(journal)) => journal.manifest.is_some() || !journal.removes.is_empty(),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn read_journal(table: &Table, folder: &Path) -> Result<Option<Journal>, CommitError> {
    let Some(bytes) = table.read_bounded(&folder.join(JOURNAL_FILE), MAX_JOURNAL_BYTES)? else {
        return Ok(None);
    };
    let journal = serde_json::from_slice(&bytes).ok().filter(|journal: &Journal| journal.is_below(table));
    match journal {
        Some(journal) => Ok(Some(journal)),
        None => Err(CommitError::Undecided { folder: folder.to_path_buf() }),
    }
}

/// See [`TableLock::recover`].
pub(super) fn recover(lock: &TableLock, store: &Store) -> Result<Vec<Recovered>, CommitError> {
    let table = lock.table();
    let mut recovered = Vec::new();
    for run_id in table.list_names(&table.staging_root())? {
        let by_objects = ByObjects { lock, table, store, folder: table.staging_root().join(&run_id) };
        let Some(journal) = read_journal(table, &by_objects.folder)? else { continue };
        recovered.push(match &journal.manifest {
            Some(manifest) if by_objects.is_decided(&journal, manifest)? => {
                let snapshot = manifest.snapshot_id();
                match by_objects.finish(journal) {
                    Ok(()) => Recovered::Finished { run_id, snapshot },
                    Err(CommitError::Superseded { .. }) => Recovered::Removed { run_id },
                    Err(error) => return Err(error),
                }
            }
            None if !journal.removes.is_empty() => {
                by_objects.carry_out(&journal)?;
                Recovered::Expired { run_id }
            }
            _ => {
                by_objects.undo(&journal.uploads)?;
                Recovered::Removed { run_id }
            }
        });
    }
    Ok(recovered)
}

/// One run's changes of a table.
pub(super) struct ByObjects<'a> {
    lock: &'a TableLock,
    table: &'a Table,
    store: &'a Store,
    /// `staging/<run id>`.
    folder: PathBuf,
}

impl<'a> ByObjects<'a> {
    pub(super) fn new(lock: &'a TableLock, store: &'a Store, run_id: &RunId) -> Self {
        let table = lock.table();
        Self { lock, table, store, folder: table.staging_root().join(run_id.as_str()) }
    }

    fn path(&self, below_lake: &str) -> PathBuf {
        self.store.root().join(below_lake)
    }

    /// Step 1: the files in the local folder `staged`, as uploads that nobody sees. Gives them up if it fails.
    pub(super) fn upload(
        &self,
        staged: &Path,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Upload>, CommitError> {
        let mut files = Vec::new();
        for file in &manifest.files {
            files.push((self.table.root().join(&file.path), staged.join(&file.path)));
        }
        let rejects = staged.join("snapshot").join(REJECTS_FILE);
        if local::exists(&rejects)? {
            files.push((self.table.rejects_path(manifest.snapshot_id()), rejects));
        }
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for (place, staged) in files {
            let source = local::open_file(&staged)?;
            let bytes = source.metadata().map_err(local::io_error("read", &staged))?.len();
            places.push((place, bytes));
            sources.push(source);
        }
        let mut uploads = self.store.begin(places)?;
        let sent = self
            .write_journal(&Journal { uploads: self.journaled(&uploads), ..Journal::default() }, Put::Create)
            .and_then(|()| self.store.send(&mut uploads, &sources, on_bytes, cancelled));
        match sent {
            Ok(()) => Ok(uploads),
            Err(failure) => Err(self.undo_after(failure, &uploads)),
        }
    }

    /// Gives up what [`Self::upload`] returned. An error has nowhere to go: the next run does it again.
    pub(super) fn give_up(&self, uploads: &[Upload]) {
        if let Err(error) = self.undo(&self.journaled(uploads)) {
            tracing::debug!(error = %error, "uploads could not be given up; the next run does it");
        }
    }

    /// Steps 2 to 7. The files are still in the local folder `staged`, too.
    pub(super) fn publish(
        &self,
        uploads: &[Upload],
        manifest: &Manifest,
        staged: &Path,
    ) -> Result<Published, CommitError> {
        let mut log = match self.open_log(manifest.snapshot_id().date()) {
            Ok(log) => log,
            Err(failure) => {
                self.give_up(uploads);
                return Err(failure);
            }
        };
        let transaction = log.as_ref().map(|log| log.delta().next_transaction(manifest.snapshot_id()));
        let (journal, put, replaced) = match self.decide(uploads, manifest, transaction) {
            Ok(decided) => decided,
            Err(failure) => return Err(self.undo_after(failure, uploads)),
        };
        if let (Some(log), Some(transaction)) = (&mut log, transaction) {
            self.commit(log, &journal, manifest, transaction, staged)?;
        }
        let manifest_path = self.table.manifest_path(manifest.snapshot_id());
        if let Err(failure) = self.put_manifest(manifest, &put) {
            return Err(match failure {
                // The log has it: this run or the next goes on.
                PutManifest::Failed(failure) | PutManifest::Unknown { failure, .. } if log.is_some() => {
                    return Ok(Published { manifest_path, replaced, left_over: Some(*failure) });
                }
                PutManifest::Overtaken => {
                    self.undo(&journal.uploads)?;
                    CommitError::Overtaken { snapshot: manifest.snapshot_id() }
                }
                PutManifest::Failed(failure) => self.undo_after(*failure, uploads),
                // It may be there: what belongs to it has to stay until somebody can look.
                PutManifest::Unknown { failure, source } => CommitError::UndoFailed { failure, source },
            });
        }
        let left_over = match self.finish(journal) {
            Ok(()) => None,
            Err(CommitError::Lake(error)) => Some(error),
            Err(error) => return Err(error),
        };
        Ok(Published { manifest_path, replaced, left_over })
    }

    /// The log of a table that is or becomes a Delta table, and that takes in all its snapshots with that of `date`.
    fn open_log(&self, date: NaiveDate) -> Result<Option<Log<'a>>, CommitError> {
        if self.lock.kind()? == TableKind::Plain {
            return Ok(None);
        }
        let mut log = Log::open_or_new(self.table)?;
        log.read_unseen(Some(date))?;
        Ok(Some(log))
    }

    /// Step 4. Takes everything back where it fails and is not in the log all the same.
    fn commit(
        &self,
        log: &mut Log<'_>,
        journal: &Journal,
        manifest: &Manifest,
        transaction: i64,
        staged: &Path,
    ) -> Result<(), CommitError> {
        let committed = staged_statistics(self.table, staged, manifest)
            .map_err(CommitError::from)
            .and_then(|statistics| log.publish(manifest, transaction, &statistics));
        let Err(failure) = committed else { return Ok(()) };
        let settled = self.is_in_log(journal, manifest).and_then(|is_in_log| {
            if is_in_log { Ok(true) } else { self.undo(&journal.uploads).map(|()| false) }
        });
        match settled {
            Ok(true) => Ok(()),
            Ok(false) => Err(failure),
            Err(source) => {
                Err(CommitError::Unsettled { failure: failure.to_string(), source: Box::new(source) })
            }
        }
    }

    fn is_in_log(&self, journal: &Journal, manifest: &Manifest) -> Result<bool, LakeError> {
        let Some(transaction) = journal.transaction else { return Ok(false) };
        Ok(Log::open(self.table)?.is_some_and(|log| log.has_committed(manifest, transaction)))
    }

    /// Whether an interrupted publish has to be carried on. One that the log has decided gets its manifest.
    fn is_decided(&self, journal: &Journal, manifest: &Manifest) -> Result<bool, CommitError> {
        if self.is_in_place(manifest)? {
            return Ok(true);
        }
        if !self.is_in_log(journal, manifest)? {
            return Ok(false);
        }
        let put = self.put_over(&self.table.manifest_path(manifest.snapshot_id()))?;
        match self.put_manifest(manifest, &put) {
            Ok(()) => Ok(true),
            Err(PutManifest::Overtaken) => Err(CommitError::Overtaken { snapshot: manifest.snapshot_id() }),
            Err(PutManifest::Failed(failure) | PutManifest::Unknown { failure, .. }) => {
                Err((*failure).into())
            }
        }
    }

    /// How an object is put in place of the one that is there now, if any.
    fn put_over(&self, path: &Path) -> Result<Put, LakeError> {
        let found = self.store.read(path, MAX_MANIFEST_BYTES)?;
        Ok(found.map_or(Put::Create, |(_, version)| Put::Update(version)))
    }

    /// Steps 2 and 3; says how the manifest is to be put, and which snapshots it replaces.
    fn decide(
        &self,
        uploads: &[Upload],
        manifest: &Manifest,
        transaction: Option<i64>,
    ) -> Result<(Journal, Put, Vec<SnapshotId>), LakeError> {
        let id = manifest.snapshot_id();
        let mut removes = Removes::default();
        let mut replaced = Vec::new();
        let mut put = Put::Create;
        for old in self.table.snapshot_ids()?.into_iter().filter(|old| old.date() == id.date()) {
            let Some(published) = self.table.read_snapshot(old)? else { continue };
            replaced.push(old);
            if old != id {
                removes.add(self.table, &published);
                continue;
            }
            // Its manifest and its rejects have the names of the new ones.
            removes.add_files(self.table, &published.manifest);
            let rejects = self.table.rejects_path(id);
            if !uploads.iter().any(|upload| upload.path == rejects) {
                removes.first.push(self.table.below_lake(&rejects));
            }
            put = self.put_over(&published.manifest_path)?;
        }
        let journal = Journal {
            uploads: self.journaled(uploads),
            manifest: Some(manifest.clone()),
            transaction,
            removes,
            removed_dates: BTreeSet::new(),
        };
        self.write_journal(&journal, Put::Overwrite)?;
        self.lock.confirm()?;
        let data: Vec<_> = uploads.iter().filter(|upload| !self.is_rejects(upload, id)).cloned().collect();
        self.store.complete(&data)?;
        self.lock.confirm()?;
        Ok((journal, put, replaced))
    }

    /// Step 5.
    fn put_manifest(&self, manifest: &Manifest, put: &Put) -> Result<(), PutManifest> {
        let path = self.table.manifest_path(manifest.snapshot_id());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.store.put(&path, to_json(manifest), put.clone()) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => None,
                Err(error) if !error.is_retried() => return Err(PutManifest::Failed(Box::new(error))),
                Err(error) => Some(error),
            };
            // An answer that was lost, and an attempt that another one was ahead of, look alike.
            match (self.is_in_place(manifest), failure) {
                (Ok(true), _) => return Ok(()),
                (Ok(false), None) => return Err(PutManifest::Overtaken),
                (Ok(false), Some(failure)) if attempts == MAX_MANIFEST_ATTEMPTS => {
                    return Err(PutManifest::Failed(Box::new(failure)));
                }
                (Ok(false), Some(failure)) => {
                    tracing::debug!(error = %failure, "the manifest could not be put; trying again");
                }
                (Err(source), failure) => {
                    let is_there = || local::io_error("create", &path)(io::ErrorKind::AlreadyExists.into());
                    let failure = Box::new(failure.unwrap_or_else(is_there));
                    return Err(PutManifest::Unknown { failure, source: Box::new(source) });
                }
            }
        }
    }

    /// Whether the manifest in place is this one.
    fn is_in_place(&self, manifest: &Manifest) -> Result<bool, LakeError> {
        match self.table.read_manifest(&self.table.manifest_path(manifest.snapshot_id())) {
            Ok(found) => Ok(found.is_some_and(|found| found.run_id == manifest.run_id)),
            Err(LakeError::DamagedManifest { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Steps 6 and 7, which can be repeated. Where a newer snapshot of the date has come, the run had lost the
    /// lock and takes its own back.
    fn finish(&self, mut journal: Journal) -> Result<(), CommitError> {
        let Some(manifest) = journal.manifest.take() else { return Ok(()) };
        let id = manifest.snapshot_id();
        let of_date: Vec<_> =
            self.table.snapshot_ids()?.into_iter().filter(|other| other.date() == id.date()).collect();
        if let Some(newer) = of_date.iter().copied().find(|other| *other > id) {
            let mut removes = Removes::default();
            let manifest_path = self.table.manifest_path(id);
            removes.add(self.table, &PublishedSnapshot { id, manifest, manifest_path });
            self.remove_all(&removes)?;
            return Err(CommitError::Superseded { snapshot: id, published: newer });
        }
        let rejects: Vec<_> =
            self.uploads(&journal.uploads).into_iter().filter(|upload| self.is_rejects(upload, id)).collect();
        self.store.complete(&rejects)?;
        let success = self.table.data_folder(id.date()).join(SUCCESS_FILE);
        self.store.put(&success, to_json(&self.table.success_of(&manifest)), Put::Overwrite)?;
        self.remove_all(&journal.removes)?;
        Ok(())
    }

    /// Removes published snapshots: decided when the journal is written, and then carried out.
    pub(super) fn remove(
        &self,
        published: &[PublishedSnapshot],
        ids: &[SnapshotId],
    ) -> Result<RemovedSnapshots, CommitError> {
        let mut removes = Removes::default();
        for snapshot in published.iter().filter(|one| ids.contains(&one.id)) {
            if self.table.is_complete(snapshot)? {
                let success = self.table.data_folder(snapshot.id.date()).join(SUCCESS_FILE);
                removes.first.push(self.table.below_lake(&success));
            }
            removes.add(self.table, snapshot);
        }
        self.lock.confirm()?;
        let removed_dates = ids.iter().map(|id| id.date()).collect();
        let journal = Journal { removes, removed_dates, ..Journal::default() };
        self.write_journal(&journal, Put::Create)?;
        Ok(RemovedSnapshots { left_over: self.carry_out(&journal).err() })
    }

    /// Carries out a removal of snapshots.
    fn carry_out(&self, journal: &Journal) -> Result<(), LakeError> {
        if let Some(mut log) = Log::open(self.table)? {
            log.remove_dates(journal.removed_dates.iter().copied(), Utc::now())?;
        }
        self.remove_all(&journal.removes)
    }

    /// Removes what is to go, and then the journal that says so.
    fn remove_all(&self, removes: &Removes) -> Result<(), LakeError> {
        for path in &removes.first {
            self.store.delete(&self.path(path))?;
        }
        let then: Vec<_> = removes.then.iter().map(|path| self.path(path)).collect();
        self.store.delete_all(&then)?;
        self.store.delete(&self.folder.join(JOURNAL_FILE))
    }

    /// Gives uploads up, removes those that were completed, and then the journal. Rejects are completed only
    /// once the manifest is in place, and what has their name is another's.
    fn undo(&self, uploads: &[JournalUpload]) -> Result<(), LakeError> {
        let uploads = self.uploads(uploads);
        self.store.abort(&uploads)?;
        let completed: Vec<_> = uploads
            .into_iter()
            .map(|upload| upload.path)
            .filter(|path| path.file_name().is_none_or(|name| name != REJECTS_FILE))
            .collect();
        self.store.delete_all(&completed)?;
        self.store.delete(&self.folder.join(JOURNAL_FILE))
    }

    /// Takes everything back after `failure`; returns what to report.
    fn undo_after(&self, failure: LakeError, uploads: &[Upload]) -> CommitError {
        match self.undo(&self.journaled(uploads)) {
            Ok(()) => CommitError::Lake(failure),
            Err(source) => CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) },
        }
    }

    fn is_rejects(&self, upload: &Upload, id: SnapshotId) -> bool {
        upload.path == self.table.rejects_path(id)
    }

    fn write_journal(&self, journal: &Journal, put: Put) -> Result<(), LakeError> {
        let path = self.folder.join(JOURNAL_FILE);
        let bytes = serde_json::to_vec(journal).expect("text keys and plain values serialise");
        match self.store.put(&path, bytes.clone(), put)? {
            Some(_) => Ok(()),
            // Run ids are drawn: this is our own, whose answer was lost.
            None if self.store.read(&path, MAX_JOURNAL_BYTES)?.is_some_and(|(found, _)| found == bytes) => {
                Ok(())
            }
            None => Err(local::io_error("create", &path)(io::ErrorKind::AlreadyExists.into())),
        }
    }

    fn journaled(&self, uploads: &[Upload]) -> Vec<JournalUpload> {
        let journaled = uploads.iter().map(|upload| JournalUpload {
            path: self.table.below_lake(&upload.path),
            id: upload.id.clone(),
            parts: upload.parts.clone(),
            bytes: upload.bytes,
        });
        journaled.collect()
    }

    fn uploads(&self, journaled: &[JournalUpload]) -> Vec<Upload> {
        let uploads = journaled.iter().cloned().map(|upload| Upload {
            path: self.path(&upload.path),
            id: upload.id,
            parts: upload.parts,
            bytes: upload.bytes,
        });
        uploads.collect()
    }
}

/// Why a manifest was not put.
enum PutManifest {
    /// Another run has put one of the same snapshot.
    Overtaken,
    /// It is not there.
    Failed(Box<LakeError>),
    /// It may be there.
    Unknown {
        /// Why that is not certain.
        failure: Box<LakeError>,
        /// Why it could not be looked for.
        source: Box<LakeError>,
    },
}

#[cfg(test)]
mod tests;
