//! Turns a part's bytes into record batches, and record batches into encoded row groups.
//!
//! ```text
//!        ┌───────────────────────────── codec ────────────────────────────┐
//!  part ─┼▶ decode ─▶ columns by partition ─▶ row groups ─▶ encode ───────┼─▶ row groups of Parquet
//!        │               RecordBatch                        RowGroup      │
//!        └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Pure and synchronous: no network, no lake, no clock. It reads the part it is given and writes nowhere;
//! rows that wait on disk go through [`spill::SpillFile`], which the caller implements.

pub mod decode;
pub mod part_reader;
pub mod batch_layout;
pub mod row_group;
pub mod spill;
pub mod memory_pool;
pub mod partition;
pub mod rows;
pub mod encode;
mod byte_search;
mod json_search;

#[cfg(test)]
mod tests;
