//! `_SUCCESS`: the file that marks a snapshot's data folder as complete.

use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::error::LakeError;
use super::paths::{MANIFEST_FILE, SUCCESS_FILE};
use super::snapshots::PublishedSnapshot;
use super::table::Table;
use crate::manifest::{Manifest, rfc3339_seconds};
use crate::snapshot::RunId;

/// A `_SUCCESS` file is a few hundred bytes; a larger one was not written by this program.
pub(crate) const MAX_SUCCESS_BYTES: u64 = 64 << 10;

/// The content of `_SUCCESS`: which snapshot is complete, and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Table name.
    pub dataset: String,
    /// When the service generated the snapshot.
    #[serde(with = "rfc3339_seconds")]
    pub generated_time: DateTime<Utc>,
    /// The run that published it.
    pub run_id: RunId,
    /// Data files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The manifest, from the lake's folder.
    pub manifest: String,
}

impl Table {
    /// Returns the `_SUCCESS` of a snapshot with this manifest.
    pub fn success_of(&self, manifest: &Manifest) -> Success {
        Success {
            dataset: manifest.dataset.clone(),
            generated_time: manifest.snapshot_id().generated_time(),
            run_id: manifest.run_id.clone(),
            files: manifest.totals.files,
            rows: manifest.totals.rows,
            bytes: manifest.totals.bytes,
            manifest: self.below_lake(&self.snapshot_folder(manifest.snapshot_id()).join(MANIFEST_FILE)),
        }
    }

    /// Reads the `_SUCCESS` of the snapshot on `date`: nothing if it does not exist, and an inner error as text if
    /// it cannot be parsed.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn read_success(&self, date: NaiveDate) -> Result<Option<Result<Success, String>>, LakeError> {
        self.read_success_in(&self.data_folder(date))
    }

    /// Whether the snapshot's data folder exists and is marked complete. It is not if it was deleted by hand and
    /// the manifest was left.
    ///
    /// # Errors
    ///
    /// Fails if `_SUCCESS` exists and cannot be read.
    pub fn is_complete(&self, snapshot: &PublishedSnapshot) -> Result<bool, LakeError> {
        let success = self.read_success(snapshot.id.date())?;
        Ok(success == Some(Ok(self.success_of(&snapshot.manifest))))
    }

    pub(crate) fn read_success_in(
        &self,
        data_folder: &Path,
    ) -> Result<Option<Result<Success, String>>, LakeError> {
        let bytes = self.read_bounded(&data_folder.join(SUCCESS_FILE), MAX_SUCCESS_BYTES)?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())))
    }
}
