//! What a verification finds, and how it is said.

use std::fmt;

use chrono::NaiveDate;
use serde::Serialize;

use crate::snapshot::SnapshotId;

/// What one snapshot was found to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotReport {
    /// The snapshot.
    #[serde(serialize_with = "as_text")]
    pub snapshot: SnapshotId,
    /// Files that the manifest lists.
    pub files: u64,
    /// Rows that were read from them.
    pub rows: u64,
    /// Bytes that were read from them.
    pub bytes: u64,
    /// Rows beyond the first of their key; absent where keys were not asked for, or damage kept them
    /// from being counted.
    pub duplicate_keys: Option<u64>,
    /// All damage, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// One piece of damage. File names are as seen from the lake's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A file that has to be there is not.
    Missing {
        /// The file.
        file: String,
    },
    /// A file is there that nothing lists.
    Unlisted {
        /// The file.
        file: String,
    },
    /// A file cannot be read or is not what it should be at all.
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file is not as the manifest, or the dataset's declaration, says.
    Differs {
        /// The file.
        file: String,
        /// In what it differs.
        what: Fact,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Readers of the Delta log are led to a file that no manifest lists.
    OnlyInLog {
        /// The file.
        file: String,
    },
    /// Readers of the Delta log do not find a file that a manifest lists.
    NotInLog {
        /// The file.
        file: String,
    },
    /// A manifest contradicts itself.
    Imbalance {
        /// The manifest.
        file: String,
        /// What does not hold.
        reason: String,
    },
    /// A published snapshot has no data folder.
    NoDataFolder {
        /// Where it should be.
        folder: String,
        /// The manifest that describes it.
        manifest: String,
    },
    /// A data folder belongs to no snapshot.
    NoManifest {
        /// The data folder.
        folder: String,
    },
    /// A date holds more than one manifest.
    SeveralManifests {
        /// The date.
        date: NaiveDate,
        /// The snapshots, oldest first.
        snapshots: Vec<String>,
    },
    /// Data and manifest may not belong together: a run is publishing or removing, or was killed while it did.
    UnfinishedChange {
        /// That run.
        run_id: String,
    },
}

/// In what a file can differ.
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
    /// Size in bytes, as the Delta log has it.
    LoggedBytes,
    /// Rows, as the Delta log has them.
    LoggedRows,
    /// The partition's values, as the Delta log has them.
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
            Self::OnlyInLog { file } => write!(f, "{file}: in the Delta log, but in no manifest"),
            Self::NotInLog { file } => write!(f, "{file}: listed in a manifest, but not in the Delta log"),
            Self::Imbalance { file, reason } => write!(f, "{file}: does not balance: {reason}"),
            Self::NoDataFolder { folder, manifest } => {
                write!(f, "{folder}: missing, but described by {manifest}")
            }
            Self::NoManifest { folder } => write!(f, "{folder}: no manifest describes it"),
            Self::SeveralManifests { date, snapshots } => {
                write!(f, "{date}: more than one manifest: {}", snapshots.join(", "))
            }
            Self::UnfinishedChange { run_id } => write!(
                f,
                "run {run_id}: it is changing the table or was interrupted in that; the next ingest finishes or undoes it"
            ),
        }
    }
}

fn as_text<S: serde::Serializer>(id: &SnapshotId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
