//! Bearer tokens for the API: by `azure_identity`, kept until shortly before they end.
//!
//! The library takes https authorities only, on purpose, and brings no HTTP client of its own here: its
//! requests go through a transport of ours, which sends them to the configured authority and nowhere
//! else. That is what lets an emulator on loopback issue tokens.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, TokenCredential},
    error::ErrorKind,
    http::{
        AsyncRawResponse, Body, ClientOptions, HttpClient as AzureHttpClient, RetryOptions, headers::Headers,
    },
};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{
    FetchError, RedactedUrl, Secret,
    http::{API_READ_TIMEOUT, HttpClient, read_bounded, read_error_body, transport_error},
    redacted_url::is_private,
    secret::quotable,
};
use crate::exit_code::ExitCode;

/// A token is renewed so long before its end that no call begins with one that ends under way.
const RENEW_BEFORE_END: TimeDelta = TimeDelta::minutes(5);
/// Longest answer of a token endpoint. Tokens with many roles reach some kilobytes.
const MAX_TOKEN_BYTES: usize = 256 * 1024;

/// How the caller proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMethod {
    /// The first of the others that the environment has what it takes for, in their order.
    #[default]
    Auto,
    /// `AZURE_CLIENT_SECRET`.
    ClientSecret,
    /// `AZURE_CLIENT_CERTIFICATE_PATH`.
    ClientCertificate,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity,
    /// The identity of the machine.
    ManagedIdentity,
    /// Whoever is signed in to the Azure CLI.
    AzureCli,
}

impl AuthMethod {
    /// The name as the command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ClientSecret => "client-secret",
            Self::ClientCertificate => "client-certificate",
            Self::WorkloadIdentity => "workload-identity",
            Self::ManagedIdentity => "managed-identity",
            Self::AzureCli => "azure-cli",
        }
    }
}

/// What the standard `AZURE_*` variables hold. An empty variable counts as absent.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `AZURE_CLIENT_SECRET`.
    pub client_secret: Option<Secret>,
}

impl Credentials {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            tenant_id: variable("AZURE_TENANT_ID"),
            client_id: variable("AZURE_CLIENT_ID"),
            client_secret: variable("AZURE_CLIENT_SECRET").map(Secret::new),
        }
    }
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The environment does not say who we are.
    #[error("no credentials: {} not set", names.join(", "))]
    MissingVariables {
        /// The variables that are absent or empty.
        names: Vec<&'static str>,
    },
    /// A way to sign in that is not built yet.
    #[error("--auth {} is not supported yet", method.as_str())]
    NotSupported {
        /// The method asked for.
        method: AuthMethod,
    },
    /// The authority refuses.
    #[error("POST {url}: {status}: {description}")]
    Refused {
        /// The authority.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// `AADSTS…` and its first line.
        description: String,
    },
    /// The authority could not be asked.
    #[error("POST {url}: {reason}")]
    Unreachable {
        /// The authority.
        url: RedactedUrl,
        /// What happened.
        reason: String,
    },
    /// The authority's answer makes no sense. Nothing of it is shown: it may hold a token.
    #[error("POST {url}: the answer is no token")]
    NoToken {
        /// The authority.
        url: RedactedUrl,
    },
    /// What the environment says cannot be used.
    #[error("credentials cannot be used: {reason}")]
    Unusable {
        /// What the library says.
        reason: String,
    },
}

impl TokenError {
    /// Whether another attempt can succeed: only 429 and 5xx (facts §4 F9), and failed transfers.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::MissingVariables { .. }
            | Self::NotSupported { .. }
            | Self::NoToken { .. }
            | Self::Unusable { .. } => false,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable { .. } => true,
        }
    }

    /// How a run that fails with this ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            // The authority is down: that says nothing about us.
            Self::Refused { .. } if self.is_transient() => ExitCode::Source,
            Self::MissingVariables { .. } | Self::Refused { .. } | Self::Unusable { .. } => {
                ExitCode::NotAuthorised
            }
            Self::NotSupported { .. } => ExitCode::Usage,
            Self::Unreachable { .. } | Self::NoToken { .. } => ExitCode::Source,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingVariables { .. } => Some(
                "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of an app registration".into(),
            ),
            Self::NotSupported { .. } => Some("use --auth client-secret".into()),
            Self::Refused { .. } | Self::Unusable { .. } => {
                Some("check the AZURE_* variables, --login-url and --scope".into())
            }
            Self::Unreachable { .. } | Self::NoToken { .. } => {
                Some("check --login-url and the network".into())
            }
        }
    }
}

/// Gives the token, from memory while it lasts.
#[derive(Debug)]
pub struct Tokens {
    method: AuthMethod,
    credentials: Credentials,
    scope: String,
    authority: Arc<Transport>,
    cached: Mutex<Option<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: Secret,
    renew_at: DateTime<Utc>,
}

impl Tokens {
    /// Tokens for `scope` from the authority `login_url`. Asks for none yet.
    ///
    /// # Errors
    ///
    /// Where `login_url` would carry the secret in the clear.
    pub fn try_new(
        login_url: &Url,
        scope: String,
        method: AuthMethod,
        credentials: Credentials,
    ) -> Result<Self, FetchError> {
        if !is_private(login_url) {
            return Err(FetchError::NotPrivate { url: login_url.into() });
        }
        let authority =
            Transport { http: HttpClient::try_new(API_READ_TIMEOUT)?, authority: login_url.into() };
        Ok(Self { method, credentials, scope, authority: Arc::new(authority), cached: Mutex::new(None) })
    }

    /// The token to send. Concurrent callers wait for one request.
    ///
    /// # Errors
    ///
    /// Where none can be had.
    pub async fn token(&self) -> Result<Secret, TokenError> {
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| Utc::now() < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let access = self.request().await?;
        let ends_at =
            DateTime::from_timestamp(access.expires_on.unix_timestamp(), 0).unwrap_or_else(Utc::now);
        let token =
            Token { secret: Secret::new(access.token.secret()), renew_at: ends_at - RENEW_BEFORE_END };
        let secret = token.secret.clone();
        *cached = Some(token);
        Ok(secret)
    }

    /// Forgets `refused`, so that the next [`Tokens::token`] is a new one; a newer one is kept.
    pub async fn forget(&self, refused: &Secret) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|token| token.secret == *refused) {
            *cached = None;
        }
    }

    async fn request(&self) -> Result<AccessToken, TokenError> {
        // A new credential for each token: the library's own cache would give a refused token again.
        let credential = self.credential()?;
        credential.get_token(&[&self.scope], None).await.map_err(|err| {
            let mut causes =
                std::iter::successors(Some(&err as &(dyn std::error::Error + 'static)), |err| err.source());
            let ours = causes.find_map(|err| err.downcast_ref::<TokenError>());
            ours.cloned().unwrap_or_else(|| TokenError::NoToken { url: self.authority.authority.clone() })
        })
    }

    /// Picks the way to sign in. The one place that knows the order of `auto`.
    fn credential(&self) -> Result<Arc<dyn TokenCredential>, TokenError> {
        match self.method {
            // Certificate, workload identity, managed identity and Azure CLI follow here once they are built.
            AuthMethod::Auto | AuthMethod::ClientSecret => self.client_secret(),
            method => Err(TokenError::NotSupported { method }),
        }
    }

    fn client_secret(&self) -> Result<Arc<dyn TokenCredential>, TokenError> {
        let Credentials { tenant_id, client_id, client_secret } = &self.credentials;
        let (Some(tenant_id), Some(client_id), Some(client_secret)) = (tenant_id, client_id, client_secret)
        else {
            let names = [
                ("AZURE_TENANT_ID", tenant_id.is_none()),
                ("AZURE_CLIENT_ID", client_id.is_none()),
                ("AZURE_CLIENT_SECRET", client_secret.is_none()),
            ];
            let names = names.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
            return Err(TokenError::MissingVariables { names });
        };
        let options = ClientSecretCredentialOptions { client_options: self.client_options() };
        let secret = azure_core::credentials::Secret::new(client_secret.expose().to_owned());
        let credential = ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options));
        match credential {
            Ok(credential) => Ok(credential),
            Err(err) => Err(TokenError::Unusable { reason: quotable(&err.to_string()) }),
        }
    }

    fn client_options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        let authority = self.authority.authority.as_url();
        // What the library checks; `Transport` puts the real scheme and port back.
        cloud.authority_host = format!("https://{}/", authority.host_str().unwrap_or_default());
        ClientOptions {
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            transport: Some(azure_core::http::Transport::new(self.authority.clone())),
            retry: RetryOptions::none(), // retries are decided in `retry`
            ..ClientOptions::default()
        }
    }
}

/// Carries the library's requests to the configured authority, whatever host they name.
struct Transport {
    http: HttpClient,
    authority: RedactedUrl,
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
    /// Sends `request` and reads the answer. A refusal is an error of ours from here on: the library
    /// would report one whose body is not quite Entra's as a body that it cannot read.
    async fn send(&self, request: &azure_core::http::Request) -> Result<(u16, Vec<u8>), TokenError> {
        let unreachable = |reason| TokenError::Unreachable { url: self.authority.clone(), reason };
        // `TokenError` names the URL; what is of interest is what lies below.
        let failed = |err: FetchError| {
            unreachable(std::error::Error::source(&err).map_or_else(|| err.to_string(), error_chain))
        };
        let Body::Bytes(body) = request.body() else {
            return Err(unreachable("a token request is never streamed".into()));
        };
        let mut url = self.authority.as_url().clone();
        url.set_path(request.url().path());
        url.set_query(request.url().query());
        let method = Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or(Method::POST);
        let mut builder = self.http.request(method, &url).body(body.clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let response = builder.send().await.map_err(|err| failed(transport_error(&url, err)))?;
        let status = response.status();
        if !status.is_success() {
            #[derive(Deserialize)]
            struct Refusal {
                error_description: String,
            }
            let body = read_error_body(response, MAX_TOKEN_BYTES).await;
            let description = serde_json::from_slice(&body)
                .map_or("no reason given".into(), |refusal: Refusal| quotable(&refusal.error_description));
            return Err(TokenError::Refused {
                url: self.authority.clone(),
                status: status.as_u16(),
                description,
            });
        }
        let body = read_bounded(response, &url.into(), MAX_TOKEN_BYTES).await.map_err(failed)?;
        Ok((status.as_u16(), body))
    }
}

/// The texts of `err` and of all that it came from, in one line.
fn error_chain(err: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(err), |err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
