//! Puts together what a run has written: takes its portions, gives the manifest, or the reason why they must not be
//! published. The balance itself is checked by [`WrittenSnapshot::assemble`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use chrono::{SubsecRound, Utc};

use super::context::Run;
use super::error::IngestError;
use super::max_rejects::MaxRejects;
use super::workers::remove_from_spool;
use super::written_portion::{FirstReject, LostColumn, RejectedPart, WrittenPortion};
use crate::commit::StagedSnapshot;
use crate::manifest::{Manifest, Totals};
use crate::staging::{Portion, WrittenSnapshot};

impl Run<'_> {
    /// Makes the manifest of the written files, and returns it with the portions. Fails if they must not be published.
    pub(super) fn assemble(
        &self,
        staging: &mut StagedSnapshot,
        written: Vec<WrittenPortion>,
    ) -> Result<(Manifest, Vec<Portion>), IngestError> {
        let config = self.session.config;
        let damaged = damaged_by_rejects(&written, config.max_rejects);
        // In a task the spool went with the task.
        for part in damaged.iter().filter(|part| !part.path.as_os_str().is_empty()) {
            remove_from_spool(self.export.route, &part.name, &part.path);
        }
        if damaged.is_empty() {
            warn_of_lost_columns(&written);
        }
        let portions: Vec<_> = written.into_iter().map(|written| written.portion).collect();
        if let Some(part) = damaged.into_iter().min_by_key(|part| part.index) {
            return Err(self.part_damaged_by_rejects(staging, &portions, part));
        }
        let snapshot = self.export.snapshot_id();
        let WrittenSnapshot { parts, files, totals, undocumented_fields } =
            WrittenSnapshot::assemble(&portions, self.export.num_parts)?;
        if totals.records == 0 {
            return Err(IngestError::Empty { snapshot, route: self.export.route });
        }
        if config.max_rejects.is_exceeded(totals.rejected_records, totals.records) {
            return Err(self.too_many_rejects(staging, &portions, &totals));
        }
        let manifest = Manifest {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_version: self.session.dataset.version,
            dataset: self.session.dataset.name.to_owned(),
            route: self.export.route,
            generated_time: snapshot.generated_time(),
            generated_time_from: self.export.generated_time_from,
            run_id: self.id.clone(),
            started_at: self.started_at,
            finished_at: Utc::now().trunc_subsecs(0),
            parts,
            files,
            totals,
            undocumented_fields,
        };
        Ok((manifest, portions))
    }

    fn too_many_rejects(
        &self,
        staging: &mut StagedSnapshot,
        portions: &[Portion],
        totals: &Totals,
    ) -> IngestError {
        match self.keep_rejects(staging, portions) {
            Ok(rejects) => IngestError::TooManyRejects {
                rejected: totals.rejected_records,
                records: totals.records,
                limit: self.session.config.max_rejects,
                rejects,
            },
            Err(error) => error,
        }
    }

    fn part_damaged_by_rejects(
        &self,
        staging: &mut StagedSnapshot,
        portions: &[Portion],
        part: RejectedPart,
    ) -> IngestError {
        let RejectedPart { name, rejected, records, first: FirstReject { line, reason }, .. } = part;
        match self.keep_rejects(staging, portions) {
            Ok(rejects) => IngestError::RejectedPart { part: name, rejected, records, line, reason, rejects },
            Err(error) => error,
        }
    }

    /// Copies the rejects file out of staging, which is removed, to the path that the error names.
    fn keep_rejects(
        &self,
        staging: &mut StagedSnapshot,
        portions: &[Portion],
    ) -> Result<PathBuf, IngestError> {
        staging.gather_rejects(portions)?;
        let config = self.session.config;
        let name = format!("{}-{}.rejects.ndjson.gz", self.export.snapshot_id(), self.id);
        let path = config.work_dir.join(self.session.dataset.name).join(name);
        match copy_private(&staging.destination().rejects_path(), &path) {
            Ok(()) => Ok(path),
            Err(source) => Err(IngestError::KeepRejects { path, source }),
        }
    }
}

/// Once all parts are read, finds those that are damaged because too many of their records were rejected: all, while other
/// parts have rows, or more than [`MaxRejects`] allows for a part.
pub(super) fn damaged_by_rejects(written: &[WrittenPortion], max_rejects: MaxRejects) -> Vec<RejectedPart> {
    let (mut records, mut rejected) = (0, 0);
    for (_, part) in written.iter().flat_map(|written| &written.portion.parts) {
        records += part.records;
        rejected += part.rejected_records;
    }
    let applies_to_parts = max_rejects.applies_to_parts(records);
    let is_damaged = |part: &&RejectedPart| {
        part.rejected == part.records && rejected < records
            || applies_to_parts && MaxRejects::is_exceeded_by_part(part.rejected, part.records)
    };
    written.iter().flat_map(|written| &written.rejected_parts).filter(is_damaged).cloned().collect()
}

fn warn_of_lost_columns(written: &[WrittenPortion]) {
    let mut lost: BTreeMap<&str, LostColumn> = BTreeMap::new();
    for (name, column) in written.iter().flat_map(|written| &written.lost_columns) {
        lost.entry(name)
            .and_modify(|known| {
                known.num_parts += column.num_parts;
                if column.index < known.index {
                    (known.index, known.part) = (column.index, column.part.clone());
                }
            })
            .or_insert_with(|| column.clone());
    }
    for (column, LostColumn { part, num_parts, .. }) in lost {
        tracing::warn!(
            column,
            part,
            num_parts,
            "the column is null in every row of the part: its values were rejected"
        );
    }
}

/// Copies a file; only its owner can read the copy.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = to.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}
