//! The facts about a part, kept in a file beside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::manifest::Proof;

/// The blob that an unfinished part belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialFacts {
    /// Name of the part.
    pub name: String,
    /// Strong entity tag of the blob.
    pub etag: String,
    /// The server's MD5 of the whole blob, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// The server's size of the whole blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

/// The facts about a complete part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledFacts {
    /// Name of the part.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// CRC-32 of the bytes as they were written.
    pub written_crc32: u32,
    /// The server's MD5, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_md5: Option<String>,
    /// What proves that the part is complete. Absent in spools of versions before this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// For a page: the hash of the link that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_sha256: Option<String>,
    /// For a page: the link to the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// A complete part at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Path of the file.
    pub path: PathBuf,
    /// Its facts.
    pub facts: SpooledFacts,
}
