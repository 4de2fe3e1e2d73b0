//! Runs an ingest: takes an [`IngestConfig`], returns a [`RunReport`]. The only module that knows all stages.
//!
//! Lists the export, decides whether to publish it, runs the stages on threads, and starts over if the service has a
//! new snapshot or a part was damaged. Moves parts, batches and files without looking inside them.

mod config;
mod max_rejects;
mod generated_time;
mod time_problem;
mod context;
mod publish;
mod workers;
mod error;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::runtime::Runtime;

pub use self::config::{IfPublished, IngestConfig, MIN_MEMORY_BYTES};
pub use self::error::IngestError;
pub use self::generated_time::is_year_of_four_digits;
pub use self::max_rejects::MaxRejects;
pub use self::time_problem::TimeProblem;

use self::context::{Run, wait};
use self::error::internal;
use self::generated_time::check_generated_time;
use self::publish::listed;
use crate::cancel::Cancel;
use crate::commit::Recovered;
use crate::lake::{Lake, Table, TableKind};
use crate::progress::Progress;
use crate::report::{RunOutcome, RunReport};
use crate::snapshot::RunId;
use crate::source::{Export, RouteConfig, Source};

/// Runs one ingest.
///
/// # Errors
///
/// [`IngestError`]; the lake is unchanged.
pub fn ingest(
    config: &IngestConfig,
    runtime: &Runtime,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<RunReport, IngestError> {
    let started_at = Utc::now().trunc_subsecs(0);
    let table = Lake::open(&config.lake)?
        .with_work_dir(&config.work_dir)
        .with_upload_bytes(config.memory.upload_bytes())
        .table(config.dataset);
    if config.table == Some(TableKind::Plain) && table.kind()? == TableKind::Delta {
        return Err(IngestError::IsDelta { table: table.root() });
    }
    if config.dry_run {
        let export = wait(runtime, cancel, Source::plan(&config.source, config.dataset, &config.work_dir))??;
        check_generated_time(&export, config.allow_future, started_at)?;
        let outcome = decide(config, &table, &export)?.unwrap_or(RunOutcome::Planned);
        return Ok(listed(config, &table, &export, outcome)?);
    }

    let mut started_over = Vec::new();
    loop {
        let error = match round(config, &table, started_at, runtime, progress, cancel) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let Some(reason) = error.reason_to_start_over(config) else { return Err(error) };
        if cancel.is_cancelled() || started_over.contains(&reason) {
            return Err(error);
        }
        started_over.push(reason);
        if let IngestError::RejectedPart { rejects, .. } = &error {
            // Best effort: the next round writes its own.
            let _ = std::fs::remove_file(rejects);
        }
        tracing::warn!(%error, "starting over from a new listing; whole parts of the same snapshot are kept");
        progress.restart();
    }
}

/// Why a run starts over, at most once for each reason. Staged files are removed, spooled parts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartOver {
    /// The service has a new snapshot.
    OtherSnapshot,
    /// Decoding found a damaged part after some of its rows were written.
    DamagedPart,
}

impl IngestError {
    fn reason_to_start_over(&self, config: &IngestConfig) -> Option<StartOver> {
        match self {
            Self::Source(error) if error.is_other_snapshot() => Some(StartOver::OtherSnapshot),
            // Reading a local file again would not help.
            Self::DamagedPart { .. } | Self::RejectedPart { .. }
                if !matches!(config.source.route, RouteConfig::Local { .. }) =>
            {
                Some(StartOver::DamagedPart)
            }
            _ => None,
        }
    }
}

/// Lists the export and publishes it, unless there is nothing to do.
fn round(
    config: &IngestConfig,
    table: &Table,
    started_at: DateTime<Utc>,
    runtime: &Runtime,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<RunReport, IngestError> {
    let (export, source) =
        wait(runtime, cancel, Source::open(&config.source, config.dataset, &config.work_dir))??;
    check_generated_time(&export, config.allow_future, started_at)?;
    let snapshot = export.snapshot_id();
    tracing::info!(
        dataset = config.dataset.name,
        %snapshot,
        num_parts = export.num_parts,
        "export listed"
    );
    let spool = source.spool();

    let waiting = || tracing::info!("another run holds the table lock; waiting for it to end");
    let mut lock = table.lock(waiting, &|| cancel.is_cancelled())?;
    if config.table == Some(TableKind::Delta) {
        lock = lock.to_be_delta();
    }
    lock.recover()?.iter().for_each(Recovered::log);
    let run_id = RunId::try_new().map_err(|error| internal("cannot generate a run id", &error))?;
    let report = if let Some(outcome) = decide(config, table, &export)? {
        lock.adopt_snapshots(&run_id)?;
        listed(config, table, &export, outcome)?
    } else {
        lock.check_publishable(snapshot)?;
        Run { config, runtime, progress, cancel, export: &export, id: run_id, started_at }
            .publish(&lock, source)?
    };
    if let Some(spool) = spool {
        let is_whole = report.outcome == RunOutcome::Published;
        let tidied = if config.keep_parts && is_whole { spool.keep() } else { spool.remove() };
        if let Err(error) = tidied {
            tracing::warn!(error = %error, "cannot clean up the spool");
        }
    }
    Ok(report)
}

/// Returns the outcome if the export is not to be published.
fn decide(config: &IngestConfig, table: &Table, export: &Export) -> Result<Option<RunOutcome>, IngestError> {
    let snapshot = export.snapshot_id();
    let Some(published) = table.published_on(snapshot.date())? else { return Ok(None) };
    if published.id > snapshot {
        return Ok(Some(RunOutcome::Superseded));
    }
    // A snapshot whose data files were removed by hand does not count as published.
    if published.id < snapshot || !table.is_complete(&published)? {
        return Ok(None);
    }
    match config.if_published {
        IfPublished::Skip => Ok(Some(RunOutcome::Skipped)),
        IfPublished::Replace => Ok(None),
        IfPublished::Fail => Err(IngestError::AlreadyPublished { dataset: config.dataset.name, snapshot }),
    }
}
