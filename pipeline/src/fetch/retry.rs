//! How often and how long a failed transfer is retried. [`FetchError::is_transient`] decides whether it is.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::FetchError;

/// Bounds of the retries of one thing: a call, a part, a page.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct RetryPolicy {
    /// Delay before the second attempt; doubled for each further one, with jitter.
    pub min_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Attempts in total.
    pub max_attempts: u32,
    /// Longest time from the first attempt to the start of another one.
    pub max_elapsed: Duration,
}

impl RetryPolicy {
    /// For the API: few, since a listing has a budget of 20 calls an hour
    /// (pipeline/docs/service.md#rate-limits).
    pub const API: Self = Self {
        min_delay: Duration::from_millis(500),
        max_delay: Duration::from_secs(10),
        max_attempts: 5,
        max_elapsed: Duration::from_mins(5),
    };

    /// For parts: Azure's own copy of a blob may be under way for a while after the
    /// listing, and a reset late in a long download is worth going on from
    /// (pipeline/docs/service.md#failures-of-blob-storage). That is some two minutes of waiting.
    pub const PART: Self = Self {
        min_delay: Duration::from_millis(500),
        max_delay: Duration::from_secs(30),
        max_attempts: 10,
        max_elapsed: Duration::from_mins(30),
    };

    /// Starts the first attempt.
    pub fn start(&self) -> Retry {
        let delays = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.max_attempts.saturating_sub(1) as usize)
            .build();
        Retry { delays, attempts: 1, started: Instant::now(), max_elapsed: self.max_elapsed }
    }
}

/// The retries of one thing.
#[derive(Debug)]
pub struct Retry {
    delays: ExponentialBackoff,
    attempts: u32,
    started: Instant,
    max_elapsed: Duration,
}

impl Retry {
    /// Excludes `time`, in which nothing was attempted, from the elapsed time.
    pub fn exclude_elapsed(&mut self, time: Duration) {
        self.started += time;
    }

    /// Waits before the next attempt after `err`.
    ///
    /// # Errors
    ///
    /// Returns `err` if it is not transient, and [`FetchError::GaveUp`] once the bounds are reached.
    pub async fn wait(&mut self, err: FetchError) -> Result<(), FetchError> {
        if !err.is_transient() {
            return Err(err);
        }
        let elapsed = self.started.elapsed();
        let next = self.delays.next().filter(|delay| elapsed + *delay <= self.max_elapsed);
        let Some(delay) = next else {
            return Err(FetchError::GaveUp { attempts: self.attempts, elapsed, source: Box::new(err) });
        };
        self.attempts += 1;
        tracing::warn!(error = %err, ?delay, attempt = self.attempts, "retrying");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn excluded_time_does_not_count() {
        let hour = Duration::from_hours(1);
        let damaged = || FetchError::Damaged {
            url: url::Url::parse("https://h/p").unwrap().into(),
            reason: "cut".into(),
        };
        let mut retry = RetryPolicy::PART.start();
        retry.started = retry.started.checked_sub(hour).unwrap();
        assert!(matches!(retry.wait(damaged()).await, Err(FetchError::GaveUp { attempts: 1, .. })));
        retry.exclude_elapsed(hour);
        retry.wait(damaged()).await.unwrap();
    }
}
