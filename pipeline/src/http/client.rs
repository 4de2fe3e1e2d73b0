//! The HTTP clients: TLS, redirects, proxies and timeouts are set here only, and every error of the HTTP library
//! is converted here.

use std::time::Duration;

use reqwest::{
    Client, Method, RequestBuilder,
    header::{self, HeaderMap, HeaderValue},
    redirect::Policy,
};
use url::Url;

use super::{HttpError, NoAuthorities, RedactedUrl, has_authorities, is_loopback, tls};

/// A host that does not accept a connection within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence on an API call. The first answer of an export can take minutes to come
/// (pipeline/docs/service.md#failures-of-the-api).
pub const API_READ_TIMEOUT: Duration = Duration::from_mins(5);
/// Silence on a download. Blob storage answers at once; after a minute without a byte the connection
/// is dead, and the download resumes where it stopped.
pub const BLOB_READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Two clients that differ in the proxy only: the environment's proxy never sees loopback requests.
#[derive(Debug, Clone)]
pub struct HttpClient {
    outside: Client,
    loopback: Client,
}

impl HttpClient {
    /// Builds clients that follow no redirects (one could carry a token or leave the allowed hosts), keep no
    /// cookies and fail after `read_timeout` without a byte.
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up.
    pub fn try_new(read_timeout: Duration) -> Result<Self, HttpError> {
        let client = |is_proxied| build(CONNECT_TIMEOUT, read_timeout, is_proxied);
        Ok(Self { outside: client(true)?, loopback: client(false)? })
    }

    /// As [`HttpClient::try_new`], but never through a proxy: for servers on this machine or next to it.
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up.
    pub fn try_direct(connect_timeout: Duration, read_timeout: Duration) -> Result<Self, HttpError> {
        let client = build(connect_timeout, read_timeout, false)?;
        Ok(Self { outside: client.clone(), loopback: client })
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let client = if is_loopback(url) { &self.loopback } else { &self.outside };
        client.request(method, url.clone())
    }
}

fn build(connect_timeout: Duration, read_timeout: Duration, is_proxied: bool) -> Result<Client, HttpError> {
    // Explicit, because a proxy that compresses or inflates drops the length and the checksum that prove that a
    // body is complete.
    let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let builder = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("defender-lake/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .read_timeout(read_timeout)
        .tls_backend_preconfigured(tls::config());
    let builder = if is_proxied { builder } else { builder.no_proxy() };
    builder.build().map_err(|err| HttpError::Client { source: err.without_url() })
}

/// Fails if `url` is https and no certificate could be checked: such a request need not be tried.
///
/// # Errors
///
/// [`HttpError::NoAuthorities`].
pub fn check_trust(url: &Url) -> Result<(), HttpError> {
    if url.scheme() == "https" && !has_authorities() {
        return Err(HttpError::NoAuthorities { url: url.into(), source: NoAuthorities });
    }
    Ok(())
}

/// Converts an error of the HTTP library, without the URL that it would print. Every error passes here.
pub fn transport_error(url: impl Into<RedactedUrl>, err: reqwest::Error) -> HttpError {
    HttpError::Transport { url: url.into(), source: err.without_url() }
}

/// Reads a body that must not be longer than `max_bytes`.
///
/// # Errors
///
/// Fails if the transfer fails, or the body is longer.
pub async fn read_bounded(
    mut response: reqwest::Response,
    url: &RedactedUrl,
    max_bytes: usize,
) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|err| transport_error(url.clone(), err))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(HttpError::TooLarge { url: url.clone(), max_bytes: max_bytes as u64 });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads at most `max_bytes` of an error's body. A body that fails is cut there.
pub async fn read_error_body(mut response: reqwest::Response, max_bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = max_bytes - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == max_bytes {
            break;
        }
    }
    body
}
