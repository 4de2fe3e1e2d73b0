//! One dataset of a run: its export is listed and published, once more from a new listing if the service moved on to another
//! snapshot or a part was damaged.

use chrono::{DateTime, SubsecRound, Utc};

use super::config::{IfPublished, IngestConfig};
use super::context::{Run, Session, wait};
use super::error::{IngestError, internal};
use super::generated_time::check_generated_time;
use super::publish::listed;
use crate::commit::Recovered;
use crate::exit_code::Diagnostic as _;
use crate::lake::{Lake, Table, TableKind};
use crate::report::{RunOutcome, RunReport};
use crate::snapshot::RunId;
use crate::source::{Export, SourceError};

/// Takes one dataset.
///
/// # Errors
///
/// [`IngestError`]; the dataset's table is unchanged.
pub(super) fn take(session: &Session<'_>) -> Result<RunReport, IngestError> {
    let Session { config, dataset, .. } = session;
    match take_listed(session) {
        Err(IngestError::Source(SourceError::EmptyExport)) if dataset.may_be_empty => {
            tracing::info!(dataset = dataset.name, "the export is empty; nothing to publish");
            Ok(RunReport::empty(&config.lake, dataset))
        }
        Err(error) if !config.datasets.is_named() && error.is_not_permitted() => {
            tracing::info!(dataset = dataset.name, %error, "not permitted");
            Ok(RunReport::not_permitted(&config.lake, dataset, error.hint().unwrap_or_default().into_owned()))
        }
        taken => taken,
    }
}

fn take_listed(session: &Session<'_>) -> Result<RunReport, IngestError> {
    let Session { config, sources, dataset, runtime, progress, cancel, .. } = *session;
    let started_at = Utc::now().trunc_subsecs(0);
    let table = Lake::open(&config.lake)?
        .with_work_dir(&config.work_dir)
        .with_upload_bytes(config.memory.upload_bytes())
        .table(dataset);
    if config.table == Some(TableKind::Plain) && table.kind()? == TableKind::Delta {
        return Err(IngestError::IsDelta { table: table.root() });
    }
    if config.dry_run {
        let export = wait(runtime, cancel, sources.plan(dataset))??;
        check_generated_time(&export, config.allow_future, started_at)?;
        let outcome = decide(config, &table, &export)?.unwrap_or(RunOutcome::Planned);
        return Ok(listed(config, &table, &export, outcome)?);
    }

    let mut started_over = Vec::new();
    loop {
        let error = match round(session, &table, started_at) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let Some(reason) = error.reason_to_start_over(session) else { return Err(error) };
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

/// Lists the export and publishes it, unless there is nothing to do.
fn round(session: &Session<'_>, table: &Table, started_at: DateTime<Utc>) -> Result<RunReport, IngestError> {
    let Session { config, sources, dataset, runtime, cancel, .. } = *session;
    let (export, source) = wait(runtime, cancel, sources.open(dataset))??;
    check_generated_time(&export, config.allow_future, started_at)?;
    let snapshot = export.snapshot_id();
    tracing::info!(
        dataset = dataset.name,
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
        let run = Run { session, export: &export, id: run_id, started_at };
        match run.publish(&lock, source) {
            Err(IngestError::Empty { .. }) if dataset.may_be_empty => {
                tracing::info!(dataset = dataset.name, %snapshot, "the export is empty; nothing to publish");
                listed(config, table, &export, RunOutcome::Empty)?
            }
            published => published?,
        }
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
        IfPublished::Fail => Err(IngestError::AlreadyPublished { dataset: table.dataset().name, snapshot }),
    }
}
