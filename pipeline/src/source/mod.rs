//! Lists exports and delivers their parts: takes a [`SourceConfig`], gives each dataset's [`Export`] and its
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
mod listed_part;
mod redelivery;
mod stored_part;
mod page_envelope;
mod skip_token;
mod url_rules;
mod sources;
mod parts;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

pub use self::config::{ApiRoute, DownloadBounds, RouteConfig, ServiceConfig, SourceConfig};
pub use self::error::SourceError;
pub use self::export::Export;
pub use self::fetch_progress::FetchProgress;
pub use self::files_export::FilesExport;
pub use self::json_pages::JsonPages;
pub use self::listed_part::{ListedPart, PartAddress, PartOnWire};
pub use self::local::{LocalError, LocalFiles, read_small_file};
pub use self::page_envelope::EnvelopeError;
pub use self::sources::Sources;
pub use self::stored_part::{OpenError, StoredPart};
pub use crate::fetch::api::ApiConfig;
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
