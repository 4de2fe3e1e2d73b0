//! A store in memory whose requests a seeded scheduler lets through one at a time.
//!
//! Several runs send requests, each on a thread of its own. No run continues before the scheduler has chosen its
//! request, and the scheduler chooses only when every run waits or has ended: a seed determines the schedule. A
//! request can be delayed while others work, its response can be lost, it can arrive after its run has given it up,
//! and a run can be killed at it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UpdateVersion,
};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::delete_version::DeleteVersion;
use super::{Objects, OwnRuntime, Store};
use crate::lake::lease_times::LeaseTimes;
use crate::lake::{Lake, Place};

/// A schedule with more requests than this does not end.
const MAX_STEPS: u32 = 20_000;

/// The runtime of all requests, which run on the threads that wait for them.
static RUNTIME: LazyLock<Arc<OwnRuntime>> = LazyLock::new(|| OwnRuntime::start().unwrap());

/// How often things go wrong in a schedule: `switch` in percent of the requests, and ten times as often before a change
/// that others may see; the rest in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    /// Another run continues.
    pub switch: u32,
    /// The response to a change is lost.
    pub lost: u32,
    /// A change times out for its run, and arrives later.
    pub late: u32,
    /// The run is killed.
    pub killed: u32,
}

/// A change of the store, as it is sent.
#[derive(Debug, Clone)]
enum Change {
    Put(Key, PutPayload, PutOptions),
    Delete(Key),
    DeleteVersion(Key, UpdateVersion),
    DeleteChunks(Key),
    Begin,
    Chunk(Key, MultipartId, usize, PutPayload),
    Complete(Key, MultipartId, Vec<String>),
    Abort(MultipartId),
}

impl Change {
    /// Whether other runs write the same object.
    fn is_shared(&self) -> bool {
        let (Self::Put(key, ..) | Self::Delete(key) | Self::DeleteVersion(key, _)) = self else {
            return false;
        };
        ["/lock", "/_SUCCESS", ".json"].iter().any(|end| key.as_ref().ends_with(end))
    }

    fn is_seen_by_readers(&self) -> bool {
        let (Self::Put(key, ..) | Self::Delete(key) | Self::DeleteVersion(key, _) | Self::Complete(key, ..)) =
            self
        else {
            return false;
        };
        !key.as_ref().contains("/staging/") && !key.as_ref().ends_with("/lock")
    }
}

#[derive(Debug)]
enum Answer {
    Done,
    Put(PutResult),
    Deleted(bool),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Through,
    Lost,
    Late,
    Killed { arrives: bool },
}

/// The scheduler's view of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Read,
    Change,
    /// A change of an object that several runs write, or of a journal: the best place to let others go first.
    SharedChange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// Has sent a request.
    Waiting(RequestKind),
    Granted(Verdict),
    Dead,
    Ended,
}

#[derive(Debug, Default)]
struct ScheduleState {
    phases: Vec<Phase>,
    late: Vec<Change>,
    killed: BTreeSet<usize>,
    /// Whether readers see something different than before.
    is_changed: bool,
    trace: Vec<String>,
}

/// Chunks of uploads, as the store keeps them.
#[derive(Debug, Default)]
struct Chunks {
    /// As on Azure: chunks belong to a name and not to an upload, and go if that name is deleted.
    by_name: bool,
    next: u64,
    /// Upload or name → id of a chunk → its bytes.
    waiting: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Name → the chunks that it consists of.
    completed: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Chunks {
    /// Forgets what a deleted object consists of.
    fn remove(&mut self, key: &Key) {
        self.completed.remove(key.as_ref());
        if self.by_name {
            self.waiting.remove(key.as_ref());
        }
    }
}

/// The store and its schedule. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Simulation {
    inner: Arc<InMemory>,
    chunks: Arc<Mutex<Chunks>>,
    state: Arc<Mutex<ScheduleState>>,
    changed: Arc<Condvar>,
}

/// The store as one run sees it.
#[derive(Debug, Clone)]
struct Seat {
    simulation: Simulation,
    /// Nothing for requests before and after the schedule.
    run: Option<usize>,
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

fn no_answer() -> Error {
    let source = HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("no answer"));
    Error::Generic { store: "simulation", source: Box::new(source) }
}

fn dead() -> Error {
    Error::Generic { store: "simulation", source: "the run was killed".into() }
}

fn refused(key: &Key) -> Error {
    Error::NotFound { path: key.to_string(), source: "no such upload".into() }
}

impl Simulation {
    /// `by_name`: whether uploads are as Azure has them.
    pub(crate) fn new(by_name: bool) -> Self {
        let simulation = Self::default();
        simulation.chunks.lock().unwrap().by_name = by_name;
        simulation
    }

    /// A lake in this store: that of a run, or one for requests before and after the schedule.
    pub(crate) fn lake(&self, work_dir: &Path, run: Option<usize>) -> Lake {
        let seat = Arc::new(Seat { simulation: self.clone(), run });
        let chunks_by_name = self.chunks.lock().unwrap().by_name;
        let objects =
            Objects { whole: seat.clone(), multipart: seat.clone(), delete_version: seat, chunks_by_name };
        let store = Store::new("memory://bucket/lake".into(), "lake".into(), objects, RUNTIME.clone());
        let work_dir = work_dir.to_path_buf();
        Lake::at(Place::Store(Store { work_dir, lease_times: LeaseTimes::SCHEDULED, ..store }))
    }

    /// Lists every object with its content.
    pub(crate) fn list_tree(&self) -> BTreeMap<String, Vec<u8>> {
        let objects: Vec<ObjectMeta> = now(self.inner.list(None).try_collect()).unwrap();
        let read = |object: &ObjectMeta| now(async { self.inner.get(&object.location).await?.bytes().await });
        objects.iter().map(|object| (object.location.to_string(), read(object).unwrap().to_vec())).collect()
    }

    /// Number of uploads that were started and neither completed nor aborted; as on Azure, of names that have chunks and no
    /// object.
    pub(crate) fn num_uploads(&self) -> usize {
        let objects = self.list_tree();
        let chunks = self.chunks.lock().unwrap();
        chunks.waiting.keys().filter(|name| !(chunks.by_name && objects.contains_key(*name))).count()
    }

    /// Whether a run of the schedule was killed.
    pub(crate) fn is_killed(&self, run: usize) -> bool {
        self.state.lock().unwrap().killed.contains(&run)
    }

    /// Returns a line for each request.
    pub(crate) fn trace(&self) -> String {
        self.state.lock().unwrap().trace.join("\n")
    }

    /// Runs each of `runs` on a thread of its own, scheduled by `seed`; calls `after_change` whenever something that
    /// readers see has changed. Late requests arrive at the end at the latest.
    pub(crate) fn schedule<T: Send>(
        &self,
        seed: u64,
        odds: Odds,
        runs: Vec<Box<dyn FnOnce() -> T + Send + '_>>,
        after_change: &mut dyn FnMut(),
    ) -> Vec<T> {
        let mut random = Pcg32::seed_from_u64(seed);
        self.state.lock().unwrap().phases = vec![Phase::Working; runs.len()];
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = runs
                .into_iter()
                .enumerate()
                .map(|(index, run)| {
                    scope.spawn(move || {
                        let _end = End { simulation: self, run: index };
                        run()
                    })
                })
                .collect();
            let mut current = 0;
            // This run does not continue until the others have ended, or nearly so.
            let mut stalled = None;
            for step in 0.. {
                assert!(step < MAX_STEPS, "the schedule does not end:\n{}", self.trace());
                let mut state = self.all_wait();
                if std::mem::take(&mut state.is_changed) {
                    after_change();
                }
                let is_waiting = |phase: &Phase| matches!(phase, Phase::Waiting(_));
                let waiting: Vec<_> =
                    (0..state.phases.len()).filter(|run| is_waiting(&state.phases[*run])).collect();
                if waiting.is_empty() {
                    break;
                }
                let mut one_in_thousand = |times: u32| random.next_u32() % 1000 < times;
                let is_shared = state.phases[current] == Phase::Waiting(RequestKind::SharedChange);
                let is_switched = one_in_thousand(odds.switch * if is_shared { 100 } else { 10 });
                let (is_lost, is_late) = (one_in_thousand(odds.lost), one_in_thousand(odds.late));
                let is_killed = one_in_thousand(odds.killed);
                let arrives = one_in_thousand(500);
                let is_delivered = one_in_thousand(20);
                let (is_stalled, wakes) = (one_in_thousand(300), one_in_thousand(5));
                if is_switched && is_stalled {
                    stalled = Some(current);
                } else if wakes {
                    stalled = None;
                }
                if !waiting.contains(&current) || is_switched {
                    let others: Vec<_> =
                        waiting.iter().copied().filter(|run| Some(*run) != stalled).collect();
                    let choice = if others.is_empty() { &waiting } else { &others };
                    current = choice[random.next_u32() as usize % choice.len()];
                }
                if is_delivered && !state.late.is_empty() {
                    let index = random.next_u32() as usize % state.late.len();
                    let change = state.late.swap_remove(index);
                    state.trace.push(format!("late: {change:?}"));
                    state.is_changed = true;
                    let _ = self.apply(change);
                }
                let is_change = matches!(
                    state.phases[current],
                    Phase::Waiting(RequestKind::Change | RequestKind::SharedChange)
                );
                let verdict = match (is_killed, is_lost && is_change, is_late && is_change) {
                    (true, _, _) => Verdict::Killed { arrives },
                    (_, true, _) => Verdict::Lost,
                    (_, _, true) => Verdict::Late,
                    _ => Verdict::Through,
                };
                state.phases[current] = Phase::Granted(verdict);
                drop(state);
                self.changed.notify_all();
            }
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let late = std::mem::take(&mut self.state.lock().unwrap().late);
        for change in late {
            self.state.lock().unwrap().trace.push(format!("late: {change:?}"));
            let _ = self.apply(change);
            after_change();
        }
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    }

    /// Waits until no run is at work.
    fn all_wait(&self) -> MutexGuard<'_, ScheduleState> {
        let is_at_work = |phase: &Phase| matches!(phase, Phase::Working | Phase::Granted(_));
        let state = self.state.lock().unwrap();
        self.changed.wait_while(state, |state| state.phases.iter().any(is_at_work)).unwrap()
    }

    /// Waits for the scheduler's verdict on a request.
    fn await_verdict(&self, run: Option<usize>, kind: RequestKind, what: &dyn Fn() -> String) -> Verdict {
        let Some(run) = run else { return Verdict::Through };
        let mut state = self.state.lock().unwrap();
        if state.phases[run] == Phase::Dead {
            return Verdict::Killed { arrives: false };
        }
        state.phases[run] = Phase::Waiting(kind);
        self.changed.notify_all();
        let mut state =
            self.changed.wait_while(state, |state| matches!(state.phases[run], Phase::Waiting(_))).unwrap();
        let Phase::Granted(verdict) = state.phases[run] else { unreachable!("a verdict ends the wait") };
        state.trace.push(format!("{run}: {} {verdict:?}", what()));
        let is_killed = matches!(verdict, Verdict::Killed { .. });
        if is_killed {
            state.killed.insert(run);
        }
        state.phases[run] = if is_killed { Phase::Dead } else { Phase::Working };
        verdict
    }

    fn apply(&self, change: Change) -> Result<Answer> {
        let mut chunks = self.chunks.lock().unwrap();
        match change {
            Change::Put(key, payload, options) => {
                let put = now(self.inner.put_opts(&key, payload, options))?;
                chunks.completed.remove(key.as_ref());
                if chunks.by_name {
                    chunks.waiting.remove(key.as_ref());
                }
                Ok(Answer::Put(put))
            }
            Change::Delete(key) => {
                chunks.remove(&key);
                now(self.inner.delete(&key)).map(|()| Answer::Done)
            }
            Change::DeleteChunks(key) => {
                if now(self.inner.head(&key)).is_err() {
                    chunks.remove(&key);
                }
                Ok(Answer::Done)
            }
            Change::DeleteVersion(key, version) => {
                let is_deleted = now(super::faulty::delete_version(&self.inner, &key, &version))?;
                if is_deleted {
                    chunks.remove(&key);
                }
                Ok(Answer::Deleted(is_deleted))
            }
            Change::Begin => {
                chunks.next += 1;
                let id = if chunks.by_name { String::new() } else { chunks.next.to_string() };
                if !chunks.by_name {
                    chunks.waiting.insert(id.clone(), BTreeMap::new());
                }
                Ok(Answer::Text(id))
            }
            Change::Chunk(key, id, index, payload) => {
                chunks.next += 1;
                let part = format!("{index}-{}", chunks.next);
                let bytes = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
                if chunks.by_name {
                    chunks.waiting.entry(key.to_string()).or_default().insert(part.clone(), bytes);
                } else {
                    chunks.waiting.get_mut(&id).ok_or_else(|| refused(&key))?.insert(part.clone(), bytes);
                }
                Ok(Answer::Text(part))
            }
            Change::Complete(key, id, ids) => {
                let upload = if chunks.by_name { key.to_string() } else { id };
                let mut known = chunks.waiting.get(&upload).cloned().unwrap_or_default();
                if chunks.by_name {
                    known.extend(chunks.completed.get(key.as_ref()).cloned().unwrap_or_default());
                }
                let made: Option<BTreeMap<_, _>> =
                    ids.iter().map(|part| Some((part.clone(), known.get(part)?.clone()))).collect();
                if !chunks.by_name && !chunks.waiting.contains_key(&upload) {
                    return Err(refused(&key));
                }
                let made = made.ok_or_else(|| refused(&key))?;
                let bytes: Vec<u8> = ids.iter().flat_map(|part| made[part].clone()).collect();
                chunks.waiting.remove(&upload);
                chunks.completed.insert(key.to_string(), made);
                now(self.inner.put(&key, bytes.into())).map(Answer::Put)
            }
            Change::Abort(id) => {
                assert!(!chunks.by_name, "there is no such request");
                if chunks.waiting.remove(&id).is_some() {
                    return Ok(Answer::Done);
                }
                Err(refused(&Key::default()))
            }
        }
    }
}

/// Tells the scheduler that a run has ended, also by a panic.
struct End<'a> {
    simulation: &'a Simulation,
    run: usize,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.simulation.state.lock().unwrap().phases[self.run] = Phase::Ended;
        self.simulation.changed.notify_all();
    }
}

impl Seat {
    fn ask(&self, what: &dyn Fn() -> String) -> Result<()> {
        match self.simulation.await_verdict(self.run, RequestKind::Read, what) {
            Verdict::Killed { .. } => Err(dead()),
            _ => Ok(()),
        }
    }

    fn change(&self, change: Change) -> Result<Answer> {
        let kind = if change.is_shared() { RequestKind::SharedChange } else { RequestKind::Change };
        let verdict = self.simulation.await_verdict(self.run, kind, &|| format!("{change:?}"));
        if change.is_seen_by_readers() {
            self.simulation.state.lock().unwrap().is_changed = true;
        }
        match verdict {
            Verdict::Through => self.simulation.apply(change),
            Verdict::Lost => self.simulation.apply(change).and(Err(no_answer())),
            Verdict::Killed { arrives: false } => Err(dead()),
            verdict => {
                self.simulation.state.lock().unwrap().late.push(change);
                Err(if verdict == Verdict::Late { no_answer() } else { dead() })
            }
        }
    }
}

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulation")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Seat {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let Answer::Put(put) = self.change(Change::Put(key.clone(), payload, options))? else {
            unreachable!("the answer to a put")
        };
        Ok(put)
    }

    async fn put_multipart_opts(&self, _: &Key, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unimplemented!("uploads go through MultipartStore")
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.ask(&|| format!("get {key}"))?;
        self.simulation.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let seat = self.clone();
        keys.map(move |key| {
            let key = key?;
            seat.change(Change::Delete(key.clone()))?;
            Ok(key)
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.ask(&|| format!("list {prefix:?}")) {
            Ok(()) => self.simulation.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.ask(&|| format!("list folders {prefix:?}"))?;
        self.simulation.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        unimplemented!("nothing is copied")
    }
}

#[async_trait::async_trait]
impl DeleteVersion for Seat {
    async fn delete_version(&self, key: &Key, version: &UpdateVersion) -> Result<bool> {
        match self.change(Change::DeleteVersion(key.clone(), version.clone()))? {
            Answer::Deleted(is_deleted) => Ok(is_deleted),
            _ => unreachable!("the answer to a deletion"),
        }
    }

    async fn delete_chunks(&self, key: &Key) -> Result<()> {
        self.change(Change::DeleteChunks(key.clone())).map(|_| ())
    }
}

impl Seat {
    fn text(&self, change: Change) -> Result<String> {
        match self.change(change)? {
            Answer::Text(text) => Ok(text),
            _ => unreachable!("the answer is an id"),
        }
    }
}

#[async_trait::async_trait]
impl MultipartStore for Seat {
    async fn create_multipart(&self, _: &Key) -> Result<MultipartId> {
        self.text(Change::Begin)
    }

    async fn put_part(&self, key: &Key, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let content_id = self.text(Change::Chunk(key.clone(), id.clone(), part, data))?;
        Ok(PartId { content_id })
    }

    async fn complete_multipart(&self, key: &Key, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let parts = parts.into_iter().map(|part| part.content_id).collect();
        match self.change(Change::Complete(key.clone(), id.clone(), parts))? {
            Answer::Put(put) => Ok(put),
            _ => unreachable!("the answer to a put"),
        }
    }

    async fn abort_multipart(&self, _: &Key, id: &MultipartId) -> Result<()> {
        self.change(Change::Abort(id.clone())).map(|_| ())
    }
}
