//! Writing to stdout and stderr.

use std::io::Write as _;

use super::command_error::{CommandError, CommandResult};
use crate::exit_code::ExitCode;
use crate::printable::{printable, printable_json, printable_lines};
use crate::progress::LogWriter;

/// Writes a line to stderr, above any progress bars.
pub(super) fn say(level: &str, text: &str) {
    let _ = LogWriter.write_all(format!("{level}: {}\n", printable(text)).as_bytes());
}

/// Prints text for people; control characters are escaped.
pub(super) fn print(text: &str) -> CommandResult {
    print_data(&printable_lines(text))
}

/// Prints a JSON value on one line.
pub(super) fn print_json(value: &impl serde::Serialize) -> CommandResult {
    print_data(&format!(
        "{}\n",
        printable_json(&serde_json::to_string(value).expect("text keys and plain values serialise"))
    ))
}

/// Prints text for other programs, unchanged.
pub(super) fn print_data(text: &str) -> CommandResult {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map(|()| ExitCode::Success).map_err(CommandError::stdout)
}

/// Returns the exit code of a command that has changed the lake: an error of printing its report is only a warning.
pub(super) fn after_change(printed: CommandResult, done: &str) -> ExitCode {
    if let Err(error) = printed {
        say("warning", &format!("{done}, but its report could not be printed: {error}"));
    }
    ExitCode::Success
}
