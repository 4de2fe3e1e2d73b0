//! Why files on this machine cannot be ingested.

use std::{
    borrow::Cow,
    fs::Metadata,
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::display::time_text;
use crate::exit_code::{Diagnostic, ExitCode};

/// Why local files cannot be ingested.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing is there.
    #[error("{pattern}: no files match")]
    NoMatch {
        /// As given.
        pattern: String,
    },
    /// Everything that matched was ignored.
    #[error(
        "{pattern}: no parts found: {num_ignored} {} ignored, such as {}",
        if *num_ignored == 1 { "name" } else { "names" }, example.display()
    )]
    AllIgnored {
        /// As given.
        pattern: String,
        /// Number of names.
        num_ignored: usize,
        /// One of them.
        example: PathBuf,
    },
    /// Neither a regular file nor a pipe.
    #[error("{} is not a regular file but {kind}", path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
        /// Kind of file.
        kind: &'static str,
    },
    /// A pipe, where a file is read as often as wanted.
    #[error("{} is a pipe, which can be read only once", path.display())]
    Pipe {
        /// Which.
        path: PathBuf,
    },
    /// The spool of an unfinished run.
    #[error("{} is an unfinished download", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Two files that are the same part.
    #[error("{} and {} are the same part in two spellings", first.display(), second.display())]
    OnePartTwice {
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// Not a glob.
    #[error("{pattern}: invalid pattern")]
    BadPattern {
        /// As given.
        pattern: String,
        /// The error of the glob library.
        source: glob::PatternError,
    },
    /// A part name has to be UTF-8, since the manifest is JSON.
    #[error("{}: the path is not utf-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// The generated time is unknown.
    #[error("{}: unknown generated time: no `YYYY-MM-DD/HHMM` folder in the path", path.display())]
    NoTime {
        /// The first such file.
        path: PathBuf,
    },
    /// Parts of two snapshots.
    #[error(
        "parts of two snapshots: {} is of {}, {} of {}",
        first.display(), time_text(first_time), second.display(), time_text(second_time)
    )]
    TwoSnapshots {
        /// A file of one snapshot.
        first: PathBuf,
        /// Its time.
        first_time: DateTime<Utc>,
        /// A file of the other snapshot.
        second: PathBuf,
        /// Its time.
        second_time: DateTime<Utc>,
    },
    /// A file that the driver found and a task cannot read.
    #[error("an executor cannot read {}", path.display())]
    NotOnExecutor {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file that is no longer the one that the driver found.
    #[error("{} was changed while it was ingested", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl Diagnostic for LocalError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } | Self::NotOnExecutor { .. } | Self::Changed { .. } => ExitCode::Source,
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoTime { .. } => Some("pass --generated-time, as 2021-01-11T11:01:00Z".into()),
            Self::TwoSnapshots { .. } => Some("ingest one snapshot at a time".into()),
            Self::NoMatch { .. } => {
                Some("check the path; quote globs so that the shell does not expand them".into())
            }
            Self::BadPattern { .. } => Some("pass a path, or a glob of `*`, `?`, `**` and `[…]`".into()),
            Self::AllIgnored { .. } => {
                Some("name a file itself to ingest it: names that begin with `_` or `.` are ignored".into())
            }
            Self::Pipe { .. } => Some("write it to a file first".into()),
            Self::NotRegular { kind: PIPE, .. } => {
                Some("pass the pipe itself, or exclude it with a glob".into())
            }
            Self::NotRegular { .. } => Some("pass files, folders or pipes".into()),
            Self::Unfinished { .. } => {
                Some("let the run that downloads it finish, or name the finished files".into())
            }
            Self::OnePartTwice { .. } => Some("remove one of them, or pass only the other".into()),
            Self::NotUtf8 { .. } => Some("rename it".into()),
            Self::NotOnExecutor { .. } => {
                Some("put the parts where every executor can read them, or run on the driver".into())
            }
            Self::Changed { .. } => Some("run again once its writer has finished".into()),
            Self::Unreadable { .. } => Some("make it readable, or exclude it".into()),
        }
    }
}

/// Kind of a pipe in [`LocalError::NotRegular`].
const PIPE: &str = "a pipe";

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    move |source| LocalError::Unreadable { path: path.to_owned(), source }
}

/// Returns the error for a path that is neither a regular file nor a pipe.
pub(super) fn not_regular(path: &Path, metadata: &Metadata) -> LocalError {
    LocalError::NotRegular { path: path.to_owned(), kind: kind_of(metadata) }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let file_type = metadata.file_type();
    if file_type.is_fifo() {
        PIPE
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_block_device() {
        "a block device"
    } else if file_type.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}
