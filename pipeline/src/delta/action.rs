//! The actions of a log's lines, as the protocol spells them.
//!
//! Only those of reader version 1 and writer version 2; anything else needs a table feature, and a table with
//! one is rejected by its protocol version.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a path that are written as they are: those that mean the same in any URI reference.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'=');

/// One line, or one row of a checkpoint: at most one member is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit_info: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
}

/// The versions that a client must support to read and to write the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) min_reader_version: i32,
    pub(super) min_writer_version: i32,
}

impl Protocol {
    /// The versions that Synapse serverless and every other reader of Delta support.
    pub(super) const OURS: Self = Self { min_reader_version: 1, min_writer_version: 2 };
}

/// The table's own description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaData {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) format: StorageFormat,
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    #[serde(default)]
    pub(super) configuration: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_time: Option<i64>,
}

/// How data files are encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StorageFormat {
    pub(super) provider: String,
    #[serde(default)]
    pub(super) options: BTreeMap<String, Option<String>>,
}

/// The last transaction of an application, a number that only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_updated: Option<i64>,
}

/// A file that becomes part of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// From the table's root, percent-encoded.
    pub(super) path: String,
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) size: i64,
    /// Unix milliseconds.
    pub(super) modification_time: i64,
    pub(super) data_change: bool,
    /// JSON in a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<String>,
}

impl Add {
    /// Returns the action that removes the file from the table.
    pub(super) fn to_remove(&self, deletion_timestamp: i64) -> Remove {
        Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(deletion_timestamp),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
        }
    }
}

/// A file that is no longer part of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub(super) path: String,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_timestamp: Option<i64>,
    pub(super) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extended_file_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<i64>,
}

/// Encodes a path for the log. A `%` of Hive's escaping is escaped once more: the log names files, not values.
pub(super) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// Decodes a path of the log; `None` if its bytes are not UTF-8.
pub(super) fn decode_path(path: &str) -> Option<String> {
    percent_decode_str(path).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_the_protocol_spells_them() {
        let check = |text: &str| {
            let line: Line = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            line
        };
        check(r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#);
        check(r#"{"txn":{"appId":"a","version":3,"lastUpdated":1}}"#);
        check(
            r#"{"add":{"path":"OSPlatform=a%252Fb/x","partitionValues":{"OSPlatform":"a/b","p":null},"size":1,"modificationTime":2,"dataChange":true,"stats":"{}"}}"#,
        );
        let line = check(r#"{"remove":{"path":"x","dataChange":false}}"#);
        assert!(line.remove.is_some_and(|remove| remove.deletion_timestamp.is_none()));
        let unknown: Line = serde_json::from_str(r#"{"domainMetadata":{"domain":"x"}}"#).unwrap();
        assert_eq!(unknown, Line::default());
    }

    #[test]
    fn paths_are_encoded_once_more() {
        for (path, encoded) in [
            ("snapshot_date=2021-01-11/OSPlatform=Windows10/part-0.parquet", None),
            ("OSPlatform=a%2Fb", Some("OSPlatform=a%252Fb")),
            ("OSPlatform=Windows 10", Some("OSPlatform=Windows%2010")),
            ("OSPlatform=é+&,;@", Some("OSPlatform=%C3%A9%2B%26%2C%3B%40")),
        ] {
            assert_eq!(encode_path(path), encoded.unwrap_or(path));
            assert_eq!(decode_path(&encode_path(path)).as_deref(), Some(path));
        }
        assert_eq!(decode_path("%FF"), None);
    }
}
