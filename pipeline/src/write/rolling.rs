//! The files of one partition: one is open, and is closed once it has reached its target size.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec::encode::RowGroup;
use codec::row_group::MIN_ROW_GROUP_ROWS;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::writer::SerializedFileWriter;

use super::error::WriteError;
use super::file_format::{FileFormat, OPEN_FILE_BYTES};
use super::partition::Partition;
use crate::delta::FileStatistics;
use crate::manifest::DataFile;
use crate::staging::{StagedFile, UnsyncedFile, WrittenFile};

/// Size at which a data file is closed and the next one begun.
pub const TARGET_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Mean rows a row group, at least, of a file with several: smaller ones cost readers more to open than they save.
const MIN_MEAN_ROW_GROUP_ROWS: u64 = MIN_ROW_GROUP_ROWS as u64;

/// A partition's open file, and the facts of those before it.
#[derive(Default)]
pub(super) struct RollingFile {
    open: Option<OpenFile>,
    finished: Vec<WrittenFile>,
    /// Closed files that are not synced yet.
    unsynced: Vec<UnsyncedFile>,
}

struct OpenFile {
    writer: SerializedFileWriter<StagedFile>,
    num_rows: u64,
    num_row_groups: u64,
    /// Approximate bytes of its buffers and its footer.
    held_bytes: usize,
}

impl std::fmt::Debug for RollingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RollingFile").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl RollingFile {
    fn open(&mut self, format: &FileFormat<'_>, partition: &Partition) -> Result<&mut OpenFile, WriteError> {
        if self.open.is_none() {
            let number = self.finished.len();
            let name = format.destination.data_file_name(number);
            let file = format.destination.create_data_file(&partition.directory, &name)?;
            let writer = SerializedFileWriter::new(
                file,
                format.parquet_schema.root_schema_ptr(),
                Arc::clone(&format.properties),
            )
            .map_err(|error| WriteError::encode(&partition.directory, error))?;
            format.open.num_files.fetch_add(1, Ordering::Relaxed);
            format.open.add(OPEN_FILE_BYTES);
            self.open =
                Some(OpenFile { writer, num_rows: 0, num_row_groups: 0, held_bytes: OPEN_FILE_BYTES });
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    /// Appends a row group; closes the file when that makes it large enough, or if open files hold too much.
    /// Row groups of few rows are alone in their file.
    pub(super) fn append(
        &mut self,
        format: &FileFormat<'_>,
        partition: &Partition,
        row_group: &mut RowGroup,
    ) -> Result<(), WriteError> {
        let num_rows = row_group.num_rows() as u64;
        if let Some(open) = &self.open
            && open.num_rows + num_rows < (open.num_row_groups + 1) * MIN_MEAN_ROW_GROUP_ROWS
        {
            self.close_synced(format, partition)?;
        }
        let footer_bytes = row_group.footer_bytes();
        let open = self.open(format, partition)?;
        row_group
            .append_to(&mut open.writer)
            .map_err(|error| WriteError::encode(&partition.directory, error))?;
        open.num_rows += num_rows;
        open.num_row_groups += 1;
        open.held_bytes += footer_bytes;
        format.open.add(footer_bytes);
        let is_large = open.writer.bytes_written() as u64 >= TARGET_FILE_BYTES;
        if is_large || format.open.is_to_close(open.held_bytes) {
            self.close_synced(format, partition)?;
        }
        Ok(())
    }

    fn close_synced(&mut self, format: &FileFormat<'_>, partition: &Partition) -> Result<(), WriteError> {
        self.close(format, partition)?;
        Ok(self.unsynced.drain(..).try_for_each(|file| file.sync())?)
    }

    /// Closes the open file, which is synced later.
    pub(super) fn close(&mut self, format: &FileFormat<'_>, partition: &Partition) -> Result<(), WriteError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        format.open.num_files.fetch_sub(1, Ordering::Relaxed);
        format.open.num_bytes.fetch_sub(open.held_bytes, Ordering::Relaxed);
        let encode = |error| WriteError::encode(&partition.directory, error);
        let row_groups = open.writer.flushed_row_groups().len() as u64;
        let (file, unsynced) = open.writer.into_inner().map_err(encode)?.close()?;
        let (found, footer) = read_footer(&format.destination.open_data_file(&file.path)?).map_err(encode)?;
        if found != open.num_rows {
            return Err(WriteError::Rows { path: file.path, expected: open.num_rows, found });
        }
        let facts = DataFile {
            path: file.path,
            snapshot_date: format.destination.snapshot().date(),
            os_platform: partition.key.value().map(str::to_owned),
            rows: found,
            bytes: file.bytes,
            row_groups,
            sha256: file.sha256,
        };
        self.finished.push(WrittenFile { facts, statistics: FileStatistics::of(format.dataset, &footer) });
        self.unsynced.push(unsynced);
        Ok(())
    }

    /// Closes the open file; returns the facts of all, and those to be synced.
    pub(super) fn finish(
        &mut self,
        format: &FileFormat<'_>,
        partition: &Partition,
    ) -> Result<(Vec<WrittenFile>, Vec<UnsyncedFile>), WriteError> {
        self.close(format, partition)?;
        Ok((std::mem::take(&mut self.finished), std::mem::take(&mut self.unsynced)))
    }
}

/// Reads the footer of a finished file back, and the number of rows from it.
fn read_footer(file: &File) -> Result<(u64, ParquetMetaData), ParquetError> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let num_rows = u64::try_from(footer.file_metadata().num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))?;
    Ok((num_rows, footer))
}
