//! Snapshot to snapshot: what changed, how numbers went, and SQL over all of it.
//!
//! Takes published snapshots, whose manifests say which files are theirs; gives tables, and never
//! writes to the lake. Polars is the engine: it takes longer to build than all the rest, and is the
//! cargo feature `history` of its own.

pub mod diff;
pub mod version_order;
mod merge;
pub mod change_filter;
mod counts;
mod devices;
mod fingerprints;
pub mod roles;
mod rows;
pub mod summary;

pub mod trend;
pub mod query;

pub mod output;
mod table_scan;
mod text;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use chrono::NaiveDate;
use polars::prelude::*;

pub use rows::SnapshotReader;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::{LakeError, PublishedSnapshot};
use crate::threads::{THREAD_HINT, ThreadError};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The lake is in a store.
    #[error("the lake's location has the scheme {scheme}; query reads local lakes alone")]
    RemoteLake {
        /// The scheme alone: the rest of the URL may hold a secret.
        scheme: String,
    },
    /// The dataset declares no roles.
    #[error("{dataset} has no history: its rows are not compared")]
    NoHistory {
        /// The table.
        dataset: &'static str,
    },
    /// Two are compared.
    #[error("the lake has {} of {dataset} to compare; a diff takes two", crate::display::count(*found, "snapshot"))]
    TooFewSnapshots {
        /// The table.
        dataset: &'static str,
        /// How many there are.
        found: u64,
    },
    /// Nothing in the range.
    #[error("the lake has no snapshot of {dataset} to look at{range}")]
    NoSnapshots {
        /// The table.
        dataset: &'static str,
        /// ` from … to …`, where that was asked.
        range: String,
    },
    /// Nothing on a date.
    #[error("the lake has no snapshot of {date}; the nearest is of {nearest}")]
    NoSnapshotOn {
        /// The date asked for.
        date: NaiveDate,
        /// A date that it has.
        nearest: NaiveDate,
    },
    /// A data file is not what the manifest says.
    #[error("cannot read data file {path}")]
    DamagedFile {
        /// As in the manifest.
        path: String,
        /// What is wrong with it.
        source: parquet::errors::ParquetError,
    },
    /// A data file lacks what every file has.
    #[error("data file {path} has no column {column}")]
    MissingColumn {
        /// As in the manifest.
        path: String,
        /// The column.
        column: String,
    },
    /// The file for the answer cannot be written.
    #[error("cannot write {}", path.display())]
    Output {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's name does not say what it is to be.
    #[error("{} ends in none of .parquet, .csv, .ndjson and .json", path.display())]
    UnknownFormat {
        /// As given.
        path: PathBuf,
    },
    /// The SQL asks for something that is not there, or is none.
    #[error("{reason}")]
    Sql {
        /// What is wrong, and what was meant.
        reason: String,
    },
    /// The query takes more than it may.
    #[error("the query takes more than the {} of --memory", ByteSize(*memory_bytes))]
    Memory {
        /// What it may take.
        memory_bytes: u64,
    },
    /// Stdout cannot be written.
    #[error("cannot write the answer")]
    Stdout(#[from] io::Error),
    /// The engine failed.
    #[error("the engine failed")]
    Engine(#[from] PolarsError),
    /// The system starts no thread.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// Stopped by a signal.
    #[error("interrupted")]
    Interrupted,
}

const VERIFY: &str = "`defender-lake verify` says what is damaged";

/// Whether a file is at fault, and no mistake of ours.
fn is_io(error: &PolarsError) -> bool {
    match error {
        PolarsError::Context { error, .. } | PolarsError::ExprContext { error, .. } => is_io(error),
        error => matches!(error, PolarsError::IO { .. }),
    }
}

impl Diagnostic for HistoryError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(_) | Self::DamagedFile { .. } | Self::MissingColumn { .. } | Self::Threads(_) => {
                ExitCode::Lake
            }
            Self::Engine(error) if is_io(error) => ExitCode::Lake,
            Self::RemoteLake { .. }
            | Self::NoHistory { .. }
            | Self::TooFewSnapshots { .. }
            | Self::NoSnapshots { .. }
            | Self::NoSnapshotOn { .. }
            | Self::Output { .. }
            | Self::UnknownFormat { .. }
            | Self::Memory { .. }
            | Self::Sql { .. } => ExitCode::Usage,
            Self::Stdout(_) | Self::Engine(_) => ExitCode::Internal,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Option<&'static str> = match self {
            Self::Lake(error) => return error.hint(),
            Self::Threads(_) => Some(THREAD_HINT),
            Self::RemoteLake { .. } => Some("ask DuckDB, or copy the lake to a disk, with `_defender`"),
            Self::TooFewSnapshots { .. } => Some("ingest again when the service has a newer export"),
            Self::NoSnapshots { .. } | Self::NoSnapshotOn { .. } => {
                Some("`defender-lake snapshots` lists them")
            }
            Self::Memory { .. } => Some(
                "give it more, or ask for fewer columns, or fewer days and platforms (WHERE snapshot_date = …)",
            ),
            Self::DamagedFile { .. } | Self::MissingColumn { .. } => Some(VERIFY),
            Self::Engine(error) if is_io(error) => Some(VERIFY),
            _ => None,
        };
        hint.map(Cow::Borrowed)
    }
}

/// The two snapshots to compare, of those published, oldest first: by default the last two; with one
/// date alone, the newest or the one before it stands in for the other.
///
/// # Errors
///
/// [`HistoryError::TooFewSnapshots`] or [`HistoryError::NoSnapshotOn`].
pub fn choose_pair(
    published: &[PublishedSnapshot],
    dataset: &'static str,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<(usize, usize), HistoryError> {
    let too_few = || HistoryError::TooFewSnapshots { dataset, found: published.len() as u64 };
    let find = |date| find_date(published, date);
    let newest = published.len().checked_sub(1).ok_or_else(too_few)?;
    let to = to.map_or(Ok(newest), find)?;
    let from = match from {
        Some(from) => find(from)?,
        None => to.checked_sub(1).ok_or_else(too_few)?,
    };
    Ok((from, to))
}

fn find_date(published: &[PublishedSnapshot], date: NaiveDate) -> Result<usize, HistoryError> {
    let distance = |index: &usize| (published[*index].id.date() - date).num_days().abs();
    let nearest = (0..published.len()).rev().min_by_key(distance);
    match nearest {
        Some(index) if published[index].id.date() == date => Ok(index),
        nearest => {
            let nearest = nearest.map_or(date, |index| published[index].id.date());
            Err(HistoryError::NoSnapshotOn { date, nearest })
        }
    }
}

/// The known name that is most like `given`, where one is at all.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this two names have little in common.
    const ALIKE: f64 = 0.6;
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}
