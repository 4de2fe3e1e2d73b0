//! Takes Python's calls, gives them to the pipeline, and turns its errors into Python's. Never decides anything of its own.

use pyo3::prelude::*;

/// The native half of the Python package `defender_lake`.
#[pymodule]
#[pyo3(name = "_native")]
mod native {
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
