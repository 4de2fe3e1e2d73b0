//! Takes Microsoft Defender's exports and publishes them as snapshots of partitioned Parquet tables.
//!
//! ```text
//!  Defender API ─┐                   ┌───────────── codec ─────────────┐                             ┌─▶ DuckDB, Spark, …
//!  (or emulator) ├─▶ source ─▶ spool │ decode ─▶ row groups ─▶ encode  │ ─▶ write ─▶ commit ─▶ lake ─┤
//!  local files ──┘   (fetch)   Part  └── RecordBatch ──────────────────┘   DataFile  Snapshot        └─▶ verify, history
//! ```
//!
//! The modules stand in the order of the flow. Data goes one way; only [`ingest`] knows all the stages, and
//! only [`cli`] knows the command line. Async ends at fetch, and begins again inside the lake's object stores:
//! what is between is plain functions over bytes and batches. The crate [`codec`] holds them.

pub mod cli;
pub mod ingest;

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
pub mod expire;
pub mod ddl;
pub mod history;
pub mod page;

pub mod snapshot;
pub mod manifest;
pub mod report;

pub mod exit_code;
pub mod progress;
pub mod display;
pub mod printable;
mod redact;
pub mod digest;
pub mod cancel;
pub mod threads;
pub mod memory;
pub mod panics;
pub mod environment;
