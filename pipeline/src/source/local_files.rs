//! Parts that are on this machine already: replay and backfill. Files are read where they are, a pipe once
//! and before anything else of the run, into the work dir.
//!
//! What a folder or a glob gives is not all meant: Spark, Data Factory and `azcopy` leave `_SUCCESS`,
//! `_committed_…` and hidden files beside the data, and a spool its own records. They are passed over as
//! Spark passes them over, and said. What is named itself is taken, hidden or not.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::try_join_all;
use rustix::fs::OFlags;
use tokio::sync::mpsc::Sender;

use super::{Export, FetchProgress, SourceError, StoredPart, pipe::spool_pipe, skip_token::time_of_folders};
use crate::{
    exit_code::ExitCode,
    manifest::{GeneratedTimeFrom, Route},
    snapshot::PartKey,
    spool::PartWriter,
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
    /// Everything that is there was passed over.
    #[error(
        "--from {pattern}: no parts there: {num_passed_over} {} passed over, such as {}",
        if *num_passed_over == 1 { "name was" } else { "names were" }, example.display()
    )]
    AllPassedOver {
        /// As given.
        pattern: String,
        /// How many names.
        num_passed_over: usize,
        /// One of them.
        example: PathBuf,
    },
    /// Neither a file nor something that can be read once.
    #[error("{} is not a regular file but {kind}", path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A spool of a run that did not get to its end.
    #[error("{} is a download that is not finished", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Two files whose names are one part's.
    #[error("{} and {} are one part in two spellings", first.display(), second.display())]
    OnePartTwice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
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
            Self::NoMatch { .. } => {
                Some("check the path; quote a glob, so that the shell leaves it alone".into())
            }
            Self::BadPattern { .. } => Some("give a path, or a glob of `*`, `?`, `**` and `[…]`".into()),
            Self::AllPassedOver { .. } => Some(
                "names that begin with `_` or `.` are not taken for parts; name a file itself to take it"
                    .into(),
            ),
            Self::NotRegular { kind: PIPE, .. } => {
                Some("pass the pipe itself to read it once, or leave it out with a glob".into())
            }
            Self::NotRegular { .. } => Some("pass files, folders, or a pipe that something writes to".into()),
            Self::Unfinished { .. } => {
                Some("let the run that downloads it get to its end, or name the finished files".into())
            }
            Self::OnePartTwice { .. } => Some("remove one of them, or pass only the other".into()),
            Self::NotUtf8 { .. } => Some("rename it".into()),
            Self::Unreadable { .. } => Some("make it readable, or leave it out".into()),
        }
    }
}

/// How [`LocalError::NotRegular`] calls a pipe.
const PIPE: &str = "a pipe";

/// The files of one export.
#[derive(Debug)]
pub struct LocalFiles {
    files: Vec<StoredPart>,
}

/// A file before it is read.
#[derive(Debug)]
struct Found {
    name: String,
    path: PathBuf,
    /// Size; `None` of a pipe.
    bytes: Option<u64>,
}

/// What files say together of the export that they are.
#[derive(Debug)]
struct FoundExport {
    files: Vec<Found>,
    generated_time: DateTime<Utc>,
    generated_time_from: GeneratedTimeFrom,
}

impl FoundExport {
    fn export(&self) -> Export {
        Export {
            route: Route::Local,
            generated_time: self.generated_time,
            generated_time_from: self.generated_time_from,
            num_parts: Some(self.files.len() as u64),
            num_bytes: self.files.iter().map(|file| file.bytes).sum(),
        }
    }
}

impl LocalFiles {
    /// Finds the files, sorted by path, each once however often it is named, and reads the pipes among them.
    pub(super) async fn open(
        patterns: Vec<String>,
        generated_time: Option<DateTime<Utc>>,
        work_dir: &Path,
        dataset: &'static str,
    ) -> Result<(Export, Self), SourceError> {
        let found = tokio::task::spawn_blocking(move || find(&patterns, generated_time)).await??;
        let mut export = found.export();
        let mut pipes = read_pipes(&found.files, work_dir, dataset).await?;
        let file = |(index, Found { name, path, bytes }): (usize, Found)| match pipes.remove(&index) {
            Some(spooled) => StoredPart::of_pipe(index as u64, name, spooled),
            None => StoredPart::local(index as u64, name, path, bytes.unwrap_or(0)),
        };
        let files: Vec<_> = found.files.into_iter().enumerate().map(file).collect();
        export.num_bytes = Some(files.iter().map(|file| file.bytes).sum());
        Ok((export, Self { files }))
    }

    /// What [`LocalFiles::open`] would find, reading no pipe.
    pub(super) async fn plan(
        patterns: Vec<String>,
        generated_time: Option<DateTime<Utc>>,
    ) -> Result<Export, SourceError> {
        let found = tokio::task::spawn_blocking(move || find(&patterns, generated_time)).await??;
        Ok(found.export())
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

/// Reads all pipes at the same time: whoever writes to several may write to them in any order.
async fn read_pipes(
    files: &[Found],
    work_dir: &Path,
    dataset: &'static str,
) -> Result<HashMap<usize, PartWriter>, SourceError> {
    let pipes = files.iter().enumerate().filter(|(_, file)| file.bytes.is_none());
    let read = try_join_all(pipes.map(async |(index, pipe)| {
        Ok::<_, SourceError>((index, spool_pipe(&pipe.path, work_dir, dataset).await?))
    }));
    Ok(read.await?.into_iter().collect())
}

fn find(patterns: &[String], generated_time: Option<DateTime<Utc>>) -> Result<FoundExport, LocalError> {
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
        files.push(Found { name, path, bytes });
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
        return Err(LocalError::NotRegular { path: path.to_owned(), kind: kind_of(&metadata) });
    }
    // Opened, not only looked at: better now than when half of the others are decoded.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let metadata = file.and_then(|file| file.metadata()).map_err(unreadable(path))?;
    // One that was removed while it is open (`/dev/fd/3`) has no path but the given one.
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok((Identity::Path(canonical), Some(metadata.len())))
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    let file_type = metadata.file_type();
    if file_type.is_fifo() {
        PIPE
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_block_device() {
        "a block device"
    } else if file_type.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

/// A path that exists is taken as it is, even with a `[` in its name; anything else is a glob.
fn expand(
    pattern: &str,
    paths: &mut Vec<PathBuf>,
    passed_over: &mut BTreeSet<PathBuf>,
) -> Result<(), LocalError> {
    let path = Path::new(pattern);
    match fs::metadata(path) {
        Ok(_) => return walk(path, paths, passed_over),
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
            Match::Hidden(top) => drop(passed_over.insert(top)),
            Match::Taken if is_record_of_spool(&path)? => drop(passed_over.insert(path)),
            Match::Taken => walk(&path, paths, passed_over)?,
        }
    }
    Ok(())
}

/// Which of a glob's matches are passed over.
struct GlobRules {
    /// The folders that the glob names itself.
    named: PathBuf,
    /// Its patterns for names that begin with `_` or `.`: those names are asked for.
    asked: Vec<glob::Pattern>,
    /// Whether the glob itself has a `/./`.
    has_dots: bool,
}

/// What becomes of a glob's match.
enum Match {
    Taken,
    /// With the first of its folders, or itself, that is hidden.
    Hidden(PathBuf),
    /// `.*` matches `.` and `..`: what is there is matched by itself or not asked for.
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
        // The library leaves a leading `./` out.
        let without_dot = self.named.strip_prefix(".").unwrap_or(&self.named);
        let below = path.strip_prefix(&self.named).or_else(|_| path.strip_prefix(without_dot));
        let below = below.unwrap_or(path);
        let is_passed_over = |part: &Path| {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            is_hidden(&name) && !self.asked.iter().any(|asked| asked.matches(&name))
        };
        let text = path.to_string_lossy();
        let is_here = text.ends_with("/.") || (text.contains("/./") && !self.has_dots);
        if is_here || below.components().any(|part| part == Component::ParentDir) {
            return Match::Back;
        }
        let tops: Vec<_> = path.ancestors().take(below.components().count()).collect();
        match tops.into_iter().rev().find(|top| is_passed_over(top)) {
            Some(top) => Match::Hidden(top.to_owned()),
            None => Match::Taken,
        }
    }
}

/// Whether Spark passes over the name when it lists a folder: those that begin with `.`, or with `_` unless they
/// are a partition's (`_RbacGroupId=4`), and copies that Hadoop has not finished.
fn is_hidden(name: &str) -> bool {
    let is_partition = || name.contains('=') || name.contains("%3D") || name.contains("%3d");
    name.starts_with('.') || (name.starts_with('_') && !is_partition()) || name.ends_with("._COPYING_")
}

/// Whether a file is what a spool knows of the part beside it.
///
/// # Errors
///
/// Where it is a part that is not whole.
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

/// Adds what is at `path`, or every file below the folder `path` that is not passed over. Links to folders are
/// not followed below: they may lead in circles.
fn walk(
    path: &Path,
    paths: &mut Vec<PathBuf>,
    passed_over: &mut BTreeSet<PathBuf>,
) -> Result<(), LocalError> {
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
                passed_over.insert(path);
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
                // Not waited for, and not left out in silence either.
                return Err(LocalError::NotRegular { path, kind: kind_of(&metadata) });
            }
        }
    }
    Ok(())
}

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    move |source| LocalError::Unreadable { path: path.to_owned(), source }
}

/// The time in the last `YYYY-MM-DD/HHMM` of the path: the layout of the service's own storage, under
/// any prefix (pipeline/docs/service.md#paths-of-parts).
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
        let found = find(&patterns, None)?;
        let prefix = format!("{}/", dir.display());
        Ok((found.export(), found.files.iter().map(|file| file.name.replace(&prefix, "")).collect()))
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
    fn hidden_names_in_folders_and_globs_are_passed_over() {
        let dir = tree(&[
            "2021-01-11/1101/_RbacGroupId=4/part-0.json",
            "2021-01-11/1101/_RbacGroupId%3D5/part-0.json",
            "2021-01-11/1101/_SUCCESS",
            "2021-01-11/1101/_committed_1",
            "2021-01-11/1101/_temporary/0/part-9.json",
            "2021-01-11/1101/.part-0.json.crc",
            "2021-01-11/1101/part-8.json._COPYING_",
            "2021-01-11/1101/part-1.json",
        ]);
        let parts = [
            "2021-01-11/1101/_RbacGroupId%3D5/part-0.json",
            "2021-01-11/1101/_RbacGroupId=4/part-0.json",
            "2021-01-11/1101/part-1.json",
        ];
        for pattern in ["2021-01-11", "*", "2021-01-11/1101/*", "2021-01-11/**/*", "**"] {
            assert_eq!(found(dir.path(), &[pattern]).unwrap().1, parts, "{pattern}");
        }
        // What is named itself, or by a pattern that begins so, is asked for.
        for (pattern, expected) in [
            ("2021-01-11/1101/_SUCCESS", "2021-01-11/1101/_SUCCESS"),
            ("2021-01-11/1101/_comm*", "2021-01-11/1101/_committed_1"),
            ("2021-01-11/1101/.*", "2021-01-11/1101/.part-0.json.crc"),
            ("2021-01-11/1101/_temporary", "2021-01-11/1101/_temporary/0/part-9.json"),
            ("2021-01-11/1101/_temporary/*/*", "2021-01-11/1101/_temporary/0/part-9.json"),
        ] {
            assert_eq!(found(dir.path(), &[pattern]).unwrap().1, [expected], "{pattern}");
        }
        let err = found(dir.path(), &["2021-01-11/1101/*S*"]).unwrap_err();
        assert_eq!(
            err.to_string().replace(&format!("{}/", dir.path().display()), ""),
            "--from 2021-01-11/1101/*S*: no parts there: 1 name was passed over, such as 2021-01-11/1101/_SUCCESS"
        );
        assert_eq!(err.exit_code(), ExitCode::Usage);
        assert_eq!(
            err.hint().unwrap(),
            "names that begin with `_` or `.` are not taken for parts; name a file itself to take it"
        );
    }

    #[test]
    fn records_of_a_spool_are_passed_over() {
        let stem = "0123456789abcdef0123456789abcdef";
        let file = |ending: &str| format!("2021-01-11/1101/{stem}.{ending}");
        let dir = tree(&[&file("part"), &file("json"), "2021-01-11/1101/.kept"]);
        for pattern in ["2021-01-11", "2021-01-11/1101/*"] {
            assert_eq!(found(dir.path(), &[pattern]).unwrap().1, [file("part")], "{pattern}");
        }
        let alone = tree(&[&file("json")]);
        assert_eq!(found(alone.path(), &["2021-01-11"]).unwrap().1, [file("json")], "a part of that name");
        let unfinished = tree(&[&file("part"), &file("part.partial"), &file("partial.json")]);
        for pattern in ["2021-01-11", "2021-01-11/1101/*"] {
            let err = found(unfinished.path(), &[pattern]).unwrap_err();
            assert!(err.to_string().ends_with(".part.partial is a download that is not finished"), "{err}");
            assert_eq!(err.exit_code(), ExitCode::Usage);
        }
    }

    #[test]
    fn files_in_two_spellings_of_one_part_are_refused() {
        let dir = tree(&["2021-01-11/1101/OrgId=1/p", "2021-01-11/1101/OrgId%3D1/p"]);
        let err = found(dir.path(), &["2021-01-11"]).unwrap_err();
        assert_eq!(
            err.to_string().replace(&format!("{}/2021-01-11/1101/", dir.path().display()), ""),
            "OrgId%3D1/p and OrgId=1/p are one part in two spellings"
        );
        assert_eq!(err.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tree(&["2021-01-11/1101/a"]);
        let folder = dir.path().join("2021-01-11/1101");
        let check = |pattern: &str, expected: &str| {
            let err = find(&[pattern.to_owned()], Some(Utc::now())).unwrap_err();
            assert_eq!(err.to_string(), expected);
            assert_eq!(err.exit_code(), ExitCode::Usage);
            assert!(err.hint().is_some());
        };
        check("/dev/zero", "/dev/zero is not a regular file but a character device");
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("s")).unwrap();
        let shown = format!("{}/s is not a regular file but a socket", folder.display());
        for pattern in ["", "/*", "/s"] {
            check(&format!("{}{pattern}", folder.display()), &shown);
        }
        fs::remove_file(folder.join("s")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("z")).unwrap();
        check(
            folder.to_str().unwrap(),
            &format!("{}/z is not a regular file but a character device", folder.display()),
        );
    }

    #[test]
    fn an_option_gives_the_time_of_any_files() {
        let dir = tree(&["2021-01-11/1101/a", "2021-01-12/1101/a"]);
        let time = DateTime::from_timestamp(1_600_000_000, 0).unwrap();
        let found = find(&[dir.path().display().to_string()], Some(time)).unwrap();
        let export = found.export();
        assert_eq!((export.generated_time, export.generated_time_from), (time, GeneratedTimeFrom::Option));
        assert_eq!(found.files.len(), 2);
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
