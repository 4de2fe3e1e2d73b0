//! Holds the real decoder against the oracle: takes a part's text; panics where the two differ.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Duration, NaiveDate};
use flate2::Compression;
use flate2::write::GzEncoder;
use pipeline::decode::binding::Binding;
use pipeline::decode::cell::Cell;
use pipeline::decode::reject::{self, RejectKind};
use pipeline::decode::{DecodeError, PartDecoder, Sink};

use super::{Decoded, EXTRA_FIELDS, Reject, Row, Value};

/// How the real decoder is to read a text: whatever these are, the result is the same.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub buffer_bytes: usize,
    pub gzip: bool,
    pub capture_extra_fields: bool,
}

struct Collect<'b> {
    binding: &'b Binding,
    rows: Vec<Row>,
    rejects: Vec<Reject>,
    reasons: Vec<String>,
}

impl Sink for Collect<'_> {
    fn row(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        assert_eq!(cells.len(), self.binding.properties().len());
        let mut row = Row::new();
        for (column, cell) in self.binding.properties().iter().zip(cells) {
            row.extend(to_value(*cell).map(|value| (column.name, value)));
        }
        row.extend(extra_fields.map(|text| (EXTRA_FIELDS, Value::Text(text.to_owned()))));
        self.rows.push(row);
    }

    fn reject(&mut self, reject: reject::Reject) {
        assert_eq!(reject.kind == RejectKind::Field, reject.field.is_some());
        let reject::Reject { line, offset, field, raw, reason, .. } = reject;
        self.rejects.push(Reject { line, offset, field, raw });
        self.reasons.push(reason);
    }
}

fn to_value(cell: Cell<'_>) -> Option<Value> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Text(text) => Value::Text(text.to_owned()),
        Cell::Int32(number) => Value::Integer(number),
        Cell::Micros(micros) => Value::Time(DateTime::from_timestamp_micros(micros).expect("in range")),
        Cell::Days(days) => {
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
            Value::Date(epoch + Duration::days(i64::from(days)))
        }
        Cell::List(list) => {
            let mut elements = Vec::new();
            list.for_each(|text| elements.push(text.map(str::to_owned)));
            Value::List(elements)
        }
    })
}

/// Decodes a part with the real decoder: what it holds, and the reason of each reject.
pub fn decode_part(part: &[u8], reading: Reading) -> Result<(Decoded, Vec<String>), DecodeError> {
    let binding = Binding::new(schema::DATASETS[0], reading.capture_extra_fields);
    let mut sink = Collect { binding: &binding, rows: Vec::new(), rejects: Vec::new(), reasons: Vec::new() };
    let mut decoder = PartDecoder::with_buffer_bytes(part, &binding, reading.buffer_bytes)?;
    while decoder.decode_some(&mut sink)? {}
    let counts = decoder.counts();
    let mut undocumented = BTreeMap::new();
    for (name, count) in decoder.undocumented() {
        *undocumented.entry(name.to_owned()).or_default() += count;
    }
    let part = Decoded {
        rows: sink.rows,
        rejects: sink.rejects,
        records: counts.records,
        rejected_records: counts.rejected_records,
        field_rejects: counts.field_rejects,
        coerced: counts.coerced,
        duplicate_names: counts.duplicate_names,
        undocumented,
    };
    Ok((part, sink.reasons))
}

/// Compresses a text as the service does.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory can be written")
}

/// Checks that the real decoder and the oracle agree on `text`.
///
/// # Panics
///
/// Where they do not.
pub fn check(text: &[u8], reading: Reading) {
    // A part without a byte is no part, and one that begins as gzip does is no text.
    if !reading.gzip && matches!(text.first(), None | Some(0x1f)) {
        return;
    }
    let part = if reading.gzip { gzip(text) } else { text.to_vec() };
    let expected = super::decode(text, reading.capture_extra_fields);
    let found = decode_part(&part, reading);
    let (mut expected, (found, reasons)) = match (expected, found) {
        (Ok(expected), Ok(found)) => (expected, found),
        (Err(_), Err(_)) => return,
        (expected, found) => panic!("{reading:?}: expected {expected:#?}, found {found:#?}"),
    };
    // Beyond this many names, names are no longer counted one by one.
    if text.split(|byte| *byte == b'"').count() > 1024 {
        expected.undocumented.clone_from(&found.undocumented);
    }
    assert_eq!(found, expected, "{reading:?}, reasons {reasons:#?}");
    assert_eq!(found.records, found.rows.len() as u64 + found.rejected_records);
    assert!(reasons.iter().all(|reason| !reason.is_empty()));
}

/// Checks `text` with buffers of several sizes, plain and compressed, dropping and capturing.
pub fn check_all(text: &[u8]) {
    for (index, buffer_bytes) in [1, 2, 3, 5, 7, 16, 31, 64, 100, 333, 1024, 1 << 20].into_iter().enumerate()
    {
        check(text, Reading { buffer_bytes, gzip: index % 3 == 0, capture_extra_fields: index % 2 == 0 });
    }
}
