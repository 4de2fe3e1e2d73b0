//! The managed identity of the machine: requests a token from the machine's own identity service.
//!
//! Without the service, anything can answer at its address: other clouds' metadata services, desktop container
//! hosts, captive proxies. A response in another format is not from the service. The identity library's
//! credential does not distinguish the two.

use std::time::Duration;

use azure_core::{credentials::AccessToken, time::OffsetDateTime};
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::transport::MAX_TOKEN_BYTES;
use super::{AuthError, MachineIdentity};
use crate::http::secret::quotable;
use crate::http::{
    HttpClient, HttpError, RedactedUrl, Secret, error_chain, read_bounded, read_error_body, transport_error,
};

/// Address of the identity service on Azure's virtual machines.
const IMDS_URL: &str = "http://169.254.169.254";
/// The service is on the machine itself: if connecting takes longer, there is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The service refuses a request without its header at once: if that takes longer, there is none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence while it fetches a token for the machine.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Why the service gave no token.
#[derive(Debug)]
pub(super) struct IdentityFailure {
    /// The error.
    pub error: AuthError,
    /// Whether the response has the service's own format.
    pub is_service: bool,
}

impl From<AuthError> for IdentityFailure {
    fn from(error: AuthError) -> Self {
        Self { error, is_service: false }
    }
}

/// The machine's identity service.
#[derive(Debug)]
pub(super) struct IdentityService {
    http: HttpClient,
    identity: MachineIdentity,
    /// Replaces the address of a virtual machine's service.
    imds_url: Option<Url>,
}

impl IdentityService {
    pub(super) fn try_new(identity: MachineIdentity, imds_url: Option<Url>) -> Result<Self, HttpError> {
        Ok(Self { http: HttpClient::try_direct(CONNECT_TIMEOUT, READ_TIMEOUT)?, identity, imds_url })
    }

    /// Requests a token; with `is_probed`, checks first whether anything answers at all.
    pub(super) async fn token(
        &self,
        scope: &str,
        client_id: Option<&str>,
        is_probed: bool,
    ) -> Result<AccessToken, IdentityFailure> {
        let (mut url, version, header) = match &self.identity {
            MachineIdentity::AppService { endpoint, header } => {
                let url = Url::parse(endpoint).map_err(|_| AuthError::Unusable {
                    reason: "IDENTITY_ENDPOINT is not a URL".to_owned(),
                })?;
                (url, "2019-08-01", Some(header))
            }
            MachineIdentity::Unsupported { name } => {
                let reason = format!("the managed identity of {name} is not supported");
                return Err(AuthError::Unusable { reason }.into());
            }
            MachineIdentity::VirtualMachine => {
                let origin = Url::parse(IMDS_URL).expect("a URL");
                let mut url = self.imds_url.clone().unwrap_or(origin);
                url.set_path("/metadata/identity/oauth2/token");
                (url, "2018-02-01", None)
            }
        };
        {
            let resource = scope.strip_suffix("/.default").unwrap_or(scope);
            let mut query = url.query_pairs_mut();
            query.append_pair("api-version", version).append_pair("resource", resource);
            if let Some(client_id) = client_id {
                query.append_pair("client_id", client_id);
            }
        }
        if is_probed && matches!(self.identity, MachineIdentity::VirtualMachine) {
            let probe = tokio::time::timeout(PROBE_TIMEOUT, send(&url, self.http.request(Method::GET, &url)));
            probe.await.map_err(|_| unreachable(&url, "no answer".to_owned()))??;
        }
        let request = self.http.request(Method::GET, &url).header("Metadata", "true");
        let request = match header {
            Some(header) => request.header("X-IDENTITY-HEADER", header.expose()),
            None => request,
        };
        read(&url, send(&url, request).await?).await
    }
}

async fn send(url: &Url, request: RequestBuilder) -> Result<Response, AuthError> {
    request.send().await.map_err(|err| failed(url, &transport_error(url, err)))
}

fn unreachable(url: &Url, reason: String) -> AuthError {
    AuthError::Unreachable { method: "GET", url: url.into(), reason }
}

/// `AuthError` names the URL itself, so the reason starts below that of `err`.
fn failed(url: &Url, err: &HttpError) -> AuthError {
    unreachable(url, std::error::Error::source(err).map_or_else(|| err.to_string(), error_chain))
}

async fn read(url: &Url, response: Response) -> Result<AccessToken, IdentityFailure> {
    let status = response.status();
    let shown = RedactedUrl::from(url);
    if !status.is_success() {
        let body = read_error_body(response, MAX_TOKEN_BYTES).await;
        let description = description(&body);
        let is_service = description.is_some();
        let description = description.unwrap_or_else(|| "no reason given".to_owned());
        let error = AuthError::Refused { method: "GET", url: shown, status: status.as_u16(), description };
        return Err(IdentityFailure { error, is_service });
    }
    let body = read_bounded(response, &shown, MAX_TOKEN_BYTES).await.map_err(|err| failed(url, &err))?;
    let token = parse(&body).ok_or(AuthError::NoToken { method: "GET", url: shown })?;
    Ok(token)
}

fn parse(body: &[u8]) -> Option<AccessToken> {
    #[derive(Deserialize)]
    struct TokenResponse {
        access_token: String,
        /// Seconds of the epoch, as text.
        expires_on: Value,
    }
    let answer: TokenResponse = serde_json::from_slice(body).ok()?;
    let ends_at = answer.expires_on.as_i64().or_else(|| answer.expires_on.as_str()?.parse().ok())?;
    let secret = Secret::new(answer.access_token);
    let is_empty = secret.expose().is_empty();
    let ends_at = OffsetDateTime::from_unix_timestamp(ends_at).ok()?;
    (!is_empty).then(|| AccessToken::new(secret.expose().to_owned(), ends_at))
}

/// Returns the service's description of a refusal, in the format of virtual machines or of App Service.
fn description(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let text = match (text("error"), text("error_description"), answer.get("statusCode"), text("message")) {
        (Some(_), Some(description), ..) => description,
        (.., Some(_), Some(message)) => message,
        _ => return None,
    };
    Some(quotable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_services_own_format_is_its_refusal() {
        for (body, expected) in [
            (
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                Some("Identity not found"),
            ),
            (
                r#"{"statusCode":400,"message":"No managed identity found"}"#,
                Some("No managed identity found"),
            ),
            ("<html>403</html>", None),
            ("", None),
            (r#"{"error":"forbidden"}"#, None),
            (r#"{"message":"Missing Authentication Token"}"#, None),
            (r#"["error"]"#, None),
        ] {
            assert_eq!(description(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn token_needs_text_and_expiry() {
        let is_token = |body: &str| parse(body.as_bytes()).is_some();
        assert!(is_token(r#"{"access_token":"t","expires_on":"1893553445"}"#));
        assert!(is_token(r#"{"access_token":"t","expires_on":1893553445,"token_type":"Bearer"}"#));
        for body in ["", "<html>", r#"{"access_token":"t"}"#, r#"{"access_token":"","expires_on":"1"}"#] {
            assert!(!is_token(body), "{body}");
        }
    }
}
