//! How a task ended, as it goes to the driver. Names parts, never their URLs.

use serde::{Deserialize, Serialize};

use super::super::error::IngestError;
use super::super::written_portion::WrittenPortion;
use crate::exit_code::{Diagnostic as _, ExitCode};
use crate::http::error_chain;
use crate::source::SourceError;

/// What a task returns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskReport {
    /// The number of its assignment in the job.
    pub(super) number: usize,
    pub(super) outcome: Outcome,
}

/// How a task ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// All parts were read and written.
    Done(Box<WrittenPortion>),
    /// Storage no longer accepts a URL: a new listing helps.
    UrlEnded { failure: TaskFailure },
    /// A part is damaged, and rows of it were written: what the task wrote is of no use.
    Damaged { failure: TaskFailure },
    /// What another attempt would not change.
    Failed { failure: TaskFailure },
}

/// An error of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskFailure {
    pub(super) exit_code: u8,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl From<&IngestError> for TaskFailure {
    fn from(error: &IngestError) -> Self {
        let hint = error.hint().map(Into::into);
        Self { exit_code: error.exit_code() as u8, text: error_chain(error), hint }
    }
}

impl From<TaskFailure> for IngestError {
    fn from(failure: TaskFailure) -> Self {
        let TaskFailure { exit_code, text, hint } = failure;
        Self::Task { code: ExitCode::of(exit_code), text, hint }
    }
}

impl From<IngestError> for Outcome {
    fn from(error: IngestError) -> Self {
        let failure = TaskFailure::from(&error);
        match error {
            IngestError::Source(SourceError::UrlEnded { .. }) => Self::UrlEnded { failure },
            IngestError::DamagedPart { .. } => Self::Damaged { failure },
            _ => Self::Failed { failure },
        }
    }
}
