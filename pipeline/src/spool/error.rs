//! Why the work dir cannot be used.

use std::{borrow::Cow, io, path::PathBuf};

use crate::exit_code::{Diagnostic, ExitCode};

/// A file of the work dir that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("work dir: cannot {action} {}", path.display())]
pub struct SpoolError {
    /// The action that failed.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

impl SpoolError {
    pub(super) fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

impl Diagnostic for SpoolError {
    fn exit_code(&self) -> ExitCode {
        // A snapshot's parts are completed in the work dir: without it there is no snapshot.
        ExitCode::Source
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("check --work-dir and the space on its disk".into())
    }
}
