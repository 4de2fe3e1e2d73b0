//! Reads the rows of a snapshot, a batch at a time, text as dictionary keys.
//!
//! Takes a published snapshot, whose manifest lists its files and their partitions. Each thread reads whole
//! row groups and keeps its own results. A column that a file lacks is null in all its rows, as readers of the
//! lake see it; the partition column is a column like any other.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Schema};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use codec::encode::properties;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::dictionary_chunk::DictionaryChunk;
use super::{HistoryError, value};
use crate::cancel::Cancel;
use crate::lake::{PublishedSnapshot, Table};
use crate::manifest::DataFile;
use crate::threads;

/// Rows of a batch: those that the writer keeps together, so that a device's rows are mostly in one batch, and the
/// columns of a batch stay in the processor's cache.
const BATCH_ROWS: usize = 15 * 2048;

/// A snapshot with its data files open. Files in a store are downloaded first, into unnamed temporary files.
#[derive(Debug)]
pub struct SnapshotReader<'a> {
    snapshot: &'a PublishedSnapshot,
    partition_by: Option<&'static str>,
    files: Vec<OpenDataFile<'a>>,
}

#[derive(Debug)]
struct OpenDataFile<'a> {
    file: &'a DataFile,
    bytes: Arc<SharedFile>,
    /// Reads text columns as dictionaries.
    metadata: ArrowReaderMetadata,
}

/// A row group of an open file.
#[derive(Debug, Clone, Copy)]
pub struct RowGroup<'a> {
    file: &'a OpenDataFile<'a>,
    index: usize,
    partition_by: Option<&'static str>,
}

/// Some columns of a batch of rows of one file.
#[derive(Debug)]
pub struct RowColumns<'a> {
    partition: Option<(&'static str, Option<&'a str>)>,
    batch: RecordBatch,
}

/// A text column: its distinct values, and the code of each row's value.
#[derive(Debug)]
pub struct TextColumn {
    /// The same allocation for all batches of a row group, mostly.
    dictionary: ArrayRef,
    values: StringArray,
    codes: ScalarBuffer<u32>,
}

/// A column of any type but lists.
#[derive(Debug)]
pub enum ValueColumn {
    /// Text.
    Text(TextColumn),
    /// Numbers, times and booleans.
    Numbers(NumberColumn),
}

/// Numbers, times or booleans, as integers of the same order: see [`super::value::text`].
#[derive(Debug)]
pub struct NumberColumn {
    numbers: Vec<u64>,
    nulls: Option<NullBuffer>,
}

impl TextColumn {
    /// Creates a column with one value in all rows.
    fn constant(value: Option<&str>, num_rows: usize) -> Self {
        let values = StringArray::from_iter_values(value);
        // Either the code of the value, or that of null.
        Self { dictionary: Arc::new(values.clone()), values, codes: ScalarBuffer::from(vec![0; num_rows]) }
    }

    /// Returns the code of each row's value, below [`TextColumn::num_codes`].
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Returns the number of codes.
    pub fn num_codes(&self) -> usize {
        self.values.len() + 1
    }

    /// Returns the value of a code.
    pub fn value(&self, code: u32) -> Option<&str> {
        let code = code as usize;
        (code < self.values.len() && self.values.is_valid(code)).then(|| self.values.value(code))
    }

    /// Maps each value, by code.
    pub fn map<T>(&self, mut make: impl FnMut(Option<&str>) -> T) -> Vec<T> {
        let values =
            (0..self.values.len()).map(|code| self.values.is_valid(code).then(|| self.values.value(code)));
        values.chain([None]).map(&mut make).collect()
    }

    /// Returns what its codes stand for: columns with the same dictionary have the same codes.
    pub fn dictionary(&self) -> &ArrayRef {
        &self.dictionary
    }
}

impl NumberColumn {
    /// Returns the number of a row.
    pub fn number(&self, row: usize) -> Option<u64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.numbers[row])
    }
}

impl RowColumns<'_> {
    /// Returns the number of rows.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Returns a projected text column.
    pub fn text(&self, name: &str) -> TextColumn {
        if let Some((_, value)) = self.partition.filter(|(partition, _)| *partition == name) {
            return TextColumn::constant(value, self.num_rows());
        }
        let Some(column) = self.batch.column_by_name(name) else {
            return TextColumn::constant(None, self.num_rows());
        };
        let column = column.as_dictionary::<UInt32Type>();
        let values = column.values().as_string::<i32>().clone();
        let keys = column.keys();
        let codes = match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) => {
                let null = u32::try_from(values.len()).expect("keys are of 32 bits");
                let mut codes = keys.values().to_vec();
                for (start, end) in (!nulls.inner()).set_slices() {
                    codes[start..end].fill(null);
                }
                codes.into()
            }
            None => keys.values().clone(),
        };
        TextColumn { dictionary: Arc::clone(column.values()), values, codes }
    }

    /// Whether a projected column is one of booleans.
    pub fn is_boolean(&self, name: &str) -> bool {
        self.batch.column_by_name(name).is_some_and(|column| column.data_type() == &DataType::Boolean)
    }

    /// Returns a projected column of numbers, times or booleans; nothing if the file lacks it.
    ///
    /// # Panics
    ///
    /// If it is a column of another type: a mistake of ours.
    pub fn numbers(&self, name: &str) -> Option<NumberColumn> {
        let column = self.batch.column_by_name(name)?;
        let signed = value::signed_number;
        let numbers = match column.data_type() {
            DataType::Int32 => {
                column.as_primitive::<Int32Type>().values().iter().map(|n| signed(i64::from(*n))).collect()
            }
            DataType::Date32 => {
                column.as_primitive::<Date32Type>().values().iter().map(|n| signed(i64::from(*n))).collect()
            }
            DataType::Int64 => {
                column.as_primitive::<Int64Type>().values().iter().map(|n| signed(*n)).collect()
            }
            DataType::Timestamp(..) => column
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .iter()
                .map(|n| signed(*n))
                .collect(),
            DataType::Float64 => column
                .as_primitive::<Float64Type>()
                .values()
                .iter()
                .map(|n| value::float_number(*n))
                .collect(),
            DataType::Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
            other => panic!("{name} is a column of type {other}"),
        };
        Some(NumberColumn { numbers, nulls: column.nulls().filter(|nulls| nulls.null_count() > 0).cloned() })
    }

    /// Returns a projected column.
    pub fn values(&self, name: &str) -> ValueColumn {
        match self.batch.column_by_name(name).map(Array::data_type) {
            None | Some(DataType::Dictionary(..)) => ValueColumn::Text(self.text(name)),
            Some(_) => ValueColumn::Numbers(self.numbers(name).expect("a column of the batch")),
        }
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
        Ok(Self { snapshot, partition_by: table.dataset().partition_by, files })
    }

    /// Returns the generated time.
    pub fn generated_time(&self) -> DateTime<Utc> {
        self.snapshot.id.generated_time()
    }

    /// Returns the number of rows.
    pub fn num_rows(&self) -> u64 {
        self.snapshot.manifest.totals.rows
    }

    /// Whether the snapshot has a column: it may be older than the column's declaration.
    pub fn has_column(&self, name: &str) -> bool {
        self.partition_by == Some(name) || self.files.iter().any(|open| open.has_column(name))
    }

    /// Fails if a file lacks one of `columns`.
    ///
    /// # Errors
    ///
    /// [`HistoryError::MissingColumn`].
    pub fn check_columns(&self, columns: &[&str]) -> Result<(), HistoryError> {
        let in_files = || columns.iter().filter(|column| self.partition_by != Some(**column));
        for open in &self.files {
            if let Some(column) = in_files().find(|column| !open.has_column(column)) {
                let path = open.file.path.clone();
                return Err(HistoryError::MissingColumn { path, column: (*column).to_owned() });
            }
        }
        Ok(())
    }

    /// Returns the data files.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &DataFile> {
        self.files.iter().map(|open| open.file)
    }

    /// Calls `visit` with all rows of the files whose positions `wanted` selects, a batch at a time, and with the thread's own
    /// result so far; returns the results of all threads.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, or what `visit` returns.
    pub fn visit<T: Default + Send>(
        &self,
        columns: &[&str],
        wanted: impl Fn(usize) -> bool,
        cancel: &Cancel,
        visit: impl Fn(&mut T, &RowColumns<'_>) -> Result<(), HistoryError> + Sync,
    ) -> Result<Vec<T>, HistoryError> {
        self.visit_row_groups(wanted, cancel, |made, row_group| {
            row_group.visit(columns, |rows| visit(made, rows))
        })
    }

    /// Calls `visit` with all row groups of the files whose positions `wanted` selects; otherwise as
    /// [`SnapshotReader::visit`].
    ///
    /// # Errors
    ///
    /// What `visit` returns.
    pub fn visit_row_groups<T: Default + Send>(
        &self,
        wanted: impl Fn(usize) -> bool,
        cancel: &Cancel,
        visit: impl Fn(&mut T, &RowGroup<'_>) -> Result<(), HistoryError> + Sync,
    ) -> Result<Vec<T>, HistoryError> {
        let mut units = Vec::new();
        for (_, file) in self.files.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            let row_group = |index| RowGroup { file, index, partition_by: self.partition_by };
            units.extend((0..file.metadata.metadata().num_row_groups()).map(row_group));
        }
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            let mut made = T::default();
            while let Some(row_group) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                let read = if cancel.is_cancelled() {
                    Err(HistoryError::Interrupted)
                } else {
                    visit(&mut made, row_group)
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
        let bytes = Arc::new(SharedFile(Arc::new(table.open_data_file(&file.path)?)));
        let metadata = read_metadata(&bytes)
            .map_err(|source| HistoryError::DamagedFile { path: file.path.clone(), source })?;
        Ok(Self { file, bytes, metadata })
    }

    fn has_column(&self, name: &str) -> bool {
        self.metadata.schema().column_with_name(name).is_some()
    }
}

impl RowGroup<'_> {
    /// Returns the number of rows.
    pub fn num_rows(&self) -> i64 {
        self.metadata().num_rows()
    }

    /// Whether this program wrote it.
    pub fn is_ours(&self) -> bool {
        let created_by = self.file.metadata.metadata().file_metadata().created_by();
        created_by.is_some_and(properties::is_ours)
    }

    /// Returns the bytes of each value of a column of integers.
    pub fn integer_bytes(&self, name: &str) -> Option<usize> {
        match self.file.metadata.schema().field_with_name(name).ok()?.data_type() {
            DataType::Int32 => Some(4),
            DataType::Int64 => Some(8),
            _ => None,
        }
    }

    /// Returns the column chunk of a column that the file has, if it is wholly dictionary-encoded.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn chunk(&self, name: &str) -> Result<Option<DictionaryChunk<SharedFile>>, HistoryError> {
        let mut chunks = self.metadata().columns().iter();
        let Some(chunk) = chunks.find(|chunk| chunk.column_path().parts() == [name]) else {
            return Ok(None);
        };
        let num_rows = usize::try_from(self.num_rows()).unwrap_or(0);
        self.checked(DictionaryChunk::open(&self.file.bytes, chunk, num_rows))
    }

    /// Names the file of an error.
    ///
    /// # Errors
    ///
    /// That error.
    pub fn checked<T>(&self, read: Result<T, ParquetError>) -> Result<T, HistoryError> {
        read.map_err(|source| HistoryError::DamagedFile { path: self.file.file.path.clone(), source })
    }

    /// Calls `visit` with all rows, a batch at a time.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or what `visit` returns.
    pub fn visit(
        &self,
        columns: &[&str],
        mut visit: impl FnMut(&RowColumns<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let OpenDataFile { file, bytes, metadata } = self.file;
        let partition = self.partition_by.map(|column| (column, file.os_platform.as_deref()));
        let bytes = SharedFile::clone(bytes);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata.clone())
            .with_row_groups(vec![self.index])
            .with_projection(ProjectionMask::columns(metadata.parquet_schema(), columns.iter().copied()))
            .with_batch_size(BATCH_ROWS)
            .build();
        for batch in self.checked(reader)? {
            let batch = self.checked(batch.map_err(ParquetError::from))?;
            visit(&RowColumns { partition, batch })?;
        }
        Ok(())
    }

    fn metadata(&self) -> &RowGroupMetaData {
        self.file.metadata.metadata().row_group(self.index)
    }
}

/// Whether a data file has a column.
///
/// # Errors
///
/// The file cannot be read.
#[cfg(feature = "query")]
pub fn has_column(table: &Table, file: &DataFile, column: &str) -> Result<bool, HistoryError> {
    Ok(OpenDataFile::open(table, file)?.has_column(column))
}

fn read_metadata(bytes: &SharedFile) -> Result<ArrowReaderMetadata, ParquetError> {
    let metadata = ArrowReaderMetadata::load(bytes, ArrowReaderOptions::new())?;
    let dictionary = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
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
pub struct SharedFile(Arc<File>);

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
pub struct ReadAt {
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
