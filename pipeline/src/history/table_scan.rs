//! Scans a table of the lake with Polars: the files of given snapshots, with partition columns.

use codec::partition::NULL_PARTITION;
use polars::prelude::*;
use schema::ColumnType;

use super::HistoryError;
use super::rows::has_column;
use crate::lake::{PublishedSnapshot, Table};
use crate::manifest::DataFile;

/// Returns the rows of `snapshots`. Conditions on `snapshot_date` or a partition column prune files.
///
/// # Errors
///
/// A file that cannot be read.
pub fn scan(table: &Table, snapshots: &[PublishedSnapshot]) -> Result<LazyFrame, HistoryError> {
    let dataset = table.dataset();
    let captured = snapshots.iter().filter_map(|snapshot| {
        let file = snapshot.manifest.files.first()?;
        Some(has_column(table, file, schema::EXTRA_FIELDS.name))
    });
    let has_extra_fields = captured.collect::<Result<Vec<_>, _>>()?.contains(&true);
    let in_files = dataset.file_columns().chain(has_extra_fields.then_some(&schema::EXTRA_FIELDS));
    let in_files: Schema = in_files.map(field).collect::<Result<_, _>>()?;
    let in_paths: Schema = dataset.partition_columns().map(field).collect::<Result<_, _>>()?;
    let names: Vec<_> = in_files.iter_names().chain(in_paths.iter_names()).cloned().map(col).collect();

    // Polars reads a platform of this name as null; the manifest has the value.
    let is_marker = |file: &&DataFile| file.os_platform.as_deref() == Some(NULL_PARTITION);
    let files = || snapshots.iter().flat_map(|snapshot| &snapshot.manifest.files);
    let root = table.root();
    let path = |file: &DataFile| PlRefPath::new(root.join(&file.path).to_string_lossy().as_ref());
    // A folder above the table may look like a partition; Polars needs its name too.
    let above = root.components().filter_map(|folder| folder.as_os_str().to_str()?.split_once('='));
    let mut in_whole_paths: Schema = above.map(|(key, _)| Field::new(key.into(), DataType::String)).collect();
    in_whole_paths.extend(in_paths.iter_fields());
    let in_whole_paths = Arc::new(in_whole_paths);
    let scan_files = |files: Vec<PlRefPath>| {
        let hive_options = HiveOptions {
            enabled: Some(true),
            schema: Some(Arc::clone(&in_whole_paths)),
            try_parse_dates: true,
            ..HiveOptions::default()
        };
        let args = ScanArgsParquet {
            hive_options,
            glob: false,
            schema: Some(Arc::new(in_files.clone())),
            allow_missing_columns: true,
            ..ScanArgsParquet::default()
        };
        LazyFrame::scan_parquet_files(files.into_iter().collect(), args)
    };
    let marked: Vec<_> = files().filter(is_marker).map(path).collect();
    let others: Vec<_> = files().filter(|file| !is_marker(file)).map(path).collect();
    let mut frames = Vec::new();
    if !others.is_empty() {
        frames.push(scan_files(others)?.select(names.clone()));
    }
    if !marked.is_empty() {
        let partition = dataset.partition_by.map(|column| lit(NULL_PARTITION).alias(column));
        let rows = scan_files(marked)?.with_columns(partition.into_iter().collect::<Vec<_>>());
        frames.push(rows.select(names.clone()));
    }
    if frames.is_empty() {
        let mut all = in_files.clone();
        all.extend(in_paths.iter_fields());
        return Ok(DataFrame::empty_with_schema(&all).lazy());
    }
    Ok(concat(frames, UnionArgs::default())?)
}

fn field(column: &schema::Column) -> Result<Field, HistoryError> {
    let data_type = match column.column_type {
        ColumnType::Utf8 | ColumnType::Json => DataType::String,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date32 => DataType::Date,
        ColumnType::TimestampMicros => DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
        ColumnType::Utf8List => DataType::List(Box::new(DataType::String)),
        // Polars has its type of structs behind a cargo feature, which comes with the first such column.
        ColumnType::StructList(_) => return Err(HistoryError::UnsupportedColumn { column: column.name }),
    };
    Ok(Field::new(column.name.into(), data_type))
}

#[cfg(test)]
mod tests {
    use schema::Column;

    use super::*;

    #[test]
    fn list_of_structs_is_named_as_unsupported() {
        let column =
            Column { name: "Items", column_type: ColumnType::StructList(&[]), ..schema::EXTRA_FIELDS };
        let error = field(&column).unwrap_err();
        assert_eq!(error.to_string(), "query does not support lists of structs, as in column Items");
    }
}
