//! Fetches, decodes and publishes Microsoft Defender exports as partitioned Parquet.
//!
//! ```text
//!  Defender API ─┐                                                                      ┌─▶ DuckDB, Spark
//!  (or emulator) ├─▶ source ─▶ fetch ─▶ decode ─▶ batch ─▶ write ─▶ commit ─▶ lake ─────┤
//!  local files ──┘    Part     spool   columns RecordBatch DataFile  Snapshot          └─▶ verify reads it back
//! ```
//!
//! The modules stand in the order of the flow. Data goes one way; only [`ingest`] knows all the
//! stages. Async ends at fetch: from decode on it is plain functions over bytes and batches.

pub mod source;
pub mod fetch;
pub mod auth;
pub mod http;
pub mod spool;
pub mod spill;
pub mod write;
pub mod staging;
pub mod commit;
pub mod delta;
pub mod lake;
pub mod verify;
pub mod ddl;
pub mod expire;
#[cfg(feature = "history")]
pub mod history;

pub mod ingest;
pub mod cli;
pub mod progress;
pub mod report;
pub mod cancel;
mod environment;
pub mod printable;
mod redact;

pub mod manifest;
pub mod snapshot;
pub mod exit_code;
pub mod digest;
pub mod memory;
pub mod panics;
pub mod threads;
