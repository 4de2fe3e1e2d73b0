//! A partition of the snapshot that is being written.

use codec::partition::PartitionKey;

/// Partitions of a snapshot, at most. Tenants have about 25 platforms; each open partition holds a file and buffers,
/// and one directory a device would be useless to readers.
pub const MAX_PARTITIONS: usize = 1000;

/// A partition and its directory below the date's, which is empty if the dataset has no partition column.
#[derive(Debug)]
pub(super) struct Partition {
    pub key: PartitionKey,
    pub directory: String,
}
