//! Lakes with snapshots of an older schema version: the program and the readers take old and new ones together. The old
//! lakes are in `fixtures/lakes`, as the program wrote them then.

use std::path::{Path, PathBuf};

use crate::support::Sandbox;

/// Dates of the old snapshots.
const OLD_DATES: [&str; 2] = ["2021-01-11", "2021-01-12"];

/// Rows of each of them.
const OLD_ROWS: u64 = 371;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/lakes").join(name)
}

/// A lake of schema version 1, `plain` or `delta`, to change as one likes.
fn old_lake(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    copy(&fixture(&format!("version-1-{kind}")), &sandbox.lake());
    sandbox
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn lakes_of_schema_version_1_are_whole() {
    for kind in ["plain", "delta"] {
        let sandbox = old_lake(kind);
        let before = sandbox.lake_listing();
        let verified = sandbox.run("verify", &["--keys"]).expect(0);
        assert_eq!(
            verified.stdout.matches("371 rows in 4 files, 0 duplicate keys").count(),
            2,
            "{verified:?}"
        );
        for (manifest, date) in sandbox.manifests().iter().zip(OLD_DATES) {
            assert_eq!(manifest["schema_version"], 1);
            assert_eq!(manifest["generated_time"], format!("{date}T11:01:00Z"));
            assert_eq!(manifest["totals"]["rows"], OLD_ROWS);
        }
        assert_eq!(sandbox.lake_listing(), before, "what only reads changes nothing");
    }
}
