//! Parts at rest in the work dir: takes bytes, gives complete, checked files. Knows neither the network nor the
//! lake.
//!
//! ```text
//! <work dir>/software_inventory/20210111T110100Z.lock      held by the run that uses the spool
//! <work dir>/software_inventory/20210111T110100Z/          mode 0700
//!     3f9c2b7a….part             a complete part, named by the hash of its name
//!     3f9c2b7a….json             its facts, written last
//!     3f9c2b7a….part.partial     an unfinished part
//!     3f9c2b7a….partial.json     the blob that it belongs to, needed to resume it
//!     .kept                      only with --keep-parts: later runs read this folder and never change it
//! <work dir>/software_inventory/20210111T110100Z.2/        what a later run of the same snapshot writes then
//! <work dir>/software_inventory/incoming-….partial         a first page or a pipe's contents; locked by the
//!                                                          run that writes it
//! ```
//!
//! Parts are found by their [`PartKey`], so a part that is listed in another spelling is not fetched again.
//! Opening a spool removes what killed runs left of older snapshots, unless it is kept or in use.
//!
//! A rerun reuses the parts of earlier runs, but checks size and CRC against the facts file each time. Nothing is
//! synced to the disk for the same reason: a part that a power failure damages is fetched again. The CRC shows that
//! the bytes are those that were written, at a twentieth of the cost of an MD5; the server's MD5 is checked before
//! the part is decoded.

mod error;
mod facts;
mod finish;
mod part_writer;
mod sweep;
mod work_dir;

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytesize::ByteSize;

pub use self::error::SpoolError;
pub use self::facts::{PartialFacts, Spooled, SpooledFacts};
use self::part_writer::sum_up;
pub use self::part_writer::{PartWriter, begin_unnamed, for_each_chunk};
use self::sweep::{sweep, try_lock};
pub(crate) use self::work_dir::KEPT;
use self::work_dir::{MAX_FOLDERS, check_free, create_private_dir, dataset_dir, folder, part_path};
use crate::snapshot::{PartKey, SnapshotId};

/// Most bytes of a spool. Real exports have some GB; beyond this something else is wrong.
const MAX_SPOOL_BYTES: u64 = 256 << 30;
/// Interval at which a run tries to lock a spool that another run holds.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// The parts of one export. Clones share it; the lock is held until the last is gone.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The folder that this run writes to.
    dir: PathBuf,
    /// Folders that earlier runs kept of the same snapshot: read and never changed.
    kept: Vec<PathBuf>,
    lock_path: PathBuf,
    /// Bytes of the complete parts.
    bytes: AtomicU64,
    of_kept: Mutex<OfKept>,
    _lock: fs::File,
}

/// Use of the kept parts by this run.
#[derive(Debug, Default)]
struct OfKept {
    /// Files of the parts that were reused.
    used: Vec<PathBuf>,
    /// Parts that turned out to be damaged: they are fetched again and no longer found here.
    damaged: HashSet<PartKey>,
}

impl Spool {
    /// Opens the spool of one export, created if missing, for this run only. Waits while another run holds it: that
    /// run publishes, and this one then finds the snapshot published.
    ///
    /// # Errors
    ///
    /// Fails if the work dir cannot be used.
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
                tracing::info!(%snapshot, "another run is working on this snapshot, waiting for it");
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
                return Err(SpoolError::new("create another folder beside", &kept[0])(io::Error::other(
                    text,
                )));
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

    /// Returns the part `name` of an earlier run, if it is complete, unchanged and `wanted`.
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

    /// Removes the part `name` of `bytes`, which turned out to be damaged. A part of a kept folder stays there and is
    /// no longer found.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be removed.
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

    /// Starts to write the part `name` from its first byte.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be made.
    pub async fn begin(&self, name: &str) -> Result<PartWriter, SpoolError> {
        PartWriter::create(self.partial_path(name)).await
    }

    /// Resumes the part `name` of an earlier run, or starts it. Existing bytes are read once, for their CRC; the
    /// server decides by the entity tag whether they are still valid.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be made or read.
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

    /// Checks that `bytes` more may be stored.
    ///
    /// # Errors
    ///
    /// Fails if the spool would become too large, or the disk too full.
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

    /// Keeps the parts after publishing: no later run changes or removes them. Parts that were kept before stay where
    /// they are; a folder with parts of its own is completed with those that it reused.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
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

    /// Removes the parts after they were published. Kept ones stay.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be removed.
    pub fn remove(self) -> Result<(), SpoolError> {
        let Inner { dir, lock_path, .. } = &*self.inner;
        fs::remove_dir_all(dir).map_err(SpoolError::new("remove", dir))?;
        // A run that waits for the lock notices that the file is gone, see `try_lock`.
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

fn check(path: &Path, key: &PartKey, wanted: &dyn Fn(&SpooledFacts) -> bool) -> Option<Spooled> {
    let facts: SpooledFacts = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
    if PartKey::of(&facts.name) != *key || !wanted(&facts) || fs::metadata(path).ok()?.len() != facts.bytes {
        return None;
    }
    let (crc32, _) = sum_up(&mut fs::File::open(path).ok()?).ok()?;
    (crc32.finalize() == facts.written_crc32).then(|| Spooled { path: path.to_owned(), facts })
}
