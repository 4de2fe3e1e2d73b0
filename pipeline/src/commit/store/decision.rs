//! The decision: the journal's way from open to decided or undone.

use std::io;

use object_store::UpdateVersion;

use super::StoreCommit;
use super::journal::{JournalState, StoreJournal};
use super::sweep::is_abandoned_claim;
use crate::commit::CommitError;
use crate::lake::store::{Put, PutOutcome};
use crate::lake::{Claim, LakeError, MAX_MANIFEST_BYTES, local};
use crate::snapshot::{RunId, SnapshotId};

/// How a journal ended, once it can no longer be decided.
pub(super) enum Ending {
    Absent,
    Undone(StoreJournal),
    Decided(StoreJournal),
}

impl StoreCommit<'_> {
    /// Puts an open journal in place, and then makes sure that the table was still ours at that moment: a run
    /// that takes over from now on finds it.
    pub(super) fn open(&self, journal: &StoreJournal) -> Result<UpdateVersion, LakeError> {
        let path = self.journal_path();
        match self.store.put_confirmed(&path, &journal.to_json(), &Put::Create)? {
            PutOutcome::Written(version) => self.lock.confirm().map(|()| version),
            PutOutcome::Refused(_) => {
                Err(local::io_error("create", &path)(io::ErrorKind::AlreadyExists.into()))
            }
        }
    }

    /// Puts a claim in the place of a manifest that is not there yet.
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
                // Only a run that has the lock is at work on the snapshot.
                Some(_) => return Err(self.lock.lost().into()),
            };
        }
    }

    /// Moves the journal from `open` to `decided`. Takes everything back if that is refused.
    pub(super) fn decide(&self, journal: &StoreJournal, open: &UpdateVersion) -> Result<(), CommitError> {
        if let Err(failure) = self.lock.confirm() {
            return Err(self.undo_after(failure.into(), journal));
        }
        let decided =
            self.store.put_confirmed(&self.journal_path(), &journal.to_json(), &Put::Update(open.clone()));
        let failure = match decided {
            Ok(PutOutcome::Written(_)) => return Ok(()),
            Ok(PutOutcome::Refused(_)) => self.lock.lost(),
            Err(failure) => failure,
        };
        match self.settle() {
            Ok(Ending::Decided(_)) => Ok(()),
            Ok(_) => Err(match self.clean_up(journal) {
                Ok(()) => failure.into(),
                Err(source) => {
                    CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
                }
            }),
            Err(CommitError::Lake(source)) => Err(CommitError::CommitStateUnknown {
                failure: failure.to_string(),
                source: Box::new(source),
            }),
            Err(error) => Err(error),
        }
    }

    /// Finds out how the journal ended, and undoes it if it has not: from then on it can no longer be decided.
    pub(super) fn settle(&self) -> Result<Ending, CommitError> {
        loop {
            let Some((journal, version)) = StoreJournal::read(self.table, self.store, &self.folder)? else {
                return Ok(Ending::Absent);
            };
            match journal.state {
                JournalState::Decided => return Ok(Ending::Decided(journal)),
                JournalState::Undone => return Ok(Ending::Undone(journal)),
                JournalState::Open => {
                    if let Some(journal) = self.mark_undone(journal, version)? {
                        return Ok(Ending::Undone(journal));
                    }
                }
            }
        }
    }

    /// Moves the journal to `undone`; nothing if it has another version by now.
    pub(super) fn mark_undone(
        &self,
        journal: StoreJournal,
        version: UpdateVersion,
    ) -> Result<Option<StoreJournal>, LakeError> {
        let undone = StoreJournal { state: JournalState::Undone, plan: None, ..journal };
        let put = self.store.put_confirmed(&self.journal_path(), &undone.to_json(), &Put::Update(version))?;
        Ok(matches!(put, PutOutcome::Written(_)).then_some(undone))
    }

    /// Gives up the uploads of a journal that is not decided, and removes its claim and then itself.
    pub(super) fn clean_up(&self, journal: &StoreJournal) -> Result<(), LakeError> {
        self.store.abort(&self.uploads(&journal.uploads))?;
        if let Some(path) = &journal.manifest_path {
            let path = self.path(path);
            if let Some((bytes, version)) = self.store.read(&path, MAX_MANIFEST_BYTES)?
                && let Some(claim) = Claim::parse(&bytes)
                && self.folder.ends_with(claim.claimed_by.as_str())
            {
                self.store.delete_version(&path, &version)?;
            }
        }
        self.store.delete(&self.journal_path())
    }

    /// Takes everything back after `failure`; returns what to report.
    pub(super) fn undo_after(&self, failure: CommitError, journal: &StoreJournal) -> CommitError {
        let undone = self.settle().and_then(|_| Ok(self.clean_up(journal)?));
        match (undone, failure) {
            (Ok(()), failure) => failure,
            (Err(CommitError::Lake(source)), CommitError::Lake(failure)) => {
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
            }
            (Err(error), failure) => {
                tracing::warn!(error = %error, "what was uploaded could not be given up; the next run does it");
                failure
            }
        }
    }
}
