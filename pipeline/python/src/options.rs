//! Keyword arguments as options of the command line: takes `lake="lake"`, gives `--lake=lake`. Knows no option but those about
//! output, which a call has none of.

use std::ffi::OsString;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyString, PyTuple};

/// Options of the command line that are about what it prints.
const OF_OUTPUT: [&str; 7] = ["help", "json", "log_format", "progress", "quiet", "verbose", "version"];

/// Returns the options of a command line. A flag is given by `True`; `None` and `False` leave an option out; a list repeats it.
///
/// # Errors
///
/// `TypeError` for a value of another type, and for options about output.
pub(crate) fn options_of(keywords: &Bound<'_, PyDict>) -> PyResult<Vec<OsString>> {
    let mut options = Vec::new();
    for (name, value) in keywords {
        let name: String = name.extract()?;
        if OF_OUTPUT.contains(&name.as_str()) {
            let text = format!("{name}: an option of the command line's output; the log goes to `logging`");
            return Err(PyTypeError::new_err(text));
        }
        let flag = format!("--{}", name.trim_end_matches('_').replace('_', "-"));
        if let Ok(value) = value.cast::<PyBool>() {
            if value.is_true() {
                options.push(flag.into());
            }
        } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let values =
                value.try_iter()?.map(|value| text_of(&name, &value?)).collect::<PyResult<Vec<_>>>()?;
            if name == "dataset" {
                options.push(with_value(&flag, &values.join(",".as_ref())));
            } else {
                options.extend(values.iter().map(|value| with_value(&flag, value)));
            }
        } else if !value.is_none() {
            options.push(with_value(&flag, &text_of(&name, &value)?));
        }
    }
    Ok(options)
}

fn with_value(flag: &str, value: &OsString) -> OsString {
    let mut option = OsString::from(format!("{flag}="));
    option.push(value);
    option
}

/// Returns a value as it is typed: text and numbers as they are, a path as its text, a time as RFC 3339.
pub(crate) fn text_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<OsString> {
    let py = value.py();
    if value.is_instance_of::<PyString>() {
        return value.extract();
    }
    if value.is_instance_of::<PyFloat>() || value.hasattr("__index__")? {
        return value.str()?.extract();
    }
    if value.hasattr("isoformat")? {
        return value.call_method0("isoformat")?.extract();
    }
    let path = py.import("os")?.call_method1("fspath", (value,)).map_err(|_| {
        let found = value.get_type();
        PyTypeError::new_err(format!(
            "{name}: expected text, a number, a path, a time, a bool or a list, found {found}"
        ))
    })?;
    path.extract()
}
