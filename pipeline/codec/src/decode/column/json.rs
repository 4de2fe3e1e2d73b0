//! A column of JSON text: a column of strings whose values may be of any JSON kind on the wire.

use super::dictionary::NULL_KEY;
use super::string::StringColumn;
use crate::decode::coerce::json_text;
use crate::decode::json::JsonKind;
use crate::decode::spans::Span;

/// Adds values of consecutive records, which have been read as JSON; returns how many.
pub(super) fn push_spans(column: &mut StringColumn, text: &[u8], values: &[Span]) -> usize {
    for value in values {
        if *value == Span::NULL {
            column.keys.push(NULL_KEY);
        } else {
            let value = value.of(text);
            column.push(&json_text(JsonKind::of(value), value));
        }
    }
    values.len()
}
