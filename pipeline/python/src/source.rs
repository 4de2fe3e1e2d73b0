//! What the Spark data source `defender` asks of the pipeline: takes options by their flags' names, and listed parts; gives the
//! columns of a dataset, the parts of an export, and batches. Never decides which task reads which part.

use std::sync::{Mutex, PoisonError};

use arrow_schema::ArrowError;
use chrono::{DateTime, Utc};
use pipeline::cli::{self, CommandError};
use pipeline::fetch::{MinThroughput, RetryPolicy};
use pipeline::http::Secret;
use pipeline::manifest::Route;
use pipeline::snapshot::SnapshotId;
use pipeline::source::{
    DownloadBounds, FetchProgress, ListedPart, PartOnWire, RouteConfig, Source, SourceError, Sources,
    StoredPart,
};
use pipeline::threads;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use schema::Dataset;
use schema::ddl::{self, ExtraFields};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use crate::calls::interruptible;
use crate::error::raised;
use crate::options::options_of;
use crate::part_batches::{Delivery, OnReject, PartBatches, PartCounts, REJECT, ReadOptions};
use crate::stream::stream_capsule;

/// Parts that a task downloads at the same time: the next ones while it reads one.
const DOWNLOADS: usize = 2;

/// What is said of the column of rejects.
const REJECT_DOC: &str =
    "A reject as a line of a rejects file, in a row of its own; null in the rows of the table.";

/// Returns the columns of a dataset as the schema of a Spark `DataFrame`.
#[pyfunction]
#[pyo3(signature = (dataset, *, extra_fields, reject_column))]
pub(crate) fn spark_columns(
    py: Python<'_>,
    dataset: &str,
    extra_fields: bool,
    reject_column: bool,
) -> PyResult<String> {
    let dataset = found(py, dataset)?;
    let extra_fields = if extra_fields { ExtraFields::Present } else { ExtraFields::Absent };
    let columns = ddl::spark_columns(dataset, extra_fields);
    Ok(if reject_column { format!("{columns}, {REJECT} STRING COMMENT '{REJECT_DOC}'") } else { columns })
}

/// A part for `read_parts`, and its size if that is known.
type PartAndSize = (String, Option<u64>);

/// Lists the export that options of `ingest` name: one call. Returns its generated time, and its parts for `read_parts`, each
/// with its size if that is known. They hold signed URLs.
#[pyfunction]
#[pyo3(signature = (dataset, options, *, tenant_id, client_id, client_secret))]
pub(crate) fn list_parts(
    py: Python<'_>,
    dataset: &str,
    options: &Bound<'_, PyDict>,
    tenant_id: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
) -> PyResult<(String, Vec<PartAndSize>)> {
    let dataset = found(py, dataset)?;
    let options = options_of(options)?;
    let listed = interruptible(py, move |cancel| {
        let runtime = threads::start_runtime("network", 2)?;
        let mut config = cli::ingest_config(options, &runtime, cancel)?;
        if let RouteConfig::Service(service) = &mut config.source.route {
            let credentials = &mut service.api.credentials;
            credentials.tenant_id = tenant_id.or_else(|| credentials.tenant_id.take());
            credentials.client_id = client_id.or_else(|| credentials.client_id.take());
            credentials.client_secret =
                client_secret.map(Secret::new).or_else(|| credentials.client_secret.take());
        }
        let sources = Sources::try_new(&config.source, &config.work_dir)?;
        let (export, source) = match runtime.block_on(sources.open(dataset)) {
            Err(SourceError::EmptyExport) if dataset.may_be_empty => return Ok((Utc::now(), Vec::new())),
            opened => opened?,
        };
        let parts = source.parts()?.unwrap_or_default();
        let parts = parts.into_iter().map(|part| {
            let text = serde_json::to_string(&part.to_wire()).expect("plain values serialise");
            (text, part.bytes)
        });
        Ok((export.generated_time, parts.collect()))
    })?;
    let (generated_time, parts) = listed.map_err(|error: CommandError| raised(py, &error, &[]))?;
    Ok((generated_time.to_rfc3339(), parts))
}

/// Reads listed parts of an export as batches for Spark, each once it is whole: downloads are checked first. Raises when the
/// stream is read.
#[pyfunction]
#[pyo3(signature = (parts, *, generated_time, dataset, extra_fields, reject_column, batch_rows))]
pub(crate) fn read_parts(
    py: Python<'_>,
    parts: Vec<String>,
    generated_time: &str,
    dataset: &str,
    extra_fields: bool,
    reject_column: bool,
    batch_rows: usize,
) -> PyResult<PartStream> {
    let dataset = found(py, dataset)?;
    let invalid = |what: &str| PyValueError::new_err(format!("invalid {what}: it comes from `list_parts`"));
    let generated_time: DateTime<Utc> = generated_time.parse().map_err(|_| invalid("generated time"))?;
    let part = |text: String| serde_json::from_str::<PartOnWire>(&text).ok()?.part();
    let parts = parts.into_iter().map(part).collect::<Option<Vec<_>>>().ok_or_else(|| invalid("part"))?;
    let options = ReadOptions {
        dataset,
        generated_time,
        route: Route::Files,
        extra_fields,
        on_reject: if reject_column { OnReject::Column } else { OnReject::Fail },
        batch_rows,
        all_nullable: true,
    };
    let folder = tempfile::tempdir()?;
    let delivery =
        py.detach(|| Downloads::start(parts, options, folder)).map_err(|error| raised(py, &error, &[]))?;
    let batches = PartBatches::new(Box::new(delivery), options, PartCounts::default());
    Ok(PartStream(Mutex::new(Some(batches))))
}

/// Batches that are read once.
#[pyclass(frozen, module = "defender_lake")]
pub(crate) struct PartStream(Mutex<Option<PartBatches>>);

#[pymethods]
impl PartStream {
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let batches = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches = batches.ok_or_else(|| PyValueError::new_err("the stream was read already"))?;
        stream_capsule(py, Box::new(batches))
    }
}

fn found(py: Python<'_>, dataset: &str) -> PyResult<&'static Dataset> {
    cli::find_dataset(Some(dataset)).map_err(|error| raised(py, &error, &[]))
}

/// Parts that are downloaded into a folder of their own, or are on a disk already.
struct Downloads {
    // Dropped first: it ends the downloads, then the folder goes.
    runtime: Option<Runtime>,
    parts: Receiver<StoredPart>,
    delivering: Option<JoinHandle<Result<(), SourceError>>>,
    _folder: TempDir,
}

impl Downloads {
    fn start(parts: Vec<ListedPart>, options: ReadOptions, folder: TempDir) -> Result<Self, CommandError> {
        let runtime = threads::start_runtime("network", 2)?;
        let bounds = DownloadBounds {
            downloads: DOWNLOADS.try_into().expect("more than none"),
            retry: RetryPolicy::PART,
            min_throughput: MinThroughput::DEFAULT,
        };
        let snapshot = SnapshotId::new(options.generated_time);
        let source = Source::of_parts(parts, bounds, folder.path(), options.dataset.name, snapshot);
        let source = runtime.block_on(source)?;
        let (send, received) = mpsc::channel(1);
        let delivering = runtime.spawn(source.deliver(send, FetchProgress::default().into()));
        Ok(Self { runtime: Some(runtime), parts: received, delivering: Some(delivering), _folder: folder })
    }
}

impl Delivery for Downloads {
    fn next_part(&mut self) -> Result<Option<StoredPart>, ArrowError> {
        if let Some(part) = self.parts.blocking_recv() {
            return Ok(Some(part));
        }
        let (Some(runtime), Some(delivering)) = (&self.runtime, self.delivering.take()) else {
            return Ok(None);
        };
        let delivered = runtime.block_on(delivering).unwrap_or_else(|error| Err(error.into()));
        // With the whole chain of causes, and the hint.
        delivered.map_err(|error| ArrowError::ExternalError(CommandError::from(error).to_string().into()))?;
        Ok(None)
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
