//! Delta tables on a local disk: what becomes of a lake, and what `verify` says of its log.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Sandbox, tenant, tenant_later, unlimited};

const FIRST: &str = "00000000000000000000.json";

fn log(sandbox: &Sandbox) -> PathBuf {
    sandbox.lake().join("software_inventory/_delta_log")
}

/// The lines of a commit.
fn commit(sandbox: &Sandbox, version: u64) -> Vec<Value> {
    let text = std::fs::read_to_string(log(sandbox).join(format!("{version:020}.json"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn num_commits(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(log(sandbox)).unwrap().count()
}

#[test]
fn plain_lake_becomes_a_delta_table_in_place() {
    let sandbox = Sandbox::new();
    for hours in [24, 0, 48] {
        sandbox.ingest_via(&unlimited(tenant_later(40, hours)), &[]).expect(0);
    }
    let before = sandbox.lake_listing();
    let same = unlimited(tenant_later(40, 48));
    let skipped = sandbox.ingest_via(&same, &["--table", "delta", "--json"]).expect(0).report();
    assert_eq!(skipped["outcome"], "skipped");
    let mut after = sandbox.lake_listing();
    after.retain(|name, _| !name.contains("_delta_log"));
    assert_eq!(after, before, "no data is rewritten");
    assert_eq!(num_commits(&sandbox), 1, "all of them or none");
    let lines = commit(&sandbox, 0);
    assert_eq!(lines[0]["commitInfo"]["operation"], "CONVERT");
    for date in ["2021-01-11", "2021-01-12", "2021-01-13"] {
        let is_of_date = |line: &&Value| line["add"]["partitionValues"]["snapshot_date"] == date;
        assert!(lines.iter().any(|line| is_of_date(&line)));
        let app = format!("defender-lake/software_inventory/{date}");
        assert_eq!(lines.iter().filter(|line| line["txn"]["appId"] == app).count(), 1);
    }
    sandbox.run("verify", &[]).expect(0);

    // A Delta table stays one without the option, and the way back is refused.
    let newer = unlimited(tenant_later(40, 54));
    let refused = sandbox.ingest_via(&newer, &["--table", "plain"]).expect(2);
    assert!(refused.error().contains("is a Delta table"), "{}", refused.error());
    assert!(refused.error().contains("hint: omit --table plain"), "{}", refused.error());
    sandbox.ingest_via(&newer, &[]).expect(0);
    assert_eq!(num_commits(&sandbox), 2);
    assert!(commit(&sandbox, 1).iter().any(|line| !line["remove"].is_null()));
    sandbox.ingest_via(&newer, &["--table", "delta"]).expect(0);
    assert_eq!(num_commits(&sandbox), 2, "a rerun does not commit");
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn unreadable_old_file_is_6_and_the_lake_stays_plain() {
    let sandbox = Sandbox::new();
    for hours in [0, 24] {
        sandbox.ingest_via(&unlimited(tenant_later(40, hours)), &[]).expect(0);
    }
    let manifest = &sandbox.manifests()[0];
    let file = manifest["files"].as_array().unwrap().last().unwrap()["path"].as_str().unwrap().to_owned();
    let path = sandbox.lake().join("software_inventory").join(&file);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let before = sandbox.lake_listing();
    for hours in [24, 48] {
        let run = sandbox.ingest_via(&unlimited(tenant_later(40, hours)), &["--table", "delta"]).expect(6);
        assert!(run.error().contains(&file), "{}", run.error());
        assert_eq!(sandbox.lake_listing(), before);
    }
    sandbox.ingest_via(&unlimited(tenant_later(40, 48)), &[]).expect(0);
    // Once the damaged snapshot is replaced, the table becomes a Delta table with all of them in one commit.
    let again = unlimited(tenant(40));
    sandbox.ingest_via(&again, &["--table", "delta", "--if-published", "replace"]).expect(0);
    assert_eq!(num_commits(&sandbox), 1);
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn append_only_table_is_verified_and_not_replaced() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant(40)), &["--table", "delta"]).expect(0);
    let path = log(&sandbox).join(FIRST);
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |properties: &str| {
        std::fs::write(
            &path,
            text.replace("\"configuration\":{}", &format!("\"configuration\":{properties}")),
        )
    };
    with("{\"delta.appendOnly\":\"true\"}").unwrap();
    sandbox.run("verify", &[]).expect(0);
    let before = sandbox.lake_listing();
    let run = sandbox.ingest_via(&unlimited(tenant(40)), &["--if-published", "replace"]).expect(6);
    let expected = "the Delta table is append-only, and the files of 2021-01-11 would be removed";
    assert!(run.error().contains(expected), "{}", run.error());
    assert!(run.error().contains("hint: remove the table's property delta.appendOnly"), "{}", run.error());
    assert_eq!(sandbox.lake_listing(), before);
    sandbox.ingest_via(&unlimited(tenant_later(40, 24)), &[]).expect(0);
    sandbox.run("verify", &[]).expect(0);

    with("{\"delta.constraints.c\":\"NumberOfWeaknesses >= 0\"}").unwrap();
    sandbox.run("verify", &[]).expect(0);
    let run = sandbox.ingest_via(&unlimited(tenant_later(40, 48)), &[]).expect(6);
    assert!(
        run.error().contains("the Delta table cannot be written: it has the constraint \"c\""),
        "{}",
        run.error()
    );
}

#[test]
fn run_that_publishes_nothing_makes_no_delta_table() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant(40)), &[]).expect(0);
    let before = sandbox.lake_listing();
    let next = unlimited(tenant_later(40, 24));
    sandbox.ingest_via(&next, &["--table", "delta", "--dry-run"]).expect(0);
    let nothing = sandbox.path().join("nothing.json");
    std::fs::write(&nothing, "[]").unwrap();
    let from = nothing.to_str().unwrap();
    let args = ["--table", "delta", "--generated-time", "2021-01-12T00:00:00Z", "--from", from];
    sandbox.run("ingest", &args).expect(4);
    assert_eq!(sandbox.lake_listing(), before);
}

#[test]
fn replaced_and_expired_snapshots_are_in_the_log() {
    let sandbox = Sandbox::new();
    let now = unlimited(tenant(40));
    sandbox.ingest_via(&now, &["--table", "delta"]).expect(0);
    sandbox.ingest_via(&now, &["--if-published", "replace"]).expect(0);
    sandbox.ingest_via(&unlimited(tenant_later(40, -240)), &[]).expect(0);
    sandbox.run("verify", &[]).expect(0);
    let number = |version| {
        let lines = commit(&sandbox, version);
        let txn = lines.iter().find(|line| !line["txn"].is_null()).unwrap();
        (txn["txn"]["appId"].as_str().unwrap().to_owned(), txn["txn"]["version"].as_i64().unwrap())
    };
    let (app, first) = number(0);
    assert_eq!(app, "defender-lake/software_inventory/2021-01-11");
    assert_eq!(number(1), (app, first + 1));
    assert_eq!(number(2).0, "defender-lake/software_inventory/2021-01-01");

    sandbox.run("expire", &["--keep-days", "2", "--yes"]).expect(0);
    let removed = commit(&sandbox, 3);
    assert_eq!(removed[0]["commitInfo"]["operation"], "DELETE");
    assert!(removed[1..].iter().all(|line| !line["remove"].is_null()));
    sandbox.run("verify", &[]).expect(0);
    // What was expired can be taken once more.
    sandbox.ingest_via(&unlimited(tenant_later(40, -240)), &[]).expect(0);
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn log_that_differs_from_the_manifests_is_damage() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant(40)), &["--table", "delta"]).expect(0);
    let path = log(&sandbox).join(FIRST);
    let whole = std::fs::read_to_string(&path).unwrap();
    let add = whole.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    let file: Value = serde_json::from_str(add).unwrap();
    let name = format!("software_inventory/{}", file["add"]["path"].as_str().unwrap());
    let size = file["add"]["size"].as_u64().unwrap();
    let check = |text: String, expected: String| {
        std::fs::write(&path, text).unwrap();
        let run = sandbox.run("verify", &[]).expect(6);
        assert!(run.stdout.contains(&expected), "expected {expected}, found {}", run.stdout);
        assert!(run.error().contains("verify found damage"), "{}", run.error());
        std::fs::write(&path, &whole).unwrap();
        sandbox.run("verify", &[]).expect(0);
    };
    let without = whole.replace(&format!("{add}\n"), "");
    check(without, format!("{name}: listed in a manifest, but not in the Delta log"));
    let with_another = format!("{whole}{}\n", add.replace("00000.parquet", "00007.parquet"));
    let other = name.replace("00000.parquet", "00007.parquet");
    check(with_another, format!("{other}: in the Delta log, but not in any manifest"));
    let other_size = add.replace(&format!("\"size\":{size}"), "\"size\":7");
    check(
        whole.replace(add, &other_size),
        format!("{name}: bytes in the Delta log: expected {size}, found 7"),
    );
    let other_rows = add.replace("\\\"numRecords\\\":", "\\\"numRecords\\\":1");
    check(whole.replace(add, &other_rows), format!("{name}: rows in the Delta log: expected "));
    check(
        whole.replacen("2021-01-11\"}", "2021-01-12\"}", 1),
        format!("{name}: partition in the Delta log: expected 2021-01-11 "),
    );
    check(
        whole.replace("{\"protocol\"", "{protocol"),
        format!("software_inventory/_delta_log/{FIRST}: unreadable: line 2: "),
    );
    check(
        whole.replace("\"minReaderVersion\":1", "\"minReaderVersion\":3"),
        "software_inventory/_delta_log: unreadable: ".to_owned(),
    );
}
