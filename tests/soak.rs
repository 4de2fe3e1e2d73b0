//! Many runs against a service that fails at random and is killed at random, by a seed: every run ends with a whole
//! snapshot or with the lake as it was, every rerun completes, and no part that was whole is fetched twice.
//!
//! `SOAK_RUNS` says how many runs there are in all (200); `SOAK_SEED` where the dice begin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::prelude::*;
use fixtures::{At, Emulator, Fault, RetryAfter, Tenant, TenantOptions};
use md5::{Digest as _, Md5};

use crate::support::{Run, Sandbox, unlimited};

/// Runs of a CI build, over all the tests below.
const DEFAULT_RUNS: u64 = 200;
/// Tests that share them, so that they run side by side.
const NUM_TESTS: u64 = 4;
const NUM_PARTS: u32 = 12;
/// Runs until one has to complete: the last one meets no fault and no kill.
const MAX_ATTEMPTS: u32 = 6;

/// `SplitMix64`: a seed's dice are the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }

    fn fault(&mut self) -> (At, Fault) {
        let part = At::Part(u32::try_from(self.roll(u64::from(NUM_PARTS))).unwrap());
        match self.roll(14) {
            0 => (part, Fault::Empty),
            1 => (part, Fault::Status(404)),
            2 => (part, Fault::Status(503)),
            3 => (part, Fault::Reset { after_bytes: self.roll(6000) }),
            4 => (part, Fault::Short { bytes: 1 + self.roll(3000) }),
            5 => (part, Fault::WrongMd5),
            6 => (part, Fault::Damaged { at_byte: self.roll(3000) }),
            7 => (part, Fault::SasExpired),
            // For good: the run gives the part up.
            8 => (part, Fault::Status(400)),
            9 => (At::List, Fault::Status(500)),
            10 => (At::List, Fault::Throttled(RetryAfter::Secs(0))),
            11 => (At::List, Fault::Status(401)),
            12 => (At::List, Fault::ExportFiles(vec![])),
            _ => (At::Token, Fault::Status(503)),
        }
    }
}

/// A setting from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Names and sizes of the whole parts in the spool.
fn whole_parts(sandbox: &Sandbox) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let folders = std::fs::read_dir(sandbox.work_dir().join("software_inventory"));
    let folders = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let is_facts = |path: &PathBuf| {
            path.extension().is_some_and(|ending| ending == "json")
                && !path.to_string_lossy().ends_with(".partial.json")
        };
        for path in files.filter(is_facts) {
            let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            // Cut short and yet with a length that fits, or with another's digest: only decoding shows that, and then
            // it is fetched again.
            let Ok(bytes) = std::fs::read(path.with_extension("part")) else { continue };
            if facts["server_md5"] == BASE64_STANDARD.encode(Md5::digest(bytes)) {
                names.insert(format!("/{}", facts["name"].as_str().unwrap()));
            }
        }
    }
    names
}

/// Starts a run, kills it after `kill_after` if that comes first.
fn run(sandbox: &Sandbox, emulator: &Emulator, kill_after: Option<Duration>) -> Run {
    let mut child = sandbox.spawn_ingest(emulator, &["--json"]);
    if let Some(kill_after) = kill_after {
        std::thread::sleep(kill_after);
        // It may have ended by itself.
        let _ = child.kill();
    }
    Run::of(child.wait_with_output().unwrap())
}

#[expect(clippy::print_stdout, reason = "what happened is the result; the runner shows it on demand")]
fn soak(test: u64) {
    let num_runs = setting("SOAK_RUNS", DEFAULT_RUNS).div_ceil(NUM_TESTS);
    let seed = setting("SOAK_SEED", 1) + test * 1000;
    let mut dice = Dice(seed);
    let options = TenantOptions { devices: 24, parts: NUM_PARTS, seed: 1 + test, ..TenantOptions::default() };
    let tenant = Tenant::new(options);
    let emulator = unlimited(tenant.clone());
    let (mut runs, mut days, mut endings) = (0, 0, BTreeMap::<i32, u32>::new());
    let mut sandbox = Sandbox::new();
    while runs < num_runs {
        // A new day now and then, in the same lake; sometimes all is new.
        if dice.roll(4) == 0 {
            sandbox = Sandbox::new();
        }
        days += 1;
        let tenant = Tenant::new(tenant.options().clone().on_day(days));
        emulator.regenerate(tenant.options().generated_time);
        for attempt in 1..=MAX_ATTEMPTS {
            let where_we_are = format!("seed {seed}, run {runs}, day {days}, attempt {attempt}");
            let is_calm = attempt == MAX_ATTEMPTS;
            emulator.clear_faults();
            for _ in 0..if is_calm { 0 } else { dice.roll(4) } {
                let (at, fault) = dice.fault();
                emulator.script(at, 1, fault);
            }
            let kill_after =
                (!is_calm && dice.roll(3) == 0).then(|| Duration::from_millis(20 + dice.roll(400)));
            let (before, whole) = (sandbox.manifests_or_none(), whole_parts(&sandbox));
            let num_calls = emulator.calls().len();
            let run = run(&sandbox, &emulator, kill_after);
            runs += 1;
            *endings.entry(run.code).or_default() += 1;

            for call in emulator.calls().split_off(num_calls) {
                assert!(
                    !whole.contains(&call.path.replace("%3D", "=")),
                    "{where_we_are}: {} was whole",
                    call.path
                );
            }
            assert!([0, 3, 4, 137].contains(&run.code), "{where_we_are}: {run:?}");
            assert!(!is_calm || run.code == 0, "{where_we_are}: {run:?}");
            let after = sandbox.manifests_or_none();
            if after.len() > before.len() {
                // Killed just after publishing, or published: whole, whichever.
                assert_eq!(after.len(), before.len() + 1, "{where_we_are}");
                let newest = after.last().unwrap();
                assert_eq!(newest["totals"]["rows"], tenant.num_records(), "{where_we_are}");
                assert_eq!(newest["totals"]["parts"], u64::from(NUM_PARTS), "{where_we_are}");
            } else {
                assert_eq!(after, before, "{where_we_are}");
            }
            if run.code == 0 {
                assert!(sandbox.staged_runs().is_empty(), "{where_we_are}");
                sandbox.run("verify", &["--date", &newest_date(&after)]).expect(0);
                break;
            }
        }
    }
    // That much happened that the above says something.
    assert!(endings.get(&0).is_some_and(|times| *times > 0), "{endings:?}");
    // Shown by `cargo nextest run --no-capture`.
    println!("soak {test}: {runs} runs over {days} days, by exit code {endings:?}");
}

fn newest_date(manifests: &[serde_json::Value]) -> String {
    manifests.last().unwrap()["generated_time"].as_str().unwrap()[..10].to_owned()
}

impl Sandbox {
    /// The manifests as they are on the disk; a run that was killed may have left the rest of its work to the next one.
    fn manifests_or_none(&self) -> Vec<serde_json::Value> {
        let run = self.run("snapshots", &["--json"]);
        if run.code == 0 { serde_json::from_str(&run.stdout).unwrap() } else { panic!("{}", run.stderr) }
    }
}

#[test]
fn soak_1() {
    soak(1);
}

#[test]
fn soak_2() {
    soak(2);
}

#[test]
fn soak_3() {
    soak(3);
}

#[test]
fn soak_4() {
    soak(4);
}
