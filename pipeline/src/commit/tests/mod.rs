//! Publishing on a local disk, with faults injected at every change of the file system.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::file::metadata::ParquetMetaDataReader;

use super::*;
use crate::delta::FileStatistics;
use crate::exit_code::Diagnostic;
use crate::lake::local::faults::{self, Fault};
use crate::lake::{Lake, LakeError, local};
use crate::manifest::{DataFile, GeneratedTimeFrom, Manifest, PartFacts, Route, Totals, to_json};
use crate::staging::{FinishedFile, HashingFile, Portion, StagedFile, WrittenFile};

pub(crate) mod delta;
mod ignored_files;
pub(crate) mod tasks;

pub(crate) const NOON: &str = "20210111T120000Z";
pub(crate) const EVENING: &str = "20210111T180000Z";
pub(crate) const NEXT_DAY: &str = "20210112T120000Z";

pub(crate) fn open_table(root: &Path) -> Table {
    Lake::open(root).unwrap().table(schema::DATASETS[0])
}

pub(crate) fn lock(table: &Table) -> TableLock {
    table.lock(|| panic!("the lock is free"), &|| false).unwrap()
}

pub(crate) fn run_id(text: &str) -> RunId {
    serde_json::from_value(text.into()).unwrap()
}

pub(crate) fn snapshot_id(text: &str) -> SnapshotId {
    SnapshotId::parse(text).unwrap()
}

/// A temporary folder, in memory if possible: these tests sync thousands of times.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A balanced manifest of one part for these files.
pub(crate) fn manifest(id: &str, run: &str, files: Vec<DataFile>, field_rejects: u64) -> Manifest {
    let time = snapshot_id(id).generated_time();
    let rows = files.iter().map(|file| file.rows).sum();
    let parts =
        vec![PartFacts { name: "part-0".to_owned(), records: rows, field_rejects, ..PartFacts::default() }];
    Manifest {
        tool_version: "0.0.0".to_owned(),
        schema_version: schema::DATASETS[0].version,
        dataset: schema::DATASETS[0].name.to_owned(),
        route: Route::Local,
        generated_time: time,
        generated_time_from: GeneratedTimeFrom::Option,
        run_id: run_id(run),
        started_at: time,
        finished_at: time,
        totals: Totals::sum(&parts, &files),
        parts,
        files,
        undocumented_fields: BTreeMap::new(),
    }
}

pub(crate) fn data_file(finished: FinishedFile, id: &str, platform: Option<&str>, rows: u64) -> DataFile {
    DataFile {
        path: finished.path,
        snapshot_date: snapshot_id(id).date(),
        os_platform: platform.map(str::to_owned),
        rows,
        bytes: finished.bytes,
        row_groups: 1,
        sha256: finished.sha256,
    }
}

/// What a run or a task has written into `destination`: these files, with the statistics of those that are Parquet.
pub(crate) fn portion(
    destination: &Destination,
    files: &[DataFile],
    rejects: Option<FinishedFile>,
) -> Portion {
    let files = files.iter().map(|facts| {
        let footer = local::open_file(&destination.folder().join(&facts.path))
            .ok()
            .and_then(|file| ParquetMetaDataReader::new().parse_and_finish(&file).ok());
        let of = |footer| FileStatistics::of(schema::DATASETS[0], &footer);
        WrittenFile { facts: facts.clone(), statistics: footer.map_or_else(FileStatistics::empty, of) }
    });
    Portion { task_id: destination.task_id().cloned(), files: files.collect(), rejects, ..Portion::default() }
}

/// Publishes what a run without tasks has staged.
pub(crate) fn publish_staged(
    lock: &TableLock,
    staging: StagedSnapshot,
    manifest: &Manifest,
) -> Result<Published, CommitError> {
    let mut portion = portion(staging.destination(), &manifest.files, None);
    send(lock.table(), staging.destination(), &mut portion, &|_, _| (), &|| false)?;
    staging.publish(manifest, &[portion], &|| false)
}

/// What a run stages: nothing, or two data files in two partitions and a file of rejects.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Content {
    Full,
    Empty,
}

pub(crate) fn publish(
    table: &Table,
    id: &str,
    run: &str,
    content: Content,
) -> Result<Published, CommitError> {
    publish_under(&table.lock(|| panic!("the lock is free"), &|| false)?, id, run, content)
}

pub(crate) fn publish_under(
    lock: &TableLock,
    id: &str,
    run: &str,
    content: Content,
) -> Result<Published, CommitError> {
    let staging = lock.stage(&run_id(run), snapshot_id(id))?;
    let mut files = Vec::new();
    if content == Content::Full {
        for platform in ["Linux", "Windows10"] {
            let name = format!("part-{id}-{run}-00000.parquet");
            let mut file =
                staging.destination().create_data_file(&format!("OSPlatform={platform}"), &name)?;
            file.write_all(format!("rows of {run}").as_bytes()).unwrap();
            files.push(data_file(file.finish()?, id, Some(platform), 7));
        }
        let mut rejects = staging.destination().create_rejects()?;
        rejects.write_all(run.as_bytes()).unwrap();
        rejects.finish()?;
    }
    publish_staged(lock, staging, &manifest(id, run, files, u64::from(content == Content::Full)))
}

/// Every folder and file below `root` with its content.
pub(crate) fn list_tree(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let content = (!path.is_dir()).then(|| std::fs::read(&path).unwrap());
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), content);
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

/// Names alone, for readable failures.
fn names(root: &Path) -> Vec<String> {
    list_tree(root).into_keys().collect()
}

#[test]
fn published_lake_is_laid_out_as_promised() {
    let temp = temp_dir();
    let root = temp.path().join("new/lake");
    let table = open_table(&root);
    let published = publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
    assert!(published.left_over.is_none());
    assert!(published.replaced.is_empty());
    let expected = [
        "_defender",
        "_defender/software_inventory",
        "_defender/software_inventory/snapshots",
        "_defender/software_inventory/snapshots/20210111T120000Z",
        "_defender/software_inventory/snapshots/20210111T120000Z/manifest.json",
        "_defender/software_inventory/snapshots/20210111T120000Z/rejects.ndjson.gz",
        "software_inventory",
        "software_inventory/snapshot_date=2021-01-11",
        "software_inventory/snapshot_date=2021-01-11/OSPlatform=Linux",
        "software_inventory/snapshot_date=2021-01-11/OSPlatform=Linux/part-20210111T120000Z-aaaaaaaa-00000.parquet",
        "software_inventory/snapshot_date=2021-01-11/OSPlatform=Windows10",
        "software_inventory/snapshot_date=2021-01-11/OSPlatform=Windows10/part-20210111T120000Z-aaaaaaaa-00000.parquet",
        "software_inventory/snapshot_date=2021-01-11/_SUCCESS",
    ];
    assert_eq!(names(&root), expected);
    let snapshot = table.published_on(snapshot_id(NOON).date()).unwrap().unwrap();
    assert_eq!(snapshot.manifest_path, published.manifest_path);
    assert!(table.is_complete(&snapshot).unwrap());
    let success = table.read_success(snapshot.id.date()).unwrap().unwrap().unwrap();
    assert_eq!(success.rows, 14);
    assert!(root.join(success.manifest).is_file());
    // SHA-256 of "rows of aaaaaaaa".
    let file = &snapshot.manifest.files[0];
    let bytes = std::fs::read(table.root().join(&file.path)).unwrap();
    assert_eq!((file.bytes, file.sha256.clone()), (16, crate::digest::sha256_hex(bytes)));
}

#[test]
fn snapshot_replaces_only_snapshots_of_its_date() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    let ids = || table.snapshots().unwrap().iter().map(|s| s.id.to_string()).collect::<Vec<_>>();
    assert!(ids().is_empty());
    publish(&table, NEXT_DAY, "aaaaaaaa", Content::Full).unwrap();
    publish(&table, NOON, "bbbbbbbb", Content::Full).unwrap();
    assert_eq!(ids(), [NOON, NEXT_DAY]);

    let published = publish(&table, EVENING, "cccccccc", Content::Full).unwrap();
    assert_eq!(published.replaced, [snapshot_id(NOON)]);
    assert_eq!(ids(), [EVENING, NEXT_DAY]);

    let published = publish(&table, EVENING, "dddddddd", Content::Full).unwrap();
    assert_eq!(published.replaced, [snapshot_id(EVENING)]);
    assert_eq!(table.snapshots().unwrap()[0].manifest.run_id.as_str(), "dddddddd");
    let text = names(temp.path()).join("\n");
    assert!(!text.contains("bbbbbbbb") && !text.contains("cccccccc"), "{text}");

    let before = list_tree(temp.path());
    let error = publish(&table, NOON, "eeeeeeee", Content::Full).unwrap_err();
    assert!(matches!(error, CommitError::Superseded { .. }));
    assert_eq!(
        error.to_string(),
        "snapshot 20210111T120000Z is older than 20210111T180000Z, which is published on the same date"
    );
    assert_eq!(list_tree(temp.path()), before);
}

#[test]
fn foreign_files_are_left_alone() {
    for (file, replaces) in
        [("theirs.parquet", false), ("_SUCCESS", false), (".x.parquet", false), ("theirs.parquet", true)]
    {
        let temp = temp_dir();
        let table = open_table(temp.path());
        if replaces {
            publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
        }
        let folder = table.data_folder(snapshot_id(NOON).date());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), "theirs").unwrap();
        let before = list_tree(temp.path());
        let error = publish(&table, EVENING, "bbbbbbbb", Content::Full).unwrap_err();
        assert!(matches!(&error, CommitError::ForeignFile { name, .. } if name == file), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(list_tree(temp.path()), before);
    }
}

#[test]
fn manifest_that_differs_from_staged_files_is_refused() {
    let temp = temp_dir();
    let root = temp.path().join("lake");
    let table = open_table(&root);
    let attempt = |change: &dyn Fn(&StagedSnapshot, &mut Manifest)| {
        let lock = lock(&table);
        let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
        let mut file = staging.destination().create_data_file("OSPlatform=Linux", "part-0.parquet").unwrap();
        file.write_all(b"rows").unwrap();
        let files = vec![data_file(file.finish().unwrap(), NOON, Some("Linux"), 7)];
        let mut manifest = manifest(NOON, "aaaaaaaa", files, 0);
        let written = portion(staging.destination(), &manifest.files, None);
        change(&staging, &mut manifest);
        let error = staging.publish(&manifest, &[written], &|| false).unwrap_err();
        assert!(matches!(error, CommitError::Inconsistent { .. }));
        error.to_string()
    };
    let check = |expected: &str, change: &dyn Fn(&StagedSnapshot, &mut Manifest)| {
        let error = attempt(change);
        assert!(error.contains(expected), "{error}");
    };
    check("is staged and not listed", &|staging, _| {
        drop(staging.destination().create_data_file("OSPlatform=Linux", "part-1.parquet").unwrap());
    });
    check("is listed and was not written", &|_, manifest| {
        manifest.files[0].path.push('x');
    });
    check("was written and is not listed", &|_, manifest| {
        let files = vec![];
        *manifest = tests::manifest(NOON, "aaaaaaaa", files, 0);
    });
    check("was written with 4 bytes, and 5 are listed", &|_, manifest| {
        manifest.files[0].bytes += 1;
        manifest.totals.bytes += 1;
    });
    let change_staged = |staging: &StagedSnapshot, change: &dyn Fn(&Path)| {
        change(&staging.destination().data_folder().join("OSPlatform=Linux/part-0.parquet"));
    };
    check("is listed and not staged", &|staging, _| {
        change_staged(staging, &|path| std::fs::remove_file(path).unwrap());
    });
    check("has 5 bytes, listed 4", &|staging, _| {
        change_staged(staging, &|path| std::fs::write(path, "rows.").unwrap());
    });
    check("8 records read, but 7 rows", &|_, manifest| {
        manifest.parts[0].records += 1;
        manifest.totals.records += 1;
    });
    check("run bbbbbbbb", &|_, manifest| manifest.run_id = run_id("bbbbbbbb"));
    check("rejects is staged", &|staging, _| {
        staging.destination().create_rejects().unwrap().finish().unwrap();
    });
    check("counts rejects", &|_, manifest| {
        manifest.parts[0].field_rejects = 1;
        manifest.totals.field_rejects = 1;
    });
    assert!(!root.exists(), "a failed run leaves no lake behind");
}

#[test]
fn threads_write_files_of_one_snapshot() {
    let temp = temp_dir();
    let lock = lock(&open_table(temp.path()));
    let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let staging = &staging;
            scope.spawn(move || {
                for number in 0..20 {
                    let name = format!("part-{thread}-{number}.parquet");
                    let mut file = staging.destination().create_data_file("OSPlatform=Linux", &name).unwrap();
                    file.write_all(b"rows").unwrap();
                    assert_eq!(file.finish().unwrap().bytes, 4);
                }
            });
        }
    });
    assert_eq!(local::list_files(staging.destination().data_folder()).unwrap().len(), 80);
}

#[test]
fn names_cannot_leave_staging() {
    let temp = temp_dir();
    let lock = lock(&open_table(temp.path()));
    let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
    for (folder, name) in [("..", "x"), ("a/../..", "x"), ("/etc", "x"), ("a", "../x"), ("a", ""), ("", "/x")]
    {
        let error = staging.destination().create_data_file(folder, name).unwrap_err();
        assert!(matches!(error, LakeError::UnsafeName { .. }), "{folder} {name}");
    }
    assert!(lock.stage(&run_id("../../x"), snapshot_id(NOON)).is_err());
    staging.destination().create_data_file("a", "x").unwrap();
    assert!(staging.destination().create_data_file("a", "x").is_err(), "a file name never comes back");
}

#[test]
fn full_disk_names_the_path_and_says_what_to_do() {
    let temp = temp_dir();
    let root = temp.path().join("lake");
    let lock = lock(&open_table(&root));
    let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let path = staging.destination().data_folder().join("full");
    let hashing = HashingFile::new(full, path.clone());
    let mut file =
        StagedFile { table_path: "full".to_owned(), writer: BufWriter::with_capacity(16, hashing) };
    let error = file.write_all(&[0; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    file.write_all(&[0; 8]).unwrap();
    let error = file.finish().unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("free space or choose another --lake"));
    drop((staging, lock));
    assert!(!root.exists());
}

/// A lake before and after one publish, for the tests that inject faults.
struct Scene {
    /// What is published before, and what replaces it.
    before: Option<(&'static str, Content)>,
    after: Content,
    no_exchange: bool,
}

impl Scene {
    const ALL: [Scene; 10] = {
        const fn scene(before: Option<(&'static str, Content)>, after: Content, no_exchange: bool) -> Scene {
            Scene { before, after, no_exchange }
        }
        [
            scene(None, Content::Full, false),
            scene(Some((NOON, Content::Full)), Content::Full, false),
            scene(Some((EVENING, Content::Full)), Content::Full, false),
            scene(Some((NEXT_DAY, Content::Full)), Content::Full, false),
            scene(Some((NOON, Content::Full)), Content::Full, true),
            scene(Some((EVENING, Content::Full)), Content::Full, true),
            scene(None, Content::Empty, false),
            scene(Some((EVENING, Content::Empty)), Content::Empty, false),
            scene(Some((NOON, Content::Full)), Content::Empty, true),
            scene(Some((EVENING, Content::Empty)), Content::Full, false),
        ]
    };

    fn set(&self, root: &Path) -> Table {
        faults::set_no_exchange(self.no_exchange);
        let table = open_table(root);
        if let Some((id, content)) = self.before {
            publish(&table, id, "aaaaaaaa", content).unwrap();
        }
        table
    }

    fn act(&self, table: &Table) -> Result<Published, CommitError> {
        publish(table, EVENING, "bbbbbbbb", self.after)
    }

    /// Injects a fault at each change of the publish in turn, until `disturb` breaks. It is given the tree before and
    /// after a publish without faults, and the number of the change.
    fn each(
        &self,
        mut disturb: impl FnMut(&Path, &Table, &[BTreeMap<String, Option<Vec<u8>>>; 2], u32) -> ControlFlow<()>,
    ) {
        let temp = temp_dir();
        let root = temp.path().join("lake");
        let table = self.set(&root);
        let old = list_tree(&root);
        self.act(&table).unwrap();
        let trees = [old, list_tree(&root)];
        for after in 0.. {
            let temp = temp_dir();
            let root = temp.path().join("lake");
            let table = self.set(&root);
            if disturb(&root, &table, &trees, after).is_break() {
                assert!(after > 5, "a publish has more changes than that");
                return;
            }
        }
    }
}

#[test]
fn failure_at_any_change_leaves_the_lake_as_it_was() {
    for scene in Scene::ALL {
        let mut num_published = 0;
        scene.each(|root, table, [old, new], after| {
            faults::set(Fault { once: after, ..Fault::NONE });
            let result = scene.act(table);
            let num_changes = faults::clear();
            match result {
                Err(error) => {
                    assert_eq!(num_published, 0, "no error after success");
                    assert!(error.hint().is_some(), "{error}");
                    assert_eq!(&list_tree(root), old, "failed at change {after}");
                    assert_eq!(root.exists(), scene.before.is_some());
                }
                Ok(published) => {
                    num_published += 1;
                    if published.left_over.is_some() {
                        lock(table).recover().unwrap();
                    }
                    // A fault while the lock is dropped leaves an empty folder or the lock file.
                    drop(lock(table));
                    assert_eq!(&list_tree(root), new, "change {after} failed after publishing");
                }
            }
            if num_changes <= after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

#[test]
fn crash_at_any_change_recovers_to_old_or_new() {
    for scene in Scene::ALL {
        let mut is_new = false;
        scene.each(|root, table, [old, new], after| {
            faults::set(Fault { for_good: after, ..Fault::NONE });
            let result = scene.act(table);
            let num_changes = faults::clear();
            let lock = lock(table);
            lock.recover().unwrap();
            assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
            drop(lock);
            let found = list_tree(root);
            if &found == new {
                is_new = true;
            } else {
                assert!(!is_new, "once published it stays");
                // A crash leaves the lake's folder that the first run made.
                assert_eq!(&found, old, "crash at change {after}");
            }
            if result.is_ok() {
                assert!(is_new);
            }
            if num_changes <= after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(is_new);
    }
}

/// As above, with a second fault: rolling back a failed publish fails, or the recovery from a crash crashes. Every
/// third change keeps the test short; the others are like their neighbours.
#[test]
fn crash_of_a_rollback_or_a_recovery_is_recovered() {
    for (scene, is_undo) in Scene::ALL.iter().flat_map(|scene| [(scene, true), (scene, false)]) {
        scene.each(|_, _, [old, new], step| {
            let first = step * 3;
            let mut num_changes = 0;
            for second in (0..).step_by(3) {
                let temp = temp_dir();
                let root = temp.path().join("lake");
                let table = scene.set(&root);
                if is_undo {
                    faults::set(Fault { once: first, for_good: first + 1 + second });
                } else {
                    faults::set(Fault { for_good: first, ..Fault::NONE });
                }
                let result = scene.act(&table);
                num_changes = faults::clear();
                let mut num_later = num_changes.saturating_sub(first + 1);
                if !is_undo {
                    faults::set(Fault { for_good: second, ..Fault::NONE });
                    let lock = table.lock(|| (), &|| false);
                    let _ = lock.map(|lock| lock.recover());
                    num_later = faults::clear();
                }
                lock(&table).recover().unwrap();
                let found = list_tree(&root);
                let is_whole = if result.is_ok() { &found == new } else { &found == old || &found == new };
                assert!(is_whole, "{first} {second} {:?}", names(&root));
                if num_later <= second {
                    break;
                }
            }
            if num_changes <= first { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

#[test]
fn publish_whose_data_is_missing_is_unrecoverable() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    let folder = table.staging_root().join("aaaaaaaa");
    std::fs::create_dir_all(&folder).unwrap();
    let file = FinishedFile {
        path: "snapshot_date=2021-01-11/OSPlatform=Linux/x.parquet".to_owned(),
        bytes: 1,
        sha256: String::new(),
    };
    let manifest = manifest(NOON, "aaaaaaaa", vec![data_file(file, NOON, Some("Linux"), 1)], 0);
    std::fs::write(folder.join("intent.json"), to_json(&manifest)).unwrap();
    assert_eq!(unfinished_changes(&table).unwrap(), ["aaaaaaaa"]);
    let error = lock(&table).recover().unwrap_err();
    assert!(matches!(error, CommitError::Unrecoverable { .. }));
    assert!(folder.exists());
}

/// Stages a snapshot as a run of an earlier version left it when it was killed, its journal included.
fn leave_staged(table: &Table, run: &str, journal_file: &str) -> Manifest {
    let folder = table.staging_root().join(run);
    let data = folder.join("snapshot_date=2021-01-11/OSPlatform=Linux");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(folder.join("snapshot")).unwrap();
    let name = format!("part-{NOON}-{run}-00000.parquet");
    std::fs::write(data.join(&name), "rows").unwrap();
    let file = FinishedFile {
        path: format!("snapshot_date=2021-01-11/OSPlatform=Linux/{name}"),
        bytes: 4,
        sha256: String::new(),
    };
    let manifest = manifest(NOON, run, vec![data_file(file, NOON, Some("Linux"), 1)], 0);
    std::fs::write(folder.join("snapshot/manifest.json"), to_json(&manifest)).unwrap();
    std::fs::write(folder.join("_SUCCESS"), to_json(&table.success_of(&manifest))).unwrap();
    std::fs::write(folder.join(journal_file), to_json(&manifest)).unwrap();
    manifest
}

#[test]
fn swap_journals_of_earlier_versions_are_recovered() {
    for is_swapped in [false, true] {
        let temp = temp_dir();
        let table = open_table(temp.path());
        publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
        let before = list_tree(temp.path());
        let manifest = leave_staged(&table, "bbbbbbbb", "intent.json");
        let staged = table.staging_root().join("bbbbbbbb/snapshot_date=2021-01-11");
        if is_swapped {
            assert!(local::exchange(&staged, &table.data_folder(snapshot_id(NOON).date())).unwrap());
        }
        assert_eq!(unfinished_changes(&table).unwrap(), ["bbbbbbbb"]);
        let run_id = "bbbbbbbb".to_owned();
        let expected = if is_swapped {
            Recovered::Finished { run_id, snapshot: snapshot_id(NOON) }
        } else {
            Recovered::Removed { run_id }
        };
        assert_eq!(lock(&table).recover().unwrap(), [expected]);
        if is_swapped {
            let published = table.published_on(snapshot_id(NOON).date()).unwrap().unwrap();
            assert_eq!(published.manifest, manifest);
            assert!(table.is_complete(&published).unwrap());
        } else {
            assert_eq!(list_tree(temp.path()), before);
        }
    }
}

#[test]
fn removal_journals_of_earlier_versions_are_recovered() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
    let before = list_tree(temp.path());
    let folder = table.staging_root().join("bbbbbbbb");
    std::fs::create_dir_all(&folder).unwrap();
    let journal =
        r#"{"snapshots":[{"generated_time":"2021-01-11T12:00:00Z","has_data":true}],"is_delta":false}"#;
    std::fs::write(folder.join("removal.json"), journal).unwrap();
    let data = table.data_folder(snapshot_id(NOON).date());
    std::fs::rename(data, folder.join(format!("{NOON}.data"))).unwrap();
    assert_eq!(unfinished_changes(&table).unwrap(), ["bbbbbbbb"]);
    let expected = Recovered::RolledBack { run_id: "bbbbbbbb".to_owned() };
    assert_eq!(lock(&table).recover().unwrap(), [expected]);
    assert_eq!(list_tree(temp.path()), before);
}

#[test]
fn reader_sees_one_whole_snapshot_at_any_moment() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    publish(&table, NOON, "00000000", Content::Full).unwrap();
    let folder = table.data_folder(snapshot_id(NOON).date()).join("OSPlatform=Linux");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            use std::os::unix::fs::MetadataExt;
            let mut num_seen = 0;
            while !done.load(Ordering::Relaxed) {
                let inode = || std::fs::metadata(&folder).expect("never gone").ino();
                let before = inode();
                let names = local::list_names(&folder).unwrap();
                // A listing during a replacement may be of the folder that is being removed.
                if inode() == before {
                    assert_eq!(names.len(), 1, "{names:?}");
                    num_seen += 1;
                }
                let listed = table.snapshots().unwrap();
                assert_eq!(listed.len(), 1);
            }
            num_seen
        });
        for run in 1..200 {
            publish(&table, NOON, &format!("{run:08x}"), Content::Full).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}
