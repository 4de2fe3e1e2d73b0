//! The command line: what may be typed, and which command runs.

#[cfg(feature = "history")]
mod history;
mod usage_error;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as TextTable};
use schema::ddl::ExtraFields;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::cancel::Cancel;
use crate::config::{IngestOptions, LogFormat, LogOptions, default_work_dir, find_dataset, lake_or_default};
use crate::ddl;
use crate::environment;
use crate::exit_code::{Diagnostic, ExitCode};
use crate::expire::{self, Plan, Retention};
use crate::ingest;
use crate::lake::{Lake, LakeError, PublishedSnapshot, Table, check_location};
use crate::panics::{self, Panicked};
use crate::printable::{printable, printable_json, printable_lines};
use crate::progress::{
    ByteProgress, EventWriter, LogWriter, Progress, ProgressDisplay, ProgressMode, grouped,
};
use crate::report::{Outcome, count, reader_path};
use crate::source::read_small_file;
use crate::threads;
use crate::verify::{self, Finding, VerifyOptions};

/// Exit codes, as `--help` lists them.
const EXIT_CODES: &str = "\
Exit codes:
  0    published, or nothing to do
  1    internal error
  2    usage
  3    not authorised
  4    the source did not deliver a whole snapshot
  5    too many rejects
  6    the lake could not be written, verify found damage, or --if-published fail
  7    rate budget used up; retry after the time printed
  130  interrupted
With every code but 0 the lake is exactly as it was before.";

/// Takes Microsoft Defender's device exports and keeps their history as Parquet.
#[derive(Debug, Parser)]
#[command(name = "defender-lake", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take one export, publish one snapshot
    #[command(after_help = EXIT_CODES)]
    Ingest(Box<IngestOptions>),
    /// List the published snapshots
    Snapshots(SnapshotsOptions),
    /// Re-read published snapshots and hold them against their manifests
    #[command(after_help = EXIT_CODES)]
    Verify(VerifyArgs),
    /// Remove old snapshots for good
    #[command(after_help = EXIT_CODES)]
    Expire(ExpireOptions),
    /// Say what changed between two snapshots
    #[cfg(feature = "history")]
    #[command(after_help = history::WHERE)]
    Diff(history::DiffOptions),
    /// Say how the numbers went over the snapshots
    #[cfg(feature = "history")]
    Trend(history::TrendOptions),
    /// Ask the tables in SQL
    #[cfg(feature = "history")]
    Query(history::QueryOptions),
    #[cfg(not(feature = "history"))]
    #[command(hide = true, disable_help_flag = true)]
    Diff(NotBuilt),
    #[cfg(not(feature = "history"))]
    #[command(hide = true, disable_help_flag = true)]
    Trend(NotBuilt),
    #[cfg(not(feature = "history"))]
    #[command(hide = true, disable_help_flag = true)]
    Query(NotBuilt),
    /// Print a dataset's contract
    Schema(SchemaOptions),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A command that this build lacks, whatever its options.
#[cfg(not(feature = "history"))]
#[derive(Debug, clap::Args)]
struct NotBuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _given: Vec<std::ffi::OsString>,
}

#[derive(Debug, clap::Args)]
struct SnapshotsOptions {
    #[command(flatten)]
    table: TableOptions,
    /// Print the manifests as a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
struct TableOptions {
    /// Where the tables live [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Which table [default: software-inventory]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
}

impl TableOptions {
    fn open(&self) -> anyhow::Result<Table> {
        let dataset = find_dataset(self.dataset.as_deref()).map_err(usage)?;
        let lake = Lake::open(lake_or_default(self.lake.as_deref())).map_err(lake_error)?;
        let work_dir = default_work_dir().unwrap_or_else(|_| environment::temp_dir());
        Ok(lake.with_work_dir(&work_dir).table(dataset))
    }
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    table: TableOptions,
    /// Only the snapshot of this date
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<chrono::NaiveDate>,
    /// Also count the rows whose key another row of the snapshot has
    #[arg(long)]
    keys: bool,
    /// Memory for counting keys [default: 256MiB]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<ByteSize>,
    /// Print the findings as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct ExpireOptions {
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    keep: KeepOptions,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Do not ask, even if more than half of the table's snapshots go
    #[arg(long)]
    yes_remove_most: bool,
    /// Say what would be removed and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one report as JSON on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogOptions,
}

/// With both, what either keeps is kept.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct KeepOptions {
    /// Keep the snapshots of the last N days, counted back from the newest snapshot
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    keep_days: Option<NonZeroU32>,
    /// Keep the last snapshot of each month
    #[arg(long)]
    keep_monthly: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
struct SchemaOptions {
    /// Which dataset [default: software-inventory]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Where the tables live, for the statements [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: SchemaFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SchemaFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
    /// DuckDB: a view over the lake
    Duckdb,
    /// Spark SQL: a view over the lake
    Spark,
}

/// An error whose exit code is known.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}{}", hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default())]
struct Failure {
    code: ExitCode,
    error: anyhow::Error,
    hint: Option<String>,
}

fn failed(error: impl Diagnostic + Send + Sync + 'static) -> anyhow::Error {
    let hint = error.hint().map(Cow::into_owned);
    Failure { code: error.exit_code(), hint, error: error.into() }.into()
}

fn usage(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    Failure { code: ExitCode::Usage, error: error.into(), hint: None }.into()
}

fn lake_failure(error: impl Into<anyhow::Error>, hint: Option<&'static str>) -> anyhow::Error {
    Failure { code: ExitCode::Lake, error: error.into(), hint: hint.map(str::to_owned) }.into()
}

fn lake_error(error: LakeError) -> anyhow::Error {
    Failure { code: error.exit_code(), hint: error.hint().map(str::to_owned), error: error.into() }.into()
}

/// Runs the command that was typed, prints its error if it has one, and says how it ended.
pub fn run() -> ExitCode {
    panics::install_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error::print(&error, &Cli::command()),
    };
    let result = panics::catch(|| run_command(cli.command)).unwrap_or_else(|panicked| Err(panicked.into()));
    let result = match (result, panics::recorded()) {
        // What fails after a panic fails because of it.
        (Err(_), Some(panicked)) => Err(internal_error(&panicked)),
        (result, _) => result,
    };
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::Success,
        Err(error) => {
            let code = error.downcast_ref::<Failure>().map_or(ExitCode::Internal, |failure| failure.code);
            say("error", &format!("{error:#}"));
            code
        }
    }
}

fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ingest(options) => run_ingest(*options),
        Command::Snapshots(options) => run_snapshots(&options),
        Command::Verify(options) => run_verify(&options),
        Command::Expire(options) => run_expire(&options),
        #[cfg(feature = "history")]
        Command::Diff(options) => history::run_diff(&options),
        #[cfg(feature = "history")]
        Command::Trend(options) => history::run_trend(&options),
        #[cfg(feature = "history")]
        Command::Query(options) => history::run_query(&options),
        #[cfg(not(feature = "history"))]
        Command::Diff(_) | Command::Trend(_) | Command::Query(_) => Err(not_built()),
        Command::Schema(options) => run_schema(&options),
        Command::Completions { shell } => print_data(&completions(shell)),
    }
}

fn internal_error(panicked: &Panicked) -> anyhow::Error {
    let error = anyhow::anyhow!("internal error: {panicked}");
    Failure { code: ExitCode::Internal, error, hint: panicked.hint().map(Cow::into_owned) }.into()
}

/// Writes one line to stderr.
fn say(level: &str, text: &str) {
    let _ = LogWriter.write_all(format!("{level}: {}\n", printable(text)).as_bytes());
}

#[cfg(not(feature = "history"))]
fn not_built() -> anyhow::Error {
    let error = anyhow::anyhow!("diff, trend and query are not in this build");
    let hint = "build it with `cargo build --release --features history`, or run `make diff`";
    Failure { code: ExitCode::Usage, error, hint: Some(hint.to_owned()) }.into()
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints what people read.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    print_data(&printable_lines(text))
}

/// Prints one JSON value.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<ExitCode> {
    print_data(&format!("{}\n", printable_json(&serde_json::to_string(value)?)))
}

/// Writes to stdout what other programs read, as it is.
fn print_data(text: &str) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.context("cannot write to stdout")?;
    Ok(ExitCode::Success)
}

/// Ends a command that has changed the lake. What cannot be printed about it then changes nothing.
fn after_change(printed: anyhow::Result<ExitCode>, done: &str) -> ExitCode {
    if let Err(error) = printed {
        say("warning", &format!("{done}, and the report of it is lost: {error:#}"));
    }
    ExitCode::Success
}

fn start_log(options: &LogOptions) {
    let level = match (options.quiet, options.verbose) {
        (true, _) => "error",
        (false, 0) if options.progress.resolve() == ProgressMode::Bar => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    start_log_at(level, options.log_format);
}

/// Libraries could put URLs, headers or tokens into the log at lower levels than this.
const LIBRARY_LEVEL: &str = "warn";

fn start_log_at(level: &str, format: LogFormat) {
    let others = if level == "error" { level } else { LIBRARY_LEVEL };
    let mut filter = EnvFilter::new(others);
    for own in ["pipeline", "schema"] {
        filter = filter.add_directive(format!("{own}={level}").parse().expect("a level for a crate"));
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let is_plain = environment::variable("NO_COLOR").is_some();
    let ansi = !is_plain && std::io::stderr().is_terminal();
    match format {
        LogFormat::Text => builder.with_writer(|| EventWriter::Text).with_ansi(ansi).init(),
        LogFormat::Json => builder.with_writer(|| EventWriter::Json).json().flatten_event(true).init(),
    }
}

fn run_ingest(options: IngestOptions) -> anyhow::Result<ExitCode> {
    start_log(&options.log);
    let (runtime, cancel) = start_runtime()?;
    let options = options
        .with_environment_and_file(|path| read_config(path, &runtime, &cancel))
        .map_err(|error| if cancel.is_cancelled() { interrupted() } else { usage(error) })?;
    let config = options.to_config().map_err(usage)?;
    raise_file_limit();
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start(options.log.progress_mode(), &progress);
    let result = panics::catch(|| ingest::ingest(&config, &runtime, &progress, &cancel));
    drop(display);
    // Whatever still waits on the network is of no use to anyone.
    runtime.shutdown_background();
    let report = result?.map_err(failed)?;
    let printed = if options.json {
        print_json(&report)
    } else if options.log.quiet {
        Ok(ExitCode::Success)
    } else {
        print(&report.summary())
    };
    if report.outcome == Outcome::Published {
        Ok(after_change(printed, "the snapshot was published"))
    } else {
        printed
    }
}

/// Reads the file that `--config` names, which may be a pipe: waiting for it ends with the run.
fn read_config(path: &std::path::Path, runtime: &Runtime, cancel: &Cancel) -> std::io::Result<String> {
    /// Options are some hundred bytes.
    const MAX_BYTES: usize = 1 << 20;
    let text = runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(std::io::ErrorKind::Interrupted.into()),
            text = read_small_file(path, MAX_BYTES) => text,
        }
    })?;
    String::from_utf8(text).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "is not utf-8"))
}

fn interrupted() -> anyhow::Error {
    let error = anyhow::anyhow!("interrupted; nothing was published");
    Failure { code: ExitCode::Interrupted, error, hint: None }.into()
}

/// Starts what waits for the network, and for signals.
fn start_runtime() -> anyhow::Result<(Runtime, Cancel)> {
    let runtime = threads::start_runtime("network", 2).map_err(failed)?;
    let cancel = Cancel::default();
    {
        let _inside = runtime.enter();
        cancel.listen_to_signals().context("cannot listen to signals")?;
    }
    Ok((runtime, cancel))
}

/// Every open partition holds a file; the usual soft limit of 1024 is below what a lake may have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(error = %error, "the limit of open files stays as it is");
    }
}

fn run_snapshots(options: &SnapshotsOptions) -> anyhow::Result<ExitCode> {
    start_log_at("warn", LogFormat::Text);
    let table = options.table.open()?;
    let snapshots = table.snapshots().map_err(lake_error)?;
    if options.json {
        let manifests: Vec<_> = snapshots.iter().map(|snapshot| &snapshot.manifest).collect();
        return print_json(&manifests);
    }
    if snapshots.is_empty() {
        return print(&format!("No snapshots of {} yet.\n", table.dataset().name));
    }
    let now = Utc::now();
    print(&format!("{}\n{}", snapshots_table(&snapshots, now), snapshots_summary(&snapshots, now)))
}

/// What the lake holds. Ages are from when the service generated a snapshot until `now`.
fn snapshots_table(snapshots: &[PublishedSnapshot], now: DateTime<Utc>) -> String {
    let mut table = TextTable::new();
    table.load_style(NOTHING);
    table.set_header(["date", "generated", "age", "rows", "files", "bytes", "rejected", "field rejects"]);
    for index in 2..8 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for PublishedSnapshot { id, manifest, .. } in snapshots {
        let totals = &manifest.totals;
        table.add_row([
            id.date().to_string(),
            manifest.generated_time.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            age(now - manifest.generated_time),
            grouped(totals.rows),
            grouped(totals.files),
            ByteSize(totals.bytes).to_string(),
            grouped(totals.rejected_records),
            grouped(totals.field_rejects),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// Counts and sizes of all, and how far the newest is behind.
fn snapshots_summary(snapshots: &[PublishedSnapshot], now: DateTime<Utc>) -> String {
    let bytes: u64 = snapshots.iter().map(|snapshot| snapshot.manifest.totals.bytes).sum();
    let mut text = format!("{}, {}", count(snapshots.len() as u64, "snapshot"), ByteSize(bytes));
    if let [first, .., last] = snapshots {
        let num_days = (last.id.date() - first.id.date()).num_days() + 1;
        let num_dates = snapshots.chunk_by(|one, other| one.id.date() == other.id.date()).count();
        let missing = u64::try_from(num_days).unwrap_or(0).saturating_sub(num_dates as u64);
        if missing > 0 {
            let _ = write!(text, "; {} without one in between", count(missing, "day"));
        }
    }
    if let Some(newest) = snapshots.last() {
        let _ = write!(text, "; the newest was generated {} ago", age(now - newest.manifest.generated_time));
    }
    text.push('\n');
    text
}

/// `3 h`, `5 days`: what a person asks of an age.
fn age(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (..0, ..) | (_, ..0, _) | (.., ..=0) => "0 min".to_owned(),
        (_, 0, minutes) => format!("{minutes} min"),
        (..2, hours, _) => format!("{hours} h"),
        (days, ..) => count(days.unsigned_abs(), "day"),
    }
}

fn run_expire(options: &ExpireOptions) -> anyhow::Result<ExitCode> {
    start_log(&options.log);
    let table = options.table.open()?;
    let retention = Retention { keep_days: options.keep.keep_days, keep_monthly: options.keep.keep_monthly };
    let plan = retention.plan(table.snapshots().map_err(lake_error)?);
    let quiet = options.json || options.log.quiet;
    if plan.expired.is_empty() || options.dry_run {
        let outcome =
            if plan.expired.is_empty() { expire::Outcome::Unchanged } else { expire::Outcome::Planned };
        return print_expired(options, &plan, outcome);
    }
    let is_agreed = options.yes_remove_most || (options.yes && !plan.is_most());
    if !is_agreed {
        if options.yes || !std::io::stdin().is_terminal() {
            return Err(unasked(&plan));
        }
        if !confirm(&plan)? {
            return if quiet { Ok(ExitCode::Success) } else { print("Nothing was removed.\n") };
        }
    }
    let (runtime, cancel) = start_runtime()?;
    let removed = expire::expire(&table, &plan, &cancel);
    runtime.shutdown_background();
    removed.map_err(|error| Failure {
        code: error.exit_code(),
        hint: error.hint().map(str::to_owned),
        error: error.into(),
    })?;
    let printed = print_expired(options, &plan, expire::Outcome::Removed);
    Ok(after_change(printed, "the snapshots were removed"))
}

/// Refuses to remove what nobody was asked about.
fn unasked(plan: &Plan) -> anyhow::Error {
    let (error, hint) = if plan.is_most() {
        let newest = plan
            .kept
            .last()
            .map(|snapshot| format!("; days count back from the newest, {}", snapshot.id.date()));
        let error = anyhow::anyhow!(
            "expire removes {}, more than half of the {} of {}, for good{}",
            expired(plan),
            count((plan.kept.len() + plan.expired.len()) as u64, "snapshot"),
            plan.expired[0].manifest.dataset,
            newest.unwrap_or_default()
        );
        (error, "look with --dry-run, then pass --yes-remove-most")
    } else {
        (anyhow::anyhow!("expire removes {} for good", expired(plan)), "look with --dry-run, then pass --yes")
    };
    Failure { code: ExitCode::Usage, error, hint: Some(hint.to_owned()) }.into()
}

/// `12 snapshots, 3.1 GiB`.
fn expired(plan: &Plan) -> String {
    format!("{}, {}", count(plan.expired.len() as u64, "snapshot"), ByteSize(plan.expired_bytes()))
}

/// Asks on the terminal. Whatever is no yes is a no.
fn confirm(plan: &Plan) -> anyhow::Result<bool> {
    let table = snapshots_table(&plan.expired, Utc::now());
    let most = if plan.is_most() { "more than half of all " } else { "" };
    let question = format!("{table}\nRemove these {}, {most}for good? [y/N] ", expired(plan));
    LogWriter.write_all(printable_lines(&question).as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn print_expired(options: &ExpireOptions, plan: &Plan, outcome: expire::Outcome) -> anyhow::Result<ExitCode> {
    if options.json {
        let ids = |snapshots: &[PublishedSnapshot]| -> Vec<String> {
            snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect()
        };
        let report = serde_json::json!({
            "outcome": outcome,
            "lake": lake_or_default(options.table.lake.as_deref()),
            "removed": ids(&plan.expired),
            "removed_bytes": plan.expired_bytes(),
            "kept": ids(&plan.kept),
        });
        return print_json(&report);
    }
    if options.log.quiet {
        return Ok(ExitCode::Success);
    }
    let kept = count(plan.kept.len() as u64, "snapshot");
    print(&match outcome {
        expire::Outcome::Unchanged => format!("Nothing to remove; {kept} kept.\n"),
        expire::Outcome::Planned => {
            let table = snapshots_table(&plan.expired, Utc::now());
            let most = if plan.is_most() { "More than half: that takes --yes-remove-most.\n" } else { "" };
            format!("{table}\nWould remove {}; {kept} kept.\n{most}", expired(plan))
        }
        expire::Outcome::Removed => format!("Removed {}; {kept} kept.\n", expired(plan)),
    })
}

fn run_verify(options: &VerifyArgs) -> anyhow::Result<ExitCode> {
    start_log(&options.log);
    let table = options.table.open()?;
    let mut verify_options = VerifyOptions { keys: options.keys, ..VerifyOptions::default() };
    if let Some(memory) = options.memory {
        verify_options.key_memory_bytes = usize::try_from(memory.as_u64()).unwrap_or(usize::MAX);
    }
    let mut findings: Vec<Finding> = Vec::new();
    if options.date.is_none() {
        findings.extend(verify::verify_layout(&table).map_err(lake_error)?);
    }
    findings.extend(verify::delta_log::verify_log(&table, options.date).map_err(lake_error)?);
    let snapshots: Vec<PublishedSnapshot> = table
        .try_snapshots()
        .map_err(lake_error)?
        .into_iter()
        // Damaged manifests are among the findings of the layout.
        .filter_map(Result::ok)
        .filter(|snapshot| options.date.is_none_or(|date| snapshot.id.date() == date))
        .collect();
    if let (Some(date), true) = (options.date, snapshots.is_empty()) {
        let missing = anyhow::anyhow!("the lake holds no snapshot of {date}");
        return Err(Failure { code: ExitCode::Lake, error: missing, hint: None }.into());
    }
    let mut reports = Vec::new();
    let total_bytes = |snapshot| verify::total_bytes(snapshot, &verify_options);
    let all_bytes = snapshots.iter().map(total_bytes).fold(0, u64::saturating_add);
    let mut display = ByteProgress::start(options.log.progress_mode(), "verify", all_bytes);
    let mut done_bytes: u64 = 0;
    for snapshot in &snapshots {
        let mut tick = |progress: verify::Progress| {
            display.show(done_bytes.saturating_add(progress.bytes), &snapshot.id);
            ControlFlow::Continue(())
        };
        let report =
            verify::verify_snapshot(&table, snapshot, &verify_options, &mut tick).map_err(|error| {
                Failure {
                    code: error.exit_code(),
                    hint: error.hint().map(str::to_owned),
                    error: error.into(),
                }
            })?;
        tracing::info!(snapshot = %snapshot.id, findings = report.findings.len(), "snapshot verified");
        done_bytes = done_bytes.saturating_add(total_bytes(snapshot));
        reports.push(report);
    }
    drop(display);
    let num_findings = findings.len() + reports.iter().map(|report| report.findings.len()).sum::<usize>();
    let mut printed = Ok(ExitCode::Success);
    if options.json {
        printed = print_json(&serde_json::json!({ "snapshots": reports, "findings": findings }));
    } else if !options.log.quiet {
        let mut text = String::new();
        for report in &reports {
            let keys = report
                .duplicate_keys
                .map_or_else(String::new, |keys| format!(", {}", count(keys, "duplicate key")));
            let verdict = if report.findings.is_empty() { "ok" } else { "DAMAGED" };
            let _ = writeln!(
                text,
                "{}  {verdict}  {} in {}{keys}",
                report.snapshot,
                count(report.rows, "row"),
                count(report.files, "file")
            );
            for finding in &report.findings {
                let _ = writeln!(text, "  {}", printable(&finding.to_string()));
            }
        }
        for finding in &findings {
            let _ = writeln!(text, "{}", printable(&finding.to_string()));
        }
        if reports.is_empty() && findings.is_empty() {
            text.push_str("No snapshots to verify.\n");
        }
        printed = print(&text);
    }
    // Damage is damage, whoever reads of it.
    if num_findings > 0 {
        let damage = anyhow::anyhow!("verify found damage: {}", count(num_findings as u64, "finding"));
        let hint = "ingest the damaged snapshot again with --if-published replace, from kept parts or while the service still has it";
        return Err(lake_failure(damage, Some(hint)));
    }
    printed
}

fn run_schema(options: &SchemaOptions) -> anyhow::Result<ExitCode> {
    let dataset = find_dataset(options.dataset.as_deref()).map_err(usage)?;
    let lake = lake_or_default(options.lake.as_deref());
    // A lake that is not there, or not yet, has a schema, too.
    let extra_fields =
        || Lake::open(&lake).map_or(ExtraFields::Unknown, |lake| ddl::extra_fields(&lake.table(dataset)));
    let text = match options.format {
        SchemaFormat::Duckdb => {
            let path = statement_path(&lake)?;
            schema::ddl::duckdb(dataset, &path, extra_fields()).ok_or_else(|| Failure {
                code: ExitCode::Usage,
                error: anyhow::anyhow!("DuckDB reads no path with a backslash"),
                hint: Some("move the lake to a folder without one".to_owned()),
            })?
        }
        SchemaFormat::Spark => schema::ddl::spark(dataset, &statement_path(&lake)?, extra_fields()),
        SchemaFormat::Table => schema_table(dataset),
        SchemaFormat::Json => format!("{:#}\n", schema_json(dataset)),
    };
    print(&text)
}

/// The lake for a statement. A location that no lake can have is an error here too.
fn statement_path(lake: &str) -> anyhow::Result<String> {
    check_location(lake).map_err(lake_error)?;
    Ok(reader_path(lake))
}

fn schema_table(dataset: &schema::Dataset) -> String {
    let mut table = TextTable::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["column", "type", "null", "from", "meaning"]);
    for column in schema::docs::all_columns(dataset) {
        table.add_row([
            column.name.to_owned(),
            column.column_type.to_string(),
            schema::docs::nullability(column).to_owned(),
            schema::docs::origin(dataset, column).to_owned(),
            column.doc_line(),
        ]);
    }
    format!("{}: {}\n\n{}\n", dataset.name, dataset.doc, table.trim_fmt())
}

fn schema_json(dataset: &schema::Dataset) -> serde_json::Value {
    let columns: Vec<_> = schema::docs::all_columns(dataset)
        .map(|column| {
            serde_json::json!({
                "name": column.name,
                "type": column.column_type.as_str(),
                "nullable": column.presence == schema::Presence::Optional,
                "from": schema::docs::origin(dataset, column),
                "duckdb_type": schema::ddl::duckdb_type(column.column_type),
                "spark_type": schema::ddl::spark_type(column.column_type),
                "meaning": column.doc,
                "source": column.source,
            })
        })
        .collect();
    serde_json::json!({
        "dataset": dataset.name,
        "schema_version": dataset.version,
        "doc": dataset.doc,
        "source": dataset.source,
        "key": dataset.key,
        "partition_by": dataset.partition_columns().map(|column| column.name).collect::<Vec<_>>(),
        "columns": columns,
    })
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "defender-lake", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
