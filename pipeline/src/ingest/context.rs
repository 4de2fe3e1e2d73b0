//! What all steps at one dataset of a run share, and how they wait and lock.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use schema::Dataset;
use tokio::runtime::Runtime;

use super::cluster::Cluster;
use super::config::IngestConfig;
use super::error::IngestError;
use crate::cancel::Cancel;
use crate::progress::Progress;
use crate::snapshot::RunId;
use crate::source::{Export, Sources};

/// A run at one of its datasets.
#[derive(Clone, Copy)]
pub(super) struct Session<'r> {
    pub(super) config: &'r IngestConfig,
    pub(super) sources: &'r Sources<'r>,
    pub(super) dataset: &'static Dataset,
    pub(super) runtime: &'r Runtime,
    pub(super) progress: &'r Arc<Progress>,
    pub(super) cancel: &'r Cancel,
    /// What reads and writes the parts; this machine if nothing.
    pub(super) cluster: Option<&'r dyn Cluster>,
}

/// A session that publishes.
pub(super) struct Run<'r> {
    pub(super) session: &'r Session<'r>,
    pub(super) export: &'r Export,
    pub(super) id: RunId,
    pub(super) started_at: DateTime<Utc>,
}

/// Runs a future to its end, or until the run is cancelled.
pub(super) fn wait<T>(
    runtime: &Runtime,
    cancel: &Cancel,
    future: impl Future<Output = T>,
) -> Result<T, IngestError> {
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(IngestError::Interrupted),
            output = future => Ok(output),
        }
    })
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn unpoisoned<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
