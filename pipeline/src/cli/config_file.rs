//! The configuration file: reads it, and describes errors in it without quoting its values.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::runtime::Runtime;
use url::Url;

use super::usage_error::{ConfigError, expectation};
use crate::cancel::Cancel;
use crate::http::base_url::parse_base_url;
use crate::printable::printable;
use crate::redact;
use crate::source::read_small_file;

/// Reads the file that `--config` names. It may be a pipe; cancelling ends the wait.
pub(super) fn read_config(path: &Path, runtime: &Runtime, cancel: &Cancel) -> std::io::Result<String> {
    /// A file of options has a few hundred bytes.
    const MAX_BYTES: usize = 1 << 20;
    let text = runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(std::io::ErrorKind::Interrupted.into()),
            text = read_small_file(path, MAX_BYTES) => text,
        }
    })?;
    String::from_utf8(text)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "expected UTF-8"))
}

/// Applies [`parse_base_url`] to a value of the configuration file.
pub(super) fn base_url_of_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_base_url(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Describes an error of the TOML library: where it is and what was expected. The library's own message quotes the line.
pub(super) fn explain(path: PathBuf, text: &str, error: &toml::de::Error) -> ConfigError {
    let position = error.span().map(|span| position(text, span.start));
    let reason = match (toml::de::DeTable::parse(text), error.span()) {
        // The parser's message quotes nothing.
        (Err(error), _) => format!("invalid TOML: {}", printable(error.message())),
        (Ok(table), Some(span)) => {
            let is_at = |place: std::ops::Range<usize>| place.contains(&span.start);
            let found = table.get_ref().iter().find(|(key, value)| is_at(key.span()) || is_at(value.span()));
            match found {
                Some((key, _)) if is_at(key.span()) => {
                    format!("unknown field `{}`", shown_key(key.get_ref()))
                }
                Some((key, _)) => {
                    let key = key.get_ref().as_ref();
                    format!("{}: expected {}", shown_key(key), expectation(key))
                }
                None => "expected options of ingest".to_owned(),
            }
        }
        (Ok(_), None) => "expected options of ingest".to_owned(),
    };
    ConfigError::ParseFile { path, position, reason }
}

/// Returns a key as it may be printed; anything longer than an option's name is hidden.
fn shown_key(key: &str) -> String {
    if key.len() > MAX_KEY_BYTES || redact::holds_secret(key) {
        "…".to_owned()
    } else {
        printable(key).into_owned()
    }
}

/// The longest key that an error names.
const MAX_KEY_BYTES: usize = 40;

/// Returns the line and column of a byte offset, each from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::super::IngestOptions;
    use super::*;

    #[test]
    fn file_errors_name_the_place_and_no_value() {
        let check = |text: &str, expected: &str| {
            let error = toml::from_str::<IngestOptions>(text).unwrap_err();
            let error = anyhow::Error::from(explain("c.toml".into(), text, &error));
            assert_eq!(format!("{error:#}"), format!("c.toml{expected}"), "{text}");
        };
        check("lake = \"x\"\nthreads = \"hunter2\"", ":2:11: threads: expected a whole number of at least 1");
        check("sas-valid-hours = 300", ":1:19: sas-valid-hours: expected 1 to 24");
        check(
            "auth = \"hunter2\"",
            ":1:8: auth: expected auto, client-secret, client-certificate, workload-identity, managed-identity or azure-cli",
        );
        check(
            "api-url = \"https://user:hunter2@h\"",
            ":1:11: api-url: expected an https URL without user, query and fragment, such as https://login.microsoftonline.com",
        );
        check("memory = \"hunter2\"", ":1:10: memory: expected a size such as 512MiB");
        check(
            "max-rejects = \"hunter2\"",
            ":1:15: max-rejects: expected a number of records such as `100`, or a share of at most 100% such as `0.1%`",
        );
        check("from = \"hunter2\"", ":1:8: from: expected a list of strings");
        check("from = [\n  1,\n]", ":2:3: from: expected a list of strings");
        check("lake = [\"hunter2\"]", ":1:8: lake: expected a string");
        check(
            "generated-time = \"hunter2\"",
            ":1:18: generated-time: expected a time of the years 0001 to 9999, such as 2021-01-11T11:01:00Z",
        );
        check("client-secret = \"hunter2\"", ":1:1: unknown field `client-secret`");
        check("[credentials]\nsecret = \"hunter2\"", ":1:2: unknown field `credentials`");
        let long = "hunter2".repeat(9);
        check(&format!("{long} = 1"), ":1:1: unknown field `…`");
        check(
            "# é\nclient-secret = hunter2",
            ":2:17: invalid TOML: string values must be quoted, expected literal string",
        );
        check("lake = \"hunter2", ":1:16: invalid TOML: invalid basic string, expected `\"`");
        check("lake = \"a\"\nlake = \"hunter2\"", ":2:1: invalid TOML: duplicate key");
    }
}
