//! Paths in the work dir, and the free space of its disk.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use super::SpoolError;
use crate::digest::sha256_hex;
use crate::snapshot::{PartKey, SnapshotId};

/// Marks a spool that was kept on purpose.
pub(crate) const KEPT: &str = ".kept";

/// Most folders of one snapshot, of which all but the last are kept. Each holds a whole export: a scheduler that
/// keeps as many of one snapshot is misconfigured.
pub(super) const MAX_FOLDERS: u32 = 16;

/// Space that stays free on the disk of the work dir, for others that write there.
const MIN_FREE_BYTES: u64 = 256 << 20;

pub(super) fn dataset_dir(work_dir: &Path, dataset: &str) -> Result<PathBuf, SpoolError> {
    let dir = work_dir.join(dataset);
    create_private_dir(&dir)?;
    Ok(dir)
}

/// Creates a folder for its owner only: parts say what is installed where.
pub(super) fn create_private_dir(dir: &Path) -> Result<(), SpoolError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SpoolError::new("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(SpoolError::new("make private", dir))
}

/// Returns the folder of a snapshot's parts, beside `num_kept` kept ones.
pub(super) fn folder(parent: &Path, snapshot: SnapshotId, num_kept: usize) -> PathBuf {
    match num_kept {
        0 => parent.join(snapshot.to_string()),
        _ => parent.join(format!("{snapshot}.{}", num_kept + 1)),
    }
}

pub(super) fn part_path(dir: &Path, key: &PartKey) -> PathBuf {
    dir.join(format!("{}.part", &sha256_hex(key)[..32]))
}

/// Checks that the disk of `dir` has room for `bytes` more.
pub(super) fn check_free(dir: &Path, bytes: u64) -> Result<(), SpoolError> {
    let disk =
        rustix::fs::statvfs(dir).map_err(|err| SpoolError::new("check the disk of", dir)(err.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes.saturating_add(MIN_FREE_BYTES) {
        let (free, bytes, reserve) = (ByteSize(free), ByteSize(bytes), ByteSize(MIN_FREE_BYTES));
        let text = format!("{free} free, {bytes} needed, {reserve} reserved for others");
        let source = io::Error::new(io::ErrorKind::StorageFull, text);
        return Err(SpoolError { action: "store a part in", path: dir.to_owned(), source });
    }
    Ok(())
}
