//! The physical layout of the data files, as readers meet it.

use std::fs::File;

use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Compression;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::support::{Sandbox, tenant, unlimited};

fn footer(sandbox: &Sandbox, platform: &str) -> ParquetMetaData {
    let manifest = &sandbox.manifests()[0];
    let files = manifest["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["os_platform"] == platform).unwrap();
    let path = sandbox.lake().join("software_inventory").join(file["path"].as_str().unwrap());
    let file = File::open(path).unwrap();
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&file)
        .unwrap()
}

#[test]
fn files_have_the_declared_columns_and_indexes() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant(200)), &[]).expect(0);
    let footer = footer(&sandbox, "Windows11");
    let schema = parquet_to_arrow_schema(
        footer.file_metadata().schema_descr(),
        footer.file_metadata().key_value_metadata(),
    )
    .unwrap();
    assert_eq!(schema.fields(), schema::arrow::file_schema_with_ids(schema::DATASETS[0], false).fields());
    assert!(
        schema.field_with_name("OSPlatform").is_err() && schema.field_with_name("snapshot_date").is_err()
    );
    let DataType::List(element) = schema.field_with_name("DiskPaths").unwrap().data_type() else { panic!() };
    assert_eq!(element.name(), "element");
    assert_eq!(
        schema.field_with_name("SoftwareFirstSeenTimestamp").unwrap().data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    );
    let path = footer.file_metadata().schema_descr().column(7).path().string();
    assert_eq!(path, "DiskPaths.list.element");

    for row_group in footer.row_groups() {
        for column in row_group.columns() {
            let name = column.column_path().string();
            let is_looked_up =
                ["DeviceId", "DeviceName", "SoftwareVendor", "SoftwareName"].contains(&name.as_str());
            assert_eq!(matches!(column.compression(), Compression::ZSTD(_)), !is_looked_up, "{name}");
            let has_filter = ["DeviceId", "SoftwareName"].contains(&name.as_str());
            assert_eq!(column.bloom_filter_offset().is_some(), has_filter, "{name}");
            assert!(column.statistics().is_some(), "{}", column.column_path());
            assert!(column.offset_index_offset().is_some() && column.column_index_offset().is_some());
        }
    }
    let notes = footer.file_metadata().key_value_metadata().unwrap();
    let note = |key: &str| notes.iter().find(|note| note.key == key).and_then(|note| note.value.clone());
    assert_eq!(note("defender_lake.snapshot").as_deref(), Some("20210111T110100Z"));
    assert_eq!(note("defender_lake.dataset").as_deref(), Some("software_inventory"));
    assert_eq!(note("org.apache.spark.version").as_deref(), Some("3.0.0"), "dates are proleptic");
    let created_by = footer.file_metadata().created_by().unwrap();
    let (version, build) = created_by.strip_suffix(')').unwrap().split_once(" (build ").unwrap();
    assert_eq!(version, concat!("defender-lake version ", env!("CARGO_PKG_VERSION")));
    assert!(!build.is_empty() && !build.contains(['(', ')']), "{created_by}");
}

#[test]
fn one_file_a_platform_however_many_parts() {
    let tenant = fixtures::Tenant::new(fixtures::TenantOptions {
        devices: 200,
        parts: 40,
        ..fixtures::TenantOptions::default()
    });
    let sandbox = Sandbox::new();
    let report = sandbox.ingest_via(&unlimited(tenant.clone()), &["--json"]).expect(0).report();
    assert_eq!(report["totals"]["parts"], 40);
    assert_eq!(report["totals"]["files"], tenant.expected().records_per_platform.len());
}
