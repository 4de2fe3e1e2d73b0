//! Formats values for people and other programs: timestamps in UTC, lists as JSON.

use chrono::{DateTime, NaiveDate, SecondsFormat};
use polars::prelude::*;
use serde_json::Value;

/// Returns the value as JSON; NaN and infinities are null.
pub fn json(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => Value::Bool(*value),
        AnyValue::String(value) => Value::from(*value),
        AnyValue::StringOwned(value) => Value::from(value.as_str()),
        AnyValue::Float32(value) => Value::from(f64::from(*value)),
        AnyValue::Float64(value) => Value::from(*value),
        AnyValue::Date(days) => date(*days).map_or(Value::Null, |date| Value::from(date.to_string())),
        AnyValue::Datetime(ticks, unit, _) | AnyValue::DatetimeOwned(ticks, unit, _) => {
            timestamp(*ticks, *unit)
        }
        AnyValue::List(values) => values.iter().map(|value| json(&value)).collect(),
        value => match (value.extract::<i64>(), value.extract::<u64>()) {
            _ if !value.is_primitive_numeric() => Value::from(value.to_string()),
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(value.to_string()),
        },
    }
}

/// Returns the value as a cell of a table or of CSV; null is empty.
pub fn cell(value: &AnyValue<'_>) -> String {
    match json(value) {
        Value::Null => String::new(),
        Value::String(text) => text,
        value => value.to_string(),
    }
}

fn date(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(days)
}

fn timestamp(ticks: i64, unit: TimeUnit) -> Value {
    let time = match unit {
        TimeUnit::Nanoseconds => Some(DateTime::from_timestamp_nanos(ticks)),
        TimeUnit::Microseconds => DateTime::from_timestamp_micros(ticks),
        TimeUnit::Milliseconds => DateTime::from_timestamp_millis(ticks),
    };
    time.map_or(Value::Null, |time| Value::from(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
}
