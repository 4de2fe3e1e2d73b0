//! Named pipes: read once, to their end, without blocking a thread, so that a run can be interrupted while nothing
//! writes to the pipe.

use std::{fs, io, os::unix::fs::FileTypeExt, path::Path};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::error::unreadable;
use crate::source::SourceError;
use crate::spool::{PartWriter, begin_unnamed};

/// Bytes of a read; a pipe holds as many.
const READ_BYTES: usize = 64 * 1024;
/// Smallest rest of a buffer that is worth a read.
const MIN_READ_BYTES: usize = 8 * 1024;
/// Interval of the checks for free space on the disk.
const CHECK_EVERY_BYTES: u64 = 64 << 20;
/// Most bytes of one pipe, as of any part.
const MAX_PIPE_BYTES: u64 = 64 << 30;

/// A pipe that is open for reading.
struct Pipe {
    receiver: pipe::Receiver,
    buffer: BytesMut,
}

impl Pipe {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { receiver: pipe::OpenOptions::new().open_receiver(path)?, buffer: BytesMut::new() })
    }

    /// Returns the next bytes; empty at the end, once all writers have closed the pipe.
    async fn next(&mut self) -> io::Result<Bytes> {
        if self.buffer.capacity() < MIN_READ_BYTES {
            self.buffer.reserve(READ_BYTES);
        }
        self.receiver.read_buf(&mut self.buffer).await?;
        Ok(self.buffer.split().freeze())
    }
}

/// Reads the pipe at `path` into a file of the work dir, which is removed when the writer is dropped.
///
/// # Errors
///
/// Fails if it cannot be read, or the disk cannot be written.
pub(super) async fn spool_pipe(
    path: &Path,
    work_dir: &Path,
    dataset: &str,
) -> Result<PartWriter, SourceError> {
    tracing::info!(pipe = %path.display(), "reading a pipe into the work dir");
    let mut pipe = Pipe::open(path).map_err(unreadable(path))?;
    let mut writer = begin_unnamed(work_dir, dataset).await?;
    let mut checked_bytes = 0;
    loop {
        let chunk = pipe.next().await.map_err(unreadable(path))?;
        if chunk.is_empty() {
            writer.flush().await?;
            return Ok(writer);
        }
        writer.write(chunk).await?;
        if writer.bytes() > MAX_PIPE_BYTES {
            let text = format!("larger than {MAX_PIPE_BYTES} bytes");
            return Err(unreadable(path)(io::Error::new(io::ErrorKind::FileTooLarge, text)).into());
        }
        if writer.bytes() >= checked_bytes {
            writer.check_free(CHECK_EVERY_BYTES)?;
            checked_bytes = writer.bytes() + CHECK_EVERY_BYTES;
        }
    }
}

/// Reads a small file: a regular one, or a pipe such as `<(…)`.
///
/// # Errors
///
/// Fails if it is neither, is larger than `max_bytes`, or cannot be read.
pub async fn read_small_file(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let too_large = || {
        let text = format!("larger than {max_bytes} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        if metadata.len() > max_bytes as u64 {
            return Err(too_large());
        }
        return fs::read(path);
    }
    if !metadata.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    tracing::info!(pipe = %path.display(), "reading options from a pipe");
    let mut pipe = Pipe::open(path)?;
    let mut text = Vec::new();
    loop {
        let chunk = pipe.next().await?;
        if chunk.is_empty() {
            return Ok(text);
        }
        if text.len() + chunk.len() > max_bytes {
            return Err(too_large());
        }
        text.extend_from_slice(&chunk);
    }
}
