//! The writer of a snapshot's data files.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use codec::encode::{MAX_ROW_GROUP_ROWS, RowGroupEncoder, properties};
use codec::partition::PartitionKey;
use codec::rows::Rows;
use parquet::arrow::ArrowSchemaConverter;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use schema::Dataset;

use super::error::WriteError;
use super::file_format::{FileFormat, OpenFiles};
use super::partition::{MAX_PARTITIONS, Partition};
use super::rolling::RollingFile;
use crate::lake::LakeError;
use crate::staging::{Destination, UnsyncedFile, WrittenFile};
use crate::threads;

/// Writes one snapshot's data files.
#[derive(Debug)]
pub struct SnapshotWriter<'s> {
    format: FileFormat<'s>,
    partitions: Mutex<HashMap<PartitionKey, Arc<OpenPartition>>>,
    /// Encoders that no thread is using: never more than threads that write.
    encoders: Mutex<Vec<RowGroupEncoder>>,
    /// Bytes that each of them may keep for its next row group.
    max_encoder_bytes: usize,
}

/// Memory limits of a writer.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Buffers and footers of open files, all together, before large ones are closed early.
    pub max_open_bytes: usize,
    /// Buffers that an encoder keeps for its next row group.
    pub max_encoder_bytes: usize,
}

/// A partition and its open file.
#[derive(Debug)]
struct OpenPartition {
    partition: Partition,
    file: Mutex<RollingFile>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked ends the run, which then publishes nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Syncs files, many at a time: a sync only waits, and file systems batch concurrent ones.
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
    /// If the Arrow schema has no Parquet counterpart, which tests of the declaration rule out.
    pub fn new(
        destination: &'s Destination,
        dataset: &'s Dataset,
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
            dataset,
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

    /// Writes `rows`, see [`RowGroupEncoder::encode`], as one row group of their partition.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_ROW_GROUP_ROWS`] rows: a mistake of ours.
    pub fn write(&self, key: PartitionKey, rows: Rows) -> Result<(), WriteError> {
        assert!(rows.num_rows() <= MAX_ROW_GROUP_ROWS, "they are a row group");
        let partition = self.partition(key)?;
        let encoder = lock(&self.encoders).pop();
        let mut encoder = encoder.unwrap_or_else(|| {
            RowGroupEncoder::new(Arc::clone(&self.format.parquet_schema), self.format.dataset)
        });
        let mut row_group = encoder
            .encode(rows)
            .map_err(|error| WriteError::encode(&partition.partition.directory, error))?;
        lock(&partition.file).append(&self.format, &partition.partition, &mut row_group)?;
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
        partition.map_or(Ok(()), |partition| lock(&partition.file).close(&self.format, &partition.partition))
    }

    /// Closes every file and returns their facts and statistics, ordered by path.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the snapshot cannot be completed then.
    pub fn finish(self) -> Result<Vec<WrittenFile>, WriteError> {
        let partitions: Vec<_> = lock(&self.partitions).drain().map(|(_, partition)| partition).collect();
        let finished: Vec<_> = partitions
            .into_par_iter()
            .map(|partition| lock(&partition.file).finish(&self.format, &partition.partition))
            .collect::<Result<_, WriteError>>()?;
        let (files, unsynced): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
        sync_all(&unsynced.into_iter().flatten().collect::<Vec<_>>())?;
        let mut files: Vec<WrittenFile> = files.into_iter().flatten().collect();
        files.sort_by(|a, b| a.facts.path.cmp(&b.facts.path));
        Ok(files)
    }

    fn partition(&self, key: PartitionKey) -> Result<Arc<OpenPartition>, WriteError> {
        let mut partitions = lock(&self.partitions);
        if let Some(partition) = partitions.get(&key) {
            return Ok(Arc::clone(partition));
        }
        if partitions.len() == MAX_PARTITIONS
            && let Some(column) = self.format.partition_column
        {
            return Err(WriteError::TooManyPartitions { column });
        }
        let column = self.format.partition_column;
        let directory = column.map_or_else(String::new, |column| key.directory(column));
        let partition = Arc::new(OpenPartition {
            partition: Partition { directory, key: key.clone() },
            file: Mutex::default(),
        });
        partitions.insert(key, Arc::clone(&partition));
        Ok(partition)
    }
}
