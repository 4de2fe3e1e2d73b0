//! Takes record batches with their partition, from any thread; gives staged data files and their facts.
//!
//! Every thread encodes the batches that it brings: it takes one of the partition's open row
//! groups, adds the batch, and puts it back, so that no thread waits for another's encoding. What
//! waits is only the appending of a finished row group to the partition's file, a copy of
//! compressed bytes. Row groups that are open are bounded in bytes for all partitions together;
//! beyond that the largest is closed early.

mod properties;
mod rolling;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::TypePtr;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::commit::Staging;
use crate::lake::LakeError;
use crate::manifest::DataFile;
use crate::partition::PartitionKey;
use crate::snapshot::{RunId, SnapshotId};

pub use properties::{MAX_ROW_GROUP_ROWS, TARGET_FILE_BYTES};
use rolling::RollingFile;

/// Most partitions of a snapshot. Tenants have about 25 platforms; each open partition holds a file
/// and buffers, and a lake of a directory for every device helps nobody.
pub const MAX_PARTITIONS: usize = 1000;

/// What an open column holds beside what it says of itself: encoders and zstd's contexts, of which
/// the larger is one for reading that the library makes and never uses. Measured as what of it is
/// resident. Where partitions are many and small, their row groups are little else.
const COLUMN_WRITER_BYTES: usize = 64 * 1024;

/// Why data files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The lake could not be written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Encoding failed.
    #[error("cannot encode {directory}")]
    Encode {
        /// The partition's directory.
        directory: String,
        /// What the library says.
        source: ParquetError,
    },
    /// The export has more partitions than a lake can have.
    #[error("the export has more than {MAX_PARTITIONS} different values of {column}")]
    TooManyPartitions {
        /// The partition column.
        column: &'static str,
    },
    /// A file does not hold the rows that were given to it: a mistake of ours.
    #[error("{path} holds {found} rows where {expected} were written")]
    Rows {
        /// The file.
        path: String,
        /// Rows given to it.
        expected: u64,
        /// Rows in its footer.
        found: u64,
    },
}

impl WriteError {
    /// Says where encoding failed; a failure of storage below it comes out as such.
    fn encode(directory: &str, error: ParquetError) -> Self {
        if let ParquetError::External(inner) = error {
            return match inner.downcast::<std::io::Error>() {
                Ok(io) => match io.downcast::<LakeError>() {
                    Ok(lake) => Self::Lake(lake),
                    Err(io) => Self::Encode {
                        directory: directory.to_owned(),
                        source: ParquetError::External(Box::new(io)),
                    },
                },
                Err(inner) => {
                    Self::Encode { directory: directory.to_owned(), source: ParquetError::External(inner) }
                }
            };
        }
        Self::Encode { directory: directory.to_owned(), source: error }
    }
}

/// Writes one snapshot's data files into staging.
#[derive(Debug)]
pub struct SnapshotWriter<'s> {
    format: FileFormat<'s>,
    partitions: Mutex<HashMap<PartitionKey, Arc<Partition>>>,
    /// Bytes held by all open row groups.
    num_bytes: AtomicUsize,
    max_bytes: usize,
}

/// What all files of a snapshot have in common.
#[derive(Debug)]
struct FileFormat<'s> {
    staging: &'s Staging,
    partition_column: &'static str,
    schema: SchemaRef,
    parquet_schema: TypePtr,
    properties: WriterPropertiesPtr,
    snapshot: SnapshotId,
    run_id: RunId,
}

#[derive(Debug)]
struct Partition {
    key: PartitionKey,
    directory: String,
    /// Open row groups that no thread is adding to.
    idle: Mutex<Vec<RowGroup>>,
    file: Mutex<RollingFile>,
}

/// A row group being encoded.
struct RowGroup {
    columns: Vec<ArrowColumnWriter>,
    num_rows: usize,
    num_bytes: usize,
}

impl std::fmt::Debug for RowGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroup")
            .field("num_rows", &self.num_rows)
            .field("num_bytes", &self.num_bytes)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked ends the run; what it left behind is never published.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'s> SnapshotWriter<'s> {
    /// Begins a snapshot of `dataset`; open row groups hold about `max_bytes` together.
    ///
    /// # Panics
    ///
    /// Where the Arrow schema has no Parquet counterpart, which tests of the declaration rule out.
    pub fn new(
        staging: &'s Staging,
        dataset: &schema::Dataset,
        schema: &SchemaRef,
        snapshot: SnapshotId,
        run_id: RunId,
        max_bytes: usize,
    ) -> Self {
        let properties = properties::properties(dataset, schema, snapshot);
        let parquet_schema = ArrowSchemaConverter::new()
            .with_coerce_types(properties.coerce_types())
            .convert(schema)
            .expect("declared types have Parquet types")
            .root_schema_ptr();
        let format = FileFormat {
            staging,
            partition_column: dataset.partition_by[0],
            schema: Arc::clone(schema),
            parquet_schema,
            properties,
            snapshot,
            run_id,
        };
        Self { format, partitions: Mutex::default(), num_bytes: AtomicUsize::new(0), max_bytes }
    }

    /// Encodes `batch` into an open row group of its partition.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    pub fn write(&self, key: PartitionKey, batch: &RecordBatch) -> Result<(), WriteError> {
        let partition = self.partition(key)?;
        let mut offset = 0;
        while offset < batch.num_rows() {
            let idle = lock(&partition.idle).pop();
            let mut row_group = match idle {
                Some(row_group) => row_group,
                None => self.open_row_group(&partition)?,
            };
            let len = (MAX_ROW_GROUP_ROWS - row_group.num_rows).min(batch.num_rows() - offset);
            let num_bytes = row_group.num_bytes;
            row_group
                .add(&self.format.schema, &batch.slice(offset, len))
                .map_err(|error| WriteError::encode(&partition.directory, error))?;
            offset += len;
            self.num_bytes.fetch_add(row_group.num_bytes.saturating_sub(num_bytes), Ordering::Relaxed);
            self.num_bytes.fetch_sub(num_bytes.saturating_sub(row_group.num_bytes), Ordering::Relaxed);
            if row_group.num_rows == MAX_ROW_GROUP_ROWS {
                self.close_row_group(&partition, row_group)?;
            } else {
                lock(&partition.idle).push(row_group);
            }
        }
        self.keep_within_budget()
    }

    /// Closes every file and returns their facts, ordered by path.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    pub fn finish(self) -> Result<Vec<DataFile>, WriteError> {
        let partitions: Vec<_> = lock(&self.partitions).drain().map(|(_, partition)| partition).collect();
        let mut files = partitions
            .into_par_iter()
            .map(|partition| {
                let idle = std::mem::take(&mut *lock(&partition.idle));
                for row_group in idle {
                    self.close_row_group(&partition, row_group)?;
                }
                lock(&partition.file).finish(&self.format, &partition)
            })
            .try_fold(Vec::new, |mut all, files| {
                all.extend(files?);
                Ok::<_, WriteError>(all)
            })
            .try_reduce(Vec::new, |mut all, mut files| {
                all.append(&mut files);
                Ok(all)
            })?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn partition(&self, key: PartitionKey) -> Result<Arc<Partition>, WriteError> {
        let mut partitions = lock(&self.partitions);
        if let Some(partition) = partitions.get(&key) {
            return Ok(Arc::clone(partition));
        }
        if partitions.len() == MAX_PARTITIONS {
            return Err(WriteError::TooManyPartitions { column: self.format.partition_column });
        }
        let partition = Arc::new(Partition {
            directory: key.directory(self.format.partition_column),
            key: key.clone(),
            idle: Mutex::default(),
            file: Mutex::default(),
        });
        partitions.insert(key, Arc::clone(&partition));
        Ok(partition)
    }

    fn open_row_group(&self, partition: &Partition) -> Result<RowGroup, WriteError> {
        let columns = lock(&partition.file).column_writers(&self.format, partition)?;
        let num_bytes = columns.len() * COLUMN_WRITER_BYTES;
        self.num_bytes.fetch_add(num_bytes, Ordering::Relaxed);
        Ok(RowGroup { columns, num_rows: 0, num_bytes })
    }

    fn close_row_group(&self, partition: &Partition, row_group: RowGroup) -> Result<(), WriteError> {
        let RowGroup { columns, num_rows, num_bytes } = row_group;
        let chunks: Result<Vec<ArrowColumnChunk>, ParquetError> =
            columns.into_iter().map(ArrowColumnWriter::close).collect();
        let chunks = chunks.map_err(|error| WriteError::encode(&partition.directory, error))?;
        self.num_bytes.fetch_sub(num_bytes, Ordering::Relaxed);
        lock(&partition.file).append(&self.format, partition, chunks, num_rows as u64)
    }

    /// Closes the largest idle row groups until the open ones are within their budget.
    fn keep_within_budget(&self) -> Result<(), WriteError> {
        while self.num_bytes.load(Ordering::Relaxed) > self.max_bytes {
            let partitions: Vec<_> = lock(&self.partitions).values().cloned().collect();
            let largest = partitions.iter().max_by_key(|partition| {
                lock(&partition.idle).iter().map(|row_group| row_group.num_bytes).max().unwrap_or(0)
            });
            let Some(partition) = largest else { return Ok(()) };
            let row_group = {
                let mut idle = lock(&partition.idle);
                let position = (0..idle.len()).max_by_key(|position| idle[*position].num_bytes);
                position.map(|position| idle.swap_remove(position))
            };
            // None: the rest is in the hands of other threads, which come here after their batch.
            let Some(row_group) = row_group else { return Ok(()) };
            self.close_row_group(partition, row_group)?;
        }
        Ok(())
    }
}

impl RowGroup {
    fn add(&mut self, schema: &SchemaRef, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut columns = self.columns.iter_mut();
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                columns.next().expect("one writer for each leaf").write(&leaf)?;
            }
        }
        self.num_rows += batch.num_rows();
        let encoded: usize = self.columns.iter().map(ArrowColumnWriter::memory_size).sum();
        self.num_bytes = encoded + self.columns.len() * COLUMN_WRITER_BYTES;
        Ok(())
    }
}
