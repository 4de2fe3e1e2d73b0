//! Why the options of a command are not valid.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::exit_code::{Diagnostic, ExitCode};
use crate::http::base_url::EXPECTED;
use crate::redact;

/// Why the options of a command are not valid. No message contains a value: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", redact::place(&path.to_string_lossy()))]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not valid.
    #[error("{}{}: {reason}", redact::place(&path.to_string_lossy()), position.map_or(String::new(), |(line, column)| format!(":{line}:{column}")))]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Line and column, from 1.
        position: Option<(usize, usize)>,
        /// What was expected, or what is wrong.
        reason: String,
    },
    /// A value is out of range, or two options conflict.
    #[error("{option}: {reason}")]
    Option {
        /// The option as on the command line, or the environment variable.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Diagnostic for ConfigError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        None
    }
}

pub(super) fn invalid(option: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Option { option, reason: reason.into() }
}

/// Returns what an option expects, for the error about another value. `name` is as in the configuration file.
pub(super) fn expectation(name: &str) -> &'static str {
    match name {
        "threads" | "downloads" | "keep-days" | "top" => "a whole number of at least 1",
        "sas-valid-hours" => "1 to 24",
        "page-size" => "1 to 200000",
        "memory" => "a size such as 512MiB",
        "max-rejects" => "a number of records such as `100`, or a share of at most 100% such as `0.1%`",
        "generated-time" => "a time of the years 0001 to 9999, such as 2021-01-11T11:01:00Z",
        "date" | "to" => "a date such as 2021-01-11",
        "since" => "a date such as 2021-01-11, or a number of days such as 90",
        "with-devices" => "a whole number",
        "api-url" | "login-url" => EXPECTED,
        "from" | "blob-host" => "a list of strings",
        "keep-parts" | "dry-run" | "json" | "allow-future" => "true or false",
        "via" => "files or json",
        "cloud" => "worldwide, gcc, gcc-high or dod",
        "auth" => "auto, client-secret, client-certificate, workload-identity, managed-identity or azure-cli",
        "table" => "plain or delta",
        "if-published" => "skip, replace or fail",
        "extra-fields" => "drop or capture",
        _ => "a string",
    }
}
