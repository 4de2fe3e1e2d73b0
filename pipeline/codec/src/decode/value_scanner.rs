//! Takes bytes of JSON in pieces of any size; gives where the value in them ends.
//!
//! Looks at structure only: brackets, commas, colons, and which bytes are inside strings. Numbers, words and
//! escapes are not checked. Two things break it that could
//! go on for a whole part otherwise: a line feed in a string, and one with too many brackets open.
//! Needs no room for the value and nests without recursion, so neither length nor depth of hostile
//! input costs more than time and one bit a level.

/// Most brackets open at the end of a line. If a line opens an object and never closes it, the
/// lines below are read as its inside, then again by themselves; each that does the same nests one
/// deeper, so that this bounds how often any byte is read. Twice what a record may nest, so that
/// one laid out over lines and somewhat too deep is still one reject.
pub const MAX_OPEN_AT_LINE_END: usize = 256;

/// Finds the end of one JSON value, fed piece by piece.
#[derive(Debug)]
pub struct ValueScanner {
    expect: Expect,
    /// One bit for each open bracket: set for an object.
    open: Vec<u64>,
    depth: usize,
}

/// What may begin at the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ElementOrEnd,
    NameOrEnd,
    Name,
    Colon,
    CommaOrEnd,
    /// Inside a string that is a name.
    InName,
    /// Inside a string that is a value.
    InString,
    /// Inside a number or a word.
    InScalar,
}

/// How far a piece took the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The value ends before this position of the piece.
    Done(usize),
    /// The piece ends inside the value; all of it that is certain has been consumed up to this
    /// position, from which the next piece continues.
    More(usize),
    /// The byte at this position cannot stand there.
    Invalid(usize),
}

impl Default for ValueScanner {
    fn default() -> Self {
        Self { expect: Expect::Value, open: Vec::new(), depth: 0 }
    }
}

impl ValueScanner {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.open.len() {
            self.open.push(0);
        }
        if object {
            self.open[word] |= 1 << bit;
        } else {
            self.open[word] &= !(1 << bit);
        }
        self.depth += 1;
    }

    fn in_object(&self) -> bool {
        let level = self.depth - 1;
        self.open[level / 64] >> (level % 64) & 1 == 1
    }

    /// Ends a value; returns whether it was the outermost.
    fn value_ended(&mut self) -> bool {
        self.expect = Expect::CommaOrEnd;
        self.depth == 0
    }

    /// Scans `bytes` from their start. After [`Scan::More`] the next piece begins with the bytes
    /// from the position that it gave.
    pub fn feed(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.expect {
                Expect::InName | Expect::InString => match string_end(&bytes[at..]) {
                    StringScan::End(len) => {
                        at += len;
                        if self.expect == Expect::InName {
                            self.expect = Expect::Colon;
                        } else if self.value_ended() {
                            return Scan::Done(at);
                        }
                    }
                    StringScan::More(len) => return Scan::More(at + len),
                    StringScan::Newline(len) => return Scan::Invalid(at + len),
                },
                Expect::InScalar => {
                    let len = bytes[at..].iter().take_while(|byte| is_scalar(**byte)).count();
                    at += len;
                    if at == bytes.len() {
                        return Scan::More(at);
                    }
                    if self.value_ended() {
                        return Scan::Done(at);
                    }
                }
                _ if byte == b'\n' && self.depth > MAX_OPEN_AT_LINE_END => return Scan::Invalid(at),
                _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                expect => {
                    match (expect, byte) {
                        (Expect::Value | Expect::ElementOrEnd, b'{') => {
                            self.push(true);
                            self.expect = Expect::NameOrEnd;
                        }
                        (Expect::Value | Expect::ElementOrEnd, b'[') => {
                            self.push(false);
                            self.expect = Expect::ElementOrEnd;
                        }
                        (Expect::Value | Expect::ElementOrEnd, b'"') => self.expect = Expect::InString,
                        (Expect::Value | Expect::ElementOrEnd, byte) if is_scalar(byte) => {
                            self.expect = Expect::InScalar;
                            continue;
                        }
                        (Expect::Name | Expect::NameOrEnd, b'"') => self.expect = Expect::InName,
                        (Expect::Colon, b':') => self.expect = Expect::Value,
                        (Expect::CommaOrEnd, b',') => {
                            self.expect = if self.in_object() { Expect::Name } else { Expect::Value };
                        }
                        (Expect::CommaOrEnd | Expect::NameOrEnd, b'}') if self.in_object() => {
                            self.depth -= 1;
                            if self.value_ended() {
                                return Scan::Done(at + 1);
                            }
                        }
                        (Expect::CommaOrEnd | Expect::ElementOrEnd, b']') if !self.in_object() => {
                            self.depth -= 1;
                            if self.value_ended() {
                                return Scan::Done(at + 1);
                            }
                        }
                        _ => return Scan::Invalid(at),
                    }
                    at += 1;
                }
            }
        }
        Scan::More(at)
    }
}

/// Finds the end of an array or object by its brackets alone, fed piece by piece: whether they match, and what is
/// between them, is not looked at.
#[derive(Debug, Default)]
pub struct BracketScanner {
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
}

impl BracketScanner {
    /// Scans `bytes`; returns where the value ends, `None` if it goes on.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if std::mem::take(&mut self.is_escaped) {
                at += 1;
                continue;
            }
            if self.is_in_string {
                at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                self.is_escaped = bytes[at] == b'\\';
                self.is_in_string = self.is_escaped;
                at += 1;
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Bytes that numbers and words are made of.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

enum StringScan {
    /// The closing quote is before this position.
    End(usize),
    /// The bytes end inside the string; a backslash whose escape is cut off is left for the next piece.
    More(usize),
    /// A line feed at this position: JSON has none inside strings, so the string was never closed.
    Newline(usize),
}

/// Finds the end of a string from inside it.
fn string_end(bytes: &[u8]) -> StringScan {
    let mut at = 0;
    while let Some(len) = memchr::memchr3(b'"', b'\\', b'\n', &bytes[at..]) {
        at += len;
        match bytes[at] {
            b'"' => return StringScan::End(at + 1),
            b'\n' => return StringScan::Newline(at),
            // A line feed is not skipped with its backslash: it ends the line, escaped or not.
            _ => match bytes.get(at + 1) {
                None => return StringScan::More(at),
                Some(b'\n') => return StringScan::Newline(at + 1),
                Some(_) => at += 2,
            },
        }
    }
    StringScan::More(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in every split into two pieces and checks that all agree.
    fn check(text: &str, expected: Scan) {
        for split in 0..=text.len() {
            let bytes = text.as_bytes();
            let mut scanner = ValueScanner::default();
            let scan = match scanner.feed(&bytes[..split]) {
                Scan::More(at) => match scanner.feed(&bytes[at..]) {
                    Scan::Done(end) => Scan::Done(at + end),
                    Scan::Invalid(end) => Scan::Invalid(at + end),
                    Scan::More(end) => Scan::More(at + end),
                },
                ended => ended,
            };
            assert_eq!(scan, expected, "{text} split at {split}");
        }
    }

    #[test]
    fn values_end_where_they_end() {
        check(r#"{"a":[1,{"b":"}]"}],"c\"":null} x"#, Scan::Done(31));
        check(r#"{}{"a":1}"#, Scan::Done(2));
        check("[]", Scan::Done(2));
        check("[ ]]", Scan::Done(3));
        check(r#" "a\\" "#, Scan::Done(6));
        check("12.5e3,", Scan::Done(6));
        check("{\n \"a\" :\r\n 1\n}\n", Scan::Done(14));
    }

    #[test]
    fn broken_structure_is_invalid() {
        check("{\"a\":\"b\n\"}", Scan::Invalid(7));
        check("{\"a\":\"b\\\n\"}", Scan::Invalid(8));
        check("{\"a\":1\n{\"b\":2}", Scan::Invalid(7));
        check("{\"a\":1,\n{", Scan::Invalid(8));
        check("{\"a\" 1}", Scan::Invalid(5));
        check("{\"a\":}", Scan::Invalid(5));
        check("{\"a\":1,}", Scan::Invalid(7));
        check("[1 2]", Scan::Invalid(3));
        check("[1}", Scan::Invalid(2));
        check("{1", Scan::Invalid(1));
        check("}", Scan::Invalid(0));
    }

    #[test]
    fn lines_do_not_nest_without_bound() {
        let nested = |depth: usize| format!("{}\n{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(MAX_OPEN_AT_LINE_END), Scan::Done(2 * MAX_OPEN_AT_LINE_END + 1));
        check(&nested(MAX_OPEN_AT_LINE_END + 1), Scan::Invalid(MAX_OPEN_AT_LINE_END + 1));
    }

    #[test]
    fn brackets_end_where_they_end() {
        let check = |text: &str, expected: Option<usize>| {
            for split in 0..=text.len() {
                let mut scanner = BracketScanner::default();
                let (first, rest) = text.as_bytes().split_at(split);
                let end = scanner.feed(first).or_else(|| Some(split + scanner.feed(rest)?));
                assert_eq!(end, expected, "{text} split at {split}");
            }
        };
        check(r#"[{"a":"]\"}"},1} 2],"#, Some(16));
        check("[{]] x", Some(4));
        check("[\"\n\\\\\"]", Some(7));
        check("[[]", None);
        check("[\"]", None);
    }

    #[test]
    fn depth_costs_one_bit_a_level() {
        let deep = "[".repeat(1_000_000);
        let mut scanner = ValueScanner::default();
        assert_eq!(scanner.feed(deep.as_bytes()), Scan::More(1_000_000));
        assert!(scanner.open.len() <= 1_000_000 / 64 + 1);
        assert_eq!(scanner.feed("]".repeat(1_000_000).as_bytes()), Scan::Done(1_000_000));
    }
}
