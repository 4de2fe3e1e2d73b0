//! Changes of a table on a local disk.

pub(super) mod delta;
pub(super) mod removal;
pub(super) mod swap;
