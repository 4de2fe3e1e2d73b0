//! The journal of a change on a local disk, `staging/<run id>/journal.json`: what it adds and removes.
//!
//! It appears by one rename, once everything that it names is on the disk. It does not say whether the change is
//! decided: the place of a folder or the Delta log does.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::commit::CommitError;
use crate::lake::{LakeError, MAX_MANIFEST_BYTES, Table, check_name, data_folder_name, local};
use crate::manifest::{Manifest, to_json};

const JOURNAL_FILE: &str = "journal.json";

/// Where earlier versions kept the manifest of a [`SwapJournal`].
const OLD_SWAP_FILE: &str = "intent.json";

/// Where earlier versions kept a [`RemovalJournal`].
const OLD_REMOVAL_FILE: &str = "removal.json";

/// Every name that a journal can have.
const FILES: [&str; 3] = [JOURNAL_FILE, OLD_SWAP_FILE, OLD_REMOVAL_FILE];

/// A journal holds a manifest, and the names of as many files again.
const MAX_JOURNAL_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// What is about to change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commit) enum DiskJournal {
    /// A snapshot of a plain table is published.
    Swap(SwapJournal),
    /// A snapshot of a Delta table is published.
    DeltaAppend(DeltaAppendJournal),
    /// Snapshots are removed.
    Removal(RemovalJournal),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commit) struct SwapJournal {
    /// The new snapshot.
    pub manifest: Manifest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commit) struct DeltaAppendJournal {
    /// The transaction number of the commit.
    pub transaction: i64,
    /// Data files that it replaces; paths are from the table's root.
    pub replaced: Vec<String>,
    /// The new snapshot.
    pub manifest: Manifest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commit) struct RemovalJournal {
    pub snapshots: Vec<RemovalEntry>,
    /// Whether the table is a Delta table.
    #[serde(default)]
    pub is_delta: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commit) struct RemovalEntry {
    #[serde(with = "crate::manifest::rfc3339_seconds")]
    pub generated_time: DateTime<Utc>,
    /// Whether the data folder of the date is this snapshot's, and not a newer one's.
    pub has_data: bool,
}

impl DiskJournal {
    /// Writes the journal into `folder`: whole, or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), LakeError> {
        let unready = folder.join("journal.tmp");
        local::write_new(&unready, &to_json(self))?;
        local::rename(&unready, &folder.join(JOURNAL_FILE))?;
        local::sync_dir(folder)
    }

    /// Reads the journal in `folder`, in the format of this version or of those before; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Storage, [`CommitError::Unrecoverable`] for a journal that we did not write.
    pub(super) fn read(table: &Table, folder: &Path) -> Result<Option<Self>, CommitError> {
        if let Some(bytes) = local::read_bounded(&folder.join(JOURNAL_FILE), MAX_JOURNAL_BYTES)? {
            let journal = serde_json::from_slice(&bytes)
                .or_else(|_| serde_json::from_slice(&bytes).map(Self::DeltaAppend))
                .ok()
                .filter(Self::is_of_one_date);
            let unrecoverable = || CommitError::Unrecoverable { folder: folder.to_path_buf() };
            return journal.map(Some).ok_or_else(unrecoverable);
        }
        if let Some(manifest) = table.read_manifest(&folder.join(OLD_SWAP_FILE))? {
            return Ok(Some(Self::Swap(SwapJournal { manifest })));
        }
        let path = folder.join(OLD_REMOVAL_FILE);
        let Some(bytes) = local::read_bounded(&path, MAX_JOURNAL_BYTES)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(journal) => Ok(Some(Self::Removal(journal))),
            Err(error) => Err(LakeError::DamagedManifest { path, reason: error.to_string() }.into()),
        }
    }

    /// Whether all files that it names are below the snapshot's data folder, as those that we write are.
    fn is_of_one_date(&self) -> bool {
        let (manifest, replaced): (_, &[String]) = match self {
            Self::Swap(journal) => (&journal.manifest, &[]),
            Self::DeltaAppend(journal) => (&journal.manifest, &journal.replaced),
            Self::Removal(_) => return true,
        };
        let folder = data_folder_name(manifest.snapshot_id().date());
        manifest.files.iter().map(|file| &file.path).chain(replaced).all(|path| {
            check_name(path).is_ok() && path.strip_prefix(&folder).is_some_and(|below| below.starts_with('/'))
        })
    }
}

/// Whether `folder` has a journal, or may have one because it cannot be read.
pub(super) fn is_in(folder: &Path) -> bool {
    FILES.iter().any(|file| local::exists(&folder.join(file)).unwrap_or(true))
}

/// Removes the journal in `folder`, if there is one, and syncs the folder.
pub(super) fn remove(folder: &Path) -> Result<(), LakeError> {
    for file in FILES {
        let path = folder.join(file);
        if local::exists(&path)? {
            local::remove_file(&path)?;
        }
    }
    local::sync_dir(folder)
}
