//! The memory budget of a run: divides `--memory` among the stages.
//!
//! | share | of the budget | what uses it | if it is full |
//! |---|---|---|---|
//! | rows | a quarter, 96 MiB at most | open row groups of all partitions, by their columns' capacity | the largest that has enough rows is encoded; if none has, the largest is spilled to disk |
//! | encode | a half | row groups being ordered, encoded or merged, with buffers and pages: [`encode_cost`](codec::memory_pool::encode_cost) of their columns | threads wait |
//! | decode | a half, less than what encodes at a time | a part's buffers, 8 MiB a thread at most | fewer threads |
//! | files | an eighth, 64 MiB at most | buffers and footers of open data files | the largest are closed early |
//! | fetch | an eighth | chunks on their way into the spool, 2 MiB a download | fewer downloads |
//! | uploads | a half, after everything else is freed | 8 MiB for each part in flight | fewer at a time |
//!
//! The program itself, its threads, and memory that the allocator has not returned yet are in the
//! [`ALLOWANCE_BYTES`] on top of the budget. Records that need more than the usual buffer are decoded one at a time,
//! and the rows of one are written before the next is read.

use std::num::NonZeroUsize;

/// The memory of the process on top of its budget.
pub const ALLOWANCE_BYTES: u64 = 96 << 20;

/// The buffers of a decoding thread, rows aside: text, its structure, the inflater, and what another thread has
/// inflated ahead. Ordinary parts use a third.
const DECODE_THREAD_BYTES: u64 = 8 << 20;

/// The buffers of a download: a batch being written, one being filled, and those of the network.
const DOWNLOAD_BYTES: u64 = 2 << 20;

/// More memory than this gains little. With 64 MiB, 13 million rows took 1.15 times as long and 0.8 times the
/// memory, because more rows were spilled.
const MAX_ROW_GROUPS_BYTES: u64 = 96 << 20;

/// More memory than this for open files gains nothing.
const MAX_OPEN_FILES_BYTES: u64 = 64 << 20;

/// More parts in flight than this are not faster.
const MAX_UPLOAD_BYTES: u64 = 64 << 20;

/// The memory budget of a run, and its shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    bytes: u64,
}

impl MemoryBudget {
    /// Creates a budget of `bytes`, the value of `--memory`.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The whole budget.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// Returns how many of `wanted` threads may decode.
    pub fn num_threads(self, wanted: NonZeroUsize) -> NonZeroUsize {
        fewer(wanted, self.bytes / 2 / DECODE_THREAD_BYTES)
    }

    /// Returns how many of `wanted` parts may be downloaded at a time.
    pub fn num_downloads(self, wanted: NonZeroUsize) -> NonZeroUsize {
        fewer(wanted, self.bytes / 8 / DOWNLOAD_BYTES)
    }

    /// Returns the limit of all open row groups together.
    pub fn row_groups_bytes(self) -> usize {
        to_usize((self.bytes / 4).min(MAX_ROW_GROUPS_BYTES))
    }

    /// Returns the limit of all row groups together that are being encoded.
    pub fn encode_bytes(self) -> usize {
        to_usize(self.bytes / 2)
    }

    /// Returns the limit of all open data files together.
    pub fn open_files_bytes(self) -> usize {
        to_usize((self.bytes / 8).min(MAX_OPEN_FILES_BYTES))
    }

    /// Returns the limit of bytes in flight of uploads.
    pub fn upload_bytes(self) -> u64 {
        (self.bytes / 2).min(MAX_UPLOAD_BYTES)
    }
}

fn fewer(wanted: NonZeroUsize, most: u64) -> NonZeroUsize {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    NonZeroUsize::new(most).map_or(NonZeroUsize::MIN, |most| wanted.min(most))
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_budget_has_fewer_threads_and_downloads() {
        let check = |mebibytes: u64, wanted: usize, threads: usize, downloads: usize| {
            let budget = MemoryBudget::new(mebibytes << 20);
            let wanted = NonZeroUsize::new(wanted).unwrap();
            assert_eq!(budget.num_threads(wanted).get(), threads, "{mebibytes} MiB");
            assert_eq!(budget.num_downloads(wanted).get(), downloads, "{mebibytes} MiB");
        };
        check(64, 8, 4, 4);
        check(128, 8, 8, 8);
        check(1024, 8, 8, 8);
        check(1024, 1000, 64, 64);
        check(1, 8, 1, 1);
    }

    #[test]
    fn shares_are_within_the_budget_at_every_size() {
        for mebibytes in [64, 65, 100, 128, 256, 512, 1024, 1 << 20] {
            let bytes = mebibytes << 20;
            let budget = MemoryBudget::new(bytes);
            let all = budget.row_groups_bytes() + budget.encode_bytes() + budget.open_files_bytes();
            let downloads = budget.num_downloads(NonZeroUsize::MAX).get() as u64 * DOWNLOAD_BYTES;
            assert!(all as u64 + downloads <= bytes, "{mebibytes} MiB");
            assert!(budget.upload_bytes() <= bytes / 2);
        }
    }
}
