//! Errors of a store: whether a retry can help, and their text without secrets.

use object_store::client::{HttpError, HttpErrorKind};

use super::connector::UntrustedStore;
use crate::auth::AuthError;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::http::CertificateProblem;
use crate::http::secret::quotable;
use crate::redact::place;

/// An error of a store, without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StoreError {
    kind: StoreErrorKind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreErrorKind {
    Missing,
    NotAuthorised,
    Unsupported,
    Untrusted(CertificateProblem),
    /// The store or the network failed, and a retry can help. A closed list: see [`is_transient`].
    Transient,
    /// The store will answer the same again.
    Refused,
}

impl From<&object_store::Error> for StoreError {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error::{
            NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated,
        };
        let kind = match error {
            NotFound { .. } => StoreErrorKind::Missing,
            error if let Some(problem) = untrusted(error) => StoreErrorKind::Untrusted(problem),
            // The authority did not answer, which is not about the credentials.
            Unauthenticated { source, .. }
                if source
                    .downcast_ref::<AuthError>()
                    .is_some_and(|err| err.exit_code() == ExitCode::Source) =>
            {
                StoreErrorKind::Transient
            }
            PermissionDenied { .. } | Unauthenticated { .. } => StoreErrorKind::NotAuthorised,
            NotImplemented { .. } | NotSupported { .. } => StoreErrorKind::Unsupported,
            // For listings and requests for credentials, the library keeps the status in the text only.
            error => match error.to_string().split_once(STATUS_MARK).map(|(_, status)| status.get(..3)) {
                Some(Some("404")) => StoreErrorKind::Missing,
                Some(Some("401" | "403")) => StoreErrorKind::NotAuthorised,
                Some(Some(status)) if TRANSIENT_STATUSES.contains(&status) => StoreErrorKind::Transient,
                None if is_transient(error) => StoreErrorKind::Transient,
                _ => StoreErrorKind::Refused,
            },
        };
        Self { kind, text: explain(error) }
    }
}

impl StoreError {
    pub(in crate::lake) fn is_missing(&self) -> bool {
        self.kind == StoreErrorKind::Missing
    }

    pub(in crate::lake) fn is_not_authorised(&self) -> bool {
        self.kind == StoreErrorKind::NotAuthorised
    }

    pub(in crate::lake) fn is_transient(&self) -> bool {
        self.kind == StoreErrorKind::Transient
    }

    /// Whether the store will answer the same again, and not for lack of permissions.
    pub(in crate::lake) fn is_refused(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Missing | StoreErrorKind::Refused)
    }

    pub(in crate::lake) fn hint(&self) -> &'static str {
        match self.kind {
            StoreErrorKind::Missing => "create the container or bucket, or correct its name in --lake",
            StoreErrorKind::NotAuthorised => {
                "check the store's credentials in the environment, which must allow to read, write, list and delete"
            }
            StoreErrorKind::Unsupported => "choose a store for --lake that supports conditional writes",
            StoreErrorKind::Untrusted(problem) => problem.hint(),
            StoreErrorKind::Transient => "check the store's name and the network, and run again",
            StoreErrorKind::Refused => "check that --lake and the environment name the right store",
        }
    }
}

/// Returns why the certificate of a store, or of the authority that issues its tokens, is not trusted.
fn untrusted(error: &object_store::Error) -> Option<CertificateProblem> {
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    causes.find_map(|error| {
        match (error.downcast_ref::<UntrustedStore>(), error.downcast_ref::<AuthError>()) {
            (Some(store), _) => Some(store.problem),
            (_, Some(AuthError::Untrusted { problem, .. })) => Some(*problem),
            _ => None,
        }
    })
}

/// What precedes the status of a response in the library's error texts.
const STATUS_MARK: &str = "status code: ";

/// Statuses of a store that is busy or failing, which a retry can outlast.
const TRANSIENT_STATUSES: [&str; 6] = ["408", "429", "500", "502", "503", "504"];

/// The same as error codes, which S3 sends in the body of a response with status 200.
const TRANSIENT_CODES: [&str; 4] = ["InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"];

/// Whether there was no response, or one with status 200 and an error code of a busy store.
fn is_transient(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() != HttpErrorKind::Unknown;
        }
        source = error.source();
    }
    let text = error.to_string();
    TRANSIENT_CODES.iter().any(|code| text.contains(&format!("<Code>{code}</Code>")))
}

/// Returns the library's error text in one line, without its prefixes: of a service's XML the code and message, of
/// URLs everything but the query.
pub(in crate::lake) fn explain(error: &object_store::Error) -> String {
    if let object_store::Error::Unauthenticated { source, .. } = error
        && let Some(token_error) = source.downcast_ref::<AuthError>()
    {
        return token_error.to_string();
    }
    let text = error.to_string().replace('\n', " ");
    let text = text.rsplit("Error performing ").next().unwrap_or_default();
    let between = |start: &str, end: &str| {
        let rest = text.split_once(start)?.1;
        Some(rest.split_once(end)?.0)
    };
    let mut shown = text.split('<').next().unwrap_or_default().trim_end_matches([' ', '\u{feff}']).to_owned();
    if let Some(code) = between("<Code>", "</Code>") {
        let message = between("<Message>", "</Message>").unwrap_or_default();
        let message = message.split(" RequestId:").next().unwrap_or_default();
        shown = format!("{shown} {code}: {message}");
    }
    let words = shown.split(' ').map(|word| if word.contains("://") { place(word) } else { word.into() });
    quotable(&words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_without_secrets() {
        let check = |text: &str, expected: &str, kind: StoreErrorKind| {
            let error = object_store::Error::Generic { store: "S3", source: text.into() };
            let error = StoreError::from(&error);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind, kind);
        };
        check(
            "Error performing GET https://a.blob.core.windows.net/c?sv=1&sig=SECRET in 1s - Server returned \
             non-2xx status code: 403 Forbidden: \u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code>\
             <Message>Server failed to authenticate the request. RequestId:1\nTime:2</Message>\
             <AuthenticationErrorDetail>sig=SECRET</AuthenticationErrorDetail></Error>",
            "GET https://a.blob.core.windows.net/c in 1s - Server returned non-2xx status code: 403 Forbidden: \
             AuthenticationFailed: Server failed to authenticate the request.",
            StoreErrorKind::NotAuthorised,
        );
        check(
            "status code: 404 Not Found",
            "Generic S3 error: status code: 404 Not Found",
            StoreErrorKind::Missing,
        );
        check(
            "the connection is closed",
            "Generic S3 error: the connection is closed",
            StoreErrorKind::Refused,
        );
        for (status, kind) in [
            ("400 Bad Request", StoreErrorKind::Refused),
            ("405 Method Not Allowed", StoreErrorKind::Refused),
            ("409 Conflict", StoreErrorKind::Refused),
            ("501 Not Implemented", StoreErrorKind::Refused),
            ("505 HTTP Version Not Supported", StoreErrorKind::Refused),
            ("408 Request Timeout", StoreErrorKind::Transient),
            ("429 Too Many Requests", StoreErrorKind::Transient),
            ("500 Internal Server Error", StoreErrorKind::Transient),
            ("502 Bad Gateway", StoreErrorKind::Transient),
            ("503 Service Unavailable", StoreErrorKind::Transient),
            ("504 Gateway Timeout", StoreErrorKind::Transient),
        ] {
            let text = format!("Server returned non-2xx status code: {status}: ");
            check(&text, &format!("Generic S3 error: {}", text.trim_end()), kind);
        }
    }
}
