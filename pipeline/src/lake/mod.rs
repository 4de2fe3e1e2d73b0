//! Output storage: where the tables of a lake lie, and every operation that reads or changes them.
//!
//! Takes a place, gives [`Table`]s with their published snapshots and an exclusive [`TableLock`].
//! Knows folders and files, and never what a data file holds. A local disk for now; nothing outside
//! this module touches output storage by itself.
//!
//! ```text
//! <lake>/<table>/snapshot_date=2021-01-11/…              what readers glob
//! <lake>/_defender/<table>/lock                          there only while a run holds it
//! <lake>/_defender/<table>/snapshots/<id>/manifest.json
//! <lake>/_defender/<table>/staging/<run id>/…            there only while a run writes
//! ```

mod claim;
mod clutter;
pub mod http;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod local_objects;
mod location;
pub(crate) mod store;
mod success;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use schema::Dataset;

pub(crate) use self::claim::Claim;
pub(crate) use self::clutter::{is_clutter, is_clutter_folder};
use self::lease::Lease;
use self::local::LocalLock;
use self::location::Location;
use self::store::Store;
pub use self::store::StoreError;
pub(crate) use self::success::MAX_SUCCESS_BYTES;
pub use self::success::Success;
use crate::delta::{self, DeltaError};
use crate::exit_code::ExitCode;
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;
use crate::threads::THREAD_HINT;

/// Name of the file that says, within a snapshot's data folder, that the snapshot is complete.
pub const SUCCESS_FILE: &str = "_SUCCESS";

/// A manifest takes about 300 bytes a data file; beyond this it is not one of ours, and is not read
/// into memory.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Why the lake could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is no place that a lake can be in, or the environment cannot lead there.
    #[error("invalid lake location {location}: {reason}")]
    BadLocation {
        /// As given, without what may be secret.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment cannot be used for the lake.
    #[error("{name} {reason}")]
    BadVariable {
        /// Its name.
        name: String,
        /// What is wrong with it, without its value.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An operation on an object store failed.
    #[error("cannot {action} {}", path.display())]
    Store {
        /// What was tried, a verb.
        action: &'static str,
        /// On which object or folder.
        path: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// Another run took the table over from this one.
    #[error("another run has taken {} over", path.display())]
    LeaseLost {
        /// The lock.
        path: PathBuf,
    },
    /// The store accepts a second object of one name where it was told not to.
    #[error("the store has no conditional writes: it accepted a second lock at {}", path.display())]
    NoConditionalWrites {
        /// The lock.
        path: PathBuf,
    },
    /// An operation on the file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest is not one that we wrote.
    #[error("manifest {} is damaged: {reason}", path.display())]
    DamagedManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log of a Delta table stands in the way.
    #[error(transparent)]
    Delta(Box<DeltaError>),
    /// A name would leave the folder that it belongs to.
    #[error("{name:?} is not a name below the table")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The file system takes a folder's name and another's for one, and no other spelling is left.
    #[error("the file system takes {name:?} in {} for the name of another folder", folder.display())]
    NameTaken {
        /// Where the folder was to be made.
        folder: PathBuf,
        /// Its name.
        name: String,
    },
    /// The wait for the lock was interrupted.
    #[error("interrupted while another run holds {}", path.display())]
    Cancelled {
        /// The lock.
        path: PathBuf,
    },
}

impl LakeError {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadVariable { hint, .. } => Some(hint),
            Self::BadLocation { .. } => Some(
                "give --lake (or DEFENDER_LAKE) a local path, or a URL such as abfss://container@account.dfs.core.windows.net/path, s3://bucket/path or gs://bucket/path",
            ),
            Self::Io { source, .. } => io_hint(source),
            Self::Store { source, .. } => Some(source.hint()),
            Self::LeaseLost { .. } => {
                Some("run again: this one stood still for too long, and published nothing")
            }
            Self::NoConditionalWrites { .. } => {
                Some("choose a store for --lake that honours If-None-Match and If-Match, or a local disk")
            }
            Self::DamagedManifest { .. } => Some(
                "restore the manifest, or move it and the snapshot's data folder out of the lake and ingest again",
            ),
            Self::Delta(error) => error.hint(),
            Self::NameTaken { .. } => {
                Some("choose a --lake on a file system that tells upper case from lower case")
            }
            Self::UnsafeName { .. } | Self::Cancelled { .. } => None,
        }
    }
}

impl LakeError {
    /// Whether what was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => local::is_missing(source),
            Self::Store { source, .. } => source.is_missing(),
            _ => false,
        }
    }

    /// Whether a store failed for now, so that what was asked may be done or not.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_transient())
    }

    /// Whether a store will say the same again, and not for want of rights.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_refused())
    }

    /// How the program ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadLocation { .. } | Self::BadVariable { .. } => ExitCode::Usage,
            Self::Cancelled { .. } => ExitCode::Interrupted,
            Self::Store { source, .. } if source.is_not_authorised() => ExitCode::NotAuthorised,
            _ => ExitCode::Lake,
        }
    }
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    let hint = match Errno::from_io_error(error) {
        Some(Errno::NOLCK) => {
            "mount the file system with locks (for NFS, without nolock), or choose another --lake"
        }
        Some(Errno::ROFS) => "mount the file system for writing, or choose another --lake",
        Some(Errno::DQUOT) => "free space or ask for a larger quota, or choose another --lake",
        Some(Errno::FBIG) => "choose a --lake on a file system that takes files of this size",
        Some(Errno::NAMETOOLONG) => "choose a --lake with a shorter path",
        Some(Errno::INVAL | Errno::ILSEQ) => {
            "choose a --lake on a file system that takes any name and has locks (not FAT, exFAT or SMB)"
        }
        Some(Errno::IO | Errno::STALE | Errno::NOTCONN | Errno::TIMEDOUT | Errno::NODEV | Errno::NXIO) => {
            "check the disk or the network mount, and run again"
        }
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n), and run again",
        Some(Errno::BUSY | Errno::TXTBSY) => {
            "close what has the file or folder open or mounted, and run again"
        }
        Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {
            "move what is there out of the way, or choose another --lake"
        }
        _ => return io_kind_hint(error.kind()),
    };
    Some(hint)
}

fn io_kind_hint(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free space or choose another --lake")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("make the folder writable for this user or choose another --lake")
        }
        io::ErrorKind::CrossesDevices => Some(
            "keep the table's folder and _defender on one file system, without mounts or links in between",
        ),
        io::ErrorKind::WouldBlock => Some(THREAD_HINT),
        io::ErrorKind::Unsupported => Some("choose a --lake on a file system with locks and renames"),
        _ => None,
    }
}

/// Checks that a lake can have the location, without the environment and without asking anyone.
///
/// # Errors
///
/// [`LakeError::BadLocation`].
pub fn check_location(location: impl AsRef<Path>) -> Result<(), LakeError> {
    location::check(location.as_ref())
}

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
            Err(error) if !local::is_missing(&error) => Err(local::io_error("open", &root)(error)),
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

/// A snapshot that the lake holds a manifest of.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedSnapshot {
    /// Which snapshot; the name of the manifest's folder.
    pub id: SnapshotId,
    /// What it was made from and consists of. Its file paths stay below the snapshot's folder.
    pub manifest: Manifest,
    /// Where the manifest lies.
    pub manifest_path: PathBuf,
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

    /// The published snapshots, oldest first; none where the lake or the table does not exist.
    ///
    /// # Errors
    ///
    /// Names the first manifest that is damaged or unreadable.
    pub fn snapshots(&self) -> Result<Vec<PublishedSnapshot>, LakeError> {
        self.try_snapshots()?.into_iter().collect()
    }

    /// The published snapshots, oldest first, with an error in the place of each damaged one.
    ///
    /// # Errors
    ///
    /// Fails where the folder of the snapshots cannot be listed.
    pub fn try_snapshots(&self) -> Result<Vec<Result<PublishedSnapshot, LakeError>>, LakeError> {
        let ids = self.snapshot_ids()?;
        let Place::Store(store) = self.place() else {
            return Ok(ids.into_iter().filter_map(|id| self.read_snapshot(id).transpose()).collect());
        };
        // A request for each of hundreds: not one after the other.
        let paths: Vec<_> = ids.iter().map(|id| self.manifest_path(*id)).collect();
        let manifests = store.read_all(&paths, MAX_MANIFEST_BYTES);
        let snapshots = ids.into_iter().zip(manifests);
        Ok(snapshots
            .filter_map(|(id, bytes)| bytes.and_then(|bytes| self.parse_snapshot(id, bytes)).transpose())
            .collect())
    }

    /// The snapshot published on `date`, the newest if a crash left several.
    ///
    /// # Errors
    ///
    /// Names its manifest if that is damaged or unreadable.
    pub fn published_on(&self, date: NaiveDate) -> Result<Option<PublishedSnapshot>, LakeError> {
        for id in self.snapshot_ids()?.into_iter().rev().filter(|id| id.date() == date) {
            if let Some(snapshot) = self.read_snapshot(id)? {
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    /// Takes the table for this process alone, waiting while another has it. `on_wait` is called once
    /// before the first wait; the wait ends early when `cancelled` says so.
    ///
    /// Dropping the lock leaves nothing behind but what was published: the lock file goes, and so do
    /// the folders that are empty then, the lake's own only if this call made it.
    ///
    /// # Errors
    ///
    /// [`LakeError::Cancelled`], or what kept the lock file from being made.
    pub fn lock(&self, on_wait: impl FnOnce(), cancelled: &dyn Fn() -> bool) -> Result<TableLock, LakeError> {
        let held = match self.place() {
            Place::Disk(_) => Held::Disk(LocalLock::take(self.own_root(), on_wait, cancelled)?),
            Place::Store(store) => {
                Held::Store(Lease::take(store, self.own_root().join(LOCK_FILE), on_wait, cancelled)?)
            }
        };
        Ok(TableLock { table: self.clone(), is_to_be_delta: false, held: Arc::new(held) })
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
        optional(self.open_file(&self.rejects_path(id)))
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

    /// The snapshots that have a folder for their manifest, oldest first.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, LakeError> {
        let root = self.snapshots_root();
        let mut ids = BTreeSet::new();
        let mut claims = Vec::new();
        if let Place::Disk(_) = self.place() {
            ids.extend(self.list_names(&root)?.iter().filter_map(|name| SnapshotId::parse(name)));
        } else {
            for (name, bytes) in self.list_files(&root)? {
                let (folder, file) = name.split_once('/').unwrap_or((&name, ""));
                let Some(id) = SnapshotId::parse(folder) else { continue };
                ids.insert(id);
                if file == MANIFEST_FILE && bytes == Claim::NUM_BYTES {
                    claims.push(id);
                }
            }
        }
        for id in claims {
            let found = self.read_bounded(&self.manifest_path(id), MAX_MANIFEST_BYTES)?;
            if found.is_none_or(|bytes| Claim::parse(&bytes).is_some()) {
                ids.remove(&id);
            }
        }
        Ok(ids.into_iter().collect())
    }

    /// Reads the manifest at `path`, nothing where there is none.
    pub(crate) fn read_manifest(&self, path: &Path) -> Result<Option<Manifest>, LakeError> {
        let bytes = self.read_bounded(path, MAX_MANIFEST_BYTES)?;
        bytes.map(|bytes| parse_manifest(path, &bytes)).transpose()
    }

    /// Where the snapshot's manifest lies.
    pub(crate) fn manifest_path(&self, id: SnapshotId) -> PathBuf {
        self.snapshot_folder(id).join(MANIFEST_FILE)
    }

    /// Reads a snapshot's manifest; nothing if the snapshot was replaced since it was listed.
    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Option<PublishedSnapshot>, LakeError> {
        let bytes = self.read_bounded(&self.manifest_path(id), MAX_MANIFEST_BYTES)?;
        self.parse_snapshot(id, bytes)
    }

    /// The snapshot of a manifest's text; nothing if there is none, or a claim.
    pub(crate) fn parse_snapshot(
        &self,
        id: SnapshotId,
        bytes: Option<Vec<u8>>,
    ) -> Result<Option<PublishedSnapshot>, LakeError> {
        let manifest_path = self.manifest_path(id);
        let damaged = |reason: String| LakeError::DamagedManifest { path: manifest_path.clone(), reason };
        let Some(bytes) = bytes else {
            // Publishing moves such a folder away as a whole.
            let is_there = self.is_folder(&self.snapshot_folder(id))?;
            return if is_there { Err(damaged("the file is missing".to_owned())) } else { Ok(None) };
        };
        if Claim::parse(&bytes).is_some() {
            return Ok(None);
        }
        let manifest = parse_manifest(&manifest_path, &bytes)?;
        if manifest.dataset != self.dataset.name {
            return Err(damaged(format!("it is of dataset {:?}", manifest.dataset)));
        }
        if manifest.snapshot_id() != id {
            return Err(damaged(format!("it is of snapshot {}", manifest.snapshot_id())));
        }
        Ok(Some(PublishedSnapshot { id, manifest, manifest_path }))
    }

    /// `path` as seen from the lake, for messages and reports.
    pub(crate) fn below_lake(&self, path: &Path) -> String {
        path.strip_prefix(self.lake.root()).unwrap_or(path).to_string_lossy().into_owned()
    }
}

const LOCK_FILE: &str = "lock";
const STAGING_FOLDER: &str = "staging";
const SNAPSHOTS_FOLDER: &str = "snapshots";
pub(crate) const MANIFEST_FILE: &str = "manifest.json";
pub(crate) const REJECTS_FILE: &str = "rejects.ndjson.gz";

/// `snapshot_date=2021-01-11`.
pub(crate) fn data_folder_name(date: NaiveDate) -> String {
    format!("{}={date}", schema::SNAPSHOT_DATE.name)
}

/// Reads a manifest's text. Holds its paths to the snapshot's own folder and its numbers to a range that
/// sums cannot leave.
pub(crate) fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, LakeError> {
    let damaged = |reason: String| LakeError::DamagedManifest { path: path.to_path_buf(), reason };
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let folder = data_folder_name(manifest.snapshot_id().date());
    for file in &manifest.files {
        let below = file.path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
        if below.is_none_or(|below| check_name(below).is_err()) {
            return Err(damaged(format!("file path {:?} is not below {folder}", file.path)));
        }
    }
    let largest = u64::MAX / (manifest.parts.len() + manifest.files.len() + 2) as u64;
    let in_parts = manifest
        .parts
        .iter()
        .flat_map(|part| [part.records, part.rejected_records, part.field_rejects, part.coerced]);
    let in_files = manifest.files.iter().flat_map(|file| [file.rows, file.bytes]);
    let totals = [manifest.totals.rejected_records, manifest.totals.field_rejects];
    if in_parts.chain(in_files).chain(totals).any(|number| number > largest) {
        return Err(damaged("a number is out of range".to_owned()));
    }
    Ok(manifest)
}

/// The exclusive right to change one table, held until the last clone of it is dropped.
#[derive(Debug, Clone)]
pub struct TableLock {
    table: Table,
    is_to_be_delta: bool,
    held: Arc<Held>,
}

/// What keeps others away.
#[derive(Debug)]
enum Held {
    Disk(LocalLock),
    Store(Lease),
}

impl TableLock {
    /// The table that is locked.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes the table a Delta table with what is published next, if it is none.
    #[must_use]
    pub fn to_be_delta(mut self) -> Self {
        self.is_to_be_delta = true;
        self
    }

    /// What the table is, or is about to be.
    ///
    /// # Errors
    ///
    /// As [`Table::kind`].
    pub fn kind(&self) -> Result<TableKind, LakeError> {
        if self.is_to_be_delta { Ok(TableKind::Delta) } else { self.table.kind() }
    }

    /// Asks whether the table is still ours. A run that stood still for long may have lost it.
    ///
    /// # Errors
    ///
    /// [`LakeError::LeaseLost`]; where a store cannot be asked.
    pub(crate) fn confirm(&self) -> Result<(), LakeError> {
        match &*self.held {
            Held::Disk(_) => Ok(()),
            Held::Store(lease) => lease.confirm(),
        }
    }

    /// What to say of a run that finds out that another one has the table.
    pub(crate) fn lost(&self) -> LakeError {
        LakeError::LeaseLost { path: self.table.own_root().join(LOCK_FILE) }
    }

    /// The folders above the table's own whose entries have to last for the table to last.
    pub(crate) fn folders_above(&self) -> Vec<PathBuf> {
        let table = self.table();
        let made: &[PathBuf] = match &*self.held {
            Held::Disk(lock) => &lock.made,
            Held::Store(_) => &[],
        };
        let mut folders: Vec<_> = made.iter().map(|folder| local::parent(folder).to_path_buf()).collect();
        let root = table.lake.root();
        folders.extend([root.to_path_buf(), root.join("_defender"), table.own_root()]);
        folders
    }
}

/// Turns "not there" into nothing.
fn optional<T>(result: Result<T, LakeError>) -> Result<Option<T>, LakeError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fails for a name that could lead out of the folder it is joined to: absolute, empty, with `..`.
pub(crate) fn check_name(name: &str) -> Result<(), LakeError> {
    let mut parts = name.split('/');
    let plain = parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    let single = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && single { Ok(()) } else { Err(LakeError::UnsafeName { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    fn table(root: &Path) -> Table {
        Lake::open(root).unwrap().table(schema::DATASETS[0])
    }

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

    #[test]
    fn hints_go_by_what_the_system_said() {
        use rustix::io::Errno;
        let check = |errno: Errno, expected: Option<&str>| {
            let error = local::io_error("write", Path::new("x"))(errno.into());
            assert_eq!(error.hint().map(|hint| hint.split(',').next().unwrap()), expected, "{errno}");
            assert_eq!(error.exit_code(), ExitCode::Lake);
        };
        check(Errno::NOLCK, Some("mount the file system with locks (for NFS"));
        check(Errno::OPNOTSUPP, Some("choose a --lake on a file system with locks and renames"));
        check(Errno::NOSYS, Some("choose a --lake on a file system with locks and renames"));
        check(Errno::ROFS, Some("mount the file system for writing"));
        check(Errno::NOSPC, Some("free space or choose another --lake"));
        check(Errno::DQUOT, Some("free space or ask for a larger quota"));
        check(Errno::NAMETOOLONG, Some("choose a --lake with a shorter path"));
        check(Errno::XDEV, Some("keep the table's folder and _defender on one file system"));
        check(Errno::IO, Some("check the disk or the network mount"));
        check(Errno::STALE, Some("check the disk or the network mount"));
        check(Errno::ACCESS, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::PERM, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::EXIST, Some("move what is there out of the way"));
        check(Errno::MFILE, Some("raise the limit of open files (ulimit -n)"));
        check(Errno::NOENT, None);
    }

    #[test]
    fn lock_leaves_no_trace() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("deep/lake");
        drop(table(&root).lock(|| (), &|| false).unwrap());
        assert!(!temp.path().join("deep").exists());

        fs::create_dir_all(&root).unwrap();
        drop(table(&root).lock(|| (), &|| false).unwrap());
        assert!(root.exists());
        assert_eq!(local::list_names(&root).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn second_run_waits_and_can_be_interrupted() {
        let temp = tempfile::tempdir().unwrap();
        let table = table(temp.path());
        let first = table.lock(|| (), &|| false).unwrap();
        let mut waited = false;
        let error = table.lock(|| waited = true, &waiting_is_over).unwrap_err();
        assert!(matches!(error, LakeError::Cancelled { .. }));
        assert!(waited);
        assert!(table.own_root().join("lock").exists(), "the holder's lock is untouched");
        drop(first);
        assert!(!table.own_root().exists());
    }

    /// False at the first question, true from then on.
    fn waiting_is_over() -> bool {
        static ASKED: AtomicBool = AtomicBool::new(false);
        ASKED.swap(true, Ordering::Relaxed)
    }

    #[test]
    fn one_holder_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("lake");
        let table = table(&root);
        let num_holders = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let lock = table.lock(|| (), &|| false).unwrap();
                        assert_eq!(num_holders.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(table.own_root().join("lock").exists());
                        num_holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!root.exists());
    }

    #[test]
    fn damaged_manifest_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let table = table(temp.path());
        let id = SnapshotId::parse("20210111T110100Z").unwrap();
        let folder = table.snapshot_folder(id);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(table.snapshots_root().join("no snapshot")).unwrap();
        let check = |text: Option<&str>, expected: &str| {
            if let Some(text) = text {
                fs::write(folder.join(MANIFEST_FILE), text).unwrap();
            }
            let error = table.snapshots().unwrap_err().to_string();
            assert!(error.starts_with("manifest /") && error.contains(expected), "{error}");
            assert_eq!(table.try_snapshots().unwrap().len(), 1);
        };
        check(None, "20210111T110100Z/manifest.json is damaged: the file is missing");
        check(Some("{"), "EOF while parsing");
        let manifest = |dataset: &str, time: &str, path: &str, rows: &str| {
            format!(
                r#"{{"tool_version":"0","schema_version":1,"dataset":"{dataset}","route":"files",
                "generated_time":"{time}","generated_time_from":"listing","run_id":"00000000",
                "started_at":"{time}","finished_at":"{time}","parts":[],
                "files":[{{"path":"{path}","snapshot_date":"2021-01-11","os_platform":null,"rows":{rows},
                "bytes":1,"row_groups":1,"sha256":""}}],"totals":{{"parts":0,"records":0,"rows":0,
                "rejected_records":0,"field_rejects":0,"coerced":0,"files":0,"bytes":0}},
                "undocumented_fields":{{}}}}"#
            )
        };
        let ours = "snapshot_date=2021-01-11/x";
        let time = "2021-01-11T11:01:00Z";
        check(Some(&manifest("other", time, ours, "1")), r#"it is of dataset "other""#);
        let later = "2021-01-11T12:00:00Z";
        check(Some(&manifest("software_inventory", later, ours, "1")), "it is of snapshot 20210111T120000Z");
        for path in ["/etc/passwd", "../x", "snapshot_date=2021-01-11/../x", "snapshot_date=2021-01-12/x", ""]
        {
            check(
                Some(&manifest("software_inventory", time, path, "1")),
                "is not below snapshot_date=2021-01-11",
            );
        }
        let huge = u64::MAX.to_string();
        check(Some(&manifest("software_inventory", time, ours, &huge)), "a number is out of range");
        fs::write(folder.join(MANIFEST_FILE), manifest("software_inventory", time, ours, "1")).unwrap();
        assert_eq!(table.snapshots().unwrap().len(), 1);
    }
}
