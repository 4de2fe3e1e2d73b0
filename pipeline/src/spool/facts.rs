//! What is known of a part beside its bytes, as it is kept in a file beside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::manifest::Proof;

/// Of which blob an unfinished part is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialFacts {
    /// Name of the part.
    pub name: String,
    /// Strong entity tag of the blob.
    pub etag: String,
    /// MD5 of the whole blob as the server gave it, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// Size of the whole blob as the server gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

/// What is known of a part beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledFacts {
    /// Name of the part.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// CRC-32 of the bytes as they were written.
    pub written_crc32: u32,
    /// MD5 as the server gave it, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_md5: Option<String>,
    /// What shows that the part is whole; absent in spools of versions before there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// For a page: the hash of the link that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_sha256: Option<String>,
    /// For a page: the link to the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// A whole part at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Where it is.
    pub path: PathBuf,
    /// What is known of it.
    pub facts: SpooledFacts,
}
