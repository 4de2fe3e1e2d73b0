//! Publishing in a store, with faults injected at every change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::journal::JOURNAL_FILE;
use super::*;
use crate::commit::tests::{
    Content, EVENING, NEXT_DAY, NOON, data_file, manifest, portion, publish_under, run_id, snapshot_id,
    temp_dir,
};
use crate::commit::{send, unfinished_changes};
use crate::exit_code::Diagnostic;
use crate::lake::SUCCESS_FILE;
use crate::lake::lease_times::LeaseTimes;
use crate::lake::store::Put;
use crate::lake::store::faulty::{Fault, Faulty, Ignored};

struct Scene {
    store: Faulty,
    temp: tempfile::TempDir,
}

impl Scene {
    fn new(before: &[(&str, &str, Content)]) -> Self {
        let scene = Self { store: Faulty::new(), temp: temp_dir() };
        for (id, run, content) in before {
            publish(&scene.table(), id, run, *content).unwrap();
        }
        scene
    }

    /// The table as a new process sees it. Renewals of the lock would make the count of changes vary.
    fn table(&self) -> Table {
        let times =
            LeaseTimes { renew: Duration::from_hours(1), take_over: Duration::ZERO, ..LeaseTimes::IMPATIENT };
        self.store.lake(self.temp.path(), times).table(schema::DATASETS[0])
    }

    fn lock(&self) -> TableLock {
        self.table().lock(|| (), &|| false).unwrap()
    }

    /// The objects without the lock, which a killed run leaves.
    fn list_tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut tree = self.store.list_tree();
        tree.retain(|name, _| !name.ends_with("/lock"));
        tree
    }

    fn check_whole(&self) {
        let table = self.table();
        for snapshot in table.snapshots().unwrap() {
            assert!(table.is_complete(&snapshot).unwrap(), "{}", snapshot.id);
            let folder = table.data_folder(snapshot.id.date());
            let found = table.list_files(&folder).unwrap();
            let listed =
                snapshot.manifest.files.iter().map(|file| (file.path.split_once('/').unwrap().1, file.bytes));
            let mut listed: BTreeMap<String, u64> =
                listed.map(|(name, bytes)| (name.to_owned(), bytes)).collect();
            listed.insert(SUCCESS_FILE.to_owned(), found[SUCCESS_FILE]);
            assert_eq!(found, listed);
        }
    }
}

/// Publishes, waiting for the lock of a killed run.
fn publish(table: &Table, id: &str, run: &str, content: Content) -> Result<Published, CommitError> {
    publish_under(&table.lock(|| (), &|| false)?, id, run, content)
}

type Before = &'static [(&'static str, &'static str, Content)];

/// What is there before, and what is published: nothing, the same, an older one, another date's, without files.
const SCENES: [(Before, Content); 6] = [
    (&[], Content::Full),
    (&[(EVENING, "aaaaaaaa", Content::Full)], Content::Full),
    (&[(NOON, "aaaaaaaa", Content::Full)], Content::Full),
    (&[(NEXT_DAY, "aaaaaaaa", Content::Full)], Content::Full),
    (&[(NOON, "aaaaaaaa", Content::Full)], Content::Empty),
    (&[(EVENING, "aaaaaaaa", Content::Empty)], Content::Full),
];

fn faults() -> impl Iterator<Item = (bool, bool)> {
    [false, true].into_iter().flat_map(|after| [(after, false), (after, true)])
}

#[test]
fn published_lake_is_laid_out_as_on_a_disk() {
    let scene = Scene::new(&[(NOON, "aaaaaaaa", Content::Full)]);
    let disk = temp_dir();
    let table = crate::commit::tests::open_table(disk.path());
    publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
    let on_disk = crate::commit::tests::list_tree(disk.path());
    let on_disk = on_disk.into_iter().filter_map(|(name, bytes)| Some((format!("some/lake/{name}"), bytes?)));
    assert_eq!(scene.store.list_tree(), on_disk.collect());
    assert_eq!(local::list_names(&scene.temp.path().join("staging")).unwrap(), Vec::<String>::new());
}

#[test]
fn fault_at_any_change_recovers_to_old_or_new() {
    for (before, content) in SCENES {
        let undisturbed = Scene::new(before);
        let old = undisturbed.list_tree();
        publish(&undisturbed.table(), EVENING, "bbbbbbbb", content).unwrap();
        let new = undisturbed.list_tree();
        undisturbed.check_whole();
        for (after, for_good) in faults() {
            let mut has_published = false;
            for at in 0.. {
                let scene = Scene::new(before);
                scene.store.set(Fault { at, after, for_good });
                let result = publish(&scene.table(), EVENING, "bbbbbbbb", content);
                let num_changes = scene.store.clear();
                let what =
                    format!("change {at} of {num_changes}, after: {after}, for good: {for_good}: {result:?}");
                if let (Err(_), false) = (&result, for_good) {
                    assert_eq!(scene.list_tree(), old, "undone at once: {what}");
                }
                let lock = scene.lock();
                lock.recover().unwrap();
                assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
                drop(lock);
                let found = scene.list_tree();
                assert!(found == old || found == new, "{what}: {:#?}", found.keys());
                assert!(result.is_err() || found == new, "{what}");
                has_published |= found == new;
                if num_changes <= at {
                    assert!(at > 5 && has_published);
                    break;
                }
            }
        }
    }
}

#[test]
fn fault_at_any_change_of_a_recovery_is_recovered() {
    for (before, content) in [SCENES[1], SCENES[2]] {
        let undisturbed = Scene::new(before);
        let old = undisturbed.list_tree();
        publish(&undisturbed.table(), EVENING, "bbbbbbbb", content).unwrap();
        let new = undisturbed.list_tree();
        for first in 0.. {
            let mut num_changes = 0;
            for second in 0.. {
                let scene = Scene::new(before);
                scene.store.set(Fault { at: first, after: first % 2 == 0, for_good: true });
                let result = publish(&scene.table(), EVENING, "bbbbbbbb", content);
                num_changes = scene.store.clear();
                scene.store.set(Fault { at: second, after: second % 2 == 0, for_good: true });
                let _ = scene.table().lock(|| (), &|| false).map(|lock| lock.recover());
                let num_later = scene.store.clear();
                scene.lock().recover().unwrap();
                let found = scene.list_tree();
                assert!(
                    found == new || (result.is_err() && found == old),
                    "{first} {second} {:#?}",
                    found.keys()
                );
                if num_later <= second {
                    break;
                }
            }
            if num_changes <= first {
                break;
            }
        }
    }
}

#[test]
fn fault_during_a_removal_removes_all_or_none() {
    let before = [(NOON, "aaaaaaaa", Content::Full), (NEXT_DAY, "bbbbbbbb", Content::Full)];
    for (after, for_good) in faults() {
        for at in 0.. {
            let scene = Scene::new(&before);
            let old = scene.list_tree();
            scene.store.set(Fault { at, after, for_good });
            let removed = scene.table().lock(|| (), &|| false).map(|lock| {
                lock.remove_snapshots(&run_id("cccccccc"), &[snapshot_id(NOON)])
                    .map_err(|error| error.to_string())
            });
            let num_changes = scene.store.clear();
            scene.lock().recover().unwrap();
            let found = scene.list_tree();
            let mut new = old.clone();
            new.retain(|name, _| !name.contains("2021-01-11") && !name.contains("20210111"));
            assert!(found == old || found == new, "{at} {removed:?} {:#?}", found.keys());
            assert!(!matches!(removed, Ok(Ok(_))) || found == new);
            scene.check_whole();
            if num_changes <= at {
                break;
            }
        }
    }
}

/// Stages a snapshot of one file, sent but not published.
fn sent(scene: &Scene, id: &str, run: &str) -> (crate::commit::StagedSnapshot, Manifest, Portion) {
    use std::io::Write;
    let staging = scene.lock().stage(&run_id(run), snapshot_id(id)).unwrap();
    let mut file = staging
        .destination()
        .create_data_file("OSPlatform=Linux", &format!("part-{id}-{run}-00000.parquet"))
        .unwrap();
    file.write_all(run.as_bytes()).unwrap();
    let file = data_file(file.finish().unwrap(), id, Some("Linux"), 7);
    let manifest = manifest(id, run, vec![file], 0);
    let mut portion = portion(staging.destination(), &manifest.files, None);
    send(&scene.table(), staging.destination(), &mut portion, &|_, _| (), &|| false).unwrap();
    (staging, manifest, portion)
}

#[test]
fn run_that_lost_the_lock_publishes_nothing() {
    let scene = Scene::new(&[]);
    let (slow, manifest, portion) = sent(&scene, NOON, "aaaaaaaa");
    // A second run takes over the lock, and cleans up.
    publish(&scene.table(), NOON, "bbbbbbbb", Content::Full).unwrap();
    let before = scene.list_tree();
    let error = slow.publish(&manifest, &[portion], &|| false).unwrap_err();
    assert!(matches!(error, CommitError::Lake(LakeError::LeaseLost { .. })), "{error}");
    assert_eq!(
        scene.list_tree(),
        before.into_iter().filter(|(name, _)| !name.contains("aaaaaaaa")).collect()
    );
    scene.check_whole();
}

#[test]
fn unpublished_upload_is_invisible_and_removed() {
    let scene = Scene::new(&[(NEXT_DAY, "aaaaaaaa", Content::Full)]);
    let before = scene.list_tree();
    let (staging, ..) = sent(&scene, NOON, "bbbbbbbb");
    let mut during = scene.list_tree();
    during.retain(|name, _| !name.ends_with("staging/bbbbbbbb/uploads.json"));
    assert_eq!(during, before);
    assert_eq!(unfinished_changes(&scene.table()).unwrap(), Vec::<String>::new());
    drop(staging);
    assert_eq!(scene.list_tree(), before);
}

#[test]
fn upload_can_be_cancelled() {
    let scene = Scene::new(&[]);
    let before = scene.list_tree();
    let (staging, manifest, mut portion) = sent(&scene, NOON, "aaaaaaaa");
    assert!(scene.list_tree() != before);
    drop(staging);
    assert_eq!(scene.list_tree(), before);
    let lock = scene.lock();
    let staging = lock.stage(&run_id("bbbbbbbb"), snapshot_id(NOON)).unwrap();
    let destination = staging.destination();
    let error = send(&scene.table(), destination, &mut portion, &|_, _| (), &|| true).unwrap_err();
    assert!(matches!(error, CommitError::Inconsistent { .. }), "it is another run's: {error}");
    let mut file = destination.create_data_file("OSPlatform=Linux", "part-0.parquet").unwrap();
    std::io::Write::write_all(&mut file, b"rows").unwrap();
    let files = [data_file(file.finish().unwrap(), NOON, Some("Linux"), 7)];
    portion = crate::commit::tests::portion(destination, &files, None);
    let error = send(&scene.table(), destination, &mut portion, &|_, _| (), &|| true).unwrap_err();
    assert!(matches!(error, CommitError::Lake(LakeError::Cancelled { .. })), "{error}");
    let error = staging.publish(&manifest, &[portion], &|| false).unwrap_err();
    assert!(matches!(error, CommitError::Inconsistent { .. }), "it is another run's: {error}");
    drop(lock);
    assert_eq!(scene.list_tree(), before);
}

#[test]
fn waiting_runs_take_turns_and_can_be_interrupted() {
    let scene = Scene::new(&[]);
    let table = || scene.store.lake(scene.temp.path(), LeaseTimes::IMPATIENT).table(schema::DATASETS[0]);
    let holders = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let lock = table().lock(|| (), &|| false).unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    lock.confirm().unwrap();
                    holders.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(scene.store.list_tree().is_empty(), "the lock goes");
    let held = table().lock(|| (), &|| false).unwrap();
    let asked = AtomicBool::new(false);
    let mut waited = false;
    let error = table().lock(|| waited = true, &|| asked.swap(true, Ordering::Relaxed)).unwrap_err();
    assert!(waited && matches!(error, LakeError::Cancelled { .. }), "{error}");
    held.confirm().unwrap();
}

#[test]
fn store_without_conditional_writes_is_refused() {
    for ignored in [Ignored::IfNoneMatch, Ignored::IfMatch] {
        let scene = Scene::new(&[(NOON, "aaaaaaaa", Content::Full)]);
        let before = scene.store.list_tree();
        scene.store.ignore(ignored);
        let error = scene.table().lock(|| (), &|| false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store does not support conditional writes: it accepted a second lock at \
             memory://bucket/some/lake/_defender/software_inventory/lock"
        );
        assert_eq!(error.exit_code(), crate::exit_code::ExitCode::Lake);
        assert!(error.hint().unwrap().contains("If-None-Match and If-Match"));
        assert_eq!(scene.store.list_tree(), before, "{ignored:?}");
    }
}

#[test]
fn foreign_journal_is_unrecoverable() {
    let scene = Scene::new(&[(NOON, "aaaaaaaa", Content::Full)]);
    let table = scene.table();
    let crate::lake::Place::Store(store) = table.place() else { unreachable!() };
    let before = scene.list_tree();
    let path = table.staging_root().join("bbbbbbbb").join(JOURNAL_FILE);
    let undecided = r#"{"state":"decided","manifest_path":null,"uploads":[],"plan":null}"#;
    let outside = r#"{"state":"undone","manifest_path":"../x","uploads":[],"plan":null}"#;
    for text in ["{", undecided, outside] {
        store.delete(&path).unwrap();
        store.put(&path, text.into(), Put::Create).unwrap();
        assert_eq!(unfinished_changes(&table).unwrap(), ["bbbbbbbb"]);
        let error = scene.lock().recover().unwrap_err();
        assert!(matches!(error, CommitError::Unrecoverable { .. }), "{error}");
    }
    store.delete(&path).unwrap();
    assert_eq!(scene.list_tree(), before);
}
