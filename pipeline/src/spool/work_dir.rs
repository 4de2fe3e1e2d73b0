//! Where parts are in the work dir, and whether its disk has room for more.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;

use super::SpoolError;
use crate::{
    digest::sha256_hex,
    snapshot::{PartKey, SnapshotId},
};

/// Says that a spool was kept on purpose.
pub(crate) const KEPT: &str = ".kept";

/// Folders of one snapshot, of which all but the last are kept ones. Each holds a whole export: whoever
/// keeps as many of one snapshot has a scheduler that went wrong.
pub(super) const MAX_FOLDERS: u32 = 16;

/// What is left free on the disk of the work dir: others write there too.
const MIN_FREE_BYTES: u64 = 256 << 20;

pub(super) fn dataset_dir(work_dir: &Path, dataset: &str) -> Result<PathBuf, SpoolError> {
    let dir = work_dir.join(dataset);
    create_private_dir(&dir)?;
    Ok(dir)
}

/// Parts hold what is installed where: nobody but the owner may look.
pub(super) fn create_private_dir(dir: &Path) -> Result<(), SpoolError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SpoolError::new("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(SpoolError::new("make private", dir))
}

/// The folder of a snapshot's parts, beside so many that are kept.
pub(super) fn folder(parent: &Path, snapshot: SnapshotId, num_kept: usize) -> PathBuf {
    match num_kept {
        0 => parent.join(snapshot.to_string()),
        _ => parent.join(format!("{snapshot}.{}", num_kept + 1)),
    }
}

pub(super) fn part_path(dir: &Path, key: &PartKey) -> PathBuf {
    dir.join(format!("{}.part", &sha256_hex(key)[..32]))
}

/// Whether the disk of `dir` has room for `bytes` more.
pub(super) fn check_free(dir: &Path, bytes: u64) -> Result<(), SpoolError> {
    let disk =
        rustix::fs::statvfs(dir).map_err(|err| SpoolError::new("look at the disk of", dir)(err.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes.saturating_add(MIN_FREE_BYTES) {
        let (free, bytes, reserve) = (ByteSize(free), ByteSize(bytes), ByteSize(MIN_FREE_BYTES));
        let text =
            format!("{free} are free on its disk, {bytes} are needed and {reserve} are left to others");
        let source = io::Error::new(io::ErrorKind::StorageFull, text);
        return Err(SpoolError { action: "store a part in", path: dir.to_owned(), source });
    }
    Ok(())
}
