//! An export: one snapshot of a dataset, as the service or local files offer it.

use chrono::{DateTime, Utc};

use crate::manifest::{GeneratedTimeFrom, Route};
use crate::snapshot::SnapshotId;

/// An export as listed, before its parts are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Route of the parts.
    pub route: Route,
    /// When the service generated the export.
    pub generated_time: DateTime<Utc>,
    /// Source of the generated time.
    pub generated_time_from: GeneratedTimeFrom,
    /// Number of parts; `None` for JSON pages, of which only the next is known.
    pub num_parts: Option<u64>,
    /// Size of all parts in bytes, if known: that of local files, unless there is an unread pipe among them.
    pub num_bytes: Option<u64>,
}

impl Export {
    /// Returns the snapshot of the export.
    pub fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::new(self.generated_time)
    }
}
