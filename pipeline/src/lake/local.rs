//! A lake on a local disk: file operations, and the table lock.
//!
//! Everything that changes the disk goes through [`change`], which tests let fail at any chosen change.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

pub(crate) use super::error::io_error;
use super::error::{LakeError, is_missing, optional};
use super::ignored_files::is_ignored_folder;
use super::paths::{SNAPSHOTS_FOLDER, STAGING_FOLDER};

/// How often a waiting run tries the lock and checks whether it was cancelled.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How often another run may remove the lock's folder between creating it and opening the lock. If it happens more
/// often, the file system does not keep the folder.
const MAX_LOCK_RACES: u32 = 100;

/// How often, and how long between, a run tries to be the only one that creates or removes folders of the lake. Others
/// take far less than this altogether; a program that locks the folder for longer is not waited for.
const MAX_FOLDER_TRIES: u32 = 50;
const FOLDER_POLL: Duration = Duration::from_millis(1);

/// How often a folder that gets new entries while it is emptied is emptied again. Its writer fails as soon as it needs a
/// folder that is gone.
const MAX_REMOVE_TRIES: u32 = 10;

/// The lock of one table, and what dropping it must remove.
#[derive(Debug)]
pub(super) struct LocalLock {
    /// See [`super::Table`]'s `own_root`.
    own_root: PathBuf,
    /// Folders that this run created, outermost first.
    pub(super) created: Vec<PathBuf>,
    file: Option<File>,
}

impl LocalLock {
    /// Acquires the lock in `own_root`, waiting while another process holds it.
    pub(super) fn take(
        own_root: PathBuf,
        on_wait: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, LakeError> {
        let path = own_root.join("lock");
        let mut lock = Self { own_root, created: Vec::new(), file: None };
        let mut on_wait = Some(on_wait);
        let mut races = 0;
        // The holder unlinks the lock file and its empty folders when it ends. The lock is held only if the path
        // still leads to the locked file; otherwise folders and file are created again.
        loop {
            let folders = lock.lock_folders();
            let file = lock.make_folders().and_then(|()| open_lock(&path));
            drop(folders);
            let file = match file {
                Ok(file) => file,
                Err(LakeError::Io { source, .. }) if is_missing(&source) && races < MAX_LOCK_RACES => {
                    races += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
                    Err(TryLockError::WouldBlock) => {}
                }
                if cancelled() {
                    return Err(LakeError::Cancelled { path });
                }
                if let Some(on_wait) = on_wait.take() {
                    on_wait();
                }
                std::thread::sleep(LOCK_POLL);
            }
            if is_same_file(&file, &path)? {
                lock.file = Some(file);
                return Ok(lock);
            }
        }
    }

    /// Locks the folder that holds the lake, for as long as the returned file is open. Without it a run that ends could
    /// find that another has just created a folder in one of those that it is removing, and leave it behind. Best
    /// effort: `None` if the folder does not exist, cannot be locked, or another program holds it.
    fn lock_folders(&self) -> Option<File> {
        let root = parent(parent(&self.own_root));
        let folder = File::open(parent(root)).ok()?;
        for _ in 0..MAX_FOLDER_TRIES {
            match folder.try_lock() {
                Ok(()) => return Some(folder),
                Err(TryLockError::WouldBlock) => std::thread::sleep(FOLDER_POLL),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }

    fn make_folders(&mut self) -> Result<(), LakeError> {
        let mut missing = Vec::new();
        for folder in self.own_root.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            if fs::metadata(folder).is_ok() {
                break;
            }
            missing.push(folder.to_path_buf());
        }
        for folder in missing.into_iter().rev() {
            if create_dir(&folder)? && !self.created.contains(&folder) {
                self.created.push(folder);
            }
        }
        Ok(())
    }
}

impl Drop for LocalLock {
    fn drop(&mut self) {
        // Best effort: an error is ignored. What remains is empty, and the next run removes it.
        let _folders = self.lock_folders();
        let own_root = &self.own_root;
        if self.file.is_some() {
            let _ = remove_empty_dir(&own_root.join(STAGING_FOLDER));
            let _ = remove_empty_dir(&own_root.join(SNAPSHOTS_FOLDER));
            let _ = change("remove", own_root, || fs::remove_file(own_root.join("lock")));
            let _ = remove_empty_dir(own_root);
            let _ = remove_empty_dir(parent(own_root));
        }
        for folder in self.created.iter().rev() {
            let _ = remove_empty_dir(folder);
        }
    }
}

fn open_lock(path: &Path) -> Result<File, LakeError> {
    change("create", path, || OpenOptions::new().create(true).truncate(false).write(true).open(path))
}

/// Whether `path` still leads to the open file.
pub(super) fn is_same_file(file: &File, path: &Path) -> Result<bool, LakeError> {
    let open = file.metadata().map_err(io_error("read", path))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Carries out one change of the disk. Tests choose changes that fail.
pub(crate) fn change<T>(
    action: &'static str,
    path: &Path,
    operation: impl FnOnce() -> io::Result<T>,
) -> Result<T, LakeError> {
    #[cfg(test)]
    faults::point().map_err(io_error(action, path))?;
    operation().map_err(io_error(action, path))
}

/// Returns the parent folder of `path`, which is the current folder for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether anything exists at `path`, a broken link included.
pub(crate) fn exists(path: &Path) -> Result<bool, LakeError> {
    Ok(optional(fs::symlink_metadata(path).map_err(io_error("read", path)))?.is_some())
}

/// Whether `path` is a folder and not a link to one.
pub(crate) fn is_folder(path: &Path) -> Result<bool, LakeError> {
    let metadata = optional(fs::symlink_metadata(path).map_err(io_error("read", path)))?;
    Ok(metadata.is_some_and(|metadata| metadata.is_dir()))
}

/// Lists the names in a folder, sorted; none if it does not exist.
pub(crate) fn list_names(folder: &Path) -> Result<Vec<String>, LakeError> {
    let Some(entries) = optional(fs::read_dir(folder).map_err(io_error("list", folder)))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Lists everything below a folder that is not a folder itself: path from there → size in bytes. Links are not
/// followed. Nothing if the folder does not exist.
pub(crate) fn list_files(folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
    let mut files = BTreeMap::new();
    let mut todo = vec![(folder.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            // Readers cannot list it either: `lost+found` belongs to root.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_ignored_below(&prefix) => {
                continue;
            }
            entries => optional(entries.map_err(io_error("list", &folder)))?,
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(io_error("list", &folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().map_err(io_error("read", &entry.path()));
            match optional(metadata)? {
                Some(metadata) if metadata.is_dir() => todo.push((entry.path(), format!("{name}/"))),
                Some(metadata) => drop(files.insert(name, metadata.len())),
                None => {}
            }
        }
    }
    Ok(files)
}

/// Whether a folder is ignored, or below one that is.
fn is_ignored_below(prefix: &str) -> bool {
    prefix.split('/').any(|name| !name.is_empty() && is_ignored_folder(name))
}

/// Reads a small file whole; returns nothing if it does not exist.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, LakeError> {
    let Some(file) = optional(open_file(path))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(io_error("read", path)(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(Some(bytes))
}

/// Opens a regular file for reading. Opening anything else, such as a pipe, could block.
pub(crate) fn open_file(path: &Path) -> Result<File, LakeError> {
    let open = || {
        if fs::symlink_metadata(path)?.is_file() {
            File::open(path)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    };
    open().map_err(io_error("open", path))
}

/// Creates a folder; returns whether it was missing.
pub(crate) fn create_dir(path: &Path) -> Result<bool, LakeError> {
    change("create", path, || match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    })
}

/// Creates a file for writing; fails if it exists.
pub(crate) fn create_file(path: &Path) -> Result<File, LakeError> {
    change("create", path, || OpenOptions::new().write(true).create_new(true).open(path))
}

/// Writes and syncs a new file.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), LakeError> {
    let mut file = create_file(path)?;
    change("write", path, || file.write_all(bytes))?;
    sync_file(&file, path)
}

/// Syncs a file.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), LakeError> {
    change("sync", path, || file.sync_all())
}

/// Syncs a folder's entries, if the file system can.
pub(crate) fn sync_dir(path: &Path) -> Result<(), LakeError> {
    change("sync", path, || match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    })
}

/// Renames within the lake. Fails if that would replace a folder that is not empty.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LakeError> {
    change("move to", to, || fs::rename(from, to))
}

/// Exchanges two entries atomically; returns whether the file system can.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<bool, LakeError> {
    use rustix::io::Errno;
    change("exchange", other, || {
        #[cfg(test)]
        if faults::no_exchange() {
            return Ok(false);
        }
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
}

/// Removes a file if it exists.
pub(crate) fn remove_file(path: &Path) -> Result<(), LakeError> {
    optional(change("remove", path, || fs::remove_file(path))).map(|_| ())
}

/// Removes a folder if it exists and is empty. Leaves links.
pub(crate) fn remove_empty_dir(path: &Path) -> Result<(), LakeError> {
    change("remove", path, || match fs::remove_dir(path) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    })
}

/// Removes a file, or a folder with everything in it, if it exists. Links are not followed. A task that has outlived
/// its run may write into the folder, or remove it, at the same time.
pub(crate) fn remove_tree(path: &Path) -> Result<(), LakeError> {
    if !is_folder(path)? {
        return remove_file(path);
    }
    let mut num_tries = 0;
    loop {
        num_tries += 1;
        let entries = optional(fs::read_dir(path).map_err(io_error("list", path)))?;
        for entry in entries.into_iter().flatten() {
            remove_tree(&entry.map_err(io_error("list", path))?.path())?;
        }
        match optional(change("remove", path, || fs::remove_dir(path))) {
            Err(LakeError::Io { source, .. })
                if source.kind() == io::ErrorKind::DirectoryNotEmpty && num_tries < MAX_REMOVE_TRIES => {}
            removed => return removed.map(|_| ()),
        }
    }
}

/// Faults for tests: chosen changes of the disk fail.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::Cell;
    use std::io;

    /// Which changes fail, counted from zero since [`set`].
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Fault {
        /// This one.
        pub once: u32,
        /// This one and all later ones, as after a crash: not even the cleanup of a `drop` is carried out.
        pub for_good: u32,
    }

    impl Fault {
        pub(crate) const NONE: Fault = Fault { once: u32::MAX, for_good: u32::MAX };

        /// A crash at a change, or that change's failure.
        pub(crate) fn at(change: u32, is_crash: bool) -> Fault {
            if is_crash {
                Fault { for_good: change, ..Fault::NONE }
            } else {
                Fault { once: change, ..Fault::NONE }
            }
        }
    }

    thread_local! {
        static FAULT: Cell<Fault> = const { Cell::new(Fault::NONE) };
        static COUNT: Cell<u32> = const { Cell::new(0) };
        static NO_EXCHANGE: Cell<bool> = const { Cell::new(false) };
    }

    /// Sets the faults of this thread.
    pub(crate) fn set(fault: Fault) {
        FAULT.set(fault);
        COUNT.set(0);
    }

    /// Ends them, and returns the number of changes since they were set.
    pub(crate) fn clear() -> u32 {
        FAULT.set(Fault::NONE);
        COUNT.get()
    }

    pub(crate) fn set_no_exchange(no_exchange: bool) {
        NO_EXCHANGE.set(no_exchange);
    }

    pub(crate) fn no_exchange() -> bool {
        NO_EXCHANGE.get()
    }

    pub(crate) fn point() -> io::Result<()> {
        let count = COUNT.get();
        COUNT.set(count + 1);
        let fault = FAULT.get();
        if count == fault.once || count >= fault.for_good {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    }
}
