//! Expands a pattern of `--from` into paths, without hidden files and the records of a spool.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::LocalError;
use super::error::{not_regular, unreadable};

/// Adds the paths that `pattern` matches. An existing path is used literally, even with a `[` in its name;
/// anything else is a glob.
pub(super) fn expand(
    pattern: &str,
    paths: &mut Vec<PathBuf>,
    ignored: &mut BTreeSet<PathBuf>,
) -> Result<(), LocalError> {
    let path = Path::new(pattern);
    match fs::metadata(path) {
        Ok(_) => return walk(path, paths, ignored),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(unreadable(path)(err)),
    }
    let bad_pattern = |source| LocalError::BadPattern { pattern: pattern.to_owned(), source };
    let rules = GlobRules::of(path);
    for entry in glob::glob(pattern).map_err(bad_pattern)? {
        let path = entry.map_err(|err| {
            let path = err.path().to_owned();
            unreadable(&path)(err.into())
        })?;
        match rules.judge(&path) {
            Match::Back => {}
            Match::Hidden(top) => drop(ignored.insert(top)),
            Match::Taken if is_record_of_spool(&path)? => drop(ignored.insert(path)),
            Match::Taken => walk(&path, paths, ignored)?,
        }
    }
    Ok(())
}

/// Decides which of a glob's matches are ignored.
struct GlobRules {
    /// The literal folders at the start of the glob.
    named: PathBuf,
    /// Its components that begin with `_` or `.`: hidden names that match one are wanted.
    asked: Vec<glob::Pattern>,
    /// Whether the glob itself has a `/./`.
    has_dots: bool,
}

/// Result of [`GlobRules::judge`].
enum Match {
    Taken,
    /// The outermost hidden component of its path.
    Hidden(PathBuf),
    /// `.` or `..`, which `.*` matches too: what is there is matched by itself or not wanted.
    Back,
}

impl GlobRules {
    fn of(pattern: &Path) -> Self {
        let is_literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let named = pattern.components().take_while(is_literal).collect();
        let asked = pattern.components().skip_while(is_literal).filter_map(|part| {
            let part = part.as_os_str().to_str()?;
            if part.starts_with(['_', '.']) { glob::Pattern::new(part).ok() } else { None }
        });
        Self { named, asked: asked.collect(), has_dots: pattern.to_string_lossy().contains("/./") }
    }

    fn judge(&self, path: &Path) -> Match {
        // The library omits a leading `./`.
        let without_dot = self.named.strip_prefix(".").unwrap_or(&self.named);
        let below = path.strip_prefix(&self.named).or_else(|_| path.strip_prefix(without_dot));
        let below = below.unwrap_or(path);
        let is_ignored = |part: &Path| {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            is_hidden(&name) && !self.asked.iter().any(|asked| asked.matches(&name))
        };
        let text = path.to_string_lossy();
        let is_here = text.ends_with("/.") || (text.contains("/./") && !self.has_dots);
        if is_here || below.components().any(|part| part == Component::ParentDir) {
            return Match::Back;
        }
        let tops: Vec<_> = path.ancestors().take(below.components().count()).collect();
        match tops.into_iter().rev().find(|top| is_ignored(top)) {
            Some(top) => Match::Hidden(top.to_owned()),
            None => Match::Taken,
        }
    }
}

/// Returns whether Spark ignores the name in a folder: names that begin with `.`, names that begin with `_` unless
/// they are partitions (`_RbacGroupId=4`), and unfinished copies of Hadoop.
fn is_hidden(name: &str) -> bool {
    let is_partition = || name.contains('=') || name.contains("%3D") || name.contains("%3d");
    name.starts_with('.') || (name.starts_with('_') && !is_partition()) || name.ends_with("._COPYING_")
}

/// Returns whether a file is a spool's record of the part beside it.
///
/// # Errors
///
/// Fails if it is an unfinished part.
fn is_record_of_spool(path: &Path) -> Result<bool, LocalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, ending)) = name.split_once('.') else { return Ok(false) };
    if stem.len() != 32 || !stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(false);
    }
    match ending {
        "part.partial" => Err(LocalError::Unfinished { path: path.to_owned() }),
        "partial.json" | "json.partial" => Ok(true),
        "json" => Ok(path.with_extension("part").exists()),
        _ => Ok(false),
    }
}

/// Adds the file `path`, or every file below the folder `path` that is not ignored. Links to folders are not
/// followed below it: they may form a loop.
fn walk(path: &Path, paths: &mut Vec<PathBuf>, ignored: &mut BTreeSet<PathBuf>) -> Result<(), LocalError> {
    let metadata = fs::metadata(path).map_err(unreadable(path))?;
    if !metadata.is_dir() {
        paths.push(path.to_owned());
        return Ok(());
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let entry = entry.map_err(unreadable(&folder))?;
            let path = entry.path();
            if is_hidden(&entry.file_name().to_string_lossy()) || is_record_of_spool(&path)? {
                ignored.insert(path);
                continue;
            }
            let file_type = entry.file_type().map_err(unreadable(&path))?;
            if file_type.is_dir() {
                folders.push(path);
                continue;
            }
            let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
            if metadata.is_file() {
                paths.push(path);
            } else if !metadata.is_dir() {
                // Neither read, which could block, nor silently ignored.
                return Err(not_regular(&path, &metadata));
            }
        }
    }
    Ok(())
}
