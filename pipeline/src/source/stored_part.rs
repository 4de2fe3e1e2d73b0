//! A part at rest on the local disk, ready to be decoded. The decoder may reject a damaged one: delivery then
//! downloads it again within its remaining retry budget, and other parts are unaffected.
//!
//! The server's MD5 is compared here and not during the download: on a fast line hashing takes longer than the
//! transfer, and decoding has as many threads as the machine.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{self, Seek},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use rustix::fs::OFlags;

use super::redelivery::ReturnHandle;
use crate::manifest::{PartFacts, Proof};
use crate::spool::{PartWriter, Spooled, for_each_chunk};

/// A part at rest. Delivery continues until every part is dropped or rejected.
#[derive(Debug)]
pub struct StoredPart {
    /// Position in the listing.
    pub index: u64,
    /// Unique in the snapshot. Never contains a query.
    pub name: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Size.
    pub bytes: u64,
    /// The server's MD5, base64.
    pub md5: Option<String>,
    /// What proves that it is complete. MD5 and gzip prove it only once it was opened and decoded.
    pub proof: Proof,
    /// For a pipe: removes the file when dropped.
    _spooled: Option<PartWriter>,
    /// `None` for parts that cannot be downloaded by themselves: local files, and pages, which are a chain.
    return_handle: Option<ReturnHandle>,
}

/// Why a part cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("cannot be read")]
    Unreadable(#[from] io::Error),
    /// The bytes differ from the server's: the part is to be rejected.
    #[error("MD5 mismatch: expected {expected}, found {found}")]
    Md5Mismatch {
        /// The announced MD5, base64.
        expected: String,
        /// The computed MD5, base64.
        found: String,
    },
}

impl StoredPart {
    pub(super) fn new(index: u64, spooled: Spooled) -> Self {
        let Spooled { path, facts } = spooled;
        Self {
            index,
            name: facts.name,
            path,
            bytes: facts.bytes,
            md5: facts.server_md5,
            // Downloads and pages reuse no part without a proof.
            proof: facts.proof.unwrap_or(Proof::Length),
            _spooled: None,
            return_handle: None,
        }
    }

    pub(super) fn local(index: u64, name: String, path: PathBuf, bytes: u64) -> Self {
        Self { index, name, path, bytes, md5: None, proof: Proof::Local, _spooled: None, return_handle: None }
    }

    /// The contents of the pipe `name`, which are in `spooled`.
    pub(super) fn of_pipe(index: u64, name: String, spooled: PartWriter) -> Self {
        let (path, bytes) = (spooled.path().to_owned(), spooled.bytes());
        Self { _spooled: Some(spooled), ..Self::local(index, name, path, bytes) }
    }

    pub(super) fn with_return_handle(self, return_handle: ReturnHandle) -> Self {
        Self { return_handle: Some(return_handle), ..self }
    }

    /// Returns what a manifest has of it before it is decoded.
    pub fn facts(&self) -> PartFacts {
        PartFacts {
            name: self.name.clone(),
            bytes: self.bytes,
            md5: self.md5.clone(),
            proof: Some(self.proof),
            ..PartFacts::default()
        }
    }

    /// Checks the whole part against the server's MD5, then opens it: damage is found before the first row is
    /// decoded.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(&self) -> Result<File, OpenError> {
        // Must not block on a file that became a pipe meanwhile, which reads as empty.
        let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut file = OpenOptions::new().read(true).custom_flags(nonblock).open(&self.path)?;
        let Some(expected) = &self.md5 else { return Ok(file) };
        let found = md5(&mut file)?;
        if *expected != found {
            return Err(OpenError::Md5Mismatch { expected: expected.clone(), found });
        }
        file.rewind()?;
        Ok(file)
    }

    /// Rejects a damaged part, to be downloaded and delivered again. Returns false if that will not happen:
    /// for local files and pages, and once delivery has ended.
    pub fn reject(self, damage: &(dyn Error + 'static)) -> bool {
        self.return_handle.is_some_and(|handle| handle.reject(self.bytes, damage))
    }
}

fn md5(file: &mut File) -> io::Result<String> {
    let mut md5 = Md5::new();
    for_each_chunk(file, |chunk| md5.update(chunk))?;
    Ok(BASE64_STANDARD.encode(md5.finalize()))
}
