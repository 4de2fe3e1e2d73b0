//! HTTP for everything that talks to a server: clients with TLS, proxies and timeouts, URLs and secrets that cannot
//! be printed. Has no knowledge of services and does not retry.

pub mod base_url;
mod client;
mod error;
mod redacted_url;
pub mod secret;
mod tls;

pub use self::client::{
    API_READ_TIMEOUT, BLOB_READ_TIMEOUT, HttpClient, check_trust, read_bounded, read_error_body,
    transport_error,
};
pub use self::error::{HttpError, error_chain};
pub use self::redacted_url::{RedactedUrl, is_loopback, is_private};
pub use self::secret::Secret;
pub use self::tls::{CertificateProblem, NoAuthorities, certificate_problem, has_authorities};
