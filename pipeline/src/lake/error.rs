//! Why a lake could not be read or changed, and what can be done about it.

use std::io;
use std::path::{Path, PathBuf};

use super::store::StoreError;
use crate::delta::DeltaError;
use crate::exit_code::ExitCode;
use crate::threads::THREAD_HINT;

/// Why the lake could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is no place that a lake can be in, or the environment cannot lead there.
    #[error("invalid lake location {location}: {reason}")]
    BadLocation {
        /// As given, without what may be secret.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment cannot be used for the lake.
    #[error("{name} {reason}")]
    BadVariable {
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
        /// What the store said.
        source: StoreError,
    },
    /// Another run took the table over from this one.
    #[error("another run has taken {} over", path.display())]
    LeaseLost {
        /// The lock.
        path: PathBuf,
    },
    /// The store accepts a second object of one name where it was told not to.
    #[error("the store has no conditional writes: it accepted a second lock at {}", path.display())]
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
        /// What the system said.
        source: io::Error,
    },
    /// A manifest is not one that we wrote.
    #[error("manifest {} is damaged: {reason}", path.display())]
    DamagedManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The log of a Delta table stands in the way.
    #[error(transparent)]
    Delta(Box<DeltaError>),
    /// A name would leave the folder that it belongs to.
    #[error("{name:?} is not a name below the table")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// The file system takes a folder's name and another's for one, and no other spelling is left.
    #[error("the file system takes {name:?} in {} for the name of another folder", folder.display())]
    NameTaken {
        /// Where the folder was to be made.
        folder: PathBuf,
        /// Its name.
        name: String,
    },
    /// The wait for the lock was interrupted.
    #[error("interrupted while another run holds {}", path.display())]
    Cancelled {
        /// The lock.
        path: PathBuf,
    },
}

impl LakeError {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadVariable { hint, .. } => Some(hint),
            Self::BadLocation { .. } => Some(
                "give --lake (or DEFENDER_LAKE) a local path, or a URL such as abfss://container@account.dfs.core.windows.net/path, s3://bucket/path or gs://bucket/path",
            ),
            Self::Io { source, .. } => io_hint(source),
            Self::Store { source, .. } => Some(source.hint()),
            Self::LeaseLost { .. } => {
                Some("run again: this one stood still for too long, and published nothing")
            }
            Self::NoConditionalWrites { .. } => {
                Some("choose a store for --lake that honours If-None-Match and If-Match, or a local disk")
            }
            Self::DamagedManifest { .. } => Some(
                "restore the manifest, or move it and the snapshot's data folder out of the lake and ingest again",
            ),
            Self::Delta(error) => error.hint(),
            Self::NameTaken { .. } => {
                Some("choose a --lake on a file system that tells upper case from lower case")
            }
            Self::UnsafeName { .. } | Self::Cancelled { .. } => None,
        }
    }
}

impl LakeError {
    /// Whether what was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_missing(source),
            Self::Store { source, .. } => source.is_missing(),
            _ => false,
        }
    }

    /// Whether a store failed for now, so that what was asked may be done or not.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_transient())
    }

    /// Whether a store will say the same again, and not for want of rights.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.is_refused())
    }

    /// The innermost reason; the file is named anyway.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::Store { source, .. } => source.to_string(),
            error => error.to_string(),
        }
    }

    /// How the program ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadLocation { .. } | Self::BadVariable { .. } => ExitCode::Usage,
            Self::Cancelled { .. } => ExitCode::Interrupted,
            Self::Store { source, .. } if source.is_not_authorised() => ExitCode::NotAuthorised,
            _ => ExitCode::Lake,
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
        Some(Errno::FBIG) => "choose a --lake on a file system that takes files of this size",
        Some(Errno::NAMETOOLONG) => "choose a --lake with a shorter path",
        Some(Errno::INVAL | Errno::ILSEQ) => {
            "choose a --lake on a file system that takes any name and has locks (not FAT, exFAT or SMB)"
        }
        Some(Errno::IO | Errno::STALE | Errno::NOTCONN | Errno::TIMEDOUT | Errno::NODEV | Errno::NXIO) => {
            "check the disk or the network mount, and run again"
        }
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n), and run again",
        Some(Errno::BUSY | Errno::TXTBSY) => {
            "close what has the file or folder open or mounted, and run again"
        }
        Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {
            "move what is there out of the way, or choose another --lake"
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
        io::ErrorKind::Unsupported => Some("choose a --lake on a file system with locks and renames"),
        _ => None,
    }
}

/// Wraps what the system said.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LakeError {
    move |source| LakeError::Io { action, path: path.to_path_buf(), source }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Turns "not there" into nothing.
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
    fn hints_go_by_what_the_system_said() {
        use rustix::io::Errno;
        let check = |errno: Errno, expected: Option<&str>| {
            let error = io_error("write", Path::new("x"))(errno.into());
            assert_eq!(error.hint().map(|hint| hint.split(',').next().unwrap()), expected, "{errno}");
            assert_eq!(error.exit_code(), ExitCode::Lake);
        };
        check(Errno::NOLCK, Some("mount the file system with locks (for NFS"));
        check(Errno::OPNOTSUPP, Some("choose a --lake on a file system with locks and renames"));
        check(Errno::NOSYS, Some("choose a --lake on a file system with locks and renames"));
        check(Errno::ROFS, Some("mount the file system for writing"));
        check(Errno::NOSPC, Some("free space or choose another --lake"));
        check(Errno::DQUOT, Some("free space or ask for a larger quota"));
        check(Errno::NAMETOOLONG, Some("choose a --lake with a shorter path"));
        check(Errno::XDEV, Some("keep the table's folder and _defender on one file system"));
        check(Errno::IO, Some("check the disk or the network mount"));
        check(Errno::STALE, Some("check the disk or the network mount"));
        check(Errno::ACCESS, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::PERM, Some("make the folder writable for this user or choose another --lake"));
        check(Errno::EXIST, Some("move what is there out of the way"));
        check(Errno::MFILE, Some("raise the limit of open files (ulimit -n)"));
        check(Errno::NOENT, None);
    }
}
