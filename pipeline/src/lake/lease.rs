//! The lock of a table in an object store: an object with a lease, which the run that holds it renews.
//!
//! The lock is acquired by a conditional create, so only one of two runs gets it; each renewal is a conditional
//! update that changes the object; it is released by deleting exactly the version of the last renewal. A waiting run
//! takes it over once the object has not changed for [`LeaseTimes::take_over`], measured by the waiting run's own
//! clock: no two clocks are compared.
//!
//! The lock avoids wasted work, and proves to a run that its journal existed before another run took over
//! (`commit/protocol.md`). Correctness does not depend on it: a lease can expire between any two requests of a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::error::{LakeError, io_error};
use super::store::{Put, PutOutcome, Store};

/// How often a waiting run checks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Attempts at a conditional write that the store must refuse.
const MAX_PROOF_ATTEMPTS: u32 = 5;

/// A lock object is about a hundred bytes; a larger one was not written by this program.
const MAX_LEASE_BYTES: u64 = 4 << 10;

/// The content of the lock object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Random, one for each lease.
    lease_id: String,
    /// Incremented so that no two renewals have the same bytes, from which some stores compute e-tags.
    renewals: u64,
}

impl Holder {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values serialise")
    }
}

/// The lock of a table, until it is dropped or its lease expires.
#[derive(Debug)]
pub(super) struct Lease {
    store: Store,
    path: PathBuf,
    state: Arc<Mutex<LeaseState>>,
    renewal: JoinHandle<()>,
}

#[derive(Debug)]
struct LeaseState {
    holder: Holder,
    /// The version of the last renewal; nothing once another run has taken over.
    version: Option<UpdateVersion>,
}

impl Lease {
    /// Acquires the lock at `path`, waiting while another run renews it.
    pub(super) fn take(
        store: &Store,
        path: PathBuf,
        on_wait: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, LakeError> {
        let lease_id = getrandom::u64()
            .map_err(|error| io_error("draw a number to lock", &path)(std::io::Error::other(error)))?;
        let mut state = LeaseState {
            holder: Holder { lease_id: format!("{lease_id:016x}"), renewals: 0 },
            version: None,
        };
        let mut on_wait = Some(on_wait);
        let mut seen: Option<(UpdateVersion, Instant)> = None;
        let times = store.lease_times;
        loop {
            // Read first: a store that ignores conditions would replace another run's lock.
            let put = match store.read(&path, MAX_LEASE_BYTES)? {
                None => Some(Put::Create),
                Some((_, version)) => match &seen {
                    Some((before, since)) if is_same(before, &version) => {
                        (since.elapsed() >= times.take_over).then_some(Put::Update(version))
                    }
                    _ => {
                        seen = Some((version, Instant::now()));
                        None
                    }
                },
            };
            // Only a failed condition means that another run holds the lock; any other failure is an error.
            if let Some(put) = put
                && let PutOutcome::Written(version) =
                    store.put_confirmed(&path, &state.holder.to_json(), &put)?
            {
                if let Put::Update(_) = put {
                    tracing::warn!("took over the table lock: its lease expired");
                }
                state.version = Some(version);
                match store.block_on(check_conditional_writes(store, &path, &mut state)) {
                    Ok(()) => break,
                    Err(LakeError::LeaseLost { .. }) => {
                        state.holder.renewals += 1;
                        seen = None;
                    }
                    Err(error) => return Err(error),
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
        }
        let state = Arc::new(Mutex::new(state));
        let renewal = store.spawn(keep_renewing(store.clone(), path.clone(), state.clone(), times.renew));
        Ok(Self { store: store.clone(), path, state, renewal })
    }

    /// Renews the lease now, which fails if another run has taken over.
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
        // Best effort: an error is ignored, the next run takes over once the lease has expired.
        let mut held = self.store.block_on(self.state.lock());
        while let Some(version) = held.version.take() {
            match self.store.delete_version(&self.path, &version) {
                Ok(true) => {}
                // Another run took over, or the response to a renewal was lost.
                Ok(false) => {
                    held.version = self.store.block_on(own_version(&self.store, &self.path, &held.holder));
                }
                Err(error) => {
                    tracing::debug!(error = %error, "the table lock could not be removed; the next run takes it over");
                }
            }
        }
    }
}

/// Returns the version of the lock object if this run holds it.
async fn own_version(store: &Store, path: &std::path::Path, holder: &Holder) -> Option<UpdateVersion> {
    let (bytes, version) = store.read_async(path, MAX_LEASE_BYTES).await.ok()??;
    let found: Holder = serde_json::from_slice(&bytes).ok()?;
    (found.lease_id == holder.lease_id).then_some(version)
}

/// Checks that the store supports conditional writes: it must refuse a second create, and a second renewal of one
/// version. Deletes the lock if it accepts either.
async fn check_conditional_writes(
    store: &Store,
    path: &std::path::Path,
    state: &mut LeaseState,
) -> Result<(), LakeError> {
    let first = state.version.clone();
    renew(store, path, state).await?;
    for put in std::iter::once(Put::Create).chain(first.map(Put::Update)) {
        let (mut num_attempts, mut num_accepted) = (0, 0);
        loop {
            num_attempts += 1;
            let again = Holder { renewals: state.holder.renewals + 1, ..state.holder.clone() };
            match store.put_async(path, again.to_json(), put.clone()).await {
                Ok(None) => break,
                Ok(Some(version)) => {
                    num_accepted += 1;
                    *state = LeaseState { holder: again, version: Some(version.clone()) };
                    // Accepted once, another run may have taken over and released the lock in between.
                    if num_accepted == 2 {
                        // Best effort: the next run takes over a lock that remains.
                        let _ = store.delete_version_async(path, &version).await;
                        return Err(LakeError::NoConditionalWrites { path: path.to_path_buf() });
                    }
                }
                Err(error) if !error.is_transient() || num_attempts == MAX_PROOF_ATTEMPTS => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(error = %error, "conditional writes could not be checked; trying again");
                }
            }
        }
    }
    Ok(())
}

fn is_same(one: &UpdateVersion, other: &UpdateVersion) -> bool {
    (&one.e_tag, &one.version) == (&other.e_tag, &other.version)
}

async fn keep_renewing(store: Store, path: PathBuf, state: Arc<Mutex<LeaseState>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let mut state = state.lock().await;
        match renew(&store, &path, &mut state).await {
            Ok(()) => {}
            Err(LakeError::LeaseLost { .. }) => {
                tracing::warn!("another run took over the table lock");
                return;
            }
            Err(error) => tracing::warn!(error = %error, "the lease could not be renewed; trying again"),
        }
    }
}

async fn renew(store: &Store, path: &std::path::Path, state: &mut LeaseState) -> Result<(), LakeError> {
    let lost = || LakeError::LeaseLost { path: path.to_path_buf() };
    let version = state.version.clone().ok_or_else(lost)?;
    let next = Holder { renewals: state.holder.renewals + 1, ..state.holder.clone() };
    let renewed = match store.put_async(path, next.to_json(), Put::Update(version)).await? {
        Some(version) => Some(version),
        // The response to a first attempt may have been lost and the library have retried: then this renewal is in
        // place. An older renewal of this run does not count: it can be a duplicate that arrived after others held
        // the lock.
        None => match store.read_async(path, MAX_LEASE_BYTES).await? {
            Some((bytes, version)) if bytes == next.to_json() => Some(version),
            _ => None,
        },
    };
    state.holder = next;
    state.version = renewed;
    if state.version.is_some() { Ok(()) } else { Err(lost()) }
}
