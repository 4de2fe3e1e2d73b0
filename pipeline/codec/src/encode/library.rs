//! Encodes columns of types that have no encoder here, by the library: it interns every value again, which costs
//! 2.3 times as much for text, and little for what is neither text nor common.

use std::io;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescPtr;

use super::properties::{MAX_PAGE_BYTES, MAX_PAGE_ROWS, ZSTD_LEVEL};

/// Returns whether there is an encoder of our own for columns of batches of a type.
pub(super) fn has_own_encoder(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, _)
        | DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Date32 => true,
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        DataType::List(element) => matches!(element.data_type(), DataType::Dictionary(_, _)),
        _ => false,
    }
}

/// The library's writers of the columns of one row group.
pub(super) struct LibraryEncoder {
    writers: Vec<Option<ArrowColumnWriter>>,
}

impl LibraryEncoder {
    /// Begins a row group of files of `schema`, from a batch of `batch_schema`.
    pub(super) fn try_new(schema: &SchemaDescPtr, batch_schema: SchemaRef) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_data_page_row_count_limit(MAX_PAGE_ROWS)
            .set_data_page_size_limit(MAX_PAGE_BYTES)
            .build();
        let file = SerializedFileWriter::new(io::sink(), schema.root_schema_ptr(), Arc::new(properties))?;
        let writers = ArrowRowGroupWriterFactory::new(&file, batch_schema).create_column_writers(0)?;
        Ok(Self { writers: writers.into_iter().map(Some).collect() })
    }

    /// Encodes a column of the batch as one or more columns of the file, `first` and those behind it.
    pub(super) fn encode(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        first: usize,
    ) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        let leaves = compute_leaves(field, array)?.into_iter().zip(&mut self.writers[first..]);
        leaves
            .map(|(leaf, writer)| {
                let mut writer = writer.take().expect("each column is written once");
                writer.write(&leaf)?;
                writer.close()
            })
            .collect()
    }
}
