//! Spark as people have it, with `defender_lake.spark` out of the wheel: executors that are processes of their own, Spark
//! Connect, and the oldest Spark with data sources of Python. The checks are in `tests/spark/check.py`, as many in one session
//! as can be: starting one takes longer than any of them.

mod faults;

use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{At, Dataset, Emulator, Fault, Tenant, TenantOptions};
use serde_json::{Value, json};

use crate::secrets::assert_holds_no_secret;
use crate::support::{Run, Sandbox, unlimited};

/// A Spark to test with: its session in `tests/spark/session.py`, and its Python.
struct Spark {
    session: &'static str,
    python: (&'static str, &'static str),
}

const CLUSTER: Spark = Spark { session: "cluster", python: ("DEFENDER_LAKE_PYTHON", ".venv/bin/python") };
const CONNECT: Spark = Spark { session: "connect", ..CLUSTER };
const SPARK_4_0: Spark =
    Spark { session: "local", python: ("DEFENDER_LAKE_SPARK40_PYTHON", ".venv-spark40/bin/python") };

#[test]
fn executors_read_exports_and_lakes() {
    let sandbox = Sandbox::new();
    let emulator = unlimited(tenant(Dataset::SoftwareInventory));
    let mut checks = all_datasets(&sandbox, &Dataset::ALL);
    checks.extend(of_service(&sandbox, &emulator));
    checks.extend(of_software_inventory(&sandbox));
    checks.extend(ingests(&sandbox, &Dataset::ALL));
    let old = sandbox.path().join("old");
    crate::schema_growth::copy_old_lake("plain", &old);
    let new_columns = ["RbacGroupId", "SoftwareTags"];
    checks.push(json!({ "check": "table", "lake": old, "num_rows": 742, "nulls": new_columns }));
    checks.push(json!({ "check": "table", "lake": old, "num_rows": 371, "date": "2021-01-12" }));
    checks.push(json!({ "check": "no_snapshot", "lake": old, "date": "2021-01-13" }));
    checks.push(json!({ "check": "table", "lake": sandbox.path().join("none"), "num_rows": 0 }));
    let captured = sandbox.path().join("captured");
    crate::schema_growth::copy_old_lake("delta", &captured);
    checks.push(json!({ "check": "table", "lake": captured, "num_rows": 742, "captured": true }));
    check_service(&CLUSTER, &sandbox, &emulator, &checks);
    sandbox.run("verify", &["--keys", "--dataset", "all", "--lake", "of-executors"]).expect(0);
}

#[test]
fn connect_reads_exports_and_lakes() {
    let sandbox = Sandbox::new();
    let emulator = unlimited(tenant(Dataset::SoftwareInventory));
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let mut checks = of_software_inventory(&sandbox);
    checks.extend(of_service(&sandbox, &emulator));
    let parts = sandbox.path().join("parts/software_inventory");
    tenant(Dataset::SoftwareInventory).write_to_dir(&parts).unwrap();
    checks.extend(ingests(&sandbox, &[Dataset::SoftwareInventory]));
    check_service(&CONNECT, &sandbox, &emulator, &checks);
}

#[test]
fn spark_4_0_reads_exports_and_lakes() {
    let sandbox = Sandbox::new();
    let mut checks = all_datasets(&sandbox, &[Dataset::Certificates]);
    checks.extend(of_software_inventory(&sandbox));
    checks.extend(ingests(&sandbox, &[Dataset::Certificates]));
    check(&SPARK_4_0, &sandbox, None, &checks).expect(0);
}

/// The export of a service beside the lake of the sandbox, and what its answers can be besides.
fn of_service(sandbox: &Sandbox, emulator: &Emulator) -> [Value; 4] {
    let options = json!({
        "apiUrl": emulator.api_url(), "tenantId": emulator.tenant_id(), "clientId": emulator.client_id(),
        "clientSecret": emulator.client_secret(),
    });
    emulator.script_for(Dataset::Certificates, At::AnyPart, u32::MAX, Fault::SasExpired);
    let check = |check: Value, options: &Value| merged(options, check);
    [
        json!({ "check": "closure", "options": options }),
        check(
            json!({ "check": "listed_once", "lake": sandbox.lake(), "out": sandbox.path().join("out") }),
            &options,
        ),
        check(json!({ "check": "failure", "text": "has ended", "dataset": "certificates" }), &options),
        check(json!({ "check": "failure", "text": "AADSTS", "clientSecret": "not the secret" }), &options),
    ]
}

/// Makes checks with [`of_service`] among them: each load lists once, and no secret is anywhere.
fn check_service(spark: &Spark, sandbox: &Sandbox, emulator: &Emulator, checks: &[Value]) {
    let num_calls = emulator.calls().len();
    let run = check(spark, sandbox, Some(emulator), checks).expect(0);
    let calls = emulator.calls().into_iter().skip(num_calls);
    let listings: Vec<_> =
        calls.filter(|call| call.path.starts_with("/api/")).map(|call| call.path).collect();
    assert_eq!(listings.len(), 2, "one for each load that is permitted: {listings:?}");
    assert_holds_no_secret(emulator, sandbox, &run);
}

fn merged(one: &Value, other: Value) -> Value {
    let (Value::Object(mut merged), Value::Object(other)) = (one.clone(), other) else { panic!("objects") };
    merged.extend(other);
    merged.into()
}

fn tenant(dataset: Dataset) -> Tenant {
    Tenant::new(TenantOptions { dataset, devices: 12, parts: 3, ..TenantOptions::default() })
}

/// A snapshot of each of these datasets, and the parts that it was made of.
fn all_datasets(sandbox: &Sandbox, datasets: &[Dataset]) -> Vec<Value> {
    let published = datasets.iter().map(|&dataset| {
        let tenant = tenant(dataset);
        let parts = sandbox.path().join("parts").join(dataset.name());
        tenant.write_to_dir(&parts).unwrap();
        let num_rows = ingest(sandbox, &parts, dataset);
        json!({
            "check": "same", "lake": sandbox.lake(), "path": parts, "dataset": dataset.name(), "num_rows": num_rows,
        })
    });
    published.collect()
}

/// Ingests by executors of the parts of [`all_datasets`], beside that lake, and of a damaged part.
fn ingests(sandbox: &Sandbox, datasets: &[Dataset]) -> Vec<Value> {
    let common = json!({ "lake": sandbox.path().join("of-executors"), "work_dir": sandbox.work_dir() });
    let ingest = |dataset: &Dataset| {
        let parts = sandbox.path().join("parts").join(dataset.name());
        let ingest =
            json!({ "check": "ingest", "like": sandbox.lake(), "dataset": dataset.name(), "from_": parts });
        merged(&common, ingest)
    };
    let damaged = json!({
        "check": "ingest_fails", "lake": sandbox.path().join("damaged"), "exit_code": 4,
        "from_": repository().join("fixtures/corrupt/bad-crc.json.gz"), "generated_time": "2021-01-12T11:01:00Z",
    });
    datasets.iter().map(ingest).chain([merged(&common, damaged)]).collect()
}

/// Parts of software inventory in the forms that they have, beside the lake of one of them.
fn of_software_inventory(sandbox: &Sandbox) -> Vec<Value> {
    let fixture = |name: &str| repository().join("fixtures").join(name).to_str().unwrap().to_owned();
    let lake = sandbox.path().join("software");
    let clean = fixture("samples/software-inventory/partition-values.ndjson");
    let time = ["--generated-time", "2021-01-12T11:01:00Z"];
    let ingest = |lake: &Path, parts: &[String]| {
        let args =
            [&time[..], &["--max-rejects", "100%", "--json", "--lake", lake.to_str().unwrap(), "--from"]];
        let mut command = sandbox.command("ingest");
        Run::of(command.args(args.concat()).args(parts).output().unwrap()).expect(0).report()["totals"].take()
    };
    let num_rows = ingest(&lake, std::slice::from_ref(&clean))["rows"].take();
    // What no manifest lists is no part of the table.
    let data_file =
        fixture("lakes/version-1-plain/software_inventory/snapshot_date=2021-01-11/OSPlatform=Linux");
    let data_file = std::fs::read_dir(data_file).unwrap().next().unwrap().unwrap().path();
    let stray = lake.join("software_inventory/snapshot_date=2021-01-12/OSPlatform=true/stray.parquet");
    std::fs::copy(data_file, stray).unwrap();

    let generated_time = time[1];
    let rejected =
        ["wrong-values", "no-device-id", "not-utf8"].map(|name| fixture(&format!("corrupt/{name}.ndjson")));
    let totals = ingest(&sandbox.path().join("rejects"), &rejected);
    let num_rejects =
        totals["rejected_records"].as_u64().unwrap() + totals["field_rejects"].as_u64().unwrap();
    let options = json!({ "generatedTime": generated_time });
    let failure = |text: &str, options: Value| merged(&json!({ "check": "failure", "text": text }), options);
    let damaged =
        |name: &str| merged(&options, json!({ "path": fixture(&format!("corrupt/{name}.json.gz")) }));
    vec![
        merged(&options, json!({ "check": "same", "lake": lake, "path": clean, "num_rows": num_rows })),
        merged(&options, json!({ "check": "view", "lake": lake, "path": clean })),
        json!({ "check": "pruned", "lake": lake, "platform": "a/b" }),
        json!({ "check": "pruned", "lake": lake, "platform": null }),
        merged(
            &options,
            json!({
                "check": "rejects", "path": rejected, "num_rows": totals["rows"], "num_rejects": num_rejects,
            }),
        ),
        failure("gzip is damaged", damaged("bad-crc")),
        failure("gzip is damaged", damaged("truncated")),
        failure("no files match", json!({ "path": "nowhere" })),
        failure("unknown generated time", json!({ "path": clean })),
        failure("unknown option 'nonsense'", json!({ "path": clean, "nonsense": "1" })),
        failure("onReject: expected fail or column", json!({ "path": clean, "ONREJECT": "drop" })),
        failure("cannot be used with a path", json!({ "path": clean, "tenantId": "t" })),
        failure("unknown dataset", json!({ "path": clean, "dataset": "nothing" })),
    ]
}

/// Publishes parts; returns the number of rows.
fn ingest(sandbox: &Sandbox, parts: &Path, dataset: Dataset) -> u64 {
    let args = ["--json", "--dataset", dataset.name(), "--from", parts.to_str().unwrap()];
    let report = sandbox.run("ingest", &args).expect(0).report();
    report["totals"]["rows"].as_u64().unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the repository")
}

fn python(spark: &Spark) -> PathBuf {
    let (variable, default) = spark.python;
    let python = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    python
}

/// Makes these checks in one session of a Spark, whose files go below the sandbox.
fn check(spark: &Spark, sandbox: &Sandbox, emulator: Option<&Emulator>, checks: &[Value]) -> Run {
    let mut command = Command::new(python(spark));
    command.arg(repository().join("tests/spark/check.py")).arg(spark.session);
    command.arg(sandbox.path().join("spark")).arg(json!(checks).to_string());
    command.current_dir(sandbox.path()).env("TMPDIR", sandbox.path()).env("XDG_CACHE_HOME", sandbox.path());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("SPARK_HOME");
    if let Some(emulator) = emulator {
        let of_login = ["AZURE_AUTHORITY_HOST", "DEFENDER_CALL_RATE"];
        command.envs(emulator.env().into_iter().filter(|(name, _)| of_login.contains(name)));
    }
    Run::of(command.output().unwrap())
}
