//! The exit codes, which are stable for schedulers, and the trait of errors that have one.

use std::borrow::Cow;

/// An error that can end a command.
pub trait Diagnostic: std::error::Error {
    /// Returns the exit code of a command that ends with this error.
    fn exit_code(&self) -> ExitCode;

    /// Returns the suggested fix, if there is one. It starts with an imperative and has no full stop.
    fn hint(&self) -> Option<Cow<'static, str>>;
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Published, or nothing to do.
    Success = 0,
    /// A bug.
    Internal = 1,
    /// The command line or configuration is not valid.
    Usage = 2,
    /// The service rejected the credentials, or they lack a permission.
    NotAuthorised = 3,
    /// The source did not deliver a whole snapshot.
    Source = 4,
    /// More rejected records than allowed.
    Rejects = 5,
    /// The lake could not be written or is damaged, or it has the snapshot already with `--if-published fail`.
    Lake = 6,
    /// The call budget of the service is used up.
    Budget = 7,
    /// Interrupted by SIGINT or SIGTERM.
    Interrupted = 130,
}

impl ExitCode {
    /// Returns the code of this number; that of a bug if there is none.
    pub fn of(number: u8) -> Self {
        let codes = [
            Self::Success,
            Self::Internal,
            Self::Usage,
            Self::NotAuthorised,
            Self::Source,
            Self::Rejects,
            Self::Lake,
            Self::Budget,
            Self::Interrupted,
        ];
        codes.into_iter().find(|code| *code as u8 == number).unwrap_or(Self::Internal)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
