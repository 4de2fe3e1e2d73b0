//! Removes what late requests of runs without a journal left in a store.

use super::journal::StoreJournal;
use crate::commit::CommitError;
use crate::lake::store::Store;
use crate::lake::{
    Claim, MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_SUCCESS_BYTES, SUCCESS_FILE, Success, Table,
    data_folder_name,
};

/// Removes the claims of runs that no longer have a journal: their request arrived late.
pub(super) fn sweep_claims(table: &Table, store: &Store) -> Result<(), CommitError> {
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

/// Whether this is a claim whose run has no journal. The journal is read after the claim: an active run writes its
/// journal first.
pub(super) fn is_abandoned_claim(table: &Table, store: &Store, bytes: &[u8]) -> Result<bool, CommitError> {
    let Some(claim) = Claim::parse(bytes) else { return Ok(false) };
    let folder = table.staging_root().join(claim.claimed_by.as_str());
    Ok(StoreJournal::read(table, store, &folder)?.is_none())
}

/// Removes each `_SUCCESS` that stands alone on a date without a manifest: its request arrived late.
pub(super) fn sweep_success_files(table: &Table, store: &Store) -> Result<(), CommitError> {
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
