//! The lake in the hands of its readers: real DuckDB, Spark, pyarrow and Polars against a decode of the same parts by
//! Python's own json module. The scripts are in `tests/readers`; `make test` sets up their Python environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    check_rows("duckdb");
}

#[test]
fn spark_reads_the_lake() {
    check_rows("spark");
}

#[test]
fn pyarrow_reads_the_lake() {
    check_rows("pyarrow");
}

#[test]
fn polars_reads_the_lake() {
    check_rows("polars");
}

/// <https://issues.apache.org/jira/browse/SPARK-31405>: dates before 1582 and times before 1900.
#[test]
fn spark_3_reads_the_lake_with_ancient_dates() {
    check_rows("spark3");
}

#[test]
fn duckdb_reads_a_lake_of_mixed_columns() {
    check_mixed_columns(&["duckdb"], &[]);
}

#[test]
fn spark_reads_a_lake_of_mixed_columns() {
    check_mixed_columns(&["spark"], &[]);
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
    check_partition_values("duckdb");
}

#[test]
fn spark_reads_every_partition_value() {
    check_partition_values("spark");
}

#[test]
fn pyarrow_reads_partition_values_but_null() {
    check_partition_values("pyarrow");
}

#[test]
fn polars_reads_partition_values_but_null() {
    check_partition_values("polars");
}

#[test]
fn duckdb_answers_the_questions() {
    check_answers("duckdb");
}

#[test]
fn spark_answers_the_questions() {
    check_answers("spark");
}

/// Readers of Delta tables, in an environment of their own.
const DELTA_READERS: [&str; 3] = ["delta_duckdb", "delta_rs", "delta_polars"];

#[test]
fn delta_table_is_read_like_a_plain_one() {
    let sandbox = Sandbox::new();
    let mut parts = tenant_parts(&sandbox);
    parts.extend(CLEAN_SAMPLES.map(sample));
    let mut args: Vec<OsString> = vec!["--generated-time".into(), GENERATED_TIME.into()];
    args.extend(parts.iter().map(OsString::from));
    ingest_to(&sandbox, &parts, &["--table", "delta"]);
    for reader in DELTA_READERS {
        check(&sandbox, reader, "rows", &args);
    }
    // And by those who know nothing of the log.
    check(&sandbox, "polars", "rows", &args);
    check(&sandbox, "duckdb", "rows", &args);
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
    for reader in DELTA_READERS {
        check(&sandbox, reader, "partition-values", &[]);
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
    for reader in DELTA_READERS {
        check(&sandbox, reader, "counts", &[]);
    }
}

fn check_rows(reader: &str) {
    let sandbox = Sandbox::new();
    let mut parts = tenant_parts(&sandbox);
    parts.extend(CLEAN_SAMPLES.map(sample));
    parts.push(ancient_dates(&sandbox));
    ingest(&sandbox, &parts);
    let mut args: Vec<OsString> = vec!["--generated-time".into(), GENERATED_TIME.into()];
    args.extend(parts.into_iter().map(OsString::from));
    check(&sandbox, reader, "rows", &args);
}

/// The older snapshot has the column of undocumented fields and the newer one has not, and the other way round.
fn check_mixed_columns(readers: &[&str], args: &[&str]) {
    let dates = ["2021-01-11", "2021-01-12"];
    for captured in 0..2 {
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
        let expected = [dates[captured], dates[1 - captured]].map(OsString::from);
        for reader in readers {
            check(&sandbox, reader, "mixed-columns", &expected);
        }
    }
}

fn check_partition_values(reader: &str) {
    let sandbox = Sandbox::new();
    ingest(&sandbox, &[sample("partition-values.ndjson")]);
    check(&sandbox, reader, "partition-values", &[]);
}

fn check_answers(reader: &str) {
    let sandbox = Sandbox::new();
    ingest(&sandbox, &tenant_parts(&sandbox));
    let mut questions: Vec<OsString> = std::fs::read_dir(repository().join("tests/sql"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(OsString::from)
        .collect();
    questions.sort_unstable();
    assert!(questions.len() >= 3, "{questions:?}");
    check(&sandbox, reader, "answers", &questions);
}

fn tenant_parts(sandbox: &Sandbox) -> Vec<PathBuf> {
    let tenant = tenant(500);
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

#[track_caller]
fn check(sandbox: &Sandbox, reader: &str, what: &str, args: &[OsString]) {
    let (variable, default) = if reader.starts_with("delta_") {
        ("DEFENDER_LAKE_DELTA_PYTHON", ".venv-delta/bin/python")
    } else if reader == "spark3" {
        ("DEFENDER_LAKE_SPARK3_PYTHON", ".venv-spark3/bin/python")
    } else {
        ("DEFENDER_LAKE_PYTHON", ".venv/bin/python")
    };
    let python = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    let run = Command::new(python)
        .arg(repository().join("tests/readers/check.py"))
        .args([reader, what, "--program", env!("CARGO_BIN_EXE_defender-lake"), "--lake"])
        .arg(sandbox.lake())
        .args(args)
        .current_dir(sandbox.path())
        .env("TMPDIR", sandbox.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("SPARK_HOME")
        .output()
        .unwrap();
    Run::of(run).expect(0);
}
