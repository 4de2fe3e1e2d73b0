//! What one task of a run has written, and what all of them come to.
//!
//! Takes the facts of the parts that were read and of the files that were written, gives the contents of a
//! manifest. Opens no file. Checks here that nothing is lost: parts listed = parts read, records = rows + rejected records, and a file
//! of rejects exactly if there are rejects. Rows are those of the files' footers, read back as each file was closed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FinishedFile, JournalUpload};
use crate::delta::FileStatistics;
use crate::manifest::{DataFile, PartFacts, Totals, imbalance};
use crate::snapshot::TaskId;

/// What one task has written. A run on one machine is a single portion, and writes it itself. It can be sent to
/// another process, which publishes the snapshot once it has those of all tasks, and opens none of their data files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// The task; `None` if the run itself has written it.
    pub task_id: Option<TaskId>,
    /// The parts that the task read, each after its position in the listing.
    pub parts: Vec<(u64, PartFacts)>,
    /// The data files that it wrote.
    pub files: Vec<WrittenFile>,
    /// Its file of rejects, if there are any.
    pub rejects: Option<FinishedFile>,
    /// Fields that no column claims: name as first written → number of records with it.
    pub undocumented_fields: BTreeMap<String, u64>,
    /// Uploads of `files`, in their order, once they are sent; a lake on a disk has none.
    pub uploads: Vec<JournalUpload>,
}

/// A data file that a task has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Its facts, for the manifest.
    pub facts: DataFile,
    /// Its statistics, for the log of a Delta table.
    pub statistics: FileStatistics,
}

/// What the tasks of a run have written, balanced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSnapshot {
    /// Every part read, in the order of the listing.
    pub parts: Vec<PartFacts>,
    /// Every data file, ordered by path.
    pub files: Vec<DataFile>,
    /// Sums over `parts` and `files`.
    pub totals: Totals,
    /// Fields that no column claims.
    pub undocumented_fields: BTreeMap<String, u64>,
}

/// What was read and what was written differ: a mistake of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// Parts are missing, or too many.
    #[error("{listed} parts were listed and {read} read")]
    Parts {
        /// Parts in the listing.
        listed: u64,
        /// Parts read.
        read: u64,
    },
    /// Two tasks read the same part.
    #[error("part {name} was read twice")]
    PartTwice {
        /// The part.
        name: String,
    },
    /// Two files have the same path.
    #[error("{path} was written twice")]
    FileTwice {
        /// The path.
        path: String,
    },
    /// Rejects were counted and not kept, or the other way round.
    #[error("{num_rejects} rejects were counted, and {num_files} files of rejects were written")]
    Rejects {
        /// Rejected records and field rejects of a task.
        num_rejects: u64,
        /// Files that it wrote for them.
        num_files: usize,
    },
    /// Records are lost or rows too many.
    #[error("{reason}")]
    Imbalance {
        /// The balance that does not hold.
        reason: String,
    },
}

impl WrittenSnapshot {
    /// Puts together what the tasks of a run have written. `num_listed` is the number of parts in the listing, if
    /// the listing has one.
    ///
    /// # Errors
    ///
    /// [`AssembleError`] if something was lost or came twice.
    pub fn assemble(portions: &[Portion], num_listed: Option<u64>) -> Result<Self, AssembleError> {
        let (mut parts, mut files) = (Vec::new(), Vec::new());
        let mut undocumented_fields = BTreeMap::<String, u64>::new();
        for portion in portions {
            let num_rejects =
                portion.parts.iter().map(|(_, part)| part.rejected_records + part.field_rejects).sum::<u64>();
            if (num_rejects > 0) != portion.rejects.is_some() {
                let num_files = usize::from(portion.rejects.is_some());
                return Err(AssembleError::Rejects { num_rejects, num_files });
            }
            parts.extend(portion.parts.iter().cloned());
            files.extend(portion.files.iter().map(|file| file.facts.clone()));
            for (name, count) in &portion.undocumented_fields {
                *undocumented_fields.entry(name.clone()).or_default() += count;
            }
        }
        parts.sort_by_key(|(index, _)| *index);
        if let Some(twice) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(AssembleError::PartTwice { name: twice[1].1.name.clone() });
        }
        let parts: Vec<_> = parts.into_iter().map(|(_, facts)| facts).collect();
        let read = parts.len() as u64;
        if let Some(listed) = num_listed.filter(|&listed| listed != read) {
            return Err(AssembleError::Parts { listed, read });
        }
        files.sort_by(|a: &DataFile, b| a.path.cmp(&b.path));
        if let Some(twice) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(AssembleError::FileTwice { path: twice[1].path.clone() });
        }
        let totals = Totals::sum(&parts, &files);
        if let Some(reason) = imbalance(&parts, &files, &totals) {
            return Err(AssembleError::Imbalance { reason });
        }
        Ok(Self { parts, files, totals, undocumented_fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: u64, records: u64, rejected_records: u64) -> (u64, PartFacts) {
        (
            index,
            PartFacts { name: format!("part-{index}"), records, rejected_records, ..PartFacts::default() },
        )
    }

    fn file(path: &str, rows: u64) -> WrittenFile {
        let facts = DataFile {
            path: path.to_owned(),
            snapshot_date: "2021-01-11".parse().unwrap(),
            os_platform: None,
            rows,
            bytes: 10,
            row_groups: 1,
            sha256: String::new(),
        };
        WrittenFile { facts, statistics: FileStatistics::empty() }
    }

    fn rejects() -> FinishedFile {
        FinishedFile { path: "rejects.ndjson.gz".to_owned(), bytes: 1, sha256: String::new() }
    }

    fn two_tasks() -> [Portion; 2] {
        let undocumented_fields = BTreeMap::from([("New".to_owned(), 2)]);
        [
            Portion {
                task_id: Some(serde_json::from_value("00000001".into()).unwrap()),
                parts: vec![part(2, 5, 1), part(0, 1, 0)],
                files: vec![file("b", 5)],
                rejects: Some(rejects()),
                undocumented_fields: undocumented_fields.clone(),
                uploads: Vec::new(),
            },
            Portion {
                parts: vec![part(1, 3, 0)],
                files: vec![file("a", 3)],
                undocumented_fields,
                ..Portion::default()
            },
        ]
    }

    #[test]
    fn tasks_make_one_snapshot_in_listing_order() {
        let text = serde_json::to_string(&two_tasks()).unwrap();
        let received: Vec<Portion> = serde_json::from_str(&text).unwrap();
        assert_eq!(received, two_tasks());
        let snapshot = WrittenSnapshot::assemble(&received, Some(3)).unwrap();
        assert_eq!(
            snapshot.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
            ["part-0", "part-1", "part-2"]
        );
        assert_eq!(snapshot.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (snapshot.totals.records, snapshot.totals.rows, snapshot.totals.rejected_records),
            (9, 8, 1)
        );
        assert_eq!(snapshot.undocumented_fields["New"], 4);
    }

    #[test]
    fn what_is_lost_or_comes_twice_is_refused() {
        let check = |num_listed: u64, expected: &str, change: &dyn Fn(&mut [Portion; 2])| {
            let mut tasks = two_tasks();
            change(&mut tasks);
            let error = WrittenSnapshot::assemble(&tasks, Some(num_listed)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(4, "4 parts were listed and 3 read", &|_| {});
        check(3, "part part-2 was read twice", &|tasks| tasks[1].parts[0] = part(2, 3, 0));
        check(3, "b was written twice", &|tasks| tasks[1].files[0].facts.path = "b".to_owned());
        check(3, "9 records read, but 7 rows written and 1 records rejected", &|tasks| {
            tasks[0].files[0].facts.rows -= 1;
        });
        check(3, "1 rejects were counted, and 0 files of rejects were written", &|tasks| {
            tasks[0].rejects = None;
        });
        check(3, "0 rejects were counted, and 1 files of rejects were written", &|tasks| {
            tasks[1].rejects = Some(rejects());
        });
    }
}
