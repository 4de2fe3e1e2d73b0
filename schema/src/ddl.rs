//! DDL that engines read a lake with: a view for DuckDB, a view for Spark.

use std::fmt::Write;

use crate::{Column, ColumnType, Dataset, Presence};

/// Returns the DuckDB type of a column type.
pub fn duckdb_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Utf8 => "VARCHAR",
        ColumnType::Int32 => "INTEGER",
        ColumnType::Utf8List => "VARCHAR[]",
        ColumnType::TimestampMicros => "TIMESTAMP WITH TIME ZONE",
        ColumnType::Date32 => "DATE",
    }
}

/// Returns the Spark SQL type of a column type.
pub fn spark_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Utf8 => "STRING",
        ColumnType::Int32 => "INT",
        ColumnType::Utf8List => "ARRAY<STRING>",
        ColumnType::TimestampMicros => "TIMESTAMP",
        ColumnType::Date32 => "DATE",
    }
}

/// Returns a DuckDB statement that creates a view over the table in `lake`, with the partition
/// columns' types given: left to itself DuckDB guesses them from the directory names.
pub fn duckdb(dataset: &Dataset, lake: &str) -> String {
    let name = dataset.name;
    let hive_types: Vec<String> = dataset
        .partition_columns()
        .map(|column| format!("'{}': {}", column.name, duckdb_type(column.column_type)))
        .collect();
    let glob = sql_text(&format!("{lake}/{name}/*/*/*.parquet"));
    let mut sql = format!("CREATE OR REPLACE VIEW {name} AS\nSELECT\n");
    let columns: Vec<&Column> = dataset.file_columns().chain(dataset.partition_columns()).collect();
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
    let _ = write!(
        sql,
        "FROM read_parquet({glob}, hive_partitioning = true, hive_types = {{{}}});\n\
         COMMENT ON VIEW {name} IS {};\n",
        hive_types.join(", "),
        sql_text(dataset.doc),
    );
    for column in columns {
        let _ =
            writeln!(sql, "COMMENT ON COLUMN {name}.{} IS {};", column.name, sql_text(&column.doc_line()));
    }
    sql
}

/// Returns a Spark SQL statement that creates a view over the table in `lake`, with every type given.
///
/// A view over the files and not a table of the catalog: it sees each new snapshot without `MSCK
/// REPAIR TABLE`, and Spark's catalog has only one partition for null and for a platform whose text
/// is the null partition's name, and drops the rows of one of them.
pub fn spark(dataset: &Dataset, lake: &str) -> String {
    let name = dataset.name;
    let columns: Vec<String> = dataset
        .file_columns()
        .chain(dataset.partition_columns())
        .map(|column| {
            let not_null = match column.presence {
                Presence::Required => " NOT NULL",
                Presence::Optional => "",
            };
            format!(
                "  {} {}{not_null} COMMENT {}",
                column.name,
                spark_type(column.column_type),
                spark_text(&column.doc_line())
            )
        })
        .collect();
    format!(
        "CREATE OR REPLACE TEMPORARY VIEW {name} (\n{}\n)\nUSING PARQUET\nOPTIONS (path {});\n",
        columns.join(",\n"),
        spark_text(&format!("{lake}/{name}")),
    )
}

/// Quotes text as a standard SQL string.
fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Quotes text as a Spark SQL string, where a backslash escapes.
fn spark_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_for_its_engine() {
        assert_eq!(sql_text(r"a'b\c"), r"'a''b\c'");
        assert_eq!(spark_text(r"a'b\c"), r"'a\'b\\c'");
    }
}
