//! Takes a part's bytes; gives rows and rejects. Pure: no IO but the reader it is given, no clock.
//!
//! ```text
//! bytes ─▶ inflate ─▶ framing ─▶ template ──────────────────▶ columns ─▶ batch
//!          gzip?      records      └─▶ tape ───────▶ values ─▶ columns
//!                             mismatch  └─▶ coerce ▶ values ─▶ columns
//!                                unpredicted  └────▶ rejects
//! ```
//!
//! A record that is written like those before it is read by a template of them. One that is not, but is
//! as documented, is read from simd-json's tape, and the template learns it. Any other record takes the
//! slow path, `coerce`, which alone decides on coercions and rejects:
//!
//! | input | outcome | counted as |
//! |---|---|---|
//! | an object with a usable `DeviceId` | a row | `records`, `rows` |
//! | not an object; not JSON; no usable `DeviceId`; deeper than 128; longer than 16 MiB; invalid Unicode | no row; a reject of kind `record` | `records`, `rejected_records` |
//! | a value that cannot become its column's type; a platform that no directory can be named after | a row with null there; a reject of kind `field` | `field_rejects` |
//! | `3.0` or `"3"` for an integer, `"2.5"` for a float, `"True"` or `1` for a boolean, a number for text, bare text for a list or a struct, a number or boolean in a list of text | a row with the value converted | `coerced` |
//! | `""` for an integer, float, boolean, date or timestamp; `{}` or the year 0001 for a date or timestamp; `"Unknown"` or `"-"` for a boolean; a null or absent field | a row with null there | |
//! | an object or array for JSON text; a string, number or boolean for it | a row with its text without white space; with its own text | |
//! | a member of a struct that cannot become its type, an element that cannot be a struct | a row with null there | `field_rejects` |
//! | a member of a struct that is not declared | a row without it, in `ExtraFields` neither | `undocumented_fields`, as `Column.member` |
//! | a column's name given twice, in any case, or one of its aliases beside it; another name given twice as it is | a row with the last value | `duplicate_names` |
//! | a field that no column claims | a row; with capture, its text in `ExtraFields` | `undocumented_fields`, rows that have it; beyond 1024 names of a part, or 256 bytes of a name, under `(other names)` |
//! | white space, a byte order mark at the start, commas between the records of an array | nothing | `json_bytes` |
//! | gzip of nothing, only white space, `[]`, `{"value":[]}` | a part without records | |
//! | no bytes at all; gzip that is cut off, fails its checksum or has bytes behind it | an error: the part is damaged | |
//! | text that begins with neither `{` nor `[`, after a byte order mark and white space; a single record that is an error of an API | an error: the part is damaged | |
//! | an array or page that is not closed or has text behind it; a page that is not JSON beside its records, or has not exactly one array `value` | an error: the part is damaged | |
//!
//! `framing.rs` defines what a record is if the text is broken. A record that is rejected counts as
//! neither coerced nor undocumented.

pub mod inflate;
mod read_ahead;
pub mod framing;
pub mod value_scanner;
pub mod file_type;
pub mod json;
mod template;
mod value_end;
mod spans;
mod record_partitions;
pub mod tape;
pub mod coerce;
pub mod value;
pub mod field_map;
pub mod integer;
pub mod timestamp;
pub mod column;
mod arena;
mod lost_columns;
pub mod reject;
mod row_sink;

use std::io::Read;
use std::sync::Arc;

use field_map::{FieldMap, Names};
use file_type::FileType;
use framing::{Frame, Framer, FramingError, NextRecord, Position};
use inflate::Inflate;
use lost_columns::LostColumns;
pub use read_ahead::ReadingWork;
use reject::{Reject, RejectKind};
pub(crate) use row_sink::RowSink;
use tape::TapeReader;
use template::{MatchedRecords, RecordTemplate};
use value::JsonValue;

use crate::memory_pool::MemoryPool;

/// Why a part is damaged. The caller adds the part's name.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The part has no bytes. An empty part has some: this transfer failed.
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

/// Decodes one part, a stretch at a time.
#[derive(Debug)]
pub(crate) struct PartDecoder<R> {
    field_map: Arc<FieldMap>,
    framer: Framer<Inflate<R>>,
    is_gzip: bool,
    template: RecordTemplate,
    tape: TapeReader,
    names: Names,
    counts: DecodeCounts,
    lost_columns: LostColumns,
    /// The first record, an error of an API. With another record behind it, it is a reject like any other.
    error_body: Option<Reject>,
}

/// Bytes of JSON that one call of [`PartDecoder::decode_some`] takes before it returns.
const STRETCH_BYTES: u64 = 1024 * 1024;

/// Rejects after which [`PartDecoder::decode_some`] returns, so that they never pile up.
const STRETCH_REJECTS: u64 = 256;

impl<R: Read> PartDecoder<R> {
    /// Looks at the first bytes of a part.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Empty`] and [`DecodeError::Open`].
    pub(crate) fn try_new(reader: R, field_map: Arc<FieldMap>) -> Result<Self, DecodeError> {
        let inflate = Inflate::try_new(reader)
            .map_err(|source| DecodeError::Open { source })?
            .ok_or(DecodeError::Empty)?;
        Ok(Self {
            is_gzip: inflate.is_gzip(),
            framer: Framer::new(inflate),
            template: RecordTemplate::default(),
            tape: TapeReader::default(),
            names: Names::new(),
            counts: DecodeCounts::default(),
            lost_columns: LostColumns::new(field_map.properties().len()),
            error_body: None,
            field_map,
        })
    }

    /// Takes a text buffer of the given size, before anything is decoded. The result does not depend on it.
    #[must_use]
    pub(crate) fn with_buffer_bytes(mut self, buffer_bytes: usize) -> Self {
        self.framer = self.framer.with_buffer_bytes(buffer_bytes);
        self
    }

    /// Waits for a turn of `turns` before each record that needs a large buffer. A turn lasts until the next
    /// call of [`Self::decode_some`]: until the caller has taken the record's row.
    #[must_use]
    pub(crate) fn with_turns(mut self, turns: MemoryPool) -> Self {
        self.framer.take_turns(turns);
        self
    }

    /// Has the rest of the text read ahead: `start` is given what another thread is to do.
    #[must_use]
    pub(crate) fn with_read_ahead(self, start: impl FnOnce(ReadingWork)) -> Self
    where
        R: Send + 'static,
    {
        let framer = self.framer.map_reader(|inflate| {
            let (inflate, work) = inflate.ahead();
            start(work);
            inflate
        });
        Self { framer, ..self }
    }

    /// Returns the counts so far; complete once [`Self::decode_some`] has returned false.
    pub(crate) fn counts(&self) -> DecodeCounts {
        DecodeCounts { json_bytes: self.framer.num_bytes(), ..self.counts }
    }

    /// Undocumented names so far, with the number of rows that had each.
    pub(crate) fn undocumented(&self) -> impl Iterator<Item = (&str, u64)> {
        self.names.undocumented()
    }

    /// Columns that are null in every row so far because their values were rejected.
    pub(crate) fn lost_columns(&self) -> impl Iterator<Item = &'static str> {
        self.lost_columns.lost().map(|property| self.field_map.properties()[property].name)
    }

    /// Decodes some records into `sink`; returns false at the end of the part. Returns early if
    /// columns have as many rows as a row group takes.
    ///
    /// # Errors
    ///
    /// The part is damaged; its rows in the sink must not be used.
    pub(crate) fn decode_some(&mut self, sink: &mut impl RowSink) -> Result<bool, DecodeError> {
        self.framer.end_turn();
        let until = self.framer.num_bytes() + STRETCH_BYTES;
        let rejects = |counts: &DecodeCounts| counts.rejected_records + counts.field_rejects;
        let until_rejects = rejects(&self.counts) + STRETCH_REJECTS;
        let mut step = Step::Row { is_full: false };
        while step == (Step::Row { is_full: false })
            && self.framer.num_bytes() < until
            && rejects(&self.counts) < until_rejects
        {
            step = self.step(sink).map_err(|error| self.damaged(error))?;
            if self.framer.shrink() {
                break;
            }
        }
        Ok(step != Step::End)
    }

    fn damaged(&self, error: FramingError) -> DecodeError {
        match error {
            FramingError::Read { .. } if self.is_gzip => DecodeError::Gzip(error),
            error => DecodeError::Text(error),
        }
    }

    fn step(&mut self, sink: &mut impl RowSink) -> Result<Step, FramingError> {
        let place = self.framer.seek()?;
        if let Some(reject) = self.error_body.take() {
            if place == Position::End {
                return Err(FramingError::NotAnExport { found: FileType::JsonError });
            }
            sink.reject(reject);
        }
        if place == Position::End {
            return Ok(Step::End);
        }
        if let Some(step) = self.matched(place, sink) {
            return Ok(step);
        }
        let num_buffered = self.framer.buffered().len();
        let next = self.framer.frame()?;
        // If the record went on behind what was buffered, it is whole now.
        if self.framer.buffered().len() > num_buffered
            && let Some(step) = self.matched(place, sink)
        {
            return Ok(step);
        }
        self.framed(next, sink)
    }

    /// Reads the next records by the template, if they match.
    #[inline]
    fn matched(&mut self, place: Position, sink: &mut impl RowSink) -> Option<Step> {
        let are_lines = match place {
            Position::Line => true,
            Position::Element => false,
            Position::RestOfLine | Position::End => return None,
        };
        // The sink is not asked before there is a row.
        if !self.template.is_learnt() {
            return None;
        }
        // The spans of a longer record take many times its text.
        let text = self.framer.buffered();
        let text = &text[..text.len().min(framing::BUFFER_BYTES)];
        let MatchedRecords { len, num_lines, num_rows, is_full } =
            self.template.decode(text, are_lines, sink, &self.field_map, &mut self.names)?;
        self.framer.pass(len, num_lines);
        self.counts.records += num_rows as u64;
        self.template.note_values(num_rows, &self.field_map, &mut self.lost_columns);
        Some(Step::Row { is_full })
    }

    fn framed(&mut self, next: NextRecord, sink: &mut impl RowSink) -> Result<Step, FramingError> {
        match next {
            NextRecord::End => Ok(Step::End),
            NextRecord::TooLong { head, offset, line, num_bytes } => {
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
                Ok(Step::Row { is_full: false })
            }
            NextRecord::Frame(frame) => {
                let record = self.framer.bytes(&frame);
                let field_map = &*self.field_map;
                let lost_columns = &mut self.lost_columns;
                let row = |values: &[JsonValue<'_>]| {
                    lost_columns.note_row(values);
                    push(values, None, field_map, sink)
                };
                if let Ok(step) = self.tape.decode(record, field_map, &mut self.names, row) {
                    self.template.learn(record, field_map, &mut self.names);
                    self.counts.records += 1;
                    self.framer.consume(&frame);
                    Ok(step)
                } else if frame.tentative {
                    match self.framer.settle(&frame)? {
                        NextRecord::Frame(frame) => {
                            debug_assert!(!frame.tentative);
                            Ok(self.coerce(&frame, sink))
                        }
                        other => self.framed(other, sink),
                    }
                } else {
                    Ok(self.coerce(&frame, sink))
                }
            }
        }
    }

    fn coerce(&mut self, frame: &Frame, sink: &mut impl RowSink) -> Step {
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
        let step = match coerce::decode(record, &self.field_map, &mut self.names) {
            Ok(row) => {
                self.counts.field_rejects += row.field_rejects.len() as u64;
                self.counts.coerced += row.num_coerced;
                self.counts.duplicate_names += row.num_duplicate_names;
                let extra_fields = row.extra_fields.as_deref();
                let values = row.json_values();
                self.lost_columns.note_row(&values);
                let step = push(&values, extra_fields, &self.field_map, sink);
                if row.is_unchanged() {
                    // It has values that the tape leaves to this path: numbers and JSON as they are written.
                    self.template.learn(record, &self.field_map, &mut self.names);
                }
                for (index, reason) in row.field_rejects {
                    self.lost_columns.note_reject(index);
                    let column = self.field_map.properties()[index];
                    sink.reject(reject(RejectKind::Field, Some(column.name), reason));
                }
                step
            }
            Err(reason) => {
                self.counts.rejected_records += 1;
                let reject = reject(RejectKind::Record, None, reason);
                if self.counts.records == 1
                    && file_type::is_error_body(record, &self.field_map, &mut self.names)
                {
                    self.error_body = Some(reject);
                } else {
                    sink.reject(reject);
                }
                Step::Row { is_full: false }
            }
        };
        self.framer.consume(frame);
        step
    }
}

/// What one step of decoding did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It took a record.
    Row {
        /// Its columns take no more.
        is_full: bool,
    },
    /// There was none.
    End,
}

/// Adds a row of values to the columns of its partition.
fn push(
    values: &[JsonValue<'_>],
    extra_fields: Option<&str>,
    field_map: &FieldMap,
    sink: &mut impl RowSink,
) -> Step {
    let value = match field_map.partition().map(|partition| values[partition]) {
        Some(JsonValue::Text(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let columns = sink.columns(value);
    columns.push(values, extra_fields);
    Step::Row { is_full: columns.num_rows() >= column::MAX_ROWS }
}

#[cfg(test)]
mod tests;
