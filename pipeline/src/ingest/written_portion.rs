//! What was written of a portion, as it goes from a task to the driver.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::staging::Portion;

/// A portion that was written, and what there is to say about its parts once all are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct WrittenPortion {
    pub(super) portion: Portion,
    /// Parts with many rejects. Whether too many is known only when all parts are read.
    pub(super) rejected_parts: Vec<RejectedPart>,
    /// By name, columns that are null in all rows of some parts because of rejects.
    pub(super) lost_columns: BTreeMap<String, LostColumn>,
}

/// A part that may have too many rejects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RejectedPart {
    pub(super) index: u64,
    pub(super) name: String,
    /// Where it is on this machine, if it was read here.
    #[serde(skip)]
    pub(super) path: PathBuf,
    pub(super) rejected: u64,
    pub(super) records: u64,
    pub(super) first: FirstReject,
}

/// The first rejected record of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FirstReject {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// A column that is null in all rows of some parts because of rejects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LostColumn {
    /// The position of the first of these parts.
    pub(super) index: u64,
    pub(super) part: String,
    pub(super) num_parts: u64,
}
