//! A staged file: its bytes are counted and hashed as they are written to a local disk.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::lake::{LakeError, local};

/// One write to the system. Every open data file has such a buffer, and there is one per platform.
pub const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// A staged file that is being written. Counts and hashes its bytes.
#[derive(Debug)]
pub struct StagedFile {
    pub(crate) table_path: String,
    pub(crate) writer: BufWriter<HashingFile>,
}

/// The facts of a finished file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    /// Path below the table root, as the manifest has it; the bare name for the rejects.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl StagedFile {
    pub(crate) fn create(path: PathBuf, table_path: String) -> Result<Self, LakeError> {
        let file = local::create_file(&path)?;
        let hashing = HashingFile::new(file, path);
        Ok(Self { table_path, writer: BufWriter::with_capacity(WRITE_BUFFER_BYTES, hashing) })
    }

    /// Closes and syncs the file; returns its facts.
    ///
    /// # Errors
    ///
    /// Storage. A file that is dropped unfinished stays in staging, and no manifest lists it.
    pub fn finish(self) -> Result<FinishedFile, LakeError> {
        let (finished, unsynced) = self.close()?;
        unsynced.sync()?;
        Ok(finished)
    }

    /// Closes the file without syncing it.
    ///
    /// # Errors
    ///
    /// As [`Self::finish`].
    pub fn close(self) -> Result<(FinishedFile, UnsyncedFile), LakeError> {
        let path = self.writer.get_ref().path.clone();
        let hashing = self.writer.into_inner().map_err(|error| unwrap_io(error.into_error(), &path))?;
        let (file, bytes, sha256) = hashing.finish();
        Ok((FinishedFile { path: self.table_path, bytes, sha256 }, UnsyncedFile { file, path }))
    }
}

/// A closed file that is not synced yet.
#[derive(Debug)]
#[must_use = "a snapshot is published only once all its files are synced"]
pub struct UnsyncedFile {
    file: File,
    path: PathBuf,
}

impl UnsyncedFile {
    /// Syncs the file.
    ///
    /// # Errors
    ///
    /// Storage.
    pub fn sync(&self) -> Result<(), LakeError> {
        local::sync_file(&self.file, &self.path)
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes to a file. Its errors are [`LakeError`]s wrapped in an [`io::Error`] of the same kind, so that the path is
/// known even under several layers of writers.
#[derive(Debug)]
pub(crate) struct HashingFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    sha256: Sha256,
}

impl HashingFile {
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, bytes: 0, sha256: Sha256::new() }
    }

    /// Appends everything that `from` gives.
    pub(crate) fn append(&mut self, mut from: impl Read) -> Result<(), LakeError> {
        let path = self.path.clone();
        io::copy(&mut from, self).map_err(|error| unwrap_io(error, &path))?;
        Ok(())
    }

    /// Returns the file, and of what was written the size and the SHA-256 in hexadecimal.
    pub(crate) fn finish(self) -> (File, u64, String) {
        (self.file, self.bytes, hex(&self.sha256.finalize()))
    }

    fn named(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, local::io_error("write", &self.path)(error)),
        }
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).map_err(|error| self.named(error))?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(error))
    }
}

/// Unwraps the [`LakeError`] that [`HashingFile`] wrapped.
fn unwrap_io(error: io::Error, path: &Path) -> LakeError {
    error.downcast::<LakeError>().unwrap_or_else(|error| local::io_error("write", path)(error))
}
