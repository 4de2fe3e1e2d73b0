//! What a change of a table came to.

use std::path::PathBuf;

use crate::lake::LakeError;
use crate::snapshot::SnapshotId;

/// What [`crate::lake::TableLock::recover`] did about one earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Its snapshot was as good as published, and now is.
    Finished {
        /// The run.
        run_id: String,
        /// Its snapshot.
        snapshot: SnapshotId,
    },
    /// What it had staged was removed.
    Removed {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was bringing into the log of a Delta table are in it.
    Adopted {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was removing are back.
    PutBack {
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
    /// Tells the log.
    pub fn log(&self) {
        match self {
            Self::Finished { run_id, snapshot } => {
                tracing::warn!(run_id, %snapshot, "finished what an earlier run had as good as published");
            }
            Self::Removed { run_id } => tracing::warn!(run_id, "removed what an earlier run had staged"),
            Self::Adopted { run_id } => {
                tracing::warn!(run_id, "finished the Delta log that an earlier run had begun");
            }
            Self::PutBack { run_id } => {
                tracing::warn!(run_id, "put back the snapshots that an interrupted run was removing");
            }
            Self::Expired { run_id } => {
                tracing::warn!(run_id, "removed the snapshots that an interrupted run was removing");
            }
        }
    }
}

/// What was removed.
#[derive(Debug)]
pub struct RemovedSnapshots {
    /// Why some of it still takes space; the next run tries again. Readers do not see it.
    pub left_over: Option<LakeError>,
}

/// A published snapshot.
#[derive(Debug)]
pub struct Published {
    /// The manifest's path.
    pub manifest_path: PathBuf,
    /// Snapshots that it took the place of.
    pub replaced: Vec<SnapshotId>,
    /// Why some of what was replaced could not be removed; the next run tries again. The snapshot is
    /// published all the same.
    pub left_over: Option<LakeError>,
}
