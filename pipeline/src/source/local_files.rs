//! Parts that are on this machine already: replay and backfill. Read where they are.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::sync::mpsc::Sender;

use super::{Export, FetchProgress, SourceError, StoredPart, skip_token::time_of_folders};
use crate::{
    exit_code::ExitCode,
    manifest::{GeneratedTimeFrom, Route},
};

/// Why files are no export.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing is there.
    #[error("--from {pattern}: no files match")]
    NoMatch {
        /// As given.
        pattern: String,
    },
    /// Not a glob.
    #[error("--from {pattern}: no valid pattern")]
    BadPattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        source: glob::PatternError,
    },
    /// A part's name goes into JSON, which is text.
    #[error("{}: the path is not utf-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// No time to publish under.
    #[error("{}: no `YYYY-MM-DD/HHMM` folder in the path says when the export was generated", path.display())]
    NoTime {
        /// The first such file.
        path: PathBuf,
    },
    /// Parts of two snapshots.
    #[error(
        "parts of two snapshots: {} is of {}, {} of {}",
        first.display(), time_text(first_time), second.display(), time_text(second_time)
    )]
    TwoSnapshots {
        /// A file of the one.
        first: PathBuf,
        /// Its time.
        first_time: DateTime<Utc>,
        /// A file of the other.
        second: PathBuf,
        /// Its time.
        second_time: DateTime<Utc>,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl LocalError {
    /// How a run that fails with this ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } => ExitCode::Source,
            _ => ExitCode::Usage,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTime { .. } => Some("pass --generated-time, as 2021-01-11T11:01:00Z".into()),
            Self::TwoSnapshots { .. } => Some("ingest one snapshot at a time".into()),
            _ => None,
        }
    }
}

/// The files of one export.
#[derive(Debug)]
pub struct LocalFiles {
    files: Vec<StoredPart>,
}

impl LocalFiles {
    /// Finds the files, sorted by path, each once however often it is named.
    pub(super) async fn open(
        patterns: Vec<String>,
        generated_time: Option<DateTime<Utc>>,
    ) -> Result<(Export, Self), SourceError> {
        Ok(tokio::task::spawn_blocking(move || find(&patterns, generated_time)).await??)
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

fn find(
    patterns: &[String],
    generated_time: Option<DateTime<Utc>>,
) -> Result<(Export, LocalFiles), LocalError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let num_before = paths.len();
        expand(pattern, &mut paths)?;
        if paths.len() == num_before {
            return Err(LocalError::NoMatch { pattern: pattern.clone() });
        }
    }
    if paths.is_empty() {
        return Err(LocalError::NoMatch { pattern: String::new() });
    }
    paths.sort();

    let mut seen = HashSet::new();
    let mut files = Vec::new();
    let mut time: Option<(PathBuf, DateTime<Utc>)> = None;
    for path in paths {
        let canonical = fs::canonicalize(&path).map_err(unreadable(&path))?;
        if generated_time.is_none() {
            let found = time_of_path(&path).or_else(|| time_of_path(&canonical));
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
        if !seen.insert(canonical) {
            continue;
        }
        // Opened, not only looked at: better now than when half of the others are decoded.
        let metadata = fs::File::open(&path).and_then(|file| file.metadata()).map_err(unreadable(&path))?;
        let name = path.to_str().ok_or_else(|| LocalError::NotUtf8 { path: path.clone() })?.to_owned();
        files.push(StoredPart::local(files.len() as u64, name, path, metadata.len()));
    }

    let (generated_time, generated_time_from) = match (generated_time, time) {
        (Some(time), _) => (time, GeneratedTimeFrom::Option),
        (None, Some((_, time))) => (time, GeneratedTimeFrom::Path),
        (None, None) => unreachable!("there is at least one path, and each had a time"),
    };
    let export = Export {
        route: Route::Local,
        generated_time,
        generated_time_from,
        num_parts: Some(files.len() as u64),
        num_bytes: Some(files.iter().map(|file| file.bytes).sum()),
    };
    Ok((export, LocalFiles { files }))
}

/// A path that exists is taken as it is, even with a `[` in its name; anything else is a glob.
fn expand(pattern: &str, paths: &mut Vec<PathBuf>) -> Result<(), LocalError> {
    let path = Path::new(pattern);
    match fs::metadata(path) {
        Ok(_) => return walk(path, paths),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(unreadable(path)(err)),
    }
    let bad_pattern = |source| LocalError::BadPattern { pattern: pattern.to_owned(), source };
    for entry in glob::glob(pattern).map_err(bad_pattern)? {
        let path = entry.map_err(|err| {
            let path = err.path().to_owned();
            unreadable(&path)(err.into())
        })?;
        walk(&path, paths)?;
    }
    Ok(())
}

/// Adds the file `path`, or every regular file below the folder `path` that is not hidden. Links to
/// folders are not followed below: they may lead in circles.
fn walk(path: &Path, paths: &mut Vec<PathBuf>) -> Result<(), LocalError> {
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
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let file_type = entry.file_type().map_err(unreadable(&path))?;
            if file_type.is_dir() {
                folders.push(path);
            } else if file_type.is_file() || fs::metadata(&path).map_err(unreadable(&path))?.is_file() {
                paths.push(path);
            }
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    move |source| LocalError::Unreadable { path: path.to_owned(), source }
}

/// The time in the last `YYYY-MM-DD/HHMM` of the path: the layout of the service's own storage, under
/// any prefix (facts §6.2).
fn time_of_path(path: &Path) -> Option<DateTime<Utc>> {
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap_or("")).collect();
    names.windows(2).rev().find_map(|pair| time_of_folders(pair[0], pair[1]))
}

fn time_text(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        dir
    }

    fn found(dir: &Path, patterns: &[&str]) -> Result<(Export, Vec<String>), LocalError> {
        let patterns: Vec<_> = patterns.iter().map(|p| format!("{}/{p}", dir.display())).collect();
        let (export, files) = find(&patterns, None)?;
        let prefix = format!("{}/", dir.display());
        Ok((export, files.files.iter().map(|file| file.name.replace(&prefix, "")).collect()))
    }

    #[test]
    fn folders_globs_and_files_are_found_once_and_sorted() {
        let dir = tree(&[
            "2021-01-11/1101/b.gz",
            "2021-01-11/1101/sub/a.gz",
            "2021-01-11/1101/.hidden",
            "2021-01-11/1101/.h/x",
        ]);
        let all = ["2021-01-11/1101/b.gz", "2021-01-11/1101/sub/a.gz"];
        let (export, names) = found(dir.path(), &["."]).unwrap();
        assert_eq!(names.len(), 2);
        assert_eq!((export.num_parts, export.num_bytes), (Some(2), Some(4)));
        assert_eq!(export.snapshot_id().to_string(), "20210111T110100Z");
        assert_eq!(export.generated_time_from, GeneratedTimeFrom::Path);
        for patterns in
            [&["2021-01-11"][..], &["2021-01-11/**/*.gz"], &["2021-01-11/1101/b.gz", "2021-*/"], &["*"]]
        {
            assert_eq!(found(dir.path(), patterns).unwrap().1, all, "{patterns:?}");
        }
    }

    #[test]
    fn links_to_files_count_once_and_links_to_folders_are_not_followed() {
        let dir = tree(&["2021-01-11/1101/a", "2021-01-11/1101/z"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("2021-01-11/1101/loop")).unwrap();
        std::os::unix::fs::symlink(
            dir.path().join("2021-01-11/1101/a"),
            dir.path().join("2021-01-11/1101/b"),
        )
        .unwrap();
        assert_eq!(found(dir.path(), &["2021-01-11"]).unwrap().1, ["2021-01-11/1101/a", "2021-01-11/1101/z"]);
    }

    #[test]
    fn what_cannot_be_one_export_is_refused() {
        let dir = tree(&["2021-01-11/1101/a", "2021-01-12/1101/a", "other/a"]);
        let check = |patterns: &[&str], expected: &str, code| {
            let err = found(dir.path(), patterns).unwrap_err();
            assert_eq!(err.to_string().replace(&format!("{}/", dir.path().display()), ""), expected);
            assert_eq!(err.exit_code(), code);
        };
        check(&["2021-01-11", "x*"], "--from x*: no files match", ExitCode::Usage);
        check(&["nothing"], "--from nothing: no files match", ExitCode::Usage);
        check(
            &["2021*"],
            "parts of two snapshots: 2021-01-11/1101/a is of 2021-01-11T11:01:00Z, \
             2021-01-12/1101/a of 2021-01-12T11:01:00Z",
            ExitCode::Usage,
        );
        check(
            &["other"],
            "other/a: no `YYYY-MM-DD/HHMM` folder in the path says when the export was generated",
            ExitCode::Usage,
        );
        assert!(matches!(found(dir.path(), &["a***"]), Err(LocalError::BadPattern { .. })));
    }

    #[test]
    fn an_option_gives_the_time_of_any_files() {
        let dir = tree(&["2021-01-11/1101/a", "2021-01-12/1101/a"]);
        let time = DateTime::from_timestamp(1_600_000_000, 0).unwrap();
        let (export, files) = find(&[dir.path().display().to_string()], Some(time)).unwrap();
        assert_eq!((export.generated_time, export.generated_time_from), (time, GeneratedTimeFrom::Option));
        assert_eq!(files.files.len(), 2);
    }

    #[test]
    fn the_last_pair_of_folders_is_the_time() {
        let check = |path: &str, expected: Option<&str>| {
            let time = time_of_path(Path::new(path)).map(|time| time.format("%Y%m%d%H%M").to_string());
            assert_eq!(time.as_deref(), expected, "{path}");
        };
        check("/x/2021-01-11/1101/SoftwareInventory/json/p.gz", Some("202101111101"));
        check("2020-01-01/0000/2021-01-11/1101/p.gz", Some("202101111101"));
        check("/x/2021-01-11/p.gz", None);
        check("/x/2021-01-11/y/1101/p.gz", None);
    }
}
