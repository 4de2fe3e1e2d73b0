use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, NaiveDate, Utc};
use codec::partition::PartitionKey;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;
use schema::datasets::software_inventory::SOFTWARE_INVENTORY;
use serde_json::{Value, json};

use super::*;
use crate::lake::data_folder_name;
use crate::lake::local_objects::{LocalObjects, Way};
use crate::manifest::DataFile;
use crate::snapshot::RunId;

const NOON: &str = "20210111T120000Z";
const EVENING: &str = "20210111T180000Z";
const NEXT_DAY: &str = "20210112T120000Z";

fn snapshot_id(text: &str) -> SnapshotId {
    SnapshotId::parse(text).unwrap()
}

fn run_id(text: &str) -> RunId {
    serde_json::from_value(text.into()).unwrap()
}

fn root() -> Path {
    Path::from("lake/software_inventory")
}

fn log_path(name: &str) -> Path {
    root().join(LOG_FOLDER).join(name)
}

fn at(day: u32) -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2021, 2, day).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc()
}

async fn open(store: &Arc<dyn ObjectStore>) -> DeltaTable {
    DeltaTable::open(store.clone(), &root(), &SOFTWARE_INVENTORY).await.unwrap()
}

fn statistics(rows: u64, has_extra_fields: bool) -> FileStatistics {
    FileStatistics { json: json!({ "numRecords": rows }).to_string(), has_extra_fields }
}

/// The files that a run writes of a snapshot, one for each platform.
fn files(snapshot: SnapshotId, run: &str, platforms: &[Option<&str>]) -> Vec<DataFile> {
    let file = |(number, platform): (usize, Option<&str>)| {
        let folder = PartitionKey::new(platform).directory("OSPlatform");
        let date = snapshot.date();
        DataFile {
            path: format!("{}/{folder}/part-{snapshot}-{run}-{number:05}.parquet", data_folder_name(date)),
            snapshot_date: date,
            os_platform: platform.map(str::to_owned),
            rows: 3,
            bytes: 100 + number as u64,
            row_groups: 1,
            sha256: String::new(),
        }
    };
    platforms.iter().copied().enumerate().map(file).collect()
}

/// Publishes files of `run` under the next transaction number.
async fn publish(
    table: &mut DeltaTable,
    snapshot: &str,
    run: &str,
    platforms: &[Option<&str>],
) -> Result<Committed, DeltaError> {
    let transaction = table.next_transaction(snapshot_id(snapshot));
    publish_as(table, snapshot, run, platforms, transaction).await
}

async fn publish_as(
    table: &mut DeltaTable,
    snapshot: &str,
    run: &str,
    platforms: &[Option<&str>],
    transaction: i64,
) -> Result<Committed, DeltaError> {
    let snapshot = snapshot_id(snapshot);
    let files = files(snapshot, run, platforms);
    let statistics = statistics(3, false);
    let new: Vec<_> = files.iter().map(|facts| NewFile { facts, statistics: &statistics }).collect();
    let run_id = run_id(run);
    let publication = Publication { snapshot, run_id: &run_id, transaction, files: &new, finished_at: at(1) };
    table.publish(&[], Some(&publication)).await
}

/// Paths of the table's files, as a reader finds them.
async fn live(store: &Arc<dyn ObjectStore>) -> BTreeSet<String> {
    open(store).await.live_files().map(|file| file.path).collect()
}

fn paths<'f>(files: impl IntoIterator<Item = &'f DataFile>) -> BTreeSet<String> {
    files.into_iter().map(|file| file.path.clone()).collect()
}

async fn lines(store: &Arc<dyn ObjectStore>, version: u64) -> Vec<Value> {
    let bytes = store.get(&log_path(&format!("{version:020}.json"))).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn new_store() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[tokio::test]
async fn first_commit_creates_the_table_others_replace() {
    let store = new_store();
    let mut table = open(&store).await;
    assert_eq!((table.version(), table.live_files().count()), (None, 0));

    let both = [Some("a/b %é"), None];
    assert_eq!(publish(&mut table, NOON, "aaaaaaaa", &both).await.unwrap(), Committed::Now(0));
    let first = lines(&store, 0).await;
    assert_eq!(first[1], json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }));
    assert_eq!(first[2]["metaData"]["partitionColumns"], json!(["snapshot_date", "OSPlatform"]));
    assert_eq!(
        first[3]["txn"],
        json!({
            "appId": "defender-lake/software_inventory/2021-01-11",
            "version": 1_610_366_400_000_i64,
            "lastUpdated": at(1).timestamp_millis(),
        })
    );
    assert_eq!(
        first[4]["add"],
        json!({
            "path": "snapshot_date=2021-01-11/OSPlatform=a%252Fb%20%2525%C3%A9/part-20210111T120000Z-aaaaaaaa-00000.parquet",
            "partitionValues": { "snapshot_date": "2021-01-11", "OSPlatform": "a/b %é" },
            "size": 100,
            "modificationTime": at(1).timestamp_millis(),
            "dataChange": true,
            "stats": "{\"numRecords\":3}",
        })
    );
    assert_eq!(first[5]["add"]["partitionValues"]["OSPlatform"], Value::Null);
    assert_eq!(first.len(), 6);

    publish(&mut table, NEXT_DAY, "bbbbbbbb", &[None]).await.unwrap();
    let mut table = open(&store).await;
    assert_eq!(table.version(), Some(1));
    assert_eq!(publish(&mut table, EVENING, "cccccccc", &[Some("c")]).await.unwrap(), Committed::Now(2));
    let third = lines(&store, 2).await;
    assert_eq!(third[0]["commitInfo"]["readVersion"], 1);
    let removed: Vec<_> = third.iter().filter_map(|line| line["remove"]["path"].as_str()).collect();
    let added: Vec<_> = first.iter().filter_map(|line| line["add"]["path"].as_str()).collect();
    assert_eq!(BTreeSet::from_iter(removed), BTreeSet::from_iter(added));
    let mut expected = paths(&files(snapshot_id(EVENING), "cccccccc", &[Some("c")]));
    expected.extend(paths(&files(snapshot_id(NEXT_DAY), "bbbbbbbb", &[None])));
    assert_eq!(live(&store).await, expected);
}

#[tokio::test]
async fn transactions_let_a_rerun_through_once() {
    let store = new_store();
    let mut table = open(&store).await;
    let noon = table.next_transaction(snapshot_id(NOON));
    publish_as(&mut table, NOON, "aaaaaaaa", &[None], noon).await.unwrap();
    // Committing again changes nothing, no matter when the log was read.
    assert_eq!(publish_as(&mut table, NOON, "aaaaaaaa", &[None], noon).await.unwrap(), Committed::Before);
    assert!(table.has_committed(snapshot_id(NOON), noon, &files(snapshot_id(NOON), "aaaaaaaa", &[None])));
    assert_eq!(open(&store).await.version(), Some(0));
    // The same snapshot in place of itself.
    publish(&mut table, NOON, "bbbbbbbb", &[None]).await.unwrap();
    assert_eq!(table.next_transaction(snapshot_id(NOON)), noon + 2);
    // A newer one of the date, and an older one of another.
    publish(&mut table, EVENING, "cccccccc", &[None]).await.unwrap();
    publish(&mut table, "20200101T000000Z", "dddddddd", &[None]).await.unwrap();
    assert_eq!(table.version(), Some(3));
    assert!(table.has_seen(snapshot_id(NOON)) && !table.has_seen(snapshot_id(NEXT_DAY)));
    // A number that was drawn before another run's commit.
    let error = publish_as(&mut table, NOON, "eeeeeeee", &[None], noon + 2).await.unwrap_err();
    assert!(matches!(&error, DeltaError::TransactionTaken { .. }), "{error}");
    assert_eq!(open(&store).await.version(), Some(3));
    // Expired and taken once more.
    let date = BTreeSet::from([snapshot_id(EVENING).date()]);
    assert_eq!(table.remove_dates(&date, at(2)).await.unwrap(), Some(4));
    assert_eq!(table.remove_dates(&date, at(2)).await.unwrap(), None);
    assert_eq!(live(&store).await.len(), 1);
    publish(&mut table, NOON, "ffffffff", &[None]).await.unwrap();
    assert_eq!(live(&store).await.len(), 2);
}

#[tokio::test]
async fn snapshot_without_files_is_a_commit_too() {
    let store = new_store();
    let mut table = open(&store).await;
    publish(&mut table, NOON, "aaaaaaaa", &[None]).await.unwrap();
    let transaction = table.next_transaction(snapshot_id(EVENING));
    publish_as(&mut table, EVENING, "bbbbbbbb", &[], transaction).await.unwrap();
    assert_eq!(live(&store).await, BTreeSet::new());
    let mut table = open(&store).await;
    assert!(table.has_committed(snapshot_id(EVENING), transaction, []));
    let again = publish_as(&mut table, EVENING, "bbbbbbbb", &[], transaction).await.unwrap();
    assert_eq!(again, Committed::Before);
}

#[tokio::test]
async fn files_with_undocumented_fields_bring_their_column() {
    let store = new_store();
    let mut table = open(&store).await;
    publish(&mut table, NOON, "aaaaaaaa", &[None]).await.unwrap();
    let snapshot = snapshot_id(NEXT_DAY);
    let files = files(snapshot, "bbbbbbbb", &[None]);
    let statistics = statistics(3, true);
    let run_id = run_id("bbbbbbbb");
    let publication = Publication {
        snapshot,
        run_id: &run_id,
        transaction: 1,
        files: &[NewFile { facts: &files[0], statistics: &statistics }],
        finished_at: at(1),
    };
    table.publish(&[], Some(&publication)).await.unwrap();
    let second = lines(&store, 1).await;
    let changed = second.iter().find(|line| !line["metaData"].is_null()).unwrap();
    assert!(changed["metaData"]["schemaString"].as_str().unwrap().contains("ExtraFields"));
    publish(&mut table, EVENING, "cccccccc", &[None]).await.unwrap();
    let third = lines(&store, 2).await;
    assert!(third.iter().all(|line| line["metaData"].is_null()), "the column stays");
}

#[tokio::test]
async fn checkpoint_stands_for_what_is_before_it() {
    let store = new_store();
    let mut table = open(&store).await;
    for day in 1..=11 {
        let snapshot = format!("202101{day:02}T120000Z");
        publish(&mut table, &snapshot, "aaaaaaaa", &[None, Some("x y")]).await.unwrap();
        if table.is_checkpoint_due() {
            table.write_checkpoint(at(1)).await.unwrap();
        }
    }
    publish(&mut table, EVENING, "bbbbbbbb", &[None]).await.unwrap();
    let expected = live(&store).await;
    assert_eq!(expected.len(), 21);

    let hint = store.get(&log_path("_last_checkpoint")).await.unwrap().bytes().await.unwrap();
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!((&hint["version"], &hint["numOfAddFiles"]), (&json!(10), &json!(22)));
    // Older commits may go; the hint may be lost or lead nowhere.
    for version in 0..=10 {
        store.delete(&log_path(&format!("{version:020}.json"))).await.unwrap();
    }
    for hint in ["{\"version\":10}", "{\"version\":3}", "{\"version\":99}", "{\"vers"] {
        store.put(&log_path("_last_checkpoint"), PutPayload::from(hint)).await.unwrap();
        let table = open(&store).await;
        assert_eq!(table.version(), Some(11), "{hint}");
        assert_eq!(table.live_files().map(|file| file.path).collect::<BTreeSet<_>>(), expected);
        assert_eq!(table.live_files().next().unwrap().rows, Some(3));
        assert!(table.has_seen(snapshot_id("20210103T120000Z")));
    }
    // A part of one in several is none.
    let part = log_path("00000000000000000011.checkpoint.0000000001.0000000002.parquet");
    store.put(&part, PutPayload::from("PAR1")).await.unwrap();
    assert_eq!(live(&store).await, expected);
}

#[tokio::test]
async fn removed_files_stay_in_checkpoints_for_a_week() {
    let store = new_store();
    let mut table = open(&store).await;
    publish(&mut table, NOON, "aaaaaaaa", &[None]).await.unwrap();
    publish(&mut table, NOON, "bbbbbbbb", &[None]).await.unwrap();
    let log = log::DeltaLog::new(store.clone(), &root());
    let state = log.read().await.unwrap().state;
    for (day, num_removed) in [(8, 1), (9, 0)] {
        log.write_checkpoint(1, &state, at(day)).await.unwrap();
        let path = log_path("00000000000000000001.checkpoint.parquet");
        let file = store.get(&path).await.unwrap().bytes().await.unwrap();
        let lines = checkpoint::read(file).unwrap();
        assert_eq!(lines.iter().filter(|line| line.remove.is_some()).count(), num_removed, "{day}");
        assert_eq!(lines.iter().filter(|line| line.add.is_some()).count(), 1);
    }
}

#[tokio::test]
async fn damaged_log_is_named_by_file_and_line() {
    let store = new_store();
    let mut table = open(&store).await;
    for snapshot in [NOON, EVENING, NEXT_DAY] {
        publish(&mut table, snapshot, "aaaaaaaa", &[None]).await.unwrap();
    }
    let error_after = async |name: &str, text: &'static str| {
        let path = log_path(name);
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        store.put(&path, PutPayload::from(text)).await.unwrap();
        let error = DeltaTable::open(store.clone(), &root(), &SOFTWARE_INVENTORY).await.unwrap_err();
        store.put(&path, PutPayload::from(whole)).await.unwrap();
        assert!(error.hint().is_some());
        error.to_string()
    };
    let error = error_after("00000000000000000001.json", "{}\n{\"add\":{}}\n").await;
    assert!(error.contains("00000000000000000001.json: line 2: missing field"), "{error}");
    let error = error_after("00000000000000000000.json", "").await;
    assert!(error.ends_with("_delta_log: it has no protocol or no metadata"), "{error}");
    store.delete(&log_path("00000000000000000001.json")).await.unwrap();
    let error = DeltaTable::open(store.clone(), &root(), &SOFTWARE_INVENTORY).await.unwrap_err().to_string();
    assert!(error.contains("00000000000000000001.json: it is missing, and later ones are there"), "{error}");
}

/// The store of a table with a snapshot of one date, and a second commit that somebody else has made.
async fn store_with_commit(line: &str) -> Arc<dyn ObjectStore> {
    let store = new_store();
    publish(&mut open(&store).await, NOON, "aaaaaaaa", &[None]).await.unwrap();
    let path = log_path("00000000000000000001.json");
    store.put(&path, PutPayload::from(line.to_owned())).await.unwrap();
    store
}

/// The metadata of such a table with a member changed.
async fn meta_data_with(key: &str, value: Value) -> String {
    let mut meta_data = lines(&store_with_commit("{}").await, 0).await[2].clone();
    meta_data["metaData"][key] = value;
    meta_data.to_string()
}

fn protocol(reader: i32, writer: i32) -> String {
    json!({ "protocol": {
        "minReaderVersion": reader, "minWriterVersion": writer, "readerFeatures": [], "writerFeatures": [],
    } })
    .to_string()
}

#[tokio::test]
async fn table_for_newer_readers_is_not_read() {
    for (line, expected) in [
        (protocol(3, 7), "it needs reader version 3, and this program knows 1"),
        (protocol(2, 5), "it needs reader version 2, and this program knows 1"),
        (meta_data_with("partitionColumns", json!(["a", "b"])).await, "it is partitioned by a, b"),
    ] {
        let store = store_with_commit(&line).await;
        let error = DeltaTable::open(store, &root(), &SOFTWARE_INVENTORY).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the Delta table cannot be read: {expected}"));
    }
}

#[tokio::test]
async fn table_for_newer_writers_is_read_and_not_written() {
    let with_property =
        async |key: &str, value: &str| meta_data_with("configuration", json!({ key: value })).await;
    let generated = lines(&store_with_commit("{}").await, 0).await[2]["metaData"]["schemaString"]
        .as_str()
        .unwrap()
        .replacen("\"metadata\":{", "\"metadata\":{\"delta.generationExpression\":\"1\",", 1);
    for (line, expected) in [
        (protocol(1, 7), "it needs writer version 7, and this program knows 2"),
        (with_property("delta.constraints.c", "true").await, "it has the constraint \"c\""),
        (with_property("delta.enableChangeDataFeed", "true").await, "it has a change data feed"),
        (meta_data_with("schemaString", generated.into()).await, "it has generated columns"),
    ] {
        let store = store_with_commit(&line).await;
        let mut table = open(&store).await;
        assert_eq!(table.live_files().count(), 1);
        let expected = format!("the Delta table cannot be written: {expected}");
        let date = snapshot_id(NEXT_DAY).date();
        assert_eq!(table.check_publishable(date).unwrap_err().to_string(), expected);
        let error = publish(&mut table, NEXT_DAY, "bbbbbbbb", &[None]).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        let dates = BTreeSet::from([snapshot_id(NOON).date()]);
        assert_eq!(table.remove_dates(&dates, at(1)).await.unwrap_err().to_string(), expected);
        assert_eq!(open(&store).await.version(), Some(1));
    }
}

#[tokio::test]
async fn append_only_table_takes_new_dates_alone() {
    let line = meta_data_with("configuration", json!({ "delta.appendOnly": "true" })).await;
    let store = store_with_commit(&line).await;
    let mut table = open(&store).await;
    let (taken, free) = (snapshot_id(NOON).date(), snapshot_id(NEXT_DAY).date());
    let expected = "the Delta table is append-only, and the files of 2021-01-11 would be removed";
    assert_eq!(table.check_publishable(taken).unwrap_err().to_string(), expected);
    let error = publish(&mut table, EVENING, "bbbbbbbb", &[None]).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    let error = table.remove_dates(&BTreeSet::from([taken]), at(1)).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(open(&store).await.version(), Some(1));
    table.check_publishable(free).unwrap();
    assert_eq!(publish(&mut table, NEXT_DAY, "cccccccc", &[None]).await.unwrap(), Committed::Now(2));
}

#[tokio::test]
async fn snapshots_held_before_are_adopted_in_one_commit() {
    let store = new_store();
    let mut table = open(&store).await;
    let ids = [NOON, NEXT_DAY].map(snapshot_id);
    let files = ids.map(|id| files(id, "aaaaaaaa", &[None, Some("x")]));
    let with_extra = statistics(3, true);
    let new: Vec<Vec<_>> = files
        .iter()
        .map(|files| files.iter().map(|facts| NewFile { facts, statistics: &with_extra }).collect())
        .collect();
    let run_id = run_id("aaaaaaaa");
    let publications: Vec<_> = ids
        .iter()
        .zip(&new)
        .map(|(snapshot, files)| Publication {
            snapshot: *snapshot,
            run_id: &run_id,
            transaction: table.next_transaction(*snapshot),
            files,
            finished_at: at(1),
        })
        .collect();
    assert_eq!(table.publish(&publications, None).await.unwrap(), Committed::Now(0));
    assert_eq!(open(&store).await.publish(&publications, None).await.unwrap(), Committed::Before);
    let table = open(&store).await;
    assert_eq!((table.version(), table.live_files().count()), (Some(0), 4));
    assert!(ids.iter().all(|id| table.has_seen(*id)));
    let lines = lines(&store, 0).await;
    assert_eq!(lines[0]["commitInfo"]["operation"], "CONVERT");
    assert!(lines[2]["metaData"]["schemaString"].as_str().unwrap().contains("ExtraFields"));
}

#[tokio::test]
async fn foreign_commits_of_other_dates_are_built_upon() {
    let store = new_store();
    let mut ours = open(&store).await;
    publish(&mut ours, NOON, "aaaaaaaa", &[None]).await.unwrap();
    let mut theirs = open(&store).await;
    publish(&mut theirs, NEXT_DAY, "bbbbbbbb", &[None]).await.unwrap();
    assert_eq!(publish(&mut ours, EVENING, "cccccccc", &[None]).await.unwrap(), Committed::Now(2));
    assert_eq!(live(&store).await.len(), 2);

    // Another writer has rewritten the date's files, without a transaction of ours.
    let mut ours = open(&store).await;
    let add = json!({ "add": {
        "path": "theirs.parquet", "partitionValues": { "snapshot_date": "2021-01-11", "OSPlatform": null },
        "size": 1, "modificationTime": 1, "dataChange": false,
    } });
    store.put(&log_path("00000000000000000003.json"), PutPayload::from(add.to_string())).await.unwrap();
    let error = publish(&mut ours, EVENING, "dddddddd", &[None]).await.unwrap_err();
    assert!(matches!(&error, DeltaError::DateChanged { .. }), "{error}");
    assert_eq!(open(&store).await.version(), Some(3));
    // After reading the log again it is known which files to remove.
    publish(&mut open(&store).await, EVENING, "dddddddd", &[None]).await.unwrap();
    assert!(!live(&store).await.contains("theirs.parquet"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_different_dates_all_get_through() {
    let mut stores = vec![new_store()];
    let mut folders = Vec::new();
    for ways in [&[Way::Link][..], &[Way::RenameNoReplace], &[Way::Reserve]] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(root().as_ref())).unwrap();
        stores.push(Arc::new(LocalObjects::with_ways(folder.path(), ways).unwrap()));
        folders.push(folder);
    }
    for store in stores {
        let writers = (1..=4).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut table = open(&store).await;
                for day in 1..=6 {
                    let snapshot = format!("20210{writer}{day:02}T120000Z");
                    publish(&mut table, &snapshot, "aaaaaaaa", &[None]).await.unwrap();
                    if table.is_checkpoint_due() {
                        table.write_checkpoint(at(1)).await.unwrap();
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(live(&store).await.len(), 24);
        assert_eq!(open(&store).await.version(), Some(23));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_writers_of_one_snapshot_one_wins() {
    for _ in 0..50 {
        let store = new_store();
        let (mut first, mut second) = (open(&store).await, open(&store).await);
        let first = tokio::spawn(async move { publish(&mut first, NOON, "aaaaaaaa", &[None]).await });
        let second = tokio::spawn(async move { publish(&mut second, NOON, "bbbbbbbb", &[None]).await });
        let results = [first.await.unwrap(), second.await.unwrap()];
        let num_won = results.iter().filter(|result| matches!(result, Ok(Committed::Now(0)))).count();
        let num_lost =
            results.iter().filter(|r| matches!(r, Err(DeltaError::TransactionTaken { .. }))).count();
        assert_eq!((num_won, num_lost), (1, 1), "{results:?}");
        let winner = if results[0].is_ok() { "aaaaaaaa" } else { "bbbbbbbb" };
        assert_eq!(live(&store).await, paths(&files(snapshot_id(NOON), winner, &[None])));
    }
}

/// Carries a commit out and loses the answer, once.
#[derive(Debug)]
struct LosesAnswer {
    inner: InMemory,
    is_next: AtomicBool,
    /// Whether the commit gets as far as the store.
    gets_through: bool,
}

impl std::fmt::Display for LosesAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LosesAnswer")
    }
}

#[async_trait::async_trait]
impl ObjectStore for LosesAnswer {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if !self.is_next.swap(false, Ordering::Relaxed) {
            return self.inner.put_opts(location, payload, options).await;
        }
        if self.gets_through {
            self.inner.put_opts(location, payload, options).await?;
        }
        Err(object_store::Error::Generic { store: "test", source: "the answer was lost".into() })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn lost_answer_is_looked_up_in_the_log() {
    for gets_through in [true, false] {
        let store: Arc<dyn ObjectStore> =
            Arc::new(LosesAnswer { inner: InMemory::new(), is_next: AtomicBool::new(true), gets_through });
        let mut table = open(&store).await;
        let committed = publish(&mut table, NOON, "aaaaaaaa", &[None]).await.unwrap();
        assert_eq!(committed, if gets_through { Committed::Before } else { Committed::Now(0) });
        let commits: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(commits.len(), 1);
    }
}

/// What can be done to a table.
#[derive(Debug, Clone)]
enum Change {
    Publish { day: u32, hour: u32, num_files: usize },
    Expire { days: Vec<u32> },
    Reopen,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..5_u32, 0..3_u32, 0..4_usize)
            .prop_map(|(day, hour, num_files)| Change::Publish { day, hour, num_files }),
        1 => prop::collection::vec(1..5_u32, 1..3).prop_map(|days| Change::Expire { days }),
        1 => Just(Change::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// The log, read from any state of it, comes to what the manifests would list.
    #[test]
    fn log_comes_to_the_union_of_what_was_published(changes in prop::collection::vec(any_change(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = new_store();
            let mut table = open(&store).await;
            let mut published: BTreeMap<NaiveDate, BTreeSet<String>> = BTreeMap::new();
            for (number, change) in changes.iter().enumerate() {
                match change {
                    Change::Publish { day, hour, num_files } => {
                        let snapshot = format!("202101{day:02}T{hour:02}0000Z");
                        let platforms = &[None, Some("a b"), Some("%/é")][..(*num_files).min(3)];
                        let run = format!("{number:08x}");
                        publish(&mut table, &snapshot, &run, platforms).await.unwrap();
                        let snapshot = snapshot_id(&snapshot);
                        published.insert(snapshot.date(), paths(&files(snapshot, &run, platforms)));
                    }
                    Change::Expire { days } => {
                        let dates: BTreeSet<_> =
                            days.iter().map(|day| NaiveDate::from_ymd_opt(2021, 1, *day).unwrap()).collect();
                        table.remove_dates(&dates, at(1)).await.unwrap();
                        published.retain(|date, _| !dates.contains(date));
                    }
                    Change::Reopen => table = open(&store).await,
                }
                if table.is_checkpoint_due() {
                    table.write_checkpoint(at(1)).await.unwrap();
                }
                let expected: BTreeSet<_> = published.values().flatten().cloned().collect();
                assert_eq!(table.live_files().map(|file| file.path).collect::<BTreeSet<_>>(), expected);
                assert_eq!(live(&store).await, expected);
            }
        });
    }
}
