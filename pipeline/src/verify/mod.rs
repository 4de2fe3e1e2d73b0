//! Reads published snapshots back and compares them with their manifests.
//!
//! Takes a [`PublishedSnapshot`], gives a [`VerifyReport`] with every [`Finding`]; [`verify_layout`] and
//! [`delta_log::verify_log`] check the table as a whole. Only reads, and takes no lock. Memory does not grow with the
//! snapshot: files are hashed and decoded as streams, keys counted within a budget.
//!
//! A file is decoded only if its size and hash match: a file that differs is damaged in any case, and decoders should
//! not see bytes that this program did not write.

pub mod delta_log;
mod error;
mod files;
mod finding;
mod keys;
mod layout;
mod verification;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

pub use self::error::VerifyError;
pub use self::finding::{Fact, Finding, VerifyReport};
use self::keys::num_key_passes;
pub use self::layout::verify_layout;
use self::verification::Verification;
pub use self::verification::VerifyProgress;

use crate::lake::{self, PublishedSnapshot, SUCCESS_FILE, Success, Table};
use crate::snapshot::SnapshotId;

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Whether to count the rows beyond the first of their key.
    pub keys: bool,
    /// Memory for counting keys, 16 bytes a key. Less means more passes over the files.
    pub key_memory_bytes: usize,
}

impl VerifyOptions {
    /// Returns how often the files are read for their keys.
    fn num_key_passes(&self, snapshot: &PublishedSnapshot) -> u64 {
        if self.keys { num_key_passes(snapshot.manifest.totals.rows, self.key_memory_bytes) } else { 0 }
    }
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { keys: false, key_memory_bytes: 256 << 20 }
    }
}

/// Returns the bytes that [`verify_snapshot`] reads, by the manifest: the total of its progress.
pub fn total_bytes(snapshot: &PublishedSnapshot, options: &VerifyOptions) -> u64 {
    let files = &snapshot.manifest.files;
    let listed_bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    listed_bytes.saturating_mul(2 + options.num_key_passes(snapshot))
}

/// Reads one published snapshot back and compares it with its manifest and the dataset's declaration. Calls `progress`
/// about once a batch, and stops if it breaks.
///
/// # Errors
///
/// See [`VerifyError`]. Damage is in the report.
pub fn verify_snapshot(
    table: &Table,
    snapshot: &PublishedSnapshot,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
) -> Result<VerifyReport, VerifyError> {
    let manifest = &snapshot.manifest;
    let total_bytes = total_bytes(snapshot, options);
    let report = VerifyReport {
        snapshot: snapshot.id,
        files: manifest.files.len() as u64,
        rows: 0,
        bytes: 0,
        duplicate_keys: None,
        findings: Vec::new(),
    };
    let mut verification =
        Verification { table, snapshot, progress, done: VerifyProgress { bytes: 0, total_bytes }, report };
    verification.check_manifest();
    if table.is_folder(&table.data_folder(snapshot.id.date()))? {
        verification.check_success();
        verification.check_listing()?;
        verification.check_files()?;
    } else {
        let folder = table.below_lake(&table.data_folder(snapshot.id.date()));
        let manifest = verification.manifest_name();
        verification.report.findings.push(Finding::NoDataFolder { folder, manifest });
    }
    verification.check_rejects()?;
    if options.keys && verification.report.findings.is_empty() {
        verification.count_duplicate_keys(options.num_key_passes(snapshot))?;
    }
    let report = verification.report;
    // A run can replace the snapshot at any time, which is not damage.
    if !report.findings.is_empty()
        && table.read_snapshot(snapshot.id).is_ok_and(|now| now.as_ref() != Some(snapshot))
    {
        return Err(VerifyError::Replaced { snapshot: snapshot.id });
    }
    Ok(report)
}

impl Verification<'_> {
    fn check_manifest(&mut self) {
        let file = self.manifest_name();
        if let Some(reason) = self.snapshot.manifest.imbalance() {
            self.report.findings.push(Finding::Imbalance { file: file.clone(), reason });
        }
        let mut paths = BTreeSet::new();
        for data_file in &self.snapshot.manifest.files {
            if !paths.insert(&data_file.path) {
                let reason = format!("{} is listed twice", data_file.path);
                self.report.findings.push(Finding::Imbalance { file: file.clone(), reason });
            }
        }
    }

    fn check_success(&mut self) {
        let path = self.table.data_folder(self.snapshot.id.date()).join(SUCCESS_FILE);
        let file = self.table.below_lake(&path);
        match self.table.read_success(self.snapshot.id.date()) {
            Ok(Some(Ok(success))) => {
                let expected = self.table.success_of(&self.snapshot.manifest);
                self.find_difference(&file, Fact::Summary, &summary(&expected), &summary(&success));
            }
            Ok(Some(Err(reason))) => self.find_unreadable(&file, &reason),
            Ok(None) => self.report.findings.push(Finding::Missing { file }),
            Err(error) => self.find_unreadable(&file, &error.reason()),
        }
    }

    /// Finds files that the manifest does not list.
    fn check_listing(&mut self) -> Result<(), VerifyError> {
        let folder = lake::data_folder_name(self.snapshot.id.date());
        let listed: BTreeSet<_> =
            self.snapshot.manifest.files.iter().map(|file| file.path.as_str()).collect();
        for (name, bytes) in self.table.list_files(&self.table.data_folder(self.snapshot.id.date()))? {
            let path = format!("{folder}/{name}");
            if name != SUCCESS_FILE && !lake::is_ignored_file(&name, bytes) && !listed.contains(path.as_str())
            {
                let file = self.data_file_name(&path);
                self.report.findings.push(Finding::Unlisted { file });
            }
        }
        Ok(())
    }
}

fn summary(success: &Success) -> String {
    format!(
        "{} {} of run {}: {} rows, {} files, {} bytes, {}",
        success.dataset,
        SnapshotId::new(success.generated_time),
        success.run_id,
        success.rows,
        success.files,
        success.bytes,
        success.manifest
    )
}
