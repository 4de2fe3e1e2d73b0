use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use bytes::Bytes;

use super::*;

fn snapshot() -> SnapshotId {
    SnapshotId::parse("20210111T110100Z").unwrap()
}

async fn store(spool: &Spool, name: &str, chunks: &[&str]) -> Spooled {
    let mut writer = spool.begin(name).await.unwrap();
    for chunk in chunks {
        writer.write(Bytes::copy_from_slice(chunk.as_bytes())).await.unwrap();
    }
    writer.finish(spool, SpooledFacts { name: name.into(), ..SpooledFacts::default() }).await.unwrap()
}

#[tokio::test]
async fn complete_parts_are_reused_and_damaged_ones_not() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let stored = store(&spool, "a/b", &["he", "llo"]).await;
    assert_eq!(stored.facts.bytes, 5);
    assert_eq!(stored.facts.written_crc32, 0x3610_a686);
    drop(spool);

    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    assert_eq!(spool.find("a/b", |_| true).await, Some(stored.clone()));
    assert_eq!(spool.find("a/c", |_| true).await, None);
    fs::write(&stored.path, "hellO").unwrap();
    assert_eq!(spool.find("a/b", |_| true).await, None, "same size, other bytes");
    fs::write(&stored.path, "hell").unwrap();
    assert_eq!(spool.find("a/b", |_| true).await, None, "short");
}

#[tokio::test]
async fn unfinished_part_leaves_nothing() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let mut writer = spool.begin("p").await.unwrap();
    writer.write("half".into()).await.unwrap();
    assert_eq!(fs::read_dir(spool.dir()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(fs::read_dir(spool.dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn noted_part_resumes_where_it_stopped() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let note = PartialFacts { name: "p".into(), etag: "\"1\"".into(), md5: None, total_bytes: None };
    let (mut writer, noted) = spool.resume("p").await.unwrap();
    assert_eq!(noted, None);
    writer.note(&note).await.unwrap();
    writer.write("he".into()).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);

    let (mut writer, noted) = spool.resume("p").await.unwrap();
    assert_eq!((writer.bytes(), noted), (2, Some(note)));
    writer.write("llo".into()).await.unwrap();
    let facts = SpooledFacts { name: "p".into(), ..SpooledFacts::default() };
    let stored = writer.finish(&spool, facts).await.unwrap();
    assert_eq!(fs::read(&stored.path).unwrap(), b"hello");
    assert_eq!(stored.facts.written_crc32, 0x3610_a686);
    assert_eq!(fs::read_dir(spool.dir()).unwrap().count(), 2, "no note is left");

    let (writer, noted) = spool.resume("other").await.unwrap();
    assert_eq!((writer.bytes(), noted), (0, None));
}

#[tokio::test]
async fn note_without_its_part_is_ignored() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let note = PartialFacts { name: "p".into(), etag: "\"1\"".into(), md5: None, total_bytes: None };
    spool.begin("p").await.unwrap().note(&note).await.unwrap();
    fs::remove_file(spool.partial_path("p")).unwrap();
    let (writer, noted) = spool.resume("p").await.unwrap();
    assert_eq!((writer.bytes(), noted), (0, None));
}

#[tokio::test]
async fn older_spools_are_removed_unless_kept_or_in_use() {
    let work_dir = tempfile::tempdir().unwrap();
    let at = |text: &str| SnapshotId::parse(text).unwrap();
    let (left, kept, used, current, newer) = (
        at("20210111T010000Z"),
        at("20210111T020000Z"),
        at("20210111T030000Z"),
        at("20210111T040000Z"),
        at("20210111T050000Z"),
    );
    let open = |snapshot| Spool::open(work_dir.path(), "d", snapshot);
    // The newest first, so that opening one does not sweep those before it.
    for snapshot in [newer, current, used, kept, left] {
        let spool = open(snapshot).await.unwrap();
        store(&spool, "p", &["x"]).await;
        if snapshot == kept {
            spool.keep().unwrap();
        }
    }
    let parent = work_dir.path().join("d");
    fs::write(parent.join("incoming-1.partial"), "left").unwrap();
    fs::write(parent.join("20200101T000000Z.lock"), "").unwrap();
    fs::write(parent.join("20210111T010000Z-1.rejects.ndjson.gz"), "still needed").unwrap();
    let incoming = begin_unnamed(work_dir.path(), "d").await.unwrap();
    let in_use = Spool { inner: Arc::clone(&open(used).await.unwrap().inner) };

    drop(open(current).await.unwrap());
    let mut names: Vec<_> = fs::read_dir(&parent)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.strip_suffix(".lock").is_none())
        .collect();
    names.sort();
    let incoming_name = incoming.path.file_name().unwrap().to_str().unwrap();
    let expected = [
        "20210111T010000Z-1.rejects.ndjson.gz",
        "20210111T020000Z",
        "20210111T030000Z",
        "20210111T040000Z",
        "20210111T050000Z",
        incoming_name,
    ];
    assert_eq!(names, expected);
    assert!(!parent.join("20210111T010000Z.lock").exists() && !parent.join("20200101T000000Z.lock").exists());
    drop(in_use);
}

#[tokio::test]
async fn full_disk_and_large_export_are_refused() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    spool.check_room(1).unwrap();
    let text = |bytes| format!("{}", spool.check_room(bytes).unwrap_err().source);
    assert_eq!(text(u64::MAX), "the export is larger than 256.0 GiB");
}

#[tokio::test]
async fn restart_discards_written_bytes() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let mut writer = spool.begin("p").await.unwrap();
    writer.write("something long".into()).await.unwrap();
    writer.restart().await.unwrap();
    writer.write("hello".into()).await.unwrap();
    let facts = SpooledFacts { name: "p".into(), ..SpooledFacts::default() };
    let stored = writer.finish(&spool, facts).await.unwrap();
    assert_eq!(fs::read(&stored.path).unwrap(), b"hello");
    assert_eq!(stored.facts.written_crc32, 0x3610_a686);
}

#[tokio::test]
async fn folders_and_files_are_private() {
    let work_dir = tempfile::tempdir().unwrap();
    fs::create_dir(work_dir.path().join("d")).unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let stored = store(&spool, "p", &["x"]).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&work_dir.path().join("d")), 0o700);
    assert_eq!(mode(spool.dir()), 0o700);
    assert_eq!(mode(&stored.path), 0o600);
}

#[tokio::test]
async fn second_run_waits_for_the_first() {
    let work_dir = tempfile::tempdir().unwrap();
    let first = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let path = work_dir.path().to_owned();
    let second = tokio::spawn(async move { Spool::open(&path, "d", snapshot()).await.unwrap() });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    store(&first, "p", &["x"]).await;
    first.remove().unwrap();
    let second = second.await.unwrap();
    assert_eq!(second.find("p", |_| true).await, None);
    store(&second, "p", &["y"]).await;
    second.remove().unwrap();
    assert_eq!(fs::read_dir(work_dir.path().join("d")).unwrap().count(), 0);
}

#[tokio::test]
async fn part_is_found_in_every_spelling() {
    let work_dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let stored = store(&spool, "c/OrgId=1/p", &["x"]).await;
    for name in ["c/OrgId=1/p", "c/OrgId%3D1/p", "c/OrgId%3d1/%70"] {
        assert_eq!(spool.find(name, |_| true).await, Some(stored.clone()), "{name}");
    }
    assert_eq!(spool.find("c/orgid=1/p", |_| true).await, None);
    let note = PartialFacts { name: "q=1".into(), etag: "\"1\"".into(), ..PartialFacts::default() };
    let mut writer = spool.begin("q=1").await.unwrap();
    writer.note(&note).await.unwrap();
    writer.write("he".into()).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    assert_eq!(spool.resume("q%3D1").await.unwrap().1, Some(note));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn kept_folder_is_read_and_never_changed() {
    let work_dir = tempfile::tempdir().unwrap();
    let parent = work_dir.path().join("d");
    let open = async || Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
    let spool = open().await;
    let a = store(&spool, "a", &["a"]).await;
    store(&spool, "b", &["b"]).await;
    spool.keep().unwrap();
    let kept = parent.join("20210111T110100Z");
    let before = names(&kept);

    // Another part, another page under one name, a damaged one: all beside it.
    let spool = open().await;
    assert_eq!(spool.find("a", |_| true).await, Some(a.clone()));
    store(&spool, "b", &["B"]).await;
    spool.discard("a", 1).unwrap();
    assert_eq!(spool.find("a", |_| true).await, None, "damaged");
    let again = store(&spool, "a", &["a"]).await;
    assert_eq!(spool.find("a", |_| true).await, Some(again));
    spool.remove().unwrap();
    assert_eq!((names(&parent), names(&kept)), (vec!["20210111T110100Z".to_owned()], before.clone()));

    // Kept again: with what it took over, so that the folder is whole by itself.
    let spool = open().await;
    spool.find("a", |_| true).await.unwrap();
    store(&spool, "b", &["B"]).await;
    spool.keep().unwrap();
    assert_eq!(names(&parent.join("20210111T110100Z.2")), before);
    assert_eq!(names(&kept), before);
    // With nothing of its own there is nothing to keep twice.
    let spool = open().await;
    assert_eq!(fs::read(spool.find("b", |_| true).await.unwrap().path).unwrap(), b"B", "the last one kept");
    spool.keep().unwrap();
    let later = SnapshotId::parse("20220111T110100Z").unwrap();
    Spool::open(work_dir.path(), "d", later).await.unwrap().remove().unwrap();
    assert_eq!(names(&parent), ["20210111T110100Z", "20210111T110100Z.2"]);
}
