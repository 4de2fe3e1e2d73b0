//! The manifest: what one snapshot was made from and what it consists of, as JSON.
//!
//! [`Manifest::imbalance`] checks that no record is lost: records = rows + rejected records, and totals = sums.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use codec::decode::DecodeCounts;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::snapshot::{RunId, SnapshotId};

/// One snapshot's manifest, as stored beside the table and, with an outcome, in the run report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program that wrote the snapshot.
    pub tool_version: String,
    /// Version of the dataset's declaration.
    pub schema_version: u32,
    /// Table name, `software_inventory`.
    pub dataset: String,
    /// How the parts came.
    pub route: Route,
    /// When the service generated the export, UTC, whole seconds.
    #[serde(with = "rfc3339_seconds")]
    pub generated_time: DateTime<Utc>,
    /// Where `generated_time` comes from.
    pub generated_time_from: GeneratedTimeFrom,
    /// The run that published the snapshot; part of every file name.
    pub run_id: RunId,
    /// When that run began.
    #[serde(with = "rfc3339_seconds")]
    pub started_at: DateTime<Utc>,
    /// When its files were complete.
    #[serde(with = "rfc3339_seconds")]
    pub finished_at: DateTime<Utc>,
    /// Every part read, in the order of the listing.
    pub parts: Vec<PartFacts>,
    /// Every data file, ordered by path.
    pub files: Vec<DataFile>,
    /// Sums over `parts` and `files`.
    pub totals: Totals,
    /// Fields that no column claims: name as first written → number of records with it.
    pub undocumented_fields: BTreeMap<String, u64>,
}

/// How a snapshot's parts came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Signed download URLs of the files export.
    Files,
    /// Pages of the JSON API.
    Json,
    /// Files already on disk.
    Local,
}

/// Where a generated time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratedTimeFrom {
    /// `generatedTime` of the files export's listing.
    Listing,
    /// `TimePath` in the `$skiptoken` of the first page's `@odata.nextLink`.
    SkipToken,
    /// `Date` of the first page's response.
    ResponseDate,
    /// `--generated-time`.
    Option,
    /// A `YYYY-MM-DD/HHMM` folder in the parts' paths.
    Path,
}

/// What one part held. Counts are of the decompressed part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    /// Unique within the snapshot; never a query.
    pub name: String,
    /// Size as it came.
    pub bytes: u64,
    /// `Content-MD5` as the server sent it, base64; absent if it sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// What shows that the part is whole; absent in manifests of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Size of the JSON text.
    pub json_bytes: u64,
    /// Records read: rows and rejected records.
    pub records: u64,
    /// Records that were rejected.
    pub rejected_records: u64,
    /// Fields that became null with a reject.
    pub field_rejects: u64,
    /// Values converted from another JSON type.
    pub coerced: u64,
    /// Names given twice in one record.
    pub duplicate_names: u64,
}

impl PartFacts {
    /// Returns the same with what decoding has counted.
    #[must_use]
    pub fn with_counts(self, counts: &DecodeCounts) -> Self {
        Self {
            json_bytes: counts.json_bytes,
            records: counts.records,
            rejected_records: counts.rejected_records,
            field_rejects: counts.field_rejects,
            coerced: counts.coerced,
            duplicate_names: counts.duplicate_names,
            ..self
        }
    }
}

/// What shows that a part is whole. Of several, the manifest has the strongest, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The server sent the MD5 of the whole part, and it matches.
    Md5,
    /// It is gzip, and checksum and length of each member match its trailer.
    Gzip,
    /// The server announced its length (`Content-Length`, the total of `Content-Range`, or the response to a `HEAD`),
    /// and as many bytes arrived.
    Length,
    /// The server used chunked encoding, and the last chunk arrived.
    Chunked,
    /// The JSON page ends with the end of its object. For pages only: any number of lines would be complete.
    Json,
    /// A local file or pipe: there was no transfer to check.
    Local,
}

/// One Parquet file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DataFile {
    /// Path below the table root, `/` between folders, names as they are on disk.
    pub path: String,
    /// Date partition.
    pub snapshot_date: NaiveDate,
    /// Platform partition's value, unescaped; null if the rows have none, and absent if the dataset has no platform.
    #[serde(default)]
    pub os_platform: Option<String>,
    /// Rows in the file.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Row groups in the file.
    pub row_groups: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl DataFile {
    /// Whether the file is in a folder of a platform, as its path says.
    fn has_platform_folder(&self) -> bool {
        self.path.matches('/').count() > 1
    }
}

impl Serialize for DataFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { path, snapshot_date, os_platform, rows, bytes, row_groups, sha256 } = self;
        let has_platform = self.has_platform_folder();
        let mut fields = serializer.serialize_struct("DataFile", if has_platform { 7 } else { 6 })?;
        fields.serialize_field("path", path)?;
        fields.serialize_field("snapshot_date", snapshot_date)?;
        if has_platform {
            fields.serialize_field("os_platform", os_platform)?;
        } else {
            fields.skip_field("os_platform")?;
        }
        fields.serialize_field("rows", rows)?;
        fields.serialize_field("bytes", bytes)?;
        fields.serialize_field("row_groups", row_groups)?;
        fields.serialize_field("sha256", sha256)?;
        fields.end()
    }
}

/// Sums over a snapshot's parts and files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Parts read.
    pub parts: u64,
    /// Records read.
    pub records: u64,
    /// Rows written.
    pub rows: u64,
    /// Records that were rejected.
    pub rejected_records: u64,
    /// Fields that became null with a reject.
    pub field_rejects: u64,
    /// Values converted from another JSON type.
    pub coerced: u64,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
}

impl Totals {
    /// Sums `parts` and `files`.
    pub fn sum(parts: &[PartFacts], files: &[DataFile]) -> Self {
        let mut totals = Self { parts: parts.len() as u64, files: files.len() as u64, ..Self::default() };
        for part in parts {
            totals.records += part.records;
            totals.rejected_records += part.rejected_records;
            totals.field_rejects += part.field_rejects;
            totals.coerced += part.coerced;
        }
        for file in files {
            totals.rows += file.rows;
            totals.bytes += file.bytes;
        }
        totals
    }
}

impl Manifest {
    /// The snapshot that this manifest describes.
    pub fn snapshot_id(&self) -> SnapshotId {
        SnapshotId::new(self.generated_time)
    }

    /// Returns the first balance that does not hold, in words, or `None` if all do.
    pub fn imbalance(&self) -> Option<String> {
        imbalance(&self.parts, &self.files, &self.totals)
    }
}

/// Returns the first balance that does not hold between parts, files and totals, in words, or `None` if all do.
pub fn imbalance(parts: &[PartFacts], files: &[DataFile], totals: &Totals) -> Option<String> {
    let sum = Totals::sum(parts, files);
    if sum != *totals {
        return Some(format!("totals are {totals:?}, parts and files sum to {sum:?}"));
    }
    if sum.records != sum.rows + sum.rejected_records {
        return Some(format!(
            "{} records read, but {} rows written and {} records rejected",
            sum.records, sum.rows, sum.rejected_records
        ));
    }
    None
}

/// Returns the text of a manifest, or of a small file beside it.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("text keys and plain values serialise");
    bytes.push(b'\n');
    bytes
}

/// `2021-01-11T11:01:00Z`, also read with fractions and offsets.
pub mod rfc3339_seconds {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes whole seconds, `Z`.
    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    /// Reads RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_a_platform_folder_has_no_platform() {
        let check = |path: &str, value: Option<&str>, expected: &str| {
            let text = format!(
                r#"{{"path":"{path}","snapshot_date":"2021-01-11"{expected},"rows":1,"bytes":2,"row_groups":1,"sha256":""}}"#
            );
            let file: DataFile = serde_json::from_str(&text).unwrap();
            assert_eq!(file.os_platform.as_deref(), value);
            assert_eq!(serde_json::to_string(&file).unwrap(), text);
        };
        check("snapshot_date=2021-01-11/OSPlatform=a%2Fb/p.parquet", Some("a/b"), r#","os_platform":"a/b""#);
        check(
            "snapshot_date=2021-01-11/OSPlatform=__HIVE_DEFAULT_PARTITION__/p",
            None,
            r#","os_platform":null"#,
        );
        check("snapshot_date=2021-01-11/p.parquet", None, "");
    }

    #[test]
    fn parts_of_older_manifests_have_no_proof() {
        let text = r#"{"name":"p","bytes":1,"json_bytes":1,"records":0,"rejected_records":0,"field_rejects":0,
            "coerced":0,"duplicate_names":0}"#;
        let facts: PartFacts = serde_json::from_str(text).unwrap();
        assert_eq!(facts.proof, None);
        assert!(!serde_json::to_string(&facts).unwrap().contains("proof"));
        let facts = PartFacts { proof: Some(Proof::Md5), ..facts };
        assert!(serde_json::to_string(&facts).unwrap().contains(r#""proof":"md5""#));
    }
}
