//! Finds the files of an export: takes the patterns of `--from`, returns the files sorted by path and the
//! snapshot that their paths name.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use rustix::fs::OFlags;

use super::LocalError;
use super::error::{not_regular, unreadable};
use super::expand::expand;
use crate::manifest::{GeneratedTimeFrom, Route};
use crate::snapshot::PartKey;
use crate::source::Export;
use crate::source::skip_token::time_of_folders;

/// A file or pipe that was found.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub name: String,
    pub path: PathBuf,
    /// Size in bytes; `None` for a pipe.
    pub bytes: Option<u64>,
}

/// The export that the files make up.
#[derive(Debug)]
pub(super) struct FoundExport {
    pub files: Vec<FoundFile>,
    generated_time: DateTime<Utc>,
    generated_time_from: GeneratedTimeFrom,
}

impl FoundExport {
    pub(super) fn export(&self) -> Export {
        Export {
            route: Route::Local,
            generated_time: self.generated_time,
            generated_time_from: self.generated_time_from,
            num_parts: Some(self.files.len() as u64),
            num_bytes: self.files.iter().map(|file| file.bytes).sum(),
        }
    }
}

pub(super) fn find(
    patterns: &[String],
    generated_time: Option<DateTime<Utc>>,
) -> Result<FoundExport, LocalError> {
    let (mut paths, mut ignored) = (Vec::new(), BTreeSet::new());
    for pattern in patterns {
        let num_before = paths.len();
        let mut ignored_here = BTreeSet::new();
        expand(pattern, &mut paths, &mut ignored_here)?;
        if paths.len() == num_before {
            let Some(example) = ignored_here.first() else {
                return Err(LocalError::NoMatch { pattern: pattern.clone() });
            };
            return Err(LocalError::AllIgnored {
                pattern: pattern.clone(),
                num_ignored: ignored_here.len(),
                example: example.clone(),
            });
        }
        ignored.append(&mut ignored_here);
    }
    if paths.is_empty() {
        return Err(LocalError::NoMatch { pattern: String::new() });
    }
    if let Some(example) = ignored.first() {
        tracing::info!(
            num_ignored = ignored.len(),
            example = %example.display(),
            "ignored names that begin with `_` or `.`, and the records of a spool"
        );
    }
    paths.sort();

    let mut seen = HashSet::new();
    let mut parts: HashMap<PartKey, PathBuf> = HashMap::new();
    let mut files = Vec::new();
    let mut time: Option<(PathBuf, DateTime<Utc>)> = None;
    for path in paths {
        let (identity, bytes) = look_at(&path)?;
        if generated_time.is_none() {
            let in_canonical = || match &identity {
                Identity::Path(canonical) => time_of_path(canonical),
                Identity::Pipe { .. } => None,
            };
            let found = time_of_path(&path).or_else(in_canonical);
            let found = found.ok_or_else(|| LocalError::NoTime { path: path.clone() })?;
            match &time {
                None => time = Some((path.clone(), found)),
                Some((first, first_time)) if *first_time != found => {
                    return Err(LocalError::TwoSnapshots {
                        first: first.clone(),
                        first_time: *first_time,
                        second: path,
                        second_time: found,
                    });
                }
                Some(_) => {}
            }
        }
        if !seen.insert(identity) {
            continue;
        }
        let name = path.to_str().ok_or_else(|| LocalError::NotUtf8 { path: path.clone() })?.to_owned();
        if let Some(first) = parts.insert(PartKey::of(&name), path.clone()) {
            return Err(LocalError::OnePartTwice { first, second: path });
        }
        files.push(FoundFile { name, path, bytes });
    }

    let (generated_time, generated_time_from) = match (generated_time, time) {
        (Some(time), _) => (time, GeneratedTimeFrom::Option),
        (None, Some((_, time))) => (time, GeneratedTimeFrom::Path),
        (None, None) => unreachable!("there is at least one path, and each had a time"),
    };
    Ok(FoundExport { files, generated_time, generated_time_from })
}

/// Identity of what a path leads to: two paths with the same identity are one part.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    Path(PathBuf),
    Pipe { device: u64, inode: u64 },
}

/// Returns the identity of what is at `path`, and its size if it is a regular file.
fn look_at(path: &Path) -> Result<(Identity, Option<u64>), LocalError> {
    let metadata = fs::metadata(path).map_err(unreadable(path))?;
    if metadata.file_type().is_fifo() {
        return Ok((Identity::Pipe { device: metadata.dev(), inode: metadata.ino() }, None));
    }
    if !metadata.is_file() {
        return Err(not_regular(path, &metadata));
    }
    // Opened to fail now rather than when half of the parts are decoded.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let metadata = file.and_then(|file| file.metadata()).map_err(unreadable(path))?;
    // A file that was removed while open (`/dev/fd/3`) has no canonical path.
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok((Identity::Path(canonical), Some(metadata.len())))
}

/// Returns the time in the last `YYYY-MM-DD/HHMM` of the path: the layout of the service's own storage, under
/// any prefix (pipeline/docs/service.md#paths-of-parts).
pub(super) fn time_of_path(path: &Path) -> Option<DateTime<Utc>> {
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap_or("")).collect();
    let at = |start: usize| {
        // What follows the date there is not a time (pipeline/docs/service.md#paths-of-parts).
        let is_opaque = start > 0 && names[start - 1] == "flat-va";
        if is_opaque { None } else { time_of_folders(names[start], names[start + 1]) }
    };
    (1..names.len()).rev().find_map(|end| at(end - 1))
}
