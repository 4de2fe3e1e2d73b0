//! Parts at rest in the work dir: takes bytes, gives whole, checked files; never knows the network or
//! the lake.
//!
//! ```text
//! <work dir>/software_inventory/20210111T110100Z.lock      held by the run that uses the spool
//! <work dir>/software_inventory/20210111T110100Z/          mode 0700
//!     3f9c2b7a….part             a whole part, named by the hash of its name
//!     3f9c2b7a….json             what is known of it; written last
//!     3f9c2b7a….part.partial     one that is coming in
//!     3f9c2b7a….partial.json     of which blob it is: what a later run can go on with
//!     .kept                      only with --keep-parts: later runs read this folder and never change it
//! <work dir>/software_inventory/20210111T110100Z.2/        what a later run of the same snapshot writes then
//! <work dir>/software_inventory/incoming-….partial         a first page, or what a pipe gives; locked by the
//!                                                          run that writes it
//! ```
//!
//! Parts are found by their [`PartKey`], so one that is listed in another spelling is not fetched again.
//! Opening a spool sweeps what runs that were killed left of older snapshots, unless it is kept or in use.
//!
//! A rerun takes over what is here, but believes nothing: size and CRC are held against the facts file
//! each time. That is also why nothing is synced to the disk: what a power cut tears is fetched again.
//! The CRC says that the bytes are those that were written, at a twentieth of what an MD5 costs; whether
//! those are the server's, its own MD5 says to whoever decodes them.

mod part_writer;
mod sweep;

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use self::part_writer::{PartWriter, begin_unnamed, for_each_chunk};
use self::{
    part_writer::sum_up,
    sweep::{sweep, try_lock},
};
use crate::{
    digest::sha256_hex,
    manifest::Proof,
    snapshot::{PartKey, SnapshotId},
};

/// Most bytes that a spool takes. Real exports have some GB; beyond this something else is going on.
const MAX_SPOOL_BYTES: u64 = 256 << 30;
/// What is left free on the disk of the work dir: others write there too.
const MIN_FREE_BYTES: u64 = 256 << 20;
/// Says that a spool was kept on purpose.
pub(crate) const KEPT: &str = ".kept";
/// Folders of one snapshot, of which all but the last are kept ones. Each holds a whole export: whoever
/// keeps as many of one snapshot has a scheduler that went wrong.
const MAX_FOLDERS: u32 = 16;
/// How often a run looks whether the other one, which holds the spool, is done.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A file of the work dir that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("work dir: cannot {action} {}", path.display())]
pub struct SpoolError {
    /// What was being done.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl SpoolError {
    fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

/// The parts of one export. Clones share it; the lock is held until the last is gone.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What this run writes to.
    dir: PathBuf,
    /// What earlier runs kept of the same snapshot: taken over from, and never changed.
    kept: Vec<PathBuf>,
    lock_path: PathBuf,
    /// Bytes of the parts that are whole.
    bytes: AtomicU64,
    of_kept: Mutex<OfKept>,
    _lock: fs::File,
}

/// What this run made of the kept parts.
#[derive(Debug, Default)]
struct OfKept {
    /// The files of parts that were taken over.
    used: Vec<PathBuf>,
    /// Those that turned out to be damaged: they are fetched again and not found here any more.
    damaged: HashSet<PartKey>,
}

/// Of which blob an unfinished part is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialFacts {
    /// Name of the part.
    pub name: String,
    /// Strong entity tag of the blob.
    pub etag: String,
    /// MD5 of the whole blob as the server gave it, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// Size of the whole blob as the server gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

/// What is known of a part beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledFacts {
    /// Name of the part.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// CRC-32 of the bytes as they were written.
    pub written_crc32: u32,
    /// MD5 as the server gave it, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_md5: Option<String>,
    /// What shows that the part is whole; absent in spools of versions before there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// For a page: the hash of the link that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_sha256: Option<String>,
    /// For a page: the link to the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// A whole part at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Where it is.
    pub path: PathBuf,
    /// What is known of it.
    pub facts: SpooledFacts,
}

impl Spool {
    /// Opens the spool of one export for this run alone, made where it is not there yet. Waits while
    /// another run holds it: that one publishes, this one then finds its snapshot published.
    ///
    /// # Errors
    ///
    /// Where the work dir cannot be used.
    pub async fn open(work_dir: &Path, dataset: &str, snapshot: SnapshotId) -> Result<Self, SpoolError> {
        let parent = dataset_dir(work_dir, dataset)?;
        let lock_path = parent.join(format!("{snapshot}.lock"));
        let mut waiting = false;
        let lock = loop {
            if let Some(lock) = try_lock(&lock_path)? {
                break lock;
            }
            if !waiting {
                waiting = true;
                tracing::info!(%snapshot, "another run works on this snapshot, waiting for it");
            }
            tokio::time::sleep(LOCK_POLL).await;
        };
        sweep(&parent, snapshot);
        let mut kept = Vec::new();
        let dir = loop {
            let dir = folder(&parent, snapshot, kept.len());
            if !dir.join(KEPT).exists() {
                break dir;
            }
            kept.push(dir);
            if kept.len() == MAX_FOLDERS as usize {
                let text = format!("the parts of this snapshot were kept {MAX_FOLDERS} times; remove some");
                return Err(SpoolError::new("make another folder beside", &kept[0])(io::Error::other(text)));
            }
        };
        create_private_dir(&dir)?;
        let (bytes, of_kept) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { dir, kept, lock_path, bytes, of_kept, _lock: lock }) })
    }

    /// The folder that parts are written to.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The part `name` from an earlier run, if it is here whole and unchanged, and is `wanted`.
    pub async fn find(
        &self,
        name: &str,
        wanted: impl Fn(&SpooledFacts) -> bool + Send + 'static,
    ) -> Option<Spooled> {
        let key = PartKey::of(name);
        let is_damaged = self.of_kept().damaged.contains(&key);
        let kept = self.inner.kept.iter().filter(|_| !is_damaged).rev();
        let dirs: Vec<_> = std::iter::once(&self.inner.dir).chain(kept).cloned().collect();
        let found = tokio::task::spawn_blocking(move || {
            dirs.iter().find_map(|dir| check(&part_path(dir, &key), &key, &wanted))
        });
        let spooled = found.await.ok().flatten()?;
        if !spooled.path.starts_with(&self.inner.dir) {
            self.of_kept().used.push(spooled.path.clone());
        }
        self.inner.bytes.fetch_add(spooled.facts.bytes, Ordering::Relaxed);
        Some(spooled)
    }

    /// Removes the part `name` of `bytes`, which turned out to be damaged. One of a kept folder stays there
    /// and is not found any more.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed.
    pub fn discard(&self, name: &str, bytes: u64) -> Result<(), SpoolError> {
        let path = self.part_path(name);
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound && !self.inner.kept.is_empty() => {
                self.of_kept().damaged.insert(PartKey::of(name));
            }
            removed => removed.map_err(SpoolError::new("remove", path))?,
        }
        self.inner.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn of_kept(&self) -> std::sync::MutexGuard<'_, OfKept> {
        self.inner.of_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to write the part `name`, from nothing.
    ///
    /// # Errors
    ///
    /// Where the file cannot be made.
    pub async fn begin(&self, name: &str) -> Result<PartWriter, SpoolError> {
        PartWriter::create(self.partial_path(name)).await
    }

    /// Goes on with the part `name` where an earlier run stopped, or begins it. What is there already is
    /// read once, for its CRC; whether it is still of use, the server decides by the entity tag.
    ///
    /// # Errors
    ///
    /// Where the file cannot be made or read.
    pub async fn resume(&self, name: &str) -> Result<(PartWriter, Option<PartialFacts>), SpoolError> {
        let facts = fs::read(self.partial_facts_path(name)).ok();
        let facts = facts.and_then(|text| serde_json::from_slice::<PartialFacts>(&text).ok());
        if let Some(facts) = facts.filter(|facts| PartKey::of(&facts.name) == PartKey::of(name))
            && let Some(writer) = PartWriter::reopen(self.partial_path(name)).await?
        {
            return Ok((writer, Some(facts)));
        }
        Ok((self.begin(name).await?, None))
    }

    /// Whether `bytes` more may be stored.
    ///
    /// # Errors
    ///
    /// Where the spool would become too large, or the disk too full.
    pub fn check_room(&self, bytes: u64) -> Result<(), SpoolError> {
        let full = |text: String| {
            let source = io::Error::new(io::ErrorKind::StorageFull, text);
            Err(SpoolError { action: "store a part in", path: self.inner.dir.clone(), source })
        };
        if self.inner.bytes.load(Ordering::Relaxed).saturating_add(bytes) > MAX_SPOOL_BYTES {
            return full(format!("the export is larger than {}", ByteSize(MAX_SPOOL_BYTES)));
        }
        check_free(&self.inner.dir, bytes)
    }

    /// Keeps the parts after publishing: no later run changes or removes them. Those that were kept before
    /// stay where they are; a folder that has parts of its own is made whole with those that it took over.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    pub fn keep(self) -> Result<(), SpoolError> {
        let dir = &self.inner.dir;
        let has_part = |entries: fs::ReadDir| {
            entries.flatten().any(|entry| entry.path().extension().is_some_and(|ending| ending == "part"))
        };
        if !fs::read_dir(dir).map(has_part).map_err(SpoolError::new("list", dir))? {
            return self.remove();
        }
        for part in &self.of_kept().used {
            for path in [part, &part.with_extension("json")] {
                let Some(name) = path.file_name() else { continue };
                let here = dir.join(name);
                if here.exists() {
                    continue;
                }
                fs::hard_link(path, &here)
                    .or_else(|_| fs::copy(path, &here).map(|_| ()))
                    .map_err(SpoolError::new("copy", path))?;
            }
        }
        let path = dir.join(KEPT);
        fs::write(&path, "").map_err(SpoolError::new("write", path))
    }

    /// Removes the parts, once they are published; kept ones stay.
    ///
    /// # Errors
    ///
    /// Where they cannot be removed.
    pub fn remove(self) -> Result<(), SpoolError> {
        let Inner { dir, lock_path, .. } = &*self.inner;
        fs::remove_dir_all(dir).map_err(SpoolError::new("remove", dir))?;
        // A run that waits for the lock notices that its file is gone, see `try_lock`.
        fs::remove_file(lock_path).map_err(SpoolError::new("remove", lock_path))
    }

    fn part_path(&self, name: &str) -> PathBuf {
        part_path(&self.inner.dir, &PartKey::of(name))
    }

    fn facts_path(&self, name: &str) -> PathBuf {
        self.part_path(name).with_extension("json")
    }

    fn partial_path(&self, name: &str) -> PathBuf {
        self.part_path(name).with_extension("part.partial")
    }

    fn partial_facts_path(&self, name: &str) -> PathBuf {
        self.part_path(name).with_extension("partial.json")
    }
}

/// The folder of a snapshot's parts, beside so many that are kept.
fn folder(parent: &Path, snapshot: SnapshotId, num_kept: usize) -> PathBuf {
    match num_kept {
        0 => parent.join(snapshot.to_string()),
        _ => parent.join(format!("{snapshot}.{}", num_kept + 1)),
    }
}

fn part_path(dir: &Path, key: &PartKey) -> PathBuf {
    dir.join(format!("{}.part", &sha256_hex(key)[..32]))
}

fn check(path: &Path, key: &PartKey, wanted: &dyn Fn(&SpooledFacts) -> bool) -> Option<Spooled> {
    let facts: SpooledFacts = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
    if PartKey::of(&facts.name) != *key || !wanted(&facts) || fs::metadata(path).ok()?.len() != facts.bytes {
        return None;
    }
    let (crc32, _) = sum_up(&mut fs::File::open(path).ok()?).ok()?;
    (crc32.finalize() == facts.written_crc32).then(|| Spooled { path: path.to_owned(), facts })
}

/// Whether the disk of `dir` has room for `bytes` more.
fn check_free(dir: &Path, bytes: u64) -> Result<(), SpoolError> {
    let disk =
        rustix::fs::statvfs(dir).map_err(|err| SpoolError::new("look at the disk of", dir)(err.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes.saturating_add(MIN_FREE_BYTES) {
        let (free, bytes, reserve) = (ByteSize(free), ByteSize(bytes), ByteSize(MIN_FREE_BYTES));
        let text =
            format!("{free} are free on its disk, {bytes} are needed and {reserve} are left to others");
        let source = io::Error::new(io::ErrorKind::StorageFull, text);
        return Err(SpoolError { action: "store a part in", path: dir.to_owned(), source });
    }
    Ok(())
}

fn dataset_dir(work_dir: &Path, dataset: &str) -> Result<PathBuf, SpoolError> {
    let dir = work_dir.join(dataset);
    create_private_dir(&dir)?;
    Ok(dir)
}

/// Parts hold what is installed where: nobody but the owner may look.
fn create_private_dir(dir: &Path) -> Result<(), SpoolError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SpoolError::new("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(SpoolError::new("make private", dir))
}

#[cfg(test)]
mod tests {
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
    async fn whole_parts_are_taken_over_and_damaged_ones_are_not() {
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
    async fn an_unfinished_part_leaves_nothing() {
        let work_dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
        let mut writer = spool.begin("p").await.unwrap();
        writer.write("half".into()).await.unwrap();
        assert_eq!(fs::read_dir(spool.dir()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(fs::read_dir(spool.dir()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_noted_part_goes_on_where_it_stopped() {
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
    async fn a_note_without_its_part_is_nothing_to_go_on_with() {
        let work_dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
        let note = PartialFacts { name: "p".into(), etag: "\"1\"".into(), md5: None, total_bytes: None };
        spool.begin("p").await.unwrap().note(&note).await.unwrap();
        fs::remove_file(spool.partial_path("p")).unwrap();
        let (writer, noted) = spool.resume("p").await.unwrap();
        assert_eq!((writer.bytes(), noted), (0, None));
    }

    #[tokio::test]
    async fn older_spools_are_swept_unless_kept_or_in_use() {
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
        fs::write(parent.join("20210111T010000Z-1.rejects.ndjson.gz"), "of use to somebody").unwrap();
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
        assert!(
            !parent.join("20210111T010000Z.lock").exists() && !parent.join("20200101T000000Z.lock").exists()
        );
        drop(in_use);
    }

    #[tokio::test]
    async fn what_has_no_room_is_refused_in_words() {
        let work_dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(work_dir.path(), "d", snapshot()).await.unwrap();
        spool.check_room(1).unwrap();
        let text = |bytes| format!("{}", spool.check_room(bytes).unwrap_err().source);
        assert_eq!(text(u64::MAX), "the export is larger than 256.0 GiB");
    }

    #[tokio::test]
    async fn restarting_forgets_what_was_written() {
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
    async fn a_second_run_waits_for_the_first() {
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
    async fn a_part_is_found_in_every_spelling() {
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
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_kept_folder_is_read_and_never_changed() {
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
        assert_eq!(
            fs::read(spool.find("b", |_| true).await.unwrap().path).unwrap(),
            b"B",
            "the last one kept"
        );
        spool.keep().unwrap();
        let later = SnapshotId::parse("20220111T110100Z").unwrap();
        Spool::open(work_dir.path(), "d", later).await.unwrap().remove().unwrap();
        assert_eq!(names(&parent), ["20210111T110100Z", "20210111T110100Z.2"]);
    }
}
