//! One dataset's table in one lake: its paths, and what is at them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use schema::Dataset;

use super::error::{self, LakeError, io_error};
use super::local;
use super::location::{self, Location};
use super::paths::{
    MANIFEST_FILE, REJECTS_FILE, SNAPSHOTS_FOLDER, STAGING_FOLDER, check_name, data_folder_name,
};
use super::store::Store;
use crate::delta;
use crate::snapshot::SnapshotId;

/// A place that tables lie in. It need not exist yet.
#[derive(Debug, Clone)]
pub struct Lake {
    place: Place,
}

/// Where a lake is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Below this folder of a local disk.
    Disk(PathBuf),
    /// In an object store.
    Store(Store),
}

impl Lake {
    /// Names the lake at `location`: a path, or a URL of a local folder or an object store. Asks no store
    /// yet, and writes nothing.
    ///
    /// # Errors
    ///
    /// A location or an environment that leads nowhere, and a path to something other than a folder.
    pub fn open(location: impl AsRef<Path>) -> Result<Self, LakeError> {
        let location = location.as_ref();
        let root = match Location::parse(location)? {
            Location::Disk(root) => root,
            Location::Store(store) => return Ok(Self { place: Place::Store(store) }),
        };
        match fs::metadata(&root) {
            Ok(metadata) if !metadata.is_dir() => Err(location::bad(location, "is not a folder")),
            Err(error) if !error::is_missing(&error) => Err(io_error("open", &root)(error)),
            _ => Ok(Self { place: Place::Disk(root) }),
        }
    }

    /// Sets where files wait on their way to or from an object store. It has to be a local disk, and is
    /// the system's folder for temporary files where it is not set.
    #[must_use]
    pub fn with_work_dir(mut self, work_dir: &Path) -> Self {
        if let Place::Store(store) = &mut self.place {
            store.work_dir = work_dir.to_path_buf();
        }
        self
    }

    /// Sets what uploads to an object store may hold in flight.
    #[must_use]
    pub fn with_upload_bytes(mut self, upload_bytes: u64) -> Self {
        if let Place::Store(store) = &mut self.place {
            store.upload_bytes = upload_bytes;
        }
        self
    }

    /// The lake at a place.
    #[cfg(test)]
    pub(crate) fn at(place: Place) -> Self {
        Self { place }
    }

    /// The lake's folder, or its URL.
    pub fn root(&self) -> &Path {
        match &self.place {
            Place::Disk(root) => root,
            Place::Store(store) => store.root(),
        }
    }

    /// Names one table of the lake. It need not exist yet.
    pub fn table(&self, dataset: &'static Dataset) -> Table {
        Table { lake: self.clone(), dataset }
    }
}

/// One dataset's table in one lake.
///
/// Its paths begin with the lake's folder or URL, so that they can be shown as they are; what is at one is
/// read by the table's own methods.
#[derive(Debug, Clone)]
pub struct Table {
    lake: Lake,
    dataset: &'static Dataset,
}

/// What readers find a table's files by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// Names: all Parquet files below the table's root.
    Plain,
    /// The log of a Delta table.
    Delta,
}

impl Table {
    /// The dataset that the table holds.
    pub fn dataset(&self) -> &'static Dataset {
        self.dataset
    }

    /// What the table is: a Delta table if it has a log. One that does not exist is plain.
    ///
    /// # Errors
    ///
    /// Fails where the log's folder cannot be listed.
    pub fn kind(&self) -> Result<TableKind, LakeError> {
        let names = self.list_names(&self.root().join(delta::LOG_FOLDER))?;
        let is_delta = names.iter().any(|name| delta::is_log_file(name));
        Ok(if is_delta { TableKind::Delta } else { TableKind::Plain })
    }

    /// The lake that the table lies in.
    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The folder that readers glob.
    pub fn root(&self) -> PathBuf {
        self.lake.root().join(self.dataset.name)
    }

    /// The snapshot's data folder, below which readers find its files.
    pub fn data_folder(&self, date: NaiveDate) -> PathBuf {
        self.root().join(data_folder_name(date))
    }

    /// Where the snapshot's rejects lie, if it has any.
    pub fn rejects_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_folder(id).join(REJECTS_FILE)
    }

    /// Opens one data file of the table for reading; `path` is as in the manifest.
    ///
    /// # Errors
    ///
    /// A path that leaves the table, anything but a regular file, and what the system says.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        check_name(path)?;
        self.open_file(&self.root().join(path))
    }

    /// Opens the snapshot's rejects for reading; nothing where it has none.
    pub(crate) fn open_rejects(&self, id: SnapshotId) -> Result<Option<File>, LakeError> {
        error::optional(self.open_file(&self.rejects_path(id)))
    }

    /// Where the lake is.
    pub(crate) fn place(&self) -> &Place {
        &self.lake.place
    }

    /// The names in a folder, sorted; none where it does not exist.
    pub(crate) fn list_names(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        match self.place() {
            Place::Disk(_) => local::list_names(folder),
            Place::Store(store) => store.list_names(folder),
        }
    }

    /// Everything below a folder that is no folder itself: path from there → size in bytes.
    pub(crate) fn list_files(&self, folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
        match self.place() {
            Place::Disk(_) => local::list_files(folder),
            Place::Store(store) => store.list_files(folder),
        }
    }

    /// Whether a folder is at `path`. In a store that is one with something in it.
    pub(crate) fn is_folder(&self, path: &Path) -> Result<bool, LakeError> {
        match self.place() {
            Place::Disk(_) => local::is_folder(path),
            Place::Store(store) => Ok(!store.list_names(path)?.is_empty()),
        }
    }

    /// Reads a small file whole; nothing where there is none.
    pub(crate) fn read_bounded(&self, path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, LakeError> {
        match self.place() {
            Place::Disk(_) => local::read_bounded(path, max_bytes),
            Place::Store(store) => Ok(store.read(path, max_bytes)?.map(|(bytes, _)| bytes)),
        }
    }

    /// Opens a file for reading. From a store it is fetched into a file without a name first.
    fn open_file(&self, path: &Path) -> Result<File, LakeError> {
        match self.place() {
            Place::Disk(_) => local::open_file(path),
            Place::Store(store) => store.fetch(path),
        }
    }

    /// The table's folder for what is not data.
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

    /// Where the snapshot's manifest lies.
    pub(crate) fn manifest_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_folder(id).join(MANIFEST_FILE)
    }

    /// `path` as seen from the lake, for messages and reports.
    pub(crate) fn below_lake(&self, path: &Path) -> String {
        path.strip_prefix(self.lake.root()).unwrap_or(path).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

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
        check("https://host/x", "https://host/x: is not the URL of a store that is supported");
        check("file://host/lake", "file://host/lake: is not the URL of a local folder");
        check("/dev/null", "/dev/null: is not a folder");
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
            let Place::Store(store) = table.place() else { panic!("{location} is no folder") };
            let key = store.key(&table.root().join("a=%3A b/x.parquet")).unwrap();
            assert!(key.as_ref().ends_with("lake/software_inventory/a=%3A b/x.parquet"), "{key}");
            assert!(store.key(&table.root().join("../x")).is_err());
            assert!(store.key(Path::new("/etc/passwd")).is_err());
        }
    }
}
