//! Statistics of a data file for the log, from its footer alone.
//!
//! Takes the row groups' statistics of a Parquet footer; gives the JSON by which readers skip files. If a column
//! with values lacks a minimum or a maximum, the file gets no bounds at all: delta-rs finds no rows by a column
//! that has one bound or none beside columns that have both. Text is truncated to [`MAX_TEXT_CHARS`], minimums
//! downwards and maximums upwards, and so are timestamps to milliseconds, the protocol's precision.

use chrono::{DateTime, Datelike, Days, NaiveDate, SecondsFormat};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use schema::{ColumnType, Dataset, EXTRA_FIELDS};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::DeltaError;

/// Characters of text that a bound keeps: as many as Spark's.
const MAX_TEXT_CHARS: usize = 32;

/// Bytes of a file's end that are read at first: most footers are in them.
const FOOTER_BYTES: u64 = 64 << 10;

/// Statistics of one file in the log. They can be sent to another process, which commits the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatistics {
    /// `numRecords`, `minValues`, `maxValues`, `nullCount`, as JSON.
    pub(super) json: String,
    /// Whether the file has the column of undocumented fields.
    pub(super) has_extra_fields: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    num_records: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_values: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_values: Option<Map<String, Value>>,
    null_count: Map<String, Value>,
}

impl FileStatistics {
    /// Reads the statistics of a file of `dataset` and of `bytes` in a store, of which it fetches the end.
    ///
    /// # Errors
    ///
    /// [`DeltaError::Footer`], [`DeltaError::Store`].
    pub async fn fetch(
        dataset: &Dataset,
        store: &dyn ObjectStore,
        path: &Path,
        bytes: u64,
    ) -> Result<Self, DeltaError> {
        let mut num_bytes = FOOTER_BYTES.min(bytes);
        loop {
            let end = store
                .get_range(path, bytes - num_bytes..bytes)
                .await
                .map_err(|source| DeltaError::Store { action: "read", path: path.to_string(), source })?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&end, bytes).and_then(|()| reader.finish()) {
                Ok(footer) => return Ok(Self::of(dataset, &footer)),
                Err(ParquetError::NeedMoreData(needed))
                    if num_bytes < needed as u64 && needed as u64 <= bytes =>
                {
                    num_bytes = needed as u64;
                }
                Err(error) => return Err(footer_error(path.as_ref(), &error)),
            }
        }
    }

    /// Statistics that say nothing.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self { json: "{}".to_owned(), has_extra_fields: false }
    }

    /// Returns the statistics of a file of `dataset` from its footer.
    pub(crate) fn of(dataset: &Dataset, footer: &ParquetMetaData) -> Self {
        let mut json = Json {
            num_records: footer.file_metadata().num_rows(),
            min_values: None,
            max_values: None,
            null_count: Map::new(),
        };
        let schema = footer.file_metadata().schema_descr();
        let mut has_extra_fields = false;
        let (mut min_values, mut max_values, mut is_bounded) = (Map::new(), Map::new(), true);
        for (index, leaf) in schema.columns().iter().enumerate() {
            let [name] = leaf.path().parts() else { continue };
            has_extra_fields |= name == EXTRA_FIELDS.name;
            let column = dataset.file_columns().chain([&EXTRA_FIELDS]).find(|column| column.name == name);
            let Some(column) = column else { continue };
            let chunks = || footer.row_groups().iter().map(move |row_group| row_group.column(index));
            let num_nulls = null_count(chunks());
            if let Some(num_nulls) = num_nulls {
                json.null_count.insert(name.clone(), num_nulls.into());
            }
            if let (Some(least), Some(greatest)) = bounds(column.column_type, chunks()) {
                min_values.insert(name.clone(), least);
                max_values.insert(name.clone(), greatest);
            } else {
                is_bounded &= num_nulls == u64::try_from(json.num_records).ok();
            }
        }
        if is_bounded {
            (json.min_values, json.max_values) = (Some(min_values), Some(max_values));
        }
        let json = serde_json::to_string(&json).expect("text keys and plain values serialise");
        Self { json, has_extra_fields }
    }
}

/// Removes the bounds if a column has only one of them, as earlier versions wrote; returns `None` if both are
/// there.
pub(super) fn without_lone_bounds(statistics: &str) -> Option<String> {
    let mut all: Map<String, Value> = serde_json::from_str(statistics).ok()?;
    let [least, greatest] = ["minValues", "maxValues"].map(|name| match all.remove(name) {
        Some(Value::Object(values)) => values,
        _ => Map::new(),
    });
    if least.keys().eq(greatest.keys()) {
        return None;
    }
    Some(Value::from(all).to_string())
}

fn footer_error(path: &str, error: &ParquetError) -> DeltaError {
    DeltaError::Footer { path: path.to_owned(), reason: error.to_string() }
}

fn null_count<'c>(chunks: impl Iterator<Item = &'c ColumnChunkMetaData>) -> Option<u64> {
    chunks.map(|chunk| chunk.statistics()?.null_count_opt()).sum()
}

/// Returns minimum and maximum of a column, each only if it bounds every row.
fn bounds<'c>(
    column_type: ColumnType,
    chunks: impl Iterator<Item = &'c ColumnChunkMetaData>,
) -> (Option<Value>, Option<Value>) {
    // A row group without values has no bounds and does not matter; one without statistics does.
    let statistics = chunks.filter_map(|chunk| match chunk.statistics() {
        Some(found) if found.null_count_opt() == u64::try_from(chunk.num_values()).ok() => None,
        found => Some(found),
    });
    let Some(statistics) = statistics.collect::<Option<Vec<_>>>() else { return (None, None) };
    match column_type {
        ColumnType::Utf8 => {
            let min = |statistics: &Statistics| Some(statistics.min_bytes_opt()?.to_vec());
            let max = |statistics: &Statistics| Some(statistics.max_bytes_opt()?.to_vec());
            let (least, greatest) = range(&statistics, min, max);
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
            (
                least.and_then(text).map(|least| cut(&least).into()),
                greatest.and_then(text).and_then(|greatest| cut_upwards(&greatest)).map(Value::from),
            )
        }
        ColumnType::Int32 => {
            let (least, greatest) = range(&statistics, min_i32, max_i32);
            (least.map(Value::from), greatest.map(Value::from))
        }
        ColumnType::Int64 => {
            let (least, greatest) = range(&statistics, min_i64, max_i64);
            (least.map(Value::from), greatest.map(Value::from))
        }
        ColumnType::Float64 => {
            let (least, greatest) = range(&statistics, min_f64, max_f64);
            (least.map(|least| Value::from(least.0)), greatest.map(|greatest| Value::from(greatest.0)))
        }
        ColumnType::Date32 => {
            let (least, greatest) = range(&statistics, min_i32, max_i32);
            (least.and_then(date), greatest.and_then(date))
        }
        ColumnType::TimestampMicros => {
            let (least, greatest) = range(&statistics, min_i64, max_i64);
            (
                least.and_then(|micros| timestamp(micros.div_euclid(1000))),
                greatest.and_then(timestamp_upwards),
            )
        }
        // Spark neither writes nor reads these, but a file of which they are missing would have no bounds at all.
        ColumnType::Boolean => {
            let (least, greatest) = range(&statistics, min_bool, max_bool);
            (least.map(Value::from), greatest.map(Value::from))
        }
        // The protocol has no order of lists, and that of JSON text means nothing.
        ColumnType::Utf8List | ColumnType::StructList(_) | ColumnType::Json => (None, None),
    }
}

fn range<T: Ord>(
    statistics: &[&Statistics],
    min: impl Fn(&Statistics) -> Option<T>,
    max: impl Fn(&Statistics) -> Option<T>,
) -> (Option<T>, Option<T>) {
    let least: Option<Vec<T>> = statistics.iter().map(|statistics| min(statistics)).collect();
    let greatest: Option<Vec<T>> = statistics.iter().map(|statistics| max(statistics)).collect();
    (least.and_then(|all| all.into_iter().min()), greatest.and_then(|all| all.into_iter().max()))
}

fn min_bool(statistics: &Statistics) -> Option<bool> {
    if let Statistics::Boolean(values) = statistics { values.min_opt().copied() } else { None }
}

fn max_bool(statistics: &Statistics) -> Option<bool> {
    if let Statistics::Boolean(values) = statistics { values.max_opt().copied() } else { None }
}

fn min_i32(statistics: &Statistics) -> Option<i32> {
    if let Statistics::Int32(values) = statistics { values.min_opt().copied() } else { None }
}

fn max_i32(statistics: &Statistics) -> Option<i32> {
    if let Statistics::Int32(values) = statistics { values.max_opt().copied() } else { None }
}

fn min_i64(statistics: &Statistics) -> Option<i64> {
    if let Statistics::Int64(values) = statistics { values.min_opt().copied() } else { None }
}

fn max_i64(statistics: &Statistics) -> Option<i64> {
    if let Statistics::Int64(values) = statistics { values.max_opt().copied() } else { None }
}

/// A floating point number in the order of numbers; Parquet's bounds are never NaN.
#[derive(Debug, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn min_f64(statistics: &Statistics) -> Option<Ordered> {
    if let Statistics::Double(values) = statistics { values.min_opt().copied().map(Ordered) } else { None }
}

fn max_f64(statistics: &Statistics) -> Option<Ordered> {
    if let Statistics::Double(values) = statistics { values.max_opt().copied().map(Ordered) } else { None }
}

/// Whether a year has the four digits that the protocol's dates have.
fn is_four_digits(date: &impl Datelike) -> bool {
    (0..=9999).contains(&date.year())
}

fn date(days: i32) -> Option<Value> {
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs().into());
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) }?;
    is_four_digits(&date).then(|| date.to_string().into())
}

fn timestamp(millis: i64) -> Option<Value> {
    let time = DateTime::from_timestamp_millis(millis)?;
    is_four_digits(&time).then(|| time.to_rfc3339_opts(SecondsFormat::Millis, true).into())
}

/// Rounds up to milliseconds, or keeps all digits if that would be in the year 10000.
fn timestamp_upwards(micros: i64) -> Option<Value> {
    timestamp(micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) != 0)).or_else(|| {
        let time = DateTime::from_timestamp_micros(micros)?;
        is_four_digits(&time).then(|| time.to_rfc3339_opts(SecondsFormat::Micros, true).into())
    })
}

/// Truncates text.
fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// Truncates text upwards: returns text that is not less than any with this beginning, if there is one.
fn cut_upwards(text: &str) -> Option<String> {
    let kept = cut(text);
    if kept.len() == text.len() {
        return Some(kept.to_owned());
    }
    kept.char_indices().rev().find_map(|(position, character)| {
        // Byte order is code point order; surrogates are not characters.
        let next = match character {
            '\u{d7ff}' => '\u{e000}',
            _ => char::from_u32(u32::from(character) + 1)?,
        };
        Some(format!("{}{next}", &kept[..position]))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow_array::{
        ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use proptest::prelude::*;
    use schema::datasets::software_inventory::SOFTWARE_INVENTORY;
    use schema::{Column, Origin, Permission, Presence};
    use serde_json::json;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    /// Writes each batch as a row group of its own; gives the statistics as JSON.
    fn statistics(properties: WriterProperties, batches: &[RecordBatch]) -> Value {
        statistics_of(&SOFTWARE_INVENTORY, properties, batches)
    }

    fn statistics_of(dataset: &Dataset, properties: WriterProperties, batches: &[RecordBatch]) -> Value {
        let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
            writer.flush().unwrap();
        }
        let footer = writer.finish().unwrap();
        serde_json::from_str(&FileStatistics::of(dataset, &footer).json).unwrap()
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    #[test]
    fn bounds_are_over_all_row_groups() {
        let row_group = |name: Option<&str>, number: Option<i32>| {
            batch(vec![
                ("DeviceId", texts(&[Some("d")])),
                ("DeviceName", texts(&[name])),
                ("NumberOfWeaknesses", Arc::new(Int32Array::from(vec![number]))),
                ("theirs", texts(&[Some("x")])),
            ])
        };
        let found = statistics(
            WriterProperties::default(),
            &[row_group(Some("z"), Some(-1)), row_group(None, Some(7)), row_group(Some("é"), None)],
        );
        let expected = json!({
            "numRecords": 3,
            "minValues": { "DeviceId": "d", "DeviceName": "z", "NumberOfWeaknesses": -1 },
            "maxValues": { "DeviceId": "d", "DeviceName": "é", "NumberOfWeaknesses": 7 },
            "nullCount": { "DeviceId": 0, "DeviceName": 1, "NumberOfWeaknesses": 1 },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn columns_without_statistics_have_no_bounds() {
        let all_null = batch(vec![("DeviceName", texts(&[None, None]))]);
        let found = statistics(WriterProperties::default(), std::slice::from_ref(&all_null));
        let expected = json!({
            "numRecords": 2, "minValues": {}, "maxValues": {}, "nullCount": { "DeviceName": 2 },
        });
        assert_eq!(found, expected);
        let none = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
        let found = statistics(none, &[all_null]);
        assert_eq!(found, json!({ "numRecords": 2, "nullCount": {} }));
    }

    #[test]
    fn times_are_bounded_by_milliseconds_and_four_digits() {
        let times = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let dates = |values: Vec<i32>| -> ArrayRef { Arc::new(Date32Array::from(values)) };
        let found = statistics(
            WriterProperties::default(),
            &[batch(vec![
                ("GeneratedTime", times(vec![1_610_362_860_000_000, 1_610_362_860_000_000])),
                ("SoftwareFirstSeenTimestamp", times(vec![-1, 1_610_362_860_123_456])),
                ("EndOfSupportDate", dates(vec![-719_528, 18_638])),
            ])],
        );
        assert_eq!(
            found["minValues"],
            json!({
                "GeneratedTime": "2021-01-11T11:01:00.000Z",
                "SoftwareFirstSeenTimestamp": "1969-12-31T23:59:59.999Z",
                "EndOfSupportDate": "0000-01-01",
            })
        );
        assert_eq!(
            found["maxValues"],
            json!({
                "GeneratedTime": "2021-01-11T11:01:00.000Z",
                "SoftwareFirstSeenTimestamp": "2021-01-11T11:01:00.124Z",
                "EndOfSupportDate": "2021-01-11",
            })
        );
        let found = statistics(
            WriterProperties::default(),
            &[batch(vec![
                ("SoftwareFirstSeenTimestamp", times(vec![i64::MIN, i64::MAX])),
                ("EndOfSupportDate", dates(vec![i32::MIN, i32::MAX])),
            ])],
        );
        assert_eq!((&found["minValues"], &found["maxValues"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn column_has_both_bounds_or_neither() {
        let times = |micros: i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![0, micros]).with_timezone("UTC"))
        };
        let dates = |days: i32| -> ArrayRef { Arc::new(Date32Array::from(vec![0, days])) };
        let last_text = "\u{10ffff}".repeat(40);
        let check = |name: &str, array: ArrayRef, has_bounds: bool| {
            let found = statistics(WriterProperties::default(), &[batch(vec![(name, array)])]);
            for bounds in ["minValues", "maxValues"] {
                assert_eq!(found[bounds].get(name).is_some(), has_bounds, "{bounds} of {name}: {found}");
            }
        };
        // The last microsecond of the year 9999 is within its last millisecond; the next one is in the year 10000.
        check("SoftwareFirstSeenTimestamp", times(253_402_300_799_999_999), true);
        check("SoftwareFirstSeenTimestamp", times(253_402_300_800_000_000), false);
        check("SoftwareFirstSeenTimestamp", times(253_402_300_799_999_000), true);
        check("SoftwareFirstSeenTimestamp", times(i64::MIN), false);
        // 9999-12-31, and what a negative offset makes of it.
        check("EndOfSupportDate", dates(2_932_896), true);
        check("EndOfSupportDate", dates(2_932_897), false);
        check("EndOfSupportDate", dates(-719_529), false);
        check("DeviceName", texts(&[Some("a"), Some(&last_text)]), false);
        check("DeviceName", texts(&[Some("a"), Some(&"\u{10ffff}".repeat(32))]), true);
    }

    #[test]
    fn booleans_and_numbers_are_bounded_json_is_not() {
        let column = |name, column_type| Column {
            name,
            field_id: 1,
            child_ids: &[],
            column_type,
            presence: Presence::Optional,
            origin: Origin::Property,
            aliases: &[],
            doc: "",
            source: "",
        };
        let columns = vec![
            column("flag", ColumnType::Boolean),
            column("large", ColumnType::Int64),
            column("score", ColumnType::Float64),
            column("bag", ColumnType::Json),
        ];
        let permission = Permission { application: "", delegated: "" };
        let columns = columns.leak();
        let dataset = Dataset { columns, permission, partition_by: None, ..SOFTWARE_INVENTORY };
        let row_group = |flag: Option<bool>, score: Option<f64>, bag: Option<&str>| {
            batch(vec![
                ("flag", Arc::new(BooleanArray::from(vec![flag]))),
                ("large", Arc::new(Int64Array::from(vec![i64::MAX]))),
                ("score", Arc::new(Float64Array::from(vec![score]))),
                ("bag", texts(&[bag])),
            ])
        };
        let of = |row_groups: &[RecordBatch]| {
            let found = statistics_of(&dataset, WriterProperties::default(), row_groups);
            (found["minValues"].clone(), found["maxValues"].clone())
        };
        let bounded = of(&[
            row_group(Some(true), Some(-0.5), None),
            row_group(None, None, None),
            row_group(Some(false), Some(9.8), None),
        ]);
        let large = i64::MAX;
        let expected = (
            json!({ "flag": false, "large": large, "score": -0.5 }),
            json!({ "flag": true, "large": large, "score": 9.8 }),
        );
        assert_eq!(bounded, expected);
        // A column with values and without bounds leaves the file without any.
        assert_eq!(of(&[row_group(Some(true), Some(1.0), Some("{}"))]), (Value::Null, Value::Null));
    }

    #[test]
    fn lone_bounds_of_earlier_versions_are_left_out() {
        let lone =
            json!({ "numRecords": 2, "minValues": { "a": 1, "b": 2 }, "maxValues": { "b": 3, "c": 4 } });
        assert_eq!(without_lone_bounds(&lone.to_string()).as_deref(), Some("{\"numRecords\":2}"));
        let least_alone = json!({ "numRecords": 2, "minValues": { "a": 1 } });
        assert_eq!(without_lone_bounds(&least_alone.to_string()).as_deref(), Some("{\"numRecords\":2}"));
        let both = json!({ "numRecords": 2, "minValues": { "b": 2 }, "maxValues": { "b": 3 } });
        assert_eq!(without_lone_bounds(&both.to_string()), None);
        assert_eq!(without_lone_bounds("{\"numRecords\":2}"), None);
        assert_eq!(without_lone_bounds("not JSON"), None);
    }

    #[test]
    fn text_is_cut_upwards_past_the_last_characters() {
        let long = |text: &str| format!("{text}{}", "x".repeat(99));
        assert_eq!(cut_upwards("short").as_deref(), Some("short"));
        let check = |text: String, expected: Option<String>| assert_eq!(cut_upwards(&text), expected);
        check(long(""), Some(format!("{}y", "x".repeat(31))));
        check(long(&"\u{d7ff}".repeat(32)), Some(format!("{}\u{e000}", "\u{d7ff}".repeat(31))));
        check(long(&format!("a{}", "\u{10ffff}".repeat(31))), Some("b".to_owned()));
        check(long(&"\u{10ffff}".repeat(32)), None);
    }

    proptest! {
        #[test]
        fn bounds_of_text_hold_for_every_row(values in prop::collection::vec("\\PC{0,90}", 1..20)) {
            let rows: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
            let found = statistics(WriterProperties::default(), &[batch(vec![("DeviceName", texts(&rows))])]);
            let bound = |which: &str| found[which]["DeviceName"].as_str().map(str::to_owned);
            for value in &values {
                prop_assert!(bound("minValues").is_none_or(|least| least <= *value));
                prop_assert!(bound("maxValues").is_none_or(|greatest| greatest >= *value));
            }
            prop_assert!(bound("minValues").is_some() && bound("maxValues").is_some());
        }
    }
}
