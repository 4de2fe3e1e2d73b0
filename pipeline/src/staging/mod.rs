//! Staging: the folders that a run writes a snapshot's files in, and the facts of what it wrote.
//!
//! Takes a table and a snapshot, gives a [`Destination`] for files and, from the [`Portion`]s of all tasks, a
//! [`WrittenSnapshot`]. Needs no lock and publishes nothing.

mod destination;
mod file;
mod portion;

pub use self::destination::Destination;
#[cfg(test)]
pub(crate) use self::file::HashingFile;
pub use self::file::{FinishedFile, StagedFile, UnsyncedFile, WRITE_BUFFER_BYTES};
pub use self::portion::{AssembleError, Portion, WrittenSnapshot};
