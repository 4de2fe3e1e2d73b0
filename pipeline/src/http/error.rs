//! Why a request could not be sent or its response not be read. Never contains the secrets of a URL.

use std::borrow::Cow;

use super::{CertificateProblem, NoAuthorities, RedactedUrl, certificate_problem};
use crate::exit_code::{Diagnostic, ExitCode};

/// Why a request could not be sent or its response not be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS or the HTTP client could not be set up.
    #[error("cannot set up the http client")]
    Client {
        /// The error of the library.
        source: reqwest::Error,
    },
    /// A secret would be sent unencrypted.
    #[error("{url}: expected https (plain http is for this machine only)")]
    NotPrivate {
        /// The URL that was configured.
        url: RedactedUrl,
    },
    /// Connection refused, reset, timed out, cut short.
    #[error("GET {url}: transfer failed")]
    Transport {
        /// The URL of the request.
        url: RedactedUrl,
        /// What the library says, without the URL.
        source: reqwest::Error,
    },
    /// https without CA certificates.
    #[error("GET {url}")]
    NoAuthorities {
        /// The URL of the request.
        url: RedactedUrl,
        /// What is missing.
        source: NoAuthorities,
    },
    /// The response is larger than any of the service.
    #[error("GET {url}: the response is larger than {max_bytes} bytes")]
    TooLarge {
        /// The URL of the request.
        url: RedactedUrl,
        /// The bound.
        max_bytes: u64,
    },
}

impl HttpError {
    /// Returns whether another attempt can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            // A certificate is not another one the next time.
            Self::Transport { source, .. } => certificate_problem(source).is_none(),
            Self::Client { .. }
            | Self::NotPrivate { .. }
            | Self::NoAuthorities { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

impl Diagnostic for HttpError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client { .. } => ExitCode::Internal,
            Self::NotPrivate { .. } => ExitCode::Usage,
            Self::Transport { .. } | Self::NoAuthorities { .. } | Self::TooLarge { .. } => ExitCode::Source,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        let problem = match self {
            Self::NoAuthorities { .. } => Some(CertificateProblem::NoAuthorities),
            Self::Transport { source, .. } => certificate_problem(source),
            Self::Client { .. } | Self::NotPrivate { .. } | Self::TooLarge { .. } => None,
        };
        problem.map(|problem| problem.hint().into())
    }
}

/// Returns the texts of `err` and all its sources, in one line.
pub fn error_chain(err: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(err), |err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
