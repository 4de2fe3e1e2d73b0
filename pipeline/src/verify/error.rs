//! Why a verification could not be completed.

use crate::exit_code::ExitCode;
use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// Why a verification could not be completed. Damage is a [`Finding`], no error.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A folder could not be listed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A run replaced the snapshot in the meantime; what was found is of two snapshots.
    #[error("snapshot {snapshot} was replaced while it was verified")]
    Replaced {
        /// The snapshot that was to be verified.
        snapshot: SnapshotId,
    },
    /// The callback asked to stop.
    #[error("interrupted while snapshot {snapshot} was verified")]
    Cancelled {
        /// The snapshot that was being verified.
        snapshot: SnapshotId,
    },
}

impl VerifyError {
    /// How the program ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(error) => error.exit_code(),
            Self::Replaced { .. } => ExitCode::Lake,
            Self::Cancelled { .. } => ExitCode::Interrupted,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::Replaced { .. } => Some("verify again"),
            Self::Cancelled { .. } => None,
        }
    }
}
