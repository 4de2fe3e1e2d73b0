//! Takes record batches with their partition, from any thread; gives staged data files and their facts.
//!
//! A batch becomes one row group. The thread that brings it encodes it, so that no thread waits for
//! another's encoding; what waits is only the appending of a finished row group to its partition's
//! file, a copy of compressed bytes. Nothing is held from one batch to the next.

pub mod rejects;
mod rolling;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use codec::encode::{MAX_ROW_GROUP_ROWS, RowGroupEncoder, properties};
use codec::partition::PartitionKey;
use parquet::arrow::ArrowSchemaConverter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::schema::types::SchemaDescPtr;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::lake::LakeError;
use crate::manifest::DataFile;
use crate::staging::{Destination, UnsyncedFile};
use crate::threads;

use rolling::RollingFile;
pub use rolling::TARGET_FILE_BYTES;

/// Most partitions of a snapshot. Tenants have about 25 platforms; each open partition holds a file
/// and buffers, and a lake of a directory for every device helps nobody.
pub const MAX_PARTITIONS: usize = 1000;

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

/// Writes one snapshot's data files.
#[derive(Debug)]
pub struct SnapshotWriter<'s> {
    format: FileFormat<'s>,
    partitions: Mutex<HashMap<PartitionKey, Arc<Partition>>>,
    /// Encoders that no thread is using: never more than threads that write.
    encoders: Mutex<Vec<RowGroupEncoder>>,
    /// What each of them may keep for its next row group.
    max_encoder_bytes: usize,
}

/// What a writer may hold.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Buffers and footers of open files, all together, before large ones are closed early.
    pub max_open_bytes: usize,
    /// Buffers that an encoder keeps for its next row group.
    pub max_encoder_bytes: usize,
}

/// What all files of a snapshot have in common.
#[derive(Debug)]
struct FileFormat<'s> {
    destination: &'s Destination,
    /// None has no directories below the date's.
    partition_column: Option<&'static str>,
    parquet_schema: SchemaDescPtr,
    properties: WriterPropertiesPtr,
    open: OpenFiles,
}

/// What all open files hold.
#[derive(Debug)]
struct OpenFiles {
    num_files: AtomicUsize,
    num_bytes: AtomicUsize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Partition {
    key: PartitionKey,
    directory: String,
    file: Mutex<RollingFile>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked ends the run; what it left behind is never published.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings files to disk, many at a time: that is waiting, not work, and a file system brings together
/// what is asked of it together.
fn sync_all(files: &[UnsyncedFile]) -> Result<(), LakeError> {
    const MAX_THREADS: usize = 32;
    let next = AtomicUsize::new(0);
    let sync = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.sync()?;
        }
        Ok(())
    };
    threads::on_threads(files.len().min(MAX_THREADS), sync).into_iter().collect()
}

impl<'s> SnapshotWriter<'s> {
    /// Begins a snapshot of `dataset`, whose files have `schema`.
    ///
    /// # Panics
    ///
    /// Where the Arrow schema has no Parquet counterpart, which tests of the declaration rule out.
    pub fn new(
        destination: &'s Destination,
        dataset: &schema::Dataset,
        schema: &SchemaRef,
        limits: WriterLimits,
    ) -> Self {
        let properties = properties::properties(dataset, schema, &destination.snapshot().to_string());
        let parquet_schema = ArrowSchemaConverter::new()
            .with_coerce_types(properties.coerce_types())
            .convert(schema)
            .expect("declared types have Parquet types");
        let format = FileFormat {
            destination,
            partition_column: dataset.partition_by,
            parquet_schema: Arc::new(parquet_schema),
            properties,
            open: OpenFiles {
                num_files: AtomicUsize::new(0),
                num_bytes: AtomicUsize::new(0),
                max_bytes: limits.max_open_bytes,
            },
        };
        let max_encoder_bytes = limits.max_encoder_bytes;
        Self { format, partitions: Mutex::default(), encoders: Mutex::default(), max_encoder_bytes }
    }

    /// Writes `batch`, see [`RowGroupEncoder::encode`], as one row group of its partition.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    ///
    /// # Panics
    ///
    /// Where the batch has more than [`MAX_ROW_GROUP_ROWS`]: a mistake of ours.
    pub fn write(&self, key: PartitionKey, batch: &RecordBatch) -> Result<(), WriteError> {
        assert!(batch.num_rows() <= MAX_ROW_GROUP_ROWS, "a batch is a row group");
        let partition = self.partition(key)?;
        let encoder = lock(&self.encoders).pop();
        let mut encoder =
            encoder.unwrap_or_else(|| RowGroupEncoder::new(Arc::clone(&self.format.parquet_schema)));
        let mut row_group =
            encoder.encode(batch).map_err(|error| WriteError::encode(&partition.directory, error))?;
        lock(&partition.file).append(&self.format, &partition, &mut row_group)?;
        encoder.reuse(row_group);
        if encoder.num_bytes() <= self.max_encoder_bytes {
            lock(&self.encoders).push(encoder);
        }
        Ok(())
    }

    /// Closes the open file of a partition that gets no further row group, if it has one.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    pub fn close(&self, key: &PartitionKey) -> Result<(), WriteError> {
        let partition = lock(&self.partitions).get(key).map(Arc::clone);
        partition.map_or(Ok(()), |partition| lock(&partition.file).close(&self.format, &partition))
    }

    /// Closes every file and returns their facts, ordered by path.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    pub fn finish(self) -> Result<Vec<DataFile>, WriteError> {
        let partitions: Vec<_> = lock(&self.partitions).drain().map(|(_, partition)| partition).collect();
        let finished: Vec<_> = partitions
            .into_par_iter()
            .map(|partition| lock(&partition.file).finish(&self.format, &partition))
            .collect::<Result<_, WriteError>>()?;
        let (files, unsynced): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
        sync_all(&unsynced.into_iter().flatten().collect::<Vec<_>>())?;
        let mut files: Vec<DataFile> = files.into_iter().flatten().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn partition(&self, key: PartitionKey) -> Result<Arc<Partition>, WriteError> {
        let mut partitions = lock(&self.partitions);
        if let Some(partition) = partitions.get(&key) {
            return Ok(Arc::clone(partition));
        }
        if partitions.len() == MAX_PARTITIONS
            && let Some(column) = self.format.partition_column
        {
            return Err(WriteError::TooManyPartitions { column });
        }
        let partition = Arc::new(Partition {
            directory: self.format.partition_column.map_or_else(String::new, |column| key.directory(column)),
            key: key.clone(),
            file: Mutex::default(),
        });
        partitions.insert(key, Arc::clone(&partition));
        Ok(partition)
    }
}
