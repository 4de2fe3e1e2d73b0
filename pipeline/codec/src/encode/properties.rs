//! Writer properties of the data files, and the limits of their pages.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr, WriterVersion};
use parquet::schema::types::ColumnDescriptor;
use schema::{ColumnType, Dataset};
use zstd::zstd_safe::{CParameter, Strategy};

/// Rows of a row group, at most: those that columns are gathered to.
pub const MAX_ROW_GROUP_ROWS: usize = crate::decode::column::MAX_ROWS;

/// Rows of a page: the least that a reader fetches and decodes of a column, and what it skips by.
/// Twice what DuckDB takes at a time.
pub(super) const MAX_PAGE_ROWS: usize = 2 * 2048;

/// Rows of a page of lists. DuckDB skips none of them, so that smaller ones only cost.
pub(super) const MAX_LIST_PAGE_ROWS: usize = 10 * 2048;

/// Bytes of values from which on the rest of a page's rows go to the next: what a reader holds of a
/// column at a time.
pub(crate) const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// Elements of a page of lists: their keys are that many bytes in memory.
pub(super) const MAX_PAGE_VALUES: usize = MAX_PAGE_BYTES / size_of::<u32>();

/// Compression level of zstd.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// What differs from that level for long texts: longer matches are looked for too, and a page's whole text is. JSON of the
/// sample tenant takes 2.7 % less, and compressing it 10 % longer; shorter matches, as higher levels have them, take more.
pub(super) const LONG_TEXT_PARAMETERS: [CParameter; 4] = [
    CParameter::Strategy(Strategy::ZSTD_dfast),
    CParameter::MinMatch(7),
    CParameter::HashLog(16),
    CParameter::WindowLog(20),
];

/// How often a bloom filter may be wrong: 3 kB a row group.
const BLOOM_FILTER_FPP: f64 = 0.01;

/// How one column is encoded, by its dataset's declaration.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnLayout {
    /// Whether its pages are compressed.
    pub is_compressed: bool,
    /// How often its bloom filter may be wrong, if it has one.
    pub bloom_filter_fpp: Option<f64>,
    /// Whether it has the minimum and maximum of its values: those of JSON say nothing.
    pub has_bounds: bool,
}

impl ColumnLayout {
    pub(super) fn of(column: &ColumnDescriptor, dataset: &Dataset) -> Self {
        let name = column.path().parts()[0].as_str();
        let is_json = dataset.column(name).is_some_and(|column| column.column_type == ColumnType::Json);
        Self {
            is_compressed: !dataset.layout.uncompressed.contains(&name),
            bloom_filter_fpp: dataset.layout.bloom.contains(&name).then_some(BLOOM_FILTER_FPP),
            has_bounds: !is_json,
        }
    }
}

/// What wrote a file, in the form of Parquet's specification, which readers parse: `<application> version
/// <version> (build <hash>)`. Packages set `DEFENDER_LAKE_BUILD` when they are built.
const CREATED_BY: &str = concat!("defender-lake version ", env!("CARGO_PKG_VERSION"));
const BUILD: &str = match option_env!("DEFENDER_LAKE_BUILD") {
    Some(build) => build,
    None => "unknown",
};

/// Whether a file with this `created_by` is of this program, of any version.
pub fn is_ours(created_by: &str) -> bool {
    let program = CREATED_BY.trim_end_matches(env!("CARGO_PKG_VERSION"));
    created_by.starts_with(program)
}

/// Says that dates and times are of the proleptic Gregorian calendar. Without it Spark 3 takes them for
/// those of an old Spark, and refuses dates before 1582 and times before 1900 (SPARK-31405).
const SPARK_VERSION: (&str, &str) = ("org.apache.spark.version", "3.0.0");

/// Returns the writer properties of the files; pages are encoded here. `dataset` and the snapshot are
/// noted in the file's metadata, with the Arrow schema that gives readers the exact types back.
pub fn properties(dataset: &Dataset, schema: &SchemaRef, snapshot: &str) -> WriterPropertiesPtr {
    let note = |key: &str, value: String| KeyValue::new(format!("defender_lake.{key}"), value);
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("{CREATED_BY} (build {BUILD})"))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_key_value_metadata(Some(vec![
            note("dataset", dataset.name.to_owned()),
            note("schema_version", dataset.version.to_string()),
            note("snapshot", snapshot.to_owned()),
            KeyValue::new(SPARK_VERSION.0.to_owned(), SPARK_VERSION.1.to_owned()),
        ]))
        .build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    Arc::new(properties)
}
