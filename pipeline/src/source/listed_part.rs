//! One part of a listed export, as a driver gives it to a task: where it is in the listing, and where its bytes are. It
//! crosses the wire as a [`PartOnWire`], never by itself: it has a signed URL.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LocalError;
use crate::http::RedactedUrl;

/// One part, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// Position in the listing.
    pub index: u64,
    /// Size, if known: the service lists none.
    pub bytes: Option<u64>,
    /// Where it is.
    pub address: PartAddress,
}

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartAddress {
    /// Behind a signed URL.
    Url(RedactedUrl),
    /// On a disk that the task sees as well.
    File {
        /// Name of the part.
        name: String,
        /// Absolute path.
        path: PathBuf,
        /// Time of the last change, seconds since 1970.
        modified_secs: i64,
    },
}

/// A listed part between the driver and a task, as secret as its URL.
#[derive(Serialize, Deserialize)]
pub struct PartOnWire {
    index: u64,
    bytes: Option<u64>,
    #[serde(flatten)]
    address: AddressOnWire,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AddressOnWire {
    Url(String),
    File { name: String, path: PathBuf, modified_secs: i64 },
}

impl fmt::Debug for PartOnWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartOnWire").field("index", &self.index).finish_non_exhaustive()
    }
}

impl PartOnWire {
    /// Returns the part; `None` if its URL is not one.
    pub fn part(self) -> Option<ListedPart> {
        let Self { index, bytes, address } = self;
        let address = match address {
            AddressOnWire::Url(url) => PartAddress::Url(RedactedUrl::from_wire(&url)?),
            AddressOnWire::File { name, path, modified_secs } => {
                PartAddress::File { name, path, modified_secs }
            }
        };
        Some(ListedPart { index, bytes, address })
    }
}

impl ListedPart {
    /// Returns what another process makes the part of.
    pub fn to_wire(&self) -> PartOnWire {
        let address = match &self.address {
            PartAddress::Url(url) => AddressOnWire::Url(url.to_wire()),
            PartAddress::File { name, path, modified_secs } => {
                AddressOnWire::File { name: name.clone(), path: path.clone(), modified_secs: *modified_secs }
            }
        };
        PartOnWire { index: self.index, bytes: self.bytes, address }
    }

    /// Lists a file that was found.
    pub(super) fn of_file(index: u64, name: &str, path: &Path) -> Result<Self, LocalError> {
        let unreadable = |source| LocalError::Unreadable { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(unreadable)?;
        let modified_secs = metadata.mtime();
        let address = PartAddress::File { name: name.to_owned(), path, modified_secs };
        Ok(Self { index, bytes: Some(metadata.len()), address })
    }
}

/// Checks that a file is still the one that was listed, and returns its size.
pub(super) fn check_file(path: &Path, bytes: Option<u64>, modified_secs: i64) -> Result<u64, LocalError> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| LocalError::NotOnExecutor { path: path.to_owned(), source })?;
    let as_listed = |metadata: &Metadata| (Some(metadata.len()), metadata.mtime()) == (bytes, modified_secs);
    if !as_listed(&metadata) {
        return Err(LocalError::Changed { path: path.to_owned() });
    }
    Ok(metadata.len())
}
