//! Why an export could not be delivered.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{EnvelopeError, LocalError};
use crate::display::time_text;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::fetch::FetchError;
use crate::http::RedactedUrl;
use crate::manifest::Route;
use crate::spool::SpoolError;

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
    /// The tenant has no data, or the export is not ready (pipeline/docs/service.md#listings-and-pages).
    #[error("the export lists no files; nothing published")]
    EmptyExport,
    /// The listing is not as documented.
    #[error("GET {url}: invalid listing: {problem}")]
    BadListing {
        /// The call.
        url: RedactedUrl,
        /// The problem, without text of the listing, which has signed URLs.
        problem: String,
    },
    /// The listing has more parts than any export.
    #[error("GET {url}: the export lists more than {max_parts} files")]
    TooManyParts {
        /// The call.
        url: RedactedUrl,
        /// The bound.
        max_parts: usize,
    },
    /// A part is listed twice and would count twice.
    #[error("the export lists {name} twice{}", if name == again { String::new() } else { format!(", also spelled {again}") })]
    DuplicatePart {
        /// Name of the part.
        name: String,
        /// Its second spelling.
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
    /// The service refuses a parameter of the call.
    #[error("{refusal}")]
    ValueRefused {
        /// The option that may be the reason.
        option: &'static str,
        /// Its value.
        value: u32,
        /// The service's error.
        refusal: Box<FetchError>,
    },
    /// The URL of a part is not allowed.
    #[error("part {url} is not fetched: {reason}")]
    UrlRefused {
        /// The URL.
        url: RedactedUrl,
        /// The reason.
        reason: &'static str,
    },
    /// Parts could not be fetched.
    #[error("part {name} could not be fetched{}", others(*num_failed))]
    PartFailed {
        /// Name of the first.
        name: String,
        /// Number of failed parts.
        num_failed: usize,
        /// The error of the first.
        source: Box<FetchError>,
    },
    /// A page is not as documented.
    #[error("GET {url}: {source}")]
    BadPage {
        /// The page's link.
        url: RedactedUrl,
        /// The problem.
        source: EnvelopeError,
    },
    /// A link is not a URL.
    #[error("{page}: `@odata.nextLink` is not an absolute url")]
    BadNextLink {
        /// Name of the page that has it.
        page: String,
    },
    /// The links of the pages form a loop (pipeline/docs/service.md#failures-of-the-api).
    #[error("{page}: `@odata.nextLink` was already followed; the pages would never end")]
    RepeatedNextLink {
        /// Name of the page that has it.
        page: String,
    },
    /// There are more pages than any export has.
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
        /// Time of the earlier pages.
        expected: DateTime<Utc>,
        /// Time of this page.
        found: DateTime<Utc>,
    },
    /// The generated time is unknown.
    #[error("GET {url}: neither `$skiptoken` nor `Date` says when the export was generated")]
    NoGeneratedTime {
        /// The first page's link.
        url: RedactedUrl,
    },
    /// The service moved on to another snapshot between two listings of one run.
    #[error(
        "the export was regenerated during the download: expected snapshot {}, found {}; snapshots are never mixed",
        time_text(expected),
        time_text(found)
    )]
    SnapshotReplaced {
        /// Time of the first listing.
        expected: DateTime<Utc>,
        /// Time of the later one.
        found: DateTime<Utc>,
    },
    /// A later listing of the same snapshot has a part that the first did not have.
    #[error("the export now lists {name}, which an earlier listing lacked")]
    PartsChanged {
        /// The part.
        name: String,
    },
    /// Storage no longer accepts the URL of a part, in a task that must not list again.
    #[error("the download url of part {name} has ended")]
    UrlEnded {
        /// Name of the part.
        name: String,
        /// The refusal.
        #[source]
        refusal: Option<Box<FetchError>>,
    },
    /// The URLs expire faster than the parts can be downloaded.
    #[error("the export was listed {max_listings} times and its download urls still expire too early")]
    TooManyListings {
        /// The bound.
        max_listings: u32,
    },
    /// A bug of this program.
    #[error("a task of the source failed")]
    Task(#[from] tokio::task::JoinError),
}

impl SourceError {
    /// Returns whether the service lists another snapshot or other parts than before: the run may start over.
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
                Some(hint) => format!("{hint}; completed parts are kept").into(),
                None => "run again: completed parts are kept".into(),
            }),
            Self::Local(err) => err.hint(),
            Self::NoRoute { route: Route::Files, .. } => Some("pass --via json".into()),
            Self::NoRoute { .. } => Some("pass --via files".into()),
            Self::ValueRefused { option: "--sas-valid-hours", value, .. } if *value > 6 => Some(format!(
                "pass --sas-valid-hours 6 instead of {value}: several of the service's calls allow 6 hours at most"
            ).into()),
            Self::ValueRefused { option, value, .. } => {
                Some(format!("pass a lower value if the service does not allow {option} {value}").into())
            }
            Self::Spool(err) => err.hint(),
            Self::EmptyExport => {
                Some("run again later: the tenant has no data yet, or the export is not ready".into())
            }
            Self::UrlRefused { .. } => {
                Some("allow the host with --blob-host or --cloud if it belongs to the service".into())
            }
            Self::SnapshotChanged { .. } | Self::RepeatedNextLink { .. } | Self::BadNextLink { .. } => {
                Some("run again, or use --via files".into())
            }
            Self::DuplicatePart { .. }
            | Self::BadPage { .. }
            | Self::BadListing { .. }
            | Self::SnapshotReplaced { .. }
            | Self::PartsChanged { .. } => Some("run again later".into()),
            Self::TooManyListings { .. } | Self::UrlEnded { .. } => Some("request a longer lifetime with --sas-valid-hours".into()),
            _ => None,
        }
    }
}

fn others(num_failed: usize) -> String {
    match num_failed {
        0 | 1 => String::new(),
        2 => " (and 1 other part)".into(),
        n => format!(" (and {} other parts)", n - 1),
    }
}
