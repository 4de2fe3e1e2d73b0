//! After the decision: the steps that a decided journal names, each of which can be repeated.

use std::path::Path;

use chrono::Utc;

use super::StoreCommit;
use super::journal::{JournalState, Plan, PlannedSnapshot, SeenObject, SeenVersion, StoreJournal};
use crate::commit::delta_log::DeltaLog;
use crate::commit::{CommitError, to_json};
use crate::delta::{DeltaError, FileStatistics};
use crate::lake::store::{Put, PutOutcome, Upload};
use crate::lake::{
    LakeError, MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_SUCCESS_BYTES, REJECTS_FILE, SUCCESS_FILE,
};

/// How often the commit to a Delta log is begun again because another writer has touched the same date.
const MAX_LOG_ATTEMPTS: u32 = 3;

/// Why the steps after a decision did not come to their end.
pub(super) enum FinishError {
    /// They cannot, and what was done is taken back.
    Undone(CommitError),
    /// The next run carries them on.
    Failed(CommitError),
}

impl<E: Into<CommitError>> From<E> for FinishError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl StoreCommit<'_> {
    /// Carries out the steps of this run's own decision; returns why the next run has to carry them on.
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

    /// Carries out the steps of a decided journal. Ends well too if another run has done so.
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
            self.remove_seen(plan, object)?;
        }
        let then: Vec<_> = plan.removes_then.iter().map(|path| self.path(path)).collect();
        self.store.delete_all(&then)?;
        self.store.delete(&self.journal_path())?;
        Ok(())
    }

    /// Removes the version of an object that was read before the decision. Rejects may have another by now: on
    /// Azure an upload can be completed once more, with the same bytes.
    pub(super) fn remove_seen(&self, plan: &Plan, object: &SeenObject) -> Result<(), LakeError> {
        let path = self.path(&object.path);
        let mut version = object.seen.version();
        while !self.store.delete_version(&path, &version)? {
            let Some(current) = self.store.version(&path)? else { break };
            if !path.ends_with(REJECTS_FILE) || self.is_others(plan, &path.with_file_name(MANIFEST_FILE))? {
                break;
            }
            version = current;
        }
        Ok(())
    }

    /// Whether a run that came later has put the manifest or the claim at `path`.
    pub(super) fn is_others(&self, plan: &Plan, path: &Path) -> Result<bool, LakeError> {
        let Some((bytes, version)) = self.store.read(path, MAX_MANIFEST_BYTES)? else { return Ok(false) };
        let is_new = plan.publication.as_ref().is_some_and(|new| bytes == to_json(&new.manifest));
        let is_old = plan
            .removes_first
            .iter()
            .any(|old| self.path(&old.path) == path && old.seen.version().e_tag == version.e_tag);
        Ok(!is_new && !is_old)
    }

    /// Whether the journal is still there to be finished; if not, another run has done so.
    pub(super) fn is_unfinished(&self) -> Result<bool, CommitError> {
        Ok(StoreJournal::read(self.table, self.store, &self.folder)?.is_some())
    }

    /// Completes uploads; says whether they are. If not, another run has carried on. If one of them is gone for
    /// good, no one can carry on, and the journal is undone.
    pub(super) fn complete(&self, journal: &StoreJournal, uploads: &[Upload]) -> Result<bool, FinishError> {
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
        self.store.abort(&self.uploads(&journal.uploads))?;
        self.store.delete_all(&data)?;
        self.clean_up(journal)?;
        Err(FinishError::Undone(failure.error.into()))
    }

    /// The commits to the log of a Delta table.
    pub(super) fn write_log(
        &self,
        plan: &Plan,
        statistics: Option<&[FileStatistics]>,
    ) -> Result<(), CommitError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_write_log(plan, statistics) {
                Err(CommitError::Lake(LakeError::Delta(error)))
                    if matches!(*error, DeltaError::DateChanged { .. }) && attempts < MAX_LOG_ATTEMPTS => {}
                // A later commit of the date: this one was made, and has been replaced since.
                Err(CommitError::ConcurrentPublish { .. }) if !self.is_unfinished()? => return Ok(()),
                result => return result,
            }
        }
    }

    pub(super) fn try_write_log(
        &self,
        plan: &Plan,
        statistics: Option<&[FileStatistics]>,
    ) -> Result<(), CommitError> {
        let transaction = plan.publication.as_ref().and_then(|one| Some((&one.manifest, one.transaction?)));
        if transaction.is_none() && !plan.adopts && plan.removes_from_log.is_empty() {
            return Ok(());
        }
        let mut log = DeltaLog::open_or_new(self.table)?;
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

    /// Puts the manifest over what was read before the decision. Says whether it is in place; if not, another
    /// run has carried on and more has come since.
    pub(super) fn put_manifest(&self, publication: &PlannedSnapshot) -> Result<bool, CommitError> {
        let manifest = &publication.manifest;
        let path = self.table.manifest_path(manifest.snapshot_id());
        self.put_over(&path, &to_json(manifest), Some(&publication.manifest_over))
    }

    /// The same for `_SUCCESS`.
    pub(super) fn put_success(&self, publication: &PlannedSnapshot) -> Result<bool, CommitError> {
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
        // Others have replaced or removed the snapshot: a request of this run's was late.
        if let Some((found, version)) = self.store.read(&path, MAX_SUCCESS_BYTES)?
            && found == success
        {
            self.store.delete_version(&path, &version)?;
        }
        Ok(false)
    }

    pub(super) fn put_over(
        &self,
        path: &Path,
        bytes: &[u8],
        seen: Option<&SeenVersion>,
    ) -> Result<bool, CommitError> {
        let mut put = SeenVersion::put_over(seen);
        loop {
            let PutOutcome::Refused(found) = self.store.put_confirmed(path, bytes, &put)? else {
                return Ok(true);
            };
            if !self.is_unfinished()? {
                return Ok(false);
            }
            // Nobody else has carried on: somebody has changed the object by hand, or a request was late.
            self.lock.confirm()?;
            put = found.map_or(Put::Create, |(_, version)| Put::Update(version));
        }
    }
}
