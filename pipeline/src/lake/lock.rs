//! The lock of a table: a locked file on a local disk, an object with a lease in a store.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::LakeError;
use super::lease::Lease;
use super::local::{self, LocalLock};
use super::paths::LOCK_FILE;
use super::place::Place;
use super::table::{Table, TableKind};

/// The exclusive right to change one table, held until the last clone of it is dropped.
#[derive(Debug, Clone)]
pub struct TableLock {
    table: Table,
    is_to_be_delta: bool,
    held: Arc<HeldLock>,
}

/// The lock by the kind of lake.
#[derive(Debug)]
enum HeldLock {
    Disk(LocalLock),
    Store(Lease),
}

impl Table {
    /// Locks the table for this process, waiting while another holds the lock. Calls `on_wait` once before the
    /// first wait; stops waiting once `cancelled` returns true.
    ///
    /// Dropping the lock removes the lock file and the folders that are empty by then, the lake's own only if this
    /// call created it.
    ///
    /// # Errors
    ///
    /// [`LakeError::Cancelled`]; fails if the lock file cannot be created.
    pub fn lock(&self, on_wait: impl FnOnce(), cancelled: &dyn Fn() -> bool) -> Result<TableLock, LakeError> {
        let held = match self.place() {
            Place::Disk(_) => HeldLock::Disk(LocalLock::take(self.own_root(), on_wait, cancelled)?),
            Place::Store(store) => {
                HeldLock::Store(Lease::take(store, self.own_root().join(LOCK_FILE), on_wait, cancelled)?)
            }
        };
        Ok(TableLock { table: self.clone(), is_to_be_delta: false, held: Arc::new(held) })
    }
}

impl TableLock {
    /// The locked table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes the table a Delta table with the next snapshot that is published.
    #[must_use]
    pub fn to_be_delta(mut self) -> Self {
        self.is_to_be_delta = true;
        self
    }

    /// Returns what the table is, or is about to become.
    ///
    /// # Errors
    ///
    /// As [`Table::kind`].
    pub fn kind(&self) -> Result<TableKind, LakeError> {
        if self.is_to_be_delta { Ok(TableKind::Delta) } else { self.table.kind() }
    }

    /// Checks that this run still holds the lock. In a store, its lease may have expired.
    ///
    /// # Errors
    ///
    /// [`LakeError::LeaseLost`]; fails if the store does not answer.
    pub(crate) fn confirm(&self) -> Result<(), LakeError> {
        match &*self.held {
            HeldLock::Disk(_) => Ok(()),
            HeldLock::Store(lease) => lease.confirm(),
        }
    }

    /// Returns the error of a run that finds that another one took over the lock.
    pub(crate) fn lost(&self) -> LakeError {
        LakeError::LeaseLost { path: self.table.own_root().join(LOCK_FILE) }
    }

    /// Lists the folders above the table's own that must be synced for the table to survive a crash.
    pub(crate) fn folders_above(&self) -> Vec<PathBuf> {
        let table = self.table();
        let created: &[PathBuf] = match &*self.held {
            HeldLock::Disk(lock) => &lock.created,
            HeldLock::Store(_) => &[],
        };
        let mut folders: Vec<_> = created.iter().map(|folder| local::parent(folder).to_path_buf()).collect();
        let root = table.lake().root();
        folders.extend([root.to_path_buf(), root.join("_defender"), table.own_root()]);
        folders
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::lake::Lake;

    fn table(root: &Path) -> Table {
        Lake::open(root).unwrap().table(schema::DATASETS[0])
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
}
