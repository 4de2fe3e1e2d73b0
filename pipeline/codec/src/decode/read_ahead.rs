//! Takes a reader and a thread that is idle; gives the reader's bytes, which that thread reads ahead.
//!
//! Decoding a part is one stream. If a part is alone, inflating it is what another thread can do of it.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a block that is read ahead.
const BLOCK_BYTES: usize = 256 * 1024;

/// Blocks between the two threads at most: read and not taken yet, or taken and not given back.
const MAX_BLOCKS: usize = 4;

/// What the other thread is to do; it ends when all is read, or nobody takes it any more.
pub type ReadingWork = Box<dyn FnOnce() + Send>;

/// Bytes that another thread reads ahead.
#[derive(Debug)]
pub struct ReadAhead {
    filled: Receiver<io::Result<Block>>,
    taken: SyncSender<Block>,
    block: Block,
    /// How much of the block has been given.
    start: usize,
    at_end: bool,
}

/// Some bytes, none at the end.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    len: usize,
}

impl Block {
    /// Reads until it is full, or there is no more.
    fn fill(&mut self, reader: &mut impl Read) -> io::Result<()> {
        self.bytes.resize(BLOCK_BYTES, 0);
        self.len = 0;
        while self.len < BLOCK_BYTES {
            match reader.read(&mut self.bytes[self.len..]) {
                Ok(0) => break,
                Ok(len) => self.len += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAhead {
    /// Returns the bytes of `reader`, and what another thread has to do for them.
    pub fn new(mut reader: impl Read + Send + 'static) -> (Self, ReadingWork) {
        let (sender, filled) = sync_channel(MAX_BLOCKS);
        let (taken, blocks) = sync_channel(MAX_BLOCKS);
        let work = Box::new(move || {
            let mut new_blocks = (0..MAX_BLOCKS).map(|_| Block::default());
            while let Some(mut block) = new_blocks.next().or_else(|| blocks.recv().ok()) {
                let read = block.fill(&mut reader);
                let at_end = read.is_ok() && block.len == 0;
                // What was read before a failure belongs to the text.
                if (block.len > 0 || at_end) && sender.send(Ok(block)).is_err() {
                    break;
                }
                if let Err(error) = read {
                    let _ = sender.send(Err(error));
                    break;
                }
                if at_end {
                    break;
                }
            }
        });
        (Self { filled, taken, block: Block::default(), start: 0, at_end: false }, work)
    }
}

impl Read for ReadAhead {
    /// # Panics
    ///
    /// If the other thread did not do its work to the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.start == self.block.len && !self.at_end {
            let block = self.filled.recv().expect("reading ahead ends with an end or a failure")?;
            self.at_end = block.len == 0;
            // The other thread may need no more of them.
            let _ = self.taken.try_send(std::mem::replace(&mut self.block, block));
            self.start = 0;
        }
        let len = buffer.len().min(self.block.len - self.start);
        buffer[..len].copy_from_slice(&self.block.bytes[self.start..][..len]);
        self.start += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_ahead(reader: impl Read + Send + 'static) -> (Vec<u8>, io::Result<usize>) {
        let (mut ahead, work) = ReadAhead::new(reader);
        let thread = std::thread::spawn(work);
        let mut bytes = Vec::new();
        let read = ahead.read_to_end(&mut bytes);
        drop(ahead);
        thread.join().unwrap();
        (bytes, read)
    }

    #[test]
    fn all_bytes_come_in_order() {
        for len in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 20 * BLOCK_BYTES] {
            let bytes: Vec<u8> = (0..251).cycle().take(len).collect();
            let (found, read) = read_ahead(io::Cursor::new(bytes.clone()));
            assert_eq!(read.unwrap(), len);
            assert!(found == bytes, "{len}");
        }
    }

    #[test]
    fn failure_comes_behind_what_was_read() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cut off"))
            }
        }
        for len in [0, 5, 3 * BLOCK_BYTES, 9 * BLOCK_BYTES + 5] {
            let bytes = vec![7; len];
            let (found, read) = read_ahead(io::Cursor::new(bytes.clone()).chain(Failing));
            assert_eq!(read.unwrap_err().to_string(), "cut off");
            assert!(found == bytes, "{len}");
        }
    }

    #[test]
    fn reading_ends_if_nobody_takes_it() {
        let (ahead, work) = ReadAhead::new(io::repeat(1));
        let thread = std::thread::spawn(work);
        drop(ahead);
        thread.join().unwrap();
    }
}
