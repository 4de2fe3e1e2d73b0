//! Takes the bytes of JSON text; gives where values end and their kinds, strictly by RFC 8259.
//!
//! The reader of the slow path: it keeps number text as written, sees every name of an object, and
//! says where and why text is not JSON. It builds no tree, so that its memory does not depend
//! on its input. The fast paths are in `template.rs` and `tape.rs`.

use std::borrow::Cow;

/// Nesting that a record may have; the record's own object is the first level.
pub const MAX_DEPTH: usize = 128;

/// Kind of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl JsonKind {
    /// The kind of a value that has been read, by its first byte.
    pub fn of(value: &[u8]) -> Self {
        match value {
            [b'{', ..] => Self::Object,
            [b'[', ..] => Self::Array,
            [b'"', ..] => Self::String,
            [b't' | b'f', ..] => Self::Bool,
            [b'n', ..] => Self::Null,
            _ => Self::Number,
        }
    }

    /// The kind with its article, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Why bytes are not the JSON value that was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// The bytes end inside the value; more of them may complete it.
    Incomplete,
    /// The byte at `at` does not belong there.
    Unexpected {
        /// Position in the bytes.
        at: usize,
        /// What would have been right.
        expected: &'static str,
    },
    /// The string at `at` is not Unicode: bad UTF-8, or a surrogate without its pair.
    NotUnicode {
        /// Position in the bytes.
        at: usize,
    },
    /// The value opened at `at` nests deeper than [`MAX_DEPTH`].
    TooDeep {
        /// Position in the bytes.
        at: usize,
    },
}

/// Reads values one after the other from a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Position of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Result<u8, JsonError> {
        self.bytes.get(self.at).copied().ok_or(JsonError::Incomplete)
    }

    fn unexpected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError::Unexpected { at: self.at, expected })
    }

    /// Passes over white space.
    pub fn skip_whitespace(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Passes over `byte` behind white space; `None` where another one is there.
    pub fn pass(&mut self, byte: u8) -> Option<()> {
        self.skip_whitespace();
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Passes over one value and returns its kind and text.
    pub fn value(&mut self, depth: usize) -> Result<(JsonKind, &'a [u8]), JsonError> {
        self.skip_whitespace();
        let start = self.at;
        let kind = match self.peek()? {
            b'{' => {
                self.object(depth, |_, _, _| {})?;
                JsonKind::Object
            }
            b'[' => {
                self.array(depth, |_, _| {})?;
                JsonKind::Array
            }
            b'"' => {
                self.string()?;
                JsonKind::String
            }
            b't' => self.literal(b"true", JsonKind::Bool)?,
            b'f' => self.literal(b"false", JsonKind::Bool)?,
            b'n' => self.literal(b"null", JsonKind::Null)?,
            b'-' | b'0'..=b'9' => {
                self.number()?;
                JsonKind::Number
            }
            _ => return self.unexpected("a JSON value"),
        };
        Ok((kind, &self.bytes[start..self.at]))
    }

    /// Reads an object and gives `member` each name (unescaped), kind and text, in their order.
    /// `depth` is how many values enclose it.
    pub fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(Cow<'a, str>, JsonKind, &'a [u8]),
    ) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at });
        }
        if self.peek()? != b'{' {
            return self.unexpected("`{`");
        }
        self.at += 1;
        self.skip_whitespace();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_whitespace();
            if self.peek()? != b'"' {
                return self.unexpected("a name in double quotes");
            }
            let name = self.string()?;
            self.skip_whitespace();
            if self.peek()? != b':' {
                return self.unexpected("`:` after a name");
            }
            self.at += 1;
            let (kind, text) = self.value(depth + 1)?;
            member(name, kind, text);
            self.skip_whitespace();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected("`,` or `}` after a value"),
            }
        }
    }

    /// Reads an array and gives `element` each kind and text, in their order. `depth` as for [`Self::object`].
    pub fn array(
        &mut self,
        depth: usize,
        mut element: impl FnMut(JsonKind, &'a [u8]),
    ) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at });
        }
        if self.peek()? != b'[' {
            return self.unexpected("`[`");
        }
        self.at += 1;
        self.skip_whitespace();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let (kind, text) = self.value(depth + 1)?;
            element(kind, text);
            self.skip_whitespace();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.unexpected("`,` or `]` after an element"),
            }
        }
    }

    fn literal(&mut self, word: &'static [u8], kind: JsonKind) -> Result<JsonKind, JsonError> {
        for &byte in word {
            if self.peek()? != byte {
                return self.unexpected("`true`, `false` or `null`");
            }
            self.at += 1;
        }
        Ok(kind)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek()?.is_ascii_digit() {
            return self.unexpected("a digit");
        }
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return self.unexpected("no digit after a leading zero");
            }
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads a string at its opening quote and returns it unescaped.
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let open = self.at;
        self.at += 1;
        let mut unescaped: Option<String> = None;
        loop {
            let start = self.at;
            while !matches!(self.bytes.get(self.at), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            let stop = self.peek()?;
            let text = std::str::from_utf8(&self.bytes[start..self.at])
                .map_err(|error| JsonError::NotUnicode { at: start + error.valid_up_to() })?;
            match stop {
                b'"' => {
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(text),
                        Some(mut string) => {
                            string.push_str(text);
                            Cow::Owned(string)
                        }
                    });
                }
                b'\\' => {
                    let string = unescaped.get_or_insert_default();
                    string.push_str(text);
                    string.push(self.escape()?);
                }
                _ => {
                    debug_assert!(open < self.at);
                    return self.unexpected("no control character inside a string");
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let backslash = self.at;
        self.at += 1;
        let escaped = match self.peek()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape(backslash);
            }
            _ => return self.unexpected("an escape of JSON"),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self, backslash: usize) -> Result<char, JsonError> {
        let not_unicode = JsonError::NotUnicode { at: backslash };
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(not_unicode);
        }
        if first >= 0xdc00 || self.peek()? != b'\\' {
            return Err(not_unicode);
        }
        self.at += 1;
        if self.peek()? != b'u' {
            return Err(not_unicode);
        }
        self.at += 1;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(not_unicode);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(not_unicode)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()?).to_digit(16) else {
                return self.unexpected("four hexadecimal digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// Returns the text of a string value given with its quotes, as [`Reader::value`] gave it.
///
/// # Panics
///
/// If the reader has not given it.
pub fn unescape(text: &[u8]) -> Cow<'_, str> {
    Reader::new(text).string().expect("the reader has read this string before")
}

/// Returns the text of a number or boolean as [`Reader::value`] gave it.
///
/// # Panics
///
/// If the reader has not given it.
pub fn ascii(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("JSON numbers and booleans are ASCII")
}

/// Returns a decimal number as the nearest 64-bit float; `None` if it is not one, or not finite.
pub fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<JsonKind, JsonError>) {
        let mut reader = Reader::new(text.as_bytes());
        assert_eq!(reader.value(0).map(|(kind, _)| kind), expected, "{text}");
    }

    #[test]
    fn values_have_their_kind() {
        check("null", Ok(JsonKind::Null));
        check(" true", Ok(JsonKind::Bool));
        check("-0.5e+10", Ok(JsonKind::Number));
        check("1e400", Ok(JsonKind::Number));
        check(r#""\ud83d\ude00\n""#, Ok(JsonKind::String));
        check("[1,[],{}]", Ok(JsonKind::Array));
        check(r#"{"a":{"b":[null]}}"#, Ok(JsonKind::Object));
    }

    #[test]
    fn text_that_is_not_json_says_where() {
        let unexpected = |at, expected| Err(JsonError::Unexpected { at, expected });
        check("{a:1}", unexpected(1, "a name in double quotes"));
        check(r#"{"a" 1}"#, unexpected(5, "`:` after a name"));
        check(r#"{"a":1 "b""#, unexpected(7, "`,` or `}` after a value"));
        check(r#"{"a":1,}"#, unexpected(7, "a name in double quotes"));
        check("[1 2]", unexpected(3, "`,` or `]` after an element"));
        check("[1,]", unexpected(3, "a JSON value"));
        check("01", unexpected(1, "no digit after a leading zero"));
        check("1.x", unexpected(2, "a digit"));
        check("nul1", unexpected(3, "`true`, `false` or `null`"));
        check("\"a\nb\"", unexpected(2, "no control character inside a string"));
        check(r#""\x""#, unexpected(2, "an escape of JSON"));
        check(r#""\ud800x""#, Err(JsonError::NotUnicode { at: 1 }));
        check(r#""\ud800\u0041""#, Err(JsonError::NotUnicode { at: 1 }));
        check(r#""\udc00""#, Err(JsonError::NotUnicode { at: 1 }));
        for text in ["{", "\"abc", "[1", "tru", "-", "1.", r#"{"a"#, r#""\u12"#, ""] {
            check(text, Err(JsonError::Incomplete));
        }
    }

    #[test]
    fn bad_utf8_is_not_unicode() {
        let mut reader = Reader::new(b"\"ab\xff\"");
        assert_eq!(reader.value(0), Err(JsonError::NotUnicode { at: 3 }));
    }

    #[test]
    fn depth_is_bounded_at_128() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(MAX_DEPTH), Ok(JsonKind::Array));
        check(&nested(MAX_DEPTH + 1), Err(JsonError::TooDeep { at: MAX_DEPTH }));
    }

    #[test]
    fn members_come_in_order_with_duplicates() {
        let mut members = Vec::new();
        Reader::new(br#"{"a":1,"\u0061":"x","b":[1.50]}"#)
            .object(0, |name, kind, text| members.push((name.into_owned(), kind, text)))
            .unwrap();
        assert_eq!(
            members,
            [
                ("a".to_owned(), JsonKind::Number, &b"1"[..]),
                ("a".to_owned(), JsonKind::String, br#""x""#),
                ("b".to_owned(), JsonKind::Array, b"[1.50]"),
            ]
        );
    }
}
