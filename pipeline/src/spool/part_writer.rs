//! A part that is coming in: takes its bytes, gives it to the spool once it is whole. Hashes what it
//! writes, so that nobody has to read it again for that.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::{PartialFacts, Spool, SpoolError, Spooled, SpooledFacts, dataset_dir};

/// Bytes gathered before a write: large enough that handing them to the disk's thread is cheap.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Begins to write a part whose snapshot is not known before it is read: the first page of the JSON
/// route. [`PartWriter::finish`] moves it into its spool.
///
/// # Errors
///
/// Where the file cannot be made.
pub async fn begin_unnamed(work_dir: &Path, dataset: &str) -> Result<PartWriter, SpoolError> {
    let parent = dataset_dir(work_dir, dataset)?;
    let number = getrandom::u64().map_err(|err| SpoolError {
        action: "name a file in",
        path: parent.clone(),
        source: io::Error::other(err),
    })?;
    let mut writer = PartWriter::create(parent.join(format!("incoming-{number:016x}.partial"))).await?;
    // What nobody holds any more is swept; where the system has no locks, nothing is.
    let lock =
        fs::File::open(&writer.path).and_then(|file| file.try_lock().map(|()| file).map_err(Into::into));
    writer.lock = lock.ok();
    Ok(writer)
}

/// A part that is coming in. Removed when dropped unfinished, unless it was noted of which blob it is.
#[derive(Debug)]
pub struct PartWriter {
    pub(super) path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    md5: Md5,
    bytes: u64,
    is_noted: bool,
    is_finished: bool,
    /// Tells other runs that this one is alive; its drop is its use.
    lock: Option<fs::File>,
}

impl PartWriter {
    pub(super) async fn create(path: PathBuf) -> Result<Self, SpoolError> {
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).await.map_err(SpoolError::new("create", &path))?;
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        Ok(Self { path, file, md5: Md5::new(), bytes: 0, is_noted: false, is_finished: false, lock: None })
    }

    /// Opens what an earlier run left at `path`, to go on at its end; `None` where there is nothing.
    pub(super) async fn reopen(path: PathBuf) -> Result<Option<Self>, SpoolError> {
        let hashed = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
                let (md5, bytes) = hash(&mut file)?;
                Ok::<_, io::Error>((file, md5, bytes))
            }
        });
        let hashed = hashed.await.map_err(io::Error::other).flatten();
        match hashed {
            Ok((_, _, 0)) => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(SpoolError::new("read", path)(err)),
            Ok((file, md5, bytes)) => {
                let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, tokio::fs::File::from_std(file));
                Ok(Some(Self { path, file, md5, bytes, is_noted: true, is_finished: false, lock: None }))
            }
        }
    }

    /// Notes of which blob the bytes are, so that a later run can go on with them.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    pub async fn note(&mut self, facts: &PartialFacts) -> Result<(), SpoolError> {
        let path = self.note_path();
        let text =
            serde_json::to_vec(facts).map_err(io::Error::from).map_err(SpoolError::new("write", &path))?;
        tokio::fs::write(&path, text).await.map_err(SpoolError::new("write", &path))?;
        self.is_noted = true;
        Ok(())
    }

    fn note_path(&self) -> PathBuf {
        // `3f9c.part.partial` → `3f9c.partial.json`
        self.path.with_extension("").with_extension("partial.json")
    }

    /// Appends.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all(chunk).await.map_err(SpoolError::new("write", &self.path))?;
        self.md5.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Hands everything written so far to the disk.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    pub async fn flush(&mut self) -> Result<(), SpoolError> {
        self.file.flush().await.map_err(SpoolError::new("write", &self.path))
    }

    /// Begins anew, from nothing.
    ///
    /// # Errors
    ///
    /// Where the file cannot be emptied.
    pub async fn restart(&mut self) -> Result<(), SpoolError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let emptied = async {
            self.file.flush().await?;
            self.file.get_ref().set_len(0).await?;
            self.file.rewind().await
        };
        emptied.await.map_err(SpoolError::new("empty", &self.path))?;
        self.forget_note();
        self.md5 = Md5::new();
        self.bytes = 0;
        Ok(())
    }

    fn forget_note(&mut self) {
        if std::mem::take(&mut self.is_noted) {
            // One that stays is of no harm: the server would refuse what it says.
            let _ = fs::remove_file(self.note_path());
        }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// MD5 of the bytes written so far, base64.
    pub fn md5(&self) -> String {
        BASE64_STANDARD.encode(self.md5.clone().finalize())
    }

    /// Puts the whole part into `spool`. Size and MD5 of `facts` are filled in here.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it.
    pub async fn finish(mut self, spool: &Spool, facts: SpooledFacts) -> Result<Spooled, SpoolError> {
        self.file.flush().await.map_err(SpoolError::new("write", &self.path))?;
        let facts = SpooledFacts { bytes: self.bytes, written_md5: self.md5(), ..facts };
        let (path, facts_path) = (spool.part_path(&facts.name), spool.facts_path(&facts.name));
        // First the old facts go, so that they never stand beside other bytes.
        match fs::remove_file(&facts_path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::new("remove", facts_path)(err));
            }
            _ => {}
        }
        fs::rename(&self.path, &path).map_err(SpoolError::new("rename", &self.path))?;
        self.is_finished = true;
        self.forget_note();
        let facts_partial = facts_path.with_extension("json.partial");
        let text = serde_json::to_vec(&facts).map_err(io::Error::from);
        text.and_then(|text| fs::write(&facts_partial, text))
            .map_err(SpoolError::new("write", &facts_partial))?;
        fs::rename(&facts_partial, &facts_path).map_err(SpoolError::new("rename", &facts_partial))?;
        spool.inner.bytes.fetch_add(facts.bytes, Ordering::Relaxed);
        Ok(Spooled { path, facts })
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if !self.is_finished && !self.is_noted {
            // What cannot be removed is truncated by the next run; there is nobody to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// MD5 and size of what is left of `file`, which is at its end then.
pub(super) fn hash(file: &mut fs::File) -> io::Result<(Md5, u64)> {
    let mut md5 = Md5::new();
    let mut buffer = vec![0; WRITE_BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match io::Read::read(file, &mut buffer)? {
            0 => return Ok((md5, bytes)),
            n => {
                md5.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}
