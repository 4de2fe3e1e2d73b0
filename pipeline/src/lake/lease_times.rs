//! How long a lease in an object store lasts.

use std::time::Duration;

/// When a lease is renewed and when it expires. All runs on a lake must use the same times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    /// How often the holder renews its lease.
    pub renew: Duration,
    /// When a lease expires that is not renewed. Several renewals can fail before.
    pub take_over: Duration,
    /// How often a waiting run reads the lock.
    pub poll: Duration,
}

/// Default seconds until a lease expires. With more, a run waits longer for one that was killed; with less, a run
/// that is cut off from the store loses its lock sooner.
const TAKE_OVER_SECS: u32 = 60;

impl LeaseTimes {
    /// Reads `DEFENDER_LEASE_SECS`; one minute if it is not set or invalid.
    pub(crate) fn from_env() -> Self {
        let secs = std::env::var("DEFENDER_LEASE_SECS").ok().and_then(|secs| secs.trim().parse().ok());
        let take_over =
            Duration::from_secs(secs.filter(|secs: &u32| *secs > 0).unwrap_or(TAKE_OVER_SECS).into());
        Self { renew: take_over / 4, take_over, poll: take_over / 30 }
    }

    /// For simulations: no clock, and a waiting run takes over the second time it reads the lock.
    #[cfg(test)]
    pub(crate) const SCHEDULED: Self =
        Self { renew: Duration::from_hours(1), take_over: Duration::ZERO, poll: Duration::ZERO };

    /// For tests that should not wait long.
    #[cfg(test)]
    pub(crate) const IMPATIENT: Self = Self {
        renew: Duration::from_millis(20),
        take_over: Duration::from_millis(300),
        poll: Duration::from_millis(2),
    };
}
