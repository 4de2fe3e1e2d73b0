//! Files that desktops, file servers and stores leave in a lake, while snapshots are published, replaced and removed.

use std::path::Path;

use super::{
    Content, EVENING, NEXT_DAY, NOON, data_file, lock, manifest, open_table, publish, publish_staged, run_id,
    snapshot_id, temp_dir,
};
use crate::commit::*;
use crate::exit_code::Diagnostic;
use crate::lake::lease_times::LeaseTimes;
use crate::lake::local;
use crate::lake::store::Put;
use crate::lake::store::faulty::Faulty;
use crate::verify::verify_layout;

const FOLDERS: [&str; 5] = ["lost+found", "@eaDir/part-0.parquet", "$RECYCLE.BIN", "empty", ".Trashes"];
const FILES: [&str; 6] =
    [".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir/part-0.parquet/x.jpg", ".Trashes/501/x"];

fn litter(place: &Path) {
    for folder in FOLDERS {
        std::fs::create_dir_all(place.join(folder)).unwrap();
    }
    for file in FILES {
        std::fs::create_dir_all(local::parent(&place.join(file))).unwrap();
        std::fs::write(place.join(file), "x").unwrap();
    }
    std::fs::write(place.join("x_$folder$"), "").unwrap();
}

#[test]
fn ignored_files_on_disk_do_not_stop_publishing() {
    let temp = temp_dir();
    let table = open_table(&temp.path().join("lake"));
    for (id, run) in [(NOON, "aaaaaaaa"), (NEXT_DAY, "bbbbbbbb")] {
        publish(&table, id, run, Content::Full).unwrap();
    }
    let (first, second) = (snapshot_id(NOON).date(), snapshot_id(NEXT_DAY).date());
    std::fs::create_dir_all(table.staging_root()).unwrap();
    for place in [
        table.root(),
        table.data_folder(first),
        table.data_folder(first).join("OSPlatform=Linux"),
        table.data_folder(second),
        table.snapshots_root(),
        table.staging_root(),
    ] {
        litter(&place);
    }
    assert_eq!(unfinished_changes(&table).unwrap(), [""; 0]);
    assert_eq!(lock(&table).recover().unwrap().len(), 1, "the empty folder may be a run's");
    publish(&table, EVENING, "cccccccc", Content::Full).unwrap();
    assert!(!table.data_folder(first).join("Thumbs.db").exists(), "it goes with the folder");
    lock(&table).remove_snapshots(&run_id("dddddddd"), &[snapshot_id(NEXT_DAY)]).unwrap();
    assert!(!table.data_folder(second).exists());
    assert_eq!(verify_layout(&table).unwrap(), []);
    assert!(table.root().join("Thumbs.db").exists() && table.root().join("lost+found").exists());
}

#[test]
fn data_in_ignored_folders_is_refused() {
    for name in ["._x.parquet", "lost+found/x.parquet", "@eaDir/x.PARQUET", ".x/y.parquet"] {
        let temp = temp_dir();
        let table = open_table(&temp.path().join("lake"));
        publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
        let folder = table.data_folder(snapshot_id(NOON).date());
        let path = folder.join(name);
        std::fs::create_dir_all(local::parent(&path)).unwrap();
        std::fs::write(&path, "x").unwrap();
        let error = publish(&table, EVENING, "bbbbbbbb", Content::Full).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} holds {name:?}, which no manifest of this lake lists", folder.display())
        );
        let removed = lock(&table).remove_snapshots(&run_id("cccccccc"), &[snapshot_id(NOON)]);
        assert!(matches!(removed, Err(CommitError::ForeignFile { .. })));
    }
}

#[test]
fn staged_ignored_files_are_not_published() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    let lock = lock(&table);
    let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
    let file = staging.destination().create_data_file("OSPlatform=Linux", "part-0.parquet").unwrap();
    let files = vec![data_file(file.finish().unwrap(), NOON, Some("Linux"), 0)];
    litter(staging.destination().data_folder());
    publish_staged(&lock, staging, &manifest(NOON, "aaaaaaaa", files, 0)).unwrap();
    assert_eq!(verify_layout(&table).unwrap(), []);
}

#[test]
fn folder_markers_in_a_store_do_not_stop_publishing() {
    let temp = temp_dir();
    let store = Faulty::new();
    let table = store.lake(temp.path(), LeaseTimes::IMPATIENT).table(schema::DATASETS[0]);
    for (id, run) in [(NOON, "aaaaaaaa"), (NEXT_DAY, "bbbbbbbb")] {
        publish(&table, id, run, Content::Full).unwrap();
    }
    let Place::Store(objects) = table.place() else { panic!("a store") };
    let put = |path: &Path, bytes: &[u8]| {
        objects.delete(path).unwrap();
        objects.put(path, bytes.to_vec(), Put::Create).unwrap();
    };
    let folder = table.data_folder(snapshot_id(NOON).date());
    let second = table.data_folder(snapshot_id(NEXT_DAY).date());
    for marked in [
        &table.root(),
        &folder,
        &second,
        &folder.join("OSPlatform=Linux"),
        &folder.join("OSPlatform=Windows 8.1"),
        &table.snapshots_root().join("20200101T000000Z"),
        &table.snapshot_folder(snapshot_id(NOON)),
        &table.staging_root(),
    ] {
        put(marked, b"");
        put(Path::new(&format!("{}_$folder$", marked.display())), b"");
    }
    put(&folder.join("Thumbs.db"), b"x");
    assert_eq!(verify_layout(&table).unwrap(), []);
    publish(&table, EVENING, "cccccccc", Content::Full).unwrap();
    table
        .lock(|| (), &|| false)
        .unwrap()
        .remove_snapshots(&run_id("dddddddd"), &[snapshot_id(NEXT_DAY)])
        .unwrap();
    assert_eq!(verify_layout(&table).unwrap(), []);
    assert_eq!(table.snapshots().unwrap().len(), 1);

    put(&folder.join("._x.parquet"), b"");
    let error = publish(&table, EVENING, "eeeeeeee", Content::Full).unwrap_err();
    assert!(matches!(&error, CommitError::ForeignFile { name, .. } if name == "._x.parquet"), "{error}");
}

#[test]
fn partition_with_a_taken_name_is_spelled_otherwise() {
    let temp = temp_dir();
    let table = open_table(temp.path());
    let lock = lock(&table);
    let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
    // As on a case-insensitive file system: a folder exists that this run has not made.
    std::fs::create_dir(staging.destination().data_folder().join("OSPlatform=MacOS")).unwrap();
    let create =
        |folder: &str, name: &str| staging.destination().create_data_file(folder, name).unwrap().table_path;
    let folder = "snapshot_date=2021-01-11";
    assert_eq!(create("OSPlatform=macOS", "0"), format!("{folder}/OSPlatform=macOS/0"));
    assert_eq!(create("OSPlatform=MacOS", "0"), format!("{folder}/OSPlatform=%4DacOS/0"));
    assert_eq!(create("OSPlatform=MacOS", "1"), format!("{folder}/OSPlatform=%4DacOS/1"));
    std::fs::create_dir(staging.destination().data_folder().join("OSPlatform=é")).unwrap();
    let error = staging.destination().create_data_file("OSPlatform=é", "0").unwrap_err();
    let place = staging.destination().data_folder().display();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot create folder \"OSPlatform=é\" in {place}: to the file system it is the name of another folder"
        )
    );
    assert!(error.hint().unwrap().starts_with("choose a --lake on a case-sensitive file system"));
}
