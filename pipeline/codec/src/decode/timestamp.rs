//! Takes the text of a date or timestamp in any form that exports use; gives microseconds or days, UTC.
//!
//! Forms seen: `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS` and `YYYY-MM-DDTHH:MM:SS`, each with a fraction of
//! any length (.NET writes seven digits) and with `Z` or an offset. Without a zone the text is UTC. The
//! hour may have one digit.

/// The meaning of the text of a date or timestamp.
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
/// use codec::decode::timestamp::{ParsedTime, parse};
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
/// If the instant is millions of years away.
pub fn days(micros: i64) -> i32 {
    let days = micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND);
    i32::try_from(days).expect("four-digit years are a few million days")
}

fn parse_micros(text: &[u8]) -> Option<i64> {
    if let Ok(text) = text.try_into()
        && let Some(seconds) = usual_seconds(text)
    {
        return Some(seconds * MICROS_PER_SECOND);
    }
    micros_of_any_form(text)
}

fn micros_of_any_form(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = *date else { return None };
    let [century, year, month, day] = pairs([[y0, y1], [y2, y3], [m0, m1], [d0, d1]])?;
    let year = century * 100 + year;
    let midnight = midnight(year, month, day)?;
    if rest.is_empty() {
        return Some(midnight * MICROS_PER_SECOND);
    }
    let (clock, rest) = clock(rest)?;
    let [b'T' | b't' | b' ', h0, h1, b':', m0, m1, b':', s0, s1] = clock else { return None };
    let [hour, minute, second] = pairs([[h0, h1], [m0, m1], [s0, s1]])?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut seconds = midnight + i64::from(hour * 3600 + minute * 60 + second);
    let mut micros = 0;
    if !rest.is_empty() {
        let (fraction, zone) = fraction(rest)?;
        seconds -= offset_seconds(zone)?;
        micros = fraction;
    }
    Some(seconds * MICROS_PER_SECOND + micros)
}

/// Reads the form that nearly all have, `YYYY-MM-DD HH:MM:SS`, in words of eight bytes; gives seconds since the
/// epoch.
fn usual_seconds(text: &[u8; 19]) -> Option<i64> {
    const DASHES: u64 = u64::from_le_bytes(*b"\0\0\0\0-\0\0-");
    const COLONS: u64 = u64::from_le_bytes(*b"\0\0:\0\0:\0\0");
    const NO_DIGITS: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, b'0', b'0']);
    let [date, day, clock] = [0, 8, 11].map(|start| word(text, start));
    if date & 0xff00_00ff_0000_0000 != DASHES
        || clock & 0x0000_ff00_00ff_0000 != COLONS
        || !matches!(text[10], b' ' | b'T' | b't')
    {
        return None;
    }
    let date = (date & 0xffff_ffff) | (date >> 8 & 0xffff_0000_0000) | day << 48;
    let clock = (clock & 0xffff) | (clock >> 8 & 0xffff_0000) | (clock >> 16 & 0xffff_0000_0000);
    let [century, year, month, day] = four_pairs(date)?;
    let [hour, minute, second, _] = four_pairs(clock | NO_DIGITS)?;
    let midnight = midnight(century * 100 + year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(midnight + i64::from(hour * 3600 + minute * 60 + second))
}

#[inline]
fn word(text: &[u8], start: usize) -> u64 {
    u64::from_le_bytes(*text[start..].first_chunk().expect("the text is long enough"))
}

/// Four numbers of two digits each.
#[inline]
fn four_pairs(digits: u64) -> Option<[i32; 4]> {
    const ONES: u64 = u64::MAX / 0xff;
    // The high half of a digit is 3, and still is with 6 more.
    let are_digits = |digits: u64| digits & (0xf0 * ONES) == 0x30 * ONES;
    if !are_digits(digits) || !are_digits(digits.wrapping_add(6 * ONES)) {
        return None;
    }
    let digits = digits & (0x0f * ONES);
    let [first, _, second, _, third, _, fourth, _] = (digits * 10 + (digits >> 8)).to_le_bytes();
    Some([first, second, third, fourth].map(i32::from))
}

/// Takes separator and time of day, the hour in two digits; returns what follows.
#[inline]
fn clock(text: &[u8]) -> Option<([u8; 9], &[u8])> {
    if let [separator, hour, b':', rest @ ..] = text {
        let (&[m0, m1, colon, s0, s1], rest) = rest.split_first_chunk::<5>()?;
        return Some(([*separator, b'0', *hour, b':', m0, m1, colon, s0, s1], rest));
    }
    text.split_first_chunk().map(|(clock, rest)| (*clock, rest))
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
            let [hours, minutes] = pairs([[h0, h1], [m0, m1]])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Numbers of two digits each.
#[expect(clippy::needless_bitwise_bool, reason = "all are looked at at once, without a jump")]
fn pairs<const N: usize>(digits: [[u8; 2]; N]) -> Option<[i32; N]> {
    let digits = digits.map(|pair| pair.map(|digit| digit.wrapping_sub(b'0')));
    let are_digits = digits.as_flattened().iter().fold(true, |all, digit| all & (*digit <= 9));
    are_digits.then(|| digits.map(|[tens, units]| i32::from(tens) * 10 + i32::from(units)))
}

fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 => 28 + i32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// When a day begins, in seconds since the epoch; `None` if the calendar has no such day.
#[inline]
fn midnight(year: i32, month: i32, day: i32) -> Option<i64> {
    let is_day = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    is_day.then(|| i64::from(days_from_civil(year, month, day)) * SECONDS_PER_DAY)
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `days_from_civil`), from the year 0 on.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    /// From 1 March of the year -400, so that nothing is negative.
    const DAYS_BEFORE_EPOCH: i32 = 719_468 + 146_097;
    let year = if month <= 2 { year + 399 } else { year + 400 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_EPOCH
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
        check("2024-02-03 4:05:06", "2024-02-03T04:05:06Z");
        check("2024-02-03T4:05:06.7Z", "2024-02-03T04:05:06.7Z");
        check("2024-02-03 0:00:00+01:00", "2024-02-02T23:00:00Z");
        check("1601-01-01T00:00:00.1234567Z", "1601-01-01T00:00:00.123456Z");
        check("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn no_value_is_null() {
        for text in
            ["", "0001-01-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00+00:00", "0001-01-01 0:00:00"]
        {
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
            "2021-01-11 4:5:06",
            "2021-01-11 4:05:6",
            "2021-01-11 4:05",
            "2021-01-11 :05:06",
            "2021-01-11 a:05:06",
            "2021-01-11 004:05:06",
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

    #[test]
    fn usual_form_is_read_as_any_other() {
        for usual in [b"2024-02-29 23:59:58", b"1900-10-31T00:00:00", b"0000-12-09t19:08:37"] {
            for place in 0..usual.len() {
                for byte in 0..=u8::MAX {
                    let mut text = *usual;
                    text[place] = byte;
                    let expected = micros_of_any_form(&text).map(|micros| micros / MICROS_PER_SECOND);
                    assert_eq!(usual_seconds(&text), expected, "{}", text.escape_ascii());
                }
            }
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
            let seconds = usual_seconds(text.as_bytes().first_chunk().unwrap());
            proptest::prop_assert_eq!(seconds, Some(expected.div_euclid(MICROS_PER_SECOND)));
        }
    }
}
