//! Where files are while a run writes.

mod file;

#[cfg(test)]
pub(crate) use self::file::HashingFile;
pub use self::file::{FinishedFile, StagedFile, UnsyncedFile, WRITE_BUFFER_BYTES};
