//! `ingest`: runs an ingest, shows its progress and prints a report of each dataset, or a summary of all.

use tokio::runtime::Runtime;

use super::command_error::{CommandError, CommandResult};
use super::config_file::read_config;
use super::ingest_options::IngestOptions;
use super::ingest_summary::{ended_line, summary_of_several};
use super::log::start_log;
use super::output::{after_change, print, print_json, say};
use super::runtime::start_runtime;
use crate::cancel::Cancel;
use crate::exit_code::{Diagnostic as _, ExitCode};
use crate::http::error_chain;
use crate::ingest::cluster::Cluster;
use crate::ingest::{self, IngestError, Position, RunEvent, TakenDataset};
use crate::panics;
use crate::progress::RunDisplay;
use crate::report::{RunOutcome, RunReport};

pub(super) fn run(options: IngestOptions, cluster: Option<&dyn Cluster>) -> CommandResult {
    start_log(&options.log);
    let (runtime, cancel) = start_runtime()?;
    let options = complete(options, &runtime, &cancel)?;
    let config = options.to_config()?;
    raise_file_limit();
    let mut output = RunOutput {
        lake: &config.lake,
        is_several: config.datasets.is_several(),
        is_json: options.json,
        display: RunDisplay::new(options.log.progress_mode()),
        position: None,
        printed: Ok(ExitCode::Success),
    };
    let mut observe = |event: RunEvent<'_>| output.observe(event);
    let result = panics::catch(|| ingest::ingest_on(cluster, &config, &runtime, &cancel, &mut observe));
    let RunOutput { is_several, printed, display, .. } = output;
    drop(display);
    // Pending requests are dropped.
    runtime.shutdown_background();
    let mut taken = result??;
    let is_published = taken.iter().any(is_published);
    let is_silent = options.json || options.log.quiet;
    let code = ingest::exit_code(&taken);
    let printed = if is_several {
        if is_silent { printed } else { print(&summary_of_several(&config.lake, &taken)) }
    } else {
        match taken.pop().map(|taken| taken.result) {
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(report)) if !is_silent => print(&report.summary()),
            _ => printed,
        }
    };
    if is_published {
        let done = if is_several { "the snapshots were published" } else { "the snapshot was published" };
        after_change(printed, done);
        return Ok(code);
    }
    if code == ExitCode::Success { printed } else { Ok(code) }
}

/// Fills in missing options from the environment and the configuration file.
pub(super) fn complete(
    options: IngestOptions,
    runtime: &Runtime,
    cancel: &Cancel,
) -> CommandResult<IngestOptions> {
    options
        .with_environment_and_file(|path| read_config(path, runtime, cancel))
        .map_err(|error| if cancel.is_cancelled() { CommandError::interrupted() } else { error.into() })
}

fn is_published(taken: &TakenDataset) -> bool {
    taken.result.as_ref().is_ok_and(|report| report.outcome == RunOutcome::Published)
}

/// What a run prints while it goes on.
struct RunOutput<'r> {
    lake: &'r str,
    /// Whether each line says which dataset it is about.
    is_several: bool,
    is_json: bool,
    display: RunDisplay,
    position: Option<Position>,
    /// The first error of printing reports; nothing is printed after it.
    printed: CommandResult,
}

impl RunOutput<'_> {
    fn observe(&mut self, event: RunEvent<'_>) {
        match event {
            RunEvent::Begins { position, progress } => {
                self.position = Some(position);
                let several = self.is_several.then_some(position);
                let title = several.map(|position| position.to_string());
                self.display.begin(several.map(|position| position.dataset), title, progress);
            }
            RunEvent::Ends(taken) => {
                let position = self.position.take().filter(|_| self.is_several);
                self.display.end(position.map(|position| ended_line(position, taken)));
                if let Err(error) = &taken.result
                    && self.is_several
                {
                    say("error", &format!("{}: {}", taken.dataset.name, described(error)));
                }
                if self.is_json && self.printed.is_ok() {
                    self.printed = match &taken.result {
                        Ok(report) => print_json(report),
                        Err(error) => print_json(&RunReport::failed(self.lake, taken.dataset, error)),
                    };
                }
            }
        }
    }
}

/// Returns an error with its suggested fix on one line.
fn described(error: &IngestError) -> String {
    let hint = error.hint().map_or_else(String::new, |hint| format!("; hint: {hint}"));
    error_chain(error) + &hint
}

/// Raises the limit of open files: each partition keeps one open, and the usual soft limit is 1024.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(error = %error, "cannot raise the limit of open files");
    }
}
