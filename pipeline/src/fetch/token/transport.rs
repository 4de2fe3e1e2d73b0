//! Carries the identity library's requests: to the configured authority, or to the machine's own
//! identity service. Takes the library's requests, gives answers; a refusal is an error of ours from
//! here on, since the library would report one whose body is not quite Entra's as one it cannot read.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{AsyncRawResponse, Body, HttpClient as AzureHttpClient, headers::Headers},
};
use reqwest::Method;
use serde::Deserialize;
use url::Url;

use super::TokenError;
use crate::fetch::{
    FetchError, RedactedUrl, error_chain,
    http::{HttpClient, read_bounded, read_error_body, transport_error},
    secret::quotable,
};

/// Longest answer of a token endpoint. Tokens with many roles reach some kilobytes.
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// The address at which Azure's machines find their identity service. Only they have it.
const IMDS_HOST: &str = "169.254.169.254";
/// The identity service is on the machine itself; where it takes longer to connect, there is none.
pub(super) const IMDS_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where requests go.
pub(super) enum Destination {
    /// To this authority, whatever host they name.
    Authority(RedactedUrl),
    /// To the machine's identity service, past any proxy; `Some` is what answers in its place.
    Machine(Option<Url>),
}

/// Carries requests to their [`Destination`].
pub(super) struct Transport {
    pub http: HttpClient,
    pub destination: Destination,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination: &dyn fmt::Debug = match &self.destination {
            Destination::Authority(url) => url,
            Destination::Machine(_) => &"machine",
        };
        f.debug_tuple("Transport").field(destination).finish()
    }
}

#[async_trait]
impl AzureHttpClient for Transport {
    async fn execute_request(
        &self,
        request: &azure_core::http::Request,
    ) -> azure_core::Result<AsyncRawResponse> {
        let answer = self.send(request).await;
        let (status, body) = answer.map_err(|err| azure_core::Error::new(ErrorKind::Other, err))?;
        Ok(AsyncRawResponse::from_bytes(status.into(), Headers::default(), body))
    }
}

impl Transport {
    async fn send(&self, request: &azure_core::http::Request) -> Result<(u16, Vec<u8>), TokenError> {
        let mut url = request.url().clone();
        let replaced = match &self.destination {
            Destination::Authority(authority) => Some(authority.as_url()),
            Destination::Machine(imds) if url.host_str() == Some(IMDS_HOST) => imds.as_ref(),
            Destination::Machine(_) => None,
        };
        if let Some(origin) = replaced {
            url = origin.clone();
            url.set_path(request.url().path());
            url.set_query(request.url().query());
        }
        // The authority as configured: its path would only say which tenant.
        let shown = match &self.destination {
            Destination::Authority(authority) => authority.clone(),
            Destination::Machine(_) => RedactedUrl::from(&url),
        };
        let unreachable = |reason| TokenError::Unreachable { url: shown.clone(), reason };
        // `TokenError` names the URL; what is of interest is what lies below.
        let failed = |err: FetchError| {
            unreachable(std::error::Error::source(&err).map_or_else(|| err.to_string(), error_chain))
        };
        let Body::Bytes(body) = request.body() else {
            return Err(unreachable("a token request is never streamed".into()));
        };
        let method = Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or(Method::POST);
        let mut builder = self.http.request(method, &url).body(body.clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let response = builder.send().await.map_err(|err| failed(transport_error(&url, err)))?;
        let status = response.status();
        if !status.is_success() {
            let body = read_error_body(response, MAX_TOKEN_BYTES).await;
            return Err(TokenError::Refused {
                url: shown,
                status: status.as_u16(),
                description: description(&body),
            });
        }
        let body = read_bounded(response, &url.into(), MAX_TOKEN_BYTES).await.map_err(failed)?;
        Ok((status.as_u16(), body))
    }
}

/// `AADSTS…` and its first line.
fn description(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error_description: String,
    }
    serde_json::from_slice(body)
        .map_or("no reason given".into(), |refusal: Refusal| quotable(&refusal.error_description))
}
