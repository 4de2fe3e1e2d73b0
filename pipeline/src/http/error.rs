//! Why a request could not be sent, or its answer not be read: without the URL's secrets, and without a word on
//! what the service meant by its answer.

use std::borrow::Cow;

use super::{CertificateProblem, NoAuthorities, RedactedUrl, certificate_problem};
use crate::exit_code::{Diagnostic, ExitCode};

/// Why a request could not be sent, or its answer not be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS or the HTTP client could not be set up.
    #[error("the http client cannot be set up")]
    Client {
        /// What the library says.
        source: reqwest::Error,
    },
    /// A secret would travel in the clear.
    #[error("{url}: must be https (plain http is for this machine only)")]
    NotPrivate {
        /// The URL that was configured.
        url: RedactedUrl,
    },
    /// Connection refused, reset, timed out, cut short.
    #[error("GET {url}: the transfer failed")]
    Transport {
        /// What was asked for.
        url: RedactedUrl,
        /// What the library says, without the URL.
        source: reqwest::Error,
    },
    /// https without CA certificates.
    #[error("GET {url}")]
    NoAuthorities {
        /// What was to be asked for.
        url: RedactedUrl,
        /// What is missing.
        source: NoAuthorities,
    },
    /// The answer is larger than anything the service sends.
    #[error("GET {url}: the answer is larger than {max_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: RedactedUrl,
        /// The bound.
        max_bytes: u64,
    },
}

impl HttpError {
    /// Whether another attempt can succeed.
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

/// The texts of `err` and of all that it came from, in one line.
pub fn error_chain(err: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(err), |err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
