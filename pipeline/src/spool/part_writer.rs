//! Writes a part: takes its bytes, gives it to the spool once it is complete.
//!
//! The transfer waits only for a disk that is slower than the network: chunks are gathered without a copy and
//! written in batches by a thread that may block, which also computes their CRC for later runs.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use crc32fast::Hasher;
use tokio::task::{JoinHandle, spawn_blocking};

use super::work_dir::{check_free, dataset_dir};
use super::{PartialFacts, SpoolError};

/// Bytes of a batch. Large enough that handing it to another thread is cheap; each download holds up to two in
/// memory, and a killed run loses them.
const BATCH_BYTES: usize = 512 * 1024;
/// Bytes of one read of a file.
const READ_BYTES: usize = 256 * 1024;

/// Starts to write a part outside of any spool: the first page of the JSON route, whose snapshot is not known before
/// it is read and which [`PartWriter::finish`] moves into its spool then, or the contents of a pipe, which are
/// removed with the writer.
///
/// # Errors
///
/// Fails if the file cannot be made.
pub async fn begin_unnamed(work_dir: &Path, dataset: &str) -> Result<PartWriter, SpoolError> {
    let parent = dataset_dir(work_dir, dataset)?;
    let number = getrandom::u64().map_err(|err| SpoolError {
        action: "name a file in",
        path: parent.clone(),
        source: io::Error::other(err),
    })?;
    let mut writer = PartWriter::create(parent.join(format!("incoming-{number:016x}.partial"))).await?;
    // Files without a lock are removed by later runs. On a system without locks none is.
    let lock =
        fs::File::open(&writer.path).and_then(|file| file.try_lock().map(|()| file).map_err(Into::into));
    writer.lock = lock.ok();
    Ok(writer)
}

/// A part that is being written. Removed when dropped unfinished, unless its blob was noted.
#[derive(Debug)]
pub struct PartWriter {
    pub(super) path: PathBuf,
    disk: Disk,
    /// Chunks that are not written yet.
    batch: Vec<Bytes>,
    batch_bytes: usize,
    pub(super) bytes: u64,
    /// The first byte, which says whether the part is gzip.
    first_byte: Option<u8>,
    is_noted: bool,
    pub(super) is_finished: bool,
    /// Tells other runs that this one still writes; released when dropped.
    lock: Option<fs::File>,
}

/// The file of a part, and the CRC-32 of its contents.
#[derive(Debug)]
pub(super) struct PartFile {
    file: fs::File,
    pub(super) crc32: Hasher,
}

/// State of the file.
#[derive(Debug)]
enum Disk {
    Idle(PartFile),
    /// In use by the thread that writes a batch.
    Writing(JoinHandle<io::Result<PartFile>>),
    /// Lost after an error: nothing more is written.
    Failed,
}

impl PartWriter {
    pub(super) async fn create(path: PathBuf) -> Result<Self, SpoolError> {
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).await.map_err(SpoolError::new("create", &path))?.into_std().await;
        Ok(Self::new(path, PartFile { file, crc32: Hasher::new() }, 0))
    }

    /// Opens the part that an earlier run left at `path`, to resume it. Returns `None` if there is none.
    pub(super) async fn reopen(path: PathBuf) -> Result<Option<Self>, SpoolError> {
        let opened = spawn_blocking({
            let path = path.clone();
            move || {
                let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
                let (crc32, bytes) = sum_up(&mut file)?;
                let mut first_byte = [0];
                let num_read = file.read_at(&mut first_byte, 0)?;
                let first_byte = (num_read == 1).then_some(first_byte[0]);
                Ok::<_, io::Error>((PartFile { file, crc32 }, bytes, first_byte))
            }
        });
        match opened.await.map_err(io::Error::other).flatten() {
            Ok((_, 0, _)) => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(SpoolError::new("read", path)(err)),
            Ok((file, bytes, first_byte)) => {
                let mut writer = Self::new(path, file, bytes);
                writer.first_byte = first_byte;
                writer.is_noted = true;
                Ok(Some(writer))
            }
        }
    }

    fn new(path: PathBuf, file: PartFile, bytes: u64) -> Self {
        Self {
            path,
            disk: Disk::Idle(file),
            batch: Vec::new(),
            batch_bytes: 0,
            bytes,
            first_byte: None,
            is_noted: false,
            is_finished: false,
            lock: None,
        }
    }

    /// Notes the blob that the bytes belong to, so that a later run can resume them.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
    pub async fn note(&mut self, facts: &PartialFacts) -> Result<(), SpoolError> {
        let path = self.note_path();
        let text =
            serde_json::to_vec(facts).map_err(io::Error::from).map_err(SpoolError::new("write", &path))?;
        tokio::fs::write(&path, text).await.map_err(SpoolError::new("write", &path))?;
        self.is_noted = true;
        Ok(())
    }

    fn note_path(&self) -> PathBuf {
        // `3f9c.part.partial` → `3f9c.partial.json`
        self.path.with_extension("").with_extension("partial.json")
    }

    /// Appends a chunk. Waits only while the previous batch is still being written.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written, or did not take what was appended earlier.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        self.first_byte = self.first_byte.or_else(|| chunk.first().copied());
        self.bytes += chunk.len() as u64;
        self.batch_bytes += chunk.len();
        self.batch.push(chunk);
        if self.batch_bytes < BATCH_BYTES { Ok(()) } else { self.hand_over().await }
    }

    /// Writes everything appended so far to the disk.
    ///
    /// # Errors
    ///
    /// Fails if the disk cannot be written.
    pub async fn flush(&mut self) -> Result<(), SpoolError> {
        self.hand_over().await?;
        self.disk = Disk::Idle(self.take_file().await?);
        Ok(())
    }

    /// Empties the part, to start it again.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be emptied.
    pub async fn restart(&mut self) -> Result<(), SpoolError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut file = self.take_file().await?;
        file.clear().map_err(SpoolError::new("empty", &self.path))?;
        self.disk = Disk::Idle(file);
        self.forget_note();
        self.batch.clear();
        (self.batch_bytes, self.bytes, self.first_byte) = (0, 0, None);
        Ok(())
    }

    /// Starts to write the batch, once the previous one is written.
    async fn hand_over(&mut self) -> Result<(), SpoolError> {
        let mut file = self.take_file().await?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.disk = Disk::Writing(spawn_blocking(move || file.append(&batch).map(|()| file)));
        Ok(())
    }

    /// Returns the file, once the current batch is written.
    pub(super) async fn take_file(&mut self) -> Result<PartFile, SpoolError> {
        let file = match &mut self.disk {
            Disk::Writing(writing) => writing.await.map_err(io::Error::other).flatten(),
            disk => match std::mem::replace(disk, Disk::Failed) {
                Disk::Idle(file) => Ok(file),
                _ => Err(io::Error::other("an earlier write failed")),
            },
        };
        self.disk = Disk::Failed;
        file.map_err(SpoolError::new("write", &self.path))
    }

    pub(super) fn forget_note(&mut self) {
        if std::mem::take(&mut self.is_noted) {
            // Best effort: the server refuses the entity tag of a stale note.
            let _ = fs::remove_file(self.note_path());
        }
    }

    /// Returns the number of bytes appended so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether the part starts like gzip, by the same rule as the decoder.
    pub fn is_gzip(&self) -> bool {
        self.first_byte == Some(0x1f)
    }

    /// Returns the path of the file, which is complete once flushed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the disk has room for `bytes` more.
    ///
    /// # Errors
    ///
    /// Fails if it has not.
    pub fn check_free(&self, bytes: u64) -> Result<(), SpoolError> {
        check_free(self.path.parent().unwrap_or(Path::new(".")), bytes)
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if !self.is_finished && !self.is_noted {
            // Best effort: the next run truncates a file that remains.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl PartFile {
    fn append(&mut self, batch: &[Bytes]) -> io::Result<()> {
        for chunk in batch {
            self.file.write_all(chunk)?;
            self.crc32.update(chunk);
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.crc32.reset();
        Ok(())
    }
}

/// Returns CRC-32 and size of the rest of `file`.
pub(super) fn sum_up(file: &mut fs::File) -> io::Result<(Hasher, u64)> {
    let mut crc32 = Hasher::new();
    let bytes = for_each_chunk(file, |chunk| crc32.update(chunk))?;
    Ok((crc32, bytes))
}

/// Passes the rest of `file` to `take` in chunks. Returns its size.
///
/// # Errors
///
/// Fails if it cannot be read.
pub fn for_each_chunk(file: &mut fs::File, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => {
                take(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}
