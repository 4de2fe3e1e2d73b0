//! Takes bytes from the service and its blob storage: requests, retries, tokens. Takes URLs, gives
//! bounded answers and bodies; never touches the disk, never shows a bare URL.
//!
//! Two clients that know nothing of each other: [`api`] sends the bearer token, to the API's own
//! origin only; [`blob`] sends no authorisation at all, because blob storage refuses a signed URL that
//! comes with a bearer token (facts §4 F3).

pub mod api;
pub mod blob;
pub mod token;
pub mod budget;
pub mod retry;
pub mod rate_floor;
pub mod server_clock;
pub mod http;
pub mod service_error;
pub mod redacted_url;
pub mod secret;

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use schema::Permission;

pub use self::{
    rate_floor::RateFloor,
    redacted_url::RedactedUrl,
    retry::RetryPolicy,
    secret::Secret,
    service_error::ServiceError,
    token::{AuthMethod, Credentials, TokenClaims, TokenError},
};
use crate::exit_code::ExitCode;

/// Why bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// TLS or the HTTP client could not be set up.
    #[error("the http client cannot be set up")]
    Client {
        /// What the library says.
        source: reqwest::Error,
    },
    /// A secret would travel in the clear.
    #[error("{url}: must be https (plain http is for this machine only)")]
    NotPrivate {
        /// The URL that was configured.
        url: RedactedUrl,
    },
    /// A URL of the service points away from the API.
    #[error("{url}: not at the API's own origin, {api}; the token is not sent there")]
    ForeignOrigin {
        /// Where it points.
        url: RedactedUrl,
        /// The API.
        api: RedactedUrl,
    },
    /// No token could be had.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Connection refused, reset, timed out, cut short.
    #[error("GET {url}: the transfer failed")]
    Transport {
        /// What was asked for.
        url: RedactedUrl,
        /// What the library says, without the URL.
        source: reqwest::Error,
    },
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
    #[error("GET {url}: the call rate is used up until {}", retry_at.to_rfc3339_opts(SecondsFormat::Secs, true))]
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
    /// Blob storage does not take the signature of a download URL (facts §4 F2, F3).
    #[error("GET {url}: 403: {service}{}", if *is_out_of_time { " (the download url has expired or is not valid yet)" } else { "" })]
    SignatureRefused {
        /// What was asked for.
        url: RedactedUrl,
        /// The service's own words.
        service: ServiceError,
        /// Whether it is a matter of time: then another listing helps.
        is_out_of_time: bool,
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
    /// The answer is larger than anything the service sends.
    #[error("GET {url}: the answer is larger than {max_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: RedactedUrl,
        /// The bound.
        max_bytes: u64,
    },
    /// 200 without a body: the blob is listed but not there yet (facts §4 F1).
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
    /// The bytes are not those that were stored.
    #[error("GET {url}: damaged on the way: Content-MD5 is {expected}, the bytes have {found}")]
    Md5Mismatch {
        /// What was asked for.
        url: RedactedUrl,
        /// As announced, base64.
        expected: String,
        /// As computed, base64.
        found: String,
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
            Self::Transport { .. }
            | Self::EmptyBody { .. }
            | Self::WrongLength { .. }
            | Self::Md5Mismatch { .. }
            | Self::Changed { .. }
            | Self::SignatureRefused { .. }
            | Self::Stalled { .. }
            | Self::CutPage { .. } => true,
            // 404: listed, and still being copied into place (facts §4 F1). 408 and 429 say so themselves.
            Self::Status { status, .. } => matches!(status, 404 | 408 | 429 | 500..),
            Self::Token(err) => err.is_transient(),
            Self::Client { .. }
            | Self::NotPrivate { .. }
            | Self::ForeignOrigin { .. }
            | Self::NotAuthorised { .. }
            | Self::Throttled { .. }
            | Self::Budget { .. }
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
            | Self::GaveUp { .. } => false,
        }
    }

    /// How a run that fails with this ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client { .. } => ExitCode::Internal,
            Self::NotPrivate { .. } => ExitCode::Usage,
            Self::Token(err) => err.exit_code(),
            Self::NotAuthorised { .. } => ExitCode::NotAuthorised,
            Self::Throttled { .. } => ExitCode::Budget,
            Self::GaveUp { source, .. } => source.exit_code(),
            _ => ExitCode::Source,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Token(err) => err.hint(),
            Self::NotAuthorised { permission, claims: Some(claims), .. } => Some(claims.explain(permission)),
            Self::NotAuthorised { permission, claims: None, .. } => Some(format!(
                "the application needs the permission {} of WindowsDefenderATP, with admin consent \
                 (a signed-in user: {}); where it has that, check --scope and --cloud",
                permission.application, permission.delegated,
            )),
            Self::Throttled { retry_at, .. } => {
                Some(format!("run again after {}", retry_at.to_rfc3339_opts(SecondsFormat::Secs, true)))
            }
            Self::Budget { .. } => Some("check --work-dir".into()),
            Self::SignatureRefused { .. } => Some("run again to list the export anew".into()),
            Self::GaveUp { source, .. } => source.hint().or_else(|| Some("run again later".into())),
            _ => None,
        }
    }
}
