//! The run report: JSON for machines, a summary for people.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use schema::{Dataset, ddl};
use serde::Serialize;
use url::Url;

use crate::display::{count, grouped};
use crate::exit_code::Diagnostic;
use crate::http::error_chain;
use crate::lake::TableKind;
use crate::manifest::{GeneratedTimeFrom, Manifest, Route, Totals, rfc3339_seconds};
use crate::printable::printable;
use crate::snapshot::SnapshotId;

/// How a dataset of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// The snapshot is in the lake now.
    Published,
    /// The snapshot was in the lake before.
    Skipped,
    /// The lake holds a newer snapshot of the same date.
    Superseded,
    /// A dry run: what would be done.
    Planned,
    /// The tenant has no record of it, which is no failure of a dataset that may be empty.
    Empty,
    /// Left out, because the token lacks the permission or the tenant a feature.
    NotPermitted,
    /// Nothing was published.
    Failed,
}

impl RunOutcome {
    /// Returns the outcome in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
            Self::Planned => "planned",
            Self::Empty => "empty",
            Self::NotPermitted => "not permitted",
            Self::Failed => "failed",
        }
    }
}

/// The run report: the manifest's names, and the outcome.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// How the run ended.
    pub outcome: RunOutcome,
    /// The lake, as given.
    pub lake: String,
    /// What its table is; of a dry run, what it would be. Absent if the export was not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableKind>,
    /// What is known of the snapshot.
    #[serde(flatten)]
    pub snapshot: ReportedSnapshot,
}

/// The part of a report about the snapshot.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ReportedSnapshot {
    /// The manifest, if it was published.
    Published(Box<Manifest>),
    /// The listing, if it was not.
    Listed(ListedExport),
    /// What else is to say, if the export was not listed or failed.
    Unlisted(UnlistedExport),
}

/// A snapshot that this run did not publish.
#[derive(Debug, Serialize)]
pub struct ListedExport {
    /// Version of the program.
    pub tool_version: String,
    /// Table name.
    pub dataset: String,
    /// The route of its parts.
    pub route: Route,
    /// When the service generated the export.
    #[serde(with = "rfc3339_seconds")]
    pub generated_time: DateTime<Utc>,
    /// Source of the generated time.
    pub generated_time_from: GeneratedTimeFrom,
    /// Parts listed, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_parts: Option<u64>,
    /// The snapshot that the date holds, if any.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub published_snapshot: Option<SnapshotId>,
}

/// An export that was not listed, or that failed.
#[derive(Debug, Serialize)]
pub struct UnlistedExport {
    /// Version of the program.
    pub tool_version: String,
    /// Table name.
    pub dataset: String,
    /// What failed and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Exit code of a run of this dataset alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn as_text<S: serde::Serializer>(id: &Option<SnapshotId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

impl UnlistedExport {
    fn of(dataset: &Dataset) -> Self {
        Self {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: dataset.name.to_owned(),
            error: None,
            hint: None,
            exit_code: None,
        }
    }
}

impl RunReport {
    /// Returns the report of a dataset whose export lists nothing.
    pub fn empty(lake: &str, dataset: &Dataset) -> Self {
        Self::unlisted(RunOutcome::Empty, lake, UnlistedExport::of(dataset))
    }

    /// Returns the report of a dataset that was left out, with what to do about it.
    pub fn not_permitted(lake: &str, dataset: &Dataset, hint: String) -> Self {
        let unlisted = UnlistedExport { hint: Some(hint), ..UnlistedExport::of(dataset) };
        Self::unlisted(RunOutcome::NotPermitted, lake, unlisted)
    }

    /// Returns the report of a dataset that failed.
    pub fn failed(lake: &str, dataset: &Dataset, error: &(dyn Diagnostic + 'static)) -> Self {
        let unlisted = UnlistedExport {
            error: Some(error_chain(error)),
            hint: error.hint().map(Cow::into_owned),
            exit_code: Some(error.exit_code() as u8),
            ..UnlistedExport::of(dataset)
        };
        Self::unlisted(RunOutcome::Failed, lake, unlisted)
    }

    fn unlisted(outcome: RunOutcome, lake: &str, unlisted: UnlistedExport) -> Self {
        let snapshot = ReportedSnapshot::Unlisted(unlisted);
        Self { outcome, lake: lake.to_owned(), table: None, snapshot }
    }

    /// What to do about it, if it was left out or failed.
    pub fn hint(&self) -> Option<&str> {
        match &self.snapshot {
            ReportedSnapshot::Unlisted(unlisted) => unlisted.hint.as_deref(),
            ReportedSnapshot::Published(_) | ReportedSnapshot::Listed(_) => None,
        }
    }

    /// Sums of the snapshot, if it was published.
    pub fn totals(&self) -> Option<&Totals> {
        match &self.snapshot {
            ReportedSnapshot::Published(manifest) => Some(&manifest.totals),
            ReportedSnapshot::Listed(_) | ReportedSnapshot::Unlisted(_) => None,
        }
    }

    /// Returns the summary for people.
    pub fn summary(&self) -> String {
        match &self.snapshot {
            ReportedSnapshot::Published(manifest) => self.published(manifest),
            ReportedSnapshot::Listed(listed) => self.listed(listed),
            ReportedSnapshot::Unlisted(unlisted) => self.without_snapshot(&unlisted.dataset),
        }
    }

    fn without_snapshot(&self, dataset: &str) -> String {
        let hint = self.hint().map_or_else(String::new, |hint| format!(": {hint}"));
        match self.outcome {
            RunOutcome::Empty => format!("Nothing to publish: the export of {dataset} has no records.\n"),
            outcome => format!("{dataset}: {}{hint}.\n", outcome.words()),
        }
    }

    fn listed(&self, listed: &ListedExport) -> String {
        let id = SnapshotId::new(listed.generated_time);
        let ListedExport { dataset, .. } = listed;
        let parts = listed.num_parts.map_or_else(String::new, |parts| format!(" ({})", count(parts, "part")));
        let lake = printable(&self.lake);
        match (self.outcome, listed.published_snapshot) {
            (RunOutcome::Empty, _) => self.without_snapshot(dataset),
            (RunOutcome::Skipped, _) => {
                format!("Nothing to do: {dataset} snapshot {id} is already in {lake}.\n")
            }
            (RunOutcome::Superseded, Some(newer)) => format!(
                "Nothing to do: {dataset} snapshot {id} is older than {newer}, which {lake} holds for the same date.\n"
            ),
            (_, None) => format!("Would publish {dataset} snapshot {id}{parts} to {lake}.\n"),
            (_, Some(published)) if published == id => {
                format!("Would replace {dataset} snapshot {id}{parts} in {lake}.\n")
            }
            (_, Some(published)) => {
                format!("Would publish {dataset} snapshot {id}{parts} to {lake}, in place of {published}.\n")
            }
        }
    }

    fn published(&self, manifest: &Manifest) -> String {
        let Manifest { dataset, totals, .. } = manifest;
        let lake = printable(self.lake.trim_end_matches('/'));
        let date = manifest.snapshot_id().date();
        let mut text = format!(
            "Published {dataset} snapshot {} to {lake}/{dataset}/snapshot_date={date}\n\n",
            manifest.snapshot_id()
        );
        let _ = writeln!(
            text,
            "  {} rows from {} of {} in {}, {}",
            grouped(totals.rows),
            count(totals.records, "record"),
            count(totals.parts, "part"),
            count(totals.files, "file"),
            ByteSize(totals.bytes),
        );
        if totals.rejected_records + totals.field_rejects > 0 {
            let _ = writeln!(
                text,
                "  rejected: {}, {}; see {lake}/_defender/{dataset}/snapshots/{}/rejects.ndjson.gz",
                count(totals.rejected_records, "record"),
                count(totals.field_rejects, "field"),
                manifest.snapshot_id()
            );
        }
        let dataset = Dataset::find(dataset);
        let mut platforms: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        for file in &manifest.files {
            *platforms.entry(file.os_platform.as_deref()).or_default() += file.rows;
        }
        let mut platforms: Vec<_> = platforms.into_iter().collect();
        platforms.sort_by_key(|(platform, rows)| (std::cmp::Reverse(*rows), *platform));
        if dataset.is_none_or(|dataset| dataset.partition_by.is_some()) {
            text.push('\n');
            text.push_str(&platform_table(&platforms));
        }
        let table = self.table.unwrap_or(TableKind::Plain);
        let line = dataset.and_then(|dataset| duckdb_line(&self.lake, dataset, table));
        if let Some(line) = line {
            let _ = write!(text, "\nRead it with DuckDB:\n  {line}\n");
        }
        text
    }
}

/// Platforms listed in the summary; the rest is added up.
const SHOWN_PLATFORMS: usize = 20;

fn platform_table(platforms: &[(Option<&str>, u64)]) -> String {
    let (shown, rest) = platforms.split_at(platforms.len().min(SHOWN_PLATFORMS));
    let mut lines: Vec<(String, u64)> = shown
        .iter()
        .map(|(platform, rows)| (platform.map_or_else(|| "(none)".to_owned(), shown_platform), *rows))
        .collect();
    if !rest.is_empty() {
        lines.push((format!("({} more)", rest.len()), rest.iter().map(|(_, rows)| rows).sum()));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, rows) in lines {
        let _ = writeln!(text, "  {name:<width$}  {:>13}", grouped(rows));
    }
    text
}

/// Returns a command line to paste: rows by partition. `None` if DuckDB cannot read the place.
fn duckdb_line(lake: &str, dataset: &Dataset, table: TableKind) -> Option<String> {
    let lake = reader_path(lake);
    let relation = match table {
        // With the partition columns' types given.
        TableKind::Plain => format!(
            "read_parquet({}, union_by_name=true, hive_types={})",
            ddl::duckdb_glob(&lake, &ddl::data_files_pattern(dataset))?,
            ddl::duckdb_hive_types(dataset)
        ),
        TableKind::Delta => format!("delta_scan({})", ddl::duckdb_text(&format!("{lake}/{}", dataset.name))),
    };
    let columns: Vec<_> = dataset.partition_columns().map(|column| column.name).collect();
    let sql = format!("FROM {relation} SELECT {}, count(*) GROUP BY ALL ORDER BY ALL", columns.join(", "));
    Some(format!("duckdb -c {}", shell_text(&sql)))
}

/// Returns the lake as other programs take it, without a trailing slash: not all of them understand file URLs
/// and a leading `~` as we do.
pub(crate) fn reader_path(lake: &str) -> String {
    let is_file_url = lake.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file://"));
    let file_path = || Url::parse(lake).ok()?.to_file_path().ok()?.into_os_string().into_string().ok();
    let path = if is_file_url { file_path() } else { None }.unwrap_or_else(|| lake.to_owned());
    let is_home = path.trim_start_matches("./").starts_with('~');
    let absolute = || Some(std::path::absolute(&path).ok()?.to_str()?.to_owned());
    let path = if is_home { absolute() } else { None }.unwrap_or(path);
    path.trim_end_matches('/').to_owned()
}

/// Quotes text as one word for a POSIX shell, in double quotes if it has no special characters.
pub(crate) fn shell_text(text: &str) -> String {
    if text.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", text.replace('\'', r"'\''"))
    } else {
        format!("\"{text}\"")
    }
}

/// Returns a platform safe for a terminal, and truncated.
fn shown_platform(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut shown = printable(&text.chars().take(MAX_CHARS).collect::<String>()).into_owned();
    if text.chars().count() > MAX_CHARS {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_to_paste_is_quoted_for_the_shell() {
        for (text, expected) in [
            ("FROM 'a b'", r#""FROM 'a b'""#),
            ("'a$HOME'", r"''\''a$HOME'\'''"),
            ("'a`id`'", r"''\''a`id`'\'''"),
            ("'q\"x'", r#"''\''q"x'\'''"#),
            ("'a!b'", r"''\''a!b'\'''"),
        ] {
            assert_eq!(shell_text(text), expected);
        }
    }

    #[test]
    fn lake_is_given_to_readers_as_they_take_it() {
        assert_eq!(reader_path("lake/"), "lake");
        assert_eq!(reader_path("/"), "");
        assert_eq!(reader_path("file:///a%20b/"), "/a b");
        assert_eq!(reader_path("s3://b/a%20b/"), "s3://b/a%20b");
        assert!(reader_path("~t").ends_with("/~t") && reader_path("./~t").starts_with('/'));
    }

    #[test]
    fn place_that_duckdb_cannot_read_has_no_line() {
        assert_eq!(duckdb_line(r"a\b", schema::DATASETS[0], TableKind::Plain), None);
    }
}
