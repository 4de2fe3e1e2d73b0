//! Reads the rows of a snapshot, one row group at a time, text as dictionary keys.
//!
//! Takes a published snapshot, whose manifest lists its files and their partitions. Each thread reads whole
//! row groups and keeps its own results.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::HistoryError;
use crate::cancel::Cancel;
use crate::lake::{PublishedSnapshot, Table};
use crate::manifest::DataFile;
use crate::threads;

/// A snapshot with its data files open. Files in a store are downloaded first, into unnamed temporary files.
#[derive(Debug)]
pub struct SnapshotReader<'a> {
    snapshot: &'a PublishedSnapshot,
    files: Vec<OpenDataFile<'a>>,
}

#[derive(Debug)]
struct OpenDataFile<'a> {
    file: &'a DataFile,
    bytes: SharedFile,
    /// Reads text columns as dictionaries.
    metadata: ArrowReaderMetadata,
}

/// Some columns of one row group.
#[derive(Debug)]
pub struct RowGroupColumns<'a> {
    /// The platform of all its rows.
    pub platform: Option<&'a str>,
    batch: RecordBatch,
}

/// A text column: its distinct values, and the code of each row's value.
#[derive(Debug)]
pub struct TextColumn {
    values: StringArray,
    codes: Vec<usize>,
}

/// A column whose values are compared.
#[derive(Debug)]
pub enum ValueColumn {
    /// Text.
    Text(TextColumn),
    /// 32-bit integers.
    Integers(Int32Array),
}

impl TextColumn {
    /// Returns the code of each row's value. Equal values have equal codes, below [`TextColumn::num_codes`].
    pub fn codes(&self) -> &[usize] {
        &self.codes
    }

    /// Returns the number of codes.
    pub fn num_codes(&self) -> usize {
        self.values.len() + 1
    }

    /// Returns the value of a code.
    pub fn value(&self, code: usize) -> Option<&str> {
        (code < self.values.len() && self.values.is_valid(code)).then(|| self.values.value(code))
    }

    /// Maps each value, by code.
    pub fn map<T>(&self, make: impl FnMut(Option<&str>) -> T) -> Vec<T> {
        (0..self.num_codes()).map(|code| self.value(code)).map(make).collect()
    }
}

impl RowGroupColumns<'_> {
    /// Returns the number of rows.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Returns a projected text column.
    pub fn text(&self, name: &str) -> TextColumn {
        let dictionary = self.column(name).as_dictionary::<Int32Type>();
        let values = dictionary.values().as_string::<i32>().clone();
        let null = values.len();
        let codes =
            dictionary.keys().iter().map(|key| key.map_or(null, |key| usize::try_from(key).unwrap_or(null)));
        TextColumn { codes: codes.collect(), values }
    }

    /// Returns a projected integer column.
    pub fn integers(&self, name: &str) -> &Int32Array {
        self.column(name).as_primitive()
    }

    /// Returns a projected column of text or integers.
    pub fn values(&self, name: &str) -> ValueColumn {
        match self.column(name).data_type() {
            DataType::Int32 => ValueColumn::Integers(self.integers(name).clone()),
            _ => ValueColumn::Text(self.text(name)),
        }
    }

    fn column(&self, name: &str) -> &dyn Array {
        self.batch.column_by_name(name).expect("a projected column")
    }
}

impl<'a> SnapshotReader<'a> {
    /// Opens all data files of a snapshot.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, or an interruption.
    pub fn open(
        table: &Table,
        snapshot: &'a PublishedSnapshot,
        cancel: &Cancel,
    ) -> Result<Self, HistoryError> {
        let open = |file: &'a DataFile| {
            if cancel.is_cancelled() {
                return Err(HistoryError::Interrupted);
            }
            OpenDataFile::open(table, file)
        };
        let files = snapshot.manifest.files.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { snapshot, files })
    }

    /// Returns the generated time.
    pub fn generated_time(&self) -> DateTime<Utc> {
        self.snapshot.id.generated_time()
    }

    /// Returns the number of rows.
    pub fn num_rows(&self) -> u64 {
        self.snapshot.manifest.totals.rows
    }

    /// Calls `visit` with every row group of the files that `wanted` selects and with the thread's own result
    /// so far; returns the results of all threads.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read or lacks a column, or what `visit` returns.
    pub fn visit<T: Default + Send>(
        &self,
        columns: &[&str],
        wanted: impl Fn(&DataFile) -> bool,
        cancel: &Cancel,
        visit: impl Fn(&mut T, &RowGroupColumns<'_>) -> Result<(), HistoryError> + Sync,
    ) -> Result<Vec<T>, HistoryError> {
        let mut units = Vec::new();
        for file in self.files.iter().filter(|open| wanted(open.file)) {
            file.check_columns(columns)?;
            units.extend((0..file.metadata.metadata().num_row_groups()).map(|index| (file, index)));
        }
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            let mut made = T::default();
            while let Some((file, index)) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                let read = if cancel.is_cancelled() {
                    Err(HistoryError::Interrupted)
                } else {
                    file.visit_row_group(*index, columns, |rows| visit(&mut made, rows))
                };
                if let Err(error) = read {
                    next.store(units.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
            made
        };
        let num_threads = std::thread::available_parallelism().map_or(1, usize::from).min(units.len().max(1));
        let made = threads::on_threads(num_threads, work);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(made),
        }
    }
}

impl<'a> OpenDataFile<'a> {
    fn open(table: &Table, file: &'a DataFile) -> Result<Self, HistoryError> {
        let bytes = SharedFile(Arc::new(table.open_data_file(&file.path)?));
        let metadata = read_metadata(&bytes)
            .map_err(|source| HistoryError::DamagedFile { path: file.path.clone(), source })?;
        Ok(Self { file, bytes, metadata })
    }

    fn check_columns(&self, columns: &[&str]) -> Result<(), HistoryError> {
        let schema = self.metadata.schema();
        match columns.iter().find(|column| schema.column_with_name(column).is_none()) {
            None => Ok(()),
            Some(column) => Err(HistoryError::MissingColumn {
                path: self.file.path.clone(),
                column: (*column).to_owned(),
            }),
        }
    }

    fn visit_row_group(
        &self,
        index: usize,
        columns: &[&str],
        mut visit: impl FnMut(&RowGroupColumns<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let damaged = |source| HistoryError::DamagedFile { path: self.file.path.clone(), source };
        let metadata = &self.metadata;
        let num_rows = metadata.metadata().row_group(index).num_rows();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), metadata.clone())
            .with_row_groups(vec![index])
            .with_projection(ProjectionMask::columns(metadata.parquet_schema(), columns.iter().copied()))
            .with_batch_size(usize::try_from(num_rows).unwrap_or(usize::MAX).max(1))
            .build()
            .map_err(damaged)?;
        for batch in reader {
            let batch = batch.map_err(|error| damaged(error.into()))?;
            visit(&RowGroupColumns { platform: self.file.os_platform.as_deref(), batch })?;
        }
        Ok(())
    }
}

/// Whether a data file has a column.
///
/// # Errors
///
/// The file cannot be read.
pub fn has_column(table: &Table, file: &DataFile, column: &str) -> Result<bool, HistoryError> {
    let opened = OpenDataFile::open(table, file)?;
    Ok(opened.metadata.schema().column_with_name(column).is_some())
}

fn read_metadata(bytes: &SharedFile) -> Result<ArrowReaderMetadata, ParquetError> {
    let metadata = ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new())?;
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = metadata.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(dictionary.clone())),
        _ => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(schema);
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

/// A file with positioned reads: clones of a [`File`] share one position.
#[derive(Debug, Clone)]
struct SharedFile(Arc<File>);

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for SharedFile {
    type T = BufReader<ReadAt>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(ReadAt { file: Arc::clone(&self.0), offset: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // A damaged footer may name any length.
        if start.saturating_add(length as u64) > self.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads a file from `offset` on.
#[derive(Debug)]
struct ReadAt {
    file: Arc<File>,
    offset: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_bytes = self.file.read_at(buffer, self.offset)?;
        self.offset += num_bytes as u64;
        Ok(num_bytes)
    }
}
