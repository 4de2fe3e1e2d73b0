//! Holds the real decoder against the oracle: takes a part's text; panics where the two differ.

use std::collections::BTreeMap;
use std::io::Write;

use arrow_array::types::UInt32Type;
use arrow_array::{
    Array, Date32Array, DictionaryArray, Int32Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use chrono::{DateTime, Duration, NaiveDate};
use codec::decode::column::Columns;
use codec::decode::field_map::FieldMap;
use codec::decode::reject::{self, RejectKind};
use codec::decode::{DecodeError, PartDecoder, Sink};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Decoded, EXTRA_FIELDS, Reject, Row, Value};

/// How the real decoder is to read a text: whatever these are, the result is the same.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub buffer_bytes: usize,
    pub gzip: bool,
    pub capture_extra_fields: bool,
}

struct Collect<'b> {
    field_map: &'b FieldMap,
    partitions: Vec<(Option<String>, Columns)>,
    /// Partition of each row.
    order: Vec<usize>,
    last: usize,
    rejects: Vec<Reject>,
    reasons: Vec<String>,
}

impl Sink for Collect<'_> {
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        self.note_rows();
        let position = self.partitions.iter().position(|(key, _)| key.as_deref() == partition);
        self.last = position.unwrap_or_else(|| {
            self.partitions.push((partition.map(str::to_owned), Columns::new(self.field_map)));
            self.partitions.len() - 1
        });
        &mut self.partitions[self.last].1
    }

    fn reject(&mut self, reject: reject::Reject) {
        assert_eq!(reject.kind == RejectKind::Field, reject.field.is_some());
        let reject::Reject { line, offset, field, raw, reason, .. } = reject;
        self.rejects.push(Reject { line, offset, field, raw });
        self.reasons.push(reason);
    }
}

impl Collect<'_> {
    /// Notes where the rows went that came since the last call.
    fn note_rows(&mut self) {
        if let Some((_, columns)) = self.partitions.get(self.last) {
            let before = self.order.iter().filter(|partition| **partition == self.last).count();
            self.order.resize(self.order.len() + columns.num_rows() - before, self.last);
        }
    }

    fn into_rows(mut self) -> Vec<Row> {
        self.note_rows();
        let properties = self.field_map.properties();
        let mut partitions: Vec<_> = self
            .partitions
            .iter_mut()
            .map(|(key, columns)| {
                let order: Vec<u32> = (0..).take(columns.num_rows()).collect();
                let finished = columns.finish(&order);
                let mut rows = vec![Row::new(); finished.num_rows];
                let columns = properties.iter().map(|column| column.name).zip(&finished.properties);
                let extra = (EXTRA_FIELDS, &Some(finished.extra_fields));
                for (name, array) in columns.chain([extra]) {
                    let Some(array) = array else {
                        let value = |row: &mut Row| {
                            row.extend(key.as_ref().map(|key| (name, Value::Text(key.clone()))));
                        };
                        rows.iter_mut().for_each(value);
                        continue;
                    };
                    assert_eq!(array.len(), finished.num_rows);
                    for (index, row) in rows.iter_mut().enumerate() {
                        row.extend(to_value(array, index).map(|value| (name, value)));
                    }
                }
                rows.into_iter()
            })
            .collect();
        let rows = self.order.iter().map(|partition| partitions[*partition].next().expect("noted"));
        rows.collect()
    }
}

fn to_text(texts: &dyn Array, index: usize) -> Option<String> {
    let texts = texts.as_any().downcast_ref::<DictionaryArray<UInt32Type>>().expect("a dictionary");
    let values = texts.values().as_any().downcast_ref::<StringArray>().expect("of text");
    texts.key(index).map(|key| values.value(key).to_owned())
}

fn to_value(array: &dyn Array, index: usize) -> Option<Value> {
    if array.is_null(index) {
        return None;
    }
    let any = array.as_any();
    Some(if let Some(numbers) = any.downcast_ref::<Int32Array>() {
        Value::Integer(numbers.value(index))
    } else if let Some(times) = any.downcast_ref::<TimestampMicrosecondArray>() {
        Value::Time(DateTime::from_timestamp_micros(times.value(index)).expect("in range"))
    } else if let Some(dates) = any.downcast_ref::<Date32Array>() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        Value::Date(epoch + Duration::days(i64::from(dates.value(index))))
    } else if let Some(lists) = any.downcast_ref::<ListArray>() {
        let elements = lists.value(index);
        Value::List((0..elements.len()).map(|element| to_text(&elements, element)).collect())
    } else {
        Value::Text(to_text(array, index)?)
    })
}

/// Decodes a part with the real decoder: what it holds, and the reason of each reject.
pub fn decode_part(part: &[u8], reading: Reading) -> Result<(Decoded, Vec<String>), DecodeError> {
    let field_map = FieldMap::new(schema::DATASETS[0], reading.capture_extra_fields);
    let mut sink = Collect {
        field_map: &field_map,
        partitions: Vec::new(),
        order: Vec::new(),
        last: 0,
        rejects: Vec::new(),
        reasons: Vec::new(),
    };
    let mut decoder = PartDecoder::with_buffer_bytes(part, &field_map, reading.buffer_bytes)?;
    while decoder.decode_some(&mut sink)? {}
    let counts = decoder.counts();
    let mut undocumented = BTreeMap::new();
    for (name, count) in decoder.undocumented() {
        *undocumented.entry(name.to_owned()).or_default() += count;
    }
    let rejects = std::mem::take(&mut sink.rejects);
    let reasons = std::mem::take(&mut sink.reasons);
    let part = Decoded {
        rows: sink.into_rows(),
        rejects,
        records: counts.records,
        rejected_records: counts.rejected_records,
        field_rejects: counts.field_rejects,
        coerced: counts.coerced,
        duplicate_names: counts.duplicate_names,
        undocumented,
    };
    Ok((part, reasons))
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
    // A partition is named by its value, and the empty text counts as null there.
    for row in &mut expected.rows {
        row.retain(|name, value| *name != "OSPlatform" || *value != Value::Text(String::new()));
    }
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
