//! Staging: where the files of a snapshot are while a run writes them, and what they are.
//!
//! Takes a table and a snapshot, gives [`Destination`]s to write files in, without the table's lock. Publishes nothing.

mod destination;
mod file;
mod work_dir;
mod written_part;

pub use self::destination::Destination;
#[cfg(test)]
pub(crate) use self::file::HashingFile;
pub use self::file::{FinishedFile, StagedFile, UnsyncedFile, WRITE_BUFFER_BYTES};
pub use self::written_part::{AssembleError, WrittenPart, WrittenSnapshot};
