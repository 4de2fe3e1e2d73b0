//! Where decoding gives its rows and rejects: what a caller of it provides.

use super::column::Columns;
use super::reject::Reject;

/// Where rows and rejects go.
pub(crate) trait RowSink {
    /// Returns the columns of the next row's partition; `None` is the null partition.
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns;
    /// Takes a reject.
    fn reject(&mut self, reject: Reject);
}
