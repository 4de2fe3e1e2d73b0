//! The signed URLs of the parts, renewed before they expire: takes a listing, gives a valid URL for each part.
//! Lists again if needed, once for all parts that ask, and never mixes snapshots.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use url::Url;

use super::SourceError;
use super::listing::{Lister, Listing};
use crate::fetch::FetchError;
use crate::fetch::server_clock::ServerClock;
use crate::http::RedactedUrl;

/// No download starts with a URL that expires sooner: storage checks the time when a request starts, and the
/// clocks of its many servers differ a little.
const MIN_LEFT: TimeDelta = TimeDelta::minutes(2);
/// Most listings of one run. At an hour each the download takes two days; something else is wrong then.
const MAX_LISTINGS: u32 = 48;

/// The URLs of one export, or of the parts of it that one task reads.
#[derive(Debug)]
pub(super) struct SignedUrls {
    /// `None` in a task: only the driver lists, so that its calls stay within the budget.
    lister: Option<Lister>,
    clock: ServerClock,
    generated_time: DateTime<Utc>,
    /// Each part's position in the listing.
    positions: Vec<u64>,
    current: RwLock<CurrentListing>,
    /// Held while listing, so that parts that ask meanwhile wait for that listing. True if it was of another
    /// snapshot: then the remaining parts are not wanted.
    is_over: Mutex<bool>,
}

#[derive(Debug)]
struct CurrentListing {
    urls: Vec<RedactedUrl>,
    /// Number of the listing, counted from 1.
    round: u32,
    listed_at: DateTime<Utc>,
}

/// A part's URL of one listing.
#[derive(Debug, Clone)]
pub(super) struct SignedUrl {
    pub url: RedactedUrl,
    round: u32,
    listed_at: DateTime<Utc>,
}

impl SignedUrls {
    /// Takes a listing, and what lists again.
    pub(super) fn new(lister: Lister, listing: Listing) -> Self {
        let clock = lister.client.clock().clone();
        let positions = (0..listing.urls.len() as u64).collect();
        Self { lister: Some(lister), ..Self::of(listing.generated_time, positions, listing.urls, clock) }
    }

    /// Takes the URLs of some parts, each after its position in the listing. They cannot be renewed.
    pub(super) fn fixed(generated_time: DateTime<Utc>, urls: Vec<(u64, RedactedUrl)>) -> Self {
        let (positions, urls) = urls.into_iter().unzip();
        Self::of(generated_time, positions, urls, ServerClock::default())
    }

    fn of(
        generated_time: DateTime<Utc>,
        positions: Vec<u64>,
        urls: Vec<RedactedUrl>,
        clock: ServerClock,
    ) -> Self {
        let current = RwLock::new(CurrentListing { urls, round: 1, listed_at: clock.now() });
        Self { lister: None, clock, generated_time, positions, current, is_over: Mutex::default() }
    }

    /// The service's clock.
    pub(super) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Returns the part's position in the listing.
    pub(super) fn position(&self, index: usize) -> u64 {
        self.positions[index]
    }

    /// Returns the number of parts.
    pub(super) fn len(&self) -> usize {
        self.current.read().unwrap_or_else(PoisonError::into_inner).urls.len()
    }

    /// Returns the part's URL of the last listing.
    pub(super) fn get(&self, index: usize) -> SignedUrl {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        SignedUrl { url: current.urls[index].clone(), round: current.round, listed_at: current.listed_at }
    }

    /// Returns the part's URL, of a new listing if the last one is about to expire.
    pub(super) async fn valid(&self, index: usize) -> Result<SignedUrl, SourceError> {
        let url = self.get(index);
        // In a task a URL is used until storage refuses it: a new one costs a second job.
        if self.lister.is_none() || !is_ending(&url, self.clock.now()) {
            return Ok(url);
        }
        tracing::info!(part = url.url.part_name(), "download url is about to expire, listing again");
        self.renew(&url, None).await?;
        Ok(self.get(index))
    }

    /// Returns whether a URL has expired by the service's clock. Storage does not always say that this is the reason
    /// for a refusal.
    pub(super) fn has_ended(&self, url: &SignedUrl) -> bool {
        signature_end(url.url.as_url()).is_some_and(|ends_at| ends_at < self.clock.now())
    }

    /// Returns whether a URL states its expiry and has not expired by the service's clock.
    pub(super) fn is_known_to_hold(&self, url: &SignedUrl) -> bool {
        signature_end(url.url.as_url()).is_some() && !self.has_ended(url)
    }

    /// Lists again, unless that was done since `old` was listed.
    ///
    /// # Errors
    ///
    /// [`SourceError::UrlEnded`] in a task.
    pub(super) async fn renew(
        &self,
        old: &SignedUrl,
        refusal: Option<FetchError>,
    ) -> Result<(), SourceError> {
        let Some(lister) = &self.lister else {
            let name = old.url.part_name().to_owned();
            return Err(SourceError::UrlEnded { name, refusal: refusal.map(Box::new) });
        };
        let mut is_over = self.is_over.lock().await;
        if *is_over {
            // The first task that asked ends the delivery, and this task with it, without another call.
            std::future::pending::<()>().await;
        }
        let renewed = self.list_again(lister, old).await;
        *is_over = renewed.as_ref().is_err_and(SourceError::is_other_snapshot);
        renewed
    }

    async fn list_again(&self, lister: &Lister, old: &SignedUrl) -> Result<(), SourceError> {
        let round = self.current.read().unwrap_or_else(PoisonError::into_inner).round;
        if round != old.round {
            return Ok(());
        }
        if round == MAX_LISTINGS {
            return Err(SourceError::TooManyListings { max_listings: MAX_LISTINGS });
        }
        let listing = lister.list().await?;
        if listing.generated_time != self.generated_time {
            return Err(SourceError::SnapshotReplaced {
                expected: self.generated_time,
                found: listing.generated_time,
            });
        }
        let listed_at = self.clock.now();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // By the path only, in any spelling: the same blob has another signature in each listing
        // (pipeline/docs/service.md#snapshots).
        let mut found: HashMap<_, _> = listing.urls.into_iter().map(|url| (url.part_key(), url)).collect();
        for url in &mut current.urls {
            // A part that is no longer listed keeps its old URL, and fails once that has expired.
            if let Some(renewed) = found.remove(&url.part_key()) {
                *url = renewed;
            }
        }
        let num_parts = current.urls.len();
        *current = CurrentListing { urls: std::mem::take(&mut current.urls), round: round + 1, listed_at };
        if let Some(unknown) = found.into_values().next() {
            return Err(SourceError::PartsChanged { name: unknown.part_name().to_owned() });
        }
        tracing::info!(num_parts, "export listed again");
        Ok(())
    }
}

/// Returns whether a URL expires soon. One with a short lifetime is used for the first half of it.
fn is_ending(url: &SignedUrl, now: DateTime<Utc>) -> bool {
    let Some(ends_at) = signature_end(url.url.as_url()) else { return false };
    let left = ends_at - now;
    // A URL that had expired when it was listed is tried anyway: another listing would not help.
    ends_at > url.listed_at && left < MIN_LEFT && left < (ends_at - url.listed_at) / 2
}

/// Returns the expiry of a signed URL, `se`. Its documented lifetime differs by page and year
/// (pipeline/docs/service.md#signed-urls).
fn signature_end(url: &Url) -> Option<DateTime<Utc>> {
    let (_, text) = url.query_pairs().find(|(name, _)| name == "se")?;
    let exact = DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
    // Storage also accepts a date, and a time without seconds.
    exact
        .or_else(|_| {
            DateTime::parse_from_rfc3339(&format!("{}:00Z", text.trim_end_matches('Z'))).map(|t| t.to_utc())
        })
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")).map(|t| t.to_utc()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        format!("2021-01-11T{text}Z").parse().unwrap()
    }

    #[test]
    fn expiry_is_read_in_every_format_of_storage() {
        let check = |se: &str, expected: Option<&str>| {
            let url = Url::parse(&format!("https://h/p?sv=1&se={se}&sig=x")).unwrap();
            assert_eq!(signature_end(&url).map(|end| end.to_rfc3339()).as_deref(), expected, "{se}");
        };
        check("2021-01-11T12%3A55%3A51Z", Some("2021-01-11T12:55:51+00:00"));
        check("2021-01-11T12:55:51.5Z", Some("2021-01-11T12:55:51.500+00:00"));
        check("2021-01-11T12:55Z", Some("2021-01-11T12:55:00+00:00"));
        check("2021-01-11", Some("2021-01-11T00:00:00+00:00"));
        check("soon", None);
        assert_eq!(signature_end(&Url::parse("https://h/p").unwrap()), None);
    }

    #[test]
    fn url_is_renewed_before_it_expires_and_not_at_once() {
        let check = |listed_at: &str, now: &str, expected: bool| {
            let url = Url::parse("https://h/p?se=2021-01-11T12:00:00Z").unwrap();
            let url = SignedUrl { url: url.into(), round: 1, listed_at: time(listed_at) };
            assert_eq!(is_ending(&url, time(now)), expected, "listed {listed_at}, now {now}");
        };
        check("11:00:00", "11:57:59", false);
        check("11:00:00", "11:58:01", true);
        check("11:00:00", "12:30:00", true);
        // A lifetime of a minute must not cause a listing before each part.
        check("11:59:00", "11:59:20", false);
        check("11:59:00", "11:59:31", true);
        check("12:00:05", "12:00:06", false);
    }
}
