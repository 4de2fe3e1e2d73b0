//! Results of changes and of recovery.

use std::path::PathBuf;

use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// What [`crate::lake::TableLock::recover`] did about one earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Its snapshot was committed but not finalised, and now is.
    Finished {
        /// The run.
        run_id: String,
        /// Its snapshot.
        snapshot: SnapshotId,
    },
    /// Its staged files were removed.
    Removed {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was adding to the Delta log are in it.
    Adopted {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was removing are back.
    RolledBack {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was removing are gone.
    Expired {
        /// The run.
        run_id: String,
    },
}

impl Recovered {
    /// Logs what was recovered.
    pub fn log(&self) {
        match self {
            Self::Finished { run_id, snapshot } => {
                tracing::warn!(run_id, %snapshot, "finalised a snapshot that an earlier run had committed");
            }
            Self::Removed { run_id } => tracing::warn!(run_id, "removed staged files of an earlier run"),
            Self::Adopted { run_id } => {
                tracing::warn!(run_id, "added the snapshots of an earlier run to the Delta log");
            }
            Self::RolledBack { run_id } => {
                tracing::warn!(run_id, "restored the snapshots that an interrupted run was removing");
            }
            Self::Expired { run_id } => {
                tracing::warn!(run_id, "removed the snapshots that an interrupted run was removing");
            }
        }
    }
}

/// Snapshots that were removed.
#[derive(Debug)]
pub struct RemovedSnapshots {
    /// Why some of their files could not be deleted yet; the next run tries again. Readers do not see them.
    pub left_over: Option<LakeError>,
}

/// A published snapshot.
#[derive(Debug)]
pub struct Published {
    /// The manifest's path.
    pub manifest_path: PathBuf,
    /// Snapshots that it replaced.
    pub replaced: Vec<SnapshotId>,
    /// Why some of what was replaced could not be removed; the next run tries again.
    pub left_over: Option<LakeError>,
}
