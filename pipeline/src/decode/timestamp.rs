//! Takes the text of a date or timestamp in any form that exports use; gives microseconds or days, UTC.
//!
//! Forms seen: `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS` and `YYYY-MM-DDTHH:MM:SS`, each with a fraction of
//! any length (.NET writes seven digits) and with `Z` or an offset. Without a zone the text is UTC.

/// What the text of a date or timestamp means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedTime {
    /// An instant, in microseconds since the epoch, UTC. Digits past microseconds are cut.
    Micros(i64),
    /// No value: empty text, or the year 0001 that .NET writes for "not set".
    Null,
    /// Neither a date nor a timestamp.
    Invalid,
}

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Parses text; see the module for the forms.
///
/// ```
/// use pipeline::decode::timestamp::{ParsedTime, parse};
/// assert_eq!(parse(b"1970-01-02 00:00:00.0000019"), ParsedTime::Micros(86_400_000_001));
/// assert_eq!(parse(b"2021-02-30"), ParsedTime::Invalid);
/// ```
pub fn parse(text: &[u8]) -> ParsedTime {
    if text.is_empty() {
        return ParsedTime::Null;
    }
    match parse_micros(text) {
        None => ParsedTime::Invalid,
        Some(_) if text.starts_with(b"0001-") => ParsedTime::Null,
        Some(micros) => ParsedTime::Micros(micros),
    }
}

/// The UTC date of an instant that [`parse`] gave, in days since the epoch.
///
/// # Panics
///
/// Where the instant is millions of years away.
pub fn days(micros: i64) -> i32 {
    let days = micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND);
    i32::try_from(days).expect("four-digit years are a few million days")
}

fn parse_micros(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *date else { return None };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * SECONDS_PER_DAY;
    if rest.is_empty() {
        return Some(midnight * MICROS_PER_SECOND);
    }
    let (clock, rest) = rest.split_at_checked(9)?;
    let [b'T' | b't' | b' ', h0, h1, b':', m0, m1, b':', s0, s1] = *clock else { return None };
    let (hour, minute, second) = (two(h0, h1)?, two(m0, m1)?, two(s0, s1)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    let local = midnight + hour * 3600 + minute * 60 + second;
    Some((local - offset_seconds(rest)?) * MICROS_PER_SECOND + micros)
}

/// Reads `.` and digits, if any, as microseconds; returns what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + digits[..len].get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    Some((micros, &digits[len..]))
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    match *text {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn two(tens: u8, units: u8) -> Option<i64> {
    (tens.is_ascii_digit() && units.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(units - b'0'))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, NaiveDateTime};

    use super::*;

    fn check(text: &str, expected: &str) {
        let micros = DateTime::parse_from_rfc3339(expected).unwrap().timestamp_micros();
        assert_eq!(parse(text.as_bytes()), ParsedTime::Micros(micros), "{text}");
    }

    #[test]
    fn every_documented_form_is_read() {
        check("2019-04-07 02:06:47", "2019-04-07T02:06:47Z");
        check("2021-01-11 09:47:58.854", "2021-01-11T09:47:58.854Z");
        check("2020-11-03 10:13:34.8476880", "2020-11-03T10:13:34.847688Z");
        check("2020-11-03 10:13:34.8476889", "2020-11-03T10:13:34.847688Z");
        check("2021-01-11T11:01:00Z", "2021-01-11T11:01:00Z");
        check("2022-05-26T18:46:27.000Z", "2022-05-26T18:46:27Z");
        check("2021-05-11T00:00:00+00:00", "2021-05-11T00:00:00Z");
        check("2021-05-11T00:30:00+02:00", "2021-05-10T22:30:00Z");
        check("2021-05-11T23:30:00-02:30", "2021-05-12T02:00:00Z");
        check("2020-12-30", "2020-12-30T00:00:00Z");
        check("2020-02-29", "2020-02-29T00:00:00Z");
        check("1601-01-01T00:00:00.1234567Z", "1601-01-01T00:00:00.123456Z");
        check("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn no_value_is_null() {
        for text in ["", "0001-01-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00+00:00"] {
            assert_eq!(parse(text.as_bytes()), ParsedTime::Null, "{text}");
        }
    }

    #[test]
    fn anything_else_is_invalid() {
        for text in [
            "2021-02-30",
            "2021-13-01",
            "2021-00-10",
            "2021-01-00",
            "2021-1-1",
            "2021-01-11 ",
            " 2021-01-11",
            "2021-01-11T",
            "2021-01-11T11:01",
            "2021-01-11T24:00:00Z",
            "2021-01-11T11:60:00Z",
            "2021-01-11T11:01:60Z",
            "2021-01-11T11:01:00.Z",
            "2021-01-11T11:01:00ZZ",
            "2021-01-11T11:01:00+0200",
            "2021-01-11T11:01:00+24:00",
            "2021-01-11X11:01:00",
            "0001-02-30",
            "0001-x",
            "11/01/2021",
            "never",
        ] {
            assert_eq!(parse(text.as_bytes()), ParsedTime::Invalid, "{text}");
        }
    }

    #[test]
    fn days_agree_with_chrono_over_every_year() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let mut date = NaiveDate::from_ymd_opt(2, 1, 1).unwrap();
        while date < NaiveDate::from_ymd_opt(9999, 12, 1).unwrap() {
            let expected = date.signed_duration_since(epoch).num_days();
            let ParsedTime::Micros(micros) = parse(date.to_string().as_bytes()) else { panic!("{date}") };
            assert_eq!(i64::from(days(micros)), expected, "{date}");
            date = date + chrono::Days::new(27);
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_chrono(seconds in -62_135_596_800_i64..253_402_300_800, micros in 0_u32..1_000_000) {
            let time = DateTime::from_timestamp(seconds, micros * 1000).unwrap().naive_utc();
            let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            let parsed = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
            let expected = parsed.and_utc().timestamp_micros();
            let want = if text.starts_with("0001-") { ParsedTime::Null } else { ParsedTime::Micros(expected) };
            proptest::prop_assert_eq!(parse(text.as_bytes()), want);
        }
    }
}
