//! The files export: one listing of signed URLs, then many downloads into the spool.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, NaiveDateTime, Utc};
use schema::Dataset;
use serde::Deserialize;
use tokio::{sync::mpsc::Sender, task::JoinSet};
use url::Url;

use super::{ApiConfig, Export, FetchProgress, SourceConfig, SourceError, StoredPart, url_rules::UrlRules};
use crate::{
    fetch::{
        FetchError, RedactedUrl, RetryPolicy,
        api::ApiClient,
        blob::{BlobClient, Resume},
        http::read_bounded,
    },
    manifest::{GeneratedTimeFrom, Route},
    spool::{PartWriter, Spool, SpoolError, Spooled, SpooledFacts},
};

/// Largest listing that is read. A signed URL has some 700 bytes, so this holds more than 300,000.
const MAX_LISTING_BYTES: usize = 256 * 1024 * 1024;
/// Most parts of one export. At least one for each device group and Spark task: thousands are real.
const MAX_PARTS: usize = 500_000;
/// Largest part. Real ones have some 10 MB.
const MAX_PART_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// After so many parts have failed for good, the trouble is not with the parts: no further one is begun.
const MAX_FAILED_PARTS: usize = 16;

/// One entry of the listing.
#[derive(Debug)]
pub(super) struct ListedPart {
    index: u64,
    url: RedactedUrl,
}

/// Asks for the listing and checks it.
pub(super) async fn list(
    config: &SourceConfig,
    api: &ApiConfig,
    sas_valid_hours: u8,
    blob_hosts: &[String],
    dataset: &'static Dataset,
) -> Result<(Export, Vec<ListedPart>), SourceError> {
    let client = ApiClient::try_new(api, config.api_retry, &dataset.permission)?;
    let url = client.url(dataset.files_export, ("sasValidHours", sas_valid_hours.into()));
    let mut retry = client.start_retry();
    let body = loop {
        let response = client.get(&url, &mut retry).await?;
        match read_bounded(response, &RedactedUrl::from(&url), MAX_LISTING_BYTES).await {
            Ok(body) => break body,
            Err(err) => retry.wait(err).await?,
        }
    };
    let rules = UrlRules::new(blob_hosts, client.is_loopback());
    let (generated_time, parts) = parse_listing(&body, &url.into(), &rules)?;
    let export = Export {
        route: Route::Files,
        generated_time,
        generated_time_from: GeneratedTimeFrom::Listing,
        num_parts: Some(parts.len() as u64),
        num_bytes: None,
    };
    tracing::info!(dataset = dataset.name, num_parts = parts.len(), %generated_time, "export listed");
    Ok((export, parts))
}

/// `{"exportFiles":[…],"generatedTime":"…"}`; `@odata.context` may be absent and more may be there
/// (facts §1.4).
fn parse_listing(
    body: &[u8],
    url: &RedactedUrl,
    rules: &UrlRules,
) -> Result<(DateTime<Utc>, Vec<ListedPart>), SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listing {
        export_files: Vec<String>,
        generated_time: Option<String>,
    }
    let bad = |problem: String| SourceError::BadListing { url: url.clone(), problem };
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let listing: Listing = serde_json::from_slice(body).map_err(|err| {
        // Only the place: the parser's text quotes values, and those are signed URLs.
        bad(format!("unexpected json at line {} column {}", err.line(), err.column()))
    })?;
    if listing.export_files.is_empty() {
        return Err(SourceError::EmptyExport);
    }
    if listing.export_files.len() > MAX_PARTS {
        return Err(SourceError::TooManyParts { url: url.clone(), max_parts: MAX_PARTS });
    }
    let time = listing.generated_time.as_deref().and_then(parse_generated_time);
    let generated_time = time.ok_or_else(|| bad("it has no `generatedTime` that is a time".into()))?;

    let mut parts = Vec::with_capacity(listing.export_files.len());
    let mut names = HashSet::with_capacity(listing.export_files.len());
    for (index, text) in (0..).zip(listing.export_files) {
        let url = Url::parse(&text).map_err(|_| bad(format!("file {index} is no url")))?;
        if let Some(reason) = rules.refusal(&url) {
            return Err(SourceError::UrlRefused { url: url.into(), reason });
        }
        let url = RedactedUrl::from(url);
        // Whole paths: two parts may have one base name (facts §4 F11).
        if !names.insert(url.part_name().to_owned()) {
            return Err(SourceError::DuplicatePart { name: url.part_name().to_owned() });
        }
        parts.push(ListedPart { index, url });
    }
    Ok((generated_time, parts))
}

/// RFC 3339 with or without a fraction (both are seen, facts §1.4); without a zone it is UTC.
fn parse_generated_time(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let bare = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc());
    zoned.or_else(|_| bare()).ok()
}

/// The listed parts of one export, and the spool that they go into.
#[derive(Debug)]
pub struct FilesExport {
    parts: Vec<ListedPart>,
    num_downloads: usize,
    downloader: Downloader,
}

#[derive(Debug, Clone)]
struct Downloader {
    client: BlobClient,
    spool: Spool,
    retry: RetryPolicy,
}

/// A part that failed leaves the others alone; a disk that fails does not.
#[derive(Debug, thiserror::Error)]
enum DownloadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl FilesExport {
    pub(super) fn try_new(
        config: &SourceConfig,
        parts: Vec<ListedPart>,
        spool: Spool,
    ) -> Result<Self, SourceError> {
        let downloader = Downloader { client: BlobClient::try_new()?, spool, retry: config.part_retry };
        Ok(Self { parts, num_downloads: config.downloads.get(), downloader })
    }

    pub(super) fn spool(&self) -> &Spool {
        &self.downloader.spool
    }

    /// Downloads up to `downloads` parts at a time. A task that waits for room in `sender` keeps its
    /// place, so what is in the spool ahead of decoding stays bounded as well.
    pub(super) async fn deliver(
        self,
        sender: Sender<StoredPart>,
        progress: Arc<FetchProgress>,
    ) -> Result<(), SourceError> {
        let mut waiting = VecDeque::from(self.parts);
        let mut running = JoinSet::new();
        let mut failed: Vec<(ListedPart, FetchError)> = Vec::new();
        loop {
            while running.len() < self.num_downloads && failed.len() < MAX_FAILED_PARTS {
                let Some(part) = waiting.pop_front() else { break };
                let (downloader, sender, progress) =
                    (self.downloader.clone(), sender.clone(), progress.clone());
                running.spawn(async move {
                    let result = downloader.part(&part, &progress).await;
                    let sent = match result {
                        Ok(spooled) => Ok(sender.send(StoredPart::new(part.index, spooled)).await.is_ok()),
                        Err(err) => Err((part, err)),
                    };
                    if matches!(sent, Ok(true)) {
                        progress.add_part();
                    }
                    sent
                });
            }
            let done = tokio::select! {
                () = sender.closed() => return Ok(()), // dropping `running` stops the others
                done = running.join_next() => done,
            };
            match done {
                None => break,
                Some(Err(err)) => return Err(err.into()),
                Some(Ok(Ok(true))) => {}
                Some(Ok(Ok(false))) => return Ok(()),
                Some(Ok(Err((_, DownloadError::Spool(err))))) => return Err(err.into()),
                Some(Ok(Err((part, DownloadError::Fetch(err))))) => {
                    tracing::error!(part = part.url.part_name(), error = %err, "part failed");
                    failed.push((part, err));
                }
            }
        }
        let num_failed = failed.len();
        let first = failed.into_iter().min_by_key(|(part, _)| part.index);
        first.map_or(Ok(()), |(part, source)| {
            let name = part.url.part_name().to_owned();
            Err(SourceError::PartFailed { name, num_failed, source: Box::new(source) })
        })
    }
}

/// What a download needs to go on after it broke off.
#[derive(Debug, Default)]
struct Partial {
    etag: Option<String>,
    md5: Option<String>,
}

impl Downloader {
    /// The whole part: from an earlier run, or downloaded.
    async fn part(&self, part: &ListedPart, progress: &FetchProgress) -> Result<Spooled, DownloadError> {
        let name = part.url.part_name();
        if let Some(spooled) = self.spool.find(name).await {
            tracing::debug!(part = name, "taken over from an earlier run");
            progress.add_bytes(spooled.facts.bytes);
            return Ok(spooled);
        }
        let mut writer = self.spool.begin(name).await?;
        let mut partial = Partial::default();
        let mut retry = self.retry.start();
        while let Err(err) = self.attempt(part, &mut writer, &mut partial, progress).await {
            match err {
                DownloadError::Fetch(err) => {
                    if matches!(err, FetchError::Md5Mismatch { .. } | FetchError::Changed { .. }) {
                        restart(&mut writer, &mut partial, progress).await?;
                    }
                    if let Err(err) = retry.wait(err).await {
                        progress.take_bytes(writer.bytes());
                        return Err(err.into());
                    }
                }
                err @ DownloadError::Spool(_) => return Err(err),
            }
        }
        let facts =
            SpooledFacts { name: name.to_owned(), server_md5: partial.md5, ..SpooledFacts::default() };
        Ok(writer.finish(&self.spool, facts).await?)
    }

    /// One request: appends what it brings, and checks the whole at its end.
    async fn attempt(
        &self,
        part: &ListedPart,
        writer: &mut PartWriter,
        partial: &mut Partial,
        progress: &FetchProgress,
    ) -> Result<(), DownloadError> {
        let url = &part.url;
        let resume = match &partial.etag {
            Some(etag) if writer.bytes() > 0 => Some(Resume { offset: writer.bytes(), etag }),
            _ => None,
        };
        let mut download = self.client.open(url, resume).await?;
        if download.offset == 0 {
            restart(writer, partial, progress).await?;
            partial.etag = download.etag.take();
            partial.md5 = download.md5.take();
        } else if partial.md5.is_none() {
            partial.md5 = download.md5.take();
        }
        if download.copy_status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("pending")) {
            // Its bytes are not all there, whatever came with them (facts §4 F1).
            return Err(FetchError::EmptyBody { url: url.clone(), copy_status: download.copy_status }.into());
        }
        while let Some(chunk) = download.chunk().await? {
            if writer.bytes() + chunk.len() as u64 > MAX_PART_BYTES {
                return Err(FetchError::TooLarge { url: url.clone(), max_bytes: MAX_PART_BYTES }.into());
            }
            writer.write(&chunk).await?;
            progress.add_bytes(chunk.len() as u64);
        }
        let found = writer.bytes();
        if found == 0 {
            return Err(FetchError::EmptyBody { url: url.clone(), copy_status: download.copy_status }.into());
        }
        if let Some(expected) = download.total_bytes.filter(|expected| *expected != found) {
            return Err(FetchError::WrongLength { url: url.clone(), expected, found }.into());
        }
        if let Some(expected) = partial.md5.clone() {
            let found = writer.md5();
            if expected != found {
                return Err(FetchError::Md5Mismatch { url: url.clone(), expected, found }.into());
            }
        }
        Ok(())
    }
}

async fn restart(
    writer: &mut PartWriter,
    partial: &mut Partial,
    progress: &FetchProgress,
) -> Result<(), SpoolError> {
    progress.take_bytes(writer.bytes());
    *partial = Partial::default();
    writer.restart().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(DateTime<Utc>, Vec<ListedPart>), SourceError> {
        let rules = UrlRules::new(&["blob.core.windows.net".into()], false);
        let url = Url::parse("https://api.example/api/x?sasValidHours=6").unwrap();
        parse_listing(body.as_bytes(), &url.into(), &rules)
    }

    fn listing(urls: &[&str], time: &str) -> String {
        format!(
            r#"{{"exportFiles":{},"more":[1],"generatedTime":"{time}"}}"#,
            serde_json::to_string(urls).unwrap()
        )
    }

    #[test]
    fn parts_are_named_by_their_whole_path() {
        let base = "https://x.blob.core.windows.net/tvm-export/2021-01-11/1101";
        let urls = [
            format!("{base}/_RbacGroupId=4/part-0.json.gz?sig=a"),
            format!("{base}/_RbacGroupId%3D5/part-0.json.gz?sig=b"),
        ];
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let (time, parts) = parse(&listing(&urls, "2021-01-11T11:01:00.123Z")).unwrap();
        assert_eq!(time.timestamp_millis(), 1_610_362_860_123);
        let names: Vec<_> = parts.iter().map(|part| part.url.part_name()).collect();
        assert_eq!(
            names,
            [
                "tvm-export/2021-01-11/1101/_RbacGroupId=4/part-0.json.gz",
                "tvm-export/2021-01-11/1101/_RbacGroupId%3D5/part-0.json.gz",
            ]
        );
    }

    #[test]
    fn what_is_no_listing_is_refused_without_being_quoted() {
        let url = "https://x.blob.core.windows.net/p?sig=SECRET";
        let time = "2021-01-11T11:01:00Z";
        let check = |body: &str, expected: &str| {
            let err = parse(body).unwrap_err();
            assert_eq!(err.to_string(), expected);
            assert!(!format!("{err:?}").contains("SECRET"), "{err:?}");
            assert_eq!(err.exit_code(), crate::exit_code::ExitCode::Source);
        };
        check(&listing(&[], time), "the export lists no files; nothing published");
        let twice = listing(&[url, &url.replace("SECRET", "OTHER")], time);
        check(&twice, "the export lists p twice");
        check(
            &listing(&[url, "nonsense"], time),
            "GET https://api.example/api/x: no listing: file 1 is no url",
        );
        check(
            &listing(&["https://evil.example/p?sig=SECRET"], time),
            "part https://evil.example/p is not fetched: the host is not allowed",
        );
        check(
            &listing(&[url], "yesterday"),
            "GET https://api.example/api/x: no listing: it has no `generatedTime` that is a time",
        );
        check(
            &format!(r#"{{"exportFiles":"{url}"}}"#),
            "GET https://api.example/api/x: no listing: unexpected json at line 1 column 61",
        );
        assert!(parse("{}").is_err());
    }

    #[test]
    fn a_listing_of_100_000_parts_is_taken() {
        let urls: Vec<_> = (0..100_000)
            .map(|n| format!("https://x.blob.core.windows.net/c/part-{n}?sv=1&sig=abc"))
            .collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let (_, parts) = parse(&listing(&urls, "2021-01-11T11:01:00")).unwrap();
        assert_eq!(parts.len(), 100_000);
    }
}
