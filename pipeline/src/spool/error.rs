//! Why the work dir cannot be used.

use std::{io, path::PathBuf};

/// A file of the work dir that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("work dir: cannot {action} {}", path.display())]
pub struct SpoolError {
    /// What was being done.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl SpoolError {
    pub(super) fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}
