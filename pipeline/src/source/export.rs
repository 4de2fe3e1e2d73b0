//! An export: one snapshot of a dataset, as the service or local files offer it.

use chrono::{DateTime, Utc};

use crate::{
    manifest::{GeneratedTimeFrom, Route},
    snapshot::SnapshotId,
};

/// What is known of an export before its parts are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// How the parts come.
    pub route: Route,
    /// When the service generated the export.
    pub generated_time: DateTime<Utc>,
    /// Where that was read.
    pub generated_time_from: GeneratedTimeFrom,
    /// Number of parts; `None` for JSON pages, of which only the next is known.
    pub num_parts: Option<u64>,
    /// Size of all parts, where known: that of local files, unless a pipe is among them that is not read.
    pub num_bytes: Option<u64>,
}

impl Export {
    /// The snapshot that the export is of.
    pub fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::new(self.generated_time)
    }
}
