//! Reads the envelope of a JSON page from a stream: the members beside `value`, and whether the page is complete.
//!
//! A page of 200,000 records has some 100 MB, so it is neither held nor parsed here: only the members beside
//! `value` are kept. The decoder decides whether the records are valid.

use codec::decode::value_scanner::{BracketScanner, Scan, ValueScanner};
use serde_json::Value;

/// Longest text of all members beside `value`. A link has some hundred bytes; one known bug made each
/// link longer than the one before (pipeline/docs/service.md#failures-of-the-api), which ends here.
const MAX_MEMBERS_BYTES: usize = 64 * 1024;

/// Why a page is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The page ends inside of its object.
    #[error("truncated page: ends after {bytes} bytes")]
    Truncated {
        /// Size of what there was.
        bytes: u64,
    },
    /// Not the shape of a page.
    #[error("invalid page: {problem}, at byte {offset}")]
    Malformed {
        /// What was found.
        problem: &'static str,
        /// Where.
        offset: u64,
    },
    /// The members beside `value` are longer than any that the service sends.
    #[error("the members beside `value` are longer than {MAX_MEMBERS_BYTES} bytes")]
    TooLong,
}

/// The members beside `value` of a complete page, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PageEnvelope {
    members: Vec<(String, Value)>,
}

impl PageEnvelope {
    /// The member `name`; the last one of two.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().rfind(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Scans one page, pushed in pieces of any size.
#[derive(Debug)]
pub struct EnvelopeScanner {
    state: ScanState,
    /// Scans the current name or value.
    scanner: ValueScanner,
    /// Whether the last piece ended behind a backslash, which the scanner takes with what it escapes.
    is_after_backslash: bool,
    records: BracketScanner,
    /// Bytes of all earlier pieces.
    offset: u64,
    /// Text of the current member: first its name, then its value.
    text: Vec<u8>,
    name: String,
    members_bytes: usize,
    has_value: bool,
    envelope: PageEnvelope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    /// Before the `{`; the number of bytes of a byte order mark seen.
    Start(u8),
    /// Before a name or the `}` of an empty object.
    FirstName,
    /// Before a name.
    Name,
    InName,
    /// Before the `:`.
    Colon,
    /// Before a value.
    Value,
    /// In a member's value.
    InValue,
    /// In the array of records.
    InRecords,
    /// Before a `,` or the `}`.
    AfterValue,
    /// After the `}`.
    End,
}

const NOT_A_NAME: &str = "a name that is not a JSON string";
const NOT_A_VALUE: &str = "a value that is not JSON";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Default for EnvelopeScanner {
    fn default() -> Self {
        Self {
            state: ScanState::Start(0),
            scanner: ValueScanner::default(),
            is_after_backslash: false,
            records: BracketScanner::default(),
            offset: 0,
            text: Vec::new(),
            name: String::new(),
            members_bytes: 0,
            has_value: false,
            envelope: PageEnvelope::default(),
        }
    }
}

impl EnvelopeScanner {
    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// Fails at the first byte that cannot be in a page.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), EnvelopeError> {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            let malformed =
                |problem| Err(EnvelopeError::Malformed { problem, offset: self.offset + at as u64 });
            match self.state {
                ScanState::InName | ScanState::InValue => {
                    let (len, has_ended) = self.scan(&piece[at..], at)?;
                    at += len;
                    match self.state {
                        _ if !has_ended => {}
                        ScanState::InName => self.end_name()?,
                        _ => self.end_value()?,
                    }
                    continue;
                }
                ScanState::InRecords => {
                    let Some(len) = self.records.feed(&piece[at..]) else { break };
                    at += len;
                    self.state = ScanState::AfterValue;
                    continue;
                }
                ScanState::Start(n @ 0..3) if byte == BYTE_ORDER_MARK[usize::from(n)] => {
                    self.state = ScanState::Start(n + 1);
                }
                ScanState::Start(1 | 2) => return malformed("half a byte order mark"),
                _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => {}
                ScanState::Start(_) => match byte {
                    b'{' => self.state = ScanState::FirstName,
                    _ => return malformed("not a json object"),
                },
                ScanState::FirstName | ScanState::Name => match byte {
                    b'"' => {
                        self.begin(ScanState::InName);
                        continue;
                    }
                    b'}' if self.state == ScanState::FirstName => self.state = ScanState::End,
                    _ => return malformed("expected a name"),
                },
                ScanState::Colon => match byte {
                    b':' => self.state = ScanState::Value,
                    _ => return malformed("expected a colon"),
                },
                ScanState::Value if self.name == "value" => {
                    if byte != b'[' {
                        return malformed("`value` is not an array");
                    }
                    if std::mem::replace(&mut self.has_value, true) {
                        return malformed("a second `value`");
                    }
                    self.state = ScanState::InRecords;
                    continue;
                }
                ScanState::Value => match byte {
                    b'}' | b']' | b',' | b':' => return malformed("expected a value"),
                    _ => {
                        self.begin(ScanState::InValue);
                        continue;
                    }
                },
                ScanState::AfterValue => match byte {
                    b',' => self.state = ScanState::Name,
                    b'}' => self.state = ScanState::End,
                    _ => return malformed("expected a comma or the end"),
                },
                ScanState::End => return malformed("more after the end"),
            }
            at += 1;
        }
        self.offset += piece.len() as u64;
        Ok(())
    }

    /// Finishes the page.
    ///
    /// # Errors
    ///
    /// If it is not complete, or has no `value`.
    pub fn finish(self) -> Result<PageEnvelope, EnvelopeError> {
        if self.state != ScanState::End {
            return Err(EnvelopeError::Truncated { bytes: self.offset });
        }
        if !self.has_value {
            return Err(EnvelopeError::Malformed { problem: "`value` is missing", offset: self.offset });
        }
        Ok(self.envelope)
    }

    /// Starts a name or a member's value.
    fn begin(&mut self, state: ScanState) {
        self.text.clear();
        self.scanner = ValueScanner::default();
        self.state = state;
    }

    /// Scans the current name or value, at `offset` of a piece; returns how much of `bytes` it takes and whether
    /// it has ended there.
    fn scan(&mut self, bytes: &[u8], offset: usize) -> Result<(usize, bool), EnvelopeError> {
        let escaped = [b'\\', bytes[0]];
        let is_after_backslash = std::mem::take(&mut self.is_after_backslash);
        let scanned = if is_after_backslash { &escaped[..] } else { bytes };
        let (len, has_ended) = match self.scanner.feed(scanned) {
            Scan::Done(len) => (len, true),
            Scan::More(len) => (len, false),
            Scan::Invalid(len) => {
                let problem = match self.state {
                    ScanState::InName => NOT_A_NAME,
                    _ => NOT_A_VALUE,
                };
                return Err(EnvelopeError::Malformed {
                    problem,
                    offset: self.offset + (offset + len) as u64,
                });
            }
        };
        self.keep(&scanned[..len])?;
        if is_after_backslash {
            return Ok((1, has_ended));
        }
        self.is_after_backslash = !has_ended && len < bytes.len();
        Ok((if has_ended { len } else { bytes.len() }, has_ended))
    }

    /// Keeps text of a member.
    fn keep(&mut self, text: &[u8]) -> Result<(), EnvelopeError> {
        self.members_bytes += text.len();
        if self.members_bytes > MAX_MEMBERS_BYTES {
            return Err(EnvelopeError::TooLong);
        }
        self.text.extend_from_slice(text);
        Ok(())
    }

    fn end_name(&mut self) -> Result<(), EnvelopeError> {
        self.name = self.parse(NOT_A_NAME)?;
        self.state = ScanState::Colon;
        Ok(())
    }

    fn end_value(&mut self) -> Result<(), EnvelopeError> {
        let value = self.parse(NOT_A_VALUE)?;
        self.envelope.members.push((std::mem::take(&mut self.name), value));
        self.state = ScanState::AfterValue;
        Ok(())
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, problem: &'static str) -> Result<T, EnvelopeError> {
        let malformed = |_| EnvelopeError::Malformed { problem, offset: self.offset };
        serde_json::from_slice(&self.text).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&[u8]]) -> Result<PageEnvelope, EnvelopeError> {
        let mut scanner = EnvelopeScanner::default();
        for piece in pieces {
            scanner.push(piece)?;
        }
        scanner.finish()
    }

    const PAGE: &str = "\u{feff} {\"@odata.context\": \"h\\\"x\\\\\", \"value\" : [ {\"a\":\"}]\\\"{\", \"b\":[[],{}],\
                        \"@odata.nextLink\":\"inner\"}, {\"ü\":null} ] , \"n\":-1.5e3,\"o\":{\"p\":[1,\"]\"]},\
                        \"@odata.ne\\u0078tLink\":\"https:\\/\\/h\\/p?$skiptoken=a%2Bb\",\"t\":true }\r\n";

    #[test]
    fn every_split_gives_the_same_envelope() {
        let page = PAGE.as_bytes();
        let whole = scan(&[page]).unwrap();
        let names: Vec<_> = whole.members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["@odata.context", "n", "o", "@odata.nextLink", "t"]);
        assert_eq!(whole.get("@odata.nextLink"), Some(&Value::from("https://h/p?$skiptoken=a%2Bb")));
        assert_eq!(whole.get("@odata.context"), Some(&Value::from("h\"x\\")));
        assert_eq!(whole.get("value"), None);
        for first in 0..=page.len() {
            assert_eq!(scan(&[&page[..first], &page[first..]]).as_ref(), Ok(&whole), "split at {first}");
            for second in first..=page.len() {
                let pieces = [&page[..first], &page[first..second], &page[second..]];
                assert_eq!(scan(&pieces).as_ref(), Ok(&whole), "split at {first} and {second}");
            }
        }
        let bytes: Vec<_> = page.chunks(1).collect();
        assert_eq!(scan(&bytes), Ok(whole));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let page = PAGE.trim_end().as_bytes();
        for len in 0..page.len() {
            assert_eq!(scan(&[&page[..len]]), Err(EnvelopeError::Truncated { bytes: len as u64 }), "{len}");
        }
    }

    #[test]
    fn other_shapes_are_invalid_pages() {
        let check = |page: &str, problem: &str| match scan(&[page.as_bytes()]) {
            Err(EnvelopeError::Malformed { problem: found, .. }) => assert_eq!(found, problem, "{page}"),
            other => panic!("{page}: {other:?}"),
        };
        check("[]", "not a json object");
        check("<html>", "not a json object");
        check("{}", "`value` is missing");
        check(r#"{"error":{"code":"x"}}"#, "`value` is missing");
        check(r#"{"value":null}"#, "`value` is not an array");
        check(r#"{"value":[],"value":[]}"#, "a second `value`");
        check(r#"{"value":[]}{"#, "more after the end");
        check(r#"{"value":[],}"#, "expected a name");
        check(r#"{"value":[] "a":1}"#, "expected a comma or the end");
        check(r#"{"a" 1}"#, "expected a colon");
        check(r#"{"a":,}"#, "expected a value");
        check(r#"{"a":nul,"value":[]}"#, "a value that is not JSON");
        check(r#"{"a":[1}"#, "a value that is not JSON");
        check("\u{feff}\u{feff}{}", "not a json object");
    }

    #[test]
    fn long_members_are_refused_and_long_values_are_not() {
        let long = "x".repeat(MAX_MEMBERS_BYTES);
        let page = format!(r#"{{"value":["{long}"],"@odata.nextLink":"a"}}"#);
        assert!(scan(&[page.as_bytes()]).is_ok());
        let page = format!(r#"{{"value":[],"@odata.nextLink":"{long}"}}"#);
        assert_eq!(scan(&[page.as_bytes()]), Err(EnvelopeError::TooLong));
        let page = format!(r#"{{"{long}":1"#);
        assert_eq!(scan(&[page.as_bytes()]), Err(EnvelopeError::TooLong));
    }
}
