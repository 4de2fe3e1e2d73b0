//! `query` in a build without the feature `query`: says how to get it, and how to ask DuckDB the same.
//!
//! Takes a lake and SQL, gives one line of text for a shell; runs nothing. SQL that may hold a secret is left out.

#[cfg(not(feature = "query"))]
use super::{
    command_error::{CommandError, CommandResult},
    query::QueryOptions,
    table_options::lake_or_default,
};
use crate::{ddl, printable, redact};

/// Fails, with a hint of what to do instead.
#[cfg(not(feature = "query"))]
pub(super) fn run(options: &QueryOptions) -> CommandResult {
    let lake = lake_or_default(options.lake.as_deref());
    crate::lake::check_location(&lake)?;
    let line = duckdb_line(&lake, &options.sql);
    let error =
        CommandError::new(crate::exit_code::ExitCode::Usage, anyhow::anyhow!("query is not in this build"));
    Err(error
        .with_hint(format!("build it with `cargo build --release --features query`, or ask DuckDB: {line}")))
}

/// Returns the line: the views of the tables that `sql` names, then `sql` itself.
fn duckdb_line(lake: &str, sql: &str) -> String {
    let lake = quoted(lake);
    let views = ddl::datasets_named_in(sql).map(|dataset| {
        format!("defender-lake schema --dataset {} --format duckdb --lake={lake}; ", dataset.cli_name())
    });
    let sql = if redact::holds_secret(sql) { "…".to_owned() } else { quoted(sql) };
    format!("({}printf '%s\\n' {sql}) | TZ=UTC duckdb", views.collect::<String>())
}

/// Quotes a word for a shell, on one line: `$'…'`, which bash, zsh and ksh know, if it has to.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(printable::is_unprintable) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let escaped = text.chars().map(|c| match c {
        '\n' => r"\n".to_owned(),
        '\t' => r"\t".to_owned(),
        '\'' | '\\' => format!(r"\{c}"),
        c if printable::is_unprintable(c) => format!(r"\U{:08x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("$'{}'", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn line_names_the_lake_and_the_tables_of_the_query() {
        let check = |lake: &str, sql: &str, expected: &str| assert_eq!(duckdb_line(lake, sql), expected);
        check("./lake", "SELECT 1", r"(printf '%s\n' 'SELECT 1') | TZ=UTC duckdb");
        check(
            "/data/my lake",
            "FROM Software_Inventory WHERE DeviceName = 'x'",
            r"(defender-lake schema --dataset software-inventory --format duckdb --lake='/data/my lake'; printf '%s\n' 'FROM Software_Inventory WHERE DeviceName = '\''x'\''') | TZ=UTC duckdb",
        );
        check(
            "s3://bucket/lake",
            "FROM software_inventory_2",
            r"(printf '%s\n' 'FROM software_inventory_2') | TZ=UTC duckdb",
        );
        check("lake", "FROM 'https://h/c?sv=1&sig=secret'", r"(printf '%s\n' …) | TZ=UTC duckdb");
    }

    #[test]
    fn shell_takes_quoted_words_as_they_are() {
        for text in [
            "",
            "plain",
            "two words",
            "it's",
            "$HOME `x` \"y\" \\n !",
            "-x",
            "a\nb\t'c'\\d",
            "é\u{200e}\u{7f}…'",
        ] {
            let line = quoted(text);
            assert!(!line.contains(printable::is_unprintable), "{line}");
            let mut shell = Command::new("bash");
            let output =
                shell.args(["-c", &format!("printf '%s' {line}")]).env("LC_ALL", "C.UTF-8").output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{line}");
        }
    }
}
