//! Why a run published nothing.

use std::borrow::Cow;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use codec::decode::DecodeError;
use codec::decode::framing::FramingError;

use super::max_rejects::MaxRejects;
use super::time_problem::{TimeProblem, rfc3339};
use crate::commit::CommitError;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::LakeError;
use crate::manifest::Route;
use crate::panics::Panicked;
use crate::snapshot::SnapshotId;
use crate::source::SourceError;
use crate::staging::AssembleError;
use crate::threads::ThreadError;
use crate::write::WriteError;

/// Why a run published nothing.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The source did not deliver.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A part is damaged.
    #[error("part {part} is damaged")]
    Part {
        /// Its name.
        part: String,
        /// How it came.
        route: Route,
        /// How.
        source: DecodeError,
    },
    /// So few records of a part became rows that it is not a part of the export.
    #[error(
        "part {part} is damaged: {rejected} of its {records} records were rejected, line {line}: {reason}; the rejects are in {}",
        rejects.display()
    )]
    RejectedPart {
        /// Its name.
        part: String,
        /// Records rejected.
        rejected: u64,
        /// Records read.
        records: u64,
        /// Where the first of them is.
        line: u64,
        /// Why that was rejected.
        reason: String,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A part that was there is gone or cannot be opened.
    #[error("cannot open part {part} at {}", path.display())]
    OpenPart {
        /// Its name.
        part: String,
        /// Where it was.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The export has no records.
    #[error("the export of {snapshot} holds no records; nothing was published")]
    Empty {
        /// The snapshot.
        snapshot: SnapshotId,
        /// How its parts came.
        route: Route,
    },
    /// Too many records were rejected.
    #[error("{rejected} of {records} records were rejected, more than {limit}; the rejects are in {}", rejects.display())]
    TooManyRejects {
        /// Records rejected.
        rejected: u64,
        /// Records read.
        records: u64,
        /// The limit.
        limit: MaxRejects,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// The rejects file could not be kept.
    #[error("cannot keep the rejects file at {}", path.display())]
    KeepRejects {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Data files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The lake could not be read or changed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Publishing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The snapshot is in the lake, and that was to fail.
    #[error("{dataset} snapshot {snapshot} is already in the lake")]
    AlreadyPublished {
        /// The dataset.
        dataset: &'static str,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The generated time is not one that a snapshot can have.
    #[error("generated time {}: {problem}", rfc3339(generated_time))]
    GeneratedTime {
        /// The time.
        generated_time: DateTime<Utc>,
        /// What is wrong with it.
        problem: TimeProblem,
        /// Whether it came with local files and not from the service.
        is_local: bool,
    },
    /// A plain table was asked for.
    #[error("{} is a Delta table", table.display())]
    IsDelta {
        /// Its root.
        table: PathBuf,
    },
    /// The system starts no thread.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// SIGINT or SIGTERM.
    #[error("interrupted; nothing was published")]
    Interrupted,
    /// A mistake of ours, or of the system below us.
    #[error("internal error: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl Diagnostic for IngestError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::Part { .. }
            | Self::RejectedPart { .. }
            | Self::OpenPart { .. }
            | Self::GeneratedTime { is_local: false, .. }
            | Self::Empty { .. }
            | Self::Write(WriteError::TooManyPartitions { .. }) => ExitCode::Source,
            Self::TooManyRejects { .. } => ExitCode::Rejects,
            Self::Interrupted => ExitCode::Interrupted,
            Self::IsDelta { .. } | Self::GeneratedTime { is_local: true, .. } => ExitCode::Usage,
            Self::Lake(error) | Self::Write(WriteError::Lake(error)) => error.exit_code(),
            Self::Commit(error) => error.exit_code(),
            Self::Write(WriteError::Rows { .. } | WriteError::Encode { .. }) | Self::Internal { .. } => {
                ExitCode::Internal
            }
            Self::KeepRejects { .. } | Self::AlreadyPublished { .. } | Self::Threads(_) => ExitCode::Lake,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Source(error) => return error.hint(),
            Self::Part { source: DecodeError::Text(FramingError::NotAnExport { found }), .. } => found.hint(),
            Self::RejectedPart { rejected, records, .. } if rejected == records => {
                "read their reasons there; leave the part out if it is not of the export"
            }
            Self::RejectedPart { .. } => {
                "read their reasons there; raise --max-rejects above 10% if they may be left out"
            }
            Self::Part { route: Route::Local, .. } => {
                "replace the file by a whole one, or leave it out of --from"
            }
            Self::Part { .. } => "run again to fetch it again",
            Self::Empty { route: Route::Local, .. } => {
                "look whether --from names the files that hold the export"
            }
            Self::Empty { .. } => {
                "look in the Defender portal whether the tenant has devices; the lake keeps its last snapshot"
            }
            Self::TooManyRejects { .. } => {
                "read their reasons there; raise --max-rejects if they may be left out"
            }
            Self::AlreadyPublished { .. } => "--if-published skip leaves it, replace publishes it again",
            Self::Lake(error) | Self::Write(WriteError::Lake(error)) => return error.hint(),
            Self::Commit(error) => return error.hint(),
            Self::Threads(error) => return error.hint(),
            Self::IsDelta { .. } => "leave --table plain out, or choose another --lake for a plain table",
            Self::GeneratedTime { problem: TimeProblem::Future { .. }, .. } => {
                "check this machine's clock; --allow-future accepts such a time"
            }
            Self::GeneratedTime { problem: TimeProblem::Year, is_local, .. } => {
                return is_local.then_some("pass --generated-time".into());
            }
            Self::Interrupted => "run again: what was downloaded is in the work dir",
            Self::Internal { .. } | Self::Write(WriteError::Rows { .. } | WriteError::Encode { .. }) => {
                "please report this with the lines above it"
            }
            Self::Write(WriteError::TooManyPartitions { .. }) => {
                "such an export is not one of Defender's; look at the values in the parts"
            }
            Self::OpenPart { .. } => "make the file readable, then run again",
            Self::KeepRejects { .. } => "make --work-dir writable, or choose another",
        };
        Some(hint.into())
    }
}

impl From<AssembleError> for IngestError {
    fn from(error: AssembleError) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

impl From<Panicked> for IngestError {
    fn from(panicked: Panicked) -> Self {
        Self::Internal { reason: panicked.to_string() }
    }
}

pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> IngestError {
    IngestError::Internal { reason: format!("{what}: {error}") }
}
