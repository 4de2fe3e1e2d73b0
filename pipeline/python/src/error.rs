//! The exception of all calls: takes a command's error, gives Python's, with the same text, exit code and hint.

use pipeline::cli::CommandError;
use pipeline::report::RunReport;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;

create_exception!(
    defender_lake,
    Error,
    PyException,
    "A call failed. The text is the line that the command line prints: what failed, where, and what to do about it.\n\n\
     exit_code: the exit code of the command line, an int.\n\
     hint: what to do about it, a str, or None.\n\
     reports: of `ingest`, the reports of all datasets taken, a list of dicts; else an empty list."
);

/// Returns the exception of a command's error, with the reports of its datasets.
pub(crate) fn raised(py: Python<'_>, error: &CommandError, reports: &[RunReport]) -> PyErr {
    let hint = error.hint().map(str::to_owned);
    let reports = reports.iter().map(|report| as_python(py, report)).collect::<PyResult<Vec<_>>>();
    new_error(py, error.to_string(), error.exit_code() as u8, hint, reports)
}

fn new_error(
    py: Python<'_>,
    text: String,
    exit_code: u8,
    hint: Option<String>,
    reports: PyResult<Vec<Bound<'_, PyAny>>>,
) -> PyErr {
    let set = || {
        let error = Error::new_err(text);
        let value = error.value(py);
        value.setattr("exit_code", exit_code)?;
        value.setattr("hint", hint)?;
        value.setattr("reports", PyList::new(py, reports?)?)?;
        Ok(error)
    };
    set().unwrap_or_else(|error| error)
}

/// Returns a value as Python's json module reads it.
pub(crate) fn as_python<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).expect("text keys and plain values serialise");
    py.import("json")?.call_method1("loads", (text,))
}
