//! Why there is no token.

use std::borrow::Cow;

use super::credentials::AuthMethod;
use crate::{
    exit_code::{Diagnostic, ExitCode},
    http::{CertificateProblem, RedactedUrl},
};

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
