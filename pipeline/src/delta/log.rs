//! The log in storage: its files, and the state of the table after reading them in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde_json::json;

use super::action::{Add, Line, MetaData, Protocol, Remove, Txn, decode_path};
use super::statistics::without_lone_bounds;
use super::{DeltaError, LOG_FOLDER, checkpoint};

/// Commits between two checkpoints, Delta's default. A reader reads at most so many files.
pub const CHECKPOINT_INTERVAL: u64 = 10;

/// Concurrent reads of log files; each is small.
const MAX_READS: usize = 16;

/// A commit takes about 2 kB a data file; beyond this a file is not read into memory.
const MAX_LOG_FILE_BYTES: u64 = 256 << 20;

/// How long a removed file stays in checkpoints, for readers of an older version; Delta's default.
const REMOVED_FILE_RETENTION: TimeDelta = TimeDelta::days(7);

const LAST_CHECKPOINT: &str = "_last_checkpoint";

/// The log of one table.
#[derive(Debug, Clone)]
pub(super) struct DeltaLog {
    pub(super) store: Arc<dyn ObjectStore>,
    folder: Path,
}

/// A log as it was read.
#[derive(Debug, Default)]
pub(super) struct LogContents {
    /// Version of the last commit; `None` if the table does not exist.
    pub(super) version: Option<u64>,
    /// The checkpoint that it was read from.
    pub(super) checkpoint: Option<u64>,
    pub(super) state: TableState,
}

/// The state of a table after the lines of its log.
#[derive(Debug, Default, Clone)]
pub(super) struct TableState {
    pub(super) protocol: Option<Protocol>,
    pub(super) meta_data: Option<MetaData>,
    /// Files of the table: path on disk → the action that added it.
    pub(super) live: BTreeMap<String, Add>,
    /// Removed files: path → the action that removed it.
    removed: BTreeMap<String, Remove>,
    /// Application id → its last transaction.
    pub(super) transactions: BTreeMap<String, Txn>,
}

impl TableState {
    /// Applies one line; the error says what is wrong with it.
    pub(super) fn apply(&mut self, line: Line) -> Result<(), String> {
        let decode = |path: &str| decode_path(path).ok_or_else(|| format!("{path:?} is not an encoded path"));
        if line.protocol.is_some() {
            self.protocol = line.protocol;
        }
        if line.meta_data.is_some() {
            self.meta_data = line.meta_data;
        }
        if let Some(txn) = line.txn {
            self.transactions.insert(txn.app_id.clone(), txn);
        }
        if let Some(remove) = line.remove {
            let path = decode(&remove.path)?;
            self.live.remove(&path);
            self.removed.insert(path, remove);
        }
        if let Some(add) = line.add {
            let path = decode(&add.path)?;
            self.removed.remove(&path);
            self.live.insert(path, add);
        }
        Ok(())
    }

    /// The lines of a checkpoint.
    fn to_lines(&self, at: DateTime<Utc>) -> Vec<Line> {
        let oldest_removed = (at - REMOVED_FILE_RETENTION).timestamp_millis();
        let mut lines = vec![
            Line { protocol: self.protocol, ..Line::default() },
            Line { meta_data: self.meta_data.clone(), ..Line::default() },
        ];
        lines
            .extend(self.transactions.values().map(|txn| Line { txn: Some(txn.clone()), ..Line::default() }));
        let is_kept = |remove: &&Remove| remove.deletion_timestamp.is_some_and(|time| time >= oldest_removed);
        lines.extend(self.removed.values().filter(is_kept).map(|remove| Line {
            remove: Some(Remove { data_change: false, ..remove.clone() }),
            ..Line::default()
        }));
        lines.extend(self.live.values().map(|add| {
            let stats = add.stats.as_deref().and_then(without_lone_bounds).or_else(|| add.stats.clone());
            Line { add: Some(Add { data_change: false, stats, ..add.clone() }), ..Line::default() }
        }));
        lines
    }
}

/// The files that a log has.
#[derive(Debug, Default)]
struct LogListing {
    commits: BTreeMap<u64, ObjectMeta>,
    /// Version → the files of its checkpoint, by number of files and position.
    checkpoints: BTreeMap<u64, BTreeMap<(u32, u32), ObjectMeta>>,
}

/// A file of the log, by its name.
#[derive(Debug, PartialEq, Eq)]
enum LogFile {
    Commit(u64),
    Checkpoint { version: u64, position: u32, of: u32 },
}

impl LogFile {
    /// Parses a name; `None` for files that we do not read.
    fn parse(name: &str) -> Option<Self> {
        let number = |digits: &str, num_digits: usize| -> Option<u64> {
            let plain = digits.len() == num_digits && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        let (version, rest) = name.split_once('.')?;
        let version = number(version, 20)?;
        let part = |digits| u32::try_from(number(digits, 10)?).ok();
        match rest.split('.').collect::<Vec<_>>()[..] {
            ["json"] => Some(Self::Commit(version)),
            ["checkpoint", "parquet"] => Some(Self::Checkpoint { version, position: 1, of: 1 }),
            ["checkpoint", position, of, "parquet"] => {
                Some(Self::Checkpoint { version, position: part(position)?, of: part(of)? })
            }
            _ => None,
        }
    }
}

/// Whether a file of this name in [`LOG_FOLDER`] makes a table a Delta table.
pub fn is_log_file(name: &str) -> bool {
    LogFile::parse(name).is_some()
}

impl LogListing {
    fn add(&mut self, meta: ObjectMeta) {
        match meta.location.filename().and_then(LogFile::parse) {
            Some(LogFile::Commit(version)) => drop(self.commits.insert(version, meta)),
            Some(LogFile::Checkpoint { version, position, of }) => {
                self.checkpoints.entry(version).or_default().insert((of, position), meta);
            }
            None => {}
        }
    }

    /// Returns the newest complete checkpoint.
    fn checkpoint(&self) -> Option<(u64, Vec<&ObjectMeta>)> {
        self.checkpoints.iter().rev().find_map(|(version, files)| {
            files.keys().map(|(of, _)| *of).find_map(|of| {
                let parts: Vec<_> = files.range((of, 1)..=(of, of)).map(|(_, meta)| meta).collect();
                (parts.len() as u64 == u64::from(of)).then_some((*version, parts))
            })
        })
    }
}

impl DeltaLog {
    pub(super) fn new(store: Arc<dyn ObjectStore>, table_root: &Path) -> Self {
        Self { store, folder: table_root.clone().join(LOG_FOLDER) }
    }

    fn file(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    pub(super) fn commit_path(&self, version: u64) -> Path {
        self.file(&format!("{version:020}.json"))
    }

    /// Reads the whole log; empty contents if there is none.
    pub(super) async fn read(&self) -> Result<LogContents, DeltaError> {
        let hint = self.last_checkpoint().await?;
        let mut listing = self.list(hint).await?;
        if hint.is_some() && listing.checkpoint().is_none() {
            // The hint names a checkpoint that does not exist; the log itself may be complete.
            listing = self.list(None).await?;
        }
        let mut contents = LogContents::default();
        let mut expected = 0;
        if let Some((version, parts)) = listing.checkpoint() {
            for meta in parts {
                let damaged = |reason| damaged(&meta.location, reason);
                for line in checkpoint::read(self.read_file(meta).await?).map_err(damaged)? {
                    contents.state.apply(line).map_err(damaged)?;
                }
            }
            contents.checkpoint = Some(version);
            contents.version = Some(version);
            expected = version + 1;
        }
        let commits: Vec<_> = listing.commits.split_off(&expected).into_iter().collect();
        let mut commits = stream::iter(commits)
            .map(|(version, meta)| async move {
                let bytes = self.read_file(&meta).await?;
                Ok((version, meta.location, bytes))
            })
            .buffered(MAX_READS);
        while let Some((version, path, bytes)) = commits.try_next().await? {
            if version != expected {
                let missing = self.commit_path(expected);
                return Err(damaged(&missing, "it is missing, and later ones are there".to_owned()));
            }
            for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
                if text.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let at = |reason: String| damaged(&path, format!("line {}: {reason}", index + 1));
                let line = serde_json::from_slice(text).map_err(|error| at(error.to_string()))?;
                contents.state.apply(line).map_err(at)?;
            }
            contents.version = Some(version);
            expected += 1;
        }
        if contents.version.is_some()
            && (contents.state.protocol.is_none() || contents.state.meta_data.is_none())
        {
            return Err(damaged(&self.folder, "it has no protocol or no metadata".to_owned()));
        }
        Ok(contents)
    }

    /// Returns the version in `_last_checkpoint`. It is a hint: an invalid one is ignored.
    async fn last_checkpoint(&self) -> Result<Option<u64>, DeltaError> {
        let path = self.file(LAST_CHECKPOINT);
        let found = match self.store.get(&path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(bytes) => {
                let hint: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
                Ok(hint.and_then(|hint| hint.get("version")?.as_u64()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("read", &path)(error)),
        }
    }

    /// Lists the files from the version `from` on.
    async fn list(&self, from: Option<u64>) -> Result<LogListing, DeltaError> {
        let mut files = match from {
            None => self.store.list(Some(&self.folder)),
            // What has the version in its name comes after the version alone.
            Some(version) => {
                self.store.list_with_offset(Some(&self.folder), &self.file(&format!("{version:020}")))
            }
        };
        let mut listing = LogListing::default();
        while let Some(meta) = files.try_next().await.map_err(store_error("list", &self.folder))? {
            if meta.location.prefix_match(&self.folder).is_some_and(|names| names.count() == 1) {
                listing.add(meta);
            }
        }
        Ok(listing)
    }

    async fn read_file(&self, meta: &ObjectMeta) -> Result<Bytes, DeltaError> {
        if meta.size > MAX_LOG_FILE_BYTES {
            return Err(damaged(&meta.location, format!("it has {} bytes", meta.size)));
        }
        let error = store_error("read", &meta.location);
        match self.store.get(&meta.location).await {
            Ok(found) => found.bytes().await.map_err(error),
            Err(source) => Err(error(source)),
        }
    }

    /// Writes a commit unless its version exists. Returns whether it was written.
    pub(super) async fn create_commit(&self, version: u64, lines: &[Line]) -> Result<bool, DeltaError> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).expect("text keys and plain values serialise");
            text.push(b'\n');
        }
        if text.len() as u64 > MAX_LOG_FILE_BYTES {
            return Err(DeltaError::TooLarge { num_bytes: text.len() as u64, max_bytes: MAX_LOG_FILE_BYTES });
        }
        let path = self.commit_path(version);
        let create = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, PutPayload::from(text), create).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(store_error("write", &path)(error)),
        }
    }

    /// Writes the checkpoint of a version, then the hint.
    pub(super) async fn write_checkpoint(
        &self,
        version: u64,
        state: &TableState,
        at: DateTime<Utc>,
    ) -> Result<(), DeltaError> {
        let path = self.file(&format!("{version:020}.checkpoint.parquet"));
        let lines = state.to_lines(at);
        let file = checkpoint::write(&lines).map_err(|error| damaged(&path, error.to_string()))?;
        let hint = json!({
            "version": version,
            "size": lines.len(),
            "sizeInBytes": file.len(),
            "numOfAddFiles": state.live.len(),
        });
        self.store.put(&path, PutPayload::from(file)).await.map_err(store_error("write", &path))?;
        let path = self.file(LAST_CHECKPOINT);
        let hint = PutPayload::from(hint.to_string());
        self.store.put(&path, hint).await.map_err(store_error("write", &path))?;
        Ok(())
    }
}

fn store_error(action: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> DeltaError {
    let path = path.to_string();
    move |source| DeltaError::Store { action, path, source }
}

fn damaged(path: &Path, reason: String) -> DeltaError {
    DeltaError::Damaged { path: path.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_log_are_told_from_others() {
        for (name, expected) in [
            ("00000000000000000012.json", Some(LogFile::Commit(12))),
            (
                "00000000000000000012.checkpoint.parquet",
                Some(LogFile::Checkpoint { version: 12, position: 1, of: 1 }),
            ),
            (
                "00000000000000000012.checkpoint.0000000002.0000000003.parquet",
                Some(LogFile::Checkpoint { version: 12, position: 2, of: 3 }),
            ),
            ("00000000000000000012.json#1", None),
            ("00000000000000000012.crc", None),
            ("00000000000000000000.00000000000000000012.compacted.json", None),
            ("12.json", None),
            ("+0000000000000000012.json", None),
            (LAST_CHECKPOINT, None),
        ] {
            assert_eq!(LogFile::parse(name), expected, "{name}");
        }
    }
}
