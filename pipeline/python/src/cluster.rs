//! An ingest on a cluster that Python carries, such as a Spark session: gives it assignments as bytes, takes what its tasks
//! return. On an executor, runs one task. Decides nothing, and releases the GIL while work is done.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pipeline::cli;
use pipeline::http::secret::quotable;
use pipeline::ingest::cluster::{Cluster, ClusterError, TaskCount, run_task};
use pipeline::threads::ThreadError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::calls::{install_panic_hook, interruptible, returned};
use crate::options::options_of;

/// The interval at which a job is asked whether it is still wanted.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);

/// Ingests as `ingest` does, with the parts read and written by the tasks of `cluster`, an object with three methods:
/// `task_count()` returns how many tasks a job has, or None, and the number of cores; `run(assignments)` takes a list of bytes,
/// has `write_portion` called with each on an executor, and returns a list of what that returned, in any order; `cancel()`
/// ends it early. `arguments` are options as on the command line, beside those by name.
#[pyfunction]
#[pyo3(signature = (cluster, arguments, **options))]
pub(crate) fn ingest_on<'py>(
    py: Python<'py>,
    cluster: Py<PyAny>,
    mut arguments: Vec<OsString>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(options) = options {
        arguments.extend(options_of(options)?);
    }
    let cluster = Arc::new(PythonCluster { cluster, failure: Mutex::default() });
    let used = Arc::clone(&cluster);
    let call = interruptible(py, move |cancel| cli::ingest(arguments, Some(&*used), cancel))?;
    returned(py, call).inspect_err(|error| {
        let cause = cluster.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.set_cause(py, cause);
    })
}

/// Runs a command line as `run` does, with an `ingest` on a cluster as `ingest_on` takes one.
#[pyfunction]
pub(crate) fn run_on(py: Python<'_>, cluster: Py<PyAny>, args: Vec<OsString>) -> u8 {
    let cluster = PythonCluster { cluster, failure: Mutex::default() };
    py.detach(|| cli::run_on(Some(&cluster), args) as u8)
}

/// Runs one task of an ingest on a cluster: takes an assignment, returns what the driver is to get. Raises nothing.
#[pyfunction]
pub(crate) fn write_portion<'py>(py: Python<'py>, assignment: &[u8]) -> Bound<'py, PyBytes> {
    install_panic_hook();
    let report = py.detach(|| run_task(assignment));
    PyBytes::new(py, &report)
}

/// A cluster behind a Python object.
struct PythonCluster {
    cluster: Py<PyAny>,
    /// The exception of the job that failed.
    failure: Mutex<Option<PyErr>>,
}

impl PythonCluster {
    fn call<T: Send>(&self, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> Result<T, ClusterError> {
        Python::attach(|py| {
            call(self.cluster.bind(py)).map_err(|error| {
                let name = error.get_type(py).name().map(|name| name.to_string()).unwrap_or_default();
                let reason = format!("{name}: {}", reason_of(&error.value(py).to_string()));
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                ClusterError { reason }
            })
        })
    }
}

/// Returns the line of an exception's text that says what happened: bounded, and without what looks like a signature or a
/// token. That of a call into Java begins with one that only names the call.
fn reason_of(text: &str) -> String {
    let says_what = |line: &&str| line.contains("Exception") || line.contains("Error");
    quotable(text.lines().find(says_what).unwrap_or(text))
}

impl Cluster for PythonCluster {
    fn task_count(&self) -> Result<TaskCount, ClusterError> {
        let (num_tasks, num_cores): (Option<usize>, usize) =
            self.call(|cluster| cluster.call_method0("task_count")?.extract())?;
        let at_least_one = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Ok(match num_tasks {
            Some(num_tasks) => TaskCount::Exactly(at_least_one(num_tasks)),
            None => TaskCount::ByCores(at_least_one(num_cores)),
        })
    }

    fn run(
        &self,
        assignments: Vec<Vec<u8>>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, ClusterError> {
        thread::scope(|scope| {
            let run = || {
                self.call(|cluster| {
                    let py = cluster.py();
                    let assignments = assignments.iter().map(|assignment| PyBytes::new(py, assignment));
                    cluster.call_method1("run", (PyList::new(py, assignments)?,))?.extract()
                })
            };
            let job = thread::Builder::new().name("job".to_owned()).spawn_scoped(scope, run);
            let job =
                job.map_err(|error| ClusterError { reason: ThreadError::new("the job", error).to_string() })?;
            let mut is_cancelled = false;
            while !job.is_finished() {
                thread::sleep(CANCEL_INTERVAL);
                if !is_cancelled && cancelled() {
                    is_cancelled = true;
                    // Best effort: else the job goes on to its end, and its tasks' files are removed then.
                    let _ = self.call(|cluster| cluster.call_method0("cancel").map(drop));
                }
            }
            job.join().unwrap_or_else(|_| Err(ClusterError { reason: "its thread panicked".to_owned() }))
        })
    }
}
