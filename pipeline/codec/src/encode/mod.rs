//! Takes a record batch; gives a row group, encoded and compressed in memory, to be appended to any file.
//!
//! The batch's text is in dictionaries already: its keys become Parquet's keys, and nothing is hashed again. Types
//! without an encoder here are encoded by the library. Readers see plain text: a dictionary is an encoding, not a
//! type of the file.

pub mod properties;
#[expect(clippy::cast_possible_truncation, reason = "the library refuses larger pages")]
#[expect(clippy::cast_possible_wrap, reason = "counts are signed and not negative")]
mod column_chunk;
#[expect(clippy::cast_possible_truncation, reason = "a page is far smaller than its counts can say")]
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "counts are signed and not negative")]
mod levels;
mod rle;
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "keys and lengths have 32 bits")]
mod byte_array;
mod early;
#[expect(clippy::cast_possible_truncation, reason = "differences are bounded before they are positions")]
mod primitive;
#[expect(clippy::cast_possible_truncation, reason = "a dictionary is far smaller")]
mod float;
mod boolean;
#[expect(clippy::cast_possible_wrap, reason = "counts are signed and not negative")]
mod statistics;
mod library;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{Array, ArrowPrimitiveType, BinaryViewArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::writer::{SerializedFileWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use schema::Dataset;

use byte_array::{TextEncoder, Texts};
use column_chunk::{ChunkWriter, PageCompressor, PageSink};
pub(crate) use early::EarlyEncoder;
use float::FloatEncoder;
use levels::{Levels, ListLevels};
use library::{LibraryEncoder, has_own_encoder};
use primitive::{Number, NumberEncoder, ONE, SECOND};
use properties::ColumnLayout;
pub(crate) use properties::MAX_PAGE_BYTES;
pub use properties::MAX_ROW_GROUP_ROWS;

use crate::rows::{EarlyPage, Rows};

/// Encodes row groups, one after the other, with the same buffers.
pub struct RowGroupEncoder {
    schema: SchemaDescPtr,
    /// By column of the file.
    layouts: Vec<ColumnLayout>,
    compressor: PageCompressor,
    text: TextEncoder,
    numbers: NumberEncoder,
    floats: FloatEncoder,
    lists: ListLevels,
    /// Values that are not null, if some are.
    keys: Vec<u32>,
    ints: Vec<i32>,
    longs: Vec<i64>,
    doubles: Vec<f64>,
    bools: Vec<bool>,
    /// The bytes of the last row group.
    bytes: Vec<u8>,
}

impl std::fmt::Debug for RowGroupEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroupEncoder").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A row group that no file has yet.
#[derive(Debug)]
pub struct RowGroup {
    /// Of the columns that have an encoder of our own.
    bytes: Bytes,
    columns: Vec<EncodedColumn>,
    num_rows: usize,
}

/// An encoded column chunk.
#[derive(Debug)]
enum EncodedColumn {
    Own(ColumnCloseResult),
    Library(ArrowColumnChunk),
}

impl RowGroupEncoder {
    /// Begins with empty buffers, for files of `dataset`, whose columns are those of `schema`.
    pub fn new(schema: SchemaDescPtr, dataset: &Dataset) -> Self {
        Self {
            layouts: schema.columns().iter().map(|column| ColumnLayout::of(column, dataset)).collect(),
            schema,
            compressor: PageCompressor::new(),
            text: TextEncoder::default(),
            numbers: NumberEncoder::default(),
            floats: FloatEncoder::default(),
            lists: ListLevels::default(),
            keys: Vec::new(),
            ints: Vec::new(),
            longs: Vec::new(),
            doubles: Vec::new(),
            bools: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Encodes `rows` as a row group, one column after the other. Their columns are those of the file, text as
    /// `Dictionary(UInt32, Utf8)`, whose texts are not null; they may repeat, and not all need be used.
    ///
    /// # Errors
    ///
    /// Fails if sizes exceed what the format can hold.
    ///
    /// # Panics
    ///
    /// If the columns are not those of the file: a bug.
    pub fn encode(&mut self, mut rows: Rows) -> Result<RowGroup, ParquetError> {
        let (schema, num_rows) = (rows.schema(), rows.num_rows());
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut sink = TrackedWrite::new(bytes);
        let mut columns = Vec::with_capacity(self.schema.num_columns());
        let mut library = None;
        for (index, field) in schema.fields().iter().enumerate() {
            if let Some(pages) = rows.early_pages(index) {
                columns.push(EncodedColumn::Own(self.append_early(columns.len(), pages, &mut sink)?));
                continue;
            }
            if let Some(views) = rows.take_views(index) {
                columns.push(EncodedColumn::Own(self.encode_views(columns.len(), &views, &mut sink)?));
                continue;
            }
            let array = rows.take(index);
            if has_own_encoder(field.data_type()) {
                let column = self.schema.column(columns.len());
                let layout = self.layouts[columns.len()];
                columns.push(EncodedColumn::Own(self.encode_column(&column, &array, layout, &mut sink)?));
            } else {
                let library = match &mut library {
                    Some(library) => library,
                    none => none.insert(LibraryEncoder::try_new(&self.schema, Arc::clone(&schema))?),
                };
                let chunks = library.encode(field, &array, columns.len())?;
                columns.extend(chunks.into_iter().map(EncodedColumn::Library));
            }
        }
        assert_eq!(columns.len(), self.schema.num_columns(), "the batch has every column of the file");
        Ok(RowGroup { bytes: sink.into_inner()?.into(), columns, num_rows })
    }

    /// Appends the pages of a column of JSON that are encoded already.
    fn append_early(
        &mut self,
        column: usize,
        pages: &[EarlyPage],
        sink: &mut PageSink,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let (column, layout) = (self.schema.column(column), self.layouts[column]);
        assert!(column.max_def_level() == 1 && column.max_rep_level() == 0, "{} is optional", column.path());
        let mut chunk = ChunkWriter::<&str>::new(&column, layout, sink, &mut self.compressor);
        for page in pages {
            chunk.early_page(page)?;
        }
        chunk.finish(None)
    }

    /// Encodes texts that do not repeat.
    fn encode_views(
        &mut self,
        column: usize,
        views: &BinaryViewArray,
        sink: &mut PageSink,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let (column, layout) = (self.schema.column(column), self.layouts[column]);
        let nulls = views.nulls().filter(|nulls| nulls.null_count() > 0);
        let pages = levels::pages(views.len(), nulls);
        // The rows that have a text.
        let rows: Vec<usize> = match nulls {
            None => (0..views.len()).collect(),
            Some(nulls) => nulls.valid_indices().collect(),
        };
        let chunk = ChunkWriter::new(&column, layout, sink, &mut self.compressor);
        let levels = flat_levels(&column, nulls);
        byte_array::encode_distinct(|value| views.value(rows[value]), levels, pages, layout, chunk)
    }

    /// Takes back the memory of a row group that was appended.
    pub fn reuse(&mut self, row_group: RowGroup) {
        if let Ok(bytes) = row_group.bytes.try_into_mut() {
            self.bytes = bytes.into();
        }
    }

    /// Memory that is kept for the next row group.
    pub fn num_bytes(&self) -> usize {
        let keys = self.keys.capacity() + self.ints.capacity();
        self.compressor.num_bytes()
            + self.text.num_bytes()
            + self.numbers.num_bytes()
            + self.floats.num_bytes()
            + self.lists.num_bytes()
            + keys * size_of::<u32>()
            + (self.longs.capacity() + self.doubles.capacity()) * size_of::<i64>()
            + self.bools.capacity()
            + self.bytes.capacity()
    }

    fn encode_column(
        &mut self,
        column: &ColumnDescPtr,
        array: &dyn Array,
        layout: ColumnLayout,
        sink: &mut PageSink,
    ) -> Result<ColumnCloseResult, ParquetError> {
        match array.data_type() {
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_dictionary::<UInt32Type>();
                let nulls = dictionary.nulls().filter(|nulls| nulls.null_count() > 0);
                let pages = levels::pages(array.len(), nulls);
                let keys = match nulls {
                    None => &dictionary.keys().values()[..],
                    Some(nulls) => {
                        levels::compact(dictionary.keys().values(), nulls, &mut self.keys);
                        &self.keys[..]
                    }
                };
                let texts = Texts {
                    dictionary: dictionary.values().as_string(),
                    keys,
                    levels: flat_levels(column, nulls),
                };
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                self.text.encode(texts, pages, layout, chunk)
            }
            DataType::List(_) => {
                assert_eq!(column.max_rep_level(), 1, "{} is a list", column.path());
                let lists = array.as_list::<i32>();
                let (pages, keys) = self.lists.fill(lists, column.max_def_level(), &mut self.keys);
                let texts = Texts {
                    dictionary: lists.values().as_dictionary::<UInt32Type>().values().as_string(),
                    keys,
                    levels: Levels::List(&self.lists),
                };
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                self.text.encode(texts, pages, layout, chunk)
            }
            DataType::Int32 => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let (numbers, ints) = (&mut self.numbers, &mut self.ints);
                encode_numbers::<Int32Type, ONE>(column, array, numbers, ints, chunk)
            }
            DataType::Date32 => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let (numbers, ints) = (&mut self.numbers, &mut self.ints);
                encode_numbers::<Date32Type, ONE>(column, array, numbers, ints, chunk)
            }
            DataType::Int64 => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let (numbers, longs) = (&mut self.numbers, &mut self.longs);
                encode_numbers::<Int64Type, ONE>(column, array, numbers, longs, chunk)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let (numbers, longs) = (&mut self.numbers, &mut self.longs);
                encode_numbers::<TimestampMicrosecondType, SECOND>(column, array, numbers, longs, chunk)
            }
            DataType::Float64 => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
                let pages = levels::pages(array.len(), nulls);
                let values = values_of::<Float64Type>(array, nulls, &mut self.doubles);
                self.floats.encode(values, flat_levels(column, nulls), &pages, chunk)
            }
            DataType::Boolean => {
                let chunk = ChunkWriter::new(column, layout, sink, &mut self.compressor);
                let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
                let pages = levels::pages(array.len(), nulls);
                self.bools.clear();
                self.bools.extend(array.as_boolean().iter().flatten());
                boolean::encode(&self.bools, flat_levels(column, nulls), &pages, chunk)
            }
            other => unreachable!("{}: {other} is the library's", column.path()),
        }
    }
}

impl RowGroup {
    /// Counts its rows.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Memory that a file's writer holds for it until the footer is written, about.
    pub fn footer_bytes(&self) -> usize {
        /// Facts of a column chunk; facts of a page, with two bounds that were cut.
        const CHUNK_BYTES: usize = 1024;
        const PAGE_BYTES: usize = 320;
        let num_pages = |column: &ColumnCloseResult| {
            column.offset_index.as_ref().map_or(0, |index| index.page_locations().len())
        };
        let num_pages_of = |column: &EncodedColumn| match column {
            EncodedColumn::Own(close) => num_pages(close),
            EncodedColumn::Library(chunk) => num_pages(chunk.close()),
        };
        self.columns.iter().map(|column| CHUNK_BYTES + num_pages_of(column) * PAGE_BYTES).sum()
    }

    /// Appends it to `file`, once.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn append_to<W: Write + Send>(
        &mut self,
        file: &mut SerializedFileWriter<W>,
    ) -> Result<(), ParquetError> {
        let mut row_group = file.next_row_group()?;
        for column in self.columns.drain(..) {
            match column {
                EncodedColumn::Own(close) => row_group.append_column(&self.bytes, close)?,
                EncodedColumn::Library(chunk) => chunk.append_to_row_group(&mut row_group)?,
            }
        }
        row_group.close()?;
        Ok(())
    }
}

/// Returns the levels of a column without lists.
fn flat_levels<'c>(column: &ColumnDescPtr, nulls: Option<&'c NullBuffer>) -> Levels<'c> {
    assert_eq!(column.max_rep_level(), 0, "{} is not a list", column.path());
    if column.max_def_level() > 0 {
        Levels::Optional(nulls)
    } else {
        assert!(nulls.is_none(), "{} is required", column.path());
        Levels::Required
    }
}

/// Returns the values of numbers that are not null, in `buffer` if some are.
fn values_of<'c, T: ArrowPrimitiveType>(
    array: &'c dyn Array,
    nulls: Option<&NullBuffer>,
    buffer: &'c mut Vec<T::Native>,
) -> &'c [T::Native] {
    let values = array.as_primitive::<T>().values();
    match nulls {
        None => values,
        Some(nulls) => {
            levels::compact(values, nulls, buffer);
            buffer
        }
    }
}

fn encode_numbers<T: ArrowPrimitiveType, const STEP: u64>(
    column: &ColumnDescPtr,
    array: &dyn Array,
    encoder: &mut NumberEncoder,
    buffer: &mut Vec<T::Native>,
    chunk: ChunkWriter<'_, T::Native>,
) -> Result<ColumnCloseResult, ParquetError>
where
    T::Native: Number,
{
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let pages = levels::pages(array.len(), nulls);
    let values = values_of::<T>(array, nulls, buffer);
    encoder.encode::<T::Native, STEP>(values, flat_levels(column, nulls), &pages, chunk)
}
