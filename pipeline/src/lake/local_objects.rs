//! A folder of a local disk as an object store: an object appears whole, and [`PutMode::Create`] replaces none.
//!
//! Reads are those of `object_store`. It creates an object by a hard link, which some file systems do not support:
//! exFAT, SMB, and FUSE (blobfuse, Databricks volumes). Here an object is written to a temporary file in the same
//! folder first, and gets its name in the first of these ways that the file system supports:
//!
//! | way | another writer's object of that name | what a reader can see |
//! |---|---|---|
//! | [`Way::Link`] | stays | nothing, or the whole object |
//! | [`Way::RenameNoReplace`] | stays | nothing, or the whole object |
//! | [`Way::Reserve`] | stays, unless that writer replaces files unconditionally | nothing, an empty file, or the whole object |
//!
//! The last way creates an empty file of that name, which fails if there is one, and renames over it. So that no
//! object is ever incomplete, [`ObjectStore::list`] omits empty files, and [`remove_unfinished`], under the table
//! lock, removes those of killed runs. Other readers treat an empty commit of a Delta log as one without changes.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::{LakeError, io_error};
use super::local;

/// Suffix of temporary files.
const UNFINISHED: &str = ".defender-lake.tmp";

/// How a complete file gets its name if no other file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A hard link.
    Link,
    /// A rename with `RENAME_NOREPLACE`.
    RenameNoReplace,
    /// An empty file of that name, which is then replaced by a rename.
    Reserve,
}

/// The strongest way comes first.
const WAYS: &[Way] = &[Way::Link, Way::RenameNoReplace, Way::Reserve];

/// The folder of a table as an object store.
#[derive(Debug)]
pub(crate) struct LocalObjects {
    files: LocalFileSystem,
    ways: &'static [Way],
}

impl LocalObjects {
    /// Opens a folder.
    ///
    /// # Errors
    ///
    /// Fails if the folder does not exist.
    pub(crate) fn open(root: &Path) -> object_store::Result<Self> {
        Self::with_ways(root, WAYS)
    }

    /// Opens a folder of a file system that supports only these ways.
    pub(crate) fn with_ways(root: &Path, ways: &'static [Way]) -> object_store::Result<Self> {
        Ok(Self { files: LocalFileSystem::new_with_prefix(root)?, ways })
    }

    /// Writes an object; returns false if `mode` forbids to replace an existing one.
    fn put(&self, place: &Path, payload: &PutPayload, mode: &PutMode) -> Result<bool, LakeError> {
        let folder = local::parent(place);
        if local::create_dir(folder)? {
            local::sync_dir(local::parent(folder))?;
        }
        let unfinished = unfinished_name(place)?;
        let created = write_unfinished(&unfinished, payload).and_then(|()| match mode {
            PutMode::Create => create(&unfinished, place, self.ways),
            _ => local::rename(&unfinished, place).map(|()| true),
        });
        // Best effort: an error is ignored, the next run cleans up.
        let _ = local::remove_file(&unfinished);
        let created = created?;
        local::sync_dir(folder)?;
        Ok(created)
    }
}

fn unfinished_name(place: &Path) -> Result<PathBuf, LakeError> {
    let number = getrandom::u64().map_err(|error| io_error("name", place)(io::Error::other(error)))?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    Ok(place.with_file_name(format!(".{name}.{number:016x}{UNFINISHED}")))
}

fn write_unfinished(path: &Path, payload: &PutPayload) -> Result<(), LakeError> {
    let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    local::write_new(path, &bytes)
}

/// Gives a complete file the name `place`, in the first of `ways` that the file system supports. Returns false if
/// another file has the name.
fn create(unfinished: &Path, place: &Path, ways: &[Way]) -> Result<bool, LakeError> {
    let mut made = Err(io_error("create", place)(io::ErrorKind::Unsupported.into()));
    for way in ways {
        made = match way {
            Way::Link => create_unless_exists("create", place, || fs::hard_link(unfinished, place)),
            Way::RenameNoReplace => create_unless_exists("create", place, || {
                Ok(renameat_with(CWD, unfinished, CWD, place, RenameFlags::NOREPLACE)?)
            }),
            Way::Reserve => reserve(unfinished, place),
        };
        match &made {
            Err(LakeError::Io { source, .. }) if is_unsupported(source) => {}
            _ => break,
        }
    }
    made
}

fn create_unless_exists(
    action: &'static str,
    place: &Path,
    operation: impl FnOnce() -> io::Result<()>,
) -> Result<bool, LakeError> {
    local::change(action, place, || match operation() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    })
}

fn reserve(unfinished: &Path, place: &Path) -> Result<bool, LakeError> {
    let is_ours = create_unless_exists("create", place, || {
        OpenOptions::new().write(true).create_new(true).open(place).map(drop)
    })?;
    if is_ours && let Err(error) = local::rename(unfinished, place) {
        // Best effort: an error is ignored, the next run cleans up.
        let _ = local::remove_file(place);
        return Err(error);
    }
    Ok(is_ours)
}

/// Whether an error means that the file system does not support the operation.
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // Hard links: not permitted on exFAT and SMB, not implemented by FUSE programs. Renames with flags: an invalid
    // argument to those that do not know them.
    const ERRORS: [Errno; 6] =
        [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::MLINK];
    error.kind() == io::ErrorKind::Unsupported
        || Errno::from_io_error(error).is_some_and(|errno| ERRORS.contains(&errno))
}

/// Removes what killed runs have left in `folder`: temporary files, and an empty last object. The caller must hold
/// the table lock.
///
/// # Errors
///
/// Fails if the folder cannot be listed or a file not be removed.
pub(crate) fn remove_unfinished(folder: &Path, is_object: impl Fn(&str) -> bool) -> Result<(), LakeError> {
    let names = local::list_names(folder)?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        local::remove_file(&folder.join(name))?;
    }
    if let Some(last) = names.iter().rfind(|name| is_object(name)) {
        let path = folder.join(last);
        let metadata = fs::symlink_metadata(&path).map_err(io_error("read", &path))?;
        if metadata.is_file() && metadata.len() == 0 {
            local::remove_file(&path)?;
        }
    }
    Ok(())
}

impl fmt::Display for LocalObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for LocalObjects {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let place = self.files.path_to_filesystem(location)?;
        match self.put(&place, &payload, &options.mode) {
            Ok(true) => Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() }),
            Ok(false) => Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: io::Error::from(io::ErrorKind::AlreadyExists).into(),
            }),
            Err(error) => Err(object_store::Error::Generic { store: "LocalObjects", source: error.into() }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.files.list(prefix).try_filter(|object| ready(object.size > 0)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object_store::ObjectStoreExt;

    use super::*;
    use crate::lake::local::faults::{self, Fault};

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = local::list_names(folder).unwrap();
        names.into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
    }

    async fn put(store: &LocalObjects, text: &'static str, mode: PutMode) -> object_store::Result<()> {
        store.put_opts(&Key::from("log/1"), PutPayload::from(text), mode.into()).await.map(drop)
    }

    #[tokio::test]
    async fn every_way_creates_objects_and_replaces_none() {
        for ways in [&[Way::Link][..], &[Way::RenameNoReplace], &[Way::Reserve], WAYS] {
            let temp = tempfile::tempdir().unwrap();
            let store = LocalObjects::with_ways(temp.path(), ways).unwrap();
            put(&store, "first", PutMode::Create).await.unwrap();
            let error = put(&store, "second", PutMode::Create).await.unwrap_err();
            assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{ways:?}: {error}");
            let log = temp.path().join("log");
            assert_eq!(files(&log), BTreeMap::from([("1".to_owned(), b"first".to_vec())]), "{ways:?}");
            put(&store, "third", PutMode::Overwrite).await.unwrap();
            assert_eq!(files(&log), BTreeMap::from([("1".to_owned(), b"third".to_vec())]), "{ways:?}");
        }
    }

    #[test]
    fn failed_change_leaves_no_incomplete_object() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for ways in [&[Way::Link][..], &[Way::RenameNoReplace], &[Way::Reserve], &[]] {
            for is_crash in [false, true] {
                for step in 0.. {
                    let temp = tempfile::tempdir().unwrap();
                    let log = temp.path().join("log");
                    let store = LocalObjects::with_ways(temp.path(), ways).unwrap();
                    faults::set(Fault::at(step, is_crash));
                    let result = runtime.block_on(put(&store, "whole", PutMode::Create));
                    let num_changes = faults::clear();
                    let seen: Vec<_> = runtime.block_on(store.list(None).try_collect()).unwrap();
                    let objects: Vec<_> =
                        seen.iter().filter(|one| one.location.as_ref() == "log/1").collect();
                    assert!(objects.iter().all(|object| object.size == 5), "{ways:?} {step}");
                    assert!(result.is_err() || objects.len() == 1);
                    remove_unfinished(&log, |name| name == "1").unwrap();
                    let left: Vec<_> = local::list_names(&log).unwrap();
                    assert_eq!(left, vec!["1"; objects.len()], "{ways:?} {step}");
                    if num_changes <= step {
                        assert_eq!(result.is_err(), ways.is_empty());
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn unsupported_operations_are_told_from_failures() {
        let is_unsupported_code = |code| is_unsupported(&io::Error::from_raw_os_error(code));
        // EPERM, EINVAL, ENOSYS, EOPNOTSUPP.
        assert!([1, 22, 38, 95].into_iter().all(is_unsupported_code));
        // EIO, EEXIST, ENOSPC, EROFS, ENOLCK, ESTALE, EDQUOT.
        assert!(![5, 17, 28, 30, 37, 116, 122].into_iter().any(is_unsupported_code));
    }

    #[tokio::test]
    async fn empty_objects_are_not_listed() {
        let temp = tempfile::tempdir().unwrap();
        let store = LocalObjects::open(temp.path()).unwrap();
        put(&store, "x", PutMode::Create).await.unwrap();
        fs::write(temp.path().join("log/2"), "").unwrap();
        let found: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(store.get(&Key::from("log/1")).await.unwrap().bytes().await.unwrap(), "x");
    }
}
