//! Runs whose parts are read by tasks: what they publish is what one machine publishes, whatever becomes of single attempts.
//! The cluster is threads of this process; assignments and reports cross as bytes, as they do on Spark.

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use fixtures::{At, Emulator, Fault, PartFormat, Tenant, TenantOptions};
use pipeline::cli::IngestOptions;
use pipeline::exit_code::{Diagnostic as _, ExitCode};
use pipeline::ingest::cluster::{Cluster, ClusterError, TaskCount, run_task};
use pipeline::ingest::{IngestConfig, IngestError, MaxRejects};
use pipeline::report::{RunOutcome, RunReport};
use serde_json::Value;

use crate::stores::{Kind, Store};
use crate::support::{Run, Sandbox, take_on, unlimited};

/// An attempt at a task: takes the assignment, returns the report.
type Attempt<'a> = dyn Fn(&[u8]) -> Vec<u8> + Sync + 'a;

/// A cluster of threads, a task each.
struct Threads<'t> {
    num_tasks: usize,
    /// How a task is attempted; once if it is not given.
    attempt: Option<&'t Attempt<'t>>,
    /// The assignments of each job.
    jobs: Mutex<Vec<Vec<Vec<u8>>>>,
}

impl<'t> Threads<'t> {
    fn new(num_tasks: usize) -> Self {
        Self { num_tasks, attempt: None, jobs: Mutex::default() }
    }

    fn attempting(self, attempt: &'t Attempt<'t>) -> Self {
        Self { attempt: Some(attempt), ..self }
    }

    /// The number of tasks of each job.
    fn jobs(&self) -> Vec<usize> {
        self.jobs.lock().unwrap().iter().map(Vec::len).collect()
    }
}

impl Cluster for Threads<'_> {
    fn task_count(&self) -> Result<TaskCount, ClusterError> {
        Ok(TaskCount::Exactly(NonZeroUsize::new(self.num_tasks).unwrap()))
    }

    fn run(
        &self,
        assignments: Vec<Vec<u8>>,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, ClusterError> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(assignments.clone());
        let attempt: &Attempt<'_> = self.attempt.unwrap_or(&run_task);
        std::thread::scope(|scope| {
            let tasks: Vec<_> =
                assignments.iter().map(|assignment| scope.spawn(move || attempt(assignment))).collect();
            // The last one first: the order of reports says nothing.
            Ok(tasks.into_iter().rev().map(|task| task.join().unwrap()).collect())
        })
    }
}

fn tenant() -> Tenant {
    Tenant::new(TenantOptions { devices: 40, parts: 6, ..TenantOptions::default() })
}

/// Ingests on a cluster.
fn take(cluster: &Threads<'_>, config: &IngestConfig) -> Result<RunReport, IngestError> {
    take_on(Some(cluster), config)?.into_iter().next().unwrap().result
}

fn take_via(sandbox: &Sandbox, cluster: &Threads<'_>, emulator: &Emulator) -> Result<RunReport, IngestError> {
    take(cluster, &sandbox.impatient_config(emulator, None))
}

/// Ingests files on a cluster.
fn take_from(sandbox: &Sandbox, cluster: &Threads<'_>, paths: &[&str]) -> Result<RunReport, IngestError> {
    let mut config = config_of(sandbox, paths);
    config.max_rejects = MaxRejects::Count(u64::MAX);
    take(cluster, &config)
}

fn config_of(sandbox: &Sandbox, paths: &[&str]) -> IngestConfig {
    let options = IngestOptions {
        lake: Some(sandbox.lake().to_str().unwrap().to_owned()),
        work_dir: Some(sandbox.work_dir()),
        from: paths.iter().map(|&path| path.to_owned()).collect(),
        generated_time: Some("2021-01-11T11:01:00Z".parse().unwrap()),
        ..IngestOptions::default()
    };
    options.to_config().unwrap()
}

/// Checks that the lake is whole and holds nothing else.
#[track_caller]
fn check_whole(sandbox: &Sandbox) {
    sandbox.run("verify", &["--keys"]).expect(0);
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());
    let files = sandbox.lake_listing().into_keys().filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(files, sandbox.data_files().len(), "no file that no manifest lists");
}

/// Checks that nothing was published.
#[track_caller]
fn check_untouched(sandbox: &Sandbox) {
    let lake = sandbox.lake_listing();
    assert!(lake.is_empty(), "{lake:?}");
}

/// The totals of a manifest without those that depend on who wrote the files.
fn totals(sandbox: &Sandbox) -> Value {
    let mut totals = sandbox.manifests().pop().unwrap()["totals"].take();
    let names = totals.as_object_mut().unwrap();
    names.remove("files");
    names.remove("bytes");
    totals
}

#[test]
fn tasks_publish_what_one_machine_publishes() {
    let emulator = unlimited(tenant());
    let (one, several) = (Sandbox::new(), Sandbox::new());
    one.ingest_via(&emulator, &[]).expect(0);
    let calls = emulator.calls().len();
    let cluster = Threads::new(3);
    let report = take_via(&several, &cluster, &emulator).unwrap();
    assert_eq!(report.outcome, RunOutcome::Published);
    assert_eq!(cluster.jobs(), [3]);
    let listings = emulator.calls()[calls..].iter().filter(|call| call.path.starts_with("/api/")).count();
    assert_eq!(listings, 1, "tasks list nothing");
    check_whole(&several);
    assert_eq!((several.rows(), totals(&several)), (one.rows(), totals(&one)));
    let [parts_of_one, parts] =
        [&one, &several].map(|sandbox| sandbox.manifests().pop().unwrap()["parts"].take());
    assert_eq!(parts, parts_of_one, "in the order of the listing");
    assert!(several.data_files().len() <= 3 * one.data_files().len());

    // Nothing to do: no job.
    assert_eq!(take_via(&several, &cluster, &emulator).unwrap().outcome, RunOutcome::Skipped);
    assert_eq!(cluster.jobs(), [3]);
    // In the place of what one machine published, and into a Delta table.
    let mut config = one.impatient_config(&emulator, None);
    config.if_published = pipeline::ingest::IfPublished::Replace;
    config.table = Some(pipeline::lake::TableKind::Delta);
    assert_eq!(take(&cluster, &config).unwrap().outcome, RunOutcome::Published);
    check_whole(&one);
    assert_eq!(one.rows(), several.rows());
}

#[test]
fn files_are_read_by_tasks_with_their_rejects() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/corrupt/");
    let paths = ["no-device-id.ndjson", "wrong-values.ndjson", "not-objects.ndjson"]
        .map(|name| folder.to_owned() + name);
    let paths = paths.each_ref().map(String::as_str);
    let (one, several) = (Sandbox::new(), Sandbox::new());
    for (sandbox, num_tasks) in [(&one, 1), (&several, 3)] {
        take_from(sandbox, &Threads::new(num_tasks), &paths).unwrap();
        check_whole(sandbox);
    }
    assert_eq!((one.rows(), totals(&one)), (several.rows(), totals(&several)));
    let rejects = |sandbox: &Sandbox| {
        let path =
            sandbox.lake().join("_defender/software_inventory/snapshots/20210111T110100Z/rejects.ndjson.gz");
        let file = std::fs::File::open(path).unwrap();
        let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(file)).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(rejects(&one), rejects(&several));

    // Too many: they are kept, those of all tasks.
    let fresh = Sandbox::new();
    let mut config = config_of(&fresh, &paths);
    config.max_rejects = MaxRejects::Count(0);
    let error = take(&Threads::new(3), &config).unwrap_err();
    let IngestError::TooManyRejects { rejects: path, .. } = &error else { panic!("{error}") };
    let kept = std::fs::File::open(path).unwrap();
    let kept = std::io::read_to_string(flate2::read::MultiGzDecoder::new(kept)).unwrap();
    assert_eq!(kept.lines().count(), rejects(&one).len());
    check_untouched(&fresh);
}

#[test]
fn only_attempts_that_report_are_published() {
    let emulator = unlimited(tenant());
    let sandbox = Sandbox::new();
    // As after a killed worker, and with speculation: each task is attempted twice, one after the other or at once.
    let attempt = |assignment: &[u8]| {
        let first = run_task(assignment);
        let second = run_task(assignment);
        assert_ne!(first, second, "each attempt has files of its own");
        second
    };
    take_via(&sandbox, &Threads::new(2).attempting(&attempt), &emulator).unwrap();
    check_whole(&sandbox);

    // A task that outlives its run writes what no one publishes, and the next run removes it.
    let cluster = Threads::new(2);
    emulator.regenerate(TenantOptions::default().generated_time + TimeDelta::hours(24));
    take_via(&sandbox, &cluster, &emulator).unwrap();
    let before = sandbox.rows();
    for assignment in cluster.jobs.lock().unwrap().iter().flatten() {
        run_task(assignment);
    }
    assert_eq!(sandbox.rows(), before);
    sandbox.run("verify", &["--keys"]).expect(0);
    emulator.regenerate(TenantOptions::default().generated_time + TimeDelta::hours(48));
    take_via(&sandbox, &cluster, &emulator).unwrap();
    check_whole(&sandbox);
}

#[test]
fn ended_url_is_listed_again_once() {
    let emulator = unlimited(tenant());
    let listings = || emulator.calls().iter().filter(|call| call.path.ends_with("Export")).count();
    let (sandbox, cluster) = (Sandbox::new(), Threads::new(3));
    emulator.script(At::Part(1), 1, Fault::SasExpired);
    take_via(&sandbox, &cluster, &emulator).unwrap();
    check_whole(&sandbox);
    assert_eq!(sandbox.rows().len() as u64, tenant().num_records());
    // The second job reads the parts of one task, and no others.
    let parts_of_second = cluster.jobs.lock().unwrap()[1]
        .iter()
        .map(|assignment| {
            serde_json::from_slice::<Value>(assignment).unwrap()["parts"].as_array().unwrap().len()
        })
        .sum::<usize>();
    assert_eq!((cluster.jobs().len(), parts_of_second, listings()), (2, 2, 2));

    let (fresh, cluster) = (Sandbox::new(), Threads::new(3));
    emulator.script(At::Part(1), u32::MAX, Fault::SasExpired);
    let error = take_via(&fresh, &cluster, &emulator).unwrap_err();
    assert_eq!((error.exit_code(), cluster.jobs().len(), listings()), (ExitCode::Source, 2, 4));
    assert!(error.to_string().contains("the download url of part"), "{error}");
    assert!(error.hint().unwrap().contains("--sas-valid-hours"));
    check_untouched(&fresh);
}

#[test]
fn new_snapshot_at_the_second_listing_starts_over() {
    let emulator = unlimited(tenant());
    let later = TenantOptions::default().generated_time + TimeDelta::hours(6);
    let (sandbox, cluster) = (Sandbox::new(), Threads::new(2));
    emulator.script(At::List, 1, Fault::Nothing);
    emulator.script(At::List, 1, Fault::NewSnapshot(later));
    emulator.script(At::Part(0), 1, Fault::SasExpired);
    take_via(&sandbox, &cluster, &emulator).unwrap();
    check_whole(&sandbox);
    assert_eq!(sandbox.manifests()[0]["generated_time"], "2021-01-11T17:01:00Z");
    assert_eq!(cluster.jobs(), [2, 2], "of the new snapshot all parts are read");
}

#[test]
fn damaged_part_is_read_again_by_another_task() {
    let tenant = Tenant::new(TenantOptions { devices: 400, parts: 4, ..TenantOptions::default() });
    let emulator = unlimited(tenant.clone());
    let (sandbox, cluster) = (Sandbox::new(), Threads::new(2));
    let mut part = Vec::new();
    tenant.write_part(2, PartFormat::GZIP, &mut part).unwrap();
    // In the checksum at its end: its rows were decoded by then.
    let damage = Fault::Damaged { at_byte: part.len() as u64 - 8 };
    emulator.script(At::Part(2), 1, damage.clone());
    take_via(&sandbox, &cluster, &emulator).unwrap();
    check_whole(&sandbox);
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());

    let fresh = Sandbox::new();
    emulator.script(At::Part(2), u32::MAX, damage);
    let error = take_via(&fresh, &cluster, &emulator).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Source, "{error}");
    check_untouched(&fresh);
}

#[test]
fn failure_of_a_task_is_that_of_the_run() {
    let emulator = unlimited(tenant());
    let (sandbox, cluster) = (Sandbox::new(), Threads::new(2));
    emulator.script(At::Part(3), u32::MAX, Fault::Status(404));
    let error = take_via(&sandbox, &cluster, &emulator).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("could not be fetched: gave up after 4 attempts"), "{message}");
    assert!(!message.contains("sig="), "{message}");
    assert_eq!((error.exit_code(), cluster.jobs()), (ExitCode::Source, vec![2]));
    check_untouched(&sandbox);

    // A file that changes between the listing and the task.
    let parts = Sandbox::new();
    let path = parts.path().join("part.ndjson");
    std::fs::write(&path, "{\"DeviceId\":\"a\"}\n").unwrap();
    let attempt = |assignment: &[u8]| {
        std::fs::write(&path, "{\"DeviceId\":\"abc\"}\n").unwrap();
        run_task(assignment)
    };
    let cluster = Threads::new(1).attempting(&attempt);
    let error = take_from(&sandbox, &cluster, &[path.to_str().unwrap()]).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Source);
    assert!(error.to_string().contains("was changed while it was ingested"), "{error}");

    // What is no report, and what is no assignment.
    emulator.clear_faults();
    let cases: [(&Attempt<'_>, &str); 2] = [
        (&|_| b"sig=SECRET".to_vec(), "a task returned what is not a report"),
        (&|assignment| run_task(&assignment[1..]), "a task was given no valid assignment"),
    ];
    for (attempt, expected) in cases {
        let error = take_via(&sandbox, &Threads::new(1).attempting(attempt), &emulator).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Internal);
        assert!(error.to_string().contains(expected), "{error}");
        check_untouched(&sandbox);
    }
}

#[test]
fn pages_are_read_on_the_driver() {
    let emulator = unlimited(tenant());
    let (sandbox, cluster) = (Sandbox::new(), Threads::new(2));
    let mut config = sandbox.impatient_config(&emulator, None);
    let pipeline::source::RouteConfig::Service(service) = &mut config.source.route else {
        panic!("the default")
    };
    service.via = Some(pipeline::source::ApiRoute::Json);
    assert_eq!(take(&cluster, &config).unwrap().outcome, RunOutcome::Published);
    assert_eq!(cluster.jobs(), Vec::<usize>::new());
    check_whole(&sandbox);

    config.keep_parts = true;
    let error = take_on(Some(&cluster), &config).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (ExitCode::Usage, "--keep-parts cannot be used with executors")
    );
}

/// The variable that names a lake in a store, whose own variables are set too.
const LAKE_IN_STORE: &str = "PORTIONS_LAKE";

#[test]
fn tasks_publish_in_stores() {
    for kind in [Kind::S3, Kind::Azure] {
        let store = Store::start(kind);
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "portions::run_of_a_store_by_its_variables"])
            .envs(store.env(None))
            .env(LAKE_IN_STORE, store.url())
            .output()
            .unwrap();
        Run::of(run).expect(0);
        Run::of(store.command("verify").arg("--keys").output().unwrap()).expect(0);
        let snapshots = Run::of(store.command("snapshots").arg("--json").output().unwrap()).expect(0);
        let manifests: Value = serde_json::from_str(&snapshots.stdout).unwrap();
        assert_eq!(manifests[0]["totals"]["records"], tenant().num_records());
        let files = manifests[0]["files"].as_array().unwrap().len();
        let objects = store.list();
        assert_eq!(objects.keys().filter(|name| name.ends_with(".parquet")).count(), files);
        assert!(!objects.keys().any(|name| name.contains("/staging/")), "{objects:?}");
        assert_eq!(store.num_uploads(), 0);
    }
}

/// Only as a process of the test above: the environment of this one leads to no store.
#[test]
fn run_of_a_store_by_its_variables() {
    let Ok(lake) = std::env::var(LAKE_IN_STORE) else { return };
    let emulator = unlimited(tenant());
    let sandbox = Sandbox::new();
    let mut config = sandbox.impatient_config(&emulator, None);
    config.lake = lake;
    // A first attempt whose report is lost.
    let attempt = |assignment: &[u8]| {
        run_task(assignment);
        run_task(assignment)
    };
    let cluster = Threads::new(2).attempting(&attempt);
    assert_eq!(take(&cluster, &config).unwrap().outcome, RunOutcome::Published);
    // The driver fails: what its tasks have sent is aborted.
    emulator.regenerate(TenantOptions::default().generated_time + TimeDelta::hours(24));
    let fail = |assignment: &[u8]| {
        run_task(assignment);
        b"lost".to_vec()
    };
    take(&Threads::new(2).attempting(&fail), &config).unwrap_err();
}
