//! Escapes text of any origin for a terminal: control characters could move the cursor, change the title or reverse
//! the direction of text. Used for everything that people read: summaries, tables, findings, errors, log lines,
//! progress.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal would interpret the character instead of showing it: C0, DEL, C1, line and paragraph
/// separators, and bidirectional formatting.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns one line of text with its unprintable characters escaped: `\n`, `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unprintable, |c, shown| {
        // Not `escape_debug`, which leaves some of them unescaped.
        let _ = match c {
            '\n' | '\r' | '\t' => write!(shown, "{}", c.escape_default()),
            _ => write!(shown, "{}", c.escape_unicode()),
        };
    })
}

/// Returns several lines of text with their unprintable characters escaped; line ends stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unprintable(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// Returns JSON text with its unprintable characters escaped: the same value, as they can only stand in
/// strings there. Line ends between values stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escape(
        json,
        |c| c != '\n' && is_unprintable(c),
        |c, shown| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        },
    )
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_escaped(c) {
            write(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected, "{text:?}");
        check("a/b c'd\"e\\f é 日本 🙂", "a/b c'd\"e\\f é 日本 🙂");
        check("a\u{1b}[2Jb", r"a\u{1b}[2Jb");
        check("a\rb\nc\td", r"a\rb\nc\td");
        check("\u{7}\u{8}\u{0}\u{7f}", r"\u{7}\u{8}\u{0}\u{7f}");
        check("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}");
        check("\u{202e}gpj\u{2066}x\u{2069}\u{200f}\u{61c}", r"\u{202e}gpj\u{2066}x\u{2069}\u{200f}\u{61c}");
        check("\u{2028}\u{2029}\u{feff}", r"\u{2028}\u{2029}\u{feff}");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\nb\u{1b}\r\n"), "a\nb\\u{1b}\\r\n");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{1b}[31m", "\u{202e}", "\u{7f}\n", "é🙂"] });
        let text = format!("{value}\n");
        let shown = printable_json(&text);
        assert!(!shown.trim_end().chars().any(is_unprintable), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(shown.ends_with('\n'));
    }
}
