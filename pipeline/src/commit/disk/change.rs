//! What every change of a table on a local disk can be asked after an interruption.

use crate::commit::{CommitError, Recovered};
use crate::lake::LakeError;

/// A change that has a journal, made by this run or an interrupted one. Its steps look at what is already done
/// before they act, so each can be interrupted and repeated.
pub(super) trait Change {
    /// Whether the change can only be finished by now, and no longer be rolled back.
    ///
    /// # Errors
    ///
    /// Storage, and [`CommitError::Unrecoverable`] if neither is possible.
    fn is_decided(&self) -> Result<bool, CommitError>;

    /// Carries out what is left to do.
    fn finish(&self) -> Result<(), LakeError>;

    /// Undoes what was done, and then removes the journal.
    fn roll_back(&self) -> Result<(), LakeError>;

    /// What recovery did, for the log.
    fn recovered(&self, run_id: String, is_decided: bool) -> Recovered;
}
