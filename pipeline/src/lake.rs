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

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use schema::Dataset;

use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;

/// Name of the file that says, within a snapshot's data folder, that the snapshot is complete.
pub const SUCCESS_FILE: &str = "_SUCCESS";

/// A manifest takes about 300 bytes a data file; beyond this it is not one of ours, and is not read
/// into memory.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// How often a waiting run looks whether the lock is free, or whether it was told to stop.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How often another run may take the lock's folder away between two of our steps. More than that is
/// a file system that cannot keep the folder.
const MAX_LOCK_RACES: u32 = 100;

/// Why the lake could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is a URL of a scheme that we do not write to.
    #[error("the lake's location has the scheme {scheme}, which is not supported")]
    UnsupportedScheme {
        /// The scheme alone: the rest of the URL may hold a secret.
        scheme: String,
    },
    /// The location names no folder.
    #[error("the lake's location {location:?} {reason}")]
    BadLocation {
        /// As given.
        location: String,
        /// What is wrong with it.
        reason: &'static str,
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
    /// A name would leave the folder that it belongs to.
    #[error("{name:?} is not a name below the table")]
    UnsafeName {
        /// The name.
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
            Self::UnsupportedScheme { .. } | Self::BadLocation { .. } => {
                Some("give --lake a local path or a file:// URL")
            }
            Self::Io { source, .. } => io_hint(source.kind()),
            Self::DamagedManifest { .. } => Some(
                "restore the manifest, or move it and the snapshot's data folder out of the lake and ingest again",
            ),
            Self::UnsafeName { .. } | Self::Cancelled { .. } => None,
        }
    }
}

fn io_hint(kind: io::ErrorKind) -> Option<&'static str> {
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
        io::ErrorKind::Unsupported => Some("choose a --lake on a file system with locks and renames"),
        _ => None,
    }
}

/// A place that tables lie in. It need not exist yet.
#[derive(Debug, Clone)]
pub struct Lake {
    root: PathBuf,
}

impl Lake {
    /// Names the lake at `location`: a path, or a `file://` URL. Touches nothing.
    ///
    /// # Errors
    ///
    /// Any other URL, an empty location, and one that names something other than a folder.
    pub fn open(location: impl AsRef<Path>) -> Result<Self, LakeError> {
        let location = location.as_ref();
        let text = location.to_string_lossy();
        let bad = |reason| LakeError::BadLocation { location: text.to_string(), reason };
        let root = match url_scheme(&text) {
            None => location.to_path_buf(),
            Some(scheme) if scheme.eq_ignore_ascii_case("file") => url::Url::parse(&text)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| bad("is no local file URL"))?,
            Some(scheme) => return Err(LakeError::UnsupportedScheme { scheme: scheme.to_owned() }),
        };
        if root.as_os_str().is_empty() {
            return Err(bad("is empty"));
        }
        match fs::metadata(&root) {
            Ok(metadata) if !metadata.is_dir() => Err(bad("is not a folder")),
            Err(error) if !is_missing(&error) => Err(io_error("open", &root)(error)),
            _ => Ok(Self { root }),
        }
    }

    /// The lake's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names one table of the lake. It need not exist yet.
    pub fn table(&self, dataset: &'static Dataset) -> Table {
        Table { lake: self.root.clone(), dataset }
    }
}

/// Returns `s3` for `s3://…`, nothing for a path.
fn url_scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

/// One dataset's table in one lake.
#[derive(Debug, Clone)]
pub struct Table {
    lake: PathBuf,
    dataset: &'static Dataset,
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

    /// The folder that readers glob.
    pub fn root(&self) -> PathBuf {
        self.lake.join(self.dataset.name)
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
        Ok(ids.into_iter().filter_map(|id| self.read_snapshot(id).transpose()).collect())
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
        let path = self.own_root().join("lock");
        let mut held = Held { table: self.clone(), made: Vec::new(), file: None };
        let mut on_wait = Some(on_wait);
        let mut races = 0;
        // Whoever holds the lock unlinks it in the end, and its empty folders with it. So a lock is ours
        // only if its path still leads to the file that we locked; else the way there is made again.
        loop {
            let file = match held.make_folders().and_then(|()| open_lock(&path)) {
                Ok(file) => file,
                Err(LakeError::Io { source, .. }) if is_missing(&source) && races < MAX_LOCK_RACES => {
                    races += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
                    Err(TryLockError::WouldBlock) => {}
                }
                if cancelled() {
                    return Err(LakeError::Cancelled { path });
                }
                if let Some(on_wait) = on_wait.take() {
                    on_wait();
                }
                std::thread::sleep(LOCK_POLL);
            }
            if is_at(&file, &path)? {
                held.file = Some(file);
                return Ok(TableLock { held: Arc::new(held) });
            }
        }
    }

    /// Opens one data file of the table for reading; `path` is as in the manifest.
    ///
    /// # Errors
    ///
    /// A path that leaves the table, anything but a regular file, and what the system says.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        check_name(path)?;
        open_file(&self.root().join(path))
    }

    /// Opens the snapshot's rejects for reading; nothing where it has none.
    pub(crate) fn open_rejects(&self, id: SnapshotId) -> Result<Option<File>, LakeError> {
        optional(open_file(&self.rejects_path(id)))
    }

    /// The table's folder for what is not data.
    pub(crate) fn own_root(&self) -> PathBuf {
        self.lake.join("_defender").join(self.dataset.name)
    }

    pub(crate) fn staging_root(&self) -> PathBuf {
        self.own_root().join("staging")
    }

    pub(crate) fn snapshots_root(&self) -> PathBuf {
        self.own_root().join("snapshots")
    }

    pub(crate) fn snapshot_folder(&self, id: SnapshotId) -> PathBuf {
        self.snapshots_root().join(id.to_string())
    }

    /// The snapshots that have a folder for their manifest, oldest first.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, LakeError> {
        let names = list_names(&self.snapshots_root())?;
        Ok(names.iter().filter_map(|name| SnapshotId::parse(name)).collect())
    }

    /// Reads a snapshot's manifest; nothing if the snapshot was replaced since it was listed.
    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Option<PublishedSnapshot>, LakeError> {
        let folder = self.snapshot_folder(id);
        let manifest_path = folder.join(MANIFEST_FILE);
        let damaged = |reason: String| LakeError::DamagedManifest { path: manifest_path.clone(), reason };
        let Some(manifest) = read_manifest(&manifest_path)? else {
            // Publishing moves such a folder away as a whole.
            return if exists(&folder)? { Err(damaged("the file is missing".to_owned())) } else { Ok(None) };
        };
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
        path.strip_prefix(&self.lake).unwrap_or(path).to_string_lossy().into_owned()
    }
}

pub(crate) const MANIFEST_FILE: &str = "manifest.json";
pub(crate) const REJECTS_FILE: &str = "rejects.ndjson.gz";

/// `snapshot_date=2021-01-11`.
pub(crate) fn data_folder_name(date: NaiveDate) -> String {
    format!("{}={date}", schema::SNAPSHOT_DATE.name)
}

/// Reads the manifest at `path`, nothing where there is none. Holds its paths to the snapshot's own
/// folder and its numbers to a range that sums cannot leave.
pub(crate) fn read_manifest(path: &Path) -> Result<Option<Manifest>, LakeError> {
    let damaged = |reason: String| LakeError::DamagedManifest { path: path.to_path_buf(), reason };
    let Some(bytes) = read_bounded(path, MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
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
    Ok(Some(manifest))
}

/// The exclusive right to change one table, held until the last clone of it is dropped.
#[derive(Debug, Clone)]
pub struct TableLock {
    held: Arc<Held>,
}

impl TableLock {
    /// The table that is locked.
    pub fn table(&self) -> &Table {
        &self.held.table
    }

    /// The folders above the table's own whose entries have to last for the table to last.
    pub(crate) fn folders_above(&self) -> Vec<PathBuf> {
        let table = self.table();
        let mut folders: Vec<_> = self.held.made.iter().map(|folder| parent(folder).to_path_buf()).collect();
        folders.extend([table.lake.clone(), table.lake.join("_defender"), table.own_root()]);
        folders
    }
}

/// What a lock has to undo.
#[derive(Debug)]
struct Held {
    table: Table,
    /// Folders that this run made, outermost first.
    made: Vec<PathBuf>,
    file: Option<File>,
}

impl Held {
    fn make_folders(&mut self) -> Result<(), LakeError> {
        let own_root = self.table.own_root();
        let mut missing = Vec::new();
        for folder in own_root.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            if fs::metadata(folder).is_ok() {
                break;
            }
            missing.push(folder.to_path_buf());
        }
        for folder in missing.into_iter().rev() {
            if create_dir(&folder)? && !self.made.contains(&folder) {
                self.made.push(folder);
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Errors have nowhere to go, and what stays behind is empty: the next run takes it away.
        let own_root = self.table.own_root();
        if self.file.is_some() {
            let _ = remove_empty_dir(&self.table.staging_root());
            let _ = remove_empty_dir(&self.table.snapshots_root());
            let _ = change("remove", &own_root, || fs::remove_file(own_root.join("lock")));
            let _ = remove_empty_dir(&own_root);
            let _ = remove_empty_dir(parent(&own_root));
        }
        for folder in self.made.iter().rev() {
            let _ = remove_empty_dir(folder);
        }
    }
}

fn open_lock(path: &Path) -> Result<File, LakeError> {
    change("create", path, || OpenOptions::new().create(true).truncate(false).write(true).open(path))
}

/// Whether `path` still leads to the open file.
fn is_at(file: &File, path: &Path) -> Result<bool, LakeError> {
    let open = file.metadata().map_err(io_error("read", path))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

// ---- The file system. Everything that changes it goes through `change`. ----

/// Carries out one change. Tests let it fail at any chosen one.
fn change<T>(
    action: &'static str,
    path: &Path,
    operation: impl FnOnce() -> io::Result<T>,
) -> Result<T, LakeError> {
    #[cfg(test)]
    faults::point().map_err(io_error(action, path))?;
    operation().map_err(io_error(action, path))
}

/// Wraps what the system said.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    move |source| LakeError::Io { action, path: path.to_path_buf(), source }
}

/// Turns "not there" into nothing.
fn optional<T>(result: Result<T, LakeError>) -> Result<Option<T>, LakeError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(LakeError::Io { source, .. }) if is_missing(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The folder that holds `path`; a bare relative name lies in the current one.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Fails for a name that could lead out of the folder it is joined to: absolute, empty, with `..`.
pub(crate) fn check_name(name: &str) -> Result<(), LakeError> {
    let mut parts = name.split('/');
    let plain = parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    let single = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && single { Ok(()) } else { Err(LakeError::UnsafeName { name: name.to_owned() }) }
}

/// Whether something is at `path`, a broken link included.
pub(crate) fn exists(path: &Path) -> Result<bool, LakeError> {
    Ok(optional(fs::symlink_metadata(path).map_err(io_error("read", path)))?.is_some())
}

/// Whether a folder is at `path`, and no link to one.
pub(crate) fn is_folder(path: &Path) -> Result<bool, LakeError> {
    let metadata = optional(fs::symlink_metadata(path).map_err(io_error("read", path)))?;
    Ok(metadata.is_some_and(|metadata| metadata.is_dir()))
}

/// The names in a folder, sorted; none where it does not exist.
pub(crate) fn list_names(folder: &Path) -> Result<Vec<String>, LakeError> {
    let Some(entries) = optional(fs::read_dir(folder).map_err(io_error("list", folder)))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Everything below a folder that is no folder itself: path from there → size in bytes.
/// Links are not followed. Nothing where the folder does not exist.
pub(crate) fn list_files(folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
    let mut files = BTreeMap::new();
    let mut todo = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = todo.pop() {
        let Some(entries) = optional(fs::read_dir(&folder).map_err(io_error("list", &folder)))? else {
            continue;
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().map_err(io_error("read", &entry.path()));
            match optional(metadata)? {
                Some(metadata) if metadata.is_dir() => todo.push((entry.path(), format!("{name}/"))),
                Some(metadata) => drop(files.insert(name, metadata.len())),
                None => {}
            }
        }
    }
    Ok(files)
}

/// Whether nobody's data is in a file of this name: what desktops and file systems leave around.
/// Readers that skip no dot files still ask for `*.parquet`.
pub(crate) fn is_clutter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with('.') && !name.ends_with(".parquet")
}

/// Reads a small file whole; nothing where there is none.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, LakeError> {
    let Some(file) = optional(open_file(path))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(io_error("read", path)(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(Some(bytes))
}

/// Opens a regular file for reading. Anything else, a pipe for one, could block for ever.
pub(crate) fn open_file(path: &Path) -> Result<File, LakeError> {
    let open = || {
        if fs::symlink_metadata(path)?.is_file() {
            File::open(path)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    };
    open().map_err(io_error("open", path))
}

/// Makes one folder; says whether it was missing.
pub(crate) fn create_dir(path: &Path) -> Result<bool, LakeError> {
    change("create", path, || match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    })
}

/// Makes a file that must not be there yet, for writing.
pub(crate) fn create_file(path: &Path) -> Result<File, LakeError> {
    change("create", path, || OpenOptions::new().write(true).create_new(true).open(path))
}

/// Writes a whole new file and brings it to disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), LakeError> {
    let mut file = create_file(path)?;
    change("write", path, || file.write_all(bytes))?;
    sync_file(&file, path)
}

/// Brings a file's bytes to disk.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), LakeError> {
    change("sync", path, || file.sync_all())
}

/// Brings a folder's entries to disk, where the file system has such a thing.
pub(crate) fn sync_dir(path: &Path) -> Result<(), LakeError> {
    change("sync", path, || match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    })
}

/// Renames within the lake. The system itself refuses to replace a folder that is not empty.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LakeError> {
    change("move to", to, || fs::rename(from, to))
}

/// Exchanges two entries in one step; says whether the file system can.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<bool, LakeError> {
    use rustix::io::Errno;
    change("exchange", other, || {
        #[cfg(test)]
        if faults::no_exchange() {
            return Ok(false);
        }
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

/// Removes a file if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), LakeError> {
    optional(change("remove", path, || fs::remove_file(path))).map(|_| ())
}

/// Removes a folder if it is there and empty; else leaves it, and a link to one too.
pub(crate) fn remove_empty_dir(path: &Path) -> Result<(), LakeError> {
    change("remove", path, || match fs::remove_dir(path) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    })
}

/// Removes whatever is at `path`, folders with all that is in them. Links are not followed.
pub(crate) fn remove_tree(path: &Path) -> Result<(), LakeError> {
    if !is_folder(path)? {
        return remove_file(path);
    }
    let entries = fs::read_dir(path).map_err(io_error("list", path))?;
    for entry in entries {
        remove_tree(&entry.map_err(io_error("list", path))?.path())?;
    }
    change("remove", path, || fs::remove_dir(path))
}

/// Faults for tests: chosen changes of the storage fail.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::Cell;
    use std::io;

    /// Which changes fail, counted from zero since [`set`].
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Fault {
        /// This one.
        pub once: u32,
        /// This one and all later ones, what a crash looks like to the disk: not even the tidying of a
        /// `drop` comes through.
        pub for_good: u32,
    }

    impl Fault {
        pub(crate) const NONE: Fault = Fault { once: u32::MAX, for_good: u32::MAX };
    }

    thread_local! {
        static FAULT: Cell<Fault> = const { Cell::new(Fault::NONE) };
        static COUNT: Cell<u32> = const { Cell::new(0) };
        static NO_EXCHANGE: Cell<bool> = const { Cell::new(false) };
    }

    /// Sets the faults of this thread.
    pub(crate) fn set(fault: Fault) {
        FAULT.set(fault);
        COUNT.set(0);
    }

    /// Ends them, and returns the number of changes since they were set.
    pub(crate) fn clear() -> u32 {
        FAULT.set(Fault::NONE);
        COUNT.get()
    }

    pub(crate) fn set_no_exchange(no_exchange: bool) {
        NO_EXCHANGE.set(no_exchange);
    }

    pub(crate) fn no_exchange() -> bool {
        NO_EXCHANGE.get()
    }

    pub(crate) fn point() -> io::Result<()> {
        let count = COUNT.get();
        COUNT.set(count + 1);
        let fault = FAULT.get();
        if count == fault.once || count >= fault.for_good {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    }
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
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.hint(), Some("give --lake a local path or a file:// URL"));
        };
        check(
            "abfss://x.dfs.core.windows.net/?sig=secret",
            "the lake's location has the scheme abfss, which is not supported",
        );
        check("", r#"the lake's location "" is empty"#);
        check("file://host/lake", r#"the lake's location "file://host/lake" is no local file URL"#);
        check("/dev/null", r#"the lake's location "/dev/null" is not a folder"#);
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
        assert_eq!(list_names(&root).unwrap(), Vec::<String>::new());
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
