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

/// Why files are no export.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing is there.
    #[error("--from {pattern}: no files match")]
    NoMatch {
        /// As given.
        pattern: String,
    },
    /// Everything that is there was passed over.
    #[error(
        "--from {pattern}: no parts there: {num_passed_over} {} passed over, such as {}",
        if *num_passed_over == 1 { "name was" } else { "names were" }, example.display()
    )]
    AllPassedOver {
        /// As given.
        pattern: String,
        /// How many names.
        num_passed_over: usize,
        /// One of them.
        example: PathBuf,
    },
    /// Neither a file nor something that can be read once.
    #[error("{} is not a regular file but {kind}", path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A spool of a run that did not get to its end.
    #[error("{} is a download that is not finished", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Two files whose names are one part's.
    #[error("{} and {} are one part in two spellings", first.display(), second.display())]
    OnePartTwice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Not a glob.
    #[error("--from {pattern}: no valid pattern")]
    BadPattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        source: glob::PatternError,
    },
    /// A part's name goes into JSON, which is text.
    #[error("{}: the path is not utf-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// No time to publish under.
    #[error("{}: no `YYYY-MM-DD/HHMM` folder in the path says when the export was generated", path.display())]
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
        /// A file of the one.
        first: PathBuf,
        /// Its time.
        first_time: DateTime<Utc>,
        /// A file of the other.
        second: PathBuf,
        /// Its time.
        second_time: DateTime<Utc>,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Diagnostic for LocalError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } => ExitCode::Source,
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoTime { .. } => Some("pass --generated-time, as 2021-01-11T11:01:00Z".into()),
            Self::TwoSnapshots { .. } => Some("ingest one snapshot at a time".into()),
            Self::NoMatch { .. } => {
                Some("check the path; quote a glob, so that the shell leaves it alone".into())
            }
            Self::BadPattern { .. } => Some("give a path, or a glob of `*`, `?`, `**` and `[…]`".into()),
            Self::AllPassedOver { .. } => Some(
                "names that begin with `_` or `.` are not taken for parts; name a file itself to take it"
                    .into(),
            ),
            Self::NotRegular { kind: PIPE, .. } => {
                Some("pass the pipe itself to read it once, or leave it out with a glob".into())
            }
            Self::NotRegular { .. } => Some("pass files, folders, or a pipe that something writes to".into()),
            Self::Unfinished { .. } => {
                Some("let the run that downloads it get to its end, or name the finished files".into())
            }
            Self::OnePartTwice { .. } => Some("remove one of them, or pass only the other".into()),
            Self::NotUtf8 { .. } => Some("rename it".into()),
            Self::Unreadable { .. } => Some("make it readable, or leave it out".into()),
        }
    }
}

/// How [`LocalError::NotRegular`] calls a pipe.
const PIPE: &str = "a pipe";

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    move |source| LocalError::Unreadable { path: path.to_owned(), source }
}

/// Returns the error for what is neither a file nor can be read like one.
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
