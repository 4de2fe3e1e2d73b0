//! `schema`: prints the schema of a dataset, or the DDL of views over it and over all tables.

use clap::ValueEnum;
use schema::ddl::{Engine, FileColumns};

use super::command_error::{CommandError, CommandResult};
use super::output::print;
use super::table_options::{find_dataset, lake_or_default};
use crate::ddl;
use crate::display::TextTable;
use crate::exit_code::ExitCode;
use crate::lake::{Lake, Table, check_location};
use crate::report::reader_path;

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct SchemaOptions {
    /// Select the dataset; without it, list all datasets, or print the DDL of all tables and of views over them
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Use this lake in the DDL: a path or URL [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Set the output format
    #[arg(long, value_enum, default_value_t)]
    format: SchemaFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SchemaFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
    /// DDL of DuckDB views over the lake
    Duckdb,
    /// DDL of Spark SQL views over the lake
    Spark,
}

pub(super) fn run(options: &SchemaOptions) -> CommandResult {
    let dataset = find_dataset(options.dataset.as_deref())?;
    let lake = lake_or_default(options.lake.as_deref());
    // A lake that does not exist yet has a schema too.
    let file_columns = || {
        Lake::open(&lake)
            .map_or_else(|_| FileColumns::unknown(dataset), |lake| ddl::file_columns(&lake.table(dataset)))
    };
    let is_list = options.dataset.is_none();
    let text = match options.format {
        SchemaFormat::Duckdb if is_list => all_statements(&lake, Engine::DuckDb)?,
        SchemaFormat::Spark if is_list => all_statements(&lake, Engine::Spark)?,
        SchemaFormat::Table if is_list => dataset_table(),
        SchemaFormat::Json if is_list => {
            let datasets: Vec<_> = schema::DATASETS.iter().map(|dataset| schema_json(dataset)).collect();
            format!("{:#}\n", serde_json::Value::Array(datasets))
        }
        SchemaFormat::Duckdb => table_statement(dataset, &lake, Engine::DuckDb, &file_columns())?,
        SchemaFormat::Spark => table_statement(dataset, &lake, Engine::Spark, &file_columns())?,
        SchemaFormat::Table => schema_table(dataset),
        SchemaFormat::Json => format!("{:#}\n", schema_json(dataset)),
    };
    print(&text)
}

/// Returns the statements of all tables, then those of the views over them. A table that a lake on a disk lacks has no
/// rows; a lake in a store is not asked, and one that has no table yet is taken to have all.
fn all_statements(location: &str, engine: Engine) -> CommandResult<String> {
    let lake = Lake::open(location).ok();
    let tables = schema::DATASETS.iter().map(|dataset| lake.as_ref().map(|lake| lake.table(dataset)));
    let tables: Vec<_> = tables.collect();
    let is_there = |table: &Table| table.snapshots().is_ok_and(|snapshots| !snapshots.is_empty());
    let is_known = tables.iter().flatten().all(|table| table.place().is_on_disk())
        && tables.iter().flatten().any(is_there);
    let mut statements = Vec::new();
    for (dataset, table) in schema::DATASETS.iter().zip(&tables) {
        statements.push(match table {
            Some(table) if is_known && !is_there(table) => schema::ddl::without_rows(dataset, engine),
            Some(table) => table_statement(dataset, location, engine, &ddl::file_columns(table))?,
            None => table_statement(dataset, location, engine, &FileColumns::unknown(dataset))?,
        });
    }
    statements.extend(schema::views::views().iter().map(|view| view.statement(engine)));
    Ok(statements.join("\n"))
}

fn table_statement(
    dataset: &schema::Dataset,
    lake: &str,
    engine: Engine,
    files: &FileColumns,
) -> CommandResult<String> {
    let path = statement_path(lake)?;
    match engine {
        Engine::Spark => Ok(schema::ddl::spark(dataset, &path, files.extra_fields)),
        Engine::DuckDb => schema::ddl::duckdb(dataset, &path, files).ok_or_else(|| {
            let error = anyhow::anyhow!("DuckDB cannot read a path with a backslash");
            let hint = "move the lake to a path without a backslash";
            CommandError::new(ExitCode::Usage, error).with_hint(hint)
        }),
    }
}

/// Returns the lake as the DDL names it. Fails if the location is not valid.
fn statement_path(lake: &str) -> CommandResult<String> {
    check_location(lake)?;
    Ok(reader_path(lake))
}

fn dataset_table() -> String {
    let mut table = TextTable::new(&["dataset", "permission", "a row is"], |_| false).wrapped();
    for dataset in schema::DATASETS {
        table.push([dataset.cli_name(), dataset.permission.application.to_owned(), dataset.doc.to_owned()]);
    }
    table.to_string()
}

fn schema_table(dataset: &schema::Dataset) -> String {
    let mut table = TextTable::new(&["column", "type", "null", "from", "meaning"], |_| false).wrapped();
    for column in schema::docs::all_columns(dataset) {
        table.push([
            column.name.to_owned(),
            column.column_type.to_string(),
            schema::docs::nullability(column).to_owned(),
            schema::docs::origin(dataset, column).to_owned(),
            column.doc_line(),
        ]);
    }
    format!("{}: {}\n\n{table}", dataset.name, dataset.doc)
}

fn schema_json(dataset: &schema::Dataset) -> serde_json::Value {
    let columns: Vec<_> = schema::docs::all_columns(dataset)
        .map(|column| {
            let members: Vec<_> = match column.column_type {
                schema::ColumnType::StructList(members) => members.iter().map(member_json).collect(),
                _ => Vec::new(),
            };
            serde_json::json!({
                "name": column.name,
                "aliases": column.aliases.iter().map(|alias| alias.name).collect::<Vec<_>>(),
                "members": members,
                "type": column.column_type.as_str(),
                "nullable": column.presence == schema::Presence::Optional,
                "from": schema::docs::origin(dataset, column),
                "duckdb_type": schema::ddl::duckdb_type(column.column_type),
                "spark_type": schema::ddl::spark_type(column.column_type),
                "meaning": column.doc,
                "source": column.source,
            })
        })
        .collect();
    serde_json::json!({
        "dataset": dataset.name,
        "schema_version": dataset.version,
        "doc": dataset.doc,
        "source": dataset.source,
        "key": dataset.key,
        "files_route": dataset.routes.files,
        "json_route": dataset.routes.json,
        "permission": dataset.permission.application,
        "delegated_permission": dataset.permission.delegated,
        "may_be_empty": dataset.may_be_empty,
        "partition_by": dataset.partition_columns().map(|column| column.name).collect::<Vec<_>>(),
        "columns": columns,
    })
}

/// Returns a member of a list's structs.
fn member_json(member: &schema::StructMember) -> serde_json::Value {
    serde_json::json!({ "name": member.name, "type": member.column_type.as_str() })
}
