//! What a page is asked for, and how far the work on it is. Takes and gives nothing else.

use chrono::{DateTime, NaiveDate, Utc};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// The date that the page is about; the newest if there is none.
    pub date: Option<NaiveDate>,
    /// How far back the history goes.
    pub since: Since,
    /// How many devices are named.
    pub num_devices: usize,
    /// Memory limit.
    pub memory_bytes: u64,
    /// When the page is made.
    pub made_at: DateTime<Utc>,
}

/// How far back the history goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From this date on.
    Date(NaiveDate),
    /// So many days before the page's date.
    Days(u32),
}

/// How far the work is, in bytes of the snapshots that are looked at: those that a cache knows count too.
#[derive(Debug, Clone, Copy)]
pub struct PageProgress {
    /// All of them.
    pub total_bytes: u64,
    /// Those that are done.
    pub bytes: u64,
    /// Name of the table.
    pub dataset: &'static str,
}
