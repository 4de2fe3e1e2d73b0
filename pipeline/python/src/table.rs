//! What Spark needs to read a table of a lake: takes the lake and a dataset, gives columns and the files that manifests list.
//! Reads manifests and footers, and no rows.

use chrono::NaiveDate;
use pipeline::cli::{self, CommandError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::calls::interruptible;
use crate::error::raised;
use crate::options::text_of;

/// Returns the columns of a table as the schema of a Spark `DataFrame`, the table's folder as a URL, and the data files below it
/// that the manifests of all snapshots list, or that of `date`.
#[pyfunction]
#[pyo3(signature = (lake, *, dataset, date))]
pub(crate) fn table_files(
    py: Python<'_>,
    lake: &Bound<'_, PyAny>,
    dataset: &str,
    date: Option<&str>,
) -> PyResult<(String, String, Vec<String>)> {
    let date = date.map(str::parse::<NaiveDate>).transpose();
    let date = date.map_err(|_| PyValueError::new_err("date: expected a date, as 2021-01-11"))?;
    let (lake, dataset) = (text_of("lake", lake)?.to_string_lossy().into_owned(), dataset.to_owned());
    let found = interruptible(py, move |_| cli::table_files(&lake, &dataset, date))?;
    let found = found.map_err(|error: CommandError| raised(py, &error, &[]))?;
    Ok((found.columns, found.root, found.files))
}
