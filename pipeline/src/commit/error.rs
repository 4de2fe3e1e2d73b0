//! Why a change of a table failed.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// Why a snapshot was not published. The lake is as it was, but after [`CommitError::UndoFailed`].
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
    /// Something that no manifest lists is where the snapshot belongs.
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
    /// An earlier run's publish was interrupted, and its data folder is nowhere.
    #[error("the interrupted publish in {} can neither be finished nor undone", folder.display())]
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
    /// The commit to the Delta log failed, and whether it got through could not be found out.
    #[error("{failure}, and whether it was done could not be found out")]
    CommitStateUnknown {
        /// Why committing failed.
        failure: String,
        /// Why the log could not be asked, or what was done not be undone.
        source: Box<LakeError>,
    },
    /// Publishing failed, and so did undoing it.
    #[error("{failure}, and what was done could not be undone")]
    UndoFailed {
        /// Why publishing failed.
        failure: Box<LakeError>,
        /// Why undoing failed.
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
                "its data was moved or deleted by hand: move the folder out of the lake and ingest again",
            ),
            Self::UndoFailed { .. } | Self::CommitStateUnknown { .. } => {
                Some("once the lake can be written again, the next ingest puts the table in order")
            }
            Self::Inconsistent { .. } | Self::Superseded { .. } | Self::ConcurrentPublish { .. } => None,
        };
        hint.map(Cow::Borrowed)
    }
}
