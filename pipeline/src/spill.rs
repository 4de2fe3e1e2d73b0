//! The file that rows are spilled to: one without a name, so that nothing is left of it however the run ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use codec::spill::SpillFile;

use crate::lake::{LakeError, local};

/// Where rows are spilled to.
#[derive(Debug)]
pub struct DiskSpill {
    path: PathBuf,
    file: File,
}

impl DiskSpill {
    /// Takes an empty `file`, which was at `path`.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { path, file }
    }
}

impl SpillFile for DiskSpill {
    type Error = LakeError;

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), LakeError> {
        tracing::trace!(num_bytes = bytes.len(), "rows spilled");
        self.file.write_all_at(bytes, offset).map_err(local::io_error("write", &self.path))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), LakeError> {
        self.file.read_exact_at(bytes, offset).map_err(local::io_error("read", &self.path))
    }
}
