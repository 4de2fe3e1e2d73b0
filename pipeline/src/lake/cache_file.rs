//! A table's caches: small files of what was counted once, which can be deleted at any time.
//!
//! Takes and gives its bytes, and never knows what they say. A reader sees all of a write or nothing of it. Writers do
//! not wait for the table lock: of two at once, the second adds to what the first has written. A lake that cannot be
//! written, or has something else at the cache's place, is the caller's to ignore: it counts again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::error::{LakeError, io_error};
use super::local;
use super::paths::{CHANGES_FILE, FIGURES_FILE, NEW_CHANGES_FILE, NEW_FIGURES_FILE};
use super::place::Place;
use super::store::{Put, Store};
use super::table::Table;

/// A snapshot or pair of them takes less than a KiB, so this is the history of 40 years; a larger file was not written by this
/// program and is not read.
const MAX_CACHE_BYTES: u64 = 16 << 20;

/// How often, and how long between, a writer tries while others write. Each takes milliseconds.
const MAX_WRITE_TRIES: u32 = 50;
const WRITE_POLL: Duration = Duration::from_millis(10);

/// How often a write in a store is tried if others are faster.
const MAX_PUTS: u32 = 4;

/// One of a table's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheFile {
    /// Changes between consecutive snapshots.
    Changes,
    /// Figures of snapshots.
    Figures,
}

impl CacheFile {
    fn name(self) -> &'static str {
        match self {
            Self::Changes => CHANGES_FILE,
            Self::Figures => FIGURES_FILE,
        }
    }

    fn new_name(self) -> &'static str {
        match self {
            Self::Changes => NEW_CHANGES_FILE,
            Self::Figures => NEW_FIGURES_FILE,
        }
    }
}

impl Table {
    /// Reads a cache; nothing if there is none.
    ///
    /// # Errors
    ///
    /// Fails if it is too large to be ours, is not a regular file, or cannot be read.
    pub fn read_cache(&self, cache: CacheFile) -> Result<Option<Vec<u8>>, LakeError> {
        self.read_bounded(&self.own_root().join(cache.name()), MAX_CACHE_BYTES)
    }

    /// Replaces a cache with what `update` makes of it. Something in its place that cannot be read is replaced, too.
    /// `update` may be called several times. Writes nothing that [`Table::read_cache`] would not read.
    ///
    /// # Errors
    ///
    /// Fails if the lake cannot be written, or if others write all the time.
    pub fn update_cache(
        &self,
        cache: CacheFile,
        update: impl Fn(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), LakeError> {
        let path = self.own_root().join(cache.name());
        match self.place() {
            Place::Disk(_) => {
                let new_path = self.own_root().join(cache.new_name());
                let new = create_alone(&new_path)?;
                let bytes =
                    checked(update(local::read_bounded(&path, MAX_CACHE_BYTES).ok().flatten()), &path)?;
                replace(&new, &new_path, &bytes, &path)
            }
            Place::Store(store) => put(store, &path, update),
        }
    }
}

fn checked(bytes: Vec<u8>, path: &Path) -> Result<Vec<u8>, LakeError> {
    if bytes.len() as u64 <= MAX_CACHE_BYTES {
        Ok(bytes)
    } else {
        Err(io_error("write", path)(io::ErrorKind::FileTooLarge.into()))
    }
}

/// Creates the file that is to become the cache, empty and locked: only one process has it at a time. Its name is
/// always the same, so that one of a killed process does not stay behind.
fn create_alone(path: &Path) -> Result<File, LakeError> {
    for _ in 0..MAX_WRITE_TRIES {
        // Neither follows a link nor waits for the other end of a pipe.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).custom_flags(flags);
        let file = local::change("create", path, || options.open(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(WRITE_POLL);
                continue;
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
        }
        if !local::is_same_file(&file, path)? {
            continue;
        }
        let found = file.metadata().map_err(io_error("read", path))?;
        if found.is_file() && found.len() == 0 && found.nlink() == 1 {
            return Ok(file);
        }
        // A process was killed while it wrote, or this is another's file: it is never written to.
        local::remove_file(path)?;
    }
    Err(io_error("lock", path)(io::ErrorKind::WouldBlock.into()))
}

/// Writes the new file and moves it to the cache's place.
fn replace(new: &File, new_path: &Path, bytes: &[u8], path: &Path) -> Result<(), LakeError> {
    let mut file = new;
    let written = local::change("write", new_path, || file.write_all(bytes))
        .and_then(|()| local::sync_file(new, new_path))
        .and_then(|()| local::rename(new_path, path));
    if written.is_err() {
        // Best effort: an error is ignored, the next writer removes it.
        let _ = local::remove_file(new_path);
    }
    written
}

fn put(store: &Store, path: &Path, update: impl Fn(Option<Vec<u8>>) -> Vec<u8>) -> Result<(), LakeError> {
    for _ in 0..MAX_PUTS {
        let (found, put) = match store.read(path, MAX_CACHE_BYTES) {
            Ok(Some((bytes, version))) => (Some(bytes), Put::Update(version)),
            Ok(None) => (None, Put::Create),
            Err(error) => match store.version(path)? {
                Some(version) => (None, Put::Update(version)),
                None => return Err(error),
            },
        };
        let bytes = checked(update(found), path)?;
        if store.put(path, bytes, put)?.is_some() {
            return Ok(());
        }
    }
    Err(io_error("update", path)(io::ErrorKind::WouldBlock.into()))
}
