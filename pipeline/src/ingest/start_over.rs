//! Which errors a dataset starts over after.

use super::context::Session;
use super::error::IngestError;
use crate::source::RouteConfig;

/// Why a run starts over, at most once for each reason. Staged files are removed, spooled parts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartOver {
    /// The service has a new snapshot.
    OtherSnapshot,
    /// Decoding found a damaged part after some of its rows were written.
    DamagedPart,
}

impl IngestError {
    pub(super) fn reason_to_start_over(&self, session: &Session<'_>) -> Option<StartOver> {
        match self {
            Self::Source(error) if error.is_other_snapshot() => Some(StartOver::OtherSnapshot),
            // Reading a local file again would not help. On a cluster the part was read again already.
            Self::DamagedPart { .. } | Self::RejectedPart { .. }
                if !matches!(session.config.source.route, RouteConfig::Local { .. })
                    && session.cluster.is_none() =>
            {
                Some(StartOver::DamagedPart)
            }
            _ => None,
        }
    }
}
