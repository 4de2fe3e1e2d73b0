//! Why bytes could not be fetched.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use schema::Permission;

use super::ServiceError;
use crate::{
    auth::{AuthError, TokenClaims},
    display::time_text,
    exit_code::{Diagnostic, ExitCode},
    http::{HttpError, RedactedUrl},
};

/// Why bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request could not be sent, or its answer not be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A URL of the service points away from the API.
    #[error(
        "{url}: not at the API's own origin, {api}, nor at a host of its cloud; the token is not sent there"
    )]
    ForeignOrigin {
        /// Where it points.
        url: RedactedUrl,
        /// The API.
        api: RedactedUrl,
    },
    /// No token could be had.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// The API does not accept the token.
    #[error("GET {url}: {status}: {service}")]
    NotAuthorised {
        /// What was asked for.
        url: RedactedUrl,
        /// 401 or 403.
        status: u16,
        /// The service's own words.
        service: ServiceError,
        /// What the caller must be allowed.
        permission: &'static Permission,
        /// What the token says of itself, where it can be read.
        claims: Option<Box<TokenClaims>>,
    },
    /// The call budget is used up for longer than a run waits: by the service's word or by our own count.
    #[error("GET {url}: the call rate is used up until {}", time_text(retry_at))]
    Throttled {
        /// What was asked for.
        url: RedactedUrl,
        /// When the service will answer again.
        retry_at: DateTime<Utc>,
    },
    /// The record of earlier calls cannot be used.
    #[error("work dir: cannot use the record of calls {}", path.display())]
    Budget {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Blob storage does not take the signature of a download URL
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: 403: {service}{}", if *is_out_of_time { " (the download url has expired or is not valid yet)" } else { "" })]
    SignatureRefused {
        /// What was asked for.
        url: RedactedUrl,
        /// The service's own words.
        service: ServiceError,
        /// Whether it is a matter of time: then another listing helps.
        is_out_of_time: bool,
    },
    /// Blob storage refuses for good: another listing would not change it.
    #[error("GET {url}: {status}: {service}{}", if service.is_about_network() { ": the storage account refuses this network" } else { "" })]
    StorageRefused {
        /// What was asked for.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's own words.
        service: ServiceError,
    },
    /// The connection is open and next to nothing comes.
    #[error("GET {url}: the transfer has as good as stopped: {bytes} bytes in {window:?}")]
    Stalled {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        bytes: u64,
        /// In this time.
        window: Duration,
    },
    /// A redirect, which is never followed.
    #[error("GET {url}: {status} redirects to {}, which is not followed", host.as_deref().unwrap_or("nowhere"))]
    Redirected {
        /// What was asked for.
        url: RedactedUrl,
        /// The 3xx status.
        status: u16,
        /// The host it points to.
        host: Option<String>,
    },
    /// Any other status that is no success.
    #[error("GET {url}: {status}: {service}")]
    Status {
        /// What was asked for.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's own words.
        service: ServiceError,
    },
    /// 200 without a body: the blob is listed but not there yet
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: the answer is empty{}", copy_status.as_ref().map(|status| format!(" (copy {status})")).unwrap_or_default())]
    EmptyBody {
        /// What was asked for.
        url: RedactedUrl,
        /// `x-ms-copy-status`, where given.
        copy_status: Option<String>,
    },
    /// Fewer or more bytes than announced.
    #[error("GET {url}: {expected} bytes announced, {found} came")]
    WrongLength {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A body that ends with its connection, and nothing says that this was its end.
    #[error(
        "GET {url}: {found} bytes came, and nothing proves that they are the whole part: no length, no checksum, no chunks"
    )]
    Unproved {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        found: u64,
    },
    /// All bytes came, and they are not those of a whole part.
    #[error("GET {url}: what came is damaged: {reason}")]
    Damaged {
        /// What was asked for.
        url: RedactedUrl,
        /// What was found by whoever took the part.
        reason: String,
    },
    /// The blob changed while it was being downloaded: what came so far is of no use.
    #[error("GET {url}: the blob changed while it was downloaded")]
    Changed {
        /// What was asked for.
        url: RedactedUrl,
    },
    /// A page that ends too early although its transfer did not fail.
    #[error("GET {url}: the page ends too early, after {found} bytes")]
    CutPage {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        found: u64,
    },
    /// Transient failures until the bounds were reached.
    #[error("gave up after {attempts} attempts in {:.1} s", elapsed.as_secs_f64())]
    GaveUp {
        /// Attempts made.
        attempts: u32,
        /// Time since the first began.
        elapsed: Duration,
        /// The last failure.
        source: Box<FetchError>,
    },
}

impl FetchError {
    /// Whether another attempt can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(err) => err.is_transient(),
            Self::EmptyBody { .. }
            | Self::WrongLength { .. }
            | Self::Damaged { .. }
            | Self::Changed { .. }
            | Self::SignatureRefused { .. }
            | Self::Stalled { .. }
            | Self::CutPage { .. } => true,
            // 404: listed, and still being copied into place
            // (pipeline/docs/service.md#failures-of-blob-storage). 408 and 429 say so themselves.
            Self::Status { status, .. } => matches!(status, 404 | 408 | 429 | 500..),
            Self::Token(err) => err.is_transient(),
            Self::ForeignOrigin { .. }
            | Self::NotAuthorised { .. }
            | Self::Throttled { .. }
            | Self::Budget { .. }
            | Self::Redirected { .. }
            | Self::StorageRefused { .. }
            | Self::Unproved { .. }
            | Self::GaveUp { .. } => false,
        }
    }
}

impl Diagnostic for FetchError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Http(err) => err.exit_code(),
            Self::Token(err) => err.exit_code(),
            Self::NotAuthorised { .. } => ExitCode::NotAuthorised,
            Self::Throttled { .. } => ExitCode::Budget,
            Self::GaveUp { source, .. } => source.exit_code(),
            _ => ExitCode::Source,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Token(err) => err.hint(),
            Self::Http(err) => err.hint(),
            Self::NotAuthorised { status, permission, claims: Some(claims), .. } => {
                Some(claims.explain(*status, permission).into())
            }
            Self::NotAuthorised { permission, claims: None, .. } => Some(
                format!(
                    "the application needs the permission {} of WindowsDefenderATP, with admin consent \
                 (a signed-in user: {}); if it has that, check --scope and --cloud",
                    permission.application, permission.delegated,
                )
                .into(),
            ),
            Self::Throttled { retry_at, .. } => {
                Some(format!("run again after {}", time_text(retry_at)).into())
            }
            Self::Budget { .. } => Some("check --work-dir".into()),
            Self::SignatureRefused { is_out_of_time: true, .. } => {
                Some("run again to list the export again".into())
            }
            Self::SignatureRefused { .. } => Some(
                "the url's time is not over: look whether a proxy changes or refuses it, then run again"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_network() => Some(
                "run where the account's firewall lets requests in; a vpn, a private endpoint or a proxy in \
                 between may be what it refuses"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_anonymity() => {
                Some("storage saw no signature: look whether a proxy cuts the query off download urls".into())
            }
            Self::StorageRefused { .. } => Some("run again to list the export again".into()),
            Self::Unproved { .. } => Some(
                "a proxy in between drops the length: let it pass Content-Length or route around it \
                 (NO_PROXY), or download the parts by other means and pass them with --from"
                    .into(),
            ),
            Self::ForeignOrigin { .. } => Some(
                "if that host is the service's own, pass it with --api-url or --cloud, or take the export \
                 by --via files"
                    .into(),
            ),
            Self::GaveUp { source, .. } => source.hint().or_else(|| Some("run again later".into())),
            _ => None,
        }
    }
}
