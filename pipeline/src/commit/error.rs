//! Why a change of a table failed.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// Why a change of a table failed. The lake is as it was, except after [`CommitError::UndoFailed`] and
/// [`CommitError::CommitStateUnknown`].
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Storage failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The manifest does not describe what was staged: our mistake.
    #[error("snapshot {snapshot} is not published: {reason}")]
    Inconsistent {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What does not hold.
        reason: String,
    },
    /// The date holds a newer snapshot.
    #[error("snapshot {snapshot} is older than {published}, which is published on the same date")]
    Superseded {
        /// The snapshot that was to be published.
        snapshot: SnapshotId,
        /// The one that stays.
        published: SnapshotId,
    },
    /// The snapshot's data folder holds a file that no manifest lists.
    #[error("{} holds {name:?}, which no manifest of this lake lists", folder.display())]
    ForeignFile {
        /// The snapshot's data folder.
        folder: PathBuf,
        /// The first such file, from there.
        name: String,
    },
    /// The snapshot's data folder is a file or a link.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// Where the snapshot belongs.
        path: PathBuf,
    },
    /// An earlier run was interrupted, and its data is missing or its journal is not one that we wrote.
    #[error("cannot finish or roll back the interrupted change in {}", folder.display())]
    Unrecoverable {
        /// The staging folder of that run.
        folder: PathBuf,
    },
    /// Another run has published the snapshot in the meantime.
    #[error("another run has published snapshot {snapshot}")]
    ConcurrentPublish {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Committing failed, and it is unknown whether the commit succeeded all the same.
    #[error("{failure}; whether the commit succeeded is unknown")]
    CommitStateUnknown {
        /// Why committing failed.
        failure: String,
        /// Why the state could not be read, or the change not be rolled back.
        source: Box<LakeError>,
    },
    /// A change failed, and so did rolling it back.
    #[error("{failure}, and rolling back failed")]
    UndoFailed {
        /// Why the change failed.
        failure: Box<LakeError>,
        /// Why rolling back failed.
        source: Box<LakeError>,
    },
}

impl Diagnostic for CommitError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(error) => error.exit_code(),
            Self::Inconsistent { .. } => ExitCode::Internal,
            _ => ExitCode::Lake,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Option<&'static str> = match self {
            Self::Lake(error) => return error.hint(),
            Self::ForeignFile { .. } | Self::NotAFolder { .. } => {
                Some("move it out of the table's folder, or choose another --lake")
            }
            Self::Unrecoverable { .. } => Some(
                "move the folder out of the lake and ingest again: its data was moved or deleted by hand",
            ),
            Self::UndoFailed { .. } | Self::CommitStateUnknown { .. } => {
                Some("run ingest again once the lake can be written: it recovers the table")
            }
            Self::Inconsistent { .. } | Self::Superseded { .. } | Self::ConcurrentPublish { .. } => None,
        };
        hint.map(Cow::Borrowed)
    }
}
