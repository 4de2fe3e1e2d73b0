//! The ids of snapshots, runs, tasks and parts.
//!
//! A snapshot is identified by its dataset and the time at which the service generated it, never by the clock of a
//! run. Every run has a new id, so that a file name never returns with other bytes.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, Utc};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// Identifies a snapshot within its dataset: the generated time in whole UTC seconds. Orders by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(DateTime<Utc>);

const FORMAT: &str = "%Y%m%dT%H%M%SZ";

impl SnapshotId {
    /// Truncates `generated_time` to whole seconds.
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
    /// Returns a random id.
    ///
    /// # Errors
    ///
    /// Fails if the system returns no random number.
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

/// Identifies one attempt at a task of a run whose parts are read by several tasks: eight lower-case hexadecimal
/// digits. Two attempts never write files of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// Returns a random id.
    ///
    /// # Errors
    ///
    /// Fails if the system returns no random number.
    pub fn try_new() -> std::io::Result<Self> {
        Ok(Self(format!("{:08x}", getrandom::u32()?)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies a part within its snapshot: its name, percent-decoded. `OrgId=1` and `OrgId%3D1` are two
/// spellings of one path, and servers give either. A `+` is itself in a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartKey(Vec<u8>);

impl PartKey {
    /// Decodes the part's name once.
    pub fn of(name: &str) -> Self {
        Self(percent_decode_str(name).collect())
    }
}

impl AsRef<[u8]> for PartKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
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

    #[test]
    fn part_spellings_of_one_path_are_one_key() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(PartKey::of(one) == PartKey::of(other), expected, "{one} {other}");
        };
        check("a/OrgId=1/p", "a/OrgId%3D1/p", true);
        check("a/OrgId%3d1/p", "a/OrgId%3D1/p", true);
        check("a b", "a%20b", true);
        check("a/b", "a%2fb", true);
        check("a+b", "a%2Bb", true);
        check("a+b", "a b", false);
        check("a%253D", "a%3D", false);
        check("a%zz", "a%25zz", true);
        check("OrgId=1", "orgid=1", false);
    }
}
