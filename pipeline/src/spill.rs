//! Takes rows of partitions that are too few for a row group and have no room in memory; gives them back when
//! all are there. One file without a name, so that nothing is left of it however the run ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::decode::columns::Columns;
use crate::lake::{LakeError, local};

/// Where rows are spilled to.
pub struct Spill {
    path: PathBuf,
    file: File,
    end: Mutex<End>,
}

/// Where the next rows go, and what gathers their bytes. They are not compressed: that took twice as long as
/// all the rest of spilling, and they come back soon.
struct End {
    offset: u64,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Rows that were spilled together.
#[derive(Debug, Clone, Copy)]
pub struct SpilledRows {
    /// Counts them.
    pub num_rows: usize,
    /// What their columns take in memory, about.
    pub columns_bytes: usize,
    offset: u64,
    num_bytes: usize,
}

#[cfg(test)]
impl SpilledRows {
    /// Rows that no file has.
    pub(crate) fn nowhere(num_rows: usize, columns_bytes: usize) -> Self {
        Self { num_rows, columns_bytes, offset: 0, num_bytes: 0 }
    }
}

impl Spill {
    /// Begins at the start of `file`, which was at `path`.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { path, file, end: Mutex::new(End { offset: 0, bytes: Vec::new() }) }
    }

    /// Writes the rows of `columns`.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn write(&self, columns: &Columns) -> Result<SpilledRows, LakeError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let End { offset, bytes } = &mut *end;
        bytes.clear();
        columns.write_to(bytes);
        self.file.write_all_at(bytes, *offset).map_err(local::io_error("write", &self.path))?;
        let spilled = SpilledRows {
            num_rows: columns.num_rows(),
            // Not what they held: few rows take little of what columns begin with.
            columns_bytes: columns.num_bytes().min(bytes.len() / 4 * 5),
            offset: *offset,
            num_bytes: bytes.len(),
        };
        *offset += bytes.len() as u64;
        Ok(spilled)
    }

    /// Reads rows into `columns`, which have none.
    ///
    /// # Errors
    ///
    /// What the disk says.
    ///
    /// # Panics
    ///
    /// If the file has other rows than were written.
    pub fn read(&self, spilled: &SpilledRows, columns: &mut Columns) -> Result<(), LakeError> {
        let mut bytes = vec![0; spilled.num_bytes];
        let read = self.file.read_exact_at(&mut bytes, spilled.offset);
        read.map_err(local::io_error("read", &self.path))?;
        columns.read_from(&bytes);
        assert_eq!(columns.num_rows(), spilled.num_rows, "as many rows as were written");
        Ok(())
    }
}
