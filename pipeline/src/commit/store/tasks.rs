//! What the tasks of a run put into a store before the run decides, and how it is removed.
//!
//! A task begins its uploads, writes a [`TaskJournal`] that names them, and sends; it completes none but that of its
//! rejects, which stay below staging. `../protocol.md` says who completes and aborts the others.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::{MAX_JOURNAL_BYTES, StoreJournal};
use super::store_commit::StoreCommit;
use crate::commit::CommitError;
use crate::lake::store::{Put, PutOutcome, Store, Upload};
use crate::lake::{LakeError, REJECTS_FILE, Table, local};
use crate::staging::{Destination, JournalUpload, Portion, rejects_path, tasks_folder};

/// In `staging/<run id>/tasks/<task id>`, or in `staging/<run id>` of a run that writes its files itself.
const TASK_JOURNAL_FILE: &str = "uploads.json";

/// Names the uploads that a task has begun.
#[derive(Debug, Serialize, Deserialize)]
struct TaskJournal {
    uploads: Vec<JournalUpload>,
}

/// See [`crate::commit::send`].
pub(in crate::commit) fn send(
    table: &Table,
    store: &Store,
    destination: &Destination,
    portion: &mut Portion,
    on_bytes: &dyn Fn(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<(), CommitError> {
    let folder = match destination.task_id() {
        Some(task_id) => tasks_folder(table, destination.run_id()).join(task_id.as_str()),
        None => table.staging_root().join(destination.run_id().as_str()),
    };
    let (mut places, mut sources) = (Vec::new(), Vec::new());
    for file in &portion.files {
        places.push((table.root().join(&file.facts.path), file.facts.bytes));
        sources.push(local::open_file(&destination.folder().join(&file.facts.path))?);
    }
    // Those that the run has written itself do not leave it.
    if let (Some(_), Some(rejects)) = (destination.task_id(), &portion.rejects) {
        places.push((rejects_path(&folder), rejects.bytes));
        sources.push(local::open_file(&destination.rejects_path())?);
    }
    if places.is_empty() {
        return Ok(());
    }
    let mut uploads = store.begin(places)?;
    let journal = folder.join(TASK_JOURNAL_FILE);
    let sent = write_journal(table, store, &journal, &uploads).and_then(|()| {
        store.send(&mut uploads, &sources, on_bytes, cancelled)?;
        // On Azure nothing else tells an attempt that its uploads were aborted meanwhile.
        if store.has_chunks_by_name() && store.version(&journal)?.is_none() {
            return Err(LakeError::UploadsAborted { path: journal.clone() });
        }
        store.complete(&uploads[portion.files.len()..]).map_err(|failure| failure.error)
    });
    if let Err(failure) = sent {
        // The rejects may be complete.
        let removed =
            store.abort(&uploads).and_then(|()| store.delete_all(&[rejects_path(&folder), journal]));
        if let Err(error) = removed {
            tracing::debug!(error = %error, "cannot abort uploads; the run that they belong to does, or the next");
        }
        return Err(failure.into());
    }
    uploads.truncate(portion.files.len());
    portion.uploads = uploads.iter().map(|upload| JournalUpload::new(table, upload)).collect();
    Ok(())
}

fn write_journal(table: &Table, store: &Store, path: &Path, uploads: &[Upload]) -> Result<(), LakeError> {
    let uploads = uploads.iter().map(|upload| JournalUpload::new(table, upload)).collect();
    let bytes = serde_json::to_vec(&TaskJournal { uploads }).expect("text keys and plain values serialise");
    match store.put_confirmed(path, &bytes, &Put::Create)? {
        PutOutcome::Written(_) => Ok(()),
        PutOutcome::Refused(_) => Err(local::io_error("create", path)(io::ErrorKind::AlreadyExists.into())),
    }
}

impl StoreCommit<'_> {
    /// Aborts the uploads that task journals of this run name, except `completed`; removes what tasks have put below
    /// staging, and the journals. Returns whether there was any.
    pub(super) fn sweep_tasks(&self, completed: &[JournalUpload]) -> Result<bool, CommitError> {
        let staged = self.table.list_files(&self.folder)?.into_keys();
        let is_ours = |name: &String| name.ends_with(TASK_JOURNAL_FILE) || name.ends_with(REJECTS_FILE);
        let staged: Vec<PathBuf> = staged.filter(is_ours).map(|name| self.folder.join(name)).collect();
        if staged.is_empty() {
            return Ok(false);
        }
        let journals: Vec<_> =
            staged.iter().filter(|path| path.ends_with(TASK_JOURNAL_FILE)).cloned().collect();
        let mut uploads = Vec::new();
        for bytes in self.store.read_all(&journals, MAX_JOURNAL_BYTES) {
            let Some(bytes) = bytes? else { continue };
            let journal = serde_json::from_slice::<TaskJournal>(&bytes)
                .ok()
                .filter(|journal| StoreJournal::open(None, journal.uploads.clone()).is_valid(self.table));
            let Some(journal) = journal else {
                return Err(CommitError::Unrecoverable { folder: self.folder.clone() });
            };
            uploads.extend(
                journal
                    .uploads
                    .into_iter()
                    .filter(|upload| !completed.iter().any(|completed| completed.is_same_upload(upload))),
            );
        }
        let uploads = self.uploads(&uploads);
        self.store.abort(&uploads)?;
        self.store.delete_all(&staged)?;
        if self.store.has_chunks_by_name() {
            // Of attempts that still sent, and saw their journals. Best effort: the store drops chunks after a week.
            let _ = self.store.abort(&uploads);
        }
        Ok(true)
    }
}
