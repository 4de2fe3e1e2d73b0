//! Before the decision: plans what a change adds, replaces and removes, each object by its version.

use std::path::Path;

use object_store::UpdateVersion;

use super::journal::{Plan, PlannedSnapshot, SeenObject, SeenVersion, StoreJournal};
use super::store_commit::StoreCommit;
use crate::commit::CommitError;
use crate::commit::delta_log::TableLog;
use crate::lake::{LakeError, MAX_MANIFEST_BYTES, PublishedSnapshot, SUCCESS_FILE, TableKind};
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;

/// The plan of a publish, and what the journal does not keep of it.
pub(super) struct Planned {
    pub plan: Plan,
    /// Snapshots that it replaces.
    pub replaced: Vec<SnapshotId>,
}

impl StoreCommit<'_> {
    /// Plans the publish of `manifest`, and claims the manifest's place.
    pub(super) fn plan(&self, manifest: &Manifest, journal: &StoreJournal) -> Result<Planned, CommitError> {
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
                manifest_over = Some(SeenVersion::from(version));
            } else {
                let path = self.table.below_lake(&published.manifest_path);
                plan.removes_first.push(SeenObject { path, seen: version.into() });
            }
        }
        let mut transaction = None;
        if self.lock.kind()? == TableKind::Delta {
            let mut log = TableLog::open_or_new(self.table)?;
            log.read_unseen(Some(id.date()))?;
            plan.adopts = log.has_unseen();
            transaction = Some(log.delta().next_transaction(id));
        }
        let success = self.table.data_folder(id.date()).join(SUCCESS_FILE);
        let success_over = self.store.version(&success)?.map(SeenVersion::from);
        let manifest_over = match manifest_over {
            Some(seen) => seen,
            None => self.claim(id, &manifest.run_id)?.into(),
        };
        plan.publication =
            Some(PlannedSnapshot { manifest: manifest.clone(), manifest_over, success_over, transaction });
        Ok(Planned { plan, replaced })
    }

    /// Plans the removal of snapshots.
    pub(super) fn plan_removal(
        &self,
        published: &[PublishedSnapshot],
        ids: &[SnapshotId],
    ) -> Result<Plan, CommitError> {
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
                plan.removes_from_log.extend(snapshot.manifest.files.iter().map(|file| file.path.clone()));
            }
        }
        Ok(plan)
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

    /// Adds the object at `path` to what is removed first, if it exists.
    fn add_seen(&self, plan: &mut Plan, path: &Path) -> Result<(), LakeError> {
        if let Some(version) = self.store.version(path)? {
            plan.removes_first.push(SeenObject { path: self.table.below_lake(path), seen: version.into() });
        }
        Ok(())
    }
}
