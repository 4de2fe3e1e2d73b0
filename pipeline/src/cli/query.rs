//! `query`: runs SQL over the tables of a lake.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::command_error::{CommandError, CommandResult};
use super::history::MemoryOption;
use super::output::print;
use super::runtime::start_runtime;
use super::table_options::lake_or_default;
use crate::cancel::Cancel;
use crate::exit_code::ExitCode;
use crate::history::HistoryError;
use crate::history::frame_output::{FrameFile, FrameWriter};
use crate::history::output::OutputFormat;
use crate::history::query::{self, Query};
use crate::lake::Lake;

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct QueryOptions {
    /// SQL to run; tables are named as `defender-lake schema` names them
    sql: String,
    /// Read this lake, a path [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Set the output format [default: table, or by the extension of --out]
    #[arg(long, value_enum)]
    format: Option<QueryFormat>,
    /// Write the result to a file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum QueryFormat {
    /// The first 100 rows as a table
    Table,
    /// CSV with a header
    Csv,
    /// One JSON object per line
    Json,
    /// Parquet
    Parquet,
}

pub(super) fn run(options: &QueryOptions) -> CommandResult {
    let format = options.format.map(|format| match format {
        QueryFormat::Table => None,
        QueryFormat::Csv => Some(OutputFormat::Csv),
        QueryFormat::Json => Some(OutputFormat::Ndjson),
        QueryFormat::Parquet => Some(OutputFormat::Parquet),
    });
    let memory_bytes = options.memory.bytes()?;
    let lake = lake_or_default(options.lake.as_deref());
    check_local(&lake)?;
    let lake = Lake::open(lake)?;
    let query = Query::try_new(&lake, &options.sql)?;
    let (runtime, cancel) = start_runtime()?;
    let result = run_query(query, options.out.as_deref(), format.flatten(), memory_bytes, &cancel);
    runtime.shutdown_background();
    result
}

/// Fails if the lake is not on a local disk: `query` reads data files in place.
fn check_local(lake: &str) -> CommandResult<()> {
    match lake.split_once("://") {
        Some((scheme, _)) if !scheme.eq_ignore_ascii_case("file") => {
            Err(HistoryError::RemoteLake { scheme: scheme.to_owned() }.into())
        }
        _ => Ok(()),
    }
}

fn run_query(
    query: Query,
    out: Option<&Path>,
    format: Option<OutputFormat>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> CommandResult {
    if let Some(path) = out {
        let mut out = FrameFile::create(path, format, query.schema())?;
        query.run(memory_bytes, cancel, |frame| out.write(&frame).map(|()| true))?;
        out.finish()?;
        return Ok(ExitCode::Success);
    }
    let Some(format) = format else {
        return print(&query::table(query, memory_bytes, cancel)?);
    };
    let stdout = std::io::stdout();
    if format == OutputFormat::Parquet && stdout.is_terminal() {
        let error = anyhow::anyhow!("refusing to write Parquet to a terminal");
        return Err(
            CommandError::new(ExitCode::Usage, error).with_hint("pass --out FILE, or redirect stdout")
        );
    }
    let stdout = std::io::BufWriter::new(stdout.lock());
    let mut writer = FrameWriter::try_new(stdout, format, query.schema()).map_err(stdout_error)?;
    query.run(memory_bytes, cancel, |frame| writer.write(&frame).map(|()| true)).map_err(stdout_error)?;
    writer.finish().map_err(stdout_error)?;
    Ok(ExitCode::Success)
}

fn stdout_error(error: HistoryError) -> CommandError {
    match error {
        HistoryError::Stdout(error) => CommandError::stdout(error),
        error => error.into(),
    }
}
