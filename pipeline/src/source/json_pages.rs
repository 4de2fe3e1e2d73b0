//! The JSON route: page after page, each streamed into the spool while its envelope is read.
//!
//! A page is decoded from the spool while the next one streams in: it is complete on the disk and never in memory.
//! Decoding starts after its last byte, because the rows of a truncated page could not be withdrawn, a run resumes
//! at the last complete page, and the link to the next page is at the end anyway. The service is the bottleneck,
//! so this only costs the decoding time of the last page. Every run fetches the first page: it says which snapshot
//! there is, and so whether the spool is still of use.

use std::{collections::HashSet, path::Path};

use chrono::{DateTime, SubsecRound, Utc};
use reqwest::header;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use url::Url;

use super::page_envelope::{EnvelopeScanner, PageEnvelope};
use super::skip_token::snapshot_time;
use super::{EnvelopeError, Export, FetchProgress, SourceConfig, SourceError, StoredPart};
use crate::digest::sha256_hex;
use crate::fetch::api::{ApiClient, parse_http_date};
use crate::fetch::blob::is_chunked;
use crate::fetch::stall::StallDetector;
use crate::fetch::{FetchError, MinThroughput, RetryPolicy};
use crate::http::{HttpError, RedactedUrl, transport_error};
use crate::manifest::{GeneratedTimeFrom, Proof, Route};
use crate::snapshot::SnapshotId;
use crate::spool::{self, PartWriter, Spool, Spooled, SpooledFacts};

/// Most pages of one export, more than any tenant has at a sensible page size.
const MAX_PAGES: u64 = 100_000;
/// Largest page. 200,000 records of 0.5 KB are 100 MB (pipeline/docs/service.md#records).
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// The pages of one export, the first of which is in the spool.
#[derive(Debug)]
pub struct JsonPages {
    client: ApiClient,
    transfer: Transfer,
    spool: Spool,
    /// The first page, and the link to the second.
    first: (Spooled, Option<Url>),
    /// URL of the first page.
    first_url: Url,
    /// The snapshot of the pages, if their links say.
    snapshot_time: Option<DateTime<Utc>>,
}

/// The bounds of a page's transfer.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    retry: RetryPolicy,
    min_throughput: MinThroughput,
}

/// A complete page.
struct FetchedPage {
    next_link: Option<Url>,
    proof: Proof,
    /// `Date` of the response.
    date: Option<DateTime<Utc>>,
}

impl JsonPages {
    /// Fetches the first page, which names the snapshot. Without `work_dir` nothing is kept of it, and there are
    /// no pages to deliver.
    pub(super) async fn list(
        config: &SourceConfig,
        client: ApiClient,
        page_size: u32,
        dataset: &'static str,
        work_dir: Option<&Path>,
    ) -> Result<(Export, Option<Self>), SourceError> {
        let transfer = Transfer { retry: config.part_retry, min_throughput: config.min_throughput };
        let url = client.url(("pageSize", page_size));
        // Which spool the page belongs to is known once it has been read.
        let mut writer = match work_dir {
            Some(work_dir) => Some(spool::begin_unnamed(work_dir, dataset).await?),
            None => None,
        };
        let progress = FetchProgress::default();
        let page = fetch_page(&client, transfer, &url, 0, writer.as_mut(), &progress).await;
        let page = page.map_err(|err| refused(err, page_size))?;
        let export = export_of(&page, &url)?;
        let (Some(writer), Some(work_dir)) = (writer, work_dir) else { return Ok((export, None)) };
        let spool = Spool::open(work_dir, dataset, SnapshotId::new(export.generated_time)).await?;
        let spooled = writer.finish(&spool, page_facts(0, &url, &page)).await?;
        tracing::info!(dataset, generated_time = %export.generated_time, "first page fetched");
        let pages = Self {
            client,
            transfer,
            spool,
            snapshot_time: page.next_link.as_ref().and_then(snapshot_time),
            first: (spooled, page.next_link),
            first_url: url,
        };
        Ok((export, Some(pages)))
    }

    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Fetches one page ahead of what has room in `sender`. The pages are a chain and cannot be fetched
    /// concurrently.
    pub(super) async fn deliver(
        mut self,
        sender: Sender<StoredPart>,
        progress: &FetchProgress,
    ) -> Result<(), SourceError> {
        let mut followed = HashSet::from([sha256_hex(self.first_url.as_str())]);
        let (mut spooled, mut next_link) = self.first.clone();
        progress.add_bytes(spooled.facts.bytes);
        for index in 0.. {
            if sender.send(StoredPart::new(index, spooled)).await.is_err() {
                return Ok(());
            }
            progress.add_part();
            let Some(link) = next_link else { return Ok(()) };
            let page = page_name(index);
            if !followed.insert(sha256_hex(link.as_str())) {
                return Err(SourceError::RepeatedNextLink { page });
            }
            self.check_snapshot(&page, &link)?;
            if index + 1 == MAX_PAGES {
                return Err(SourceError::TooManyPages { max_pages: MAX_PAGES });
            }
            (spooled, next_link) = tokio::select! {
                () = sender.closed() => return Ok(()),
                page = self.page(index + 1, &link, progress) => page?,
            };
        }
        Ok(())
    }

    /// Fails if a page names another snapshot than those before it: a pull that crosses a
    /// regeneration stays on its snapshot (pipeline/docs/service.md#skip-tokens, inferred), so this is never
    /// right.
    fn check_snapshot(&mut self, page: &str, next_link: &Url) -> Result<(), SourceError> {
        let Some(found) = snapshot_time(next_link) else { return Ok(()) };
        let expected = *self.snapshot_time.get_or_insert(found);
        if expected == found {
            return Ok(());
        }
        Err(SourceError::SnapshotChanged { page: page.to_owned(), expected, found })
    }

    /// Returns the page at `link`: from an earlier run that followed the same link, or fetched.
    async fn page(
        &self,
        index: u64,
        link: &Url,
        progress: &FetchProgress,
    ) -> Result<(Spooled, Option<Url>), SourceError> {
        let link_sha256 = Some(sha256_hex(link.as_str()));
        let is_wanted = move |facts: &SpooledFacts| facts.link_sha256 == link_sha256 && facts.proof.is_some();
        if let Some(spooled) = self.spool.find(&page_name(index), is_wanted).await {
            let next_link = spooled.facts.next_link.as_deref().map(Url::parse).transpose();
            if let Ok(next_link) = next_link {
                progress.add_bytes(spooled.facts.bytes);
                return Ok((spooled, next_link));
            }
        }
        self.spool.check_room(self.first.0.facts.bytes)?; // pages are of one size
        let mut writer = self.spool.begin(&page_name(index)).await?;
        let page = fetch_page(&self.client, self.transfer, link, index, Some(&mut writer), progress).await?;
        let spooled = writer.finish(&self.spool, page_facts(index, link, &page)).await?;
        Ok((spooled, page.next_link))
    }
}

/// Fetches one page, with retries if it is truncated.
async fn fetch_page(
    client: &ApiClient,
    transfer: Transfer,
    link: &Url,
    index: u64,
    mut writer: Option<&mut PartWriter>,
    progress: &FetchProgress,
) -> Result<FetchedPage, SourceError> {
    let mut retry = transfer.retry.start();
    loop {
        match read_page(client, transfer.min_throughput, link, writer.as_deref_mut(), progress).await {
            Ok((envelope, date, proof)) => {
                let next_link = next_link(&envelope, index, client)?;
                return Ok(FetchedPage { next_link, proof, date });
            }
            Err(SourceError::Fetch(err)) => {
                if let Some(writer) = &mut writer {
                    progress.take_bytes(writer.bytes());
                    writer.restart().await?;
                }
                retry.wait(err).await?;
            }
            Err(err) => return Err(err),
        }
    }
}

async fn read_page(
    client: &ApiClient,
    min_throughput: MinThroughput,
    link: &Url,
    mut writer: Option<&mut PartWriter>,
    progress: &FetchProgress,
) -> Result<(PageEnvelope, Option<DateTime<Utc>>, Proof), SourceError> {
    let mut response = client.get(link, &mut client.start_retry()).await?;
    let proof = match response.content_length() {
        Some(_) => Proof::Length,
        None if is_chunked(&response) => Proof::Chunked,
        None => Proof::Json,
    };
    let date = response.headers().get(header::DATE).and_then(|date| parse_http_date(date.to_str().ok()?));
    let mut scanner = EnvelopeScanner::default();
    let mut bytes = 0;
    let bad_page = |source| match source {
        // A truncated transfer: worth another attempt.
        EnvelopeError::Truncated { bytes } => FetchError::CutPage { url: link.into(), found: bytes }.into(),
        source => SourceError::BadPage { url: link.into(), source },
    };
    let mut stall_detector = StallDetector::new(min_throughput);
    let shown = RedactedUrl::from(link);
    while let Some(chunk) = stall_detector
        .next(&shown, async { response.chunk().await.map_err(|err| transport_error(link, err).into()) })
        .await?
    {
        bytes += chunk.len() as u64;
        if bytes > MAX_PAGE_BYTES {
            let too_large = HttpError::TooLarge { url: link.into(), max_bytes: MAX_PAGE_BYTES };
            return Err(FetchError::from(too_large).into());
        }
        scanner.push(&chunk).map_err(bad_page)?;
        if let Some(writer) = &mut writer {
            progress.add_bytes(chunk.len() as u64);
            writer.write(chunk).await?;
        }
    }
    Ok((scanner.finish().map_err(bad_page)?, date, proof))
}

/// Returns `@odata.nextLink`, which is absent, null or empty on the last page. A link to another host of the same
/// cloud is followed at the API's own origin; the API client refuses any other.
fn next_link(envelope: &PageEnvelope, index: u64, client: &ApiClient) -> Result<Option<Url>, SourceError> {
    match envelope.get("@odata.nextLink") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(link)) if link.is_empty() => Ok(None),
        Some(Value::String(link)) if let Ok(link) = Url::parse(link) => Ok(Some(client.at_own_origin(link))),
        Some(_) => Err(SourceError::BadNextLink { page: page_name(index) }),
    }
}

fn export_of(page: &FetchedPage, url: &Url) -> Result<Export, SourceError> {
    let from_token = page.next_link.as_ref().and_then(snapshot_time);
    let (generated_time, generated_time_from) = match (from_token, page.date) {
        (Some(time), _) => (time, GeneratedTimeFrom::SkipToken),
        (None, Some(date)) => (date.trunc_subsecs(0), GeneratedTimeFrom::ResponseDate),
        (None, None) => return Err(SourceError::NoGeneratedTime { url: url.into() }),
    };
    Ok(Export { route: Route::Json, generated_time, generated_time_from, num_parts: None, num_bytes: None })
}

/// Converts a bad request for the first page: the page size may be too large for the service.
fn refused(err: SourceError, page_size: u32) -> SourceError {
    match err {
        SourceError::Fetch(err @ FetchError::Status { status: 400, .. }) => {
            SourceError::ValueRefused { option: "--page-size", value: page_size, refusal: Box::new(err) }
        }
        err => err,
    }
}

fn page_name(index: u64) -> String {
    format!("page-{index:05}.json")
}

fn page_facts(index: u64, link: &Url, page: &FetchedPage) -> SpooledFacts {
    SpooledFacts {
        name: page_name(index),
        proof: Some(page.proof),
        link_sha256: Some(sha256_hex(link.as_str())),
        next_link: page.next_link.as_ref().map(Url::to_string),
        ..SpooledFacts::default()
    }
}
