//! The files export: one listing of signed URLs, then many downloads into the spool.

use std::sync::Arc;

use schema::Dataset;
use tokio::{sync::mpsc::Sender, task::JoinSet};

use super::{
    Export, FetchProgress, SourceConfig, SourceError, StoredPart,
    download::{DownloadError, Downloader},
    listing::{Lister, Listing},
    signed_urls::SignedUrls,
};
use crate::{
    fetch::{FetchError, RedactedUrl, api::ApiClient, blob::BlobClient},
    manifest::{GeneratedTimeFrom, Route},
    spool::Spool,
};

/// After so many parts have failed for good, the trouble is not with the parts: no further one is begun.
const MAX_FAILED_PARTS: usize = 16;

/// Asks for the listing and checks it.
pub(super) async fn list(
    api: ApiClient,
    sas_valid_hours: u8,
    blob_hosts: &[String],
    dataset: &'static Dataset,
) -> Result<(Export, Lister, Listing), SourceError> {
    let lister = Lister::new(api, sas_valid_hours, blob_hosts, dataset);
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

/// The listed parts of one export, and the spool that they go into.
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
        let downloader = Downloader {
            client: BlobClient::try_new()?,
            spool,
            clock: lister.client.clock().clone(),
            urls: SignedUrls::new(lister, listing),
            retry: config.part_retry,
            rate_floor: config.rate_floor,
        };
        Ok(Self { num_downloads: config.downloads.get(), downloader: Arc::new(downloader) })
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
        let num_parts = self.downloader.urls.len();
        let mut next = 0;
        let mut running = JoinSet::new();
        let mut failed: Vec<(usize, FetchError)> = Vec::new();
        let mut unlisted = None;
        loop {
            while running.len() < self.num_downloads
                && next < num_parts
                && failed.len() < MAX_FAILED_PARTS
                && unlisted.is_none()
            {
                let (downloader, sender, progress) =
                    (self.downloader.clone(), sender.clone(), progress.clone());
                let index = next;
                next += 1;
                running.spawn(async move {
                    let spooled = match downloader.part(index, &progress).await {
                        Ok(spooled) => spooled,
                        Err(err) => return Err((index, err)),
                    };
                    let is_wanted = sender.send(StoredPart::new(index as u64, spooled)).await.is_ok();
                    if is_wanted {
                        progress.add_part();
                    }
                    Ok(is_wanted)
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
                Some(Ok(Err((_, DownloadError::Listing(err))))) if err.is_other_snapshot() => {
                    return Err(*err);
                }
                // Those under way have URLs that still hold.
                Some(Ok(Err((_, DownloadError::Listing(err))))) => {
                    unlisted.get_or_insert(*err);
                }
                Some(Ok(Err((index, DownloadError::Fetch(err))))) => {
                    tracing::error!(part = self.url(index).part_name(), error = %err, "part failed");
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
