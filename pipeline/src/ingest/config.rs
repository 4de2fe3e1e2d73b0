//! What one run is to do.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use schema::Dataset;

use super::max_rejects::MaxRejects;
use crate::lake::TableKind;
use crate::memory::MemoryBudget;
use crate::source::SourceConfig;

/// Least memory that a run is given: buffers of two threads and a row group of each partition.
pub const MIN_MEMORY_BYTES: u64 = 64 << 20;

/// What one run is to do; every value is validated.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct IngestConfig {
    /// Which export.
    pub dataset: &'static Dataset,
    /// Where the tables live.
    pub lake: String,
    /// Where parts come from.
    pub source: SourceConfig,
    /// The spool's place, and where files wait on their way to an object store.
    pub work_dir: PathBuf,
    /// What the table is to be; where nothing is said, what it is.
    pub table: Option<TableKind>,
    /// What to do with a snapshot that the lake has.
    pub if_published: IfPublished,
    /// How many rejected records are too many.
    pub max_rejects: MaxRejects,
    /// Whether undocumented fields become a column.
    pub capture_extra_fields: bool,
    /// Whether the spool stays after publishing.
    pub keep_parts: bool,
    /// Whether a generated time of more than two days ahead of the clock is accepted.
    pub allow_future: bool,
    /// Threads that decode and encode.
    pub threads: NonZeroUsize,
    /// What the whole run stays inside, at least [`MIN_MEMORY_BYTES`].
    pub memory: MemoryBudget,
    /// Touch nothing.
    pub dry_run: bool,
}

/// What to do with a snapshot that the lake has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfPublished {
    /// Nothing.
    #[default]
    Skip,
    /// Publish it again in its place.
    Replace,
    /// Fail.
    Fail,
}
