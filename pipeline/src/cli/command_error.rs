//! The error that ends a command: its message on stderr and its exit code.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::panics::Panicked;

/// The result of a command, or of a step of one.
pub(super) type CommandResult<T = ExitCode> = Result<T, CommandError>;

/// An error that ends a command.
#[derive(Debug)]
pub struct CommandError {
    code: ExitCode,
    error: anyhow::Error,
    hint: Option<Cow<'static, str>>,
}

impl CommandError {
    /// Creates an error with an exit code that the command chooses.
    pub(super) fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into(), hint: None }
    }

    /// Adds the suggested fix, which starts with an imperative and has no full stop.
    #[must_use]
    pub(super) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Converts an error of writing to stdout. A closed pipe counts as success: the reader has read enough.
    pub(super) fn stdout(error: io::Error) -> Self {
        let is_closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        let code = if is_closed_pipe { ExitCode::Success } else { ExitCode::Internal };
        Self::new(code, anyhow::Error::new(error).context("cannot write to stdout"))
    }

    /// Converts a panic.
    pub(super) fn internal(panicked: &Panicked) -> Self {
        let error = anyhow::anyhow!("internal error: {panicked}");
        Self { hint: panicked.hint(), ..Self::new(panicked.exit_code(), error) }
    }

    /// Returns the error of a run that was interrupted before it published anything.
    pub(super) fn interrupted() -> Self {
        Self::new(ExitCode::Interrupted, anyhow::anyhow!("interrupted; nothing was published"))
    }

    /// Names what the error is about.
    #[must_use]
    pub(super) fn with_context(self, what: &'static str) -> Self {
        Self { error: self.error.context(what), ..self }
    }

    /// Returns the exit code. With [`ExitCode::Success`] no message is printed.
    pub fn exit_code(&self) -> ExitCode {
        self.code
    }

    /// Returns the suggested fix, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl<E: Diagnostic + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self { code: error.exit_code(), hint: error.hint(), error: error.into() }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, hint, .. } = self;
        write!(f, "{error:#}")?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "; hint: {hint}"))
    }
}
