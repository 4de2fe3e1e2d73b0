//! Every file of four lakes, byte for byte, against `tests/golden/<tenant>-<table>.sha256`.
//!
//! A change that should not alter the lake leaves these lists as they are. One that should alter it renews them, and the
//! commit says why: `UPDATE_GOLDEN=1 cargo nextest run -p pipeline --test it -E 'test(/^golden::/)'`.
//! `GOLDEN_PROGRAM=<path>` compares another build of the program, such as a release build, with the same lists.
//! Data files are hashed as they are; text files after the run's id and its clock times are replaced.
//! The program's version is part of every data file, so a new version renews the lists too.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use fixtures::{Tenant, TenantOptions};
use sha2::{Digest, Sha256};

use crate::samples::FIXTURES;
use crate::support::{Run, Sandbox};

const LISTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// Keys whose values are clock times, in the manifest and in the Delta log.
const CLOCK_KEYS: [&str; 7] = [
    "started_at",
    "finished_at",
    "timestamp",
    "lastUpdated",
    "modificationTime",
    "deletionTimestamp",
    "createdTime",
];

/// One `ingest`: its parts, relative to the sandbox, and its other arguments.
struct Ingest {
    parts: Vec<String>,
    args: Vec<&'static str>,
}

/// Ingests as a plain and as a Delta table, and compares both lakes with their lists.
fn check(tenant: &str, prepare: impl Fn(&Path) -> Vec<Ingest>) {
    for table in ["plain", "delta"] {
        let sandbox = Sandbox::new();
        let ingests = prepare(sandbox.path());
        let run_ids: Vec<String> = ingests.iter().map(|ingest| run(&sandbox, table, ingest)).collect();
        let mut found = String::new();
        for (name, hash) in hashes(&sandbox.lake(), &run_ids) {
            writeln!(found, "{hash}  {name}").unwrap();
        }
        let list = format!("{LISTS}/{tenant}-{table}.sha256");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&list, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&list).unwrap_or_default();
        let missing: Vec<_> =
            expected.lines().filter(|line| !found.lines().any(|other| other == *line)).collect();
        let new: Vec<_> =
            found.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
        assert!(missing.is_empty() && new.is_empty(), "{list}: expected {missing:#?}, found {new:#?}");
    }
}

/// Ingests with one thread, since two write rows in the order in which they finish. Returns the run's id.
fn run(sandbox: &Sandbox, table: &str, ingest: &Ingest) -> String {
    let mut command = sandbox.command("ingest");
    if let Some(program) = std::env::var_os("GOLDEN_PROGRAM") {
        let mut other = Command::new(program);
        other.args(command.get_args()).current_dir(sandbox.path()).env("DEFENDER_LAKE", sandbox.lake());
        command = other;
    }
    command.args(["--table", table, "--threads", "1", "--json"]).args(&ingest.args);
    let run = Run::of(command.arg("--from").args(&ingest.parts).output().unwrap()).expect(0);
    run.report()["run_id"].as_str().unwrap().to_owned()
}

/// The files of a lake with their hashes, by name; `run-1` is the id of the first run.
fn hashes(lake: &Path, run_ids: &[String]) -> Vec<(String, String)> {
    let name_runs = |text: &str| {
        (1..).zip(run_ids).fold(text.to_owned(), |text, (run, id)| text.replace(id, &format!("run-{run}")))
    };
    let mut hashes = Vec::new();
    let mut folders = vec![lake.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(lake).unwrap().to_str().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let is_binary = [".parquet", ".gz"].iter().any(|end| name.ends_with(end));
            if !is_binary {
                let text =
                    CLOCK_KEYS.iter().fold(name_runs(&String::from_utf8(bytes).unwrap()), |text, key| {
                        without_values(&text, &format!("\"{key}\":"))
                    });
                bytes = without_values(&text, "\"metaData\":{\"id\":").into_bytes();
            }
            hashes.push((name_runs(name), sha256(&bytes)));
        }
    }
    hashes.sort();
    hashes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Leaves out what stands between `key` and the next comma, brace or line's end.
fn without_values(text: &str, key: &str) -> String {
    let mut parts = text.split(key);
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        result.push_str(key);
        result.push_str(&part[part.find([',', '}', '\n']).unwrap()..]);
    }
    result
}

/// Writes a generated tenant's parts of one day, and says how to ingest them.
fn generated(sandbox: &Path, day: u32, options: TenantOptions) -> Ingest {
    let folder = format!("day-{day}");
    Tenant::new(options.on_day(day)).write_to_dir(&sandbox.join(&folder)).unwrap();
    Ingest { parts: vec![folder], args: Vec::new() }
}

/// Copies hand-written parts, in the order of `names`, so that their names in the manifest do not depend on the checkout.
fn hand_written(sandbox: &Path, folder: &str, names: &[String], args: &[&'static str]) -> Ingest {
    let parts: Vec<_> = names.iter().map(|name| format!("parts/{name}")).collect();
    std::fs::create_dir(sandbox.join("parts")).unwrap();
    for (name, part) in names.iter().zip(&parts) {
        std::fs::copy(format!("{FIXTURES}/{folder}/{name}"), sandbox.join(part)).unwrap();
    }
    let mut all = vec!["--generated-time", "2021-01-11T11:01:00Z"];
    all.extend(args);
    Ingest { parts, args: all }
}

#[test]
fn ordinary_tenant_is_the_same_bytes() {
    check("ordinary", |sandbox| {
        let options = || TenantOptions { devices: 150, parts: 3, ..TenantOptions::default() };
        let [first, second] = [0, 1].map(|day| generated(sandbox, day, options()));
        let replaced = Ingest { parts: first.parts.clone(), args: vec!["--if-published", "replace"] };
        vec![first, second, replaced]
    });
}

#[test]
fn tenant_of_300_platforms_is_the_same_bytes() {
    check("platforms", |sandbox| {
        let options =
            TenantOptions { devices: 300, parts: 2, extra_platforms: 300, ..TenantOptions::default() };
        vec![Ingest { args: vec!["--memory", "64MiB"], ..generated(sandbox, 0, options) }]
    });
}

#[test]
fn odd_values_are_the_same_bytes() {
    check("odd-values", |sandbox| {
        let folder = "samples/software-inventory";
        let entries = std::fs::read_dir(format!("{FIXTURES}/{folder}")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        vec![hand_written(sandbox, folder, &names, &["--extra-fields", "capture", "--max-rejects", "100%"])]
    });
}

#[test]
fn bad_input_is_the_same_bytes_and_rejects() {
    check("bad-input", |sandbox| {
        let names = [
            "cut-line",
            "form-feed",
            "line-without-end",
            "lone-surrogate",
            "no-device-id",
            "not-json",
            "not-objects",
            "not-utf8",
            "platform-too-long",
            "powershell-dates",
            "too-deep",
            "wrong-values",
        ];
        let names: Vec<_> = names.iter().map(|name| format!("{name}.ndjson")).collect();
        vec![hand_written(sandbox, "corrupt", &names, &["--max-rejects", "100%"])]
    });
}
