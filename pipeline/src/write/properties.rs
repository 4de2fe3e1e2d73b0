//! How the data files are encoded.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion};

use crate::snapshot::SnapshotId;

/// Rows of a row group: DuckDB's unit of work, and small enough that every partition can have one
/// open for each thread.
pub const MAX_ROW_GROUP_ROWS: usize = 122_880;

/// Size at which a data file is closed and the next one begun.
pub const TARGET_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of a column's distinct values in a row group up to which it stays dictionary-encoded.
/// Paths repeat across devices: giving up at the library's 1 MiB would store them whole.
const MAX_DICTIONARY_BYTES: usize = 4 * 1024 * 1024;

/// Returns the writer's settings. `dataset` and the snapshot are noted in the file's metadata,
/// with the Arrow schema that gives readers the exact types back.
pub fn properties(
    dataset: &schema::Dataset,
    schema: &SchemaRef,
    snapshot: SnapshotId,
) -> WriterPropertiesPtr {
    let note = |key: &str, value: String| KeyValue::new(format!("defender_lake.{key}"), value);
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("defender-lake ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a level that zstd has")))
        .set_dictionary_page_size_limit(MAX_DICTIONARY_BYTES)
        .set_max_row_group_row_count(Some(MAX_ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(vec![
            note("dataset", dataset.name.to_owned()),
            note("schema_version", dataset.version.to_string()),
            note("snapshot", snapshot.to_string()),
        ]))
        .build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    Arc::new(properties)
}
