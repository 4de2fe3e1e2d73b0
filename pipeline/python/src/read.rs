//! `read`: takes paths of parts, gives their rows as a stream that any Arrow library reads, as often as it wants.

use std::sync::{Mutex, PoisonError};

use arrow_schema::ArrowError;
use chrono::{DateTime, Utc};
use pipeline::cli::{self, FoundParts};
use pipeline::manifest::{PartFacts, Route};
use pipeline::source::{LocalFiles, StoredPart};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};
use serde_json::json;

use crate::calls::abandonable;
use crate::error::{as_python, raised};
use crate::options::text_of;
use crate::part_batches::{Delivery, OnReject, PartBatches, PartCounts, ReadOptions};
use crate::stream::{Schema, stream_capsule};

/// The rows of some parts, as a stream of Arrow's record batches. Each use of it reads the parts from the start, on a thread of its
/// own that starts with the first batch and ends with the stream.
#[pyclass(frozen, module = "defender_lake")]
pub(crate) struct Reader {
    files: LocalFiles,
    options: ReadOptions,
    /// Those of the stream that was begun last.
    counts: Mutex<PartCounts>,
}

/// Opens parts that are already on this machine: a path or a glob, or a list of them; folders are read with all that is below.
///
/// The result has `__arrow_c_stream__`: pyarrow, Polars, DuckDB and others read it, as often as they want. Its batches have at
/// most `batch_rows` rows, each of one platform, and the columns of `defender-lake schema` in their order: text as plain strings,
/// `snapshot_date` and `OSPlatform` last, only the device's identifier and `GeneratedTime` never null.
///
/// - `dataset`: which export the parts are of, with "-" or "_".
/// - `generated_time`: when the service made the export, a `datetime` with a zone or RFC 3339; without it, it is read from a
///   `YYYY-MM-DD/HHMM` folder in the paths.
/// - `on_reject`: "raise" at the first record that is rejected, or "skip" it and count it in `counts`.
/// - `extra_fields`: "capture" undocumented fields as JSON text in a column `ExtraFields`, or "drop" them.
///
/// Raises `Error` at once if no file matches or an option is not valid. What is found while reading, a part that is damaged or a
/// rejected record, is raised by whoever reads the stream, with the message of the command line: rows read before do not count.
#[pyfunction]
#[pyo3(signature = (
    paths, dataset = "software-inventory", *, generated_time = None, batch_rows = 65536, on_reject = "raise", extra_fields = "drop"
))]
pub(crate) fn read(
    py: Python<'_>,
    paths: &Bound<'_, PyAny>,
    dataset: &str,
    generated_time: Option<&Bound<'_, PyAny>>,
    batch_rows: usize,
    on_reject: &str,
    extra_fields: &str,
) -> PyResult<Reader> {
    let text = |value: &Bound<'_, PyAny>| {
        text_of("paths", value)?.into_string().map_err(|_| PyValueError::new_err("paths: expected UTF-8"))
    };
    let patterns = if paths.is_instance_of::<PyList>() || paths.is_instance_of::<PyTuple>() {
        paths.try_iter()?.map(|path| text(&path?)).collect::<PyResult<Vec<_>>>()?
    } else {
        vec![text(paths)?]
    };
    let time = generated_time.map(|time| text_of("generated_time", time)).transpose()?;
    let time = time.map(|time| time.to_string_lossy().into_owned());
    let on_reject = match on_reject {
        "raise" => OnReject::Fail,
        "skip" => OnReject::Skip,
        _ => return Err(PyValueError::new_err("on_reject: expected \"raise\" or \"skip\"")),
    };
    let extra_fields = match extra_fields {
        "drop" => false,
        "capture" => true,
        _ => return Err(PyValueError::new_err("extra_fields: expected \"drop\" or \"capture\"")),
    };
    if batch_rows == 0 {
        return Err(PyValueError::new_err("batch_rows: expected a whole number of at least 1"));
    }
    let name = dataset.to_owned();
    let found = abandonable(py, move || cli::find_parts(&name, &patterns, time.as_deref()))?;
    let FoundParts { dataset, generated_time, files } = found.map_err(|error| raised(py, &error, &[]))?;
    let options = ReadOptions {
        dataset,
        generated_time,
        route: Route::Local,
        extra_fields,
        on_reject,
        batch_rows,
        all_nullable: false,
    };
    Ok(Reader { files, options, counts: Mutex::default() })
}

#[pymethods]
impl Reader {
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // Another schema is the reader's to make, as Arrow's protocol allows.
        let _ = requested_schema;
        let counts = PartCounts::default();
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts.clone();
        let files = Files(self.files.to_parts().into_iter());
        stream_capsule(py, Box::new(PartBatches::new(Box::new(files), self.options, counts)))
    }

    /// The columns of the batches.
    #[getter]
    fn schema(&self) -> Schema {
        Schema(self.options.schema())
    }

    /// When the service made the export, RFC 3339.
    #[getter]
    fn generated_time(&self) -> String {
        let time: DateTime<Utc> = self.options.generated_time;
        time.to_rfc3339()
    }

    /// What the parts held that were read to their end so far, summed: the numbers of a manifest's `parts`. Of the stream that was
    /// begun last.
    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = counts.parts();
        let sum = |count: fn(&PartFacts) -> u64| parts.iter().map(count).sum::<u64>();
        as_python(
            py,
            &json!({
                "bytes": sum(|part| part.bytes),
                "json_bytes": sum(|part| part.json_bytes),
                "records": sum(|part| part.records),
                "rejected_records": sum(|part| part.rejected_records),
                "field_rejects": sum(|part| part.field_rejects),
                "coerced": sum(|part| part.coerced),
                "duplicate_names": sum(|part| part.duplicate_names),
            }),
        )
    }

    /// What each part held that was read to its end so far, as a manifest's `parts` have it. Of the stream that was begun last.
    #[getter]
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let parts = counts.parts().clone();
        as_python(py, &parts)
    }
}

/// Files that are there.
struct Files(std::vec::IntoIter<StoredPart>);

impl Delivery for Files {
    fn next_part(&mut self) -> Result<Option<StoredPart>, ArrowError> {
        Ok(self.0.next())
    }
}
