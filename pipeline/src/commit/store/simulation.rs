//! Schedules of two and three runs on one table, and of tasks that go on beside their run, interleaved at every request.
//! Invariants are checked after each request, and the final state after a last run without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::LazyLock;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::commit::delta_log::TableLog;
use crate::commit::tests::delta::parquet_file;
use crate::commit::tests::tasks::{manifest_of, write_and_send};
use crate::commit::tests::{
    EVENING, NEXT_DAY, NOON, data_file, manifest, publish_staged, run_id, snapshot_id, temp_dir,
};
use crate::commit::{CommitError, Published};
use crate::delta::DeltaError;
use crate::lake::store::simulation::{Odds, Simulation};
use crate::lake::{Claim, LakeError, MANIFEST_FILE, SUCCESS_FILE, Table};
use crate::manifest::Manifest;

/// As many as take some seconds.
const NUM_SCHEDULES: u64 = 2_000;

/// The bytes of every data file.
static DATA_FILE: LazyLock<Vec<u8>> = LazyLock::new(|| parquet_file("aaaaaaaa"));

const IDS: [&str; 3] = [NOON, EVENING, NEXT_DAY];

/// The tasks of a run that has some, and an attempt at one of them that does not count.
const TASKS: [&str; 2] = ["00000001", "00000002"];
const LOSER: &str = "00000003";

/// What one run does, or a task that goes on beside it.
#[derive(Debug, Clone, Copy)]
enum Job {
    Ingest {
        id: &'static str,
        replaces: bool,
        is_delta: bool,
        writer: Writer,
    },
    Expire {
        id: &'static str,
    },
    /// An attempt that does not count, of the run with this number.
    Task {
        id: &'static str,
        run: usize,
    },
}

/// Who writes the files of a run.
#[derive(Debug, Clone, Copy)]
enum Writer {
    /// The snapshot has no files.
    None,
    Run,
    Tasks,
}

/// How it ended, for those that were not killed.
#[derive(Debug)]
enum Ended {
    Published,
    /// Skipped, superseded, removed.
    Well,
    Failed(CommitError),
}

fn draw<T: Copy>(random: &mut Pcg32, of: &[T]) -> T {
    of[random.next_u32() as usize % of.len()]
}

fn ingest(table: &Table, run: &str, job: Job) -> Result<Ended, CommitError> {
    if let Job::Task { id, run } = job {
        write_and_send(table, id, &format!("aaaaaaa{run}"), "0000000f", &["Linux"])?;
        return Ok(Ended::Well);
    }
    let mut lock = table.lock(|| (), &|| false)?;
    let Job::Ingest { id, replaces, is_delta, writer } = job else {
        let Job::Expire { id } = job else { unreachable!() };
        lock.recover()?;
        if table.snapshots()?.iter().any(|snapshot| snapshot.id == snapshot_id(id)) {
            lock.remove_snapshots(&run_id(run), &[snapshot_id(id)])?;
        }
        return Ok(Ended::Well);
    };
    if is_delta {
        lock = lock.to_be_delta();
    }
    lock.recover()?;
    let id_text = id;
    let id = snapshot_id(id);
    if let Some(published) = table.published_on(id.date())?
        && (published.id > id || (published.id == id && !replaces && table.is_complete(&published)?))
    {
        lock.adopt_snapshots(&run_id(run))?;
        return Ok(Ended::Well);
    }
    lock.check_publishable(id)?;
    let staging = lock.stage(&run_id(run), id)?;
    let mut files = Vec::new();
    if let Writer::Tasks = writer {
        write_and_send(table, id_text, run, LOSER, &["Linux"])?;
        let mut portions = Vec::new();
        for task in TASKS {
            portions.push(write_and_send(table, id_text, run, task, &["Linux"])?);
        }
        return ended(staging.publish(&manifest_of(id_text, run, &portions), &portions, &|| false));
    }
    if let Writer::Run = writer {
        let name = format!("part-{id}-{run}-00000.parquet");
        let mut file = staging.destination().create_data_file("OSPlatform=Linux", &name)?;
        file.write_all(&DATA_FILE).unwrap();
        files.push(data_file(file.finish()?, id_text, Some("Linux"), 1));
        let mut rejects = staging.destination().create_rejects()?;
        rejects.write_all(run.as_bytes()).unwrap();
        rejects.finish()?;
    }
    let num_rejects = files.len() as u64;
    ended(publish_staged(&lock, staging, &manifest(id_text, run, files, num_rejects)))
}

fn ended(published: Result<Published, CommitError>) -> Result<Ended, CommitError> {
    match published {
        Ok(_) => Ok(Ended::Published),
        Err(CommitError::Superseded { .. } | CommitError::ConcurrentPublish { .. }) => Ok(Ended::Well),
        Err(error) => Err(error),
    }
}

/// Checks what every reader may rely on at any time: files that a manifest or the log lists exist. Notes the run of
/// every manifest that was ever in place.
fn check_readers(simulation: &Simulation, published_runs: &mut BTreeSet<String>) {
    let tree = simulation.list_tree();
    let has = |path: &str| tree.contains_key(&format!("lake/software_inventory/{path}"));
    for (name, bytes) in &tree {
        if name.ends_with(MANIFEST_FILE) && Claim::parse(bytes).is_none() {
            let manifest: Manifest = serde_json::from_slice(bytes).unwrap();
            for file in &manifest.files {
                assert!(has(&file.path), "{name} lists {}, which is not there", file.path);
            }
            published_runs.insert(manifest.run_id.to_string());
        }
    }
    let mut in_log = BTreeSet::new();
    for (_, bytes) in
        tree.iter().filter(|(name, _)| name.contains("/_delta_log/") && !name.contains("checkpoint"))
    {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            let path = |action: &str| line[action]["path"].as_str().map(str::to_owned);
            in_log.extend(path("add"));
            if let Some(path) = path("remove") {
                in_log.remove(&path);
            }
        }
    }
    for path in in_log {
        assert!(has(&path), "the log lists {path}, which is not there");
    }
}

/// Checks that the table is whole and that there are no other objects; returns the run of each snapshot.
fn check_end(simulation: &Simulation, table: &Table) -> BTreeMap<String, String> {
    let tree = simulation.list_tree();
    let mut expected: BTreeSet<String> =
        tree.keys().filter(|name| name.contains("/_delta_log/")).cloned().collect();
    let mut in_manifests = BTreeSet::new();
    let mut runs = BTreeMap::new();
    for snapshot in table.snapshots().unwrap() {
        assert!(table.is_complete(&snapshot).unwrap(), "{} has its _SUCCESS", snapshot.id);
        let below = |path: &std::path::Path| format!("lake/{}", table.below_lake(path));
        expected.insert(below(&snapshot.manifest_path));
        expected.insert(below(&table.data_folder(snapshot.id.date()).join(SUCCESS_FILE)));
        if snapshot.manifest.totals.field_rejects > 0 {
            let rejects = below(&table.rejects_path(snapshot.id));
            let run = snapshot.manifest.run_id.as_str().to_owned();
            let found = String::from_utf8(tree[&rejects].clone()).unwrap();
            assert!([run, TASKS.concat()].contains(&found), "{found}");
            expected.insert(rejects);
        }
        for file in &snapshot.manifest.files {
            expected.insert(below(&table.root().join(&file.path)));
            in_manifests.insert(file.path.clone());
        }
        runs.insert(snapshot.id.to_string(), snapshot.manifest.run_id.to_string());
    }
    assert_eq!(tree.keys().cloned().collect::<BTreeSet<_>>(), expected, "nothing else is left");
    if let Some(log) = TableLog::open(table).unwrap() {
        let live: BTreeSet<_> = log.delta().live_files().map(|file| file.path).collect();
        assert_eq!(live, in_manifests, "the log lists the same files");
    }
    runs
}

/// Whether a run that ended so may have published all the same.
fn is_open(error: &CommitError) -> bool {
    matches!(error, CommitError::CommitStateUnknown { .. } | CommitError::UndoFailed { .. })
}

fn play(seed: u64, under_way: &mut Option<Simulation>) {
    let mut random = Pcg32::seed_from_u64(seed ^ 0x5eed);
    let simulation = Simulation::new(seed % 2 == 1);
    *under_way = Some(simulation.clone());
    let temp = temp_dir();
    let table = |run| simulation.lake(temp.path(), run).table(schema::DATASETS[0]);
    let is_delta = random.next_u32().is_multiple_of(2);
    // Most runs are about one snapshot, which most tables have.
    let focus = draw(&mut random, &IDS);
    for (index, id) in IDS.into_iter().enumerate() {
        if random.next_u32().is_multiple_of(3) != (id == focus) {
            let is_delta = is_delta && random.next_u32().is_multiple_of(2);
            let job = Job::Ingest { id, replaces: false, is_delta, writer: Writer::Run };
            ingest(&table(None), &format!("0000000{index}"), job).unwrap();
        }
    }
    let num_runs = 2 + random.next_u32() as usize % 2;
    let mut jobs: Vec<Job> = (0..num_runs)
        .map(|_| {
            let id = draw(&mut random, &[focus, focus, focus, NOON, EVENING, NEXT_DAY]);
            if random.next_u32().is_multiple_of(3) {
                return Job::Expire { id };
            }
            let replaces = random.next_u32().is_multiple_of(2);
            let writer = draw(&mut random, &[Writer::None, Writer::Run, Writer::Run, Writer::Tasks]);
            Job::Ingest { id, replaces, is_delta: is_delta && random.next_u32().is_multiple_of(2), writer }
        })
        .collect();
    for run in 0..num_runs {
        if let Job::Ingest { id, writer: Writer::Tasks, .. } = jobs[run] {
            jobs.push(Job::Task { id, run });
        }
    }
    let odds = Odds {
        switch: draw(&mut random, &[1, 3, 10, 40]),
        lost: draw(&mut random, &[0, 0, 10]),
        late: draw(&mut random, &[0, 0, 10]),
        killed: draw(&mut random, &[0, 3, 10]),
    };
    let mut published_runs = BTreeSet::new();
    let runs = jobs.iter().enumerate().map(|(index, job)| {
        let table = &table;
        let run: Box<dyn FnOnce() -> Ended + Send + '_> = Box::new(move || {
            ingest(&table(Some(index)), &format!("aaaaaaa{index}"), *job).unwrap_or_else(Ended::Failed)
        });
        run
    });
    let ended = simulation
        .schedule(seed, odds, runs.collect(), &mut || check_readers(&simulation, &mut published_runs));
    // A last run without faults.
    let last = Job::Ingest { id: "20210113T120000Z", replaces: false, is_delta: false, writer: Writer::Run };
    ingest(&table(None), "ffffffff", last).unwrap();
    check_readers(&simulation, &mut published_runs);
    check_end(&simulation, &table(None));
    if odds.killed + odds.late + odds.lost == 0 {
        // Otherwise an upload may be left that no journal names.
        assert_eq!(simulation.num_uploads(), 0);
    }
    for (index, ended) in ended.iter().enumerate() {
        let run = format!("aaaaaaa{index}");
        match ended {
            Ended::Published => assert!(published_runs.contains(&run), "{run} said that it published"),
            Ended::Failed(error) if !simulation.is_killed(index) && !is_open(error) => {
                assert!(!published_runs.contains(&run), "{run} said that it did not publish: {error}");
                let is_expected = match error {
                    // Leases have no length here: the lock can come and go twice while it is tried.
                    CommitError::Lake(
                        LakeError::LeaseLost { .. }
                        | LakeError::UploadsAborted { .. }
                        | LakeError::NoConditionalWrites { .. }
                        | LakeError::Store { .. },
                    ) => true,
                    CommitError::Lake(LakeError::Delta(error)) => {
                        matches!(**error, DeltaError::DateChanged { .. })
                    }
                    _ => false,
                };
                assert!(is_expected, "{run}: {error:?}");
            }
            Ended::Failed(_) | Ended::Well => {}
        }
    }
}

#[test]
fn schedules_of_several_runs_keep_snapshots_whole() {
    // `SIMULATION_SEEDS=2709..2710` plays others.
    let seeds = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| format!("0..{NUM_SCHEDULES}"));
    let (first, end) = seeds.split_once("..").unwrap();
    for seed in first.parse::<u64>().unwrap()..end.parse().unwrap() {
        let mut simulation = None;
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(seed, &mut simulation)));
        if played.is_err() {
            let trace = simulation.as_ref().map(Simulation::trace);
            panic!("seed {seed}, see above\n{}", trace.unwrap_or_default());
        }
    }
}
