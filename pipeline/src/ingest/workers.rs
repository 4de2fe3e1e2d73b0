//! The threads that decode parts and write row groups.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use codec::decode::field_map::OTHER_NAMES;
use codec::decode::reject::{Reject, RejectKind};
use codec::decode::{DecodeCounts, DecodeError};
use codec::memory_pool::MemoryPool;
use codec::part_reader::PartReader;
use codec::row_group::{DueRowGroup, RowGroups};
use rayon::{Scope, ThreadPool};
use tokio::sync::{Notify, mpsc};

use super::context::locked;
use super::error::{IngestError, internal};
use super::max_rejects::MaxRejects;
use super::portion_job::PortionJob;
use super::written_portion::{FirstReject, LostColumn, RejectedPart};
use crate::http::error_chain;
use crate::lake::LakeError;
use crate::manifest::{PartFacts, Route};
use crate::panics;
use crate::source::{OpenError, Source, StoredPart};
use crate::spill::DiskSpill;
use crate::spool::KEPT;
use crate::threads;
use crate::write::rejects::Rejects;
use crate::write::{MAX_PARTITIONS, SnapshotWriter, WriteError};

/// The most parts that wait between fetch and decode. Their bytes are in the spool.
const MAX_WAITING_PARTS: usize = 64;

/// The most distinct undocumented names in the manifest; further ones share one entry.
const MAX_UNDOCUMENTED_NAMES: usize = 4096;

/// The state that the threads of a run share between fetch and staging.
pub(super) struct Workers<'d> {
    pub(super) job: &'d PortionJob<'d>,
    pub(super) row_groups: Arc<RowGroups<DiskSpill>>,
    pub(super) writer: &'d SnapshotWriter<'d>,
    pub(super) rejects: Rejects<'d>,
    pub(super) parts: Mutex<Vec<(u64, PartFacts)>>,
    /// Parts with many rejects. Whether too many is known only when all parts are read.
    pub(super) rejected_parts: Mutex<Vec<RejectedPart>>,
    /// By name, columns that are null in all rows of some parts because of rejects.
    pub(super) lost_columns: Mutex<BTreeMap<String, LostColumn>>,
    pub(super) undocumented: Mutex<BTreeMap<String, u64>>,
    /// Admits one part at a time with a record that needs a large buffer.
    pub(super) large_records: MemoryPool,
    /// The first failure; later ones are its consequences.
    pub(super) failure: Mutex<Option<IngestError>>,
    pub(super) failed: AtomicBool,
    /// Wakes the run, which waits for the next part, after a failure that ends it.
    pub(super) ended: Notify,
    /// Set once rows of a damaged part have been written. The other parts are still fetched and checked, so that
    /// the next round finds them whole; their rows are dropped.
    pub(super) is_draining: AtomicBool,
    /// The number of parts and row groups that are queued or in progress.
    pub(super) num_tasks: AtomicUsize,
}

impl Workers<'_> {
    /// Decodes the parts that `source` delivers, while it fetches further ones.
    pub(super) fn decode_all(&self, pool: &ThreadPool, source: Source) -> Result<(), IngestError> {
        let job = self.job;
        job.progress.num_parts.store(job.num_parts.unwrap_or(0), Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(MAX_WAITING_PARTS);
        let (cancel, fetched) = (job.cancel.clone(), Arc::clone(&job.progress.fetch));
        let delivery = job.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(IngestError::Interrupted),
                delivered = source.deliver(sender, fetched) => delivered.map_err(IngestError::Source),
            }
        });
        pool.in_place_scope(|scope| {
            while let Some(part) = job.runtime.block_on(self.next_part(&mut receiver)) {
                if self.is_ending() {
                    break;
                }
                self.num_tasks.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move |scope| self.task(|| self.part(part, scope)));
            }
            // Closing the channel ends delivery.
            drop(receiver);
        });
        if self.failed.load(Ordering::Relaxed) {
            // Drops unfinished downloads; complete parts stay in the spool.
            delivery.abort();
        }
        let delivered =
            job.runtime.block_on(delivery).unwrap_or_else(|error| Err(internal("fetching ended", &error)));
        if job.cancel.is_cancelled() {
            return Err(IngestError::Interrupted);
        }
        if let Some(failure) = locked(&self.failure).take() {
            if self.failed.load(Ordering::Relaxed) {
                return Err(failure);
            }
            // If the damaged part could not be fetched again, the failure of the source explains more.
            return delivered.and(Err(failure));
        }
        delivered
    }

    /// Waits for the next part. Returns `None` if there are no more, or if the run has failed.
    async fn next_part(&self, receiver: &mut mpsc::Receiver<StoredPart>) -> Option<StoredPart> {
        tokio::select! {
            biased;
            () = self.ended.notified() => None,
            part = receiver.recv() => part,
        }
    }

    /// Runs a task on a thread of the pool and records its failure, including a panic.
    fn task(&self, task: impl FnOnce() -> Result<(), IngestError>) {
        let caught = panics::catch(task);
        if let Err(error) = caught.unwrap_or_else(|panicked| Err(panicked.into())) {
            let is_retryable = self.job.is_resumable && matches!(error, IngestError::DamagedPart { .. });
            let mut failure = locked(&self.failure);
            if is_retryable {
                self.is_draining.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            } else if !self.failed.swap(true, Ordering::Relaxed) {
                // A fatal failure takes the place of one that a restart could fix.
                *failure = Some(error);
                self.ended.notify_one();
            }
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes a row group, on an idle thread if there is one, as when fewer parts than threads are left.
    fn row_group<'s>(&'s self, due: DueRowGroup, scope: &Scope<'s>) -> Result<(), IngestError> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Ok(());
        }
        let write = move || Ok(due.write(|key, rows| self.writer.write(key, rows))?);
        // The pool may have fewer threads than requested.
        let num_threads = rayon::current_num_threads();
        if self.num_tasks.fetch_add(1, Ordering::Relaxed) < num_threads {
            scope.spawn(move |_| self.task(write));
            return Ok(());
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
        write()
    }

    fn is_ending(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.job.cancel.is_cancelled()
    }

    /// Decodes a part, or rejects it to be fetched again if it is damaged. That is an error only if some of its
    /// rows have been written, or if it cannot be fetched again.
    fn part<'s>(&'s self, part: StoredPart, scope: &Scope<'s>) -> Result<(), IngestError> {
        if self.is_ending() {
            return Ok(());
        }
        let file = match part.open() {
            Ok(file) => file,
            Err(OpenError::Unreadable(source)) => {
                return Err(IngestError::OpenPart { part: part.name, path: part.path, source });
            }
            Err(damage) => {
                tracing::debug!(part = part.name, error = %damage, "part is damaged");
                // It is fetched again. If it cannot be, delivery ends with an error.
                part.reject(&damage);
                return Ok(());
            }
        };
        let mut is_untouched = true;
        match self.decode(&part, file, &mut is_untouched, scope) {
            Err(IngestError::DamagedPart { source, .. }) => self.damaged(part, source, is_untouched),
            decoded => decoded,
        }
    }

    /// Decodes a part into the row groups of the run, and clears `is_untouched` with its first row or reject.
    fn decode<'s>(
        &'s self,
        part: &StoredPart,
        file: File,
        is_untouched: &mut bool,
        scope: &Scope<'s>,
    ) -> Result<(), IngestError> {
        let progress = self.job.progress;
        let route = self.job.route;
        let damaged = |source| IngestError::DamagedPart { part: part.name.clone(), route, source };
        let reader = PartReader::with_row_groups(file, Arc::clone(&self.row_groups)).map_err(damaged)?;
        let mut reader = reader.with_turns(self.large_records.clone());
        let mut is_read_ahead = false;
        let mut rejects =
            PartRejects { rejects: &self.rejects, part: &part.name, first: None, failure: None };
        let mut before = reader.counts();
        loop {
            // With fewer parts than threads, another thread inflates.
            let is_alone = || self.num_tasks.load(Ordering::Relaxed) < rayon::current_num_threads();
            if !is_read_ahead && is_alone() {
                is_read_ahead = true;
                if let Some(start) = threads::start_thread("inflate") {
                    reader = reader.with_read_ahead(start);
                }
            }
            let decoded = reader.decode_some(|reject| rejects.take(&reject));
            *is_untouched = reader.is_untouched();
            let more = decoded.map_err(damaged)?;
            if let Some(error) = rejects.failure.take() {
                return Err(error.into());
            }
            while let Some(due) = reader.next_due()? {
                self.row_group(due, scope)?;
            }
            if let Some(column) = self.job.dataset.partition_by
                && self.row_groups.num_partitions() > MAX_PARTITIONS
            {
                return Err(WriteError::TooManyPartitions { column }.into());
            }
            let counts = reader.counts();
            let rejected = counts.rejected_records - before.rejected_records;
            progress.rows.fetch_add(counts.records - before.records - rejected, Ordering::Relaxed);
            before = counts;
            if !more {
                break;
            }
            if self.is_ending() {
                return Ok(());
            }
        }
        self.count_undocumented(reader.undocumented());
        self.note_lost_columns(part, reader.lost_columns());
        let counts = reader.counts();
        if let Some(first) = rejects.first.take() {
            self.note_rejected_part(part, &counts, first);
        }
        let facts = part.facts().with_counts(&counts);
        tracing::debug!(part = part.name, records = facts.records, bytes = facts.bytes, "part decoded");
        locked(&self.parts).push((part.index, facts));
        progress.decoded_parts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn damaged(&self, part: StoredPart, source: DecodeError, is_untouched: bool) -> Result<(), IngestError> {
        let (name, path) = (part.name.clone(), part.path.clone());
        if part.reject(&source) {
            tracing::debug!(part = name, error = error_chain(&source), "part is damaged");
            if is_untouched {
                return Ok(());
            }
        } else {
            remove_from_spool(self.job.route, &name, &path);
        }
        Err(IngestError::DamagedPart { part: name, route: self.job.route, source })
    }

    fn note_rejected_part(&self, part: &StoredPart, counts: &DecodeCounts, first: FirstReject) {
        let (rejected, records) = (counts.rejected_records, counts.records);
        if rejected == records || MaxRejects::is_exceeded_by_part(rejected, records) {
            let (index, name, path) = (part.index, part.name.clone(), part.path.clone());
            locked(&self.rejected_parts).push(RejectedPart { index, name, path, rejected, records, first });
        }
    }

    fn note_lost_columns(&self, part: &StoredPart, columns: impl Iterator<Item = &'static str>) {
        for column in columns {
            let mut lost = locked(&self.lost_columns);
            let first = || LostColumn { index: part.index, part: part.name.clone(), num_parts: 0 };
            let lost = lost.entry(column.to_owned()).or_insert_with(first);
            lost.num_parts += 1;
            if part.index < lost.index {
                (lost.index, lost.part) = (part.index, part.name.clone());
            }
        }
    }

    fn count_undocumented<'n>(&self, names: impl Iterator<Item = (&'n str, u64)>) {
        let mut counts = locked(&self.undocumented);
        for (name, count) in names {
            let known = counts.contains_key(name) || counts.len() < MAX_UNDOCUMENTED_NAMES;
            *counts.entry(if known { name } else { OTHER_NAMES }.to_owned()).or_default() += count;
        }
    }
}

/// Removes a damaged part from the spool, so that the next run fetches it again.
pub(super) fn remove_from_spool(route: Route, part: &str, path: &Path) {
    let is_kept = path.parent().is_some_and(|folder| folder.join(KEPT).exists());
    if route != Route::Local
        && !is_kept
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(part, error = %error, "cannot remove the damaged part from the spool");
    }
}

/// Writes the rejects of one part.
struct PartRejects<'p, 'd> {
    rejects: &'p Rejects<'d>,
    part: &'p str,
    first: Option<FirstReject>,
    failure: Option<LakeError>,
}

impl PartRejects<'_, '_> {
    fn take(&mut self, reject: &Reject) {
        if reject.kind == RejectKind::Record && self.first.is_none() {
            self.first = Some(FirstReject { line: reject.line, reason: reject.reason.clone() });
        }
        if self.failure.is_none() {
            self.failure = self.rejects.write(self.part, reject).err();
        }
    }
}
