//! The sign-in method and the credentials of the environment.

use std::path::PathBuf;

use url::Url;

use crate::environment::{self, Variables};
use crate::http::Secret;

/// How the caller proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMethod {
    /// The first of the other methods, in their order, that the environment has the credentials for.
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
    /// The user who is signed in to the Azure CLI.
    AzureCli,
}

impl AuthMethod {
    /// The methods that `auto` tries, in this order.
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

/// The values of the standard `AZURE_*` variables. An empty variable counts as absent.
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
    /// `AZURE_FEDERATED_TOKEN_FILE`: the token that Kubernetes issues to the workload.
    pub federated_token_file: Option<PathBuf>,
    /// The machine's identity service.
    pub machine_identity: MachineIdentity,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`: replaces the address of the machine's identity service.
    pub imds_url: Option<Url>,
}

/// The identity service of a machine, as the variables of its platform say.
#[derive(Debug, Clone, Default)]
pub enum MachineIdentity {
    /// The service at the fixed address of virtual machines.
    #[default]
    VirtualMachine,
    /// The service of App Service, Functions and Container Apps, at an address of their own.
    AppService {
        /// `IDENTITY_ENDPOINT`.
        endpoint: String,
        /// `IDENTITY_HEADER`, which proves that the caller is on the machine.
        header: Secret,
    },
    /// A service with another protocol.
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
            // Its agent sends a challenge that only administrators can answer.
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
        Self::of(&Variables::of_process())
    }

    /// Reads variables. The machine's identity is that of this machine.
    pub fn of(variables: &Variables) -> Self {
        let variable = |name| variables.get(name).map(str::to_owned);
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
    /// Returns whether they are the credentials of an application, so that neither the machine's identity nor its
    /// user's is wanted.
    pub fn name_an_application(&self) -> bool {
        self.client_secret.is_some()
            || self.client_certificate_path.is_some()
            || self.federated_token_file.is_some()
    }
}
