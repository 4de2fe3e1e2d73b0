//! The published snapshots of a table, read from their manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::claim::Claim;
use super::error::LakeError;
use super::paths::{MANIFEST_FILE, MAX_MANIFEST_BYTES, check_name, data_folder_name};
use super::table::Table;
use crate::manifest::Manifest;
use crate::snapshot::SnapshotId;

/// A snapshot with a manifest in the lake.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedSnapshot {
    /// The snapshot, which names the manifest's folder.
    pub id: SnapshotId,
    /// Its parts, data files and counts. The files' paths are checked to stay below the snapshot's data folder.
    pub manifest: Manifest,
    /// Path of the manifest.
    pub manifest_path: PathBuf,
}

impl Table {
    /// Reads the published snapshots, oldest first; none if the lake or the table does not exist.
    ///
    /// # Errors
    ///
    /// Fails at the first manifest that is damaged or unreadable, and names it.
    pub fn snapshots(&self) -> Result<Vec<PublishedSnapshot>, LakeError> {
        self.try_snapshots()?.into_iter().collect()
    }

    /// Reads the published snapshots, oldest first, with an error in the place of each damaged one.
    ///
    /// # Errors
    ///
    /// Fails if the folder of the snapshots cannot be listed.
    pub fn try_snapshots(&self) -> Result<Vec<Result<PublishedSnapshot, LakeError>>, LakeError> {
        let ids = self.snapshot_ids()?;
        let paths = ids.iter().map(|id| self.manifest_path(*id)).collect();
        let manifests = self.place().read_all(paths, MAX_MANIFEST_BYTES);
        let snapshots = ids.into_iter().zip(manifests);
        Ok(snapshots
            .filter_map(|(id, bytes)| bytes.and_then(|bytes| self.parse_snapshot(id, bytes)).transpose())
            .collect())
    }

    /// Reads the snapshot published on `date`, the newest if a crash left several.
    ///
    /// # Errors
    ///
    /// Fails if its manifest is damaged or unreadable, and names it.
    pub fn published_on(&self, date: NaiveDate) -> Result<Option<PublishedSnapshot>, LakeError> {
        for id in self.snapshot_ids()?.into_iter().rev().filter(|id| id.date() == date) {
            if let Some(snapshot) = self.read_snapshot(id)? {
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    /// Lists the snapshots that have a folder for their manifest, oldest first.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, LakeError> {
        let root = self.snapshots_root();
        let mut ids = BTreeSet::new();
        let mut claims = Vec::new();
        if self.place().is_on_disk() {
            ids.extend(self.list_names(&root)?.iter().filter_map(|name| SnapshotId::parse(name)));
        } else {
            for (name, bytes) in self.list_files(&root)? {
                let (folder, file) = name.split_once('/').unwrap_or((&name, ""));
                let Some(id) = SnapshotId::parse(folder) else { continue };
                ids.insert(id);
                if file == MANIFEST_FILE && bytes == Claim::NUM_BYTES {
                    claims.push(id);
                }
            }
        }
        for id in claims {
            let found = self.read_bounded(&self.manifest_path(id), MAX_MANIFEST_BYTES)?;
            if found.is_none_or(|bytes| Claim::parse(&bytes).is_some()) {
                ids.remove(&id);
            }
        }
        Ok(ids.into_iter().collect())
    }

    /// Reads the manifest at `path`; returns nothing if it does not exist.
    pub(crate) fn read_manifest(&self, path: &Path) -> Result<Option<Manifest>, LakeError> {
        let bytes = self.read_bounded(path, MAX_MANIFEST_BYTES)?;
        bytes.map(|bytes| parse_manifest(path, &bytes)).transpose()
    }

    /// Reads a snapshot's manifest; returns nothing if the snapshot was replaced since it was listed.
    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Option<PublishedSnapshot>, LakeError> {
        let bytes = self.read_bounded(&self.manifest_path(id), MAX_MANIFEST_BYTES)?;
        self.parse_snapshot(id, bytes)
    }

    /// Parses a snapshot's manifest; returns nothing if there is none, or a claim in its place.
    pub(crate) fn parse_snapshot(
        &self,
        id: SnapshotId,
        bytes: Option<Vec<u8>>,
    ) -> Result<Option<PublishedSnapshot>, LakeError> {
        let manifest_path = self.manifest_path(id);
        let damaged = |reason: String| LakeError::DamagedManifest { path: manifest_path.clone(), reason };
        let Some(bytes) = bytes else {
            // Publishing moves a snapshot's folder as a whole, so one without a manifest is damaged.
            let is_there = self.is_folder(&self.snapshot_folder(id))?;
            return if is_there { Err(damaged("the file is missing".to_owned())) } else { Ok(None) };
        };
        if Claim::parse(&bytes).is_some() {
            return Ok(None);
        }
        let manifest = parse_manifest(&manifest_path, &bytes)?;
        if manifest.dataset != self.dataset().name {
            return Err(damaged(format!(
                "expected dataset {:?}, found {:?}",
                self.dataset().name,
                manifest.dataset
            )));
        }
        if manifest.snapshot_id() != id {
            return Err(damaged(format!("expected snapshot {id}, found {}", manifest.snapshot_id())));
        }
        Ok(Some(PublishedSnapshot { id, manifest, manifest_path }))
    }
}

/// Parses a manifest. Checks that its paths stay below the snapshot's data folder, and that sums of its numbers
/// cannot overflow.
fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, LakeError> {
    let damaged = |reason: String| LakeError::DamagedManifest { path: path.to_path_buf(), reason };
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let folder = data_folder_name(manifest.snapshot_id().date());
    for file in &manifest.files {
        let below = file.path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'));
        if below.is_none_or(|below| check_name(below).is_err()) {
            return Err(damaged(format!("file path {:?} is not below {folder}", file.path)));
        }
    }
    let largest = u64::MAX / (manifest.parts.len() + manifest.files.len() + 2) as u64;
    let in_parts = manifest
        .parts
        .iter()
        .flat_map(|part| [part.records, part.rejected_records, part.field_rejects, part.coerced]);
    let in_files = manifest.files.iter().flat_map(|file| [file.rows, file.bytes]);
    let totals = [manifest.totals.rejected_records, manifest.totals.field_rejects];
    if in_parts.chain(in_files).chain(totals).any(|number| number > largest) {
        return Err(damaged("a number is out of range".to_owned()));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::lake::Lake;

    fn table(root: &Path) -> Table {
        Lake::open(root).unwrap().table(schema::DATASETS[0])
    }

    #[test]
    fn damaged_manifest_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let table = table(temp.path());
        let id = SnapshotId::parse("20210111T110100Z").unwrap();
        let folder = table.snapshot_folder(id);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(table.snapshots_root().join("no snapshot")).unwrap();
        let check = |text: Option<&str>, expected: &str| {
            if let Some(text) = text {
                fs::write(folder.join(MANIFEST_FILE), text).unwrap();
            }
            let error = table.snapshots().unwrap_err().to_string();
            assert!(error.starts_with("manifest /") && error.contains(expected), "{error}");
            assert_eq!(table.try_snapshots().unwrap().len(), 1);
        };
        check(None, "20210111T110100Z/manifest.json is damaged: the file is missing");
        check(Some("{"), "EOF while parsing");
        let manifest = |dataset: &str, time: &str, path: &str, rows: &str| {
            format!(
                r#"{{"tool_version":"0","schema_version":1,"dataset":"{dataset}","route":"files",
                "generated_time":"{time}","generated_time_from":"listing","run_id":"00000000",
                "started_at":"{time}","finished_at":"{time}","parts":[],
                "files":[{{"path":"{path}","snapshot_date":"2021-01-11","os_platform":null,"rows":{rows},
                "bytes":1,"row_groups":1,"sha256":""}}],"totals":{{"parts":0,"records":0,"rows":0,
                "rejected_records":0,"field_rejects":0,"coerced":0,"files":0,"bytes":0}},
                "undocumented_fields":{{}}}}"#
            )
        };
        let ours = "snapshot_date=2021-01-11/x";
        let time = "2021-01-11T11:01:00Z";
        check(
            Some(&manifest("other", time, ours, "1")),
            r#"expected dataset "software_inventory", found "other""#,
        );
        let later = "2021-01-11T12:00:00Z";
        check(
            Some(&manifest("software_inventory", later, ours, "1")),
            "expected snapshot 20210111T110100Z, found 20210111T120000Z",
        );
        for path in ["/etc/passwd", "../x", "snapshot_date=2021-01-11/../x", "snapshot_date=2021-01-12/x", ""]
        {
            check(
                Some(&manifest("software_inventory", time, path, "1")),
                "is not below snapshot_date=2021-01-11",
            );
        }
        let huge = u64::MAX.to_string();
        check(Some(&manifest("software_inventory", time, ours, &huge)), "a number is out of range");
        fs::write(folder.join(MANIFEST_FILE), manifest("software_inventory", time, ours, "1")).unwrap();
        assert_eq!(table.snapshots().unwrap().len(), 1);
    }
}
