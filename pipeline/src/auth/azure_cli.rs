//! The user who is signed in to the Azure CLI: runs `az` and reads the token from its output.
//!
//! The identity library has a credential for this, which parses all of stdout as JSON; extensions and updates of
//! the CLI print lines before it. If there is no token, the last lines of `az` are the reason.

use std::{
    io,
    process::{Output, Stdio},
    time::Duration,
};

use azure_core::{credentials::AccessToken, time::OffsetDateTime};
use serde::Deserialize;

use crate::http::secret::quotable;

/// The Azure CLI is a Python program that may have to renew a token of its own; after this time it hangs.
const AZURE_CLI_TIMEOUT: Duration = Duration::from_mins(1);
/// Most positions in the output of `az` at which JSON is tried.
const MAX_OBJECTS: usize = 1000;

/// Asks the Azure CLI for a token.
///
/// # Errors
///
/// Returns the reason as text, which never contains a token.
pub(super) async fn token(scope: &str, tenant_id: Option<&str>) -> Result<AccessToken, String> {
    let mut command = tokio::process::Command::new("az");
    command.args(["account", "get-access-token", "-o", "json", "--scope", scope]);
    command.args(tenant_id.into_iter().flat_map(|tenant| ["--tenant", tenant]));
    // Killed when dropped. It runs in `/`, where no Python module can shadow its own.
    command.stdin(Stdio::null()).current_dir("/").kill_on_drop(true);
    let output = tokio::time::timeout(AZURE_CLI_TIMEOUT, command.output()).await;
    let output = output.map_err(|_| "`az` did not answer".to_owned())?.map_err(|err| match err.kind() {
        io::ErrorKind::NotFound => "az not found on PATH".to_owned(),
        _ => format!("az cannot be run: {err}"),
    })?;
    read(&output)
}

#[derive(Deserialize)]
struct Printed {
    #[serde(rename = "accessToken")]
    access_token: String,
    /// Seconds of the epoch; `expiresOn` beside it is local time without a zone.
    expires_on: Option<i64>,
}

fn read(output: &Output) -> Result<AccessToken, String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let said = last_words(&stderr).or_else(|| last_words(&stdout));
        return Err(said.unwrap_or_else(|| format!("`az` failed and said nothing ({})", output.status)));
    }
    let objects = stdout.match_indices('{').take(MAX_OBJECTS).map(|(start, _)| &stdout[start..]);
    let printed = objects.into_iter().find_map(|text| {
        serde_json::Deserializer::from_str(text).into_iter::<Printed>().next().and_then(Result::ok)
    });
    let Some(printed) = printed else {
        let said = last_words(&stderr).map(|said| format!("; it said: {said}"));
        return Err(format!("`az` printed no token{}", said.unwrap_or_default()));
    };
    let ends_at = printed.expires_on.and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    let ends_at = ends_at.ok_or("`az` does not say when its token ends: update it to 2.54.0 or newer")?;
    Ok(AccessToken::new(printed.access_token, ends_at))
}

/// Returns the last error that `az` printed, and its last line if that is a different one.
fn last_words(text: &str) -> Option<String> {
    const ERROR: &str = "ERROR:";
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !names_token(line));
    let last = lines().next_back()?;
    let error = lines().rfind(|line| line.starts_with(ERROR)).filter(|error| *error != last);
    let shown = |line: &str| quotable(line.trim_start_matches(ERROR));
    Some(error.map_or_else(|| shown(last), |error| format!("{}; {}", shown(error), shown(last))))
}

/// Returns whether a line may contain a token beside its name.
fn names_token(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    ["accesstoken", "access_token", "refreshtoken", "refresh_token"].iter().any(|name| lower.contains(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn said(code: i32, stdout: &str, stderr: &str) -> Result<String, String> {
        let status = ExitStatus::from_raw(code << 8);
        let output = Output { status, stdout: stdout.into(), stderr: stderr.into() };
        read(&output).map(|token| format!("{} {}", token.token.secret(), token.expires_on.unix_timestamp()))
    }

    const TOKEN: &str = r#"{"accessToken":"t","expiresOn":"2030-01-02 03:04:05","expires_on":1893553445,"tokenType":"Bearer"}"#;

    #[test]
    fn token_is_found_behind_noise() {
        for noise in ["", "WARNING: a new version is there\n", "{not json}\n{\"a\":1}\n", "\u{feff}"] {
            assert_eq!(
                said(0, &format!("{noise}{TOKEN}\nbye\n"), "WARNING: x\n"),
                Ok("t 1893553445".to_owned())
            );
        }
    }

    #[test]
    fn reason_is_the_last_output_of_az() {
        let check = |code, stdout: &str, stderr: &str, expected: &str| {
            assert_eq!(said(code, stdout, stderr), Err(expected.to_owned()));
        };
        check(1, "", "WARNING: x\nERROR: Please run 'az login'.\n", "Please run 'az login'.");
        let traceback =
            "Traceback (most recent call last):\n  File \"/az\", line 1\nModuleNotFoundError: no azure\n";
        check(1, "", traceback, "ModuleNotFoundError: no azure");
        check(1, "", "ERROR: AADSTS1: no.\nTo sign in, run:\naz login\n\n", "AADSTS1: no.; az login");
        check(1, "only on stdout\n", "", "only on stdout");
        check(1, "", "", "`az` failed and said nothing (exit status: 1)");
        check(1, "", "ERROR: eyJhbGciOi.x.y is old", "… is old");
        check(1, r#"{"accessToken": "opaque"}"#, "", "`az` failed and said nothing (exit status: 1)");
        check(0, "nothing\n", "WARNING: x\n", "`az` printed no token; it said: WARNING: x");
        check(0, r#"{"accessToken": "opaque""#, "", "`az` printed no token");
        let old = r#"{"accessToken":"t","expiresOn":"2030-01-02 03:04:05"}"#;
        check(0, old, "", "`az` does not say when its token ends: update it to 2.54.0 or newer");
    }
}
