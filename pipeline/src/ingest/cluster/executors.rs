//! What carries the tasks of a run, such as a Spark session.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use crate::exit_code::{Diagnostic, ExitCode};

/// A cluster that runs tasks.
pub trait Cluster {
    /// Returns how many tasks a job is divided into.
    ///
    /// # Errors
    ///
    /// The cluster does not answer.
    fn task_count(&self) -> Result<TaskCount, ClusterError>;

    /// Runs one job: [`run_task`](super::run_task) with each of the assignments, in a task of its own, as often as it takes.
    /// Returns what one attempt at each returned, in any order. Assignments are secret. Once `cancelled` returns true, the job
    /// is not wanted any more.
    ///
    /// # Errors
    ///
    /// The job failed. Attempts may still be running.
    fn run(
        &self,
        assignments: Vec<Vec<u8>>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, ClusterError>;
}

/// How many tasks a job is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskCount {
    /// As many, if there are as many parts.
    Exactly(NonZeroUsize),
    /// As the size of the parts needs, on this many cores.
    ByCores(NonZeroUsize),
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job on the cluster failed: {reason}")]
pub struct ClusterError {
    /// What the cluster said, in one line.
    pub reason: String,
}

impl Diagnostic for ClusterError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Internal
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("look into the logs of the cluster's executors, then run again".into())
    }
}
