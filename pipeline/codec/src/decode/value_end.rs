//! Takes text at a value that is not read as a string of text, a list of it or an integer; gives where the value
//! ends, by its quotes and brackets alone. Never validates: whoever reads the value does, and does so as a whole,
//! so that one that was found to end too early is not taken for valid. A value of JSON has no beginning that is one.

use super::spans::Span;
use crate::byte_search::begins_alike;
use crate::json_search::{closing_bracket, content_len};

/// Longest array or object: the end of one that is not closed is looked for no further.
const MAX_BRACKETED_BYTES: usize = 64 * 1024;

/// Finds a number or word, `previous` if it is equal; returns where it ends.
#[inline]
pub(super) fn scalar(text: &[u8], at: usize, previous: Span, value: &mut Span) -> Option<usize> {
    if let Some(end) = same(text, at, previous, value) {
        return Some(end);
    }
    let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let len = text[at..].iter().take_while(|byte| is_of_it(byte)).count();
    found(text, at, len, value)
}

/// Finds a value of any kind, `previous` if it is equal; returns where it ends.
#[inline(never)]
pub(super) fn any(text: &[u8], at: usize, previous: Span, value: &mut Span) -> Option<usize> {
    let len = match text.get(at)? {
        b'"' => content_len(&text[at + 1..])? + 2,
        b'{' | b'[' => match same(text, at, previous, value) {
            Some(end) => return Some(end),
            None => closing_bracket(&text[at..text.len().min(at + MAX_BRACKETED_BYTES)])? + 1,
        },
        _ => return scalar(text, at, previous, value),
    };
    found(text, at, len, value)
}

/// The value at `at` if it is `previous` again.
#[inline]
pub(super) fn same(text: &[u8], at: usize, previous: Span, value: &mut Span) -> Option<usize> {
    let rest = &text[at..];
    // The value before ended here, unless it was a number and this one is longer.
    let is_same = matches!(rest.get(previous.len()), Some(b',' | b'}'))
        && begins_alike(rest, &text[previous.start()..], previous.len());
    is_same.then(|| {
        *value = previous;
        at + previous.len()
    })
}

#[inline]
fn found(text: &[u8], at: usize, len: usize, value: &mut Span) -> Option<usize> {
    let found = &text[at..at + len];
    *value = if found == b"null" { Span::NULL } else { Span::new(at, len) };
    (!found.is_empty()).then_some(at + len)
}
