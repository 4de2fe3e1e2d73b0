//! Reading back: is what was published still there, whole, and what the manifest says?
//!
//! Takes a [`PublishedSnapshot`], gives a [`SnapshotReport`] with every [`Finding`]; [`verify_layout`]
//! does the same for what belongs to no snapshot. Only reads, and takes no lock. Memory does not grow
//! with the snapshot: files are hashed and decoded in passing, keys counted within a budget.
//!
//! A file is decoded only if its size and hash are right. What differs there is damaged whatever a
//! decoder says, and decoders are not to be tried on bytes that we did not write.

pub mod delta;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Field, Fields};
use chrono::NaiveDate;
use flate2::read::MultiGzDecoder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use schema::{ColumnType, Dataset};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::commit::hex;
use crate::delta::LOG_FOLDER;
use crate::exit_code::ExitCode;
use crate::lake::{self, LakeError, PublishedSnapshot, SUCCESS_FILE, Success, Table};
use crate::manifest::DataFile;
use crate::partition;
use crate::snapshot::SnapshotId;

/// Rows decoded at a time. A row may hold a record of 16 MiB, so this is far below what is fastest.
const BATCH_ROWS: usize = 1024;

/// Bytes read at a time.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// Fewer keys than this to a pass gain nothing.
const MIN_KEYS_PER_PASS: usize = 4096;

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Whether to count the rows whose key another row has too.
    pub keys: bool,
    /// What counting keys may hold in memory, 16 bytes a key. Less means more passes over the files.
    pub key_memory_bytes: usize,
}

impl VerifyOptions {
    /// How often the files are read for their keys.
    fn num_key_passes(&self, snapshot: &PublishedSnapshot) -> u64 {
        if self.keys { num_key_passes(snapshot.manifest.totals.rows, self.key_memory_bytes) } else { 0 }
    }
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { keys: false, key_memory_bytes: 256 << 20 }
    }
}

/// How far the verification of one snapshot is. Every file is read once to hash it, once to decode it,
/// and once for each pass over the keys.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of the files dealt with.
    pub bytes: u64,
    /// Bytes to deal with, by the manifest.
    pub total_bytes: u64,
}

/// Why a verification could not be completed. Damage is a [`Finding`], no error.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A folder could not be listed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A run replaced the snapshot in the meantime; what was found is of two snapshots.
    #[error("snapshot {snapshot} was replaced while it was verified")]
    Replaced {
        /// The snapshot that was to be verified.
        snapshot: SnapshotId,
    },
    /// The callback asked to stop.
    #[error("interrupted while snapshot {snapshot} was verified")]
    Cancelled {
        /// The snapshot that was being verified.
        snapshot: SnapshotId,
    },
}

impl VerifyError {
    /// How the program ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(error) => error.exit_code(),
            Self::Replaced { .. } => ExitCode::Lake,
            Self::Cancelled { .. } => ExitCode::Interrupted,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::Replaced { .. } => Some("verify again"),
            Self::Cancelled { .. } => None,
        }
    }
}

/// What one snapshot was found to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SnapshotReport {
    /// The snapshot.
    #[serde(serialize_with = "as_text")]
    pub snapshot: SnapshotId,
    /// Files that the manifest lists.
    pub files: u64,
    /// Rows that were read from them.
    pub rows: u64,
    /// Bytes that were read from them.
    pub bytes: u64,
    /// Rows beyond the first of their key; absent where keys were not asked for, or damage kept them
    /// from being counted.
    pub duplicate_keys: Option<u64>,
    /// All damage, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// One piece of damage. File names are as seen from the lake's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A file that has to be there is not.
    Missing {
        /// The file.
        file: String,
    },
    /// A file is there that nothing lists.
    Unlisted {
        /// The file.
        file: String,
    },
    /// A file cannot be read or is not what it should be at all.
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file is not as the manifest, or the dataset's declaration, says.
    Differs {
        /// The file.
        file: String,
        /// In what it differs.
        what: Fact,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Readers of the Delta log are led to a file that no manifest lists.
    OnlyInLog {
        /// The file.
        file: String,
    },
    /// Readers of the Delta log do not find a file that a manifest lists.
    NotInLog {
        /// The file.
        file: String,
    },
    /// A manifest contradicts itself.
    Imbalance {
        /// The manifest.
        file: String,
        /// What does not hold.
        reason: String,
    },
    /// A published snapshot has no data folder.
    NoDataFolder {
        /// Where it should be.
        folder: String,
        /// The manifest that describes it.
        manifest: String,
    },
    /// A data folder belongs to no snapshot.
    NoManifest {
        /// The data folder.
        folder: String,
    },
    /// A date holds more than one manifest.
    SeveralManifests {
        /// The date.
        date: NaiveDate,
        /// The snapshots, oldest first.
        snapshots: Vec<String>,
    },
    /// Data and manifest may not belong together: a run is publishing or removing, or was killed while it did.
    UnfinishedChange {
        /// That run.
        run_id: String,
    },
}

/// In what a file can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Size in bytes.
    Bytes,
    /// SHA-256 of the bytes.
    Sha256,
    /// Rows.
    Rows,
    /// Row groups.
    RowGroups,
    /// Columns, their types and nullability.
    Schema,
    /// The partition that the path names.
    Partition,
    /// The summary in `_SUCCESS`.
    Summary,
    /// Lines of the rejects file.
    Lines,
    /// Size in bytes, as the Delta log has it.
    LoggedBytes,
    /// Rows, as the Delta log has them.
    LoggedRows,
    /// The partition's values, as the Delta log has them.
    LoggedPartition,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Sha256 => "sha256",
            Self::Rows => "rows",
            Self::RowGroups => "row groups",
            Self::Schema => "schema",
            Self::Partition => "partition",
            Self::Summary => "summary",
            Self::Lines => "lines",
            Self::LoggedBytes => "bytes in the Delta log",
            Self::LoggedRows => "rows in the Delta log",
            Self::LoggedPartition => "partition in the Delta log",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "{file}: missing"),
            Self::Unlisted { file } => write!(f, "{file}: not listed in any manifest"),
            Self::Unreadable { file, reason } => write!(f, "{file}: unreadable: {reason}"),
            Self::Differs { file, what, expected, found } => {
                write!(f, "{file}: {what}: expected {expected}, found {found}")
            }
            Self::OnlyInLog { file } => write!(f, "{file}: in the Delta log, but in no manifest"),
            Self::NotInLog { file } => write!(f, "{file}: listed in a manifest, but not in the Delta log"),
            Self::Imbalance { file, reason } => write!(f, "{file}: does not balance: {reason}"),
            Self::NoDataFolder { folder, manifest } => {
                write!(f, "{folder}: missing, but described by {manifest}")
            }
            Self::NoManifest { folder } => write!(f, "{folder}: no manifest describes it"),
            Self::SeveralManifests { date, snapshots } => {
                write!(f, "{date}: more than one manifest: {}", snapshots.join(", "))
            }
            Self::UnfinishedChange { run_id } => write!(
                f,
                "run {run_id}: it is changing the table or was interrupted in that; the next ingest finishes or undoes it"
            ),
        }
    }
}

/// Looks for what belongs to no snapshot, and for manifests that are damaged or too many.
///
/// # Errors
///
/// Fails where the table's folders cannot be listed.
pub fn verify_layout(table: &Table) -> Result<Vec<Finding>, LakeError> {
    let mut findings = Vec::new();
    for run_id in table.unfinished_changes()? {
        findings.push(Finding::UnfinishedChange { run_id });
    }
    for snapshot in table.try_snapshots()? {
        match snapshot {
            Ok(_) => {}
            Err(LakeError::DamagedManifest { path, reason }) => {
                findings.push(Finding::Unreadable { file: table.below_lake(&path), reason });
            }
            Err(LakeError::Io { path, source, .. }) => findings
                .push(Finding::Unreadable { file: table.below_lake(&path), reason: source.to_string() }),
            Err(error) => return Err(error),
        }
    }
    let mut unlisted = BTreeSet::new();
    for (path, bytes) in table.list_files(&table.snapshots_root())? {
        let name = path.split('/').next().unwrap_or_default();
        if SnapshotId::parse(name).is_none() && !lake::is_clutter(&path, bytes) {
            unlisted.insert(name.to_owned());
        }
    }
    findings.extend(unlisted.into_iter().map(|name| {
        let file = table.below_lake(&table.snapshots_root().join(name));
        Finding::Unlisted { file }
    }));
    let ids = table.snapshot_ids()?;
    for same_date in ids.chunk_by(|one, other| one.date() == other.date()).filter(|ids| ids.len() > 1) {
        let snapshots = same_date.iter().map(SnapshotId::to_string).collect();
        findings.push(Finding::SeveralManifests { date: same_date[0].date(), snapshots });
    }
    let folders: BTreeSet<_> = ids.iter().map(|id| lake::data_folder_name(id.date())).collect();
    findings.extend(files_of_no_snapshot(table, &folders)?);
    Ok(findings)
}

/// Looks for files beside the data folders of published snapshots, which are `known`. Empty folders, and those
/// of files that are no one's data, are none.
fn files_of_no_snapshot(table: &Table, known: &BTreeSet<String>) -> Result<Vec<Finding>, LakeError> {
    let prefix = format!("{}=", schema::SNAPSHOT_DATE.name);
    let mut names = BTreeSet::new();
    for (path, bytes) in table.list_files(&table.root())? {
        let first = path.split('/').next().unwrap_or_default();
        if first == LOG_FOLDER || known.contains(first) || lake::is_clutter(&path, bytes) {
            continue;
        }
        let name = if lake::is_clutter_folder(first) { path } else { first.to_owned() };
        names.insert(name);
    }
    let findings = names.into_iter().map(|name| {
        let path = table.below_lake(&table.root().join(&name));
        if name.starts_with(&prefix) {
            Finding::NoManifest { folder: path }
        } else {
            Finding::Unlisted { file: path }
        }
    });
    Ok(findings.collect())
}

/// Bytes that [`verify_snapshot`] will deal with, by the manifest: what its progress runs to.
pub fn total_bytes(snapshot: &PublishedSnapshot, options: &VerifyOptions) -> u64 {
    let files = &snapshot.manifest.files;
    let listed_bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    listed_bytes.saturating_mul(2 + options.num_key_passes(snapshot))
}

/// Re-reads one published snapshot and holds it against its manifest and the dataset's declaration.
/// `progress` is called about every batch; where it breaks off, so does the verification.
///
/// # Errors
///
/// See [`VerifyError`]; damage is in the report.
pub fn verify_snapshot(
    table: &Table,
    snapshot: &PublishedSnapshot,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<SnapshotReport, VerifyError> {
    let manifest = &snapshot.manifest;
    let total_bytes = total_bytes(snapshot, options);
    let report = SnapshotReport {
        snapshot: snapshot.id,
        files: manifest.files.len() as u64,
        rows: 0,
        bytes: 0,
        duplicate_keys: None,
        findings: Vec::new(),
    };
    let mut verification =
        Verification { table, snapshot, progress, done: Progress { bytes: 0, total_bytes }, report };
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
    // A run may replace the snapshot at any time. Then there is no damage, only nothing to compare with.
    if !report.findings.is_empty()
        && table.read_snapshot(snapshot.id).is_ok_and(|now| now.as_ref() != Some(snapshot))
    {
        return Err(VerifyError::Replaced { snapshot: snapshot.id });
    }
    Ok(report)
}

struct Verification<'a> {
    table: &'a Table,
    snapshot: &'a PublishedSnapshot,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    done: Progress,
    report: SnapshotReport,
}

impl Verification<'_> {
    fn dataset(&self) -> &'static Dataset {
        self.table.dataset()
    }

    fn manifest_name(&self) -> String {
        self.table.below_lake(&self.snapshot.manifest_path)
    }

    fn data_file_name(&self, path: &str) -> String {
        format!("{}/{path}", self.dataset().name)
    }

    fn find_difference(&mut self, file: &str, what: Fact, expected: &impl ToString, found: &impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.report.findings.push(Finding::Differs { file: file.to_owned(), what, expected, found });
        }
    }

    fn find_unreadable(&mut self, file: &str, reason: &impl ToString) {
        self.report.findings.push(Finding::Unreadable { file: file.to_owned(), reason: reason.to_string() });
    }

    fn advance(&mut self, num_bytes: u64) -> Result<(), VerifyError> {
        self.done.bytes = self.done.bytes.saturating_add(num_bytes).min(self.done.total_bytes);
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VerifyError::Cancelled { snapshot: self.snapshot.id }),
        }
    }

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
            Err(error) => self.find_unreadable(&file, &lake_reason(&error)),
        }
    }

    /// Looks for files that the manifest does not list.
    fn check_listing(&mut self) -> Result<(), VerifyError> {
        let folder = lake::data_folder_name(self.snapshot.id.date());
        let listed: BTreeSet<_> =
            self.snapshot.manifest.files.iter().map(|file| file.path.as_str()).collect();
        for (name, bytes) in self.table.list_files(&self.table.data_folder(self.snapshot.id.date()))? {
            let path = format!("{folder}/{name}");
            if name != SUCCESS_FILE && !lake::is_clutter(&name, bytes) && !listed.contains(path.as_str()) {
                let file = self.data_file_name(&path);
                self.report.findings.push(Finding::Unlisted { file });
            }
        }
        Ok(())
    }

    fn check_files(&mut self) -> Result<(), VerifyError> {
        let snapshot = self.snapshot;
        let mut fields = None;
        for file in &snapshot.manifest.files {
            let name = self.data_file_name(&file.path);
            let (expected, found) = partitions(self.dataset(), file);
            self.find_difference(&name, Fact::Partition, &expected, &found);
            let opened = match self.table.open_data_file(&file.path) {
                Ok(opened) => opened,
                Err(error) if error.is_missing() => {
                    self.report.findings.push(Finding::Missing { file: name });
                    self.advance(file.bytes.saturating_mul(2))?;
                    continue;
                }
                Err(error) => {
                    self.find_unreadable(&name, &lake_reason(&error));
                    self.advance(file.bytes.saturating_mul(2))?;
                    continue;
                }
            };
            if self.check_bytes(file, &name, &opened)? {
                self.check_rows(file, &name, opened, &mut fields)?;
            }
            self.advance(file.bytes)?;
        }
        Ok(())
    }

    /// Size and hash; says whether both are right.
    fn check_bytes(&mut self, file: &DataFile, name: &str, mut opened: &File) -> Result<bool, VerifyError> {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut sha256 = Sha256::new();
        let mut num_bytes = 0;
        loop {
            let num_read = match opened.read(&mut buffer) {
                Ok(0) => break,
                Ok(num_read) => num_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.find_unreadable(name, &error);
                    return Ok(false);
                }
            };
            sha256.update(&buffer[..num_read]);
            num_bytes += num_read as u64;
            self.advance(num_read as u64)?;
        }
        self.report.bytes += num_bytes;
        let found = hex(&sha256.finalize());
        self.find_difference(name, Fact::Bytes, &file.bytes, &num_bytes);
        self.find_difference(name, Fact::Sha256, &file.sha256, &found);
        Ok(num_bytes == file.bytes && found == file.sha256)
    }

    /// Footer, schema, and every value decoded once. `fields` is what the snapshot's files have to
    /// agree on, once one was read.
    fn check_rows(
        &mut self,
        file: &DataFile,
        name: &str,
        opened: File,
        fields: &mut Option<Fields>,
    ) -> Result<(), VerifyError> {
        let builder = match ParquetRecordBatchReaderBuilder::try_new(opened) {
            Ok(builder) => builder,
            Err(error) => {
                self.find_unreadable(name, &error);
                return Ok(());
            }
        };
        let found = builder.schema().fields().clone();
        let expected = fields.get_or_insert_with(|| self.expected_fields(&found)).clone();
        if let Some((expected, found)) = first_difference(&expected, &found) {
            self.find_difference(name, Fact::Schema, &expected, &found);
        }
        let footer_rows = builder.metadata().file_metadata().num_rows();
        self.find_difference(name, Fact::Rows, &file.rows, &footer_rows);
        self.find_difference(name, Fact::RowGroups, &file.row_groups, &builder.metadata().num_row_groups());
        let mut num_rows = 0;
        let batches = match builder.with_batch_size(BATCH_ROWS).build() {
            Ok(batches) => batches,
            Err(error) => {
                self.find_unreadable(name, &error);
                return Ok(());
            }
        };
        for batch in batches {
            match batch {
                Ok(batch) => num_rows += batch.num_rows() as u64,
                Err(error) => {
                    self.find_unreadable(name, &error);
                    return Ok(());
                }
            }
            self.advance(0)?;
        }
        self.report.rows += num_rows;
        self.find_difference(name, Fact::Rows, &footer_rows, &num_rows);
        Ok(())
    }

    /// The declared columns, with or without the captured extra fields. Of a snapshot by another version
    /// of the declaration all that is known is that its files are alike.
    fn expected_fields(&self, first_file: &Fields) -> Fields {
        if self.snapshot.manifest.schema_version != self.dataset().version {
            return first_file.clone();
        }
        let has_extra = first_file.find(schema::EXTRA_FIELDS.name).is_some();
        schema::arrow::file_schema(self.dataset(), has_extra).fields().clone()
    }

    fn check_rejects(&mut self) -> Result<(), VerifyError> {
        let file = self.table.below_lake(&self.table.rejects_path(self.snapshot.id));
        let totals = &self.snapshot.manifest.totals;
        let expected = totals.rejected_records + totals.field_rejects;
        let opened = match self.table.open_rejects(self.snapshot.id) {
            Ok(opened) => opened,
            Err(error) => {
                self.find_unreadable(&file, &lake_reason(&error));
                return Ok(());
            }
        };
        match opened {
            None if expected > 0 => self.report.findings.push(Finding::Missing { file }),
            None => {}
            Some(_) if expected == 0 => self.report.findings.push(Finding::Unlisted { file }),
            Some(opened) => match self.count_lines(opened)? {
                Ok(num_lines) => self.find_difference(&file, Fact::Lines, &expected, &num_lines),
                Err(error) => self.find_unreadable(&file, &error),
            },
        }
        Ok(())
    }

    fn count_lines(&mut self, opened: File) -> Result<io::Result<u64>, VerifyError> {
        let mut text = MultiGzDecoder::new(BufReader::with_capacity(READ_BUFFER_BYTES, opened));
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut num_lines = 0;
        let mut last = b'\n';
        loop {
            match text.read(&mut buffer) {
                Ok(0) => return Ok(Ok(num_lines + u64::from(last != b'\n'))),
                Ok(num_read) => {
                    num_lines += memchr::memchr_iter(b'\n', &buffer[..num_read]).count() as u64;
                    last = buffer[num_read - 1];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
            self.advance(0)?;
        }
    }

    /// Counts the rows beyond the first of their key. Keys are compared by 128 bits of their SHA-256,
    /// and each pass looks at the keys of one range of these.
    fn count_duplicate_keys(&mut self, num_passes: u64) -> Result<(), VerifyError> {
        let snapshot = self.snapshot;
        let per_pass = usize::try_from(snapshot.manifest.totals.rows / num_passes).unwrap_or(usize::MAX);
        let mut counter = DuplicateCounter::with_room_for(per_pass);
        for pass in 0..num_passes {
            for file in &snapshot.manifest.files {
                if let Err(error) = self.count_keys_of(file, pass, num_passes, &mut counter)? {
                    let name = self.data_file_name(&file.path);
                    self.find_unreadable(&name, &error);
                    return Ok(());
                }
                self.advance(file.bytes)?;
            }
            counter.end_pass();
        }
        self.report.duplicate_keys = Some(counter.num_duplicates);
        Ok(())
    }

    fn count_keys_of(
        &mut self,
        file: &DataFile,
        pass: u64,
        num_passes: u64,
        counter: &mut DuplicateCounter,
    ) -> Result<Result<(), KeyError>, VerifyError> {
        let opened = match self.table.open_data_file(&file.path) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.into())),
        };
        let batches = match key_batches(self.dataset(), opened) {
            Ok(batches) => batches,
            Err(error) => return Ok(Err(error)),
        };
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error.into())),
            };
            for hash in key_hashes(self.dataset(), file, &batch) {
                if ((hash >> 64) * u128::from(num_passes)) >> 64 == u128::from(pass) {
                    counter.insert(hash);
                }
            }
            self.advance(0)?;
        }
        Ok(Ok(()))
    }
}

/// Partition of a file by what the manifest says, and by its path.
fn partitions(dataset: &Dataset, file: &DataFile) -> (String, String) {
    let describe = |column: &str, value: Option<&str>| match value {
        Some(value) => format!("{column}={value:?}"),
        None => format!("no {column}"),
    };
    let mut expected = vec![lake::data_folder_name(file.snapshot_date)];
    for column in dataset.partition_by {
        expected.push(describe(column, file.os_platform.as_deref()));
    }
    let mut found: Vec<_> = file.path.split('/').map(str::to_owned).collect();
    found.pop();
    for (folder, column) in found.iter_mut().skip(1).zip(dataset.partition_by) {
        if let Some(key) = partition::parse_directory(column, folder) {
            *folder = describe(column, key.value());
        }
    }
    (expected.join(", "), found.join(", "))
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

/// The innermost reason; the file is named anyway.
fn lake_reason(error: &LakeError) -> String {
    match error {
        LakeError::Io { source, .. } => source.to_string(),
        LakeError::Store { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

/// The first column that differs, as expected and as found.
fn first_difference(expected: &Fields, found: &Fields) -> Option<(String, String)> {
    let describe = |field: Option<&Field>| match field {
        None => "no column".to_owned(),
        Some(field) => {
            let required = if field.is_nullable() { "" } else { ", required" };
            format!("{} {}{required}", field.name(), field.data_type())
        }
    };
    (0..expected.len().max(found.len()))
        .map(|index| {
            let field = |fields: &Fields| describe(fields.get(index).map(AsRef::as_ref));
            (field(expected), field(found))
        })
        .find(|(expected, found)| expected != found)
}

fn as_text<S: serde::Serializer>(id: &SnapshotId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

// ---- Keys ----

/// Why keys could not be read again.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("{}", lake_reason(.0))]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error("key column {column} is not as declared")]
    Column { column: &'static str },
}

/// A quarter of room to spare, see [`DuplicateCounter`].
fn num_key_passes(rows: u64, memory_bytes: usize) -> u64 {
    let per_pass = (memory_bytes / size_of::<u128>() / 5 * 4).max(MIN_KEYS_PER_PASS);
    rows.div_ceil(per_pass as u64).max(1)
}

/// The key columns of one file.
fn key_batches(
    dataset: &'static Dataset,
    opened: File,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, KeyError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
    let stored = || dataset.file_columns().filter(|column| dataset.key.contains(&column.name));
    for column in stored() {
        let field = builder.schema().field_with_name(column.name);
        if !field.is_ok_and(|field| *field.data_type() == schema::arrow::data_type(column.column_type)) {
            return Err(KeyError::Column { column: column.name });
        }
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), stored().map(|column| column.name));
    Ok(builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?)
}

/// One hash for each row. Every value is framed: null, empty and neighbours cannot be confused.
fn key_hashes(dataset: &Dataset, file: &DataFile, batch: &RecordBatch) -> impl Iterator<Item = u128> {
    let columns: Vec<_> = dataset
        .columns
        .iter()
        .filter(|column| dataset.key.contains(&column.name))
        .map(|column| (column.column_type, batch.column_by_name(column.name)))
        .collect();
    let mut key = Vec::new();
    (0..batch.num_rows()).map(move |row| {
        key.clear();
        for (column_type, array) in &columns {
            match array {
                Some(array) => frame_value(&mut key, *column_type, array, row),
                None => frame(&mut key, file.os_platform.as_deref().map(str::as_bytes)),
            }
        }
        let digest = Sha256::digest(&key);
        digest.iter().take(size_of::<u128>()).fold(0, |hash, byte| hash << 8 | u128::from(*byte))
    })
}

fn frame_value(key: &mut Vec<u8>, column_type: ColumnType, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return frame(key, None);
    }
    match column_type {
        ColumnType::Utf8 => frame(key, Some(array.as_string::<i32>().value(row).as_bytes())),
        ColumnType::Int32 => {
            frame(key, Some(&array.as_primitive::<Int32Type>().value(row).to_le_bytes()));
        }
        ColumnType::Date32 => {
            frame(key, Some(&array.as_primitive::<Date32Type>().value(row).to_le_bytes()));
        }
        ColumnType::TimestampMicros => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            frame(key, Some(&micros.to_le_bytes()));
        }
        ColumnType::Utf8List => {
            let elements = array.as_list::<i32>().value(row);
            frame(key, Some(&elements.len().to_le_bytes()));
            for index in 0..elements.len() {
                frame_value(key, ColumnType::Utf8, &elements, index);
            }
        }
    }
}

fn frame(key: &mut Vec<u8>, value: Option<&[u8]>) {
    key.push(u8::from(value.is_some()));
    if let Some(value) = value {
        key.extend_from_slice(&(value.len() as u64).to_le_bytes());
        key.extend_from_slice(value);
    }
}

/// Counts repeated hashes in bounded room: when it is full, all but the first of each are counted and
/// thrown away. Different hashes spread evenly over the passes and leave a quarter of the room free, so
/// that only repeated ones can fill it.
struct DuplicateCounter {
    hashes: Vec<u128>,
    num_duplicates: u64,
}

impl DuplicateCounter {
    fn with_room_for(num_keys: usize) -> Self {
        let room = num_keys.saturating_add(num_keys / 4).max(MIN_KEYS_PER_PASS);
        Self { hashes: Vec::with_capacity(room), num_duplicates: 0 }
    }

    fn insert(&mut self, hash: u128) {
        if self.hashes.len() == self.hashes.capacity() {
            self.compact();
        }
        self.hashes.push(hash);
    }

    fn compact(&mut self) {
        let num_before = self.hashes.len();
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.num_duplicates += (num_before - self.hashes.len()) as u64;
    }

    fn end_pass(&mut self) {
        self.compact();
        self.hashes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Date32Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::commit::tests::{NOON, data_file, lock, manifest, open_table, run_id, snapshot_id, temp_dir};
    use crate::manifest::Manifest;

    /// Device and vendor: the part of the key that the tests vary.
    type Row = (&'static str, Option<&'static str>);

    fn batch(extra_fields: bool, rows: &[Row]) -> RecordBatch {
        let schema = schema::arrow::file_schema(schema::DATASETS[0], extra_fields);
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            let column = schema::DATASETS[0].columns.iter().find(|column| column.name == field.name());
            match column.map_or(ColumnType::Utf8, |column| column.column_type) {
                ColumnType::Utf8 => Arc::new(match field.name().as_str() {
                    "DeviceId" => rows.iter().map(|(device, _)| Some(*device)).collect::<StringArray>(),
                    "SoftwareVendor" => rows.iter().map(|(_, vendor)| *vendor).collect(),
                    _ => rows.iter().map(|_| Some("text")).collect(),
                }),
                ColumnType::Int32 => Arc::new(Int32Array::from(vec![3; rows.len()])),
                ColumnType::Date32 => Arc::new(Date32Array::from(vec![Some(7); rows.len()])),
                ColumnType::TimestampMicros => {
                    Arc::new(TimestampMicrosecondArray::from(vec![7; rows.len()]).with_timezone("UTC"))
                }
                ColumnType::Utf8List => {
                    let lists = ListBuilder::new(StringBuilder::new());
                    let mut lists = lists.with_field(schema::arrow::list_element());
                    for _ in rows {
                        lists.append_value([Some("C:"), None]);
                    }
                    Arc::new(lists.finish())
                }
            }
        });
        RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
    }

    /// Publishes one file for each batch, and as many field rejects as asked for.
    fn publish(
        root: &Path,
        run: &str,
        platforms: &[(Option<&str>, &str, RecordBatch)],
        num_rejects: u64,
    ) -> (Table, PublishedSnapshot) {
        let table = open_table(root);
        let lock = lock(&table);
        let staging = lock.stage(&run_id(run), snapshot_id(NOON)).unwrap();
        let mut files = Vec::new();
        for (index, (platform, folder, batch)) in platforms.iter().enumerate() {
            let name = format!("part-{NOON}-{run}-{index:05}.parquet");
            let mut file = staging.create_data_file(folder, &name).unwrap();
            let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
            writer.write(batch).unwrap();
            writer.close().unwrap();
            files.push(data_file(file.finish().unwrap(), NOON, *platform, batch.num_rows() as u64));
        }
        if num_rejects > 0 {
            let mut rejects = GzEncoder::new(staging.create_rejects().unwrap(), Compression::fast());
            for _ in 0..num_rejects {
                rejects.write_all(b"{}\n").unwrap();
            }
            rejects.finish().unwrap().finish().unwrap();
        }
        staging.publish(&manifest(NOON, run, files, num_rejects)).unwrap();
        let snapshot = table.published_on(snapshot_id(NOON).date()).unwrap().unwrap();
        (table, snapshot)
    }

    fn two_platforms() -> Vec<(Option<&'static str>, &'static str, RecordBatch)> {
        vec![
            (None, "OSPlatform=__HIVE_DEFAULT_PARTITION__", batch(false, &[("d1", Some("v")), ("d2", None)])),
            (Some("a/b"), "OSPlatform=a%2Fb", batch(false, &[("d3", Some("v"))])),
        ]
    }

    fn verify(table: &Table, snapshot: &PublishedSnapshot, options: &VerifyOptions) -> SnapshotReport {
        verify_snapshot(table, snapshot, options, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    const KEYS: VerifyOptions = VerifyOptions { keys: true, key_memory_bytes: 1 << 20 };

    #[test]
    fn sound_snapshot_has_no_findings() {
        let temp = temp_dir();
        let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 5);
        let mut last = None;
        let report = verify_snapshot(&table, &snapshot, &KEYS, &mut |progress| {
            last = Some(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.files, report.rows, report.duplicate_keys), (2, 3, Some(0)));
        assert_eq!(report.bytes, snapshot.manifest.totals.bytes);
        let last = last.unwrap();
        assert_eq!((last.bytes, last.total_bytes), (3 * report.bytes, 3 * report.bytes));
        assert_eq!(verify_layout(&table).unwrap(), []);
        assert_eq!(serde_json::to_value(&report).unwrap()["snapshot"], NOON);

        let cancelled = verify_snapshot(&table, &snapshot, &KEYS, &mut |_| ControlFlow::Break(()));
        assert!(matches!(cancelled, Err(VerifyError::Cancelled { .. })));
    }

    /// Does damage to a sound snapshot, and compares the findings' text; `…` stands for any text.
    fn check(damage: impl Fn(&Table, &mut Manifest, &dyn Fn(&str) -> PathBuf), expected: &[&str]) {
        let temp = temp_dir();
        let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 5);
        let mut manifest = snapshot.manifest.clone();
        damage(&table, &mut manifest, &|path| temp.path().join(path));
        if manifest != snapshot.manifest {
            fs::write(&snapshot.manifest_path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        }
        let mut findings = Vec::new();
        if let Some(snapshot) = table.try_snapshots().unwrap().into_iter().find_map(Result::ok) {
            findings.extend(verify(&table, &snapshot, &VerifyOptions::default()).findings);
        }
        findings.extend(verify_layout(&table).unwrap());
        let texts: Vec<_> = findings.iter().map(Finding::to_string).collect();
        let is_match = |(text, expected): (&String, &&str)| match expected.split_once('…') {
            Some((start, end)) => text.starts_with(start) && text.ends_with(end),
            None => text == expected,
        };
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        assert!(texts.iter().zip(expected).all(is_match), "{texts:#?}");
    }

    const FOLDER: &str = "software_inventory/snapshot_date=2021-01-11";
    const FILE: &str = "software_inventory/snapshot_date=2021-01-11/OSPlatform=a%2Fb/\
        part-20210111T120000Z-aaaaaaaa-00001.parquet";
    const SNAPSHOT: &str = "_defender/software_inventory/snapshots/20210111T120000Z";

    #[test]
    fn damaged_bytes_are_found() {
        let flip = |file: &Path| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        };
        check(|_, _, path| flip(&path(FILE)), &[&format!("{FILE}: sha256: expected …")]);
        check(
            |_, _, path| {
                let bytes = fs::read(path(FILE)).unwrap();
                fs::write(path(FILE), &bytes[..100]).unwrap();
            },
            &[&format!("{FILE}: bytes: expected …, found 100"), &format!("{FILE}: sha256: expected …")],
        );
        check(|_, _, path| fs::remove_file(path(FILE)).unwrap(), &[&format!("{FILE}: missing")]);
        check(
            |_, _, path| {
                fs::remove_file(path(FILE)).unwrap();
                fs::create_dir(path(FILE)).unwrap();
            },
            &[&format!("{FILE}: unreadable: not a regular file")],
        );
        check(
            |_, manifest, path| {
                // Even the manifest agrees, and still it is no Parquet file.
                fs::write(path(FILE), "PAR1, or so it says, PAR1").unwrap();
                manifest.files[1].sha256 = hex(&Sha256::digest("PAR1, or so it says, PAR1"));
                manifest.totals.bytes -= manifest.files[1].bytes - 25;
                manifest.files[1].bytes = 25;
            },
            &[&format!("{FOLDER}/_SUCCESS: summary: expected …"), &format!("{FILE}: unreadable: …")],
        );
    }

    #[test]
    fn files_too_many_are_found() {
        check(
            |_, _, path| {
                fs::write(path(FOLDER).join("extra.parquet"), "").unwrap();
                fs::write(path(FOLDER).join("._extra.parquet"), "").unwrap();
                fs::write(path("software_inventory/README"), "").unwrap();
                for folder in [
                    "software_inventory/snapshot_date=2020-01-01",
                    "software_inventory/lost+found",
                    "_defender/software_inventory/snapshots/notes",
                ] {
                    fs::create_dir(path(folder)).unwrap();
                    fs::write(path(folder).join("x.parquet"), "").unwrap();
                }
            },
            &[
                &format!("{FOLDER}/._extra.parquet: not listed in any manifest"),
                &format!("{FOLDER}/extra.parquet: not listed in any manifest"),
                "_defender/software_inventory/snapshots/notes: not listed in any manifest",
                "software_inventory/README: not listed in any manifest",
                "software_inventory/lost+found/x.parquet: not listed in any manifest",
                "software_inventory/snapshot_date=2020-01-01: no manifest describes it",
            ],
        );
    }

    #[test]
    fn clutter_and_empty_folders_are_no_damage() {
        check(
            |_, _, path| {
                let places = [
                    path("software_inventory"),
                    path(FOLDER),
                    path(FILE).parent().unwrap().to_path_buf(),
                    path("_defender/software_inventory/snapshots"),
                    path("_defender/software_inventory/staging"),
                ];
                for place in places {
                    for folder in ["lost+found", "@eaDir/part-0.parquet", "$RECYCLE.BIN", "empty", ".Trashes"]
                    {
                        fs::create_dir_all(place.join(folder)).unwrap();
                    }
                    for file in
                        [".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir/part-0.parquet/x.jpg"]
                    {
                        fs::write(place.join(file), "x").unwrap();
                    }
                    fs::write(place.join("x_$folder$"), "").unwrap();
                }
                fs::create_dir(path("software_inventory/snapshot_date=2020-01-01")).unwrap();
            },
            &[],
        );
    }

    #[test]
    fn disagreement_with_the_manifest_is_found() {
        let name = format!("{SNAPSHOT}/manifest.json");
        check(
            |_, manifest, _| manifest.totals.rows += 1,
            &[
                &format!("{name}: does not balance: totals are …"),
                &format!("{FOLDER}/_SUCCESS: summary: expected … {name}"),
            ],
        );
        check(
            |_, manifest, _| {
                manifest.files[1].rows += 1;
                manifest.parts[0].records += 1;
                manifest.totals.records += 1;
                manifest.totals.rows += 1;
                manifest.files[1].row_groups = 2;
            },
            &[
                &format!("{FOLDER}/_SUCCESS: summary: expected …"),
                &format!("{FILE}: rows: expected 2, found 1"),
                &format!("{FILE}: row groups: expected 2, found 1"),
            ],
        );
        check(
            |_, manifest, _| manifest.files[1].os_platform = None,
            &[&format!(
                "{FILE}: partition: expected snapshot_date=2021-01-11, no OSPlatform, \
                 found snapshot_date=2021-01-11, OSPlatform=\"a/b\""
            )],
        );
        check(
            |_, manifest, _| manifest.files[1].snapshot_date = NaiveDate::MIN,
            &[&format!("{FILE}: partition: expected …, found snapshot_date=2021-01-11, OSPlatform=\"a/b\"")],
        );
        check(
            |_, manifest, path| {
                let folder = path(SNAPSHOT).parent().unwrap().join("20210111T110000Z");
                fs::create_dir(&folder).unwrap();
                let mut older = manifest.clone();
                older.generated_time = snapshot_id("20210111T110000Z").generated_time();
                // Verified as the first one found: all it says of itself is wrong now.
                older.files.clear();
                older.parts.clear();
                older.totals = crate::manifest::Totals::default();
                fs::write(folder.join("manifest.json"), serde_json::to_vec(&older).unwrap()).unwrap();
            },
            &[
                &format!("{FOLDER}/_SUCCESS: summary: expected …"),
                &format!("{FOLDER}/OSPlatform=__HIVE…: not listed in any manifest"),
                &format!("{FILE}: not listed in any manifest"),
                "2021-01-11: more than one manifest: 20210111T110000Z, 20210111T120000Z",
            ],
        );
        check(
            |_, _, path| fs::write(path(SNAPSHOT).join("manifest.json"), "{").unwrap(),
            &[&format!("{name}: unreadable: EOF while parsing an object at line 1 column 1")],
        );
    }

    #[test]
    fn missing_or_wrong_companions_are_found() {
        let success = format!("{FOLDER}/_SUCCESS");
        let rejects = format!("{SNAPSHOT}/rejects.ndjson.gz");
        check(|_, _, path| fs::remove_file(path(&success)).unwrap(), &[&format!("{success}: missing")]);
        check(
            |_, _, path| fs::write(path(&success), "").unwrap(),
            &[&format!("{success}: unreadable: EOF while parsing a value at line 1 column 0")],
        );
        check(|_, _, path| fs::remove_file(path(&rejects)).unwrap(), &[&format!("{rejects}: missing")]);
        check(|_, _, path| fs::write(path(&rejects), "x").unwrap(), &[&format!("{rejects}: unreadable: …")]);
        check(
            |_, _, path| {
                let mut gzip = GzEncoder::new(File::create(path(&rejects)).unwrap(), Compression::fast());
                gzip.write_all(b"{}\n{}").unwrap();
                gzip.finish().unwrap();
            },
            &[&format!("{rejects}: lines: expected 5, found 2")],
        );
        check(
            |_, manifest, _| {
                manifest.parts[0].field_rejects = 0;
                manifest.totals.field_rejects = 0;
            },
            &[&format!("{rejects}: not listed in any manifest")],
        );
        check(
            |_, _, path| fs::remove_dir_all(path(FOLDER)).unwrap(),
            &[&format!("{FOLDER}: missing, but described by {SNAPSHOT}/manifest.json")],
        );
        check(
            |table, _, _| {
                let staging = table.staging_root().join("bbbbbbbb");
                fs::create_dir_all(&staging).unwrap();
                fs::write(staging.join("intent.json"), "{}").unwrap();
            },
            &["run bbbbbbbb: it is changing the table or was interrupted in that; \
               the next ingest finishes or undoes it"],
        );
    }

    #[test]
    fn files_of_a_snapshot_have_the_declared_columns() {
        let temp = temp_dir();
        let with_extra = |extra| batch(extra, &[("d", None)]);
        let platforms = |one, two| [(Some("a"), "OSPlatform=a", one), (Some("b"), "OSPlatform=b", two)];
        let (table, snapshot) =
            publish(temp.path(), "aaaaaaaa", &platforms(with_extra(true), with_extra(true)), 0);
        assert_eq!(verify(&table, &snapshot, &KEYS).findings, []);
        let (table, snapshot) =
            publish(temp.path(), "bbbbbbbb", &platforms(with_extra(true), with_extra(false)), 0);
        let texts = |findings: &[Finding]| findings.iter().map(Finding::to_string).collect::<Vec<_>>();
        let findings = texts(&verify(&table, &snapshot, &KEYS).findings);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].ends_with("schema: expected ExtraFields Utf8, found no column"), "{findings:?}");
        let without_key = with_extra(false).project(&[1, 2, 3]).unwrap();
        let (table, snapshot) =
            publish(temp.path(), "cccccccc", &platforms(without_key, with_extra(false)), 0);
        let report = verify(&table, &snapshot, &KEYS);
        assert!(texts(&report.findings)[0].contains("schema: expected DeviceId Utf8, required, found "));
        assert_eq!(report.duplicate_keys, None);
    }

    #[test]
    fn snapshot_replaced_meanwhile_is_not_called_damaged() {
        let temp = temp_dir();
        let (_, snapshot) = publish(temp.path(), "aaaaaaaa", &two_platforms(), 0);
        let (table, _) = publish(temp.path(), "bbbbbbbb", &two_platforms(), 0);
        let result = verify_snapshot(&table, &snapshot, &KEYS, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(result, Err(VerifyError::Replaced { .. })));
    }

    #[test]
    fn repeated_keys_are_counted_across_files_with_null_and_empty_apart() {
        let temp = temp_dir();
        let rows = |rows: &[Row]| batch(false, rows);
        let platforms = [
            (
                Some("a"),
                "OSPlatform=a",
                rows(&[("d", None), ("d", Some("")), ("d", Some("v")), ("dv", Some("")), ("d", Some("v"))]),
            ),
            (Some("b"), "OSPlatform=b", rows(&[("d", Some("v")), ("d", None), ("e", None)])),
        ];
        let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &platforms, 0);
        assert_eq!(verify(&table, &snapshot, &KEYS).duplicate_keys, Some(3));
        let no_keys = VerifyOptions::default();
        assert_eq!(verify(&table, &snapshot, &no_keys).duplicate_keys, None);
    }

    #[test]
    fn keys_are_counted_in_as_many_passes_as_memory_asks_for() {
        let temp = temp_dir();
        let names: Vec<&'static str> =
            (0..20_000).map(|index| &*format!("device {}", index % 15_000).leak()).collect();
        let rows: Vec<Row> = names.iter().map(|name| (*name, Some("v"))).collect();
        let distinct: HashSet<_> = names.iter().collect();
        let platforms = [(Some("a"), "OSPlatform=a", batch(false, &rows))];
        let (table, snapshot) = publish(temp.path(), "aaaaaaaa", &platforms, 0);
        for (key_memory_bytes, num_passes) in [(0, 5), (20_000 * 16, 2), (1 << 20, 1)] {
            assert_eq!(num_key_passes(20_000, key_memory_bytes), num_passes);
            let options = VerifyOptions { keys: true, key_memory_bytes };
            let report = verify(&table, &snapshot, &options);
            assert_eq!(report.duplicate_keys, Some((names.len() - distinct.len()) as u64));
        }
    }

    #[test]
    fn many_repetitions_of_one_key_stay_in_bounded_room() {
        let mut counter = DuplicateCounter::with_room_for(0);
        let room = counter.hashes.capacity();
        (0..10 * room).for_each(|index| counter.insert((index % 7) as u128));
        assert_eq!(counter.hashes.capacity(), room);
        counter.end_pass();
        assert_eq!(counter.num_duplicates, 10 * room as u64 - 7);
    }
}
