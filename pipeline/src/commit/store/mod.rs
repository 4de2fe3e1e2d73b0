//! Publishing in an object store: who decides, what is done after that, and what recovery does.
//!
//! `protocol.md` beside this file has the states of a journal and the steps that follow a decision. New files
//! get their final names beside the old ones, whose names they never have: each holds its run's id.
//!
//! What is left: between the first completion and the end of the steps a reader that only globs file names
//! sees new files beside old ones, or some of the new ones; `_SUCCESS` and the manifests say which are whole.
//! A run that is killed between beginning an upload and writing its journal leaves an upload without a byte.

mod plan;
mod decision;
mod steps;
mod sweep;
mod journal;

use std::path::{Path, PathBuf};

use object_store::UpdateVersion;

use self::decision::Ending;
use self::journal::{JOURNAL_FILE, JournalState, JournalUpload, Plan, StoreJournal};
use self::plan::Planned;
use self::steps::FinishError;
use super::{CommitError, Published, Recovered, RemovedSnapshots};
use crate::digest::sha256_hex_of;
use crate::lake::store::{Store, Upload};
use crate::lake::{
    LakeError, PublishedSnapshot, REJECTS_FILE, SUCCESS_FILE, Table, TableKind, TableLock, local,
};
use crate::manifest::Manifest;
use crate::snapshot::{RunId, SnapshotId};

/// The runs that have a decided journal, or one that cannot be read and so may be.
pub(super) fn unfinished_runs(table: &Table, store: &Store) -> Result<Vec<String>, LakeError> {
    let mut runs = table.list_names(&table.staging_root())?;
    runs.retain(|run| match StoreJournal::read(table, store, &table.staging_root().join(run)) {
        Ok(Some((journal, _))) => journal.state == JournalState::Decided,
        Ok(None) => false,
        Err(_) => true,
    });
    Ok(runs)
}

/// See [`TableLock::recover`].
pub(super) fn recover(lock: &TableLock, store: &Store) -> Result<Vec<Recovered>, CommitError> {
    let table = lock.table();
    let mut recovered = Vec::new();
    for run_id in table.list_names(&table.staging_root())? {
        // A run that stood still has nothing to look for in the journals of those that came after it.
        lock.confirm()?;
        let run = StoreCommit { lock, table, store, folder: table.staging_root().join(&run_id) };
        recovered.push(match run.settle()? {
            Ending::Absent => continue,
            Ending::Undone(journal) => {
                run.clean_up(&journal)?;
                Recovered::Removed { run_id }
            }
            Ending::Decided(journal) => match run.finish(&journal, None) {
                Ok(()) => journal.recovered(run_id),
                Err(FinishError::Undone(error)) => {
                    tracing::warn!(run_id, %error, "an earlier run's uploads are gone; it is undone");
                    Recovered::Removed { run_id }
                }
                Err(FinishError::Failed(error)) => return Err(error),
            },
        });
    }
    sweep::sweep_claims(table, store)?;
    sweep::sweep_success_files(table, store)?;
    Ok(recovered)
}

/// Files that are in the store and invisible, and the journal that names them.
#[derive(Debug)]
pub(super) struct Uploaded {
    uploads: Vec<Upload>,
    journal_version: UpdateVersion,
}

/// One run's changes of a table.
pub(super) struct StoreCommit<'a> {
    lock: &'a TableLock,
    table: &'a Table,
    store: &'a Store,
    /// `staging/<run id>`.
    folder: PathBuf,
}

impl<'a> StoreCommit<'a> {
    pub(super) fn new(lock: &'a TableLock, store: &'a Store, run_id: &RunId) -> Self {
        let table = lock.table();
        Self { lock, table, store, folder: table.staging_root().join(run_id.as_str()) }
    }

    fn path(&self, below_lake: &str) -> PathBuf {
        self.store.root().join(below_lake)
    }

    fn journal_path(&self) -> PathBuf {
        self.folder.join(JOURNAL_FILE)
    }

    /// Makes uploads of the files in the local folder `staged`, which no reader sees. Gives them up if it fails.
    pub(super) fn upload(
        &self,
        staged: &Path,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Uploaded, CommitError> {
        let id = manifest.snapshot_id();
        let mut files = Vec::new();
        for file in &manifest.files {
            files.push((self.table.root().join(&file.path), staged.join(&file.path)));
        }
        let rejects = staged.join("snapshot").join(REJECTS_FILE);
        let has_rejects = local::exists(&rejects)?;
        if has_rejects {
            files.push((self.table.rejects_path(id), rejects.clone()));
        }
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for (place, staged) in files {
            let source = local::open_file(&staged)?;
            let bytes = source.metadata().map_err(local::io_error("read", &staged))?.len();
            places.push((place, bytes));
            sources.push(source);
        }
        let mut uploads = self.store.begin(places)?;
        if let (Some(upload), true) = (uploads.last_mut(), has_rejects) {
            let digest = sha256_hex_of(local::open_file(&rejects)?);
            upload.sha256 = Some(digest.map_err(local::io_error("read", &rejects))?);
        }
        let manifest_path = self.table.below_lake(&self.table.manifest_path(id));
        let journal = StoreJournal::open(Some(manifest_path), self.journaled(&uploads));
        let sent = self.open(&journal).and_then(|journal_version| {
            self.store.send(&mut uploads, &sources, on_bytes, cancelled)?;
            Ok(journal_version)
        });
        match sent {
            Ok(journal_version) => Ok(Uploaded { uploads, journal_version }),
            Err(failure) => Err(self.undo_after(failure.into(), &journal)),
        }
    }

    /// Gives up what [`Self::upload`] returned. Best effort: the next run does it again.
    pub(super) fn give_up(&self, uploaded: &Uploaded) {
        let journal = StoreJournal::open(None, self.journaled(&uploaded.uploads));
        if let Err(error) = self.settle().and_then(|_| Ok(self.clean_up(&journal)?)) {
            tracing::debug!(error = %error, "uploads could not be given up; the next run does it");
        }
    }

    /// Decides, and carries out what follows. The files are still in the local folder `staged`, too.
    pub(super) fn publish(
        &self,
        uploaded: &Uploaded,
        manifest: &Manifest,
        staged: &Path,
    ) -> Result<Published, CommitError> {
        let id = manifest.snapshot_id();
        let manifest_path = self.table.manifest_path(id);
        let mut journal = StoreJournal::open(
            Some(self.table.below_lake(&manifest_path)),
            self.journaled(&uploaded.uploads),
        );
        let Planned { plan, replaced, statistics } = match self.plan(manifest, &journal, staged) {
            Ok(planned) => planned,
            Err(failure) => return Err(self.undo_after(failure, &journal)),
        };
        journal = StoreJournal { state: JournalState::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &uploaded.journal_version)?;
        let left_over = self.finish_own(&journal, statistics.as_deref())?;
        Ok(Published { manifest_path, replaced, left_over })
    }

    /// Removes published snapshots.
    pub(super) fn remove(
        &self,
        published: &[PublishedSnapshot],
        ids: &[SnapshotId],
    ) -> Result<RemovedSnapshots, CommitError> {
        let plan = |journal: &StoreJournal| {
            debug_assert!(journal.uploads.is_empty());
            let mut plan = Plan::default();
            let is_delta = self.table.kind()? == TableKind::Delta;
            for snapshot in published.iter().filter(|one| ids.contains(&one.id)) {
                if self.table.is_complete(snapshot)? {
                    self.add_seen(&mut plan, &self.table.data_folder(snapshot.id.date()).join(SUCCESS_FILE))?;
                }
                // The rejects go before the manifest that counts them.
                self.add_seen(&mut plan, &self.table.rejects_path(snapshot.id))?;
                self.add_seen(&mut plan, &snapshot.manifest_path)?;
                self.add_files(&mut plan, &snapshot.manifest);
                if is_delta {
                    plan.removes_from_log
                        .extend(snapshot.manifest.files.iter().map(|file| file.path.clone()));
                }
            }
            Ok(plan)
        };
        Ok(RemovedSnapshots { left_over: self.change(plan)? })
    }

    /// Brings the snapshots that the log of a Delta table has not seen into it.
    pub(super) fn adopt(&self) -> Result<(), CommitError> {
        match self.change(|_| Ok(Plan { adopts: true, ..Plan::default() }))? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Opens a journal, decides what `plan` says, and carries it out; returns why the next run has to carry it
    /// on.
    fn change(
        &self,
        plan: impl FnOnce(&StoreJournal) -> Result<Plan, CommitError>,
    ) -> Result<Option<LakeError>, CommitError> {
        let journal = StoreJournal::open(None, Vec::new());
        let opened = self.open(&journal).map_err(CommitError::from);
        let (version, plan) = match opened.and_then(|version| Ok((version, plan(&journal)?))) {
            Ok(opened) => opened,
            Err(failure) => return Err(self.undo_after(failure, &journal)),
        };
        let journal = StoreJournal { state: JournalState::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &version)?;
        self.finish_own(&journal, None)
    }

    fn journaled(&self, uploads: &[Upload]) -> Vec<JournalUpload> {
        uploads.iter().map(|upload| JournalUpload::new(self.table, upload)).collect()
    }

    fn uploads(&self, journaled: &[JournalUpload]) -> Vec<Upload> {
        journaled.iter().map(|upload| upload.to_upload(self.store)).collect()
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
