//! History: changes between two snapshots, key counts over time, and SQL over all snapshots.
//!
//! Takes published snapshots, whose manifests list their files; gives tables, and never writes to the lake but a cache of
//! counts.
//! SQL is Polars', which takes longer to build than everything else, so `query` is a cargo feature of its own.

pub mod roles;
pub mod change_filter;
mod value;
mod rows;

pub mod diff;
pub mod devices;
mod fingerprints;
mod row_hash;
mod touched_rows;
mod merge;
pub mod version_order;
pub mod summary;
pub mod change_batches;

pub mod trend;
pub mod counts;
mod dictionary_chunk;
mod numbers;
mod row_group_counts;
pub mod cube;

pub mod changes_over_time;
mod count_cache;

pub mod output;
mod csv;

#[cfg(feature = "query")]
pub mod query;
#[cfg(feature = "query")]
mod table_scan;
#[cfg(feature = "query")]
mod local_copies;
#[cfg(feature = "query")]
pub mod frame_output;
#[cfg(feature = "query")]
mod text;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

#[cfg(feature = "query")]
use bytesize::ByteSize;
use chrono::NaiveDate;
#[cfg(feature = "query")]
use polars::prelude::*;

pub use rows::SnapshotReader;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::{LakeError, PublishedSnapshot};
use crate::threads::{THREAD_HINT, ThreadError};

/// Errors of `diff`, `trend`, `query` and `report`.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The disk of the work dir is too full for what a query reads of a store.
    #[cfg(feature = "query")]
    #[error("the query reads {needed} of the lake, and the disk of {} has room for {free}", folder.display())]
    NoRoom {
        /// What the columns and files take.
        needed: ByteSize,
        /// What may be written.
        free: ByteSize,
        /// The work dir.
        folder: PathBuf,
    },
    /// A column is of a type that the engine is built without.
    #[cfg(feature = "query")]
    #[error("query does not support lists of structs, as in column {column}")]
    UnsupportedColumn {
        /// The column.
        column: &'static str,
    },
    /// The dataset declares no roles.
    #[error("{dataset} has no history: its rows are not compared")]
    NoHistory {
        /// The table.
        dataset: &'static str,
    },
    /// A diff compares two snapshots.
    #[error("the lake has {} of {dataset} to compare; a diff takes two", crate::display::count(*found, "snapshot"))]
    TooFewSnapshots {
        /// The table.
        dataset: &'static str,
        /// How many there are.
        found: u64,
    },
    /// The range holds no snapshot.
    #[error("the lake has no snapshot of {dataset} to look at{range}")]
    NoSnapshots {
        /// The table.
        dataset: &'static str,
        /// ` from … to …`, if a range was given.
        range: String,
    },
    /// The lake holds no snapshot of any dataset.
    #[error("the lake has no snapshots")]
    EmptyLake,
    /// The date has no snapshot.
    #[error("the lake has no snapshot of {date}; the nearest is of {nearest}")]
    NoSnapshotOn {
        /// The date asked for.
        date: NaiveDate,
        /// A date that it has.
        nearest: NaiveDate,
    },
    /// A data file cannot be read.
    #[error("cannot read data file {path}")]
    DamagedFile {
        /// As in the manifest.
        path: String,
        /// What is wrong with it.
        source: parquet::errors::ParquetError,
    },
    /// A data file lacks a column that every file has.
    #[error("data file {path} has no column {column}")]
    MissingColumn {
        /// As in the manifest.
        path: String,
        /// The column.
        column: String,
    },
    /// Counts cannot be grouped so.
    #[error("cannot group {dataset} by {given:?}: expected one of: {known}")]
    UnknownGroup {
        /// As typed.
        given: String,
        /// The table.
        dataset: &'static str,
        /// What there is to group by.
        known: String,
    },
    /// The output file cannot be written.
    #[error("cannot write {}", path.display())]
    Output {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output file's name has an unknown extension.
    #[error("unknown output format {}: expected .parquet, .csv, .ndjson or .json", path.display())]
    UnknownFormat {
        /// As given.
        path: PathBuf,
    },
    /// The SQL is invalid, or names something that does not exist.
    #[cfg(feature = "query")]
    #[error("{reason}")]
    Sql {
        /// What is wrong, and what was meant.
        reason: String,
    },
    /// The query exceeds its memory limit.
    #[cfg(feature = "query")]
    #[error("the query exceeds the {} of --memory", ByteSize(*memory_bytes))]
    Memory {
        /// What it may take.
        memory_bytes: u64,
    },
    /// Stdout cannot be written.
    #[error("cannot write to stdout")]
    Stdout(#[from] io::Error),
    /// The engine failed.
    #[cfg(feature = "query")]
    #[error("the engine failed")]
    Engine(#[from] PolarsError),
    /// A thread cannot be started.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// Interrupted by a signal.
    #[error("interrupted")]
    Interrupted,
}

const VERIFY: &str = "run verify to see what is damaged";

/// Whether reading a file failed, as opposed to a mistake of ours.
#[cfg(feature = "query")]
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
            #[cfg(feature = "query")]
            Self::Engine(error) if is_io(error) => ExitCode::Lake,
            #[cfg(feature = "query")]
            Self::NoRoom { .. } | Self::UnsupportedColumn { .. } | Self::Memory { .. } | Self::Sql { .. } => {
                ExitCode::Usage
            }
            #[cfg(feature = "query")]
            Self::Engine(_) => ExitCode::Internal,
            Self::NoHistory { .. }
            | Self::UnknownGroup { .. }
            | Self::TooFewSnapshots { .. }
            | Self::NoSnapshots { .. }
            | Self::EmptyLake
            | Self::NoSnapshotOn { .. }
            | Self::Output { .. }
            | Self::UnknownFormat { .. } => ExitCode::Usage,
            Self::Stdout(_) => ExitCode::Internal,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Option<&'static str> = match self {
            Self::Lake(error) => return error.hint(),
            Self::Threads(_) => Some(THREAD_HINT),
            #[cfg(feature = "query")]
            Self::NoRoom { .. } => Some(
                "select fewer columns, or fewer days and platforms (WHERE snapshot_date = …), or set XDG_CACHE_HOME to a folder of a larger disk",
            ),
            #[cfg(feature = "query")]
            Self::UnsupportedColumn { .. } => Some(
                "query the table with DuckDB, by the view that `defender-lake schema --format duckdb` prints",
            ),
            Self::TooFewSnapshots { .. } => Some("run ingest again when the service has a newer export"),
            Self::EmptyLake => Some("run ingest first, or name another lake with --lake"),
            Self::NoSnapshots { .. } | Self::NoSnapshotOn { .. } => Some("run snapshots to list them"),
            #[cfg(feature = "query")]
            Self::Memory { .. } => Some(
                "raise --memory, or select fewer columns, or fewer days and platforms (WHERE snapshot_date = …)",
            ),
            Self::DamagedFile { .. } | Self::MissingColumn { .. } => Some(VERIFY),
            #[cfg(feature = "query")]
            Self::Engine(error) if is_io(error) => Some(VERIFY),
            _ => None,
        };
        hint.map(Cow::Borrowed)
    }
}

/// Returns the positions of the two snapshots to compare; `published` is oldest first. Defaults to the last
/// two; `from` defaults to the one before `to`.
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

/// Returns the known name that is most like `given`, if any is similar.
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
