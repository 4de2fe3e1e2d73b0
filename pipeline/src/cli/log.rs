//! The log on stderr: its options, and its start.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment;
use crate::progress::{EventWriter, ProgressMode};

/// Options of the log and progress on stderr.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct LogOptions {
    /// Show progress as bars, as a log line every 10 seconds, or not at all [default: auto]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub progress: ProgressMode,
    /// Log errors only, print no summary
    #[arg(short, long, help_heading = "Output", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Set the format of the log on stderr [default: text]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub log_format: LogFormat,
}

impl LogOptions {
    /// Returns how to show progress on the actual stderr.
    pub fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::None } else { self.progress.resolve() }
    }
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

pub(super) fn start_log(options: &LogOptions) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) if options.progress.resolve() == ProgressMode::Bar => LevelFilter::WARN,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    start_log_at(level, options.log_format);
}

/// The log level of libraries: below it they may log URLs, headers or tokens.
const LIBRARY_LEVEL: LevelFilter = LevelFilter::WARN;

pub(super) fn start_log_at(level: LevelFilter, format: LogFormat) {
    let filter = Targets::new()
        .with_default(level.min(LIBRARY_LEVEL))
        .with_targets([("pipeline", level), ("schema", level)]);
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    let is_plain = environment::variable("NO_COLOR").is_some();
    let ansi = !is_plain && std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => {
            builder.with_writer(|| EventWriter::Text).with_ansi(ansi).finish().with(filter).init();
        }
        LogFormat::Json => {
            builder.with_writer(|| EventWriter::Json).json().flatten_event(true).finish().with(filter).init();
        }
    }
}
