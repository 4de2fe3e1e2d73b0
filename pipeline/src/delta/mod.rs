//! Delta tables: a log beside the data files that lists the files of the table.
//!
//! Takes the facts of a snapshot's files, gives a commit to `_delta_log`, in any
//! [`ObjectStore`](object_store::ObjectStore); never touches a data file. What is written is of protocol
//! 1 for readers and 2 for writers, which Synapse serverless, DuckDB, Polars, delta-rs and Spark know.
//!
//! # A commit for each snapshot
//!
//! [`DeltaTable::publish`] adds the snapshot's files, with [statistics](FileStatistics) from their
//! footers, and removes all that the table had of that date, in one commit: readers see the old snapshot
//! or the new one, on every store. The first such commit makes the table. Snapshots that a plain table
//! held before are adopted in that commit too, all of them or none.
//!
//! Each date has an application id of its own, `defender-lake/<dataset>/<date>`, and its transaction
//! version only grows: the generated time in Unix milliseconds, or one more than the last version where
//! that is not less ([`DeltaTable::next_transaction`]). Generated times are whole seconds, so that a
//! snapshot can be replaced a thousand times before it would meet the next second's. A run draws the
//! number once, before it changes anything, and writes it down, and so
//!
//! - a commit that is tried again, after a crash or an answer that was lost, is seen to have gone through
//!   and is not made twice;
//! - the same snapshot can be published again, in place of itself, and after it was expired;
//! - an older snapshot of another date goes through: its date has an id of its own;
//! - of two runs that both believe the table theirs, one commits. The other finds the number taken, with
//!   files that are not its own, and fails without a change to the log.
//!
//! Other writers' commits between reading the log and writing to it conflict only if they touched the same
//! date; after any other, the commit is retried on top of it.
//!
//! # Why not `delta_kernel`
//!
//! Version 0.30.1 of the official crate can replace files, but (1) it creates tables of protocol 3/7 only,
//! which Synapse serverless refuses, and (2) its feature `arrow-60`, without which it has no engine, asks
//! for `object_store/{aws,azure,gcp,http}`, and these for `reqwest/rustls` and `aws-lc-rs`: a second
//! cryptographic library, in C, beside `ring`, and 72 crates more, a third of what there is. Of the
//! protocol, a table of versions 1 and 2 needs little: lines of JSON, a create-only write, and checkpoints
//! in Parquet, whose reader and writer are here already. So they are written here, and held in the tests
//! against the kernel all the same: it is what DuckDB's extension and delta-rs read with.
//!
//! # Checkpoints
//!
//! Every [`CHECKPOINT_INTERVAL`]th commit is followed by one. It is a `.parquet` file below the table's
//! root, `_delta_log/*.checkpoint.parquet`: readers must not glob `**/*.parquet` there. The glob
//! `snapshot_date=*/*/*.parquet` finds data files alone, but also those that a commit under way has not
//! added yet or has just removed.

mod action;
mod checkpoint;
mod schema_string;
mod features;
mod log;
mod statistics;
mod table;
#[cfg(test)]
mod tests;

pub use log::{CHECKPOINT_INTERVAL, is_log_file};
pub use statistics::FileStatistics;
pub use table::{Committed, DeltaTable, LiveFile, NewFile, Publication};

use chrono::NaiveDate;

use crate::snapshot::SnapshotId;

/// Folder of the log, below the table's root.
pub const LOG_FOLDER: &str = "_delta_log";

/// Why a Delta table could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// Storage failed.
    #[error("cannot {action} {path} of the Delta log")]
    Store {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file, from the store's root.
        path: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A file of the log is not what the protocol says, or is missing.
    #[error("the Delta log is damaged: {path}: {reason}")]
    Damaged {
        /// The file, from the store's root.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The table has a newer reader version, or other partition columns.
    #[error("the Delta table cannot be read: {reason}")]
    Unreadable {
        /// What it needs.
        reason: String,
    },
    /// The table has a newer writer version or table features.
    #[error("the Delta table cannot be written: {reason}")]
    Unsupported {
        /// What it needs.
        reason: String,
    },
    /// The table is append-only.
    #[error("the Delta table is append-only, and the files of {date} would be removed")]
    AppendOnly {
        /// The date of a snapshot that would be replaced or removed.
        date: NaiveDate,
    },
    /// A commit is larger than the largest that we read.
    #[error("the commit has {num_bytes} bytes, and at most {max_bytes} are read of one")]
    TooLarge {
        /// Its size.
        num_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// A data file's footer cannot be read.
    #[error("cannot read the footer of {path}: {reason}")]
    Footer {
        /// The file, from the store's root.
        path: String,
        /// Why.
        reason: String,
    },
    /// Another run has published on the same date since the transaction number was drawn.
    #[error("another run has committed transaction {last} of {}, snapshot {snapshot} was to be {transaction}", snapshot.date())]
    TransactionTaken {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its number.
        transaction: i64,
        /// The number in the log.
        last: i64,
    },
    /// Another writer has changed the same date.
    #[error("another writer has changed the files of {}, so that snapshot {snapshot} is not committed", snapshot.date())]
    DateChanged {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Other writers committed first, again and again.
    #[error(
        "{attempts} attempts to commit to the Delta log failed: another writer committed first each time"
    )]
    ConcurrentCommits {
        /// How many were tried.
        attempts: u32,
    },
}

impl DeltaError {
    /// Returns the suggested fix, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store { .. } => None,
            Self::Damaged { .. } => Some(
                "restore the file; or move _delta_log out of the table and run ingest --table delta, which writes a new log without rewriting data",
            ),
            Self::Unreadable { .. } | Self::Unsupported { .. } => {
                Some("copy it to a table of your own and leave this one to defender-lake")
            }
            Self::AppendOnly { .. } => Some(
                "remove the table's property delta.appendOnly, or leave the snapshots of that date as they are",
            ),
            Self::TooLarge { .. } => Some("expire old snapshots first"),
            Self::Footer { .. } => Some(
                "run verify to see what is damaged; replace that snapshot with ingest --if-published replace, or move the folder of its date out of the table",
            ),
            Self::TransactionTaken { .. } | Self::DateChanged { .. } => Some("run again"),
            Self::ConcurrentCommits { .. } => Some("stop the other writers, or run again later"),
        }
    }
}
