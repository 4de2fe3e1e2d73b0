//! Detects stalled transfers: passes chunks on and fails if fewer than a minimum of bytes arrive in a time window.
//! A connection may stay open for hours and send a byte now and then.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::FetchError;
use crate::http::RedactedUrl;

/// The lowest throughput of a transfer that has not stalled.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct MinThroughput {
    /// Length of the time window.
    pub window: Duration,
    /// Bytes that must arrive in each window.
    pub min_bytes: u64,
}

impl MinThroughput {
    /// A kilobyte a second, over half a minute: any line that can carry an export is faster.
    pub const DEFAULT: Self = Self { window: Duration::from_secs(30), min_bytes: 30 * 1024 };
}

/// Measures the throughput of one transfer.
#[derive(Debug)]
pub struct StallDetector {
    min_throughput: MinThroughput,
    window_ends_at: Instant,
    window_bytes: u64,
}

impl StallDetector {
    /// Starts the first window.
    pub fn new(min_throughput: MinThroughput) -> Self {
        Self { min_throughput, window_ends_at: Instant::now() + min_throughput.window, window_bytes: 0 }
    }

    /// Waits for the next chunk of the transfer of `url`.
    ///
    /// # Errors
    ///
    /// [`FetchError::Stalled`], and any error of the transfer itself.
    pub async fn next(
        &mut self,
        url: &RedactedUrl,
        chunk: impl Future<Output = Result<Option<Bytes>, FetchError>>,
    ) -> Result<Option<Bytes>, FetchError> {
        tokio::pin!(chunk);
        loop {
            if let Ok(chunk) = timeout_at(self.window_ends_at, &mut chunk).await {
                let chunk = chunk?;
                self.window_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                return Ok(chunk);
            }
            let MinThroughput { window, min_bytes } = self.min_throughput;
            if self.window_bytes < min_bytes {
                return Err(FetchError::Stalled { url: url.clone(), bytes: self.window_bytes, window });
            }
            *self = Self::new(self.min_throughput);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_transfer_continues_and_trickle_stalls() {
        let floor = MinThroughput { window: Duration::from_secs(10), min_bytes: 10 };
        let url = RedactedUrl::from(url::Url::parse("https://h/p?sig=x").unwrap());
        let chunk = async |secs: u64, bytes: &'static [u8]| {
            tokio::time::sleep(Duration::from_secs(secs)).await;
            Ok(Some(Bytes::from_static(bytes)))
        };
        let mut stall_detector = StallDetector::new(floor);
        for _ in 0..30 {
            stall_detector.next(&url, chunk(4, b"0123456789")).await.unwrap();
        }
        let mut stall_detector = StallDetector::new(floor);
        let mut dripped = 0;
        let err = loop {
            match stall_detector.next(&url, chunk(3, b"x")).await {
                Ok(_) => dripped += 1,
                Err(err) => break err,
            }
        };
        assert_eq!(dripped, 3);
        assert_eq!(err.to_string(), "GET https://h/p: stalled: 3 bytes in 10s");
        let mut stall_detector = StallDetector::new(floor);
        let silent = std::future::pending();
        assert!(matches!(stall_detector.next(&url, silent).await, Err(FetchError::Stalled { bytes: 0, .. })));
    }
}
