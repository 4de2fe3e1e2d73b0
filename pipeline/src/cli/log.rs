//! The log on stderr: its options, and its start.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::environment;
use crate::progress::{EventWriter, ProgressMode};

/// What is shown on stderr.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct LogOptions {
    /// How progress is shown: bars on a terminal, else a log line now and then [default: auto]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub progress: ProgressMode,
    /// Only errors on stderr, no summary
    #[arg(short, long, help_heading = "Output", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for all
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Form of the log on stderr [default: text]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub log_format: LogFormat,
}

impl LogOptions {
    /// How progress is shown on the stderr that there is.
    pub fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::None } else { self.progress.resolve() }
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn start_log(options: &LogOptions) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) if options.progress.resolve() == ProgressMode::Bar => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    start_log_at(level, options.log_format);
}

/// Libraries could put URLs, headers or tokens into the log at lower levels than this.
const LIBRARY_LEVEL: &str = "warn";

pub(super) fn start_log_at(level: &str, format: LogFormat) {
    let others = if level == "error" { level } else { LIBRARY_LEVEL };
    let mut filter = EnvFilter::new(others);
    for own in ["pipeline", "schema"] {
        filter = filter.add_directive(format!("{own}={level}").parse().expect("a level for a crate"));
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let is_plain = environment::variable("NO_COLOR").is_some();
    let ansi = !is_plain && std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => builder.with_writer(|| EventWriter::Text).with_ansi(ansi).init(),
        LogFormat::Json => builder.with_writer(|| EventWriter::Json).json().flatten_event(true).init(),
    }
}
