//! Takes record batches with their partition, from any thread; gives staged data files and their facts.
//!
//! A batch becomes one row group. The calling thread encodes it, so that threads wait for each other only while a
//! finished row group is appended to its partition's file, a copy of compressed bytes. No rows are kept between batches.

mod error;
mod file_format;
mod partition;
pub mod rejects;
mod rolling;
mod snapshot_writer;

pub use self::error::WriteError;
pub use self::partition::MAX_PARTITIONS;
pub use self::rolling::TARGET_FILE_BYTES;
pub use self::snapshot_writer::{SnapshotWriter, WriterLimits};
