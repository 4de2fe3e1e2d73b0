//! Counts rows with the key of another row of the snapshot.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use schema::{ColumnType, Dataset};
use sha2::{Digest, Sha256};

use super::error::VerifyError;
use super::verification::{BATCH_ROWS, Verification};
use crate::lake::LakeError;
use crate::manifest::DataFile;

/// Minimum number of keys of a pass.
const MIN_KEYS_PER_PASS: usize = 4096;

impl Verification<'_> {
    /// Counts the rows beyond the first of their key. Keys are compared by 128 bits of their SHA-256, and each pass
    /// handles one range of these.
    pub(super) fn count_duplicate_keys(&mut self, num_passes: u64) -> Result<(), VerifyError> {
        let snapshot = self.snapshot;
        let per_pass = usize::try_from(snapshot.manifest.totals.rows / num_passes).unwrap_or(usize::MAX);
        let mut counter = DuplicateCounter::with_capacity(per_pass);
        for pass in 0..num_passes {
            for file in &snapshot.manifest.files {
                if let Err(error) = self.count_keys_of(file, pass, num_passes, &mut counter)? {
                    let name = self.data_file_name(&file.path);
                    self.find_unreadable(&name, &error);
                    return Ok(());
                }
                self.advance(file.bytes)?;
            }
            counter.end_pass();
        }
        self.report.duplicate_keys = Some(counter.num_duplicates);
        Ok(())
    }

    fn count_keys_of(
        &mut self,
        file: &DataFile,
        pass: u64,
        num_passes: u64,
        counter: &mut DuplicateCounter,
    ) -> Result<Result<(), KeyError>, VerifyError> {
        let opened = match self.table.open_data_file(&file.path) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.into())),
        };
        let batches = match key_batches(self.dataset(), opened) {
            Ok(batches) => batches,
            Err(error) => return Ok(Err(error)),
        };
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error.into())),
            };
            for hash in key_hashes(self.dataset(), file, &batch) {
                if ((hash >> 64) * u128::from(num_passes)) >> 64 == u128::from(pass) {
                    counter.insert(hash);
                }
            }
            self.advance(0)?;
        }
        Ok(Ok(()))
    }
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("{}", .0.reason())]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error("key column {column} is missing or of another type than declared")]
    Column { column: &'static str },
}

/// Returns the number of passes, with a quarter of the memory to spare: see [`DuplicateCounter`].
pub(super) fn num_key_passes(rows: u64, memory_bytes: usize) -> u64 {
    let per_pass = (memory_bytes / size_of::<u128>() / 5 * 4).max(MIN_KEYS_PER_PASS);
    rows.div_ceil(per_pass as u64).max(1)
}

/// Reads the key columns of one file.
fn key_batches(
    dataset: &'static Dataset,
    opened: File,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, KeyError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
    let stored = || dataset.file_columns().filter(|column| dataset.key.contains(&column.name));
    for column in stored() {
        let field = builder.schema().field_with_name(column.name);
        if !field.is_ok_and(|field| {
            schema::arrow::without_field_ids(field.data_type())
                == schema::arrow::data_type(column.column_type)
        }) {
            return Err(KeyError::Column { column: column.name });
        }
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), stored().map(|column| column.name));
    Ok(builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?)
}

/// Hashes the key of each row. Every value is framed, so that null, empty and adjacent values differ.
fn key_hashes(dataset: &Dataset, file: &DataFile, batch: &RecordBatch) -> impl Iterator<Item = u128> {
    let columns: Vec<_> = dataset
        .columns
        .iter()
        .filter(|column| dataset.key.contains(&column.name))
        .map(|column| (column.column_type, batch.column_by_name(column.name)))
        .collect();
    let mut key = Vec::new();
    (0..batch.num_rows()).map(move |row| {
        key.clear();
        for (column_type, array) in &columns {
            match array {
                Some(array) => frame_value(&mut key, *column_type, array, row),
                None => frame(&mut key, file.os_platform.as_deref().map(str::as_bytes)),
            }
        }
        let digest = Sha256::digest(&key);
        digest.iter().take(size_of::<u128>()).fold(0, |hash, byte| hash << 8 | u128::from(*byte))
    })
}

fn frame_value(key: &mut Vec<u8>, column_type: ColumnType, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return frame(key, None);
    }
    match column_type {
        ColumnType::Utf8 | ColumnType::Json => {
            frame(key, Some(array.as_string::<i32>().value(row).as_bytes()));
        }
        ColumnType::Int32 => {
            frame(key, Some(&array.as_primitive::<Int32Type>().value(row).to_le_bytes()));
        }
        ColumnType::Date32 => {
            frame(key, Some(&array.as_primitive::<Date32Type>().value(row).to_le_bytes()));
        }
        ColumnType::TimestampMicros => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            frame(key, Some(&micros.to_le_bytes()));
        }
        ColumnType::Int64 => {
            frame(key, Some(&array.as_primitive::<Int64Type>().value(row).to_le_bytes()));
        }
        ColumnType::Float64 => {
            frame(key, Some(&array.as_primitive::<Float64Type>().value(row).to_le_bytes()));
        }
        ColumnType::Boolean => frame(key, Some(&[u8::from(array.as_boolean().value(row))])),
        ColumnType::Utf8List => {
            let elements = array.as_list::<i32>().value(row);
            frame(key, Some(&elements.len().to_le_bytes()));
            for index in 0..elements.len() {
                frame_value(key, ColumnType::Utf8, &elements, index);
            }
        }
        ColumnType::StructList(members) => {
            let elements = array.as_list::<i32>().value(row);
            frame(key, Some(&elements.len().to_le_bytes()));
            let structs = elements.as_struct();
            for index in 0..structs.len() {
                for (member, values) in members.iter().zip(structs.columns()) {
                    frame_value(key, member.column_type, values, index);
                }
            }
        }
    }
}

fn frame(key: &mut Vec<u8>, value: Option<&[u8]>) {
    key.push(u8::from(value.is_some()));
    if let Some(value) = value {
        key.extend_from_slice(&(value.len() as u64).to_le_bytes());
        key.extend_from_slice(value);
    }
}

/// Counts repeated hashes in bounded memory: when it is full, all but the first of each are counted and dropped.
/// Distinct hashes spread evenly over the passes and leave a quarter of it free, so that only repeated ones can
/// fill it.
struct DuplicateCounter {
    hashes: Vec<u128>,
    num_duplicates: u64,
}

impl DuplicateCounter {
    fn with_capacity(num_keys: usize) -> Self {
        let capacity = num_keys.saturating_add(num_keys / 4).max(MIN_KEYS_PER_PASS);
        Self { hashes: Vec::with_capacity(capacity), num_duplicates: 0 }
    }

    fn insert(&mut self, hash: u128) {
        if self.hashes.len() == self.hashes.capacity() {
            self.compact();
        }
        self.hashes.push(hash);
    }

    fn compact(&mut self) {
        let num_before = self.hashes.len();
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.num_duplicates += (num_before - self.hashes.len()) as u64;
    }

    fn end_pass(&mut self) {
        self.compact();
        self.hashes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_take_bounded_memory() {
        let mut counter = DuplicateCounter::with_capacity(0);
        let capacity = counter.hashes.capacity();
        (0..10 * capacity).for_each(|index| counter.insert((index % 7) as u128));
        assert_eq!(counter.hashes.capacity(), capacity);
        counter.end_pass();
        assert_eq!(counter.num_duplicates, 10 * capacity as u64 - 7);
    }
}
