//! The names of a lake's files and folders.

use std::path::{Component, Path};

use chrono::NaiveDate;

use super::error::LakeError;

/// Name of the file that says, within a snapshot's data folder, that the snapshot is complete.
pub const SUCCESS_FILE: &str = "_SUCCESS";

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const STAGING_FOLDER: &str = "staging";
pub(super) const SNAPSHOTS_FOLDER: &str = "snapshots";
pub(crate) const MANIFEST_FILE: &str = "manifest.json";
pub(crate) const REJECTS_FILE: &str = "rejects.ndjson.gz";

/// A manifest takes about 300 bytes a data file; a larger file was not written by this program and is not read
/// into memory.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Returns `snapshot_date=2021-01-11`.
pub(crate) fn data_folder_name(date: NaiveDate) -> String {
    format!("{}={date}", schema::SNAPSHOT_DATE.name)
}

/// Fails if a name could lead out of the folder that it is joined to: absolute, empty, with `..`.
pub(crate) fn check_name(name: &str) -> Result<(), LakeError> {
    let mut parts = name.split('/');
    let plain = parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    let single = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && single { Ok(()) } else { Err(LakeError::UnsafeName { name: name.to_owned() }) }
}
