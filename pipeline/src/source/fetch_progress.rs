//! Counters of delivery, which the progress display reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far delivery is. Counts what is delivered and what is on its way.
#[derive(Debug, Default)]
pub struct FetchProgress {
    /// Bytes that are here, those of unfinished parts included.
    pub bytes: AtomicU64,
    /// Parts that are whole.
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
