//! A lake in an object store: blocking calls for the rest of the program, above the library's own.
//!
//! Takes paths that begin with the lake's URL, gives their objects. Sends again what fails in passing, as
//! the library does. What it says of errors holds no secret: see [`explain`].

pub mod connector;
pub(crate) mod delete_version;
mod error;
mod upload;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod simulation;

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::delete_version::{ByHead, DeleteVersion};
pub use self::error::StoreError;
pub(super) use self::error::explain;
pub(crate) use self::upload::Upload;
use super::error::{LakeError, io_error, optional};
use super::ignored_files::remove_folder_markers;
use super::lease_times::LeaseTimes;
use super::paths::MAX_MANIFEST_BYTES;
use crate::threads;

/// Requests in flight that carry no bytes to speak of.
const REQUESTS_IN_FLIGHT: usize = 16;

/// Attempts at what the library sends once, as it cannot know that a second time does no harm.
const MAX_ATTEMPTS: u32 = 5;

/// Between the first two of them; longer between later ones.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits before the next attempt; stores in memory are not waited for.
async fn pause(attempts: u32) {
    if !cfg!(test) {
        tokio::time::sleep(PAUSE * attempts).await;
    }
}

/// What [`Store::put_settled`] reads back: a manifest at the most, and a journal twice that.
const MAX_SETTLED_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// How an object is written.
#[derive(Debug, Clone)]
pub(crate) enum Put {
    /// Where there is none.
    Create,
    /// In place of this version and no other.
    Update(UpdateVersion),
}

/// Whether an object was written that only one of several may have written.
#[derive(Debug)]
pub(crate) enum Settled {
    /// It is in place, by this call or by one whose answer was lost.
    Done(UpdateVersion),
    /// It is not, and another object is in its place, or none.
    Refused(Option<(Vec<u8>, UpdateVersion)>),
}

/// An object store with a lake in it. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    objects: Objects,
    runtime: Arc<OwnRuntime>,
    /// The lake's URL, which all paths begin with.
    root: PathBuf,
    /// The lake's place in the store.
    prefix: Key,
    /// See [`super::Lake::with_work_dir`].
    pub(super) work_dir: PathBuf,
    /// See [`super::Lake::with_upload_bytes`].
    pub(super) upload_bytes: u64,
    /// How runs take turns.
    pub(super) lease_times: LeaseTimes,
}

/// The library's store, by each of the ways to ask it.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) whole: Arc<dyn ObjectStore>,
    pub(crate) multipart: Arc<dyn MultipartStore>,
    pub(crate) delete_version: Arc<dyn DeleteVersion>,
}

impl Objects {
    /// One of the library's stores, whose connector is [`self::connector::Connector`].
    pub(super) fn of<S: ObjectStore + MultipartStore>(store: S) -> Self {
        let store = Arc::new(store);
        let delete_version = Arc::new(ByHead(store.clone()));
        Self { whole: store.clone(), multipart: store, delete_version }
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.whole.fmt(f)
    }
}

/// The threads of a store's requests. Their end waits for nobody: it can come from one of them.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn start() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(Some(threads::start_runtime("lake", 2)?))))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store {
    /// A store whose lake has the URL `root` and lies below `prefix`.
    ///
    /// # Errors
    ///
    /// Where the system gives no threads.
    pub(super) fn try_new(root: PathBuf, prefix: Key, objects: Objects) -> io::Result<Self> {
        Ok(Self::new(root, prefix, objects, OwnRuntime::start()?))
    }

    /// The same on a runtime that is there.
    fn new(root: PathBuf, prefix: Key, objects: Objects, runtime: Arc<OwnRuntime>) -> Self {
        let work_dir = crate::environment::temp_dir();
        let lease_times = LeaseTimes::from_env();
        Self { objects, runtime, root, prefix, work_dir, upload_bytes: u64::MAX, lease_times }
    }

    /// The lake's URL.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where files wait on their way.
    pub(crate) fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The threads that its requests run on.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.0.as_ref().expect("there until dropped").handle()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime().spawn(future)
    }

    /// Where `path` is in the library's words.
    pub(crate) fn key(&self, path: &Path) -> Result<Key, LakeError> {
        let unsafe_name = || LakeError::UnsafeName { name: path.to_string_lossy().into_owned() };
        let below = path.strip_prefix(&self.root).ok().and_then(Path::to_str).ok_or_else(unsafe_name)?;
        let whole = [self.prefix.as_ref(), below].join("/");
        Key::parse(whole.trim_matches('/')).map_err(|_| unsafe_name())
    }

    /// The library's store.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects.whole
    }

    /// A place in the library's words, as it is below the lake's.
    pub(crate) fn below_prefix(&self, key: &str) -> String {
        key.strip_prefix(self.prefix.as_ref()).unwrap_or(key).trim_start_matches('/').to_owned()
    }

    /// The names directly below a folder, sorted. By all objects below, not by a listing of one level: where
    /// folders are kept as such (Azure's hierarchical namespace) that has those that are empty by now.
    pub(super) fn list_names(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        let files = self.list_files(folder)?.into_keys();
        let mut names: Vec<_> =
            files.map(|name| name.split('/').next().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Every object below a folder, but for markers of folders: path from there → size in bytes.
    pub(super) fn list_files(&self, folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
        let key = self.key(folder)?;
        let objects = self.block_on(self.objects.whole.list(Some(&key)).try_collect::<Vec<_>>());
        let prefix = format!("{key}/");
        let files = objects.map_err(store_error("list", folder))?.into_iter().filter_map(|object| {
            let name = object.location.as_ref().strip_prefix(&prefix)?.to_owned();
            Some((name, object.size))
        });
        let mut files = files.collect();
        remove_folder_markers(&mut files);
        Ok(files)
    }

    /// The names of the folders directly below one, sorted. Where folders are kept as such they may be empty.
    pub(crate) fn list_folders(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        let key = self.key(folder)?;
        let listed = self.block_on(self.objects.whole.list_with_delimiter(Some(&key)));
        let folders = listed.map_err(store_error("list", folder))?.common_prefixes;
        Ok(folders.iter().filter_map(|folder| Some(folder.filename()?.to_owned())).collect())
    }

    /// The version of an object; nothing if there is none.
    pub(crate) fn version(&self, path: &Path) -> Result<Option<UpdateVersion>, LakeError> {
        let key = self.key(path)?;
        let found = self.block_on(self.objects.whole.head(&key)).map_err(store_error("read", path));
        Ok(optional(found)?.map(|found| UpdateVersion { e_tag: found.e_tag, version: found.version }))
    }

    /// Reads a small object and its version; nothing where there is none.
    pub(crate) fn read(
        &self,
        path: &Path,
        max_bytes: u64,
    ) -> Result<Option<(Vec<u8>, UpdateVersion)>, LakeError> {
        self.block_on(self.read_async(path, max_bytes))
    }

    /// Reads small objects; nothing in the place of each that is not there.
    pub(super) fn read_all(
        &self,
        paths: &[PathBuf],
        max_bytes: u64,
    ) -> Vec<Result<Option<Vec<u8>>, LakeError>> {
        let reads = paths
            .iter()
            .map(|path| async move { Ok(self.read_async(path, max_bytes).await?.map(|(bytes, _)| bytes)) });
        self.block_on(stream::iter(reads).buffered(REQUESTS_IN_FLIGHT).collect())
    }

    pub(super) async fn read_async(
        &self,
        path: &Path,
        max_bytes: u64,
    ) -> Result<Option<(Vec<u8>, UpdateVersion)>, LakeError> {
        let key = self.key(path)?;
        let got = self.objects.whole.get(&key).await.map_err(store_error("read", path));
        let Some(got) = optional(got)? else { return Ok(None) };
        if got.meta.size > max_bytes {
            return Err(io_error("read", path)(io::ErrorKind::FileTooLarge.into()));
        }
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(store_error("read", path))?;
        Ok(Some((bytes.into(), version)))
    }

    /// Fetches an object into a file without a name, which goes when it is closed.
    pub(super) fn fetch(&self, path: &Path) -> Result<File, LakeError> {
        let key = self.key(path)?;
        let number = getrandom::u64().map_err(io::Error::other);
        let scratch = self.work_dir.join(format!("fetched-{:016x}", number.map_err(io_error("name", path))?));
        let make = || {
            private_folder(&self.work_dir)?;
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&scratch)?;
            std::fs::remove_file(&scratch)?;
            Ok(file)
        };
        let mut file = make().map_err(io_error("create", &scratch))?;
        self.block_on(async {
            let got = self.objects.whole.get(&key).await.map_err(store_error("read", path))?;
            let mut bytes = got.into_stream();
            while let Some(some) = bytes.try_next().await.map_err(store_error("read", path))? {
                file.write_all(&some).map_err(io_error("write", &scratch))?;
            }
            Ok(())
        })?;
        file.rewind().map_err(io_error("read", &scratch))?;
        Ok(file)
    }

    /// Writes a small object; returns its version, or nothing where `put` forbids it.
    pub(crate) fn put(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        put: Put,
    ) -> Result<Option<UpdateVersion>, LakeError> {
        self.block_on(self.put_async(path, bytes, put))
    }

    pub(super) async fn put_async(
        &self,
        path: &Path,
        bytes: Vec<u8>,
        put: Put,
    ) -> Result<Option<UpdateVersion>, LakeError> {
        use object_store::Error::{AlreadyExists, NotFound, Precondition};
        let key = self.key(path)?;
        let (action, mode, is_update) = match put {
            Put::Create => ("create", PutMode::Create, false),
            Put::Update(version) => ("update", PutMode::Update(version), true),
        };
        match self.objects.whole.put_opts(&key, PutPayload::from(bytes), mode.into()).await {
            Ok(result) => Ok(Some(result.into())),
            Err(AlreadyExists { .. } | Precondition { .. }) => Ok(None),
            Err(NotFound { .. }) if is_update => Ok(None),
            Err(error) => Err(store_error(action, path)(error)),
        }
    }

    /// Writes a small object whose bytes no other run writes, and finds out whether it is in place where an
    /// answer was lost. `put` says what may be replaced.
    ///
    /// # Errors
    ///
    /// Whether it is in place is unknown then, unless the store refused the request.
    pub(crate) fn put_settled(&self, path: &Path, bytes: &[u8], put: &Put) -> Result<Settled, LakeError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.put(path, bytes.to_vec(), put.clone()) {
                Ok(Some(version)) => return Ok(Settled::Done(version)),
                Ok(None) => None,
                Err(error) if !error.is_transient() || attempts == MAX_ATTEMPTS => return Err(error),
                Err(error) => Some(error),
            };
            // An answer that was lost, and an attempt that another one was ahead of, look alike.
            match (self.read(path, MAX_SETTLED_BYTES)?, failure) {
                (Some((found, version)), _) if found == bytes => return Ok(Settled::Done(version)),
                (found, None) => return Ok(Settled::Refused(found)),
                (_, Some(error)) => {
                    tracing::debug!(error = %error, "an object could not be written; trying again");
                    self.block_on(pause(attempts));
                }
            }
        }
    }

    /// Removes a version of an object, and no other. Says whether the object is gone.
    pub(crate) fn delete_version(&self, path: &Path, version: &UpdateVersion) -> Result<bool, LakeError> {
        self.block_on(self.delete_version_async(path, version))
    }

    pub(super) async fn delete_version_async(
        &self,
        path: &Path,
        version: &UpdateVersion,
    ) -> Result<bool, LakeError> {
        let key = self.key(path)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let deleted = self.objects.delete_version.delete_version(&key, version).await;
            match deleted.map_err(store_error("remove", path)) {
                Err(error) if error.is_transient() && attempts < MAX_ATTEMPTS => {
                    pause(attempts).await;
                }
                deleted => return deleted,
            }
        }
    }

    /// Removes an object if it is there, whoever wrote it: for names that no other run uses.
    pub(crate) fn delete(&self, path: &Path) -> Result<(), LakeError> {
        self.delete_all(&[path.to_path_buf()])
    }

    /// Removes objects that may be there, in no order.
    pub(crate) fn delete_all(&self, paths: &[PathBuf]) -> Result<(), LakeError> {
        let keys = paths.iter().map(|path| self.key(path)).collect::<Result<Vec<_>, _>>()?;
        self.block_on(async {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let keys = stream::iter(keys.clone().into_iter().map(Ok)).boxed();
                // What is gone stays gone, and what is not there need not go.
                let removed =
                    self.objects.whole.delete_stream(keys).filter_map(async |removed| match removed {
                        Err(object_store::Error::NotFound { .. }) | Ok(_) => None,
                        Err(error) => Some(error),
                    });
                let Some(error) = std::pin::pin!(removed).next().await else { return Ok(()) };
                let path = paths.first().map_or(self.root.as_path(), PathBuf::as_path);
                let error = store_error("remove", path)(error);
                if attempts == MAX_ATTEMPTS || !error.is_transient() {
                    return Err(error);
                }
                pause(attempts).await;
            }
        })
    }
}

/// Makes a folder that only its owner can look into.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn store_error(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> LakeError {
    move |error| LakeError::Store { action, path: path.to_path_buf(), source: StoreError::from(&error) }
}
