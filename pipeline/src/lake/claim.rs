//! The claim: an object that reserves the place of a manifest in a store.

use serde::{Deserialize, Serialize};

use crate::snapshot::RunId;

/// Reserves the place of a manifest that a run is about to publish. All claims have one size, smaller than any
/// manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub claimed_by: RunId,
}

impl Claim {
    /// Size of every claim.
    pub(crate) const NUM_BYTES: u64 = r#"{"claimed_by":"aaaaaaaa"}"#.len() as u64;

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values serialise")
    }

    /// Reads a claim; returns nothing if `bytes` are something else.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 == Self::NUM_BYTES { serde_json::from_slice(bytes).ok() } else { None }
    }
}
