//! The limit of rejected records of a run, and when the rejects of a part mean damage.

/// The limit of rejected records of a run, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum MaxRejects {
    /// A number of records.
    Count(u64),
    /// A share of the records read, in millionths of a percent.
    Share {
        /// The share, at most 100 %.
        micro_percent: u64,
    },
}

impl MaxRejects {
    const MICROS: u64 = 1_000_000;

    /// A part with a larger share of rejects than this, in percent, is damaged if the limit of the run is no
    /// larger: the rejects of an export are few and spread over all parts.
    const MAX_PART_PERCENT: u64 = 10;

    /// A part with at most this many records is too small to judge by its share of rejects.
    const MAX_SMALL_PART_RECORDS: u64 = 100;

    /// Whether a part with `rejected` of its `records` is damaged, if [`Self::applies_to_parts`].
    pub(super) fn is_exceeded_by_part(rejected: u64, records: u64) -> bool {
        records > Self::MAX_SMALL_PART_RECORDS && rejected * 100 > records * Self::MAX_PART_PERCENT
    }

    /// Whether [`Self::MAX_PART_PERCENT`] applies to each part: if the limit of the run is no larger. A number
    /// counts as its share of all `records`.
    pub(super) fn applies_to_parts(self, records: u64) -> bool {
        match self {
            Self::Count(limit) => u128::from(limit) * 100 <= u128::from(records * Self::MAX_PART_PERCENT),
            Self::Share { micro_percent } => micro_percent <= Self::MAX_PART_PERCENT * Self::MICROS,
        }
    }

    /// Whether `rejected` of `records` exceed the limit.
    pub(super) fn is_exceeded(self, rejected: u64, records: u64) -> bool {
        match self {
            Self::Count(limit) => rejected > limit,
            Self::Share { micro_percent } => {
                u128::from(rejected) * 100 * u128::from(Self::MICROS)
                    > u128::from(records) * u128::from(micro_percent)
            }
        }
    }
}

impl Default for MaxRejects {
    fn default() -> Self {
        Self::Share { micro_percent: Self::MICROS / 10 }
    }
}

impl std::str::FromStr for MaxRejects {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a number of records such as `100`, or a share such as `0.1%`";
        let number = |digits: &str| -> Result<u64, &'static str> {
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                digits.parse().map_err(|_| expected)
            } else {
                Err(expected)
            }
        };
        let Some(percent) = text.strip_suffix('%') else { return number(text).map(Self::Count) };
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
        if fraction.is_empty() || fraction.len() > 6 {
            return Err("expected a share with at most six digits after the point, such as `0.1%`");
        }
        let micro_percent = number(whole)?
            .checked_mul(Self::MICROS)
            .and_then(|micros| micros.checked_add(number(&format!("{fraction:0<6}")).ok()?))
            .ok_or(expected)?;
        if micro_percent > 100 * Self::MICROS {
            return Err("expected a share of at most 100%");
        }
        Ok(Self::Share { micro_percent })
    }
}

impl TryFrom<String> for MaxRejects {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(limit) => write!(f, "{limit}"),
            Self::Share { micro_percent } => write!(f, "{}%", *micro_percent as f64 / Self::MICROS as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_limit_passes() {
        let limit = |text: &str| text.parse::<MaxRejects>().unwrap();
        assert!(!limit("3").is_exceeded(3, 10));
        assert!(limit("3").is_exceeded(4, 10_000));
        assert!(!limit("0.1%").is_exceeded(1, 1000));
        assert!(limit("0.1%").is_exceeded(1, 999));
        assert!(!limit("0%").is_exceeded(0, 5));
        assert!(limit("0%").is_exceeded(1, u64::MAX));
        assert!(!limit("100%").is_exceeded(5, 5));
        assert_eq!(limit("0.1%"), MaxRejects::default());
        assert_eq!(limit("0.1%").to_string(), "0.1%");
    }

    #[test]
    fn limit_of_a_tenth_or_less_applies_to_parts() {
        let applies = |text: &str, records| text.parse::<MaxRejects>().unwrap().applies_to_parts(records);
        assert!(applies("10%", 1) && applies("0%", 1) && !applies("10.000001%", 1));
        assert!(applies("100", 1000) && !applies("100", 999) && applies("0", 0));
    }

    #[test]
    fn a_tenth_of_more_than_100_records_is_damage() {
        assert!(!MaxRejects::is_exceeded_by_part(100, 100));
        assert!(MaxRejects::is_exceeded_by_part(11, 101));
        assert!(!MaxRejects::is_exceeded_by_part(11, 110));
        assert!(MaxRejects::is_exceeded_by_part(101, 1009));
    }

    #[test]
    fn invalid_limits_are_rejected() {
        for text in ["", "%", "-1", "1.5", "101%", "0.0000001%", "1,5%", "five", "+5", "1.%"] {
            assert!(text.parse::<MaxRejects>().is_err(), "{text}");
        }
    }
}
