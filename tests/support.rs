//! What the integration tests share: a sandbox, the real program, and the lake read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::{Emulator, EmulatorOptions, Tenant, TenantOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline::auth::Credentials;
use pipeline::cancel::Cancel;
use pipeline::cli::IngestOptions;
use pipeline::fetch::{MinThroughput, RetryPolicy};
use pipeline::http::Secret;
use pipeline::ingest::cluster::Cluster;
use pipeline::ingest::{IngestConfig, IngestError, TakenDataset, ingest_on};
use pipeline::report::RunReport;
use pipeline::source::RouteConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a lake and a work dir, gone when dropped.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn lake(&self) -> PathBuf {
        self.path().join("lake")
    }

    pub fn work_dir(&self) -> PathBuf {
        self.path().join("work")
    }

    /// The program with this sandbox's folders and without the caller's variables that it would read.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_defender-lake"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AZURE_") || name.to_string_lossy().starts_with("DEFENDER_")
            {
                command.env_remove(name);
            }
        }
        command.arg(subcommand).env("DEFENDER_LAKE", self.lake()).current_dir(self.path());
        if subcommand == "ingest" {
            command.arg("--work-dir").arg(self.work_dir());
        }
        command
    }

    pub fn run(&self, subcommand: &str, args: &[&str]) -> Run {
        Run::of(self.command(subcommand).args(args).output().unwrap())
    }

    /// Ingests from the emulator.
    pub fn ingest_via(&self, emulator: &Emulator, args: &[&str]) -> Run {
        Run::of(self.ingest_command(emulator, args).output().unwrap())
    }

    pub fn ingest_command(&self, emulator: &Emulator, args: &[&str]) -> Command {
        let mut command = self.command("ingest");
        command.envs(emulator.env()).args(args).stdin(Stdio::null());
        command
    }

    /// Starts an ingest with its output kept for [`Run::of`].
    pub fn spawn_ingest(&self, emulator: &Emulator, args: &[&str]) -> Child {
        self.ingest_command(emulator, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Ingests from the emulator in this process, with limits so short that a test can wait for them.
    pub fn ingest_impatiently(&self, emulator: &Emulator) -> Result<RunReport, IngestError> {
        let taken = self.take_impatiently(emulator, None)?;
        taken.into_iter().next().unwrap().result
    }

    /// Ingests datasets in the same way.
    pub fn take_impatiently(
        &self,
        emulator: &Emulator,
        datasets: Option<&str>,
    ) -> Result<Vec<TakenDataset>, IngestError> {
        take_on(None, &self.impatient_config(emulator, datasets))
    }

    /// The configuration of an ingest from the emulator with limits so short that a test can wait for them.
    pub fn impatient_config(&self, emulator: &Emulator, datasets: Option<&str>) -> IngestConfig {
        let options = IngestOptions {
            lake: Some(self.lake().to_str().unwrap().to_owned()),
            dataset: datasets.map(str::to_owned),
            work_dir: Some(self.work_dir()),
            api_url: Some(emulator.api_url().parse().unwrap()),
            login_url: Some(emulator.login_url().parse().unwrap()),
            ..IngestOptions::default()
        };
        let mut config = options.to_config().unwrap();
        config.source.unlimited_calls = true;
        config.source.part_retry = RetryPolicy {
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
            max_attempts: 4,
            max_elapsed: Duration::from_mins(1),
        };
        config.source.min_throughput = MinThroughput { window: Duration::from_millis(300), min_bytes: 1 };
        let RouteConfig::Service(service) = &mut config.source.route else { panic!("the default route") };
        service.api.credentials = Credentials {
            tenant_id: Some(emulator.tenant_id().to_owned()),
            client_id: Some(emulator.client_id().to_owned()),
            client_secret: Some(Secret::new(emulator.client_secret())),
            ..Credentials::default()
        };
        config
    }

    /// Every file of the lake with its bytes' hash: equal listings are equal lakes.
    pub fn lake_listing(&self) -> BTreeMap<String, u64> {
        let mut listing = BTreeMap::new();
        list(&self.lake(), &self.lake(), &mut listing);
        listing
    }

    /// Names of runs that left files in staging.
    pub fn staged_runs(&self) -> Vec<String> {
        let staging = self.lake().join("_defender/software_inventory/staging");
        match std::fs::read_dir(staging) {
            Ok(entries) => entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The manifests of the lake, oldest first.
    pub fn manifests(&self) -> Vec<Value> {
        let run = self.run("snapshots", &["--json"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// The data files that the manifests list: path, and what the manifest says of it.
    pub fn data_files(&self) -> Vec<(PathBuf, Value)> {
        let manifests = self.manifests();
        let files = manifests.iter().flat_map(|manifest| manifest["files"].as_array().unwrap());
        let table = self.lake().join("software_inventory");
        files.map(|file| (table.join(file["path"].as_str().unwrap()), file.clone())).collect()
    }

    /// Every row of the lake with its partition, sorted; see [`rows_of`].
    pub fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for (path, file) in self.data_files() {
            let partition = format!("{} {}", file["snapshot_date"], file["os_platform"]);
            rows.extend(rows_of(&path).into_iter().map(|row| format!("{partition} {}", row.join("|"))));
        }
        rows.sort_unstable();
        rows
    }

    /// The same without the one column of software inventory that pages lack.
    pub fn rows_of_both_routes(&self) -> Vec<String> {
        let names: Vec<_> = schema::DATASETS[0].file_columns().map(|column| column.name).collect();
        let position = names.iter().rev().position(|name| *name == "SoftwareLastSeenTimestamp").unwrap();
        let without = |row: String| {
            // From the end: cells before it may hold what separates cells.
            let mut cells: Vec<_> = row.rsplitn(position + 2, '|').collect();
            cells.remove(position);
            cells.join("|")
        };
        let mut rows: Vec<_> = self.rows().into_iter().map(without).collect();
        rows.sort_unstable();
        rows
    }
}

/// Ingests in this process, on a cluster if there is one.
pub fn take_on(
    cluster: Option<&dyn Cluster>,
    config: &IngestConfig,
) -> Result<Vec<TakenDataset>, IngestError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    ingest_on(cluster, config, &runtime, &Cancel::default(), &mut |_| {})
}

fn list(root: &Path, folder: &Path, listing: &mut BTreeMap<String, u64>) {
    use std::hash::{DefaultHasher, Hasher};
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            listing.insert(name + "/", 0);
            list(root, &path, listing);
        } else {
            let mut hasher = DefaultHasher::new();
            hasher.write(&std::fs::read(&path).unwrap());
            listing.insert(name, hasher.finish());
        }
    }
}

/// A finished run of the program.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            code: output.status.code().or(signal).unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks the exit code, and shows the output if it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The report of a run with `--json`.
    #[track_caller]
    pub fn report(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one object on stdout: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Checks that the run report of `--json` says what the error line says, with this exit code.
    #[track_caller]
    pub fn check_failed_report(&self, exit_code: i32) {
        let report = self.report();
        assert_eq!((&report["outcome"], &report["exit_code"]), (&json!("failed"), &json!(exit_code)));
        let [error, hint] = ["error", "hint"].map(|name| report[name].as_str().unwrap());
        assert_eq!(self.error(), format!("error: {error}; hint: {hint}"));
    }

    /// The error line.
    #[track_caller]
    pub fn error(&self) -> &str {
        let errors: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("one line of error: {}", self.stderr) };
        error
    }
}

/// A tenant of `devices` devices in eight parts.
pub fn tenant(devices: u32) -> Tenant {
    Tenant::new(TenantOptions { devices, ..TenantOptions::default() })
}

/// The same tenant, generated some hours later.
pub fn tenant_later(devices: u32, hours: i64) -> Tenant {
    let options = TenantOptions::default();
    let generated_time = options.generated_time + TimeDelta::hours(hours);
    Tenant::new(TenantOptions { devices, generated_time, ..options })
}

/// An emulator without rate limits, for tests that call more often than the service allows.
pub fn unlimited(tenant: Tenant) -> Emulator {
    Emulator::start(EmulatorOptions { rate_limits: None, ..EmulatorOptions::new(tenant) })
}

/// The rows of one data file, each value as text; null is `-`.
pub fn rows_of(path: &Path) -> Vec<Vec<String>> {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader
        .flat_map(|batch| {
            let batch = batch.unwrap();
            (0..batch.num_rows()).map(|row| row_text(&batch, row)).collect::<Vec<_>>()
        })
        .collect()
}

fn row_text(batch: &RecordBatch, row: usize) -> Vec<String> {
    batch.columns().iter().map(|column| value_text(column.as_ref(), row)).collect()
}

fn value_text(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "-".to_owned();
    }
    match column.data_type() {
        DataType::Utf8 => format!("{:?}", column.as_string::<i32>().value(row)),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Struct(_) => {
            let members = column.as_struct().columns();
            let texts: Vec<_> = members.iter().map(|member| value_text(member.as_ref(), row)).collect();
            format!("({})", texts.join(","))
        }
        DataType::Date32 => column.as_primitive::<Date32Type>().value_as_date(row).unwrap().to_string(),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            DateTime::<Utc>::from_timestamp_micros(micros).unwrap().to_rfc3339()
        }
        DataType::List(_) => {
            let elements = column.as_list::<i32>().value(row);
            let texts: Vec<_> =
                (0..elements.len()).map(|index| value_text(elements.as_ref(), index)).collect();
            format!("[{}]", texts.join(","))
        }
        other => panic!("no column has type {other}"),
    }
}
