//! The parts of a listed export, for tasks that each read some of them: takes them from the driver's [`Source`], and gives
//! a task's own.
//!
//! A task never lists. It downloads from the URLs that it was given until storage refuses them, and reads a file only if
//! that is still the one that the driver saw.

use std::path::Path;

use super::config::DownloadBounds;
use super::listed_part::{ListedPart, PartAddress, check_file};
use super::{FilesExport, LocalFiles, Source, SourceError};
use crate::snapshot::SnapshotId;
use crate::spool::Spool;

impl Source {
    /// Returns every part of the export, in the order of the listing; `None` for pages, of which only the next is known.
    ///
    /// # Errors
    ///
    /// A local file that is gone.
    pub fn parts(&self) -> Result<Option<Vec<ListedPart>>, SourceError> {
        match self {
            Self::Files(files) => {
                let part = |(index, url)| ListedPart { index, bytes: None, address: PartAddress::Url(url) };
                Ok(Some(files.urls().map(part).collect()))
            }
            Self::Json(_) => Ok(None),
            Self::Local(files) => Ok(Some(files.parts()?)),
        }
    }

    /// Lists the export again, for new URLs: one call. Does nothing for local files.
    ///
    /// # Errors
    ///
    /// Fails if the export cannot be listed, or is of another snapshot by now.
    pub async fn list_again(&self) -> Result<(), SourceError> {
        match self {
            Self::Files(files) => files.list_again().await,
            Self::Json(_) | Self::Local(_) => Ok(()),
        }
    }

    /// Returns the source of a task, which reads these parts and no others. What it downloads goes into `work_dir`.
    ///
    /// # Errors
    ///
    /// A file that is not the one that was listed, and a work dir that cannot be used.
    pub async fn of_parts(
        parts: Vec<ListedPart>,
        bounds: DownloadBounds,
        work_dir: &Path,
        dataset: &'static str,
        snapshot: SnapshotId,
    ) -> Result<Self, SourceError> {
        let (mut urls, mut files) = (Vec::new(), Vec::new());
        for ListedPart { index, bytes, address } in parts {
            match address {
                PartAddress::Url(url) => urls.push((index, url)),
                PartAddress::File { name, path, modified_secs } => {
                    files.push((index, name, check_file(&path, bytes, modified_secs)?, path));
                }
            }
        }
        if urls.is_empty() {
            return Ok(Self::Local(LocalFiles::of_files(files)));
        }
        let spool = Spool::open(work_dir, dataset, snapshot).await?;
        Ok(Self::Files(FilesExport::of_parts(bounds, snapshot.generated_time(), urls, spool)?))
    }
}
