//! Writes frames of the query engine as Parquet, CSV or one JSON object a line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use polars::io::parquet::write::BatchedWriter as ParquetWriter;
use polars::prelude::*;

use super::csv::{self, CsvCell};
use super::output::{OutputFormat, PendingFile};
use super::{HistoryError, text};

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
                let names = schema.iter_names().map(|name| CsvCell::Text(name.as_str().to_owned().into()));
                csv::write_row(&mut writer, names)?;
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
                    let values = values.collect::<PolarsResult<Vec<_>>>()?;
                    csv::write_row(writer, values.iter().map(csv_cell))?;
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

/// Returns a value as a cell of CSV: timestamps and dates are text, lists are JSON.
fn csv_cell(value: &AnyValue<'_>) -> CsvCell<'static> {
    let text = match value {
        AnyValue::Null => return CsvCell::Null,
        AnyValue::Float32(value) if !value.is_finite() => value.to_string(),
        AnyValue::Float64(value) if !value.is_finite() => value.to_string(),
        // As `f64` it would be another number.
        AnyValue::Float32(value) => serde_json::to_string(value).unwrap_or_default(),
        AnyValue::String(_) | AnyValue::StringOwned(_) => return CsvCell::Text(text::cell(value).into()),
        value => text::cell(value),
    };
    CsvCell::Other(text.into())
}

/// A file of frames that gets its name when it is complete.
#[derive(Debug)]
pub struct FrameFile {
    pending: PendingFile,
    writer: FrameWriter<BufWriter<File>>,
}

impl FrameFile {
    /// Begins the file at `path`. Without `format`, the file name's extension decides.
    ///
    /// # Errors
    ///
    /// An unknown extension, or a folder that cannot be written to.
    pub fn create(path: &Path, format: Option<OutputFormat>, schema: &Schema) -> Result<Self, HistoryError> {
        let format = format.map_or_else(|| OutputFormat::of_path(path), Ok)?;
        let (pending, file) = PendingFile::create(path)?;
        let writer = FrameWriter::try_new(file, format, schema)?;
        Ok(Self { pending, writer })
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
        self.pending.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_cells_of_csv() {
        let values = [
            AnyValue::String("-text"),
            AnyValue::Null,
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
            AnyValue::List(Series::new("".into(), ["a", "b\"c"])),
        ];
        let mut text = Vec::new();
        csv::write_row(&mut text, values.iter().map(csv_cell)).unwrap();
        let expected = concat!(
            "'-text,,-7,18446744073709551615,true,1.0,1e+20,NaN,-inf,0.1,2021-01-11,2021-01-11T11:01:00Z,",
            r#""[""a"",""b\""c""]""#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
