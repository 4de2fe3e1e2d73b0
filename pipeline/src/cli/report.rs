//! `report`: writes a page about a lake.

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use bytesize::ByteSize;
use chrono::{NaiveDate, Utc};

use super::command_error::CommandResult;
use super::history::MemoryOption;
use super::log::{LogOptions, start_log};
use super::output::print;
use super::runtime::start_runtime;
use super::table_options::open_lake;
use crate::exit_code::ExitCode;
use crate::history::output::PendingFile;
use crate::page::read;
use crate::page::render::render;
use crate::page::request::{PageRequest, Since};
use crate::printable::printable;
use crate::progress::ByteProgress;

/// How far the history goes back by default.
const DEFAULT_DAYS: u32 = 365;

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct ReportOptions {
    /// Read this lake: a path or URL [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    lake: Option<String>,
    /// Report on this date [default: the newest]
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<NaiveDate>,
    /// Start the history at this date, or so many days before [default: 365]
    #[arg(long, value_name = "DATE|DAYS")]
    since: Option<Since>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Name the N devices with most findings; without it the page names no device
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    with_devices: usize,
    #[command(flatten)]
    memory: MemoryOption,
    #[command(flatten)]
    log: LogOptions,
}

impl FromStr for Since {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_or_else(|_| text.parse().map(Self::Date), |days| Ok(Self::Days(days)))
    }
}

pub(super) fn run(options: &ReportOptions) -> CommandResult {
    start_log(&options.log);
    let request = PageRequest {
        date: options.date,
        since: options.since.unwrap_or(Since::Days(DEFAULT_DAYS)),
        num_devices: options.with_devices,
        memory_bytes: options.memory.bytes()?,
        made_at: Utc::now(),
    };
    let lake = open_lake(options.lake.as_deref())?;
    let (runtime, cancel) = start_runtime()?;
    let mut display = None;
    let mode = options.log.progress_mode();
    let result = read::read(
        &lake,
        &request,
        |progress| {
            let display =
                display.get_or_insert_with(|| ByteProgress::start(mode, "report", progress.total_bytes));
            display.show(progress.bytes, &progress.dataset);
        },
        &cancel,
    );
    drop(display);
    runtime.shutdown_background();
    let page = result?;
    let html = render(&page);
    let (pending, mut file) = PendingFile::create(&options.out)?;
    file.write_all(html.as_bytes()).and_then(|()| file.flush()).map_err(|error| pending.failed(error))?;
    pending.finish()?;
    if options.log.quiet {
        return Ok(ExitCode::Success);
    }
    let path = options.out.display().to_string();
    print(&format!("{}: {}, as of {}\n", printable(&path), ByteSize(html.len() as u64), page.head.date))
}
