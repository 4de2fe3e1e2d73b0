//! Lists exports and delivers their parts: takes a [`SourceConfig`] and a dataset, gives the [`Export`] and its
//! parts, each complete and on the local disk. Knows no columns and decodes nothing.
//!
//! ```text
//! open    ── one call ──▶ Export: which snapshot, how many parts
//! deliver ── all parts ─▶ StoredPart, StoredPart, …    through a bounded channel
//!            └──────────◀ a rejected one               to be fetched again
//! ```

mod config;
mod export;
mod fetch_progress;
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

use std::{path::Path, sync::Arc};

use schema::Dataset;
use tokio::sync::mpsc::Sender;

pub use self::config::{RouteConfig, SourceConfig};
pub use self::error::SourceError;
pub use self::export::Export;
pub use self::fetch_progress::FetchProgress;
pub use self::files_export::FilesExport;
pub use self::json_pages::JsonPages;
pub use self::local::{LocalError, LocalFiles, read_small_file};
pub use self::page_envelope::EnvelopeError;
pub use self::stored_part::{OpenError, StoredPart};
pub use crate::fetch::api::ApiConfig;
use crate::fetch::budget::Keeping;
use crate::manifest::Route;
use crate::spool::Spool;

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
    /// Lists the export: which snapshot it is, and whether it is complete. Makes one API call, retries aside.
    /// The JSON route's first page goes into the spool, and so does what local pipes give. Waits while another
    /// run uses the same spool, and until the pipes' writers have closed them.
    ///
    /// # Errors
    ///
    /// Fails if the export cannot be listed or has no parts.
    ///
    /// # Panics
    ///
    /// Never: a listing that is recorded has a source.
    pub async fn open(
        config: &SourceConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
    ) -> Result<(Export, Self), SourceError> {
        let (export, source) = Self::list(config, dataset, work_dir, Keeping::Recorded).await?;
        Ok((export, source.expect("a listing that is recorded can be delivered")))
    }

    /// Lists the export without writing anything, for a dry run.
    ///
    /// # Errors
    ///
    /// As [`Source::open`].
    pub async fn plan(
        config: &SourceConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
    ) -> Result<Export, SourceError> {
        Ok(Self::list(config, dataset, work_dir, Keeping::ReadOnly).await?.0)
    }

    /// Lists the export. The source is `None` with [`Keeping::ReadOnly`].
    async fn list(
        config: &SourceConfig,
        dataset: &'static Dataset,
        work_dir: &Path,
        keeping: Keeping,
    ) -> Result<(Export, Option<Self>), SourceError> {
        let kept_in = (keeping == Keeping::Recorded).then_some(work_dir);
        match &config.route {
            RouteConfig::Files { api, sas_valid_hours, blob_hosts } => {
                let client = config.client(api, dataset, Route::Files, work_dir, keeping)?;
                let (export, lister, listing) =
                    files_export::list(client, *sas_valid_hours, blob_hosts).await?;
                let Some(work_dir) = kept_in else { return Ok((export, None)) };
                let spool = Spool::open(work_dir, dataset.name, export.snapshot_id()).await?;
                let files = FilesExport::try_new(config, lister, listing, spool)?;
                Ok((export, Some(Self::Files(files))))
            }
            RouteConfig::Json { api, page_size } => {
                let client = config.client(api, dataset, Route::Json, work_dir, keeping)?;
                let (export, pages) =
                    JsonPages::list(config, client, *page_size, dataset.name, kept_in).await?;
                Ok((export, pages.map(|pages| Self::Json(Box::new(pages)))))
            }
            RouteConfig::Local { patterns, generated_time } => {
                let (export, files) =
                    LocalFiles::list(patterns.clone(), *generated_time, dataset.name, kept_in).await?;
                Ok((export, files.map(Self::Local)))
            }
        }
    }

    /// Returns the spool of the parts, to be removed after publishing; `None` for local files. No other run uses it
    /// while a clone of it lives.
    pub fn spool(&self) -> Option<Spool> {
        match self {
            Self::Files(files) => Some(files.spool().clone()),
            Self::Json(pages) => Some(pages.spool().clone()),
            Self::Local(_) => None,
        }
    }

    /// Delivers every part, in any order, and returns when all were accepted: a rejected part is fetched and
    /// delivered again. Fetching waits while `parts` is full. Ends early, without error, when the receiver is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Fails if a part cannot be fetched. The others are in the spool by then, for the next run.
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
