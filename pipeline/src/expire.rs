//! Removes snapshots that a lake no longer has to keep.
//!
//! A [`Retention`] and the published snapshots give an [`ExpirePlan`], which [`expire`] carries out. Days are counted
//! back from the newest snapshot and not from today, so that a table without new snapshots does not lose its history.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::commit::{CommitError, Recovered};
use crate::exit_code::{Diagnostic, ExitCode};
use crate::lake::{LakeError, PublishedSnapshot, Table};
use crate::snapshot::{RunId, SnapshotId};

/// Which snapshots to keep: those that either rule keeps, and always the newest.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Keep the snapshots of this many days, counted back from the newest and including it.
    pub keep_days: Option<NonZeroU32>,
    /// Keep the last snapshot of each month.
    pub keep_monthly: bool,
}

/// Which snapshots are kept and which removed, each oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpirePlan {
    /// The snapshots to keep.
    pub kept: Vec<PublishedSnapshot>,
    /// The snapshots to remove.
    pub expired: Vec<PublishedSnapshot>,
}

impl Retention {
    /// Plans which of the published snapshots, oldest first, are kept and which removed.
    pub fn plan(self, published: Vec<PublishedSnapshot>) -> ExpirePlan {
        let dates: Vec<NaiveDate> = published.iter().map(|snapshot| snapshot.id.date()).collect();
        let last_of_month: BTreeMap<(i32, u32), NaiveDate> =
            dates.iter().map(|date| ((date.year(), date.month()), *date)).collect();
        let newest = dates.last().copied();
        let is_kept = |snapshot: &PublishedSnapshot| {
            let date = snapshot.id.date();
            let age_days = newest.map_or(0, |newest| (newest - date).num_days());
            age_days == 0
                || self.keep_days.is_some_and(|days| age_days < i64::from(days.get()))
                || (self.keep_monthly && last_of_month.get(&(date.year(), date.month())) == Some(&date))
        };
        let (kept, expired) = published.into_iter().partition(is_kept);
        ExpirePlan { kept, expired }
    }
}

impl ExpirePlan {
    /// Whether the plan removes more than half of the table's snapshots, which a mistyped number of days does, and a
    /// newest snapshot far in the future.
    pub fn is_most(&self) -> bool {
        self.expired.len() > self.kept.len()
    }

    /// Returns the bytes of the data files to remove.
    pub fn expired_bytes(&self) -> u64 {
        self.expired.iter().map(|snapshot| snapshot.manifest.totals.bytes).sum()
    }
}

/// Why nothing was removed. The lake is unchanged, except after [`CommitError::UndoFailed`].
#[derive(Debug, thiserror::Error)]
pub enum ExpireError {
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Removing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The system returned no random number.
    #[error("cannot draw a run id")]
    RunId(#[source] std::io::Error),
}

impl Diagnostic for ExpireError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lake(error) => error.exit_code(),
            Self::Commit(error) => error.exit_code(),
            Self::RunId(_) => ExitCode::Internal,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Lake(error) => error.hint(),
            Self::Commit(error) => error.hint(),
            Self::RunId(_) => None,
        }
    }
}

/// Removes the snapshots that `plan` expires, all of them or none. Skips those that another run has replaced or removed
/// since, and never touches newer ones.
///
/// # Errors
///
/// See [`ExpireError`].
pub fn expire(table: &Table, plan: &ExpirePlan, cancel: &Cancel) -> Result<(), ExpireError> {
    let waiting = || tracing::info!("another run holds the table lock; waiting for it to end");
    let lock = table.lock(waiting, &|| cancel.is_cancelled())?;
    lock.recover()?.iter().for_each(Recovered::log);
    let published = table.snapshots()?;
    let ids: Vec<SnapshotId> =
        plan.expired.iter().filter(|one| published.contains(one)).map(|one| one.id).collect();
    let run_id = RunId::try_new().map_err(ExpireError::RunId)?;
    let removed = lock.remove_snapshots(&run_id, &ids)?;
    if let Some(error) = removed.left_over {
        tracing::warn!(error = %error, "some removed files still take space; the next run deletes them");
    }
    Ok(())
}

/// The outcome of an expiry without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpireOutcome {
    /// The snapshots are removed.
    Removed,
    /// A dry run: nothing was removed.
    Planned,
    /// There was nothing to remove.
    Unchanged,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::tests::manifest;

    /// The dates that stay, of snapshots on `dates`.
    fn kept(keep_days: u32, keep_monthly: bool, dates: &[&str]) -> Vec<String> {
        let published = dates
            .iter()
            .map(|date| {
                let id = format!("{}T110100Z", date.replace('-', ""));
                let manifest = manifest(&id, "aaaaaaaa", Vec::new(), 0);
                PublishedSnapshot { id: manifest.snapshot_id(), manifest, manifest_path: "".into() }
            })
            .collect();
        let plan = Retention { keep_days: NonZeroU32::new(keep_days), keep_monthly }.plan(published);
        assert_eq!(plan.kept.len() + plan.expired.len(), dates.len());
        plan.kept.iter().map(|snapshot| snapshot.id.date().to_string()).collect()
    }

    #[test]
    fn days_count_back_from_the_newest_snapshot() {
        let dates = ["2020-12-30", "2020-12-31", "2021-01-01", "2021-01-03"];
        assert_eq!(kept(1, false, &dates), ["2021-01-03"]);
        assert_eq!(kept(2, false, &dates), ["2021-01-03"]);
        assert_eq!(kept(3, false, &dates), ["2021-01-01", "2021-01-03"]);
        assert_eq!(kept(5, false, &dates), dates);
        assert_eq!(kept(u32::MAX, false, &dates), dates);
    }

    #[test]
    fn last_snapshot_of_each_month_stays() {
        let dates = ["2020-01-31", "2020-12-01", "2020-12-30", "2021-01-01", "2021-01-03"];
        assert_eq!(kept(0, true, &dates), ["2020-01-31", "2020-12-30", "2021-01-03"]);
        assert_eq!(kept(3, true, &dates), ["2020-01-31", "2020-12-30", "2021-01-01", "2021-01-03"]);
    }

    #[test]
    fn more_than_half_is_most() {
        let is_most = |num_kept: usize, num_expired: usize| {
            let manifest = manifest("20210111T110100Z", "aaaaaaaa", Vec::new(), 0);
            let snapshot =
                PublishedSnapshot { id: manifest.snapshot_id(), manifest, manifest_path: "".into() };
            let some = |number| vec![snapshot.clone(); number];
            ExpirePlan { kept: some(num_kept), expired: some(num_expired) }.is_most()
        };
        assert!(!is_most(1, 0));
        assert!(!is_most(2, 2));
        assert!(is_most(2, 3));
        assert!(is_most(1, 2));
    }

    #[test]
    fn newest_stays_with_any_rules() {
        assert_eq!(kept(0, false, &["2021-01-01", "2021-01-02"]), ["2021-01-02"]);
        assert!(kept(1, true, &[]).is_empty());
    }
}
