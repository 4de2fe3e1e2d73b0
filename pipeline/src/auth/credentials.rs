//! What the caller signs in with: the method, and what the environment has for it.

use std::path::PathBuf;

use url::Url;

use crate::{environment, http::Secret};

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
