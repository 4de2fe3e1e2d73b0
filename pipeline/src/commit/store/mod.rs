//! Changes of a table in an object store: uploads, the decision, the steps after it, and recovery.
//!
//! `../protocol.md` has the states of a journal and the steps that follow a decision. New files get their final names
//! beside the old ones. No two runs write one name: each name holds its run's id.
//!
//! Known limits: between the first completed upload and the last step a reader that only globs file names sees new
//! files beside old ones, or some of the new ones; `_SUCCESS` and the manifests say which are whole. A task that is
//! killed between beginning an upload and writing its journal leaves an upload without bytes.

mod journal;
mod store_commit;
pub(super) mod tasks;
mod sweep;
mod decision;
mod plan;
mod steps;

use object_store::UpdateVersion;

use self::decision::FinalState;
use self::journal::{JournalState, Plan, StoreJournal};
use self::plan::Planned;
use self::steps::FinishError;
pub(super) use self::store_commit::StoreCommit;
use super::{CommitError, Published, Recovered, RemovedSnapshots};
use crate::delta::FileStatistics;
use crate::digest::sha256_hex_of;
use crate::lake::store::Store;
use crate::lake::{LakeError, PublishedSnapshot, Table, TableLock, local};
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;
use crate::staging::{Destination, JournalUpload, Portion};

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
            FinalState::Absent => {
                if !run.sweep_tasks(&[])? {
                    continue;
                }
                Recovered::Removed { run_id }
            }
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

impl StoreCommit<'_> {
    /// Aborts what the run and its tasks have begun, for a run that ends without publishing. Best effort: an error is
    /// logged, the next run cleans up.
    pub(super) fn give_up(&self) {
        let cleaned_up = self.settle().and_then(|state| match state {
            FinalState::Absent => self.sweep_tasks(&[]).map(|_| ()),
            FinalState::Undone(journal) => self.clean_up(&journal),
            FinalState::Decided(_) => Ok(()),
        });
        if let Err(error) = cleaned_up {
            tracing::debug!(error = %error, "cannot abort uploads; the next run does");
        }
    }

    /// Decides to publish the uploads of `portions`, and carries out the steps. Sends the rejects itself, which are in
    /// the run's own folder.
    pub(super) fn publish(
        &self,
        destination: &Destination,
        portions: &[Portion],
        manifest: &Manifest,
        statistics: &[FileStatistics],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Published, CommitError> {
        let manifest_path = self.table.manifest_path(manifest.snapshot_id());
        let uploads = portions.iter().flat_map(|portion| portion.uploads.iter().cloned()).collect();
        let mut journal = StoreJournal::open(Some(self.table.below_lake(&manifest_path)), uploads);
        let prepared = self.open_and_send_rejects(&mut journal, destination, cancelled);
        let planned = prepared.and_then(|version| Ok((version, self.plan(manifest, &journal)?)));
        let (version, Planned { plan, replaced }) = match planned {
            Ok(planned) => planned,
            Err(failure) => return Err(self.roll_back_after(failure, &journal)),
        };
        journal = StoreJournal { state: JournalState::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &version)?;
        let left_over = self.finish_own(&journal, Some(statistics))?;
        Ok(Published { manifest_path, replaced, left_over })
    }

    /// Begins the upload of the rejects, if there are any, and adds it to the journal; opens that, and sends them.
    fn open_and_send_rejects(
        &self,
        journal: &mut StoreJournal,
        destination: &Destination,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<UpdateVersion, CommitError> {
        let staged = destination.rejects_path();
        if !local::exists(&staged)? {
            return Ok(self.open(journal)?);
        }
        let source = local::open_file(&staged)?;
        let bytes = source.metadata().map_err(local::io_error("read", &staged))?.len();
        let mut begun = self.store.begin(vec![(self.table.rejects_path(destination.snapshot()), bytes)])?;
        let digest = sha256_hex_of(local::open_file(&staged)?).map_err(local::io_error("read", &staged))?;
        let num_uploads = journal.uploads.len();
        for upload in &mut begun {
            upload.sha256 = Some(digest.clone());
        }
        journal.uploads.extend(begun.iter().map(|upload| JournalUpload::new(self.table, upload)));
        let version = self.open(journal)?;
        self.store.send(&mut begun, &[source], &|_, _| (), cancelled)?;
        journal.uploads.truncate(num_uploads);
        journal.uploads.extend(begun.iter().map(|upload| JournalUpload::new(self.table, upload)));
        Ok(version)
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
