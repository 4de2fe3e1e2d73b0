//! The lock of a table in an object store: an object that one run makes, renews, and removes in the end.
//!
//! Taken by a conditional create, so that of two runs one gets it; renewed by conditional updates, each of
//! which changes the object; removed only as the version that it was last renewed to. A waiting run takes it
//! over when it has not changed for long, by the waiting run's own clock: no two clocks are compared.
//!
//! The lock keeps runs from working in vain, and tells a run that its journal was there before another one
//! took over (`commit/protocol.md`). It decides nothing: a run that stands still between two requests can
//! lose it at any time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::error::{LakeError, io_error};
use super::store::{Put, Settled, Store};

/// How often a waiting run looks whether it was told to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// How often a second lock is tried that the store has to refuse.
const MAX_PROOF_ATTEMPTS: u32 = 5;

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
            .map_err(|error| io_error("draw a number to lock", &path)(std::io::Error::other(error)))?;
        let mut state =
            State { holder: Holder { lease_id: format!("{lease_id:016x}"), renewals: 0 }, version: None };
        let mut on_wait = Some(on_wait);
        let mut seen: Option<(UpdateVersion, Instant)> = None;
        let times = store.lease_times;
        loop {
            // Looked at first: a store that knows no conditions would put ours over another run's.
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
            // Only a condition that failed means that another run has it; any other answer is an error.
            if let Some(put) = put
                && let Settled::Done(version) = store.put_settled(&path, &state.holder.to_json(), &put)?
            {
                if let Put::Update(_) = put {
                    tracing::warn!("took over the lock of a run that does not renew it any more");
                }
                state.version = Some(version);
                match store.block_on(prove_conditions(store, &path, &mut state)) {
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
        // Best effort: an error is ignored, the next run waits for a while and takes over.
        let mut held = self.store.block_on(self.state.lock());
        while let Some(version) = held.version.take() {
            match self.store.delete_version(&self.path, &version) {
                Ok(true) => {}
                // It was taken over, or the answer to a renewal was lost.
                Ok(false) => {
                    held.version = self.store.block_on(own_version(&self.store, &self.path, &held.holder));
                }
                Err(error) => {
                    tracing::debug!(error = %error, "the lock could not be removed; the next run takes it over");
                }
            }
        }
    }
}

/// The version of the lock in place if it is this holder's.
async fn own_version(store: &Store, path: &std::path::Path, holder: &Holder) -> Option<UpdateVersion> {
    let (bytes, version) = store.read_async(path, MAX_LEASE_BYTES).await.ok()??;
    let found: Holder = serde_json::from_slice(&bytes).ok()?;
    (found.lease_id == holder.lease_id).then_some(version)
}

/// Shows that the store has conditional writes: a second lock has to be refused, and so has a second renewal
/// of one version. Takes the lock away if either is accepted.
async fn prove_conditions(store: &Store, path: &std::path::Path, state: &mut State) -> Result<(), LakeError> {
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
                    *state = State { holder: again, version: Some(version.clone()) };
                    // Once, another run may have taken the lock over and left.
                    if num_accepted == 2 {
                        // Best effort: what stays is a lock that the next run takes over.
                        let _ = store.delete_version_async(path, &version).await;
                        return Err(LakeError::NoConditionalWrites { path: path.to_path_buf() });
                    }
                }
                Err(error) if !error.is_transient() || num_attempts == MAX_PROOF_ATTEMPTS => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(error = %error, "the lock could not be tried; trying again"),
            }
        }
    }
    Ok(())
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
        // An answer may have been lost, and the library have asked again: then this renewal is in place. Another
        // of our own is not: it can be the first one, that arrived once more after others had the lock.
        None => match store.read_async(path, MAX_LEASE_BYTES).await? {
            Some((bytes, version)) if bytes == next.to_json() => Some(version),
            _ => None,
        },
    };
    state.holder = next;
    state.version = renewed;
    if state.version.is_some() { Ok(()) } else { Err(lost()) }
}
