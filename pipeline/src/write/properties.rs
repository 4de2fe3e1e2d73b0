//! How the data files are encoded.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::schema::types::ColumnDescriptor;

use crate::snapshot::SnapshotId;

/// Rows of a row group: DuckDB's unit of work, and small enough to be in memory whole.
pub const MAX_ROW_GROUP_ROWS: usize = 122_880;

/// Size at which a data file is closed and the next one begun.
pub const TARGET_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Rows of a page: the least that a reader fetches and decodes of a column, and what it skips by.
pub(super) const MAX_PAGE_ROWS: usize = 20_000;

/// Bytes of values from which on the rest of a page's rows go to the next: what a reader holds of a
/// column at a time.
pub(super) const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// Elements of a page of lists: their keys are that many bytes in memory.
pub(super) const MAX_PAGE_VALUES: usize = MAX_PAGE_BYTES / size_of::<u32>();

/// How hard zstd tries.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// Columns with a bloom filter, and how often it may be wrong. None has one yet.
const BLOOM_FILTERS: &[(&str, f64)] = &[];

/// Returns how often a text column's bloom filter may be wrong, if it has one.
pub(super) fn bloom_filter_fpp(column: &ColumnDescriptor) -> Option<f64> {
    let name = column.path().parts().first()?;
    BLOOM_FILTERS.iter().find(|(with_filter, _)| with_filter == name).map(|(_, fpp)| *fpp)
}

/// Returns what the library is to know of the files; pages are ours. `dataset` and the snapshot are noted in the file's metadata,
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
        .set_key_value_metadata(Some(vec![
            note("dataset", dataset.name.to_owned()),
            note("schema_version", dataset.version.to_string()),
            note("snapshot", snapshot.to_string()),
        ]))
        .build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    Arc::new(properties)
}
