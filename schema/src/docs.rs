//! The documentation table of a dataset.

use std::fmt::Write;

use crate::{Column, DATASETS, Dataset, Origin, Presence, views};

/// Returns the dataset's section of the documentation, Markdown.
pub fn markdown(dataset: &Dataset) -> String {
    let mut text = format!(
        "## {}\n\n{}\nSource: <{}>.\n\n- Key: {}\n- Partitioned by: {}\n- Files route: {}\n- JSON route: {}\n- Permission: `{}` (application) or `{}` (delegated)\n\n",
        dataset.name,
        dataset.doc,
        dataset.source,
        names(dataset.key.iter().copied()),
        names(dataset.partition_columns().map(|column| column.name)),
        route(dataset.routes.files),
        route(dataset.routes.json),
        dataset.permission.application,
        dataset.permission.delegated,
    );
    text.push_str("| column | type | null | from | meaning |\n|---|---|---|---|---|\n");
    for column in all_columns(dataset) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            column.name,
            column.column_type,
            nullability(column),
            origin(dataset, column),
            column.doc_line()
        );
    }
    text
}

/// Returns the table of datasets and the permission that each needs, Markdown.
pub fn permissions() -> String {
    let mut text = String::from("| dataset | a row is | permission | may be empty |\n|---|---|---|---|\n");
    for dataset in DATASETS {
        let Dataset { name, doc, permission, .. } = dataset;
        let may_be_empty = if dataset.may_be_empty { "yes" } else { "no" };
        let row_is = doc.strip_prefix("One row per ").unwrap_or(doc).trim_end_matches('.');
        let _ = writeln!(
            text,
            "| [{name}](#{name}) | {row_is} | `{}` or `{}` | {may_be_empty} |",
            permission.application, permission.delegated
        );
    }
    text
}

/// Returns the section on the views over tables, Markdown.
pub fn views() -> String {
    let mut text = String::from(
        "## Views\n\n`defender-lake schema --format duckdb` and `--format spark` print them after the tables.\n\n| view | what |\n|---|---|\n",
    );
    for view in views::views() {
        let _ = writeln!(text, "| {} | {} |", view.name, view.doc);
    }
    text
}

/// Returns every column of the table: those of the files, then the partition columns in directory order.
pub fn all_columns(dataset: &Dataset) -> impl Iterator<Item = &'static Column> {
    dataset.file_columns().chain(dataset.partition_columns())
}

/// Returns `yes` if the column may be null, else `no`.
pub fn nullability(column: &Column) -> &'static str {
    match column.presence {
        Presence::Required => "no",
        Presence::Optional => "yes",
    }
}

/// Returns where a column's values come from, for people.
pub fn origin(dataset: &Dataset, column: &Column) -> &'static str {
    let partition = dataset.partition_columns().any(|partition| partition.name == column.name);
    match (column.origin, partition) {
        (Origin::Property, false) => "record",
        (Origin::Property, true) => "record; partition directory",
        (Origin::Export, false) => "export",
        (Origin::Export, true) => "export; partition directory",
        (Origin::Undocumented, _) => "undocumented fields",
    }
}

fn route(path: Option<&str>) -> String {
    path.map_or_else(|| "none".to_owned(), |path| format!("`GET /api/{path}`"))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
