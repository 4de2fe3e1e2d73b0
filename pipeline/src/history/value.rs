//! Values that are compared: numbers, times and booleans are 64-bit integers of the same order, whatever their
//! type; text stands for itself.
//!
//! Takes such an integer and the type of its column; gives the value's text.

use chrono::{DateTime, NaiveDate, SecondsFormat};
use schema::ColumnType;

/// Returns a number of the same order: that of IEEE's total order.
pub fn float_number(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Returns the floating point number of a number of its order.
pub fn float(number: u64) -> f64 {
    f64::from_bits(if number >> 63 == 1 { number & !(1 << 63) } else { !number })
}

fn signed(number: u64) -> i64 {
    (number ^ 1 << 63).cast_signed()
}

/// Returns the number of a signed integer, of the same order.
pub fn signed_number(value: i64) -> u64 {
    value.cast_unsigned() ^ 1 << 63
}

/// Returns the text of a number of a column of `column_type`: times in UTC as in RFC 3339.
///
/// # Panics
///
/// If the column holds no numbers, times or booleans: a mistake of ours.
pub fn text(number: u64, column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Int32 | ColumnType::Int64 => signed(number).to_string(),
        ColumnType::Float64 => format!("{:?}", float(number)),
        ColumnType::Boolean => (number == 1).to_string(),
        ColumnType::Date32 => {
            i32::try_from(signed(number)).map_or_else(|_| signed(number).to_string(), date_text)
        }
        ColumnType::TimestampMicros => timestamp_text(signed(number)),
        ColumnType::Utf8 | ColumnType::Json | ColumnType::Utf8List | ColumnType::StructList(_) => {
            panic!("a column of type {column_type} holds no numbers")
        }
    }
}

/// Returns a date as in ISO 8601.
pub fn date_text(days: i32) -> String {
    NaiveDate::from_epoch_days(days).map_or_else(|| days.to_string(), |date| date.to_string())
}

/// Returns a time as in RFC 3339, in UTC.
pub fn timestamp_text(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => micros.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_order_and_text_of_values() {
        let floats = [f64::MIN, -1.5, -0.0, 0.0, 7.0, 9.8, f64::MAX];
        assert!(floats.map(float_number).is_sorted());
        assert_eq!(
            floats[1..6]
                .iter()
                .map(|value| text(float_number(*value), ColumnType::Float64))
                .collect::<Vec<_>>(),
            ["-1.5", "-0.0", "0.0", "7.0", "9.8"]
        );
        let integers = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(integers.map(signed_number).is_sorted());
        for value in integers {
            assert_eq!(text(signed_number(value), ColumnType::Int64), value.to_string());
        }
        assert_eq!(text(1, ColumnType::Boolean), "true");
        assert_eq!(text(signed_number(18_638), ColumnType::Date32), "2021-01-11");
        assert_eq!(
            text(signed_number(1_610_362_860_500_000), ColumnType::TimestampMicros),
            "2021-01-11T11:01:00.500Z"
        );
    }
}
