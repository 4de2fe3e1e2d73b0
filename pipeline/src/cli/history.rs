//! `diff`, `trend` and `query`: their options, and who gets the answers.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use chrono::NaiveDate;
use clap::ValueEnum;

use super::{Failure, TableOptions, print, print_json, start_runtime, usage};
use crate::cancel::Cancel;
use crate::config::lake_or_default;
use crate::exit_code::ExitCode;
use crate::history::change_filter::ChangeFilter;
use crate::history::diff::{Diff, PRESENCE};
use crate::history::output::{FrameWriter, OutputFile, OutputFormat};
use crate::history::query::Query;
use crate::history::summary::{Compared, Summary};
use crate::history::trend::{self, By};
use crate::history::{self, HistoryError, SnapshotReader};
use crate::lake::{Lake, PublishedSnapshot};

/// How `--where` is written.
pub const WHERE: &str = "\
Conditions of --where: vendor, product, platform and group.
  --where vendor=adobe                         one value
  --where vendor=adobe,platform=Windows11      of different fields: all
  --where vendor=adobe --where vendor=oracle   of the same field: any
Values are matched whole and as written; `group=` stands for devices without a group.
A change is kept by its own columns: one of a device as such has no vendor and no product.";

/// What an answer stays inside, where nothing is given.
const DEFAULT_MEMORY: ByteSize = ByteSize::gib(1);
/// Below this the lake would be read again and again for a few devices each time.
const LEAST_MEMORY: ByteSize = ByteSize::mib(256);

#[derive(Debug, clap::Args)]
struct MemoryOption {
    /// Memory to stay inside, 256MiB at least [default: 1GiB]
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
}

impl MemoryOption {
    fn bytes(&self) -> anyhow::Result<u64> {
        let memory = self.memory.unwrap_or(DEFAULT_MEMORY);
        if memory < LEAST_MEMORY {
            let error = anyhow::anyhow!("--memory: expected at least {LEAST_MEMORY}, found {memory}");
            return Err(Failure { code: ExitCode::Usage, error, hint: None }.into());
        }
        Ok(memory.as_u64())
    }
}

#[derive(Debug, clap::Args)]
pub struct DiffOptions {
    #[command(flatten)]
    table: TableOptions,
    /// The snapshot before [default: the one before --to]
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// The snapshot after [default: the newest]
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// Only changes of these, such as vendor=adobe,platform=Windows11; see below
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    conditions: Vec<String>,
    /// Write all changes to a file: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct TrendOptions {
    #[command(flatten)]
    table: TableOptions,
    /// Only snapshots of this date and later
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<NaiveDate>,
    /// Only snapshots of this date and earlier
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<NaiveDate>,
    /// Count for each of these
    #[arg(long, value_enum)]
    by: Option<By>,
    /// How many of them to show, those with most installations
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Write all numbers to a file: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub struct QueryOptions {
    /// The query; tables are named as `defender-lake schema` names them
    sql: String,
    /// Where the tables live [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Form of the answer [default: table, or what the name of --out says]
    #[arg(long, value_enum)]
    format: Option<QueryFormat>,
    /// Write the answer to a file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum QueryFormat {
    /// For people, the first 100 rows
    Table,
    /// CSV with a header
    Csv,
    /// One JSON object a line
    Json,
    /// Parquet
    Parquet,
}

fn failure(error: HistoryError) -> anyhow::Error {
    // A reader of stdout that has enough is no failure.
    let error = match error {
        HistoryError::Stdout(error) => return error.into(),
        error => error,
    };
    Failure { code: error.exit_code(), hint: error.hint().map(str::to_owned), error: error.into() }.into()
}

/// Data files are read where they are.
fn check_local(lake: &str) -> anyhow::Result<()> {
    match lake.split_once("://") {
        Some((scheme, _)) if !scheme.eq_ignore_ascii_case("file") => {
            Err(failure(HistoryError::RemoteLake { scheme: scheme.to_owned() }))
        }
        _ => Ok(()),
    }
}

pub fn run_diff(options: &DiffOptions) -> anyhow::Result<ExitCode> {
    let memory_bytes = options.memory.bytes()?;
    let filter = ChangeFilter::parse(options.conditions.iter().map(String::as_str)).map_err(usage)?;
    let table = options.table.open()?;
    let published = table.snapshots().map_err(super::lake_error)?;
    let dataset = table.dataset().name;
    let (from, to) = history::choose_pair(&published, dataset, options.from, options.to).map_err(failure)?;
    let (from, to) = (&published[from], &published[to]);
    let compared = |snapshot: &PublishedSnapshot| Compared {
        generated_time: snapshot.id.generated_time(),
        rows: snapshot.manifest.totals.rows,
    };
    let mut summary = Summary::new(dataset, compared(from), compared(to), filter.clone());
    let mut out = options.out.as_deref().map(Out::new).transpose().map_err(failure)?;
    let (runtime, cancel) = start_runtime()?;
    let mut run = || {
        let [old, new] = [from, to].map(|snapshot| SnapshotReader::open(&table, snapshot, &cancel));
        let (old, new) = (&old?, &new?);
        let diff = Diff { old, new, filter: &filter, memory_bytes };
        diff.run(&cancel, |changes| {
            summary.add(&changes)?;
            match &mut out {
                Some(out) => out.write(&changes.drop(PRESENCE)?),
                None => Ok(()),
            }
        })
    };
    let result = run();
    runtime.shutdown_background();
    result.map_err(failure)?;
    summary.finish();
    if let Some(out) = out {
        summary.out = Some(out.path.display().to_string());
        out.finish().map_err(failure)?;
    }
    if options.json {
        return print_json(&summary);
    }
    print(&summary.text())
}

pub fn run_trend(options: &TrendOptions) -> anyhow::Result<ExitCode> {
    let memory_bytes = options.memory.bytes()?;
    let table = options.table.open()?;
    let mut published = table.snapshots().map_err(super::lake_error)?;
    let in_range = |date: NaiveDate| {
        options.from.is_none_or(|from| date >= from) && options.to.is_none_or(|to| date <= to)
    };
    published.retain(|snapshot| in_range(snapshot.id.date()));
    if published.is_empty() {
        let from = options.from.map(|date| format!(" from {date}")).unwrap_or_default();
        let to = options.to.map(|date| format!(" to {date}")).unwrap_or_default();
        let range = format!("{from}{to}");
        return Err(failure(HistoryError::NoSnapshots { dataset: table.dataset().name, range }));
    }
    let mut out = options.out.as_deref().map(Out::new).transpose().map_err(failure)?;
    let (runtime, cancel) = start_runtime()?;
    let result = trend::trend(&table, &published, options.by, memory_bytes, &cancel);
    runtime.shutdown_background();
    let trend = result.map_err(failure)?;
    if let Some(out) = &mut out {
        out.write(&trend).map_err(failure)?;
    }
    if let Some(out) = out {
        out.finish().map_err(failure)?;
    }
    print(&trend::text(&trend, options.by, options.top).map_err(failure)?)
}

pub fn run_query(options: &QueryOptions) -> anyhow::Result<ExitCode> {
    let format = options.format.map(|format| match format {
        QueryFormat::Table => None,
        QueryFormat::Csv => Some(OutputFormat::Csv),
        QueryFormat::Json => Some(OutputFormat::Ndjson),
        QueryFormat::Parquet => Some(OutputFormat::Parquet),
    });
    let memory_bytes = options.memory.bytes()?;
    let lake = lake_or_default(options.lake.as_deref());
    check_local(&lake)?;
    let lake = Lake::open(lake).map_err(super::lake_error)?;
    let query = Query::try_new(&lake, &options.sql).map_err(failure)?;
    let (runtime, cancel) = start_runtime()?;
    let result = answer(query, options.out.as_deref(), format.flatten(), memory_bytes, &cancel);
    runtime.shutdown_background();
    result
}

fn answer(
    query: Query,
    out: Option<&Path>,
    format: Option<OutputFormat>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> anyhow::Result<ExitCode> {
    if let Some(path) = out {
        let mut out = OutputFile::create(path, format, query.schema()).map_err(failure)?;
        query.run(memory_bytes, cancel, |frame| out.write(&frame).map(|()| true)).map_err(failure)?;
        out.finish().map_err(failure)?;
        return Ok(ExitCode::Success);
    }
    let Some(format) = format else {
        return print(&history::query::table(query, memory_bytes, cancel).map_err(failure)?);
    };
    let stdout = std::io::stdout();
    if format == OutputFormat::Parquet && stdout.is_terminal() {
        let error = anyhow::anyhow!("Parquet is nothing for a terminal");
        let hint = Some("pass --out FILE, or redirect stdout".to_owned());
        return Err(Failure { code: ExitCode::Usage, error, hint }.into());
    }
    let stdout = std::io::BufWriter::new(stdout.lock());
    let mut writer = FrameWriter::try_new(stdout, format, query.schema()).map_err(failure)?;
    query.run(memory_bytes, cancel, |frame| writer.write(&frame).map(|()| true)).map_err(failure)?;
    writer.finish().map_err(failure)?;
    Ok(ExitCode::Success)
}

/// A file whose columns are known with the first frame.
struct Out<'a> {
    path: &'a Path,
    format: OutputFormat,
    file: Option<OutputFile>,
}

impl<'a> Out<'a> {
    /// Looks at the name before any work is done.
    fn new(path: &'a Path) -> Result<Self, HistoryError> {
        Ok(Self { path, format: OutputFormat::of_path(path)?, file: None })
    }

    fn write(&mut self, frame: &polars::frame::DataFrame) -> Result<(), HistoryError> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(OutputFile::create(self.path, Some(self.format), frame.schema())?),
        };
        file.write(frame)
    }

    fn finish(self) -> Result<(), HistoryError> {
        self.file.map_or(Ok(()), OutputFile::finish)
    }
}
