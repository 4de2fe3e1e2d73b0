//! Folders in the work dir, for files on their way to or from an object store.
//!
//! Takes a folder and a name, gives a folder that this process has locked. Removes those of processes that ended.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{LakeError, io_error};
use super::local;
use super::store::private_folder;

/// Creates the folder `name` in `parent`, locked for as long as the returned file is open; removes folders in `parent`
/// that no process has locked.
///
/// # Errors
///
/// Fails if the folder cannot be created or locked.
pub(crate) fn create_folder(parent: &Path, name: &str) -> Result<(PathBuf, File), LakeError> {
    private_folder(parent).map_err(io_error("create", parent))?;
    let folder = parent.join(name);
    loop {
        local::create_dir(&folder)?;
        let opened = File::open(&folder).and_then(|open| open.lock().map(|()| open));
        match opened {
            // Another run may have removed it between the two.
            Ok(open) if is_at(&open, &folder) => {
                sweep(parent);
                return Ok((folder, open));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("lock", &folder)(error)),
        }
    }
}

fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Removes the folders that no process has locked. Best effort: the next run tries again.
fn sweep(parent: &Path) {
    for name in local::list_names(parent).unwrap_or_default() {
        let folder = parent.join(name);
        if let Ok(open) = File::open(&folder)
            && open.try_lock().is_ok()
            && local::remove_tree(&folder).is_ok()
        {
            tracing::info!(folder = %folder.display(), "removed files of an earlier run");
        }
    }
}
