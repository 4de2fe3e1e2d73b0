//! The threads that decode parts and write row groups.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
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

use super::context::{Run, locked};
use super::error::{IngestError, internal};
use super::max_rejects::MaxRejects;
use crate::http::error_chain;
use crate::lake::LakeError;
use crate::manifest::{PartFacts, Route};
use crate::panics;
use crate::source::{OpenError, Source, StoredPart};
use crate::spill::Spill;
use crate::spool::KEPT;
use crate::write::rejects::Rejects;
use crate::write::{MAX_PARTITIONS, SnapshotWriter, WriteError};

/// Parts that wait between fetch and decode; their bytes wait in the spool.
const MAX_WAITING_PARTS: usize = 64;

/// Distinct undocumented names in the manifest, at most; further ones share one entry.
const MAX_UNDOCUMENTED_NAMES: usize = 4096;

/// The part of a run between fetch and staging, shared by its threads.
pub(super) struct Decode<'d> {
    pub(super) run: &'d Run<'d>,
    pub(super) row_groups: Arc<RowGroups<Spill>>,
    pub(super) writer: &'d SnapshotWriter<'d>,
    pub(super) rejects: Rejects<'d>,
    pub(super) parts: Mutex<Vec<(u64, PartFacts)>>,
    /// Those with many rejects: whether too many, is known once all parts are read.
    pub(super) rejected_parts: Mutex<Vec<RejectedPart>>,
    /// By name, columns that rejects made null in all rows of some parts.
    pub(super) lost_columns: Mutex<BTreeMap<&'static str, LostColumn>>,
    pub(super) undocumented: Mutex<BTreeMap<String, u64>>,
    /// Turns of parts with a record that needs a large buffer.
    pub(super) large_records: MemoryPool,
    /// The first failure; later ones follow from it.
    pub(super) failure: Mutex<Option<IngestError>>,
    pub(super) failed: AtomicBool,
    /// Told of a failure that ends the run, which waits for the next part.
    pub(super) ended: Notify,
    /// Rows of a damaged part are among others. The rest is still fetched and checked, so that nothing
    /// else is in the way of the next round; what comes of it is dropped.
    pub(super) is_draining: AtomicBool,
    /// Parts and row groups that threads are busy with, or will be.
    pub(super) num_tasks: AtomicUsize,
}

/// A part whose rejects may be too many.
pub(super) struct RejectedPart {
    pub(super) index: u64,
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) rejected: u64,
    pub(super) records: u64,
    pub(super) first: FirstReject,
}

/// The first record of a part that was rejected.
pub(super) struct FirstReject {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// A column that is null in all rows of some parts by rejects.
pub(super) struct LostColumn {
    /// The first of them.
    pub(super) index: u64,
    pub(super) part: String,
    pub(super) num_parts: u64,
}

impl Decode<'_> {
    /// Decodes every part that `source` delivers, while it delivers the others.
    pub(super) fn all_parts(&self, pool: &ThreadPool, source: Source) -> Result<(), IngestError> {
        let run = self.run;
        run.progress.num_parts.store(run.export.num_parts.unwrap_or(0), Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(MAX_WAITING_PARTS);
        let (cancel, fetched) = (run.cancel.clone(), Arc::clone(&run.progress.fetch));
        let delivery = run.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(IngestError::Interrupted),
                delivered = source.deliver(sender, fetched) => delivered.map_err(IngestError::Source),
            }
        });
        pool.in_place_scope(|scope| {
            while let Some(part) = run.runtime.block_on(self.next_part(&mut receiver)) {
                if self.is_ending() {
                    break;
                }
                self.num_tasks.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move |scope| self.task(|| self.part(part, scope)));
            }
            // Delivery ends when nobody takes its parts.
            drop(receiver);
        });
        if self.failed.load(Ordering::Relaxed) {
            // What is still on its way is of no use; what is whole stays in the spool.
            delivery.abort();
        }
        let delivered =
            run.runtime.block_on(delivery).unwrap_or_else(|error| Err(internal("fetching ended", &error)));
        if run.cancel.is_cancelled() {
            return Err(IngestError::Interrupted);
        }
        if let Some(failure) = locked(&self.failure).take() {
            if self.failed.load(Ordering::Relaxed) {
                return Err(failure);
            }
            // A damaged part that could not be had whole either is the source's failure.
            return delivered.and(Err(failure));
        }
        delivered
    }

    /// Waits for the next part; none if there are no more, or if the run has failed.
    async fn next_part(&self, receiver: &mut mpsc::Receiver<StoredPart>) -> Option<StoredPart> {
        tokio::select! {
            biased;
            () = self.ended.notified() => None,
            part = receiver.recv() => part,
        }
    }

    /// Runs what a thread was given to do, and keeps its failure; a panic is one.
    fn task(&self, task: impl FnOnce() -> Result<(), IngestError>) {
        let caught = panics::catch(task);
        if let Err(error) = caught.unwrap_or_else(|panicked| Err(panicked.into())) {
            let is_curable = error.reason_to_start_over(self.run.config).is_some();
            let mut failure = locked(&self.failure);
            if is_curable {
                self.is_draining.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            } else if !self.failed.swap(true, Ordering::Relaxed) {
                // It says why the run ends, whatever could have been mended.
                *failure = Some(error);
                self.ended.notify_one();
            }
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes a row group, on a thread that has nothing to do if there is one: while parts are fewer
    /// than threads, at the end of each run at least.
    fn row_group<'s>(&'s self, due: DueRowGroup, scope: &Scope<'s>) -> Result<(), IngestError> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Ok(());
        }
        let write = move || Ok(due.write(|key, batch| self.writer.write(key, batch))?);
        // Of the pool that this is on: perhaps fewer than were asked for.
        let num_threads = rayon::current_num_threads();
        if self.num_tasks.fetch_add(1, Ordering::Relaxed) < num_threads {
            scope.spawn(move |_| self.task(write));
            return Ok(());
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
        write()
    }

    fn is_ending(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.run.cancel.is_cancelled()
    }

    /// Decodes a part that is well, and gives one back that is damaged. That is an error only where
    /// something of it is among the others by then, or where it will not be delivered again.
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
                // To be fetched again. Where that is not to be, delivery has ended, and says why.
                part.reject(&damage);
                return Ok(());
            }
        };
        let mut is_untouched = true;
        match self.decode(&part, file, &mut is_untouched, scope) {
            Err(IngestError::Part { source, .. }) => self.damaged(part, source, is_untouched),
            decoded => decoded,
        }
    }

    /// Decodes a part into the row groups of the run; `is_untouched` is made false once something came of it.
    fn decode<'s>(
        &'s self,
        part: &StoredPart,
        file: File,
        is_untouched: &mut bool,
        scope: &Scope<'s>,
    ) -> Result<(), IngestError> {
        let progress = self.run.progress;
        let route = self.run.export.route;
        let damaged = |source| IngestError::Part { part: part.name.clone(), route, source };
        let reader = PartReader::with_row_groups(file, Arc::clone(&self.row_groups)).map_err(damaged)?;
        let mut reader = reader.with_turns(self.large_records.clone());
        let mut rejects =
            PartRejects { rejects: &self.rejects, part: &part.name, first: None, failure: None };
        let mut before = reader.counts();
        loop {
            let decoded = reader.decode_some(|reject| rejects.take(&reject));
            *is_untouched = reader.is_untouched();
            let more = decoded.map_err(damaged)?;
            if let Some(error) = rejects.failure.take() {
                return Err(error.into());
            }
            while let Some(due) = reader.next_due()? {
                self.row_group(due, scope)?;
            }
            if let Some(column) = self.run.config.dataset.partition_by
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
        let facts = PartFacts {
            name: part.name.clone(),
            bytes: part.bytes,
            md5: part.md5.clone(),
            proof: Some(part.proof),
            json_bytes: counts.json_bytes,
            records: counts.records,
            rejected_records: counts.rejected_records,
            field_rejects: counts.field_rejects,
            coerced: counts.coerced,
            duplicate_names: counts.duplicate_names,
        };
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
            self.remove_from_spool(&name, &path);
        }
        Err(IngestError::Part { part: name, route: self.run.export.route, source })
    }

    /// What was fetched damaged is to be fetched again, not taken from the spool for ever.
    fn remove_from_spool(&self, part: &str, path: &Path) {
        let is_kept = path.parent().is_some_and(|folder| folder.join(KEPT).exists());
        if self.run.export.route != Route::Local
            && !is_kept
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(part, error = %error, "the damaged part could not be removed from the spool");
        }
    }

    fn note_rejected_part(&self, part: &StoredPart, counts: &DecodeCounts, first: FirstReject) {
        let (rejected, records) = (counts.rejected_records, counts.records);
        if rejected == records || MaxRejects::is_exceeded_by_part(rejected, records) {
            let (index, name, path) = (part.index, part.name.clone(), part.path.clone());
            locked(&self.rejected_parts).push(RejectedPart { index, name, path, rejected, records, first });
        }
    }

    /// Finds the parts that have so many rejects that they are not of the export, once all are read: all of
    /// their records where other parts have rows, or more than a limit for all allows for a part. Returns the
    /// first; those that were fetched are fetched again by another round.
    pub(super) fn take_damaged_by_rejects(&self) -> Option<RejectedPart> {
        let (mut records, mut rejected) = (0, 0);
        for (_, part) in &*locked(&self.parts) {
            records += part.records;
            rejected += part.rejected_records;
        }
        let is_held_per_part = self.run.config.max_rejects.is_held_per_part(records);
        let mut damaged = std::mem::take(&mut *locked(&self.rejected_parts));
        damaged.retain(|part| {
            part.rejected == part.records && rejected < records
                || is_held_per_part && MaxRejects::is_exceeded_by_part(part.rejected, part.records)
        });
        for part in &damaged {
            self.remove_from_spool(&part.name, &part.path);
        }
        damaged.into_iter().min_by_key(|part| part.index)
    }

    fn note_lost_columns(&self, part: &StoredPart, columns: impl Iterator<Item = &'static str>) {
        for column in columns {
            let mut lost = locked(&self.lost_columns);
            let first = || LostColumn { index: part.index, part: part.name.clone(), num_parts: 0 };
            let lost = lost.entry(column).or_insert_with(first);
            lost.num_parts += 1;
            if part.index < lost.index {
                (lost.index, lost.part) = (part.index, part.name.clone());
            }
        }
    }

    pub(super) fn warn_of_lost_columns(&self) {
        for (column, LostColumn { part, num_parts, .. }) in &*locked(&self.lost_columns) {
            tracing::warn!(
                column,
                part,
                num_parts,
                "the column is null in every row of the part: its values were rejected"
            );
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

/// Where one part's rejects go.
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
