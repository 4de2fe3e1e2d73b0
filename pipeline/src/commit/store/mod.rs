//! Changes of a table in an object store: uploads, the decision, the steps after it, and recovery.
//!
//! `../protocol.md` has the states of a journal and the steps that follow a decision. New files get their final names
//! beside the old ones. No two runs write one name: each name holds its run's id.
//!
//! Known limits: between the first completed upload and the last step a reader that only globs file names sees new
//! files beside old ones, or some of the new ones; `_SUCCESS` and the manifests say which are whole. A run that is
//! killed between beginning an upload and writing its journal leaves an upload without bytes.

mod journal;
mod store_commit;
mod sweep;
mod decision;
mod plan;
mod steps;

use std::path::Path;

use object_store::UpdateVersion;

use self::decision::FinalState;
use self::journal::{JournalState, Plan, StoreJournal};
use self::plan::Planned;
use self::steps::FinishError;
pub(super) use self::store_commit::StoreCommit;
use super::{CommitError, Published, Recovered, RemovedSnapshots};
use crate::digest::sha256_hex_of;
use crate::lake::store::{Store, Upload};
use crate::lake::{LakeError, PublishedSnapshot, REJECTS_FILE, Table, TableLock, local};
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;

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
        // A run that was suspended and lost the lock must not touch the journals of later runs.
        lock.confirm()?;
        let run = StoreCommit::of_run(lock, store, &run_id);
        recovered.push(match run.settle()? {
            FinalState::Absent => continue,
            FinalState::Undone(journal) => {
                run.clean_up(&journal)?;
                Recovered::Removed { run_id }
            }
            FinalState::Decided(journal) => match run.finish(&journal, None) {
                Ok(()) => journal.recovered(run_id),
                Err(FinishError::Undone(error)) => {
                    tracing::warn!(run_id, %error, "the store has dropped uploads of an earlier run; it is rolled back");
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

/// Uploads that readers do not see yet, and the version of the journal that names them.
#[derive(Debug)]
pub(super) struct Uploaded {
    uploads: Vec<Upload>,
    journal_version: UpdateVersion,
}

impl StoreCommit<'_> {
    /// Uploads the files in the local folder `staged`, without completing the uploads. Aborts them if it fails.
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
            Err(failure) => Err(self.roll_back_after(failure.into(), &journal)),
        }
    }

    /// Aborts what [`Self::upload`] returned. Best effort: an error is logged, the next run cleans up.
    pub(super) fn give_up(&self, uploaded: &Uploaded) {
        let journal = StoreJournal::open(None, self.journaled(&uploaded.uploads));
        if let Err(error) = self.settle().and_then(|_| Ok(self.clean_up(&journal)?)) {
            tracing::debug!(error = %error, "cannot abort uploads; the next run does");
        }
    }

    /// Decides to publish, and carries out the steps. The files are still in the local folder `staged`, too.
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
            Err(failure) => return Err(self.roll_back_after(failure, &journal)),
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
        let plan = || self.plan_removal(published, ids);
        Ok(RemovedSnapshots { left_over: self.change(plan)? })
    }

    /// Adds the snapshots that the Delta log does not have to it.
    pub(super) fn adopt(&self) -> Result<(), CommitError> {
        match self.change(|| Ok(Plan { adopts: true, ..Plan::default() }))? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Opens a journal, decides what `plan` returns, and carries it out; returns the error if the next run has to
    /// finish it.
    fn change(
        &self,
        plan: impl FnOnce() -> Result<Plan, CommitError>,
    ) -> Result<Option<LakeError>, CommitError> {
        let journal = StoreJournal::open(None, Vec::new());
        let opened = self.open(&journal).map_err(CommitError::from);
        let (version, plan) = match opened.and_then(|version| Ok((version, plan()?))) {
            Ok(opened) => opened,
            Err(failure) => return Err(self.roll_back_after(failure, &journal)),
        };
        let journal = StoreJournal { state: JournalState::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &version)?;
        self.finish_own(&journal, None)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
