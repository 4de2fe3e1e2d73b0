//! The driver's side of a run on a cluster: takes the listed parts, gives what the tasks have written of them.
//!
//! A group whose URLs have ended or whose part is damaged is run again once, after one more listing. What its first attempt
//! wrote is in no outcome, so it is never published.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::assemble::damaged_by_rejects;
use super::super::context::{Run, Session, wait};
use super::super::error::{IngestError, internal};
use super::super::max_rejects::MaxRejects;
use super::super::written_portion::{RejectedPart, WrittenPortion};
use super::Cluster;
use super::grouping::{Group, jobs_of};
use super::outcome::{Outcome, TaskFailure, TaskReport};
use super::task_job::{Assignment, TaskJob};
use crate::exit_code::ExitCode;
use crate::lake;
use crate::manifest::Route;
use crate::progress::Progress;
use crate::source::{DownloadBounds, ListedPart, Source};

/// What the tasks have done so far.
#[derive(Default)]
struct Work {
    written: Vec<WrittenPortion>,
    /// Parts that are to be read again, and the first reason.
    again: BTreeSet<u64>,
    failure: Option<TaskFailure>,
}

impl Run<'_> {
    /// Has the tasks of a cluster read and write all parts of a listing.
    pub(in crate::ingest) fn distribute(
        &self,
        cluster: &dyn Cluster,
        source: &Source,
        parts: Vec<ListedPart>,
    ) -> Result<Vec<WrittenPortion>, IngestError> {
        let Session { config, runtime, progress, cancel, .. } = *self.session;
        progress.num_parts.store(parts.len() as u64, Ordering::Relaxed);
        let job = self.task_job()?;
        let count = cluster.task_count()?;
        let mut work = Work::default();
        self.run_jobs(cluster, &job, jobs_of(parts, count), &mut work)?;
        // Reading a local file again would not help.
        let is_final = self.export.route == Route::Local;
        if work.again.is_empty() && !is_final {
            work.take_back_rejected(config.max_rejects, progress);
        }
        if work.again.is_empty() || is_final {
            return work.finish();
        }
        let again = std::mem::take(&mut work.again);
        let reason = work.failure.take().map(|failure| failure.text).unwrap_or_default();
        tracing::warn!(num_parts = again.len(), reason, "listing again for the parts of tasks that failed");
        wait(runtime, cancel, source.list_again())??;
        let mut parts = source.parts()?.unwrap_or_default();
        parts.retain(|part| again.contains(&part.index));
        self.run_jobs(cluster, &job, jobs_of(parts, count), &mut work)?;
        work.finish()
    }

    fn task_job(&self) -> Result<TaskJob, IngestError> {
        let Session { config, dataset, .. } = *self.session;
        Ok(TaskJob {
            dataset,
            snapshot: self.export.snapshot_id(),
            run_id: self.id.clone(),
            route: self.export.route,
            lake: lake::absolute_location(&config.lake)?,
            store: lake::store_variables(&config.lake)?,
            capture_extra_fields: config.capture_extra_fields,
            memory: config.memory,
            bounds: DownloadBounds::of(&config.source),
        })
    }

    /// Runs jobs one after the other, each until all its tasks have ended.
    fn run_jobs(
        &self,
        cluster: &dyn Cluster,
        job: &TaskJob,
        jobs: Vec<Vec<Group>>,
        work: &mut Work,
    ) -> Result<(), IngestError> {
        let Session { progress, cancel, dataset, .. } = *self.session;
        let num_jobs = jobs.len();
        for (number, groups) in jobs.into_iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(IngestError::Interrupted);
            }
            let num_parts: usize = groups.iter().map(Vec::len).sum();
            tracing::info!(
                dataset = dataset.name,
                job = number + 1,
                num_jobs,
                tasks = groups.len(),
                num_parts,
                "job submitted"
            );
            self.run_job(cluster, job, groups, work)?;
            tracing::info!(
                dataset = dataset.name,
                decoded_parts = progress.decoded_parts.load(Ordering::Relaxed),
                num_parts = progress.num_parts.load(Ordering::Relaxed),
                rows = progress.rows.load(Ordering::Relaxed),
                "job ended"
            );
        }
        Ok(())
    }

    fn run_job(
        &self,
        cluster: &dyn Cluster,
        job: &TaskJob,
        groups: Vec<Group>,
        work: &mut Work,
    ) -> Result<(), IngestError> {
        let Session { progress, cancel, .. } = *self.session;
        let mut groups: Vec<Option<Group>> = groups.into_iter().map(Some).collect();
        let assignments: Vec<_> = groups
            .iter()
            .flatten()
            .enumerate()
            .map(|(number, parts)| Assignment { job: job.clone(), number, parts: parts.clone() }.to_wire())
            .collect::<Result<_, _>>()?;
        let reports = cluster.run(assignments, &|| cancel.is_cancelled());
        if cancel.is_cancelled() {
            return Err(IngestError::Interrupted);
        }
        let mut failed: Option<(usize, TaskFailure)> = None;
        for report in reports? {
            // The error of the parser could quote what it found.
            let TaskReport { number, outcome } = serde_json::from_slice(&report).map_err(|_| {
                IngestError::Internal { reason: "a task returned what is not a report".to_owned() }
            })?;
            let mut group = || {
                let group = groups.get_mut(number).and_then(Option::take);
                group.ok_or_else(|| internal("a task reported twice", &number))
            };
            match outcome {
                Outcome::Done(written) => {
                    group()?;
                    count(&written, progress, |counter, amount| counter.fetch_add(amount, Ordering::Relaxed));
                    work.written.push(*written);
                }
                Outcome::UrlEnded { failure } | Outcome::Damaged { failure } => {
                    work.again.extend(group()?.iter().map(|part| part.index));
                    work.failure.get_or_insert(failure);
                }
                Outcome::Failed { failure } => {
                    tracing::error!(task = number, error = failure.text, "task failed");
                    if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                        failed = Some((number, failure));
                    }
                }
            }
        }
        if let Some((_, failure)) = failed {
            return Err(failure.into());
        }
        match groups.iter().position(Option::is_some) {
            Some(number) => Err(internal("a task did not report", &number)),
            None => Ok(()),
        }
    }
}

impl Work {
    /// Drops the portions with a part that is damaged because too many of its records were rejected: their parts are read
    /// again.
    fn take_back_rejected(&mut self, max_rejects: MaxRejects, progress: &Progress) {
        let rejected_parts = damaged_by_rejects(&self.written, max_rejects);
        let Some(first) = rejected_parts.first() else { return };
        let RejectedPart { name, rejected, records, .. } = first;
        let text = format!("part {name}: {rejected} of its {records} records were rejected");
        self.failure.get_or_insert(TaskFailure { exit_code: ExitCode::Source as u8, text, hint: None });
        let damaged: BTreeSet<u64> = rejected_parts.iter().map(|part| part.index).collect();
        let is_whole = |written: &WrittenPortion| {
            written.portion.parts.iter().all(|(index, _)| !damaged.contains(index))
        };
        let (whole, rejected) = std::mem::take(&mut self.written).into_iter().partition(is_whole);
        self.written = whole;
        for written in &rejected {
            count(written, progress, |counter, amount| counter.fetch_sub(amount, Ordering::Relaxed));
            self.again.extend(written.portion.parts.iter().map(|(index, _)| *index));
        }
    }

    /// Returns the portions in the order of their first parts, or the reason why parts are missing.
    fn finish(mut self) -> Result<Vec<WrittenPortion>, IngestError> {
        match self.failure {
            Some(failure) if !self.again.is_empty() => Err(failure.into()),
            _ => {
                let first =
                    |written: &WrittenPortion| written.portion.parts.iter().map(|(index, _)| *index).min();
                self.written.sort_by_key(first);
                Ok(self.written)
            }
        }
    }
}

/// Counts the parts of a portion.
fn count(written: &WrittenPortion, progress: &Progress, change: impl Fn(&AtomicU64, u64) -> u64) {
    for (_, part) in &written.portion.parts {
        change(&progress.decoded_parts, 1);
        change(&progress.fetch.parts, 1);
        change(&progress.fetch.bytes, part.bytes);
        change(&progress.rows, part.records - part.rejected_records);
    }
}
