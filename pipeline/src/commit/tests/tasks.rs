//! Snapshots that several tasks write and hand over, on a disk and in a store: attempts that fail, attempts that lose,
//! and attempts that go on when their run has ended.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::delta::parquet_file;
use super::{
    EVENING, NOON, data_file, list_tree, lock, manifest, open_table, portion, run_id, snapshot_id, temp_dir,
};
use crate::commit::{CommitError, Published, Recovered, StagedSnapshot, send};
use crate::lake::lease_times::LeaseTimes;
use crate::lake::local::faults;
use crate::lake::store::faulty::{Fault, Faulty};
use crate::lake::{LakeError, Table, local};
use crate::manifest::{DataFile, Manifest};
use crate::snapshot::TaskId;
use crate::staging::{Destination, Portion};

const RUN: &str = "bbbbbbbb";

pub(crate) fn task_id(text: &str) -> TaskId {
    serde_json::from_value(text.into()).unwrap()
}

/// Writes, as a task does, a file on each platform and rejects, which are the task's id.
pub(crate) fn write(
    table: &Table,
    id: &str,
    run: &str,
    task: &str,
    platforms: &[&str],
) -> Result<(Destination, Portion), CommitError> {
    let destination = Destination::create(table, snapshot_id(id), &run_id(run), Some(task_id(task)))?;
    let mut files = Vec::new();
    for platform in platforms {
        let folder = format!("OSPlatform={platform}");
        let mut file = destination.create_data_file(&folder, &destination.data_file_name(0))?;
        file.write_all(&parquet_file(task)).unwrap();
        files.push(data_file(file.finish()?, id, Some(platform), 1));
    }
    let mut rejects = destination.create_rejects()?;
    rejects.write_all(task.as_bytes()).unwrap();
    let portion = portion(&destination, &files, Some(rejects.finish()?));
    Ok((destination, portion))
}

/// Writes as a task does, and hands over.
pub(crate) fn write_and_send(
    table: &Table,
    id: &str,
    run: &str,
    task: &str,
    platforms: &[&str],
) -> Result<Portion, CommitError> {
    let (destination, mut portion) = write(table, id, run, task, platforms)?;
    send(table, &destination, &mut portion, &|_, _| (), &|| false)?;
    // It reaches the driver as text.
    Ok(serde_json::from_str(&serde_json::to_string(&portion).unwrap()).unwrap())
}

/// The manifest of these portions.
pub(crate) fn manifest_of(id: &str, run: &str, portions: &[Portion]) -> Manifest {
    let mut files: Vec<DataFile> =
        portions.iter().flat_map(|portion| &portion.files).map(|file| file.facts.clone()).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    manifest(id, run, files, portions.iter().filter(|portion| portion.rejects.is_some()).count() as u64)
}

/// Publishes what two tasks have written. Of the first, one attempt has failed and another has lost; neither counts.
fn publish(table: &Table) -> Result<Published, CommitError> {
    let lock = table.lock(|| (), &|| false)?;
    let staging = lock.stage(&run_id(RUN), snapshot_id(EVENING))?;
    drop(write(table, EVENING, RUN, "00000001", &["Linux"])?);
    write_and_send(table, EVENING, RUN, "00000002", &["Linux", "macOS"])?;
    let portions = [
        write_and_send(table, EVENING, RUN, "00000003", &["Linux", "Windows10"])?,
        write_and_send(table, EVENING, RUN, "00000004", &["Linux"])?,
    ];
    staging.publish(&manifest_of(EVENING, RUN, &portions), &portions, &|| false)
}

fn publish_noon(table: &Table) {
    super::publish(table, NOON, "aaaaaaaa", super::Content::Full).unwrap();
}

/// Checks that exactly the winners' files are published.
fn check_published(tree: &BTreeMap<String, Vec<u8>>) {
    let files: Vec<_> = tree.keys().filter(|name| name.ends_with(".parquet")).collect();
    let expected = [("Linux", 3), ("Linux", 4), ("Windows10", 3)].map(|(platform, task)| {
        format!(
            "software_inventory/snapshot_date=2021-01-11/OSPlatform={platform}/part-{EVENING}-{RUN}-0000000{task}-00000.parquet"
        )
    });
    assert_eq!(files, expected.iter().collect::<Vec<_>>());
    let rejects = &tree[&format!("_defender/software_inventory/snapshots/{EVENING}/rejects.ndjson.gz")];
    assert_eq!(rejects, b"0000000300000004", "rejects are in the order of tasks");
    assert!(tree.keys().all(|name| !name.contains("/staging/")), "{:?}", tree.keys());
}

fn files_of(root: &Path) -> BTreeMap<String, Vec<u8>> {
    list_tree(root).into_iter().filter_map(|(name, bytes)| Some((name, bytes?))).collect()
}

/// The objects of the lake, without the lock that a killed run leaves.
fn objects_of(store: &Faulty) -> BTreeMap<String, Vec<u8>> {
    let objects = store.list_tree().into_iter();
    objects
        .map(|(name, bytes)| (name.trim_start_matches("some/lake/").to_owned(), bytes))
        .filter(|(name, _)| !name.ends_with("/lock"))
        .collect()
}

fn table_in(store: &Faulty, work_dir: &Path) -> Table {
    let times =
        LeaseTimes { renew: Duration::from_hours(1), take_over: Duration::ZERO, ..LeaseTimes::IMPATIENT };
    store.lake(work_dir, times).table(schema::DATASETS[0])
}

#[test]
fn only_files_of_attempts_that_count_are_published() {
    let temp = temp_dir();
    publish(&open_table(temp.path())).unwrap();
    check_published(&files_of(temp.path()));
    let (store, work_dir) = (Faulty::new(), temp_dir());
    publish(&table_in(&store, work_dir.path())).unwrap();
    check_published(&objects_of(&store));
    assert_eq!(store.num_uploads(), 0);
    assert_eq!(local::list_files(work_dir.path()).unwrap().len(), 0);
}

#[test]
fn failure_of_a_task_or_the_driver_undoes_all_tasks() {
    for is_crash in [false, true] {
        let mut is_new = false;
        for step in 0.. {
            let temp = temp_dir();
            let table = open_table(temp.path());
            publish_noon(&table);
            let old = list_tree(temp.path());
            faults::set(faults::Fault::at(step, is_crash));
            let result = publish(&table);
            let num_changes = faults::clear();
            if !is_crash && result.is_err() {
                assert_eq!(list_tree(temp.path()), old, "failed at change {step}");
            }
            lock(&table).recover().unwrap();
            let found = list_tree(temp.path());
            if found == old {
                assert!(result.is_err() && !(is_new && is_crash), "change {step}: {result:?}");
            } else {
                is_new = true;
                check_published(&files_of(temp.path()));
            }
            if num_changes <= step {
                assert!(step > 40 && is_new);
                break;
            }
        }
    }
}

#[test]
fn fault_of_a_store_at_any_change_undoes_all_tasks() {
    for (after, for_good) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut is_new = false;
        for at in 0.. {
            let (store, temp) = (Faulty::new(), temp_dir());
            publish_noon(&table_in(&store, temp.path()));
            let old = objects_of(&store);
            store.set(Fault { at, after, for_good });
            let result = publish(&table_in(&store, temp.path()));
            let num_changes = store.clear();
            let what = format!("change {at}, after: {after}, for good: {for_good}: {result:?}");
            if result.is_err() && !for_good {
                assert_eq!(objects_of(&store), old, "undone at once: {what}");
            }
            let held = table_in(&store, temp.path()).lock(|| (), &|| false).unwrap();
            held.recover().unwrap();
            assert_eq!(held.recover().unwrap(), [], "recovery is complete");
            drop(held);
            let found = objects_of(&store);
            if found == old {
                assert!(result.is_err(), "{what}");
            } else {
                is_new = true;
                check_published(&found);
            }
            assert_eq!(store.num_named_uploads(), 0, "{what}");
            if num_changes <= at {
                assert!(at > 20 && is_new);
                break;
            }
        }
    }
}

#[test]
fn task_of_an_ended_run_changes_nothing_published() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    let zombies = {
        let lock = lock(&table);
        let staging = lock.stage(&run_id(RUN), snapshot_id(EVENING)).unwrap();
        let portions = [write_and_send(&table, EVENING, RUN, "00000003", &["Linux"]).unwrap()];
        let zombies =
            ["00000005", "00000006"].map(|task| write(&table, EVENING, RUN, task, &["Linux"]).unwrap());
        staging.publish(&manifest_of(EVENING, RUN, &portions), &portions, &|| false).unwrap();
        zombies
    };
    let published = list_tree(temp.path());
    for (destination, mut portion) in zombies {
        let name = destination.data_file_name(1);
        assert!(destination.create_data_file("OSPlatform=Linux", &name).is_err(), "its folder is gone");
        let _ = send(&table, &destination, &mut portion, &|_, _| (), &|| false);
        drop(destination);
        assert_eq!(list_tree(temp.path()), published);
    }
    assert!(write(&table, EVENING, RUN, "00000007", &["Linux"]).is_err(), "the run has ended");
    assert_eq!(list_tree(temp.path()), published);
    // What one leaves on a disk of other machines, where a removal and a write can cross.
    let left = table.staging_root().join(RUN).join("tasks/00000005/snapshot_date=2021-01-11");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("x.parquet"), "x").unwrap();
    assert_eq!(lock(&table).recover().unwrap(), [Recovered::Removed { run_id: RUN.to_owned() }]);
    drop(lock(&table));
    assert_eq!(list_tree(temp.path()), published);
}

#[test]
fn upload_of_a_late_task_is_aborted_by_the_next_run() {
    let (store, temp) = (Faulty::new(), temp_dir());
    let table = table_in(&store, temp.path());
    publish(&table).unwrap();
    let published = objects_of(&store);
    write_and_send(&table, EVENING, RUN, "00000005", &["Linux"]).unwrap();
    assert!(store.num_uploads() > 0);
    check_published(&{
        let mut visible = objects_of(&store);
        visible.retain(|name, _| !name.contains("/staging/"));
        visible
    });
    assert_eq!(crate::commit::unfinished_changes(&table).unwrap(), Vec::<String>::new());
    let held = table.lock(|| (), &|| false).unwrap();
    assert_eq!(held.recover().unwrap(), [Recovered::Removed { run_id: RUN.to_owned() }]);
    drop(held);
    assert_eq!((objects_of(&store), store.num_uploads()), (published, 0));
}

#[test]
fn dropped_snapshot_takes_its_tasks_with_it() {
    let (store, disk, work_dir) = (Faulty::new(), temp_dir(), temp_dir());
    for table in [open_table(disk.path()), table_in(&store, work_dir.path())] {
        let lock = table.lock(|| (), &|| false).unwrap();
        let staging = lock.stage(&run_id(RUN), snapshot_id(EVENING)).unwrap();
        write_and_send(&table, EVENING, RUN, "00000003", &["Linux"]).unwrap();
        drop((staging, lock));
    }
    assert_eq!((list_tree(disk.path()), objects_of(&store)), (BTreeMap::new(), BTreeMap::new()));
    assert_eq!(store.num_uploads(), 0);
}

#[test]
fn portions_that_are_not_what_was_written_are_refused() {
    let check = |expected: &str, change: &dyn Fn(&mut [Portion; 2])| {
        let (store, disk, work_dir) = (Faulty::new(), temp_dir(), temp_dir());
        for table in [open_table(disk.path()), table_in(&store, work_dir.path())] {
            let lock = table.lock(|| (), &|| false).unwrap();
            let staging: StagedSnapshot = lock.stage(&run_id(RUN), snapshot_id(EVENING)).unwrap();
            let mut portions = ["00000003", "00000004"]
                .map(|task| write_and_send(&table, EVENING, RUN, task, &["Linux"]).unwrap());
            change(&mut portions);
            let manifest = manifest_of(EVENING, RUN, &portions);
            let error = staging.publish(&manifest, &portions, &|| false).unwrap_err();
            let is_expected = match &error {
                CommitError::Inconsistent { reason, .. } => {
                    expected.split('|').any(|expected| reason.contains(expected))
                }
                CommitError::Lake(LakeError::UnsafeName { .. }) => expected == "unsafe",
                _ => false,
            };
            assert!(is_expected, "{expected}: {error}");
        }
        assert_eq!((list_tree(disk.path()), objects_of(&store)), (BTreeMap::new(), BTreeMap::new()));
        assert_eq!(store.num_uploads(), 0);
    };
    check("was written twice", &|portions| portions[1].files[0] = portions[0].files[0].clone());
    check("are not those that it wrote", &|portions| {
        portions[1].rejects.as_mut().unwrap().sha256 = "0".to_owned();
    });
    check("unsafe", &|portions| {
        portions[0].files[0].facts.path = "snapshot_date=2021-01-11/../x".to_owned();
    });
    check("unsafe", &|portions| portions[0].task_id = Some(task_id("../00000003")));
    // On a disk the file is looked at, in a store its upload.
    check("bytes, listed|not those of the files", &|portions| portions[0].files[0].facts.bytes += 1);
}
