//! The lock of a table in an object store: an object that one run makes, renews, and removes in the end.
//!
//! Taken by a conditional create, so that of two runs one gets it; renewed by conditional updates, each of
//! which changes the object. A waiting run takes it over when it has not changed for long, by the waiting
//! run's own clock: no two clocks are compared. Whoever stood still meanwhile learns at the next renewal
//! that the lease is lost, and that comes before every step that readers can see.
//!
//! It keeps runs from working in vain. What keeps two of them from publishing one snapshot is the
//! conditional create of its manifest, which holds without any lease.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::store::{Put, Store};
use super::{LakeError, local};

/// How runs take turns. All runs on a lake have to agree on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    /// How often the holder renews.
    pub renew: Duration,
    /// After so long without a renewal a waiting run takes over: several renewals may fail before.
    pub take_over: Duration,
    /// How often a waiting run looks.
    pub poll: Duration,
}

/// After so many seconds without a renewal a waiting run takes over. More means that a run waits longer for
/// one that was killed, less that one which is cut off from the store for as long has run in vain.
const TAKE_OVER_SECS: u32 = 60;

impl LeaseTimes {
    /// As `DEFENDER_LEASE_SECS` says, or after a minute.
    pub(crate) fn from_env() -> Self {
        let secs = std::env::var("DEFENDER_LEASE_SECS").ok().and_then(|secs| secs.trim().parse().ok());
        let take_over =
            Duration::from_secs(secs.filter(|secs: &u32| *secs > 0).unwrap_or(TAKE_OVER_SECS).into());
        Self { renew: take_over / 4, take_over, poll: take_over / 30 }
    }

    /// For tests that wait for nobody.
    #[cfg(test)]
    pub(crate) const IMPATIENT: Self = Self {
        renew: Duration::from_millis(20),
        take_over: Duration::from_millis(300),
        poll: Duration::from_millis(2),
    };
}

/// How often a waiting run looks whether it was told to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// A lease object is a hundred bytes; beyond this it is not ours.
const MAX_LEASE_BYTES: u64 = 4 << 10;

/// What the object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Drawn for each lease.
    lease_id: String,
    /// Counts up, so that no two renewals have the same bytes: some stores make e-tags of them.
    renewals: u64,
}

impl Holder {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values serialise")
    }
}

/// The exclusive right to a table, until dropped or lost.
#[derive(Debug)]
pub(super) struct Lease {
    store: Store,
    path: PathBuf,
    state: Arc<Mutex<State>>,
    renewal: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    holder: Holder,
    /// Nothing once another run has the lease.
    version: Option<UpdateVersion>,
}

impl Lease {
    /// Takes the lease at `path`, waiting while another run renews it.
    pub(super) fn take(
        store: &Store,
        path: PathBuf,
        on_wait: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, LakeError> {
        let lease_id = getrandom::u64()
            .map_err(|error| local::io_error("draw a number to lock", &path)(std::io::Error::other(error)))?;
        let holder = Holder { lease_id: format!("{lease_id:016x}"), renewals: 0 };
        let mut on_wait = Some(on_wait);
        let mut seen: Option<(UpdateVersion, Instant)> = None;
        let times = store.lease_times;
        let version = loop {
            match store.put(&path, holder.to_json(), Put::Create) {
                Ok(Some(version)) => break version,
                Ok(None) => {}
                // It may have arrived all the same; the next look tells.
                Err(error) if !error.is_retried() => return Err(error),
                Err(error) => tracing::debug!(error = %error, "the lock could not be made; trying again"),
            }
            if let Some((bytes, version)) = store.read(&path, MAX_LEASE_BYTES)? {
                if serde_json::from_slice::<Holder>(&bytes).is_ok_and(|found| found == holder) {
                    break version;
                }
                let now = Instant::now();
                match &seen {
                    Some((before, since)) if is_same(before, &version) => {
                        if now.duration_since(*since) >= times.take_over {
                            if let Some(version) = store.put(&path, holder.to_json(), Put::Update(version))? {
                                tracing::warn!("took over the lock of a run that does not renew it any more");
                                break version;
                            }
                            seen = None;
                        }
                    }
                    _ => seen = Some((version, now)),
                }
            }
            if let Some(on_wait) = on_wait.take() {
                on_wait();
            }
            let wake_at = Instant::now() + times.poll;
            while Instant::now() < wake_at {
                if cancelled() {
                    return Err(LakeError::Cancelled { path });
                }
                std::thread::sleep(CANCEL_POLL.min(times.poll));
            }
        };
        let state = Arc::new(Mutex::new(State { holder, version: Some(version) }));
        let renewal = store.spawn(renew_for_ever(store.clone(), path.clone(), state.clone(), times.renew));
        Ok(Self { store: store.clone(), path, state, renewal })
    }

    /// Renews the lease now, and so learns whether it is still ours.
    pub(super) fn confirm(&self) -> Result<(), LakeError> {
        self.store.block_on(async {
            let mut state = self.state.lock().await;
            renew(&self.store, &self.path, &mut state).await
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        // Right after a renewal nobody takes it over, so it is ours that goes. An error has nowhere to go:
        // the next run waits for a while, and takes over.
        if self.confirm().is_ok()
            && let Err(error) = self.store.delete(&self.path)
        {
            tracing::debug!(error = %error, "the lock could not be removed; the next run takes it over");
        }
    }
}

fn is_same(one: &UpdateVersion, other: &UpdateVersion) -> bool {
    (&one.e_tag, &one.version) == (&other.e_tag, &other.version)
}

async fn renew_for_ever(store: Store, path: PathBuf, state: Arc<Mutex<State>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let mut state = state.lock().await;
        match renew(&store, &path, &mut state).await {
            Ok(()) => {}
            Err(LakeError::LeaseLost { .. }) => {
                tracing::warn!("another run has taken over the lock of the table");
                return;
            }
            Err(error) => tracing::warn!(error = %error, "the lock could not be renewed; trying again"),
        }
    }
}

async fn renew(store: &Store, path: &std::path::Path, state: &mut State) -> Result<(), LakeError> {
    let lost = || LakeError::LeaseLost { path: path.to_path_buf() };
    let version = state.version.clone().ok_or_else(lost)?;
    let next = Holder { renewals: state.holder.renewals + 1, ..state.holder.clone() };
    let renewed = match store.put_async(path, next.to_json(), Put::Update(version)).await? {
        Some(version) => Some(version),
        // An answer may have been lost, and the library have asked again: then this renewal is in place.
        None => match store.read_async(path, MAX_LEASE_BYTES).await? {
            Some((bytes, version))
                if serde_json::from_slice::<Holder>(&bytes)
                    .is_ok_and(|found| found.lease_id == next.lease_id) =>
            {
                Some(version)
            }
            _ => None,
        },
    };
    state.holder = next;
    state.version = renewed;
    if state.version.is_some() { Ok(()) } else { Err(lost()) }
}
