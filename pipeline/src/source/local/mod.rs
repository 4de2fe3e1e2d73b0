//! Parts that are already on this machine, for replay and backfill. Files are read in place; a pipe is read once,
//! into the work dir, before the run does anything else.
//!
//! Spark, Data Factory and `azcopy` leave `_SUCCESS`, `_committed_…` and hidden files beside the data, and a spool
//! has records of its own. In folders and globs these are ignored, as Spark ignores them, and logged. A file that is
//! named itself is always used.

mod error;
mod find;
mod expand;
mod pipe;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use tokio::sync::mpsc::Sender;

pub use self::error::LocalError;
use self::find::{FoundFile, find};
pub use self::pipe::read_small_file;
use self::pipe::spool_pipe;
use super::{Export, FetchProgress, ListedPart, SourceError, StoredPart};
use crate::spool::PartWriter;

/// The files of one export.
#[derive(Debug)]
pub struct LocalFiles {
    files: Vec<StoredPart>,
}

impl LocalFiles {
    /// Finds the files, sorted by path, each once even if several patterns match it, and reads the pipes among
    /// them into `work_dir`. Without `work_dir` pipes are not read, and there are no files to deliver.
    pub(super) async fn list(
        patterns: Vec<String>,
        generated_time: Option<DateTime<Utc>>,
        dataset: &'static str,
        work_dir: Option<&Path>,
    ) -> Result<(Export, Option<Self>), SourceError> {
        let found = tokio::task::spawn_blocking(move || find(&patterns, generated_time)).await??;
        let mut export = found.export();
        let Some(work_dir) = work_dir else { return Ok((export, None)) };
        let mut pipes = read_pipes(&found.files, work_dir, dataset).await?;
        let file = |(index, FoundFile { name, path, bytes }): (usize, FoundFile)| match pipes.remove(&index) {
            Some(spooled) => StoredPart::of_pipe(index as u64, name, spooled),
            None => StoredPart::local(index as u64, name, path, bytes.unwrap_or(0)),
        };
        let files: Vec<_> = found.files.into_iter().enumerate().map(file).collect();
        export.num_bytes = Some(files.iter().map(|file| file.bytes).sum());
        Ok((export, Some(Self { files })))
    }

    /// Finds the files, sorted by path, each once even if several patterns match it, to be read in place.
    ///
    /// # Errors
    ///
    /// As [`Sources::open`](super::Sources::open), and if one is a pipe.
    pub fn find(
        patterns: &[String],
        generated_time: Option<DateTime<Utc>>,
    ) -> Result<(Export, Self), LocalError> {
        let found = find(patterns, generated_time)?;
        let export = found.export();
        let file = |(index, FoundFile { name, path, bytes }): (usize, FoundFile)| match bytes {
            Some(bytes) => Ok(StoredPart::local(index as u64, name, path, bytes)),
            None => Err(LocalError::Pipe { path }),
        };
        let files = found.files.into_iter().enumerate().map(file).collect::<Result<_, _>>()?;
        Ok((export, Self { files }))
    }

    /// Returns the files as parts. They may be read as often as wanted.
    pub fn to_parts(&self) -> Vec<StoredPart> {
        let part = |file: &StoredPart| {
            StoredPart::local(file.index, file.name.clone(), file.path.clone(), file.bytes)
        };
        self.files.iter().map(part).collect()
    }

    /// Takes files that a driver has found: position in the listing, name, size and path of each.
    pub(super) fn of_files(files: Vec<(u64, String, u64, PathBuf)>) -> Self {
        let file = |(index, name, bytes, path)| StoredPart::local(index, name, path, bytes);
        Self { files: files.into_iter().map(file).collect() }
    }

    /// Returns the files as they are now, and where a task finds them.
    pub(super) fn parts(&self) -> Result<Vec<ListedPart>, LocalError> {
        let part = |file: &StoredPart| ListedPart::of_file(file.index, &file.name, &file.path);
        self.files.iter().map(part).collect()
    }

    pub(super) async fn deliver(
        self,
        sender: Sender<StoredPart>,
        progress: &FetchProgress,
    ) -> Result<(), SourceError> {
        for file in self.files {
            let bytes = file.bytes;
            if sender.send(file).await.is_err() {
                break;
            }
            progress.add_bytes(bytes);
            progress.add_part();
        }
        Ok(())
    }
}

/// Reads all pipes concurrently: a writer of several may fill them in any order.
async fn read_pipes(
    files: &[FoundFile],
    work_dir: &Path,
    dataset: &'static str,
) -> Result<HashMap<usize, PartWriter>, SourceError> {
    let pipes = files.iter().enumerate().filter(|(_, file)| file.bytes.is_none());
    let read = try_join_all(pipes.map(async |(index, pipe)| {
        Ok::<_, SourceError>((index, spool_pipe(&pipe.path, work_dir, dataset).await?))
    }));
    Ok(read.await?.into_iter().collect())
}
