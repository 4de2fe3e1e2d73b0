//! One run's change of a table in a store: what the files beside this one give methods to.

use std::path::PathBuf;

use super::journal::JOURNAL_FILE;
use crate::lake::store::{Store, Upload};
use crate::lake::{Table, TableLock};
use crate::staging::JournalUpload;

/// One run's change of a table.
pub(in crate::commit) struct StoreCommit<'a> {
    pub(super) lock: &'a TableLock,
    pub(super) table: &'a Table,
    pub(super) store: &'a Store,
    /// `staging/<run id>`.
    pub(super) folder: PathBuf,
}

impl<'a> StoreCommit<'a> {
    pub(in crate::commit) fn of_run(lock: &'a TableLock, store: &'a Store, run_id: &str) -> Self {
        let table = lock.table();
        Self { lock, table, store, folder: table.staging_root().join(run_id) }
    }

    /// Returns the full path of what a journal names.
    pub(super) fn path(&self, below_lake: &str) -> PathBuf {
        self.store.root().join(below_lake)
    }

    pub(super) fn journal_path(&self) -> PathBuf {
        self.folder.join(JOURNAL_FILE)
    }

    pub(super) fn uploads(&self, journaled: &[JournalUpload]) -> Vec<Upload> {
        journaled.iter().map(|upload| upload.to_upload(self.store)).collect()
    }
}
