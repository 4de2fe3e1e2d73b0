//! What a lake promises, held against every place that one can be in: a disk, Azure (Azurite), S3 (moto); and
//! against both kinds of table.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::stores::{FaultProxy, Kind, SECRETS, Store};
use crate::support::{Run, tenant};

macro_rules! on_every_store {
    ($($law:ident)*) => {
        mod disk { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::Disk)); })* }
        mod azure { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::Azure)); })* }
        mod s3 { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::S3)); })* }
        mod delta_on_disk { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::Disk).delta()); })* }
        mod delta_on_azure { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::Azure).delta()); })* }
        mod delta_on_s3 { $(#[test] fn $law() { super::$law(&super::Store::start(super::Kind::S3).delta()); })* }
    };
}

on_every_store! {
    publishes_skips_replaces_and_is_superseded
    killed_at_any_moment_leaves_a_whole_snapshot
    interrupted_run_leaves_the_lake_as_it_was
    of_two_runs_one_publishes_the_other_skips
    damage_is_named
    expired_snapshots_leave_nothing
    dry_run_touches_nothing
}

const NOON: &str = "2021-01-11T12:00:00Z";
const EVENING: &str = "2021-01-11T18:00:00Z";
const MORNING: &str = "2021-01-11T06:00:00Z";
const NEXT_DAY: &str = "2021-01-12T12:00:00Z";

const SUCCESS: &str = "software_inventory/snapshot_date=2021-01-11/_SUCCESS";

impl Store {
    /// The program ingesting parts from a folder, generated at `time`.
    pub fn ingest_command(&self, time: &str, args: &[&str]) -> std::process::Command {
        let parts = self.sandbox.path().join("parts");
        if !parts.exists() {
            std::fs::create_dir(&parts).unwrap();
            let tenant = tenant(40);
            for index in 0..tenant.num_parts() {
                let mut part = std::fs::File::create(parts.join(format!("{index}.json.gz"))).unwrap();
                tenant.write_part(index, fixtures::PartFormat::GZIP, &mut part).unwrap();
            }
        }
        let mut command = self.command("ingest");
        command.arg("--from").arg(parts.join("*.gz")).args(["--generated-time", time]).args(args);
        if self.is_delta {
            command.args(["--table", "delta"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn ingest(&self, time: &str, args: &[&str]) -> Run {
        Run::of(self.ingest_command(time, args).output().unwrap())
    }

    pub fn run(&self, subcommand: &str, args: &[&str]) -> Run {
        Run::of(self.command(subcommand).args(args).output().unwrap())
    }

    /// Manifests, oldest first.
    pub fn manifests(&self) -> Vec<Value> {
        serde_json::from_str(&self.run("snapshots", &["--json"]).expect(0).stdout).unwrap()
    }

    /// The lake holds what its manifests list, and nothing else.
    #[track_caller]
    pub fn check_whole(&self) {
        self.run("verify", &["--keys"]).expect(0);
        let mut expected = BTreeSet::new();
        for manifest in self.manifests() {
            let time = manifest["generated_time"].as_str().unwrap().replace(['-', ':'], "");
            expected.insert(format!("_defender/software_inventory/snapshots/{time}/manifest.json"));
            for file in manifest["files"].as_array().unwrap() {
                expected.insert(format!("software_inventory/{}", file["path"].as_str().unwrap()));
                let date = file["snapshot_date"].as_str().unwrap();
                expected.insert(format!("software_inventory/snapshot_date={date}/_SUCCESS"));
            }
        }
        // What the log says is held against the manifests by `verify`.
        let mut found: BTreeSet<_> = self.list().into_keys().collect();
        found.retain(|name| !self.is_delta || !name.starts_with("software_inventory/_delta_log/0"));
        assert_eq!(found, expected);
    }

    fn json(&self, path: &str) -> Option<Value> {
        self.get(path).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// Reads the snapshot of the date by its `_SUCCESS`, as a reader should. Nothing if it
    /// was replaced meanwhile.
    fn read_whole(&self) -> Option<String> {
        let success = self.json(SUCCESS)?;
        let run_id = success["run_id"].as_str().unwrap().to_owned();
        let manifest = self.json(success["manifest"].as_str().unwrap())?;
        if manifest["run_id"] != success["run_id"] {
            return None;
        }
        let found: BTreeMap<String, u64> = self.list();
        let is_whole = manifest["files"].as_array().unwrap().iter().all(|file| {
            let path = format!("software_inventory/{}", file["path"].as_str().unwrap());
            found.get(&path).copied() == file["bytes"].as_u64()
        });
        let is_current = || {
            self.json(SUCCESS).is_some_and(|now| now == success)
                && self.json(success["manifest"].as_str().unwrap()).is_some_and(|now| now == manifest)
        };
        assert!(is_whole || !is_current(), "run {run_id} is said to be whole: {found:?}");
        is_whole.then_some(run_id)
    }
}

fn publishes_skips_replaces_and_is_superseded(store: &Store) {
    let report = store.ingest(NOON, &["--json"]).expect(0).report();
    assert_eq!(report["outcome"], "published");
    store.check_whole();
    let noon = store.list();

    let skipped = store.ingest(NOON, &["--json"]).expect(0).report();
    assert_eq!(skipped["outcome"], "skipped");
    let fail = store.ingest(NOON, &["--if-published", "fail"]).expect(6);
    assert!(fail.error().contains("is already in the lake"), "{}", fail.error());
    assert_eq!(store.list(), noon);

    let replaced = store.ingest(NOON, &["--if-published", "replace", "--json"]).expect(0).report();
    assert_eq!(replaced["totals"]["rows"], report["totals"]["rows"]);
    assert_ne!(replaced["run_id"], report["run_id"]);
    store.check_whole();

    let older = store.ingest(MORNING, &["--json"]).expect(0).report();
    assert_eq!(older["outcome"], "superseded");
    let newer = store.ingest(EVENING, &["--json"]).expect(0).report();
    assert_eq!(newer["outcome"], "published");
    store.check_whole();
    assert_eq!(store.manifests().len(), 1, "a date holds one snapshot");
    store.ingest(NEXT_DAY, &[]).expect(0);
    store.check_whole();
    assert_eq!(store.manifests().len(), 2);
    let listed = store.run("snapshots", &[]).expect(0);
    assert!(listed.stdout.contains("2021-01-11 18:00:00Z"), "{}", listed.stdout);
}

/// Moments all over a run, by how long one takes there.
fn killed_at_any_moment_leaves_a_whole_snapshot(store: &Store) {
    store.ingest(NOON, &[]).expect(0);
    let begun = std::time::Instant::now();
    store.ingest(NOON, &["--if-published", "replace"]).expect(0);
    let usual = u32::try_from(begun.elapsed().as_millis()).unwrap();
    let mut random = Pcg32::seed_from_u64(6);
    for round in 0..10 {
        let mut child = store.ingest_command(NOON, &["--if-published", "replace"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis((random.next_u32() % usual).into()));
        let _ = child.kill();
        let run = Run::of(child.wait_with_output().unwrap());
        assert!([0, 137].contains(&run.code), "{}", run.stderr);
        // One of the two is whole, as its manifest says it, and from here on nothing changes.
        let manifests = store.manifests();
        assert_eq!(manifests.len(), 1, "round {round}");
        let found = store.list();
        let is_whole = manifests[0]["files"].as_array().unwrap().iter().all(|file| {
            let path = format!("software_inventory/{}", file["path"].as_str().unwrap());
            found.get(&path).copied() == file["bytes"].as_u64()
        });
        if !is_whole {
            // A run can be killed after the data have changed places and before the manifest has, on a disk.
            assert_eq!(store.url(), store.sandbox.lake().to_str().unwrap(), "round {round}: {found:?}");
            let verify = store.run("verify", &[]).expect(6);
            assert!(
                verify.stdout.contains("was interrupted while doing so"),
                "round {round}: {}",
                verify.stdout
            );
            store.ingest(NOON, &[]).expect(0);
            store.check_whole();
        }
    }
    store.ingest(NOON, &["--if-published", "replace"]).expect(0);
    store.check_whole();
    check_no_uploads(store);
}

/// Nothing that was sent is left. On S3 a run that is killed between beginning an upload and naming it leaves one without
/// bytes.
fn check_no_uploads(store: &Store) {
    if store.url().starts_with("az:") {
        assert_eq!(store.num_uploads(), 0);
    }
}

fn interrupted_run_leaves_the_lake_as_it_was(store: &Store) {
    use rustix::process::{Pid, Signal, kill_process};
    store.ingest(NOON, &[]).expect(0);
    let mut random = Pcg32::seed_from_u64(6);
    for _ in 0..6 {
        let before = store.list();
        let child = store.ingest_command(NOON, &["--if-published", "replace"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis((random.next_u32() % 600).into()));
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let run = Run::of(child.wait_with_output().unwrap());
        assert!([0, 130].contains(&run.code), "{}", run.stderr);
        if run.code == 130 {
            assert_eq!(store.list(), before);
        }
        store.check_whole();
        assert_eq!(store.num_uploads(), 0);
    }
}

fn of_two_runs_one_publishes_the_other_skips(store: &Store) {
    store.ingest(NOON, &[]).expect(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Meanwhile another thread reads.
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.extend(store.read_whole());
            }
            seen
        });
        for time in [EVENING, NEXT_DAY] {
            let runs: Vec<_> =
                (0..2).map(|_| store.ingest_command(time, &["--json"]).spawn().unwrap()).collect();
            let mut outcomes: Vec<String> = runs
                .into_iter()
                .map(|run| Run::of(run.wait_with_output().unwrap()).expect(0).report()["outcome"].to_string())
                .collect();
            outcomes.sort();
            assert_eq!(outcomes, [r#""published""#, r#""skipped""#]);
            store.check_whole();
        }
        for _ in 0..3 {
            store.ingest(EVENING, &["--if-published", "replace"]).expect(0);
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap().len() > 1, "the reader saw more than one of them");
    });
    store.check_whole();
}

fn damage_is_named(store: &Store) {
    store.ingest(NOON, &[]).expect(0);
    let files: Vec<String> = store.list().into_keys().filter(|name| name.ends_with(".parquet")).collect();
    let manifest = "_defender/software_inventory/snapshots/20210111T120000Z/manifest.json";
    let check = |path: &str, damaged: Option<Vec<u8>>, expected: &str| {
        let whole = store.get(path);
        match &damaged {
            Some(bytes) => store.put(path, bytes),
            None => store.delete(path),
        }
        let run = store.run("verify", &[]).expect(6);
        assert!(run.error().contains("verify found damage"), "{}", run.stderr);
        let lines: Vec<_> = run.stdout.lines().filter(|line| line.contains(expected)).collect();
        assert!(!lines.is_empty(), "expected {expected}, found {}", run.stdout);
        match &whole {
            Some(bytes) => store.put(path, bytes),
            None => store.delete(path),
        }
        store.check_whole();
    };
    let whole = store.get(&files[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    check(&files[0], Some(flipped), &format!("{}: sha256: expected", files[0]));
    check(
        &files[0],
        Some(whole[..100].to_vec()),
        &format!("{}: bytes: expected {}, found 100", files[0], whole.len()),
    );
    check(&files[1], None, &format!("{}: missing", files[1]));
    let extra = files[0].replace("-00000.parquet", "-00001.parquet");
    check(&extra, Some(whole), &format!("{extra}: not listed in any manifest"));
    check(SUCCESS, None, &format!("{SUCCESS}: missing"));
    check(manifest, Some(b"{".to_vec()), &format!("{manifest}: unreadable"));
    let text = String::from_utf8(store.get(manifest).unwrap()).unwrap();
    let wrong = text.replacen("\"rows\": ", "\"rows\": 1", 1);
    check(manifest, Some(wrong.into_bytes()), &format!("{manifest}: does not balance"));
}

fn expired_snapshots_leave_nothing(store: &Store) {
    store.ingest(NOON, &[]).expect(0);
    store.ingest(NEXT_DAY, &[]).expect(0);
    let listed = || {
        let mut listed = store.list();
        listed.retain(|name, _| !name.contains("_delta_log"));
        listed
    };
    let mut expected = listed();
    expected.retain(|name, _| !name.contains("2021-01-11") && !name.contains("20210111"));
    store.run("expire", &["--keep-days", "1", "--yes"]).expect(0);
    assert_eq!(listed(), expected);
    store.check_whole();
}

fn dry_run_touches_nothing(store: &Store) {
    let planned = store.ingest(NOON, &["--dry-run", "--json"]).expect(0).report();
    assert_eq!(planned["outcome"], "planned");
    assert!(store.list().is_empty());
    assert!(store.run("snapshots", &[]).expect(0).stdout.contains("No snapshots"));
}

/// Over connections that are cut, refused and stalled, a run publishes or leaves the lake as it was.
fn unreliable_connection_is_survived(kind: Kind) {
    let store = Store::start(kind);
    let mut num_faults = 0;
    let mut num_published = 0;
    for seed in 0..6 {
        let proxy = FaultProxy::start(store.port(), seed);
        let before = store.manifests();
        let mut command = store.ingest_command(NOON, &["--if-published", "replace"]);
        let run = Run::of(command.envs(store.env(Some(proxy.port))).output().unwrap());
        num_faults += proxy.num_faults();
        drop(proxy);
        if run.code == 0 {
            num_published += 1;
        } else {
            run.expect(6);
            // What could not be undone over that connection is undone by the next run over a good one.
            store.ingest(NEXT_DAY, &["--if-published", "replace"]).expect(0);
            let has_noon = |manifests: &[Value]| manifests.iter().any(|one| one["generated_time"] == NOON);
            assert!(
                !has_noon(&before) || has_noon(&store.manifests()),
                "the old one or the new one is there"
            );
        }
    }
    store.ingest(NEXT_DAY, &["--if-published", "replace"]).expect(0);
    store.check_whole();
    check_no_uploads(&store);
    assert!(num_faults > 5, "the connection was unreliable");
    assert!(num_published > 2, "{num_published} of 6 runs published");
}

#[test]
fn unreliable_connection_to_azure_is_survived() {
    unreliable_connection_is_survived(Kind::Azure);
}

#[test]
fn unreliable_connection_to_s3_is_survived() {
    unreliable_connection_is_survived(Kind::S3);
}

/// With its own S3 client off, DuckDB reads by Arrow's: its extension for S3 is not to be had for its version.
#[test]
fn duckdb_reads_the_lake_on_s3() {
    let store = Store::start(Kind::S3);
    let report = store.ingest(NOON, &["--json"]).expect(0).report();
    store.ingest(NEXT_DAY, &[]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/readers/s3_by_duckdb.py");
    let output = std::process::Command::new(crate::stores::python())
        .arg(script)
        .args(["127.0.0.1", &store.port().to_string(), store.url().trim_start_matches("s3://")])
        .output()
        .unwrap();
    let run = Run::of(output).expect(0);
    let rows = &report["totals"]["rows"];
    assert_eq!(run.stdout, format!("2021-01-11 {rows}\n2021-01-12 {rows}\n"));
}

#[test]
fn secrets_of_stores_are_never_shown() {
    for kind in [Kind::Azure, Kind::S3] {
        let store = Store::start(kind);
        let sas = "sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2020-01-01T00:00:00Z&sig=bm90IGEgc2lnbmF0dXJl";
        let mut runs = vec![store.ingest(NOON, &["-vv"]).expect(0)];
        runs.push(store.run("verify", &["-vv"]).expect(0));
        let mut command = store.ingest_command(NEXT_DAY, &["-vv"]);
        command.env("AZURE_STORAGE_ACCOUNT_KEY", "").env("AZURE_STORAGE_SAS_TOKEN", sas);
        runs.push(Run::of(command.output().unwrap()));
        let mut command = store.command("snapshots");
        let url = format!("https://devstoreaccount1.blob.core.windows.net/{}?{sas}", store.container);
        command.env("DEFENDER_LAKE", url);
        runs.push(Run::of(command.output().unwrap()).expect(2));
        let mut command = store.command("snapshots");
        command.env("DEFENDER_LAKE", store.url().replace(&store.container, "nothere"));
        let missing = Run::of(command.output().unwrap()).expect(6);
        assert!(missing.error().contains("create the container or bucket"), "{}", missing.error());
        runs.push(missing);
        for run in runs {
            for secret in SECRETS.into_iter().chain(["sig=", "bm90IGEgc2ln"]) {
                assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{}", run.stderr);
            }
        }
        for (path, _) in store.list() {
            let bytes = store.get(&path).unwrap();
            for secret in SECRETS {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path}");
            }
        }
    }
}
