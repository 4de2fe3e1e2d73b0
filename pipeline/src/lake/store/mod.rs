//! A lake in an object store: blocking calls on top of `object_store`.
//!
//! Takes paths that begin with the lake's URL, gives their objects. Retries transient failures of requests that
//! the library sends only once. Its errors contain no secrets: see `explain`.

pub mod connector;
pub(crate) mod delete_version;
mod error;
#[cfg(feature = "query")]
mod ranges;
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
use object_store::azure::MicrosoftAzure;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::delete_version::{DeleteByHead, DeleteVersion};
pub use self::error::StoreError;
pub(super) use self::error::explain;
#[cfg(feature = "query")]
pub(crate) use self::ranges::ObjectRanges;
pub(crate) use self::upload::Upload;
use super::error::{LakeError, io_error, optional};
use super::ignored_files::remove_folder_markers;
use super::lease_times::LeaseTimes;
use super::paths::MAX_MANIFEST_BYTES;
use crate::threads;

/// Small requests in flight, at most.
const REQUESTS_IN_FLIGHT: usize = 16;

/// Attempts at requests that the library sends once, since it cannot know that they are idempotent.
const MAX_ATTEMPTS: u32 = 5;

/// Pause before the second attempt; longer before later ones.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits before the next attempt, except in unit tests.
async fn pause(attempts: u32) {
    if !cfg!(test) {
        tokio::time::sleep(PAUSE * attempts).await;
    }
}

/// Limit of what [`Store::put_confirmed`] reads back: a journal, which holds a manifest and as much for its uploads.
const MAX_CONFIRMED_BYTES: u64 = 2 * MAX_MANIFEST_BYTES;

/// The condition of a write.
#[derive(Debug, Clone)]
pub(crate) enum Put {
    /// The object does not exist.
    Create,
    /// The object has this version.
    Update(UpdateVersion),
}

/// The outcome of a conditional write.
#[derive(Debug)]
pub(crate) enum PutOutcome {
    /// The object is in place, by this request or by an earlier attempt whose response was lost.
    Written(UpdateVersion),
    /// The condition failed; what is in place instead.
    Refused(Option<(Vec<u8>, UpdateVersion)>),
}

/// An object store with a lake in it. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    objects: Objects,
    runtime: Arc<OwnRuntime>,
    /// The lake's URL, which all paths begin with.
    root: PathBuf,
    /// The lake's prefix in the store.
    prefix: Key,
    /// See [`super::Lake::with_work_dir`].
    pub(super) work_dir: PathBuf,
    /// See [`super::Lake::with_upload_bytes`].
    pub(super) upload_bytes: u64,
    /// When leases are renewed and expire.
    pub(super) lease_times: LeaseTimes,
}

/// The library's store, by its interfaces.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) whole: Arc<dyn ObjectStore>,
    pub(crate) multipart: Arc<dyn MultipartStore>,
    pub(crate) delete_version: Arc<dyn DeleteVersion>,
    /// As on Azure: chunks belong to a name and not to an upload, and no request aborts an upload.
    pub(crate) chunks_by_name: bool,
}

impl Objects {
    /// Wraps one of the library's stores, whose connector must be a [`connector::Connector`].
    pub(super) fn of<S: ObjectStore + MultipartStore>(store: S) -> Self {
        let store = Arc::new(store);
        let delete_version = Arc::new(DeleteByHead(store.clone()));
        Self { whole: store.clone(), multipart: store, delete_version, chunks_by_name: false }
    }

    /// The same for Azure.
    pub(super) fn of_azure(store: MicrosoftAzure) -> Self {
        Self { chunks_by_name: true, ..Self::of(store) }
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.whole.fmt(f)
    }
}

/// The threads of a store's requests. Dropping it does not wait for them, since one of them can drop it.
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
    /// Creates a store whose lake has the URL `root` and the prefix `prefix`.
    ///
    /// # Errors
    ///
    /// Fails if threads cannot be started.
    pub(super) fn try_new(root: PathBuf, prefix: Key, objects: Objects) -> io::Result<Self> {
        Ok(Self::new(root, prefix, objects, OwnRuntime::start()?))
    }

    /// Creates a store on an existing runtime.
    fn new(root: PathBuf, prefix: Key, objects: Objects, runtime: Arc<OwnRuntime>) -> Self {
        let work_dir = crate::environment::temp_dir();
        let lease_times = LeaseTimes::from_env();
        Self { objects, runtime, root, prefix, work_dir, upload_bytes: u64::MAX, lease_times }
    }

    /// The lake's URL.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of files on their way to or from the store.
    pub(crate) fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The runtime of its requests.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.0.as_ref().expect("there until dropped").handle()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime().spawn(future)
    }

    /// Returns the object key of `path`.
    pub(crate) fn key(&self, path: &Path) -> Result<Key, LakeError> {
        let unsafe_name = || LakeError::UnsafeName { name: path.to_string_lossy().into_owned() };
        let below = path.strip_prefix(&self.root).ok().and_then(Path::to_str).ok_or_else(unsafe_name)?;
        let whole = [self.prefix.as_ref(), below].join("/");
        Key::parse(whole.trim_matches('/')).map_err(|_| unsafe_name())
    }

    /// Whether chunks are taken after their upload was aborted: see [`Objects::chunks_by_name`].
    pub(crate) fn has_chunks_by_name(&self) -> bool {
        self.objects.chunks_by_name
    }

    /// The library's store.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects.whole
    }

    /// Returns an object key relative to the lake.
    pub(crate) fn below_prefix(&self, key: &str) -> String {
        key.strip_prefix(self.prefix.as_ref()).unwrap_or(key).trim_start_matches('/').to_owned()
    }

    /// Lists the names directly below a folder, sorted. Lists all objects below and not one level, which would
    /// include empty folders of stores with real folders (Azure's hierarchical namespace).
    pub(super) fn list_names(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        let files = self.list_files(folder)?.into_keys();
        let mut names: Vec<_> =
            files.map(|name| name.split('/').next().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Lists every object below a folder, folder markers aside: path from there → size in bytes.
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

    /// Lists the folders directly below one by name, sorted. They can be empty in stores with real folders.
    pub(crate) fn list_folders(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        let key = self.key(folder)?;
        let listed = self.block_on(self.objects.whole.list_with_delimiter(Some(&key)));
        let folders = listed.map_err(store_error("list", folder))?.common_prefixes;
        Ok(folders.iter().filter_map(|folder| Some(folder.filename()?.to_owned())).collect())
    }

    /// Returns the version of an object; nothing if it does not exist.
    pub(crate) fn version(&self, path: &Path) -> Result<Option<UpdateVersion>, LakeError> {
        let key = self.key(path)?;
        let found = self.block_on(self.objects.whole.head(&key)).map_err(store_error("read", path));
        Ok(optional(found)?.map(|found| UpdateVersion { e_tag: found.e_tag, version: found.version }))
    }

    /// Reads a small object and its version; returns nothing if it does not exist.
    pub(crate) fn read(
        &self,
        path: &Path,
        max_bytes: u64,
    ) -> Result<Option<(Vec<u8>, UpdateVersion)>, LakeError> {
        self.block_on(self.read_async(path, max_bytes))
    }

    /// Reads small objects; returns nothing in the place of each that does not exist.
    pub(crate) fn read_all(
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

    /// Fetches an object into an unnamed file, which is deleted when it is closed.
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

    /// Writes a small object; returns its version, or nothing if the condition `put` fails.
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

    /// Writes a small object whose bytes no other run writes, retries transient failures, and reads the object back
    /// to find out whether an attempt without a response succeeded.
    ///
    /// # Errors
    ///
    /// After an error it is unknown whether the object was written, unless the store refused the request.
    pub(crate) fn put_confirmed(
        &self,
        path: &Path,
        bytes: &[u8],
        put: &Put,
    ) -> Result<PutOutcome, LakeError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failure = match self.put(path, bytes.to_vec(), put.clone()) {
                Ok(Some(version)) => return Ok(PutOutcome::Written(version)),
                Ok(None) => None,
                Err(error) if !error.is_transient() || attempts == MAX_ATTEMPTS => return Err(error),
                Err(error) => Some(error),
            };
            // A lost response and a failed condition look alike.
            match (self.read(path, MAX_CONFIRMED_BYTES)?, failure) {
                (Some((found, version)), _) if found == bytes => return Ok(PutOutcome::Written(version)),
                (found, None) => return Ok(PutOutcome::Refused(found)),
                (_, Some(error)) => {
                    tracing::debug!(error = %error, "an object could not be written; trying again");
                    self.block_on(pause(attempts));
                }
            }
        }
    }

    /// Deletes one version of an object. Returns whether the object no longer exists.
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

    /// Deletes an object in any version, if it exists: for names that no other run uses.
    pub(crate) fn delete(&self, path: &Path) -> Result<(), LakeError> {
        self.delete_all(&[path.to_path_buf()])
    }

    /// Deletes objects in any order, if they exist.
    pub(crate) fn delete_all(&self, paths: &[PathBuf]) -> Result<(), LakeError> {
        let keys = paths.iter().map(|path| self.key(path)).collect::<Result<Vec<_>, _>>()?;
        self.block_on(async {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let keys = stream::iter(keys.clone().into_iter().map(Ok)).boxed();
                // Deletes are idempotent: an object that does not exist counts as deleted.
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

/// Creates a folder that only its owner can access.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn store_error(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> LakeError {
    move |error| LakeError::Store { action, path: path.to_path_buf(), source: StoreError::from(&error) }
}
