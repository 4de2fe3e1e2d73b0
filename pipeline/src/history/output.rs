//! Writes answers as Parquet, CSV or one JSON object a line.
//!
//! A file gets its name when it is complete.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter as ParquetWriter;
use polars::prelude::*;
use tempfile::NamedTempFile;

use super::{HistoryError, text};

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

/// Writes frames of one schema.
pub enum FrameWriter<W: Write> {
    /// Row groups, then the footer.
    Parquet(Box<ParquetFrames<W>>),
    /// The header, then lines.
    Csv(W),
    /// Lines.
    Ndjson(W),
}

impl<W: Write> std::fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameWriter")
    }
}

impl<W: Write> FrameWriter<W> {
    /// Begins an answer with the columns of `schema`.
    ///
    /// # Errors
    ///
    /// What `writer` says.
    pub fn try_new(writer: W, format: OutputFormat, schema: &Schema) -> Result<Self, HistoryError> {
        Ok(match format {
            OutputFormat::Parquet => {
                let writer = polars::prelude::ParquetWriter::new(writer)
                    .with_compression(ParquetCompression::Zstd(None))
                    .set_parallel(false)
                    .batched(schema)?;
                Self::Parquet(Box::new(ParquetFrames {
                    writer,
                    frames: Vec::new(),
                    num_rows: 0,
                    num_bytes: 0,
                }))
            }
            OutputFormat::Csv => {
                let mut writer = writer;
                write_csv_row(&mut writer, schema.iter_names().map(|name| AnyValue::String(name)))?;
                Self::Csv(writer)
            }
            OutputFormat::Ndjson => Self::Ndjson(writer),
        })
    }

    /// Writes the rows of a frame.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write(&mut self, frame: &DataFrame) -> Result<(), HistoryError> {
        match self {
            Self::Parquet(groups) => groups.write(frame)?,
            Self::Csv(writer) => {
                for row in 0..frame.height() {
                    let values = frame.columns().iter().map(|column| column.get(row));
                    write_csv_row(writer, values.collect::<PolarsResult<Vec<_>>>()?)?;
                }
            }
            Self::Ndjson(writer) => {
                for row in 0..frame.height() {
                    for (index, column) in frame.columns().iter().enumerate() {
                        writer.write_all(if index == 0 { b"{" } else { b"," })?;
                        serde_json::to_writer(&mut *writer, column.name().as_str())
                            .map_err(io::Error::from)?;
                        writer.write_all(b":")?;
                        let value = text::json(&column.get(row)?);
                        serde_json::to_writer(&mut *writer, &value).map_err(io::Error::from)?;
                    }
                    writer.write_all(b"}\n")?;
                }
            }
        }
        Ok(())
    }

    /// Completes the answer.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn finish(self) -> Result<(), HistoryError> {
        match self {
            Self::Parquet(mut groups) => {
                groups.close()?;
                groups.writer.finish()?;
            }
            Self::Csv(mut writer) | Self::Ndjson(mut writer) => writer.flush()?,
        }
        Ok(())
    }
}

/// Frames that are gathered to a row group.
pub struct ParquetFrames<W: Write> {
    writer: ParquetWriter<W>,
    frames: Vec<DataFrame>,
    num_rows: usize,
    num_bytes: usize,
}

impl<W: Write> std::fmt::Debug for ParquetFrames<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFrames").field("num_rows", &self.num_rows).finish_non_exhaustive()
    }
}

impl<W: Write> ParquetFrames<W> {
    /// As in the lake's own files.
    const ROWS: usize = codec::decode::column::MAX_ROWS;
    /// Bytes gathered at most: an eighth of the smallest `--memory`.
    const BYTES: usize = 32 << 20;

    fn write(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        // A filtered frame may keep alive everything that was read with it; a copy does not.
        let num_rows = IdxSize::try_from(frame.height()).expect("a frame counts its rows so");
        let every_row = IdxCa::from_vec("rows".into(), (0..num_rows).collect());
        let frame = frame.take(&every_row)?;
        self.num_rows += frame.height();
        self.num_bytes += frame.estimated_size();
        self.frames.push(frame);
        if self.num_rows >= Self::ROWS || self.num_bytes >= Self::BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> PolarsResult<()> {
        let mut frames = std::mem::take(&mut self.frames).into_iter();
        (self.num_rows, self.num_bytes) = (0, 0);
        let Some(mut group) = frames.next() else { return Ok(()) };
        frames.try_for_each(|frame| group.vstack_mut_owned(frame).map(drop))?;
        group.rechunk_mut_par();
        self.writer.write_batch(&group)
    }
}

/// Writes a line of CSV (RFC 4180, lines end in LF): null is an empty cell and empty text is quoted,
/// timestamps and dates are text, lists are JSON.
fn write_csv_row<'v>(
    writer: &mut impl Write,
    values: impl IntoIterator<Item = AnyValue<'v>>,
) -> io::Result<()> {
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            writer.write_all(b",")?;
        }
        let cell = match &value {
            AnyValue::Null => continue,
            AnyValue::Float32(value) if !value.is_finite() => value.to_string(),
            AnyValue::Float64(value) if !value.is_finite() => value.to_string(),
            // As `f64` it would be another number.
            AnyValue::Float32(value) => serde_json::to_string(value)?,
            value => text::cell(value),
        };
        if cell.is_empty() || cell.contains([',', '"', '\n', '\r']) {
            write!(writer, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            writer.write_all(cell.as_bytes())?;
        }
    }
    writer.write_all(b"\n")
}

/// A file that gets its name when it is complete.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    temporary: NamedTempFile,
    writer: FrameWriter<BufWriter<File>>,
}

impl OutputFile {
    /// Begins the file at `path`. Without `format`, the file name's extension decides.
    ///
    /// # Errors
    ///
    /// An unknown extension, or a folder that cannot be written to.
    pub fn create(path: &Path, format: Option<OutputFormat>, schema: &Schema) -> Result<Self, HistoryError> {
        let format = format.map_or_else(|| OutputFormat::of_path(path), Ok)?;
        let failed = |source| HistoryError::Output { path: path.to_path_buf(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".defender-lake-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        let file = temporary.as_file().try_clone().map_err(failed)?;
        let writer = FrameWriter::try_new(BufWriter::new(file), format, schema)?;
        Ok(Self { path: path.to_path_buf(), temporary, writer })
    }

    /// Writes the rows of a frame.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write(&mut self, frame: &DataFrame) -> Result<(), HistoryError> {
        self.writer.write(frame)
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    ///
    /// The file system's; the file at `path` is unchanged then.
    pub fn finish(self) -> Result<(), HistoryError> {
        self.writer.finish()?;
        let failed = |source| HistoryError::Output { path: self.path.clone(), source };
        self.temporary.as_file().sync_all().map_err(failed)?;
        self.temporary.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_cells_are_quoted_if_they_must_be() {
        let list = AnyValue::List(Series::new("".into(), ["a", "b\"c"]));
        let values = [
            AnyValue::String("plain text"),
            AnyValue::String(""),
            AnyValue::Null,
            AnyValue::String("a,b"),
            AnyValue::String("say \"x\""),
            AnyValue::String("two\nlines"),
            AnyValue::String("\r"),
            AnyValue::Int32(-7),
            AnyValue::UInt64(u64::MAX),
            AnyValue::Boolean(true),
            AnyValue::Float64(1.0),
            AnyValue::Float64(1e20),
            AnyValue::Float64(f64::NAN),
            AnyValue::Float64(f64::NEG_INFINITY),
            AnyValue::Float32(0.1),
            AnyValue::Date(18_638),
            AnyValue::Datetime(1_610_362_860_000_000, TimeUnit::Microseconds, None),
            list,
        ];
        let mut text = Vec::new();
        write_csv_row(&mut text, values).unwrap();
        let expected = concat!(
            r#"plain text,"",,"a,b","say ""x""","two"#,
            "\n",
            r#"lines","#,
            "\"\r\"",
            r#",-7,18446744073709551615,true,1.0,1e+20,NaN,-inf,0.1,2021-01-11,2021-01-11T11:01:00Z,"#,
            r#""[""a"",""b\""c""]""#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
