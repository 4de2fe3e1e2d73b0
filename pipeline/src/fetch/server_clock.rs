//! The service's clock, estimated from the `Date` of its responses. Signed URLs expire by that clock, so a machine
//! whose clock is off must not use its own.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// `Date` has whole seconds and arrives late: smaller differences mean nothing.
const MIN_SKEW: TimeDelta = TimeDelta::seconds(3);
/// Differences above this are logged. Tokens and signatures allow for some minutes.
const WARN_SKEW: TimeDelta = TimeDelta::minutes(1);

/// The service's clock. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ServerClock(Arc<Mutex<Skew>>);

#[derive(Debug, Default)]
struct Skew {
    /// How far the service's clock is ahead of ours.
    skew: TimeDelta,
    is_warned: bool,
}

impl ServerClock {
    /// Records the `Date` of a response received at `now`.
    pub fn observe(&self, date: DateTime<Utc>, now: DateTime<Utc>) {
        let skew = date - now;
        let skew = if skew.abs() < MIN_SKEW { TimeDelta::zero() } else { skew };
        let mut skew_state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        skew_state.skew = skew;
        if skew.abs() > WARN_SKEW && !std::mem::replace(&mut skew_state.is_warned, true) {
            tracing::warn!(
                skew_secs = skew.num_seconds(),
                "this machine's clock is {} the service's, which is used to plan downloads",
                if skew > TimeDelta::zero() { "behind" } else { "ahead" },
            );
        }
    }

    /// Returns the service's time at our time `now`.
    pub fn at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + self.0.lock().unwrap_or_else(PoisonError::into_inner).skew
    }

    /// Returns the service's current time.
    pub fn now(&self) -> DateTime<Utc> {
        self.at(Utc::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_date_counts_and_small_differences_do_not() {
        let now: DateTime<Utc> = "2021-01-11T11:01:00Z".parse().unwrap();
        let clock = ServerClock::default();
        assert_eq!(clock.at(now), now);
        for (ahead_secs, expected_secs) in [(7200, 7200), (-600, -600), (2, 0), (-2, 0), (3, 3)] {
            clock.observe(now + TimeDelta::seconds(ahead_secs), now);
            assert_eq!(clock.at(now), now + TimeDelta::seconds(expected_secs));
        }
    }
}
