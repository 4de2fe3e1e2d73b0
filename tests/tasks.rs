//! One snapshot whose files several tasks write and hand over, in every place that a lake can be in: an attempt that
//! loses, and one that goes on when the snapshot is published.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use pipeline::commit;
use pipeline::lake::{Lake, Table};
use pipeline::manifest::{DataFile, Manifest};
use pipeline::snapshot::{RunId, SnapshotId, TaskId};
use pipeline::staging::{Destination, Portion, WrittenFile};
use serde_json::Value;

use crate::stores::{Kind, Store};
use crate::support::Run;

const NOON: &str = "2021-01-11T12:00:00Z";
const NEXT_DAY: &str = "2021-01-12T12:00:00Z";

/// The variable that has [`writes_as_tasks_do`] do its work: a lake on a disk, whose snapshot is published again.
const SOURCE: &str = "DEFENDER_LAKE_TEST_TASKS_OF";

fn check(kind: Kind, is_delta: bool) {
    let mut store = Store::start(kind);
    store.is_delta = is_delta;
    let source = store.sandbox.path().join("source");
    assert!(store.ingest_command(NOON, &[]).env("DEFENDER_LAKE", &source).status().unwrap().success());
    // Only a process of its own can be given the store's credentials.
    let tasks = Command::new(std::env::current_exe().unwrap())
        .args(["tasks::writes_as_tasks_do", "--exact", "--nocapture"])
        .env("DEFENDER_LAKE", store.url())
        .env(SOURCE, &source)
        .envs(store.env(None))
        .output()
        .unwrap();
    assert!(tasks.status.success(), "{}", String::from_utf8_lossy(&tasks.stderr));
    let of_source = store.command("snapshots").arg("--json").env("DEFENDER_LAKE", &source).output().unwrap();
    let of_source: Vec<Value> = serde_json::from_str(&Run::of(of_source).expect(0).stdout).unwrap();
    let published = store.manifests();
    assert_eq!((published.len(), &published[0]["totals"]), (1, &of_source[0]["totals"]));
    // What the late attempt has sent goes with the next run, and nothing that is published.
    assert!(store.list().keys().any(|name| name.contains("/staging/")));
    assert_eq!(store.num_uploads() > 0, kind != Kind::Disk, "{}", store.num_uploads());
    store.ingest(NEXT_DAY, &[]).expect(0);
    assert_eq!(store.num_uploads(), 0);
    store.check_whole();
    assert_eq!(store.manifests().len(), 2);
}

#[test]
fn tasks_publish_one_snapshot_on_a_disk() {
    check(Kind::Disk, true);
}

#[test]
fn tasks_publish_one_snapshot_on_s3() {
    check(Kind::S3, true);
}

#[test]
fn tasks_publish_one_snapshot_on_azure() {
    check(Kind::Azure, false);
}

/// Not a test of its own: the run and the tasks of [`check`].
#[test]
fn writes_as_tasks_do() {
    let Some(source) = std::env::var_os(SOURCE) else { return };
    let work_dir = tempfile::tempdir().unwrap();
    let dataset = schema::DATASETS[0];
    let source = Lake::open(Path::new(&source)).unwrap().table(dataset);
    let manifest = source.snapshots().unwrap().remove(0).manifest;
    let url = std::env::var_os("DEFENDER_LAKE").unwrap();
    let table = Lake::open(Path::new(&url)).unwrap().with_work_dir(work_dir.path()).table(dataset);
    let mut lock = table.lock(|| (), &|| false).unwrap();
    if !url.to_str().unwrap().starts_with("az:") {
        lock = lock.to_be_delta();
    }
    lock.recover().unwrap();
    let (run_id, snapshot) = (RunId::try_new().unwrap(), manifest.snapshot_id());
    let staging = lock.stage(&run_id, snapshot).unwrap();
    let task = |files: &[DataFile]| write(&table, &source, snapshot, &run_id, files);
    let (some, others) = manifest.files.split_at(manifest.files.len() / 2);
    // An attempt that fails, one that loses, and those that count.
    drop(task(some));
    send(&table, task(some));
    let portions = [some, others].map(|files| send(&table, task(files)));
    let mut files: Vec<DataFile> =
        portions.iter().flat_map(|portion| &portion.files).map(|file| file.facts.clone()).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let late = if table.root().is_absolute() { None } else { Some(task(some)) };
    let manifest = Manifest { run_id: run_id.clone(), files, ..manifest };
    staging.publish(&manifest, &portions, &|| false).unwrap();
    if let Some(late) = late {
        send(&table, late);
    } else {
        // As if the removal of its folder and its last file had crossed.
        let staging = table.root().parent().unwrap().join("_defender").join(dataset.name).join("staging");
        let late = staging.join(run_id.as_str()).join("tasks/0000000f");
        std::fs::create_dir_all(&late).unwrap();
        std::fs::write(late.join("x.parquet"), "x").unwrap();
    }
}

/// Writes copies of published files as an attempt at a task does.
fn write(
    table: &Table,
    source: &Table,
    snapshot: SnapshotId,
    run_id: &RunId,
    files: &[DataFile],
) -> (Destination, Portion) {
    let task_id = TaskId::try_new().unwrap();
    let destination = Destination::create(table, snapshot, run_id, Some(task_id.clone())).unwrap();
    let mut numbers = BTreeMap::<&str, usize>::new();
    let mut portion = Portion { task_id: Some(task_id), ..Portion::default() };
    for file in files {
        let folder = file.path.split('/').nth(1).unwrap();
        let number = numbers.entry(folder).and_modify(|number| *number += 1).or_default();
        let mut staged = destination.create_data_file(folder, &destination.data_file_name(*number)).unwrap();
        std::io::copy(&mut source.open_data_file(&file.path).unwrap(), &mut staged).unwrap();
        staged.flush().unwrap();
        let finished = staged.finish().unwrap();
        assert_eq!(finished.sha256, file.sha256);
        let statistics = serde_json::json!({ "numRecords": file.rows }).to_string();
        let statistics = serde_json::json!({ "json": statistics, "has_extra_fields": false });
        portion.files.push(WrittenFile {
            facts: DataFile { path: finished.path, ..file.clone() },
            statistics: serde_json::from_value(statistics).unwrap(),
        });
    }
    (destination, portion)
}

fn send(table: &Table, (destination, mut portion): (Destination, Portion)) -> Portion {
    commit::send(table, &destination, &mut portion, &|_, _| (), &|| false).unwrap();
    portion
}
