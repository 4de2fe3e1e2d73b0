//! The ways to sign in, and the order in which `auto` walks them: takes what the environment holds, gives
//! a token. The only module that knows them all.

use std::{
    ffi::OsStr,
    io,
    process::{Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, TokenCredential},
    http::{ClientOptions, RetryOptions},
};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredential,
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, Executor,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use url::Url;

use super::{
    AuthMethod, Credentials, TokenError,
    certificate::CertificateAssertion,
    transport::{Destination, IMDS_CONNECT_TIMEOUT, Transport},
};
use crate::fetch::{
    FetchError, RedactedUrl, error_chain,
    http::{API_READ_TIMEOUT, HttpClient},
    secret::quotable,
};

/// The Azure CLI is a Python program that may have to renew a token of its own; beyond this it hangs.
const AZURE_CLI_TIMEOUT: Duration = Duration::from_mins(1);

type Credential = Arc<dyn TokenCredential>;

/// The ways to sign in.
#[derive(Debug)]
pub(super) struct Chain {
    method: AuthMethod,
    credentials: Credentials,
    scope: String,
    login_url: RedactedUrl,
    authority: Arc<Transport>,
    machine: Arc<Transport>,
    /// What `auto` found open. It stays with that: who we are does not change within a run.
    found: Mutex<Option<AuthMethod>>,
}

impl Chain {
    pub(super) fn try_new(
        login_url: &Url,
        scope: String,
        method: AuthMethod,
        credentials: Credentials,
    ) -> Result<Self, FetchError> {
        let authority = Transport {
            http: HttpClient::try_new(API_READ_TIMEOUT)?,
            destination: Destination::Authority(login_url.into()),
        };
        let machine = Transport {
            http: HttpClient::try_direct(IMDS_CONNECT_TIMEOUT, API_READ_TIMEOUT)?,
            destination: Destination::Machine(credentials.imds_url.clone()),
        };
        Ok(Self {
            method,
            credentials,
            scope,
            login_url: login_url.into(),
            authority: Arc::new(authority),
            machine: Arc::new(machine),
            found: Mutex::default(),
        })
    }

    /// A new token, by the way chosen or by the first one that is open.
    pub(super) async fn request(&self) -> Result<AccessToken, TokenError> {
        if self.method != AuthMethod::Auto {
            let token = self.ask(self.method).await?;
            self.note(self.method);
            return Ok(token);
        }
        let found = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = found {
            return self.ask(method).await;
        }
        let mut tried = Vec::new();
        for method in AuthMethod::CHAIN {
            if let Some(name) = self.absent_variable(method) {
                tried.push((method, format!("{name} not set")));
                continue;
            }
            match self.ask(method).await {
                Ok(token) => {
                    self.note(method);
                    return Ok(token);
                }
                Err(TokenError::Unavailable { reason, .. }) => tried.push((method, reason)),
                // Credentials that are there and do not work are a mistake to tell, not to step over.
                Err(err) => return Err(err),
            }
        }
        Err(TokenError::NoneOpen { tried })
    }

    fn note(&self, method: AuthMethod) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.replace(method).is_none() {
            tracing::info!(auth = method.as_str(), "signed in");
        }
    }

    /// The variable that says that a way is wanted, where it is not set.
    fn absent_variable(&self, method: AuthMethod) -> Option<&'static str> {
        let credentials = &self.credentials;
        match method {
            AuthMethod::ClientSecret if credentials.client_secret.is_none() => Some("AZURE_CLIENT_SECRET"),
            AuthMethod::ClientCertificate if credentials.client_certificate_path.is_none() => {
                Some("AZURE_CLIENT_CERTIFICATE_PATH")
            }
            AuthMethod::WorkloadIdentity if credentials.federated_token_file.is_none() => {
                Some("AZURE_FEDERATED_TOKEN_FILE")
            }
            _ => None,
        }
    }

    async fn ask(&self, method: AuthMethod) -> Result<AccessToken, TokenError> {
        // A new credential for each token: the library's own cache would give a refused token again.
        let credential = match method {
            AuthMethod::ClientSecret => self.client_secret()?,
            AuthMethod::ClientCertificate => self.client_certificate().await?,
            AuthMethod::WorkloadIdentity => self.workload_identity().await?,
            AuthMethod::ManagedIdentity => self.managed_identity()?,
            AuthMethod::AzureCli | AuthMethod::Auto => self.azure_cli()?,
        };
        let scopes = [self.scope.as_str()];
        let token = credential.get_token(&scopes, None);
        let token = if method == AuthMethod::AzureCli {
            let timeout = tokio::time::timeout(AZURE_CLI_TIMEOUT, token).await;
            timeout.map_err(|_| unavailable(method, "`az` did not answer".into()))?
        } else {
            token.await
        };
        token.map_err(|err| self.explain(method, &err))
    }

    /// What became of a request. Errors of ours that went through the library come out as they were.
    fn explain(&self, method: AuthMethod, err: &azure_core::Error) -> TokenError {
        let mut causes =
            std::iter::successors(Some(err as &(dyn std::error::Error + 'static)), |err| err.source());
        let ours = causes.find_map(|err| err.downcast_ref::<TokenError>()).cloned();
        let is_machine = method == AuthMethod::ManagedIdentity && !self.credentials.has_identity_endpoint;
        match (method, ours) {
            // Most machines have no identity service, and some that do have no identity.
            (_, Some(TokenError::Unreachable { .. })) if is_machine => {
                unavailable(method, "this machine has no identity service".into())
            }
            (_, Some(TokenError::Refused { status: 400, .. })) if is_machine => {
                unavailable(method, "this machine has no such identity".into())
            }
            (_, Some(ours)) => ours,
            (AuthMethod::AzureCli, None) => unavailable(method, last_line(err)),
            (_, None) => TokenError::NoToken { url: self.login_url.clone() },
        }
    }

    fn client_secret(&self) -> Result<Credential, TokenError> {
        let Credentials { tenant_id, client_id, client_secret, .. } = &self.credentials;
        let (Some(tenant_id), Some(client_id), Some(client_secret)) = (tenant_id, client_id, client_secret)
        else {
            return Err(self.missing("AZURE_CLIENT_SECRET", client_secret.is_none()));
        };
        let options = ClientSecretCredentialOptions { client_options: self.authority_options() };
        let secret = azure_core::credentials::Secret::new(client_secret.expose().to_owned());
        let credential = ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options));
        Ok(credential.map_err(|err| unusable(&err))?)
    }

    async fn client_certificate(&self) -> Result<Credential, TokenError> {
        let Credentials { tenant_id, client_id, client_certificate_path, .. } = &self.credentials;
        let (Some(tenant_id), Some(client_id), Some(path)) = (tenant_id, client_id, client_certificate_path)
        else {
            return Err(self.missing("AZURE_CLIENT_CERTIFICATE_PATH", client_certificate_path.is_none()));
        };
        // The endpoint as the library will call it.
        let host = self.login_url.as_url().host_str().unwrap_or_default();
        let audience = format!("https://{host}/{tenant_id}/oauth2/v2.0/token");
        let (path, issuer) = (path.clone(), client_id.clone());
        let read =
            tokio::task::spawn_blocking(move || CertificateAssertion::try_read(&path, issuer, audience));
        let assertion = match read.await {
            Ok(assertion) => assertion.map_err(|reason| TokenError::Unusable { reason })?,
            Err(err) => return Err(TokenError::Unusable { reason: err.to_string() }),
        };
        let options = ClientAssertionCredentialOptions { client_options: self.authority_options() };
        let credential =
            ClientAssertionCredential::new(tenant_id.clone(), client_id.clone(), assertion, Some(options));
        Ok(credential.map_err(|err| unusable(&err))?)
    }

    async fn workload_identity(&self) -> Result<Credential, TokenError> {
        let Credentials { tenant_id, client_id, federated_token_file, .. } = self.credentials.clone();
        if tenant_id.is_none() || client_id.is_none() || federated_token_file.is_none() {
            return Err(self.missing("AZURE_FEDERATED_TOKEN_FILE", federated_token_file.is_none()));
        }
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options: self.authority_options() },
            client_id,
            tenant_id,
            token_file_path: federated_token_file,
        };
        // The library reads the file at once.
        match tokio::task::spawn_blocking(move || WorkloadIdentityCredential::new(Some(options))).await {
            Ok(credential) => Ok(credential.map_err(|err| unusable(&err))?),
            Err(err) => Err(TokenError::Unusable { reason: err.to_string() }),
        }
    }

    fn managed_identity(&self) -> Result<Credential, TokenError> {
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: self.credentials.client_id.clone().map(UserAssignedId::ClientId),
            client_options: options(&self.machine, None),
        };
        Ok(ManagedIdentityCredential::new(Some(options)).map_err(|err| unusable(&err))?)
    }

    fn azure_cli(&self) -> Result<Credential, TokenError> {
        let options = AzureCliCredentialOptions {
            tenant_id: self.credentials.tenant_id.clone(),
            executor: Some(Arc::new(AzureCli)),
            ..AzureCliCredentialOptions::default()
        };
        Ok(AzureCliCredential::new(Some(options)).map_err(|err| unusable(&err))?)
    }

    /// The variables of an app registration that are absent, `own` among them.
    fn missing(&self, own: &'static str, is_own_missing: bool) -> TokenError {
        let Credentials { tenant_id, client_id, .. } = &self.credentials;
        let names = [
            ("AZURE_TENANT_ID", tenant_id.is_none()),
            ("AZURE_CLIENT_ID", client_id.is_none()),
            (own, is_own_missing),
        ];
        let names = names.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
        TokenError::MissingVariables { names }
    }

    fn authority_options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        // What the library checks; `Transport` puts the real scheme and port back.
        cloud.authority_host = format!("https://{}/", self.login_url.as_url().host_str().unwrap_or_default());
        options(&self.authority, Some(Arc::new(CloudConfiguration::Custom(cloud))))
    }
}

fn options(transport: &Arc<Transport>, cloud: Option<Arc<CloudConfiguration>>) -> ClientOptions {
    ClientOptions {
        cloud,
        transport: Some(azure_core::http::Transport::new(transport.clone())),
        retry: RetryOptions::none(), // retries are decided in `retry`
        ..ClientOptions::default()
    }
}

fn unavailable(method: AuthMethod, reason: String) -> TokenError {
    TokenError::Unavailable { method, reason }
}

fn unusable(err: &azure_core::Error) -> TokenError {
    TokenError::Unusable { reason: quotable(&error_chain(err)) }
}

/// What the Azure CLI said: the cause furthest down, without the library's frame around it.
fn last_line(err: &azure_core::Error) -> String {
    let errors = std::iter::successors(Some(err as &(dyn std::error::Error + 'static)), |err| err.source());
    let text = errors.last().map(ToString::to_string).unwrap_or_default();
    quotable(text.trim_start_matches("ERROR: "))
}

/// Runs the Azure CLI, and ends it when nobody waits for it any more.
#[derive(Debug)]
struct AzureCli;

#[async_trait::async_trait]
impl Executor for AzureCli {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = tokio::process::Command::new(program);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}
