//! Lakes with snapshots of an older schema version: the program and the readers take old and new ones together. The old
//! lakes are in `fixtures/lakes`, as the program wrote them then.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schema::datasets::software_inventory::SOFTWARE_INVENTORY;
use serde_json::{Value, json};

use crate::history::check_with_duckdb;
use crate::readers::{DELTA_READERS, Reading, read};
use crate::support::{Run, Sandbox};

/// Dates of the old snapshots.
const OLD_DATES: [&str; 2] = ["2021-01-11", "2021-01-12"];

/// Rows of each of them.
const OLD_ROWS: u64 = 371;

/// Columns of the files of schema version 1, and of their folders.
const OLD_COLUMNS: [&str; 15] = [
    "DeviceId",
    "DeviceName",
    "RbacGroupName",
    "SoftwareVendor",
    "SoftwareName",
    "SoftwareVersion",
    "NumberOfWeaknesses",
    "DiskPaths",
    "RegistryPaths",
    "SoftwareFirstSeenTimestamp",
    "EndOfSupportStatus",
    "EndOfSupportDate",
    "GeneratedTime",
    "snapshot_date",
    "OSPlatform",
];

/// Columns that came with version 2.
const NEW_COLUMNS: [&str; 4] =
    ["RbacGroupId", "SoftwareLastSeenTimestamp", "SoftwareTags", "ProductCategory"];

/// Every form of the new columns: filled, empty, null and absent.
const NEW_RECORDS: &str = r#"
{"DeviceId":"filled","OSPlatform":"Linux","SoftwareVendor":"acme","SoftwareName":"anvil","SoftwareVersion":"1","RbacGroupId":9007199254740993,"SoftwareLastSeenTimestamp":"2021-01-13 4:05:06.271","SoftwareTags":["a",null,"b"],"ProductCategory":"tool","Undocumented":{"x":1.0}}
{"DeviceId":"empty","OSPlatform":"Linux","SoftwareVendor":"acme","SoftwareName":"anvil","SoftwareVersion":"1","RbacGroupId":0,"SoftwareLastSeenTimestamp":"","SoftwareTags":[],"ProductCategory":""}
{"DeviceId":"null","OSPlatform":null,"SoftwareVendor":"acme","SoftwareName":"anvil","SoftwareVersion":"1","RbacGroupId":null,"SoftwareLastSeenTimestamp":null,"SoftwareTags":null,"ProductCategory":null}
{"DeviceId":"absent","SoftwareVendor":"acme","SoftwareName":"anvil","SoftwareVersion":"1"}
"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lakes").join(name)
}

/// A lake of schema version 1, `plain` or `delta`, to change as one likes.
fn old_lake(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    copy_old_lake(kind, &sandbox.lake());
    sandbox
}

/// Copies a lake of schema version 1 to a folder that is not there yet.
pub fn copy_old_lake(kind: &str, lake: &Path) {
    copy(&fixture(&format!("version-1-{kind}")), lake);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The part that an old snapshot was made of.
fn old_part(date: &str) -> PathBuf {
    fixture("version-1-parts").join(format!("{date}.json.gz"))
}

/// The parts of a new day: those of the last old one, and what is new.
fn new_parts(sandbox: &Sandbox) -> [PathBuf; 2] {
    let new = sandbox.path().join("new.ndjson");
    std::fs::write(&new, NEW_RECORDS).unwrap();
    [old_part(OLD_DATES[1]), new]
}

/// Publishes the parts of a new day.
fn ingest(sandbox: &Sandbox, date: &str, args: &[&str]) {
    ingest_parts(sandbox, date, &new_parts(sandbox), args);
}

fn ingest_parts(sandbox: &Sandbox, date: &str, parts: &[PathBuf], args: &[&str]) {
    let mut command = sandbox.command("ingest");
    command.args(["--json", "--generated-time", &time(date)]).args(args).arg("--from").args(parts);
    let report = Run::of(command.output().unwrap()).expect(0).report();
    assert_eq!(report["outcome"], "published");
    assert_eq!(report["totals"]["field_rejects"], 0);
}

fn time(date: &str) -> String {
    format!("{date}T11:01:00Z")
}

/// What a reader is to find of an old snapshot.
fn old_snapshot(date: &str, is_captured: bool) -> OsString {
    let parts = [old_part(date)];
    let snapshot = json!({
        "generated_time": time(date), "parts": parts, "columns": OLD_COLUMNS, "captured": is_captured,
    });
    snapshot.to_string().into()
}

/// What a reader is to find of a new snapshot.
fn new_snapshot(sandbox: &Sandbox, date: &str, is_captured: bool) -> OsString {
    let parts = new_parts(sandbox);
    json!({ "generated_time": time(date), "parts": parts, "captured": is_captured }).to_string().into()
}

/// An old lake with two new days, the undocumented fields captured on the second of them.
fn grown(kind: &str) -> Reading {
    let sandbox = Rc::new(old_lake(kind));
    ingest(&sandbox, "2021-01-13", &[]);
    ingest(&sandbox, "2021-01-14", &["--extra-fields", "capture"]);
    let snapshots = [
        old_snapshot(OLD_DATES[0], false),
        old_snapshot(OLD_DATES[1], kind == "delta"),
        new_snapshot(&sandbox, "2021-01-13", false),
        new_snapshot(&sandbox, "2021-01-14", true),
    ];
    Reading::new(&sandbox, "rows", snapshots)
}

/// What readers are to find in old lakes that have grown, and in one that has not.
pub fn readings() -> Vec<Reading> {
    let old = Reading::new(&Rc::new(old_lake("plain")), "old-columns", NEW_COLUMNS.map(OsString::from));
    vec![grown("plain"), grown("delta"), old]
}

#[test]
fn lakes_of_schema_version_1_are_whole() {
    for kind in ["plain", "delta"] {
        let sandbox = old_lake(kind);
        let before = sandbox.lake_listing();
        let verified = sandbox.run("verify", &["--keys"]).expect(0);
        assert_eq!(
            verified.stdout.matches("371 rows in 4 files, 0 duplicate keys").count(),
            2,
            "{verified:?}"
        );
        for (manifest, date) in sandbox.manifests().iter().zip(OLD_DATES) {
            assert_eq!(manifest["schema_version"], 1);
            assert_eq!(manifest["generated_time"], time(date));
            assert_eq!(manifest["totals"]["rows"], OLD_ROWS);
        }
        assert_eq!(sandbox.lake_listing(), before, "what only reads changes nothing");
    }
}

#[test]
fn duckdb_reads_versions_together() {
    read("duckdb", &readings());
}

#[test]
fn pyarrow_reads_versions_together() {
    read("pyarrow", &readings());
}

#[test]
fn polars_reads_versions_together() {
    read("polars", &readings());
}

#[test]
fn delta_readers_read_versions_together() {
    let readings = [grown("delta"), converted()];
    for reader in DELTA_READERS {
        read(reader, &readings);
    }
}

/// A plain table of version 1 that becomes a Delta table with its first snapshot of version 2.
fn converted() -> Reading {
    let sandbox = Rc::new(old_lake("plain"));
    ingest(&sandbox, "2021-01-13", &["--table", "delta"]);
    let [metadata] = &metadata_commits(&sandbox)[..] else { panic!("one commit") };
    assert_eq!(fields(&metadata.1).len(), OLD_COLUMNS.len() + NEW_COLUMNS.len());
    sandbox.run("verify", &["--keys"]).expect(0);
    let snapshots = [
        old_snapshot(OLD_DATES[0], false),
        old_snapshot(OLD_DATES[1], false),
        new_snapshot(&sandbox, "2021-01-13", false),
    ];
    Reading::new(&sandbox, "rows", snapshots)
}

/// The commits that define the table's columns: version and schema.
fn metadata_commits(sandbox: &Sandbox) -> Vec<(String, Value)> {
    let log = sandbox.lake().join("software_inventory/_delta_log");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        let version = path.file_stem().unwrap().to_str().unwrap().trim_start_matches('0').to_owned();
        if path.extension().is_some_and(|extension| extension == "json") {
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                if let Some(schema) = line["metaData"]["schemaString"].as_str() {
                    found.push((version.clone(), serde_json::from_str(schema).unwrap()));
                }
            }
        }
    }
    found.sort_by_key(|(version, _)| version.parse().unwrap_or(0));
    found
}

fn fields(schema: &Value) -> Vec<&str> {
    schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect()
}

#[test]
fn metadata_commit_adds_the_columns_once() {
    let sandbox = old_lake("delta");
    ingest(&sandbox, "2021-01-13", &[]);
    ingest(&sandbox, "2021-01-14", &["--extra-fields", "capture"]);
    let commits = metadata_commits(&sandbox);
    let versions: Vec<_> = commits.iter().map(|(version, _)| &**version).collect();
    assert_eq!(versions, ["", "1", "11"], "made, then with undocumented fields, then grown");
    let before = fields(&commits[1].1);
    assert_eq!(fields(&commits[2].1), [&before[..], &NEW_COLUMNS].concat());
    let nullable = |field: &Value| field["nullable"] == true;
    assert!(commits[2].1["fields"].as_array().unwrap().iter().skip(before.len()).all(nullable));
    // A checkpoint has them too: nine commits more, and then one of the columns that it says.
    for _ in 0..9 {
        ingest(&sandbox, "2021-01-14", &["--if-published", "replace"]);
    }
    assert!(
        sandbox.lake().join("software_inventory/_delta_log/00000000000000000020.checkpoint.parquet").exists()
    );
    sandbox.run("verify", &["--keys"]).expect(0);
    assert_eq!(metadata_commits(&sandbox).len(), 3);
}

/// As an older version of the program meets the files of a newer one.
#[test]
fn columns_of_a_newer_version_are_left_alone() {
    let sandbox = old_lake("plain");
    for (path, _) in sandbox.data_files().into_iter().skip(4) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let [batch] = &reader.build().unwrap().collect::<Result<Vec<_>, _>>().unwrap()[..] else {
            panic!("one batch")
        };
        let newer = Arc::new(Field::new("Newer", DataType::Int32, true));
        let fields = batch.schema().fields().iter().cloned().chain([newer]).collect::<Vec<_>>();
        let column: ArrayRef = Arc::new(Int32Array::from(vec![7; batch.num_rows()]));
        let columns = batch.columns().iter().cloned().chain([column]).collect();
        let wider = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), wider.schema(), None).unwrap();
        writer.write(&wider).unwrap();
        writer.close().unwrap();
    }
    let changes = sandbox.run("diff", &["--json"]).expect(0).report();
    assert_eq!(num_changes(&changes), 2);
    sandbox.run("trend", &[]).expect(0);
    if cfg!(feature = "query") {
        let sql = "SELECT count(*)::BIGINT AS num_rows FROM software_inventory";
        let answer = sandbox.run("query", &[sql, "--format", "csv"]).expect(0);
        assert_eq!(answer.stdout, "num_rows\n742\n");
        sandbox.run("query", &["SELECT * FROM software_inventory", "--out", "all.csv"]).expect(0);
    }
}

/// The changes of a diff that was printed as JSON.
fn num_changes(report: &Value) -> u64 {
    let kinds = report["changes"].as_object().unwrap().values();
    kinds.map(|kind| kind["total"].as_u64().unwrap()).sum()
}

#[test]
fn old_dates_are_replaced_and_expire() {
    for kind in ["plain", "delta"] {
        let sandbox = old_lake(kind);
        ingest(&sandbox, "2021-01-13", &[]);
        ingest_parts(&sandbox, OLD_DATES[1], &[old_part(OLD_DATES[1])], &["--if-published", "replace"]);
        let versions = |sandbox: &Sandbox| -> Vec<u64> {
            sandbox.manifests().iter().map(|manifest| manifest["schema_version"].as_u64().unwrap()).collect()
        };
        let now = u64::from(SOFTWARE_INVENTORY.version);
        assert_eq!(versions(&sandbox), [1, now, now]);
        sandbox.run("verify", &["--keys"]).expect(0);
        let changes =
            sandbox.run("diff", &["--from", OLD_DATES[0], "--to", OLD_DATES[1], "--json"]).expect(0);
        assert_eq!(num_changes(&changes.report()), 2, "as before it was replaced");
        sandbox.run("expire", &["--keep-days", "2", "--yes"]).expect(0);
        assert_eq!(versions(&sandbox), [now, now]);
        sandbox.run("verify", &["--keys"]).expect(0);
    }
}

#[test]
fn history_goes_over_versions() {
    for kind in ["plain", "delta"] {
        let sandbox = old_lake(kind);
        ingest(&sandbox, "2021-01-13", &["--extra-fields", "capture"]);
        let mut asked = Vec::new();
        for (from, to) in [(OLD_DATES[0], OLD_DATES[1]), (OLD_DATES[1], "2021-01-13")] {
            let file = format!("{to}.parquet");
            sandbox.run("diff", &["--from", from, "--to", to, "--out", &file]).expect(0);
            asked.push(json!({ "diff": file, "from": from, "to": to }));
        }
        let installed = sandbox.run("diff", &["--from", OLD_DATES[1], "--json"]).expect(0).report();
        assert_eq!(num_changes(&installed), 8, "four devices, each with a product");
        sandbox.run("trend", &["--out", "trend.parquet"]).expect(0);
        asked.push(json!({ "trend": "trend.parquet", "by": [] }));
        if cfg!(feature = "query") {
            let sql = "SELECT snapshot_date, count(*)::BIGINT AS num_rows, count(RbacGroupId)::BIGINT AS groups, \
                       count(SoftwareTags)::BIGINT AS tags, max(ProductCategory) AS category, \
                       max(SoftwareLastSeenTimestamp) AS last_seen \
                       FROM software_inventory GROUP BY snapshot_date";
            sandbox.run("query", &[sql, "--out", "query.parquet"]).expect(0);
            asked.push(json!({ "query": "query.parquet", "sql": sql }));
            let columns = [&OLD_COLUMNS[..], &NEW_COLUMNS, &["ExtraFields"]].concat().join(", ");
            let sql = format!("SELECT {columns} FROM software_inventory");
            sandbox.run("query", &[&sql, "--out", "all.parquet"]).expect(0);
            asked.push(json!({ "query": "all.parquet", "sql": sql }));
            // No file has the columns yet.
            let old = old_lake(kind);
            let sql = "SELECT count(*)::BIGINT AS num_rows, count(RbacGroupId)::BIGINT AS groups FROM software_inventory";
            let answer = old.run("query", &[sql, "--format", "csv"]).expect(0);
            assert_eq!(answer.stdout, "num_rows,groups\n742,0\n");
        }
        check_with_duckdb(&sandbox, &asked);
    }
}
