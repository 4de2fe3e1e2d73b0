//! Bearer tokens for the API, kept until shortly before they end: from the authority by `azure_identity`,
//! from the machine's identity service and the Azure CLI by code of ours.
//!
//! The library takes https authorities only, on purpose, and brings no HTTP client of its own here: its
//! requests go through a transport of ours, which sends them to the configured authority and nowhere
//! else. That is what lets an emulator on loopback issue tokens.

mod azure_cli;
mod certificate;
mod chain;
mod claims;
mod managed_identity;
mod transport;

use std::{borrow::Cow, path::PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use url::Url;

use self::chain::Chain;
pub use self::claims::TokenClaims;
use crate::{
    environment,
    exit_code::{Diagnostic, ExitCode},
    http::{CertificateProblem, HttpError, RedactedUrl, Secret, is_private},
};

/// A token is renewed so long before its end that no call begins with one that ends under way.
const RENEW_BEFORE_END: TimeDelta = TimeDelta::minutes(5);

/// How the caller proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// What `auto` walks through, in this order.
    pub const CHAIN: [Self; 5] = [
        Self::ClientSecret,
        Self::ClientCertificate,
        Self::WorkloadIdentity,
        Self::ManagedIdentity,
        Self::AzureCli,
    ];

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
    /// `AZURE_CLIENT_CERTIFICATE_PATH`: key and certificate, PEM.
    pub client_certificate_path: Option<PathBuf>,
    /// `AZURE_FEDERATED_TOKEN_FILE`: what Kubernetes says of the workload.
    pub federated_token_file: Option<PathBuf>,
    /// What gives the machine its identity.
    pub machine_identity: MachineIdentity,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`: what answers in place of the machine's identity service.
    pub imds_url: Option<Url>,
}

/// What gives a machine its identity, by the variables that the platforms set.
#[derive(Debug, Clone, Default)]
pub enum MachineIdentity {
    /// The service at the address that all virtual machines have.
    #[default]
    VirtualMachine,
    /// App Service, Functions and Container Apps say where their service is.
    AppService {
        /// `IDENTITY_ENDPOINT`.
        endpoint: String,
        /// `IDENTITY_HEADER`, which shows that the caller is on the machine.
        header: Secret,
    },
    /// One that takes another protocol.
    Unsupported {
        /// Its name.
        name: &'static str,
    },
}

impl MachineIdentity {
    fn from_env() -> Self {
        let is_set = |name| environment::variable(name).is_some();
        match (environment::variable("IDENTITY_ENDPOINT"), environment::variable("IDENTITY_HEADER")) {
            (Some(_), Some(_)) if is_set("IDENTITY_SERVER_THUMBPRINT") => {
                Self::Unsupported { name: "Service Fabric" }
            }
            (Some(endpoint), Some(header)) => Self::AppService { endpoint, header: Secret::new(header) },
            // Its agent answers with a challenge that only administrators can meet.
            (Some(_), None) if is_set("IMDS_ENDPOINT") => Self::Unsupported { name: "Azure Arc" },
            (None, _) if is_set("MSI_ENDPOINT") && is_set("MSI_SECRET") => {
                Self::Unsupported { name: "Azure ML" }
            }
            (None, _) if is_set("MSI_ENDPOINT") => Self::Unsupported { name: "Cloud Shell" },
            _ => Self::VirtualMachine,
        }
    }
}

impl Credentials {
    /// Reads the environment.
    pub fn from_env() -> Self {
        use environment::variable;
        Self {
            tenant_id: variable("AZURE_TENANT_ID"),
            client_id: variable("AZURE_CLIENT_ID"),
            client_secret: variable("AZURE_CLIENT_SECRET").map(Secret::new),
            client_certificate_path: variable("AZURE_CLIENT_CERTIFICATE_PATH").map(PathBuf::from),
            federated_token_file: variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            machine_identity: MachineIdentity::from_env(),
            imds_url: variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").and_then(|host| {
                let scheme = if host.contains("://") { "" } else { "http://" };
                Url::parse(&format!("{scheme}{host}")).ok()
            }),
        }
    }
}

impl Credentials {
    /// Whether they are meant for signing in as an application, whatever the machine and its user have.
    pub fn name_an_application(&self) -> bool {
        self.client_secret.is_some()
            || self.client_certificate_path.is_some()
            || self.federated_token_file.is_some()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// The environment does not say who we are.
    #[error("no credentials: {} not set", names.join(", "))]
    MissingVariables {
        /// The variables that are absent or empty.
        names: Vec<&'static str>,
    },
    /// The machine does not have what a way to sign in takes.
    #[error("--auth {}: {reason}", method.as_str())]
    Unavailable {
        /// The way.
        method: AuthMethod,
        /// What it lacks.
        reason: String,
    },
    /// None of the ways to sign in is open.
    #[error("no credentials: {}", tried.iter().map(|(method, reason)| format!("{}: {reason}", method.as_str())).collect::<Vec<_>>().join("; "))]
    NoneOpen {
        /// Each of them, and what it lacks.
        tried: Vec<(AuthMethod, String)>,
    },
    /// The authority refuses.
    #[error("{method} {url}: {status}: {description}")]
    Refused {
        /// How it was asked.
        method: &'static str,
        /// The authority, or the machine's identity service.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// `AADSTS…` and its first line.
        description: String,
    },
    /// The authority could not be asked.
    #[error("{method} {url}: {reason}")]
    Unreachable {
        /// How it was to be asked.
        method: &'static str,
        /// The authority, or the machine's identity service.
        url: RedactedUrl,
        /// What happened.
        reason: String,
    },
    /// The authority's certificate is not one to trust.
    #[error("{method} {url}: {reason}")]
    Untrusted {
        /// How it was to be asked.
        method: &'static str,
        /// The authority.
        url: RedactedUrl,
        /// What the library says.
        reason: String,
        /// Why not.
        problem: CertificateProblem,
    },
    /// The authority's answer makes no sense. Nothing of it is shown: it may hold a token.
    #[error("{method} {url}: the answer is no token")]
    NoToken {
        /// How it was asked.
        method: &'static str,
        /// The authority, or the machine's identity service.
        url: RedactedUrl,
    },
    /// What the environment says cannot be used.
    #[error("credentials cannot be used: {reason}")]
    Unusable {
        /// What the library says.
        reason: String,
    },
}

impl AuthError {
    /// Whether another attempt can succeed: only 429 and 5xx (pipeline/docs/service.md#signing-in), and failed
    /// transfers.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::MissingVariables { .. }
            | Self::Unavailable { .. }
            | Self::NoneOpen { .. }
            | Self::NoToken { .. }
            | Self::Untrusted { .. }
            | Self::Unusable { .. } => false,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Unreachable { .. } => true,
        }
    }
}

impl Diagnostic for AuthError {
    fn exit_code(&self) -> ExitCode {
        match self {
            // The authority is down: that says nothing about us.
            Self::Refused { .. } if self.is_transient() => ExitCode::Source,
            Self::MissingVariables { .. }
            | Self::Unavailable { .. }
            | Self::NoneOpen { .. }
            | Self::Refused { .. }
            | Self::Unusable { .. } => ExitCode::NotAuthorised,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::NoToken { .. } => ExitCode::Source,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::MissingVariables { .. } => {
                Some("they belong together: set all of them, or choose another way with --auth".into())
            }
            Self::Unavailable { method: AuthMethod::AzureCli, .. } => Some("sign in with `az login`".into()),
            Self::Unavailable { .. } => Some("choose another way with --auth".into()),
            Self::NoneOpen { .. } => Some(
                "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of an app registration, or \
                 sign in with `az login`"
                    .into(),
            ),
            Self::Refused { .. } | Self::Unusable { .. } => {
                Some("check the AZURE_* variables, --login-url and --scope".into())
            }
            Self::Untrusted { problem, .. } => Some(problem.hint().into()),
            Self::Unreachable { .. } | Self::NoToken { .. } => {
                Some("check --login-url and the network".into())
            }
        }
    }
}

/// Gives the token, from memory while it lasts.
#[derive(Debug)]
pub struct Tokens {
    chain: Chain,
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
    ) -> Result<Self, HttpError> {
        if !is_private(login_url) {
            return Err(HttpError::NotPrivate { url: login_url.into() });
        }
        let chain = Chain::try_new(login_url, scope, method, credentials)?;
        Ok(Self { chain, cached: Mutex::new(None) })
    }

    /// The token to send. Concurrent callers wait for one request.
    ///
    /// # Errors
    ///
    /// Where none can be had.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| Utc::now() < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let access = self.chain.request().await?;
        let now = Utc::now();
        let ends_at = DateTime::from_timestamp(access.expires_on.unix_timestamp(), 0).unwrap_or(now);
        // One that lives for minutes only is still good for most of them.
        let before_end = RENEW_BEFORE_END.min((ends_at - now) / 4);
        let token = Token { secret: Secret::new(access.token.secret()), renew_at: ends_at - before_end };
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
}
