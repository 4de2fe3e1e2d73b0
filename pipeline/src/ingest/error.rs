//! Why a run published nothing.

use std::borrow::Cow;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use codec::decode::DecodeError;
use codec::decode::framing::FramingError;

use super::cluster::ClusterError;
use super::max_rejects::MaxRejects;
use super::time_problem::TimeProblem;
use crate::commit::CommitError;
use crate::display::time_text;
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
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A part is damaged.
    #[error("part {part} is damaged")]
    DamagedPart {
        /// Its name.
        part: String,
        /// The route of the part.
        route: Route,
        /// The damage.
        source: DecodeError,
    },
    /// So many records of a part were rejected that the part is damaged.
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
        /// The line of the first rejected record.
        line: u64,
        /// Why that record was rejected.
        reason: String,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A spooled or local part cannot be opened.
    #[error("cannot open part {part} at {}", path.display())]
    OpenPart {
        /// Its name.
        part: String,
        /// The path of the part.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The export has no records.
    #[error("the export of {snapshot} has no records; nothing was published")]
    Empty {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The route of the export.
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
    /// The rejects file could not be copied out of staging.
    #[error("cannot keep the rejects file at {}", path.display())]
    KeepRejects {
        /// The path of the copy.
        path: PathBuf,
        /// The error of the operating system.
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
    /// The snapshot is in the lake, with [`IfPublished::Fail`](super::IfPublished::Fail).
    #[error("{dataset} snapshot {snapshot} is already in the lake")]
    AlreadyPublished {
        /// The dataset.
        dataset: &'static str,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The generated time is not valid.
    #[error("generated time {}: {problem}", time_text(generated_time))]
    GeneratedTime {
        /// The time.
        generated_time: DateTime<Utc>,
        /// Why it is not valid.
        problem: TimeProblem,
        /// Whether it is that of local files, not of the service.
        is_local: bool,
    },
    /// A plain table was requested, and the table is a Delta table.
    #[error("{} is a Delta table", table.display())]
    IsDelta {
        /// Its root.
        table: PathBuf,
    },
    /// A task of a cluster failed.
    #[error("{text}")]
    Task {
        /// The exit code of its error.
        code: ExitCode,
        /// Its error.
        text: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A job on a cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// An executor has another version of the program.
    #[error("the driver has version {driver} of defender-lake, this executor {}", env!("CARGO_PKG_VERSION"))]
    OtherVersion {
        /// The driver's version.
        driver: String,
    },
    /// An option that has no meaning for the executors of a cluster.
    #[error("{option} cannot be used with executors")]
    NotOnCluster {
        /// The option.
        option: &'static str,
    },
    /// No thread could be started.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// The run was interrupted by SIGINT or SIGTERM.
    #[error("interrupted; nothing was published")]
    Interrupted,
    /// The token permits none of the datasets.
    #[error("the token permits none of the datasets")]
    NonePermitted {
        /// What to do about it.
        hint: String,
    },
    /// A panic, which is a bug.
    #[error("internal error: {0}")]
    Panicked(#[from] Panicked),
    /// A bug, or an unexpected failure of the operating system.
    #[error("internal error: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl IngestError {
    /// Returns whether the service refuses the dataset because the token lacks its permission, or the tenant a feature.
    pub(super) fn is_not_permitted(&self) -> bool {
        matches!(self, Self::Source(SourceError::Fetch(error)) if error.is_not_permitted())
    }
}

impl Diagnostic for IngestError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::DamagedPart { .. }
            | Self::RejectedPart { .. }
            | Self::OpenPart { .. }
            | Self::GeneratedTime { is_local: false, .. }
            | Self::Empty { .. }
            | Self::Write(WriteError::TooManyPartitions { .. }) => ExitCode::Source,
            Self::NonePermitted { .. } => ExitCode::NotAuthorised,
            Self::Task { code, .. } => *code,
            Self::Cluster(error) => error.exit_code(),
            Self::Panicked(panicked) => panicked.exit_code(),
            Self::TooManyRejects { .. } => ExitCode::Rejects,
            Self::Interrupted => ExitCode::Interrupted,
            Self::IsDelta { .. }
            | Self::OtherVersion { .. }
            | Self::NotOnCluster { .. }
            | Self::GeneratedTime { is_local: true, .. } => ExitCode::Usage,
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
            Self::DamagedPart { source: DecodeError::Text(FramingError::NotAnExport { found }), .. } => {
                found.hint()
            }
            Self::RejectedPart { rejected, records, .. } if rejected == records => {
                "see their reasons there; leave the part out if it does not belong to the export"
            }
            Self::RejectedPart { .. } => {
                "see their reasons there; raise --max-rejects above 10% to publish without them"
            }
            Self::DamagedPart { route: Route::Local, .. } => {
                "replace the file with a complete one, or leave it out of --from"
            }
            Self::DamagedPart { .. } => "run again to fetch it again",
            Self::Empty { route: Route::Local, .. } => "check that --from names the files of the export",
            Self::Empty { .. } => {
                "check in the Defender portal that the tenant has devices; the lake keeps its last snapshot"
            }
            Self::TooManyRejects { .. } => {
                "see their reasons there; raise --max-rejects to publish without them"
            }
            Self::AlreadyPublished { .. } => {
                "use --if-published skip to leave it, or replace to publish it again"
            }
            Self::Lake(error) | Self::Write(WriteError::Lake(error)) => return error.hint(),
            Self::Commit(error) => return error.hint(),
            Self::Threads(error) => return error.hint(),
            Self::Task { hint, .. } => return hint.clone().map(Into::into),
            Self::Cluster(error) => return error.hint(),
            Self::OtherVersion { .. } => "install the same version on the driver and on every executor",
            Self::NotOnCluster { .. } => "leave it out, or run on the driver",
            Self::NonePermitted { hint } => return Some(hint.clone().into()),
            Self::Panicked(panicked) => return panicked.hint(),
            Self::IsDelta { .. } => "omit --table plain, or choose another --lake for a plain table",
            Self::GeneratedTime { problem: TimeProblem::Future { .. }, .. } => {
                "check this machine's clock, or pass --allow-future"
            }
            Self::GeneratedTime { problem: TimeProblem::Year, is_local, .. } => {
                return is_local.then_some("pass --generated-time".into());
            }
            Self::Interrupted => "run again to resume: downloaded parts are in the work dir",
            Self::Internal { .. } | Self::Write(WriteError::Rows { .. } | WriteError::Encode { .. }) => {
                "report this with the lines above it"
            }
            Self::Write(WriteError::TooManyPartitions { .. }) => {
                "check the values in the parts: an export of Defender has few"
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

pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> IngestError {
    IngestError::Internal { reason: format!("{what}: {error}") }
}
