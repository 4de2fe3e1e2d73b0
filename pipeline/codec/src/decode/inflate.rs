//! Takes a part's bytes as they came; gives its JSON text, decompressed if it is gzip.
//!
//! Whether a part is gzip is decided by its first bytes and never by its name: servers and proxies inflate
//! or rename on the way. All members of a gzip file are read, their checksums and lengths checked
//! by the library, and anything after the last one is damage.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::read_ahead::{ReadAhead, ReadingWork};

/// Compressed bytes read at a time; large enough that system calls do not show.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A part's JSON text as a stream.
#[derive(Debug)]
pub enum Inflate<R> {
    /// gzip, one or more members.
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    /// Text as it is.
    Plain(BufReader<R>),
    /// One of them, which another thread reads.
    Ahead(ReadAhead),
}

impl<R: Read> Inflate<R> {
    /// Reads the first bytes; `None` if there are none, not even an empty gzip member.
    pub fn try_new(reader: R) -> io::Result<Option<Self>> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
        let head = reader.fill_buf()?;
        Ok(match head {
            [] => None,
            // The first byte is enough, and may be all that the first read gives: no text begins with it.
            [0x1f, ..] => Some(Self::Gzip(Box::new(MultiGzDecoder::new(reader)))),
            _ => Some(Self::Plain(reader)),
        })
    }

    /// Whether the part is gzip. Ask it before another thread reads.
    pub fn is_gzip(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }
}

impl<R: Read + Send + 'static> Inflate<R> {
    /// Leaves reading and inflating to another thread; returns what that has to do.
    pub fn ahead(self) -> (Self, ReadingWork) {
        let (ahead, work) = ReadAhead::new(self);
        (Self::Ahead(ahead), work)
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(reader) => reader.read(buffer),
            Self::Plain(reader) => reader.read(buffer),
            Self::Ahead(reader) => reader.read(buffer),
        }
    }
}
