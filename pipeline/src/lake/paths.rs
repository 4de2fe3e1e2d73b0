//! The names of a lake's files and folders.

use std::path::{Component, Path};

use chrono::NaiveDate;

use super::error::LakeError;

/// Name of the file that says, within a snapshot's data folder, that the snapshot is complete.
pub const SUCCESS_FILE: &str = "_SUCCESS";

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const STAGING_FOLDER: &str = "staging";
pub(super) const SNAPSHOTS_FOLDER: &str = "snapshots";
/// The caches of counted changes and of figures, and their names while they are written.
pub(super) const CHANGES_FILE: &str = "changes.ndjson";
pub(super) const NEW_CHANGES_FILE: &str = "changes.ndjson.new";
pub(super) const FIGURES_FILE: &str = "figures.ndjson";
pub(super) const NEW_FIGURES_FILE: &str = "figures.ndjson.new";
pub(crate) const MANIFEST_FILE: &str = "manifest.json";
pub(crate) const REJECTS_FILE: &str = "rejects.ndjson.gz";

/// A manifest takes about 300 bytes a data file; a larger file was not written by this program and is not read
/// into memory.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Whether this is the name of a file or folder that a table has beside its data.
pub(crate) fn is_own_name(name: &str) -> bool {
    let caches = [CHANGES_FILE, NEW_CHANGES_FILE, FIGURES_FILE, NEW_FIGURES_FILE];
    [LOCK_FILE, STAGING_FOLDER, SNAPSHOTS_FOLDER].iter().chain(&caches).any(|own| *own == name)
}

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
