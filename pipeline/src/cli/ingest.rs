//! `ingest`: runs an ingest, shows its progress and prints its report.

use std::sync::Arc;

use super::command_error::{CommandError, CommandResult};
use super::config_file::read_config;
use super::ingest_options::IngestOptions;
use super::log::start_log;
use super::output::{after_change, print, print_json};
use super::runtime::start_runtime;
use crate::exit_code::ExitCode;
use crate::ingest;
use crate::panics;
use crate::progress::{Progress, ProgressDisplay};
use crate::report::RunOutcome;

pub(super) fn run(options: IngestOptions) -> CommandResult {
    start_log(&options.log);
    let (runtime, cancel) = start_runtime()?;
    let options = options
        .with_environment_and_file(|path| read_config(path, &runtime, &cancel))
        .map_err(|error| if cancel.is_cancelled() { CommandError::interrupted() } else { error.into() })?;
    let config = options.to_config()?;
    raise_file_limit();
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start(options.log.progress_mode(), &progress);
    let result = panics::catch(|| ingest::ingest(&config, &runtime, &progress, &cancel));
    drop(display);
    // Pending requests are dropped.
    runtime.shutdown_background();
    let report = result??;
    let printed = if options.json {
        print_json(&report)
    } else if options.log.quiet {
        Ok(ExitCode::Success)
    } else {
        print(&report.summary())
    };
    if report.outcome == RunOutcome::Published {
        Ok(after_change(printed, "the snapshot was published"))
    } else {
        printed
    }
}

/// Raises the limit of open files: each partition keeps one open, and the usual soft limit is 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(error = %error, "cannot raise the limit of open files");
    }
}
