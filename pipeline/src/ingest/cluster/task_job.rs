//! What the driver tells a task: the job, and the parts that this task reads.
//!
//! It crosses the wire once, with signed URLs and the variables that lead to the lake's store. So it is secret, and has no
//! form of its own that could be printed or serialised by accident.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schema::Dataset;
use serde::{Deserialize, Serialize};

use super::super::error::IngestError;
use crate::environment::Variables;
use crate::manifest::Route;
use crate::memory::MemoryBudget;
use crate::snapshot::{RunId, SnapshotId};
use crate::source::{DownloadBounds, ListedPart, PartOnWire};

/// What all tasks of a run have in common.
#[derive(Debug, Clone)]
pub(super) struct TaskJob {
    pub(super) dataset: &'static Dataset,
    pub(super) snapshot: SnapshotId,
    pub(super) run_id: RunId,
    pub(super) route: Route,
    /// A URL, or an absolute path.
    pub(super) lake: PathBuf,
    /// What leads to its store, if the task's own environment does not.
    pub(super) store: Variables,
    pub(super) capture_extra_fields: bool,
    /// The budget of each task.
    pub(super) memory: MemoryBudget,
    pub(super) bounds: DownloadBounds,
}

/// What one task is to do.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) job: TaskJob,
    /// Its number in the job.
    pub(super) number: usize,
    pub(super) parts: Vec<ListedPart>,
}

#[derive(Serialize, Deserialize)]
struct AssignmentOnWire {
    dataset: String,
    snapshot: String,
    run_id: RunId,
    route: Route,
    lake: String,
    store: BTreeMap<String, String>,
    capture_extra_fields: bool,
    memory_bytes: u64,
    bounds: DownloadBounds,
    number: usize,
    parts: Vec<PartOnWire>,
}

/// The version of the program that wrote an assignment; the rest may have any form.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    tool_version: String,
    #[serde(flatten)]
    assignment: T,
}

#[derive(Deserialize)]
struct Anything {}

impl Assignment {
    /// Returns the assignment for one task, as secret as what it holds.
    ///
    /// # Errors
    ///
    /// A path that is not UTF-8.
    pub(super) fn to_wire(&self) -> Result<Vec<u8>, IngestError> {
        let Self { job, number, parts } = self;
        let lake = job.lake.to_str().ok_or_else(|| internal("the lake's path is not utf-8"))?;
        let assignment = AssignmentOnWire {
            dataset: job.dataset.name.to_owned(),
            snapshot: job.snapshot.to_string(),
            run_id: job.run_id.clone(),
            route: job.route,
            lake: lake.to_owned(),
            store: job.store.to_wire(),
            capture_extra_fields: job.capture_extra_fields,
            memory_bytes: job.memory.bytes(),
            bounds: job.bounds,
            number: *number,
            parts: parts.iter().map(ListedPart::to_wire).collect(),
        };
        let envelope = Envelope { tool_version: env!("CARGO_PKG_VERSION").to_owned(), assignment };
        serde_json::to_vec(&envelope).map_err(|_| internal("an assignment cannot be written"))
    }

    /// Reads what [`Assignment::to_wire`] wrote.
    ///
    /// # Errors
    ///
    /// [`IngestError::OtherVersion`], and anything else that is not an assignment. Errors quote nothing of it.
    pub(super) fn from_wire(bytes: &[u8]) -> Result<Self, IngestError> {
        let invalid = || internal("a task was given no valid assignment");
        let Envelope::<Anything> { tool_version, .. } =
            serde_json::from_slice(bytes).map_err(|_| invalid())?;
        if tool_version != env!("CARGO_PKG_VERSION") {
            return Err(IngestError::OtherVersion { driver: tool_version });
        }
        let Envelope::<AssignmentOnWire> { assignment, .. } =
            serde_json::from_slice(bytes).map_err(|_| invalid())?;
        let job = TaskJob {
            dataset: Dataset::find(&assignment.dataset).ok_or_else(invalid)?,
            snapshot: SnapshotId::parse(&assignment.snapshot).ok_or_else(invalid)?,
            run_id: assignment.run_id,
            route: assignment.route,
            lake: assignment.lake.into(),
            store: Variables::from_wire(assignment.store),
            capture_extra_fields: assignment.capture_extra_fields,
            memory: MemoryBudget::new(assignment.memory_bytes),
            bounds: assignment.bounds,
        };
        let parts = assignment.parts.into_iter().map(PartOnWire::part);
        let parts = parts.collect::<Option<_>>().ok_or_else(invalid)?;
        Ok(Self { job, number: assignment.number, parts })
    }
}

fn internal(reason: &str) -> IngestError {
    IngestError::Internal { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::fetch::{MinThroughput, RetryPolicy};
    use crate::http::RedactedUrl;
    use crate::source::PartAddress;

    fn assignment() -> Assignment {
        let url = RedactedUrl::from_wire("https://h.example/a/p?sv=1&sig=SIGNATURE").unwrap();
        let store = BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())]);
        Assignment {
            job: TaskJob {
                dataset: schema::DATASETS[0],
                snapshot: SnapshotId::parse("20210111T110100Z").unwrap(),
                run_id: serde_json::from_str(r#""3f9c2b7a""#).unwrap(),
                route: Route::Files,
                lake: "s3://bucket/lake".into(),
                store: Variables::from_wire(store),
                capture_extra_fields: true,
                memory: MemoryBudget::new(64 << 20),
                bounds: DownloadBounds {
                    downloads: NonZeroUsize::MIN,
                    retry: RetryPolicy::PART,
                    min_throughput: MinThroughput::DEFAULT,
                },
            },
            number: 3,
            parts: vec![
                ListedPart { index: 7, bytes: None, address: PartAddress::Url(url) },
                ListedPart {
                    index: 9,
                    bytes: Some(5),
                    address: PartAddress::File { name: "p".into(), path: "/p".into(), modified_secs: 1 },
                },
            ],
        }
    }

    #[test]
    fn assignment_crosses_the_wire_whole() {
        let assignment = assignment();
        let received = Assignment::from_wire(&assignment.to_wire().unwrap()).unwrap();
        assert_eq!(received.parts, assignment.parts);
        assert_eq!(received.job.store, assignment.job.store);
        assert_eq!(received.to_wire().unwrap(), assignment.to_wire().unwrap());
    }

    #[test]
    fn assignment_shows_no_secret() {
        let shown = format!("{:?}", assignment());
        assert!(!shown.contains("SIGNATURE") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && shown.contains("https://h.example/a/p"));
    }

    #[test]
    fn what_is_no_assignment_is_refused_unquoted() {
        let refused = |text: &str| Assignment::from_wire(text.as_bytes()).unwrap_err().to_string();
        let invalid = "internal error: a task was given no valid assignment";
        assert_eq!(refused("sig=SIGNATURE"), invalid);
        assert_eq!(
            refused(&format!(r#"{{"tool_version":"{}","sig":1}}"#, env!("CARGO_PKG_VERSION"))),
            invalid
        );
        let other = "the driver has version 0.0.1 of defender-lake, this executor ";
        assert_eq!(
            refused(r#"{"tool_version":"0.0.1","x":1}"#),
            other.to_owned() + env!("CARGO_PKG_VERSION")
        );
    }
}
