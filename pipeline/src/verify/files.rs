//! Checks of a snapshot's data files and rejects against the manifest and the dataset's declaration.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Fields};
use codec::partition;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schema::Dataset;
use sha2::{Digest, Sha256};

use super::error::VerifyError;
use super::finding::{Fact, Finding};
use super::verification::{BATCH_ROWS, Verification};
use crate::digest::hex;
use crate::lake;
use crate::manifest::DataFile;

/// Bytes read at a time.
const READ_BUFFER_BYTES: usize = 256 << 10;

impl Verification<'_> {
    pub(super) fn check_files(&mut self) -> Result<(), VerifyError> {
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
                    self.find_unreadable(&name, &error.reason());
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

    /// Checks size and hash; returns whether both match.
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

    /// Checks footer and schema, and decodes every value once. `fields` are the columns of the snapshot's first file,
    /// which the others must have too.
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

    /// Returns the declared columns, with or without the captured extra fields. Declarations grow by nullable columns
    /// only: an older snapshot may lack such columns, and a newer one may have more, which are those of its first file.
    fn expected_fields(&self, first_file: &Fields) -> Fields {
        let has_extra = first_file.find(schema::EXTRA_FIELDS.name).is_some();
        let declared = schema::arrow::file_schema(self.dataset(), has_extra).fields().clone();
        match self.snapshot.manifest.schema_version.cmp(&self.dataset().version) {
            Ordering::Equal => declared,
            Ordering::Less => {
                let is_there = |field: &&FieldRef| first_file.find(field.name()).is_some();
                declared.iter().filter(|field| !field.is_nullable() || is_there(field)).cloned().collect()
            }
            Ordering::Greater => {
                let known =
                    |field: &FieldRef| declared.find(field.name()).map(|(_, known)| Arc::clone(known));
                let newer = first_file.iter().filter_map(|field| {
                    known(field).or_else(|| field.is_nullable().then(|| Arc::clone(field)))
                });
                let lost = declared.iter().filter(|field| first_file.find(field.name()).is_none());
                newer.chain(lost.cloned()).collect()
            }
        }
    }

    pub(super) fn check_rejects(&mut self) -> Result<(), VerifyError> {
        let file = self.table.below_lake(&self.table.rejects_path(self.snapshot.id));
        let totals = &self.snapshot.manifest.totals;
        let expected = totals.rejected_records + totals.field_rejects;
        let opened = match self.table.open_rejects(self.snapshot.id) {
            Ok(opened) => opened,
            Err(error) => {
                self.find_unreadable(&file, &error.reason());
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
}

/// Returns the partition of a file by the manifest, and by its path.
fn partitions(dataset: &Dataset, file: &DataFile) -> (String, String) {
    let describe = |column: &str, value: Option<&str>| match value {
        Some(value) => format!("{column}={value:?}"),
        None => format!("no {column}"),
    };
    let mut expected = vec![lake::data_folder_name(file.snapshot_date)];
    if let Some(column) = dataset.partition_by {
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

/// Returns the first column that differs, as expected and as found.
fn first_difference(expected: &Fields, found: &Fields) -> Option<(String, String)> {
    let describe = |field: Option<&Field>| match field {
        None => "no column".to_owned(),
        Some(field) => {
            let required = if field.is_nullable() { "" } else { ", required" };
            let data_type = schema::arrow::without_field_ids(field.data_type());
            format!("{} {data_type}{required}", field.name())
        }
    };
    (0..expected.len().max(found.len()))
        .map(|index| {
            let field = |fields: &Fields| describe(fields.get(index).map(AsRef::as_ref));
            (field(expected), field(found))
        })
        .find(|(expected, found)| expected != found)
}
