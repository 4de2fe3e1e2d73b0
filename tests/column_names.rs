//! Columns of a dataset are named by its declaration, by fixtures and by tests, and nowhere else: the
//! program knows them by the declaration alone.
//!
//! What is searched is the text of string literals in `pipeline/src` and `pipeline/codec/src`. Modules of
//! tests are left out, and comments, which may give an example; columns too whose name is one word (`Path`), which means
//! other things as well.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn sources_name_no_column_of_a_dataset() {
    let columns: Vec<&str> = schema::DATASETS
        .iter()
        .flat_map(|dataset| dataset.columns.iter())
        .flat_map(|column| std::iter::once(column.name).chain(column.aliases.iter().map(|alias| alias.name)))
        .filter(|name| name.chars().filter(char::is_ascii_uppercase).count() > 1)
        .collect();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut num_literals = 0;
    for file in ["src", "codec/src"].iter().flat_map(|folder| sources(&package.join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for literal in literals(program) {
            num_literals += 1;
            let mut words = literal.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| columns.contains(&word)) {
                found.push(format!("{}: {literal:?}", file.display()));
            }
        }
    }
    assert!(num_literals > 1000, "{num_literals}");
    assert!(found.is_empty(), "take these from the dataset's declaration: {found:#?}");
}

/// Returns the source files below a folder but those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match name.strip_suffix(".rs") {
            Some(stem) if stem.ends_with("tests") || stem.ends_with("simulation") => {}
            Some(_) => files.push(path),
            None if path.is_dir() && name != "tests" => files.extend(sources(&path)),
            None => {}
        }
    }
    files
}

/// Returns the texts of the string literals of a program, escapes as they are.
fn literals(program: &str) -> Vec<&str> {
    let mut literals = Vec::new();
    let mut rest = program;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let (before, from) = rest.split_at(at);
        let is_in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hashes = from[1..].len() - from[1..].trim_start_matches('#').len();
        if from.starts_with("//") {
            rest = from.split_once('\n').map_or("", |(_, rest)| rest);
        } else if from.starts_with('r') && !is_in_word && from[1 + hashes..].starts_with('"') {
            let body = &from[hashes + 2..];
            let (literal, after) = body.split_once(&format!("\"{}", "#".repeat(hashes))).unwrap();
            literals.push(literal);
            rest = after;
        } else if from.starts_with("'\"'") || from.starts_with("'\\\"'") {
            rest = &from[from.find("\"'").unwrap() + 2..];
        } else if let Some(body) = from.strip_prefix('"') {
            let mut is_escaped = false;
            let end = body.find(|c| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            });
            let end = end.unwrap();
            literals.push(&body[..end]);
            rest = &body[end + 1..];
        } else {
            rest = &from[1..];
        }
    }
    literals
}

#[test]
fn literals_are_told_from_comments_and_characters() {
    let program = "a(\"x\\\"y\"); // \"no\"\nb('\"', r#\"q\"z\"#, br\"w\", 'c'); d(\"\")";
    assert_eq!(literals(program), ["x\\\"y", "q\"z", "w", ""]);
}
