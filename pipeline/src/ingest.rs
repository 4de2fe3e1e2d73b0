//! One run: takes a [`IngestConfig`], gives a [`RunReport`]. The only module that knows all the stages.
//!
//! All control flow lives here: what is listed, whether it is wanted, which threads do what, and
//! when to end. It moves parts, batches and files, and opens none.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{Scope, ThreadPool};
use schema::Dataset;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::batch::{BatchLayout, Batcher, DueRowGroup, RowGroupLimits, RowGroups};
use crate::cancel::Cancel;
use crate::commit::{CommitError, Recovered, Staging};
use crate::config::is_year_of_four_digits;
use crate::decode::binding::{Binding, OTHER_NAMES};
use crate::decode::columns::Columns;
use crate::decode::framing::FramingError;
use crate::decode::reject::{Reject, RejectKind};
use crate::decode::{DecodeCounts, DecodeError, PartDecoder, Sink};
use crate::exit_code::ExitCode;
use crate::http::error_chain;
use crate::lake::{Lake, LakeError, Table, TableKind, TableLock};
use crate::manifest::{Manifest, PartFacts, Route, Totals};
use crate::memory::{MemoryBudget, Room};
use crate::panics::{self, Panicked};
use crate::progress::Progress;
use crate::report::{Listed, Outcome, RunReport, SnapshotReport};
use crate::snapshot::{RunId, SnapshotId};
use crate::source::{Export, OpenError, RouteConfig, Source, SourceConfig, SourceError, StoredPart};
use crate::spool::KEPT;
use crate::threads::{self, ThreadError};
use crate::write::rejects::Rejects;
use crate::write::{MAX_PARTITIONS, SnapshotWriter, WriteError, WriterLimits};

/// Parts that wait between fetch and decode; their bytes wait in the spool.
const MAX_WAITING_PARTS: usize = 64;

/// Distinct undocumented names in the manifest, at most; further ones share one entry.
const MAX_UNDOCUMENTED_NAMES: usize = 4096;

/// What encoders keep for the next row group, of what they take, as a divisor.
const ENCODERS_SHARE: usize = 4;

/// Least memory that a run is given: buffers of two threads and a row group of each partition.
pub const MIN_MEMORY_BYTES: u64 = 64 << 20;

/// What one run is to do; every value is validated.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct IngestConfig {
    /// Which export.
    pub dataset: &'static Dataset,
    /// Where the tables live.
    pub lake: String,
    /// Where parts come from.
    pub source: SourceConfig,
    /// The spool's place, and where files wait on their way to an object store.
    pub work_dir: PathBuf,
    /// What the table is to be; where nothing is said, what it is.
    pub table: Option<TableKind>,
    /// What to do with a snapshot that the lake has.
    pub if_published: IfPublished,
    /// How many rejected records are too many.
    pub max_rejects: MaxRejects,
    /// Whether undocumented fields become a column.
    pub capture_extra_fields: bool,
    /// Whether the spool stays after publishing.
    pub keep_parts: bool,
    /// Whether a generated time of more than two days ahead of the clock is accepted.
    pub allow_future: bool,
    /// Threads that decode and encode.
    pub threads: NonZeroUsize,
    /// What the whole run stays inside, at least [`MIN_MEMORY_BYTES`].
    pub memory: MemoryBudget,
    /// Touch nothing.
    pub dry_run: bool,
}

/// What to do with a snapshot that the lake has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfPublished {
    /// Nothing.
    #[default]
    Skip,
    /// Publish it again in its place.
    Replace,
    /// Fail.
    Fail,
}

/// How many rejected records a run may have; exactly the limit passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum MaxRejects {
    /// So many.
    Count(u64),
    /// A share of the records read, in millionths of a percent.
    Share {
        /// Millionths of a percent, at most 100 %.
        micro_percent: u64,
    },
}

impl MaxRejects {
    const MICROS: u64 = 1_000_000;

    /// Of this share of its records at most, in percent, may a part have rejects where all may have no
    /// more. Its rejects are then not those of an export: they are few, and spread over all parts.
    const MAX_PART_PERCENT: u64 = 10;

    /// A part with so many records or fewer is too small for a share of them to say anything.
    const MAX_SMALL_PART_RECORDS: u64 = 100;

    /// Whether `rejected` of a part's `records` are so many that the part is damaged, should
    /// [`Self::is_held_per_part`].
    fn is_exceeded_by_part(rejected: u64, records: u64) -> bool {
        records > Self::MAX_SMALL_PART_RECORDS && rejected * 100 > records * Self::MAX_PART_PERCENT
    }

    /// Whether each part is held against [`Self::MAX_PART_PERCENT`]: where that is no less than what all
    /// may have. A number is taken as its share of all `records`.
    fn is_held_per_part(self, records: u64) -> bool {
        match self {
            Self::Count(limit) => u128::from(limit) * 100 <= u128::from(records * Self::MAX_PART_PERCENT),
            Self::Share { micro_percent } => micro_percent <= Self::MAX_PART_PERCENT * Self::MICROS,
        }
    }

    /// Whether `rejected` of `records` are too many.
    fn is_exceeded(self, rejected: u64, records: u64) -> bool {
        match self {
            Self::Count(limit) => rejected > limit,
            Self::Share { micro_percent } => {
                u128::from(rejected) * 100 * u128::from(Self::MICROS)
                    > u128::from(records) * u128::from(micro_percent)
            }
        }
    }
}

impl Default for MaxRejects {
    fn default() -> Self {
        Self::Share { micro_percent: Self::MICROS / 10 }
    }
}

impl std::str::FromStr for MaxRejects {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a number of records such as `100`, or a share such as `0.1%`";
        let number = |digits: &str| -> Result<u64, &'static str> {
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                digits.parse().map_err(|_| expected)
            } else {
                Err(expected)
            }
        };
        let Some(percent) = text.strip_suffix('%') else { return number(text).map(Self::Count) };
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
        if fraction.is_empty() || fraction.len() > 6 {
            return Err("expected a share with at most six digits after the point, such as `0.1%`");
        }
        let micro_percent = number(whole)?
            .checked_mul(Self::MICROS)
            .and_then(|micros| micros.checked_add(number(&format!("{fraction:0<6}")).ok()?))
            .ok_or(expected)?;
        if micro_percent > 100 * Self::MICROS {
            return Err("expected a share of at most 100%");
        }
        Ok(Self::Share { micro_percent })
    }
}

impl TryFrom<String> for MaxRejects {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(limit) => write!(f, "{limit}"),
            Self::Share { micro_percent } => write!(f, "{}%", *micro_percent as f64 / Self::MICROS as f64),
        }
    }
}

/// Why a run published nothing.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The source did not deliver.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A part is damaged.
    #[error("part {part} is damaged")]
    Part {
        /// Its name.
        part: String,
        /// How it came.
        route: Route,
        /// How.
        source: DecodeError,
    },
    /// So few records of a part became rows that it is not a part of the export.
    #[error(
        "part {part} is damaged: {rejected} of its {records} records were rejected, line {line}: {reason}; the rejects are in {}",
        rejects.display()
    )]
    RejectedPart {
        /// Its name.
        part: String,
        /// Records rejected.
        rejected: u64,
        /// Records read.
        records: u64,
        /// Where the first of them is.
        line: u64,
        /// Why that was rejected.
        reason: String,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// A part that was there is gone or cannot be opened.
    #[error("cannot open part {part} at {}", path.display())]
    OpenPart {
        /// Its name.
        part: String,
        /// Where it was.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The export has no records.
    #[error("the export of {snapshot} holds no records; nothing was published")]
    Empty {
        /// The snapshot.
        snapshot: SnapshotId,
        /// How its parts came.
        route: Route,
    },
    /// Too many records were rejected.
    #[error("{rejected} of {records} records were rejected, more than {limit}; the rejects are in {}", rejects.display())]
    TooManyRejects {
        /// Records rejected.
        rejected: u64,
        /// Records read.
        records: u64,
        /// The limit.
        limit: MaxRejects,
        /// The rejects file.
        rejects: PathBuf,
    },
    /// The rejects file could not be kept.
    #[error("cannot keep the rejects file at {}", path.display())]
    KeepRejects {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Data files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The lake could not be read or changed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Publishing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The snapshot is in the lake, and that was to fail.
    #[error("{dataset} snapshot {snapshot} is already in the lake")]
    AlreadyPublished {
        /// The dataset.
        dataset: &'static str,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The generated time is not one that a snapshot can have.
    #[error("generated time {}: {problem}", rfc3339(generated_time))]
    GeneratedTime {
        /// The time.
        generated_time: DateTime<Utc>,
        /// What is wrong with it.
        problem: TimeProblem,
        /// Whether it came with local files and not from the service.
        is_local: bool,
    },
    /// A plain table was asked for.
    #[error("{} is a Delta table", table.display())]
    IsDelta {
        /// Its root.
        table: PathBuf,
    },
    /// The system starts no thread.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// SIGINT or SIGTERM.
    #[error("interrupted; nothing was published")]
    Interrupted,
    /// A mistake of ours, or of the system below us.
    #[error("internal error: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl IngestError {
    /// How the program ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Source(error) => error.exit_code(),
            Self::Part { .. }
            | Self::RejectedPart { .. }
            | Self::OpenPart { .. }
            | Self::GeneratedTime { is_local: false, .. }
            | Self::Empty { .. }
            | Self::Write(WriteError::TooManyPartitions { .. }) => ExitCode::Source,
            Self::TooManyRejects { .. } => ExitCode::Rejects,
            Self::Interrupted => ExitCode::Interrupted,
            Self::IsDelta { .. } | Self::GeneratedTime { is_local: true, .. } => ExitCode::Usage,
            Self::Lake(error) | Self::Write(WriteError::Lake(error)) => error.exit_code(),
            Self::Commit(error) => error.exit_code(),
            Self::Write(WriteError::Rows { .. } | WriteError::Encode { .. }) | Self::Internal { .. } => {
                ExitCode::Internal
            }
            Self::KeepRejects { .. } | Self::AlreadyPublished { .. } | Self::Threads(_) => ExitCode::Lake,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Part { source: DecodeError::Text(FramingError::NotAnExport { found }), .. } => {
                Some(found.hint().to_owned())
            }
            Self::RejectedPart { rejected, records, .. } if rejected == records => {
                Some("read their reasons there; leave the part out if it is not of the export".to_owned())
            }
            Self::RejectedPart { .. } => {
                Some("read their reasons there; raise --max-rejects above 10% if they may be left out".to_owned())
            }
            Self::Part { route: Route::Local, .. } => {
                Some("replace the file by a whole one, or leave it out of --from".to_owned())
            }
            Self::Part { .. } => Some("run again to fetch it again".to_owned()),
            Self::Empty { route: Route::Local, .. } => {
                Some("look whether --from names the files that hold the export".to_owned())
            }
            Self::Empty { .. } => Some(
                "look in the Defender portal whether the tenant has devices; the lake keeps its last snapshot"
                    .to_owned(),
            ),
            Self::TooManyRejects { .. } => {
                Some("read their reasons there; raise --max-rejects if they may be left out".to_owned())
            }
            Self::AlreadyPublished { .. } => {
                Some("--if-published skip leaves it, replace publishes it again".to_owned())
            }
            Self::Lake(error) | Self::Write(WriteError::Lake(error)) => error.hint().map(str::to_owned),
            Self::Commit(error) => error.hint().map(str::to_owned),
            Self::Threads(error) => Some(error.hint().to_owned()),
            Self::IsDelta { .. } => {
                Some("leave --table plain out, or choose another --lake for a plain table".to_owned())
            }
            Self::GeneratedTime { problem: TimeProblem::Future { .. }, .. } => {
                Some("check this machine's clock; --allow-future accepts such a time".to_owned())
            }
            Self::GeneratedTime { problem: TimeProblem::Year, is_local, .. } => {
                is_local.then(|| "pass --generated-time".to_owned())
            }
            Self::Interrupted => Some("run again: what was downloaded is in the work dir".to_owned()),
            Self::Internal { .. } | Self::Write(WriteError::Rows { .. } | WriteError::Encode { .. }) => {
                Some("please report this with the lines above it".to_owned())
            }
            Self::Write(WriteError::TooManyPartitions { .. }) => {
                Some("such an export is not one of Defender's; look at the values in the parts".to_owned())
            }
            Self::OpenPart { .. } => Some("make the file readable, then run again".to_owned()),
            Self::KeepRejects { .. } => Some("make --work-dir writable, or choose another".to_owned()),
        }
    }
}

impl From<Panicked> for IngestError {
    fn from(panicked: Panicked) -> Self {
        Self::Internal { reason: panicked.to_string() }
    }
}

/// Why a generated time is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeProblem {
    /// A snapshot's name has four digits for the year.
    #[error("the year is not one of 0001 to 9999")]
    Year,
    /// Days are counted back from the newest snapshot: one far ahead makes all others old.
    #[error("more than two days ahead of the clock, which says {}", rfc3339(now))]
    Future {
        /// What the clock says.
        now: DateTime<Utc>,
    },
}

/// Clocks differ, and time zones are mixed up; more than this is a mistake.
const MAX_AHEAD: TimeDelta = TimeDelta::days(2);

fn rfc3339(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Holds a generated time against the years that a snapshot's name can have, and against the clock.
fn check_generated_time(export: &Export, allow_future: bool, now: DateTime<Utc>) -> Result<(), IngestError> {
    let generated_time = export.generated_time;
    let problem = if !is_year_of_four_digits(generated_time) {
        TimeProblem::Year
    } else if !allow_future && generated_time - now > MAX_AHEAD {
        TimeProblem::Future { now }
    } else {
        return Ok(());
    };
    Err(IngestError::GeneratedTime { generated_time, problem, is_local: export.route == Route::Local })
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> IngestError {
    IngestError::Internal { reason: format!("{what}: {error}") }
}

/// Runs one ingest.
///
/// # Errors
///
/// [`IngestError`]; the lake is as it was then.
pub fn ingest(
    config: &IngestConfig,
    runtime: &Runtime,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<RunReport, IngestError> {
    let started_at = Utc::now().trunc_subsecs(0);
    let table = Lake::open(&config.lake)?
        .with_work_dir(&config.work_dir)
        .with_upload_bytes(config.memory.upload_bytes())
        .table(config.dataset);
    if config.table == Some(TableKind::Plain) && table.kind()? == TableKind::Delta {
        return Err(IngestError::IsDelta { table: table.root() });
    }
    if config.dry_run {
        let export = wait(runtime, cancel, Source::plan(&config.source, config.dataset, &config.work_dir))??;
        check_generated_time(&export, config.allow_future, started_at)?;
        let outcome = decide(config, &table, &export)?.unwrap_or(Outcome::Planned);
        return Ok(listed(config, &table, &export, outcome)?);
    }

    let mut started_over = Vec::new();
    loop {
        let error = match round(config, &table, started_at, runtime, progress, cancel) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let Some(reason) = error.reason_to_start_over(config) else { return Err(error) };
        if cancel.is_cancelled() || started_over.contains(&reason) {
            return Err(error);
        }
        started_over.push(reason);
        if let IngestError::RejectedPart { rejects, .. } = &error {
            // Another round writes its own. Best effort: it is in the way of nothing.
            let _ = std::fs::remove_file(rejects);
        }
        tracing::warn!(%error, "starting over from a new listing; whole parts of the same snapshot are kept");
        progress.restart();
    }
}

/// Why a run begins again, each once: what was staged goes, and what is in the spool stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartOver {
    /// The service has another snapshot by now.
    OtherSnapshot,
    /// A part turned out to be damaged when it was decoded. Its rows are among others by then.
    DamagedPart,
}

impl IngestError {
    fn reason_to_start_over(&self, config: &IngestConfig) -> Option<StartOver> {
        match self {
            Self::Source(error) if error.is_other_snapshot() => Some(StartOver::OtherSnapshot),
            // A local file will be no better the second time.
            Self::Part { .. } | Self::RejectedPart { .. }
                if !matches!(config.source.route, RouteConfig::Local { .. }) =>
            {
                Some(StartOver::DamagedPart)
            }
            _ => None,
        }
    }
}

/// From a listing to the published snapshot, or as far as it goes.
fn round(
    config: &IngestConfig,
    table: &Table,
    started_at: DateTime<Utc>,
    runtime: &Runtime,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<RunReport, IngestError> {
    let (export, source) =
        wait(runtime, cancel, Source::open(&config.source, config.dataset, &config.work_dir))??;
    check_generated_time(&export, config.allow_future, started_at)?;
    let snapshot = export.snapshot_id();
    tracing::info!(
        dataset = config.dataset.name,
        %snapshot,
        num_parts = export.num_parts,
        "export listed"
    );
    let spool = source.spool();

    let waiting = || tracing::info!("another run has the table; waiting for it to end");
    let mut lock = table.lock(waiting, &|| cancel.is_cancelled())?;
    if config.table == Some(TableKind::Delta) {
        lock = lock.to_be_delta();
    }
    lock.recover()?.iter().for_each(Recovered::log);
    let run_id = RunId::try_new().map_err(|error| internal("cannot draw a run id", &error))?;
    let report = if let Some(outcome) = decide(config, table, &export)? {
        lock.adopt_snapshots(&run_id)?;
        listed(config, table, &export, outcome)?
    } else {
        lock.check_publishable(snapshot)?;
        Run { config, runtime, progress, cancel, export: &export, id: run_id, started_at }
            .publish(&lock, source)?
    };
    if let Some(spool) = spool {
        let is_whole = report.outcome == Outcome::Published;
        let tidied = if config.keep_parts && is_whole { spool.keep() } else { spool.remove() };
        if let Err(error) = tidied {
            tracing::warn!(error = %error, "the spool could not be tidied up");
        }
    }
    Ok(report)
}

/// Runs a future to its end, or to the end of the run.
fn wait<T>(runtime: &Runtime, cancel: &Cancel, future: impl Future<Output = T>) -> Result<T, IngestError> {
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(IngestError::Interrupted),
            output = future => Ok(output),
        }
    })
}

/// Whether the export is not to be published, and how the run then ends.
fn decide(config: &IngestConfig, table: &Table, export: &Export) -> Result<Option<Outcome>, IngestError> {
    let snapshot = export.snapshot_id();
    let Some(published) = table.published_on(snapshot.date())? else { return Ok(None) };
    if published.id > snapshot {
        return Ok(Some(Outcome::Superseded));
    }
    // A snapshot whose data somebody removed by hand is not in the lake, whatever its manifest says.
    if published.id < snapshot || !table.is_complete(&published)? {
        return Ok(None);
    }
    match config.if_published {
        IfPublished::Skip => Ok(Some(Outcome::Skipped)),
        IfPublished::Replace => Ok(None),
        IfPublished::Fail => Err(IngestError::AlreadyPublished { dataset: config.dataset.name, snapshot }),
    }
}

fn listed(
    config: &IngestConfig,
    table: &Table,
    export: &Export,
    outcome: Outcome,
) -> Result<RunReport, LakeError> {
    let published = table.published_on(export.snapshot_id().date())?;
    Ok(RunReport {
        outcome,
        lake: config.lake.clone(),
        table: config.table.map_or_else(|| table.kind(), Ok)?,
        snapshot: SnapshotReport::Listed(Listed {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: config.dataset.name.to_owned(),
            route: export.route,
            generated_time: export.snapshot_id().generated_time(),
            generated_time_from: export.generated_time_from,
            num_parts: export.num_parts,
            published_snapshot: published.map(|published| published.id),
        }),
    })
}

/// One run that publishes.
struct Run<'r> {
    config: &'r IngestConfig,
    runtime: &'r Runtime,
    progress: &'r Arc<Progress>,
    cancel: &'r Cancel,
    export: &'r Export,
    id: RunId,
    started_at: DateTime<Utc>,
}

impl Run<'_> {
    fn publish(&self, lock: &TableLock, source: Source) -> Result<RunReport, IngestError> {
        let snapshot = self.export.snapshot_id();
        let mut staging = lock.stage(&self.id, snapshot)?;
        let manifest = self.write(&staging, source)?;
        let on_bytes = |bytes, total_bytes| {
            self.progress.total_upload_bytes.store(total_bytes, Ordering::Relaxed);
            self.progress.upload_bytes.store(bytes, Ordering::Relaxed);
        };
        staging.upload(&manifest, &on_bytes, &|| self.cancel.is_cancelled())?;
        // From here on it is a few steps: they are finished, not interrupted.
        if self.cancel.is_cancelled() {
            return Err(IngestError::Interrupted);
        }
        let published = match staging.publish(&manifest) {
            Ok(published) => published,
            // Another run had the table after all, and was ahead of this one.
            Err(CommitError::Overtaken { .. }) => return self.not_published(lock.table(), Outcome::Skipped),
            Err(CommitError::Superseded { .. }) => {
                return self.not_published(lock.table(), Outcome::Superseded);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(error) = published.left_over {
            tracing::warn!(error = %error, "what was replaced could not be removed; the next run tries again");
        }
        tracing::info!(
            dataset = manifest.dataset,
            %snapshot,
            rows = manifest.totals.rows,
            files = manifest.totals.files,
            bytes = manifest.totals.bytes,
            rejected_records = manifest.totals.rejected_records,
            "snapshot published"
        );
        Ok(RunReport {
            outcome: Outcome::Published,
            lake: self.config.lake.clone(),
            table: lock.kind()?,
            snapshot: SnapshotReport::Published(Box::new(manifest)),
        })
    }

    fn not_published(&self, table: &Table, outcome: Outcome) -> Result<RunReport, IngestError> {
        tracing::info!(snapshot = %self.export.snapshot_id(), ?outcome, "another run was ahead of this one");
        Ok(listed(self.config, table, self.export, outcome)?)
    }

    /// Fetches, decodes and writes everything into staging.
    fn write(&self, staging: &Staging, source: Source) -> Result<Manifest, IngestError> {
        let config = self.config;
        let snapshot = self.export.snapshot_id();
        let budget = config.memory;
        let num_threads = budget.num_threads(config.threads);
        if num_threads < config.threads {
            tracing::info!(%num_threads, wanted = %config.threads, "--memory is too small for all threads");
        }
        let pool = threads::start_pool(num_threads.get())?;
        let binding = Binding::new(config.dataset, config.capture_extra_fields);
        let layout = BatchLayout::new(&binding, snapshot.generated_time());
        let limits = WriterLimits {
            max_open_bytes: budget.open_files_bytes(),
            max_encoder_bytes: budget.encode_bytes() / (ENCODERS_SHARE * num_threads.get()),
        };
        let (schema, run_id) = (layout.file_schema(), self.id.clone());
        let writer = SnapshotWriter::new(staging, config.dataset, schema, snapshot, run_id, limits);
        let limits = RowGroupLimits {
            max_open_bytes: budget.row_groups_bytes(),
            encode_room: Room::new(budget.encode_bytes()),
            spill: Some(staging.create_spill()?),
        };
        let row_groups = RowGroups::new(&layout, limits);
        let decode = Decode {
            run: self,
            binding: &binding,
            row_groups: &row_groups,
            writer: &writer,
            rejects: Rejects::new(staging),
            parts: Mutex::default(),
            rejected_parts: Mutex::default(),
            lost_columns: Mutex::default(),
            undocumented: Mutex::default(),
            large_records: Room::new(1),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            ended: Notify::new(),
            is_draining: AtomicBool::new(false),
            num_tasks: AtomicUsize::new(0),
        };
        decode.all_parts(&pool, source)?;
        let rejected_part = decode.take_damaged_by_rejects();
        if rejected_part.is_none() {
            decode.warn_of_lost_columns();
        }
        let Decode { rejects, parts, undocumented, .. } = decode;
        rejects.finish()?;
        if let Some(part) = rejected_part {
            return Err(self.part_damaged_by_rejects(staging, part));
        }
        let files = pool.install(|| {
            let last = row_groups.finish().into_par_iter();
            last.try_for_each(|row_group| {
                row_group.write(|key, batch| writer.write(key, batch), |key| writer.close(key))
            })?;
            writer.finish()
        })?;

        let mut parts = unpoisoned(parts);
        parts.sort_by_key(|(index, _)| *index);
        let parts: Vec<PartFacts> = parts.into_iter().map(|(_, facts)| facts).collect();
        if let Some(num_parts) = self.export.num_parts
            && num_parts != parts.len() as u64
        {
            let reason = format!("{num_parts} parts were listed and {} read", parts.len());
            return Err(IngestError::Internal { reason });
        }
        let totals = Totals::sum(&parts, &files);
        if totals.records == 0 {
            return Err(IngestError::Empty { snapshot, route: self.export.route });
        }
        if config.max_rejects.is_exceeded(totals.rejected_records, totals.records) {
            return Err(self.too_many_rejects(staging, &totals));
        }
        Ok(Manifest {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_version: config.dataset.version,
            dataset: config.dataset.name.to_owned(),
            route: self.export.route,
            generated_time: snapshot.generated_time(),
            generated_time_from: self.export.generated_time_from,
            run_id: self.id.clone(),
            started_at: self.started_at,
            finished_at: Utc::now().trunc_subsecs(0),
            parts,
            files,
            totals,
            undocumented_fields: unpoisoned(undocumented),
        })
    }

    fn too_many_rejects(&self, staging: &Staging, totals: &Totals) -> IngestError {
        match self.keep_rejects(staging) {
            Ok(rejects) => IngestError::TooManyRejects {
                rejected: totals.rejected_records,
                records: totals.records,
                limit: self.config.max_rejects,
                rejects,
            },
            Err(error) => error,
        }
    }

    fn part_damaged_by_rejects(&self, staging: &Staging, part: RejectedPart) -> IngestError {
        let RejectedPart { name, rejected, records, first: FirstReject { line, reason }, .. } = part;
        match self.keep_rejects(staging) {
            Ok(rejects) => IngestError::RejectedPart { part: name, rejected, records, line, reason, rejects },
            Err(error) => error,
        }
    }

    /// Keeps the rejects file, which would go with staging, where the error says.
    fn keep_rejects(&self, staging: &Staging) -> Result<PathBuf, IngestError> {
        let config = self.config;
        let name = format!("{}-{}.rejects.ndjson.gz", self.export.snapshot_id(), self.id);
        let path = config.work_dir.join(config.dataset.name).join(name);
        match copy_private(&staging.rejects_path(), &path) {
            Ok(()) => Ok(path),
            Err(source) => Err(IngestError::KeepRejects { path, source }),
        }
    }
}

/// Copies a file that holds people's data for its owner's eyes only.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = to.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

/// The part of a run between fetch and staging, shared by its threads.
struct Decode<'d> {
    run: &'d Run<'d>,
    binding: &'d Binding,
    row_groups: &'d RowGroups<'d>,
    writer: &'d SnapshotWriter<'d>,
    rejects: Rejects<'d>,
    parts: Mutex<Vec<(u64, PartFacts)>>,
    /// Those with many rejects: whether too many, is known once all parts are read.
    rejected_parts: Mutex<Vec<RejectedPart>>,
    /// By name, columns that rejects made null in all rows of some parts.
    lost_columns: Mutex<BTreeMap<&'static str, LostColumn>>,
    undocumented: Mutex<BTreeMap<String, u64>>,
    /// Turns of parts with a record that needs a large buffer.
    large_records: Room,
    /// The first failure; later ones follow from it.
    failure: Mutex<Option<IngestError>>,
    failed: AtomicBool,
    /// Told of a failure that ends the run, which waits for the next part.
    ended: Notify,
    /// Rows of a damaged part are among others. The rest is still fetched and checked, so that nothing
    /// else is in the way of the next round; what comes of it is dropped.
    is_draining: AtomicBool,
    /// Parts and row groups that threads are busy with, or will be.
    num_tasks: AtomicUsize,
}

/// A part whose rejects may be too many.
struct RejectedPart {
    index: u64,
    name: String,
    path: PathBuf,
    rejected: u64,
    records: u64,
    first: FirstReject,
}

/// The first record of a part that was rejected.
struct FirstReject {
    line: u64,
    reason: String,
}

/// A column that is null in all rows of some parts by rejects.
struct LostColumn {
    /// The first of them.
    index: u64,
    part: String,
    num_parts: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unpoisoned<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Decode<'_> {
    /// Decodes every part that `source` delivers, while it delivers the others.
    fn all_parts(&self, pool: &ThreadPool, source: Source) -> Result<(), IngestError> {
        let run = self.run;
        run.progress.num_parts.store(run.export.num_parts.unwrap_or(0), Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(MAX_WAITING_PARTS);
        let (cancel, fetched) = (run.cancel.clone(), Arc::clone(&run.progress.fetch));
        let delivery = run.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(IngestError::Interrupted),
                delivered = source.deliver(sender, fetched) => delivered.map_err(IngestError::Source),
            }
        });
        pool.in_place_scope(|scope| {
            while let Some(part) = run.runtime.block_on(self.next_part(&mut receiver)) {
                if self.is_ending() {
                    break;
                }
                self.num_tasks.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move |scope| self.task(|| self.part(part, scope)));
            }
            // Delivery ends when nobody takes its parts.
            drop(receiver);
        });
        if self.failed.load(Ordering::Relaxed) {
            // What is still on its way is of no use; what is whole stays in the spool.
            delivery.abort();
        }
        let delivered =
            run.runtime.block_on(delivery).unwrap_or_else(|error| Err(internal("fetching ended", &error)));
        if run.cancel.is_cancelled() {
            return Err(IngestError::Interrupted);
        }
        if let Some(failure) = locked(&self.failure).take() {
            if self.failed.load(Ordering::Relaxed) {
                return Err(failure);
            }
            // A damaged part that could not be had whole either is the source's failure.
            return delivered.and(Err(failure));
        }
        delivered
    }

    /// Waits for the next part; none if there are no more, or if the run has failed.
    async fn next_part(&self, receiver: &mut mpsc::Receiver<StoredPart>) -> Option<StoredPart> {
        tokio::select! {
            biased;
            () = self.ended.notified() => None,
            part = receiver.recv() => part,
        }
    }

    /// Runs what a thread was given to do, and keeps its failure; a panic is one.
    fn task(&self, task: impl FnOnce() -> Result<(), IngestError>) {
        let caught = panics::catch(task);
        if let Err(error) = caught.unwrap_or_else(|panicked| Err(panicked.into())) {
            let is_curable = error.reason_to_start_over(self.run.config).is_some();
            let mut failure = locked(&self.failure);
            if is_curable {
                self.is_draining.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            } else if !self.failed.swap(true, Ordering::Relaxed) {
                // It says why the run ends, whatever could have been mended.
                *failure = Some(error);
                self.ended.notify_one();
            }
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes a row group, on a thread that has nothing to do if there is one: while parts are fewer
    /// than threads, at the end of each run at least.
    fn row_group<'s>(&'s self, due: DueRowGroup, scope: &Scope<'s>) -> Result<(), IngestError> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Ok(());
        }
        let write = move || Ok(due.write(|key, batch| self.writer.write(key, batch))?);
        // Of the pool that this is on: perhaps fewer than were asked for.
        let num_threads = rayon::current_num_threads();
        if self.num_tasks.fetch_add(1, Ordering::Relaxed) < num_threads {
            scope.spawn(move |_| self.task(write));
            return Ok(());
        }
        self.num_tasks.fetch_sub(1, Ordering::Relaxed);
        write()
    }

    fn is_ending(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.run.cancel.is_cancelled()
    }

    /// Decodes a part that is well, and gives one back that is damaged. That is an error only where
    /// something of it is among the others by then, or where it will not be delivered again.
    fn part<'s>(&'s self, part: StoredPart, scope: &Scope<'s>) -> Result<(), IngestError> {
        if self.is_ending() {
            return Ok(());
        }
        let file = match part.open() {
            Ok(file) => file,
            Err(OpenError::Unreadable(source)) => {
                return Err(IngestError::OpenPart { part: part.name, path: part.path, source });
            }
            Err(damage) => {
                tracing::debug!(part = part.name, error = %damage, "part is damaged");
                // To be fetched again. Where that is not to be, delivery has ended, and says why.
                part.give_back(&damage);
                return Ok(());
            }
        };
        let mut sink = PartSink {
            batcher: self.row_groups.batcher(),
            rejects: &self.rejects,
            part: &part.name,
            is_untouched: true,
            first_reject: None,
            failure: None,
        };
        let decoded = self.decode(&part, file, &mut sink, scope);
        let is_untouched = sink.is_untouched;
        drop(sink);
        match decoded {
            Err(IngestError::Part { source, .. }) => self.damaged(part, source, is_untouched),
            decoded => decoded,
        }
    }

    fn decode<'s>(
        &'s self,
        part: &StoredPart,
        file: File,
        sink: &mut PartSink<'_, '_>,
        scope: &Scope<'s>,
    ) -> Result<(), IngestError> {
        let progress = self.run.progress;
        let route = self.run.export.route;
        let damaged = |source| IngestError::Part { part: part.name.clone(), route, source };
        let mut decoder = PartDecoder::try_new(file, self.binding).map_err(damaged)?;
        decoder = decoder.with_turns(self.large_records.clone());
        let mut before = decoder.counts();
        loop {
            let more = decoder.decode_some(sink).map_err(damaged)?;
            if let Some(error) = sink.failure.take() {
                return Err(error.into());
            }
            while let Some(due) = sink.batcher.next_due()? {
                self.row_group(due, scope)?;
            }
            if self.row_groups.num_partitions() > MAX_PARTITIONS {
                let column = self.run.config.dataset.partition_by[0];
                return Err(WriteError::TooManyPartitions { column }.into());
            }
            let counts = decoder.counts();
            let rejected = counts.rejected_records - before.rejected_records;
            progress.rows.fetch_add(counts.records - before.records - rejected, Ordering::Relaxed);
            before = counts;
            if !more {
                break;
            }
            if self.is_ending() {
                return Ok(());
            }
        }
        self.count_undocumented(decoder.undocumented());
        self.note_lost_columns(part, decoder.lost_columns());
        let counts = decoder.counts();
        if let Some(first) = sink.first_reject.take() {
            self.note_rejected_part(part, &counts, first);
        }
        let facts = PartFacts {
            name: part.name.clone(),
            bytes: part.bytes,
            md5: part.md5.clone(),
            proof: Some(part.proof),
            json_bytes: counts.json_bytes,
            records: counts.records,
            rejected_records: counts.rejected_records,
            field_rejects: counts.field_rejects,
            coerced: counts.coerced,
            duplicate_names: counts.duplicate_names,
        };
        tracing::debug!(part = part.name, records = facts.records, bytes = facts.bytes, "part decoded");
        locked(&self.parts).push((part.index, facts));
        progress.decoded_parts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn damaged(&self, part: StoredPart, source: DecodeError, is_untouched: bool) -> Result<(), IngestError> {
        let (name, path) = (part.name.clone(), part.path.clone());
        if part.give_back(&source) {
            tracing::debug!(part = name, error = error_chain(&source), "part is damaged");
            if is_untouched {
                return Ok(());
            }
        } else {
            self.remove_from_spool(&name, &path);
        }
        Err(IngestError::Part { part: name, route: self.run.export.route, source })
    }

    /// What was fetched damaged is to be fetched again, not taken from the spool for ever.
    fn remove_from_spool(&self, part: &str, path: &Path) {
        let is_kept = path.parent().is_some_and(|folder| folder.join(KEPT).exists());
        if self.run.export.route != Route::Local
            && !is_kept
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(part, error = %error, "the damaged part could not be removed from the spool");
        }
    }

    fn note_rejected_part(&self, part: &StoredPart, counts: &DecodeCounts, first: FirstReject) {
        let (rejected, records) = (counts.rejected_records, counts.records);
        if rejected == records || MaxRejects::is_exceeded_by_part(rejected, records) {
            let (index, name, path) = (part.index, part.name.clone(), part.path.clone());
            locked(&self.rejected_parts).push(RejectedPart { index, name, path, rejected, records, first });
        }
    }

    /// Finds the parts that have so many rejects that they are not of the export, once all are read: all of
    /// their records where other parts have rows, or more than a limit for all allows for a part. Returns the
    /// first; those that were fetched are fetched again by another round.
    fn take_damaged_by_rejects(&self) -> Option<RejectedPart> {
        let (mut records, mut rejected) = (0, 0);
        for (_, part) in &*locked(&self.parts) {
            records += part.records;
            rejected += part.rejected_records;
        }
        let is_held_per_part = self.run.config.max_rejects.is_held_per_part(records);
        let mut damaged = std::mem::take(&mut *locked(&self.rejected_parts));
        damaged.retain(|part| {
            part.rejected == part.records && rejected < records
                || is_held_per_part && MaxRejects::is_exceeded_by_part(part.rejected, part.records)
        });
        for part in &damaged {
            self.remove_from_spool(&part.name, &part.path);
        }
        damaged.into_iter().min_by_key(|part| part.index)
    }

    fn note_lost_columns(&self, part: &StoredPart, columns: impl Iterator<Item = &'static str>) {
        for column in columns {
            let mut lost = locked(&self.lost_columns);
            let first = || LostColumn { index: part.index, part: part.name.clone(), num_parts: 0 };
            let lost = lost.entry(column).or_insert_with(first);
            lost.num_parts += 1;
            if part.index < lost.index {
                (lost.index, lost.part) = (part.index, part.name.clone());
            }
        }
    }

    fn warn_of_lost_columns(&self) {
        for (column, LostColumn { part, num_parts, .. }) in &*locked(&self.lost_columns) {
            tracing::warn!(
                column,
                part,
                num_parts,
                "the column is null in every row of the part: its values were rejected"
            );
        }
    }

    fn count_undocumented<'n>(&self, names: impl Iterator<Item = (&'n str, u64)>) {
        let mut counts = locked(&self.undocumented);
        for (name, count) in names {
            let known = counts.contains_key(name) || counts.len() < MAX_UNDOCUMENTED_NAMES;
            *counts.entry(if known { name } else { OTHER_NAMES }.to_owned()).or_default() += count;
        }
    }
}

/// Where one part's rows and rejects go.
struct PartSink<'p, 'd> {
    batcher: Batcher<'d>,
    rejects: &'p Rejects<'d>,
    part: &'p str,
    /// Whether nothing came yet.
    is_untouched: bool,
    first_reject: Option<FirstReject>,
    failure: Option<LakeError>,
}

impl Sink for PartSink<'_, '_> {
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        self.is_untouched = false;
        self.batcher.columns(partition)
    }

    fn reject(&mut self, reject: Reject) {
        self.is_untouched = false;
        if reject.kind == RejectKind::Record && self.first_reject.is_none() {
            self.first_reject = Some(FirstReject { line: reject.line, reason: reject.reason.clone() });
        }
        if self.failure.is_none() {
            self.failure = self.rejects.write(self.part, &reject).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_limit_passes() {
        let limit = |text: &str| text.parse::<MaxRejects>().unwrap();
        assert!(!limit("3").is_exceeded(3, 10));
        assert!(limit("3").is_exceeded(4, 10_000));
        assert!(!limit("0.1%").is_exceeded(1, 1000));
        assert!(limit("0.1%").is_exceeded(1, 999));
        assert!(!limit("0%").is_exceeded(0, 5));
        assert!(limit("0%").is_exceeded(1, u64::MAX));
        assert!(!limit("100%").is_exceeded(5, 5));
        assert_eq!(limit("0.1%"), MaxRejects::default());
        assert_eq!(limit("0.1%").to_string(), "0.1%");
    }

    #[test]
    fn parts_are_held_where_the_limit_is_a_tenth_or_less() {
        let is_held = |text: &str, records| text.parse::<MaxRejects>().unwrap().is_held_per_part(records);
        assert!(is_held("10%", 1) && is_held("0%", 1) && !is_held("10.000001%", 1));
        assert!(is_held("100", 1000) && !is_held("100", 999) && is_held("0", 0));
    }

    #[test]
    fn more_than_a_tenth_of_more_than_100_records_is_damage() {
        assert!(!MaxRejects::is_exceeded_by_part(100, 100));
        assert!(MaxRejects::is_exceeded_by_part(11, 101));
        assert!(!MaxRejects::is_exceeded_by_part(11, 110));
        assert!(MaxRejects::is_exceeded_by_part(101, 1009));
    }

    #[test]
    fn generated_time_is_held_against_the_clock() {
        let check = |text: &str, allow_future: bool, expected: Option<&str>| {
            let export = Export {
                route: Route::Files,
                generated_time: text.parse().unwrap(),
                generated_time_from: crate::manifest::GeneratedTimeFrom::Path,
                num_parts: None,
                num_bytes: None,
            };
            let now = "2021-01-11T11:01:00Z".parse().unwrap();
            let result = check_generated_time(&export, allow_future, now);
            assert_eq!(result.err().map(|error| error.to_string()).as_deref(), expected, "{text}");
        };
        check("0001-01-01T00:00:00Z", false, None);
        check("2021-01-13T11:01:00Z", false, None);
        let ahead = "generated time 2021-01-13T11:01:01Z: more than two days ahead of the clock, which says \
                     2021-01-11T11:01:00Z";
        check("2021-01-13T11:01:01Z", false, Some(ahead));
        check("9999-12-31T23:59:59Z", true, None);
        let year = |text| format!("generated time {text}: the year is not one of 0001 to 9999");
        check("+10000-01-01T00:00:00Z", true, Some(&year("+10000-01-01T00:00:00Z")));
        check("0000-01-01T00:00:00Z", false, Some(&year("0000-01-01T00:00:00Z")));
    }

    #[test]
    fn nonsense_is_no_limit() {
        for text in ["", "%", "-1", "1.5", "101%", "0.0000001%", "1,5%", "five", "+5", "1.%"] {
            assert!(text.parse::<MaxRejects>().is_err(), "{text}");
        }
    }
}
