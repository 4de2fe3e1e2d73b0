//! Why bytes could not be fetched.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use schema::Permission;

use super::ServiceError;
use crate::auth::{AuthError, TokenClaims};
use crate::display::time_text;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::http::{HttpError, RedactedUrl};

/// Why bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request could not be sent or its response not be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A URL of the service points to another host than the API's.
    #[error("{url}: expected the API's origin {api} or a host of its cloud; the token is not sent elsewhere")]
    ForeignOrigin {
        /// The URL.
        url: RedactedUrl,
        /// The API.
        api: RedactedUrl,
    },
    /// No token could be obtained.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// The API does not accept the token.
    #[error("GET {url}: {status}: {service}")]
    NotAuthorised {
        /// The URL of the request.
        url: RedactedUrl,
        /// 401 or 403.
        status: u16,
        /// The service's error.
        service: ServiceError,
        /// The permission that the call needs.
        permission: &'static Permission,
        /// The claims of the token, if it can be read.
        claims: Option<Box<TokenClaims>>,
    },
    /// The call rate limit is reached, by the service or by our own count, for longer than a run waits.
    #[error("GET {url}: call rate limit reached until {}", time_text(retry_at))]
    Throttled {
        /// The URL of the request.
        url: RedactedUrl,
        /// When calls are allowed again.
        retry_at: DateTime<Utc>,
    },
    /// The record of earlier calls cannot be used.
    #[error("work dir: cannot use the call record {}", path.display())]
    Budget {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Blob storage refuses the signature of a download URL
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: 403: {service}{}", if *is_out_of_time { " (the download url has expired or is not valid yet)" } else { "" })]
    SignatureRefused {
        /// The URL of the request.
        url: RedactedUrl,
        /// The service's error.
        service: ServiceError,
        /// Whether the signature is expired or not valid yet: then another listing helps.
        is_out_of_time: bool,
    },
    /// Blob storage refuses for good: another listing would not change it.
    #[error("GET {url}: {status}: {service}{}", if service.is_about_network() { ": the storage account refuses this network" } else { "" })]
    StorageRefused {
        /// The URL of the request.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's error.
        service: ServiceError,
    },
    /// The connection is open and hardly any bytes arrive.
    #[error("GET {url}: stalled: {bytes} bytes in {window:?}")]
    Stalled {
        /// The URL of the request.
        url: RedactedUrl,
        /// Bytes received.
        bytes: u64,
        /// Time in which they were received.
        window: Duration,
    },
    /// A redirect, which is never followed.
    #[error("GET {url}: {status} redirects to {}; redirects are not followed", host.as_deref().unwrap_or("an unknown host"))]
    Redirected {
        /// The URL of the request.
        url: RedactedUrl,
        /// The 3xx status.
        status: u16,
        /// The host it points to.
        host: Option<String>,
    },
    /// Any other error status.
    #[error("GET {url}: {status}: {service}")]
    Status {
        /// The URL of the request.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's error.
        service: ServiceError,
    },
    /// 200 without a body: the blob is listed but not there yet
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: empty response{}", copy_status.as_ref().map(|status| format!(" (copy {status})")).unwrap_or_default())]
    EmptyBody {
        /// The URL of the request.
        url: RedactedUrl,
        /// `x-ms-copy-status`, if given.
        copy_status: Option<String>,
    },
    /// Fewer or more bytes than announced were received.
    #[error("GET {url}: expected {expected} bytes, received {found}")]
    WrongLength {
        /// The URL of the request.
        url: RedactedUrl,
        /// Announced bytes.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
    /// The body ended with the connection, and nothing proves that it is complete.
    #[error(
        "GET {url}: received {found} bytes without length, checksum or chunked encoding; they may not be the whole part"
    )]
    Unproved {
        /// The URL of the request.
        url: RedactedUrl,
        /// Bytes received.
        found: u64,
    },
    /// The download completed, and the part is damaged.
    #[error("GET {url}: damaged part: {reason}")]
    Damaged {
        /// The URL of the request.
        url: RedactedUrl,
        /// What the decoder found.
        reason: String,
    },
    /// The blob changed during its download: the bytes received so far are useless.
    #[error("GET {url}: the blob changed during the download")]
    Changed {
        /// The URL of the request.
        url: RedactedUrl,
    },
    /// The page is truncated although its transfer did not fail.
    #[error("GET {url}: truncated page: ends after {found} bytes")]
    CutPage {
        /// The URL of the request.
        url: RedactedUrl,
        /// Bytes received.
        found: u64,
    },
    /// Transient failures until the bounds were reached.
    #[error("gave up after {attempts} attempts in {:.1} s", elapsed.as_secs_f64())]
    GaveUp {
        /// Attempts made.
        attempts: u32,
        /// Time since the first started.
        elapsed: Duration,
        /// The last failure.
        source: Box<FetchError>,
    },
}

impl FetchError {
    /// Returns whether the service refuses because the token lacks the permission, as far as it can be read, or the tenant
    /// a feature or licence.
    pub fn is_not_permitted(&self) -> bool {
        matches!(
            self,
            Self::NotAuthorised { status: 403, service, permission, claims, .. }
                if service.is_about_feature() || claims.as_ref().is_none_or(|claims| !claims.permits(permission))
        )
    }

    /// Returns whether another attempt can succeed.
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
            Self::NotAuthorised { status: 403, service, .. } if service.is_about_feature() => {
                Some("check that the tenant has a licence for it, such as Defender Vulnerability Management".into())
            }
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
                "check whether a proxy changes or blocks the request (the url has not expired), then run again"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_network() => Some(
                "run from a network that the account's firewall allows; check vpn, private endpoint and proxy"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_anonymity() => {
                Some("check whether a proxy strips the query from download urls: storage saw no signature".into())
            }
            Self::StorageRefused { .. } => Some("run again to list the export again".into()),
            Self::Unproved { .. } => Some(
                "configure the proxy to pass Content-Length, bypass it with NO_PROXY, or download the parts by \
                 other means and pass them with --from"
                    .into(),
            ),
            Self::ForeignOrigin { .. } => Some(
                "pass that host with --api-url or --cloud if it belongs to the service, or use --via files"
                    .into(),
            ),
            Self::GaveUp { source, .. } => source.hint().or_else(|| Some("run again later".into())),
            _ => None,
        }
    }
}
