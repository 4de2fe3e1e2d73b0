//! Writes an export into staging and publishes it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{SubsecRound, Utc};
use codec::batch_layout::{BatchLayout, BatchOptions};
use codec::memory_pool::MemoryPool;
use codec::row_group::{RowGroupLimits, RowGroups};
use rayon::iter::{ParallelBridge, ParallelIterator};
use tokio::sync::Notify;

use super::config::IngestConfig;
use super::context::{Run, unpoisoned};
use super::error::IngestError;
use super::workers::{FirstReject, RejectedPart, Workers};
use crate::commit::{self, CommitError};
use crate::lake::{LakeError, Table, TableLock};
use crate::manifest::{Manifest, Totals};
use crate::report::{ListedExport, ReportedSnapshot, RunOutcome, RunReport};
use crate::source::{Export, Source};
use crate::staging::{Destination, Portion, WrittenSnapshot};
use crate::threads;
use crate::write::rejects::Rejects;
use crate::write::{SnapshotWriter, WriterLimits};

/// Divides the budget for encoding to get the memory that encoders keep between row groups.
const ENCODERS_SHARE: usize = 4;

impl Run<'_> {
    pub(super) fn publish(&self, lock: &TableLock, source: Source) -> Result<RunReport, IngestError> {
        let snapshot = self.export.snapshot_id();
        let staging = lock.stage(&self.id, snapshot)?;
        let destination = staging.destination();
        let mut portion = self.write_portion(destination, source)?;
        let manifest = self.assemble(destination, std::slice::from_ref(&portion))?;
        let on_bytes = |bytes, total_bytes| {
            self.session.progress.total_upload_bytes.store(total_bytes, Ordering::Relaxed);
            self.session.progress.upload_bytes.store(bytes, Ordering::Relaxed);
        };
        let cancelled = || self.session.cancel.is_cancelled();
        commit::send(lock.table(), destination, &mut portion, &on_bytes, &cancelled)?;
        // The few steps from here on are not interrupted.
        if cancelled() {
            return Err(IngestError::Interrupted);
        }
        let published = match staging.publish(&manifest, &[portion], &cancelled) {
            Ok(published) => published,
            // Another run took over the table lock and published first.
            Err(CommitError::ConcurrentPublish { .. }) => {
                return self.not_published(lock.table(), RunOutcome::Skipped);
            }
            Err(CommitError::Superseded { .. }) => {
                return self.not_published(lock.table(), RunOutcome::Superseded);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(error) = published.left_over {
            tracing::warn!(error = %error, "cannot remove the replaced snapshot; the next run tries again");
        }
        tracing::info!(
            dataset = manifest.dataset,
            %snapshot,
            rows = manifest.totals.rows,
            files = manifest.totals.files,
            bytes = manifest.totals.bytes,
            rejected_records = manifest.totals.rejected_records,
            "snapshot published"
        );
        Ok(RunReport {
            outcome: RunOutcome::Published,
            lake: self.session.config.lake.clone(),
            table: Some(lock.kind()?),
            snapshot: ReportedSnapshot::Published(Box::new(manifest)),
        })
    }

    fn not_published(&self, table: &Table, outcome: RunOutcome) -> Result<RunReport, IngestError> {
        tracing::info!(snapshot = %self.export.snapshot_id(), ?outcome, "another run published first");
        Ok(listed(self.session.config, table, self.export, outcome)?)
    }

    /// Fetches the parts that `source` delivers, decodes them and writes their rows and rejects.
    fn write_portion(&self, destination: &Destination, source: Source) -> Result<Portion, IngestError> {
        let config = self.session.config;
        let snapshot = self.export.snapshot_id();
        let budget = config.memory;
        let num_threads = budget.num_threads(config.threads);
        if num_threads < config.threads {
            tracing::info!(%num_threads, wanted = %config.threads, "--memory is too small for all threads, using fewer");
        }
        let pool = threads::start_pool(num_threads.get())?;
        let options = BatchOptions { extra_fields: config.capture_extra_fields, ..BatchOptions::default() };
        let layout = Arc::new(BatchLayout::new(self.session.dataset, snapshot.generated_time(), options));
        let limits = WriterLimits {
            max_open_bytes: budget.open_files_bytes(),
            max_encoder_bytes: budget.encode_bytes() / (ENCODERS_SHARE * num_threads.get()),
        };
        let schema = layout.file_schema();
        let writer = SnapshotWriter::new(destination, self.session.dataset, schema, limits);
        let limits = RowGroupLimits {
            max_open_bytes: budget.row_groups_bytes(),
            encode_room: MemoryPool::new(budget.encode_bytes()),
        };
        let row_groups = RowGroups::new(Arc::clone(&layout), limits).with_early_pages();
        let row_groups = Arc::new(row_groups.with_spill(destination.create_spill()?));
        let workers = Workers {
            run: self,
            row_groups: Arc::clone(&row_groups),
            writer: &writer,
            rejects: Rejects::new(destination),
            parts: Mutex::default(),
            rejected_parts: Mutex::default(),
            lost_columns: Mutex::default(),
            undocumented: Mutex::default(),
            large_records: MemoryPool::new(1),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            ended: Notify::new(),
            is_draining: AtomicBool::new(false),
            num_tasks: AtomicUsize::new(0),
        };
        workers.decode_all(&pool, source)?;
        let rejected_part = workers.take_damaged_by_rejects();
        if rejected_part.is_none() {
            workers.warn_of_lost_columns();
        }
        let Workers { rejects, parts, undocumented, .. } = workers;
        let rejects = rejects.finish()?;
        if let Some(part) = rejected_part {
            return Err(self.part_damaged_by_rejects(destination, part));
        }
        let files = pool.install(|| {
            // One after the other, the largest first: no thread is left with a large one in the end.
            let last = row_groups.finish().into_iter().par_bridge();
            last.try_for_each(|row_group| {
                row_group.write(|key, rows| writer.write(key, rows), |key| writer.close(key))
            })?;
            writer.finish()
        })?;
        let (parts, undocumented_fields) = (unpoisoned(parts), unpoisoned(undocumented));
        let task_id = destination.task_id().cloned();
        Ok(Portion { task_id, parts, files, rejects, undocumented_fields, uploads: Vec::new() })
    }

    /// Makes the manifest of the written files. Fails if they must not be published.
    fn assemble(&self, destination: &Destination, portions: &[Portion]) -> Result<Manifest, IngestError> {
        let config = self.session.config;
        let snapshot = self.export.snapshot_id();
        let WrittenSnapshot { parts, files, totals, undocumented_fields } =
            WrittenSnapshot::assemble(portions, self.export.num_parts)?;
        if totals.records == 0 {
            return Err(IngestError::Empty { snapshot, route: self.export.route });
        }
        if config.max_rejects.is_exceeded(totals.rejected_records, totals.records) {
            return Err(self.too_many_rejects(destination, &totals));
        }
        Ok(Manifest {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_version: self.session.dataset.version,
            dataset: self.session.dataset.name.to_owned(),
            route: self.export.route,
            generated_time: snapshot.generated_time(),
            generated_time_from: self.export.generated_time_from,
            run_id: self.id.clone(),
            started_at: self.started_at,
            finished_at: Utc::now().trunc_subsecs(0),
            parts,
            files,
            totals,
            undocumented_fields,
        })
    }

    fn too_many_rejects(&self, destination: &Destination, totals: &Totals) -> IngestError {
        match self.keep_rejects(destination) {
            Ok(rejects) => IngestError::TooManyRejects {
                rejected: totals.rejected_records,
                records: totals.records,
                limit: self.session.config.max_rejects,
                rejects,
            },
            Err(error) => error,
        }
    }

    fn part_damaged_by_rejects(&self, destination: &Destination, part: RejectedPart) -> IngestError {
        let RejectedPart { name, rejected, records, first: FirstReject { line, reason }, .. } = part;
        match self.keep_rejects(destination) {
            Ok(rejects) => IngestError::RejectedPart { part: name, rejected, records, line, reason, rejects },
            Err(error) => error,
        }
    }

    /// Copies the rejects file out of staging, which is removed, to the path that the error names.
    fn keep_rejects(&self, destination: &Destination) -> Result<PathBuf, IngestError> {
        let config = self.session.config;
        let name = format!("{}-{}.rejects.ndjson.gz", self.export.snapshot_id(), self.id);
        let path = config.work_dir.join(self.session.dataset.name).join(name);
        match copy_private(&destination.rejects_path(), &path) {
            Ok(()) => Ok(path),
            Err(source) => Err(IngestError::KeepRejects { path, source }),
        }
    }
}

pub(super) fn listed(
    config: &IngestConfig,
    table: &Table,
    export: &Export,
    outcome: RunOutcome,
) -> Result<RunReport, LakeError> {
    let published = table.published_on(export.snapshot_id().date())?;
    Ok(RunReport {
        outcome,
        lake: config.lake.clone(),
        table: Some(config.table.map_or_else(|| table.kind(), Ok)?),
        snapshot: ReportedSnapshot::Listed(ListedExport {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: table.dataset().name.to_owned(),
            route: export.route,
            generated_time: export.snapshot_id().generated_time(),
            generated_time_from: export.generated_time_from,
            num_parts: export.num_parts,
            published_snapshot: published.map(|published| published.id),
        }),
    })
}

/// Copies a file; only its owner can read the copy.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = to.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
