//! Messages for invalid command lines: turns clap's error into one line and a hint. Clap's own text quotes the
//! arguments, which may hold secrets; these messages name options and never quote values.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output::say;
use super::usage_error::expectation;
use crate::exit_code::ExitCode;

/// Prints the error, or the requested help, and returns the exit code. `typed` is the command as it was typed.
pub fn print(error: &clap::Error, program: &clap::Command, typed: Option<&str>) -> ExitCode {
    match error.kind() {
        // Not errors, and without anything typed. A closed pipe is not an error either.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::Success
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::Usage
        }
        _ => {
            say("error", &format!("{}; hint: {}", describe(error), hint(program, typed)));
            ExitCode::Usage
        }
    }
}

fn hint(program: &clap::Command, typed: Option<&str>) -> String {
    let known = typed.and_then(|name| program.find_subcommand(name)).filter(|command| !command.is_hide_set());
    let command = known.map_or(String::new(), |command| format!(" {}", command.get_name()));
    format!("run `defender-lake{command} --help`")
}

/// Returns the error in one line, without a hint.
pub(super) fn describe(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => Some(texts.join(", ")),
        Some(ContextValue::StyledStr(text)) => Some(plain(text)),
        _ => None,
    };
    // As declared, such as `--threads <N>`. Undeclared options go through `shown_option`.
    let option = || text(ContextKind::InvalidArg).unwrap_or_else(|| "an option".to_owned());
    match error.kind() {
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            format!("a value is required for '{}' but none was supplied", option())
        }
        ErrorKind::InvalidValue => match text(ContextKind::ValidValue) {
            Some(known) => format!("invalid value for '{}': expected one of {known}", option()),
            None => format!("invalid value for '{}'", option()),
        },
        ErrorKind::ValueValidation => {
            let option = option();
            let name = option.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default();
            // `--from` is a list of paths in one command and a date in others.
            let name = if option.contains("<YYYY-MM-DD>") { "date" } else { name };
            format!("invalid value for '{option}': expected {}", expectation(name))
        }
        ErrorKind::UnknownArgument => {
            let typed = text(ContextKind::InvalidArg).unwrap_or_default();
            let known =
                text(ContextKind::SuggestedArg).map(|known| format!("; a similar one exists: '{known}'"));
            let shown = shown_option(&typed).map(|option| format!(" '{option}'")).unwrap_or_default();
            format!("unexpected argument{shown} found{}", known.unwrap_or_default())
        }
        ErrorKind::InvalidSubcommand => {
            let known = text(ContextKind::SuggestedSubcommand)
                .map(|known| format!("; a similar one exists: '{known}'"));
            format!("unknown command{}", known.unwrap_or_default())
        }
        ErrorKind::ArgumentConflict => match text(ContextKind::PriorArg) {
            Some(prior) if prior != option() => format!("'{}' cannot be used with '{prior}'", option()),
            _ => format!("'{}' cannot be used more than once", option()),
        },
        ErrorKind::MissingRequiredArgument => format!("missing required argument: {}", option()),
        ErrorKind::TooManyValues => format!("too many values for '{}'", option()),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("wrong number of values for '{}'", option())
        }
        ErrorKind::NoEquals => format!("expected '=' before the value of '{}'", option()),
        kind => kind.as_str().unwrap_or("invalid command line").to_owned(),
    }
}

/// The longest option name that is printed; anything longer is not an option.
const MAX_OPTION_BYTES: usize = 32;

/// Returns the name of an unknown option without its value, if it looks like an option.
fn shown_option(typed: &str) -> Option<&str> {
    let option = typed.split('=').next()?;
    let is_long = option.strip_prefix("--").is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    });
    let is_short = option.len() == 2 && option.starts_with('-');
    (option.len() <= MAX_OPTION_BYTES && (is_long || is_short)).then_some(option)
}

fn plain(text: &StyledStr) -> String {
    text.to_string()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::Cli;
    use super::*;

    #[test]
    fn usage_errors_name_options_and_no_values() {
        let check = |args: &[&str], expected: &str| {
            let typed = std::iter::once("defender-lake").chain(args.iter().copied());
            let error = Cli::try_parse_from(typed).unwrap_err();
            let described = describe(&error);
            assert_eq!(described, expected, "{args:?}");
        };
        check(&["ingest", "--client-secret=hunter2"], "unexpected argument '--client-secret' found");
        check(&["ingest", "--client-secret", "hunter2"], "unexpected argument '--client-secret' found");
        check(&["ingest", "--hunter2"], "unexpected argument found");
        check(&["ingest", "--Hunter"], "unexpected argument found");
        check(&["ingest", "-p", "hunter2"], "unexpected argument '-p' found");
        check(&["ingest", "-phunter2"], "unexpected argument '-p' found");
        check(&["ingest", "hunter2"], "unexpected argument found");
        check(&["verify", "hunter2"], "unexpected argument found");
        check(&["hunter2"], "unknown command");
        check(&["ingets"], "unknown command; a similar one exists: 'ingest'");
        check(&["ingest", "--lak", "x"], "unexpected argument '--lak' found; a similar one exists: '--lake'");
        check(
            &["ingest", "--via", "hunter2"],
            "invalid value for '--via <VIA>': expected one of files, json",
        );
        check(&["ingest", "--via"], "a value is required for '--via <VIA>' but none was supplied");
        check(&["ingest", "--quiet=hunter2"], "too many values for '--quiet'");
        check(&["ingest", "-q", "-v"], "'--quiet' cannot be used with '--verbose...'");
        check(&["ingest", "--lake", "a", "--lake", "b"], "'--lake <PATH|URL>' cannot be used more than once");
        check(
            &["ingest", "--threads", "hunter2"],
            "invalid value for '--threads <N>': expected a whole number of at least 1",
        );
        check(
            &["ingest", "--memory", "hunter2"],
            "invalid value for '--memory <BYTES>': expected a size such as 512MiB",
        );
        check(
            &["ingest", "--sas-valid-hours", "300"],
            "invalid value for '--sas-valid-hours <HOURS>': expected 1 to 24",
        );
        check(
            &["ingest", "--page-size", "-1"],
            "invalid value for '--page-size <ROWS>': expected 1 to 200000",
        );
        check(
            &["ingest", "--api-url", "https://h?sig=hunter2"],
            "invalid value for '--api-url <URL>': expected an https URL without user, query and fragment, such as \
             https://login.microsoftonline.com",
        );
        check(
            &["verify", "--date", "hunter2"],
            "invalid value for '--date <YYYY-MM-DD>': expected a date such as 2021-01-11",
        );
        check(&["expire"], "missing required argument: <--keep-days <N>|--keep-monthly>");
    }

    #[test]
    fn every_option_has_an_expectation() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            for option in command.get_arguments().filter(|option| option.get_action().takes_values()) {
                let is_string = [
                    "lake",
                    "dataset",
                    "scope",
                    "work-dir",
                    "config",
                    "progress",
                    "log-format",
                    "shell",
                    "format",
                    "where",
                    "out",
                    "by",
                    "sql",
                ];
                let name = option.get_long().unwrap_or(option.get_id().as_str());
                assert_eq!(expectation(name) == "a string", is_string.contains(&name), "{name}");
            }
        }
    }
}
