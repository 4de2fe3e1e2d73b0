//! DDL that engines read a lake with: a view for DuckDB, a view for Spark.

use std::fmt::Write;

use crate::{Column, ColumnType, Dataset, EXTRA_FIELDS, Presence, StructMember};

/// Whether files of a lake have the column of undocumented fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraFields {
    /// No file has it.
    Absent,
    /// Some or all files have it.
    Present,
    /// Unknown: a view has the column, which is null if no file has it.
    Unknown,
}

impl ExtraFields {
    fn column(self) -> Option<&'static Column> {
        (self != Self::Absent).then_some(&EXTRA_FIELDS)
    }
}

/// An engine that reads lakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB.
    DuckDb,
    /// Spark SQL.
    Spark,
}

impl Engine {
    /// Returns its name of a column type.
    pub fn type_name(self, column_type: ColumnType) -> String {
        match self {
            Self::DuckDb => duckdb_type(column_type),
            Self::Spark => spark_type(column_type),
        }
    }

    /// Quotes text as its SQL has it.
    pub(crate) fn text(self, text: &str) -> String {
        match self {
            Self::DuckDb => sql_text(text),
            Self::Spark => spark_text(text),
        }
    }

    /// Returns the expression for the text at a path of the JSON text that `value` is; null if it is not JSON.
    pub(crate) fn json_text(self, value: &str, path: &str) -> String {
        match self {
            Self::DuckDb => {
                format!("CASE WHEN json_valid({value}) THEN json_extract_string({value}, '{path}') END")
            }
            Self::Spark => format!("get_json_object({value}, '{path}')"),
        }
    }
}

/// What is known of the columns that files of a lake have.
#[derive(Debug, Clone)]
pub struct FileColumns {
    /// Whether they have the column of undocumented fields.
    pub extra_fields: ExtraFields,
    /// Declared columns that perhaps no file has, since all of them are older: a view has them, null.
    pub doubtful: Vec<&'static Column>,
}

impl FileColumns {
    /// The declared columns, and no undocumented fields.
    pub const DECLARED: Self = Self { extra_fields: ExtraFields::Absent, doubtful: Vec::new() };

    /// Nothing is known, except that the files were written by this declaration or an older one.
    pub fn unknown(dataset: &Dataset) -> Self {
        let is_doubtful = |column: &&Column| dataset.version > 1 && column.presence == Presence::Optional;
        Self {
            extra_fields: ExtraFields::Unknown,
            doubtful: dataset.file_columns().filter(is_doubtful).collect(),
        }
    }

    /// Columns that a view adds to those of the files, null.
    fn added(&self) -> impl Iterator<Item = &'static Column> {
        let extra = (self.extra_fields == ExtraFields::Unknown).then_some(&EXTRA_FIELDS);
        self.doubtful.iter().copied().chain(extra)
    }
}

/// Returns the DuckDB type of a column type.
pub fn duckdb_type(column_type: ColumnType) -> String {
    let name = match column_type {
        ColumnType::Utf8 | ColumnType::Json => "VARCHAR",
        ColumnType::Int32 => "INTEGER",
        ColumnType::Int64 => "BIGINT",
        ColumnType::Float64 => "DOUBLE",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Date32 => "DATE",
        ColumnType::TimestampMicros => "TIMESTAMP WITH TIME ZONE",
        ColumnType::Utf8List => "VARCHAR[]",
        ColumnType::StructList(members) => {
            return format!("STRUCT({})[]", struct_members(members, " ", duckdb_type));
        }
    };
    name.to_owned()
}

/// Returns the Spark SQL type of a column type.
pub fn spark_type(column_type: ColumnType) -> String {
    let name = match column_type {
        ColumnType::Utf8 | ColumnType::Json => "STRING",
        ColumnType::Int32 => "INT",
        ColumnType::Int64 => "BIGINT",
        ColumnType::Float64 => "DOUBLE",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Date32 => "DATE",
        ColumnType::TimestampMicros => "TIMESTAMP",
        ColumnType::Utf8List => "ARRAY<STRING>",
        ColumnType::StructList(members) => {
            return format!("ARRAY<STRUCT<{}>>", struct_members(members, ": ", spark_type));
        }
    };
    name.to_owned()
}

fn struct_members(members: &[StructMember], separator: &str, type_name: fn(ColumnType) -> String) -> String {
    let member =
        |member: &StructMember| format!("{}{separator}{}", member.name, type_name(member.column_type));
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

/// Returns a DuckDB statement that creates a view over the table in `lake`, with the partition
/// columns' types given: left to itself DuckDB guesses them from the directory names. Files may lack columns.
/// Returns `None` if DuckDB cannot read a lake at that path.
pub fn duckdb(dataset: &Dataset, lake: &str, files: &FileColumns) -> Option<String> {
    let name = dataset.name;
    let glob = duckdb_glob(lake, &data_files_pattern(dataset))?;
    let mut sql = format!("CREATE OR REPLACE VIEW {name} AS\nSELECT\n");
    let extra_fields = files.extra_fields.column();
    let columns: Vec<&Column> =
        dataset.file_columns().chain(extra_fields).chain(dataset.partition_columns()).collect();
    for (index, column) in columns.iter().enumerate() {
        let comma = if index + 1 < columns.len() { "," } else { "" };
        let _ = writeln!(
            sql,
            "    {}::{} AS {}{comma}",
            column.name,
            duckdb_type(column.column_type),
            column.name
        );
    }
    let null = |column: &Column| format!("NULL::{} AS {}", duckdb_type(column.column_type), column.name);
    let added: Vec<String> = files.added().map(null).collect();
    let files = format!(
        "read_parquet({glob}, union_by_name = true, hive_partitioning = true, hive_types = {})",
        duckdb_hive_types(dataset)
    );
    // Only if it must be: a scan behind a union is slower if it returns many rows.
    let _ = if added.is_empty() {
        writeln!(sql, "FROM {files};")
    } else {
        writeln!(sql, "FROM (FROM {files} UNION ALL BY NAME SELECT {} WHERE false);", added.join(", "))
    };
    let _ = writeln!(
        sql,
        "COMMENT ON VIEW {name} IS {};",
        sql_text(&format!("{} [{}]", dataset.doc, dataset.source))
    );
    for column in columns {
        let _ = writeln!(sql, "COMMENT ON COLUMN {name}.{} IS {};", column.name, sql_text(column.doc));
    }
    Some(sql)
}

/// Returns a Spark SQL statement that creates a view over the table in `lake`, with every type given.
/// Columns that no file has are null in it.
///
/// A view over the files and not a table of the catalog: it sees each new snapshot without `MSCK
/// REPAIR TABLE`, and Spark's catalog has only one partition for null and for a platform whose text
/// is the null partition's name, and drops the rows of one of them.
pub fn spark(dataset: &Dataset, lake: &str, extra_fields: ExtraFields) -> String {
    let name = dataset.name;
    let columns: Vec<String> = spark_columns_of(dataset, extra_fields)
        .map(|column| {
            let not_null = if column.presence == Presence::Required { " NOT NULL" } else { "" };
            format!("  {}", spark_column(column, not_null))
        })
        .collect();
    format!(
        "CREATE OR REPLACE TEMPORARY VIEW {name} (\n{}\n)\nUSING PARQUET\nOPTIONS (path {});\n",
        columns.join(",\n"),
        spark_text(&spark_path(&format!("{lake}/{name}"))),
    )
}

/// Returns a table's columns as the schema of a Spark `DataFrame`, partition columns last. All can be null, as in whatever
/// Spark reads from files.
pub fn spark_columns(dataset: &Dataset, extra_fields: ExtraFields) -> String {
    let columns = spark_columns_of(dataset, extra_fields).map(|column| spark_column(column, ""));
    columns.collect::<Vec<_>>().join(", ")
}

fn spark_columns_of(dataset: &Dataset, extra_fields: ExtraFields) -> impl Iterator<Item = &'static Column> {
    dataset.file_columns().chain(extra_fields.column()).chain(dataset.partition_columns())
}

fn spark_column(column: &Column, not_null: &str) -> String {
    let column_type = spark_type(column.column_type);
    format!("{} {column_type}{not_null} COMMENT {}", column.name, spark_text(column.doc))
}

/// Returns a statement that creates a view without rows, with the columns of the table: for a lake that lacks it, so that
/// views over several tables can be created.
pub fn without_rows(dataset: &Dataset, engine: Engine) -> String {
    let name = dataset.name;
    let columns: Vec<_> = dataset
        .file_columns()
        .chain([&EXTRA_FIELDS])
        .chain(dataset.partition_columns())
        .map(|column| {
            format!("    CAST(NULL AS {}) AS {}", engine.type_name(column.column_type), column.name)
        })
        .collect();
    let temporary = if engine == Engine::Spark { "TEMPORARY " } else { "" };
    format!(
        "-- The lake has no snapshot of {name}.\nCREATE OR REPLACE {temporary}VIEW {name} AS\nSELECT\n{}\nWHERE false;\n",
        columns.join(",\n")
    )
}

/// Returns the pattern that finds a table's data files below its lake: a level for each partition column.
pub fn data_files_pattern(dataset: &Dataset) -> String {
    format!("/{}{}/*.parquet", dataset.name, "/*".repeat(dataset.partition_columns().count()))
}

/// Returns the types of a table's partition columns as DuckDB's `hive_types` takes them.
pub fn duckdb_hive_types(dataset: &Dataset) -> String {
    let hive_type = |column: &Column| format!("'{}': {}", column.name, duckdb_type(column.column_type));
    format!("{{{}}}", dataset.partition_columns().map(hive_type).collect::<Vec<_>>().join(", "))
}

/// Returns a DuckDB expression for the files that `pattern` matches below the folder `path`, which is escaped.
/// Returns `None` if it has a backslash: DuckDB takes that for a slash.
pub fn duckdb_glob(path: &str, pattern: &str) -> Option<String> {
    let mut glob = String::new();
    for c in path.chars() {
        match c {
            '\\' => return None,
            '[' | '*' | '?' => glob.extend(['[', c, ']']),
            _ => glob.push(c),
        }
    }
    Some(duckdb_text(&(glob + pattern)))
}

/// Returns a DuckDB expression whose value is `text`, made of printable characters.
pub fn duckdb_text(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut quoted = String::new();
    for c in text.chars() {
        if is_shown(c) {
            quoted.push(c);
        } else {
            parts.extend((!quoted.is_empty()).then(|| sql_text(&std::mem::take(&mut quoted))));
            parts.push(format!("chr({})", u32::from(c)));
        }
    }
    if !quoted.is_empty() || parts.is_empty() {
        parts.push(sql_text(&quoted));
    }
    parts.join(" || ")
}

/// Whether a character is written as it is; others may be control characters for a terminal.
fn is_shown(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric()
}

/// Escapes the pattern characters of Spark's paths.
fn spark_path(path: &str) -> String {
    let mut escaped = String::new();
    for c in path.chars() {
        if "{}[]*?\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Quotes text as a standard SQL string.
fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Quotes text as a Spark SQL string, where a backslash escapes.
fn spark_text(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            _ if is_shown(c) || u32::from(c) > 0xffff => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_have_undocumented_fields_if_the_lake_has() {
        let dataset = crate::DATASETS[0];
        for (extra_fields, is_there) in
            [(ExtraFields::Absent, false), (ExtraFields::Present, true), (ExtraFields::Unknown, true)]
        {
            let files = FileColumns { extra_fields, doubtful: Vec::new() };
            let duckdb = duckdb(dataset, "lake", &files).unwrap();
            assert_eq!(duckdb.contains("ExtraFields::VARCHAR AS ExtraFields"), is_there, "{duckdb}");
            assert_eq!(duckdb.contains("UNION ALL BY NAME"), extra_fields == ExtraFields::Unknown);
            assert!(duckdb.contains("union_by_name = true"));
            assert_eq!(spark(dataset, "lake", extra_fields).contains("ExtraFields STRING"), is_there);
        }
    }

    #[test]
    fn view_has_columns_that_perhaps_no_file_has() {
        let dataset = crate::DATASETS[0];
        let doubtful: Vec<_> =
            ["NumberOfWeaknesses", "DiskPaths"].into_iter().filter_map(|name| dataset.column(name)).collect();
        let files = FileColumns { doubtful, ..FileColumns::DECLARED };
        let sql = duckdb(dataset, "lake", &files).unwrap();
        let added = " UNION ALL BY NAME SELECT NULL::INTEGER AS NumberOfWeaknesses, NULL::VARCHAR[] AS DiskPaths WHERE false);";
        assert!(sql.contains(added), "{sql}");
        let unknown = duckdb(dataset, "lake", &FileColumns::unknown(dataset)).unwrap();
        assert!(unknown.contains("NULL::VARCHAR AS ExtraFields WHERE false);"), "{unknown}");
        assert!(!unknown.contains(" AS DeviceId WHERE") && !unknown.contains("NULL::VARCHAR AS DeviceId,"));
    }

    #[test]
    fn text_is_quoted_for_its_engine() {
        assert_eq!(sql_text(r"a'b\c"), r"'a''b\c'");
        assert_eq!(spark_text(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(duckdb_text("a'b\u{1b}\u{202e}c é"), "'a''b' || chr(27) || chr(8238) || 'c é'");
        assert_eq!(duckdb_text(""), "''");
        assert_eq!(spark_text("a\u{1b}b\u{202e}é"), r"'a\u001bb\u202eé'");
    }

    #[test]
    fn paths_mean_themselves_in_patterns() {
        assert_eq!(duckdb_glob("l[1]*?", "/*/*.parquet").unwrap(), "'l[[]1][*][?]/*/*.parquet'");
        assert_eq!(duckdb_glob(r"a\b", "/*"), None);
        assert_eq!(spark_path(r"l[1]{a,b}*?\"), r"l\[1\]\{a,b\}\*\?\\");
    }
}
