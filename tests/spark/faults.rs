//! An ingest with executors in which something is killed, fails or is done twice, on every place that a lake can be in. It ends in
//! a snapshot that verifies or in none, and the next run is clean. `make test-spark-faults` runs these: a session each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fixtures::{At, Emulator, Fault, RetryAfter, Tenant, TenantOptions};

use super::{CLUSTER, repository};
use crate::secrets::assert_holds_no_secret;
use crate::stores::{Kind, Store};
use crate::support::{Run, unlimited};

macro_rules! on_every_store {
    ($($law:ident)*) => {
        mod disk { $(#[test] fn $law() { super::$law(&super::Job::new(super::Kind::Disk)); })* }
        mod azure { $(#[test] fn $law() { super::$law(&super::Job::new(super::Kind::Azure)); })* }
        mod s3 { $(#[test] fn $law() { super::$law(&super::Job::new(super::Kind::S3)); })* }
    };
}

on_every_store! {
    failure_after_the_write_is_tried_again
    killed_worker_is_tried_again
    killed_executor_is_tried_again
    killed_driver_leaves_the_lake_as_it_was
    copy_of_a_slow_task_wins
    damaged_part_publishes_nothing
    ended_urls_are_listed_once_more
    used_up_budget_publishes_nothing
}

const PARTS: u32 = 6;

/// Real executors out of pip's Spark: two, with a core each.
const MASTER: &str = "local-cluster[2,1,1024]";

/// How long a part takes whose worker is killed meanwhile.
const STALL: Fault = Fault::Stall { after_bytes: 100 };

/// An ingest by Spark, its lake and its service.
struct Job {
    store: Store,
    emulator: Emulator,
}

impl Job {
    fn new(kind: Kind) -> Self {
        let tenant = Tenant::new(TenantOptions { devices: 40, parts: PARTS, ..TenantOptions::default() });
        let job = Self { store: Store::start(kind), emulator: unlimited(tenant) };
        let folder = job.folder();
        for name in ["marks", "conf", "events", "scratch", "work"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let path = folder.display();
        let conf = format!(
            "spark.driver.memory 1g\nspark.executor.memory 900m\nspark.local.dir {path}/scratch\nspark.ui.enabled false\n\
             spark.eventLog.enabled true\nspark.eventLog.compress false\nspark.eventLog.dir file://{path}/events\n\
             spark.speculation.interval 200ms\nspark.speculation.multiplier 1.2\nspark.speculation.quantile 0.5\n\
             spark.speculation.minTaskRuntime 500ms\nspark.speculation true\n"
        );
        std::fs::write(folder.join("conf/spark-defaults.conf"), conf).unwrap();
        job
    }

    fn folder(&self) -> PathBuf {
        self.store.sandbox.path().join("spark")
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.folder().join("marks").join(name)
    }

    /// The job, in two tasks, one of which meets a fault of `faulty/sitecustomize.py`.
    fn command(&self, master: &str, fault: Option<&str>) -> Command {
        let (sandbox, folder) = (&self.store.sandbox, self.folder());
        let mut command = Command::new(super::python(&CLUSTER));
        command.args(["-m", "defender_lake.spark", "ingest", "--master", master, "--tasks", "2", "--json"]);
        command.arg("--lake").arg(self.store.url()).arg("--work-dir").arg(sandbox.work_dir());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("AZURE_") || text.starts_with("DEFENDER_LAKE") {
                command.env_remove(name);
            }
        }
        command.envs(self.store.env(None)).envs(self.emulator.env()).env("DEFENDER_LEASE_SECS", "2");
        command.env("SPARK_CONF_DIR", folder.join("conf")).env("SPARK_WORKER_DIR", folder.join("work"));
        command.env("SPARK_LOCAL_IP", "127.0.0.1").env("PYSPARK_PYTHON", super::python(&CLUSTER));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("SPARK_HOME").env("TMPDIR", sandbox.path());
        if let Some(fault) = fault {
            command.envs(self.fault_env(fault));
        }
        command
            .current_dir(sandbox.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The variables with which Python meets a fault.
    fn fault_env(&self, fault: &str) -> [(&'static str, OsString); 3] {
        let paths = std::env::var_os("PYTHONPATH");
        let faulty = repository().join("tests/spark/faulty");
        let paths = [faulty].into_iter().chain(paths.iter().flat_map(std::env::split_paths));
        [
            ("PYTHONPATH", std::env::join_paths(paths).unwrap()),
            ("DEFENDER_TEST_FAULT", fault.into()),
            ("DEFENDER_TEST_MARKS", self.folder().join("marks").into()),
        ]
    }

    fn run(&self, fault: Option<&str>) -> Run {
        Run::of(self.command(MASTER, fault).output().unwrap())
    }

    /// Runs the job and checks that it published what one machine publishes, and nothing else.
    fn publishes_in_spite_of(&self, fault: &str) {
        let run = self.run(Some(fault)).expect(0);
        assert!(self.mark("fault").exists(), "nothing went wrong");
        self.check_published(&run);
    }

    fn check_published(&self, run: &Run) {
        assert_eq!(run.report()["outcome"], "published");
        self.check_snapshot();
        assert_holds_no_secret(&self.emulator, &self.store.sandbox, run);
    }

    /// The lake has the one snapshot, with as many rows as the program makes of the export, and nothing else.
    fn check_snapshot(&self) {
        let sandbox = crate::support::Sandbox::new();
        sandbox.ingest_via(&self.emulator, &[]).expect(0);
        let totals = |manifest: &serde_json::Value| {
            let mut totals = manifest["totals"].clone();
            for name in ["files", "bytes"] {
                totals.as_object_mut().unwrap().remove(name);
            }
            totals
        };
        let [manifest] = &self.store.manifests()[..] else { panic!("one snapshot") };
        assert_eq!(totals(manifest), totals(&sandbox.manifests()[0]));
        self.store.check_whole();
        assert_eq!(self.store.num_uploads(), 0);
    }

    /// Nothing was published; the next run is clean.
    fn check_next_run(&self, failed: &Run) {
        assert_holds_no_secret(&self.emulator, &self.store.sandbox, failed);
        assert_eq!(self.store.manifests(), Vec::<serde_json::Value>::new());
        self.emulator.clear_faults();
        let run = self.run(None).expect(0);
        self.check_published(&run);
    }
}

fn failure_after_the_write_is_tried_again(job: &Job) {
    job.publishes_in_spite_of("fail");
}

fn killed_worker_is_tried_again(job: &Job) {
    job.emulator.script(At::AnyPart, 2, STALL);
    job.publishes_in_spite_of("kill_worker");
}

fn killed_executor_is_tried_again(job: &Job) {
    job.emulator.script(At::AnyPart, 2, STALL);
    job.publishes_in_spite_of("kill_executor");
}

fn killed_driver_leaves_the_lake_as_it_was(job: &Job) {
    let mut driver = job.command(MASTER, Some("be_slow")).spawn().unwrap();
    wait_for(&mut driver, &job.mark("began"));
    driver.kill().unwrap();
    let killed = Run::of(driver.wait_with_output().unwrap());
    assert_eq!(killed.code, 128 + 9);
    job.check_next_run(&killed);
}

/// Speculation copies no task onto a host that runs it already: two workers with an address each.
fn copy_of_a_slow_task_wins(job: &Job) {
    let cluster = Standalone::start(&job.folder(), &job.fault_env("be_slow"));
    let run = Run::of(job.command(&cluster.url, Some("be_slow")).output().unwrap()).expect(0);
    assert!(job.mark("fault").exists(), "no attempt was slow");
    job.check_published(&run);
}

fn damaged_part_publishes_nothing(job: &Job) {
    // From the service it would be fetched again and again, for minutes.
    let mut command = job.command(MASTER, None);
    command.arg("--from").arg(repository().join("fixtures/corrupt/bad-crc.json.gz"));
    let run = Run::of(command.args(["--generated-time", "2021-01-11T11:01:00Z"]).output().unwrap()).expect(4);
    run.check_failed_report(4);
    job.check_next_run(&run);
}

fn ended_urls_are_listed_once_more(job: &Job) {
    job.emulator.script(At::Part(2), 1, Fault::SasExpired);
    let run = job.run(None).expect(0);
    let listings = job.emulator.calls().into_iter().filter(|call| call.path.ends_with("Export"));
    assert_eq!(listings.count(), 2);
    job.check_published(&run);
}

fn used_up_budget_publishes_nothing(job: &Job) {
    job.emulator.script(At::List, u32::MAX, Fault::Throttled(RetryAfter::Secs(3000)));
    let run = job.run(None).expect(7);
    // The next run must not wait for the service's hour.
    std::fs::remove_dir_all(job.store.sandbox.work_dir()).unwrap();
    job.check_next_run(&run);
}

/// Waits until a process has made a file.
fn wait_for(process: &mut Child, path: &Path) {
    for _ in 0..1200 {
        if path.exists() {
            return;
        }
        assert!(process.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{} is not there after two minutes", path.display());
}

/// A master and two workers, as processes.
struct Standalone {
    url: String,
    processes: Vec<Child>,
}

impl Standalone {
    /// `env`: what executors find in their environment, which is that of the workers and not the driver's.
    fn start(folder: &Path, env: &[(&'static str, OsString)]) -> Self {
        let find = "import os, pyspark; print(os.path.dirname(pyspark.__file__))";
        let found = Command::new(super::python(&CLUSTER)).args(["-c", find]).output().unwrap();
        let home = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        // Another process may take the port in between; then the master says so and the test fails.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut cluster = Self { url: format!("spark://127.0.0.1:{port}"), processes: Vec::new() };
        let mut start = |class: &str, args: &[&str]| {
            let mut command = Command::new(home.join("bin/spark-class"));
            command.arg(format!("org.apache.spark.deploy.{class}")).args(args).env_remove("SPARK_HOME");
            command.env("SPARK_CONF_DIR", folder.join("conf")).env("SPARK_LOCAL_IP", "127.0.0.1");
            command.envs(env.iter().cloned());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            cluster.processes.push(command.spawn().unwrap());
        };
        let port = port.to_string();
        start("master.Master", &["-h", "127.0.0.1", "-p", &port, "--webui-port", "0"]);
        let work = folder.join("work").display().to_string();
        for host in ["127.0.0.1", "127.0.0.2"] {
            let options = ["-h", host, "-c", "1", "-m", "1g", "-d", &work, "--webui-port", "0"];
            start("worker.Worker", &[&options[..], &[&format!("spark://127.0.0.1:{port}")]].concat());
        }
        cluster
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
