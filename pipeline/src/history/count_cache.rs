//! What a table's caches hold: the changes of each pair of consecutive snapshots and the figures of each snapshot, so that
//! each is counted once.
//!
//! Takes the published snapshots; gives the counts of an entry from the cache, or counts them and adds them. An entry is
//! found by a digest of all that its counts follow from: every data file of its snapshots by its hash, the dataset's
//! declaration, and the rules of counting. A replaced, expired or repeated snapshot has another digest, so the cache
//! never gives the counts of one that is gone, and nobody has to remove them in time.
//!
//! One JSON object a line and entry. A line that is damaged, of an earlier program or of snapshots that no longer exist is
//! ignored, and gone after the next write. A cache that cannot be read or written costs time and is no failure.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::HistoryError;
use super::roles::Roles;
use crate::digest::sha256_hex;
use crate::lake::{CacheFile, PublishedSnapshot, Table};

/// Raised with every change of what a diff counts. Counts of earlier rules are not used.
const RULES_VERSION: u32 = 1;

/// Raised with every change of what `trend` counts.
const FIGURE_RULES_VERSION: u32 = 1;

/// Counted entries that an interrupted run loses, at most.
const ENTRIES_PER_WRITE: usize = 16;

/// Digits of a line's check: against damage, not against people, who can change the data as well.
const CHECK_DIGITS: usize = 16;

/// The counts of an entry, in the order of their names: [`Roles::kinds`], or [`Roles::counted_names`].
pub type Counts = Vec<i64>;

/// The counts of a table's snapshots, or of its pairs of consecutive snapshots.
#[derive(Debug)]
pub struct CountCache<'a> {
    table: &'a Table,
    file: CacheFile,
    names: Vec<&'static str>,
    /// One for each snapshot, or for each pair by the position of its older snapshot.
    entries: Vec<Entry>,
    known: HashMap<String, Counts>,
    num_unwritten: usize,
}

#[derive(Debug)]
struct Entry {
    /// The digest that it is found by.
    key: String,
    /// Its snapshot, or its pair's older one.
    snapshot: String,
    /// Its pair's newer snapshot.
    to: Option<String>,
}

/// A line of a cache.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    counted: Counted,
    check: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Counted {
    Pair { from: String, to: String, changes: BTreeMap<String, i64> },
    Snapshot { snapshot: String, figures: BTreeMap<String, i64> },
}

impl<'a> CountCache<'a> {
    /// Reads the changes of a table whose snapshots are `published`, oldest first and all of them.
    pub fn of_changes(table: &'a Table, roles: Roles, published: &[PublishedSnapshot]) -> Self {
        let basis = basis(RULES_VERSION, table, roles);
        let digests: Vec<_> = published.iter().map(snapshot_digest).collect();
        let pairs = published.windows(2).zip(digests.windows(2)).map(|(snapshots, digests)| Entry {
            key: sha256_hex(format!("{basis}\n{}", digests.join("\n"))),
            snapshot: snapshots[0].id.to_string(),
            to: Some(snapshots[1].id.to_string()),
        });
        Self::read(table, CacheFile::Changes, roles.kinds(), pairs.collect())
    }

    /// Reads the figures of a table whose snapshots are `published`, all of them.
    pub fn of_figures(table: &'a Table, roles: Roles, published: &[PublishedSnapshot]) -> Self {
        let basis = basis(FIGURE_RULES_VERSION, table, roles);
        let snapshots = published.iter().map(|snapshot| Entry {
            key: sha256_hex(format!("{basis}\n{}", snapshot_digest(snapshot))),
            snapshot: snapshot.id.to_string(),
            to: None,
        });
        Self::read(table, CacheFile::Figures, roles.counted_names(), snapshots.collect())
    }

    fn read(table: &'a Table, file: CacheFile, names: Vec<&'static str>, entries: Vec<Entry>) -> Self {
        let mut cache = Self { table, file, names, entries, known: HashMap::new(), num_unwritten: 0 };
        match table.read_cache(file) {
            Ok(bytes) => cache.known = cache.parse(&bytes.unwrap_or_default()),
            Err(error) => tracing::debug!(error = %error, ?file, "the cache cannot be read"),
        }
        cache
    }

    /// Returns the counts of the entry at `position`, if the cache has them.
    pub fn get(&self, position: usize) -> Option<&Counts> {
        self.known.get(&self.entries[position].key)
    }

    /// Adds the counts of the entry at `position`.
    ///
    /// # Panics
    ///
    /// If there is not a count for each name.
    pub fn insert(&mut self, position: usize, counts: Counts) {
        assert_eq!(counts.len(), self.names.len(), "a count for each name");
        self.known.insert(self.entries[position].key.clone(), counts);
        self.num_unwritten += 1;
        if self.num_unwritten == ENTRIES_PER_WRITE {
            self.write();
        }
    }

    /// Returns the counts of the entry at `position`: from the cache, or from `count`.
    ///
    /// # Errors
    ///
    /// What `count` returns.
    pub fn get_or_count(
        &mut self,
        position: usize,
        count: impl FnOnce() -> Result<Counts, HistoryError>,
    ) -> Result<Counts, HistoryError> {
        if let Some(known) = self.get(position) {
            return Ok(known.clone());
        }
        let counts = count()?;
        self.insert(position, counts.clone());
        Ok(counts)
    }

    /// Writes what was counted, together with what others have written.
    pub fn write(&mut self) {
        if self.num_unwritten == 0 {
            return;
        }
        self.num_unwritten = 0;
        let written = self.table.update_cache(self.file, |found| {
            let mut all = self.parse(&found.unwrap_or_default());
            all.extend(self.known.iter().map(|(key, counts)| (key.clone(), counts.clone())));
            self.to_bytes(&all)
        });
        if let Err(error) = written {
            tracing::debug!(error = %error, file = ?self.file, "the cache cannot be written");
        }
    }

    /// Returns the counts of entries that exist.
    fn parse(&self, bytes: &[u8]) -> HashMap<String, Counts> {
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let counts = |line: &Line| {
            let found = match (&line.counted, self.file) {
                (Counted::Pair { changes, .. }, CacheFile::Changes) => changes,
                (Counted::Snapshot { figures, .. }, CacheFile::Figures) => figures,
                _ => return None,
            };
            let counts: Vec<_> = self.names.iter().map_while(|name| found.get(*name).copied()).collect();
            let is_whole = counts.len() == self.names.len() && line.check == check(&line.key, &counts);
            is_whole.then_some(counts)
        };
        let found: HashMap<_, _> = lines
            .filter_map(|line: Line| Some((counts(&line)?, line.key)))
            .map(|(counts, key)| (key, counts))
            .collect();
        let existing = self.entries.iter().filter_map(|entry| found.get_key_value(&entry.key));
        existing.map(|(key, counts)| (key.clone(), counts.clone())).collect()
    }

    fn to_bytes(&self, known: &HashMap<String, Counts>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Entry { key, snapshot, to } in &self.entries {
            let Some(counts) = known.get(key) else { continue };
            let named =
                self.names.iter().map(|name| (*name).to_owned()).zip(counts.iter().copied()).collect();
            let counted = match to.clone() {
                Some(to) => Counted::Pair { from: snapshot.clone(), to, changes: named },
                None => Counted::Snapshot { snapshot: snapshot.clone(), figures: named },
            };
            let line = Line { key: key.clone(), counted, check: check(key, counts) };
            serde_json::to_writer(&mut bytes, &line).expect("text keys and plain values serialise");
            bytes.push(b'\n');
        }
        bytes
    }
}

/// Returns what counts follow from beside the snapshots.
fn basis(rules_version: u32, table: &Table, roles: Roles) -> String {
    let dataset = table.dataset();
    format!("{rules_version} {} {} {:?}", dataset.name, dataset.version, *roles)
}

/// Returns the digest of a snapshot's content: of what is read. Its run and the names of its files alone would do,
/// since a run never writes a name twice; the hashes hold even if a person moves files between lakes.
fn snapshot_digest(snapshot: &PublishedSnapshot) -> String {
    let manifest = &snapshot.manifest;
    let mut text = format!("{} {} {}", snapshot.id, manifest.run_id, manifest.schema_version);
    for file in &manifest.files {
        let _ = write!(text, "\n{:?} {:?} {} {:?}", file.path, file.os_platform, file.rows, file.sha256);
    }
    sha256_hex(text)
}

fn check(key: &str, counts: &[i64]) -> String {
    let mut check = sha256_hex(format!("{key} {counts:?}"));
    check.truncate(CHECK_DIGITS);
    check
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::commit::tests::{
        Content, EVENING, NEXT_DAY, NOON, lock, open_table, publish, run_id, snapshot_id, temp_dir,
    };
    use crate::lake::lease_times::LeaseTimes;
    use crate::lake::store::faulty::{Fault, Faulty};
    use crate::verify::verify_layout;

    const DAY_AFTER: &str = "20210113T120000Z";

    fn lake(root: &Path) -> Table {
        fill(open_table(root))
    }

    fn fill(table: Table) -> Table {
        for (id, run) in [(NOON, "aaaaaaaa"), (NEXT_DAY, "bbbbbbbb"), (DAY_AFTER, "cccccccc")] {
            publish(&table, id, run, Content::Full).unwrap();
        }
        table
    }

    /// Asks for every pair and returns the runs of those that had to be counted. The counts that are given tell the
    /// pairs apart: the answers must be the same, counted or not.
    #[track_caller]
    fn counted(table: &Table) -> Vec<String> {
        let published = table.snapshots().unwrap();
        let roles = Roles::of(table.dataset()).unwrap();
        let mut cache = CountCache::of_changes(table, roles, &published);
        let counted = RefCell::new(Vec::new());
        for (position, pair) in published.windows(2).enumerate() {
            let runs = [0, 1].map(|side| pair[side].manifest.run_id.as_str());
            let number = runs.iter().map(|run| i64::from_str_radix(run, 16).unwrap()).sum::<i64>();
            let expected: Counts = (number..).take(roles.kinds().len()).collect();
            let count = || {
                counted.borrow_mut().push(runs.map(|run| &run[..1]).join(""));
                Ok(expected.clone())
            };
            assert_eq!(cache.get_or_count(position, count).unwrap(), expected);
        }
        cache.write();
        assert_eq!(verify_layout(table).unwrap(), [], "the cache is no finding");
        counted.into_inner()
    }

    fn cache_path(table: &Table) -> PathBuf {
        table.own_root().join("changes.ndjson")
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn another_day_costs_one_pair() {
        let temp = temp_dir();
        let table = lake(temp.path());
        assert_eq!(counted(&table), ["ab", "bc"]);
        assert_eq!(counted(&table), NONE);
        publish(&table, "20210114T120000Z", "dddddddd", Content::Full).unwrap();
        assert_eq!(counted(&table), ["cd"]);
        publish(&table, "20210112T230000Z", "eeeeeeee", Content::Full).unwrap();
        assert_eq!(counted(&table), ["ae", "ec"], "a replaced day costs both of its pairs");
        std::fs::remove_file(cache_path(&table)).unwrap();
        assert_eq!(counted(&table), ["ae", "ec", "cd"]);
    }

    #[test]
    fn replaced_snapshot_is_counted_again() {
        let temp = temp_dir();
        let table = lake(temp.path());
        counted(&table);
        // The same generated time, as with `--if-published replace`, and even the same bytes.
        publish(&table, NEXT_DAY, "dddddddd", Content::Full).unwrap();
        assert_eq!(counted(&table), ["ad", "dc"]);
        publish(&table, EVENING, "eeeeeeee", Content::Full).unwrap();
        assert_eq!(counted(&table), ["ed"]);
        assert_eq!(counted(&table), NONE);
        let text = std::fs::read_to_string(cache_path(&table)).unwrap();
        assert_eq!(text.lines().count(), 2, "pairs that no longer exist are gone: {text}");
    }

    #[test]
    fn expired_snapshot_makes_a_new_pair() {
        let temp = temp_dir();
        let table = lake(temp.path());
        counted(&table);
        lock(&table).remove_snapshots(&run_id("dddddddd"), &[snapshot_id(NEXT_DAY)]).unwrap();
        assert_eq!(counted(&table), ["ac"]);
        publish(&table, NEXT_DAY, "bbbbbbbb", Content::Full).unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        lock(&table).remove_snapshots(&run_id("eeeeeeee"), &[snapshot_id(NOON)]).unwrap();
        assert_eq!(counted(&table), NONE);
    }

    #[test]
    fn damaged_lines_are_counted_again() {
        let temp = temp_dir();
        let table = lake(temp.path());
        counted(&table);
        let path = cache_path(&table);
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = whole.lines().collect();
        let first = "installed\":";
        for (damaged, expected) in [
            (whole[..whole.len() - 5].to_owned(), &["bc"][..]),
            (format!("{}\n\n{}\n", lines[1], lines[0]), &[]),
            (whole.replacen(first, "installed\":1", 1), &["ab"]),
            (whole.replacen("removed", "remove", 1), &["ab"]),
            (whole.replacen("removed\":", "removed\":-", 2), &["ab", "bc"]),
            (lines[0].replace("\"key\":\"", "\"key\":\"0"), &["ab", "bc"]),
            (format!("{}\n{}", "[".repeat(1 << 20), lines[1]), &["ab"]),
            (String::new(), &["ab", "bc"]),
            ("null\n{}\n".to_owned(), &["ab", "bc"]),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(counted(&table), expected, "{damaged:.200}");
            assert_eq!(counted(&table), NONE);
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                if expected.is_empty() { damaged } else { whole.clone() }
            );
        }
        std::fs::write(&path, b"\xff\xfe\n").unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(counted(&table), ["ab", "bc"], "too large to be read");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn other_rules_are_other_pairs() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let published = table.snapshots().unwrap();
        let roles = Roles::of(table.dataset()).unwrap();
        let key = |published: &[PublishedSnapshot]| {
            CountCache::of_changes(&table, roles, published).entries[0].key.clone()
        };
        let first = key(&published);
        let changed = |change: &dyn Fn(&mut PublishedSnapshot)| {
            let mut published = published.clone();
            change(&mut published[1]);
            assert_ne!(key(&published), first);
        };
        changed(&|snapshot| snapshot.manifest.files[0].sha256 = "0".repeat(64));
        changed(&|snapshot| snapshot.manifest.files[0].os_platform = None);
        changed(&|snapshot| drop(snapshot.manifest.files.pop()));
        changed(&|snapshot| snapshot.manifest.run_id = run_id("dddddddd"));
        changed(&|snapshot| snapshot.manifest.schema_version += 1);
        changed(&|snapshot| snapshot.id = snapshot_id(DAY_AFTER));
        assert!(
            basis(RULES_VERSION, &table, roles).starts_with(&format!("{RULES_VERSION} software_inventory "))
        );
    }

    #[test]
    fn cache_that_cannot_be_written_is_no_failure() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let (path, new) = (cache_path(&table), table.own_root().join("changes.ndjson.new"));
        // Tests may run as root, whom no permissions stop, so a folder is in the way.
        std::fs::create_dir(&new).unwrap();
        for _ in 0..2 {
            assert_eq!(counted(&table), ["ab", "bc"]);
        }
        std::fs::remove_dir(&new).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("theirs"), "").unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        assert!(!new.exists());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        assert_eq!(counted(&table), NONE);
    }

    #[test]
    fn what_is_in_the_way_is_never_written_to() {
        let temp = temp_dir();
        let table = lake(temp.path());
        let (path, new) = (cache_path(&table), table.own_root().join("changes.ndjson.new"));
        let theirs = temp.path().join("theirs");
        std::fs::write(&theirs, "theirs").unwrap();
        symlink(&theirs, &path).unwrap();
        std::fs::hard_link(&theirs, &new).unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        assert_eq!(counted(&table), NONE);
        symlink(&theirs, &new).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(counted(&table), ["ab", "bc"], "and nothing is written through a link");
        std::fs::remove_file(&new).unwrap();
        // Of a writer that was killed.
        std::fs::write(&new, "{\"key\":").unwrap();
        assert_eq!(counted(&table), ["ab", "bc"]);
        assert_eq!(counted(&table), NONE);
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
    }

    #[test]
    fn second_writer_keeps_what_the_first_counted() {
        let temp = temp_dir();
        let in_store = Faulty::new().lake(temp.path(), LeaseTimes::IMPATIENT).table(schema::DATASETS[0]);
        for table in [lake(&temp.path().join("lake")), fill(in_store)] {
            let published = table.snapshots().unwrap();
            let roles = Roles::of(table.dataset()).unwrap();
            let mut caches = [0, 1].map(|_| CountCache::of_changes(&table, roles, &published));
            for (position, cache) in caches.iter_mut().enumerate() {
                cache.get_or_count(position, || Ok(vec![7; roles.kinds().len()])).unwrap();
            }
            caches.iter_mut().for_each(CountCache::write);
            let cache = CountCache::of_changes(&table, roles, &published);
            assert_eq!(cache.known.len(), 2);
        }
    }

    #[test]
    fn many_writers_leave_a_whole_cache() {
        let temp = temp_dir();
        let table = lake(temp.path());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        counted(&table);
                        let text = std::fs::read_to_string(cache_path(&table)).unwrap_or_default();
                        assert!(text.is_empty() || text.ends_with('\n'));
                    }
                });
            }
            for _ in 0..10 {
                let _ = std::fs::remove_file(cache_path(&table));
                std::thread::yield_now();
            }
        });
        counted(&table);
        assert_eq!(counted(&table), NONE);
    }

    #[test]
    fn store_is_asked_and_its_refusals_are_ignored() {
        let temp = temp_dir();
        let store = Faulty::new();
        let table = fill(store.lake(temp.path(), LeaseTimes::IMPATIENT).table(schema::DATASETS[0]));
        // Neither a lost write nor a lost response to one is a failure.
        for after in [false, true] {
            store.set(Fault { at: 0, after, for_good: false });
            assert_eq!(counted(&table), ["ab", "bc"]);
            store.clear();
        }
        assert_eq!(counted(&table), NONE);
        publish(&table, "20210114T120000Z", "dddddddd", Content::Full).unwrap();
        assert_eq!(counted(&table), ["cd"]);
        assert_eq!(counted(&table), NONE);
    }

    #[test]
    fn counts_of_an_interrupted_run_are_kept() {
        let temp = temp_dir();
        let table = open_table(temp.path());
        let num_pairs = ENTRIES_PER_WRITE + 1;
        for day in 0..=num_pairs {
            publish(&table, &format!("202101{:02}T120000Z", day + 1), &format!("{day:08x}"), Content::Full)
                .unwrap();
        }
        let published = table.snapshots().unwrap();
        let roles = Roles::of(table.dataset()).unwrap();
        let mut cache = CountCache::of_changes(&table, roles, &published);
        for position in 0..num_pairs {
            cache.get_or_count(position, || Ok(vec![0; roles.kinds().len()])).unwrap();
        }
        // As after a kill: not written.
        drop(cache);
        assert_eq!(CountCache::of_changes(&table, roles, &published).known.len(), ENTRIES_PER_WRITE);
    }
}
