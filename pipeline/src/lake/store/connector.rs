//! Sends the requests of `object_store` through the program's own HTTP client, with its TLS, proxies and timeouts, and
//! with the same rule: plain http only to this machine.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use url::{Host, Url};

use super::delete_version::{self, Signer};
use crate::http::error_chain;
use crate::http::{
    CertificateProblem, HttpClient as OwnClient, NoAuthorities, certificate_problem, has_authorities,
};
use crate::http::{is_loopback, is_private};

/// Services on this machine or network accept a connection at once, or do not exist.
const NEARBY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum silence of a store. All chunks in flight share the bandwidth, and each is answered when it has arrived:
/// 4 Mbit/s are enough for all of them.
const READ_TIMEOUT: Duration = Duration::from_mins(2);

/// Google's host of the instance metadata service, which is reached by plain http. The others use a link-local
/// address.
const GOOGLE_METADATA_HOST: &str = "metadata.google.internal";

/// Gives the library the program's HTTP client.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    /// Set once the store is built.
    pub(in crate::lake) signer: Arc<OnceLock<Signer>>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) };
        Ok(HttpClient::new(ConnectorService {
            outside: OwnClient::try_new(READ_TIMEOUT).map_err(failed)?,
            nearby: OwnClient::try_direct(NEARBY_CONNECT_TIMEOUT, READ_TIMEOUT).map_err(failed)?,
            signer: Arc::clone(&self.signer),
        }))
    }
}

#[derive(Debug)]
struct ConnectorService {
    outside: OwnClient,
    /// Never uses a proxy.
    nearby: OwnClient,
    signer: Arc<OnceLock<Signer>>,
}

#[async_trait::async_trait]
impl HttpService for ConnectorService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = delete_version::as_deletion(request, self.signer.get())
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        if url.scheme() == "https" && !has_authorities() {
            let (problem, text) = (CertificateProblem::NoAuthorities, NoAuthorities.to_string());
            return Err(HttpError::new(HttpErrorKind::Unknown, UntrustedStore { problem, text }));
        }
        let client = if is_nearby(&url) {
            &self.nearby
        } else if is_private(&url) {
            &self.outside
        } else {
            let refused =
                io::Error::other("plain http is only allowed to this machine; use an https endpoint");
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        };
        let request = client.request(parts.method, &url).headers(parts.headers);
        let response = request.body(reqwest::Body::wrap(body)).send().await.map_err(to_http_error)?;
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let response = HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(to_http_error)));
        Ok(delete_version::keep_response(response))
    }
}

/// Whether a URL leads to this machine or to its metadata service.
fn is_nearby(url: &Url) -> bool {
    let is_link_local = match url.host() {
        Some(Host::Ipv4(address)) => Ipv4Addr::is_link_local(&address),
        Some(Host::Domain(name)) => name == GOOGLE_METADATA_HOST,
        _ => false,
    };
    is_loopback(url) || (url.scheme() == "http" && is_link_local)
}

/// A store whose certificate is not trusted, with the text of the TLS library.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct UntrustedStore {
    /// Why it is not trusted.
    pub problem: CertificateProblem,
    text: String,
}

/// Maps an error to what the library decides on whether to retry.
fn to_http_error(error: reqwest::Error) -> HttpError {
    if let Some(problem) = certificate_problem(&error) {
        let text = error_chain(&error.without_url());
        return HttpError::new(HttpErrorKind::Unknown, UntrustedStore { problem, text });
    }
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        HttpErrorKind::Interrupted
    };
    // As text: the library shows only the first error of a chain.
    HttpError::new(kind, io::Error::other(error_chain(&error.without_url())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_and_its_metadata() {
        let is_sent = |url: &str| {
            let url = Url::parse(url).unwrap();
            is_nearby(&url) || is_private(&url)
        };
        for url in [
            "https://bucket.s3.eu-west-1.amazonaws.com/x",
            "http://127.0.0.1:10000/devstoreaccount1/c",
            "http://169.254.169.254/latest/meta-data",
            "http://metadata.google.internal/computeMetadata/v1",
        ] {
            assert!(is_sent(url), "{url}");
        }
        for url in ["http://account.blob.core.windows.net/c", "http://10.0.0.1/c", "http://store/c"] {
            assert!(!is_sent(url), "{url}");
        }
    }
}
