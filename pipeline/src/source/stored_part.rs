//! A part on its way to whoever decodes it, and its way back where it is damaged: delivery fetches it
//! again, with the patience that is left for it, and the parts that are well are none the worse.
//!
//! The MD5 that the server gave is held against the bytes here, not while they come in: it takes longer
//! than the transfer on a fast line, and decoding has as many threads as there are.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{self, Seek},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use rustix::fs::OFlags;
use tokio::sync::mpsc::UnboundedSender;

use super::download::Effort;
use crate::{
    http::error_chain,
    manifest::Proof,
    spool::{PartWriter, Spooled, for_each_chunk},
};

/// A part at rest. Delivery goes on until every one is dropped or given back.
#[derive(Debug)]
pub struct StoredPart {
    /// Position in the listing.
    pub index: u64,
    /// Unique in the snapshot; never a query.
    pub name: String,
    /// Where the bytes are.
    pub path: PathBuf,
    /// Size.
    pub bytes: u64,
    /// MD5 as the server gave it, base64.
    pub md5: Option<String>,
    /// What shows that it is whole; where it is MD5 or gzip, once it was opened and decoded.
    pub proof: Proof,
    /// Removes the file with it: of what a pipe gave.
    _spooled: Option<PartWriter>,
    /// `None` where a part is not fetched by itself: local files, and pages, which are a chain.
    way_back: Option<WayBack>,
}

/// Why a part cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("cannot be read")]
    Unreadable(#[from] io::Error),
    /// The bytes are not those that the server has: the part is to be given back.
    #[error("Content-MD5 is {expected}, the bytes have {found}")]
    Md5Mismatch {
        /// As announced, base64.
        expected: String,
        /// As computed, base64.
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
            // The downloader and the pages take nothing over that has none.
            proof: facts.proof.unwrap_or(Proof::Length),
            _spooled: None,
            way_back: None,
        }
    }

    pub(super) fn local(index: u64, name: String, path: PathBuf, bytes: u64) -> Self {
        Self { index, name, path, bytes, md5: None, proof: Proof::Local, _spooled: None, way_back: None }
    }

    /// What a pipe named `name` gave, which is in `spooled` now.
    pub(super) fn of_pipe(index: u64, name: String, spooled: PartWriter) -> Self {
        let (path, bytes) = (spooled.path().to_owned(), spooled.bytes());
        Self { _spooled: Some(spooled), ..Self::local(index, name, path, bytes) }
    }

    pub(super) fn with_way_back(self, way_back: WayBack) -> Self {
        Self { way_back: Some(way_back), ..self }
    }

    /// Opens the part, once all of it was held against the MD5 that the server gave: what is damaged is
    /// known before its first row is.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(&self) -> Result<File, OpenError> {
        // A file that became a pipe meanwhile must not be waited for: it is empty then.
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

    /// Gives a damaged part back, to be fetched and delivered again. Says whether that will be tried:
    /// not for a part without a way back, nor once delivery has ended.
    pub fn give_back(self, damage: &(dyn Error + 'static)) -> bool {
        let Some(WayBack { index, sender, effort, delivered_at }) = self.way_back else { return false };
        let damage =
            Damage { reason: error_chain(damage), bytes: self.bytes, waited: delivered_at.elapsed() };
        let returned = ReturnedPart { index, damage, effort, sender: sender.clone() };
        sender.send(returned).is_ok()
    }
}

/// How a part gets back to delivery.
#[derive(Debug)]
pub(super) struct WayBack {
    pub index: usize,
    /// Needs no bound: each part goes back at most once before it is delivered again. Closed once no
    /// part is out, which is how delivery knows that all were taken.
    pub sender: UnboundedSender<ReturnedPart>,
    /// Spent on the part so far.
    pub effort: Effort,
    pub delivered_at: Instant,
}

/// A damaged part that came back.
#[derive(Debug)]
pub(super) struct ReturnedPart {
    pub index: usize,
    pub damage: Damage,
    pub effort: Effort,
    pub sender: UnboundedSender<ReturnedPart>,
}

/// What is wrong with a part that was whole.
#[derive(Debug)]
pub(super) struct Damage {
    pub reason: String,
    /// Size of the part.
    pub bytes: u64,
    /// Time for which the part waited to be looked at.
    pub waited: Duration,
}

fn md5(file: &mut File) -> io::Result<String> {
    let mut md5 = Md5::new();
    for_each_chunk(file, |chunk| md5.update(chunk))?;
    Ok(BASE64_STANDARD.encode(md5.finalize()))
}
