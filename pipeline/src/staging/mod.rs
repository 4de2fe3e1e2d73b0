//! Staging: the folders that a run writes a snapshot's files in, and the facts of what it wrote.
//!
//! Takes a table and a snapshot, gives a [`Destination`] for files and, from the [`Portion`]s of all tasks, a
//! [`WrittenSnapshot`]. Needs no lock and publishes nothing.
//!
//! ```text
//! staging/<run id>/                    the run's own folder; in an object store, its journal
//! staging/<run id>/tasks/<task id>/    that of one attempt at a task
//! ```

mod destination;
mod file;
mod journal_upload;
mod portion;

pub use self::destination::Destination;
pub(crate) use self::destination::{rejects_path, tasks_folder};
pub(crate) use self::file::HashingFile;
pub use self::file::{FinishedFile, StagedFile, UnsyncedFile, WRITE_BUFFER_BYTES};
pub use self::journal_upload::JournalUpload;
pub use self::portion::{AssembleError, Portion, WrittenFile, WrittenSnapshot};
