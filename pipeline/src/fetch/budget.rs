//! Client-side rate limits that hold across runs: takes a call about to be made, permits it or returns the time to
//! wait. A program that crashes and restarts at once must not use up an hour's twenty listings in a minute.
//!
//! The calls of the last hour are in a small file of the work dir. The rate limiters of crates keep their state in
//! memory, which ends with the run.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::FetchError;

/// Most bytes read of a state file, which has up to a thousand timestamps.
const MAX_STATE_BYTES: u64 = 256 * 1024;

/// Records that were not written for this long are removed: they say nothing about the last hour.
const MAX_RECORD_AGE: Duration = Duration::from_hours(24);

/// Number of calls that an API allows.
#[derive(Debug, Clone, Copy)]
pub struct CallRate {
    /// In any minute.
    pub per_minute: usize,
    /// In any hour.
    pub per_hour: usize,
}

impl CallRate {
    /// Of the files exports' listings (pipeline/docs/service.md#rate-limits).
    pub const LISTINGS: Self = Self { per_minute: 5, per_hour: 20 };
    /// Of JSON pages (pipeline/docs/service.md#rate-limits).
    pub const PAGES: Self = Self { per_minute: 30, per_hour: 1000 };
    /// Of an emulator, which tests call more often than the service allows.
    pub const UNLIMITED: Self = Self { per_minute: usize::MAX, per_hour: usize::MAX };
}

/// Whether calls are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// They are, and count for later runs.
    Recorded,
    /// They are not, since nothing may be written. Calls of earlier runs count.
    ReadOnly,
}

/// The budget of one API.
#[derive(Debug)]
pub struct CallBudget {
    path: PathBuf,
    rate: CallRate,
    keeping: Keeping,
}

/// The file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct CallRecord {
    /// Calls of the last hour, oldest first, in milliseconds since 1970.
    calls: Vec<i64>,
    /// The service refuses calls until this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocked_until: Option<i64>,
}

impl CallBudget {
    /// Returns the budget in `work_dir` for `key`, which names the API and the caller.
    pub fn new(work_dir: &Path, key: &str, rate: CallRate, keeping: Keeping) -> Self {
        let name = format!("{}.json", &crate::digest::sha256_hex(key)[..32]);
        Self { path: work_dir.join("calls").join(name), rate, keeping }
    }

    /// Takes one call from the budget, or returns the time until one is available.
    ///
    /// # Errors
    ///
    /// Fails if the state file cannot be used.
    pub fn take(&self, now: DateTime<Utc>) -> Result<Option<Duration>, FetchError> {
        self.change(now, |state| {
            let wait = state.wait(self.rate, now.timestamp_millis());
            if wait.is_none() {
                state.calls.push(now.timestamp_millis());
            }
            wait
        })
    }

    /// Records that the service refuses calls until `until`.
    ///
    /// # Errors
    ///
    /// Fails if the state file cannot be used.
    pub fn block(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<(), FetchError> {
        self.change(now, |state| state.blocked_until = Some(until.timestamp_millis()))
    }

    fn change<T>(
        &self,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut CallRecord) -> T,
    ) -> Result<T, FetchError> {
        let failed = |source| FetchError::Budget { path: self.path.clone(), source };
        if self.keeping == Keeping::ReadOnly {
            let text = match fs::File::open(&self.path) {
                Ok(mut file) => read(&mut file).map_err(failed)?,
                Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(err) => return Err(failed(err)),
            };
            return Ok(change(&mut CallRecord::parse(&text, now)));
        }
        let folder = self.path.parent().expect("a file in a folder");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        if !self.path.exists() {
            sweep(folder);
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(self.path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let text = match fs::File::open(&self.path) {
            Ok(mut file) => read(&mut file).map_err(failed)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(failed(err)),
        };
        let mut state = CallRecord::parse(&text, now);
        let result = change(&mut state);
        // Atomic, even if the run is killed at this moment.
        let partial = self.path.with_extension("json.partial");
        let text = serde_json::to_vec(&state).map_err(|err| failed(err.into()))?;
        options.truncate(true).open(&partial).and_then(|mut file| file.write_all(&text)).map_err(failed)?;
        fs::rename(&partial, &self.path).map_err(failed)?;
        Ok(result)
    }
}

/// Removes the records of callers that have not called for a day: each emulator is another API.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let age = fs::metadata(&path).and_then(|record| record.modified()).map(|modified| modified.elapsed());
        let is_record = path.extension().is_some_and(|ending| ending == "json");
        if is_record && age.is_ok_and(|age| age.is_ok_and(|age| age > MAX_RECORD_AGE)) {
            // Best effort: a file that remains is removed another time.
            let _ = fs::remove_file(path.with_extension("lock"));
            let _ = fs::remove_file(path);
        }
    }
}

fn read(file: &mut fs::File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_STATE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

impl CallRecord {
    /// Parses the file. An invalid one, truncated or edited, counts as a full minute.
    fn parse(text: &[u8], now: DateTime<Utc>) -> Self {
        let now = now.timestamp_millis();
        let mut state = match text {
            [] => Self::default(),
            text => serde_json::from_slice(text).unwrap_or_else(|_| {
                tracing::warn!("cannot read the call record; waiting for a minute");
                Self { calls: Vec::new(), blocked_until: Some(now + MINUTE) }
            }),
        };
        // After the clock was set back, times in the future count as now.
        for call in &mut state.calls {
            *call = (*call).min(now);
        }
        state.calls.retain(|call| *call > now - HOUR);
        state.calls.sort_unstable();
        state.blocked_until =
            state.blocked_until.map(|until| until.min(now + DAY)).filter(|until| *until > now);
        state
    }

    fn wait(&self, rate: CallRate, now: i64) -> Option<Duration> {
        let window = |num_calls: usize, window: i64| {
            // The call that has to leave the window before the next one fits.
            let index = self.calls.len().checked_sub(num_calls)?;
            Some(self.calls[index] + window)
        };
        let free_at = [window(rate.per_minute, MINUTE), window(rate.per_hour, HOUR), self.blocked_until];
        let wait = free_at.into_iter().flatten().max()? - now;
        u64::try_from(wait).ok().filter(|wait| *wait > 0).map(Duration::from_millis)
    }
}

const MINUTE: i64 = TimeDelta::minutes(1).num_milliseconds();
const HOUR: i64 = TimeDelta::hours(1).num_milliseconds();
const DAY: i64 = TimeDelta::days(1).num_milliseconds();

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: CallRate = CallRate { per_minute: 2, per_hour: 3 };

    fn budget(dir: &tempfile::TempDir, keeping: Keeping) -> CallBudget {
        CallBudget::new(dir.path(), "https://api/x tenant", RATE, keeping)
    }

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_610_362_860 + secs, 0).unwrap()
    }

    #[test]
    fn both_windows_are_kept_across_runs() {
        let dir = tempfile::tempdir().unwrap();
        let check = |secs: i64, expected: Option<u64>| {
            // A new one each time: the state is in the file only.
            let wait = budget(&dir, Keeping::Recorded).take(at(secs)).unwrap();
            assert_eq!(wait, expected.map(Duration::from_secs), "at {secs}");
        };
        check(0, None);
        check(10, None);
        check(20, Some(40));
        check(60, None);
        check(61, Some(3539));
        check(3600, None);
    }

    #[test]
    fn other_callers_have_other_budgets() {
        let dir = tempfile::tempdir().unwrap();
        for key in ["https://api/x tenant", "https://api/y tenant", "https://api/x other"] {
            let budget = CallBudget::new(dir.path(), key, RATE, Keeping::Recorded);
            assert_eq!(budget.take(at(0)).unwrap(), None);
        }
    }

    #[test]
    fn old_records_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = CallBudget::new(dir.path(), "old", RATE, Keeping::Recorded);
        old.take(at(0)).unwrap();
        let two_days_ago = std::time::SystemTime::now() - 2 * MAX_RECORD_AGE;
        fs::File::options().write(true).open(&old.path).unwrap().set_modified(two_days_ago).unwrap();
        budget(&dir, Keeping::Recorded).take(at(0)).unwrap();
        assert!(!old.path.exists() && !old.path.with_extension("lock").exists());
        assert_eq!(fs::read_dir(dir.path().join("calls")).unwrap().count(), 2);
    }

    #[test]
    fn retry_after_is_kept_across_runs() {
        let dir = tempfile::tempdir().unwrap();
        budget(&dir, Keeping::Recorded).block(at(0), at(300)).unwrap();
        assert_eq!(budget(&dir, Keeping::Recorded).take(at(1)).unwrap(), Some(Duration::from_secs(299)));
        assert_eq!(budget(&dir, Keeping::Recorded).take(at(300)).unwrap(), None);
    }

    #[test]
    fn plan_reads_the_record_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            assert_eq!(budget(&dir, Keeping::ReadOnly).take(at(0)).unwrap(), None);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for _ in 0..2 {
            budget(&dir, Keeping::Recorded).take(at(0)).unwrap();
        }
        assert_eq!(budget(&dir, Keeping::ReadOnly).take(at(0)).unwrap(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn damaged_record_or_clock_set_back_is_tolerated() {
        let dir = tempfile::tempdir().unwrap();
        let recorded = budget(&dir, Keeping::Recorded);
        recorded.take(at(1_000_000)).unwrap();
        assert_eq!(recorded.take(at(0)).unwrap(), None, "one of the future and one of now");
        assert_eq!(recorded.take(at(1)).unwrap(), Some(Duration::from_secs(59)));
        fs::write(&recorded.path, r#"{"calls":[1,"#).unwrap();
        assert_eq!(recorded.take(at(2)).unwrap(), Some(Duration::from_mins(1)));
        assert_eq!(recorded.take(at(62)).unwrap(), None);
    }

    #[test]
    fn runs_side_by_side_share_one_budget() {
        let dir = tempfile::tempdir().unwrap();
        let rate = CallRate { per_minute: 10, per_hour: 100 };
        let num_taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let budget = CallBudget::new(dir.path(), "k", rate, Keeping::Recorded);
                        (0..5).filter(|_| budget.take(at(0)).unwrap().is_none()).count()
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(num_taken, 10);
    }
}
