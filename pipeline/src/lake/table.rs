//! A lake and its tables: their paths, and reading what is at them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use schema::Dataset;

use super::error::{LakeError, optional};
use super::paths::{
    MANIFEST_FILE, REJECTS_FILE, SNAPSHOTS_FOLDER, STAGING_FOLDER, check_name, data_folder_name,
};
use super::place::Place;
#[cfg(feature = "query")]
use super::store::Store;
use crate::delta;
use crate::environment::Variables;
use crate::snapshot::SnapshotId;

/// A lake, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Lake {
    place: Place,
}

impl Lake {
    /// Names the lake at `location`: a path, or a URL of a local folder or an object store. Sends no request, and
    /// writes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the location is invalid, if the environment does not lead to its store, and if the path is not a
    /// folder.
    pub fn open(location: impl AsRef<Path>) -> Result<Self, LakeError> {
        Self::open_with(location, &Variables::of_process())
    }

    /// Names the lake at `location`, whose store the variables lead to instead of those of this process.
    ///
    /// # Errors
    ///
    /// As [`Lake::open`].
    pub fn open_with(location: impl AsRef<Path>, variables: &Variables) -> Result<Self, LakeError> {
        Ok(Self { place: Place::open(location.as_ref(), variables)? })
    }

    /// Sets where files are kept on their way to or from an object store. It must be a local disk, and is the
    /// system's folder for temporary files if it is not set.
    #[must_use]
    pub fn with_work_dir(mut self, work_dir: &Path) -> Self {
        self.place.set_work_dir(work_dir);
        self
    }

    /// Sets how many bytes of uploads to an object store may be in flight.
    #[must_use]
    pub fn with_upload_bytes(mut self, upload_bytes: u64) -> Self {
        self.place.set_upload_bytes(upload_bytes);
        self
    }

    /// Returns the lake at a place.
    #[cfg(test)]
    pub(crate) fn at(place: Place) -> Self {
        Self { place }
    }

    /// The lake's folder, or its URL.
    pub fn root(&self) -> &Path {
        self.place.root()
    }

    /// The object store that the lake is in, if it is not on a disk.
    #[cfg(feature = "query")]
    pub(crate) fn store(&self) -> Option<&Store> {
        match &self.place {
            Place::Disk(_) => None,
            Place::Store(store) => Some(store),
        }
    }

    /// Returns the datasets that the lake holds, in the order of the documentation: those with a table's folder or with
    /// manifests.
    ///
    /// # Errors
    ///
    /// Fails if the lake cannot be listed.
    pub fn datasets(&self) -> Result<Vec<&'static Dataset>, LakeError> {
        let names = self.place.list_folders(self.root())?;
        let mut held = Vec::new();
        for dataset in schema::DATASETS.iter().copied() {
            let has_table = names.iter().any(|name| name == dataset.name);
            if has_table || self.place.is_folder(&self.table(dataset).snapshots_root())? {
                held.push(dataset);
            }
        }
        Ok(held)
    }

    /// Names one table of the lake. It need not exist yet.
    pub fn table(&self, dataset: &'static Dataset) -> Table {
        Table { lake: self.clone(), dataset }
    }
}

/// One dataset's table in one lake.
///
/// Its paths begin with the lake's folder or URL and can be shown as they are. Read and list them with the table's
/// own methods.
#[derive(Debug, Clone)]
pub struct Table {
    lake: Lake,
    dataset: &'static Dataset,
}

/// How readers find a table's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// By name: all Parquet files below the table's root.
    Plain,
    /// By the log of a Delta table.
    Delta,
}

impl Table {
    /// The table's dataset.
    pub fn dataset(&self) -> &'static Dataset {
        self.dataset
    }

    /// Returns the table's kind: Delta if it has a log. A table that does not exist is plain.
    ///
    /// # Errors
    ///
    /// Fails if the log's folder cannot be listed.
    pub fn kind(&self) -> Result<TableKind, LakeError> {
        let names = self.list_names(&self.root().join(delta::LOG_FOLDER))?;
        let is_delta = names.iter().any(|name| delta::is_log_file(name));
        Ok(if is_delta { TableKind::Delta } else { TableKind::Plain })
    }

    /// The table's lake.
    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The folder that readers glob.
    pub fn root(&self) -> PathBuf {
        self.lake.root().join(self.dataset.name)
    }

    /// The data folder of the snapshot of `date`.
    pub fn data_folder(&self, date: NaiveDate) -> PathBuf {
        self.root().join(data_folder_name(date))
    }

    /// Path of the snapshot's rejects, which exist if it has any.
    pub fn rejects_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_folder(id).join(REJECTS_FILE)
    }

    /// Opens one data file of the table for reading; `path` is as in the manifest.
    ///
    /// # Errors
    ///
    /// Fails if the path leads out of the table, and if it is not a regular file that can be opened.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        self.place().open_file(&self.data_file_path(path)?)
    }

    /// Returns the path of a data file; `path` is as in the manifest.
    ///
    /// # Errors
    ///
    /// Fails if it leads out of the table.
    pub(crate) fn data_file_path(&self, path: &str) -> Result<PathBuf, LakeError> {
        check_name(path)?;
        Ok(self.root().join(path))
    }

    /// Opens the snapshot's rejects for reading; returns nothing if it has none.
    pub(crate) fn open_rejects(&self, id: SnapshotId) -> Result<Option<File>, LakeError> {
        optional(self.place().open_file(&self.rejects_path(id)))
    }

    /// Where the lake is.
    pub(crate) fn place(&self) -> &Place {
        &self.lake.place
    }

    /// See [`Place::list_names`].
    pub(crate) fn list_names(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        self.place().list_names(folder)
    }

    /// See [`Place::list_files`].
    pub(crate) fn list_files(&self, folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
        self.place().list_files(folder)
    }

    /// See [`Place::is_folder`].
    pub(crate) fn is_folder(&self, path: &Path) -> Result<bool, LakeError> {
        self.place().is_folder(path)
    }

    /// See [`Place::read_bounded`].
    pub(crate) fn read_bounded(&self, path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, LakeError> {
        self.place().read_bounded(path, max_bytes)
    }

    /// The table's folder for everything but data: lock, manifests, staging.
    pub(crate) fn own_root(&self) -> PathBuf {
        self.lake.root().join("_defender").join(self.dataset.name)
    }

    pub(crate) fn staging_root(&self) -> PathBuf {
        self.own_root().join(STAGING_FOLDER)
    }

    pub(crate) fn snapshots_root(&self) -> PathBuf {
        self.own_root().join(SNAPSHOTS_FOLDER)
    }

    pub(crate) fn snapshot_folder(&self, id: SnapshotId) -> PathBuf {
        self.snapshots_root().join(id.to_string())
    }

    /// Path of the snapshot's manifest.
    pub(crate) fn manifest_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_folder(id).join(MANIFEST_FILE)
    }

    /// Returns `path` relative to the lake, for messages and reports.
    pub(crate) fn below_lake(&self, path: &Path) -> String {
        path.strip_prefix(self.lake.root()).unwrap_or(path).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::{Diagnostic, ExitCode};

    #[test]
    fn locations_are_paths_and_file_urls() {
        let root = |location: &str| Lake::open(location).map(|lake| lake.root().display().to_string());
        assert_eq!(root("no/such/lake").unwrap(), "no/such/lake");
        assert_eq!(root("file:///no/such%20lake").unwrap(), "/no/such lake");
        assert_eq!(root("odd:name").unwrap(), "odd:name");
        let check = |location: &str, expected: &str| {
            let error = root(location).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid lake location {expected}"));
            assert_eq!(error.exit_code(), ExitCode::Usage);
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.starts_with("give --lake (or DEFENDER_LAKE) a local path"))
            );
        };
        check("https://host/x", "https://host/x: not the URL of a supported object store");
        check("file://host/lake", "file://host/lake: not the URL of a local folder");
        check("/dev/null", "/dev/null: not a folder");
    }

    #[test]
    fn urls_of_stores_lead_to_tables() {
        for location in [
            "abfss://container@account.dfs.core.windows.net/some/lake",
            "abfss://workspace@onelake.dfs.fabric.microsoft.com/item.Lakehouse/Files/lake",
            "https://account.blob.core.windows.net/container/some/lake",
            "s3://bucket/some/lake",
            "gs://bucket/some/lake/",
        ] {
            let table = Lake::open(location).unwrap().table(schema::DATASETS[0]);
            let root = table.root().display().to_string();
            assert_eq!(root, format!("{}/software_inventory", location.trim_end_matches('/')));
            let Place::Store(store) = table.place() else { panic!("{location} names an object store") };
            let key = store.key(&table.root().join("a=%3A b/x.parquet")).unwrap();
            assert!(key.as_ref().ends_with("lake/software_inventory/a=%3A b/x.parquet"), "{key}");
            assert!(store.key(&table.root().join("../x")).is_err());
            assert!(store.key(Path::new("/etc/passwd")).is_err());
        }
    }
}
