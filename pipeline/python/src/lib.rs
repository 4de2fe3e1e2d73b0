//! Takes Python's calls, gives them to the pipeline, and turns its results and errors into Python's. Never decides anything of its
//! own, and starts no thread before a call needs one.

mod calls;
mod cluster;
mod options;
mod error;
mod logging;
mod read;
mod part_batches;
mod plain_text;
mod stream;
mod source;
mod table;

use pyo3::prelude::*;

/// The native half of the Python package `defender_lake`.
#[pymodule]
#[pyo3(name = "_native")]
mod native {
    #[pymodule_export]
    use crate::calls::{ingest, run, snapshots};
    #[pymodule_export]
    use crate::cluster::{ingest_on, run_on, write_portion};
    #[pymodule_export]
    use crate::error::Error;
    #[pymodule_export]
    use crate::read::{Reader, read};
    #[pymodule_export]
    use crate::source::{list_parts, read_parts, spark_columns};
    #[pymodule_export]
    use crate::stream::Schema;
    #[pymodule_export]
    use crate::table::table_files;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
