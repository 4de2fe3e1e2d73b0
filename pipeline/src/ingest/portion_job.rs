//! What a portion of a snapshot is written from, and with what.

use std::num::NonZeroUsize;
use std::sync::Arc;

use schema::Dataset;
use tokio::runtime::Runtime;

use crate::cancel::Cancel;
use crate::manifest::Route;
use crate::memory::MemoryBudget;
use crate::progress::Progress;

/// What is to be read, and with what.
pub(super) struct PortionJob<'j> {
    pub(super) dataset: &'static Dataset,
    pub(super) route: Route,
    /// Parts to read; `None` while unknown.
    pub(super) num_parts: Option<u64>,
    /// Whether a later attempt finds the fetched parts in the spool.
    pub(super) is_resumable: bool,
    pub(super) capture_extra_fields: bool,
    pub(super) threads: NonZeroUsize,
    pub(super) memory: MemoryBudget,
    pub(super) runtime: &'j Runtime,
    pub(super) progress: &'j Arc<Progress>,
    pub(super) cancel: &'j Cancel,
}
