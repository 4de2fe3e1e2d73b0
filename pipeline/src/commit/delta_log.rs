//! The log of a Delta table, for callers that block.
//!
//! Applies [`DeltaTable`], which knows stores but not lakes, to a lake's [`Table`]: where its log is, what its
//! snapshots are, and which of them the log does not have yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path as Key;
use tokio::runtime::Handle;

use super::CommitError;
use crate::delta::{DeltaError, DeltaTable, FileStatistics, LOG_FOLDER, NewFile, Publication, is_log_file};
use crate::lake::local_objects::{self, LocalObjects};
use crate::lake::{LakeError, Place, StoreError, Table, TableKind, local};
use crate::manifest::{DataFile, Manifest};
use crate::snapshot::SnapshotId;

/// Footers in flight.
const MAX_FOOTERS: usize = 16;

/// A table's log, read once and kept in step with what is committed through it.
#[derive(Debug)]
pub(crate) struct TableLog<'t> {
    table: &'t Table,
    delta: DeltaTable,
    store: Arc<dyn ObjectStore>,
    /// The table's root in the store.
    root: Key,
    executor: Executor,
    /// Snapshots that the next commit adds, oldest first, with the statistics of their files.
    unseen: Vec<(Manifest, Vec<FileStatistics>)>,
}

/// Where requests run.
#[derive(Debug)]
enum Executor {
    /// On this thread, for a disk: its requests never wait, and need no runtime.
    Here,
    /// On the store's own threads.
    Store(Handle),
}

impl Executor {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Here => {
                let mut future = pin!(future);
                let mut context = Context::from_waker(Waker::noop());
                loop {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                        return output;
                    }
                }
            }
            Self::Store(handle) => handle.block_on(future),
        }
    }
}

impl<'t> TableLog<'t> {
    /// Reads the log of a Delta table; `None` if the table is plain.
    pub(crate) fn open(table: &'t Table) -> Result<Option<Self>, LakeError> {
        match table.kind()? {
            TableKind::Plain => Ok(None),
            TableKind::Delta => Self::open_or_new(table).map(Some),
        }
    }

    /// Reads the log of a table that is or becomes a Delta table. On a disk the table's root has to exist.
    pub(super) fn open_or_new(table: &'t Table) -> Result<Self, LakeError> {
        let (store, root, executor): (Arc<dyn ObjectStore>, _, _) = match table.place() {
            Place::Disk(_) => {
                let root = table.root();
                let files = LocalObjects::open(&root)
                    .map_err(|source| error(table, store_error("open", &Key::default(), source)))?;
                (Arc::new(files), Key::default(), Executor::Here)
            }
            Place::Store(store) => {
                let executor = Executor::Store(store.runtime().clone());
                (store.objects().clone(), store.key(&table.root())?, executor)
            }
        };
        let delta = executor
            .block_on(DeltaTable::open(store.clone(), &root, table.dataset()))
            .map_err(|source| error(table, source))?;
        Ok(Self { table, delta, store, root, executor, unseen: Vec::new() })
    }

    /// Returns the table as the log has it.
    pub(crate) fn delta(&self) -> &DeltaTable {
        &self.delta
    }

    /// Commits the snapshots that the log does not have, without touching their files; this turns a plain table into
    /// a Delta table. One commit adds all of them.
    pub(super) fn adopt_snapshots(&mut self) -> Result<(), CommitError> {
        self.read_unseen(None)?;
        let Some(finished_at) = self.unseen.iter().map(|(manifest, _)| manifest.finished_at).max() else {
            return Ok(());
        };
        let committed = self.commit(None, finished_at);
        if committed.is_err() {
            // Best effort: an error is ignored, the folder is empty.
            let _ = self.table.place().remove_empty_folder(&log_folder(self.table));
        }
        committed
    }

    /// Reads the snapshots that the log does not have, and the footers of all their files. [`Self::publish`] then
    /// commits them with the new snapshot, whose date is `published_on`; a snapshot of that date is replaced, and need
    /// not be readable.
    pub(super) fn read_unseen(&mut self, published_on: Option<NaiveDate>) -> Result<(), CommitError> {
        let newest: BTreeMap<NaiveDate, SnapshotId> =
            self.table.snapshot_ids()?.into_iter().map(|id| (id.date(), id)).collect();
        let mut manifests = Vec::new();
        for id in newest.into_values().filter(|id| Some(id.date()) != published_on) {
            if self.delta.has_seen(id) {
                continue;
            }
            let Some(snapshot) = self.table.read_snapshot(id)? else { continue };
            // Data that was deleted by hand is not in the lake, even if its manifest is.
            if self.table.is_complete(&snapshot)? {
                manifests.push(snapshot.manifest);
            }
        }
        let files = manifests.iter().flat_map(|manifest| &manifest.files);
        let mut footers = self.fetch_statistics(files)?.into_iter();
        self.unseen = manifests
            .into_iter()
            .map(|manifest| {
                let statistics = footers.by_ref().take(manifest.files.len()).collect();
                (manifest, statistics)
            })
            .collect();
        Ok(())
    }

    /// Whether [`Self::read_unseen`] has read something that is still to be committed.
    pub(super) fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Reads the statistics of published files, in order.
    pub(super) fn fetch_statistics<'f>(
        &self,
        files: impl IntoIterator<Item = &'f DataFile>,
    ) -> Result<Vec<FileStatistics>, LakeError> {
        let Self { table, store, root, .. } = self;
        let footers = stream::iter(files).map(|file| async move {
            let path = Key::parse([root.as_ref(), &file.path].join("/").trim_matches('/'))
                .map_err(|source| store_error("name", root, source.into()))?;
            FileStatistics::fetch(table.dataset(), store.as_ref(), &path, file.bytes).await
        });
        let fetched = self.executor.block_on(footers.buffered(MAX_FOOTERS).try_collect());
        fetched.map_err(|source| error(table, source))
    }

    /// Commits a snapshot, and those that [`Self::read_unseen`] has read; `statistics` are of the manifest's files,
    /// in order.
    pub(super) fn publish(
        &mut self,
        manifest: &Manifest,
        transaction: i64,
        statistics: &[FileStatistics],
    ) -> Result<(), CommitError> {
        self.commit(Some((manifest, transaction, statistics)), manifest.finished_at)
    }

    fn commit(
        &mut self,
        published: Option<(&Manifest, i64, &[FileStatistics])>,
        finished_at: DateTime<Utc>,
    ) -> Result<(), CommitError> {
        let unseen = std::mem::take(&mut self.unseen);
        let adopted = unseen.iter().map(|(manifest, statistics)| {
            let transaction = self.delta.next_transaction(manifest.snapshot_id());
            (manifest, transaction, statistics.as_slice())
        });
        let all: Vec<_> = adopted.chain(published).collect();
        let files: Vec<Vec<_>> =
            all.iter().map(|(manifest, _, statistics)| new_files(manifest, statistics)).collect();
        let publications: Vec<_> = all
            .iter()
            .zip(&files)
            .map(|((manifest, transaction, _), files)| Publication {
                snapshot: manifest.snapshot_id(),
                run_id: &manifest.run_id,
                transaction: *transaction,
                files,
                finished_at: manifest.finished_at,
            })
            .collect();
        let (adopted, published) = publications.split_at(unseen.len());
        match self.executor.block_on(self.delta.publish(adopted, published.first())) {
            Ok(_) => {
                if !unseen.is_empty() {
                    let num_adopted = unseen.len();
                    tracing::info!(num_adopted, "snapshots were added to the Delta log");
                }
                self.write_checkpoint(finished_at);
                Ok(())
            }
            Err(DeltaError::TransactionTaken { snapshot, .. }) => {
                Err(CommitError::ConcurrentPublish { snapshot })
            }
            Err(source) => Err(error(self.table, source).into()),
        }
    }

    /// Fails if a snapshot of this date cannot be committed.
    pub(super) fn check_publishable(&self, date: NaiveDate) -> Result<(), LakeError> {
        self.delta.check_publishable(date).map_err(|source| error(self.table, source))
    }

    /// Fails if the snapshots of these dates cannot be removed.
    pub(super) fn check_removable(
        &self,
        dates: impl IntoIterator<Item = NaiveDate>,
    ) -> Result<(), LakeError> {
        self.delta.check_removable(dates).map_err(|source| error(self.table, source))
    }

    /// Whether the publication of `manifest` under this number is in the log.
    pub(super) fn has_committed(&self, manifest: &Manifest, transaction: i64) -> bool {
        self.delta.has_committed(manifest.snapshot_id(), transaction, &manifest.files)
    }

    /// Commits the removal of all files of these dates.
    pub(super) fn remove_dates(
        &mut self,
        dates: impl IntoIterator<Item = NaiveDate>,
        at: DateTime<Utc>,
    ) -> Result<(), LakeError> {
        let dates = dates.into_iter().collect();
        let removed = self.executor.block_on(self.delta.remove_dates(&dates, at));
        removed.map_err(|source| error(self.table, source))?;
        self.write_checkpoint(at);
        Ok(())
    }

    /// Commits the removal of these files; paths are from the table's root.
    pub(super) fn remove_files(&mut self, paths: &[String], at: DateTime<Utc>) -> Result<(), LakeError> {
        let paths = paths.iter().map(String::as_str).collect();
        let removed = self.executor.block_on(self.delta.remove_files(&paths, at));
        removed.map_err(|source| error(self.table, source))?;
        self.write_checkpoint(at);
        Ok(())
    }

    /// Writes a checkpoint if one is due. A failure is logged and not returned: the next run tries again.
    fn write_checkpoint(&mut self, at: DateTime<Utc>) {
        if !self.delta.is_checkpoint_due() {
            return;
        }
        let written = self.executor.block_on(self.delta.write_checkpoint(at));
        if let Err(error) = written.map_err(|source| error(self.table, source)) {
            tracing::warn!(error = %error, "cannot write a checkpoint of the Delta log; the next run tries again");
        }
    }
}

fn new_files<'f>(manifest: &'f Manifest, statistics: &'f [FileStatistics]) -> Vec<NewFile<'f>> {
    manifest.files.iter().zip(statistics).map(|(facts, statistics)| NewFile { facts, statistics }).collect()
}

/// Removes temporary files that killed runs have left in the log's folder on a disk.
pub(super) fn remove_unfinished(table: &Table) -> Result<(), LakeError> {
    let folder = log_folder(table);
    local_objects::remove_unfinished(&folder, is_log_file)?;
    // A folder made for a first commit that was never written.
    if local::is_folder(&folder)? && local::list_names(&folder)?.is_empty() {
        local::remove_empty_dir(&folder)?;
    }
    Ok(())
}

/// Removes the root of a table, and its log's folder, if they are empty.
pub(super) fn remove_empty_root(table: &Table) -> Result<(), LakeError> {
    local::remove_empty_dir(&log_folder(table))?;
    local::remove_empty_dir(&table.root())
}

/// Returns the folder of a table's log.
pub(super) fn log_folder(table: &Table) -> PathBuf {
    table.root().join(LOG_FOLDER)
}

fn store_error(action: &'static str, path: &Key, source: object_store::Error) -> DeltaError {
    DeltaError::Store { action, path: path.to_string(), source }
}

/// Converts an error of the log into one of the lake: of a disk with the system's error, of a store without URLs.
fn error(table: &Table, error: DeltaError) -> LakeError {
    let DeltaError::Store { action, path, source } = error else {
        return LakeError::Delta(Box::new(error));
    };
    match table.place() {
        Place::Disk(_) => {
            let path = table.root().join(path);
            local::io_error(action, &path)(io_source(&source))
        }
        Place::Store(store) => {
            let path = store.root().join(store.below_prefix(&path));
            LakeError::Store { action, path, source: StoreError::from(&source) }
        }
    }
}

fn io_source(error: &(dyn std::error::Error + 'static)) -> std::io::Error {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return match error.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => error.kind().into(),
            };
        }
        source = error.source();
    }
    std::io::Error::other(error.to_string())
}
