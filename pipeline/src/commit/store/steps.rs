//! After the decision: the steps of a decided journal, each of which can be repeated.

use std::path::Path;

use chrono::Utc;

use super::journal::{JournalState, Plan, PlannedSnapshot, SeenObject, SeenVersion, StoreJournal};
use super::store_commit::StoreCommit;
use crate::commit::CommitError;
use crate::commit::delta_log::TableLog;
use crate::delta::{DeltaError, FileStatistics};
use crate::lake::store::{Put, PutOutcome, Upload};
use crate::lake::{LakeError, MAX_MANIFEST_BYTES, MAX_SUCCESS_BYTES, REJECTS_FILE, SUCCESS_FILE};
use crate::manifest::to_json;

/// Attempts at a commit to a Delta log while other writers change the same date.
const MAX_LOG_ATTEMPTS: u32 = 3;

/// Why the steps after a decision were not completed.
pub(super) enum FinishError {
    /// They cannot be, and are rolled back.
    Undone(CommitError),
    /// The next run completes them.
    Failed(CommitError),
}

impl<E: Into<CommitError>> From<E> for FinishError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl StoreCommit<'_> {
    /// Carries out the steps of this run's own decision; returns the error if the next run has to complete them.
    pub(super) fn finish_own(
        &self,
        journal: &StoreJournal,
        statistics: Option<&[FileStatistics]>,
    ) -> Result<Option<LakeError>, CommitError> {
        match self.finish(journal, statistics) {
            Ok(()) => Ok(None),
            Err(FinishError::Failed(CommitError::Lake(error))) => Ok(Some(error)),
            Err(FinishError::Failed(error) | FinishError::Undone(error)) => Err(error),
        }
    }

    /// Carries out the steps of a decided journal. Succeeds as well if another run has done so.
    pub(super) fn finish(
        &self,
        journal: &StoreJournal,
        statistics: Option<&[FileStatistics]>,
    ) -> Result<(), FinishError> {
        let Some(plan) = &journal.plan else { return Ok(()) };
        if let Some(publication) = &plan.publication {
            let rejects = self.table.rejects_path(publication.manifest.snapshot_id());
            let (rejects, data): (Vec<_>, Vec<_>) =
                self.uploads(&journal.uploads).into_iter().partition(|upload| upload.path == rejects);
            if !(self.complete(journal, &data)? && self.complete(journal, &rejects)?) {
                return Ok(());
            }
            self.write_log(plan, statistics)?;
            if !self.put_manifest(publication)? {
                return Ok(());
            }
            if !self.put_success(publication)? {
                return Ok(());
            }
        } else {
            self.write_log(plan, None)?;
        }
        for object in &plan.removes_first {
            self.remove_seen(object)?;
        }
        let then: Vec<_> = plan.removes_then.iter().map(|path| self.path(path)).collect();
        self.store.delete_all(&then)?;
        if plan.publication.is_some() {
            self.sweep_tasks(&journal.uploads)?;
        }
        self.store.delete(&self.journal_path())?;
        Ok(())
    }

    /// Removes the version of an object that was read before the decision. Rejects may have a newer version: on Azure
    /// an upload can be completed twice, with the same bytes. It is of a later run if the journal is gone, which each
    /// run removes before it adds anything.
    fn remove_seen(&self, object: &SeenObject) -> Result<(), CommitError> {
        let path = self.path(&object.path);
        let mut version = object.seen.version();
        while !self.store.delete_version(&path, &version)? {
            let Some(current) = self.store.version(&path)? else { break };
            if !path.ends_with(REJECTS_FILE) || !self.is_unfinished()? {
                break;
            }
            version = current;
        }
        Ok(())
    }

    /// Whether the journal still exists; if not, another run has completed its steps.
    fn is_unfinished(&self) -> Result<bool, CommitError> {
        Ok(StoreJournal::read(self.table, self.store, &self.folder)?.is_some())
    }

    /// Completes uploads; returns false if another run has completed the journal's steps. If the store has dropped one
    /// of them, no run can, and the journal is undone.
    fn complete(&self, journal: &StoreJournal, uploads: &[Upload]) -> Result<bool, FinishError> {
        let Err(failure) = self.store.complete(uploads) else { return Ok(true) };
        if !failure.is_gone {
            return Err(failure.error.into());
        }
        let Some((found, version)) = StoreJournal::read(self.table, self.store, &self.folder)? else {
            return Ok(false);
        };
        if found.state == JournalState::Decided && self.mark_undone(found, version)?.is_none() {
            return Ok(false);
        }
        let data = journal.uploads.iter().map(|upload| self.path(&upload.path));
        let data: Vec<_> = data.filter(|path| !path.ends_with(REJECTS_FILE)).collect();
        self.abort(&journal.uploads)?;
        self.store.delete_all(&data)?;
        self.clean_up(journal)?;
        Err(FinishError::Undone(failure.error.into()))
    }

    /// Commits to the Delta log.
    fn write_log(&self, plan: &Plan, statistics: Option<&[FileStatistics]>) -> Result<(), CommitError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_write_log(plan, statistics) {
                Err(CommitError::Lake(LakeError::Delta(error)))
                    if matches!(*error, DeltaError::DateChanged { .. }) && attempts < MAX_LOG_ATTEMPTS => {}
                // The log has a later commit of the date: this one was made, and has been replaced since.
                Err(CommitError::ConcurrentPublish { .. }) if !self.is_unfinished()? => return Ok(()),
                result => return result,
            }
        }
    }

    fn try_write_log(&self, plan: &Plan, statistics: Option<&[FileStatistics]>) -> Result<(), CommitError> {
        let transaction = plan.publication.as_ref().and_then(|one| Some((&one.manifest, one.transaction?)));
        if transaction.is_none() && !plan.adopts && plan.removes_from_log.is_empty() {
            return Ok(());
        }
        let mut log = TableLog::open_or_new(self.table)?;
        if let Some((manifest, transaction)) = transaction
            && !log.has_committed(manifest, transaction)
        {
            if plan.adopts {
                log.read_unseen(Some(manifest.snapshot_id().date()))?;
            }
            match statistics {
                Some(statistics) => log.publish(manifest, transaction, statistics)?,
                None => log.publish(manifest, transaction, &log.fetch_statistics(&manifest.files)?)?,
            }
        } else if plan.adopts && transaction.is_none() {
            log.adopt_snapshots()?;
        }
        if !plan.removes_from_log.is_empty() {
            log.remove_files(&plan.removes_from_log, Utc::now())?;
        }
        Ok(())
    }

    /// Puts the manifest over the version that was read before the decision; returns false if another run has
    /// completed the steps and later changes followed.
    fn put_manifest(&self, publication: &PlannedSnapshot) -> Result<bool, CommitError> {
        let manifest = &publication.manifest;
        let path = self.table.manifest_path(manifest.snapshot_id());
        self.put_over(&path, &to_json(manifest), Some(&publication.manifest_over))
    }

    /// Puts `_SUCCESS`, as [`Self::put_manifest`].
    fn put_success(&self, publication: &PlannedSnapshot) -> Result<bool, CommitError> {
        let manifest = &publication.manifest;
        let id = manifest.snapshot_id();
        let path = self.table.data_folder(id.date()).join(SUCCESS_FILE);
        let success = to_json(&self.table.success_of(manifest));
        if !self.put_over(&path, &success, publication.success_over.as_ref())? {
            return Ok(false);
        }
        let found = self.store.read(&self.table.manifest_path(id), MAX_MANIFEST_BYTES)?;
        if found.is_some_and(|(found, _)| found == to_json(manifest)) {
            return Ok(true);
        }
        // Another run has replaced or removed the snapshot: this run's request was late.
        if let Some((found, version)) = self.store.read(&path, MAX_SUCCESS_BYTES)?
            && found == success
        {
            self.store.delete_version(&path, &version)?;
        }
        Ok(false)
    }

    fn put_over(&self, path: &Path, bytes: &[u8], seen: Option<&SeenVersion>) -> Result<bool, CommitError> {
        let mut put = SeenVersion::put_over(seen);
        loop {
            let PutOutcome::Refused(found) = self.store.put_confirmed(path, bytes, &put)? else {
                return Ok(true);
            };
            if !self.is_unfinished()? {
                return Ok(false);
            }
            // No other run has completed the steps: the object was changed by hand, or a request was late.
            self.lock.confirm()?;
            put = found.map_or(Put::Create, |(_, version)| Put::Update(version));
        }
    }
}
