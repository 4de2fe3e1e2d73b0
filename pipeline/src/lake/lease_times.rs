//! How long a lock in an object store holds without being renewed.

use std::time::Duration;

/// How runs take turns. All runs on a lake have to agree on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    /// How often the holder renews.
    pub renew: Duration,
    /// After so long without a renewal a waiting run takes over: several renewals may fail before.
    pub take_over: Duration,
    /// How often a waiting run looks.
    pub poll: Duration,
}

/// After so many seconds without a renewal a waiting run takes over. More means that a run waits longer for
/// one that was killed, less that one which is cut off from the store for as long has run in vain.
const TAKE_OVER_SECS: u32 = 60;

impl LeaseTimes {
    /// As `DEFENDER_LEASE_SECS` says, or after a minute.
    pub(crate) fn from_env() -> Self {
        let secs = std::env::var("DEFENDER_LEASE_SECS").ok().and_then(|secs| secs.trim().parse().ok());
        let take_over =
            Duration::from_secs(secs.filter(|secs: &u32| *secs > 0).unwrap_or(TAKE_OVER_SECS).into());
        Self { renew: take_over / 4, take_over, poll: take_over / 30 }
    }

    /// For a simulation: no clock, and who waits takes over at the second look.
    #[cfg(test)]
    pub(crate) const SCHEDULED: Self =
        Self { renew: Duration::from_hours(1), take_over: Duration::ZERO, poll: Duration::ZERO };

    /// For tests that wait for nobody.
    #[cfg(test)]
    pub(crate) const IMPATIENT: Self = Self {
        renew: Duration::from_millis(20),
        take_over: Duration::from_millis(300),
        poll: Duration::from_millis(2),
    };
}
