//! Fetches, decodes and publishes Microsoft Defender exports as partitioned Parquet.

pub mod commit;
pub mod lake;
pub mod manifest;
pub mod snapshot;
pub mod verify;
