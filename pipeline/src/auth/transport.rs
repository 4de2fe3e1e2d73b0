//! Carries the identity library's requests to the configured authority: takes the library's requests,
//! gives answers; a refusal is an error of ours from here on, since the library would report one whose
//! body is not quite Entra's as one it cannot read.

use std::fmt;

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{AsyncRawResponse, Body, HttpClient as AzureHttpClient, headers::Headers},
};
use reqwest::Method;
use serde::Deserialize;

use super::AuthError;
use crate::http::secret::quotable;
use crate::http::{
    CertificateProblem, HttpClient, HttpError, RedactedUrl, certificate_problem, check_trust, error_chain,
    read_bounded, read_error_body, transport_error,
};

/// Longest response of a token endpoint. Tokens with many roles have some kilobytes.
pub(super) const MAX_TOKEN_BYTES: usize = 256 * 1024;

/// Sends requests to the authority, regardless of the host that they name.
pub(super) struct Transport {
    pub http: HttpClient,
    pub authority: RedactedUrl,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transport").field(&self.authority).finish()
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
    async fn send(&self, request: &azure_core::http::Request) -> Result<(u16, Vec<u8>), AuthError> {
        let mut url = self.authority.as_url().clone();
        url.set_path(request.url().path());
        url.set_query(request.url().query());
        // As configured: the path would only add the tenant.
        let shown = &self.authority;
        let method = Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or(Method::POST);
        let verb = if method == Method::GET { "GET" } else { "POST" };
        let unreachable = |reason| AuthError::Unreachable { method: verb, url: shown.clone(), reason };
        let failed = |err: HttpError| {
            let source = std::error::Error::source(&err);
            // `AuthError` names the URL itself, so the reason starts below that of `err`.
            let reason = source.map_or_else(|| err.to_string(), error_chain);
            match source.and_then(certificate_problem) {
                Some(problem) => AuthError::Untrusted { method: verb, url: shown.clone(), reason, problem },
                None => unreachable(reason),
            }
        };
        let Body::Bytes(body) = request.body() else {
            return Err(unreachable("a token request is never streamed".into()));
        };
        if let Err(HttpError::NoAuthorities { source, .. }) = check_trust(&url) {
            let (problem, reason) = (CertificateProblem::NoAuthorities, source.to_string());
            return Err(AuthError::Untrusted { method: verb, url: shown.clone(), reason, problem });
        }
        let mut builder = self.http.request(method, &url).body(body.clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let response = builder.send().await.map_err(|err| failed(transport_error(&url, err)))?;
        let status = response.status();
        if !status.is_success() {
            let body = read_error_body(response, MAX_TOKEN_BYTES).await;
            return Err(AuthError::Refused {
                method: verb,
                url: shown.clone(),
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
