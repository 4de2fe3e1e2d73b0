//! Finds out which tables SQL names, and which columns the files of a lake have, for DDL: snapshots differ in the version
//! of the declaration that they were written by, and in whether undocumented fields were captured.
//!
//! Takes SQL or a table, which need not exist; never fails: a file that cannot be read counts as one without columns.

use std::collections::BTreeSet;

use parquet::file::metadata::ParquetMetaDataReader;
use schema::ddl::{ExtraFields, FileColumns};
use schema::{Dataset, EXTRA_FIELDS};

use crate::lake::Table;
use crate::manifest::DataFile;

/// Returns the datasets whose tables `sql` may name: those whose name is a word of it, in any case.
pub fn datasets_named_in(sql: &str) -> impl Iterator<Item = &'static Dataset> {
    let words = move || sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_named = move |dataset: &&Dataset| words().any(|word| word.eq_ignore_ascii_case(dataset.name));
    schema::DATASETS.iter().copied().filter(is_named)
}

/// Returns what is known of the columns of a table's files; nothing if they are in a store.
pub fn file_columns(table: &Table) -> FileColumns {
    let dataset = table.dataset();
    if !table.place().is_on_disk() {
        return FileColumns::unknown(dataset);
    }
    // All files of a snapshot have the same columns.
    let snapshots = table.try_snapshots().unwrap_or_default();
    let files = snapshots.iter().rev().flatten().filter_map(|snapshot| snapshot.manifest.files.first());
    let mut found = BTreeSet::new();
    let mut num_read = 0;
    for file in files {
        found.extend(column_names(table, file));
        num_read += 1;
        if dataset.file_columns().chain([&EXTRA_FIELDS]).all(|column| found.contains(column.name)) {
            break;
        }
    }
    let is_doubtful = |column: &&schema::Column| num_read > 0 && !found.contains(column.name);
    FileColumns {
        extra_fields: if found.contains(EXTRA_FIELDS.name) {
            ExtraFields::Present
        } else {
            ExtraFields::Absent
        },
        doubtful: dataset.file_columns().filter(is_doubtful).collect(),
    }
}

fn column_names(table: &Table, file: &DataFile) -> Vec<String> {
    let Ok(opened) = table.open_data_file(&file.path) else { return Vec::new() };
    let Ok(footer) = ParquetMetaDataReader::new().parse_and_finish(&opened) else { return Vec::new() };
    let columns = footer.file_metadata().schema_descr().root_schema().get_fields().iter();
    columns.map(|column| column.name().to_owned()).collect()
}
