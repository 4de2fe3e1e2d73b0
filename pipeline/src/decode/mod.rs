//! Takes a part's bytes; gives rows and rejects. Pure: no IO but the reader it is given, no clock.
//!
//! ```text
//! bytes ─▶ inflate ─▶ framing ─▶ tape ──────────────────▶ cells ─▶ batch
//!          gzip?      records      └─▶ careful ─▶ cells
//!                                  surprise  └──▶ rejects
//! ```
//!
//! A record that is just as documented goes over simd-json's tape. Anything else goes, from its
//! bytes again, through the careful path, where every coercion and every reject is decided:
//!
//! | input | outcome | counted as |
//! |---|---|---|
//! | an object with a usable `DeviceId` | a row | `records`, `rows` |
//! | not an object; not JSON; no usable `DeviceId`; deeper than 128; longer than 16 MiB; invalid Unicode | no row; a reject of kind `record` | `records`, `rejected_records` |
//! | a value that cannot become its column's type; a platform that no directory can be named after | a row with null there; a reject of kind `field` | `field_rejects` |
//! | `3.0` or `"3"` for an integer, a number for text, bare text for a list, a number in a list of text | a row with the value converted | `coerced` |
//! | `""` for an integer, date or timestamp; `{}` or the year 0001 for a date or timestamp; a null or absent field | a row with null there | |
//! | a column's name given twice, whatever its case; another name given twice as it is | a row with the last value | `duplicate_names` |
//! | a field that no column claims | a row; with capture, its text in `ExtraFields` | `undocumented_fields`, rows that have it; beyond 1024 names of a part, or 256 bytes of a name, under `(other names)` |
//! | white space, a byte order mark at the start, commas between the records of an array | nothing | `json_bytes` |
//! | gzip of nothing, text of nothing but white space, `[]`, `{"value":[]}` | a part without records | |
//! | no bytes at all; gzip that is cut off, fails its checksum or has bytes behind it | an error: the part is damaged | |
//! | an array or page that is not closed or has text behind it; a page that is no JSON beside its records, or has not one array `value` | an error: the part is damaged | |
//!
//! What counts as a record where text is broken, says `framing.rs`. Counts of a record that is
//! rejected stop at that: it is neither coerced nor undocumented.

pub mod binding;
pub mod careful;
pub mod cell;
pub mod framing;
pub mod inflate;
pub mod integer;
pub mod json;
pub mod reject;
pub mod structure;
pub mod tape;
pub mod timestamp;

use std::io::Read;

use binding::{Binding, Names};
use cell::Cell;
use framing::{Frame, Framer, FramingError, Next};
use inflate::Inflate;
use reject::{Reject, RejectKind};
use tape::TapeReader;

/// Why a part is damaged. Its name is added by whoever knows it.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes at all: not an empty part, but a transfer that brought nothing.
    #[error("the part is empty: no bytes, not even of compression")]
    Empty,
    /// The first bytes could not be read.
    #[error("cannot be read")]
    Open {
        /// What failed.
        source: std::io::Error,
    },
    /// The compressed stream is cut off, fails its checksum, or has bytes behind its last member.
    #[error("gzip is damaged")]
    Gzip(#[source] FramingError),
    /// The text cannot be read or taken apart.
    #[error(transparent)]
    Text(FramingError),
}

/// What decoding counted in a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeCounts {
    /// Bytes of JSON text.
    pub json_bytes: u64,
    /// Records read.
    pub records: u64,
    /// Records that became no row.
    pub rejected_records: u64,
    /// Fields that became null with a reject.
    pub field_rejects: u64,
    /// Values converted from another JSON type.
    pub coerced: u64,
    /// Names given again within their record.
    pub duplicate_names: u64,
}

/// Where rows and rejects go.
pub trait Sink {
    /// Takes a row: its cells in the order of [`Binding::properties`], and its captured fields.
    fn row(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>);
    /// Takes a reject.
    fn reject(&mut self, reject: Reject);
}

/// Decodes one part, a stretch at a time.
#[derive(Debug)]
pub struct PartDecoder<'b, R> {
    binding: &'b Binding,
    framer: Framer<Inflate<R>>,
    is_gzip: bool,
    tape: TapeReader,
    names: Names,
    counts: DecodeCounts,
}

/// Bytes of JSON that one call of [`PartDecoder::decode_some`] takes before it returns.
const STRETCH_BYTES: u64 = 1024 * 1024;

/// Rejects after which [`PartDecoder::decode_some`] returns, so that they never pile up.
const STRETCH_REJECTS: u64 = 256;

impl<'b, R: Read> PartDecoder<'b, R> {
    /// Looks at the first bytes of a part.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Empty`] and [`DecodeError::Open`].
    pub fn try_new(reader: R, binding: &'b Binding) -> Result<Self, DecodeError> {
        Self::with_framer(reader, binding, Framer::new)
    }

    /// As [`Self::try_new`] with a text buffer of the given size: what is decoded does not depend on it.
    ///
    /// # Errors
    ///
    /// As [`Self::try_new`].
    pub fn with_buffer_bytes(
        reader: R,
        binding: &'b Binding,
        buffer_bytes: usize,
    ) -> Result<Self, DecodeError> {
        Self::with_framer(reader, binding, |inflate| Framer::with_buffer_bytes(inflate, buffer_bytes))
    }

    fn with_framer(
        reader: R,
        binding: &'b Binding,
        framer: impl FnOnce(Inflate<R>) -> Framer<Inflate<R>>,
    ) -> Result<Self, DecodeError> {
        let inflate = Inflate::try_new(reader)
            .map_err(|source| DecodeError::Open { source })?
            .ok_or(DecodeError::Empty)?;
        Ok(Self {
            binding,
            is_gzip: inflate.is_gzip(),
            framer: framer(inflate),
            tape: TapeReader::default(),
            names: Names::new(),
            counts: DecodeCounts::default(),
        })
    }

    /// What has been counted so far; whole once [`Self::decode_some`] has returned false.
    pub fn counts(&self) -> DecodeCounts {
        DecodeCounts { json_bytes: self.framer.num_bytes(), ..self.counts }
    }

    /// Undocumented names so far, with the number of rows that had each.
    pub fn undocumented(&self) -> impl Iterator<Item = (&str, u64)> {
        self.names.undocumented()
    }

    /// Decodes a stretch of records into `sink`; false once the part has ended.
    ///
    /// # Errors
    ///
    /// The part is damaged; what the sink was given of it must not be used.
    pub fn decode_some(&mut self, sink: &mut impl Sink) -> Result<bool, DecodeError> {
        let until = self.framer.num_bytes() + STRETCH_BYTES;
        let rejects = |counts: &DecodeCounts| counts.rejected_records + counts.field_rejects;
        let until_rejects = rejects(&self.counts) + STRETCH_REJECTS;
        while self.framer.num_bytes() < until && rejects(&self.counts) < until_rejects {
            let next = self.framer.next_record().map_err(|error| self.damaged(error))?;
            if !self.decode_next(next, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn damaged(&self, error: FramingError) -> DecodeError {
        match error {
            FramingError::Read { .. } if self.is_gzip => DecodeError::Gzip(error),
            error => DecodeError::Text(error),
        }
    }

    fn decode_next(&mut self, next: Next, sink: &mut impl Sink) -> Result<bool, DecodeError> {
        match next {
            Next::End => return Ok(false),
            Next::TooLong { head, offset, line, num_bytes } => {
                self.counts.records += 1;
                self.counts.rejected_records += 1;
                let limit = framing::MAX_RECORD_BYTES;
                sink.reject(Reject {
                    line,
                    offset,
                    kind: RejectKind::Record,
                    field: None,
                    reason: format!("longer than {limit} bytes: {num_bytes}; raw holds the first {limit}"),
                    raw: head,
                });
            }
            Next::Frame(frame) => {
                let record = self.framer.bytes(&frame);
                let row = |cells: &[Cell<'_>]| sink.row(cells, None);
                if self.tape.decode(record, self.binding, &mut self.names, row).is_ok() {
                    self.counts.records += 1;
                    self.framer.consume(&frame);
                } else if frame.tentative {
                    let settled = self.framer.settle(&frame).map_err(|error| self.damaged(error))?;
                    return self.decode_settled(settled, sink);
                } else {
                    self.decode_careful(&frame, sink);
                }
            }
        }
        Ok(true)
    }

    fn decode_settled(&mut self, settled: Next, sink: &mut impl Sink) -> Result<bool, DecodeError> {
        match settled {
            Next::Frame(frame) => {
                debug_assert!(!frame.tentative);
                self.decode_careful(&frame, sink);
                Ok(true)
            }
            other => self.decode_next(other, sink),
        }
    }

    fn decode_careful(&mut self, frame: &Frame, sink: &mut impl Sink) {
        let record = self.framer.bytes(frame);
        let reject = |kind, field, reason| Reject {
            line: frame.line,
            offset: frame.offset,
            kind,
            field,
            reason,
            raw: record.to_vec(),
        };
        self.counts.records += 1;
        match careful::decode(record, self.binding, &mut self.names) {
            Ok(row) => {
                self.counts.field_rejects += row.field_rejects.len() as u64;
                self.counts.coerced += row.num_coerced;
                self.counts.duplicate_names += row.num_duplicate_names;
                sink.row(&row.cells(), row.extra_fields.as_deref());
                for (index, reason) in row.field_rejects {
                    let column = self.binding.properties()[index];
                    sink.reject(reject(RejectKind::Field, Some(column.name), reason));
                }
            }
            Err(reason) => {
                self.counts.rejected_records += 1;
                sink.reject(reject(RejectKind::Record, None, reason));
            }
        }
        self.framer.consume(frame);
    }
}

#[cfg(test)]
mod tests;
