//! The files of one partition: one is open, and closed when it has reached its size.

use std::fs::File;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::writer::SerializedFileWriter;

use super::properties::TARGET_FILE_BYTES;
use super::row_group::RowGroup;
use super::{FileFormat, Partition, WriteError};
use crate::commit::{StagedFile, UnsyncedFile};
use crate::manifest::DataFile;

/// A partition's open file, and the facts of those before it.
#[derive(Default)]
pub(super) struct RollingFile {
    open: Option<OpenFile>,
    finished: Vec<DataFile>,
}

struct OpenFile {
    writer: SerializedFileWriter<StagedFile>,
    num_rows: u64,
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
            let name = format!("part-{}-{}-{number:05}.parquet", format.snapshot, format.run_id);
            let file = format.staging.create_data_file(&partition.directory, &name)?;
            let writer = SerializedFileWriter::new(
                file,
                format.parquet_schema.root_schema_ptr(),
                Arc::clone(&format.properties),
            )
            .map_err(|error| WriteError::encode(&partition.directory, error))?;
            self.open = Some(OpenFile { writer, num_rows: 0 });
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    /// Appends a row group; closes the file when that makes it large enough.
    pub(super) fn append(
        &mut self,
        format: &FileFormat<'_>,
        partition: &Partition,
        row_group: &mut RowGroup,
    ) -> Result<(), WriteError> {
        let open = self.open(format, partition)?;
        row_group
            .append_to(&mut open.writer)
            .map_err(|error| WriteError::encode(&partition.directory, error))?;
        open.num_rows += row_group.num_rows() as u64;
        if open.writer.bytes_written() as u64 >= TARGET_FILE_BYTES {
            self.close(format, partition)?.iter().try_for_each(UnsyncedFile::sync)?;
        }
        Ok(())
    }

    fn close(
        &mut self,
        format: &FileFormat<'_>,
        partition: &Partition,
    ) -> Result<Option<UnsyncedFile>, WriteError> {
        let Some(open) = self.open.take() else { return Ok(None) };
        let encode = |error| WriteError::encode(&partition.directory, error);
        let row_groups = open.writer.flushed_row_groups().len() as u64;
        let (file, unsynced) = open.writer.into_inner().map_err(encode)?.close()?;
        let found = rows_in_footer(&format.staging.open_data_file(&file.path)?).map_err(encode)?;
        if found != open.num_rows {
            return Err(WriteError::Rows { path: file.path, expected: open.num_rows, found });
        }
        self.finished.push(DataFile {
            path: file.path,
            snapshot_date: format.snapshot.date(),
            os_platform: partition.key.value().map(str::to_owned),
            rows: found,
            bytes: file.bytes,
            row_groups,
            sha256: file.sha256,
        });
        Ok(Some(unsynced))
    }

    /// Closes the open file; returns the facts of all, and the last to be synced.
    pub(super) fn finish(
        &mut self,
        format: &FileFormat<'_>,
        partition: &Partition,
    ) -> Result<(Vec<DataFile>, Option<UnsyncedFile>), WriteError> {
        let unsynced = self.close(format, partition)?;
        Ok((std::mem::take(&mut self.finished), unsynced))
    }
}

/// Reads the number of rows back from a finished file.
fn rows_in_footer(file: &File) -> Result<u64, ParquetError> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file)?;
    u64::try_from(footer.file_metadata().num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))
}
