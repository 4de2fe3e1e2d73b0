//! Downloads one part from its signed URL into the spool. Resumes an interrupted download, in this run and the
//! next.

use chrono::Utc;

use super::redelivery::{Damage, RetryState};
use super::signed_urls::{SignedUrl, SignedUrls};
use super::{FetchProgress, SourceError};
use crate::fetch::blob::{Announced, BlobClient, Range};
use crate::fetch::stall::StallDetector;
use crate::fetch::{FetchError, MinThroughput, RetryPolicy, ServiceError};
use crate::http::{HttpError, RedactedUrl};
use crate::manifest::Proof;
use crate::spool::{PartWriter, PartialFacts, Spool, SpoolError, Spooled, SpooledFacts};

/// Largest part. Real ones have some 10 MB.
const MAX_PART_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// An attempt that gets this much further than all before it starts a fresh retry budget.
const MIN_HEADWAY_BYTES: u64 = 8 * 1024 * 1024;
/// Refusals of one part's signature, with a new one in between, until the part fails.
const MAX_REFUSALS: u32 = 4;

/// Downloads parts. Shared by all concurrent downloads.
#[derive(Debug)]
pub(super) struct Downloader {
    pub client: BlobClient,
    pub spool: Spool,
    pub urls: SignedUrls,
    pub retry: RetryPolicy,
    pub min_throughput: MinThroughput,
}

/// Why a part could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// This part alone failed: other parts are unaffected.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The disk failed, which affects all parts.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The export could not be listed again, which affects all parts.
    #[error(transparent)]
    Listing(Box<SourceError>),
}

/// A part that is being downloaded.
struct Partial {
    writer: PartWriter,
    /// The blob that it belongs to; `None` if the server did not send what is needed to resume the download.
    facts: Option<PartialFacts>,
    /// MD5 of the whole blob, as announced.
    md5: Option<String>,
    /// Size of the whole blob, as announced.
    total_bytes: Option<u64>,
}

impl Downloader {
    /// Returns the retry state of a part that has not been attempted yet.
    pub(super) fn fresh_retry_state(&self) -> RetryState {
        RetryState::fresh(self.retry)
    }

    /// Downloads a damaged part again, after a delay, within its remaining retry budget.
    pub(super) async fn part_again(
        &self,
        index: usize,
        retry_state: &mut RetryState,
        damage: Damage,
        progress: &FetchProgress,
    ) -> Result<Spooled, DownloadError> {
        let Damage { bytes, reason, waited } = damage;
        let url = self.urls.get(index).url;
        self.spool.discard(url.part_name(), bytes)?;
        progress.take_bytes(bytes);
        progress.take_part();
        retry_state.retry.exclude_elapsed(waited);
        retry_state.retry.wait(FetchError::Damaged { url, reason }).await?;
        self.part(index, retry_state, progress).await
    }

    /// Returns the complete part: from an earlier run, or downloaded.
    pub(super) async fn part(
        &self,
        index: usize,
        retry_state: &mut RetryState,
        progress: &FetchProgress,
    ) -> Result<Spooled, DownloadError> {
        let url = self.urls.get(index).url;
        let name = url.part_name();
        if let Some(spooled) = self.spool.find(name, |facts| facts.proof.is_some()).await {
            tracing::debug!(part = name, "reused from an earlier run");
            progress.add_bytes(spooled.facts.bytes);
            return Ok(spooled);
        }
        let (writer, facts) = self.spool.resume(name).await?;
        progress.add_bytes(writer.bytes());
        let mut partial = Partial {
            writer,
            md5: facts.as_ref().and_then(|facts| facts.md5.clone()),
            total_bytes: facts.as_ref().and_then(|facts| facts.total_bytes),
            facts,
        };
        let proof = match self.attempts(index, retry_state, &mut partial, progress).await {
            Ok(proof) => proof,
            Err(err) => {
                progress.take_bytes(partial.writer.bytes());
                // Best effort: if the disk cannot be written, the next run resumes a little earlier.
                let _ = partial.writer.flush().await;
                return Err(err);
            }
        };
        let facts = SpooledFacts {
            name: name.to_owned(),
            server_md5: partial.md5,
            proof: Some(proof),
            ..SpooledFacts::default()
        };
        Ok(partial.writer.finish(&self.spool, facts).await?)
    }

    async fn attempts(
        &self,
        index: usize,
        retry_state: &mut RetryState,
        partial: &mut Partial,
        progress: &FetchProgress,
    ) -> Result<Proof, DownloadError> {
        let (mut refusals, mut is_by_range) = (0, false);
        retry_state.furthest_bytes = retry_state.furthest_bytes.max(partial.writer.bytes());
        loop {
            let signed = self.urls.valid(index).await.map_err(|err| DownloadError::Listing(Box::new(err)))?;
            let err = match self.attempt(&signed.url, is_by_range, partial, progress).await {
                Ok(Some(proof)) => return Ok(proof),
                // A range request makes the server state the size.
                Ok(None) if !is_by_range => {
                    is_by_range = true;
                    continue;
                }
                Ok(None) if partial.writer.is_gzip() => return Ok(Proof::Gzip),
                Ok(None) => FetchError::Unproved { url: signed.url.clone(), found: partial.writer.bytes() },
                Err(DownloadError::Fetch(err)) => self.judge(err, &signed),
                Err(err) => return Err(err),
            };
            if partial.writer.bytes() >= retry_state.furthest_bytes + MIN_HEADWAY_BYTES {
                *retry_state =
                    RetryState { furthest_bytes: partial.writer.bytes(), ..RetryState::fresh(self.retry) };
            }
            match &err {
                FetchError::Changed { .. } => partial.restart(progress).await?,
                FetchError::SignatureRefused { service, is_out_of_time, .. }
                    if refusals + 1 < MAX_REFUSALS =>
                {
                    refusals += 1;
                    // An expired signature is replaced at once. Another one may be too new for the clock of
                    // that server (pipeline/docs/service.md#failures-of-blob-storage): it is retried first,
                    // and replaced once. A response without a code is not from storage: a new signature would not
                    // change it.
                    let is_to_renew = match (*is_out_of_time, &service.code) {
                        (true, _) => refusals != 2,
                        (false, Some(_)) => refusals == 2,
                        (false, None) => refusals == 2 && !self.urls.is_known_to_hold(&signed),
                    };
                    if is_to_renew {
                        tracing::warn!(part = signed.url.part_name(), error = %err, "listing again");
                        let renewed = self.urls.renew(&signed, Some(err)).await;
                        renewed.map_err(|err| DownloadError::Listing(Box::new(err)))?;
                        continue;
                    }
                }
                FetchError::SignatureRefused { .. } => return Err(err.into()),
                _ => {}
            }
            retry_state.retry.wait(err).await?;
        }
    }

    /// Decides whether a refusal is permanent, by the code of storage and the expiry of the URL.
    fn judge(&self, err: FetchError, signed: &SignedUrl) -> FetchError {
        let is_lasting = |service: &ServiceError| service.is_about_network() || service.is_final();
        match err {
            FetchError::SignatureRefused { url, service, is_out_of_time } => {
                let is_out_of_time = is_out_of_time || self.urls.has_ended(signed);
                if is_lasting(&service) && !is_out_of_time {
                    return FetchError::StorageRefused { url, status: 403, service };
                }
                FetchError::SignatureRefused { url, service, is_out_of_time }
            }
            FetchError::Status { url, status, service } if is_lasting(&service) => {
                FetchError::StorageRefused { url, status, service }
            }
            err => err,
        }
    }

    /// Makes one request, appends its bytes and returns the proof that the part is complete. Returns `None` if the
    /// transfer ended and nothing proves that.
    async fn attempt(
        &self,
        url: &RedactedUrl,
        is_by_range: bool,
        partial: &mut Partial,
        progress: &FetchProgress,
    ) -> Result<Option<Proof>, DownloadError> {
        let range = match &partial.facts {
            _ if is_by_range => Some(Range::Whole),
            Some(facts) if partial.writer.bytes() > 0 => {
                Some(Range::From { offset: partial.writer.bytes(), etag: &facts.etag })
            }
            _ => None,
        };
        let mut download = self.client.open(url, range).await?;
        let mut stall_detector = StallDetector::new(self.min_throughput);
        if let Some(date) = download.date {
            self.urls.clock().observe(date, Utc::now());
        }
        if download.offset == 0 {
            partial.restart(progress).await?;
        }
        if download.copy_status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("pending")) {
            // The blob is incomplete, even if the response has bytes
            // (pipeline/docs/service.md#failures-of-blob-storage).
            return Err(FetchError::EmptyBody { url: url.clone(), copy_status: download.copy_status }.into());
        }
        if let (Some(before), Some(now)) = (partial.total_bytes, download.total_bytes)
            && before != now
        {
            return Err(FetchError::Changed { url: url.clone() }.into());
        }
        partial.total_bytes = partial.total_bytes.or(download.total_bytes);
        if let Some(total_bytes) = partial.total_bytes {
            if total_bytes > MAX_PART_BYTES {
                return Err(too_large(url).into());
            }
            self.spool.check_room(total_bytes.saturating_sub(partial.writer.bytes()))?;
        }
        partial.md5 = download.md5.take().or_else(|| partial.md5.take());
        if let Some(etag) = download.etag.take()
            && download.offset == 0
        {
            let facts = PartialFacts {
                name: url.part_name().to_owned(),
                etag,
                md5: partial.md5.clone(),
                total_bytes: partial.total_bytes,
            };
            partial.writer.note(&facts).await?;
            partial.facts = Some(facts);
        }
        while let Some(chunk) = stall_detector.next(url, download.chunk()).await? {
            if partial.writer.bytes() + chunk.len() as u64 > MAX_PART_BYTES {
                return Err(too_large(url).into());
            }
            progress.add_bytes(chunk.len() as u64);
            partial.writer.write(chunk).await?;
        }
        let found = partial.writer.bytes();
        if found == 0 {
            return Err(FetchError::EmptyBody { url: url.clone(), copy_status: download.copy_status }.into());
        }
        if let Some(expected) = partial.total_bytes.filter(|expected| *expected != found) {
            return Err(FetchError::WrongLength { url: url.clone(), expected, found }.into());
        }
        if partial.total_bytes.is_none() && partial.md5.is_none() && !download.is_chunked {
            return if is_by_range { self.prove(url, partial).await } else { Ok(None) };
        }
        Ok(partial.proof(download.is_chunked))
    }

    /// Asks for the size of a part whose transfer ended with the connection, by range too. This includes gzip, which
    /// looks complete when it is cut between two members.
    async fn prove(&self, url: &RedactedUrl, partial: &mut Partial) -> Result<Option<Proof>, DownloadError> {
        let found = partial.writer.bytes();
        let Announced { total_bytes, etag, md5 } = self.client.announced(url).await;
        let is_of_other_blob =
            matches!((&etag, &partial.facts), (Some(etag), Some(facts)) if *etag != facts.etag);
        match total_bytes {
            _ if is_of_other_blob => Err(FetchError::Changed { url: url.clone() }.into()),
            Some(total_bytes) if total_bytes == found => {
                (partial.total_bytes, partial.md5) = (Some(total_bytes), md5);
                Ok(partial.proof(false))
            }
            Some(expected) => Err(FetchError::WrongLength { url: url.clone(), expected, found }.into()),
            None => Ok(None),
        }
    }
}

impl Partial {
    async fn restart(&mut self, progress: &FetchProgress) -> Result<(), SpoolError> {
        progress.take_bytes(self.writer.bytes());
        self.facts = None;
        self.md5 = None;
        self.total_bytes = None;
        self.writer.restart().await
    }

    /// Returns the strongest available proof that the part is complete.
    fn proof(&self, is_chunked: bool) -> Option<Proof> {
        if self.md5.is_some() {
            Some(Proof::Md5)
        } else if self.writer.is_gzip() {
            Some(Proof::Gzip)
        } else if self.total_bytes.is_some() {
            Some(Proof::Length)
        } else {
            is_chunked.then_some(Proof::Chunked)
        }
    }
}

fn too_large(url: &RedactedUrl) -> FetchError {
    HttpError::TooLarge { url: url.clone(), max_bytes: MAX_PART_BYTES }.into()
}
