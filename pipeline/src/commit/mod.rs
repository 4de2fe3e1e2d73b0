//! Publishing: from staging to the final place, all or nothing.
//!
//! Takes the data files that a run wrote into its [`Staging`] and their manifest, gives a published
//! snapshot; never opens a data file. Staging is on a local disk always. From there a snapshot gets to its
//! place under the table's lock, in one of two ways: on a local disk folders are exchanged (`exchange.rs`); in
//! an object store, which renames nothing, new objects appear beside the old ones and one of them decides
//! (`objects.rs`). A Delta table on a local disk is published beside what is there too, since its log and not
//! a folder decides (`beside.rs`); `log.rs` is where the others write it.

mod error;
mod outcome;
pub(crate) mod delta_log;
mod disk;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use chrono::NaiveDate;
use serde::Serialize;

use self::delta_log::Log;
use self::disk::swap::INTENT_FILE;
use self::disk::{delta as beside, removal, swap as exchange};
pub use self::error::CommitError;
pub use self::outcome::{Published, Recovered, RemovedSnapshots};
use self::store::{self as objects, ByObjects, Uploaded};
use crate::lake::{
    self, LakeError, Place, PublishedSnapshot, REJECTS_FILE, SUCCESS_FILE, Table, TableKind, TableLock, local,
};
use crate::manifest::Manifest;
use crate::partition;
use crate::snapshot::{RunId, SnapshotId};
use crate::spill::Spill;
use crate::staging::{StagedFile, work_dir};

impl Table {
    /// The runs that are moving snapshots in or out of place, or were interrupted in that.
    pub(crate) fn unfinished_changes(&self) -> Result<Vec<String>, LakeError> {
        let mut runs = self.staged_runs()?;
        let staging = self.staging_root();
        let has = |run: &str, file| local::exists(&staging.join(run).join(file)).unwrap_or(true);
        runs.retain(|run| match self.place() {
            Place::Disk(_) => {
                [INTENT_FILE, beside::JOURNAL_FILE, removal::REMOVAL_FILE].iter().any(|file| has(run, file))
            }
            Place::Store(store) => objects::is_decided(self, store, run),
        });
        Ok(runs)
    }

    /// The runs that have a folder in staging.
    fn staged_runs(&self) -> Result<Vec<String>, LakeError> {
        let mut runs = self.list_names(&self.staging_root())?;
        if let Place::Disk(_) = self.place() {
            runs.retain(|run| {
                let folder = self.staging_root().join(run);
                !lake::is_clutter_folder(run) && local::is_folder(&folder).unwrap_or(true)
            });
        }
        Ok(runs)
    }

    /// See [`TableLock::check_publishable`].
    fn check_publishable(&self, snapshot: SnapshotId) -> Result<(), CommitError> {
        let mut of_date = Vec::new();
        for published in self.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()) {
            if published > snapshot {
                return Err(CommitError::Superseded { snapshot, published });
            }
            of_date.extend(self.read_snapshot(published)?);
        }
        self.check_ours(snapshot.date(), &of_date.iter().collect::<Vec<_>>())?;
        match Log::open(self)? {
            Some(log) => Ok(log.check_publishable(snapshot.date())?),
            None => Ok(()),
        }
    }

    /// Whether the data folder of `date` holds nothing but what the manifests of `published` list.
    ///
    /// # Errors
    ///
    /// [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    fn check_ours(&self, date: NaiveDate, published: &[&PublishedSnapshot]) -> Result<(), CommitError> {
        let folder = self.data_folder(date);
        let is_on_disk = matches!(self.place(), Place::Disk(_));
        if is_on_disk && local::exists(&folder)? && !local::is_folder(&folder)? {
            return Err(CommitError::NotAFolder { path: folder });
        }
        let listed: BTreeSet<&str> =
            published.iter().flat_map(|one| &one.manifest.files).map(|file| file.path.as_str()).collect();
        let prefix = lake::data_folder_name(date);
        let is_ours = |name: &str, bytes: u64| {
            lake::is_clutter(name, bytes)
                || (!published.is_empty() && name == SUCCESS_FILE)
                || listed.contains(format!("{prefix}/{name}").as_str())
        };
        match self.list_files(&folder)?.into_iter().find(|(name, bytes)| !is_ours(name, *bytes)) {
            Some((name, _)) => Err(CommitError::ForeignFile { folder, name }),
            None => Ok(()),
        }
    }
}

impl TableLock {
    /// Puts the table in order after runs that were killed: finishes or undoes their publish, and
    /// removes what they staged. Comes before anything else under the lock.
    ///
    /// # Errors
    ///
    /// Storage, and [`CommitError::Undecided`]. Recovery can be interrupted and repeated at will.
    pub fn recover(&self) -> Result<Vec<Recovered>, CommitError> {
        match self.table().place() {
            Place::Disk(_) => exchange::recover(self),
            Place::Store(store) => objects::recover(self, store),
        }
    }

    /// Brings the snapshots that the log of a Delta table has not seen into it, without touching their data:
    /// all of a plain table that is to become one. Does nothing for a plain table.
    ///
    /// # Errors
    ///
    /// Storage, and a log that does not take them.
    pub fn adopt_snapshots(&self, run_id: &RunId) -> Result<(), CommitError> {
        let table = self.table();
        // Without snapshots there may be no folder either, and the first one makes the table.
        if self.kind()? == TableKind::Plain || table.snapshot_ids()?.is_empty() {
            return Ok(());
        }
        let mut log = Log::open_or_new(table)?;
        match table.place() {
            Place::Disk(_) => log.adopt_snapshots(),
            Place::Store(store) => {
                log.read_unseen(None)?;
                if log.has_unseen() { ByObjects::new(self, store, run_id).adopt() } else { Ok(()) }
            }
        }
    }

    /// Says early what [`Staging::publish`] would refuse: a date that holds a newer snapshot, or
    /// somebody else's files.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`], [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    pub fn check_publishable(&self, snapshot: SnapshotId) -> Result<(), CommitError> {
        self.unless_lost(self.table().check_publishable(snapshot))
    }

    /// To a run that has lost the table, what the next one writes is neither newer nor foreign.
    fn unless_lost<T>(&self, result: Result<T, CommitError>) -> Result<T, CommitError> {
        result.or_else(|error| {
            self.confirm()?;
            Err(error)
        })
    }

    /// Makes the folder that a run writes its snapshot in.
    ///
    /// # Errors
    ///
    /// Storage; a run id that is staged already.
    pub fn stage(&self, run_id: &RunId, snapshot: SnapshotId) -> Result<Staging, LakeError> {
        let table = self.table();
        lake::check_name(run_id.as_str())?;
        let (folder, in_use) = match table.place() {
            Place::Disk(_) => {
                local::create_dir(&table.staging_root())?;
                let folder = table.staging_root().join(run_id.as_str());
                if !local::create_dir(&folder)? {
                    let taken = io::Error::from(io::ErrorKind::AlreadyExists);
                    return Err(local::io_error("create", &folder)(taken));
                }
                (folder, None)
            }
            Place::Store(store) => {
                let (folder, in_use) = work_dir::make_staging(store.work_dir(), run_id)?;
                (folder, Some(in_use))
            }
        };
        let staging = Staging {
            lock: self.clone(),
            run_id: run_id.clone(),
            snapshot,
            data_folder: folder.join(lake::data_folder_name(snapshot.date())),
            partition_dirs: Mutex::default(),
            folder,
            uploaded: None,
            remove_on_drop: true,
            _in_use: in_use,
        };
        local::create_dir(&staging.data_folder)?;
        local::create_dir(&staging.folder.join("snapshot"))?;
        Ok(staging)
    }

    /// Removes published snapshots, data and manifests, all of them or none.
    ///
    /// # Errors
    ///
    /// A snapshot that is not published or whose manifest is damaged, files in its data folder that no
    /// manifest lists, and storage. The lake is then as it was.
    pub fn remove_snapshots(
        &self,
        run_id: &RunId,
        snapshots: &[SnapshotId],
    ) -> Result<RemovedSnapshots, CommitError> {
        let table = self.table();
        let published = table.snapshots()?;
        for id in snapshots {
            let of_date: Vec<_> = published.iter().filter(|one| one.id.date() == id.date()).collect();
            self.unless_lost(table.check_ours(id.date(), &of_date))?;
        }
        if let Some(log) = Log::open(table)? {
            log.check_removable(snapshots.iter().map(|id| id.date()))?;
        }
        match table.place() {
            Place::Disk(_) => removal::remove_snapshots(table, run_id, &published, snapshots),
            Place::Store(store) => ByObjects::new(self, store, run_id).remove(&published, snapshots),
        }
    }
}

/// A snapshot being written. Holds the table's lock; dropped unpublished, it leaves nothing.
#[derive(Debug)]
pub struct Staging {
    lock: TableLock,
    run_id: RunId,
    snapshot: SnapshotId,
    folder: PathBuf,
    data_folder: PathBuf,
    /// Folders of partitions, as asked for and as they are called.
    partition_dirs: Mutex<BTreeMap<String, String>>,
    /// What is in an object store already, and invisible there.
    uploaded: Option<Uploaded>,
    remove_on_drop: bool,
    /// Locked for as long as the folder is in use, where that is not below the table's own lock.
    _in_use: Option<File>,
}

impl Staging {
    /// Creates one data file. `partition_dir` is the escaped folder below the date's,
    /// `OSPlatform=Windows10`. On a file system that takes it for another partition's, or that forbids it, the
    /// folder gets a name that means the same, `OSPlatform=%57indows10`.
    ///
    /// # Errors
    ///
    /// A file of that name, a name that leaves the folder, storage.
    pub fn create_data_file(&self, partition_dir: &str, file_name: &str) -> Result<StagedFile, LakeError> {
        let name = if partition_dir.is_empty() {
            file_name.to_owned()
        } else {
            lake::check_name(partition_dir)?;
            format!("{}/{file_name}", self.make_partition_dir(partition_dir)?)
        };
        lake::check_name(&name)?;
        let table_path = format!("{}/{name}", lake::data_folder_name(self.snapshot.date()));
        StagedFile::create(self.data_folder.join(name), table_path)
    }

    /// Makes a partition's folder, once; returns its name.
    fn make_partition_dir(&self, wanted: &str) -> Result<String, LakeError> {
        let mut made = self.partition_dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = made.get(wanted) {
            return Ok(name.clone());
        }
        let (parent, last) = wanted.rsplit_once('/').unwrap_or(("", wanted));
        let folder = if parent.is_empty() { self.data_folder.clone() } else { self.data_folder.join(parent) };
        for above in folder
            .ancestors()
            .take_while(|above| **above != self.data_folder)
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            local::create_dir(above)?;
        }
        let portable = partition::portable_spelling(last);
        let spellings = std::iter::once(last.to_owned())
            .chain(portable.clone())
            .chain(partition::other_spellings(portable.as_deref().unwrap_or(last)));
        for name in spellings {
            let path = folder.join(&name);
            match local::create_dir(&path) {
                Ok(true)
                    if name == last && portable.is_some() && !local::list_names(&folder)?.contains(&name) =>
                {
                    local::remove_empty_dir(&path)?;
                }
                Ok(true) => {
                    let name = if parent.is_empty() { name } else { format!("{parent}/{name}") };
                    made.insert(wanted.to_owned(), name.clone());
                    return Ok(name);
                }
                // It was made for another partition.
                Ok(false) => {}
                Err(LakeError::Io { source, .. })
                    if name == last && portable.is_some() && is_forbidden_name(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LakeError::NameTaken { folder, name: last.to_owned() })
    }

    /// Opens a finished data file for reading back; `path` is as [`FinishedFile::path`] has it.
    ///
    /// # Errors
    ///
    /// A name that leaves staging, storage.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        lake::check_name(path)?;
        local::open_file(&self.folder.join(path))
    }

    /// Creates the file of the rejects, gzipped NDJSON. Only a snapshot that has some gets one.
    ///
    /// # Errors
    ///
    /// A second call, storage.
    pub fn create_rejects(&self) -> Result<StagedFile, LakeError> {
        StagedFile::create(self.rejects_path(), REJECTS_FILE.to_owned())
    }

    /// Creates a file for what has no room in memory, without a name by then: nothing is left of it.
    ///
    /// # Errors
    ///
    /// Storage.
    pub fn create_spill(&self) -> Result<Spill, LakeError> {
        let path = self.folder.join("spill");
        let open = || std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = local::change("create", &path, open)?;
        local::remove_file(&path)?;
        Ok(Spill::new(file, path))
    }

    /// Where the rejects are while staged, for a run that has to keep them without publishing.
    pub fn rejects_path(&self) -> PathBuf {
        self.folder.join("snapshot").join(REJECTS_FILE)
    }

    /// Brings the staged files into an object store, where nobody sees them before [`Staging::publish`].
    /// Calls `on_bytes` with the bytes that are through and all bytes, and stops when `cancelled` says so. On a local disk there is
    /// nothing to do.
    ///
    /// # Errors
    ///
    /// What [`Staging::publish`] refuses, storage, and [`LakeError::Cancelled`]. The lake is then as it was.
    pub fn upload(
        &mut self,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), CommitError> {
        if let Place::Store(store) = self.lock.table().place() {
            let run = ByObjects::new(&self.lock, store, &self.run_id);
            self.uploaded = Some(self.upload_by(&run, manifest, on_bytes, cancelled)?);
        }
        Ok(())
    }

    fn upload_by(
        &self,
        run: &ByObjects<'_>,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Uploaded, CommitError> {
        self.check(manifest)?;
        self.lock.check_publishable(self.snapshot)?;
        run.upload(&self.folder, manifest, on_bytes, cancelled)
    }

    /// Puts the snapshot in place, with what it replaces gone.
    ///
    /// # Errors
    ///
    /// A manifest that does not balance or does not list exactly the staged files, what
    /// [`TableLock::check_publishable`] refuses, and storage. The lake is then as it was.
    pub fn publish(mut self, manifest: &Manifest) -> Result<Published, CommitError> {
        let lock = self.lock.clone();
        match lock.table().place() {
            Place::Disk(_) => {
                self.check(manifest)?;
                lock.check_publishable(self.snapshot)?;
                let publish = match lock.kind()? {
                    TableKind::Plain => exchange::publish,
                    TableKind::Delta => beside::publish,
                };
                publish(&lock, &self.folder, manifest, &mut self.remove_on_drop)
            }
            Place::Store(store) => {
                let run = ByObjects::new(&lock, store, &self.run_id);
                let uploaded = match self.uploaded.take() {
                    Some(uploaded) => uploaded,
                    None => self.upload_by(&run, manifest, &|_, _| (), &|| false)?,
                };
                run.publish(&uploaded, manifest, &self.folder)
            }
        }
    }

    /// Holds the manifest against what was staged.
    fn check(&self, manifest: &Manifest) -> Result<(), CommitError> {
        let fail = |reason: String| Err(CommitError::Inconsistent { snapshot: self.snapshot, reason });
        let dataset = self.lock.table().dataset().name;
        if (manifest.snapshot_id(), &manifest.run_id, manifest.dataset.as_str())
            != (self.snapshot, &self.run_id, dataset)
        {
            return fail(format!(
                "the manifest is of {} snapshot {}, run {}; staged is {dataset}, run {}",
                manifest.dataset,
                manifest.snapshot_id(),
                manifest.run_id,
                self.run_id
            ));
        }
        if let Some(reason) = manifest.imbalance() {
            return fail(reason);
        }
        let date = self.snapshot.date();
        let prefix = lake::data_folder_name(date);
        let mut staged = local::list_files(&self.data_folder)?;
        for file in &manifest.files {
            if file.snapshot_date != date {
                return fail(format!("{} is listed under date {}", file.path, file.snapshot_date));
            }
            let name = file.path.strip_prefix(&prefix).and_then(|name| name.strip_prefix('/'));
            match name.and_then(|name| staged.remove(name)) {
                Some(bytes) if bytes == file.bytes => {}
                Some(bytes) => {
                    return fail(format!("{} has {bytes} bytes, listed {}", file.path, file.bytes));
                }
                None => return fail(format!("{} is listed and not staged", file.path)),
            }
        }
        // File servers and desktops are quick to leave something in a new folder.
        staged.retain(|name, bytes| !lake::is_clutter(name, *bytes));
        if let Some(name) = staged.into_keys().next() {
            return fail(format!("{prefix}/{name} is staged and not listed"));
        }
        let has_rejects = manifest.totals.rejected_records + manifest.totals.field_rejects > 0;
        match (has_rejects, local::exists(&self.rejects_path())?) {
            (true, false) => fail("the manifest counts rejects and their file is not staged".to_owned()),
            (false, true) => fail("a file of rejects is staged and the manifest counts none".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let (Some(uploaded), Place::Store(store)) = (self.uploaded.take(), self.lock.table().place()) {
            ByObjects::new(&self.lock, store, &self.run_id).give_up(&uploaded);
        }
        if self.remove_on_drop {
            // Errors have nowhere to go; the next run removes what stays. The intent goes first: with it
            // the rest has to be complete.
            let _ = local::remove_file(&self.folder.join(INTENT_FILE));
            let _ = local::remove_tree(&self.folder);
        }
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("text keys and plain values serialise");
    bytes.push(b'\n');
    bytes
}

/// Whether the system may mean that it forbids the name. Programs (FUSE) say that there is no such file.
fn is_forbidden_name(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotFound};
    matches!(error.kind(), InvalidFilename | InvalidInput | NotFound)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests;
