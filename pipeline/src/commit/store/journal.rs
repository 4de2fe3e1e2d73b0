//! The journal of a run: what it brings and takes away, and whether that is decided. `../protocol.md` has its
//! states. Every change of it names the version that it was made from.

use std::path::Path;

use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use crate::commit::{CommitError, Recovered};
use crate::lake::store::{Put, Store, Upload};
use crate::lake::{MAX_MANIFEST_BYTES, Table, check_name};
use crate::manifest::Manifest;

pub(super) const JOURNAL_FILE: &str = "journal.json";

/// A journal holds a manifest, and as much again for its uploads.
const MAX_JOURNAL_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// Paths are from the lake's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoreJournal {
    pub state: JournalState,
    /// Where the manifest of a new snapshot goes, and until then a claim.
    pub manifest_path: Option<String>,
    /// New files.
    pub uploads: Vec<JournalUpload>,
    /// What follows the decision; nothing before it.
    pub plan: Option<Plan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JournalState {
    Open,
    Decided,
    Undone,
}

/// The steps that follow a decision.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The snapshot that is published, if one is.
    pub publication: Option<PlannedSnapshot>,
    /// Whether snapshots that the log of a Delta table has not seen come into it.
    pub adopts: bool,
    /// Data files that leave the log of a Delta table in a commit of their own, from the table's root.
    pub removes_from_log: Vec<String>,
    /// What goes: first, one after the other, what says that the rest is there.
    pub removes_first: Vec<SeenObject>,
    /// Data files that go.
    pub removes_then: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlannedSnapshot {
    pub manifest: Manifest,
    /// What the manifest is put over: the claim, or the manifest of the same snapshot.
    pub manifest_over: SeenVersion,
    /// What `_SUCCESS` is put over; nothing if there was none.
    pub success_over: Option<SeenVersion>,
    /// The number of the commit to the log of a Delta table.
    pub transaction: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JournalUpload {
    pub path: String,
    id: String,
    parts: Vec<String>,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// A version of an object, as it was read before the decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SeenVersion {
    e_tag: Option<String>,
    version: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SeenObject {
    pub path: String,
    pub seen: SeenVersion,
}

impl From<UpdateVersion> for SeenVersion {
    fn from(UpdateVersion { e_tag, version }: UpdateVersion) -> Self {
        Self { e_tag, version }
    }
}

impl SeenVersion {
    pub(super) fn version(&self) -> UpdateVersion {
        UpdateVersion { e_tag: self.e_tag.clone(), version: self.version.clone() }
    }

    pub(super) fn put_over(seen: Option<&Self>) -> Put {
        seen.map_or(Put::Create, |seen| Put::Update(seen.version()))
    }
}

impl StoreJournal {
    /// A journal that decides nothing yet.
    pub(super) fn open(manifest_path: Option<String>, uploads: Vec<JournalUpload>) -> Self {
        Self { state: JournalState::Open, manifest_path, uploads, plan: None }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values serialise")
    }

    /// Reads the journal in `folder` and its version; nothing if there is none.
    ///
    /// # Errors
    ///
    /// [`CommitError::Unrecoverable`] for one that is not ours, and storage.
    pub(super) fn read(
        table: &Table,
        store: &Store,
        folder: &Path,
    ) -> Result<Option<(Self, UpdateVersion)>, CommitError> {
        let Some((bytes, version)) = store.read(&folder.join(JOURNAL_FILE), MAX_JOURNAL_BYTES)? else {
            return Ok(None);
        };
        let journal = serde_json::from_slice(&bytes).ok().filter(|journal: &Self| journal.is_valid(table));
        match journal {
            Some(journal) => Ok(Some((journal, version))),
            None => Err(CommitError::Unrecoverable { folder: folder.to_path_buf() }),
        }
    }

    /// What it is to finish this journal.
    pub(super) fn recovered(&self, run_id: String) -> Recovered {
        let Some(plan) = &self.plan else { return Recovered::Removed { run_id } };
        match &plan.publication {
            Some(publication) => Recovered::Finished { run_id, snapshot: publication.manifest.snapshot_id() },
            None if plan.adopts => Recovered::Adopted { run_id },
            None => Recovered::Expired { run_id },
        }
    }

    /// Whether it has a plan if and only if it is decided, and all that it names belongs to the table.
    fn is_valid(&self, table: &Table) -> bool {
        let folders =
            [table.root(), table.own_root()].map(|folder| format!("{}/", table.below_lake(&folder)));
        let uploads = self.uploads.iter().map(|upload| &upload.path);
        let plan = self
            .plan
            .iter()
            .flat_map(|plan| plan.removes_first.iter().map(|object| &object.path).chain(&plan.removes_then));
        (self.state != JournalState::Decided || self.plan.is_some())
            && uploads.chain(plan).chain(&self.manifest_path).all(|path| {
                check_name(path).is_ok() && folders.iter().any(|folder| path.starts_with(folder.as_str()))
            })
    }
}

impl JournalUpload {
    pub(super) fn new(table: &Table, upload: &Upload) -> Self {
        Self {
            path: table.below_lake(&upload.path),
            id: upload.id.clone(),
            parts: upload.chunks.clone(),
            bytes: upload.bytes,
            sha256: upload.sha256.clone(),
        }
    }

    pub(super) fn to_upload(&self, store: &Store) -> Upload {
        Upload {
            path: store.root().join(&self.path),
            id: self.id.clone(),
            chunks: self.parts.clone(),
            bytes: self.bytes,
            sha256: self.sha256.clone(),
        }
    }
}
