//! Publishing: from staging to the final place, all or nothing.
//!
//! Takes the data files that a run wrote into its [`Staging`] and their manifest, gives a published
//! snapshot; never opens a data file. On disk, under the table's lock:
//!
//! ```text
//! staging/<run id>/snapshot_date=2021-01-11/…   the new data folder
//! staging/<run id>/snapshot/                    the new manifest, and the rejects
//! staging/<run id>/_SUCCESS
//! staging/<run id>/intent.json                  from here on a crash is recovered from
//! ```
//!
//! 1. Everything is written and synced; the intent, a copy of the manifest, comes last.
//! 2. The data folder changes places with the one that is published, in one step of the file system.
//! 3. So does the manifest's folder, then `_SUCCESS` moves in.
//! 4. What was replaced goes, with the staging folder.
//!
//! An error before the end of step 3 is undone at once. After a crash the next run decides by where
//! the new data folder is found ([`TableLock::recover`]): in its final place the publish is finished,
//! in staging it is undone. Steps 2 to 4 ask what is already done before they act, so publishing and
//! recovery are the same code. Where a file system has no exchange, the old folder is moved into
//! staging first, and for that moment readers see no snapshot of the date.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lake::{
    self, LakeError, MANIFEST_FILE, PublishedSnapshot, REJECTS_FILE, SUCCESS_FILE, Table, TableLock,
};
use crate::manifest::{Manifest, rfc3339_seconds};
use crate::snapshot::{RunId, SnapshotId};

mod removal;

pub use removal::RemovedSnapshots;

const INTENT_FILE: &str = "intent.json";

/// A `_SUCCESS` file is a few hundred bytes; beyond this it is not ours.
const MAX_SUCCESS_BYTES: u64 = 64 << 10;

/// One write to the system. Every open data file has such a buffer, and there is one per platform.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Why a snapshot was not published. The lake is as it was, but after [`CommitError::UndoFailed`].
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Storage failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The manifest does not describe what was staged: our mistake.
    #[error("snapshot {snapshot} is not published: {reason}")]
    Inconsistent {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What does not hold.
        reason: String,
    },
    /// The date holds a newer snapshot.
    #[error("snapshot {snapshot} is older than {published}, which is published on the same date")]
    Superseded {
        /// The snapshot that was to be published.
        snapshot: SnapshotId,
        /// The one that stays.
        published: SnapshotId,
    },
    /// Something that no manifest lists is where the snapshot belongs.
    #[error("{} holds {name:?}, which no manifest of this lake lists", folder.display())]
    ForeignFile {
        /// The snapshot's data folder.
        folder: PathBuf,
        /// The first such file, from there.
        name: String,
    },
    /// The snapshot's data folder is a file or a link.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// Where the snapshot belongs.
        path: PathBuf,
    },
    /// An earlier run's publish was interrupted, and its data folder is nowhere.
    #[error("the interrupted publish in {} can neither be finished nor undone", folder.display())]
    Undecided {
        /// The staging folder of that run.
        folder: PathBuf,
    },
    /// Publishing failed, and so did undoing it.
    #[error("{failure}, and what was done could not be undone")]
    UndoFailed {
        /// Why publishing failed.
        failure: Box<LakeError>,
        /// Why undoing failed.
        source: Box<LakeError>,
    },
}

impl CommitError {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::ForeignFile { .. } | Self::NotAFolder { .. } => {
                Some("move it out of the table's folder, or choose another --lake")
            }
            Self::Undecided { .. } => Some(
                "its data was moved or deleted by hand: move the folder out of the lake and ingest again",
            ),
            Self::UndoFailed { .. } => {
                Some("once the disk is well again, the next ingest puts the table in order")
            }
            Self::Inconsistent { .. } | Self::Superseded { .. } => None,
        }
    }
}

/// What `_SUCCESS` says: the snapshot beside it is complete, and this is its size.
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
    /// What the `_SUCCESS` of a snapshot with this manifest says.
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

    /// Reads the `_SUCCESS` of the snapshot on `date`: nothing where there is none, and an inner error
    /// in words where it is not ours.
    ///
    /// # Errors
    ///
    /// Fails where the file cannot be read.
    pub fn read_success(&self, date: NaiveDate) -> Result<Option<Result<Success, String>>, LakeError> {
        read_success(&self.data_folder(date))
    }

    /// Whether the snapshot's data folder is in place and marked complete. It is not where somebody
    /// deleted the folder and left the manifest.
    ///
    /// # Errors
    ///
    /// Fails where `_SUCCESS` is there and cannot be read.
    pub fn is_complete(&self, snapshot: &PublishedSnapshot) -> Result<bool, LakeError> {
        let success = self.read_success(snapshot.id.date())?;
        Ok(success == Some(Ok(self.success_of(&snapshot.manifest))))
    }

    /// The runs that are moving snapshots in or out of place, or were interrupted in that.
    pub(crate) fn unfinished_changes(&self) -> Result<Vec<String>, LakeError> {
        let mut runs = lake::list_names(&self.staging_root())?;
        let staging = self.staging_root();
        let has = |run: &str, file| lake::exists(&staging.join(run).join(file)).unwrap_or(true);
        runs.retain(|run| has(run, INTENT_FILE) || has(run, removal::REMOVAL_FILE));
        Ok(runs)
    }

    /// Whether the data folder of `date` holds nothing but what the manifests of `published` list.
    ///
    /// # Errors
    ///
    /// [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    fn check_ours(&self, date: NaiveDate, published: &[&PublishedSnapshot]) -> Result<(), CommitError> {
        let folder = self.data_folder(date);
        if lake::exists(&folder)? && !lake::is_folder(&folder)? {
            return Err(CommitError::NotAFolder { path: folder });
        }
        let listed: BTreeSet<&str> =
            published.iter().flat_map(|one| &one.manifest.files).map(|file| file.path.as_str()).collect();
        let prefix = lake::data_folder_name(date);
        let is_ours = |name: &str| {
            lake::is_clutter(name)
                || (!published.is_empty() && name == SUCCESS_FILE)
                || listed.contains(format!("{prefix}/{name}").as_str())
        };
        match lake::list_files(&folder)?.into_keys().find(|name| !is_ours(name)) {
            Some(name) => Err(CommitError::ForeignFile { folder, name }),
            None => Ok(()),
        }
    }
}

fn read_success(data_folder: &Path) -> Result<Option<Result<Success, String>>, LakeError> {
    let bytes = lake::read_bounded(&data_folder.join(SUCCESS_FILE), MAX_SUCCESS_BYTES)?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())))
}

/// What [`TableLock::recover`] did about one earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Its snapshot was as good as published, and now is.
    Finished {
        /// The run.
        run_id: String,
        /// Its snapshot.
        snapshot: SnapshotId,
    },
    /// What it had staged was removed.
    Removed {
        /// The run.
        run_id: String,
    },
    /// The snapshots that it was removing are back.
    PutBack {
        /// The run.
        run_id: String,
    },
}

impl Recovered {
    /// Tells the log.
    pub fn log(&self) {
        match self {
            Self::Finished { run_id, snapshot } => {
                tracing::warn!(run_id, %snapshot, "finished what an earlier run had as good as published");
            }
            Self::Removed { run_id } => tracing::warn!(run_id, "removed what an earlier run had staged"),
            Self::PutBack { run_id } => {
                tracing::warn!(run_id, "put back the snapshots that an interrupted run was removing");
            }
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
        let table = self.table();
        let mut recovered = Vec::new();
        for run_id in lake::list_names(&table.staging_root())? {
            let folder = table.staging_root().join(&run_id);
            if self.undo_removal(&folder)? {
                self.remove_staged(&folder)?;
                recovered.push(Recovered::PutBack { run_id });
                continue;
            }
            let Some(manifest) = lake::read_manifest(&folder.join(INTENT_FILE))? else {
                self.remove_staged(&folder)?;
                recovered.push(Recovered::Removed { run_id });
                continue;
            };
            let publish = Publish { table, folder, manifest: &manifest };
            if publish.data_is_in(&publish.data_place())? {
                publish.advance()?;
                publish.clean_up()?;
                recovered.push(Recovered::Finished { run_id, snapshot: manifest.snapshot_id() });
            } else if publish.data_is_in(&publish.data_staged())? {
                publish.undo()?;
                self.remove_staged(&publish.folder)?;
                recovered.push(Recovered::Removed { run_id });
            } else {
                return Err(CommitError::Undecided { folder: publish.folder });
            }
        }
        Ok(recovered)
    }

    /// Removes what a run left, first the table's folder where that run made it and published nothing.
    fn remove_staged(&self, folder: &Path) -> Result<(), LakeError> {
        lake::remove_empty_dir(&self.table().root())?;
        lake::remove_tree(folder)
    }

    /// Says early what [`Staging::publish`] would refuse: a date that holds a newer snapshot, or
    /// somebody else's files.
    ///
    /// # Errors
    ///
    /// [`CommitError::Superseded`], [`CommitError::ForeignFile`], [`CommitError::NotAFolder`], storage.
    pub fn check_publishable(&self, snapshot: SnapshotId) -> Result<(), CommitError> {
        let table = self.table();
        let mut of_date = Vec::new();
        for published in table.snapshot_ids()?.into_iter().filter(|id| id.date() == snapshot.date()) {
            if published > snapshot {
                return Err(CommitError::Superseded { snapshot, published });
            }
            of_date.extend(table.read_snapshot(published)?);
        }
        table.check_ours(snapshot.date(), &of_date.iter().collect::<Vec<_>>())
    }

    /// Makes the folder that a run writes its snapshot in.
    ///
    /// # Errors
    ///
    /// Storage; a run id that is staged already.
    pub fn stage(&self, run_id: &RunId, snapshot: SnapshotId) -> Result<Staging, LakeError> {
        let table = self.table();
        lake::check_name(run_id.as_str())?;
        let folder = table.staging_root().join(run_id.as_str());
        lake::create_dir(&table.staging_root())?;
        let staging = Staging {
            lock: self.clone(),
            run_id: run_id.clone(),
            snapshot,
            data_folder: folder.join(lake::data_folder_name(snapshot.date())),
            remove_on_drop: lake::create_dir(&folder)?,
            folder,
        };
        if !staging.remove_on_drop {
            let taken = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(lake::io_error("create", &staging.folder)(taken));
        }
        lake::create_dir(&staging.data_folder)?;
        lake::create_dir(&staging.folder.join("snapshot"))?;
        Ok(staging)
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
    remove_on_drop: bool,
}

/// A published snapshot.
#[derive(Debug)]
pub struct Published {
    /// The manifest's path.
    pub manifest_path: PathBuf,
    /// Snapshots that it took the place of.
    pub replaced: Vec<SnapshotId>,
    /// Why some of what was replaced could not be removed; the next run tries again. The snapshot is
    /// published all the same.
    pub left_over: Option<LakeError>,
}

impl Staging {
    /// Creates one data file. `partition_dir` is the escaped folder below the date's,
    /// `OSPlatform=Windows10`.
    ///
    /// # Errors
    ///
    /// A file of that name, a name that leaves the folder, storage.
    pub fn create_data_file(&self, partition_dir: &str, file_name: &str) -> Result<StagedFile, LakeError> {
        let name = [partition_dir, file_name].join(if partition_dir.is_empty() { "" } else { "/" });
        lake::check_name(&name)?;
        let mut folder = self.data_folder.clone();
        for part in partition_dir.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            lake::create_dir(&folder)?;
        }
        let table_path = format!("{}/{name}", lake::data_folder_name(self.snapshot.date()));
        StagedFile::create(self.data_folder.join(name), table_path)
    }

    /// Opens a finished data file for reading back; `path` is as [`FinishedFile::path`] has it.
    ///
    /// # Errors
    ///
    /// A name that leaves staging, storage.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        lake::check_name(path)?;
        lake::open_file(&self.folder.join(path))
    }

    /// Creates the file of the rejects, gzipped NDJSON. Only a snapshot that has some gets one.
    ///
    /// # Errors
    ///
    /// A second call, storage.
    pub fn create_rejects(&self) -> Result<StagedFile, LakeError> {
        StagedFile::create(self.rejects_path(), REJECTS_FILE.to_owned())
    }

    /// Where the rejects are while staged, for a run that has to keep them without publishing.
    pub fn rejects_path(&self) -> PathBuf {
        self.folder.join("snapshot").join(REJECTS_FILE)
    }

    /// Puts the snapshot in place, with what it replaces gone.
    ///
    /// # Errors
    ///
    /// A manifest that does not balance or does not list exactly the staged files, what
    /// [`TableLock::check_publishable`] refuses, and storage. The lake is then as it was.
    pub fn publish(mut self, manifest: &Manifest) -> Result<Published, CommitError> {
        self.check(manifest)?;
        self.lock.check_publishable(self.snapshot)?;
        let lock = self.lock.clone();
        let table = lock.table();
        let replaced: Vec<_> =
            table.snapshot_ids()?.into_iter().filter(|id| id.date() == self.snapshot.date()).collect();

        let publish = Publish { table, folder: self.folder.clone(), manifest };
        publish.write_intent(&lock)?;
        let made_root = match lake::create_dir(&table.root()) {
            Ok(made) => made,
            Err(error) => return Err(self.undo(&publish, false, error)),
        };
        if let Err(error) = publish.advance() {
            return Err(self.undo(&publish, made_root, error));
        }
        self.remove_on_drop = false;
        let left_over = publish.clean_up().err();
        let manifest_path = table.snapshot_folder(self.snapshot).join(MANIFEST_FILE);
        Ok(Published { manifest_path, replaced, left_over })
    }

    /// Takes everything back after `failure`; returns what to report.
    fn undo(&mut self, publish: &Publish<'_>, made_root: bool, failure: LakeError) -> CommitError {
        let undone = publish
            .undo()
            .and_then(|()| if made_root { lake::remove_empty_dir(&publish.table.root()) } else { Ok(()) });
        match undone {
            Ok(()) => CommitError::Lake(failure),
            Err(source) => {
                // The staging folder may hold the only copy of the old snapshot.
                self.remove_on_drop = false;
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
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
        let mut staged = lake::list_files(&self.data_folder)?;
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
        if let Some(name) = staged.into_keys().next() {
            return fail(format!("{prefix}/{name} is staged and not listed"));
        }
        let has_rejects = manifest.totals.rejected_records + manifest.totals.field_rejects > 0;
        match (has_rejects, lake::exists(&self.rejects_path())?) {
            (true, false) => fail("the manifest counts rejects and their file is not staged".to_owned()),
            (false, true) => fail("a file of rejects is staged and the manifest counts none".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.remove_on_drop {
            // Errors have nowhere to go; the next run removes what stays. The intent goes first: with it
            // the rest has to be complete.
            let _ = lake::remove_file(&self.folder.join(INTENT_FILE));
            let _ = lake::remove_tree(&self.folder);
        }
    }
}

/// One publish, by this run or an interrupted one. Every step first looks what is done already.
struct Publish<'a> {
    table: &'a Table,
    /// `staging/<run id>`.
    folder: PathBuf,
    manifest: &'a Manifest,
}

impl Publish<'_> {
    fn date(&self) -> NaiveDate {
        self.manifest.snapshot_id().date()
    }

    fn data_place(&self) -> PathBuf {
        self.table.data_folder(self.date())
    }

    fn data_staged(&self) -> PathBuf {
        self.folder.join(lake::data_folder_name(self.date()))
    }

    fn data_aside(&self) -> PathBuf {
        self.folder.join("replaced_data")
    }

    fn manifest_place(&self) -> PathBuf {
        self.table.snapshot_folder(self.manifest.snapshot_id())
    }

    fn manifest_staged(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    fn manifest_aside(&self) -> PathBuf {
        self.folder.join("replaced_snapshot")
    }

    /// Whether `folder` is the new data folder: it holds the files whose names carry our run. A snapshot
    /// without files is told by `_SUCCESS`, which it gets last and which the replaced one has.
    fn data_is_in(&self, folder: &Path) -> Result<bool, LakeError> {
        let found = lake::list_files(folder)?;
        let prefix = lake::data_folder_name(self.date());
        if self.manifest.files.is_empty() {
            let no_data = found.keys().all(|name| name == SUCCESS_FILE || lake::is_clutter(name));
            let success = read_success(folder)?;
            let no_other = success.is_none_or(|s| s.is_ok_and(|s| s.run_id == self.manifest.run_id));
            return Ok(no_data && no_other && lake::is_folder(folder)?);
        }
        Ok(self.manifest.files.iter().all(|file| {
            let name = file.path.strip_prefix(&prefix).and_then(|name| name.strip_prefix('/'));
            name.is_some_and(|name| found.contains_key(name))
        }))
    }

    /// Whether the manifest in place is the new one.
    fn manifest_is_in_place(&self) -> Result<bool, LakeError> {
        match lake::read_manifest(&self.manifest_place().join(MANIFEST_FILE)) {
            Ok(manifest) => Ok(manifest.is_some_and(|manifest| manifest.run_id == self.manifest.run_id)),
            Err(LakeError::DamagedManifest { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Step 1: brings all that was staged to disk, and says what is going to happen.
    fn write_intent(&self, lock: &TableLock) -> Result<(), LakeError> {
        let snapshot = self.manifest_staged();
        let manifest = to_json(self.manifest);
        lake::write_new(&snapshot.join(MANIFEST_FILE), &manifest)?;
        lake::write_new(&self.folder.join(SUCCESS_FILE), &to_json(&self.table.success_of(self.manifest)))?;
        let mut folders = BTreeSet::from([self.data_staged(), snapshot]);
        for file in lake::list_files(&self.data_staged())?.into_keys() {
            let path = self.data_staged().join(file);
            folders.extend(path.ancestors().skip(1).take_while(|f| *f != self.folder).map(Path::to_path_buf));
        }
        folders.extend(lock.folders_above());
        folders.insert(self.table.staging_root());
        for folder in folders {
            lake::sync_dir(&folder)?;
        }
        let unready = self.folder.join("intent.tmp");
        lake::write_new(&unready, &manifest)?;
        // No undo for an intent that may not have reached the disk: nothing has moved yet, so the
        // staging folder goes either way.
        lake::rename(&unready, &self.folder.join(INTENT_FILE))?;
        lake::sync_dir(&self.folder)
    }

    /// Steps 2 and 3: data folder, manifest, `_SUCCESS`.
    fn advance(&self) -> Result<(), LakeError> {
        lake::create_dir(&self.table.snapshots_root())?;
        if !self.data_is_in(&self.data_place())? {
            put(&self.data_staged(), &self.data_place(), &self.data_aside())?;
        }
        for folder in [self.table.root(), parent_of(&self.table.root()), self.folder.clone()] {
            lake::sync_dir(&folder)?;
        }
        if !self.manifest_is_in_place()? {
            put(&self.manifest_staged(), &self.manifest_place(), &self.manifest_aside())?;
        }
        for folder in [self.table.snapshots_root(), self.table.own_root(), self.folder.clone()] {
            lake::sync_dir(&folder)?;
        }
        let success = self.folder.join(SUCCESS_FILE);
        if lake::exists(&success)? {
            lake::rename(&success, &self.data_place().join(SUCCESS_FILE))?;
        }
        lake::sync_dir(&self.data_place())
    }

    /// Step 4: removes what was replaced. The intent lasts until the older manifests of the date are
    /// out of the way, and all else is in the staging folder.
    fn clean_up(&self) -> Result<(), LakeError> {
        let id = self.manifest.snapshot_id();
        for older in self.table.snapshot_ids()?.into_iter().filter(|o| o.date() == id.date() && *o < id) {
            lake::rename(&self.table.snapshot_folder(older), &self.folder.join(format!("replaced_{older}")))?;
        }
        lake::sync_dir(&self.table.snapshots_root())?;
        lake::remove_tree(&self.folder)
    }

    /// Takes steps 2 and 3 back, as far as they went, and the intent.
    fn undo(&self) -> Result<(), LakeError> {
        if self.manifest_is_in_place()? {
            take_back(&self.manifest_staged(), &self.manifest_place(), &self.manifest_aside())?;
        } else {
            restore(&self.manifest_place(), &self.manifest_aside())?;
        }
        if self.data_is_in(&self.data_place())? && !self.data_is_in(&self.data_staged())? {
            take_back(&self.data_staged(), &self.data_place(), &self.data_aside())?;
        } else {
            restore(&self.data_place(), &self.data_aside())?;
        }
        for folder in [self.table.snapshots_root(), self.table.root()] {
            if lake::exists(&folder)? {
                lake::sync_dir(&folder)?;
            }
        }
        // Gone for good before the staged files go: with an intent they have to be complete.
        lake::remove_file(&self.folder.join(INTENT_FILE))?;
        lake::sync_dir(&self.folder)
    }
}

/// Puts the folder `new` at `place`. What was there goes to where `new` was, or, where the file system
/// cannot exchange two folders, to `aside`.
fn put(new: &Path, place: &Path, aside: &Path) -> Result<(), LakeError> {
    if !lake::exists(place)? {
        return lake::rename(new, place);
    }
    if lake::exchange(new, place)? {
        return Ok(());
    }
    lake::rename(place, aside)?;
    lake::rename(new, place)
}

/// Undoes a whole [`put`].
fn take_back(new: &Path, place: &Path, aside: &Path) -> Result<(), LakeError> {
    if lake::exists(new)? {
        if lake::exchange(new, place)? {
            return Ok(());
        }
        return Err(lake::io_error("exchange", place)(io::ErrorKind::Unsupported.into()));
    }
    lake::rename(place, new)?;
    restore(place, aside)
}

/// Undoes the first half of a [`put`] without exchange.
fn restore(place: &Path, aside: &Path) -> Result<(), LakeError> {
    if lake::exists(aside)? && !lake::exists(place)? {
        return lake::rename(aside, place);
    }
    Ok(())
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("text keys and plain values serialise");
    bytes.push(b'\n');
    bytes
}

/// A file of a snapshot being written. Counts and hashes what goes through it.
#[derive(Debug)]
pub struct StagedFile {
    table_path: String,
    writer: BufWriter<HashingFile>,
}

/// What a finished file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedFile {
    /// Path below the table root, as the manifest has it; the bare name for the rejects.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl StagedFile {
    fn create(path: PathBuf, table_path: String) -> Result<Self, LakeError> {
        let file = lake::create_file(&path)?;
        let hashing = HashingFile { file, path, bytes: 0, sha256: Sha256::new() };
        Ok(Self { table_path, writer: BufWriter::with_capacity(WRITE_BUFFER_BYTES, hashing) })
    }

    /// Brings the file to disk and says what it is.
    ///
    /// # Errors
    ///
    /// Storage. A file that is dropped unfinished stays in staging, and is no part of any manifest.
    pub fn finish(self) -> Result<FinishedFile, LakeError> {
        let (finished, unsynced) = self.close()?;
        unsynced.sync()?;
        Ok(finished)
    }

    /// As [`Self::finish`], but for bringing it to disk.
    ///
    /// # Errors
    ///
    /// As [`Self::finish`].
    pub fn close(self) -> Result<(FinishedFile, UnsyncedFile), LakeError> {
        let path = self.writer.get_ref().path.clone();
        let hashing = self.writer.into_inner().map_err(|error| unwrap_io(error.into_error(), &path))?;
        let finished = FinishedFile {
            path: self.table_path,
            bytes: hashing.bytes,
            sha256: hex(&hashing.sha256.finalize()),
        };
        Ok((finished, UnsyncedFile { file: hashing.file, path }))
    }
}

/// A whole file that the disk may not have yet.
#[derive(Debug)]
#[must_use = "a snapshot is published when the disk has all of it"]
pub struct UnsyncedFile {
    file: File,
    path: PathBuf,
}

impl UnsyncedFile {
    /// Brings the file to disk.
    ///
    /// # Errors
    ///
    /// Storage.
    pub fn sync(&self) -> Result<(), LakeError> {
        lake::sync_file(&self.file, &self.path)
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes through to a file. Its errors are [`LakeError`]s in [`io::Error`]'s clothes, of the same kind,
/// so that a full disk has a path however many layers of writers are above.
#[derive(Debug)]
struct HashingFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    sha256: Sha256,
}

impl HashingFile {
    fn named(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, lake::io_error("write", &self.path)(error)),
        }
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).map_err(|error| self.named(error))?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(error))
    }
}

/// Gets the [`LakeError`] back out of what [`HashingFile`] returned.
fn unwrap_io(error: io::Error, path: &Path) -> LakeError {
    error.downcast::<LakeError>().unwrap_or_else(|error| lake::io_error("write", path)(error))
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
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::lake::Lake;
    use crate::lake::faults::{self, Fault};
    use crate::manifest::{DataFile, GeneratedTimeFrom, PartFacts, Route, Totals};

    pub(crate) const NOON: &str = "20210111T120000Z";
    const EVENING: &str = "20210111T180000Z";
    pub(crate) const NEXT_DAY: &str = "20210112T120000Z";

    pub(crate) fn open_table(root: &Path) -> Table {
        Lake::open(root).unwrap().table(schema::DATASETS[0])
    }

    pub(crate) fn lock(table: &Table) -> TableLock {
        table.lock(|| panic!("nobody holds the lock"), &|| false).unwrap()
    }

    pub(crate) fn run_id(text: &str) -> RunId {
        serde_json::from_value(text.into()).unwrap()
    }

    pub(crate) fn snapshot_id(text: &str) -> SnapshotId {
        SnapshotId::parse(text).unwrap()
    }

    /// A temporary folder, in memory where there is such a place: these tests sync thousands of times.
    pub(crate) fn temp_dir() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// A balanced manifest of one part for these files.
    pub(crate) fn manifest(id: &str, run: &str, files: Vec<DataFile>, field_rejects: u64) -> Manifest {
        let time = snapshot_id(id).generated_time();
        let rows = files.iter().map(|file| file.rows).sum();
        let parts = vec![PartFacts {
            name: "part-0".to_owned(),
            records: rows,
            field_rejects,
            ..PartFacts::default()
        }];
        Manifest {
            tool_version: "0.0.0".to_owned(),
            schema_version: schema::DATASETS[0].version,
            dataset: schema::DATASETS[0].name.to_owned(),
            route: Route::Local,
            generated_time: time,
            generated_time_from: GeneratedTimeFrom::Option,
            run_id: run_id(run),
            started_at: time,
            finished_at: time,
            totals: Totals::sum(&parts, &files),
            parts,
            files,
            undocumented_fields: BTreeMap::new(),
        }
    }

    pub(crate) fn data_file(finished: FinishedFile, id: &str, platform: Option<&str>, rows: u64) -> DataFile {
        DataFile {
            path: finished.path,
            snapshot_date: snapshot_id(id).date(),
            os_platform: platform.map(str::to_owned),
            rows,
            bytes: finished.bytes,
            row_groups: 1,
            sha256: finished.sha256,
        }
    }

    /// What a run stages: nothing, or two data files in two partitions and a file of rejects.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub(crate) enum Content {
        Full,
        Empty,
    }

    pub(crate) fn publish(
        table: &Table,
        id: &str,
        run: &str,
        content: Content,
    ) -> Result<Published, CommitError> {
        let lock = table.lock(|| panic!("nobody holds the lock"), &|| false)?;
        let staging = lock.stage(&run_id(run), snapshot_id(id))?;
        let mut files = Vec::new();
        if content == Content::Full {
            for platform in ["Linux", "Windows10"] {
                let name = format!("part-{id}-{run}-00000.parquet");
                let mut file = staging.create_data_file(&format!("OSPlatform={platform}"), &name)?;
                file.write_all(format!("rows of {run}").as_bytes()).unwrap();
                files.push(data_file(file.finish()?, id, Some(platform), 7));
            }
            let mut rejects = staging.create_rejects()?;
            rejects.write_all(run.as_bytes()).unwrap();
            rejects.finish()?;
        }
        staging.publish(&manifest(id, run, files, u64::from(content == Content::Full)))
    }

    /// Every folder and file below `root` with its content.
    pub(crate) fn picture(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![root.to_path_buf()];
        while let Some(folder) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                let content = (!path.is_dir()).then(|| std::fs::read(&path).unwrap());
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), content);
                if path.is_dir() {
                    todo.push(path);
                }
            }
        }
        found
    }

    /// Names alone, for readable failures.
    fn names(root: &Path) -> Vec<String> {
        picture(root).into_keys().collect()
    }

    #[test]
    fn published_lake_is_laid_out_as_promised() {
        let temp = temp_dir();
        let root = temp.path().join("new/lake");
        let table = open_table(&root);
        let published = publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
        assert!(published.left_over.is_none());
        assert!(published.replaced.is_empty());
        let expected = [
            "_defender",
            "_defender/software_inventory",
            "_defender/software_inventory/snapshots",
            "_defender/software_inventory/snapshots/20210111T120000Z",
            "_defender/software_inventory/snapshots/20210111T120000Z/manifest.json",
            "_defender/software_inventory/snapshots/20210111T120000Z/rejects.ndjson.gz",
            "software_inventory",
            "software_inventory/snapshot_date=2021-01-11",
            "software_inventory/snapshot_date=2021-01-11/OSPlatform=Linux",
            "software_inventory/snapshot_date=2021-01-11/OSPlatform=Linux/part-20210111T120000Z-aaaaaaaa-00000.parquet",
            "software_inventory/snapshot_date=2021-01-11/OSPlatform=Windows10",
            "software_inventory/snapshot_date=2021-01-11/OSPlatform=Windows10/part-20210111T120000Z-aaaaaaaa-00000.parquet",
            "software_inventory/snapshot_date=2021-01-11/_SUCCESS",
        ];
        assert_eq!(names(&root), expected);
        let snapshot = table.published_on(snapshot_id(NOON).date()).unwrap().unwrap();
        assert_eq!(snapshot.manifest_path, published.manifest_path);
        assert!(table.is_complete(&snapshot).unwrap());
        let success = table.read_success(snapshot.id.date()).unwrap().unwrap().unwrap();
        assert_eq!(success.rows, 14);
        assert!(root.join(success.manifest).is_file());
        // SHA-256 of "rows of aaaaaaaa".
        let file = &snapshot.manifest.files[0];
        let bytes = std::fs::read(table.root().join(&file.path)).unwrap();
        assert_eq!((file.bytes, file.sha256.clone()), (16, hex(&Sha256::digest(bytes))));
    }

    #[test]
    fn snapshots_replace_on_their_date_and_gather_over_dates() {
        let temp = temp_dir();
        let table = open_table(temp.path());
        let ids = || table.snapshots().unwrap().iter().map(|s| s.id.to_string()).collect::<Vec<_>>();
        assert!(ids().is_empty());
        publish(&table, NEXT_DAY, "aaaaaaaa", Content::Full).unwrap();
        publish(&table, NOON, "bbbbbbbb", Content::Full).unwrap();
        assert_eq!(ids(), [NOON, NEXT_DAY]);

        let published = publish(&table, EVENING, "cccccccc", Content::Full).unwrap();
        assert_eq!(published.replaced, [snapshot_id(NOON)]);
        assert_eq!(ids(), [EVENING, NEXT_DAY]);

        let published = publish(&table, EVENING, "dddddddd", Content::Full).unwrap();
        assert_eq!(published.replaced, [snapshot_id(EVENING)]);
        assert_eq!(table.snapshots().unwrap()[0].manifest.run_id.as_str(), "dddddddd");
        let text = names(temp.path()).join("\n");
        assert!(!text.contains("bbbbbbbb") && !text.contains("cccccccc"), "{text}");

        let before = picture(temp.path());
        let error = publish(&table, NOON, "eeeeeeee", Content::Full).unwrap_err();
        assert!(matches!(error, CommitError::Superseded { .. }));
        assert_eq!(
            error.to_string(),
            "snapshot 20210111T120000Z is older than 20210111T180000Z, which is published on the same date"
        );
        assert_eq!(picture(temp.path()), before);
    }

    #[test]
    fn foreign_files_are_left_alone() {
        for (file, replaces) in
            [("theirs.parquet", false), ("_SUCCESS", false), (".x.parquet", false), ("theirs.parquet", true)]
        {
            let temp = temp_dir();
            let table = open_table(temp.path());
            if replaces {
                publish(&table, NOON, "aaaaaaaa", Content::Full).unwrap();
            }
            let folder = table.data_folder(snapshot_id(NOON).date());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), "theirs").unwrap();
            let before = picture(temp.path());
            let error = publish(&table, EVENING, "bbbbbbbb", Content::Full).unwrap_err();
            assert!(matches!(&error, CommitError::ForeignFile { name, .. } if name == file), "{error}");
            assert!(error.hint().is_some());
            assert_eq!(picture(temp.path()), before);
        }
    }

    #[test]
    fn manifest_that_does_not_describe_the_staged_files_is_refused() {
        let temp = temp_dir();
        let root = temp.path().join("lake");
        let table = open_table(&root);
        let attempt = |change: &dyn Fn(&Staging, &mut Manifest)| {
            let lock = lock(&table);
            let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
            let mut file = staging.create_data_file("OSPlatform=Linux", "part-0.parquet").unwrap();
            file.write_all(b"rows").unwrap();
            let files = vec![data_file(file.finish().unwrap(), NOON, Some("Linux"), 7)];
            let mut manifest = manifest(NOON, "aaaaaaaa", files, 0);
            change(&staging, &mut manifest);
            let error = staging.publish(&manifest).unwrap_err();
            assert!(matches!(error, CommitError::Inconsistent { .. }));
            error.to_string()
        };
        let check = |expected: &str, change: &dyn Fn(&Staging, &mut Manifest)| {
            let error = attempt(change);
            assert!(error.contains(expected), "{error}");
        };
        check("is staged and not listed", &|staging, _| {
            drop(staging.create_data_file("OSPlatform=Linux", "part-1.parquet").unwrap());
        });
        check("is listed and not staged", &|_, manifest| {
            manifest.files[0].path.push('x');
        });
        check("has 4 bytes, listed 5", &|_, manifest| {
            manifest.files[0].bytes += 1;
            manifest.totals.bytes += 1;
        });
        check("8 records read, but 7 rows", &|_, manifest| {
            manifest.parts[0].records += 1;
            manifest.totals.records += 1;
        });
        check("run bbbbbbbb", &|_, manifest| manifest.run_id = run_id("bbbbbbbb"));
        check("rejects is staged", &|staging, _| {
            staging.create_rejects().unwrap().finish().unwrap();
        });
        check("counts rejects", &|_, manifest| {
            manifest.parts[0].field_rejects = 1;
            manifest.totals.field_rejects = 1;
        });
        assert!(!root.exists(), "a failed run leaves no lake behind");
    }

    #[test]
    fn threads_write_files_of_one_snapshot() {
        let temp = temp_dir();
        let lock = lock(&open_table(temp.path()));
        let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let staging = &staging;
                scope.spawn(move || {
                    for number in 0..20 {
                        let name = format!("part-{thread}-{number}.parquet");
                        let mut file = staging.create_data_file("OSPlatform=Linux", &name).unwrap();
                        file.write_all(b"rows").unwrap();
                        assert_eq!(file.finish().unwrap().bytes, 4);
                    }
                });
            }
        });
        assert_eq!(lake::list_files(&staging.data_folder).unwrap().len(), 80);
    }

    #[test]
    fn names_cannot_leave_staging() {
        let temp = temp_dir();
        let lock = lock(&open_table(temp.path()));
        let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
        for (folder, name) in
            [("..", "x"), ("a/../..", "x"), ("/etc", "x"), ("a", "../x"), ("a", ""), ("", "/x")]
        {
            let error = staging.create_data_file(folder, name).unwrap_err();
            assert!(matches!(error, LakeError::UnsafeName { .. }), "{folder} {name}");
        }
        assert!(lock.stage(&run_id("../../x"), snapshot_id(NOON)).is_err());
        staging.create_data_file("a", "x").unwrap();
        assert!(staging.create_data_file("a", "x").is_err(), "a file name never comes back");
    }

    #[test]
    fn full_disk_names_the_path_and_says_what_to_do() {
        let temp = temp_dir();
        let root = temp.path().join("lake");
        let lock = lock(&open_table(&root));
        let staging = lock.stage(&run_id("aaaaaaaa"), snapshot_id(NOON)).unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let path = staging.data_folder.join("full");
        let hashing = HashingFile { file: full, path: path.clone(), bytes: 0, sha256: Sha256::new() };
        let mut file =
            StagedFile { table_path: "full".to_owned(), writer: BufWriter::with_capacity(16, hashing) };
        let error = file.write_all(&[0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        file.write_all(&[0; 8]).unwrap();
        let error = file.finish().unwrap_err();
        assert_eq!(error.hint(), Some("free space or choose another --lake"));
        drop((staging, lock));
        assert!(!root.exists());
    }

    /// A lake before and after one publish, for the tests that disturb it.
    struct Scene {
        /// What is published before, and by what content it is replaced.
        before: Option<(&'static str, Content)>,
        after: Content,
        no_exchange: bool,
    }

    impl Scene {
        const ALL: [Scene; 10] = {
            const fn scene(
                before: Option<(&'static str, Content)>,
                after: Content,
                no_exchange: bool,
            ) -> Scene {
                Scene { before, after, no_exchange }
            }
            [
                scene(None, Content::Full, false),
                scene(Some((NOON, Content::Full)), Content::Full, false),
                scene(Some((EVENING, Content::Full)), Content::Full, false),
                scene(Some((NEXT_DAY, Content::Full)), Content::Full, false),
                scene(Some((NOON, Content::Full)), Content::Full, true),
                scene(Some((EVENING, Content::Full)), Content::Full, true),
                scene(None, Content::Empty, false),
                scene(Some((EVENING, Content::Empty)), Content::Empty, false),
                scene(Some((NOON, Content::Full)), Content::Empty, true),
                scene(Some((EVENING, Content::Empty)), Content::Full, false),
            ]
        };

        fn set(&self, root: &Path) -> Table {
            faults::set_no_exchange(self.no_exchange);
            let table = open_table(root);
            if let Some((id, content)) = self.before {
                publish(&table, id, "aaaaaaaa", content).unwrap();
            }
            table
        }

        fn act(&self, table: &Table) -> Result<Published, CommitError> {
            publish(table, EVENING, "bbbbbbbb", self.after)
        }

        /// Disturbs the publish at each of its changes in turn, for as long as `disturb` goes on. It is
        /// given the pictures before and after an undisturbed publish, and the number of the change.
        fn each(
            &self,
            mut disturb: impl FnMut(
                &Path,
                &Table,
                &[BTreeMap<String, Option<Vec<u8>>>; 2],
                u32,
            ) -> ControlFlow<()>,
        ) {
            let temp = temp_dir();
            let root = temp.path().join("lake");
            let table = self.set(&root);
            let old = picture(&root);
            self.act(&table).unwrap();
            let pictures = [old, picture(&root)];
            for after in 0.. {
                let temp = temp_dir();
                let root = temp.path().join("lake");
                let table = self.set(&root);
                if disturb(&root, &table, &pictures, after).is_break() {
                    assert!(after > 5, "a publish has more changes than that");
                    return;
                }
            }
        }
    }

    #[test]
    fn failure_at_any_change_leaves_the_lake_as_it_was() {
        for scene in Scene::ALL {
            let mut num_published = 0;
            scene.each(|root, table, [old, new], after| {
                faults::set(Fault { once: after, ..Fault::NONE });
                let result = scene.act(table);
                let num_changes = faults::clear();
                match result {
                    Err(error) => {
                        assert_eq!(num_published, 0, "no error after success");
                        assert!(error.hint().is_some(), "{error}");
                        assert_eq!(&picture(root), old, "failed at change {after}");
                        assert_eq!(root.exists(), scene.before.is_some());
                    }
                    Ok(published) => {
                        num_published += 1;
                        if published.left_over.is_some() {
                            lock(table).recover().unwrap();
                        }
                        // A fault while the lock is dropped leaves an empty folder or the lock file.
                        drop(lock(table));
                        assert_eq!(&picture(root), new, "change {after} failed after publishing");
                    }
                }
                if num_changes <= after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
    }

    #[test]
    fn crash_at_any_change_is_recovered_to_the_old_or_the_new_snapshot() {
        for scene in Scene::ALL {
            let mut is_new = false;
            scene.each(|root, table, [old, new], after| {
                faults::set(Fault { for_good: after, ..Fault::NONE });
                let result = scene.act(table);
                let num_changes = faults::clear();
                let lock = lock(table);
                lock.recover().unwrap();
                assert_eq!(lock.recover().unwrap(), [], "recovery is complete");
                drop(lock);
                let found = picture(root);
                if &found == new {
                    is_new = true;
                } else {
                    assert!(!is_new, "once published it stays");
                    // The first run of all made the lake's folder, and a crash leaves it.
                    assert_eq!(&found, old, "crash at change {after}");
                }
                if result.is_ok() {
                    assert!(is_new);
                }
                if num_changes <= after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(is_new);
        }
    }

    /// As above, with a second disturbance: the undo of a failed publish breaks off, or the recovery from
    /// a crash crashes. Every third change keeps it short; the others are like their neighbours.
    #[test]
    fn crash_of_an_undo_or_a_recovery_is_recovered() {
        for (scene, is_undo) in Scene::ALL.iter().flat_map(|scene| [(scene, true), (scene, false)]) {
            scene.each(|_, _, [old, new], step| {
                let first = step * 3;
                let mut num_changes = 0;
                for second in (0..).step_by(3) {
                    let temp = temp_dir();
                    let root = temp.path().join("lake");
                    let table = scene.set(&root);
                    if is_undo {
                        faults::set(Fault { once: first, for_good: first + 1 + second });
                    } else {
                        faults::set(Fault { for_good: first, ..Fault::NONE });
                    }
                    let result = scene.act(&table);
                    num_changes = faults::clear();
                    let mut num_later = num_changes.saturating_sub(first + 1);
                    if !is_undo {
                        faults::set(Fault { for_good: second, ..Fault::NONE });
                        let lock = table.lock(|| (), &|| false);
                        let _ = lock.map(|lock| lock.recover());
                        num_later = faults::clear();
                    }
                    lock(&table).recover().unwrap();
                    let found = picture(&root);
                    let is_whole =
                        if result.is_ok() { &found == new } else { &found == old || &found == new };
                    assert!(is_whole, "{first} {second} {:?}", names(&root));
                    if num_later <= second {
                        break;
                    }
                }
                if num_changes <= first { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
    }

    #[test]
    fn interrupted_publish_whose_data_is_gone_is_not_guessed_at() {
        let temp = temp_dir();
        let table = open_table(temp.path());
        let folder = table.staging_root().join("aaaaaaaa");
        std::fs::create_dir_all(&folder).unwrap();
        let file = FinishedFile {
            path: "snapshot_date=2021-01-11/OSPlatform=Linux/x.parquet".to_owned(),
            bytes: 1,
            sha256: String::new(),
        };
        let manifest = manifest(NOON, "aaaaaaaa", vec![data_file(file, NOON, Some("Linux"), 1)], 0);
        std::fs::write(folder.join(INTENT_FILE), to_json(&manifest)).unwrap();
        assert_eq!(table.unfinished_changes().unwrap(), ["aaaaaaaa"]);
        let error = lock(&table).recover().unwrap_err();
        assert!(matches!(error, CommitError::Undecided { .. }));
        assert!(folder.exists());
    }

    #[test]
    fn reader_sees_one_whole_snapshot_at_any_moment() {
        let temp = temp_dir();
        let table = open_table(temp.path());
        publish(&table, NOON, "00000000", Content::Full).unwrap();
        let folder = table.data_folder(snapshot_id(NOON).date()).join("OSPlatform=Linux");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                use std::os::unix::fs::MetadataExt;
                let mut num_seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let inode = || std::fs::metadata(&folder).expect("never gone").ino();
                    let before = inode();
                    let names = lake::list_names(&folder).unwrap();
                    // A listing that spans a replacement is of a folder that is being removed.
                    if inode() == before {
                        assert_eq!(names.len(), 1, "{names:?}");
                        num_seen += 1;
                    }
                    let listed = table.snapshots().unwrap();
                    assert_eq!(listed.len(), 1);
                }
                num_seen
            });
            for run in 1..200 {
                publish(&table, NOON, &format!("{run:08x}"), Content::Full).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
    }
}
