//! `trend --changes`: against `diff` and DuckDB, and its cache against everything that happens to a lake.

use std::fs;
use std::path::PathBuf;

use pipeline::history::roles::Roles;
use serde_json::{Value, json};

use crate::history::{check_with_duckdb, date_of, lake_of_days, publish, publish_days, record};
use crate::stores::{Kind, Store};
use crate::support::{Run, Sandbox};

const CACHE: &str = "_defender/software_inventory/changes.ndjson";

fn cache(sandbox: &Sandbox) -> PathBuf {
    sandbox.lake().join(CACHE)
}

fn changes(sandbox: &Sandbox, args: &[&str]) -> Value {
    let run = sandbox.run("trend", &[&["--changes", "--json"], args].concat()).expect(0);
    assert_eq!(run.stderr, "");
    run.report()
}

/// Asks twice, the second time without a cache: the answers must be the same. Returns how many pairs the first
/// counted. The cache is as the first left it.
#[track_caller]
fn counted(sandbox: &Sandbox) -> u64 {
    let answer = changes(sandbox, &[]);
    let kept = fs::read(cache(sandbox)).unwrap();
    fs::remove_file(cache(sandbox)).unwrap();
    let fresh = changes(sandbox, &[]);
    assert_eq!(answer["pairs"], fresh["pairs"]);
    assert_eq!(fresh["counted"], fresh["pairs"].as_array().unwrap().len());
    fs::write(cache(sandbox), kept).unwrap();
    sandbox.run("verify", &["-q"]).expect(0);
    answer["counted"].as_u64().unwrap()
}

#[test]
fn counts_are_the_sums_of_diff_by_kind() {
    let (sandbox, _) = lake_of_days(60, &[0, 1, 2, 30]);
    let answer = changes(&sandbox, &["--out", "changes.parquet"]);
    let pairs = answer["pairs"].as_array().unwrap();
    assert_eq!((answer["dataset"].as_str(), pairs.len()), (Some("software_inventory"), 3));
    let mut asked = Vec::new();
    for (pair, (from, to)) in pairs.iter().zip([(0, 1), (1, 2), (2, 30)]) {
        let (from, to) = (date_of(from), date_of(to));
        assert_eq!(pair["from"], format!("{from}T11:01:00Z"));
        assert_eq!(pair["to"], format!("{to}T11:01:00Z"));
        let summary = sandbox.run("diff", &["--from", &from, "--to", &to, "--json"]).expect(0).report();
        let counts = pair["changes"].as_object().unwrap();
        assert_eq!(counts.len(), summary["changes"].as_object().unwrap().len());
        for (kind, count) in counts {
            assert_eq!(*count, summary["changes"][kind]["total"], "{kind}");
        }
        assert!(counts["installed"].as_u64().unwrap() > 0 && counts["version_changed"].as_u64().unwrap() > 0);
        asked.push([from, to]);
    }
    let kinds = Roles::of(schema::DATASETS[0]).unwrap().kinds();
    check_with_duckdb(&sandbox, &[json!({"changes": "changes.parquet", "pairs": asked, "kinds": kinds})]);
    for (name, first) in [
        ("changes.csv", "2021-01-12,2021-01-11T11:01:00Z,2021-01-12T11:01:00Z,"),
        ("changes.ndjson", r#"{"snapshot_date":"2021-01-12","OldGeneratedTime":"2021-01-11T11:01:00Z","#),
    ] {
        sandbox.run("trend", &["--changes", "--out", name]).expect(0);
        let text = fs::read_to_string(sandbox.path().join(name)).unwrap();
        assert!(text.lines().any(|line| line.starts_with(first)), "{text}");
    }
}

#[test]
fn what_happens_to_a_lake_never_gives_stale_counts() {
    let on = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| record("d", "v", name, "1", &json!({}))).collect()
    };
    let sandbox = Sandbox::new();
    for (day, names) in [(0, &["a"][..]), (1, &["a", "b"]), (2, &["a", "b", "c"]), (3, &["a"])] {
        publish(&sandbox, day, &on(names));
    }
    let installed = || -> Vec<(u64, u64)> {
        let answer = changes(&sandbox, &[]);
        let count = |pair: &Value, kind: &str| pair["changes"][kind].as_u64().unwrap();
        let pairs = answer["pairs"].as_array().unwrap();
        pairs.iter().map(|pair| (count(pair, "installed"), count(pair, "removed"))).collect()
    };
    assert_eq!(counted(&sandbox), 3);
    assert_eq!(counted(&sandbox), 0);
    assert_eq!(installed(), [(1, 0), (1, 0), (0, 2)]);

    // Another day.
    publish(&sandbox, 4, &on(&["a", "b"]));
    assert_eq!(counted(&sandbox), 1);

    // The same export again: skipped, and nothing is counted.
    let ingest = |time: &str, names: &[&str], args: &[&str]| {
        let part = sandbox.path().join("again.ndjson");
        let lines: Vec<_> = on(names).iter().map(Value::to_string).collect();
        fs::write(&part, lines.join("\n")).unwrap();
        let all = [&["-q", "--generated-time", time, "--from", part.to_str().unwrap()], args].concat();
        sandbox.run("ingest", &all).expect(0);
    };
    let second = format!("{}T11:01:00Z", date_of(1));
    ingest(&second, &["x", "y", "z"], &[]);
    assert_eq!((counted(&sandbox), &installed()[..2]), (0, &[(1, 0), (1, 0)][..]));

    // The same generated time with other content.
    ingest(&second, &["x", "y", "z"], &["--if-published", "replace"]);
    assert_eq!((counted(&sandbox), &installed()[..2]), (2, &[(3, 1), (3, 3)][..]));

    // A newer snapshot of the date replaces it; an older one does not.
    ingest(&format!("{}T12:00:00Z", date_of(1)), &["a", "b", "c"], &[]);
    ingest(&format!("{}T09:00:00Z", date_of(1)), &["q"], &[]);
    assert_eq!((counted(&sandbox), &installed()[..2]), (2, &[(2, 0), (0, 0)][..]));

    // The oldest days expire, then the one between the last of a month and the newest.
    sandbox.run("expire", &["--keep-days", "3", "--yes"]).expect(0);
    assert_eq!((counted(&sandbox), installed()), (0, vec![(0, 2), (1, 0)]));
    publish(&sandbox, 24, &on(&["a", "c"]));
    publish(&sandbox, 25, &on(&["c"]));
    assert_eq!((counted(&sandbox), &installed()[2..]), (2, &[(1, 1), (0, 1)][..]));
    sandbox.run("expire", &["--keep-days", "1", "--keep-monthly", "--yes-remove-most"]).expect(0);
    assert_eq!((counted(&sandbox), installed()), (1, vec![(1, 2)]));
    let lines = fs::read_to_string(cache(&sandbox)).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn counted_pairs_are_not_read_again() {
    let (sandbox, _) = lake_of_days(20, &[0, 1, 2]);
    let first = changes(&sandbox, &[]);
    for day in [0, 2] {
        let folder = format!("software_inventory/snapshot_date={}", date_of(day));
        fs::remove_dir_all(sandbox.lake().join(folder)).unwrap();
    }
    assert_eq!(changes(&sandbox, &[])["pairs"], first["pairs"]);
    fs::remove_file(cache(&sandbox)).unwrap();
    let error = sandbox.run("trend", &["--changes"]).expect(6);
    assert!(error.error().contains("snapshot_date=2021-01-11"), "{}", error.error());
}

#[test]
fn damaged_cache_and_lake_to_read_only_are_no_failure() {
    use std::os::unix::fs::PermissionsExt;
    let (sandbox, _) = lake_of_days(20, &[0, 1, 2]);
    let pairs = changes(&sandbox, &[])["pairs"].clone();
    let whole = fs::read_to_string(cache(&sandbox)).unwrap();
    for (damaged, expected) in [
        (whole[..whole.len() / 2 + 10].to_owned(), 1),
        (whole.replacen("\"installed\":", "\"installed\":9", 1), 1),
        ("[[[[".repeat(10_000), 2),
        (String::new(), 2),
    ] {
        fs::write(cache(&sandbox), damaged).unwrap();
        sandbox.run("verify", &["-q"]).expect(0);
        let answer = changes(&sandbox, &[]);
        assert_eq!((&answer["pairs"], &answer["counted"]), (&pairs, &json!(expected)));
        assert_eq!(fs::read_to_string(cache(&sandbox)).unwrap(), whole);
    }
    fs::remove_file(cache(&sandbox)).unwrap();
    // Neither a file nor a folder can be made; root can, and has a cache then.
    let folder = sandbox.lake().join("_defender/software_inventory");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    for _ in 0..2 {
        assert_eq!(changes(&sandbox, &[])["pairs"], pairs);
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn range_and_text_are_those_of_trend() {
    let sandbox = Sandbox::new();
    let records = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| record("d", "v", name, "1", &json!({}))).collect()
    };
    publish(&sandbox, 0, &records(&["a"]));
    let error = sandbox.run("trend", &["--changes"]).expect(2);
    assert_eq!(
        error.error(),
        "error: the lake has 1 snapshot of software_inventory to compare; a diff takes two; hint: run ingest again when the service has a newer export"
    );
    publish(&sandbox, 1, &records(&["a", "b", "c"]));
    publish(&sandbox, 2, &records(&["a"]));
    assert_eq!(
        sandbox.run("trend", &["--changes"]).expect(0).stdout,
        " from        to          installed  removed  version  weaknesses  end_of_support  device_appeared  device_disappeared  device_renamed  device_moved  device_platform
 2021-01-11  2021-01-12          2        0        0           0               0                0                   0               0             0                0
 2021-01-12  2021-01-13          0        2        0           0               0                0                   0               0             0                0
                                █▁       ▁█       ▄▄          ▄▄              ▄▄               ▄▄                  ▄▄              ▄▄            ▄▄               ▄▄
"
    );
    let dates = |args: &[&str]| -> Vec<String> {
        let answer = changes(&sandbox, args);
        let pairs = answer["pairs"].as_array().unwrap();
        pairs.iter().map(|pair| pair["to"].as_str().unwrap()[..10].to_owned()).collect()
    };
    assert_eq!(dates(&["--from", "2021-01-12"]), ["2021-01-13"]);
    assert_eq!(dates(&["--to", "2021-01-12"]), ["2021-01-12"]);
    sandbox.run("trend", &["--changes", "--from", "2021-01-13"]).expect(2);
    sandbox.run("trend", &["--changes", "--from", "2021-01-14"]).expect(2);
    sandbox.run("trend", &["--changes", "--from", "2021-01-13", "--to", "2021-01-11"]).expect(2);
    let error = sandbox.run("trend", &["--changes", "--by", "vendor"]).expect(2);
    assert!(error.error().contains("--changes") && error.error().contains("--by"), "{}", error.error());
}

#[test]
fn lake_in_a_store_has_a_cache_as_well() {
    let (on_disk, _) = lake_of_days(20, &[0, 1, 2]);
    let expected = changes(&on_disk, &[])["pairs"].clone();
    for store in [Store::start(Kind::Azure), Store::start(Kind::S3).delta()] {
        let publish = |days: &[u32]| {
            let ingest = || {
                let mut command = store.command("ingest");
                command.args(store.is_delta.then_some(["--table", "delta"]).into_iter().flatten());
                command
            };
            publish_days(&ingest, store.sandbox.path(), 20, days);
        };
        let ask = || {
            Run::of(store.command("trend").args(["--changes", "--json"]).output().unwrap()).expect(0).report()
        };
        publish(&[0, 1]);
        assert_eq!(ask()["counted"], 1);
        assert_eq!(ask()["counted"], 0);
        publish(&[2]);
        let answer = ask();
        assert_eq!((&answer["pairs"], &answer["counted"]), (&expected, &json!(1)));
        assert!(store.list().contains_key(CACHE));
        store.run("verify", &["-q"]).expect(0);
        store.run("expire", &["--keep-days", "2", "--yes"]).expect(0);
        let answer = ask();
        assert_eq!((&answer["pairs"][0], &answer["counted"]), (&expected[1], &json!(0)));
        store.run("verify", &["-q"]).expect(0);
    }
}
