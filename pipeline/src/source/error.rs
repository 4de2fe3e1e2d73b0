//! Why an export could not be delivered.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{EnvelopeError, LocalError};
use crate::{
    display::time_text,
    exit_code::{Diagnostic, ExitCode},
    fetch::FetchError,
    http::RedactedUrl,
    manifest::Route,
    spool::SpoolError,
};

/// Why an export could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The API, the authority or the network.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The work dir.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The files on this machine.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A tenant without data, or an export that is not ready (pipeline/docs/service.md#listings-and-pages).
    #[error("the export lists no files; nothing published")]
    EmptyExport,
    /// The listing is not what the service documents.
    #[error("GET {url}: no listing: {problem}")]
    BadListing {
        /// The call.
        url: RedactedUrl,
        /// What is wrong, without any of its text: that is signed URLs.
        problem: String,
    },
    /// More parts than a listing can have.
    #[error("GET {url}: the export lists more than {max_parts} files")]
    TooManyParts {
        /// The call.
        url: RedactedUrl,
        /// The bound.
        max_parts: usize,
    },
    /// One part is listed twice: it would count twice.
    #[error("the export lists {name} twice{}", if name == again { String::new() } else { format!(", also spelled {again}") })]
    DuplicatePart {
        /// Name of the part.
        name: String,
        /// The same, as it is spelled the second time.
        again: String,
    },
    /// The dataset does not come that way.
    #[error("{dataset} has no {} route", match route { Route::Files => "files", Route::Json => "JSON", Route::Local => "local" })]
    NoRoute {
        /// The dataset.
        dataset: &'static str,
        /// The route asked for.
        route: Route,
    },
    /// The service does not take the call as it is asked.
    #[error("{refusal}")]
    ValueRefused {
        /// The option that may be why.
        option: &'static str,
        /// What it is.
        value: u32,
        /// What the service says.
        refusal: Box<FetchError>,
    },
    /// A part is somewhere that parts are not fetched from.
    #[error("part {url} is not fetched: {reason}")]
    UrlRefused {
        /// Where it is.
        url: RedactedUrl,
        /// Why not.
        reason: &'static str,
    },
    /// Parts could not be fetched.
    #[error("part {name} could not be fetched{}", others(*num_failed))]
    PartFailed {
        /// The first of them.
        name: String,
        /// How many.
        num_failed: usize,
        /// What became of the first.
        source: Box<FetchError>,
    },
    /// A page is not what the service documents.
    #[error("GET {url}: {source}")]
    BadPage {
        /// The page's link.
        url: RedactedUrl,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// A link that is no URL.
    #[error("{page}: `@odata.nextLink` is no absolute url")]
    BadNextLink {
        /// Name of the page that has it.
        page: String,
    },
    /// The pages go round in a circle (pipeline/docs/service.md#failures-of-the-api).
    #[error("{page}: `@odata.nextLink` was followed before; the pages would never end")]
    RepeatedNextLink {
        /// Name of the page that has it.
        page: String,
    },
    /// More pages than an export can have.
    #[error("more than {max_pages} pages")]
    TooManyPages {
        /// The bound.
        max_pages: u64,
    },
    /// The service moved on to another snapshot between two pages.
    #[error(
        "{page} is of the snapshot {}, the pages before it of {}; snapshots are never mixed",
        time_text(found),
        time_text(expected)
    )]
    SnapshotChanged {
        /// Name of the page.
        page: String,
        /// Time of the pages before.
        expected: DateTime<Utc>,
        /// Time of this one.
        found: DateTime<Utc>,
    },
    /// No time to publish under.
    #[error("GET {url}: neither `$skiptoken` nor `Date` says when the export was generated")]
    NoGeneratedTime {
        /// The first page's link.
        url: RedactedUrl,
    },
    /// The service moved on to another snapshot between two listings of one run.
    #[error(
        "the export was generated anew while it was downloaded: {} is listed in place of {}; snapshots are never mixed",
        time_text(found),
        time_text(expected)
    )]
    SnapshotReplaced {
        /// Time of the first listing.
        expected: DateTime<Utc>,
        /// Time of the later one.
        found: DateTime<Utc>,
    },
    /// A later listing of the same snapshot has a part that the first did not have.
    #[error("the export lists {name} now and did not before")]
    PartsChanged {
        /// The part.
        name: String,
    },
    /// The URLs end faster than parts can be downloaded.
    #[error("the export was listed {max_listings} times and its download urls still end too early")]
    TooManyListings {
        /// The bound.
        max_listings: u32,
    },
    /// A mistake of ours.
    #[error("a task of the source failed")]
    Task(#[from] tokio::task::JoinError),
}

impl SourceError {
    /// Whether what was fetched is not, or no longer, what the service lists: a run may start over.
    pub fn is_other_snapshot(&self) -> bool {
        matches!(self, Self::SnapshotReplaced { .. } | Self::PartsChanged { .. })
    }
}

impl Diagnostic for SourceError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Fetch(err) => err.exit_code(),
            Self::PartFailed { source, .. } => source.exit_code(),
            Self::Local(err) => err.exit_code(),
            Self::NoRoute { .. } => ExitCode::Usage,
            Self::Task(_) => ExitCode::Internal,
            Self::Spool(err) => err.exit_code(),
            _ => ExitCode::Source,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Fetch(err) => err.hint(),
            Self::PartFailed { source, .. } => Some(match source.hint() {
                Some(hint) => format!("{hint}; whole parts are kept").into(),
                None => "run again: whole parts are kept".into(),
            }),
            Self::Local(err) => err.hint(),
            Self::NoRoute { route: Route::Files, .. } => Some("pass --via json".into()),
            Self::NoRoute { .. } => Some("pass --via files".into()),
            Self::ValueRefused { option: "--sas-valid-hours", value, .. } if *value > 6 => Some(format!(
                "several of the service's calls now allow 6 hours at most: pass --sas-valid-hours 6 instead of {value}"
            ).into()),
            Self::ValueRefused { option, value, .. } => {
                Some(format!("if the service does not allow {option} {value}, pass a lower value").into())
            }
            Self::Spool(err) => err.hint(),
            Self::EmptyExport => {
                Some("the tenant has no data yet, or the export is not ready; run again later".into())
            }
            Self::UrlRefused { .. } => {
                Some("if the host is the service's own, allow it with --blob-host or --cloud".into())
            }
            Self::SnapshotChanged { .. } | Self::RepeatedNextLink { .. } | Self::BadNextLink { .. } => {
                Some("run again, or take the export by --via files".into())
            }
            Self::DuplicatePart { .. }
            | Self::BadPage { .. }
            | Self::BadListing { .. }
            | Self::SnapshotReplaced { .. }
            | Self::PartsChanged { .. } => Some("run again later".into()),
            Self::TooManyListings { .. } => Some("ask for a longer life with --sas-valid-hours".into()),
            _ => None,
        }
    }
}

fn others(num_failed: usize) -> String {
    match num_failed {
        0 | 1 => String::new(),
        2 => ", nor one other".into(),
        n => format!(", nor {} others", n - 1),
    }
}
