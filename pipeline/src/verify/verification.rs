//! The state of one verification: the snapshot, the progress and the findings.

use std::ops::ControlFlow;

use schema::Dataset;

use super::error::VerifyError;
use super::finding::{Fact, Finding, VerifyReport};
use crate::lake::{PublishedSnapshot, Table};

/// Rows decoded at a time. A row can hold a record of 16 MiB, so this is far below the fastest value.
pub(super) const BATCH_ROWS: usize = 1024;

/// The progress of verifying one snapshot. Every file is read once to hash it, once to decode it, and once for each
/// pass over the keys.
#[derive(Debug, Clone, Copy)]
pub struct VerifyProgress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes to read, by the manifest.
    pub total_bytes: u64,
}

pub(super) struct Verification<'a> {
    pub(super) table: &'a Table,
    pub(super) snapshot: &'a PublishedSnapshot,
    pub(super) progress: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    pub(super) done: VerifyProgress,
    pub(super) report: VerifyReport,
}

impl Verification<'_> {
    pub(super) fn dataset(&self) -> &'static Dataset {
        self.table.dataset()
    }

    pub(super) fn manifest_name(&self) -> String {
        self.table.below_lake(&self.snapshot.manifest_path)
    }

    pub(super) fn data_file_name(&self, path: &str) -> String {
        format!("{}/{path}", self.dataset().name)
    }

    pub(super) fn find_difference(
        &mut self,
        file: &str,
        what: Fact,
        expected: &impl ToString,
        found: &impl ToString,
    ) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.report.findings.push(Finding::Differs { file: file.to_owned(), what, expected, found });
        }
    }

    pub(super) fn find_unreadable(&mut self, file: &str, reason: &impl ToString) {
        self.report.findings.push(Finding::Unreadable { file: file.to_owned(), reason: reason.to_string() });
    }

    pub(super) fn advance(&mut self, num_bytes: u64) -> Result<(), VerifyError> {
        self.done.bytes = self.done.bytes.saturating_add(num_bytes).min(self.done.total_bytes);
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VerifyError::Cancelled { snapshot: self.snapshot.id }),
        }
    }
}
