//! Where parts come from: takes a [`SourceConfig`] and a dataset, gives the [`Export`] and its parts,
//! each whole and on the local disk. Knows no columns and decodes nothing.
//!
//! ```text
//! open    ── one call ──▶ Export: which snapshot, how many parts
//! deliver ── all parts ─▶ StoredPart, StoredPart, …    through a bounded channel
//!            └──────────◀ one that is damaged          to be fetched again
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

pub use self::{
    config::{RouteConfig, SourceConfig},
    error::SourceError,
    export::Export,
    fetch_progress::FetchProgress,
    files_export::FilesExport,
    json_pages::JsonPages,
    local::{LocalError, LocalFiles, read_small_file},
    page_envelope::EnvelopeError,
    stored_part::{OpenError, StoredPart},
};
pub use crate::fetch::api::ApiConfig;
use crate::{fetch::budget::Keeping, spool::Spool};

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
