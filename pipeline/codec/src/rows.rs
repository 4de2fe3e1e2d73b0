//! The rows of a row group on their way to `encode`: a record batch, and pages of columns that were encoded while rows
//! were still coming.

use arrow_array::RecordBatch;
use bytes::Bytes;

/// Rows to be encoded as one row group.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Every column; all null where the values are in early pages.
    batch: RecordBatch,
    early: Vec<EarlyColumn>,
}

/// A column whose pages are encoded.
#[derive(Debug, Clone)]
pub(crate) struct EarlyColumn {
    /// Its place in the batch.
    pub(crate) index: usize,
    pub(crate) pages: Vec<EarlyPage>,
}

/// Texts of rows that stand together, as a data page has them.
#[derive(Debug, Clone)]
pub(crate) struct EarlyPage {
    /// Levels and texts, compressed.
    pub(crate) content: Bytes,
    pub(crate) uncompressed_bytes: usize,
    pub(crate) num_rows: usize,
    pub(crate) num_nulls: usize,
    /// Bytes of the texts alone.
    pub(crate) num_text_bytes: usize,
}

impl Rows {
    /// # Panics
    ///
    /// If an early column has other rows than the batch: a bug.
    pub(crate) fn new(batch: RecordBatch, early: Vec<EarlyColumn>) -> Self {
        for EarlyColumn { pages, .. } in &early {
            let num_rows = pages.iter().map(|page| page.num_rows).sum::<usize>();
            assert_eq!(num_rows, batch.num_rows(), "every column has all rows");
        }
        Self { batch, early }
    }

    /// Counts them.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Their columns. Those that are encoded already are null.
    pub(crate) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The pages of a column, if it is encoded already.
    pub(crate) fn early_pages(&self, index: usize) -> Option<&[EarlyPage]> {
        self.early.iter().find(|column| column.index == index).map(|column| &*column.pages)
    }
}

impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        Self::new(batch, Vec::new())
    }
}
