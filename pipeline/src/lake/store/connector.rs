//! How the object stores' library sends its requests: through the program's own HTTP client, with its TLS, proxies and
//! timeouts, and under the same rule: in the clear only to this machine.

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

/// What is nearby accepts a connection at once, or is not there.
const NEARBY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence of a store. All parts in flight go over one line, and an answer comes when a part is through: at
/// 4 Mbit/s they still make it.
const READ_TIMEOUT: Duration = Duration::from_mins(2);

/// Where the clouds' machines learn who they are, in the clear and next door. Google names its own.
const GOOGLE_METADATA_HOST: &str = "metadata.google.internal";

/// Makes the library's clients ours.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    /// Known once the store is built.
    pub(in crate::lake) signer: Arc<OnceLock<Signer>>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) };
        Ok(HttpClient::new(Service {
            outside: OwnClient::try_new(READ_TIMEOUT).map_err(failed)?,
            nearby: OwnClient::try_direct(NEARBY_CONNECT_TIMEOUT, READ_TIMEOUT).map_err(failed)?,
            signer: Arc::clone(&self.signer),
        }))
    }
}

#[derive(Debug)]
struct Service {
    outside: OwnClient,
    /// Never by a proxy.
    nearby: OwnClient,
    signer: Arc<OnceLock<Signer>>,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = delete_version::redirect(request, self.signer.get())
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
                io::Error::other("in the clear only to this machine: give the store's endpoint with https");
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        };
        let request = client.request(parts.method, &url).headers(parts.headers);
        let response = request.body(reqwest::Body::wrap(body)).send().await.map_err(to_http_error)?;
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let response = HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(to_http_error)));
        Ok(delete_version::answered(response))
    }
}

/// This machine, and what answers beside it.
fn is_nearby(url: &Url) -> bool {
    let is_link_local = match url.host() {
        Some(Host::Ipv4(address)) => Ipv4Addr::is_link_local(&address),
        Some(Host::Domain(name)) => name == GOOGLE_METADATA_HOST,
        _ => false,
    };
    is_loopback(url) || (url.scheme() == "http" && is_link_local)
}

/// A store whose certificate is not one to trust. Below it is what the TLS library said.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct UntrustedStore {
    /// Why not.
    pub problem: CertificateProblem,
    text: String,
}

/// What the library decides on whether to send again.
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
    // As text: the library shows the first of a chain only.
    HttpError::new(kind, io::Error::other(error_chain(&error.without_url())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_its_identity_are_asked_in_the_clear() {
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
