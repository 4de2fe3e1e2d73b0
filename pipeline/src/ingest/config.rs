//! The configuration of a run.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use schema::Dataset;

use super::max_rejects::MaxRejects;
use crate::lake::TableKind;
use crate::memory::MemoryBudget;
use crate::source::SourceConfig;

/// The least memory budget of a run: the buffers of two threads, and a row group of each partition.
pub const MIN_MEMORY_BYTES: u64 = 64 << 20;

/// The configuration of a run; its values are validated.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct IngestConfig {
    /// The datasets to ingest.
    pub datasets: DatasetChoice,
    /// The location of the lake, a path or URL.
    pub lake: String,
    /// Where to fetch or read parts.
    pub source: SourceConfig,
    /// The folder of the spool, and of files on their way to an object store.
    pub work_dir: PathBuf,
    /// The kind of the table; `None` keeps its kind.
    pub table: Option<TableKind>,
    /// What to do if the lake already has the snapshot.
    pub if_published: IfPublished,
    /// The limit of rejected records.
    pub max_rejects: MaxRejects,
    /// Whether to keep undocumented fields in a column.
    pub capture_extra_fields: bool,
    /// Whether to keep the spool after publishing.
    pub keep_parts: bool,
    /// Whether to accept a generated time more than two days ahead of the clock.
    pub allow_future: bool,
    /// The number of threads that decode and encode.
    pub threads: NonZeroUsize,
    /// The memory budget of the run, at least [`MIN_MEMORY_BYTES`].
    pub memory: MemoryBudget,
    /// Whether to change nothing.
    pub dry_run: bool,
}

/// Which datasets to take.
#[derive(Debug, Clone)]
pub enum DatasetChoice {
    /// These, each once, in this order. One without permission fails.
    Named(Vec<&'static Dataset>),
    /// All that the token permits.
    All,
}

impl DatasetChoice {
    /// Whether the datasets were named.
    pub fn is_named(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    /// Whether a run can take more than one dataset: its reports then say which one they are about.
    pub fn is_several(&self) -> bool {
        match self {
            Self::Named(datasets) => datasets.len() > 1,
            Self::All => true,
        }
    }
}

/// What to do if the lake already has the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfPublished {
    /// Leave it.
    #[default]
    Skip,
    /// Replace it.
    Replace,
    /// Fail.
    Fail,
}
