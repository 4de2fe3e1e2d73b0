//! The calls that are commands too: gives each to a thread, waits for it without the GIL, and ends it with Ctrl-C.

use std::ffi::OsString;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pipeline::cancel::Cancel;
use pipeline::cli::{self, CommandError, IngestCall};
use pipeline::panics;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::{as_python, raised};
use crate::logging::CallLog;
use crate::options::{options_of, text_of};

/// The interval at which a call looks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Ingests exports and publishes each as a snapshot: `defender-lake ingest` as a call.
///
/// Options have their flags' names: `from_` for `--from`, `max_rejects="1%"` for `--max-rejects 1%`, `True` for a flag without a
/// value, a list for one that repeats. The environment and `config` count as on the command line.
///
/// Returns the run report as `--json` prints it, a dict; with several datasets or "all" a list of them, in the order taken.
///
/// Raises `Error` if a dataset failed: the lake is as it was for that dataset, and `reports` has those of all. Ctrl-C raises
/// `KeyboardInterrupt` and leaves the lake as it was, unless the snapshot was published by then; a second one does not wait.
#[pyfunction]
#[pyo3(signature = (*, lake = None, dataset = None, **options))]
pub(crate) fn ingest<'py>(
    py: Python<'py>,
    lake: Option<&Bound<'py, PyAny>>,
    dataset: Option<&Bound<'py, PyAny>>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let keywords = options.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
    keywords.set_item("lake", lake)?;
    keywords.set_item("dataset", dataset)?;
    let options = options_of(&keywords)?;
    let call = interruptible(py, move |cancel| cli::ingest(options, None, cancel))?;
    returned(py, call)
}

/// Returns the reports of an ingest, or raises its error.
pub(crate) fn returned(py: Python<'_>, call: Result<IngestCall, CommandError>) -> PyResult<Bound<'_, PyAny>> {
    let call = call.map_err(|error| raised(py, &error, &[]))?;
    if let Some(error) = call.failure {
        return Err(raised(py, &error, &call.reports));
    }
    let reports = call.reports.iter().map(|report| as_python(py, report)).collect::<PyResult<Vec<_>>>()?;
    if !call.is_several
        && let [report] = &reports[..]
    {
        return Ok(report.clone());
    }
    Ok(PyList::new(py, reports)?.into_any())
}

/// Reads the manifests of the published snapshots of a dataset, oldest first, as dicts; of every dataset with "all".
///
/// `lake` is a path or a URL, by default that of the environment, else `./lake`. Raises `Error`.
#[pyfunction]
#[pyo3(signature = (lake = None, *, dataset = None))]
pub(crate) fn snapshots<'py>(
    py: Python<'py>,
    lake: Option<&Bound<'py, PyAny>>,
    dataset: Option<String>,
) -> PyResult<Bound<'py, PyAny>> {
    let lake = lake.map(|lake| text_of("lake", lake)).transpose()?;
    let lake = lake.map(|lake| lake.to_string_lossy().into_owned());
    let read = abandonable(py, move || cli::manifests(lake.as_deref(), dataset.as_deref()))?;
    as_python(py, &read.map_err(|error| raised(py, &error, &[]))?)
}

/// Runs a command line, whose first argument is the program's name, and returns its exit code. For the console script alone.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| cli::run_from(args) as u8)
}

/// Runs `work` on a thread and waits for it without the GIL. Python's signal handlers run meanwhile: if one raises, as that of
/// Ctrl-C does, the work is asked to end, and its exception is raised once it has; if a second one raises, at once.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&Cancel) -> Result<T, CommandError> + Send + 'static,
) -> PyResult<Result<T, CommandError>> {
    call(py, true, work)
}

/// As [`interruptible`], for work that changes nothing and cannot be asked to end: the first exception is raised at once.
pub(crate) fn abandonable<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> PyResult<Result<T, CommandError>> {
    call(py, false, |_| work())
}

fn call<T: Send + 'static>(
    py: Python<'_>,
    can_end: bool,
    work: impl FnOnce(&Cancel) -> Result<T, CommandError> + Send + 'static,
) -> PyResult<Result<T, CommandError>> {
    install_panic_hook();
    let log = CallLog::begin(py)?;
    let result = wait(py, can_end, work, &log)?;
    log.flush(py)?;
    Ok(result)
}

/// Has panics recorded and not printed: their messages may hold values.
pub(crate) fn install_panic_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(panics::install_hook);
}

fn wait<T: Send + 'static>(
    py: Python<'_>,
    can_end: bool,
    work: impl FnOnce(&Cancel) -> Result<T, CommandError> + Send + 'static,
    log: &CallLog,
) -> PyResult<Result<T, CommandError>> {
    py.detach(|| {
        let cancel = Cancel::default();
        let asked = cancel.clone();
        let (send, received) = sync_channel(1);
        let run = move || {
            // If no one waits any longer, its result is of no interest.
            let _ = send.send(panics::catch(|| work(&asked)));
        };
        let thread = thread::Builder::new().name("defender-lake".to_owned()).spawn(run)?;
        let mut interrupt = None;
        let result = loop {
            match received.recv_timeout(SIGNAL_INTERVAL) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PyRuntimeError::new_err("internal error: the call's thread has ended"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let signal = Python::attach(|py| {
                py.check_signals()?;
                log.flush(py)
            });
            if let Err(error) = signal {
                if interrupt.is_some() || !can_end {
                    return Err(error);
                }
                cancel.cancel();
                interrupt = Some(error);
            }
        };
        // It has sent its result, so it ends.
        let _ = thread.join();
        match interrupt {
            Some(error) => Err(error),
            None => Ok(result.unwrap_or_else(|panicked| {
                // Forgotten, so that the next call is judged by itself.
                panics::take_recorded();
                Err(CommandError::from(panicked))
            })),
        }
    })
}
