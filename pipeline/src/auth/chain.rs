//! The sign-in methods, and the order in which `auto` tries them: takes the credentials of the environment, gives
//! a token. The only module that knows all methods.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, TokenCredential},
    http::{ClientMethodOptions, ClientOptions, RetryOptions},
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions,
};
use url::Url;

use super::certificate::CertificateAssertion;
use super::managed_identity::{IdentityFailure, IdentityService};
use super::transport::Transport;
use super::{AuthError, AuthMethod, Credentials, azure_cli};
use crate::http::secret::{quotable, read_secret_file};
use crate::http::{API_READ_TIMEOUT, HttpClient, HttpError, RedactedUrl, Secret, error_chain};

/// Largest token file that is read: the token of a cluster has some kilobytes.
const MAX_TOKEN_FILE_BYTES: u64 = 1024 * 1024;

type Credential = Arc<dyn TokenCredential>;

/// The sign-in methods.
#[derive(Debug)]
pub(super) struct Chain {
    method: AuthMethod,
    credentials: Credentials,
    scope: String,
    login_url: RedactedUrl,
    authority: Arc<Transport>,
    machine: IdentityService,
    /// The method that `auto` found. It is kept: the identity does not change within a run.
    found: Mutex<Option<AuthMethod>>,
}

impl Chain {
    pub(super) fn try_new(
        login_url: &Url,
        scope: String,
        method: AuthMethod,
        credentials: Credentials,
    ) -> Result<Self, HttpError> {
        let authority =
            Transport { http: HttpClient::try_new(API_READ_TIMEOUT)?, authority: login_url.into() };
        let machine =
            IdentityService::try_new(credentials.machine_identity.clone(), credentials.imds_url.clone())?;
        Ok(Self {
            method,
            credentials,
            scope,
            login_url: login_url.into(),
            authority: Arc::new(authority),
            machine,
            found: Mutex::default(),
        })
    }

    /// Requests a new token by the chosen method, or by the first one that is available.
    pub(super) async fn request(&self) -> Result<AccessToken, AuthError> {
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
            let asked = match method {
                AuthMethod::ManagedIdentity => self.look_for_machine().await,
                method => self.ask(method).await,
            };
            match asked {
                Ok(token) => {
                    self.note(method);
                    return Ok(token);
                }
                Err(AuthError::Unavailable { reason, .. }) => tried.push((method, reason)),
                // Credentials that exist and do not work are reported; `auto` does not try the next method.
                Err(err) => return Err(err),
            }
        }
        Err(AuthError::NoneOpen { tried })
    }

    fn note(&self, method: AuthMethod) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.replace(method).is_none() {
            tracing::info!(auth = method.as_str(), "signed in");
        }
    }

    /// Returns the variable that selects the method, if it is not set.
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

    async fn ask(&self, method: AuthMethod) -> Result<AccessToken, AuthError> {
        // A new credential for each token: the library's own cache would give a refused token again.
        let credential = match method {
            AuthMethod::ClientSecret => self.client_secret()?,
            AuthMethod::ClientCertificate => self.client_certificate().await?,
            AuthMethod::WorkloadIdentity => self.workload_identity().await?,
            AuthMethod::ManagedIdentity => {
                let asked =
                    self.machine.token(&self.scope, self.credentials.client_id.as_deref(), false).await;
                return asked.map_err(|failure| match failure.error {
                    error @ AuthError::Unreachable { .. } => {
                        unavailable(method, format!("this machine has no identity service: {error}"))
                    }
                    error => error,
                });
            }
            AuthMethod::AzureCli | AuthMethod::Auto => {
                let token = azure_cli::token(&self.scope, self.credentials.tenant_id.as_deref()).await;
                return token.map_err(|reason| unavailable(AuthMethod::AzureCli, reason));
            }
        };
        let scopes = [self.scope.as_str()];
        credential.get_token(&scopes, None).await.map_err(|err| self.explain(&err))
    }

    /// Asks the machine's identity service, if there is one: most machines have none, something else can answer at
    /// its address, and some machines that have it have no identity.
    async fn look_for_machine(&self) -> Result<AccessToken, AuthError> {
        let asked = self.machine.token(&self.scope, self.credentials.client_id.as_deref(), true).await;
        asked.map_err(|IdentityFailure { error, is_service }| {
            let reason = match error {
                // The service exists and is busy.
                error if is_service && error.is_transient() => return error,
                AuthError::Unreachable { .. } => "this machine has no identity service".to_owned(),
                AuthError::Refused { status: 400, .. } if is_service => {
                    "this machine has no such identity".to_owned()
                }
                AuthError::Unusable { reason } => reason,
                error if is_service => error.to_string(),
                error => format!("not an identity service: {error}"),
            };
            unavailable(AuthMethod::ManagedIdentity, reason)
        })
    }

    /// Returns the error of a request. Our own errors that passed through the library come out unchanged.
    fn explain(&self, err: &azure_core::Error) -> AuthError {
        let mut causes =
            std::iter::successors(Some(err as &(dyn std::error::Error + 'static)), |err| err.source());
        let ours = causes.find_map(|err| err.downcast_ref::<AuthError>()).cloned();
        ours.unwrap_or_else(|| AuthError::NoToken { method: "POST", url: self.login_url.clone() })
    }

    fn client_secret(&self) -> Result<Credential, AuthError> {
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

    async fn client_certificate(&self) -> Result<Credential, AuthError> {
        let Credentials { tenant_id, client_id, client_certificate_path, .. } = &self.credentials;
        let (Some(tenant_id), Some(client_id), Some(path)) = (tenant_id, client_id, client_certificate_path)
        else {
            return Err(self.missing("AZURE_CLIENT_CERTIFICATE_PATH", client_certificate_path.is_none()));
        };
        // The token endpoint as the library will call it.
        let host = self.login_url.as_url().host_str().unwrap_or_default();
        let audience = format!("https://{host}/{tenant_id}/oauth2/v2.0/token");
        let (path, issuer) = (path.clone(), client_id.clone());
        let read = move || CertificateAssertion::try_read(&path, issuer, audience);
        self.by_assertion(tenant_id, client_id, read).await
    }

    async fn workload_identity(&self) -> Result<Credential, AuthError> {
        let Credentials { tenant_id, client_id, federated_token_file, .. } = &self.credentials;
        let (Some(tenant_id), Some(client_id), Some(path)) = (tenant_id, client_id, federated_token_file)
        else {
            return Err(self.missing("AZURE_FEDERATED_TOKEN_FILE", federated_token_file.is_none()));
        };
        let path = path.clone();
        self.by_assertion(tenant_id, client_id, move || FederatedToken::try_read(&path)).await
    }

    /// Returns the credential of an application that signs in with the assertion that `read` reads from a file.
    async fn by_assertion<A: ClientAssertion + 'static>(
        &self,
        tenant_id: &str,
        client_id: &str,
        read: impl FnOnce() -> Result<A, String> + Send + 'static,
    ) -> Result<Credential, AuthError> {
        let assertion = match tokio::task::spawn_blocking(read).await {
            Ok(assertion) => assertion.map_err(|reason| AuthError::Unusable { reason })?,
            Err(err) => return Err(AuthError::Unusable { reason: err.to_string() }),
        };
        let options = ClientAssertionCredentialOptions { client_options: self.authority_options() };
        let credential = ClientAssertionCredential::new(
            tenant_id.to_owned(),
            client_id.to_owned(),
            assertion,
            Some(options),
        );
        Ok(credential.map_err(|err| unusable(&err))?)
    }

    /// Returns the error that names the missing variables of an app registration, `own` among them.
    fn missing(&self, own: &'static str, is_own_missing: bool) -> AuthError {
        let Credentials { tenant_id, client_id, .. } = &self.credentials;
        let names = [
            ("AZURE_TENANT_ID", tenant_id.is_none()),
            ("AZURE_CLIENT_ID", client_id.is_none()),
            (own, is_own_missing),
        ];
        let names = names.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
        AuthError::MissingVariables { names }
    }

    fn authority_options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        // The library requires https; `Transport` restores the real scheme and port.
        cloud.authority_host = format!("https://{}/", self.login_url.as_url().host_str().unwrap_or_default());
        ClientOptions {
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            transport: Some(azure_core::http::Transport::new(self.authority.clone())),
            retry: RetryOptions::none(), // the caller decides about retries
            ..ClientOptions::default()
        }
    }
}

fn unavailable(method: AuthMethod, reason: String) -> AuthError {
    AuthError::Unavailable { method, reason }
}

fn unusable(err: &azure_core::Error) -> AuthError {
    AuthError::Unusable { reason: quotable(&error_chain(err)) }
}

/// The workload's token of a Kubernetes cluster, from its file. Read for each token: the cluster renews it.
#[derive(Debug)]
struct FederatedToken(Secret);

impl FederatedToken {
    fn try_read(path: &Path) -> Result<Self, String> {
        let shown = crate::redact::place(&path.to_string_lossy()).into_owned();
        let unreadable = |err| format!("AZURE_FEDERATED_TOKEN_FILE: cannot read {shown}: {err}");
        let bytes = read_secret_file(path, MAX_TOKEN_FILE_BYTES).map_err(|err| match err.kind() {
            std::io::ErrorKind::FileTooLarge => {
                format!("AZURE_FEDERATED_TOKEN_FILE: {shown} is too large for a token")
            }
            _ => unreadable(err),
        })?;
        let not_text = |_| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, "not utf-8"));
        // Files end with a newline, tokens do not.
        let text = String::from_utf8(bytes).map_err(not_text)?;
        match text.trim() {
            "" => Err(format!("AZURE_FEDERATED_TOKEN_FILE: {shown} is empty")),
            token => Ok(Self(Secret::new(token))),
        }
    }
}

#[async_trait::async_trait]
impl ClientAssertion for FederatedToken {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose().to_owned())
    }
}
