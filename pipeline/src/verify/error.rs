//! Why a verification could not be completed.

use std::borrow::Cow;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// Why a verification could not be completed. Damage is a [`super::Finding`], not an error.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A folder could not be listed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A run replaced the snapshot meanwhile; the findings would be about a mix of two snapshots.
    #[error("snapshot {snapshot} was replaced during verification")]
    Replaced {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The callback requested to stop.
    #[error("interrupted while verifying snapshot {snapshot}")]
    Cancelled {
        /// The snapshot.
        snapshot: SnapshotId,
    },
}

impl Diagnostic for VerifyError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(error) => error.exit_code(),
            Self::Replaced { .. } => ExitCode::Lake,
            Self::Cancelled { .. } => ExitCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::Replaced { .. } => Some("run verify again".into()),
            Self::Cancelled { .. } => None,
        }
    }
}
