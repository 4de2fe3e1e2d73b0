//! Takes a part's JSON text as a stream; gives one record after the other, with offset and line.
//!
//! Shapes, recognised by the first bytes of the text after an optional byte order mark and white space;
//! text that begins with neither `{` nor `[` is not an export:
//! - records on lines of their own, over several lines, or one behind the other;
//! - an array of records; commas between them are optional;
//! - a page of the API, `{"@odata.context": …, "value": [records], …}`, its other members anywhere.
//!
//! What a record is does not depend on buffers: a whole JSON value, or the rest of the line if its
//! structure is broken. Outside of an array only objects count as values. Reading goes on right behind
//! the record, so that a broken one never takes the next line with it. `value_scanner.rs` defines
//! structure.

use std::io::{self, Read};

use super::file_type::{self, FileType};
use super::value_scanner::{Scan, ValueScanner};
use crate::memory_pool::{MemoryPool, Reservation};

/// Longest record that can become a row.
pub const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Text held at a time, unless a record needs more. Fits a core's second-level cache, with the values found in it.
pub const BUFFER_BYTES: usize = 512 * 1024;

/// Text held for the longest record; longer ones are skipped.
const MAX_BUFFER_BYTES: usize = MAX_RECORD_BYTES + 64 * 1024;

const NOT_JSON: &str = "is not JSON";

/// Where one record lies in the framer's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
    /// Bytes from the start of the decompressed part.
    pub offset: u64,
    /// 1-based line in the decompressed part.
    pub line: u64,
    /// The frame is a guess, right in nearly every case: the rest of the line. If it does not
    /// read as one value, [`Framer::settle`] finds the record by the rule.
    pub tentative: bool,
}

/// Where the framer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before a record that is to be a line of its own.
    Line,
    /// Before a record behind another one on its line.
    RestOfLine,
    /// Before a record inside an array.
    Element,
    /// At the end of the part.
    End,
}

/// The next thing in a part.
#[derive(Debug)]
pub enum NextRecord {
    /// A record.
    Frame(Frame),
    /// A record longer than [`MAX_RECORD_BYTES`], already passed over.
    TooLong {
        /// Its first bytes.
        head: Vec<u8>,
        /// As in [`Frame`].
        offset: u64,
        /// As in [`Frame`].
        line: u64,
        /// Length of the whole.
        num_bytes: u64,
    },
    /// The end of the part.
    End,
}

/// Why the text of a part cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The stream failed, or its compression is damaged.
    #[error("after {offset} bytes of JSON")]
    Read {
        /// Bytes of JSON that were read before.
        offset: u64,
        /// What failed.
        source: io::Error,
    },
    /// It is something else.
    #[error("the part is {found}; expected JSON records in UTF-8")]
    NotAnExport {
        /// Its type.
        found: FileType,
    },
    /// An array or page is not closed.
    #[error(
        "the {shape} that begins the part is not closed when the part ends, after {offset} bytes of JSON"
    )]
    Unclosed {
        /// `array` or `page`.
        shape: &'static str,
        /// Bytes of JSON in the part.
        offset: u64,
    },
    /// Something follows a whole array or page.
    #[error("line {line}, byte {offset}: text after the {shape} that begins the part")]
    Trailing {
        /// `array` or `page`.
        shape: &'static str,
        /// Where the text begins.
        offset: u64,
        /// Its line.
        line: u64,
    },
    /// A page is invalid beside its records.
    #[error("line {line}, byte {offset}: the page {problem}")]
    Page {
        /// The problem.
        problem: &'static str,
        /// Where.
        offset: u64,
        /// Its line.
        line: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unknown,
    /// Records by themselves. `rest_of_line`: the one before ended on this line, so the next is not the whole line.
    Records {
        rest_of_line: bool,
    },
    /// Inside the array that is the part.
    Array,
    /// Inside the page's object.
    Page {
        /// A member has ended: a comma or the page's end is next.
        member_ended: bool,
        has_value: bool,
    },
    /// Inside the `value` array of a page.
    PageValue,
    /// Behind the array or page.
    Closed(&'static str),
}

/// Takes a stream apart into records.
#[derive(Debug)]
pub struct Framer<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Size of the buffer unless a record needs more.
    least_bytes: usize,
    /// Where a part waits for its turn if a record needs more; `None` does not wait.
    turns: Option<MemoryPool>,
    turn: Option<Reservation>,
    start: usize,
    end: usize,
    at_end: bool,
    /// Offset and line of `buffer[start]`.
    offset: u64,
    line: u64,
    shape: Shape,
}

impl<R: Read> Framer<R> {
    /// Begins at the start of a part's text.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_BYTES],
            least_bytes: BUFFER_BYTES,
            turns: None,
            turn: None,
            start: 0,
            end: 0,
            at_end: false,
            offset: 0,
            line: 1,
            shape: Shape::Unknown,
        }
    }

    /// Takes a buffer of this size, at least one byte, before anything is read; it grows if a record needs more.
    ///
    /// # Panics
    ///
    /// If something has been read.
    #[must_use]
    pub fn with_buffer_bytes(self, buffer_bytes: usize) -> Self {
        assert_eq!(self.end, 0, "a buffer is chosen before anything is read");
        let buffer_bytes = buffer_bytes.max(1);
        Self { buffer: vec![0; buffer_bytes], least_bytes: buffer_bytes, ..self }
    }

    /// Reads the rest from what `replace` makes of the reader.
    pub fn map_reader<S>(self, replace: impl FnOnce(R) -> S) -> Framer<S> {
        let Self { reader, buffer, least_bytes, turns, turn, start, end, at_end, offset, line, shape } = self;
        let reader = replace(reader);
        Framer { reader, buffer, least_bytes, turns, turn, start, end, at_end, offset, line, shape }
    }

    /// Waits for a turn of these if a record needs a larger buffer than [`BUFFER_BYTES`].
    pub fn take_turns(&mut self, turns: MemoryPool) {
        self.turns = Some(turns);
    }

    /// Frees the memory of a large record, if the rest needs no more than the usual
    /// buffer; says whether it did. The turn goes on until [`Self::end_turn`].
    pub fn shrink(&mut self) -> bool {
        let is_large = self.buffer.len() > self.least_bytes.max(BUFFER_BYTES);
        if !is_large || self.end - self.start > self.least_bytes {
            return false;
        }
        let mut buffer = vec![0; self.least_bytes];
        let rest = &self.buffer[self.start..self.end];
        buffer[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
        self.buffer = buffer;
        true
    }

    /// Lets other parts have their large records, unless one is still held here.
    pub fn end_turn(&mut self) {
        if self.buffer.len() <= self.least_bytes.max(BUFFER_BYTES) {
            self.turn = None;
        }
    }

    /// Bytes of JSON text consumed so far.
    pub fn num_bytes(&self) -> u64 {
        self.offset
    }

    /// The bytes of a frame; valid until the next call of `seek`, `settle` or `consume`.
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.buffer[frame.start..frame.end]
    }

    /// Moves past a frame.
    pub fn consume(&mut self, frame: &Frame) {
        debug_assert_eq!(frame.start, self.start);
        self.advance(frame.end - frame.start);
    }

    fn advance(&mut self, len: usize) {
        let passed = &self.buffer[self.start..self.start + len];
        // A record that is a line holds no line feed: nothing to count in the common case.
        if !matches!(self.shape, Shape::Records { rest_of_line: false }) {
            self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        }
        self.start += len;
        self.offset += len as u64;
    }

    /// Reads more behind what is buffered, growing the buffer if it is full; returns false at the end of the stream.
    fn read_more(&mut self) -> Result<bool, FramingError> {
        if self.at_end {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.grow();
        }
        let before = self.end;
        // No more of what stands behind a large record than the usual buffer holds.
        let limit = self.buffer.len().min(self.end + self.least_bytes.max(BUFFER_BYTES));
        while self.end < limit {
            match self.reader.read(&mut self.buffer[self.end..limit]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(len) => self.end += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + (self.end - self.start) as u64;
                    return Err(FramingError::Read { offset, source });
                }
            }
        }
        Ok(self.end > before)
    }

    fn grow(&mut self) {
        let len = self.buffer.len();
        let grown = (2 * len).min(MAX_BUFFER_BYTES).max(len + 1);
        if grown > BUFFER_BYTES && self.turn.is_none() {
            self.turn = self.turns.as_ref().map(|turns| turns.take(1));
        }
        self.buffer.reserve_exact(grown - len);
        self.buffer.resize(grown, 0);
    }

    /// Passes over white space; false at the end of the part.
    fn skip_whitespace(&mut self) -> Result<bool, FramingError> {
        loop {
            while self.start < self.end {
                match self.buffer[self.start] {
                    b'\n' => {
                        self.line += 1;
                        if let Shape::Records { rest_of_line } = &mut self.shape {
                            *rest_of_line = false;
                        }
                    }
                    b' ' | b'\t' | b'\r' => {}
                    _ => return Ok(true),
                }
                self.start += 1;
                self.offset += 1;
            }
            if !self.read_more()? {
                return Ok(false);
            }
        }
    }

    /// Goes to where the next record begins.
    pub fn seek(&mut self) -> Result<Position, FramingError> {
        if self.shape == Shape::Unknown {
            self.recognise()?;
        }
        loop {
            if !self.skip_whitespace()? {
                return match self.shape {
                    Shape::Array => Err(FramingError::Unclosed { shape: "array", offset: self.offset }),
                    Shape::Page { .. } | Shape::PageValue => {
                        Err(FramingError::Unclosed { shape: "page", offset: self.offset })
                    }
                    _ => Ok(Position::End),
                };
            }
            let byte = self.buffer[self.start];
            match self.shape {
                Shape::Records { rest_of_line: false } => return Ok(Position::Line),
                Shape::Array | Shape::PageValue if byte == b',' => self.advance(1),
                Shape::Array if byte == b']' => {
                    self.advance(1);
                    self.shape = Shape::Closed("array");
                }
                Shape::PageValue if byte == b']' => {
                    self.advance(1);
                    self.shape = Shape::Page { member_ended: true, has_value: true };
                }
                Shape::Records { rest_of_line: true } => return Ok(Position::RestOfLine),
                Shape::Array | Shape::PageValue => return Ok(Position::Element),
                Shape::Page { member_ended: false, has_value } => self.page_member(has_value)?,
                Shape::Page { has_value, .. } => match byte {
                    b',' => {
                        self.advance(1);
                        self.shape = Shape::Page { member_ended: false, has_value };
                    }
                    b'}' if has_value => {
                        self.advance(1);
                        self.shape = Shape::Closed("page");
                    }
                    b'}' => return Err(self.page_error("has no `value`")),
                    _ => return Err(self.page_error(NOT_JSON)),
                },
                Shape::Closed(shape) => {
                    return Err(FramingError::Trailing { shape, offset: self.offset, line: self.line });
                }
                Shape::Unknown => unreachable!("recognised above"),
            }
        }
    }

    /// Frames the record that begins here, which must have been sought. It stays until [`Self::consume`].
    pub fn frame(&mut self) -> Result<NextRecord, FramingError> {
        match self.shape {
            Shape::Records { rest_of_line: false } => self.line_frame(),
            _ => self.value_frame(),
        }
    }

    /// Text buffered from here on; a record that begins here may go on behind it.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves past `len` bytes with this many line feeds.
    pub fn pass(&mut self, len: usize, num_lines: u64) {
        debug_assert_eq!(memchr::memchr_iter(b'\n', &self.buffered()[..len]).count() as u64, num_lines);
        self.start += len;
        self.offset += len as u64;
        self.line += num_lines;
    }

    /// Finds the record that a tentative frame is, by the rule.
    pub fn settle(&mut self, frame: &Frame) -> Result<NextRecord, FramingError> {
        debug_assert!(frame.tentative && frame.start == self.start);
        self.value_frame()
    }

    /// Drops a byte order mark and recognises the part's shape, or its file type if it is not an export.
    fn recognise(&mut self) -> Result<(), FramingError> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        while self.end - self.start < BYTE_ORDER_MARK.len() && self.read_more()? {}
        if self.buffer[self.start..self.end].starts_with(BYTE_ORDER_MARK) {
            self.advance(BYTE_ORDER_MARK.len());
        }
        self.shape = Shape::Records { rest_of_line: false };
        if !self.skip_whitespace()? {
            return Ok(());
        }
        while self.end - self.start < 4 && self.read_more()? {}
        match self.buffer[self.start..self.end] {
            // Text of two or four bytes a letter, without the mark that says so.
            [b'{' | b'[', 0, _, 0, ..] => return self.not_an_export(),
            [b'[', ..] => {
                self.advance(1);
                self.shape = Shape::Array;
            }
            [b'{', ..] => {
                if self.begins_page()? {
                    self.advance(1);
                    self.shape = Shape::Page { member_ended: false, has_value: false };
                }
            }
            _ => return self.not_an_export(),
        }
        Ok(())
    }

    fn not_an_export(&mut self) -> Result<(), FramingError> {
        while self.end - self.start < file_type::HEAD_BYTES && self.read_more()? {}
        let head = &self.buffer[self.start..self.end];
        let found = FileType::of(&head[..head.len().min(file_type::HEAD_BYTES)]);
        Err(FramingError::NotAnExport { found })
    }

    /// Whether the object at the start is a page: its first member is `value` with an array, or one
    /// of the annotations that the API puts on pages.
    fn begins_page(&mut self) -> Result<bool, FramingError> {
        /// More than any of the names with white space around it.
        const LOOK_AHEAD_BYTES: usize = 4096;
        while self.end - self.start < LOOK_AHEAD_BYTES && self.read_more()? {}
        let text = &self.buffer[self.start..self.end];
        let text = &text[..text.len().min(LOOK_AHEAD_BYTES)];
        let Some(text) = trim_start(&text[1..]).strip_prefix(b"\"") else { return Ok(false) };
        let Some(quote) = memchr::memchr(b'"', text) else { return Ok(false) };
        Ok(match &text[..quote] {
            b"@odata.context" | b"@odata.count" | b"@odata.nextLink" | b"@odata.deltaLink" => true,
            b"value" => trim_start(&text[quote + 1..])
                .strip_prefix(b":")
                .is_some_and(|text| trim_start(text).starts_with(b"[")),
            _ => false,
        })
    }

    fn page_error(&self, problem: &'static str) -> FramingError {
        FramingError::Page { problem, offset: self.offset, line: self.line }
    }

    /// Passes over one member of a page, or into its `value` array. If the part ends inside, so
    /// does this.
    fn page_member(&mut self, has_value: bool) -> Result<(), FramingError> {
        const VALUE: &[u8] = br#""value""#;
        if self.buffer[self.start] != b'"' {
            return Err(self.page_error(NOT_JSON));
        }
        while self.end - self.start < VALUE.len() && self.read_more()? {}
        let is_value = self.buffer[self.start..self.end].starts_with(VALUE);
        self.pass_over_value()?;
        if !self.skip_whitespace()? {
            return Ok(());
        }
        if self.buffer[self.start] != b':' {
            return Err(self.page_error(NOT_JSON));
        }
        self.advance(1);
        if !self.skip_whitespace()? {
            return Ok(());
        }
        if !is_value {
            self.pass_over_value()?;
            self.shape = Shape::Page { member_ended: true, has_value };
        } else if self.buffer[self.start] != b'[' {
            return Err(self.page_error("has a `value` that is not an array"));
        } else if has_value {
            return Err(self.page_error("has a second `value`"));
        } else {
            self.advance(1);
            self.shape = Shape::PageValue;
        }
        Ok(())
    }

    /// Passes over a value without holding it.
    fn pass_over_value(&mut self) -> Result<(), FramingError> {
        let mut scanner = ValueScanner::default();
        loop {
            match scanner.feed(&self.buffer[self.start..self.end]) {
                Scan::Done(len) => {
                    self.advance(len);
                    return Ok(());
                }
                Scan::More(len) => {
                    self.advance(len);
                    if !self.read_more()? {
                        // A backslash whose escape is cut off has been left.
                        self.advance(self.end - self.start);
                        return Ok(());
                    }
                }
                Scan::Invalid(len) => {
                    self.advance(len);
                    return Err(self.page_error(NOT_JSON));
                }
            }
        }
    }

    fn framed(&self, len: usize, tentative: bool) -> NextRecord {
        let text = &self.buffer[self.start..self.start + len];
        NextRecord::Frame(Frame {
            start: self.start,
            end: self.start + trimmed_len(text),
            offset: self.offset,
            line: self.line,
            tentative,
        })
    }

    /// Frames the rest of the line, tentatively.
    fn line_frame(&mut self) -> Result<NextRecord, FramingError> {
        let mut searched = 0;
        loop {
            let text = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &text[searched..]) {
                return Ok(self.framed(searched + at, true));
            }
            searched = text.len();
            if searched > MAX_RECORD_BYTES {
                return self.value_frame();
            }
            if !self.read_more()? {
                return Ok(self.framed(searched, true));
            }
        }
    }

    /// Frames the value at the start, or the rest of the line where its structure breaks.
    fn value_frame(&mut self) -> Result<NextRecord, FramingError> {
        let bare = matches!(self.shape, Shape::Records { .. });
        // By themselves only objects are records; anything else is the line that it stands on.
        if bare && self.buffer[self.start] != b'{' {
            return self.broken_frame();
        }
        let mut scanner = ValueScanner::default();
        let mut num_passed = 0;
        loop {
            match scanner.feed(&self.buffer[self.start + num_passed..self.end]) {
                Scan::Done(len) if num_passed + len > MAX_RECORD_BYTES => return self.too_long(true),
                Scan::Done(len) => {
                    if bare {
                        self.shape = Shape::Records { rest_of_line: true };
                    }
                    return Ok(self.framed(num_passed + len, false));
                }
                // Decided by where it breaks, not by how much of it is buffered.
                Scan::Invalid(len) if num_passed + len > MAX_RECORD_BYTES => return self.too_long(true),
                Scan::Invalid(_) => return self.broken_frame(),
                Scan::More(len) => {
                    num_passed += len;
                    if num_passed > MAX_RECORD_BYTES {
                        return self.too_long(true);
                    }
                    if !self.read_more()? {
                        return self.broken_frame();
                    }
                }
            }
        }
    }

    /// Frames the rest of the line, the record if there is no whole value.
    fn broken_frame(&mut self) -> Result<NextRecord, FramingError> {
        let mut searched = 0;
        loop {
            let text = &self.buffer[self.start..self.end];
            let newline = memchr::memchr(b'\n', &text[searched..]).map(|at| searched + at);
            let len = newline.unwrap_or(text.len());
            if len > MAX_RECORD_BYTES {
                return self.too_long(false);
            }
            if newline.is_some() {
                return Ok(self.framed(len, false));
            }
            searched = len;
            if !self.read_more()? {
                return Ok(self.framed(len, false));
            }
        }
    }

    /// Passes over a record that is too long to hold, and keeps its first bytes: the value that
    /// stands here, or the rest of the line where none does. By itself, a value this long is a
    /// record only on one line: lines are what reading can go on with when it is broken further on.
    fn too_long(&mut self, is_value: bool) -> Result<NextRecord, FramingError> {
        let bare = matches!(self.shape, Shape::Records { .. });
        let head = &self.buffer[self.start..self.start + MAX_RECORD_BYTES];
        if bare && is_value && memchr::memchr(b'\n', head).is_some() {
            return self.broken_frame();
        }
        let head = head.to_vec();
        let (offset, line) = (self.offset, self.line);
        let mut scanner = is_value.then(ValueScanner::default);
        loop {
            let text = &self.buffer[self.start..self.end];
            let newline = memchr::memchr(b'\n', text);
            let scan = match &mut scanner {
                Some(scanner) if bare => Some(scanner.feed(&text[..newline.unwrap_or(text.len())])),
                Some(scanner) => Some(scanner.feed(text)),
                None => None,
            };
            let (len, ended) = match scan {
                Some(Scan::Done(len)) => (len, true),
                Some(Scan::More(len)) if !bare || newline.is_none() => (len, false),
                Some(Scan::Invalid(len)) => {
                    scanner = None;
                    (len, false)
                }
                Some(Scan::More(_)) | None => (newline.unwrap_or(text.len()), newline.is_some()),
            };
            self.advance(len);
            let more =
                ended || scan.is_some_and(|scan| matches!(scan, Scan::Invalid(_))) || self.read_more()?;
            if ended || !more {
                if bare {
                    self.shape = Shape::Records { rest_of_line: true };
                }
                return Ok(NextRecord::TooLong { head, offset, line, num_bytes: self.offset - offset });
            }
        }
    }
}

fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// `text` without the white space of JSON before it, which is less than that of ASCII: a form feed
/// taken for one would belong to no record.
fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| is_whitespace(**byte)).count()..]
}

/// Length of `text` without the white space of JSON behind it.
fn trimmed_len(text: &[u8]) -> usize {
    text.len() - text.iter().rev().take_while(|byte| is_whitespace(**byte)).count()
}
