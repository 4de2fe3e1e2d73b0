//! Thread pools and runtimes under a limit of threads: starts as many threads as wanted and possible. One is enough
//! for all work; with none the run ends with [`ThreadError`].
//!
//! tokio panics if it cannot start a worker, or a thread for a blocking call. So this module first starts and ends as
//! many threads as the runtime needs, and keeps one thread for blocking calls alive.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::exit_code::{Diagnostic, ExitCode};
use crate::panics;

/// The most threads for blocking calls of a runtime. They wait for the disk, which more threads do not speed up.
const MAX_BLOCKING_THREADS: usize = 32;

/// How many more threads than those of a runtime must be startable for it to have more than one worker: if the
/// second worker does not start, tokio waits for the first forever.
const SPARE_THREADS: usize = 16;

/// The poll interval and time limit of the wait for an ended thread, which counts until the system has reaped it.
const ENDED_POLL: Duration = Duration::from_micros(100);
const MAX_ENDED_WAIT: Duration = Duration::from_secs(1);

/// Longer than any process lives. tokio adds it to the current time, so it must not overflow.
const FOREVER: Duration = Duration::from_hours(10 * 365 * 24);

/// No further thread could be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a thread for {purpose}: {}", limit_text(*max_processes))]
pub struct ThreadError {
    /// The purpose of the thread.
    purpose: &'static str,
    /// The limit of processes and threads of this user.
    max_processes: Option<u64>,
    source: io::Error,
}

impl ThreadError {
    /// Creates the error of a thread for `purpose`, and reads the limit of processes.
    pub fn new(purpose: &'static str, source: io::Error) -> Self {
        Self { purpose, max_processes: getrlimit(Resource::Nproc).current, source }
    }
}

impl Diagnostic for ThreadError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Lake
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(THREAD_HINT.into())
    }
}

impl From<ThreadError> for io::Error {
    fn from(error: ThreadError) -> Self {
        Self::new(error.source.kind(), format!("{error}: {}", error.source))
    }
}

/// The hint for [`ThreadError`].
pub const THREAD_HINT: &str = "raise the limit of processes (ulimit -u, TasksMax, a container's --pids-limit), or end other processes of this user";

fn limit_text(max_processes: Option<u64>) -> String {
    match max_processes {
        Some(max) => format!("the limit of processes and threads is {max}"),
        None => "the limit of processes and threads of this user or container is reached".to_owned(),
    }
}

/// Starts a runtime of up to `num_workers` threads named `name`.
///
/// # Errors
///
/// [`ThreadError`] if no worker, or no thread for blocking calls, can be started.
pub fn start_runtime(name: &'static str, num_workers: usize) -> Result<Runtime, ThreadError> {
    const PURPOSE: &str = "the network";
    let wanted = num_workers + 1 + SPARE_THREADS;
    let (num_started, failure) = num_startable(wanted);
    let failed = || {
        let source = failure.as_ref().map_or_else(|| io::ErrorKind::WouldBlock.into(), copy_of);
        ThreadError::new(PURPOSE, source)
    };
    let num_workers = match num_started {
        0 | 1 => return Err(failed()),
        all if all == wanted => num_workers,
        _ => 1,
    };
    let start = || {
        let runtime = Builder::new_multi_thread()
            .worker_threads(num_workers)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_keep_alive(FOREVER)
            .thread_name(name)
            .enable_all()
            .build()?;
        // Kept alive for blocking calls, which queue for it if no other thread can be started.
        drop(runtime.spawn_blocking(|| ()));
        Ok::<_, io::Error>(runtime)
    };
    // Panics if another process has used up the limit meanwhile.
    match panics::catch(start) {
        Ok(built) => built.map_err(|source| ThreadError::new(PURPOSE, source)),
        Err(_) => Err(failed()),
    }
}

/// Starts a pool of up to `num_threads` threads named `decode-0` and so on, fewer under a limit of threads.
///
/// # Errors
///
/// [`ThreadError`] if no thread can be started.
pub fn start_pool(num_threads: usize) -> Result<ThreadPool, ThreadError> {
    let wanted = num_threads.max(1);
    let (num_started, failure) = num_startable(wanted);
    // Under a limit, leaves some threads for files and the network.
    let mut num_threads = if num_started < wanted { (num_started / 2).max(1) } else { wanted };
    loop {
        let builder = ThreadPoolBuilder::new().num_threads(num_threads);
        match builder.thread_name(|index| format!("decode-{index}")).build() {
            Ok(pool) => {
                if num_threads < wanted {
                    tracing::warn!(num_threads, wanted, "cannot start more threads, using fewer");
                }
                return Ok(pool);
            }
            Err(error) if num_threads == 1 => {
                let source =
                    failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, error.to_string()));
                return Err(ThreadError::new("decoding", source));
            }
            Err(_) => num_threads /= 2,
        }
    }
}

/// Calls `work` on up to `num_threads` threads at once, including this one, and returns their results. There may be
/// fewer threads than wanted, so `work` should take its items from a shared queue.
pub fn on_threads<T: Send>(num_threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, &work).ok();
        let started: Vec<_> = (1..num_threads).map_while(start).collect();
        let own = work();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(started.into_iter().map(join)).collect()
    })
}

/// Starts a thread named `name` for work that it is given later, if one can be started.
pub fn start_thread(name: &str) -> Option<impl FnOnce(Box<dyn FnOnce() + Send>)> {
    let (give, given) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let work = move || {
        if let Ok(work) = given.recv() {
            work();
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(work).ok()?;
    Some(move |work| {
        // It waits for work until it is given some.
        let _ = give.send(work);
    })
}

/// Counts the threads that can be started now, up to `wanted`, and returns the error of the first that could not.
fn num_startable(wanted: usize) -> (usize, Option<io::Error>) {
    let gate = Mutex::new(());
    let mut failure = None;
    let started: Vec<Option<PathBuf>> = thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || {
            drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
            task_folder()
        };
        let mut start = |_: usize| {
            thread::Builder::new().spawn_scoped(scope, wait).map_err(|error| failure = Some(error)).ok()
        };
        let started: Vec<_> = (0..wanted).map_while(&mut start).collect();
        drop(closed);
        started.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    // Waits for these threads only: others of the program start and end meanwhile.
    let started_at = Instant::now();
    while started.iter().flatten().any(|task| task.exists()) && started_at.elapsed() < MAX_ENDED_WAIT {
        thread::sleep(ENDED_POLL);
    }
    (started.len(), failure)
}

/// Returns the folder that exists for as long as this thread counts, if the system has one.
fn task_folder() -> Option<PathBuf> {
    std::fs::read_link("/proc/thread-self").ok().map(|task| Path::new("/proc").join(task))
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_is_done_on_as_many_threads_as_asked() {
        let next = AtomicUsize::new(0);
        let sums = on_threads(4, || {
            let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|item| *item < 100);
            std::iter::from_fn(take).sum::<usize>()
        });
        assert_eq!(sums.len(), 4);
        assert_eq!(sums.iter().sum::<usize>(), 99 * 100 / 2);
        assert_eq!(on_threads(0, || 7), [7], "this thread does it");
    }

    #[test]
    fn thread_does_what_it_is_given() {
        let (done, is_done) = mpsc::channel();
        let start = start_thread("work").unwrap();
        start(Box::new(move || done.send(thread::current().name().map(str::to_owned)).unwrap()));
        assert_eq!(is_done.recv().unwrap().as_deref(), Some("work"));
        drop(start_thread("idle").unwrap());
    }

    #[test]
    fn runtime_without_threads_is_an_error_with_a_hint() {
        let error = ThreadError { purpose: "the network", max_processes: Some(30), source: eagain() };
        assert_eq!(
            error.to_string(),
            "cannot start a thread for the network: the limit of processes and threads is 30"
        );
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("raise the limit of processes"), "{hint}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::WouldBlock);
    }

    fn eagain() -> io::Error {
        io::Error::from_raw_os_error(rustix::io::Errno::AGAIN.raw_os_error())
    }
}
