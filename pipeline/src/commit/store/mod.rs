//! Publishing in an object store: who decides, what is done after that, and what recovery does.
//!
//! `protocol.md` beside this file has the states of a journal and the steps that follow a decision. New files
//! get their final names beside the old ones, whose names they never have: each holds its run's id.
//!
//! What is left: between the first completion and the end of the steps a reader that only globs file names
//! sees new files beside old ones, or some of the new ones; `_SUCCESS` and the manifests say which are whole.
//! A run that is killed between beginning an upload and writing its journal leaves an upload without a byte.

pub(super) mod journal;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chrono::Utc;
use object_store::UpdateVersion;
use sha2::{Digest, Sha256};

use self::journal::{JOURNAL_FILE, Journal, JournalUpload, Plan, Publication, Seen, SeenObject, State};
use super::delta_log::{Log, staged_statistics};
use super::{CommitError, Published, Recovered, RemovedSnapshots, to_json};
use crate::delta::{DeltaError, FileStatistics};
use crate::digest::hex;
use crate::lake::store::{Put, Settled, Store, Upload};
use crate::lake::{
    Claim, LakeError, MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_SUCCESS_BYTES, PublishedSnapshot, REJECTS_FILE,
    SUCCESS_FILE, Success, Table, TableKind, TableLock, data_folder_name, local,
};
use crate::manifest::Manifest;
use crate::snapshot::{RunId, SnapshotId};

/// How often the commit to a Delta log is begun again because another writer has touched the same date.
const MAX_LOG_ATTEMPTS: u32 = 3;

/// The SHA-256 of a file, in hexadecimal.
fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            num_read => digest.update(&buffer[..num_read]),
        }
    }
}

/// Whether a run's journal is decided. One that cannot be read may be.
pub(super) fn is_decided(table: &Table, store: &Store, run_id: &str) -> bool {
    match Journal::read(table, store, &table.staging_root().join(run_id)) {
        Ok(Some((journal, _))) => journal.state == State::Decided,
        Ok(None) => false,
        Err(_) => true,
    }
}

/// See [`TableLock::recover`].
pub(super) fn recover(lock: &TableLock, store: &Store) -> Result<Vec<Recovered>, CommitError> {
    let table = lock.table();
    let mut recovered = Vec::new();
    for run_id in table.list_names(&table.staging_root())? {
        // A run that stood still has nothing to look for in the journals of those that came after it.
        lock.confirm()?;
        let run = ByObjects { lock, table, store, folder: table.staging_root().join(&run_id) };
        recovered.push(match run.settle()? {
            Ending::Absent => continue,
            Ending::Undone(journal) => {
                run.clean_up(&journal)?;
                Recovered::Removed { run_id }
            }
            Ending::Decided(journal) => match run.finish(&journal, None) {
                Ok(()) => journal.recovered(run_id),
                Err(FinishError::Undone(error)) => {
                    tracing::warn!(run_id, %error, "an earlier run's uploads are gone; it is undone");
                    Recovered::Removed { run_id }
                }
                Err(FinishError::Failed(error)) => return Err(error),
            },
        });
    }
    sweep_claims(table, store)?;
    sweep_success_files(table, store)?;
    Ok(recovered)
}

impl Journal {
    /// What it is to finish this journal.
    fn recovered(&self, run_id: String) -> Recovered {
        let Some(plan) = &self.plan else { return Recovered::Removed { run_id } };
        match &plan.publication {
            Some(publication) => Recovered::Finished { run_id, snapshot: publication.manifest.snapshot_id() },
            None if plan.adopts => Recovered::Adopted { run_id },
            None => Recovered::Expired { run_id },
        }
    }
}

/// Removes the claims of runs that have no journal any more: a request that arrived late.
fn sweep_claims(table: &Table, store: &Store) -> Result<(), CommitError> {
    for (name, bytes) in table.list_files(&table.snapshots_root())? {
        if bytes != Claim::NUM_BYTES || !name.ends_with(MANIFEST_FILE) {
            continue;
        }
        let path = table.snapshots_root().join(name);
        let Some((bytes, version)) = store.read(&path, MAX_MANIFEST_BYTES)? else { continue };
        if is_abandoned_claim(table, store, &bytes)? {
            store.delete_version(&path, &version)?;
        }
    }
    Ok(())
}

/// Whether this is a claim whose run has no journal, read after the claim: a run that is at work has written
/// its journal before.
fn is_abandoned_claim(table: &Table, store: &Store, bytes: &[u8]) -> Result<bool, CommitError> {
    let Some(claim) = Claim::parse(bytes) else { return Ok(false) };
    let folder = table.staging_root().join(claim.claimed_by.as_str());
    Ok(Journal::read(table, store, &folder)?.is_none())
}

/// Removes each `_SUCCESS` of ours that is alone on a date without a manifest: a request that arrived late.
fn sweep_success_files(table: &Table, store: &Store) -> Result<(), CommitError> {
    let published: Vec<_> = table.snapshot_ids()?.into_iter().map(|id| data_folder_name(id.date())).collect();
    for name in store.list_folders(&table.root())? {
        let folder = table.root().join(&name);
        if published.contains(&name) || table.list_files(&folder)?.keys().ne([SUCCESS_FILE]) {
            continue;
        }
        let path = folder.join(SUCCESS_FILE);
        let Some((bytes, version)) = store.read(&path, MAX_SUCCESS_BYTES)? else { continue };
        let is_ours = serde_json::from_slice(&bytes)
            .is_ok_and(|success: Success| success.dataset == table.dataset().name);
        // Listed after it was read: a run puts the manifest before it puts `_SUCCESS`.
        if is_ours && !table.snapshot_ids()?.iter().any(|id| data_folder_name(id.date()) == name) {
            store.delete_version(&path, &version)?;
        }
    }
    Ok(())
}

/// Files that are in the store and invisible, and the journal that names them.
#[derive(Debug)]
pub(super) struct Uploaded {
    uploads: Vec<Upload>,
    journal_version: UpdateVersion,
}

/// What a publication comes to, and what of it the journal does not keep.
struct Planned {
    plan: Plan,
    /// Snapshots that it takes the place of.
    replaced: Vec<SnapshotId>,
    /// Of the data files, for the log of a Delta table.
    statistics: Option<Vec<FileStatistics>>,
}

/// How a journal ended, once it can no longer be decided.
enum Ending {
    Absent,
    Undone(Journal),
    Decided(Journal),
}

/// Why the steps after a decision did not come to their end.
enum FinishError {
    /// They cannot, and what was done is taken back.
    Undone(CommitError),
    /// The next run carries them on.
    Failed(CommitError),
}

impl<E: Into<CommitError>> From<E> for FinishError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One run's changes of a table.
pub(super) struct ByObjects<'a> {
    lock: &'a TableLock,
    table: &'a Table,
    store: &'a Store,
    /// `staging/<run id>`.
    folder: PathBuf,
}

impl<'a> ByObjects<'a> {
    pub(super) fn new(lock: &'a TableLock, store: &'a Store, run_id: &RunId) -> Self {
        let table = lock.table();
        Self { lock, table, store, folder: table.staging_root().join(run_id.as_str()) }
    }

    fn path(&self, below_lake: &str) -> PathBuf {
        self.store.root().join(below_lake)
    }

    fn journal_path(&self) -> PathBuf {
        self.folder.join(JOURNAL_FILE)
    }

    // ---- Before the decision ----

    /// Makes uploads of the files in the local folder `staged`, which no reader sees. Gives them up if it fails.
    pub(super) fn upload(
        &self,
        staged: &Path,
        manifest: &Manifest,
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Uploaded, CommitError> {
        let id = manifest.snapshot_id();
        let mut files = Vec::new();
        for file in &manifest.files {
            files.push((self.table.root().join(&file.path), staged.join(&file.path)));
        }
        let rejects = staged.join("snapshot").join(REJECTS_FILE);
        let has_rejects = local::exists(&rejects)?;
        if has_rejects {
            files.push((self.table.rejects_path(id), rejects.clone()));
        }
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for (place, staged) in files {
            let source = local::open_file(&staged)?;
            let bytes = source.metadata().map_err(local::io_error("read", &staged))?.len();
            places.push((place, bytes));
            sources.push(source);
        }
        let mut uploads = self.store.begin(places)?;
        if let (Some(upload), true) = (uploads.last_mut(), has_rejects) {
            upload.sha256 = Some(digest_of(&rejects).map_err(local::io_error("read", &rejects))?);
        }
        let manifest_path = self.table.below_lake(&self.table.manifest_path(id));
        let journal = Journal::open(Some(manifest_path), self.journaled(&uploads));
        let sent = self.open(&journal).and_then(|journal_version| {
            self.store.send(&mut uploads, &sources, on_bytes, cancelled)?;
            Ok(journal_version)
        });
        match sent {
            Ok(journal_version) => Ok(Uploaded { uploads, journal_version }),
            Err(failure) => Err(self.undo_after(failure.into(), &journal)),
        }
    }

    /// Puts an open journal in place, and then makes sure that the table was still ours at that moment: a run
    /// that takes over from now on finds it.
    fn open(&self, journal: &Journal) -> Result<UpdateVersion, LakeError> {
        let path = self.journal_path();
        match self.store.put_settled(&path, &journal.to_json(), &Put::Create)? {
            Settled::Done(version) => self.lock.confirm().map(|()| version),
            Settled::Refused(_) => Err(local::io_error("create", &path)(io::ErrorKind::AlreadyExists.into())),
        }
    }

    /// Gives up what [`Self::upload`] returned. Best effort: the next run does it again.
    pub(super) fn give_up(&self, uploaded: &Uploaded) {
        let journal = Journal::open(None, self.journaled(&uploaded.uploads));
        if let Err(error) = self.settle().and_then(|_| Ok(self.clean_up(&journal)?)) {
            tracing::debug!(error = %error, "uploads could not be given up; the next run does it");
        }
    }

    /// Decides, and carries out what follows. The files are still in the local folder `staged`, too.
    pub(super) fn publish(
        &self,
        uploaded: &Uploaded,
        manifest: &Manifest,
        staged: &Path,
    ) -> Result<Published, CommitError> {
        let id = manifest.snapshot_id();
        let manifest_path = self.table.manifest_path(id);
        let mut journal =
            Journal::open(Some(self.table.below_lake(&manifest_path)), self.journaled(&uploaded.uploads));
        let Planned { plan, replaced, statistics } = match self.plan(manifest, &journal, staged) {
            Ok(planned) => planned,
            Err(failure) => return Err(self.undo_after(failure, &journal)),
        };
        journal = Journal { state: State::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &uploaded.journal_version)?;
        let left_over = self.finish_own(&journal, statistics.as_deref())?;
        Ok(Published { manifest_path, replaced, left_over })
    }

    /// Reads what publishing `manifest` comes to, and claims the manifest's place.
    fn plan(&self, manifest: &Manifest, journal: &Journal, staged: &Path) -> Result<Planned, CommitError> {
        let id = manifest.snapshot_id();
        let mut plan = Plan::default();
        let mut replaced = Vec::new();
        let mut manifest_over = None;
        for old in self.table.snapshot_ids()?.into_iter().filter(|old| old.date() == id.date()) {
            let Some((published, version)) = self.read_published(old)? else { continue };
            if old > id {
                return Err(CommitError::Superseded { snapshot: id, published: old });
            }
            replaced.push(old);
            self.add_files(&mut plan, &published.manifest);
            // The manifest and the rejects of the same snapshot have the names of the new ones.
            let rejects = self.table.rejects_path(old);
            if old != id || !journal.uploads.iter().any(|upload| self.path(&upload.path) == rejects) {
                self.add_seen(&mut plan, &rejects)?;
            }
            if old == id {
                manifest_over = Some(Seen::from(version));
            } else {
                let path = self.table.below_lake(&published.manifest_path);
                plan.removes_first.push(SeenObject { path, seen: version.into() });
            }
        }
        let mut transaction = None;
        let mut statistics = None;
        if self.lock.kind()? == TableKind::Delta {
            let mut log = Log::open_or_new(self.table)?;
            log.read_unseen(Some(id.date()))?;
            plan.adopts = log.has_unseen();
            transaction = Some(log.delta().next_transaction(id));
            statistics = Some(staged_statistics(self.table, staged, manifest)?);
        }
        let success = self.table.data_folder(id.date()).join(SUCCESS_FILE);
        let success_over = self.store.version(&success)?.map(Seen::from);
        let manifest_over = match manifest_over {
            Some(seen) => seen,
            None => self.claim(id, &manifest.run_id)?.into(),
        };
        plan.publication =
            Some(Publication { manifest: manifest.clone(), manifest_over, success_over, transaction });
        Ok(Planned { plan, replaced, statistics })
    }

    fn read_published(
        &self,
        id: SnapshotId,
    ) -> Result<Option<(PublishedSnapshot, UpdateVersion)>, LakeError> {
        let found = self.store.read(&self.table.manifest_path(id), MAX_MANIFEST_BYTES)?;
        let (bytes, version) = found.unzip();
        Ok(self.table.parse_snapshot(id, bytes)?.zip(version))
    }

    fn add_files(&self, plan: &mut Plan, manifest: &Manifest) {
        let root = self.table.root();
        plan.removes_then
            .extend(manifest.files.iter().map(|file| self.table.below_lake(&root.join(&file.path))));
    }

    /// Adds the object at `path` to what goes first, if it is there.
    fn add_seen(&self, plan: &mut Plan, path: &Path) -> Result<(), LakeError> {
        if let Some(version) = self.store.version(path)? {
            plan.removes_first.push(SeenObject { path: self.table.below_lake(path), seen: version.into() });
        }
        Ok(())
    }

    /// Puts a claim in the place of a manifest that is not there yet.
    fn claim(&self, id: SnapshotId, run_id: &RunId) -> Result<UpdateVersion, CommitError> {
        let path = self.table.manifest_path(id);
        let claim = Claim { claimed_by: run_id.clone() }.to_json();
        let mut put = Put::Create;
        loop {
            let found = match self.store.put_settled(&path, &claim, &put)? {
                Settled::Done(version) => return Ok(version),
                Settled::Refused(found) => found,
            };
            put = match found {
                None => Put::Create,
                Some((bytes, version)) if is_abandoned_claim(self.table, self.store, &bytes)? => {
                    Put::Update(version)
                }
                // Only a run that has the lock is at work on the snapshot.
                Some(_) => return Err(self.lock.lost().into()),
            };
        }
    }

    /// Moves the journal from `open` to `decided`. Takes everything back if that is refused.
    fn decide(&self, journal: &Journal, open: &UpdateVersion) -> Result<(), CommitError> {
        if let Err(failure) = self.lock.confirm() {
            return Err(self.undo_after(failure.into(), journal));
        }
        let decided =
            self.store.put_settled(&self.journal_path(), &journal.to_json(), &Put::Update(open.clone()));
        let failure = match decided {
            Ok(Settled::Done(_)) => return Ok(()),
            Ok(Settled::Refused(_)) => self.lock.lost(),
            Err(failure) => failure,
        };
        match self.settle() {
            Ok(Ending::Decided(_)) => Ok(()),
            Ok(_) => Err(match self.clean_up(journal) {
                Ok(()) => failure.into(),
                Err(source) => {
                    CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
                }
            }),
            Err(CommitError::Lake(source)) => {
                Err(CommitError::Unsettled { failure: failure.to_string(), source: Box::new(source) })
            }
            Err(error) => Err(error),
        }
    }

    /// Finds out how the journal ended, and undoes it if it has not: from then on it can no longer be decided.
    fn settle(&self) -> Result<Ending, CommitError> {
        loop {
            let Some((journal, version)) = Journal::read(self.table, self.store, &self.folder)? else {
                return Ok(Ending::Absent);
            };
            match journal.state {
                State::Decided => return Ok(Ending::Decided(journal)),
                State::Undone => return Ok(Ending::Undone(journal)),
                State::Open => {
                    if let Some(journal) = self.mark_undone(journal, version)? {
                        return Ok(Ending::Undone(journal));
                    }
                }
            }
        }
    }

    /// Moves the journal to `undone`; nothing if it has another version by now.
    fn mark_undone(&self, journal: Journal, version: UpdateVersion) -> Result<Option<Journal>, LakeError> {
        let undone = Journal { state: State::Undone, plan: None, ..journal };
        let put = self.store.put_settled(&self.journal_path(), &undone.to_json(), &Put::Update(version))?;
        Ok(matches!(put, Settled::Done(_)).then_some(undone))
    }

    /// Gives up the uploads of a journal that is not decided, and removes its claim and then itself.
    fn clean_up(&self, journal: &Journal) -> Result<(), LakeError> {
        self.store.abort(&self.uploads(&journal.uploads))?;
        if let Some(path) = &journal.manifest_path {
            let path = self.path(path);
            if let Some((bytes, version)) = self.store.read(&path, MAX_MANIFEST_BYTES)?
                && let Some(claim) = Claim::parse(&bytes)
                && self.folder.ends_with(claim.claimed_by.as_str())
            {
                self.store.delete_version(&path, &version)?;
            }
        }
        self.store.delete(&self.journal_path())
    }

    /// Takes everything back after `failure`; returns what to report.
    fn undo_after(&self, failure: CommitError, journal: &Journal) -> CommitError {
        let undone = self.settle().and_then(|_| Ok(self.clean_up(journal)?));
        match (undone, failure) {
            (Ok(()), failure) => failure,
            (Err(CommitError::Lake(source)), CommitError::Lake(failure)) => {
                CommitError::UndoFailed { failure: Box::new(failure), source: Box::new(source) }
            }
            (Err(error), failure) => {
                tracing::warn!(error = %error, "what was uploaded could not be given up; the next run does it");
                failure
            }
        }
    }

    // ---- After it ----

    /// Carries out the steps of this run's own decision; returns why the next run has to carry them on.
    fn finish_own(
        &self,
        journal: &Journal,
        statistics: Option<&[FileStatistics]>,
    ) -> Result<Option<LakeError>, CommitError> {
        match self.finish(journal, statistics) {
            Ok(()) => Ok(None),
            Err(FinishError::Failed(CommitError::Lake(error))) => Ok(Some(error)),
            Err(FinishError::Failed(error) | FinishError::Undone(error)) => Err(error),
        }
    }

    /// Carries out the steps of a decided journal. Ends well too if another run has done so.
    fn finish(&self, journal: &Journal, statistics: Option<&[FileStatistics]>) -> Result<(), FinishError> {
        let Some(plan) = &journal.plan else { return Ok(()) };
        if let Some(publication) = &plan.publication {
            let rejects = self.table.rejects_path(publication.manifest.snapshot_id());
            let (rejects, data): (Vec<_>, Vec<_>) =
                self.uploads(&journal.uploads).into_iter().partition(|upload| upload.path == rejects);
            if !(self.complete(journal, &data)? && self.complete(journal, &rejects)?) {
                return Ok(());
            }
            self.write_log(plan, statistics)?;
            if !self.put_manifest(publication)? {
                return Ok(());
            }
            if !self.put_success(publication)? {
                return Ok(());
            }
        } else {
            self.write_log(plan, None)?;
        }
        for object in &plan.removes_first {
            self.remove_seen(plan, object)?;
        }
        let then: Vec<_> = plan.removes_then.iter().map(|path| self.path(path)).collect();
        self.store.delete_all(&then)?;
        self.store.delete(&self.journal_path())?;
        Ok(())
    }

    /// Removes the version of an object that was read before the decision. Rejects may have another by now: on
    /// Azure an upload can be completed once more, with the same bytes.
    fn remove_seen(&self, plan: &Plan, object: &SeenObject) -> Result<(), LakeError> {
        let path = self.path(&object.path);
        let mut version = object.seen.version();
        while !self.store.delete_version(&path, &version)? {
            let Some(current) = self.store.version(&path)? else { break };
            if !path.ends_with(REJECTS_FILE) || self.is_others(plan, &path.with_file_name(MANIFEST_FILE))? {
                break;
            }
            version = current;
        }
        Ok(())
    }

    /// Whether a run that came later has put the manifest or the claim at `path`.
    fn is_others(&self, plan: &Plan, path: &Path) -> Result<bool, LakeError> {
        let Some((bytes, version)) = self.store.read(path, MAX_MANIFEST_BYTES)? else { return Ok(false) };
        let is_new = plan.publication.as_ref().is_some_and(|new| bytes == to_json(&new.manifest));
        let is_old = plan
            .removes_first
            .iter()
            .any(|old| self.path(&old.path) == path && old.seen.version().e_tag == version.e_tag);
        Ok(!is_new && !is_old)
    }

    /// Whether the journal is still there to be finished; if not, another run has done so.
    fn is_unfinished(&self) -> Result<bool, CommitError> {
        Ok(Journal::read(self.table, self.store, &self.folder)?.is_some())
    }

    /// Completes uploads; says whether they are. If not, another run has carried on. If one of them is gone for
    /// good, no one can carry on, and the journal is undone.
    fn complete(&self, journal: &Journal, uploads: &[Upload]) -> Result<bool, FinishError> {
        let Err(failure) = self.store.complete(uploads) else { return Ok(true) };
        if !failure.is_gone {
            return Err(failure.error.into());
        }
        let Some((found, version)) = Journal::read(self.table, self.store, &self.folder)? else {
            return Ok(false);
        };
        if found.state == State::Decided && self.mark_undone(found, version)?.is_none() {
            return Ok(false);
        }
        let data = journal.uploads.iter().map(|upload| self.path(&upload.path));
        let data: Vec<_> = data.filter(|path| !path.ends_with(REJECTS_FILE)).collect();
        self.store.abort(&self.uploads(&journal.uploads))?;
        self.store.delete_all(&data)?;
        self.clean_up(journal)?;
        Err(FinishError::Undone(failure.error.into()))
    }

    /// The commits to the log of a Delta table.
    fn write_log(&self, plan: &Plan, statistics: Option<&[FileStatistics]>) -> Result<(), CommitError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_write_log(plan, statistics) {
                Err(CommitError::Lake(LakeError::Delta(error)))
                    if matches!(*error, DeltaError::DateChanged { .. }) && attempts < MAX_LOG_ATTEMPTS => {}
                // A later commit of the date: this one was made, and has been replaced since.
                Err(CommitError::Overtaken { .. }) if !self.is_unfinished()? => return Ok(()),
                result => return result,
            }
        }
    }

    fn try_write_log(&self, plan: &Plan, statistics: Option<&[FileStatistics]>) -> Result<(), CommitError> {
        let transaction = plan.publication.as_ref().and_then(|one| Some((&one.manifest, one.transaction?)));
        if transaction.is_none() && !plan.adopts && plan.removes_from_log.is_empty() {
            return Ok(());
        }
        let mut log = Log::open_or_new(self.table)?;
        if let Some((manifest, transaction)) = transaction
            && !log.has_committed(manifest, transaction)
        {
            if plan.adopts {
                log.read_unseen(Some(manifest.snapshot_id().date()))?;
            }
            match statistics {
                Some(statistics) => log.publish(manifest, transaction, statistics)?,
                None => log.publish(manifest, transaction, &log.fetch_statistics(&manifest.files)?)?,
            }
        } else if plan.adopts && transaction.is_none() {
            log.adopt_snapshots()?;
        }
        if !plan.removes_from_log.is_empty() {
            log.remove_files(&plan.removes_from_log, Utc::now())?;
        }
        Ok(())
    }

    /// Puts the manifest over what was read before the decision. Says whether it is in place; if not, another
    /// run has carried on and more has come since.
    fn put_manifest(&self, publication: &Publication) -> Result<bool, CommitError> {
        let manifest = &publication.manifest;
        let path = self.table.manifest_path(manifest.snapshot_id());
        self.put_over(&path, &to_json(manifest), Some(&publication.manifest_over))
    }

    /// The same for `_SUCCESS`.
    fn put_success(&self, publication: &Publication) -> Result<bool, CommitError> {
        let manifest = &publication.manifest;
        let id = manifest.snapshot_id();
        let path = self.table.data_folder(id.date()).join(SUCCESS_FILE);
        let success = to_json(&self.table.success_of(manifest));
        if !self.put_over(&path, &success, publication.success_over.as_ref())? {
            return Ok(false);
        }
        let found = self.store.read(&self.table.manifest_path(id), MAX_MANIFEST_BYTES)?;
        if found.is_some_and(|(found, _)| found == to_json(manifest)) {
            return Ok(true);
        }
        // Others have replaced or removed the snapshot: a request of this run's was late.
        if let Some((found, version)) = self.store.read(&path, MAX_SUCCESS_BYTES)?
            && found == success
        {
            self.store.delete_version(&path, &version)?;
        }
        Ok(false)
    }

    fn put_over(&self, path: &Path, bytes: &[u8], seen: Option<&Seen>) -> Result<bool, CommitError> {
        let mut put = Seen::put_over(seen);
        loop {
            let Settled::Refused(found) = self.store.put_settled(path, bytes, &put)? else { return Ok(true) };
            if !self.is_unfinished()? {
                return Ok(false);
            }
            // Nobody else has carried on: somebody has changed the object by hand, or a request was late.
            self.lock.confirm()?;
            put = found.map_or(Put::Create, |(_, version)| Put::Update(version));
        }
    }

    // ---- Changes without uploads ----

    /// Removes published snapshots.
    pub(super) fn remove(
        &self,
        published: &[PublishedSnapshot],
        ids: &[SnapshotId],
    ) -> Result<RemovedSnapshots, CommitError> {
        let plan = |journal: &Journal| {
            debug_assert!(journal.uploads.is_empty());
            let mut plan = Plan::default();
            let is_delta = self.table.kind()? == TableKind::Delta;
            for snapshot in published.iter().filter(|one| ids.contains(&one.id)) {
                if self.table.is_complete(snapshot)? {
                    self.add_seen(&mut plan, &self.table.data_folder(snapshot.id.date()).join(SUCCESS_FILE))?;
                }
                // The rejects go before the manifest that counts them.
                self.add_seen(&mut plan, &self.table.rejects_path(snapshot.id))?;
                self.add_seen(&mut plan, &snapshot.manifest_path)?;
                self.add_files(&mut plan, &snapshot.manifest);
                if is_delta {
                    plan.removes_from_log
                        .extend(snapshot.manifest.files.iter().map(|file| file.path.clone()));
                }
            }
            Ok(plan)
        };
        Ok(RemovedSnapshots { left_over: self.change(plan)? })
    }

    /// Brings the snapshots that the log of a Delta table has not seen into it.
    pub(super) fn adopt(&self) -> Result<(), CommitError> {
        match self.change(|_| Ok(Plan { adopts: true, ..Plan::default() }))? {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Opens a journal, decides what `plan` says, and carries it out; returns why the next run has to carry it
    /// on.
    fn change(
        &self,
        plan: impl FnOnce(&Journal) -> Result<Plan, CommitError>,
    ) -> Result<Option<LakeError>, CommitError> {
        let journal = Journal::open(None, Vec::new());
        let opened = self.open(&journal).map_err(CommitError::from);
        let (version, plan) = match opened.and_then(|version| Ok((version, plan(&journal)?))) {
            Ok(opened) => opened,
            Err(failure) => return Err(self.undo_after(failure, &journal)),
        };
        let journal = Journal { state: State::Decided, plan: Some(plan), ..journal };
        self.decide(&journal, &version)?;
        self.finish_own(&journal, None)
    }

    fn journaled(&self, uploads: &[Upload]) -> Vec<JournalUpload> {
        uploads.iter().map(|upload| JournalUpload::new(self.table, upload)).collect()
    }

    fn uploads(&self, journaled: &[JournalUpload]) -> Vec<Upload> {
        journaled.iter().map(|upload| upload.to_upload(self.store)).collect()
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
