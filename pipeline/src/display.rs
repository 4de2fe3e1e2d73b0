//! Text as people read it: numbers, times, tables.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::printable::printable;

/// Returns a number with a comma between its thousands.
pub fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Returns a number with its noun: `1 part`, `2 parts`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Returns the text, or `(none)` for null.
pub fn named(text: Option<&str>) -> String {
    text.unwrap_or("(none)").to_owned()
}

/// Returns a time in RFC 3339 to the second: `2021-01-11T11:01:00Z`.
pub fn time_text(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns a time for a table or a sentence: `2021-01-11 11:01:00Z`.
pub fn time_cell(time: &DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Returns a [`TextTable`] whose first `num_names` columns hold names, and the others numbers.
pub fn table(header: &[&str], num_names: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = TextTable::new(header, |index| index >= num_names);
    rows.into_iter().for_each(|row| table.push(row));
    table.to_string()
}

/// A table without lines: names are aligned to the left, numbers to the right. Its cells are made printable.
#[derive(Debug)]
pub struct TextTable(Table);

impl TextTable {
    /// Begins a table; `is_number` says of each column, by its index, whether it holds numbers.
    pub fn new<T: AsRef<str>>(header: &[T], is_number: impl Fn(usize) -> bool) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(header.iter().map(|name| printable(name.as_ref())));
        for index in (0..header.len()).filter(|index| is_number(*index)) {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Wraps cells to the width of the terminal.
    #[must_use]
    pub fn wrapped(mut self) -> Self {
        self.0.set_content_arrangement(ContentArrangement::Dynamic);
        self
    }

    /// Adds a row.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| printable(&cell).into_owned()));
    }
}

/// Ends with a line end.
impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_and_cells_printable() {
        let rows = [vec!["a\u{1b}".to_owned(), grouped(1234)], vec!["b".to_owned(), grouped(5)]];
        assert_eq!(table(&["name", "rows"], 1, rows), " name      rows\n a\\u{1b}  1,234\n b            5\n");
    }

    #[test]
    fn nouns_have_a_plural() {
        assert_eq!(count(1, "part"), "1 part");
        assert_eq!(count(2000, "part"), "2,000 parts");
    }

    #[test]
    fn times_are_in_utc_to_the_second() {
        let time = "2021-01-11T11:01:00.5Z".parse().unwrap();
        assert_eq!(time_text(&time), "2021-01-11T11:01:00Z");
        assert_eq!(time_cell(&time), "2021-01-11 11:01:00Z");
    }
}
