//! How each dataset of a run ended, and what that makes of the run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schema::Dataset;

use super::error::IngestError;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::progress::Progress;
use crate::report::RunReport;

/// What a run tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum RunEvent<'r> {
    /// A dataset begins.
    Begins {
        /// Which one of how many.
        position: Position,
        /// Its counters.
        progress: &'r Arc<Progress>,
    },
    /// A dataset has ended.
    Ends(&'r TakenDataset),
}

/// Which dataset of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Table name.
    pub dataset: &'static str,
    /// Its number, from 1.
    pub number: usize,
    /// Datasets that the run takes.
    pub num_datasets: usize,
}

/// `2 of 9  software_vulnerabilities`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}  {}", self.number, self.num_datasets, self.dataset)
    }
}

/// A dataset that a run has taken.
#[derive(Debug)]
pub struct TakenDataset {
    /// The dataset.
    pub dataset: &'static Dataset,
    /// How it ended.
    pub result: Result<RunReport, IngestError>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Returns the exit code of a run: that of the interruption, else of the first dataset that failed.
pub fn exit_code(taken: &[TakenDataset]) -> ExitCode {
    let failures = || taken.iter().filter_map(|taken| taken.result.as_ref().err().map(Diagnostic::exit_code));
    let interrupted = failures().find(|code| *code == ExitCode::Interrupted);
    interrupted.or_else(|| failures().next()).unwrap_or(ExitCode::Success)
}
