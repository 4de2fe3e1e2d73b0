//! The files of a table, for engines that are given files instead of folders: takes a lake and a dataset, returns what manifests
//! list. Reads manifests and footers, and no rows.

use chrono::NaiveDate;
use schema::ddl::spark_columns;

use super::command_error::{CommandError, CommandResult};
use super::table_options::{find_dataset, open_lake};
use crate::ddl::file_columns;
use crate::exit_code::ExitCode;
use crate::report::reader_path;

/// What an engine needs to read a table.
#[derive(Debug)]
pub struct TableFiles {
    /// The columns, as Spark's DDL has them.
    pub columns: String,
    /// The URL of the table's folder.
    pub root: String,
    /// Paths below it of the files of the published snapshots.
    pub files: Vec<String>,
}

/// Returns the files of a dataset's published snapshots, or of the snapshot of `date`.
///
/// # Errors
///
/// The lake cannot be opened, a manifest is damaged, the dataset is unknown, or there is no snapshot of `date`.
pub fn table_files(lake: &str, dataset: &str, date: Option<NaiveDate>) -> CommandResult<TableFiles> {
    let dataset = find_dataset(Some(dataset))?;
    let table = open_lake(Some(lake))?.table(dataset);
    let mut snapshots = table.snapshots()?;
    // A crash may leave the snapshot of a date beside its successor.
    snapshots.reverse();
    snapshots.dedup_by_key(|snapshot| snapshot.id.date());
    snapshots.reverse();
    if let Some(date) = date {
        snapshots.retain(|snapshot| snapshot.id.date() == date);
        if snapshots.is_empty() {
            let error = anyhow::anyhow!("no snapshot of {} of {date}", dataset.name);
            let hint = format!("see `defender-lake snapshots --dataset {}`", dataset.cli_name());
            return Err(CommandError::new(ExitCode::Usage, error).with_hint(hint));
        }
    }
    let lake = reader_path(lake);
    let lake = if table.place().is_on_disk() {
        let path = std::path::absolute(&lake)
            .map_err(|error| CommandError::new(ExitCode::Usage, anyhow::Error::new(error)))?;
        format!("file://{}", path.display())
    } else {
        lake
    };
    let files = snapshots.into_iter().flat_map(|snapshot| snapshot.manifest.files).map(|file| file.path);
    Ok(TableFiles {
        columns: spark_columns(dataset, file_columns(&table).extra_fields),
        root: format!("{lake}/{}", dataset.name),
        files: files.collect(),
    })
}
