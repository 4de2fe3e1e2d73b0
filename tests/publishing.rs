//! All or nothing: what the lake is after every kind of run, and after runs that were ended.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Run, Sandbox, tenant, tenant_later, unlimited};

fn send(child: &std::process::Child, signal: Signal) {
    // The process may have ended by itself.
    let _ = kill_process(Pid::from_child(child), signal);
}

#[test]
fn date_holds_the_newest_snapshot_only() {
    let sandbox = Sandbox::new();
    let (early, late) = (unlimited(tenant(40)), unlimited(tenant_later(40, 6)));
    sandbox.ingest_via(&early, &[]).expect(0);
    let report = sandbox.ingest_via(&late, &["--json"]).expect(0).report();
    assert_eq!(report["outcome"], "published");
    let manifests = sandbox.manifests();
    assert_eq!(manifests.len(), 1, "what a snapshot replaces goes, its manifest too");
    assert_eq!(manifests[0]["generated_time"], "2021-01-11T17:01:00Z");
    let after = sandbox.lake_listing();
    assert!(!after.keys().any(|name| name.contains("T110100Z")));

    let older = sandbox.ingest_via(&early, &["--json"]).expect(0).report();
    assert_eq!(older["outcome"], "superseded");
    let replace = sandbox.ingest_via(&early, &["--if-published", "replace"]).expect(0);
    assert!(replace.stdout.starts_with("Nothing to do: "), "{}", replace.stdout);
    assert_eq!(sandbox.lake_listing(), after);
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn another_date_leaves_the_first_alone() {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant(40)), &[]).expect(0);
    let first = sandbox.lake_listing();
    sandbox.ingest_via(&unlimited(tenant_later(40, 24)), &[]).expect(0);
    let both = sandbox.lake_listing();
    assert!(first.iter().all(|(name, hash)| both.get(name) == Some(hash)));
    assert_eq!(sandbox.manifests().len(), 2);
}

#[test]
fn published_snapshot_is_skipped_replaced_or_fails() {
    let emulator = unlimited(tenant(40));
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let before = sandbox.lake_listing();
    let fail = sandbox.ingest_via(&emulator, &["--if-published", "fail"]).expect(6);
    assert!(fail.error().contains("snapshot 20210111T110100Z is already in the lake"), "{}", fail.error());
    assert_eq!(sandbox.lake_listing(), before);

    let rows = sandbox.rows();
    sandbox.ingest_via(&emulator, &["--if-published", "replace"]).expect(0);
    let after = sandbox.lake_listing();
    assert_eq!(sandbox.rows(), rows);
    let files = |listing: &std::collections::BTreeMap<String, u64>| {
        listing.keys().filter(|name| name.ends_with(".parquet")).cloned().collect::<Vec<_>>()
    };
    assert!(files(&before).iter().all(|name| !after.contains_key(name)), "no file name comes back");
    assert_eq!(files(&before).len(), files(&after).len());
    assert!(sandbox.staged_runs().is_empty());
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn of_two_runs_one_publishes_the_other_skips() {
    let emulator = unlimited(tenant(200));
    let sandbox = Sandbox::new();
    let mut outcomes = Vec::new();
    let runs: Vec<_> = (0..3).map(|_| sandbox.spawn_ingest(&emulator, &["--json"])).collect();
    for run in runs {
        let run = Run::of(run.wait_with_output().unwrap()).expect(0);
        outcomes.push(run.report()["outcome"].as_str().unwrap().to_owned());
    }
    outcomes.sort();
    assert_eq!(outcomes, ["published", "skipped", "skipped"]);
    sandbox.run("verify", &[]).expect(0);
}

/// Ends a run at many moments, from its first steps to its last.
fn end_at_many_moments(signal: Signal, check: impl Fn(&Sandbox, Run)) {
    let sandbox = Sandbox::new();
    let yesterday = unlimited(tenant_later(150, -24));
    sandbox.ingest_via(&yesterday, &[]).expect(0);
    let first = unlimited(tenant(150));
    sandbox.ingest_via(&first, &[]).expect(0);
    let rows = sandbox.rows();
    for round in 0..24_u64 {
        let before = sandbox.lake_listing();
        let child = sandbox.spawn_ingest(&first, &["--if-published", "replace"]);
        std::thread::sleep(Duration::from_millis(round * round * 2));
        send(&child, signal);
        let run = Run::of(child.wait_with_output().unwrap());
        let published = run.code == 0;
        check(&sandbox, run);
        if !published && signal != Signal::KILL {
            assert_eq!(sandbox.lake_listing(), before, "round {round}: the lake is as it was");
        }
        // A reader sees a whole snapshot at any time, the old one or the new one.
        let data = sandbox.lake().join("software_inventory/snapshot_date=2021-01-11");
        let mut runs: Vec<String> = Vec::new();
        for partition in std::fs::read_dir(&data).unwrap() {
            let partition = partition.unwrap().path();
            for file in
                partition.is_dir().then(|| std::fs::read_dir(&partition).unwrap()).into_iter().flatten()
            {
                let name = file.unwrap().file_name().into_string().unwrap();
                runs.push(name.split('-').nth(2).unwrap().to_owned());
            }
        }
        runs.dedup();
        assert_eq!(runs.len(), 1, "round {round}: files of one run");
    }
    // The next run removes what was left.
    sandbox.ingest_via(&first, &[]).expect(0);
    assert!(sandbox.staged_runs().is_empty());
    assert_eq!(sandbox.rows(), rows);
    sandbox.run("verify", &[]).expect(0);
}

#[test]
fn killed_at_any_moment_leaves_a_whole_snapshot() {
    end_at_many_moments(Signal::KILL, |_, run| assert!([0, 137].contains(&run.code), "{}", run.stderr));
}

#[test]
fn interrupted_run_ends_in_order_with_130() {
    end_at_many_moments(Signal::INT, |sandbox, run| {
        assert!([0, 130].contains(&run.code), "{}", run.stderr);
        if run.code == 130 && !run.stderr.is_empty() {
            assert!(run.error().contains("interrupted"), "{}", run.stderr);
        }
        assert!(sandbox.staged_runs().is_empty());
    });
}

#[test]
fn lake_that_cannot_be_written_is_exit_6() {
    let emulator = unlimited(tenant(10));
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path().join("lake"), "a file").unwrap();
    let run = sandbox.ingest_via(&emulator, &[]);
    assert!([2, 6].contains(&run.code), "{}", run.stderr);
    assert!(run.error().contains("lake: not a folder"), "{}", run.error());
}
