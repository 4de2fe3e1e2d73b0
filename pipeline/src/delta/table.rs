//! A table as its log has it, and the two changes that are made to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use object_store::ObjectStore;
use object_store::path::Path;
use schema::{Dataset, SNAPSHOT_DATE};
use serde_json::{Value, json};

use super::action::{Add, Line, MetaData, Protocol, StorageFormat, Txn, encode_path};
use super::log::{CHECKPOINT_INTERVAL, DeltaLog, LogContents};
use super::{DeltaError, FileStatistics, features, schema_string};
use crate::manifest::DataFile;
use crate::snapshot::{RunId, SnapshotId};

/// Attempts to commit, at most. Each failed one means that another writer committed, so writers do not block
/// each other.
const MAX_ATTEMPTS: u32 = 100;

/// Failures of the store, at most. It has retried each of them itself.
const MAX_FAILURES: u32 = 3;

/// One dataset's table on one store. It need not exist yet: the first commit makes it.
#[derive(Debug)]
pub struct DeltaTable {
    log: DeltaLog,
    dataset: &'static Dataset,
    contents: LogContents,
}

/// A file of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// From the table's root, as names are on disk.
    pub path: String,
    /// Its size as the log has it.
    pub bytes: i64,
    /// Its rows, if the log has statistics.
    pub rows: Option<u64>,
    /// Values of the partition columns.
    pub partition_values: BTreeMap<String, Option<String>>,
}

/// A data file that is to be part of the table.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Its entry in the manifest.
    pub facts: &'a DataFile,
    /// Statistics from its footer.
    pub statistics: &'a FileStatistics,
}

/// A snapshot that replaces all files of its date.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The run that wrote it.
    pub run_id: &'a RunId,
    /// From [`DeltaTable::next_transaction`], the same at each attempt.
    pub transaction: i64,
    /// All its files.
    pub files: &'a [NewFile<'a>],
    /// When the run finished.
    pub finished_at: DateTime<Utc>,
}

/// How a publication came to be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// By this call, as this version.
    Now(u64),
    /// By an earlier attempt.
    Before,
}

impl DeltaTable {
    /// Reads the log of the table at `root`. `dataset` is what the table holds.
    ///
    /// # Errors
    ///
    /// A damaged log, a table with a newer reader version, storage.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        root: &Path,
        dataset: &'static Dataset,
    ) -> Result<Self, DeltaError> {
        let log = DeltaLog::new(store, root);
        let contents = log.read().await?;
        let table = Self { log, dataset, contents };
        table.check_readable()?;
        Ok(table)
    }

    /// Returns the version of the last commit; `None` if the table does not exist yet.
    pub fn version(&self) -> Option<u64> {
        self.contents.version
    }

    /// Returns the files of the table, ordered by path.
    pub fn live_files(&self) -> impl Iterator<Item = LiveFile> {
        self.contents.state.live.iter().map(|(path, add)| LiveFile {
            path: path.clone(),
            bytes: add.size,
            rows: add.stats.as_deref().and_then(num_records),
            partition_values: add.partition_values.clone(),
        })
    }

    /// Returns the transaction number for publishing a snapshot, larger than all that its date has had.
    pub fn next_transaction(&self, snapshot: SnapshotId) -> i64 {
        let generated = snapshot.generated_time().timestamp_millis();
        self.transaction(snapshot.date()).map_or(generated, |last| generated.max(last + 1))
    }

    /// Whether the snapshot is or was in the table, or a newer one of its date.
    pub fn has_seen(&self, snapshot: SnapshotId) -> bool {
        let generated = snapshot.generated_time().timestamp_millis();
        self.transaction(snapshot.date()).is_some_and(|last| last >= generated)
    }

    /// Whether the table has files of this date.
    pub fn has_files_on(&self, date: NaiveDate) -> bool {
        self.live_on(date).next().is_some()
    }

    /// Whether a publication of these files under this number has gone through.
    pub fn has_committed<'f>(
        &self,
        snapshot: SnapshotId,
        transaction: i64,
        files: impl IntoIterator<Item = &'f DataFile>,
    ) -> bool {
        self.transaction(snapshot.date()) == Some(transaction)
            && self.paths_on(snapshot.date()) == files.into_iter().map(|file| file.path.as_str()).collect()
    }

    /// Commits snapshots in one commit: adds the files of each and removes all others of its date.
    /// `adopted` are those that the lake holds already, oldest first.
    ///
    /// # Errors
    ///
    /// [`DeltaError::TransactionTaken`] and [`DeltaError::DateChanged`] if another writer was faster, and
    /// errors of the log or the store. Nothing is committed then, except after
    /// [`DeltaError::Store`]: whether the commit got through shows when the log can be read again.
    pub async fn publish(
        &mut self,
        adopted: &[Publication<'_>],
        published: Option<&Publication<'_>>,
    ) -> Result<Committed, DeltaError> {
        let all = || adopted.iter().chain(published);
        let replaced: Vec<_> = all().map(|one| self.owned_paths_on(one.snapshot.date())).collect();
        let change = |table: &Self| {
            let is_committed = |one: &Publication<'_>| {
                table.has_committed(one.snapshot, one.transaction, one.files.iter().map(|file| file.facts))
            };
            if all().all(is_committed) {
                return Ok(None);
            }
            for (one, replaced) in all().zip(&replaced) {
                let Publication { snapshot, transaction, .. } = *one;
                let date = snapshot.date();
                if let Some(last) = table.transaction(date).filter(|last| *last >= transaction) {
                    return Err(DeltaError::TransactionTaken { snapshot, transaction, last });
                }
                if table.owned_paths_on(date) != *replaced {
                    return Err(DeltaError::DateChanged { snapshot });
                }
            }
            table.publishing_lines(adopted, published).map(Some)
        };
        Ok(self.commit(change).await?.map_or(Committed::Before, Committed::Now))
    }

    /// Commits the removal of the files of these dates, if the table has any.
    /// Returns the version.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub async fn remove_dates(
        &mut self,
        dates: &BTreeSet<NaiveDate>,
        at: DateTime<Utc>,
    ) -> Result<Option<u64>, DeltaError> {
        self.commit(|table| Ok(table.removing_lines(dates, at))).await
    }

    /// Commits the removal of these files, by their paths from the table's root, if the table has any of them.
    /// Returns the version.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub async fn remove_files(
        &mut self,
        paths: &BTreeSet<&str>,
        at: DateTime<Utc>,
    ) -> Result<Option<u64>, DeltaError> {
        self.commit(|table| {
            let live = table.contents.state.live.iter().filter(|(path, _)| paths.contains(path.as_str()));
            let removed: Vec<&Add> = live.map(|(_, add)| add).collect();
            let date = |add: &&Add| add.partition_values.get(SNAPSHOT_DATE.name).cloned().flatten();
            let dates: BTreeSet<String> = removed.iter().filter_map(date).collect();
            Ok(table.removal(&dates, &removed, at))
        })
        .await
    }

    /// Whether a checkpoint is due.
    pub fn is_checkpoint_due(&self) -> bool {
        let last = self.contents.checkpoint.unwrap_or(0);
        self.contents.version.is_some_and(|version| version - last >= CHECKPOINT_INTERVAL)
    }

    /// Writes a checkpoint. The table is complete without it.
    ///
    /// # Errors
    ///
    /// Storage.
    pub async fn write_checkpoint(&mut self, at: DateTime<Utc>) -> Result<(), DeltaError> {
        let Some(version) = self.contents.version else { return Ok(()) };
        self.log.write_checkpoint(version, &self.contents.state, at).await?;
        self.contents.checkpoint = Some(version);
        Ok(())
    }

    /// Commits the lines that `change` makes of the table. After a concurrent commit it makes them again and
    /// retries, until it makes none. Returns the version.
    async fn commit(
        &mut self,
        change: impl Fn(&Self) -> Result<Option<Vec<Line>>, DeltaError> + Send,
    ) -> Result<Option<u64>, DeltaError> {
        let mut num_failures = 0;
        for _ in 0..MAX_ATTEMPTS {
            let Some(lines) = change(self)? else { return Ok(None) };
            self.check_writable()?;
            if let Some(date) = lines.iter().find_map(removed_date).filter(|_| self.is_append_only()) {
                return Err(DeltaError::AppendOnly { date });
            }
            let version = self.contents.version.map_or(0, |version| version + 1);
            match self.log.create_commit(version, &lines).await {
                Ok(true) => {
                    for line in lines {
                        self.contents.state.apply(line).expect("paths that we have encoded");
                    }
                    self.contents.version = Some(version);
                    return Ok(Some(version));
                }
                Ok(false) => self.reload().await?,
                // The answer may be all that was lost: then the next round finds nothing to do.
                Err(error) => {
                    num_failures += 1;
                    if num_failures == MAX_FAILURES || self.reload().await.is_err() {
                        return Err(error);
                    }
                }
            }
        }
        Err(DeltaError::ConcurrentCommits { attempts: MAX_ATTEMPTS })
    }

    async fn reload(&mut self) -> Result<(), DeltaError> {
        self.contents = self.log.read().await?;
        self.check_readable()
    }

    /// Fails if the table has a newer reader version or other partition columns.
    fn check_readable(&self) -> Result<(), DeltaError> {
        let state = &self.contents.state;
        let (Some(protocol), Some(meta_data)) = (state.protocol, &state.meta_data) else { return Ok(()) };
        let (needed, known) = (protocol.min_reader_version, Protocol::OURS.min_reader_version);
        if needed > known {
            let reason = format!("it needs reader version {needed}, and this program knows {known}");
            return Err(DeltaError::Unreadable { reason });
        }
        if meta_data.partition_columns != schema_string::partition_columns(self.dataset) {
            let reason = format!("it is partitioned by {}", meta_data.partition_columns.join(", "));
            return Err(DeltaError::Unreadable { reason });
        }
        Ok(())
    }

    /// Fails if the table has a newer writer version or table features.
    fn check_writable(&self) -> Result<(), DeltaError> {
        let state = &self.contents.state;
        let (Some(protocol), Some(meta_data)) = (state.protocol, &state.meta_data) else { return Ok(()) };
        let (needed, known) = (protocol.min_writer_version, Protocol::OURS.min_writer_version);
        let reason = if needed > known {
            Some(format!("it needs writer version {needed}, and this program knows {known}"))
        } else {
            features::in_properties(&meta_data.configuration)
                .or_else(|| features::in_columns(&meta_data.schema_string))
        };
        reason.map_or(Ok(()), |reason| Err(DeltaError::Unsupported { reason }))
    }

    fn is_append_only(&self) -> bool {
        let meta_data = self.contents.state.meta_data.as_ref();
        meta_data.is_some_and(|meta_data| features::is_append_only(&meta_data.configuration))
    }

    /// Fails if no snapshot of this date can be committed.
    ///
    /// # Errors
    ///
    /// [`DeltaError::Unsupported`], [`DeltaError::AppendOnly`].
    pub fn check_publishable(&self, date: NaiveDate) -> Result<(), DeltaError> {
        self.check_writable()?;
        self.check_removable([date])
    }

    /// Fails if the files of these dates cannot be removed.
    ///
    /// # Errors
    ///
    /// As [`Self::check_publishable`].
    pub fn check_removable(&self, dates: impl IntoIterator<Item = NaiveDate>) -> Result<(), DeltaError> {
        self.check_writable()?;
        match dates.into_iter().find(|date| self.is_append_only() && self.has_files_on(*date)) {
            Some(date) => Err(DeltaError::AppendOnly { date }),
            None => Ok(()),
        }
    }

    fn transaction(&self, date: NaiveDate) -> Option<i64> {
        self.contents.state.transactions.get(&self.app_id(date)).map(|txn| txn.version)
    }

    fn app_id(&self, date: NaiveDate) -> String {
        format!("defender-lake/{}/{date}", self.dataset.name)
    }

    fn live_on(&self, date: NaiveDate) -> impl Iterator<Item = (&str, &Add)> {
        let date = date.to_string();
        let live = self.contents.state.live.iter().map(|(path, add)| (path.as_str(), add));
        live.filter(move |(_, add)| {
            add.partition_values.get(SNAPSHOT_DATE.name).is_some_and(|value| value.as_ref() == Some(&date))
        })
    }

    fn paths_on(&self, date: NaiveDate) -> BTreeSet<&str> {
        self.live_on(date).map(|(path, _)| path).collect()
    }

    fn owned_paths_on(&self, date: NaiveDate) -> BTreeSet<String> {
        self.live_on(date).map(|(path, _)| path.to_owned()).collect()
    }

    fn publishing_lines(
        &self,
        adopted: &[Publication<'_>],
        published: Option<&Publication<'_>>,
    ) -> Result<Vec<Line>, DeltaError> {
        let all = || adopted.iter().chain(published);
        let files: Vec<_> = all().flat_map(|one| one.files).copied().collect();
        let at = all().map(|one| one.finished_at.timestamp_millis()).max().unwrap_or(0);
        let mut lines = vec![self.snapshots_info(adopted, published, &files, at)];
        lines.extend(self.defining_lines(&files, at)?);
        for one in all() {
            lines.extend(self.snapshot_lines(one));
        }
        Ok(lines)
    }

    /// Returns the `commitInfo` of a commit of snapshots.
    fn snapshots_info(
        &self,
        adopted: &[Publication<'_>],
        published: Option<&Publication<'_>>,
        files: &[NewFile<'_>],
        at: i64,
    ) -> Line {
        let partition_columns = json!(schema_string::partition_columns(self.dataset)).to_string();
        let sum = |of: fn(&DataFile) -> u64| files.iter().map(|file| of(file.facts)).sum::<u64>();
        let num_adopted = match adopted.len() {
            0 => String::new(),
            number => format!("{number} snapshots that the lake held before"),
        };
        let Some(Publication { snapshot, run_id, .. }) = published else {
            return self.commit_info(
                at,
                "CONVERT",
                &json!({ "numFiles": files.len(), "partitionedBy": partition_columns, "collectStats": true }),
                &json!({ "numConvertedFiles": files.len().to_string() }),
                &num_adopted,
            );
        };
        let with_adopted = if adopted.is_empty() { String::new() } else { format!(", and {num_adopted}") };
        self.commit_info(
            at,
            "WRITE",
            &json!({
                "mode": "Overwrite",
                "partitionBy": partition_columns,
                "predicate": format!("{} = '{}'", SNAPSHOT_DATE.name, snapshot.date()),
            }),
            &json!({
                "numFiles": files.len().to_string(),
                "numOutputRows": sum(|file| file.rows).to_string(),
                "numOutputBytes": sum(|file| file.bytes).to_string(),
            }),
            &format!("snapshot {snapshot}, run {run_id}{with_adopted}"),
        )
    }

    /// Returns a snapshot's transaction, the removals of its date's other files, and the additions of its own.
    fn snapshot_lines(&self, publication: &Publication<'_>) -> Vec<Line> {
        let Publication { snapshot, transaction, files, finished_at, .. } = *publication;
        let date = snapshot.date();
        let finished_at = finished_at.timestamp_millis();
        let txn = Txn { app_id: self.app_id(date), version: transaction, last_updated: Some(finished_at) };
        let mut lines = vec![Line { txn: Some(txn), ..Line::default() }];
        // A file that is both there and new is added once more: that replaces what the log says of it.
        let new: BTreeSet<_> = files.iter().map(|file| file.facts.path.as_str()).collect();
        let replaced = self.live_on(date).filter(|(path, _)| !new.contains(path));
        lines.extend(replaced.map(|(_, add)| removing(add, finished_at)));
        for NewFile { facts, statistics } in files {
            let partition_values = self
                .dataset
                .partition_columns()
                .map(|column| {
                    let value = if column.name == SNAPSHOT_DATE.name {
                        Some(facts.snapshot_date.to_string())
                    } else {
                        facts.os_platform.clone()
                    };
                    (column.name.to_owned(), value)
                })
                .collect();
            let add = Add {
                path: encode_path(&facts.path),
                partition_values,
                size: facts.bytes.cast_signed(),
                modification_time: finished_at,
                data_change: true,
                stats: Some(statistics.json.clone()),
            };
            lines.push(Line { add: Some(add), ..Line::default() });
        }
        lines
    }

    /// Returns protocol and metadata of a new table, or the metadata if the files add columns.
    fn defining_lines(&self, files: &[NewFile<'_>], at: i64) -> Result<Vec<Line>, DeltaError> {
        let has_extra_fields = files.iter().any(|file| file.statistics.has_extra_fields);
        let Some(meta_data) = &self.contents.state.meta_data else {
            let meta_data = MetaData {
                id: new_table_id()?,
                name: Some(self.dataset.name.to_owned()),
                description: Some(self.dataset.doc.to_owned()),
                format: StorageFormat { provider: "parquet".to_owned(), options: BTreeMap::new() },
                schema_string: schema_string::schema_of(self.dataset, has_extra_fields),
                partition_columns: schema_string::partition_columns(self.dataset),
                configuration: BTreeMap::new(),
                created_time: Some(at),
            };
            return Ok(vec![
                Line { protocol: Some(Protocol::OURS), ..Line::default() },
                Line { meta_data: Some(meta_data), ..Line::default() },
            ]);
        };
        let wider = schema_string::with_columns_of(self.dataset, has_extra_fields, &meta_data.schema_string)
            .map_err(|reason| DeltaError::Unsupported { reason })?;
        Ok(wider
            .map(|schema_string| Line {
                meta_data: Some(MetaData { schema_string, ..meta_data.clone() }),
                ..Line::default()
            })
            .into_iter()
            .collect())
    }

    fn removing_lines(&self, dates: &BTreeSet<NaiveDate>, at: DateTime<Utc>) -> Option<Vec<Line>> {
        let removed: Vec<_> = dates.iter().flat_map(|date| self.live_on(*date)).map(|(_, add)| add).collect();
        self.removal(&dates.iter().map(NaiveDate::to_string).collect(), &removed, at)
    }

    /// Returns the lines of a commit that removes `removed`, all files of `dates`; `None` if there are none.
    fn removal(&self, dates: &BTreeSet<String>, removed: &[&Add], at: DateTime<Utc>) -> Option<Vec<Line>> {
        if removed.is_empty() {
            return None;
        }
        let at = at.timestamp_millis();
        let texts: Vec<_> = dates.iter().map(|date| format!("'{date}'")).collect();
        let predicate = format!("{} IN ({})", SNAPSHOT_DATE.name, texts.join(", "));
        let mut lines = vec![self.commit_info(
            at,
            "DELETE",
            &json!({ "predicate": json!([predicate]).to_string() }),
            &json!({ "numRemovedFiles": removed.len().to_string() }),
            &format!("{} snapshots expired", dates.len()),
        )];
        lines.extend(removed.iter().map(|add| removing(add, at)));
        Some(lines)
    }

    fn commit_info(
        &self,
        at: i64,
        operation: &str,
        parameters: &Value,
        metrics: &Value,
        user_metadata: &str,
    ) -> Line {
        let mut info = json!({
            "timestamp": at,
            "operation": operation,
            "operationParameters": parameters,
            "operationMetrics": metrics,
            "isolationLevel": "Serializable",
            "isBlindAppend": false,
            "engineInfo": concat!("defender-lake/", env!("CARGO_PKG_VERSION")),
            "userMetadata": user_metadata,
        });
        if let Some(version) = self.contents.version {
            info["readVersion"] = version.into();
        }
        Line { commit_info: Some(info), ..Line::default() }
    }
}

fn removing(add: &Add, at: i64) -> Line {
    Line { remove: Some(add.to_remove(at)), ..Line::default() }
}

/// Returns the date of a file that a line removes from the table.
fn removed_date(line: &Line) -> Option<NaiveDate> {
    let values = line.remove.as_ref()?.partition_values.as_ref()?;
    values.get(SNAPSHOT_DATE.name)?.as_deref()?.parse().ok()
}

fn num_records(statistics: &str) -> Option<u64> {
    serde_json::from_str::<Value>(statistics).ok()?.get("numRecords")?.as_u64()
}

/// Draws a random UUID.
fn new_table_id() -> Result<String, DeltaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| DeltaError::Unsupported {
        reason: format!("the system has no randomness for its id: {error}"),
    })?;
    // The bits that say so: version 4, variant 1.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = u128::from_be_bytes(bytes);
    let hex = format!("{hex:032x}");
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
