//! Reads parts of one export as they are delivered: gives record batches with plain text and all columns, made by a thread of its
//! own a few batches ahead, and counts. Never lists anything, and never needs the GIL.

use std::cell::RefCell;
use std::fs::File;
use std::iter::once;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use arrow_array::types::Date32Type;
use arrow_array::{
    ArrayRef, Date32Array, RecordBatch, RecordBatchReader, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use codec::batch_layout::{BatchLayout, BatchOptions, RowOrder, TextType};
use codec::decode::DecodeError;
use codec::decode::reject::{Reject, RejectKind};
use codec::part_reader::PartReader;
use pipeline::cli::CommandError;
use pipeline::ingest::IngestError;
use pipeline::manifest::{PartFacts, Route};
use pipeline::panics;
use pipeline::source::{OpenError, StoredPart};
use schema::{Dataset, Origin, SNAPSHOT_DATE};

use crate::plain_text::PlainSlices;

/// Batches that are made ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// Bytes of rejects that are gathered for a batch of them.
const MAX_REJECT_BYTES: usize = 8 << 20;

/// The column of rejects.
pub(crate) const REJECT: &str = "Reject";

/// What becomes of rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnReject {
    /// The first rejected record ends the reading. Fields become null.
    Fail,
    /// They are counted.
    Skip,
    /// Each, of a field too, is a row of its own with [`REJECT`] alone: the line of a rejects file.
    Column,
}

/// How parts are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    pub(crate) dataset: &'static Dataset,
    pub(crate) generated_time: DateTime<Utc>,
    /// How the parts came, which is what the hint of an error depends on.
    pub(crate) route: Route,
    /// Whether undocumented fields are a column.
    pub(crate) extra_fields: bool,
    pub(crate) on_reject: OnReject,
    /// Rows of a batch at most.
    pub(crate) batch_rows: usize,
    /// Whether required columns are declared nullable too, as Spark's data sources have them.
    pub(crate) all_nullable: bool,
}

impl ReadOptions {
    /// Returns the schema of the batches.
    pub(crate) fn schema(&self) -> SchemaRef {
        let plain = schema_of(&self.layout(TextType::Plain));
        let is_nullable = |field: &Field| field.is_nullable() || self.all_nullable;
        let field = |field: &Arc<Field>| field.as_ref().clone().with_nullable(is_nullable(field));
        let reject = (self.on_reject == OnReject::Column).then(|| Field::new(REJECT, DataType::Utf8, true));
        Arc::new(Schema::new(plain.fields().iter().map(field).chain(reject).collect::<Vec<_>>()))
    }

    fn layout(&self, text: TextType) -> BatchLayout {
        let (extra_fields, order) = (self.extra_fields, RowOrder::AsRead);
        let options = BatchOptions { extra_fields, text, partition_columns: true, order };
        BatchLayout::new(self.dataset, self.generated_time, options)
    }
}

fn schema_of(layout: &BatchLayout) -> SchemaRef {
    Arc::clone(layout.schema())
}

/// Where parts come from. Each is whole when it is opened.
pub(crate) trait Delivery: Send {
    /// Waits for the next part; `None` once all were delivered.
    fn next_part(&mut self) -> Result<Option<StoredPart>, ArrowError>;
}

/// What the parts that were read held, in the order of reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartCounts(Arc<Mutex<Vec<PartFacts>>>);

impl PartCounts {
    pub(crate) fn parts(&self) -> MutexGuard<'_, Vec<PartFacts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Batch = Result<RecordBatch, ArrowError>;

/// The batches of some parts, one part after the other. The thread that makes them starts with the first, and ends soon after
/// this is dropped. After an error it ends, and the batches before it must not be used.
pub(crate) struct PartBatches {
    schema: SchemaRef,
    state: State,
}

enum State {
    New(Box<Work>),
    Running(Receiver<Batch>),
    Ended,
}

impl PartBatches {
    pub(crate) fn new(delivery: Box<dyn Delivery>, options: ReadOptions, counts: PartCounts) -> Self {
        let schema = options.schema();
        let work = Work { delivery, options, schema: Arc::clone(&schema), counts };
        Self { schema, state: State::New(Box::new(work)) }
    }
}

impl Iterator for PartBatches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if let State::New(_) = &self.state
            && let State::New(work) = std::mem::replace(&mut self.state, State::Ended)
        {
            match work.start() {
                Ok(batches) => self.state = State::Running(batches),
                Err(error) => return Some(Err(error)),
            }
        }
        let State::Running(batches) = &self.state else { return None };
        let next = batches.recv().ok();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}

impl RecordBatchReader for PartBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// What the thread does.
struct Work {
    delivery: Box<dyn Delivery>,
    options: ReadOptions,
    schema: SchemaRef,
    counts: PartCounts,
}

/// Why the thread stops before the last part.
enum Stop {
    Failed(ArrowError),
    /// No one reads any longer.
    Unread,
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Failed(error)
    }
}

impl Work {
    fn start(mut self: Box<Self>) -> Result<Receiver<Batch>, ArrowError> {
        let (send, batches) = sync_channel(BATCHES_AHEAD);
        let run = move || {
            let read = panics::catch(|| self.read(&send)).unwrap_or_else(|panicked| {
                panics::take_recorded();
                Err(Stop::Failed(error_of(CommandError::from(panicked))))
            });
            if let Err(Stop::Failed(error)) = read {
                // Best effort: it may be unread by now.
                let _ = send.send(Err(error));
            }
        };
        thread::Builder::new().name("read-parts".to_owned()).spawn(run)?;
        Ok(batches)
    }

    fn read(&mut self, send: &SyncSender<Batch>) -> Result<(), Stop> {
        let layout = Arc::new(self.options.layout(TextType::Dictionary));
        while let Some(part) = self.delivery.next_part()? {
            let damage = match part.open() {
                Ok(file) => {
                    self.read_part(&part, file, &layout, send)?;
                    continue;
                }
                Err(OpenError::Unreadable(source)) => {
                    let (part, path) = (part.name.clone(), part.path.clone());
                    return Err(error_of(IngestError::OpenPart { part, path, source }).into());
                }
                Err(damage) => damage,
            };
            let text = format!("part {} is damaged: {damage}", part.name);
            if !part.reject(&damage) {
                return Err(ArrowError::ExternalError(text.into()).into());
            }
        }
        Ok(())
    }

    fn read_part(
        &self,
        part: &StoredPart,
        file: File,
        layout: &Arc<BatchLayout>,
        send: &SyncSender<Batch>,
    ) -> Result<(), Stop> {
        let route = self.options.route;
        let damaged = |source: DecodeError| {
            error_of(IngestError::DamagedPart { part: part.name.clone(), route, source })
        };
        let rejects =
            Rejects { work: self, part: &part.name, send, lines: Vec::new(), num_bytes: 0, stop: None };
        let rejects = RefCell::new(rejects);
        let mut reader = PartReader::try_new(file, Arc::clone(layout)).map_err(damaged)?;
        for batch in reader.batches(|reject| rejects.borrow_mut().take(&reject)) {
            if rejects.borrow().stop.is_some() {
                break;
            }
            let (_, batch) = batch.map_err(damaged)?;
            self.send(&batch, send)?;
        }
        rejects.into_inner().finish()?;
        let counts = reader.counts();
        self.counts.parts().push(part.facts().with_counts(&counts));
        Ok(())
    }

    /// Sends rows with plain text, in batches of the size asked for.
    fn send(&self, rows: &RecordBatch, send: &SyncSender<Batch>) -> Result<(), Stop> {
        for mut columns in PlainSlices::new(rows, self.options.batch_rows) {
            if self.options.on_reject == OnReject::Column {
                let num_rows = columns.first().map_or(0, |column| column.len());
                columns.push(new_null_array(&DataType::Utf8, num_rows));
            }
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            send.send(Ok(batch)).map_err(|_| Stop::Unread)?;
        }
        Ok(())
    }

    /// Returns a row for each reject: of the columns, those that say which export it is.
    fn rows_of(&self, rejects: Vec<String>) -> Batch {
        let num_rows = rejects.len();
        let ReadOptions { dataset, generated_time, .. } = self.options;
        let is_time = |name: &str| dataset.column(name).is_some_and(|column| column.origin == Origin::Export);
        let all = self.schema.fields();
        let column = |field: &Arc<Field>| -> ArrayRef {
            if field.name() == SNAPSHOT_DATE.name {
                let date = Date32Type::from_naive_date(generated_time.date_naive());
                Arc::new(Date32Array::from_value(date, num_rows))
            } else if is_time(field.name()) {
                let times =
                    TimestampMicrosecondArray::from_value(generated_time.timestamp_micros(), num_rows);
                Arc::new(times.with_data_type(field.data_type().clone()))
            } else {
                new_null_array(field.data_type(), num_rows)
            }
        };
        let known = all.iter().take(all.len().saturating_sub(1)).map(column);
        RecordBatch::try_new(Arc::clone(&self.schema), known.chain(once(text_array(rejects))).collect())
    }
}

fn text_array(texts: Vec<String>) -> ArrayRef {
    Arc::new(StringArray::from(texts))
}

/// The rejects of one part, on their way to whoever reads.
struct Rejects<'w> {
    work: &'w Work,
    part: &'w str,
    send: &'w SyncSender<Batch>,
    lines: Vec<String>,
    num_bytes: usize,
    stop: Option<Stop>,
}

impl Rejects<'_> {
    fn take(&mut self, reject: &Reject) {
        if self.stop.is_some() {
            return;
        }
        match self.work.options.on_reject {
            OnReject::Skip => {}
            OnReject::Fail if reject.kind == RejectKind::Field => {}
            OnReject::Fail => {
                let Reject { line, reason, .. } = reject;
                let text = format!("part {}, line {line}: the record was rejected: {reason}", self.part);
                self.stop = Some(Stop::Failed(ArrowError::ExternalError(text.into())));
            }
            OnReject::Column => {
                let mut line = Vec::new();
                reject.write_line(self.part, &mut line).expect("memory takes it");
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.num_bytes += line.len();
                self.lines.push(line);
                if self.num_bytes >= MAX_REJECT_BYTES || self.lines.len() >= self.work.options.batch_rows {
                    self.stop = self.flush().err();
                }
            }
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.num_bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Ok(());
        }
        let batch = self.work.rows_of(lines)?;
        self.send.send(Ok(batch)).map_err(|_| Stop::Unread)
    }

    fn finish(mut self) -> Result<(), Stop> {
        match self.stop.take() {
            Some(stop) => Err(stop),
            None => self.flush(),
        }
    }
}

/// Returns an error as a stream has it: in one line, with its causes and its hint.
fn error_of(error: impl Into<CommandError>) -> ArrowError {
    ArrowError::ExternalError(error.into().to_string().into())
}
