//! `query`: against the same SQL to DuckDB, in every place that a lake can be in, and against cases written by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::history::{check_with_duckdb, lake_of_days, publish, publish_days, record};
use crate::stores::{FaultProxy, Kind, Store};
use crate::support::{Run, Sandbox};

/// Asked with their columns as DuckDB has them.
const QUERIES: &[&str] = &[
    "SELECT * FROM software_inventory WHERE snapshot_date = DATE '2021-01-12' AND OSPlatform = 'Linux'",
    "SELECT * FROM software_inventory WHERE OSPlatform = '__HIVE_DEFAULT_PARTITION__' OR OSPlatform IS NULL",
    "SELECT snapshot_date, OSPlatform, count(*)::BIGINT AS num_rows FROM software_inventory GROUP BY snapshot_date, OSPlatform",
    "SELECT DeviceId, max(SoftwareFirstSeenTimestamp) AS newest FROM software_inventory WHERE snapshot_date > DATE '2021-01-12' GROUP BY DeviceId",
    "SELECT o.DeviceId, o.SoftwareVersion AS old, n.SoftwareVersion AS new FROM software_inventory o JOIN software_inventory n \
     ON o.DeviceId = n.DeviceId AND o.SoftwareVendor = n.SoftwareVendor AND o.SoftwareName = n.SoftwareName \
     WHERE o.snapshot_date = DATE '2021-01-11' AND n.snapshot_date = DATE '2021-01-12' AND o.SoftwareVersion <> n.SoftwareVersion",
];

#[test]
fn answers_are_those_of_duckdb() {
    let (sandbox, _) = lake_of_days(60, &[0, 1, 2, 30]);
    publish_partition_values(&|| sandbox.command("ingest"));
    // A folder above the lake that looks like a partition is none.
    let link = sandbox.path().join("day=1");
    std::fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink(sandbox.lake(), link.join("lake")).unwrap();
    let asked = QUERIES.iter().zip(0..).map(|(sql, number)| {
        let file = format!("{number}.parquet");
        sandbox.run("query", &[sql, "--out", &file, "--lake", "./day=1/lake"]).expect(0);
        json!({"query": file, "sql": sql})
    });
    check_with_duckdb(&sandbox, &asked.collect::<Vec<_>>());
}

fn publish_partition_values(ingest: &dyn Fn() -> Command) {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/samples/software-inventory/partition-values.ndjson");
    let mut command = ingest();
    command.args(["-q", "--generated-time", "2021-02-11T11:01:00Z", "--from", parts.to_str().unwrap()]);
    Run::of(command.output().unwrap()).expect(0);
}

/// Every row of one day with every row of the other, in order: no machine has the memory.
const TOO_MUCH: &str = "SELECT o.DeviceId, n.SoftwareName FROM software_inventory o CROSS JOIN software_inventory n \
                        ORDER BY n.SoftwareName, o.SoftwareVersion";

#[test]
fn query_that_takes_more_memory_than_it_may_says_so() {
    let (sandbox, _) = lake_of_days(200, &[0]);
    let run = sandbox.run("query", &[TOO_MUCH, "--memory", "256MiB", "--out", "answer.csv"]).expect(2);
    assert_eq!(
        run.error(),
        "error: the query exceeds the 256.0 MiB of --memory; hint: raise --memory, or select fewer columns, or fewer \
         days and platforms (WHERE snapshot_date = …)"
    );
    assert_eq!(files_of(&sandbox), ["day-0", "lake"]);
}

#[test]
fn interrupted_query_leaves_no_file() {
    use rustix::process::{Pid, Signal, kill_process};
    let (sandbox, _) = lake_of_days(200, &[0]);
    let args = [TOO_MUCH, "--memory", "64GiB", "--out", "answer.csv"];
    let mut command = sandbox.command("query");
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The file that is to be the answer is there from the start.
    while files_of(&sandbox).len() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    Run::of(child.wait_with_output().unwrap()).expect(130);
    assert_eq!(files_of(&sandbox), ["day-0", "lake"]);
}

fn files_of(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_that_conditions_rule_out_are_not_opened() {
    let sandbox = Sandbox::new();
    for day in 0..2 {
        let on = |platform: &str| record("d", "v", "p", "1", &json!({"OSPlatform": platform}));
        publish(&sandbox, day, &[on("Linux"), on("Windows11")]);
    }
    let gone = sandbox.lake().join("software_inventory/snapshot_date=2021-01-11/OSPlatform=Windows11");
    std::fs::remove_dir_all(gone).unwrap();
    let count = |condition: &str| {
        let sql = format!("SELECT count(*) AS num_rows FROM software_inventory WHERE {condition}");
        sandbox.run("query", &[&sql, "--format", "csv"])
    };
    assert_eq!(count("snapshot_date = DATE '2021-01-12'").expect(0).stdout, "num_rows\n2\n");
    assert_eq!(count("snapshot_date > '2021-01-11'").expect(0).stdout, "num_rows\n2\n");
    assert_eq!(count("OSPlatform = 'Linux'").expect(0).stdout, "num_rows\n2\n");
    assert!(count("DeviceId = 'd'").expect(6).error().contains("verify"));
}

/// Asked of stores besides: what reads no column, all columns of some files, or other columns of one file twice.
const MORE_QUERIES: &[&str] = &[
    "SELECT count(*) AS num_rows FROM software_inventory",
    "SELECT count(*) AS num_rows FROM software_inventory WHERE snapshot_date = DATE '2021-01-12'",
    "SELECT count(*) AS num_rows FROM software_inventory WHERE snapshot_date = DATE '2020-01-01'",
    "SELECT 1 AS one",
    "SELECT DISTINCT OSPlatform FROM software_inventory ORDER BY OSPlatform",
    "SELECT DiskPaths, RegistryPaths FROM software_inventory WHERE OSPlatform = 'Linux' ORDER BY DeviceId, SoftwareName, SoftwareVersion",
    "SELECT count(DISTINCT DeviceId) AS devices FROM software_inventory WHERE snapshot_date IN (SELECT max(snapshot_date) FROM software_inventory)",
    "SELECT count(DISTINCT a.DeviceId) AS devices, max(b.NumberOfWeaknesses) AS weaknesses FROM software_inventory a \
     JOIN software_inventory b ON a.DeviceId = b.DeviceId WHERE a.EndOfSupportStatus LIKE 'EOS%'",
    "SELECT ExtraFields, GeneratedTime FROM software_inventory WHERE ExtraFields IS NOT NULL ORDER BY ExtraFields",
];

#[test]
fn every_store_and_table_gives_the_same_answers() {
    let publish_all = |ingest: &dyn Fn() -> Command, scratch: &Path| {
        publish_days(ingest, scratch, 20, &[0, 1]);
        publish_partition_values(ingest);
        let parts = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fixtures/samples/software-inventory/undocumented-nested.ndjson");
        let mut command = ingest();
        command.args([
            "-q",
            "--generated-time",
            "2021-02-12T11:01:00Z",
            "--extra-fields",
            "capture",
            "--from",
        ]);
        Run::of(command.arg(parts).output().unwrap()).expect(0);
    };
    let answers = |query: &dyn Fn() -> Command| -> BTreeMap<&str, String> {
        let ask = |sql: &&'static str| {
            let run = Run::of(query().args([sql, "--format", "csv"]).output().unwrap()).expect(0);
            (*sql, sorted_lines(&run.stdout))
        };
        QUERIES.iter().chain(MORE_QUERIES).map(ask).collect()
    };
    let sandbox = Sandbox::new();
    publish_all(&|| sandbox.command("ingest"), sandbox.path());
    let expected = answers(&|| sandbox.command("query"));
    assert!(expected[MORE_QUERIES[8]].lines().count() > 1, "{expected:?}");
    for store in [Store::start(Kind::Azure), Store::start(Kind::S3).delta()] {
        let ingest = || {
            let mut command = store.command("ingest");
            command.args(store.is_delta.then_some(["--table", "delta"]).into_iter().flatten());
            command
        };
        publish_all(&ingest, store.sandbox.path());
        assert_eq!(answers(&|| store.command("query")), expected);
        assert_eq!(copies_of(&store), [""; 0]);
    }
}

#[test]
fn unreliable_connection_gives_the_same_answer_or_none() {
    let store = Store::start(Kind::Azure);
    publish_days(&|| store.command("ingest"), store.sandbox.path(), 20, &[0, 1]);
    let proxy = FaultProxy::start(store.port(), 7);
    let ask = |port: Option<u16>, sql: &str| {
        let mut command = store.command("query");
        Run::of(command.envs(store.env(port)).args([sql, "--format", "csv"]).output().unwrap())
    };
    for sql in &QUERIES[2..4] {
        let expected = ask(None, sql).expect(0).stdout;
        // Listings are not tried again within a run.
        let answered = (0..20).any(|_| {
            let run = ask(Some(proxy.port), sql);
            if run.code != 0 {
                assert_eq!(run.expect(6).stdout, "");
                return false;
            }
            assert_eq!(sorted_lines(&run.stdout), sorted_lines(&expected));
            true
        });
        assert!(answered, "{sql}");
    }
    assert!(proxy.num_faults() > 1, "{}", proxy.num_faults());
    assert_eq!(copies_of(&store), [""; 0]);
}

fn sorted_lines(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What queries left in the work dir.
fn copies_of(store: &Store) -> Vec<String> {
    let folder = store.sandbox.path().join("cache/defender-lake/query");
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn files_ruled_out_are_not_fetched_from_a_store() {
    let store = Store::start(Kind::Azure);
    publish_days(&|| store.command("ingest"), store.sandbox.path(), 60, &[0, 1]);
    let old: Vec<_> =
        store.list().into_keys().filter(|path| path.contains("snapshot_date=2021-01-11")).collect();
    // The first file of each snapshot says what columns its files have.
    let old: Vec<_> = old.iter().filter(|path| path.ends_with(".parquet")).skip(1).collect();
    assert!(old.len() > 2, "{old:?}");
    for path in &old {
        store.delete(path);
    }
    let query = |condition: &str| {
        let sql =
            format!("SELECT count(DISTINCT DeviceId) AS devices FROM software_inventory WHERE {condition}");
        Run::of(store.command("query").args([&sql, "--format", "csv"]).output().unwrap())
    };
    assert_eq!(query("snapshot_date = DATE '2021-01-12'").expect(0).stdout, "devices\n60\n");
    let error = query("SoftwareName <> ''").expect(6).error().to_owned();
    let expected = format!("error: cannot read {}/software_inventory/snapshot_date=", store.url());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(copies_of(&store), [""; 0]);
}

#[test]
fn killed_query_leaves_files_until_the_next() {
    let store = Store::start(Kind::Azure);
    publish_days(&|| store.command("ingest"), store.sandbox.path(), 100, &[0]);
    let mut command = store.command("query");
    let mut child = command.args([TOO_MUCH, "--memory", "64GiB", "--out", "answer.csv"]).spawn().unwrap();
    let folder = store.sandbox.path().join("cache/defender-lake/query");
    let has_files = || {
        let tables = std::fs::read_dir(&folder).into_iter().flatten();
        tables.flatten().any(|entry| entry.path().join("software_inventory").is_dir())
    };
    while !has_files() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The folder of a query that runs is left alone.
    Run::of(store.command("query").arg("SELECT 1").output().unwrap()).expect(0);
    assert_eq!(copies_of(&store).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(copies_of(&store).len(), 1);
    Run::of(store.command("query").arg("SELECT 1").output().unwrap()).expect(0);
    assert_eq!(copies_of(&store), [""; 0]);
}

#[test]
fn file_of_a_failed_query_does_not_appear() {
    let (sandbox, _) = lake_of_days(5, &[0]);
    let sql = "SELECT DeviceId::INTEGER AS n FROM software_inventory";
    sandbox.run("query", &[sql, "--out", "n.csv"]).expect(2);
    assert_eq!(files_of(&sandbox), ["day-0", "lake"]);
}

#[test]
fn unknown_names_are_usage_errors_with_suggestions() {
    let sandbox = Sandbox::new();
    for (sql, expected) in [
        ("SELECT DevceId FROM software_inventory", "there is no column \"DevceId\"; did you mean DeviceId?"),
        (
            "SELECT * FROM software_inventory s WHERE s.osplatfrm = 'x'",
            "there is no column \"osplatfrm\"; did you mean OSPlatform?",
        ),
        (
            "SELECT 1 FROM software_inventry",
            "there is no table \"software_inventry\"; did you mean software_inventory?",
        ),
        (
            "SELECT Permissions FROM browser_extensions",
            "query does not support lists of structs, as in column Permissions; hint: query the table with DuckDB, by \
             the view that `defender-lake schema --format duckdb` prints",
        ),
    ] {
        assert_eq!(sandbox.run("query", &[sql]).expect(2).error(), format!("error: {expected}"));
    }
    sandbox.run("query", &["SELEC 1"]).expect(2);
    sandbox.run("query", &["SELECT * FROM browser_extensions"]).expect(0);
}
