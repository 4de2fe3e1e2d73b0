//! The log of a Delta table, for callers that block.
//!
//! Brings [`DeltaTable`], which knows stores and nothing of lakes, together with a lake's [`Table`]: where
//! its log lies, what its snapshots are, and which of them the log has not seen yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use tokio::runtime::{Handle, Runtime};

use super::CommitError;
use crate::delta::{DeltaError, DeltaTable, FileStatistics, LOG_FOLDER, NewFile, Publication};
use crate::lake::{LakeError, Place, PublishedSnapshot, StoreError, Table, TableKind, local};
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;

/// Footers in flight.
const MAX_FOOTERS: usize = 16;

/// A table's log, read once and kept in step with what is committed through it.
#[derive(Debug)]
pub(crate) struct Log<'t> {
    table: &'t Table,
    delta: DeltaTable,
    store: Arc<dyn ObjectStore>,
    /// The table's root in the store.
    root: Key,
    executor: Executor,
}

/// Where requests run.
#[derive(Debug)]
enum Executor {
    /// On this thread, for a disk.
    Here(Runtime),
    /// On the store's own threads.
    Store(Handle),
}

impl Executor {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Here(runtime) => runtime.block_on(future),
            Self::Store(handle) => handle.block_on(future),
        }
    }
}

impl<'t> Log<'t> {
    /// Reads the log of a Delta table; nothing where the table is a plain one.
    pub(crate) fn open(table: &'t Table) -> Result<Option<Self>, LakeError> {
        match table.kind()? {
            TableKind::Plain => Ok(None),
            TableKind::Delta => Self::open_or_new(table).map(Some),
        }
    }

    /// Reads the log of a table that is or becomes a Delta table. On a disk its folder has to be there.
    pub(super) fn open_or_new(table: &'t Table) -> Result<Self, LakeError> {
        let (store, root, executor): (Arc<dyn ObjectStore>, _, _) = match table.place() {
            Place::Disk(_) => {
                let root = table.root();
                let files = LocalFileSystem::new_with_prefix(&root)
                    .map_err(|source| error(table, store_error("open", &Key::default(), source)))?;
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let runtime = runtime.map_err(local::io_error("open", &root))?;
                (Arc::new(files.with_fsync(true)), Key::default(), Executor::Here(runtime))
            }
            Place::Store(store) => {
                let executor = Executor::Store(store.runtime().clone());
                (store.objects().clone(), store.key(&table.root())?, executor)
            }
        };
        let delta = executor
            .block_on(DeltaTable::open(store.clone(), &root, table.dataset()))
            .map_err(|source| error(table, source))?;
        Ok(Self { table, delta, store, root, executor })
    }

    /// The table as the log has it.
    pub(crate) fn delta(&self) -> &DeltaTable {
        &self.delta
    }

    /// Commits the snapshots that the table holds and the log has not seen, oldest first, without touching
    /// their files: what makes a Delta table of a plain one.
    ///
    /// Each is a commit of its own. One that is interrupted is carried on by the next run.
    pub(super) fn adopt_snapshots(&mut self) -> Result<(), CommitError> {
        let newest: BTreeMap<NaiveDate, SnapshotId> =
            self.table.snapshot_ids()?.into_iter().map(|id| (id.date(), id)).collect();
        let mut num_adopted = 0;
        for id in newest.into_values().filter(|id| !self.delta.has_seen(*id)).collect::<Vec<_>>() {
            let Some(snapshot) = self.table.read_snapshot(id)? else { continue };
            // What somebody has deleted by hand is not in the lake, whatever the manifest says.
            if self.table.is_complete(&snapshot)? {
                self.adopt(&snapshot)?;
                num_adopted += 1;
            }
        }
        if num_adopted > 0 {
            tracing::info!(num_adopted, "snapshots that the Delta log had not seen are in it now");
        }
        Ok(())
    }

    fn adopt(&mut self, snapshot: &PublishedSnapshot) -> Result<(), CommitError> {
        let Self { table, store, root, .. } = &*self;
        let footers = stream::iter(&snapshot.manifest.files).map(|file| async move {
            let path = Key::parse([root.as_ref(), &file.path].join("/").trim_matches('/'))
                .map_err(|source| store_error("name", root, source.into()))?;
            FileStatistics::fetch(table.dataset(), store.as_ref(), &path, file.bytes).await
        });
        let statistics: Vec<_> = self
            .executor
            .block_on(footers.buffered(MAX_FOOTERS).try_collect())
            .map_err(|source| error(table, source))?;
        let transaction = self.delta.next_transaction(snapshot.id);
        self.publish(&snapshot.manifest, transaction, &statistics)
    }

    /// Commits a snapshot; `statistics` are those of the manifest's files, in order.
    pub(super) fn publish(
        &mut self,
        manifest: &Manifest,
        transaction: i64,
        statistics: &[FileStatistics],
    ) -> Result<(), CommitError> {
        let files: Vec<_> = manifest
            .files
            .iter()
            .zip(statistics)
            .map(|(facts, statistics)| NewFile { facts, statistics })
            .collect();
        let publication = Publication {
            snapshot: manifest.snapshot_id(),
            run_id: &manifest.run_id,
            transaction,
            files: &files,
            finished_at: manifest.finished_at,
        };
        let published = write(self.table, || self.executor.block_on(self.delta.publish(&publication)))?;
        match published {
            Ok(_) => {
                self.write_checkpoint(manifest.finished_at);
                Ok(())
            }
            Err(DeltaError::TransactionTaken { snapshot, .. }) => Err(CommitError::Overtaken { snapshot }),
            Err(source) => Err(error(self.table, source).into()),
        }
    }

    /// Whether the publication of `manifest` under this number is in the log.
    pub(super) fn has_committed(&self, manifest: &Manifest, transaction: i64) -> bool {
        self.delta.has_committed(manifest.snapshot_id(), transaction, &manifest.files)
    }

    /// Commits that the snapshots of these dates go.
    pub(super) fn remove_dates(
        &mut self,
        dates: impl IntoIterator<Item = NaiveDate>,
        at: DateTime<Utc>,
    ) -> Result<(), LakeError> {
        let dates = dates.into_iter().collect();
        let removed = write(self.table, || self.executor.block_on(self.delta.remove_dates(&dates, at)))?;
        removed.map_err(|source| error(self.table, source))?;
        self.write_checkpoint(at);
        Ok(())
    }

    /// A checkpoint spares readers time, and the next run tries again.
    fn write_checkpoint(&mut self, at: DateTime<Utc>) {
        if !self.delta.is_checkpoint_due() {
            return;
        }
        let written = write(self.table, || self.executor.block_on(self.delta.write_checkpoint(at)));
        if let Err(error) = written.and_then(|written| written.map_err(|source| error(self.table, source))) {
            tracing::warn!(error = %error, "no checkpoint of the Delta log was written; the next run tries again");
        }
    }
}

/// Carries out a change of the log. On a disk it is one like all others.
fn write<T>(table: &Table, change: impl FnOnce() -> T) -> Result<T, LakeError> {
    match table.place() {
        Place::Disk(_) => local::change("write", &log_folder(table), || Ok(change())),
        Place::Store(_) => Ok(change()),
    }
}

/// Statistics of files that are still below `staged`.
pub(super) fn staged_statistics(
    table: &Table,
    staged: &std::path::Path,
    manifest: &Manifest,
) -> Result<Vec<FileStatistics>, LakeError> {
    let read = |path: &String| {
        let file = local::open_file(&staged.join(path))?;
        FileStatistics::read(table.dataset(), path, &file).map_err(|source| error(table, source))
    };
    manifest.files.iter().map(|file| read(&file.path)).collect()
}

/// The folder of a table's log.
pub(super) fn log_folder(table: &Table) -> PathBuf {
    table.root().join(LOG_FOLDER)
}

fn store_error(action: &'static str, path: &Key, source: object_store::Error) -> DeltaError {
    DeltaError::Store { action, path: path.to_string(), source }
}

/// What the log's errors are to a lake: those of a disk as the system gave them, those of a store without
/// what may be secret.
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
