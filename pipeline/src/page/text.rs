//! Text of the page: numbers, shares, names of ours.
//!
//! Takes values, gives text as people read it. Never HTML: whoever writes it into the page escapes it.

use chrono::{DateTime, Utc};

use crate::display::{count, grouped, named};
use crate::printable::printable;

/// Returns how long ago something was, in its two largest units.
pub fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = (now - then).num_minutes();
    let part = |number: i64, noun: &str| count(number.unsigned_abs(), noun);
    match minutes {
        ..0 => "generated after the page was made".to_owned(),
        0..60 => part(minutes, "minute"),
        60..1440 => format!("{} {}", part(minutes / 60, "hour"), part(minutes % 60, "minute")),
        _ => format!("{} {}", part(minutes / 1440, "day"), part(minutes % 1440 / 60, "hour")),
    }
}

/// Returns the digits of a number with a comma between its thousands.
pub fn number(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("−", digits));
    digits.parse().map_or_else(|_| digits.to_owned(), |number| format!("{sign}{}", grouped(number)))
}

/// Returns a share as people read it.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Returns a name of ours as words: `version_changed` is `Version changed`.
pub fn sentence_case(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Returns a value of an enumeration as words: `ExploitIsPublic` is `Exploit is public`.
pub fn label(value: Option<&str>) -> String {
    let Some(value) = value else { return named(None) };
    let mut words = String::new();
    for c in printable(value).chars() {
        if c.is_uppercase() && words.ends_with(char::is_lowercase) {
            words.push(' ');
            words.extend(c.to_lowercase());
        } else {
            words.push(c);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let check = |digits: &str, expected: &str| assert_eq!(number(digits), expected);
        check("0", "0");
        check("1234567", "1,234,567");
        check("-1234", "−1,234");
    }

    #[test]
    fn names_are_words() {
        assert_eq!(sentence_case("end_of_support_changed"), "End of support changed");
        assert_eq!(label(Some("ExploitIsInKit")), "Exploit is in kit");
        assert_eq!(label(Some("\u{202e}x")), "\\u{202e}x");
        assert_eq!(label(None), "(none)");
    }

    #[test]
    fn ages_have_two_units() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let check =
            |then: &str, expected: &str| assert_eq!(age(at(then), at("2021-03-12T11:01:00Z")), expected);
        check("2021-03-12T10:30:00Z", "31 minutes");
        check("2021-03-12T09:30:00Z", "1 hour 31 minutes");
        check("2021-03-09T09:30:00Z", "3 days 1 hour");
        check("2021-03-13T09:30:00Z", "generated after the page was made");
    }
}
