//! What is written to stdout and stderr.

use std::io::Write as _;

use super::command_error::{CommandError, CommandResult};
use crate::exit_code::ExitCode;
use crate::printable::{printable, printable_json, printable_lines};
use crate::progress::LogWriter;

/// Writes one line to stderr.
pub(super) fn say(level: &str, text: &str) {
    let _ = LogWriter.write_all(format!("{level}: {}\n", printable(text)).as_bytes());
}

/// Prints what people read.
pub(super) fn print(text: &str) -> CommandResult {
    print_data(&printable_lines(text))
}

/// Prints one JSON value.
pub(super) fn print_json(value: &impl serde::Serialize) -> CommandResult {
    print_data(&format!(
        "{}\n",
        printable_json(&serde_json::to_string(value).expect("text keys and plain values serialise"))
    ))
}

/// Writes to stdout what other programs read, as it is.
pub(super) fn print_data(text: &str) -> CommandResult {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map(|()| ExitCode::Success).map_err(CommandError::stdout)
}

/// Ends a command that has changed the lake. What cannot be printed about it then changes nothing.
pub(super) fn after_change(printed: CommandResult, done: &str) -> ExitCode {
    if let Err(error) = printed {
        say("warning", &format!("{done}, and the report of it is lost: {error}"));
    }
    ExitCode::Success
}
