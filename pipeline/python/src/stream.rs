//! Arrow's C interfaces as Python has them: takes a reader of record batches or a schema, gives a capsule that any Arrow library
//! takes. Reads nothing.

use arrow_array::RecordBatchReader;
use arrow_array::ffi::FFI_ArrowSchema;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// Returns a stream as a capsule that any Arrow library takes.
pub(crate) fn stream_capsule(
    py: Python<'_>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), c"arrow_array_stream")
}

/// The columns of record batches: `pyarrow.schema(…)`, Polars and others take it by Arrow's protocol.
#[pyclass(frozen, module = "defender_lake")]
pub(crate) struct Schema(pub(crate) SchemaRef);

#[pymethods]
impl Schema {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(&*self.0);
        let schema = schema.map_err(|error: ArrowError| PyValueError::new_err(error.to_string()))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    /// The names of the columns, in order.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn __repr__(&self) -> String {
        let column = |field: &arrow_schema::FieldRef| {
            let presence = if field.is_nullable() { "" } else { " not null" };
            format!("{}: {}{presence}", field.name(), field.data_type())
        };
        self.0.fields().iter().map(column).collect::<Vec<_>>().join("\n")
    }
}
