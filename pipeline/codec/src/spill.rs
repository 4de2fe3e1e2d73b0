//! Takes rows of partitions that are too few for a row group and do not fit into memory; gives them back when
//! all parts are read. The caller provides the file.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use crate::decode::column::Columns;

/// A file of one run that rows are spilled to.
pub trait SpillFile: Debug + Send + Sync {
    /// Why it could not be written or read.
    type Error;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), Self::Error>;

    /// Fills `bytes` with those written at `offset`.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Self::Error>;
}

/// No file: nothing is spilled.
#[derive(Debug, Clone, Copy)]
pub enum NoSpill {}

impl SpillFile for NoSpill {
    type Error = Infallible;

    fn write_all_at(&self, _: &[u8], _: u64) -> Result<(), Infallible> {
        match *self {}
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> Result<(), Infallible> {
        match *self {}
    }
}

/// Where rows are spilled to.
#[derive(Debug)]
pub(crate) struct Spill<F> {
    file: F,
    end: Mutex<End>,
}

/// Where the next rows go, and what gathers their bytes. They are not compressed, but for what repeats: that took twice as
/// long as all the rest of spilling, and they come back soon.
#[derive(Debug)]
struct End {
    offset: u64,
    bytes: Vec<u8>,
}

/// Rows that were spilled together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpilledRows {
    /// Counts them.
    pub(crate) num_rows: usize,
    /// What their columns take in memory, about.
    pub(crate) columns_bytes: usize,
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

impl<F: SpillFile> Spill<F> {
    /// Begins at the start of `file`.
    pub(crate) fn new(file: F) -> Self {
        Self { file, end: Mutex::new(End { offset: 0, bytes: Vec::new() }) }
    }

    /// Writes the rows of `columns`.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub(crate) fn write(&self, columns: &Columns) -> Result<SpilledRows, F::Error> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let End { offset, bytes } = &mut *end;
        bytes.clear();
        columns.write_to(bytes);
        self.file.write_all_at(bytes, *offset)?;
        let spilled = SpilledRows {
            num_rows: columns.num_rows(),
            // Not their capacity: few rows take little of the initial one.
            columns_bytes: columns.used_bytes(),
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
    /// Fails if the disk does.
    ///
    /// # Panics
    ///
    /// If the file has other rows than were written.
    pub(crate) fn read(&self, spilled: &SpilledRows, columns: &mut Columns) -> Result<(), F::Error> {
        let mut bytes = vec![0; spilled.num_bytes];
        self.file.read_exact_at(&mut bytes, spilled.offset)?;
        columns.read_from(&bytes);
        assert_eq!(columns.num_rows(), spilled.num_rows, "as many rows as were written");
        Ok(())
    }
}
