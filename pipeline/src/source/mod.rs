//! Where parts come from: takes a [`SourceConfig`] and a dataset, gives the [`Export`] and its parts,
//! each whole and on the local disk. Knows no columns and decodes nothing.
//!
//! ```text
//! open    ── one call ──▶ Export: which snapshot, how many parts
//! deliver ── all parts ─▶ StoredPart, StoredPart, …    through a bounded channel
//!            └──────────◀ one that is damaged          to be fetched again
//! ```

mod error;
mod files_export;
mod listing;
mod signed_urls;
mod download;
mod json_pages;
mod local;
mod redelivery;
mod stored_part;
mod page_envelope;
mod skip_token;
mod url_rules;

#[cfg(test)]
mod tests;

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use schema::Dataset;
use tokio::sync::mpsc::Sender;

pub use self::{
    error::SourceError,
    files_export::FilesExport,
    json_pages::JsonPages,
    local::{LocalError, LocalFiles, read_small_file},
    page_envelope::EnvelopeError,
    stored_part::{OpenError, StoredPart},
};
pub use crate::fetch::api::ApiConfig;
use crate::{
    fetch::{
        FetchError, MinThroughput, RetryPolicy,
        api::{ApiClient, BudgetConfig},
        budget::{CallRate, Keeping},
    },
    http::is_loopback,
    manifest::{GeneratedTimeFrom, Route},
    snapshot::SnapshotId,
    spool::Spool,
};

/// What is known of an export before its parts are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// How the parts come.
    pub route: Route,
    /// When the service generated the export.
    pub generated_time: DateTime<Utc>,
    /// Where that was read.
    pub generated_time_from: GeneratedTimeFrom,
    /// Number of parts; `None` for JSON pages, of which only the next is known.
    pub num_parts: Option<u64>,
    /// Size of all parts, where known: that of local files, unless a pipe is among them that is not read.
    pub num_bytes: Option<u64>,
}

impl Export {
    /// The snapshot that the export is of.
    pub fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::new(self.generated_time)
    }
}

/// How far delivery is. Counts what is delivered and what is on its way.
#[derive(Debug, Default)]
pub struct FetchProgress {
    /// Bytes that are here, those of unfinished parts included.
    pub bytes: AtomicU64,
    /// Parts that are whole.
    pub parts: AtomicU64,
}

impl FetchProgress {
    fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn add_part(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
    }

    fn take_part(&self) {
        self.parts.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to read, and from where.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The road.
    pub route: RouteConfig,
    /// Parts that are downloaded at the same time.
    pub downloads: NonZeroUsize,
    /// Bounds of the retries of API calls.
    pub api_retry: RetryPolicy,
    /// Bounds of the retries of parts and pages.
    pub part_retry: RetryPolicy,
    /// What a transfer must keep up.
    pub min_throughput: MinThroughput,
    /// Whether an API on this machine, which is an emulator, may be called more often than the service.
    pub unlimited_calls: bool,
}

impl SourceConfig {
    /// The client of one of the dataset's calls, at the documented rate of `budget`.
    fn client(
        &self,
        api: &ApiConfig,
        dataset: &'static Dataset,
        mut budget: BudgetConfig<'_>,
    ) -> Result<ApiClient, FetchError> {
        if self.unlimited_calls && is_loopback(&api.api_url) {
            budget.rate = CallRate::UNLIMITED;
        }
        ApiClient::try_new(api, self.api_retry, &dataset.permission, budget)
    }

    fn files_client(
        &self,
        api: &ApiConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
        keeping: Keeping,
    ) -> Result<ApiClient, SourceError> {
        let rate = CallRate::LISTINGS;
        let path = dataset.routes.files;
        let path = path.ok_or(SourceError::NoRoute { dataset: dataset.name, route: Route::Files })?;
        Ok(self.client(api, dataset, BudgetConfig { work_dir, path, rate, keeping })?)
    }

    fn pages_client(
        &self,
        api: &ApiConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
        keeping: Keeping,
    ) -> Result<ApiClient, SourceError> {
        let rate = CallRate::PAGES;
        let path = dataset.routes.json;
        let path = path.ok_or(SourceError::NoRoute { dataset: dataset.name, route: Route::Json })?;
        Ok(self.client(api, dataset, BudgetConfig { work_dir, path, rate, keeping })?)
    }
}

/// The three roads.
#[derive(Debug, Clone)]
pub enum RouteConfig {
    /// Signed download URLs of the files export.
    Files {
        /// The API.
        api: ApiConfig,
        /// Lifetime to ask for.
        sas_valid_hours: u8,
        /// Suffixes of the hosts that parts may come from.
        blob_hosts: Vec<String>,
    },
    /// Pages of the JSON API.
    Json {
        /// The API.
        api: ApiConfig,
        /// Records to ask for on a page.
        page_size: u32,
    },
    /// Files on this machine.
    Local {
        /// Files, folders and globs.
        patterns: Vec<String>,
        /// The snapshot's time; `None` to read it from the paths.
        generated_time: Option<DateTime<Utc>>,
    },
}

/// An export that was listed and can be delivered.
#[derive(Debug)]
pub enum Source {
    /// Signed download URLs.
    Files(FilesExport),
    /// Pages.
    Json(Box<JsonPages>),
    /// Files on this machine.
    Local(LocalFiles),
}

impl Source {
    /// Lists the export: what snapshot it is, and whether it is all there. One API call, retries aside;
    /// the JSON route's first page goes into the spool, and so does what local pipes give. Waits while another
    /// run uses the same spool, and for whoever writes to the pipes.
    ///
    /// # Errors
    ///
    /// Where the export cannot be listed or has no parts.
    pub async fn open(
        config: &SourceConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
    ) -> Result<(Export, Self), SourceError> {
        match &config.route {
            RouteConfig::Files { api, sas_valid_hours, blob_hosts } => {
                let client = config.files_client(api, dataset, work_dir, Keeping::Recorded)?;
                let (export, lister, listing) =
                    files_export::list(client, *sas_valid_hours, blob_hosts).await?;
                let spool = Spool::open(work_dir, dataset.name, export.snapshot_id()).await?;
                Ok((export, Self::Files(FilesExport::try_new(config, lister, listing, spool)?)))
            }
            RouteConfig::Json { api, page_size } => {
                let client = config.pages_client(api, dataset, work_dir, Keeping::Recorded)?;
                let (export, pages) = JsonPages::open(config, client, *page_size, dataset, work_dir).await?;
                Ok((export, Self::Json(Box::new(pages))))
            }
            RouteConfig::Local { patterns, generated_time } => {
                let (export, files) =
                    LocalFiles::open(patterns.clone(), *generated_time, work_dir, dataset.name).await?;
                Ok((export, Self::Local(files)))
            }
        }
    }

    /// Lists the export and touches nothing: for a dry run.
    ///
    /// # Errors
    ///
    /// As [`Source::open`].
    pub async fn plan(
        config: &SourceConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
    ) -> Result<Export, SourceError> {
        match &config.route {
            RouteConfig::Files { api, sas_valid_hours, blob_hosts } => {
                let client = config.files_client(api, dataset, work_dir, Keeping::ReadOnly)?;
                Ok(files_export::list(client, *sas_valid_hours, blob_hosts).await?.0)
            }
            RouteConfig::Json { api, page_size } => {
                let client = config.pages_client(api, dataset, work_dir, Keeping::ReadOnly)?;
                JsonPages::plan(config, client, *page_size).await
            }
            RouteConfig::Local { patterns, generated_time } => {
                LocalFiles::plan(patterns.clone(), *generated_time).await
            }
        }
    }

    /// Where fetched parts are kept, to be removed after publishing; none for local files. While a clone
    /// of it lives, no other run uses it.
    pub fn spool(&self) -> Option<Spool> {
        match self {
            Self::Files(files) => Some(files.spool().clone()),
            Self::Json(pages) => Some(pages.spool().clone()),
            Self::Local(_) => None,
        }
    }

    /// Delivers every part, in any order, and returns when all are taken: one that is given back is
    /// fetched and delivered again. Where `parts` has no room, fetching waits. Ends early, without
    /// error, when the receiver is gone.
    ///
    /// # Errors
    ///
    /// Where a part cannot be had; the others are in the spool by then, for the next run.
    pub async fn deliver(
        self,
        parts: Sender<StoredPart>,
        progress: Arc<FetchProgress>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Files(files) => files.deliver(parts, progress).await,
            Self::Json(pages) => pages.deliver(parts, &progress).await,
            Self::Local(files) => files.deliver(parts, &progress).await,
        }
    }
}
