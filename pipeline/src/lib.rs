//! Fetches, decodes and publishes Microsoft Defender exports as partitioned Parquet.

pub mod source;
pub mod fetch;
pub mod spool;
pub mod commit;
pub mod lake;
pub mod verify;
pub mod manifest;
pub mod snapshot;
pub mod exit_code;
