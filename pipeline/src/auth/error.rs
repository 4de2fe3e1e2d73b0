//! Why no token could be obtained.

use std::borrow::Cow;

use super::credentials::AuthMethod;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::http::{CertificateProblem, RedactedUrl};

/// Why no token could be obtained.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// The credentials of the environment are incomplete.
    #[error("no credentials: {} not set", names.join(", "))]
    MissingVariables {
        /// The variables that are absent or empty.
        names: Vec<&'static str>,
    },
    /// The machine lacks what a sign-in method needs.
    #[error("--auth {}: {reason}", method.as_str())]
    Unavailable {
        /// The method.
        method: AuthMethod,
        /// What is missing.
        reason: String,
    },
    /// No sign-in method is available.
    #[error("no credentials: {}", tried.iter().map(|(method, reason)| format!("{}: {reason}", method.as_str())).collect::<Vec<_>>().join("; "))]
    NoneOpen {
        /// Each method, and what is missing for it.
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
    /// The authority's certificate is not trusted.
    #[error("{method} {url}: {reason}")]
    Untrusted {
        /// How it was to be asked.
        method: &'static str,
        /// The authority.
        url: RedactedUrl,
        /// The error of the library.
        reason: String,
        /// Why not.
        problem: CertificateProblem,
    },
    /// The response has no token that can be read. Nothing of it is shown: it may contain one.
    #[error("{method} {url}: response contains no access token")]
    NoToken {
        /// How it was asked.
        method: &'static str,
        /// The authority, or the machine's identity service.
        url: RedactedUrl,
    },
    /// The credentials of the environment cannot be used.
    #[error("cannot use the credentials: {reason}")]
    Unusable {
        /// The error of the library.
        reason: String,
    },
}

impl AuthError {
    /// Returns whether another attempt can succeed: only 429 and 5xx (pipeline/docs/service.md#signing-in), and failed
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
            // The authority is down: that says nothing about the credentials.
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
                Some("set all of them, or choose another method with --auth".into())
            }
            Self::Unavailable { method: AuthMethod::AzureCli, .. } => Some("sign in with `az login`".into()),
            Self::Unavailable { .. } => Some("choose another method with --auth".into()),
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
