//! The log as Python has it: takes the pipeline's events, gives them to the logger `defender_lake` on the thread of the call that is
//! under way. Events between calls are dropped. No other thread ever waits for the GIL.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use pipeline::printable::printable;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use tracing::callsite::rebuild_interest_cache;
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

/// Python's name of the logger.
const LOGGER: &str = "defender_lake";

/// Events that wait for the call's thread, which takes them every few milliseconds.
const MAX_WAITING: usize = 10_000;

/// The least level that is logged, as Python numbers them.
static LEVEL: AtomicU8 = AtomicU8::new(u8::MAX);

/// Calls under way.
static NUM_CALLS: AtomicUsize = AtomicUsize::new(0);

static WAITING: Mutex<VecDeque<(u8, String)>> = Mutex::new(VecDeque::new());

/// The log while a call is under way.
pub(crate) struct CallLog;

impl CallLog {
    /// Begins to keep events, of the levels that the logger wants now.
    pub(crate) fn begin(py: Python<'_>) -> PyResult<Self> {
        static SUBSCRIBER: Once = Once::new();
        // Another one is that of the command line, which logs to stderr.
        SUBSCRIBER.call_once(|| drop(set_global_default(Events)));
        let level: u32 = logger(py)?.call_method0("getEffectiveLevel")?.extract()?;
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        if LEVEL.swap(level, Ordering::Relaxed) != level {
            rebuild_interest_cache();
        }
        NUM_CALLS.fetch_add(1, Ordering::Relaxed);
        Ok(Self)
    }

    /// Logs what has waited. An error of a handler is the handler's to tell.
    ///
    /// # Errors
    ///
    /// What a signal raised meanwhile, as Ctrl-C does.
    #[expect(clippy::unused_self, reason = "only during a call")]
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let waiting = std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.is_empty() {
            return Ok(());
        }
        let logger = logger(py)?;
        for (level, text) in waiting {
            if let Err(error) = logger.call_method1("log", (level, "%s", text))
                && !error.is_instance_of::<PyException>(py)
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        NUM_CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("logging")?.call_method1("getLogger", (LOGGER,))
}

/// Returns a level as Python numbers it.
fn level_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Events;

impl Subscriber for Events {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The level may change from call to call.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Below warnings, libraries may log URLs, headers or tokens.
        let is_own = || ["pipeline", "schema"].iter().any(|own| metadata.target().starts_with(own));
        level_of(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
            && NUM_CALLS.load(Ordering::Relaxed) > 0
            && (*metadata.level() <= Level::WARN || is_own())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        let least = levels.into_iter().find(|level| level_of(*level) >= LEVEL.load(Ordering::Relaxed));
        Some(least.map_or(LevelFilter::OFF, LevelFilter::from_level))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = printable(&(line.message + &line.fields)).into_owned();
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push_back((level_of(*event.metadata().level()), text));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event in one line: `message name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to text cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
