//! Which files an export consists of: takes the patterns of `--from`, gives the files in order and the
//! snapshot that their paths name.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use rustix::fs::OFlags;

use super::{
    LocalError,
    error::{not_regular, unreadable},
    expand::expand,
};
use crate::{
    manifest::{GeneratedTimeFrom, Route},
    snapshot::PartKey,
    source::{Export, skip_token::time_of_folders},
};

/// A file before it is read.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub name: String,
    pub path: PathBuf,
    /// Size; `None` of a pipe.
    pub bytes: Option<u64>,
}

/// What files say together of the export that they are.
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
    let (mut paths, mut passed_over) = (Vec::new(), BTreeSet::new());
    for pattern in patterns {
        let num_before = paths.len();
        let mut passed_over_here = BTreeSet::new();
        expand(pattern, &mut paths, &mut passed_over_here)?;
        if paths.len() == num_before {
            let Some(example) = passed_over_here.first() else {
                return Err(LocalError::NoMatch { pattern: pattern.clone() });
            };
            return Err(LocalError::AllPassedOver {
                pattern: pattern.clone(),
                num_passed_over: passed_over_here.len(),
                example: example.clone(),
            });
        }
        passed_over.append(&mut passed_over_here);
    }
    if paths.is_empty() {
        return Err(LocalError::NoMatch { pattern: String::new() });
    }
    if let Some(example) = passed_over.first() {
        tracing::info!(
            num_passed_over = passed_over.len(),
            example = %example.display(),
            "passed over what is not taken for parts: names that begin with `_` or `.`, and a spool's own records"
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

/// What makes two paths one part.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    Path(PathBuf),
    Pipe { device: u64, inode: u64 },
}

/// Returns what is at `path`, and its size if it is a file.
fn look_at(path: &Path) -> Result<(Identity, Option<u64>), LocalError> {
    let metadata = fs::metadata(path).map_err(unreadable(path))?;
    if metadata.file_type().is_fifo() {
        return Ok((Identity::Pipe { device: metadata.dev(), inode: metadata.ino() }, None));
    }
    if !metadata.is_file() {
        return Err(not_regular(path, &metadata));
    }
    // Opened, not only looked at: better now than when half of the others are decoded.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let metadata = file.and_then(|file| file.metadata()).map_err(unreadable(path))?;
    // One that was removed while it is open (`/dev/fd/3`) has no path but the given one.
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok((Identity::Path(canonical), Some(metadata.len())))
}

/// The time in the last `YYYY-MM-DD/HHMM` of the path: the layout of the service's own storage, under
/// any prefix (pipeline/docs/service.md#paths-of-parts).
pub(super) fn time_of_path(path: &Path) -> Option<DateTime<Utc>> {
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap_or("")).collect();
    names.windows(2).rev().find_map(|pair| time_of_folders(pair[0], pair[1]))
}
