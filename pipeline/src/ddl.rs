//! Finds out which tables SQL names, and whether a lake's files have the optional column of undocumented fields, for DDL.
//!
//! Takes SQL or a table, which need not exist; never fails: a file that cannot be read counts as one without it.

use parquet::file::metadata::ParquetMetaDataReader;
use schema::ddl::ExtraFields;
use schema::{Dataset, EXTRA_FIELDS};

use crate::lake::Table;
use crate::manifest::DataFile;

/// Returns the datasets whose tables `sql` may name: those whose name is a word of it, in any case.
pub fn datasets_named_in(sql: &str) -> impl Iterator<Item = &'static Dataset> {
    let words = move || sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_named = move |dataset: &&Dataset| words().any(|word| word.eq_ignore_ascii_case(dataset.name));
    schema::DATASETS.iter().copied().filter(is_named)
}

/// Returns whether files of a table have the column of undocumented fields; unknown in a store.
pub fn extra_fields(table: &Table) -> ExtraFields {
    if !table.place().is_on_disk() {
        return ExtraFields::Unknown;
    }
    // All files of a snapshot have the same columns.
    let snapshots = table.try_snapshots().unwrap_or_default();
    let mut files = snapshots.iter().rev().flatten().filter_map(|snapshot| snapshot.manifest.files.first());
    if files.any(|file| has_extra_fields(table, file)) { ExtraFields::Present } else { ExtraFields::Absent }
}

fn has_extra_fields(table: &Table, file: &DataFile) -> bool {
    let Ok(opened) = table.open_data_file(&file.path) else { return false };
    let Ok(footer) = ParquetMetaDataReader::new().parse_and_finish(&opened) else { return false };
    let columns = footer.file_metadata().schema_descr();
    columns.columns().iter().any(|column| column.name() == EXTRA_FIELDS.name)
}
