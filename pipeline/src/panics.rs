//! Turns panics into errors: a panic is a bug, and ends the program as an internal error with a one-line message.
//!
//! The line names the location of the panic. Its message is included only if it is a constant: a formatted one may
//! contain values of a row. With `RUST_BACKTRACE` the standard hook prints everything.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::exit_code::{Diagnostic, ExitCode};

/// The first panic of the process; later ones are mostly its consequences.
static FIRST: Mutex<Option<Panicked>> = Mutex::new(None);

/// A panic of a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Panicked {
    reason: String,
}

impl Diagnostic for Panicked {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Internal
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("run again with RUST_BACKTRACE=1 and report what it prints".into())
    }
}

/// Installs a hook that records the first panic and prints panics only with `RUST_BACKTRACE`. Call it once, before
/// any thread is started.
pub fn install_hook() {
    let print = std::panic::take_hook();
    let prints = is_set(std::env::var_os("RUST_BACKTRACE").as_deref());
    std::panic::set_hook(Box::new(move |info| {
        first().get_or_insert_with(|| Panicked::new(info));
        if prints {
            print(info);
        }
    }));
}

/// Whether the value of `RUST_BACKTRACE` requests a backtrace.
fn is_set(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns the first panic of any thread since the hook was installed.
pub fn recorded() -> Option<Panicked> {
    first().clone()
}

/// Returns the first panic of any thread since the hook was installed or this was called, and forgets it: what follows is
/// judged by itself.
pub fn take_recorded() -> Option<Panicked> {
    first().take()
}

/// Runs a task and catches its panic.
///
/// # Errors
///
/// [`Panicked`]; data that the task has changed must not be used.
pub fn catch<T>(task: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(task))
        .map_err(|payload| recorded().unwrap_or_else(|| Panicked::without_place(&*payload)))
}

fn first() -> std::sync::MutexGuard<'static, Option<Panicked>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Panicked {
    fn new(info: &PanicHookInfo<'_>) -> Self {
        let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        Self { reason: format!("a thread panicked{}{}", place.unwrap_or_default(), constant(info.payload())) }
    }

    fn without_place(payload: &(dyn Any + Send)) -> Self {
        Self { reason: format!("a thread panicked{}", constant(payload)) }
    }
}

/// Returns the message of a panic if it is a constant, which cannot contain values.
fn constant(payload: &(dyn Any + Send)) -> String {
    payload.downcast_ref::<&'static str>().map(|text| format!(": {text}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(task: fn() -> u8, expected: Result<u8, &str>) {
        assert_eq!(catch(task).map_err(|panicked| panicked.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn panic_becomes_an_error_without_its_values() {
        check(|| 7, Ok(7));
        check(|| panic!("a constant"), Err("a thread panicked: a constant"));
        check(|| panic!("{}", "a value".repeat(2)), Err("a thread panicked"));
        check(|| std::panic::panic_any(7_u8), Err("a thread panicked"));
    }

    /// Each test runs in its own process, so the hook affects only this test.
    #[test]
    fn first_panic_of_any_thread_is_recorded() {
        install_hook();
        assert_eq!(recorded(), None);
        let line = line!() + 1;
        let first = std::thread::spawn(|| panic!("first"));
        assert!(first.join().is_err());
        let expected = format!("a thread panicked at {}:{line}: first", file!());
        assert_eq!(recorded().unwrap().to_string(), expected);
        check(|| panic!("second"), Err(&expected));
    }

    #[test]
    fn any_value_but_0_requests_a_backtrace() {
        for (value, expected) in [(None, false), (Some(""), false), (Some("0"), false), (Some("full"), true)]
        {
            assert_eq!(is_set(value.map(OsStr::new)), expected, "{value:?}");
        }
    }
}
