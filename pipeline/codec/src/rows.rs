//! The rows of a row group on their way to `encode`: columns that become arrays one after the other, and pages of columns
//! that were encoded while rows were still coming.

use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryViewArray, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;

/// Rows to be encoded as one row group.
#[derive(Debug)]
pub struct Rows {
    columns: Box<dyn RowColumns>,
    early: Vec<EarlyColumn>,
}

/// The columns of some rows. Each is taken once, so that its memory is free before the next one is made.
pub(crate) trait RowColumns: Debug + Send {
    fn schema(&self) -> SchemaRef;
    fn num_rows(&self) -> usize;
    fn take(&mut self, index: usize) -> ArrayRef;

    /// Takes a column of texts that do not repeat; `None` if it is another, which is to be taken as it is.
    fn take_views(&mut self, _index: usize) -> Option<BinaryViewArray> {
        None
    }
}

/// A column whose pages are encoded.
#[derive(Debug, Clone)]
pub(crate) struct EarlyColumn {
    /// Its place in the schema.
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
    /// If an early column has other rows than the others: a bug.
    pub(crate) fn new(columns: Box<dyn RowColumns>, early: Vec<EarlyColumn>) -> Self {
        for EarlyColumn { pages, .. } in &early {
            let num_rows = pages.iter().map(|page| page.num_rows).sum::<usize>();
            assert_eq!(num_rows, columns.num_rows(), "every column has all rows");
        }
        Self { columns, early }
    }

    /// Counts them.
    pub fn num_rows(&self) -> usize {
        self.columns.num_rows()
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.columns.schema()
    }

    /// Takes a column, once. One that is encoded already has no values left.
    pub(crate) fn take(&mut self, index: usize) -> ArrayRef {
        self.columns.take(index)
    }

    /// Takes a column of texts that do not repeat as views of the texts, which stay where they are; `None` if it is another
    /// column, which is to be taken as it is.
    pub(crate) fn take_views(&mut self, index: usize) -> Option<BinaryViewArray> {
        self.columns.take_views(index)
    }

    /// The pages of a column, if it is encoded already.
    pub(crate) fn early_pages(&self, index: usize) -> Option<&[EarlyPage]> {
        self.early.iter().find(|column| column.index == index).map(|column| &*column.pages)
    }

    /// Makes a batch of all columns.
    ///
    /// # Panics
    ///
    /// If some are encoded already.
    pub fn into_batch(mut self) -> RecordBatch {
        assert!(self.early.is_empty(), "a batch has all values");
        let schema = self.schema();
        let columns = (0..schema.fields().len()).map(|index| self.take(index)).collect();
        RecordBatch::try_new(schema, columns).expect("columns follow the schema")
    }
}

impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        Self::new(Box::new(batch), Vec::new())
    }
}

impl RowColumns for RecordBatch {
    fn schema(&self) -> SchemaRef {
        self.schema()
    }

    fn num_rows(&self) -> usize {
        self.num_rows()
    }

    fn take(&mut self, index: usize) -> ArrayRef {
        Arc::clone(self.column(index))
    }
}
