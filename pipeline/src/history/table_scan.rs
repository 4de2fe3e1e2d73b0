//! Scans a table of the lake with Polars: the files of given snapshots, with partition columns.
//!
//! Takes published snapshots, gives a frame that reads nothing yet, and of a plan over such frames the files that it
//! reads. Conditions on partition columns prune files; Polars decides which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use codec::partition::NULL_PARTITION;
use polars::prelude::*;
use polars_plan::dsl::{DslPlan, ExtraColumnsPolicy};
use polars_plan::plans::{IR, IRPlan};
use polars_plan::utils::aexpr_to_leaf_names_iter;
use schema::ColumnType;

use super::HistoryError;
use super::local_copies::{Columns, LocalCopies};
use super::rows::has_column;
use crate::cancel::Cancel;
use crate::lake::{PublishedSnapshot, Table};
use crate::manifest::DataFile;

/// Returns the rows of `snapshots`, without columns that are not supported. Conditions on `snapshot_date` or a partition column prune files. If the lake is in
/// a store, its files are read from `copies`, which must have fetched them by then.
///
/// # Errors
///
/// A file that cannot be read, or an interruption.
pub fn scan(
    table: &Table,
    snapshots: &[PublishedSnapshot],
    mut copies: Option<&mut LocalCopies>,
    cancel: &Cancel,
) -> Result<LazyFrame, HistoryError> {
    let dataset = table.dataset();
    let root = copies.as_ref().map_or_else(|| table.root(), |copies| copies.root(table));
    // All files of a snapshot have the same columns.
    let first_files = || snapshots.iter().filter_map(|snapshot| snapshot.manifest.files.first());
    let extra_fields = schema::EXTRA_FIELDS.name;
    let has_extra_fields = if let Some(copies) = &mut copies {
        copies.add(table, snapshots.iter().flat_map(|snapshot| &snapshot.manifest.files))?;
        let paths: Vec<_> = first_files().map(|file| root.join(&file.path)).collect();
        copies.any_has_column(&paths, extra_fields, cancel)?
    } else {
        let captured = first_files().map(|file| has_column(table, file, extra_fields));
        captured.collect::<Result<Vec<_>, _>>()?.contains(&true)
    };
    let in_files = dataset.file_columns().chain(has_extra_fields.then_some(&schema::EXTRA_FIELDS));
    let in_files: Schema = in_files.filter_map(field).collect();
    let in_paths: Schema = dataset.partition_columns().filter_map(field).collect();
    let names: Vec<_> = in_files.iter_names().chain(in_paths.iter_names()).cloned().map(col).collect();

    // Polars reads a platform of this name as null; the manifest has the value.
    let is_marker = |file: &&DataFile| file.os_platform.as_deref() == Some(NULL_PARTITION);
    let files = || snapshots.iter().flat_map(|snapshot| &snapshot.manifest.files);
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
        let mut frame = LazyFrame::scan_parquet_files(files.into_iter().collect(), args)?;
        // A newer version of this program may have written columns that this one does not know.
        if let DslPlan::Scan { unified_scan_args, .. } = &mut frame.logical_plan {
            unified_scan_args.extra_columns_policy = ExtraColumnsPolicy::Ignore;
        }
        PolarsResult::Ok(frame)
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

/// Returns the files that an optimised plan reads, with the columns that it reads of each; partition columns may be
/// among them.
pub fn scanned_files(plan: &IRPlan) -> BTreeMap<PathBuf, Columns> {
    let mut files = BTreeMap::<PathBuf, Columns>::new();
    let mut nodes = vec![plan.lp_top];
    while let Some(node) = nodes.pop() {
        let node = plan.lp_arena.get(node);
        nodes.extend(node.inputs());
        let IR::Scan { sources, predicate, unified_scan_args, .. } = node else { continue };
        let mut columns = unified_scan_args
            .projection
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
        if let (Some(columns), Some(predicate)) = (&mut columns, predicate) {
            let names = aexpr_to_leaf_names_iter(predicate.node(), &plan.expr_arena);
            columns.extend(names.map(ToString::to_string));
        }
        for path in sources.as_paths().unwrap_or_default() {
            let of_file = files.entry(path.as_std_path().to_path_buf()).or_insert(Some(BTreeSet::new()));
            *of_file = match (of_file.take(), &columns) {
                (Some(names), Some(more)) => Some(names.into_iter().chain(more.iter().cloned()).collect()),
                _ => None,
            };
        }
    }
    files
}

/// Whether the engine has the type of a column.
pub fn is_supported(column: &schema::Column) -> bool {
    field(column).is_some()
}

fn field(column: &schema::Column) -> Option<Field> {
    let data_type = match column.column_type {
        ColumnType::Utf8 | ColumnType::Json => DataType::String,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date32 => DataType::Date,
        ColumnType::TimestampMicros => DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)),
        ColumnType::Utf8List => DataType::List(Box::new(DataType::String)),
        // Polars has its type of structs behind a cargo feature, and one column of one table is of that type.
        ColumnType::StructList(_) => return None,
    };
    Some(Field::new(column.name.into(), data_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_says_which_columns_it_reads_of_which_files() {
        let file_schema = [("a", DataType::Int32), ("b", DataType::Int32), ("c", DataType::Int32)];
        let file_schema: Schema =
            file_schema.into_iter().map(|(name, data_type)| Field::new(name.into(), data_type)).collect();
        let hive_schema: Schema = [Field::new("day".into(), DataType::Date)].into_iter().collect();
        let args = ScanArgsParquet {
            hive_options: HiveOptions {
                enabled: Some(true),
                schema: Some(Arc::new(hive_schema)),
                try_parse_dates: true,
                ..HiveOptions::default()
            },
            glob: false,
            schema: Some(Arc::new(file_schema)),
            ..ScanArgsParquet::default()
        };
        let paths =
            [1, 2].map(|day| PlRefPath::new(format!("/nowhere/day=2021-01-0{day}/x.parquet").as_str()));
        let rows = LazyFrame::scan_parquet_files(paths.into_iter().collect(), args).unwrap();
        let check = |sql: &str, expected: [Option<&str>; 2]| {
            let mut context = polars::sql::SQLContext::new();
            context.register("t", rows.clone());
            let plan = context.execute(sql).unwrap().to_alp_optimized().unwrap();
            let files = scanned_files(&plan);
            let found = [1, 2].map(|day| {
                let columns = files.get(&PathBuf::from(format!("/nowhere/day=2021-01-0{day}/x.parquet")))?;
                // Conditions name partition columns too, which no file has.
                let in_file = |name: &&String| *name != "day";
                let columns =
                    columns.as_ref().map(|columns| columns.iter().filter(in_file).cloned().collect());
                Some(columns.unwrap_or_else(|| "all".to_owned()))
            });
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{sql}");
        };
        check("SELECT * FROM t", [Some("all"), Some("all")]);
        check("SELECT a FROM t WHERE day = DATE '2021-01-02'", [None, Some("a")]);
        check("SELECT a FROM t WHERE b = 1 AND day < DATE '2021-01-02'", [Some("ab"), None]);
        check(
            "SELECT o.a, n.b FROM t o JOIN t n ON o.c = n.c WHERE o.day = DATE '2021-01-01' AND n.day = DATE '2021-01-02'",
            [Some("ac"), Some("bc")],
        );
        check("SELECT a FROM t WHERE day IN (SELECT max(day) FROM t)", [Some("a"), Some("a")]);
        check("SELECT 1 AS one", [None, None]);
        check("SELECT * FROM t WHERE day = DATE '2020-01-01'", [None, None]);
    }
}
