//! A store in memory in which a test chooses the changes that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UpdateVersion,
};

use super::delete_version::DeleteVersion;
use super::{Objects, Store};
use crate::lake::lease_times::LeaseTimes;
use crate::lake::{Lake, Place};

/// Which changes fail, counted from zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The number of the change.
    pub at: u32,
    /// Whether the change is made nevertheless, and only its response lost.
    pub after: bool,
    /// Whether every later request fails too, reads included.
    pub for_good: bool,
}

#[derive(Debug, Default)]
struct FaultyState {
    fault: Option<Fault>,
    count: u32,
    /// The condition of writes that is ignored, as some servers do.
    ignored: Option<Ignored>,
    uploads: Uploads,
}

/// Uploads that are neither completed nor aborted.
#[derive(Debug, Default, Clone)]
struct Uploads {
    open: BTreeSet<MultipartId>,
    /// Those that a journal has named.
    named: BTreeSet<MultipartId>,
}

/// A condition of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    IfNoneMatch,
    IfMatch,
}

/// The store. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    state: Arc<Mutex<FaultyState>>,
}

fn failure() -> Error {
    let source =
        HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("the connection is closed"));
    Error::Generic { store: "faulty", source: Box::new(source) }
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(InMemory::new()), state: Arc::default() }
    }

    /// A lake in this store, as a new process opens it.
    pub(crate) fn lake(&self, work_dir: &Path, lease_times: LeaseTimes) -> Lake {
        let objects = Objects {
            whole: Arc::new(self.clone()),
            multipart: Arc::new(self.clone()),
            delete_version: Arc::new(self.clone()),
            chunks_by_name: false,
        };
        let store = Store::try_new("memory://bucket/some/lake".into(), "some/lake".into(), objects);
        let store = Store { work_dir: work_dir.to_path_buf(), lease_times, ..store.unwrap() };
        Lake::at(Place::Store(store))
    }

    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let uploads = std::mem::take(&mut state.uploads);
        *state = FaultyState { fault: Some(fault), uploads, ..FaultyState::default() };
    }

    /// Ignores a condition of writes from now on.
    pub(crate) fn ignore(&self, condition: Ignored) {
        self.state.lock().unwrap().ignored = Some(condition);
    }

    /// Ends the fault, and returns the number of changes since it was set.
    pub(crate) fn clear(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        let uploads = std::mem::take(&mut state.uploads);
        std::mem::replace(&mut *state, FaultyState { uploads, ..FaultyState::default() }).count
    }

    /// Number of uploads that are neither completed nor aborted.
    pub(crate) fn num_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.open.len()
    }

    /// Number of those that a journal has named.
    pub(crate) fn num_named_uploads(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.uploads.open.intersection(&state.uploads.named).count()
    }

    fn end_upload<T>(&self, id: &MultipartId, result: Result<T>) -> Result<T> {
        if result.is_ok() {
            self.state.lock().unwrap().uploads.open.remove(id);
        }
        result
    }

    /// Lists every object with its content.
    pub(crate) fn list_tree(&self) -> BTreeMap<String, Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tree = BTreeMap::new();
            let objects: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
            for object in objects {
                let bytes = self.inner.get(&object.location).await.unwrap().bytes().await.unwrap();
                tree.insert(object.location.to_string(), bytes.to_vec());
            }
            tree
        })
    }

    /// Whether a read gets through.
    fn ask(&self) -> Result<()> {
        let state = self.state.lock().unwrap();
        match state.fault {
            Some(fault) if fault.for_good && state.count > fault.at => Err(failure()),
            _ => Ok(()),
        }
    }

    /// Whether a change gets through, and whether its response arrives.
    fn change(&self) -> (bool, bool) {
        let mut state = self.state.lock().unwrap();
        let count = state.count;
        state.count += 1;
        match state.fault {
            Some(fault) if count == fault.at => (fault.after, false),
            Some(fault) if fault.for_good && count > fault.at => (false, false),
            _ => (true, true),
        }
    }

    async fn changing<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let (is_made, is_answered) = self.change();
        let result = if is_made { change.await } else { Err(failure()) };
        if is_answered { result } else { Err(failure()) }
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Key, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let ignored = self.state.lock().unwrap().ignored;
        if matches!(
            (&options.mode, ignored),
            (PutMode::Create, Some(Ignored::IfNoneMatch)) | (PutMode::Update(_), Some(Ignored::IfMatch))
        ) {
            options.mode = PutMode::Overwrite;
        }
        let text: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
        self.changing(async {
            let put = self.inner.put_opts(key, payload, options).await?;
            let uploads = &mut self.state.lock().unwrap().uploads;
            let text = String::from_utf8_lossy(&text);
            let named = uploads.open.iter().filter(|id| text.contains(&format!("\"id\":\"{id}\"")));
            uploads.named.extend(named.cloned().collect::<Vec<_>>());
            Ok(put)
        })
        .await
    }

    async fn put_multipart_opts(&self, _: &Key, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unimplemented!("uploads go through MultipartStore")
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.ask()?;
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let store = self.clone();
        keys.then(move |key| {
            let store = store.clone();
            async move {
                let key = key?;
                store.changing(store.inner.delete(&key)).await?;
                Ok(key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.ask() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.ask()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        unimplemented!("nothing is copied")
    }
}

/// Deletes a version of an object in memory, which no other thread changes meanwhile.
pub(crate) async fn delete_version(inner: &InMemory, key: &Key, version: &UpdateVersion) -> Result<bool> {
    match inner.head(key).await {
        Ok(found) if found.e_tag != version.e_tag => Ok(false),
        Ok(_) => inner.delete(key).await.map(|()| true),
        Err(Error::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

#[async_trait::async_trait]
impl DeleteVersion for Faulty {
    async fn delete_version(&self, key: &Key, version: &UpdateVersion) -> Result<bool> {
        self.changing(delete_version(&self.inner, key, version)).await
    }

    async fn delete_chunks(&self, _: &Key) -> Result<()> {
        unreachable!("uploads are aborted by their id")
    }
}

/// Turns errors of unknown uploads into those of the real stores.
fn unknown<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| Error::NotFound { path: String::new(), source: Box::new(error) })
}

#[async_trait::async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, key: &Key) -> Result<MultipartId> {
        self.changing(async {
            let id = self.inner.create_multipart(key).await?;
            self.state.lock().unwrap().uploads.open.insert(id.clone());
            Ok(id)
        })
        .await
    }

    async fn put_part(&self, key: &Key, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.changing(self.inner.put_part(key, id, part, data)).await
    }

    async fn complete_multipart(&self, key: &Key, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.changing(async {
            self.end_upload(id, unknown(self.inner.complete_multipart(key, id, parts).await))
        })
        .await
    }

    async fn abort_multipart(&self, key: &Key, id: &MultipartId) -> Result<()> {
        self.changing(async { self.end_upload(id, unknown(self.inner.abort_multipart(key, id).await)) }).await
    }
}
