//! Why a lake could not be read or changed, and the suggested fix.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::store::StoreError;
use crate::delta::DeltaError;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::threads::THREAD_HINT;

/// Why the lake could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is invalid, or the environment lacks what its store needs.
    #[error("invalid lake location {location}: {reason}")]
    InvalidLocation {
        /// The location as given, without what may be secret.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An environment variable of the lake's store is invalid.
    #[error("{name}: {reason}")]
    InvalidVariable {
        /// Its name.
        name: String,
        /// What is wrong with it, without its value.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An operation on an object store failed.
    #[error("cannot {action} {}", path.display())]
    Store {
        /// What was tried, a verb.
        action: &'static str,
        /// On which object or folder.
        path: PathBuf,
        /// The error of the store.
        source: StoreError,
    },
    /// Another run took over the table lock, because this run did not renew its lease.
    #[error("another run took over the lock {}", path.display())]
    LeaseLost {
        /// The lock.
        path: PathBuf,
    },
    /// The uploads of an attempt were aborted while it sent them.
    #[error("another run aborted the uploads of {}", path.display())]
    UploadsAborted {
        /// What named them.
        path: PathBuf,
    },
    /// The store ignores the condition of a conditional write.
    #[error("the store does not support conditional writes: it accepted a second lock at {}", path.display())]
    NoConditionalWrites {
        /// The lock.
        path: PathBuf,
    },
    /// An operation on the file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A task does not find the folder of its run, which is on another disk or has ended.
    #[error("{} does not exist, the folder of the run in the lake", path.display())]
    NoRunFolder {
        /// Where it is for the run.
        path: PathBuf,
    },
    /// A manifest was not written by this program, or was changed since.
    #[error("manifest {} is damaged: {reason}", path.display())]
    DamagedManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log of a Delta table is damaged or not supported.
    #[error(transparent)]
    Delta(Box<DeltaError>),
    /// A name would lead out of its folder.
    #[error("invalid name {name:?}: expected a path within the table")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The file system does not distinguish a folder's name from another's, in any spelling.
    #[error("cannot create folder {name:?} in {}: to the file system it is the name of another folder", folder.display())]
    NameTaken {
        /// The parent folder.
        folder: PathBuf,
        /// Its name.
        name: String,
    },
    /// The wait for a lock or an upload was interrupted.
    #[error("interrupted while waiting for {}", path.display())]
    Cancelled {
        /// The lock, or the lake.
        path: PathBuf,
    },
}

impl Diagnostic for LakeError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::InvalidLocation { .. } | Self::InvalidVariable { .. } => ExitCode::Usage,
            Self::Cancelled { .. } => ExitCode::Interrupted,
            Self::Store { source, .. } if source.is_not_authorised() => ExitCode::NotAuthorised,
            _ => ExitCode::Lake,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Option<&'static str> = match self {
            Self::InvalidVariable { hint, .. } => Some(hint),
            Self::InvalidLocation { .. } => Some(
                "give --lake (or DEFENDER_LAKE) a local path, or a URL such as abfss://container@account.dfs.core.windows.net/path, s3://bucket/path or gs://bucket/path",
            ),
            Self::Io { source, .. } => io_hint(source),
            Self::Store { source, .. } => Some(source.hint()),
            Self::LeaseLost { .. } | Self::UploadsAborted { .. } => {
                Some("run again; this run did not renew its lease in time and published nothing")
            }
            Self::NoConditionalWrites { .. } => {
                Some("choose a store for --lake that supports If-None-Match and If-Match, or a local disk")
            }
            Self::NoRunFolder { .. } => Some(
                "mount the lake's disk at the same path on the driver and on every executor, or choose an object store for --lake",
            ),
            Self::DamagedManifest { .. } => Some(
                "restore the manifest, or move it and the snapshot's data folder out of the lake and ingest again",
            ),
            Self::Delta(error) => error.hint(),
            Self::NameTaken { .. } => Some("choose a --lake on a case-sensitive file system"),
            Self::UnsafeName { .. } | Self::Cancelled { .. } => None,
        };
        hint.map(Cow::Borrowed)
    }
}

impl LakeError {
    /// Whether the file or object does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_missing(source),
            Self::Store { source, .. } => source.is_missing(),
            _ => false,
        }
    }

    /// Whether the store failed transiently, so that the request may have been carried out or not.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_transient())
    }

    /// Whether the store will refuse the request again, and not for lack of permissions.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_refused())
    }

    /// The innermost reason, for messages that name the file themselves.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::Store { source, .. } => source.to_string(),
            error => error.to_string(),
        }
    }
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    let hint = match Errno::from_io_error(error) {
        Some(Errno::NOLCK) => {
            "mount the file system with locks (for NFS, without nolock), or choose another --lake"
        }
        Some(Errno::ROFS) => "mount the file system for writing, or choose another --lake",
        Some(Errno::DQUOT) => "free space or ask for a larger quota, or choose another --lake",
        Some(Errno::FBIG) => "choose a --lake on a file system that supports files of this size",
        Some(Errno::NAMETOOLONG) => "choose a --lake with a shorter path",
        Some(Errno::INVAL | Errno::ILSEQ) => {
            "choose a --lake on a file system that accepts any file name and supports locks (not FAT, exFAT or SMB)"
        }
        Some(Errno::IO | Errno::STALE | Errno::NOTCONN | Errno::TIMEDOUT | Errno::NODEV | Errno::NXIO) => {
            "check the disk or the network mount, and run again"
        }
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n), and run again",
        Some(Errno::BUSY | Errno::TXTBSY) => {
            "close programs that have the file or folder open or mounted, and run again"
        }
        Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {
            "move the existing file or folder out of the way, or choose another --lake"
        }
        _ => return io_kind_hint(error.kind()),
    };
    Some(hint)
}

fn io_kind_hint(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free space or choose another --lake")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("make the folder writable for this user or choose another --lake")
        }
        io::ErrorKind::CrossesDevices => Some(
            "keep the table's folder and _defender on one file system, without mounts or links in between",
        ),
        io::ErrorKind::WouldBlock => Some(THREAD_HINT),
        io::ErrorKind::Unsupported => {
            Some("choose a --lake on a file system that supports locks and renames")
        }
        _ => None,
    }
}

/// Wraps an error of the operating system.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    move |source| LakeError::Io { action, path: path.to_path_buf(), source }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Turns "does not exist" into nothing.
pub(super) fn optional<T>(result: Result<T, LakeError>) -> Result<Option<T>, LakeError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_depend_on_the_system_error() {
        use rustix::io::Errno;
        let check = |errno: Errno, expected: Option<&str>| {
            let error = io_error("write", Path::new("x"))(errno.into());
            let hint = error.hint();
            assert_eq!(hint.as_deref().map(|hint| hint.split(',').next().unwrap()), expected, "{errno}");
            assert_eq!(error.exit_code(), ExitCode::Lake);
        };
        check(Errno::NOLCK, Some("mount the file system with locks (for NFS"));
        check(Errno::OPNOTSUPP, Some("choose a --lake on a file system that supports locks and renames"));
        check(Errno::NOSYS, Some("choose a --lake on a file system that supports locks and renames"));
        check(Errno::ROFS, Some("mount the file system for writing"));
        check(Errno::NOSPC, Some("free space or choose another --lake"));
        check(Errno::DQUOT, Some("free space or ask for a larger quota"));
        check(Errno::NAMETOOLONG, Some("choose a --lake with a shorter path"));
        check(Errno::XDEV, Some("keep the table's folder and _defender on one file system"));
        check(Errno::IO, Some("check the disk or the network mount"));
        check(Errno::STALE, Some("check the disk or the network mount"));
        check(Errno::ACCESS, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::PERM, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::EXIST, Some("move the existing file or folder out of the way"));
        check(Errno::MFILE, Some("raise the limit of open files (ulimit -n)"));
        check(Errno::NOENT, None);
    }
}
