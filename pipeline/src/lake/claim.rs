//! The claim: what a run puts in a store where its manifest is going to be.

use serde::{Deserialize, Serialize};

use crate::snapshot::RunId;

/// What stands in the place of a manifest that a run is about to publish. Its size is always the same, and no
/// manifest is as small.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub claimed_by: RunId,
}

impl Claim {
    /// Bytes of every claim.
    pub(crate) const NUM_BYTES: u64 = r#"{"claimed_by":"aaaaaaaa"}"#.len() as u64;

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values serialise")
    }

    /// Reads a claim; nothing if it is something else.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 == Self::NUM_BYTES { serde_json::from_slice(bytes).ok() } else { None }
    }
}
