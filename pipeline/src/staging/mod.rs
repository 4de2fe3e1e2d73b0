//! Where files are while a run writes.

mod file;
pub(crate) mod work_dir;

#[cfg(test)]
pub(crate) use self::file::HashingFile;
pub use self::file::{FinishedFile, StagedFile, UnsyncedFile, WRITE_BUFFER_BYTES};
