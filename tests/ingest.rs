//! Whole runs: what a person and a scheduler see.

use serde_json::Value;

use crate::samples::FIXTURES;
use crate::support::{Sandbox, tenant, unlimited};

const CORRUPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/corrupt");
const TIME: [&str; 2] = ["--generated-time", "2021-01-11T11:01:00Z"];

#[test]
fn report_balances_and_has_the_manifests_names() {
    let emulator = unlimited(tenant(100));
    let sandbox = Sandbox::new();
    let report = sandbox.ingest_via(&emulator, &["--json"]).expect(0).report();
    let manifest = &sandbox.manifests()[0];
    for (name, value) in manifest.as_object().unwrap() {
        assert_eq!(&report[name], value, "{name}");
    }
    assert_eq!(report["outcome"], "published");
    assert_eq!(report["totals"]["parts"], 8);
    assert_eq!(report["totals"]["records"], report["totals"]["rows"]);
    let sum = |list: &str, field: &str| -> u64 {
        report[list].as_array().unwrap().iter().map(|item| item[field].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("parts", "records"), report["totals"]["records"]);
    assert_eq!(sum("files", "rows"), report["totals"]["rows"]);
    assert_eq!(sum("files", "bytes"), report["totals"]["bytes"]);
    assert!(report["parts"].as_array().unwrap().iter().all(|part| part["md5"].is_string()));
}

#[test]
fn rerun_publishes_nothing_and_says_so() {
    let emulator = unlimited(tenant(60));
    let sandbox = Sandbox::new();
    let first = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert!(first.stdout.starts_with("Published software_inventory snapshot 20210111T110100Z to "));
    let before = sandbox.lake_listing();
    let second = sandbox.ingest_via(&emulator, &[]).expect(0);
    let said = format!(
        "Nothing to do: software_inventory snapshot 20210111T110100Z is already in {}.\n",
        sandbox.lake().display()
    );
    assert_eq!(second.stdout, said);
    assert_eq!(sandbox.lake_listing(), before);
    let report = sandbox.ingest_via(&emulator, &["--json"]).expect(0).report();
    assert_eq!(report["outcome"], "skipped");
}

#[test]
fn dry_run_touches_nothing() {
    let emulator = unlimited(tenant(30));
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &["--dry-run"]).expect(0);
    assert!(run.stdout.starts_with("Would publish software_inventory snapshot 20210111T110100Z (8 parts)"));
    assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0, "no lake, no work dir");
    let report = sandbox.ingest_via(&emulator, &["--dry-run", "--json"]).expect(0).report();
    assert_eq!((&report["outcome"], &report["num_parts"]), (&"planned".into(), &8.into()));
}

#[test]
fn spool_goes_after_publishing_unless_it_is_to_stay() {
    let emulator = unlimited(tenant(30));
    let sandbox = Sandbox::new();
    let spooled =
        || walk(&sandbox.work_dir()).into_iter().filter(|name| name.contains("20210111T110100Z/")).count();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(spooled(), 0);
    sandbox.ingest_via(&emulator, &["--if-published", "replace", "--keep-parts"]).expect(0);
    assert!(spooled() >= 8);
    let fetched = |emulator: &fixtures::Emulator| {
        emulator.calls().iter().filter(|call| call.path.contains("tvm-export")).count()
    };
    let before = fetched(&emulator);
    sandbox.ingest_via(&emulator, &["--if-published", "replace"]).expect(0);
    assert_eq!(fetched(&emulator), before, "what the spool holds is not fetched again");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            let mut names = if path.is_dir() { walk(&path) } else { Vec::new() };
            names.push(path.to_str().unwrap().to_owned());
            names
        })
        .collect()
}

#[test]
fn damaged_part_publishes_nothing() {
    let sandbox = Sandbox::new();
    for (file, said) in [
        ("truncated.json.gz", "gzip is damaged"),
        ("bad-crc.json.gz", "does not have a matching checksum"),
        ("empty-body.json.gz", "no bytes"),
    ] {
        let path = format!("{CORRUPT}/{file}");
        let run = sandbox.run("ingest", &[&["--from", &path], &TIME[..]].concat()).expect(4);
        assert!(run.error().contains(file) && run.error().contains(said), "{}", run.error());
        assert!(run.error().contains("; hint: "), "{}", run.error());
        assert!(sandbox.lake_listing().is_empty() && !sandbox.lake().exists(), "the lake is as it was");
    }
}

#[test]
fn too_many_rejects_publish_nothing_and_are_kept() {
    let sandbox = Sandbox::new();
    let path = format!("{CORRUPT}/not-json.ndjson");
    let from = [&["--from", &path], &TIME[..]].concat();
    let run = sandbox.run("ingest", &from).expect(5);
    assert!(run.error().contains("1 of 3 records were rejected, more than 0.1%"), "{}", run.error());
    let kept = run.error().split("the rejects are in ").nth(1).unwrap().split("; hint").next().unwrap();
    let lines = gunzip(kept);
    let reject: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(reject["line"], 2);
    assert_eq!(reject["kind"], "record");
    assert!(!sandbox.lake().exists());

    let report =
        sandbox.run("ingest", &[&from[..], &["--max-rejects", "1", "--json"]].concat()).expect(0).report();
    assert_eq!(report["totals"]["records"], 3);
    assert_eq!(report["totals"]["rejected_records"], 1);
    assert_eq!(report["totals"]["rows"], 2);
    let published =
        sandbox.lake().join("_defender/software_inventory/snapshots/20210111T110100Z/rejects.ndjson.gz");
    assert_eq!(gunzip(published.to_str().unwrap()), lines);
    sandbox.run("verify", &[]).expect(0);
}

fn gunzip(path: &str) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
    text
}

#[test]
fn missing_role_and_wrong_secret_are_not_authorised() {
    let options =
        fixtures::EmulatorOptions { roles: Vec::new(), ..fixtures::EmulatorOptions::new(tenant(10)) };
    let emulator = fixtures::Emulator::start(options);
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &[]).expect(3);
    assert!(run.error().contains("Software.Read.All"), "{}", run.error());
    let mut wrong = sandbox.ingest_command(&emulator, &[]);
    let run = crate::support::Run::of(wrong.env("AZURE_CLIENT_SECRET", "not the secret").output().unwrap());
    let run = run.expect(3);
    assert!(run.error().contains("AADSTS7000215"), "{}", run.error());
    assert!(!run.stderr.contains("not the secret"));
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn captured_fields_become_a_column() {
    let part = format!("{FIXTURES}/samples/software-inventory/undocumented-nested.ndjson");
    let sandbox = Sandbox::new();
    let time = ["--generated-time", "2021-01-11T11:01:00Z"];
    let args = [&["--from", part.as_str(), "--extra-fields", "capture"], &time[..]].concat();
    sandbox.run("ingest", &args).expect(0);
    let rows = sandbox.rows();
    assert!(rows.iter().any(|row| row.contains(r#"{\"AssetGroup\":86"#)), "{rows:?}");
    sandbox.run("verify", &[]).expect(0);
}
