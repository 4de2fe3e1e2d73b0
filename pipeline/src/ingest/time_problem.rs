//! Why a generated time is refused.

use chrono::{DateTime, SecondsFormat, Utc};

/// Why a generated time is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeProblem {
    /// A snapshot's name has four digits for the year.
    #[error("the year is not one of 0001 to 9999")]
    Year,
    /// Days are counted back from the newest snapshot: one far ahead makes all others old.
    #[error("more than two days ahead of the clock, which says {}", rfc3339(now))]
    Future {
        /// What the clock says.
        now: DateTime<Utc>,
    },
}

pub(super) fn rfc3339(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
