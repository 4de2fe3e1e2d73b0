//! What a store said, fit to be shown: whether it is worth another attempt, and without secrets.

use object_store::client::{HttpError, HttpErrorKind};

use super::connector::UntrustedStore;
use crate::auth::AuthError;
use crate::exit_code::ExitCode;
use crate::http::CertificateProblem;
use crate::http::secret::quotable;
use crate::redact::place;

/// What a store said, fit to be shown.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StoreError {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    NotAuthorised,
    Unsupported,
    Untrusted(CertificateProblem),
    /// The store or the line to it failed for now. A closed list: see [`is_transient`].
    Transient,
    /// What the store will say again.
    Refused,
}

impl From<&object_store::Error> for StoreError {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error::{
            NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated,
        };
        let kind = match error {
            NotFound { .. } => Kind::Missing,
            error if let Some(problem) = untrusted(error) => Kind::Untrusted(problem),
            // The authority could not be asked: that says nothing about us.
            Unauthenticated { source, .. }
                if source
                    .downcast_ref::<AuthError>()
                    .is_some_and(|err| err.exit_code() == ExitCode::Source) =>
            {
                Kind::Transient
            }
            PermissionDenied { .. } | Unauthenticated { .. } => Kind::NotAuthorised,
            NotImplemented { .. } | NotSupported { .. } => Kind::Unsupported,
            // Of a listing and of what it asks for credentials the library keeps the status in words only.
            error => match error.to_string().split_once(STATUS_MARK).map(|(_, status)| status.get(..3)) {
                Some(Some("404")) => Kind::Missing,
                Some(Some("401" | "403")) => Kind::NotAuthorised,
                Some(Some(status)) if TRANSIENT_STATUSES.contains(&status) => Kind::Transient,
                None if is_transient(error) => Kind::Transient,
                _ => Kind::Refused,
            },
        };
        Self { kind, text: explain(error) }
    }
}

impl StoreError {
    pub(in crate::lake) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    pub(in crate::lake) fn is_not_authorised(&self) -> bool {
        self.kind == Kind::NotAuthorised
    }

    pub(in crate::lake) fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// Whether the store will say the same again, and not for want of rights.
    pub(in crate::lake) fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Missing | Kind::Refused)
    }

    pub(in crate::lake) fn hint(&self) -> &'static str {
        match self.kind {
            Kind::Missing => "make the container or bucket first, and check its name in --lake",
            Kind::NotAuthorised => {
                "check the store's credentials in the environment, and that they may read, write, list and delete there"
            }
            Kind::Unsupported => "choose a store with conditional writes for --lake",
            Kind::Untrusted(problem) => problem.hint(),
            Kind::Transient => "check the store's name and the network, and run again",
            Kind::Refused => {
                "check that --lake and the environment name the right store, and see what it says"
            }
        }
    }
}

/// Why the certificate of a store, or of the authority that signs in to it, is not one to trust.
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

/// What stands before the status of an answer, in the library's words.
const STATUS_MARK: &str = "status code: ";

/// Answers of a store that is busy or not well, and may be again.
const TRANSIENT_STATUSES: [&str; 6] = ["408", "429", "500", "502", "503", "504"];

/// The same as codes in the body of an answer that began well, as S3 gives them.
const TRANSIENT_CODES: [&str; 4] = ["InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"];

/// Whether no answer came, or one without a status that says that the store is busy.
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

/// What the library says, in one line and without its frames around a request: of a service's XML its code
/// and message, of URLs no query.
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
        let check = |text: &str, expected: &str, kind: Kind| {
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
            Kind::NotAuthorised,
        );
        check("status code: 404 Not Found", "Generic S3 error: status code: 404 Not Found", Kind::Missing);
        check("the line is dead", "Generic S3 error: the line is dead", Kind::Refused);
        for (status, kind) in [
            ("400 Bad Request", Kind::Refused),
            ("405 Method Not Allowed", Kind::Refused),
            ("409 Conflict", Kind::Refused),
            ("501 Not Implemented", Kind::Refused),
            ("505 HTTP Version Not Supported", Kind::Refused),
            ("408 Request Timeout", Kind::Transient),
            ("429 Too Many Requests", Kind::Transient),
            ("500 Internal Server Error", Kind::Transient),
            ("502 Bad Gateway", Kind::Transient),
            ("503 Service Unavailable", Kind::Transient),
            ("504 Gateway Timeout", Kind::Transient),
        ] {
            let text = format!("Server returned non-2xx status code: {status}: ");
            check(&text, &format!("Generic S3 error: {}", text.trim_end()), kind);
        }
    }
}
