//! A lake in an object store: blocking calls for the rest of the program, above the library's own.
//!
//! Takes paths that begin with the lake's URL, gives their objects. Sends again what fails in passing, as
//! the library does. What it says of errors holds no secret: see [`explain`].

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use self::delete_version::{ByHead, DeleteVersion};
use super::clutter::remove_folder_markers;
use super::http::UntrustedStore;
use super::lease::LeaseTimes;
use super::{LakeError, local};
use crate::auth::AuthError;
use crate::exit_code::ExitCode;
use crate::http::CertificateProblem;
use crate::http::secret::quotable;
use crate::redact::place;
use crate::threads;

/// Bytes of a part of an upload: all stores take at least 5 MiB, and all parts but the last alike.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one upload, at most: S3 takes no more.
const MAX_PARTS: u64 = 10_000;

/// Parts in flight, at most: more are no faster. By then row groups are written and gone.
const MAX_PARTS_IN_FLIGHT: u64 = 8;

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
const MAX_SETTLED_BYTES: u64 = 2 * super::MAX_MANIFEST_BYTES;

/// How often a transfer looks whether it was told to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// What a store said, fit to be shown.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StoreError {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Missing,
    NotAuthorised,
    Unsupported,
    Untrusted(CertificateProblem),
    /// The store or the line to it failed for now. A closed list: see [`is_transient`].
    Transient,
    /// What the store will say again.
    Refused,
}

impl From<&object_store::Error> for StoreError {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error::{
            NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated,
        };
        let kind = match error {
            NotFound { .. } => Kind::Missing,
            error if let Some(problem) = untrusted(error) => Kind::Untrusted(problem),
            // The authority could not be asked: that says nothing about us.
            Unauthenticated { source, .. }
                if source
                    .downcast_ref::<AuthError>()
                    .is_some_and(|err| err.exit_code() == ExitCode::Source) =>
            {
                Kind::Transient
            }
            PermissionDenied { .. } | Unauthenticated { .. } => Kind::NotAuthorised,
            NotImplemented { .. } | NotSupported { .. } => Kind::Unsupported,
            // Of a listing and of what it asks for credentials the library keeps the status in words only.
            error => match error.to_string().split_once(STATUS_MARK).map(|(_, status)| status.get(..3)) {
                Some(Some("404")) => Kind::Missing,
                Some(Some("401" | "403")) => Kind::NotAuthorised,
                Some(Some(status)) if TRANSIENT_STATUSES.contains(&status) => Kind::Transient,
                None if is_transient(error) => Kind::Transient,
                _ => Kind::Refused,
            },
        };
        Self { kind, text: explain(error) }
    }
}

impl StoreError {
    pub(super) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    pub(super) fn is_not_authorised(&self) -> bool {
        self.kind == Kind::NotAuthorised
    }

    pub(super) fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// Whether the store will say the same again, and not for want of rights.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Missing | Kind::Refused)
    }

    pub(super) fn hint(&self) -> &'static str {
        match self.kind {
            Kind::Missing => "make the container or bucket first, and check its name in --lake",
            Kind::NotAuthorised => {
                "check the store's credentials in the environment, and that they may read, write, list and delete there"
            }
            Kind::Unsupported => "choose a store with conditional writes for --lake",
            Kind::Untrusted(problem) => problem.hint(),
            Kind::Transient => "check the store's name and the network, and run again",
            Kind::Refused => {
                "check that --lake and the environment name the right store, and see what it says"
            }
        }
    }
}

/// Why the certificate of a store, or of the authority that signs in to it, is not one to trust.
fn untrusted(error: &object_store::Error) -> Option<CertificateProblem> {
    let mut causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    causes.find_map(|error| {
        match (error.downcast_ref::<UntrustedStore>(), error.downcast_ref::<AuthError>()) {
            (Some(store), _) => Some(store.problem),
            (_, Some(AuthError::Untrusted { problem, .. })) => Some(*problem),
            _ => None,
        }
    })
}

/// What stands before the status of an answer, in the library's words.
const STATUS_MARK: &str = "status code: ";

/// Answers of a store that is busy or not well, and may be again.
const TRANSIENT_STATUSES: [&str; 6] = ["408", "429", "500", "502", "503", "504"];

/// The same as codes in the body of an answer that began well, as S3 gives them.
const TRANSIENT_CODES: [&str; 4] = ["InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"];

/// Whether no answer came, or one without a status that says that the store is busy.
fn is_transient(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() != HttpErrorKind::Unknown;
        }
        source = error.source();
    }
    let text = error.to_string();
    TRANSIENT_CODES.iter().any(|code| text.contains(&format!("<Code>{code}</Code>")))
}

/// What the library says, in one line and without its frames around a request: of a service's XML its code
/// and message, of URLs no query.
pub(super) fn explain(error: &object_store::Error) -> String {
    if let object_store::Error::Unauthenticated { source, .. } = error
        && let Some(token_error) = source.downcast_ref::<AuthError>()
    {
        return token_error.to_string();
    }
    let text = error.to_string().replace('\n', " ");
    let text = text.rsplit("Error performing ").next().unwrap_or_default();
    let between = |start: &str, end: &str| {
        let rest = text.split_once(start)?.1;
        Some(rest.split_once(end)?.0)
    };
    let mut shown = text.split('<').next().unwrap_or_default().trim_end_matches([' ', '\u{feff}']).to_owned();
    if let Some(code) = between("<Code>", "</Code>") {
        let message = between("<Message>", "</Message>").unwrap_or_default();
        let message = message.split(" RequestId:").next().unwrap_or_default();
        shown = format!("{shown} {code}: {message}");
    }
    let words = shown.split(' ').map(|word| if word.contains("://") { place(word) } else { word.into() });
    quotable(&words.collect::<Vec<_>>().join(" "))
}

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

/// A file on its way into the store, invisible until completed.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Where it will be.
    pub path: PathBuf,
    /// How the store calls it.
    pub id: String,
    /// How the store calls its parts, once they are there.
    pub parts: Vec<String>,
    /// Size of the whole.
    pub bytes: u64,
    /// Digest of the whole, if other runs use the same name: then an object there proves nothing.
    pub sha256: Option<String>,
}

/// Why an upload was not completed.
#[derive(Debug)]
pub(crate) struct IncompleteError {
    pub error: LakeError,
    /// Whether the store does not have the upload any more, so that no one can complete it.
    pub is_gone: bool,
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
    /// One of the library's stores, whose connector is [`super::http::Connector`].
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
        Ok(super::optional(found)?.map(|found| UpdateVersion { e_tag: found.e_tag, version: found.version }))
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
        let Some(got) = super::optional(got)? else { return Ok(None) };
        if got.meta.size > max_bytes {
            return Err(local::io_error("read", path)(io::ErrorKind::FileTooLarge.into()));
        }
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(store_error("read", path))?;
        Ok(Some((bytes.into(), version)))
    }

    /// Fetches an object into a file without a name, which goes when it is closed.
    pub(super) fn fetch(&self, path: &Path) -> Result<File, LakeError> {
        let key = self.key(path)?;
        let number = getrandom::u64().map_err(io::Error::other);
        let scratch =
            self.work_dir.join(format!("fetched-{:016x}", number.map_err(local::io_error("name", path))?));
        let make = || {
            private_folder(&self.work_dir)?;
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&scratch)?;
            std::fs::remove_file(&scratch)?;
            Ok(file)
        };
        let mut file = make().map_err(local::io_error("create", &scratch))?;
        self.block_on(async {
            let got = self.objects.whole.get(&key).await.map_err(store_error("read", path))?;
            let mut bytes = got.into_stream();
            while let Some(some) = bytes.try_next().await.map_err(store_error("read", path))? {
                file.write_all(&some).map_err(local::io_error("write", &scratch))?;
            }
            Ok(())
        })?;
        file.rewind().map_err(local::io_error("read", &scratch))?;
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

    /// Carries out requests, several at a time.
    fn each<T>(
        &self,
        requests: impl Iterator<Item = impl Future<Output = Result<T, LakeError>>>,
    ) -> Result<Vec<T>, LakeError> {
        self.block_on(stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).try_collect())
    }

    // ---- Uploads ----

    /// Begins an upload for each of `files`, a path and its size.
    pub(crate) fn begin(&self, files: Vec<(PathBuf, u64)>) -> Result<Vec<Upload>, LakeError> {
        self.each(files.into_iter().map(|(path, bytes)| async move {
            let id = self.objects.multipart.create_multipart(&self.key(&path)?).await;
            let id = id.map_err(store_error("begin", &path))?;
            Ok(Upload { path, id, parts: Vec::new(), bytes, sha256: None })
        }))
    }

    /// Sends all parts of `uploads`, each from its file in `sources`. `on_bytes` is told the bytes that are
    /// through and all bytes, part by part.
    pub(crate) fn send(
        &self,
        uploads: &mut [Upload],
        sources: &[File],
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), LakeError> {
        let total_bytes = uploads.iter().map(|upload| upload.bytes).sum();
        let mut done_bytes = 0;
        on_bytes(done_bytes, total_bytes);
        let mut parts = Vec::new();
        for (index, upload) in uploads.iter_mut().enumerate() {
            let part_bytes = part_bytes(upload.bytes);
            let num_parts = upload.bytes.div_ceil(part_bytes).max(1);
            upload.parts = vec![String::new(); usize::try_from(num_parts).unwrap_or(usize::MAX)];
            parts.extend((0..num_parts).map(|part| (index, part, part * part_bytes)));
        }
        let shared: &[Upload] = uploads;
        let sent = parts.into_iter().map(|(index, part, start)| async move {
            let (upload, source) = (&shared[index], &sources[index]);
            let num_bytes = part_bytes(upload.bytes).min(upload.bytes - start);
            let source = source.try_clone().map_err(local::io_error("read", &upload.path))?;
            let id = self.send_part(upload, source, part, start, num_bytes).await?;
            Ok::<_, LakeError>((index, part, num_bytes, id))
        });
        let largest = shared.iter().map(|upload| part_bytes(upload.bytes)).max().unwrap_or(PART_BYTES);
        let num_in_flight = (self.upload_bytes / largest).clamp(1, MAX_PARTS_IN_FLIGHT);
        let num_in_flight = usize::try_from(num_in_flight).expect("a handful");
        let mut done = Vec::new();
        self.block_on(async {
            let mut sent = std::pin::pin!(stream::iter(sent).buffer_unordered(num_in_flight));
            let mut ticks = tokio::time::interval(CANCEL_POLL);
            loop {
                tokio::select! {
                    part = sent.next() => match part.transpose()? {
                        Some((index, part, num_bytes, id)) => {
                            done_bytes += num_bytes;
                            on_bytes(done_bytes, total_bytes);
                            done.push((index, part, id));
                        }
                        None => return Ok(()),
                    },
                    _ = ticks.tick() => if cancelled() {
                        return Err(LakeError::Cancelled { path: self.root.clone() });
                    },
                }
            }
        })?;
        for (index, part, id) in done {
            uploads[index].parts[usize::try_from(part).expect("an index of the list")] = id;
        }
        Ok(())
    }

    async fn send_part(
        &self,
        upload: &Upload,
        source: File,
        part: u64,
        start: u64,
        num_bytes: u64,
    ) -> Result<String, LakeError> {
        let read = move || {
            let mut bytes = vec![0; usize::try_from(num_bytes).map_err(io::Error::other)?];
            source.read_exact_at(&mut bytes, start)?;
            Ok(Bytes::from(bytes))
        };
        let read =
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let bytes = read.map_err(local::io_error("read what is staged for", &upload.path))?;
        let key = self.key(&upload.path)?;
        let index = usize::try_from(part).expect("below the most of an upload");
        let sent = self.objects.multipart.put_part(&key, &upload.id, index, bytes.into()).await;
        Ok(sent.map_err(store_error("write", &upload.path))?.content_id)
    }

    /// Makes whole files of uploads, and visible; all that can be. One that is there by an earlier attempt is
    /// well.
    pub(crate) fn complete(&self, uploads: &[Upload]) -> Result<(), IncompleteError> {
        let requests = uploads.iter().map(|upload| self.complete_one(upload));
        let results: Vec<_> = self.block_on(stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).collect());
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        let is_gone = failed.iter().any(|failure: &IncompleteError| failure.is_gone);
        match failed.into_iter().max_by_key(|failure| failure.is_gone) {
            Some(failure) => Err(IncompleteError { is_gone, ..failure }),
            None => Ok(()),
        }
    }

    async fn complete_one(&self, upload: &Upload) -> Result<(), IncompleteError> {
        let failed = |error| IncompleteError { error, is_gone: false };
        let key = self.key(&upload.path).map_err(failed)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let parts = upload.parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
            let completed = self.objects.multipart.complete_multipart(&key, &upload.id, parts).await;
            let Err(error) = completed.map_err(store_error("complete", &upload.path)) else { return Ok(()) };
            if error.is_transient() && attempts < MAX_ATTEMPTS {
                pause(attempts).await;
                continue;
            }
            // No such upload any more, each store in its words: an answer was lost, or it was a run before.
            return match self.is_whole(&key, upload).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(IncompleteError { is_gone: error.is_refused(), error }),
                Err(_) => Err(failed(error)),
            };
        }
    }

    /// Whether an upload's object is in its place.
    async fn is_whole(&self, key: &Key, upload: &Upload) -> object_store::Result<bool> {
        match self.objects.whole.head(key).await {
            Ok(found) if found.size == upload.bytes => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some(sha256) = &upload.sha256 else { return Ok(true) };
        let mut digest = Sha256::new();
        let mut bytes = self.objects.whole.get(key).await?.into_stream();
        while let Some(some) = bytes.try_next().await? {
            digest.update(&some);
        }
        Ok(crate::commit::hex(&digest.finalize()) == *sha256)
    }

    /// Gives uploads up. What the store cannot drop by itself it drops in time, and shows to nobody.
    pub(crate) fn abort(&self, uploads: &[Upload]) -> Result<(), LakeError> {
        self.each(uploads.iter().map(|upload| async move {
            let key = self.key(&upload.path)?;
            let aborted = self.objects.multipart.abort_multipart(&key, &upload.id).await;
            // Completed or given up before, in the words of each store.
            match aborted.map_err(store_error("give up", &upload.path)) {
                Err(error) if error.is_transient() => Err(error),
                _ => Ok(()),
            }
        }))
        .map(|_| ())
    }
}

/// All parts of an upload have this size, but the last.
fn part_bytes(bytes: u64) -> u64 {
    PART_BYTES.max(bytes.div_ceil(MAX_PARTS))
}

pub(crate) mod delete_version;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod simulation;

/// Makes a folder that only its owner can look into.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn store_error(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> LakeError {
    move |error| LakeError::Store { action, path: path.to_path_buf(), source: StoreError::from(&error) }
}

#[cfg(test)]
mod tests {
    use super::faulty::Faulty;
    use super::*;
    use crate::lake::Place;

    #[test]
    fn upload_of_several_parts_is_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let faulty = Faulty::new();
        let lake = faulty.lake(temp.path(), LeaseTimes::IMPATIENT);
        let Place::Store(store) = &lake.place else { panic!("it is one") };
        let bytes: Vec<u8> = (0..251).cycle().take(usize::try_from(2 * PART_BYTES + 1).unwrap()).collect();
        std::fs::write(temp.path().join("staged"), &bytes).unwrap();
        let source = File::open(temp.path().join("staged")).unwrap();
        let path = store.root().join("table/file");
        let mut uploads = store.begin(vec![(path.clone(), bytes.len() as u64)]).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        store
            .send(&mut uploads, &[source], &|done, total| told.borrow_mut().push((done, total)), &|| false)
            .unwrap();
        assert_eq!(uploads[0].parts.len(), 3);
        assert_eq!(told.borrow().len(), 4);
        assert_eq!(told.borrow().last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
        assert!(faulty.picture().is_empty(), "nobody sees it");
        store.complete(&uploads).unwrap();
        assert!(faulty.picture()["some/lake/table/file"] == bytes);
        store.complete(&uploads).unwrap();
        let mut fetched = Vec::new();
        io::Read::read_to_end(&mut store.fetch(&path).unwrap(), &mut fetched).unwrap();
        assert!(fetched == bytes);
        assert_eq!(local::list_names(temp.path()).unwrap(), ["staged"], "what was fetched has no name");
    }

    #[test]
    fn large_files_have_larger_parts() {
        assert_eq!(part_bytes(0), PART_BYTES);
        assert_eq!(part_bytes(PART_BYTES * MAX_PARTS), PART_BYTES);
        let terabyte = 1 << 40;
        assert!(part_bytes(terabyte) * MAX_PARTS >= terabyte);
        assert!(terabyte.div_ceil(part_bytes(terabyte)) <= MAX_PARTS);
    }

    #[test]
    fn errors_are_one_line_without_secrets() {
        let check = |text: &str, expected: &str, kind: Kind| {
            let error = object_store::Error::Generic { store: "S3", source: text.into() };
            let error = StoreError::from(&error);
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind, kind);
        };
        check(
            "Error performing GET https://a.blob.core.windows.net/c?sv=1&sig=SECRET in 1s - Server returned \
             non-2xx status code: 403 Forbidden: \u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code>\
             <Message>Server failed to authenticate the request. RequestId:1\nTime:2</Message>\
             <AuthenticationErrorDetail>sig=SECRET</AuthenticationErrorDetail></Error>",
            "GET https://a.blob.core.windows.net/c in 1s - Server returned non-2xx status code: 403 Forbidden: \
             AuthenticationFailed: Server failed to authenticate the request.",
            Kind::NotAuthorised,
        );
        check("status code: 404 Not Found", "Generic S3 error: status code: 404 Not Found", Kind::Missing);
        check("the line is dead", "Generic S3 error: the line is dead", Kind::Refused);
        for (status, kind) in [
            ("400 Bad Request", Kind::Refused),
            ("405 Method Not Allowed", Kind::Refused),
            ("409 Conflict", Kind::Refused),
            ("501 Not Implemented", Kind::Refused),
            ("505 HTTP Version Not Supported", Kind::Refused),
            ("408 Request Timeout", Kind::Transient),
            ("429 Too Many Requests", Kind::Transient),
            ("500 Internal Server Error", Kind::Transient),
            ("502 Bad Gateway", Kind::Transient),
            ("503 Service Unavailable", Kind::Transient),
            ("504 Gateway Timeout", Kind::Transient),
        ] {
            let text = format!("Server returned non-2xx status code: {status}: ");
            check(&text, &format!("Generic S3 error: {}", text.trim_end()), kind);
        }
    }
}
