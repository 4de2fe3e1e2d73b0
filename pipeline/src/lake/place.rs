//! Where a lake is, and the operations that are the same wherever that is.
//!
//! What differs in more than the call, such as how a snapshot is published, matches on [`Place`] by itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{LakeError, io_error, is_missing};
use super::ignored_files::is_ignored_folder;
use super::local;
use super::location::{self, Location};
use super::store::Store;
use crate::environment::Variables;

/// Where a lake is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Below this folder of a local disk.
    Disk(PathBuf),
    /// In an object store.
    Store(Store),
}

impl Place {
    /// Reads a lake's location, and the variables of its store. Sends no request and writes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the location is invalid, if the environment does not lead to its store, and if the path is not a
    /// folder.
    pub(super) fn open(location: &Path, variables: &Variables) -> Result<Self, LakeError> {
        let root = match Location::parse(location, variables)? {
            Location::Disk(root) => root,
            Location::Store(store) => return Ok(Self::Store(store)),
        };
        match fs::metadata(&root) {
            Ok(metadata) if !metadata.is_dir() => Err(location::invalid(location, "not a folder")),
            Err(error) if !is_missing(&error) => Err(io_error("open", &root)(error)),
            _ => Ok(Self::Disk(root)),
        }
    }

    /// See [`super::Lake::with_work_dir`].
    pub(super) fn set_work_dir(&mut self, work_dir: &Path) {
        if let Self::Store(store) = self {
            store.work_dir = work_dir.to_path_buf();
        }
    }

    /// See [`super::Lake::with_upload_bytes`].
    pub(super) fn set_upload_bytes(&mut self, upload_bytes: u64) {
        if let Self::Store(store) = self {
            store.upload_bytes = upload_bytes;
        }
    }

    /// The lake's folder, or its URL.
    pub(crate) fn root(&self) -> &Path {
        match self {
            Self::Disk(root) => root,
            Self::Store(store) => store.root(),
        }
    }

    /// Whether the lake is on a local disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// Lists the names in a folder, sorted; none if it does not exist.
    pub(crate) fn list_names(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        match self {
            Self::Disk(_) => local::list_names(folder),
            Self::Store(store) => store.list_names(folder),
        }
    }

    /// Lists the folders in a folder by name, sorted, without those that are ignored. In a store, every name is
    /// one.
    pub(crate) fn list_folders(&self, folder: &Path) -> Result<Vec<String>, LakeError> {
        let mut names = self.list_names(folder)?;
        if self.is_on_disk() {
            names.retain(|name| {
                !is_ignored_folder(name) && local::is_folder(&folder.join(name)).unwrap_or(true)
            });
        }
        Ok(names)
    }

    /// Lists everything below a folder that is not a folder itself: path from there → size in bytes.
    pub(crate) fn list_files(&self, folder: &Path) -> Result<BTreeMap<String, u64>, LakeError> {
        match self {
            Self::Disk(_) => local::list_files(folder),
            Self::Store(store) => store.list_files(folder),
        }
    }

    /// Whether a folder is at `path`. In a store, that is one with something in it.
    pub(crate) fn is_folder(&self, path: &Path) -> Result<bool, LakeError> {
        match self {
            Self::Disk(_) => local::is_folder(path),
            Self::Store(store) => Ok(!store.list_names(path)?.is_empty()),
        }
    }

    /// Whether something other than a folder is where a folder belongs. In a store, a folder and an object can
    /// have one name.
    pub(crate) fn is_obstructed(&self, path: &Path) -> Result<bool, LakeError> {
        Ok(self.is_on_disk() && local::exists(path)? && !local::is_folder(path)?)
    }

    /// Reads a small file whole; returns nothing if it does not exist.
    pub(crate) fn read_bounded(&self, path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, LakeError> {
        match self {
            Self::Disk(_) => local::read_bounded(path, max_bytes),
            Self::Store(store) => Ok(store.read(path, max_bytes)?.map(|(bytes, _)| bytes)),
        }
    }

    /// Reads small files, with nothing in the place of each that does not exist: from a disk one at a time, as
    /// they are asked for, from a store several at once.
    pub(crate) fn read_all(
        &self,
        paths: Vec<PathBuf>,
        max_bytes: u64,
    ) -> Box<dyn Iterator<Item = Result<Option<Vec<u8>>, LakeError>>> {
        match self {
            Self::Disk(_) => {
                Box::new(paths.into_iter().map(move |path| local::read_bounded(&path, max_bytes)))
            }
            Self::Store(store) => Box::new(store.read_all(&paths, max_bytes).into_iter()),
        }
    }

    /// Opens a file for reading. From a store, it is fetched into an unnamed local file first.
    pub(crate) fn open_file(&self, path: &Path) -> Result<File, LakeError> {
        match self {
            Self::Disk(_) => local::open_file(path),
            Self::Store(store) => store.fetch(path),
        }
    }

    /// Removes a folder if it exists and is empty; a store has no such folders.
    pub(crate) fn remove_empty_folder(&self, path: &Path) -> Result<(), LakeError> {
        match self {
            Self::Disk(_) => local::remove_empty_dir(path),
            Self::Store(_) => Ok(()),
        }
    }
}
