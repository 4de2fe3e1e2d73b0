//! Lines of CSV: RFC 4180, except that lines end in LF.
//!
//! Null is an empty cell, and empty text is `""`. Text that a spreadsheet would run as a formula, by its first
//! character, gets a `'` in front.

use std::borrow::Cow;
use std::io::{self, Write};

/// A cell.
#[derive(Debug, Clone)]
pub enum CsvCell<'a> {
    /// Null.
    Null,
    /// Text, as it is.
    Text(Cow<'a, str>),
    /// The text of another value: a number, a time, or a list as JSON.
    Other(Cow<'a, str>),
}

/// Writes one line.
///
/// # Errors
///
/// What the writer says.
pub fn write_row<'c>(
    writer: &mut impl Write,
    cells: impl IntoIterator<Item = CsvCell<'c>>,
) -> io::Result<()> {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            writer.write_all(b",")?;
        }
        let (text, guard) = match &cell {
            CsvCell::Null => continue,
            CsvCell::Text(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => (text, "'"),
            CsvCell::Text(text) | CsvCell::Other(text) => (text, ""),
        };
        if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
            write!(writer, "\"{guard}{}\"", text.replace('"', "\"\""))?;
        } else {
            writer.write_all(guard.as_bytes())?;
            writer.write_all(text.as_bytes())?;
        }
    }
    writer.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_guarded_if_they_must_be() {
        let text = |text: &'static str| CsvCell::Text(text.into());
        let mut line = Vec::new();
        let cells = [
            text("plain text"),
            text(""),
            CsvCell::Null,
            text("a,b"),
            text("say \"x\""),
            text("two\nlines"),
            text("=1+1"),
            text("+1"),
            text("-1"),
            text("@a"),
            text("\ta"),
            text("\r"),
            text("=\"a\""),
            CsvCell::Other("-7".into()),
            CsvCell::Other(r#"["=a"]"#.into()),
        ];
        write_row(&mut line, cells).unwrap();
        let expected = concat!(
            r#"plain text,"",,"a,b","say ""x""","two"#,
            "\n",
            r#"lines",'=1+1,'+1,'-1,'@a,"#,
            "'\ta,\"'\r\",",
            r#""'=""a""",-7,"[""=a""]""#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
