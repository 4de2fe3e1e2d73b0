//! Errors on their way to stderr: each has an exit code, and a hint if there is one.

use std::borrow::Cow;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::LakeError;
use crate::panics::Panicked;

/// An error whose exit code is known.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}{}", hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default())]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    pub(super) error: anyhow::Error,
    pub(super) hint: Option<String>,
}

pub(super) fn failed(error: impl Diagnostic + Send + Sync + 'static) -> anyhow::Error {
    let hint = error.hint().map(Cow::into_owned);
    Failure { code: error.exit_code(), hint, error: error.into() }.into()
}

pub(super) fn usage(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    Failure { code: ExitCode::Usage, error: error.into(), hint: None }.into()
}

pub(super) fn lake_failure(error: impl Into<anyhow::Error>, hint: Option<&'static str>) -> anyhow::Error {
    Failure { code: ExitCode::Lake, error: error.into(), hint: hint.map(str::to_owned) }.into()
}

pub(super) fn lake_error(error: LakeError) -> anyhow::Error {
    failed(error)
}

pub(super) fn internal_error(panicked: &Panicked) -> anyhow::Error {
    let error = anyhow::anyhow!("internal error: {panicked}");
    Failure { code: ExitCode::Internal, error, hint: panicked.hint().map(Cow::into_owned) }.into()
}

pub(super) fn interrupted() -> anyhow::Error {
    let error = anyhow::anyhow!("interrupted; nothing was published");
    Failure { code: ExitCode::Interrupted, error, hint: None }.into()
}

pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
