use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use schema::ColumnType;

use super::*;
use crate::commit::tests::{
    NOON, data_file, lock, manifest, open_table, publish_staged, run_id, snapshot_id, temp_dir,
};
use crate::digest::sha256_hex;
use crate::manifest::Manifest;

/// Device and vendor: the columns of the key that the tests vary.
type Row = (&'static str, Option<&'static str>);

fn batch(extra_fields: bool, rows: &[Row]) -> RecordBatch {
    let schema = schema::arrow::file_schema(schema::DATASETS[0], extra_fields);
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let column = schema::DATASETS[0].columns.iter().find(|column| column.name == field.name());
        match column.map_or(ColumnType::Utf8, |column| column.column_type) {
            ColumnType::Utf8 => Arc::new(match field.name().as_str() {
                "DeviceId" => rows.iter().map(|(device, _)| Some(*device)).collect::<StringArray>(),
                "SoftwareVendor" => rows.iter().map(|(_, vendor)| *vendor).collect(),
                _ => rows.iter().map(|_| Some("text")).collect(),
            }),
            ColumnType::Int32 => Arc::new(Int32Array::from(vec![3; rows.len()])),
            ColumnType::Int64 => Arc::new(Int64Array::from(vec![3; rows.len()])),
            ColumnType::Date32 => Arc::new(Date32Array::from(vec![Some(7); rows.len()])),
            ColumnType::TimestampMicros => {
                Arc::new(TimestampMicrosecondArray::from(vec![7; rows.len()]).with_timezone("UTC"))
            }
            ColumnType::Utf8List => {
                let lists = ListBuilder::new(StringBuilder::new());
                let mut lists = lists.with_field(schema::arrow::list_element());
                for _ in rows {
                    lists.append_value([Some("C:"), None]);
                }
                Arc::new(lists.finish())
            }
            other => unreachable!("the dataset has no column of type {other}"),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// Publishes one file for each batch, and `num_rejects` field rejects.
fn publish(
    root: &Path,
    run: &str,
    platforms: &[(Option<&str>, &str, RecordBatch)],
    num_rejects: u64,
) -> (Table, PublishedSnapshot) {
    publish_version(root, run, platforms, num_rejects, schema::DATASETS[0].version)
}

fn publish_version(
    root: &Path,
    run: &str,
    platforms: &[(Option<&str>, &str, RecordBatch)],
    num_rejects: u64,
    schema_version: u32,
) -> (Table, PublishedSnapshot) {
    let table = open_table(root);
    let lock = lock(&table);
    let staging = lock.stage(&run_id(run), snapshot_id(NOON)).unwrap();
    let mut files = Vec::new();
    for (index, (platform, folder, batch)) in platforms.iter().enumerate() {
        let name = format!("part-{NOON}-{run}-{index:05}.parquet");
        let mut file = staging.destination().create_data_file(folder, &name).unwrap();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        files.push(data_file(file.finish().unwrap(), NOON, *platform, batch.num_rows() as u64));
    }
    if num_rejects > 0 {
        let mut rejects = staging.destination().create_rejects().unwrap();
        // As tasks write them: each a gzip member of its own.
        for _ in 0..num_rejects {
            let mut member = GzEncoder::new(&mut rejects, Compression::fast());
            member.write_all(b"{}\n").unwrap();
            member.finish().unwrap();
        }
        rejects.finish().unwrap();
    }
    let manifest = Manifest { schema_version, ..manifest(NOON, run, files, num_rejects) };
    publish_staged(&lock, staging, &manifest).unwrap();
    let snapshot = table.published_on(snapshot_id(NOON).date()).unwrap().unwrap();
    (table, snapshot)
}

const NULL_FOLDER: &str = "OSPlatform=__HIVE_DEFAULT_PARTITION__";

fn two_platforms() -> Vec<(Option<&'static str>, &'static str, RecordBatch)> {
    vec![
        (None, NULL_FOLDER, batch(false, &[("d1", Some("v")), ("d2", None)])),
        (Some("a/b"), "OSPlatform=a%2Fb", batch(false, &[("d3", Some("v"))])),
    ]
}

fn verify(table: &Table, snapshot: &PublishedSnapshot, options: &VerifyOptions) -> VerifyReport {
    verify_snapshot(table, snapshot, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

const KEYS: VerifyOptions = VerifyOptions { keys: true, key_memory_bytes: 1 << 20 };

#[test]
fn sound_snapshot_has_no_findings() {
    let temp = temp_dir();
    let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 5);
    let mut last = None;
    let report = verify_snapshot(&table, &snapshot, &KEYS, &mut |progress| {
        last = Some(progress);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.files, report.rows, report.duplicate_keys), (2, 3, Some(0)));
    assert_eq!(report.bytes, snapshot.manifest.totals.bytes);
    let last = last.unwrap();
    assert_eq!((last.bytes, last.total_bytes), (3 * report.bytes, 3 * report.bytes));
    assert_eq!(verify_layout(&table).unwrap(), []);
    assert_eq!(serde_json::to_value(&report).unwrap()["snapshot"], NOON);

    let cancelled = verify_snapshot(&table, &snapshot, &KEYS, &mut |_| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(VerifyError::Cancelled { .. })));
}

/// Damages a sound snapshot and compares the findings' text; `…` stands for any text.
fn check(damage: impl Fn(&Table, &mut Manifest, &dyn Fn(&str) -> PathBuf), expected: &[&str]) {
    let temp = temp_dir();
    let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 5);
    let mut manifest = snapshot.manifest.clone();
    damage(&table, &mut manifest, &|path| temp.path().join(path));
    if manifest != snapshot.manifest {
        fs::write(&snapshot.manifest_path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    }
    let mut findings = Vec::new();
    if let Some(snapshot) = table.try_snapshots().unwrap().into_iter().find_map(Result::ok) {
        findings.extend(verify(&table, &snapshot, &VerifyOptions::default()).findings);
    }
    findings.extend(verify_layout(&table).unwrap());
    let texts: Vec<_> = findings.iter().map(Finding::to_string).collect();
    let is_match = |(text, expected): (&String, &&str)| match expected.split_once('…') {
        Some((start, end)) => text.starts_with(start) && text.ends_with(end),
        None => text == expected,
    };
    assert_eq!(texts.len(), expected.len(), "{texts:#?}");
    assert!(texts.iter().zip(expected).all(is_match), "{texts:#?}");
}

const FOLDER: &str = "software_inventory/snapshot_date=2021-01-11";
const FILE: &str = "software_inventory/snapshot_date=2021-01-11/OSPlatform=a%2Fb/\
    part-20210111T120000Z-aaaaaaaa-00001.parquet";
const SNAPSHOT: &str = "_defender/software_inventory/snapshots/20210111T120000Z";

#[test]
fn damaged_bytes_are_found() {
    let flip = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    check(|_, _, path| flip(&path(FILE)), &[&format!("{FILE}: sha256: expected …")]);
    check(
        |_, _, path| {
            let bytes = fs::read(path(FILE)).unwrap();
            fs::write(path(FILE), &bytes[..100]).unwrap();
        },
        &[&format!("{FILE}: bytes: expected …, found 100"), &format!("{FILE}: sha256: expected …")],
    );
    check(|_, _, path| fs::remove_file(path(FILE)).unwrap(), &[&format!("{FILE}: missing")]);
    check(
        |_, _, path| {
            fs::remove_file(path(FILE)).unwrap();
            fs::create_dir(path(FILE)).unwrap();
        },
        &[&format!("{FILE}: unreadable: not a regular file")],
    );
    check(
        |_, manifest, path| {
            // The manifest agrees, but it is not a Parquet file.
            fs::write(path(FILE), "PAR1, or so it says, PAR1").unwrap();
            manifest.files[1].sha256 = sha256_hex("PAR1, or so it says, PAR1");
            manifest.totals.bytes -= manifest.files[1].bytes - 25;
            manifest.files[1].bytes = 25;
        },
        &[&format!("{FOLDER}/_SUCCESS: summary: expected …"), &format!("{FILE}: unreadable: …")],
    );
}

#[test]
fn unlisted_files_are_found() {
    check(
        |_, _, path| {
            fs::write(path(FOLDER).join("extra.parquet"), "").unwrap();
            fs::write(path(FOLDER).join("._extra.parquet"), "").unwrap();
            fs::write(path("software_inventory/README"), "").unwrap();
            for folder in [
                "software_inventory/snapshot_date=2020-01-01",
                "software_inventory/lost+found",
                "_defender/software_inventory/snapshots/notes",
            ] {
                fs::create_dir(path(folder)).unwrap();
                fs::write(path(folder).join("x.parquet"), "").unwrap();
            }
        },
        &[
            &format!("{FOLDER}/._extra.parquet: not listed in any manifest"),
            &format!("{FOLDER}/extra.parquet: not listed in any manifest"),
            "_defender/software_inventory/snapshots/notes: not listed in any manifest",
            "software_inventory/README: not listed in any manifest",
            "software_inventory/lost+found/x.parquet: not listed in any manifest",
            "software_inventory/snapshot_date=2020-01-01: not described by any manifest",
        ],
    );
}

#[test]
fn ignored_files_and_empty_folders_are_not_damage() {
    check(
        |_, _, path| {
            let places = [
                path("software_inventory"),
                path(FOLDER),
                path(FILE).parent().unwrap().to_path_buf(),
                path("_defender/software_inventory/snapshots"),
                path("_defender/software_inventory/staging"),
            ];
            for place in places {
                for folder in ["lost+found", "@eaDir/part-0.parquet", "$RECYCLE.BIN", "empty", ".Trashes"] {
                    fs::create_dir_all(place.join(folder)).unwrap();
                }
                for file in [".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir/part-0.parquet/x.jpg"]
                {
                    fs::write(place.join(file), "x").unwrap();
                }
                fs::write(place.join("x_$folder$"), "").unwrap();
            }
            fs::create_dir(path("software_inventory/snapshot_date=2020-01-01")).unwrap();
        },
        &[],
    );
}

#[test]
fn disagreement_with_the_manifest_is_found() {
    let name = format!("{SNAPSHOT}/manifest.json");
    check(
        |_, manifest, _| manifest.totals.rows += 1,
        &[
            &format!("{name}: does not balance: totals are …"),
            &format!("{FOLDER}/_SUCCESS: summary: expected … {name}"),
        ],
    );
    check(
        |_, manifest, _| {
            manifest.files[1].rows += 1;
            manifest.parts[0].records += 1;
            manifest.totals.records += 1;
            manifest.totals.rows += 1;
            manifest.files[1].row_groups = 2;
        },
        &[
            &format!("{FOLDER}/_SUCCESS: summary: expected …"),
            &format!("{FILE}: rows: expected 2, found 1"),
            &format!("{FILE}: row groups: expected 2, found 1"),
        ],
    );
    check(
        |_, manifest, _| manifest.files[1].os_platform = None,
        &[&format!(
            "{FILE}: partition: expected snapshot_date=2021-01-11, no OSPlatform, \
             found snapshot_date=2021-01-11, OSPlatform=\"a/b\""
        )],
    );
    check(
        |_, manifest, _| manifest.files[1].snapshot_date = NaiveDate::MIN,
        &[&format!("{FILE}: partition: expected …, found snapshot_date=2021-01-11, OSPlatform=\"a/b\"")],
    );
    check(
        |_, manifest, path| {
            let folder = path(SNAPSHOT).parent().unwrap().join("20210111T110000Z");
            fs::create_dir(&folder).unwrap();
            let mut older = manifest.clone();
            older.generated_time = snapshot_id("20210111T110000Z").generated_time();
            // Verified as the first one found, now with wrong facts.
            older.files.clear();
            older.parts.clear();
            older.totals = crate::manifest::Totals::default();
            fs::write(folder.join("manifest.json"), serde_json::to_vec(&older).unwrap()).unwrap();
        },
        &[
            &format!("{FOLDER}/_SUCCESS: summary: expected …"),
            &format!("{FOLDER}/OSPlatform=__HIVE…: not listed in any manifest"),
            &format!("{FILE}: not listed in any manifest"),
            "2021-01-11: more than one manifest: 20210111T110000Z, 20210111T120000Z",
        ],
    );
    check(
        |_, _, path| fs::write(path(SNAPSHOT).join("manifest.json"), "{").unwrap(),
        &[&format!("{name}: unreadable: EOF while parsing an object at line 1 column 1")],
    );
}

#[test]
fn missing_or_wrong_success_and_rejects_are_found() {
    let success = format!("{FOLDER}/_SUCCESS");
    let rejects = format!("{SNAPSHOT}/rejects.ndjson.gz");
    check(|_, _, path| fs::remove_file(path(&success)).unwrap(), &[&format!("{success}: missing")]);
    check(
        |_, _, path| fs::write(path(&success), "").unwrap(),
        &[&format!("{success}: unreadable: EOF while parsing a value at line 1 column 0")],
    );
    check(|_, _, path| fs::remove_file(path(&rejects)).unwrap(), &[&format!("{rejects}: missing")]);
    check(|_, _, path| fs::write(path(&rejects), "x").unwrap(), &[&format!("{rejects}: unreadable: …")]);
    check(
        |_, _, path| {
            let mut gzip = GzEncoder::new(File::create(path(&rejects)).unwrap(), Compression::fast());
            gzip.write_all(b"{}\n{}").unwrap();
            gzip.finish().unwrap();
        },
        &[&format!("{rejects}: lines: expected 5, found 2")],
    );
    check(
        |_, manifest, _| {
            manifest.parts[0].field_rejects = 0;
            manifest.totals.field_rejects = 0;
        },
        &[&format!("{rejects}: not listed in any manifest")],
    );
    check(
        |_, _, path| fs::remove_dir_all(path(FOLDER)).unwrap(),
        &[&format!("{FOLDER}: missing, but described by {SNAPSHOT}/manifest.json")],
    );
    check(
        |table, _, _| {
            let staging = table.staging_root().join("bbbbbbbb");
            fs::create_dir_all(&staging).unwrap();
            fs::write(staging.join("intent.json"), "{}").unwrap();
        },
        &["run bbbbbbbb: is changing the table or was interrupted while doing so; \
           the next ingest finishes or undoes the change"],
    );
}

#[test]
fn files_of_a_snapshot_have_the_declared_columns() {
    let temp = temp_dir();
    let with_extra = |extra| batch(extra, &[("d", None)]);
    let platforms = |one, two| [(Some("a"), "OSPlatform=a", one), (Some("b"), "OSPlatform=b", two)];
    let (table, snapshot) =
        publish(temp.path(), "aaaaaaaa", &platforms(with_extra(true), with_extra(true)), 0);
    assert_eq!(verify(&table, &snapshot, &KEYS).findings, []);
    let (table, snapshot) =
        publish(temp.path(), "bbbbbbbb", &platforms(with_extra(true), with_extra(false)), 0);
    let texts = |findings: &[Finding]| findings.iter().map(Finding::to_string).collect::<Vec<_>>();
    let findings = texts(&verify(&table, &snapshot, &KEYS).findings);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].ends_with("schema: expected ExtraFields Utf8, found no column"), "{findings:?}");
    let without_key = with_extra(false).project(&[1, 2, 3]).unwrap();
    let (table, snapshot) = publish(temp.path(), "cccccccc", &platforms(without_key, with_extra(false)), 0);
    let report = verify(&table, &snapshot, &KEYS);
    assert!(texts(&report.findings)[0].contains("schema: expected DeviceId Utf8, required, found "));
    assert_eq!(report.duplicate_keys, None);
}

#[test]
fn snapshots_of_other_versions_have_fewer_columns_or_more() {
    let version = schema::DATASETS[0].version;
    let all = batch(false, &[("d", None)]);
    let last = all.num_columns() - 1;
    let check = |version: u32, batch: RecordBatch, expected: Option<&str>| {
        let temp = temp_dir();
        let files = [(None, NULL_FOLDER, batch)];
        let (table, snapshot) = publish_version(temp.path(), "aaaaaaaa", &files, 0, version);
        let findings = verify(&table, &snapshot, &KEYS).findings;
        let texts: Vec<_> = findings.iter().map(Finding::to_string).collect();
        match expected {
            None => assert_eq!(texts, Vec::<String>::new()),
            Some(expected) => assert!(texts[0].ends_with(expected), "{texts:?}"),
        }
    };
    let with = |batch: &RecordBatch, field: Field| {
        let fields = batch.schema().fields().iter().cloned().chain([Arc::new(field)]).collect::<Vec<_>>();
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let columns = batch.columns().iter().cloned().chain([column]).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let without_last = all.project(&(0..last).collect::<Vec<_>>()).unwrap();
    let newer = Field::new("Newer", DataType::Int32, true);
    check(version - 1, all.clone(), None);
    check(version - 1, without_last.clone(), None);
    check(version + 1, with(&all, newer.clone()), None);
    let unexpected = "schema: expected no column, found Newer Int32";
    check(version, with(&all, newer.clone()), Some(unexpected));
    check(version - 1, with(&all, newer.clone()), Some(unexpected));
    check(version, without_last.clone(), Some(", found no column"));
    check(version + 1, without_last.clone(), Some(", found no column"));
    // They grow by nullable columns, and none becomes of another type.
    check(version + 1, with(&all, newer.with_nullable(false)), Some("found Newer Int32, required"));
    let name = all.schema().field(last).name().clone();
    let other_type = with(&without_last, Field::new(&name, DataType::Int32, true));
    for other in [version - 1, version + 1] {
        check(other, other_type.clone(), Some(&format!("found {name} Int32")));
    }
    let without_device = all.project(&(1..=last).collect::<Vec<_>>()).unwrap();
    let found = "schema: expected DeviceId Utf8, required, found DeviceName Utf8";
    check(version - 1, without_device.clone(), Some(found));
}

#[test]
fn snapshot_replaced_meanwhile_is_not_damaged() {
    let temp = temp_dir();
    let (_, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 0);
    let (table, _) = publish(temp.path(), "bbbbbbbb", &two_platforms(), 0);
    let result = verify_snapshot(&table, &snapshot, &KEYS, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(VerifyError::Replaced { .. })));
}

#[test]
fn repeated_keys_are_counted_across_files() {
    let temp = temp_dir();
    let rows = |rows: &[Row]| batch(false, rows);
    let platforms = [
        (
            Some("a"),
            "OSPlatform=a",
            rows(&[("d", None), ("d", Some("")), ("d", Some("v")), ("dv", Some("")), ("d", Some("v"))]),
        ),
        (Some("b"), "OSPlatform=b", rows(&[("d", Some("v")), ("d", None), ("e", None)])),
    ];
    let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &platforms, 0);
    assert_eq!(verify(&table, &snapshot, &KEYS).duplicate_keys, Some(3));
    let no_keys = VerifyOptions::default();
    assert_eq!(verify(&table, &snapshot, &no_keys).duplicate_keys, None);
}

#[test]
fn less_memory_for_keys_means_more_passes() {
    let temp = temp_dir();
    let names: Vec<&'static str> =
        (0..20_000).map(|index| &*format!("device {}", index % 15_000).leak()).collect();
    let rows: Vec<Row> = names.iter().map(|name| (*name, Some("v"))).collect();
    let distinct: HashSet<_> = names.iter().collect();
    let platforms = [(Some("a"), "OSPlatform=a", batch(false, &rows))];
    let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &platforms, 0);
    for (key_memory_bytes, num_passes) in [(0, 5), (20_000 * 16, 2), (1 << 20, 1)] {
        assert_eq!(num_key_passes(20_000, key_memory_bytes), num_passes);
        let options = VerifyOptions { keys: true, key_memory_bytes };
        let report = verify(&table, &snapshot, &options);
        assert_eq!(report.duplicate_keys, Some((names.len() - distinct.len()) as u64));
    }
}
