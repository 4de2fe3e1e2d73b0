//! Removes what killed runs left behind. Locks distinguish it from what is in use.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::SpoolError;
use super::work_dir::{KEPT, MAX_FOLDERS, folder};
use crate::snapshot::SnapshotId;

/// Removes what killed runs left of snapshots before `current`. Best effort: the next run tries again.
pub(super) fn sweep(parent: &Path, current: SnapshotId) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let mut removed = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("incoming-") {
            let is_held = fs::File::open(&path).is_ok_and(|file| file.try_lock().is_err());
            removed += u32::from(!is_held && fs::remove_file(&path).is_ok());
        } else if let Some((snapshot, kind)) = parse(name)
            && snapshot < current
        {
            // If both exist, the lock file is removed with the folder.
            if path.join(KEPT).exists() || (kind == LeftoverKind::Lock && has_folder(parent, snapshot)) {
                continue;
            }
            // Held until both are removed, so that no run starts to use them meanwhile.
            let lock_path = parent.join(format!("{snapshot}.lock"));
            let Ok(Some(_lock)) = try_lock(&lock_path) else { continue };
            let is_gone = kind == LeftoverKind::Lock || fs::remove_dir_all(&path).is_ok();
            let is_unlocked = has_folder(parent, snapshot) || fs::remove_file(&lock_path).is_ok();
            removed += u32::from(is_gone && is_unlocked);
        }
    }
    if removed > 0 {
        tracing::info!(removed, "removed what earlier runs left in the work dir");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeftoverKind {
    Folder,
    Lock,
}

/// Parses `20210111T110100Z`, `20210111T110100Z.2` and `20210111T110100Z.lock`.
fn parse(name: &str) -> Option<(SnapshotId, LeftoverKind)> {
    let (snapshot, ending) = name.split_once('.').unwrap_or((name, "1"));
    let kind = match ending {
        "lock" => LeftoverKind::Lock,
        number if number.parse::<u32>().is_ok() => LeftoverKind::Folder,
        _ => return None,
    };
    Some((SnapshotId::parse(snapshot)?, kind))
}

fn has_folder(parent: &Path, snapshot: SnapshotId) -> bool {
    (0..MAX_FOLDERS as usize).any(|num_kept| folder(parent, snapshot, num_kept).exists())
}

/// Locks the file at `path`, created if missing. Returns `None` while another run holds it, or if the locked file
/// is no longer the one at `path` because its run removed it.
pub(super) fn try_lock(path: &Path) -> Result<Option<fs::File>, SpoolError> {
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(SpoolError::new("open", path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(err)) => return Err(SpoolError::new("lock", path)(err)),
    }
    let locked = lock.metadata().map_err(SpoolError::new("read", path))?;
    let is_current =
        fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
    Ok(is_current.then_some(lock))
}
