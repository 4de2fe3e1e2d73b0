//! Writes answers as Parquet, CSV or one JSON object a line.
//!
//! Takes record batches of text, numbers, dates and times. A file gets its name when it is complete.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::csv::{self, CsvCell};
use super::{HistoryError, value};

/// Format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Parquet, zstd.
    Parquet,
    /// CSV with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl OutputFormat {
    /// Returns the format of a file name's extension.
    ///
    /// # Errors
    ///
    /// [`HistoryError::UnknownFormat`].
    pub fn of_path(path: &Path) -> Result<Self, HistoryError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("ndjson" | "json" | "jsonl") => Ok(Self::Ndjson),
            _ => Err(HistoryError::UnknownFormat { path: path.to_path_buf() }),
        }
    }
}

/// A file that gets its name when it is complete; until then there is none of its name.
#[derive(Debug)]
pub struct PendingFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl PendingFile {
    /// Begins the file that is to be at `path`, and returns a writer of it.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to.
    pub fn create(path: &Path) -> Result<(Self, BufWriter<File>), HistoryError> {
        let failed = |source| HistoryError::Output { path: path.to_path_buf(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".defender-lake-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        let file = temporary.as_file().try_clone().map_err(failed)?;
        Ok((Self { path: path.to_path_buf(), temporary }, BufWriter::new(file)))
    }

    /// Returns the error of writing to it.
    pub fn failed(&self, source: io::Error) -> HistoryError {
        HistoryError::Output { path: self.path.clone(), source }
    }

    /// Gives the file its name, after its writer was flushed.
    ///
    /// # Errors
    ///
    /// The file system's; the file at the path is unchanged then.
    pub fn finish(self) -> Result<(), HistoryError> {
        let failed = |source| HistoryError::Output { path: self.path.clone(), source };
        self.temporary.as_file().sync_all().map_err(failed)?;
        self.temporary.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// A file of record batches.
#[derive(Debug)]
pub struct OutputFile {
    pending: PendingFile,
    writer: BatchWriter<BufWriter<File>>,
}

impl OutputFile {
    /// Begins the file at `path` with the columns of `schema`. Without `format`, the file name's extension decides.
    ///
    /// # Errors
    ///
    /// An unknown extension, or a folder that cannot be written to.
    pub fn create(
        path: &Path,
        format: Option<OutputFormat>,
        schema: &SchemaRef,
    ) -> Result<Self, HistoryError> {
        let format = format.map_or_else(|| OutputFormat::of_path(path), Ok)?;
        let (pending, file) = PendingFile::create(path)?;
        let writer = BatchWriter::try_new(file, format, schema).map_err(|error| pending.failed(error))?;
        Ok(Self { pending, writer })
    }

    /// Writes the rows of a batch.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), HistoryError> {
        self.writer.write(batch).map_err(|error| self.pending.failed(error))
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    ///
    /// The file system's; the file at the path is unchanged then.
    pub fn finish(self) -> Result<(), HistoryError> {
        self.writer.finish().map_err(|error| self.pending.failed(error))?;
        self.pending.finish()
    }
}

/// Writes record batches of one schema.
#[derive(Debug)]
enum BatchWriter<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Csv(W),
    Ndjson(W),
}

impl<W: Write + Send> BatchWriter<W> {
    fn try_new(mut writer: W, format: OutputFormat, schema: &SchemaRef) -> io::Result<Self> {
        Ok(match format {
            OutputFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(codec::decode::column::MAX_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(writer, SchemaRef::clone(schema), Some(properties))
                    .map_err(io_error)?;
                Self::Parquet(Box::new(writer))
            }
            OutputFormat::Csv => {
                let names = schema.fields().iter().map(|field| CsvCell::Text(field.name().into()));
                csv::write_row(&mut writer, names)?;
                Self::Csv(writer)
            }
            OutputFormat::Ndjson => Self::Ndjson(writer),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(io_error)?,
            Self::Csv(writer) => {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| csv_cell(json(column, row)));
                    csv::write_row(writer, cells)?;
                }
            }
            Self::Ndjson(writer) => {
                let schema = batch.schema();
                for row in 0..batch.num_rows() {
                    for (index, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
                        writer.write_all(if index == 0 { b"{" } else { b"," })?;
                        serde_json::to_writer(&mut *writer, field.name())?;
                        writer.write_all(b":")?;
                        serde_json::to_writer(&mut *writer, &json(column, row))?;
                    }
                    writer.write_all(b"}\n")?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => writer.into_inner().map_err(io_error)?.flush(),
            Self::Csv(mut writer) | Self::Ndjson(mut writer) => writer.flush(),
        }
    }
}

fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}

/// Returns a value as JSON: dates and times are text, the latter in UTC as in RFC 3339.
fn json(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(row)),
        DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::from(column.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => Value::from(value::date_text(column.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(..) => {
            Value::from(value::timestamp_text(column.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        other => unreachable!("answers have no column of type {other}"),
    }
}

/// Returns the value as a cell of CSV.
fn csv_cell(value: Value) -> CsvCell<'static> {
    match value {
        Value::Null => CsvCell::Null,
        Value::String(text) => CsvCell::Text(text.into()),
        value => CsvCell::Other(value.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn values_are_written_as_defined() {
        let columns: [(&str, ArrayRef); 5] = [
            ("text", Arc::new(StringArray::from(vec![Some("=a\"b"), None]))),
            ("number", Arc::new(Int64Array::from(vec![-7, 8]))),
            ("share", Arc::new(Float64Array::from(vec![Some(0.25), None]))),
            ("date", Arc::new(Date32Array::from(vec![18_638, 0]))),
            (
                "time",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![1_610_362_860_000_000, 1]).with_timezone("UTC"),
                ),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let written = |format| {
            let mut text = Vec::new();
            let mut writer = BatchWriter::try_new(&mut text, format, &batch.schema()).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(
            written(OutputFormat::Csv),
            "text,number,share,date,time\n\"'=a\"\"b\",-7,0.25,2021-01-11,2021-01-11T11:01:00Z\n\
             ,8,,1970-01-01,1970-01-01T00:00:00.000001Z\n"
        );
        assert_eq!(
            written(OutputFormat::Ndjson).lines().next().unwrap(),
            r#"{"text":"=a\"b","number":-7,"share":0.25,"date":"2021-01-11","time":"2021-01-11T11:01:00Z"}"#
        );
    }
}
