//! The journal of a change in an object store: what it adds and removes, and whether that is decided.
//! `../protocol.md` has its states. Every update of it names the version that it replaces.

use std::path::Path;

use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use crate::commit::{CommitError, Recovered};
use crate::lake::store::{Put, Store};
use crate::lake::{MAX_MANIFEST_BYTES, Table, check_name};
use crate::manifest::Manifest;
use crate::staging::JournalUpload;

pub(super) const JOURNAL_FILE: &str = "journal.json";

/// A journal holds a manifest, and as much again for its uploads.
pub(super) const MAX_JOURNAL_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// A journal. Paths are from the lake's root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoreJournal {
    pub state: JournalState,
    /// Where the manifest of a new snapshot goes, and until then a claim.
    pub manifest_path: Option<String>,
    /// New files.
    pub uploads: Vec<JournalUpload>,
    /// What follows the decision; `None` before it.
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
    /// Whether the snapshots that the Delta log does not have are added to it.
    pub adopts: bool,
    /// Data files that are removed from the Delta log in a commit of their own; paths are from the table's root.
    pub removes_from_log: Vec<String>,
    /// Removed first, one after the other: what makes a snapshot visible.
    pub removes_first: Vec<SeenObject>,
    /// Data files that are removed then.
    pub removes_then: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlannedSnapshot {
    pub manifest: Manifest,
    /// The version that the manifest replaces: of the claim, or of the same snapshot's manifest.
    pub manifest_over: SeenVersion,
    /// The version that `_SUCCESS` replaces; `None` if there is none.
    pub success_over: Option<SeenVersion>,
    /// The number of the commit to the log of a Delta table.
    pub transaction: Option<i64>,
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

    /// Reads the journal in `folder` and its version; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`CommitError::Unrecoverable`] for a journal that we did not write, and storage.
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

    /// Returns what completing this journal recovers.
    pub(super) fn recovered(&self, run_id: String) -> Recovered {
        let Some(plan) = &self.plan else { return Recovered::Removed { run_id } };
        match &plan.publication {
            Some(publication) => Recovered::Finished { run_id, snapshot: publication.manifest.snapshot_id() },
            None if plan.adopts => Recovered::Adopted { run_id },
            None => Recovered::Expired { run_id },
        }
    }

    /// Whether it has a plan if and only if it is decided, and all that it names belongs to the table.
    pub(super) fn is_valid(&self, table: &Table) -> bool {
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
