//! An upload as journals and portions name it: what another process needs to complete or abort it.

use serde::{Deserialize, Serialize};

use crate::lake::Table;
use crate::lake::store::{Store, Upload};

/// An upload to an object store, which readers do not see before it is completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalUpload {
    /// Path of the object, from the lake's root.
    pub path: String,
    id: String,
    /// The store's ids of the chunks. Journals of earlier versions have this name too.
    #[serde(rename = "parts")]
    chunks: Vec<String>,
    /// Size of the file.
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl JournalUpload {
    pub(crate) fn new(table: &Table, upload: &Upload) -> Self {
        Self {
            path: table.below_lake(&upload.path),
            id: upload.id.clone(),
            chunks: upload.chunks.clone(),
            bytes: upload.bytes,
            sha256: upload.sha256.clone(),
        }
    }

    /// Whether it is the same upload, whose chunks may be known by now.
    pub(crate) fn is_same_upload(&self, other: &Self) -> bool {
        (&self.path, &self.id) == (&other.path, &other.id)
    }

    pub(crate) fn to_upload(&self, store: &Store) -> Upload {
        Upload {
            path: store.root().join(&self.path),
            id: self.id.clone(),
            chunks: self.chunks.clone(),
            bytes: self.bytes,
            sha256: self.sha256.clone(),
        }
    }
}
