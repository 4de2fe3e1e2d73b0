//! Takes the text of a JSON number or of digits; gives the integer that it is exactly.

use std::str::FromStr;

/// Reads a JSON number whose value is an integer: `3`, `-3`, `3.0`, `30e-1`. `None` if it has a
/// fraction or does not fit. Exact: no digit is lost on the way through a float.
pub fn from_number<T: TryFrom<i128>>(text: &[u8]) -> Option<T> {
    /// Of the largest integer.
    const MAX_DIGITS: usize = 20;
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(exponent_at);
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    let digits: Vec<u8> = mantissa.iter().filter(|byte| byte.is_ascii_digit()).copied().collect();
    let is_zero = |&digit: &u8| digit == b'0';
    let Some(first) = digits.iter().position(|digit| !is_zero(digit)) else { return T::try_from(0).ok() };
    let last = digits.iter().rposition(|digit| !is_zero(digit)).unwrap_or(first);
    let exponent = match exponent {
        [] => 0,
        [_, rest @ ..] => std::str::from_utf8(rest).ok()?.parse::<i64>().ok()?,
    };
    // Number of digits before the decimal point, once the exponent is applied.
    let whole = i64::try_from(point).ok()?.checked_add(exponent)?;
    let whole = usize::try_from(whole).ok()?;
    if last >= whole || whole - first > MAX_DIGITS {
        return None;
    }
    let value = (first..whole).fold(0_i128, |value, place| {
        value * 10 + digits.get(place).map_or(0, |digit| i128::from(digit - b'0'))
    });
    T::try_from(if negative { -value } else { value }).ok()
}

/// Reads a string of digits with an optional minus, the way some writers put integers.
pub fn from_digits<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Whether a JSON number is written as an integer, without point or exponent.
pub fn is_plain(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integral_numbers_are_read_exactly() {
        for (text, expected) in [
            ("3", Some(3)),
            ("-0", Some(0)),
            ("0.000", Some(0)),
            ("0e999999999999", Some(0)),
            ("3.0", Some(3)),
            ("-3.00", Some(-3)),
            ("30e-1", Some(3)),
            ("0.3e1", Some(3)),
            ("3E+2", Some(300)),
            ("2147483647", Some(i32::MAX)),
            ("-2147483648", Some(i32::MIN)),
            ("2147483648", None),
            ("3.5", None),
            ("0.3", None),
            ("1e400", None),
            ("1e-400", None),
            ("3.00000000000000000000000000001", None),
            ("99999999999999999999999999", None),
            ("1e99999999999999999999", None),
        ] {
            assert_eq!(from_number::<i32>(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn long_integers_are_read_exactly() {
        for (text, expected) in [
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("1e20", None),
            ("1.5", None),
        ] {
            assert_eq!(from_number::<i64>(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn only_digits_are_digit_strings() {
        for (text, expected) in [
            ("3", Some(3)),
            ("-3", Some(-3)),
            ("007", Some(7)),
            ("+3", None),
            ("3.0", None),
            (" 3", None),
            ("-", None),
            ("", None),
            ("٣", None),
            ("2147483648", None),
        ] {
            assert_eq!(from_digits::<i32>(text), expected, "{text}");
        }
    }
}
