//! Identities: which snapshot, and which run.
//!
//! A snapshot is identified by its dataset and the time that the service generated it, never by
//! the clock of a run. A run has an id of its own, so that no file name ever comes back with
//! other bytes.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

/// Identifies a snapshot within its dataset: the generated time in whole UTC seconds. Orders by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(DateTime<Utc>);

const FORMAT: &str = "%Y%m%dT%H%M%SZ";

impl SnapshotId {
    /// Cuts `generated_time` to whole seconds.
    pub fn new(generated_time: DateTime<Utc>) -> Self {
        Self(generated_time.trunc_subsecs(0))
    }

    /// Parses the form that [`fmt::Display`] writes: `20210111T110100Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let naive = NaiveDateTime::parse_from_str(text, FORMAT).ok()?;
        let id = Self(naive.and_utc());
        (id.to_string() == text).then_some(id)
    }

    /// When the service generated the snapshot, whole seconds.
    pub fn generated_time(self) -> DateTime<Utc> {
        self.0
    }

    /// The `snapshot_date` that the snapshot is published under.
    pub fn date(self) -> NaiveDate {
        self.0.date_naive()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format(FORMAT))
    }
}

/// Identifies one run: eight lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Draws a new id from the system's randomness.
    ///
    /// # Errors
    ///
    /// Fails where the system has none to give.
    pub fn try_new() -> std::io::Result<Self> {
        Ok(Self(format!("{:08x}", getrandom::u32()?)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_id_is_its_text() {
        let time = DateTime::parse_from_rfc3339("2021-01-11T11:01:00.999Z").unwrap().to_utc();
        let id = SnapshotId::new(time);
        assert_eq!(id.to_string(), "20210111T110100Z");
        assert_eq!(SnapshotId::parse("20210111T110100Z"), Some(id));
        for text in ["2021", "20210111T110100", "20211311T110100Z", "../20210111T110100Z"] {
            assert_eq!(SnapshotId::parse(text), None, "{text}");
        }
    }
}
