//! The folder that the files of a snapshot are written in.
//!
//! Below the table's `staging/` for a lake on a local disk, in the work dir for one in an object store. Creating one
//! takes no lock, so that several tasks of a run can write at once: each has a folder and file names of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use codec::partition;

use super::StagedFile;
use crate::lake::{self, LakeError, Place, REJECTS_FILE, Table, local, locked_folder};
use crate::snapshot::{RunId, SnapshotId, TaskId};
use crate::spill::DiskSpill;

/// The folder below a task's, or a run's own, that its rejects are in.
const SNAPSHOT_FOLDER: &str = "snapshot";

/// Where a run, or one attempt at a task of it, writes the files of a snapshot. Removed with all that is in it when
/// dropped, unless it was handed over.
#[derive(Debug)]
pub struct Destination {
    snapshot: SnapshotId,
    run_id: RunId,
    task_id: Option<TaskId>,
    folder: PathBuf,
    data_folder: PathBuf,
    /// Folders of partitions: the requested name and the name on disk.
    partition_dirs: Mutex<BTreeMap<String, String>>,
    /// Whether the folder outlives this value.
    is_kept: AtomicBool,
    /// Locked for as long as the folder is in use, if it is not below the table's own lock.
    _in_use: Option<File>,
}

impl Destination {
    /// Creates the folder of a run, or of one attempt at a task of it. A task's is below the run's, which exists for as
    /// long as the run: a task that starts later fails.
    ///
    /// # Errors
    ///
    /// Storage; a run or task that already has a folder; a task of a run that has ended.
    pub fn create(
        table: &Table,
        snapshot: SnapshotId,
        run_id: &RunId,
        task_id: Option<TaskId>,
    ) -> Result<Self, LakeError> {
        lake::check_name(run_id.as_str())?;
        let (folder, in_use) = match table.place() {
            Place::Disk(_) => (create_staged_folder(table, run_id, task_id.as_ref())?, None),
            Place::Store(store) => {
                let name = match &task_id {
                    Some(task_id) => format!("{run_id}-{task_id}"),
                    None => run_id.to_string(),
                };
                let (folder, in_use) =
                    locked_folder::create_folder(&store.work_dir().join("staging"), &name)?;
                (folder, Some(in_use))
            }
        };
        let destination = Self {
            snapshot,
            run_id: run_id.clone(),
            task_id,
            data_folder: folder.join(lake::data_folder_name(snapshot.date())),
            partition_dirs: Mutex::default(),
            folder,
            is_kept: AtomicBool::new(false),
            _in_use: in_use,
        };
        local::create_dir(&destination.data_folder)?;
        local::create_dir(&destination.folder.join(SNAPSHOT_FOLDER))?;
        Ok(destination)
    }

    /// The snapshot that the files are of.
    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// The run that writes them.
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// The task that writes them; `None` if the run does itself.
    pub fn task_id(&self) -> Option<&TaskId> {
        self.task_id.as_ref()
    }

    /// Keeps the folder when this value is dropped: it may hold the only copy of published files, or another process
    /// takes it over.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Whether the folder outlives this value.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// The folder, which holds files at their paths from the table's root.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the snapshot's date in it.
    pub(crate) fn data_folder(&self) -> &Path {
        &self.data_folder
    }

    /// The name of a partition's data file: `part-<snapshot>-<run>-<number>.parquet`, with the task before the
    /// number if the run has several.
    pub fn data_file_name(&self, number: usize) -> String {
        let Self { snapshot, run_id, task_id, .. } = self;
        match task_id {
            Some(task_id) => format!("part-{snapshot}-{run_id}-{task_id}-{number:05}.parquet"),
            None => format!("part-{snapshot}-{run_id}-{number:05}.parquet"),
        }
    }

    /// Creates one data file. `partition_dir` is the escaped folder below the date's, `OSPlatform=Windows10`. If the
    /// file system forbids that name, or does not distinguish it from another partition's, the folder gets another
    /// spelling of the same value, `OSPlatform=%57indows10`.
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

    /// Creates a partition's folder, once; returns its name.
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

    /// Opens a finished data file for reading back; `path` is as `FinishedFile::path` has it.
    ///
    /// # Errors
    ///
    /// A name that leaves staging, storage.
    pub fn open_data_file(&self, path: &str) -> Result<File, LakeError> {
        lake::check_name(path)?;
        local::open_file(&self.folder.join(path))
    }

    /// Creates the rejects file, gzipped NDJSON. Only a snapshot with rejects has one.
    ///
    /// # Errors
    ///
    /// A second call, storage.
    pub fn create_rejects(&self) -> Result<StagedFile, LakeError> {
        StagedFile::create(self.rejects_path(), REJECTS_FILE.to_owned())
    }

    /// Creates a file for rows that do not fit in memory, and unlinks it, so that it needs no clean-up.
    ///
    /// # Errors
    ///
    /// Storage.
    pub fn create_spill(&self) -> Result<DiskSpill, LakeError> {
        let path = self.folder.join("spill");
        let open = || std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = local::change("create", &path, open)?;
        local::remove_file(&path)?;
        Ok(DiskSpill::new(file, path))
    }

    /// Returns the path of the staged rejects, for a run that keeps them without publishing.
    pub fn rejects_path(&self) -> PathBuf {
        rejects_path(&self.folder)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if !self.is_kept() {
            // Best effort: an error is ignored, the next run cleans up.
            let _ = local::remove_tree(&self.folder);
        }
    }
}

/// Returns the folder of all tasks of a run in the lake's staging, `staging/<run id>/tasks`.
pub(crate) fn tasks_folder(table: &Table, run_id: &RunId) -> PathBuf {
    table.staging_root().join(run_id.as_str()).join("tasks")
}

/// Returns the path of the rejects in the folder of a run or a task.
pub(crate) fn rejects_path(folder: &Path) -> PathBuf {
    folder.join(SNAPSHOT_FOLDER).join(REJECTS_FILE)
}

/// Creates `staging/<run id>`, or `staging/<run id>/tasks/<task id>`.
fn create_staged_folder(
    table: &Table,
    run_id: &RunId,
    task_id: Option<&TaskId>,
) -> Result<PathBuf, LakeError> {
    let folder = if let Some(task_id) = task_id {
        lake::check_name(task_id.as_str())?;
        let tasks = tasks_folder(table, run_id);
        local::create_dir(&tasks).map_err(|error| {
            let path = table.staging_root().join(run_id.as_str());
            if error.is_missing() { LakeError::NoRunFolder { path } } else { error }
        })?;
        tasks.join(task_id.as_str())
    } else {
        local::create_dir(&table.staging_root())?;
        table.staging_root().join(run_id.as_str())
    };
    if !local::create_dir(&folder)? {
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(local::io_error("create", &folder)(taken));
    }
    Ok(folder)
}

/// Whether the error may mean that the name is forbidden. FUSE programs report a missing file then.
fn is_forbidden_name(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotFound};
    matches!(error.kind(), InvalidFilename | InvalidInput | NotFound)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::lake::Lake;

    #[test]
    fn tasks_of_a_run_write_files_of_their_own() {
        let temp = tempfile::tempdir().unwrap();
        let table = Lake::open(temp.path()).unwrap().table(schema::DATASETS[0]);
        std::fs::create_dir_all(table.own_root()).unwrap();
        let snapshot = SnapshotId::parse("20210111T110100Z").unwrap();
        let run_id: RunId = serde_json::from_str(r#""3f9c2b7a""#).unwrap();
        let task = |text: &str| serde_json::from_value::<TaskId>(text.into()).unwrap();
        let create = |task_id| Destination::create(&table, snapshot, &run_id, task_id);
        let destinations = [None, Some(task("00000001")), Some(task("00000002"))].map(|t| create(t).unwrap());
        let paths = destinations.each_ref().map(|destination| {
            let name = destination.data_file_name(0);
            let mut file = destination.create_data_file("OSPlatform=Linux", &name).unwrap();
            file.write_all(b"rows").unwrap();
            file.finish().unwrap().path
        });
        assert_eq!(
            paths.map(|path| path.rsplit_once('/').unwrap().1.to_owned()),
            [
                "part-20210111T110100Z-3f9c2b7a-00000.parquet",
                "part-20210111T110100Z-3f9c2b7a-00000001-00000.parquet",
                "part-20210111T110100Z-3f9c2b7a-00000002-00000.parquet",
            ]
        );
        assert!(create(Some(task("00000001"))).is_err(), "a file name never comes back");
        assert!(create(Some(task("../x"))).is_err());
        drop(destinations);
        let error = create(Some(task("00000003"))).unwrap_err();
        assert!(matches!(error, LakeError::NoRunFolder { .. }), "the run has ended: {error}");
        assert_eq!(local::list_files(&table.staging_root()).unwrap().len(), 0);
    }
}
