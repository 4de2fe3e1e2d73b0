//! What a verification finds, as data and as text.

use std::fmt;

use chrono::NaiveDate;
use serde::Serialize;

use crate::snapshot::SnapshotId;

/// The result of verifying one snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The snapshot.
    #[serde(serialize_with = "as_text")]
    pub snapshot: SnapshotId,
    /// Number of files that the manifest lists.
    pub files: u64,
    /// Rows read from them.
    pub rows: u64,
    /// Bytes read from them.
    pub bytes: u64,
    /// Rows beyond the first of their key; absent if keys were not to be checked, or damage prevented that.
    pub duplicate_keys: Option<u64>,
    /// All findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// One piece of damage. File names are relative to the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A file does not exist.
    Missing {
        /// The file.
        file: String,
    },
    /// A file exists that no manifest lists.
    Unlisted {
        /// The file.
        file: String,
    },
    /// A file cannot be read or parsed.
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file differs from the manifest, or from the dataset's declaration.
    Differs {
        /// The file.
        file: String,
        /// The property that differs.
        what: Fact,
        /// The value by the manifest or declaration.
        expected: String,
        /// The value of the file.
        found: String,
    },
    /// The Delta log lists a file that no manifest lists.
    OnlyInLog {
        /// The file.
        file: String,
    },
    /// A manifest lists a file that the Delta log does not list.
    NotInLog {
        /// The file.
        file: String,
    },
    /// A manifest contradicts itself.
    Imbalance {
        /// The manifest.
        file: String,
        /// The contradiction.
        reason: String,
    },
    /// A published snapshot has no data folder.
    NoDataFolder {
        /// Path of the folder.
        folder: String,
        /// The snapshot's manifest.
        manifest: String,
    },
    /// A data folder belongs to no snapshot.
    NoManifest {
        /// The data folder.
        folder: String,
    },
    /// A date has more than one manifest.
    SeveralManifests {
        /// The date.
        date: NaiveDate,
        /// The snapshots, oldest first.
        snapshots: Vec<String>,
    },
    /// Data and manifest may not match: a run is publishing or removing, or was killed while doing so.
    UnfinishedChange {
        /// The run.
        run_id: String,
    },
}

/// A property of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Size in bytes.
    Bytes,
    /// SHA-256 of the bytes.
    Sha256,
    /// Rows.
    Rows,
    /// Row groups.
    RowGroups,
    /// Columns, their types and nullability.
    Schema,
    /// The partition that the path names.
    Partition,
    /// The summary in `_SUCCESS`.
    Summary,
    /// Lines of the rejects file.
    Lines,
    /// Size in bytes in the Delta log.
    LoggedBytes,
    /// Rows in the Delta log.
    LoggedRows,
    /// The partition's values in the Delta log.
    LoggedPartition,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Sha256 => "sha256",
            Self::Rows => "rows",
            Self::RowGroups => "row groups",
            Self::Schema => "schema",
            Self::Partition => "partition",
            Self::Summary => "summary",
            Self::Lines => "lines",
            Self::LoggedBytes => "bytes in the Delta log",
            Self::LoggedRows => "rows in the Delta log",
            Self::LoggedPartition => "partition in the Delta log",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "{file}: missing"),
            Self::Unlisted { file } => write!(f, "{file}: not listed in any manifest"),
            Self::Unreadable { file, reason } => write!(f, "{file}: unreadable: {reason}"),
            Self::Differs { file, what, expected, found } => {
                write!(f, "{file}: {what}: expected {expected}, found {found}")
            }
            Self::OnlyInLog { file } => write!(f, "{file}: in the Delta log, but not in any manifest"),
            Self::NotInLog { file } => write!(f, "{file}: listed in a manifest, but not in the Delta log"),
            Self::Imbalance { file, reason } => write!(f, "{file}: does not balance: {reason}"),
            Self::NoDataFolder { folder, manifest } => {
                write!(f, "{folder}: missing, but described by {manifest}")
            }
            Self::NoManifest { folder } => write!(f, "{folder}: not described by any manifest"),
            Self::SeveralManifests { date, snapshots } => {
                write!(f, "{date}: more than one manifest: {}", snapshots.join(", "))
            }
            Self::UnfinishedChange { run_id } => write!(
                f,
                "run {run_id}: is changing the table or was interrupted while doing so; the next ingest finishes or undoes the change"
            ),
        }
    }
}

fn as_text<S: serde::Serializer>(id: &SnapshotId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
