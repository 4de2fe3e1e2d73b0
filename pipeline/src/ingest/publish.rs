//! Writes an export into staging and publishes it.

use std::sync::atomic::Ordering;

use super::config::IngestConfig;
use super::context::{Run, Session};
use super::error::IngestError;
use super::portion::write_portion;
use super::portion_job::PortionJob;
use super::written_portion::WrittenPortion;
use crate::commit::{self, CommitError};
use crate::lake::{LakeError, Table, TableLock};
use crate::manifest::Route;
use crate::report::{ListedExport, ReportedSnapshot, RunOutcome, RunReport};
use crate::source::{Export, Source};
use crate::staging::Destination;

impl Run<'_> {
    pub(super) fn publish(&self, lock: &TableLock, source: Source) -> Result<RunReport, IngestError> {
        let snapshot = self.export.snapshot_id();
        let mut staging = lock.stage(&self.id, snapshot)?;
        let written = self.write(staging.destination(), source)?;
        let (manifest, mut portions) = self.assemble(&mut staging, written)?;
        let on_bytes = |bytes, total_bytes| {
            self.session.progress.total_upload_bytes.store(total_bytes, Ordering::Relaxed);
            self.session.progress.upload_bytes.store(bytes, Ordering::Relaxed);
        };
        let cancelled = || self.session.cancel.is_cancelled();
        // A task has sent its own.
        for portion in portions.iter_mut().filter(|portion| portion.task_id.is_none()) {
            commit::send(lock.table(), staging.destination(), portion, &on_bytes, &cancelled)?;
        }
        // The few steps from here on are not interrupted.
        if cancelled() {
            return Err(IngestError::Interrupted);
        }
        let published = match staging.publish(&manifest, &portions, &cancelled) {
            Ok(published) => published,
            // Another run took over the table lock and published first.
            Err(CommitError::ConcurrentPublish { .. }) => {
                return self.not_published(lock.table(), RunOutcome::Skipped);
            }
            Err(CommitError::Superseded { .. }) => {
                return self.not_published(lock.table(), RunOutcome::Superseded);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(error) = published.left_over {
            tracing::warn!(error = %error, "cannot remove the replaced snapshot; the next run tries again");
        }
        tracing::info!(
            dataset = manifest.dataset,
            %snapshot,
            rows = manifest.totals.rows,
            files = manifest.totals.files,
            bytes = manifest.totals.bytes,
            rejected_records = manifest.totals.rejected_records,
            "snapshot published"
        );
        Ok(RunReport {
            outcome: RunOutcome::Published,
            lake: self.session.config.lake.clone(),
            table: Some(lock.kind()?),
            snapshot: ReportedSnapshot::Published(Box::new(manifest)),
        })
    }

    /// Fetches, decodes and writes everything into staging: on this machine, or in the tasks of a cluster.
    fn write(&self, destination: &Destination, source: Source) -> Result<Vec<WrittenPortion>, IngestError> {
        let Session { config, dataset, runtime, progress, cancel, cluster, .. } = *self.session;
        if let Some(cluster) = cluster
            && let Some(parts) = source.parts()?
        {
            return self.distribute(cluster, &source, parts);
        }
        let job = PortionJob {
            dataset,
            route: self.export.route,
            num_parts: self.export.num_parts,
            // Reading a local file again would not help.
            is_resumable: self.export.route != Route::Local,
            capture_extra_fields: config.capture_extra_fields,
            threads: config.threads,
            memory: config.memory,
            runtime,
            progress,
            cancel,
        };
        Ok(vec![write_portion(&job, destination, source)?])
    }

    fn not_published(&self, table: &Table, outcome: RunOutcome) -> Result<RunReport, IngestError> {
        tracing::info!(snapshot = %self.export.snapshot_id(), ?outcome, "another run published first");
        Ok(listed(self.session.config, table, self.export, outcome)?)
    }
}

pub(super) fn listed(
    config: &IngestConfig,
    table: &Table,
    export: &Export,
    outcome: RunOutcome,
) -> Result<RunReport, LakeError> {
    let published = table.published_on(export.snapshot_id().date())?;
    Ok(RunReport {
        outcome,
        lake: config.lake.clone(),
        table: Some(config.table.map_or_else(|| table.kind(), Ok)?),
        snapshot: ReportedSnapshot::Listed(ListedExport {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: table.dataset().name.to_owned(),
            route: export.route,
            generated_time: export.snapshot_id().generated_time(),
            generated_time_from: export.generated_time_from,
            num_parts: export.num_parts,
            published_snapshot: published.map(|published| published.id),
        }),
    })
}
