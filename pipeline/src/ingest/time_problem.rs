//! Why a generated time is rejected.

use chrono::{DateTime, Utc};

use crate::display::time_text;

/// Why a generated time is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeProblem {
    /// The name of a snapshot has four digits for the year.
    #[error("expected a year from 0001 to 9999")]
    Year,
    /// `expire` counts days back from the newest snapshot: one far ahead would expire all others.
    #[error("more than two days ahead of the clock, {}", time_text(now))]
    Future {
        /// The time of the clock.
        now: DateTime<Utc>,
    },
}
