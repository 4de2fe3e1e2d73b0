//! Takes pages as they are to be encoded; gives a column chunk, compressed, and its metadata for the footer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType, Type, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page as PageContent, PageWriteSpec, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, LevelHistogram, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::levels::{Levels, Page};
use super::properties::{ColumnLayout, LONG_TEXT_PARAMETERS, ZSTD_LEVEL};
use super::statistics::{ColumnStatistics, Value};
use crate::rows::EarlyPage;

/// Where encoded pages go: the bytes of a whole row group.
pub(super) type PageSink = TrackedWrite<Vec<u8>>;

/// Compresses one page after the other with the same context and buffers.
pub(super) struct PageCompressor {
    context: Compressor<'static>,
    /// A page as it is before compression.
    plain: Vec<u8>,
    compressed: Vec<u8>,
}

impl PageCompressor {
    pub(super) fn new() -> Self {
        let context = Compressor::new(ZSTD_LEVEL).expect("a level that zstd has");
        Self { context, plain: Vec::new(), compressed: Vec::new() }
    }

    /// The same for long texts, in which zstd is to look for long matches too.
    pub(super) fn for_long_texts() -> Self {
        let mut compressor = Self::new();
        for parameter in LONG_TEXT_PARAMETERS {
            compressor.context.set_parameter(parameter).expect("a parameter that zstd has");
        }
        compressor
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.plain.capacity() + self.compressed.capacity()
    }

    /// Compresses a page that `fill` appends.
    pub(super) fn compress(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Compressed<'_> {
        self.plain.clear();
        fill(&mut self.plain);
        self.compress_plain().expect("the buffer has room for it");
        Compressed { bytes: &self.compressed, uncompressed_bytes: self.plain.len() }
    }

    fn compress_plain(&mut self) -> io::Result<()> {
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.context.compress_to_buffer(&self.plain, &mut self.compressed)?;
        Ok(())
    }

    /// Compresses the page in `plain`, if it is to be, and appends it, as `content` describes it, to `sink`.
    fn write(
        &mut self,
        sink: &mut PageSink,
        is_compressed: bool,
        content: impl FnOnce(Bytes) -> PageContent,
    ) -> Result<PageWriteSpec, ParquetError> {
        let uncompressed_bytes = self.plain.len();
        let buffer = if is_compressed {
            self.compress_plain().map_err(|error| ParquetError::External(Box::new(error)))?;
            &mut self.compressed
        } else {
            &mut self.plain
        };
        let bytes = Bytes::from(std::mem::take(buffer));
        let page = CompressedPage::new(content(bytes.clone()), uncompressed_bytes);
        let written = SerializedPageWriter::new(sink).write_page(page)?;
        // The page is gone: the buffer comes back without a copy.
        *buffer = bytes.into();
        Ok(written)
    }
}

/// A page that no file has.
pub(super) struct Compressed<'c> {
    pub bytes: &'c [u8],
    pub uncompressed_bytes: usize,
}

/// A column chunk being written.
pub(super) struct ChunkWriter<'w, V> {
    column: ColumnDescPtr,
    sink: &'w mut PageSink,
    compressor: &'w mut PageCompressor,
    is_compressed: bool,
    statistics: ColumnStatistics<V>,
    offset_index: OffsetIndexBuilder,
    histograms: [Option<LevelHistogram>; 2],
    encodings: EncodingMask,
    page_stats: Vec<PageEncodingStats>,
    /// Where the chunk begins in the sink.
    start: usize,
    dictionary_offset: Option<i64>,
    data_offset: Option<i64>,
    num_rows: usize,
    num_levels: usize,
    num_text_bytes: usize,
    uncompressed_bytes: usize,
}

impl<'w, V: Value> ChunkWriter<'w, V> {
    pub(super) fn new(
        column: &ColumnDescPtr,
        layout: ColumnLayout,
        sink: &'w mut PageSink,
        compressor: &'w mut PageCompressor,
    ) -> Self {
        let ColumnLayout { is_compressed, has_bounds, .. } = layout;
        assert_eq!(column.physical_type(), V::TYPE, "{} has the type of its values", column.name());
        Self {
            statistics: if has_bounds { ColumnStatistics::new() } else { ColumnStatistics::without_bounds() },
            offset_index: OffsetIndexBuilder::new(),
            histograms: [column.max_rep_level(), column.max_def_level()].map(LevelHistogram::try_new),
            encodings: EncodingMask::new_from_encodings([Encoding::RLE].iter()),
            page_stats: Vec::new(),
            start: sink.bytes_written(),
            dictionary_offset: None,
            data_offset: None,
            num_rows: 0,
            num_levels: 0,
            num_text_bytes: 0,
            uncompressed_bytes: 0,
            is_compressed,
            column: Arc::clone(column),
            sink,
            compressor,
        }
    }

    /// Writes the dictionary page, which is the first; `fill` appends its values as they are.
    pub(super) fn dictionary_page(
        &mut self,
        num_values: usize,
        is_sorted: bool,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ParquetError> {
        assert!(self.dictionary_offset.is_none() && self.data_offset.is_none(), "a dictionary comes first");
        self.compressor.plain.clear();
        fill(&mut self.compressor.plain);
        let written =
            self.compressor.write(self.sink, self.is_compressed, |buf| PageContent::DictionaryPage {
                buf,
                num_values: num_values as u32,
                encoding: Encoding::PLAIN,
                is_sorted,
            })?;
        self.dictionary_offset = Some(written.offset as i64);
        self.count(PageType::DICTIONARY_PAGE, Encoding::PLAIN, &written);
        Ok(())
    }

    /// Writes a data page: its levels, and then what `fill` appends. `range` is of its values, `None` if the column
    /// has no bounds; `num_text_bytes` are their bytes if they are text.
    pub(super) fn data_page(
        &mut self,
        page: &Page,
        levels: Levels<'_>,
        range: Option<(V, V)>,
        num_text_bytes: usize,
        encoding: Encoding,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ParquetError> {
        let has_range = self.statistics.has_bounds() && !page.values.is_empty();
        assert_eq!(range.is_some(), has_range, "what has values has a least and a greatest");
        self.compressor.plain.clear();
        levels.encode(page, &mut self.compressor.plain);
        fill(&mut self.compressor.plain);
        let content = |buf| data_page(buf, page.levels.len(), encoding);
        let written = self.compressor.write(self.sink, self.is_compressed, content)?;
        self.add_data_page(&written, page, levels, range, num_text_bytes, encoding);
        Ok(())
    }

    /// Writes a data page of an optional column without bounds that is encoded already.
    pub(super) fn early_page(&mut self, early: &EarlyPage) -> Result<(), ParquetError> {
        assert!(
            self.is_compressed && !self.statistics.has_bounds(),
            "an early page is compressed and has no bounds"
        );
        let EarlyPage { num_rows, num_nulls, num_text_bytes, .. } = *early;
        let content = data_page(early.content.clone(), num_rows, Encoding::PLAIN);
        let compressed = CompressedPage::new(content, early.uncompressed_bytes);
        let written = SerializedPageWriter::new(self.sink).write_page(compressed)?;
        let page = Page { num_rows, levels: 0..num_rows, values: 0..num_rows - num_nulls };
        self.add_data_page(&written, &page, Levels::Optional(None), None, num_text_bytes, Encoding::PLAIN);
        Ok(())
    }

    /// Counts a data page that is written.
    fn add_data_page(
        &mut self,
        written: &PageWriteSpec,
        page: &Page,
        levels: Levels<'_>,
        range: Option<(V, V)>,
        num_text_bytes: usize,
        encoding: Encoding,
    ) {
        self.data_offset.get_or_insert(written.offset as i64);
        self.count(PageType::DATA_PAGE, encoding, written);

        let histograms = levels.histograms(page);
        for (all, histogram) in self.histograms.iter_mut().zip(&histograms) {
            if let (Some(all), Some(histogram)) = (all, histogram) {
                all.add(histogram);
            }
        }
        self.statistics.add(range, page.num_nulls(), &histograms);
        self.offset_index.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
        self.offset_index.append_row_count(page.num_rows as i64);
        if V::TYPE == Type::BYTE_ARRAY {
            self.offset_index.append_unencoded_byte_array_data_bytes(Some(num_text_bytes as i64));
        }
        self.num_rows += page.num_rows;
        self.num_levels += page.levels.len();
        self.num_text_bytes += num_text_bytes;
    }

    fn count(&mut self, page_type: PageType, encoding: Encoding, written: &PageWriteSpec) {
        self.uncompressed_bytes += written.uncompressed_size;
        self.encodings.insert(encoding);
        match self.page_stats.last_mut() {
            Some(last) if last.page_type == page_type && last.encoding == encoding => last.count += 1,
            _ => self.page_stats.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
    }

    /// Ends the chunk and returns its metadata for the file's writer. Offsets are those of the
    /// sink.
    pub(super) fn finish(self, bloom_filter: Option<Sbbf>) -> Result<ColumnCloseResult, ParquetError> {
        let (statistics, column_index) = self.statistics.finish()?;
        let [repetition, definition] = self.histograms;
        let compressed_bytes = self.sink.bytes_written() - self.start;
        let zstd = ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has");
        let compression =
            if self.is_compressed { Compression::ZSTD(zstd) } else { Compression::UNCOMPRESSED };
        let is_text = V::TYPE == Type::BYTE_ARRAY;
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(compression)
            .set_encodings_mask(self.encodings)
            .set_page_encoding_stats(self.page_stats)
            .set_total_compressed_size(compressed_bytes as i64)
            .set_total_uncompressed_size(self.uncompressed_bytes as i64)
            .set_num_values(self.num_levels as i64)
            .set_data_page_offset(self.data_offset.unwrap_or(self.start as i64))
            .set_dictionary_page_offset(self.dictionary_offset)
            .set_statistics(statistics)
            .set_unencoded_byte_array_data_bytes(is_text.then_some(self.num_text_bytes as i64))
            .set_repetition_level_histogram(repetition)
            .set_definition_level_histogram(definition)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: compressed_bytes as u64,
            rows_written: self.num_rows as u64,
            metadata,
            bloom_filter,
            column_index,
            offset_index: Some(self.offset_index.build()),
        })
    }
}

fn data_page(buf: Bytes, num_values: usize, encoding: Encoding) -> PageContent {
    PageContent::DataPage {
        buf,
        num_values: num_values as u32,
        encoding,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    }
}
