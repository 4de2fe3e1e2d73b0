//! Writes a portion of a snapshot: takes the parts that a source delivers and a destination, gives the facts of what it read
//! and wrote. The whole export on one machine, a group of parts in a task of a cluster. Decides nothing about the snapshot.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use codec::batch_layout::{BatchLayout, BatchOptions};
use codec::memory_pool::MemoryPool;
use codec::row_group::{RowGroupLimits, RowGroups};
use rayon::iter::{ParallelBridge, ParallelIterator};
use tokio::sync::Notify;

use super::context::unpoisoned;
use super::error::IngestError;
use super::portion_job::PortionJob;
use super::workers::Workers;
use super::written_portion::WrittenPortion;
use crate::source::Source;
use crate::staging::{Destination, Portion};
use crate::threads;
use crate::write::rejects::Rejects;
use crate::write::{SnapshotWriter, WriterLimits};

/// Divides the budget for encoding to get the memory that encoders keep between row groups.
const ENCODERS_SHARE: usize = 4;

/// Fetches the parts that `source` delivers, decodes them and writes their rows and rejects.
pub(super) fn write_portion(
    job: &PortionJob<'_>,
    destination: &Destination,
    source: Source,
) -> Result<WrittenPortion, IngestError> {
    let budget = job.memory;
    let num_threads = budget.num_threads(job.threads);
    if num_threads < job.threads {
        tracing::info!(%num_threads, wanted = %job.threads, "--memory is too small for all threads, using fewer");
    }
    let pool = threads::start_pool(num_threads.get())?;
    let options = BatchOptions { extra_fields: job.capture_extra_fields, ..BatchOptions::default() };
    let generated_time = destination.snapshot().generated_time();
    let layout = Arc::new(BatchLayout::new(job.dataset, generated_time, options));
    let limits = WriterLimits {
        max_open_bytes: budget.open_files_bytes(),
        max_encoder_bytes: budget.encode_bytes() / (ENCODERS_SHARE * num_threads.get()),
    };
    let schema = layout.file_schema();
    let writer = SnapshotWriter::new(destination, job.dataset, schema, limits);
    let limits = RowGroupLimits {
        max_open_bytes: budget.row_groups_bytes(),
        encode_room: MemoryPool::new(budget.encode_bytes()),
    };
    let row_groups = RowGroups::new(Arc::clone(&layout), limits).with_early_pages();
    let row_groups = Arc::new(row_groups.with_spill(destination.create_spill()?));
    let workers = Workers {
        job,
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
    let Workers { rejects, parts, rejected_parts, lost_columns, undocumented, .. } = workers;
    let rejects = rejects.finish()?;
    let files = pool.install(|| {
        // One after the other, the largest first: no thread is left with a large one in the end.
        let last = row_groups.finish().into_iter().par_bridge();
        last.try_for_each(|row_group| {
            row_group.write(|key, rows| writer.write(key, rows), |key| writer.close(key))
        })?;
        writer.finish()
    })?;
    let (parts, undocumented_fields) = (unpoisoned(parts), unpoisoned(undocumented));
    Ok(WrittenPortion {
        portion: Portion {
            task_id: destination.task_id().cloned(),
            parts,
            files,
            rejects,
            undocumented_fields,
            uploads: Vec::new(),
        },
        rejected_parts: unpoisoned(rejected_parts),
        lost_columns: unpoisoned(lost_columns),
    })
}
