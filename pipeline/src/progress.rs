//! The progress of a run: counters that the stages increment, shown on stderr as bars on a terminal, else as a
//! log line every 10 seconds. Log lines are printed above the bars. Of several datasets, the bars are those of the
//! current one, below a line for each that has ended.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::display::grouped;
use crate::printable::{printable, printable_json};
use crate::source::FetchProgress;

/// The interval between redraws of the bars.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The interval between log lines with the progress.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The counters of a run.
#[derive(Debug, Default)]
pub struct Progress {
    /// Fetched parts and bytes.
    pub fetch: Arc<FetchProgress>,
    /// Parts of the export; zero while unknown.
    pub num_parts: AtomicU64,
    /// Decoded parts.
    pub decoded_parts: AtomicU64,
    /// Decoded rows.
    pub rows: AtomicU64,
    /// Bytes of the data files to upload to an object store; zero before the upload, and on a local disk.
    pub total_upload_bytes: AtomicU64,
    /// Uploaded bytes.
    pub upload_bytes: AtomicU64,
}

impl Progress {
    /// Resets the counters, for a run that starts over.
    pub fn restart(&self) {
        let FetchProgress { bytes, parts } = &*self.fetch;
        for counter in [
            bytes,
            parts,
            &self.num_parts,
            &self.decoded_parts,
            &self.rows,
            &self.total_upload_bytes,
            &self.upload_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressMode {
    /// Bars if stderr is a terminal, else log lines.
    #[default]
    Auto,
    /// Bars.
    Bar,
    /// Log lines.
    Plain,
    /// Nothing.
    None,
}

impl ProgressMode {
    /// Resolves `Auto`: bars only on a terminal.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if std::io::stderr().is_terminal() => Self::Bar,
            Self::Auto => Self::Plain,
            mode => mode,
        }
    }
}

/// Returns the bars on the terminal, one set per process, so that the log can print above them.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::hidden()))
}

/// Writes the log to stderr, above the bars if there are any.
#[derive(Debug, Clone, Copy)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Best effort: a closed stderr must not end the run.
        let _ = bars().suspend(|| std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes log events to [`LogWriter`], one per call, with control characters escaped.
#[derive(Debug, Clone, Copy)]
pub enum EventWriter {
    /// Text. The library escapes control characters in fields and may add colours.
    Text,
    /// JSON.
    Json,
}

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let line = event.strip_suffix('\n').unwrap_or(&event);
        let shown = match self {
            Self::Text => line.split('\u{1b}').map(printable).collect::<Vec<_>>().join("\u{1b}"),
            Self::Json => printable_json(line).into_owned(),
        };
        LogWriter.write_all((shown + "\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shows the progress of a run until dropped, one dataset after the other.
#[derive(Debug)]
pub struct RunDisplay {
    mode: ProgressMode,
    /// The lines of datasets that have ended.
    ended: Vec<ProgressBar>,
    current: Option<ProgressDisplay>,
}

impl RunDisplay {
    /// Prepares the display. `mode` must be resolved.
    pub fn new(mode: ProgressMode) -> Self {
        if mode == ProgressMode::Bar {
            bars().set_draw_target(ProgressDrawTarget::stderr());
        }
        Self { mode, ended: Vec::new(), current: None }
    }

    /// Starts to show the progress of a dataset, with a title if it is one of several.
    pub fn begin(&mut self, dataset: Option<&str>, title: Option<String>, progress: &Arc<Progress>) {
        self.current = Some(ProgressDisplay::start(self.mode, dataset, title, progress));
    }

    /// Ends the progress of the current dataset, with a line that says how it ended if it is one of several.
    pub fn end(&mut self, line: Option<String>) {
        self.current = None;
        if self.mode == ProgressMode::Bar
            && let Some(line) = line
        {
            self.ended.push(add_line(&line));
        }
    }
}

impl Drop for RunDisplay {
    fn drop(&mut self) {
        self.current = None;
        // The summary replaces them.
        self.ended.iter().for_each(ProgressBar::finish_and_clear);
        if self.mode == ProgressMode::Bar {
            bars().set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

/// Adds a line of text below the bars that there are.
fn add_line(text: &str) -> ProgressBar {
    let line = bars().add(ProgressBar::no_length().with_style(bar_style("{msg}")));
    line.set_message(printable(text).into_owned());
    line.tick();
    line
}

/// Shows the progress of one dataset until dropped.
#[derive(Debug)]
struct ProgressDisplay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressDisplay {
    fn start(
        mode: ProgressMode,
        dataset: Option<&str>,
        title: Option<String>,
        progress: &Arc<Progress>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (progress, stopped) = (Arc::clone(progress), Arc::clone(&stop));
        let dataset = dataset.map(str::to_owned);
        let show: Box<dyn FnOnce() + Send> = match mode {
            ProgressMode::Bar => Box::new(move || draw_bars(&progress, title.as_deref(), &stopped)),
            ProgressMode::Plain => Box::new(move || log_lines(&progress, dataset.as_deref(), &stopped)),
            ProgressMode::Auto | ProgressMode::None => return Self { stop, thread: None },
        };
        let thread = std::thread::Builder::new().spawn(show);
        if let Err(error) = &thread {
            tracing::warn!(%error, "cannot start a thread to show progress");
        }
        Self { stop, thread: thread.ok() }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Best effort: an error of the display does not matter.
            let _ = thread.join();
        }
    }
}

/// The template of a bar of bytes.
const BYTES_TEMPLATE: &str =
    "{prefix:<7} {bar:30.cyan/dim} {bytes:>10}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";

fn bar_style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("━╸─")
}

fn draw_bars(progress: &Progress, title: Option<&str>, stop: &AtomicBool) {
    let bars = bars();
    let title = title.map(add_line);
    let add = |name: &'static str, template: &'static str| {
        let bar = bars.add(ProgressBar::no_length().with_style(bar_style(template)));
        bar.set_prefix(name);
        bar
    };
    let known = "{prefix:<7} {bar:30.cyan/dim} {pos:>5}/{len} parts  {msg}";
    let unknown = "{prefix:<7} {spinner} {pos:>5} parts  {msg}";
    let fetch = add("fetch", unknown);
    let decode = add("decode", unknown);
    let mut upload: Option<ProgressBar> = None;
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let facts = Facts::read(progress);
        if facts.num_parts > 0 && fetch.length().is_none() {
            for bar in [&fetch, &decode] {
                bar.set_style(bar_style(known));
                bar.set_length(facts.num_parts);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        fetch.set_position(facts.fetched_parts);
        fetch.set_message(format!("{}  {}/s", facts.fetched(), facts.fetched_per_second(seconds)));
        decode.set_position(facts.decoded_parts);
        decode.set_message(format!(
            "{} rows  {} rows/s{}",
            grouped(facts.rows),
            grouped(rate(facts.rows, seconds)),
            facts.time_left(seconds)
        ));
        fetch.tick();
        decode.tick();
        if facts.total_upload_bytes > 0 {
            let upload = upload.get_or_insert_with(|| {
                let bar = ProgressBar::new(facts.total_upload_bytes).with_style(bar_style(BYTES_TEMPLATE));
                bars.add(bar.with_prefix("upload"))
            });
            upload.set_position(facts.upload_bytes);
        }
        std::thread::park_timeout(DRAW_INTERVAL);
    }
    for bar in [title, Some(fetch), Some(decode), upload].into_iter().flatten() {
        bar.finish_and_clear();
        bars.remove(&bar);
    }
}

fn log_lines(progress: &Progress, dataset: Option<&str>, stop: &AtomicBool) {
    let started = Instant::now();
    let mut next = LOG_INTERVAL;
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(next.saturating_sub(started.elapsed()));
        if started.elapsed() >= next {
            next += LOG_INTERVAL;
            let facts = Facts::read(progress);
            tracing::info!(
                dataset,
                fetched_parts = facts.fetched_parts,
                decoded_parts = facts.decoded_parts,
                num_parts = facts.num_parts,
                fetched_bytes = facts.fetched_bytes,
                rows = facts.rows,
                upload_bytes = facts.upload_bytes,
                rows_per_second = rate(facts.rows, started.elapsed().as_secs_f64()),
                "working"
            );
        }
    }
}

/// Shows the progress of work measured in bytes, from the thread that does it, until dropped.
#[derive(Debug)]
pub struct ByteProgress {
    mode: ProgressMode,
    name: &'static str,
    bar: Option<ProgressBar>,
    next_log: Instant,
}

impl ByteProgress {
    /// Starts to show work of `total_bytes`. `mode` must be resolved, `name` is a verb.
    pub fn start(mode: ProgressMode, name: &'static str, total_bytes: u64) -> Self {
        let bar = (mode == ProgressMode::Bar).then(|| {
            bars().set_draw_target(ProgressDrawTarget::stderr());
            bars().add(ProgressBar::new(total_bytes).with_style(bar_style(BYTES_TEMPLATE)).with_prefix(name))
        });
        Self { mode, name, bar, next_log: Instant::now() + LOG_INTERVAL }
    }

    /// Shows that `bytes` are done, and the current item.
    pub fn show(&mut self, bytes: u64, what: &dyn std::fmt::Display) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(printable(&what.to_string()).into_owned());
        } else if self.mode == ProgressMode::Plain && Instant::now() >= self.next_log {
            self.next_log += LOG_INTERVAL;
            tracing::info!(bytes, at = %what, "{}", self.name);
        }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            bars().set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

/// The counters at one point in time.
struct Facts {
    num_parts: u64,
    fetched_parts: u64,
    fetched_bytes: u64,
    decoded_parts: u64,
    rows: u64,
    total_upload_bytes: u64,
    upload_bytes: u64,
}

impl Facts {
    fn read(progress: &Progress) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            num_parts: read(&progress.num_parts),
            fetched_parts: read(&progress.fetch.parts),
            fetched_bytes: read(&progress.fetch.bytes),
            decoded_parts: read(&progress.decoded_parts),
            rows: read(&progress.rows),
            total_upload_bytes: read(&progress.total_upload_bytes),
            upload_bytes: read(&progress.upload_bytes),
        }
    }

    fn fetched(&self) -> ByteSize {
        ByteSize(self.fetched_bytes)
    }

    fn fetched_per_second(&self, seconds: f64) -> ByteSize {
        ByteSize(rate(self.fetched_bytes, seconds))
    }

    /// Estimates the time left from the parts still to decode; empty until there is a basis for it.
    fn time_left(&self, seconds: f64) -> String {
        if self.decoded_parts == 0 || self.decoded_parts >= self.num_parts {
            return String::new();
        }
        let left = (self.num_parts - self.decoded_parts) as f64 * seconds / self.decoded_parts as f64;
        format!("  {} left", indicatif::HumanDuration(Duration::from_secs_f64(left)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for display")]
fn rate(amount: u64, seconds: f64) -> u64 {
    (amount as f64 / seconds.max(0.001)) as u64
}
