//! Holds the real decoder against the oracle: takes a part's text; panics if the two differ.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use chrono::{DateTime, Duration, NaiveDate};
use codec::batch_layout::{BatchLayout, BatchOptions, RowOrder, TextType};
use codec::decode::DecodeError;
use codec::decode::reject::{self, RejectKind};
use codec::part_reader::PartReader;
use flate2::Compression;
use flate2::write::GzEncoder;
use schema::Dataset;

use super::{Decoded, EXTRA_FIELDS, Reject, Row, Value};

/// How the real decoder reads a text; the result is the same for all of them but the dataset.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub dataset: &'static str,
    pub buffer_bytes: usize,
    pub gzip: bool,
    pub capture_extra_fields: bool,
    pub plain_text: bool,
}

fn to_text(texts: &dyn Array, index: usize) -> Option<String> {
    if let Some(texts) = texts.as_any().downcast_ref::<StringArray>() {
        return texts.is_valid(index).then(|| texts.value(index).to_owned());
    }
    let texts = texts.as_any().downcast_ref::<DictionaryArray<UInt32Type>>().expect("a dictionary");
    let values = texts.values().as_any().downcast_ref::<StringArray>().expect("of text");
    texts.key(index).map(|key| values.value(key).to_owned())
}

/// Returns the value of a row in a column as the oracle has it; `None` for null.
pub fn to_value(array: &dyn Array, index: usize) -> Option<Value> {
    if array.is_null(index) {
        return None;
    }
    let any = array.as_any();
    Some(if let Some(numbers) = any.downcast_ref::<Int32Array>() {
        Value::Integer(numbers.value(index).into())
    } else if let Some(numbers) = any.downcast_ref::<Int64Array>() {
        Value::Integer(numbers.value(index))
    } else if let Some(numbers) = any.downcast_ref::<Float64Array>() {
        Value::Float(numbers.value(index))
    } else if let Some(values) = any.downcast_ref::<BooleanArray>() {
        Value::Boolean(values.value(index))
    } else if let Some(times) = any.downcast_ref::<TimestampMicrosecondArray>() {
        Value::Time(DateTime::from_timestamp_micros(times.value(index)).expect("in range"))
    } else if let Some(dates) = any.downcast_ref::<Date32Array>() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        Value::Date(epoch + Duration::days(i64::from(dates.value(index))))
    } else if let Some(lists) = any.downcast_ref::<ListArray>() {
        let elements = lists.value(index);
        let rows = 0..elements.len();
        match elements.as_any().downcast_ref::<StructArray>() {
            None => Value::List(rows.map(|element| to_text(&elements, element)).collect()),
            Some(structs) => Value::Structs(rows.map(|element| to_members(structs, element)).collect()),
        }
    } else {
        Value::Text(to_text(array, index)?)
    })
}

fn to_members(structs: &StructArray, index: usize) -> Option<Vec<Option<Value>>> {
    let member = |member: &ArrayRef| to_value(member, index);
    structs.is_valid(index).then(|| structs.columns().iter().map(member).collect())
}

/// Returns a dataset by its name.
///
/// # Panics
///
/// If there is none.
pub fn dataset(name: &str) -> &'static Dataset {
    schema::DATASETS.iter().find(|dataset| dataset.name == name).expect("a dataset's name")
}

/// Decodes a part with the real decoder: what it holds, and the reason of each reject.
pub fn decode_part(part: &[u8], reading: Reading) -> Result<(Decoded, Vec<String>), DecodeError> {
    let options = BatchOptions {
        extra_fields: reading.capture_extra_fields,
        text: if reading.plain_text { TextType::Plain } else { TextType::Dictionary },
        partition_columns: true,
        order: RowOrder::AsRead,
    };
    let dataset = dataset(reading.dataset);
    let layout = BatchLayout::new(dataset, DateTime::UNIX_EPOCH, options);
    let reader = PartReader::try_new(part, Arc::new(layout))?;
    let mut reader = reader.with_buffer_bytes(reading.buffer_bytes);
    let (mut rejects, mut reasons) = (Vec::new(), Vec::new());
    let on_reject = |reject: reject::Reject| {
        assert_eq!(reject.kind == RejectKind::Field, reject.field.is_some());
        let reject::Reject { line, offset, field, raw, reason, .. } = reject;
        rejects.push(Reject { line, offset, field, raw });
        reasons.push(reason);
    };
    let mut rows: BTreeMap<Option<String>, Vec<Row>> = BTreeMap::new();
    for batch in reader.batches(on_reject) {
        let (key, batch) = batch?;
        let partition = rows.entry(key.value().map(str::to_owned)).or_default();
        partition.extend((0..batch.num_rows()).map(|index| to_row(&batch, dataset, index)));
    }
    let counts = reader.counts();
    let mut undocumented = BTreeMap::new();
    for (name, count) in reader.undocumented() {
        *undocumented.entry(name.to_owned()).or_default() += count;
    }
    let part = Decoded {
        rows: rows.into_values().flatten().collect(),
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

/// A row as the oracle has it: what the export and not the record says is checked and left out.
fn to_row(batch: &RecordBatch, dataset: &'static Dataset, index: usize) -> Row {
    let schema = batch.schema();
    let mut row = Row::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let value = to_value(array, index);
        let name = dataset.columns.iter().map(|column| column.name).find(|name| name == field.name());
        match (name, field.name().as_str()) {
            (Some("GeneratedTime"), _) => assert_eq!(value, Some(Value::Time(DateTime::UNIX_EPOCH))),
            (None, "snapshot_date") => {
                assert_eq!(value, Some(Value::Date(DateTime::UNIX_EPOCH.date_naive())));
            }
            (name, _) => row.extend(value.map(|value| (name.unwrap_or(EXTRA_FIELDS), value))),
        }
    }
    row
}

/// Brings rows into the order of the decoder's: partition by partition, as read within one.
pub fn sort_by_partition(rows: &mut [Row], dataset: &Dataset) {
    let Some(partition) = dataset.partition_by else { return };
    rows.sort_by_key(|row| match row.get(partition) {
        Some(Value::Text(platform)) => Some(platform.clone()),
        _ => None,
    });
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
/// If they do not.
pub fn check(text: &[u8], reading: Reading) {
    // A part without a byte is not a part, and one that begins as gzip does is not text.
    if !reading.gzip && matches!(text.first(), None | Some(0x1f)) {
        return;
    }
    let part = if reading.gzip { gzip(text) } else { text.to_vec() };
    let dataset = dataset(reading.dataset);
    let expected = super::decode(text, dataset, reading.capture_extra_fields);
    let found = decode_part(&part, reading);
    let (mut expected, (found, reasons)) = match (expected, found) {
        (Ok(expected), Ok(found)) => (expected, found),
        (Err(_), Err(_)) => return,
        (expected, found) => panic!("{reading:?}: expected {expected:#?}, found {found:#?}"),
    };
    // A partition is named by its value, and the empty text counts as null there.
    for row in &mut expected.rows {
        row.retain(|name, value| dataset.partition_by != Some(*name) || *value != Value::Text(String::new()));
    }
    sort_by_partition(&mut expected.rows, dataset);
    // Beyond this many names, names are no longer counted one by one.
    if text.split(|byte| *byte == b'"').count() > 1024 {
        expected.undocumented.clone_from(&found.undocumented);
    }
    assert_eq!(found, expected, "{reading:?}, reasons {reasons:#?}");
    assert_eq!(found.records, found.rows.len() as u64 + found.rejected_records);
    assert!(reasons.iter().all(|reason| !reason.is_empty()));
}

/// Checks `text` with buffers of several sizes, plain and compressed, dropping and capturing.
pub fn check_all(text: &[u8], dataset: &'static str) {
    for (index, buffer_bytes) in [1, 2, 3, 5, 7, 16, 31, 64, 100, 333, 1024, 1 << 20].into_iter().enumerate()
    {
        check(
            text,
            Reading {
                dataset,
                buffer_bytes,
                gzip: index % 3 == 0,
                capture_extra_fields: index % 2 == 0,
                plain_text: index % 4 < 2,
            },
        );
    }
}
