//! Counters of delivery, which the progress display reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Progress of a delivery, including parts in transit.
#[derive(Debug, Default)]
pub struct FetchProgress {
    /// Bytes received, including those of unfinished parts.
    pub bytes: AtomicU64,
    /// Completed parts.
    pub parts: AtomicU64,
}

impl FetchProgress {
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_part(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_part(&self) {
        self.parts.fetch_sub(1, Ordering::Relaxed);
    }
}
