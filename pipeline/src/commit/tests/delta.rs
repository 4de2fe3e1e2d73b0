//! Publishing into Delta tables on a local disk and in a store, with faults injected at every change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::{
    EVENING, NEXT_DAY, NOON, data_file, list_tree, lock, manifest, open_table, publish_staged, run_id,
    snapshot_id, temp_dir,
};
use crate::commit::delta_log::TableLog;
use crate::commit::{CommitError, Published, Recovered};
use crate::delta::LOG_FOLDER;
use crate::exit_code::Diagnostic;
use crate::lake::lease_times::LeaseTimes;
use crate::lake::local::faults::{self, Fault};
use crate::lake::store::Put;
use crate::lake::store::faulty::{self, Faulty};
use crate::lake::{self, Place, SUCCESS_FILE, Table, TableKind, local};

pub(crate) fn parquet_file(run: &str) -> Vec<u8> {
    let rows =
        RecordBatch::try_from_iter([("DeviceId", Arc::new(StringArray::from(vec![run])) as _)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

/// Publishes a file of one row on each of these platforms.
fn publish(
    table: &Table,
    kind: TableKind,
    id: &str,
    run: &str,
    platforms: &[&str],
) -> Result<Published, CommitError> {
    let mut lock = table.lock(|| (), &|| false)?;
    if kind == TableKind::Delta {
        lock = lock.to_be_delta();
    }
    let staging = lock.stage(&run_id(run), snapshot_id(id))?;
    let mut files = Vec::new();
    for platform in platforms {
        let name = format!("part-{id}-{run}-00000.parquet");
        let mut file = staging.destination().create_data_file(&format!("OSPlatform={platform}"), &name)?;
        file.write_all(&parquet_file(run)).unwrap();
        files.push(data_file(file.finish()?, id, Some(platform), 1));
    }
    publish_staged(&lock, staging, &manifest(id, run, files, 0))
}

/// Checks folders, manifests and the log against each other; returns the run of each snapshot. The log may lack
/// whole snapshots.
#[track_caller]
fn runs(table: &Table) -> BTreeMap<String, String> {
    let mut on_disk = BTreeSet::new();
    for name in table.list_names(&table.root()).unwrap().into_iter().filter(|name| name != LOG_FOLDER) {
        let files = table.list_files(&table.root().join(&name)).unwrap().into_keys();
        on_disk.extend(files.filter(|file| file != SUCCESS_FILE).map(|file| format!("{name}/{file}")));
    }
    let log = TableLog::open(table).unwrap();
    let mut live: BTreeSet<_> =
        log.iter().flat_map(|log| log.delta().live_files()).map(|file| file.path).collect();
    let mut runs = BTreeMap::new();
    for snapshot in table.snapshots().unwrap() {
        assert!(table.is_complete(&snapshot).unwrap());
        for file in &snapshot.manifest.files {
            assert!(on_disk.remove(&file.path), "{} is on disk", file.path);
            if log.as_ref().is_some_and(|log| log.delta().has_seen(snapshot.id)) {
                assert!(live.remove(&file.path), "{} is in the log", file.path);
            }
        }
        runs.insert(snapshot.id.to_string(), snapshot.manifest.run_id.to_string());
    }
    assert_eq!((on_disk, live), (BTreeSet::new(), BTreeSet::new()), "nothing else is anywhere");
    runs
}

/// A table before a publish, and what is published then.
struct Scene {
    before: &'static [(TableKind, &'static str)],
    platforms: &'static [&'static str],
}

impl Scene {
    const ALL: [Scene; 7] = {
        use TableKind::{Delta, Plain};
        const BOTH: &[&str] = &["Linux", "Windows10"];
        [
            Scene { before: &[], platforms: BOTH },
            Scene { before: &[], platforms: &[] },
            Scene { before: &[(Delta, NOON), (Delta, NEXT_DAY)], platforms: BOTH },
            Scene { before: &[(Delta, NOON)], platforms: &[] },
            Scene { before: &[(Delta, EVENING)], platforms: BOTH },
            Scene { before: &[(Plain, NOON), (Plain, NEXT_DAY)], platforms: BOTH },
            Scene { before: &[(Plain, EVENING)], platforms: BOTH },
        ]
    };

    fn set(&self, root: &Path) -> Table {
        let table = open_table(root);
        self.fill(&table);
        table
    }

    fn fill(&self, table: &Table) {
        for (kind, id) in self.before {
            publish(table, *kind, id, "aaaaaaaa", &["Linux", "macOS"]).unwrap();
        }
    }

    fn act(&self, table: &Table) -> Result<Published, CommitError> {
        publish(table, TableKind::Delta, EVENING, "bbbbbbbb", self.platforms)
    }
}

/// The tree without the log, parts of which are random.
fn list_tree_without_log(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut tree = list_tree(root);
    tree.retain(|name, _| !name.contains(LOG_FOLDER));
    tree
}

#[test]
fn delta_table_is_published_beside_what_is_there() {
    for scene in Scene::ALL {
        let temp = temp_dir();
        let table = scene.set(temp.path());
        let published = scene.act(&table).unwrap();
        assert!(published.left_over.is_none());
        assert_eq!(table.kind().unwrap(), TableKind::Delta);
        let runs = runs(&table);
        assert_eq!(runs[EVENING], "bbbbbbbb");
        assert!(!runs.contains_key(NOON), "a date holds one snapshot");
        let log = TableLog::open(&table).unwrap().unwrap();
        assert!(runs.keys().all(|id| log.delta().has_seen(snapshot_id(id))), "all were adopted");
        let folder = table.data_folder(snapshot_id(EVENING).date());
        let has_old = local::exists(&folder.join("OSPlatform=macOS")).unwrap();
        assert!(!has_old, "folders that are empty now are gone");
    }
}

#[test]
fn failure_at_any_change_leaves_the_lake_as_it_was() {
    for scene in Scene::ALL {
        let mut num_published = 0;
        for after in 0.. {
            let temp = temp_dir();
            let table = scene.set(&temp.path().join("lake"));
            let old = list_tree_without_log(temp.path());
            faults::set(Fault { once: after, ..Fault::NONE });
            let result = scene.act(&table);
            let num_changes = faults::clear();
            match result {
                Err(error) => {
                    assert_eq!(num_published, 0, "no error after success");
                    assert_eq!(list_tree_without_log(temp.path()), old, "failed at change {after}: {error}");
                }
                Ok(published) => {
                    num_published += 1;
                    if published.left_over.is_some() {
                        lock(&table).recover().unwrap();
                    }
                    assert_eq!(runs(&table)[EVENING], "bbbbbbbb");
                }
            }
            runs(&table);
            if num_changes <= after {
                break;
            }
        }
        assert!(num_published > 5, "the commit is not the last change");
    }
}

#[test]
fn crash_at_any_change_recovers_to_old_or_new() {
    for scene in Scene::ALL {
        let mut is_new = false;
        for after in 0.. {
            let temp = temp_dir();
            let table = scene.set(&temp.path().join("lake"));
            let old = runs(&table);
            faults::set(Fault { for_good: after, ..Fault::NONE });
            let result = scene.act(&table);
            let num_changes = faults::clear();
            // What readers of the log see is one whole snapshot, before the recovery too.
            let live_runs: BTreeSet<_> = TableLog::open(&table)
                .unwrap()
                .iter()
                .flat_map(|log| log.delta().live_files().collect::<Vec<_>>())
                .filter(|file| file.path.contains("2021-01-11"))
                .map(|file| {
                    assert!(table.root().join(&file.path).exists(), "{} is there", file.path);
                    file.path.contains("bbbbbbbb")
                })
                .collect();
            assert!(live_runs.len() <= 1, "of one snapshot");
            let lock = lock(&table);
            lock.recover().unwrap();
            assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
            drop(lock);
            let found = runs(&table);
            if found.get(EVENING).is_some_and(|run| run == "bbbbbbbb") {
                is_new = true;
            } else {
                assert!(!is_new && result.is_err(), "once published it stays");
                assert_eq!(found, old, "crash at change {after}");
            }
            let staged = local::list_names(&table.staging_root()).unwrap();
            assert!(staged.is_empty(), "{staged:?}");
            // The next run succeeds.
            scene
                .act(&table)
                .map(|_| ())
                .or_else(|error| match error {
                    CommitError::ConcurrentPublish { .. } => Ok(()),
                    error => Err(error),
                })
                .unwrap();
            let log = TableLog::open(&table).unwrap().unwrap();
            assert!(runs(&table).keys().all(|id| log.delta().has_seen(snapshot_id(id))));
            if num_changes <= after {
                break;
            }
        }
        assert!(is_new);
    }
}

#[test]
fn crash_of_a_recovery_is_recovered() {
    for scene in Scene::ALL {
        for first in (0..).step_by(3) {
            let mut num_changes = 0;
            for second in (0..).step_by(3) {
                let temp = temp_dir();
                let table = scene.set(&temp.path().join("lake"));
                let old = runs(&table);
                faults::set(Fault { for_good: first, ..Fault::NONE });
                let result = scene.act(&table);
                num_changes = faults::clear();
                faults::set(Fault { for_good: second, ..Fault::NONE });
                let held = table.lock(|| (), &|| false);
                let _ = held.map(|lock| lock.recover());
                let num_later = faults::clear();
                lock(&table).recover().unwrap();
                let found = runs(&table);
                let is_new = found.get(EVENING).is_some_and(|run| run == "bbbbbbbb");
                assert!(is_new || (result.is_err() && found == old), "{first} {second}");
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
fn removal_from_a_delta_table_is_all_or_nothing() {
    for is_crash in [false, true] {
        let mut is_removed = false;
        for step in 0.. {
            let temp = temp_dir();
            let table = open_table(&temp.path().join("lake"));
            for id in [NOON, NEXT_DAY, "20210113T120000Z"] {
                publish(&table, TableKind::Delta, id, "aaaaaaaa", &["Linux"]).unwrap();
            }
            let old = runs(&table);
            faults::set(Fault::at(step, is_crash));
            let result = table
                .lock(|| panic!("the lock is free"), &|| false)
                .map_err(CommitError::from)
                .and_then(|lock| {
                    lock.remove_snapshots(&run_id("bbbbbbbb"), &[snapshot_id(NOON), snapshot_id(NEXT_DAY)])
                });
            let num_changes = faults::clear();
            for file in TableLog::open(&table).unwrap().unwrap().delta().live_files() {
                assert!(table.root().join(&file.path).exists(), "{} is there at {step}", file.path);
            }
            let lock = lock(&table);
            lock.recover().unwrap();
            assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
            drop(lock);
            let found = runs(&table);
            if found.len() == 1 {
                is_removed = true;
            } else {
                assert!(!is_removed && result.is_err(), "once removed they stay away");
                assert_eq!(found, old, "{step}");
            }
            if num_changes <= step {
                assert!(step > 5 && is_removed);
                break;
            }
        }
    }
}

/// The table of a store as a new process sees it. Renewals of the lock would make the count of changes vary.
fn table_in(store: &Faulty, temp: &Path) -> Table {
    let times =
        LeaseTimes { renew: Duration::from_hours(1), take_over: Duration::ZERO, ..LeaseTimes::IMPATIENT };
    store.lake(temp, times).table(schema::DATASETS[0])
}

/// The objects without the log, and without the lock that a killed run leaves.
fn objects(store: &Faulty) -> BTreeMap<String, Vec<u8>> {
    let mut tree = store.list_tree();
    tree.retain(|name, _| !name.contains(LOG_FOLDER) && !name.ends_with("/lock"));
    tree
}

#[test]
fn fault_at_any_change_in_a_store_is_recovered() {
    for scene in Scene::ALL {
        for (after, for_good) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut is_new = false;
            for at in 0.. {
                let temp = temp_dir();
                let store = Faulty::new();
                scene.fill(&table_in(&store, temp.path()));
                let (old, old_objects) = (runs(&table_in(&store, temp.path())), objects(&store));
                store.set(faulty::Fault { at, after, for_good });
                let result = scene.act(&table_in(&store, temp.path()));
                let num_changes = store.clear();
                let what = format!("{at} of {num_changes}, after: {after}, for good: {for_good}: {result:?}");
                if result.is_err() && !for_good {
                    assert_eq!(objects(&store), old_objects, "undone at once: {what}");
                }
                let table = table_in(&store, temp.path());
                // Readers of the log find what it says, before the recovery too.
                let found = table.list_files(&table.root()).unwrap();
                if let Some(log) = TableLog::open(&table).unwrap() {
                    assert!(log.delta().live_files().all(|file| found.contains_key(&file.path)), "{what}");
                }
                let lock = table.lock(|| (), &|| false).unwrap();
                lock.recover().unwrap();
                assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
                drop(lock);
                let found = runs(&table);
                if found.get(EVENING).is_some_and(|run| run == "bbbbbbbb") {
                    is_new = true;
                } else {
                    assert!(result.is_err() && found == old, "{what}: {found:?}");
                }
                assert_eq!(table.list_names(&table.staging_root()).unwrap(), [""; 0], "{what}");
                if num_changes <= at {
                    break;
                }
            }
            assert!(is_new);
        }
    }
}

#[test]
fn removal_from_a_delta_store_is_all_or_nothing() {
    for (after, for_good) in [(false, false), (false, true), (true, false), (true, true)] {
        for at in 0.. {
            let temp = temp_dir();
            let store = Faulty::new();
            let table = table_in(&store, temp.path());
            for id in [NOON, NEXT_DAY] {
                publish(&table, TableKind::Delta, id, "aaaaaaaa", &["Linux"]).unwrap();
            }
            let old = runs(&table);
            store.set(faulty::Fault { at, after, for_good });
            let table = table_in(&store, temp.path());
            let result = table
                .lock(|| (), &|| false)
                .map_err(CommitError::from)
                .and_then(|lock| lock.remove_snapshots(&run_id("bbbbbbbb"), &[snapshot_id(NOON)]));
            let num_changes = store.clear();
            let table = table_in(&store, temp.path());
            table.lock(|| (), &|| false).unwrap().recover().unwrap();
            let found = runs(&table);
            assert!(found.len() == 1 || (result.is_err() && found == old), "{at}: {result:?}");
            if num_changes <= at {
                assert_eq!(found.len(), 1);
                break;
            }
        }
    }
}

#[test]
fn snapshots_without_their_data_are_not_adopted() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    for id in [NOON, NEXT_DAY] {
        publish(&table, TableKind::Plain, id, "aaaaaaaa", &["Linux"]).unwrap();
    }
    std::fs::remove_dir_all(table.data_folder(snapshot_id(NOON).date())).unwrap();
    let lock = lock(&table).to_be_delta();
    lock.adopt_snapshots(&run_id("dddddddd")).unwrap();
    let log = TableLog::open(&table).unwrap().unwrap();
    assert_eq!(log.delta().version(), Some(0));
    assert_eq!(log.delta().live_files().count(), 1);
    lock.adopt_snapshots(&run_id("dddddddd")).unwrap();
    assert_eq!(TableLog::open(&table).unwrap().unwrap().delta().version(), Some(0), "and once only");
    let folder = lake::data_folder_name(snapshot_id(NEXT_DAY).date());
    assert!(log.delta().live_files().all(|file| file.path.starts_with(&folder)));
}

/// Publishes plain snapshots of two dates; one file of the older one is not Parquet any more.
fn plain_with_unreadable_file(table: &Table, overwrite: impl Fn(&Path)) {
    for id in [NOON, NEXT_DAY] {
        publish(table, TableKind::Plain, id, "aaaaaaaa", &["Linux", "macOS"]).unwrap();
    }
    let file = table.snapshots().unwrap()[0].manifest.files[1].clone();
    overwrite(&table.root().join(file.path));
}

#[test]
fn unreadable_old_file_leaves_a_plain_table_plain() {
    let temp = temp_dir();
    let table = open_table(&temp.path().join("lake"));
    plain_with_unreadable_file(&table, |path| std::fs::write(path, vec![b'x'; 4096]).unwrap());
    let before = list_tree(temp.path());
    let check = |error: CommitError| {
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read the footer of snapshot_date=2021-01-11/OSPlatform=macOS/part-"),
            "{text}"
        );
        assert!(error.hint().unwrap().starts_with("run verify to see what is damaged"));
        assert!(list_tree(temp.path()) == before, "{:?}", list_tree(temp.path()).keys());
        assert_eq!(table.kind().unwrap(), TableKind::Plain);
    };
    check(publish(&table, TableKind::Delta, "20210113T120000Z", "bbbbbbbb", &["Linux"]).unwrap_err());
    let adopted = lock(&table).to_be_delta().adopt_snapshots(&run_id("dddddddd"));
    check(adopted.unwrap_err());

    // Replacing the damaged snapshot adds the others to the log.
    publish(&table, TableKind::Delta, EVENING, "cccccccc", &["Linux"]).unwrap();
    assert_eq!(runs(&table).len(), 2);
    let log = TableLog::open(&table).unwrap().unwrap();
    assert!([EVENING, NEXT_DAY].iter().all(|id| log.delta().has_seen(snapshot_id(id))));
    assert_eq!(log.delta().version(), Some(0), "all in one commit");
}

#[test]
fn unreadable_old_object_leaves_a_plain_table_plain() {
    let temp = temp_dir();
    let store = Faulty::new();
    let table = table_in(&store, temp.path());
    plain_with_unreadable_file(&table, |path| {
        let Place::Store(store) = table.place() else { panic!("a store") };
        store.delete(path).unwrap();
        store.put(path, vec![b'x'; 4096], Put::Create).unwrap();
    });
    let before = objects(&store);
    let error = publish(&table, TableKind::Delta, "20210113T120000Z", "bbbbbbbb", &["Linux"]).unwrap_err();
    assert!(error.to_string().contains("cannot read the footer of "), "{error}");
    assert_eq!(objects(&store), before);
    assert_eq!(table.kind().unwrap(), TableKind::Plain);
    publish(&table, TableKind::Delta, EVENING, "cccccccc", &["Linux"]).unwrap();
    assert_eq!(TableLog::open(&table).unwrap().unwrap().delta().version(), Some(0));
    assert_eq!(runs(&table).len(), 2);
}

#[test]
fn append_only_table_keeps_what_it_has() {
    let temp = temp_dir();
    let table = open_table(&temp.path().join("lake"));
    publish(&table, TableKind::Delta, NOON, "aaaaaaaa", &["Linux"]).unwrap();
    let first = table.root().join(LOG_FOLDER).join("00000000000000000000.json");
    let text = std::fs::read_to_string(&first).unwrap();
    let append_only = "\"configuration\":{\"delta.appendOnly\":\"true\"}";
    std::fs::write(&first, text.replace("\"configuration\":{}", append_only)).unwrap();
    let before = list_tree(temp.path());
    let expected = "the Delta table is append-only, and the files of 2021-01-11 would be removed";
    let check = |error: CommitError| {
        assert_eq!(error.to_string(), expected);
        assert!(list_tree(temp.path()) == before, "{:?}", list_tree(temp.path()).keys());
    };
    check(publish(&table, TableKind::Delta, EVENING, "bbbbbbbb", &["Linux"]).unwrap_err());
    let checked = lock(&table).check_publishable(snapshot_id(EVENING));
    check(checked.unwrap_err());
    let removed = lock(&table).remove_snapshots(&run_id("cccccccc"), &[snapshot_id(NOON)]);
    check(removed.unwrap_err());
    publish(&table, TableKind::Delta, NEXT_DAY, "dddddddd", &["Linux"]).unwrap();
    assert_eq!(runs(&table).len(), 2);
}

#[test]
fn foreign_journal_is_unrecoverable() {
    for path in ["../../x", "snapshot_date=2021-01-12/x", "/etc/x"] {
        let temp = temp_dir();
        let table = open_table(temp.path());
        let folder = table.staging_root().join("aaaaaaaa");
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = manifest(NOON, "aaaaaaaa", Vec::new(), 0);
        let journal = serde_json::json!({ "transaction": 1, "replaced": [path], "manifest": manifest });
        std::fs::write(folder.join("journal.json"), journal.to_string()).unwrap();
        let error = lock(&table).recover().unwrap_err();
        assert!(matches!(error, CommitError::Unrecoverable { .. }), "{error}");
        assert!(folder.exists());
    }
}

#[test]
fn append_journals_of_earlier_versions_are_recovered() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    publish(&table, TableKind::Delta, NOON, "aaaaaaaa", &["Linux"]).unwrap();
    let before = list_tree(temp.path());
    let folder = table.staging_root().join("bbbbbbbb");
    std::fs::create_dir_all(&folder).unwrap();
    let mut published = table.snapshots().unwrap().remove(0).manifest;
    let replaced = published.files[0].path.clone();
    published.run_id = run_id("bbbbbbbb");
    published.files[0].path = replaced.replace("aaaaaaaa", "bbbbbbbb");
    std::fs::write(table.root().join(&published.files[0].path), "moved and not committed").unwrap();
    let transaction = TableLog::open(&table).unwrap().unwrap().delta().next_transaction(snapshot_id(NOON));
    let journal =
        serde_json::json!({ "transaction": transaction, "replaced": [replaced], "manifest": published });
    std::fs::write(folder.join("journal.json"), journal.to_string()).unwrap();
    let expected = Recovered::Removed { run_id: "bbbbbbbb".to_owned() };
    assert_eq!(lock(&table).recover().unwrap(), [expected]);
    assert_eq!(list_tree(temp.path()), before);
}
