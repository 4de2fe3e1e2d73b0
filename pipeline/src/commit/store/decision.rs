//! The decision: moves a journal from `open` to `decided` or `undone`.

use std::io;

use object_store::UpdateVersion;

use super::journal::{JournalState, StoreJournal};
use super::store_commit::StoreCommit;
use super::sweep::is_abandoned_claim;
use crate::commit::CommitError;
use crate::lake::store::{Put, PutOutcome};
use crate::lake::{Claim, LakeError, MAX_MANIFEST_BYTES, local};
use crate::snapshot::{RunId, SnapshotId};
use crate::staging::JournalUpload;

/// The final state of a journal, which no run can change any more.
pub(super) enum FinalState {
    Absent,
    Undone(StoreJournal),
    Decided(StoreJournal),
}

impl StoreCommit<'_> {
    /// Creates an open journal, and then checks that this run still held the lock: a run that takes over from now on
    /// finds the journal.
    pub(super) fn open(&self, journal: &StoreJournal) -> Result<UpdateVersion, LakeError> {
        let path = self.journal_path();
        match self.store.put_confirmed(&path, &journal.to_json(), &Put::Create)? {
            PutOutcome::Written(version) => self.lock.confirm().map(|()| version),
            PutOutcome::Refused(_) => {
                Err(local::io_error("create", &path)(io::ErrorKind::AlreadyExists.into()))
            }
        }
    }

    /// Creates a claim in the place of a manifest that does not exist yet.
    pub(super) fn claim(&self, id: SnapshotId, run_id: &RunId) -> Result<UpdateVersion, CommitError> {
        let path = self.table.manifest_path(id);
        let claim = Claim { claimed_by: run_id.clone() }.to_json();
        let mut put = Put::Create;
        loop {
            let found = match self.store.put_confirmed(&path, &claim, &put)? {
                PutOutcome::Written(version) => return Ok(version),
                PutOutcome::Refused(found) => found,
            };
            put = match found {
                None => Put::Create,
                Some((bytes, version)) if is_abandoned_claim(self.table, self.store, &bytes)? => {
                    Put::Update(version)
                }
                // Only a run that holds the table lock writes there.
                Some(_) => return Err(self.lock.lost().into()),
            };
        }
    }

    /// Moves the journal from `open` to `decided`. Rolls everything back if that is refused.
    pub(super) fn decide(&self, journal: &StoreJournal, open: &UpdateVersion) -> Result<(), CommitError> {
        if let Err(failure) = self.lock.confirm() {
            return Err(self.roll_back_after(failure.into(), journal));
        }
        let decided =
            self.store.put_confirmed(&self.journal_path(), &journal.to_json(), &Put::Update(open.clone()));
        let failure = match decided {
            Ok(PutOutcome::Written(_)) => return Ok(()),
            Ok(PutOutcome::Refused(_)) => self.lock.lost(),
            Err(failure) => failure,
        };
        match self.settle() {
            Ok(FinalState::Decided(_)) => Ok(()),
            Ok(_) => Err(match self.clean_up(journal) {
                Ok(()) => failure.into(),
                Err(CommitError::Lake(source)) => {
                    CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
                }
                Err(error) => error,
            }),
            Err(CommitError::Lake(source)) => Err(CommitError::CommitStateUnknown {
                failure: failure.to_string(),
                source: Box::new(source),
            }),
            Err(error) => Err(error),
        }
    }

    /// Returns the final state of the journal; moves an open one to `undone` first.
    pub(super) fn settle(&self) -> Result<FinalState, CommitError> {
        loop {
            let Some((journal, version)) = StoreJournal::read(self.table, self.store, &self.folder)? else {
                return Ok(FinalState::Absent);
            };
            match journal.state {
                JournalState::Decided => return Ok(FinalState::Decided(journal)),
                JournalState::Undone => return Ok(FinalState::Undone(journal)),
                JournalState::Open => {
                    if let Some(journal) = self.mark_undone(journal, version)? {
                        return Ok(FinalState::Undone(journal));
                    }
                }
            }
        }
    }

    /// Moves the journal to `undone`; returns `None` if another run has changed it.
    pub(super) fn mark_undone(
        &self,
        journal: StoreJournal,
        version: UpdateVersion,
    ) -> Result<Option<StoreJournal>, LakeError> {
        let undone = StoreJournal { state: JournalState::Undone, plan: None, ..journal };
        let put = self.store.put_confirmed(&self.journal_path(), &undone.to_json(), &Put::Update(version))?;
        Ok(matches!(put, PutOutcome::Written(_)).then_some(undone))
    }

    /// Aborts the uploads of a journal that is not decided, and those of the run's tasks; removes its claim and then the
    /// journal. If only the holder of the lock can abort some of them, leaves the journal to the next run.
    pub(super) fn clean_up(&self, journal: &StoreJournal) -> Result<(), CommitError> {
        let is_aborted = self.abort(&journal.uploads)?;
        self.sweep_tasks(&journal.uploads)?;
        if let Some(path) = &journal.manifest_path {
            let path = self.path(path);
            if let Some((bytes, version)) = self.store.read(&path, MAX_MANIFEST_BYTES)?
                && let Some(claim) = Claim::parse(&bytes)
                && self.folder.ends_with(claim.claimed_by.as_str())
            {
                self.store.delete_version(&path, &version)?;
            }
        }
        if is_aborted {
            return Ok(self.store.delete(&self.journal_path())?);
        }
        // The run that holds the lock may have removed it while this one still sent.
        let undone = StoreJournal { state: JournalState::Undone, plan: None, ..journal.clone() };
        self.store.put_confirmed(&self.journal_path(), &undone.to_json(), &Put::Create)?;
        Ok(())
    }

    /// Aborts uploads. Returns false if some are left to the holder of the lock: if chunks belong to a name, another run can
    /// be sending its own rejects to the name of this run's.
    pub(super) fn abort(&self, journaled: &[JournalUpload]) -> Result<bool, LakeError> {
        let mut uploads = self.uploads(journaled);
        let num_uploads = uploads.len();
        if self.store.has_chunks_by_name()
            && uploads.iter().any(|upload| upload.sha256.is_some())
            && self.lock.confirm().is_err()
        {
            uploads.retain(|upload| upload.sha256.is_none());
        }
        self.store.abort(&uploads)?;
        Ok(uploads.len() == num_uploads)
    }

    /// Rolls everything back after `failure`; returns the error to report.
    pub(super) fn roll_back_after(&self, failure: CommitError, journal: &StoreJournal) -> CommitError {
        let undone = self.settle().and_then(|_| self.clean_up(journal));
        match (undone, failure) {
            (Ok(()), failure) => failure,
            (Err(CommitError::Lake(source)), CommitError::Lake(failure)) => {
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
            }
            (Err(error), failure) => {
                tracing::warn!(error = %error, "cannot abort uploads; the next run does");
                failure
            }
        }
    }
}
