//! `query`: runs SQL over the tables of a lake, with the feature `query`.

use std::io::IsTerminal as _;
use std::path::Path;

use super::command_error::{CommandError, CommandResult};
use super::output::print;
use super::query::QueryOptions;
use super::runtime::start_runtime;
use super::table_options::open_lake;
use crate::cancel::Cancel;
use crate::exit_code::ExitCode;
use crate::history::HistoryError;
use crate::history::frame_output::{FrameFile, FrameWriter};
use crate::history::output::OutputFormat;
use crate::history::query::{self, Query};

pub(super) fn run(options: &QueryOptions) -> CommandResult {
    let memory_bytes = options.memory.bytes()?;
    let lake = open_lake(options.lake.as_deref())?;
    let (runtime, cancel) = start_runtime()?;
    let result = Query::try_new(&lake, &options.sql, &cancel).map_err(Into::into).and_then(|query| {
        run_query(query, options.out.as_deref(), options.output_format(), memory_bytes, &cancel)
    });
    runtime.shutdown_background();
    result
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
