//! Natural order of versions.
//!
//! A version is cut into runs of the digits `0`–`9` and runs of anything else, which are compared
//! from the left: two numbers by value, however long they are; two texts by their bytes; a number
//! comes before a text, and what ends first comes first. Versions that are equal so far, such as
//! `1.01` and `1.1`, are ordered by their bytes: the order is total, and only equal texts are equal.

use std::cmp::Ordering;

/// Compares two versions.
///
/// ```
/// use std::cmp::Ordering;
/// use pipeline::history::version_order::compare;
/// assert_eq!(compare("9.10", "10.2"), Ordering::Less);
/// assert_eq!(compare("1.0", "1.0-beta"), Ordering::Less);
/// ```
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    while !left.is_empty() && !right.is_empty() {
        let (left_run, left_rest) = split_run(left);
        let (right_run, right_rest) = split_run(right);
        let order = match (left_run[0].is_ascii_digit(), right_run[0].is_ascii_digit()) {
            (true, true) => {
                let (left_number, right_number) = (significant(left_run), significant(right_run));
                left_number.len().cmp(&right_number.len()).then_with(|| left_number.cmp(right_number))
            }
            (false, false) => left_run.cmp(right_run),
            (left_is_number, _) => {
                if left_is_number {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.len().cmp(&right.len()).then_with(|| one.cmp(other))
}

/// The first run of a text that is not empty, and what follows it.
fn split_run(text: &[u8]) -> (&[u8], &[u8]) {
    let is_number = text[0].is_ascii_digit();
    let end = text.iter().position(|byte| byte.is_ascii_digit() != is_number).unwrap_or(text.len());
    text.split_at(end)
}

/// Digits without the zeros before them.
fn significant(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value_and_the_rest_as_text() {
        let ordered = [
            "",
            "0",
            "1",
            "1.",
            "1.0",
            "1.00",
            "1.0-beta",
            "1.0a",
            "1.01",
            "1.1",
            "1.2",
            "1.10",
            "1.a",
            "2",
            "10",
            "99999999999999999999999",
            "100000000000000000000000",
            "a",
            "a1",
            "a2",
            "a10",
            "ä",
        ];
        for (index, one) in ordered.iter().enumerate() {
            for (other_index, other) in ordered.iter().enumerate() {
                assert_eq!(compare(one, other), index.cmp(&other_index), "{one:?} {other:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn order_is_total(one in "[0-2a.]{0,5}", other in "[0-2a.]{0,5}", third in "[0-2a.]{0,5}") {
            proptest::prop_assert_eq!(compare(&one, &other), compare(&other, &one).reverse());
            proptest::prop_assert_eq!(compare(&one, &other).is_eq(), one == other);
            if compare(&one, &other).is_le() && compare(&other, &third).is_le() {
                proptest::prop_assert!(compare(&one, &third).is_le());
            }
        }
    }
}
