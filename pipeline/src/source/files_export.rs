//! The files route: one listing of signed URLs, then concurrent downloads into the spool.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc::{self, Sender, UnboundedSender},
    task::JoinSet,
};

use super::config::DownloadBounds;
use super::download::{DownloadError, Downloader};
use super::listing::{Lister, Listing};
use super::redelivery::{Damage, RetryState, ReturnHandle, ReturnedPart};
use super::signed_urls::SignedUrls;
use super::{Export, FetchProgress, SourceConfig, SourceError, StoredPart};
use crate::fetch::FetchError;
use crate::fetch::api::ApiClient;
use crate::fetch::blob::BlobClient;
use crate::http::RedactedUrl;
use crate::manifest::{GeneratedTimeFrom, Route};
use crate::spool::Spool;

/// After this many failed parts no further download is started: the cause is not in the parts.
const MAX_FAILED_PARTS: usize = 16;

/// Requests the listing and checks it.
pub(super) async fn list(
    api: ApiClient,
    sas_valid_hours: u8,
    blob_hosts: &[String],
) -> Result<(Export, Lister, Listing), SourceError> {
    let lister = Lister::new(api, sas_valid_hours, blob_hosts);
    let listing = lister.list().await?;
    let export = Export {
        route: Route::Files,
        generated_time: listing.generated_time,
        generated_time_from: GeneratedTimeFrom::Listing,
        num_parts: Some(listing.urls.len() as u64),
        num_bytes: None,
    };
    Ok((export, lister, listing))
}

/// The listed parts of one export, and their spool.
#[derive(Debug)]
pub struct FilesExport {
    num_downloads: usize,
    downloader: Arc<Downloader>,
}

impl FilesExport {
    pub(super) fn try_new(
        config: &SourceConfig,
        lister: Lister,
        listing: Listing,
        spool: Spool,
    ) -> Result<Self, SourceError> {
        let bounds = DownloadBounds::of(config);
        Self::of(bounds, SignedUrls::new(lister, listing), spool)
    }

    /// Takes some parts of an export, each after its position in the listing. Their URLs are not renewed.
    pub(super) fn of_parts(
        bounds: DownloadBounds,
        generated_time: DateTime<Utc>,
        urls: Vec<(u64, RedactedUrl)>,
        spool: Spool,
    ) -> Result<Self, SourceError> {
        Self::of(bounds, SignedUrls::fixed(generated_time, urls), spool)
    }

    fn of(bounds: DownloadBounds, urls: SignedUrls, spool: Spool) -> Result<Self, SourceError> {
        let DownloadBounds { downloads, retry, min_throughput } = bounds;
        let client = BlobClient::try_new()?;
        let downloader = Downloader { client, spool, urls, retry, min_throughput };
        Ok(Self { num_downloads: downloads.get(), downloader: Arc::new(downloader) })
    }

    /// Returns the URLs of the last listing, in its order.
    pub(super) fn urls(&self) -> impl Iterator<Item = (u64, RedactedUrl)> {
        let urls = &self.downloader.urls;
        (0..urls.len()).map(|index| (urls.position(index), urls.get(index).url))
    }

    /// Lists the same export again, for new URLs.
    pub(super) async fn list_again(&self) -> Result<(), SourceError> {
        self.downloader.urls.renew(&self.downloader.urls.get(0), None).await
    }

    pub(super) fn spool(&self) -> &Spool {
        &self.downloader.spool
    }

    /// Downloads up to `downloads` parts at a time, rejected ones first. A task that waits for room in `sender` counts
    /// as a download, which bounds the parts in the spool ahead of decoding; a part that was received does not.
    pub(super) async fn deliver(
        self,
        sender: Sender<StoredPart>,
        progress: Arc<FetchProgress>,
    ) -> Result<(), SourceError> {
        let downloader = &self.downloader;
        let (return_sender, mut returned) = mpsc::unbounded_channel();
        // Dropped once no further part is started: from then on the delivered parts keep the channel open.
        let mut return_sender = Some(return_sender);
        let mut fresh = 0..downloader.urls.len();
        let mut running = JoinSet::new();
        let mut failed: Vec<(usize, FetchError)> = Vec::new();
        let (mut unlisted, mut is_refused) = (None, false);
        let mut again: Option<ReturnedPart> = None;
        loop {
            let is_giving_up = failed.len() >= MAX_FAILED_PARTS || unlisted.is_some() || is_refused;
            while running.len() < self.num_downloads && !is_giving_up {
                let job = if let Some(part) = again.take().or_else(|| returned.try_recv().ok()) {
                    PartDownload::again(part)
                } else if let (Some(return_sender), Some(index)) = (&return_sender, fresh.next()) {
                    PartDownload {
                        index,
                        retry_state: downloader.fresh_retry_state(),
                        damage: None,
                        return_sender: return_sender.clone(),
                    }
                } else {
                    break;
                };
                running.spawn(job.run(downloader.clone(), sender.clone(), progress.clone()));
            }
            if is_giving_up || fresh.is_empty() {
                return_sender = None;
            }
            if running.is_empty() && returned.is_closed() {
                break;
            }
            let has_room = running.len() < self.num_downloads && !returned.is_closed();
            let done = tokio::select! {
                () = sender.closed() => return Ok(()), // dropping `running` stops the others
                Some(done) = running.join_next() => done,
                part = returned.recv(), if has_room => {
                    again = part.filter(|_| !is_giving_up);
                    continue;
                }
            };
            match done? {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err((_, DownloadError::Spool(err))) => return Err(err.into()),
                Err((_, DownloadError::Listing(err))) if err.is_other_snapshot() => return Err(*err),
                // Running downloads have URLs that are still valid.
                Err((_, DownloadError::Listing(err))) => {
                    unlisted.get_or_insert(*err);
                }
                Err((index, DownloadError::Fetch(err))) => {
                    tracing::error!(part = self.url(index).part_name(), error = %err, "part failed");
                    // All parts are in one account.
                    is_refused |= matches!(
                        &err,
                        FetchError::StorageRefused { service, .. } if service.is_about_network()
                    );
                    failed.push((index, err));
                }
            }
        }
        if let Some(err) = unlisted {
            return Err(err);
        }
        let num_failed = failed.len();
        let first = failed.into_iter().min_by_key(|(index, _)| *index);
        first.map_or(Ok(()), |(index, source)| {
            let name = self.url(index).part_name().to_owned();
            Err(SourceError::PartFailed { name, num_failed, source: Box::new(source) })
        })
    }

    fn url(&self, index: usize) -> RedactedUrl {
        self.downloader.urls.get(index).url
    }
}

/// The download of one part.
struct PartDownload {
    index: usize,
    retry_state: RetryState,
    /// Damage of its earlier download.
    damage: Option<Damage>,
    return_sender: UnboundedSender<ReturnedPart>,
}

impl PartDownload {
    fn again(part: ReturnedPart) -> Self {
        let ReturnedPart { index, damage, retry_state, sender } = part;
        Self { index, retry_state, damage: Some(damage), return_sender: sender }
    }

    /// Returns whether the receiver still exists.
    async fn run(
        self,
        downloader: Arc<Downloader>,
        sender: Sender<StoredPart>,
        progress: Arc<FetchProgress>,
    ) -> Result<bool, (usize, DownloadError)> {
        let Self { index, mut retry_state, damage, return_sender } = self;
        let fetched = match damage {
            None => downloader.part(index, &mut retry_state, &progress).await,
            Some(damage) => downloader.part_again(index, &mut retry_state, damage, &progress).await,
        };
        let spooled = fetched.map_err(|err| (index, err))?;
        progress.add_part();
        let handle = ReturnHandle { index, sender: return_sender, retry_state, delivered_at: Instant::now() };
        let position = downloader.urls.position(index);
        let part = StoredPart::new(position, spooled).with_return_handle(handle);
        Ok(sender.send(part).await.is_ok())
    }
}
