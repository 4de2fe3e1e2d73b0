//! The lake as its readers see it: DuckDB, Spark, pyarrow and Polars against a decode of the same parts by Python's own
//! json module. The scripts are in `tests/readers`; `make test` installs their Python environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use fixtures::{Dataset, Tenant, TenantOptions};

use crate::schema_growth;
use crate::support::{Run, Sandbox, tenant};

const GENERATED_TIME: &str = "2021-01-11T11:01:00Z";

/// Samples whose every record is clean; they go into the lake beside the tenant's parts.
const CLEAN_SAMPLES: [&str; 6] = [
    "dates-both-forms.ndjson",
    "files-route.ndjson",
    "json-page.json",
    "line-separators.ndjson",
    "lists-empty-absent-null.ndjson",
    "no-osplatform.ndjson",
];

#[test]
fn duckdb_reads_the_lake() {
    read("duckdb", &[rows()]);
}

/// One session for all of it: starting Spark takes longer than any of them.
#[test]
fn spark_reads_the_lake_and_answers_the_questions() {
    let mut readings = vec![rows(), partition_values(), answers()];
    readings.extend([0, 1].map(|captured| mixed_columns(captured, &[])));
    readings.extend(schema_growth::readings());
    readings.extend(all_datasets(&[]));
    read("spark", &readings);
}

#[test]
fn pyarrow_reads_the_lake() {
    read("pyarrow", &[rows()]);
}

#[test]
fn polars_reads_the_lake() {
    read("polars", &[rows()]);
}

/// <https://issues.apache.org/jira/browse/SPARK-31405>: dates before 1582 and times before 1900.
#[test]
fn spark_3_reads_the_lake_with_ancient_dates() {
    read("spark3", &[rows()]);
}

#[test]
fn duckdb_reads_a_lake_of_mixed_columns() {
    check_mixed_columns(&["duckdb"], &[]);
}

#[test]
fn pyarrow_reads_a_lake_of_mixed_columns() {
    check_mixed_columns(&["pyarrow"], &[]);
}

#[test]
fn polars_reads_a_lake_of_mixed_columns() {
    check_mixed_columns(&["polars"], &[]);
}

#[test]
fn delta_readers_read_a_table_of_mixed_columns() {
    check_mixed_columns(&DELTA_READERS, &["--table", "delta"]);
}

#[test]
fn duckdb_reads_every_partition_value() {
    read("duckdb", &[partition_values()]);
}

#[test]
fn pyarrow_reads_partition_values_but_null() {
    read("pyarrow", &[partition_values()]);
}

#[test]
fn polars_reads_partition_values_but_null() {
    read("polars", &[partition_values()]);
}

#[test]
fn duckdb_answers_the_questions() {
    read("duckdb", &[answers()]);
}

/// Readers of Delta tables, in an environment of their own.
pub const DELTA_READERS: [&str; 3] = ["delta_duckdb", "delta_rs", "delta_polars"];

#[test]
fn delta_table_is_read_like_a_plain_one() {
    let sandbox = Sandbox::new();
    let mut parts = tenant_parts(&sandbox, 60);
    parts.extend(CLEAN_SAMPLES.map(sample));
    ingest_to(&sandbox, &parts, &["--table", "delta"]);
    let readings = [Reading::new(&Rc::new(sandbox), "samples", [snapshot(&parts)])];
    for reader in DELTA_READERS {
        read(reader, &readings);
    }
    // And by readers that do not know the log.
    read("polars", &readings);
    read("duckdb", &readings);
}

#[test]
fn converted_plain_table_is_read_as_a_delta_table() {
    let sandbox = Sandbox::new();
    let parts = [sample("partition-values.ndjson")];
    ingest(&sandbox, &parts);
    let mut command = sandbox.command("ingest");
    command.args(["--generated-time", GENERATED_TIME, "--table", "delta", "--json", "--from"]).args(&parts);
    let report = Run::of(command.output().unwrap()).expect(0).report();
    assert_eq!(report["outcome"], "skipped");
    let readings = [Reading::new(&Rc::new(sandbox), "partition-values", [])];
    for reader in DELTA_READERS {
        read(reader, &readings);
    }
}

#[test]
fn delta_table_is_read_from_its_checkpoint() {
    let sandbox = Sandbox::new();
    let parts = [sample("dates-both-forms.ndjson"), sample("no-osplatform.ndjson")];
    for day in 1..=9 {
        let time = format!("2021-02-0{day}T11:01:00Z");
        let mut command = sandbox.command("ingest");
        command.args(["--generated-time", &time, "--from"]).args(&parts);
        Run::of(command.output().unwrap()).expect(0);
    }
    // The first nine snapshots and the tenth become one commit, ten replacements as many, then one goes.
    ingest_to(&sandbox, &parts, &["--table", "delta"]);
    for _ in 0..10 {
        ingest_to(&sandbox, &parts[..1], &["--if-published", "replace", "--extra-fields", "capture"]);
    }
    let log = sandbox.lake().join("software_inventory/_delta_log");
    assert!(log.join("00000000000000000010.checkpoint.parquet").exists());
    sandbox.run("expire", &["--keep-days", "8", "--keep-monthly", "--yes"]).expect(0);
    sandbox.run("verify", &[]).expect(0);
    let readings = [Reading::new(&Rc::new(sandbox), "counts", [])];
    for reader in DELTA_READERS {
        read(reader, &readings);
    }
}

/// What a reader is to find in a table of a lake: a check of `check.py` and its arguments.
pub struct Reading {
    sandbox: Rc<Sandbox>,
    check: &'static str,
    args: Vec<OsString>,
}

impl Reading {
    pub fn new(sandbox: &Rc<Sandbox>, check: &'static str, args: impl IntoIterator<Item = OsString>) -> Self {
        Self { sandbox: Rc::clone(sandbox), check, args: args.into_iter().collect() }
    }
}

fn rows() -> Reading {
    let sandbox = Sandbox::new();
    let mut parts = tenant_parts(&sandbox, 60);
    parts.extend(CLEAN_SAMPLES.map(sample));
    parts.push(ancient_dates(&sandbox));
    ingest(&sandbox, &parts);
    Reading::new(&Rc::new(sandbox), "samples", [snapshot(&parts)])
}

/// A snapshot of these parts, as `check.py` takes it.
fn snapshot(parts: &[PathBuf]) -> OsString {
    serde_json::json!({ "generated_time": GENERATED_TIME, "parts": parts }).to_string().into()
}

fn check_mixed_columns(readers: &[&str], args: &[&str]) {
    for reading in [0, 1].map(|captured| mixed_columns(captured, args)) {
        for reader in readers {
            read(reader, std::slice::from_ref(&reading));
        }
    }
}

/// Two snapshots, of which the one of index `captured` has the column of undocumented fields.
fn mixed_columns(captured: usize, args: &[&str]) -> Reading {
    let dates = ["2021-01-11", "2021-01-12"];
    let sandbox = Sandbox::new();
    let part = sandbox.path().join("part.json");
    let records =
        [r#"{"DeviceId":"a","OSPlatform":"Linux","New":1}"#, r#"{"DeviceId":"b","OSPlatform":"Linux"}"#];
    std::fs::write(&part, records.join("\n")).unwrap();
    for (index, date) in dates.into_iter().enumerate() {
        let time = format!("{date}T11:01:00Z");
        let mut command = sandbox.command("ingest");
        command.args(["--generated-time", &time]).args(args).arg("--from").arg(&part);
        if index == captured {
            command.args(["--extra-fields", "capture"]);
        }
        Run::of(command.output().unwrap()).expect(0);
    }
    let args = [dates[captured], dates[1 - captured]].map(OsString::from);
    Reading::new(&Rc::new(sandbox), "mixed-columns", args)
}

/// The tables of a small tenant, each with a snapshot of the files route's records and, if it has that route, one of the
/// JSON route's.
fn all_datasets(args: &[&str]) -> Vec<Reading> {
    let sandbox = Rc::new(Sandbox::new());
    let readings = Dataset::ALL.map(|dataset| {
        let options = TenantOptions { dataset, devices: 12, parts: 2, ..TenantOptions::default() };
        let tenant = Tenant::new(options.clone());
        let folder = sandbox.path().join(dataset.name());
        tenant.write_to_dir(&folder).unwrap();
        let mut snapshots = vec![(&options, tenant.part_files(&folder))];
        let later = options.clone().on_day(1);
        if dataset.has_json_route() {
            let tenant = Tenant::new(later.clone());
            let mut page = br#"{"@odata.context":"","value":["#.to_vec();
            tenant.write_page_records(0..tenant.num_records(), &mut page).unwrap();
            page.extend_from_slice(b"]}");
            let file = folder.join("page.json");
            std::fs::write(&file, page).unwrap();
            snapshots.push((&later, vec![file]));
        }
        let published = snapshots.into_iter().map(|(options, parts)| {
            let time = options.generated_time.to_rfc3339();
            let mut command = sandbox.command("ingest");
            command.args(["--dataset", dataset.name(), "--generated-time", &time, "--json"]).args(args);
            let report = Run::of(command.arg("--from").args(&parts).output().unwrap()).expect(0).report();
            assert_eq!(report["totals"]["field_rejects"], 0, "{dataset:?}: {report}");
            serde_json::json!({ "generated_time": time, "parts": parts }).to_string().into()
        });
        let args = [OsString::from("--dataset"), dataset.name().into()].into_iter().chain(published);
        Reading::new(&sandbox, "rows", args)
    });
    readings.into()
}

#[test]
fn readers_read_all_datasets() {
    let readings = all_datasets(&[]);
    for reader in ["duckdb", "pyarrow", "polars"] {
        read(reader, &readings);
    }
}

#[test]
fn delta_readers_read_all_datasets() {
    let readings = all_datasets(&["--table", "delta"]);
    for reader in DELTA_READERS {
        read(reader, &readings);
    }
}

fn partition_values() -> Reading {
    let sandbox = Sandbox::new();
    ingest(&sandbox, &[sample("partition-values.ndjson")]);
    Reading::new(&Rc::new(sandbox), "partition-values", [])
}

fn answers() -> Reading {
    let sandbox = Sandbox::new();
    ingest(&sandbox, &tenant_parts(&sandbox, 500));
    let mut questions: Vec<OsString> = std::fs::read_dir(repository().join("tests/sql"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(OsString::from)
        .collect();
    questions.sort_unstable();
    assert!(questions.len() >= 3, "{questions:?}");
    Reading::new(&Rc::new(sandbox), "answers", questions)
}

fn tenant_parts(sandbox: &Sandbox, devices: u32) -> Vec<PathBuf> {
    let tenant = tenant(devices);
    let folder = sandbox.path().join("parts");
    tenant.write_to_dir(&folder).unwrap();
    tenant.part_files(&folder)
}

/// Dates on both sides of the Gregorian calendar's beginning, and Windows' zero.
fn ancient_dates(sandbox: &Sandbox) -> PathBuf {
    let dates =
        ["0002-01-01", "1582-10-04", "1582-10-10", "1582-10-15", "1601-01-01", "1899-12-31", "9999-12-31"];
    let record = |date| {
        format!(
            "{{\"DeviceId\":\"{date}\",\"SoftwareName\":\"{date}\",\"OSPlatform\":\"Linux\",\
             \"SoftwareFirstSeenTimestamp\":\"{date} 12:34:56\",\"EndOfSupportDate\":\"{date}\"}}\n"
        )
    };
    let path = sandbox.path().join("ancient-dates.ndjson");
    std::fs::write(&path, dates.map(record).concat()).unwrap();
    path
}

fn sample(name: &str) -> PathBuf {
    repository().join("fixtures/samples/software-inventory").join(name)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the repository")
}

fn ingest(sandbox: &Sandbox, parts: &[PathBuf]) {
    ingest_to(sandbox, parts, &[]);
}

fn ingest_to(sandbox: &Sandbox, parts: &[PathBuf], args: &[&str]) {
    let mut command = sandbox.command("ingest");
    command.args(["--generated-time", GENERATED_TIME]).args(args).arg("--from").args(parts);
    let report = Run::of(command.arg("--json").output().unwrap()).expect(0).report();
    assert_eq!(
        (&report["totals"]["rejected_records"], &report["totals"]["field_rejects"]),
        (&0.into(), &0.into())
    );
}

/// Has a reader make these checks, in one process.
#[track_caller]
pub fn read(reader: &str, readings: &[Reading]) {
    let checks = readings.iter().map(|reading| (reading.sandbox.lake(), reading.check, &reading.args[..]));
    run_checks(reader, readings[0].sandbox.path(), checks);
}

/// Has a reader make checks of lakes, in one process in `folder`; each is a check of `check.py` with its arguments.
#[track_caller]
pub fn run_checks<'a>(
    reader: &str,
    folder: &Path,
    checks: impl IntoIterator<Item = (PathBuf, &'a str, &'a [OsString])>,
) {
    let (variable, default) = if reader.starts_with("delta_") {
        ("DEFENDER_LAKE_DELTA_PYTHON", ".venv-delta/bin/python")
    } else if reader == "spark3" {
        ("DEFENDER_LAKE_SPARK3_PYTHON", ".venv-spark3/bin/python")
    } else {
        ("DEFENDER_LAKE_PYTHON", ".venv/bin/python")
    };
    let python = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    let mut command = Command::new(python);
    command.arg(repository().join("tests/readers/check.py")).arg(reader);
    for (lake, check, args) in checks {
        command.args(["--check", check, "--program", env!("CARGO_BIN_EXE_defender-lake"), "--lake"]);
        command.arg(lake).args(args);
    }
    command.current_dir(folder).env("TMPDIR", folder);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("SPARK_HOME");
    Run::of(command.output().unwrap()).expect(0);
}
