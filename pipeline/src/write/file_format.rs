//! What all files of a snapshot share while they are written.

use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::SchemaDescPtr;
use schema::Dataset;

use crate::staging::{Destination, WRITE_BUFFER_BYTES};

/// Bytes that an open file holds before its first row group.
pub(super) const OPEN_FILE_BYTES: usize = WRITE_BUFFER_BYTES + 16 * 1024;

/// What all files of a snapshot share.
#[derive(Debug)]
pub(super) struct FileFormat<'s> {
    pub destination: &'s Destination,
    /// None has no directories below the date's.
    pub partition_column: Option<&'static str>,
    pub parquet_schema: SchemaDescPtr,
    pub dataset: &'s Dataset,
    pub properties: WriterPropertiesPtr,
    pub open: OpenFiles,
}

/// Counts and sizes of open files.
#[derive(Debug)]
pub(super) struct OpenFiles {
    pub num_files: AtomicUsize,
    pub num_bytes: AtomicUsize,
    pub max_bytes: usize,
}

impl OpenFiles {
    pub(super) fn add(&self, num_bytes: usize) {
        self.num_bytes.fetch_add(num_bytes, Ordering::Relaxed);
    }

    /// Whether open files exceed their limit, and one with `held_bytes` holds at least the mean.
    pub(super) fn is_to_close(&self, held_bytes: usize) -> bool {
        let num_bytes = self.num_bytes.load(Ordering::Relaxed);
        num_bytes > self.max_bytes
            && held_bytes.saturating_mul(self.num_files.load(Ordering::Relaxed)) >= num_bytes
    }
}
