//! Commands as calls of another program, such as the Python module: takes options as a command line has them, returns what
//! the command would print. Never prints, and listens to no signal.

use std::ffi::OsString;
use std::iter::once;

use chrono::{DateTime, Utc};
use clap::Parser;
use schema::Dataset;
use tokio::runtime::Runtime;

use super::clap_error::describe;
use super::command_error::{CommandError, CommandResult};
use super::ingest::{complete, raise_file_limit};
use super::ingest_options::{IngestOptions, check_paths};
use super::table_options::{self, open_lake, tables};
use super::usage_error::{expectation, invalid};
use crate::cancel::Cancel;
use crate::exit_code::ExitCode;
use crate::ingest::cluster::Cluster;
use crate::ingest::{self, IngestConfig, IngestError, RunEvent};
use crate::manifest::Manifest;
use crate::panics;
use crate::progress::{ProgressMode, RunDisplay};
use crate::report::RunReport;
use crate::source::LocalFiles;
use crate::threads;

/// The options of `ingest`, parsed as on the command line.
#[derive(Debug, Parser)]
struct IngestLine {
    #[command(flatten)]
    options: IngestOptions,
}

/// How an ingest that was called ended.
#[derive(Debug)]
pub struct IngestCall {
    /// The reports, as `--json` prints them, in the order taken.
    pub reports: Vec<RunReport>,
    /// Whether it could have taken more than one dataset.
    pub is_several: bool,
    /// The error of the run, if a dataset failed: that of the interruption, else of the first that failed.
    pub failure: Option<CommandError>,
}

/// Returns the configuration of an ingest with these options, `--lake=lake` and so on, and those of the environment and of the
/// configuration file. Options of the output are parsed and ignored.
///
/// # Errors
///
/// An option is not valid, or the configuration file cannot be read.
pub fn ingest_config(
    options: Vec<OsString>,
    runtime: &Runtime,
    cancel: &Cancel,
) -> Result<IngestConfig, CommandError> {
    let line = once("ingest".into()).chain(options);
    let IngestLine { options } = IngestLine::try_parse_from(line).map_err(|error| {
        CommandError::new(ExitCode::Usage, anyhow::anyhow!(describe(&error)))
            .with_hint("run `defender-lake ingest --help`")
    })?;
    Ok(complete(options, runtime, cancel)?.to_config()?)
}

/// Runs an ingest with options as [`ingest_config`] takes them, on a cluster if there is one. Progress goes to the log, a line
/// every 10 seconds.
///
/// # Errors
///
/// Before any dataset was taken.
pub fn ingest(
    options: Vec<OsString>,
    cluster: Option<&dyn Cluster>,
    cancel: &Cancel,
) -> Result<IngestCall, CommandError> {
    let runtime = threads::start_runtime("network", 2)?;
    let config = ingest_config(options, &runtime, cancel)?;
    raise_file_limit();
    let is_several = config.datasets.is_several();
    let mut display = RunDisplay::new(ProgressMode::Plain);
    let mut observe = |event: RunEvent<'_>| match event {
        RunEvent::Begins { position, progress } => {
            display.begin(is_several.then_some(position.dataset), None, progress);
        }
        RunEvent::Ends(_) => display.end(None),
    };
    let result = panics::catch(|| ingest::ingest_on(cluster, &config, &runtime, cancel, &mut observe));
    drop(display);
    // Pending requests are dropped.
    runtime.shutdown_background();
    let mut call = IngestCall { reports: Vec::new(), is_several, failure: None };
    let mut is_interrupted = false;
    for taken in result.map_err(|panicked| CommandError::internal(&panicked))?? {
        let report = match taken.result {
            Ok(report) => report,
            Err(error) => {
                let report = RunReport::failed(&config.lake, taken.dataset, &error);
                let interrupts = matches!(error, IngestError::Interrupted);
                if call.failure.is_none() || interrupts && !is_interrupted {
                    is_interrupted = interrupts;
                    let error = CommandError::from(error);
                    let name = taken.dataset.name;
                    call.failure = Some(if is_several { error.with_context(name) } else { error });
                }
                report
            }
        };
        call.reports.push(report);
    }
    Ok(call)
}

/// Reads the manifests of a table's published snapshots, oldest first; of all tables with dataset `all`. Without a lake it is that
/// of the environment, else the default.
///
/// # Errors
///
/// The lake cannot be opened, the dataset is unknown, or a manifest is damaged.
pub fn manifests(lake: Option<&str>, dataset: Option<&str>) -> Result<Vec<Manifest>, CommandError> {
    let lake = open_lake(lake)?;
    let mut manifests = Vec::new();
    for table in tables(&lake, dataset)? {
        manifests.extend(table.snapshots()?.into_iter().map(|snapshot| snapshot.manifest));
    }
    Ok(manifests)
}

/// Returns the dataset of this name, with `-` or `_`; without a name the default.
///
/// # Errors
///
/// The name is unknown.
pub fn find_dataset(name: Option<&str>) -> CommandResult<&'static Dataset> {
    Ok(table_options::find_dataset(name)?)
}

/// Parts on this machine that are to be read without an ingest.
#[derive(Debug)]
pub struct FoundParts {
    /// The dataset that they are of.
    pub dataset: &'static Dataset,
    /// When the service made the export.
    pub generated_time: DateTime<Utc>,
    /// The parts.
    pub files: LocalFiles,
}

/// Finds the parts that `paths` name, files, folders or globs, as `--from` does. Pipes are not among them: they can be read only
/// once.
///
/// # Errors
///
/// The dataset is unknown, the time is not RFC 3339, or is neither given nor in the paths, or a path names no parts.
pub fn find_parts(
    dataset: &str,
    paths: &[String],
    generated_time: Option<&str>,
) -> Result<FoundParts, CommandError> {
    let dataset = find_dataset(Some(dataset))?;
    if paths.is_empty() {
        return Err(invalid("paths", "expected at least one").into());
    }
    check_paths("paths", paths)?;
    let parse = |text: &str| {
        let expected = || format!("expected {}", expectation("generated-time"));
        text.parse().map_err(|_| invalid("generated_time", expected()))
    };
    let (export, files) = LocalFiles::find(paths, generated_time.map(parse).transpose()?)?;
    Ok(FoundParts { dataset, generated_time: export.generated_time, files })
}
