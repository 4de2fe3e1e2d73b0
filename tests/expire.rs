//! Upkeep: what `expire` removes, what it leaves, and what `snapshots` says of the lake.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Sandbox, tenant_later, unlimited};

/// A lake with a snapshot on each of these days after 2021-01-11.
fn lake(days: &[i64]) -> Sandbox {
    let sandbox = Sandbox::new();
    for day in days {
        sandbox.ingest_via(&unlimited(tenant_later(20, day * 24)), &[]).expect(0);
    }
    sandbox
}

fn dates(sandbox: &Sandbox) -> Vec<String> {
    let generated =
        |manifest: &serde_json::Value| manifest["generated_time"].as_str().unwrap()[..10].to_owned();
    sandbox.manifests().iter().map(generated).collect()
}

#[test]
fn old_snapshots_go_and_the_others_are_as_they_were() {
    let sandbox = lake(&[-31, -11, -10, -1, 0]);
    let before = sandbox.lake_listing();
    let keep = ["--keep-days", "2", "--keep-monthly"];

    let planned = sandbox.run("expire", &[&keep[..], &["--dry-run"]].concat()).expect(0);
    assert!(planned.stdout.contains("Would remove 2 snapshots, "), "{}", planned.stdout);
    assert!(planned.stdout.contains("2020-12-11") && planned.stdout.contains("2021-01-01"));
    let unasked = sandbox.run("expire", &keep).expect(2);
    assert!(unasked.error().contains("expire would permanently remove 2 snapshots, "), "{}", unasked.error());
    assert!(unasked.error().contains("hint: check with --dry-run, then pass --yes"), "{}", unasked.error());
    assert_eq!(sandbox.lake_listing(), before);

    let removed = sandbox.run("expire", &[&keep[..], &["--yes", "--json"]].concat()).expect(0).report();
    assert_eq!(removed["outcome"], "removed");
    assert_eq!(removed["removed"], json!(["20201211T110100Z", "20210101T110100Z"]));
    assert_eq!(dates(&sandbox), ["2020-12-31", "2021-01-10", "2021-01-11"]);
    let after = sandbox.lake_listing();
    assert!(after.iter().all(|(name, hash)| before.get(name) == Some(hash)));
    assert!(!after.keys().any(|name| name.contains("2020-12-11") || name.contains("20210101")));
    assert!(sandbox.staged_runs().is_empty());
    sandbox.run("verify", &[]).expect(0);

    let again = sandbox.run("expire", &[&keep[..], &["--yes"]].concat()).expect(0);
    assert_eq!(again.stdout, "Nothing to remove; 3 snapshots kept.\n");
}

#[test]
fn more_than_half_goes_only_if_that_is_said() {
    let sandbox = lake(&[-2, -1, 0]);
    let before = sandbox.lake_listing();
    let keep = ["--keep-days", "1"];
    for args in [&["--yes"][..], &[], &["--yes", "--json", "-q"]] {
        let refused = sandbox.run("expire", &[&keep[..], args].concat()).expect(2);
        let said = "3 snapshots of software_inventory; days count back from the newest, 2021-01-11; hint: check with \
                    --dry-run, then pass --yes-remove-most";
        assert!(
            refused.error().starts_with("error: expire would permanently remove 2 snapshots, "),
            "{}",
            refused.error()
        );
        assert!(refused.error().ends_with(said), "{}", refused.error());
        assert_eq!(sandbox.lake_listing(), before);
    }
    let planned = sandbox.run("expire", &[&keep[..], &["--dry-run"]].concat()).expect(0);
    assert!(
        planned.stdout.ends_with("This is more than half: pass --yes-remove-most.\n"),
        "{}",
        planned.stdout
    );
    sandbox.run("expire", &["--keep-days", "2", "--yes"]).expect(0);
    sandbox.run("expire", &["--keep-days", "1", "--yes"]).expect(0);
    assert_eq!(dates(&sandbox), ["2021-01-11"]);
    let sandbox = lake(&[-2, -1, 0]);
    sandbox.run("expire", &[&keep[..], &["--yes", "--yes-remove-most"]].concat()).expect(0);
    assert_eq!(dates(&sandbox), ["2021-01-11"]);
}

#[test]
fn rules_are_asked_for() {
    let sandbox = Sandbox::new();
    for args in [&[][..], &["--yes"], &["--keep-days", "0", "--yes"], &["--keep-days", "-1"]] {
        let run = sandbox.run("expire", args).expect(2);
        assert!(run.stderr.contains("--keep-days"), "{}", run.stderr);
    }
    let empty = sandbox.run("expire", &["--keep-days", "1", "--yes"]).expect(0);
    assert_eq!(empty.stdout, "Nothing to remove; 0 snapshots kept.\n");
    assert!(sandbox.lake_listing().is_empty());
}

#[test]
fn files_of_others_are_never_removed() {
    let sandbox = lake(&[-1, 0]);
    let theirs = sandbox.lake().join("software_inventory/snapshot_date=2021-01-10/notes.txt");
    std::fs::write(&theirs, "theirs").unwrap();
    let before = sandbox.lake_listing();
    let run = sandbox.run("expire", &["--keep-days", "1", "--yes"]).expect(6);
    assert!(run.error().contains("notes.txt\", which no manifest of this lake lists"), "{}", run.error());
    assert_eq!(sandbox.lake_listing(), before);
}

#[test]
fn expire_killed_at_any_moment_removes_all_or_none() {
    for round in 0..10_u64 {
        let sandbox = lake(&[-2, -1, 0]);
        let child =
            sandbox.command("expire").args(["--keep-days", "1", "--yes-remove-most"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 2));
        // The process may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        let killed = child.wait_with_output().unwrap();
        sandbox.ingest_via(&unlimited(tenant_later(20, 0)), &[]).expect(0);
        let left = dates(&sandbox).len();
        assert!(left == 1 || (left == 3 && !killed.status.success()), "round {round}: {left}");
        assert!(sandbox.staged_runs().is_empty());
        sandbox.run("verify", &[]).expect(0);
    }
}

#[test]
fn snapshots_says_how_much_and_how_old() {
    let sandbox = lake(&[-3, 0]);
    let listed = sandbox.run("snapshots", &[]).expect(0).stdout;
    assert!(listed.lines().next().unwrap().contains(" age "), "{listed}");
    let summary = listed.lines().last().unwrap();
    assert!(summary.starts_with("2 snapshots, "), "{summary}");
    assert!(summary.contains("; 2 days missing in between; the newest was generated "), "{summary}");
    assert!(summary.ends_with(" days ago"), "{summary}");
}
