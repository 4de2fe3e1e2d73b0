//! `diff` and `trend`: against what happened to the tenant, against the same questions to DuckDB, against a plain model of
//! what applying a diff means, and against cases written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{Tenant, TenantOptions};
use pipeline::cancel::Cancel;
use pipeline::history::SnapshotReader;
use pipeline::history::change_batches::ChangeBatches;
use pipeline::history::change_filter::ChangeFilter;
use pipeline::history::diff::{self, Diff};
use pipeline::history::roles::Roles;
use pipeline::lake::Lake;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stores::{Kind, Store};
use crate::support::{Run, Sandbox};

/// The tenant on some days, a snapshot each.
pub fn lake_of_days(devices: u32, days: &[u32]) -> (Sandbox, Vec<Tenant>) {
    let sandbox = Sandbox::new();
    let tenants = publish_days(&|| sandbox.command("ingest"), sandbox.path(), devices, days);
    (sandbox, tenants)
}

pub fn publish_days(ingest: &dyn Fn() -> Command, scratch: &Path, devices: u32, days: &[u32]) -> Vec<Tenant> {
    let tenants = days.iter().map(|day| {
        let options = TenantOptions { devices, parts: 2, ..TenantOptions::default() }.on_day(*day);
        let tenant = Tenant::new(options);
        let folder = scratch.join(format!("day-{day}"));
        tenant.write_to_dir(&folder).unwrap();
        let mut command = ingest();
        command.arg("-q").arg("--generated-time").arg(date_of(*day) + "T11:01:00Z");
        Run::of(command.arg("--from").args(tenant.part_files(&folder)).output().unwrap()).expect(0);
        tenant
    });
    tenants.collect()
}

pub fn date_of(day: u32) -> String {
    let first = chrono::NaiveDate::from_ymd_opt(2021, 1, 11).unwrap();
    (first + chrono::Days::new(u64::from(day))).to_string()
}

/// Publishes `records` as the snapshot of a day.
pub fn publish(sandbox: &Sandbox, day: u32, records: &[Value]) {
    let part = sandbox.path().join(format!("{day}.ndjson"));
    let lines = records.iter().fold(String::new(), |mut lines, record| {
        writeln!(lines, "{record}").unwrap();
        lines
    });
    std::fs::write(&part, lines).unwrap();
    let time = date_of(day) + "T11:01:00Z";
    let args = ["-q", "--generated-time", &time, "--from", part.to_str().unwrap()];
    sandbox.run("ingest", &args).expect(0);
}

/// The changes that `diff` finds, as it writes them.
#[track_caller]
fn changes_of(sandbox: &Sandbox, from: u32, to: u32, args: &[&str]) -> Vec<Value> {
    let (from, to) = (date_of(from), date_of(to));
    let all =
        ["--from", &from, "--to", &to, "--out", "changes.ndjson"].into_iter().chain(args.iter().copied());
    sandbox.run("diff", &all.collect::<Vec<_>>()).expect(0);
    let changes = std::fs::read_to_string(sandbox.path().join("changes.ndjson")).unwrap();
    changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Holds answers of ours against DuckDB's; see `tests/readers/history.py`.
#[track_caller]
pub fn check_with_duckdb(sandbox: &Sandbox, questions: &[Value]) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = std::env::var_os("DEFENDER_LAKE_PYTHON")
        .map_or_else(|| repository.join(".venv/bin/python"), PathBuf::from);
    assert!(python.exists(), "no Python environment at {}: run `make test`", python.display());
    let output = Command::new(python)
        .arg(repository.join("tests/readers/history.py"))
        .arg(sandbox.lake())
        .args(questions.iter().map(Value::to_string))
        .current_dir(sandbox.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let run = Run::of(output).expect(0);
    assert!(run.stdout.starts_with(&format!("{} answers, ", questions.len())), "{}", run.stdout);
}

#[test]
fn diff_of_the_tenant_is_what_happened_to_it() {
    let (sandbox, tenants) = lake_of_days(120, &[0, 1, 9]);
    for (earlier, later, from, to) in [(0, 1, 0, 1), (1, 2, 1, 9), (0, 2, 0, 9)] {
        let mut expected = Vec::new();
        tenants[later].write_changes(&tenants[earlier], &mut expected).unwrap();
        let mut expected: Vec<Value> = String::from_utf8(expected)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut found = changes_of(&sandbox, from, to, &[]);
        expected.sort_by_key(Value::to_string);
        found.sort_by_key(Value::to_string);
        assert_eq!(found.len(), expected.len());
        assert_eq!(found, expected);
    }
}

#[test]
fn answers_are_those_of_duckdb() {
    let (sandbox, _) = lake_of_days(60, &[0, 1, 2, 30]);
    let partition_values = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/samples/software-inventory/partition-values.ndjson");
    let parts = partition_values.to_str().unwrap();
    sandbox.run("ingest", &["-q", "--generated-time", "2021-02-11T11:01:00Z", "--from", parts]).expect(0);
    let mut asked = Vec::new();
    let mut num_files = 0;
    let mut file = |kind: &str| {
        num_files += 1;
        format!("{kind}-{num_files}.parquet")
    };

    let wheres = [
        (&[][..], "true"),
        (&["--where", "platform=Windows11"], "OSPlatform = 'Windows11'"),
        (&["--where", "platform="], "OSPlatform IS NULL"),
        (&["--where", "platform=__HIVE_DEFAULT_PARTITION__"], "OSPlatform = '__HIVE_DEFAULT_PARTITION__'"),
        (
            &["--where", "group=Servers", "--where", "group="],
            "coalesce(RbacGroupName, 'Servers') = 'Servers'",
        ),
        (
            &["--where", "vendor=microsoft,platform=Windows10", "--where", "vendor=adobe"],
            "SoftwareVendor IN ('microsoft', 'adobe') AND OSPlatform = 'Windows10'",
        ),
        (&["--where", "product=chrome"], "SoftwareName = 'chrome'"),
    ];
    for (from, to, wheres) in
        [(0, 30, &wheres[..]), (30, 31, &wheres[..4]), (2, 1, &wheres[..1]), (2, 2, &wheres[..1])]
    {
        for (args, condition) in wheres {
            let file = file("diff");
            let (from, to) = (date_of(from), date_of(to));
            let mut all = vec!["--from", &from, "--to", &to, "--out", &file];
            all.extend(*args);
            sandbox.run("diff", &all).expect(0);
            asked.push(json!({"diff": file, "from": from, "to": to, "where": condition}));
        }
    }
    for (by, columns) in [
        (None, &[][..]),
        (Some("platform"), &["OSPlatform"]),
        (Some("group"), &["RbacGroupName"]),
        (Some("vendor"), &["SoftwareVendor"]),
        (Some("product"), &["SoftwareVendor", "SoftwareName"]),
    ] {
        let file = file("trend");
        let mut all = vec!["--out", file.as_str()];
        all.extend(by.map(|by| ["--by", by]).into_iter().flatten());
        sandbox.run("trend", &all).expect(0);
        asked.push(json!({"trend": file, "by": columns}));
    }
    check_with_duckdb(&sandbox, &asked);
}

#[test]
fn every_store_and_table_gives_the_same_answers() {
    let answers = |command: &dyn Fn(&str) -> Command, folder: &Path| {
        let run =
            |name: &str, args: &[&str]| Run::of(command(name).args(args).output().unwrap()).expect(0).stdout;
        let summary = run("diff", &["--out", "changes.ndjson"]);
        let changes = std::fs::read_to_string(folder.join("changes.ndjson")).unwrap();
        assert!(changes.lines().count() > 10, "{summary}");
        (summary, changes, run("trend", &["--by", "product"]))
    };
    let (sandbox, _) = lake_of_days(20, &[0, 1]);
    let on_disk = answers(&|name| sandbox.command(name), sandbox.path());
    for store in [Store::start(Kind::Disk).delta(), Store::start(Kind::Azure), Store::start(Kind::S3).delta()]
    {
        let ingest = || {
            let mut command = store.command("ingest");
            command.args(store.is_delta.then_some(["--table", "delta"]).into_iter().flatten());
            command
        };
        publish_days(&ingest, store.sandbox.path(), 20, &[0, 1]);
        assert_eq!(answers(&|name| store.command(name), store.sandbox.path()), on_disk);
    }
}

#[test]
fn little_memory_gives_the_same_changes() {
    let (sandbox, _) = lake_of_days(60, &[0, 30]);
    let table = Lake::open(sandbox.lake()).unwrap().table(schema::DATASETS[0]);
    let snapshots = table.snapshots().unwrap();
    let [old, new] =
        [0, 1].map(|index| SnapshotReader::open(&table, &snapshots[index], &Cancel::default()).unwrap());
    let filter = ChangeFilter::default();
    let roles = Roles::of(schema::DATASETS[0]).unwrap();
    let run = |memory_bytes: u64| {
        let mut batches = ChangeBatches::new(roles, [&old, &new].map(SnapshotReader::generated_time));
        let mut written = Vec::new();
        let diff = Diff { roles, old: &old, new: &new, filter: &filter, memory_bytes };
        diff.run(&Cancel::default(), |change| {
            batches.add(change, |batch| {
                written.push(batch.clone());
                Ok(())
            })
        })
        .unwrap();
        written.push(batches.take());
        written
    };
    let at_once = run(1 << 30);
    let num_changes: u64 = at_once.iter().map(|batch| batch.num_rows() as u64).sum();
    assert!(num_changes > 100, "{num_changes}");
    assert_eq!(run(20 << 10), at_once);
    let counts = diff::count(roles, &old, &new, 20 << 10, &Cancel::default()).unwrap();
    assert_eq!(counts.len(), roles.kinds().len());
    assert_eq!(counts.iter().sum::<i64>(), num_changes.cast_signed());
}

/// A record of one device and product.
pub fn record(device: &str, vendor: &str, name: &str, version: &str, others: &Value) -> Value {
    let mut record = json!({
        "DeviceId": device, "DeviceName": device, "OSPlatform": "Windows11", "RbacGroupName": "Office",
        "SoftwareVendor": vendor, "SoftwareName": name, "SoftwareVersion": version,
        "NumberOfWeaknesses": 0, "EndOfSupportStatus": "None",
    });
    record.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    record
}

/// Publishes both days and compares each change, in words, with what is expected.
#[track_caller]
fn check(old: &[Value], new: &[Value], expected: &[&str]) {
    let sandbox = Sandbox::new();
    publish(&sandbox, 0, old);
    publish(&sandbox, 1, new);
    let changes = changes_of(&sandbox, 0, 1, &[]);
    let words = changes.iter().map(|change| {
        let columns =
            ["Change", "DeviceId", "SoftwareName", "OldVersion", "NewVersion", "OldValue", "NewValue"];
        columns.map(|column| change[column].as_str().unwrap_or("-")).join(" ")
    });
    assert_eq!(words.collect::<Vec<_>>(), expected);
    for change in &changes {
        assert_eq!(change["OldGeneratedTime"], "2021-01-11T11:01:00Z");
        assert_eq!(change["NewGeneratedTime"], "2021-01-12T11:01:00Z");
    }
}

#[test]
fn versions_are_paired_lowest_with_lowest() {
    let versions = |versions: &[&str]| -> Vec<_> {
        versions.iter().map(|version| record("d", "v", "p", version, &json!({}))).collect()
    };
    check(
        &versions(&["9.2", "10.1", "1.0", "kept"]),
        &versions(&["kept", "10.2", "9.10"]),
        &["removed d p 10.1 - - -", "version_changed d p 1.0 9.10 - -", "version_changed d p 9.2 10.2 - -"],
    );
    check(
        &versions(&["2.0"]),
        &versions(&["10.0", "9.0"]),
        &["installed d p - 10.0 - -", "version_changed d p 2.0 9.0 - -"],
    );
}

#[test]
fn keys_given_twice_do_not_multiply_changes() {
    let twice = |weaknesses: [Value; 2]| -> Vec<_> {
        weaknesses
            .into_iter()
            .map(|number| record("d", "v", "p", "1", &json!({"NumberOfWeaknesses": number})))
            .collect()
    };
    check(&twice([json!(1), json!(3)]), &twice([json!(3), json!(3)]), &[]);
    check(&twice([json!(1), json!(3)]), &twice([json!(2), json!(null)]), &["weaknesses_changed d p 1 1 3 2"]);
    let others = record("d", "v", "q", "1", &json!({}));
    let with_other = |mut records: Vec<Value>| {
        records.push(others.clone());
        records
    };
    check(&with_other(twice([json!(1), json!(1)])), std::slice::from_ref(&others), &["removed d p 1 - - -"]);
}

#[test]
fn values_and_null_differ() {
    let with = |others: Value| [record("d", "v", "p", "1", &others)];
    let (some, none) = (
        json!({"NumberOfWeaknesses": 0, "EndOfSupportStatus": "None"}),
        json!({"NumberOfWeaknesses": null, "EndOfSupportStatus": null}),
    );
    check(
        &with(some.clone()),
        &with(none.clone()),
        &["end_of_support_changed d p 1 1 None -", "weaknesses_changed d p 1 1 0 -"],
    );
    check(&with(none.clone()), &with(none), &[]);
    let nameless = json!({"SoftwareVendor": null, "SoftwareName": null, "SoftwareVersion": null});
    check(&with(nameless.clone()), &with(nameless.clone()), &[]);
    check(&with(nameless), &with(some), &["removed d - - - - -", "installed d p - 1 - -"]);
}

#[test]
fn devices_change_with_one_row_each() {
    let on = |device: &str, others: Value| ["p", "q"].map(|name| record(device, "v", name, "1", &others));
    check(
        &[on("a", json!({})), on("b", json!({})), on("c", json!({}))].concat(),
        &[
            on("b", json!({"DeviceName": "new", "RbacGroupName": null, "OSPlatform": null})),
            on("c", json!({"OSPlatform": "Windows10"})),
            on("d", json!({})),
        ]
        .concat(),
        &[
            "device_disappeared a - - - - -",
            "removed a p 1 - - -",
            "removed a q 1 - - -",
            "device_moved b - - - Office -",
            "device_platform_changed b - - - Windows11 -",
            "device_renamed b - - - b new",
            "device_platform_changed c - - - Windows11 Windows10",
            "device_appeared d - - - - -",
            "installed d p - 1 - -",
            "installed d q - 1 - -",
        ],
    );
}

#[test]
fn summary_tells_new_devices_from_known_ones() {
    let sandbox = Sandbox::new();
    publish(&sandbox, 0, &[record("a", "v", "p", "1", &json!({})), record("b", "v", "p", "1", &json!({}))]);
    let ended = json!({"EndOfSupportStatus": "EOS Version"});
    publish(
        &sandbox,
        1,
        &[
            record("a", "v", "p", "1", &ended),
            record("a", "v", "q", "2", &json!({})),
            record("c", "v", "p", "1", &ended),
        ],
    );
    let summary: Value = serde_json::from_str(&sandbox.run("diff", &["--json"]).expect(0).stdout).unwrap();
    let counts = |kind: &str| {
        ["total", "on_known_devices", "on_new_devices", "on_gone_devices"]
            .map(|count| summary["changes"][kind][count].as_u64().unwrap())
    };
    assert_eq!(counts("installed"), [2, 1, 1, 0]);
    assert_eq!(counts("removed"), [1, 0, 0, 1]);
    assert_eq!(counts("device_appeared"), [1, 0, 1, 0]);
    assert_eq!(counts("end_of_support_changed"), [1, 1, 0, 0]);
    assert_eq!(summary["products"][0]["product"], "p");
    assert_eq!(summary["products"][0]["changes"], 3);
    assert_eq!(
        summary["end_of_support"],
        json!([
            {"vendor": "v", "product": "p", "version": "1", "status": "EOS Version", "devices": 1}
        ])
    );
    let text = sandbox.run("diff", &["--where", "product=q"]).expect(0).stdout;
    assert!(
        text.starts_with("software_inventory: 1 change from 2021-01-11 11:01:00Z to 2021-01-12"),
        "{text}"
    );
}

#[test]
fn files_of_an_answer_appear_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    publish(&sandbox, 0, &[record("a", "v", "p", "1", &json!({}))]);
    publish(&sandbox, 1, &[record("a", "v", "p", "2", &json!({}))]);
    let names = || -> BTreeSet<_> {
        let entries = std::fs::read_dir(sandbox.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let before = names();
    for name in ["changes.txt", "changes", "nowhere/changes.csv"] {
        let error = sandbox.run("diff", &["--out", name]).expect(2);
        assert!(error.error().contains(name), "{}", error.stderr);
    }
    assert_eq!(names(), before);
    for name in ["changes.csv", "changes.ndjson", "changes.parquet"] {
        sandbox.run("diff", &["--out", name]).expect(0);
    }
    assert_eq!(names().len(), before.len() + 3);
    let csv = std::fs::read_to_string(sandbox.path().join("changes.csv")).unwrap();
    assert_eq!(
        csv.lines().nth(1).unwrap(),
        "version_changed,a,a,Windows11,Office,v,p,1,2,,,2021-01-11T11:01:00Z,2021-01-12T11:01:00Z"
    );
}

#[test]
fn unknown_names_are_usage_errors_with_suggestions() {
    let sandbox = Sandbox::new();
    let check = |command: &str, args: &[&str], expected: &str| {
        let run = sandbox.run(command, args).expect(2);
        assert_eq!(run.error(), expected);
    };
    check(
        "diff",
        &[],
        "error: the lake has 0 snapshots of software_inventory to compare; a diff takes two; hint: run ingest again when the service has a newer export",
    );
    check(
        "trend",
        &[],
        "error: the lake has no snapshot of software_inventory to look at; hint: run snapshots to list them",
    );
    publish(&sandbox, 0, &[record("a", "v", "p", "1", &json!({}))]);
    check(
        "diff",
        &[],
        "error: the lake has 1 snapshot of software_inventory to compare; a diff takes two; hint: run ingest again when the service has a newer export",
    );
    check(
        "diff",
        &["--from", "2021-01-10"],
        "error: the lake has no snapshot of 2021-01-10; the nearest is of 2021-01-11; hint: run snapshots to list them",
    );
    check(
        "diff",
        &["--where", "vendr=adobe"],
        "error: unknown field \"vendr\", did you mean vendor? expected one of: vendor, product, platform, group",
    );
    check(
        "trend",
        &["--by", "versions"],
        "error: cannot group software_inventory by \"versions\": expected one of: vendor, product, platform, group",
    );
    check("diff", &["--memory", "1MiB"], "error: --memory: expected at least 256.0 MiB, found 1.0 MiB");
}

#[test]
fn trend_shows_the_numbers_and_how_they_went() {
    let sandbox = Sandbox::new();
    for day in 0..3 {
        let devices = (0..=day).map(|device| record(&device.to_string(), "v", "p", "1", &json!({})));
        publish(&sandbox, day, &devices.collect::<Vec<_>>());
    }
    let text = sandbox.run("trend", &[]).expect(0).stdout;
    assert_eq!(
        text,
        " snapshot    devices  installations  products  weaknesses  end_of_support
 2021-01-11        1              1         1           0               0
 2021-01-12        2              2         1           0               0
 2021-01-13        3              3         1           0               0
                 ▁▄█            ▁▄█       ▄▄▄         ▄▄▄             ▄▄▄
"
    );
    let text = sandbox.run("trend", &["--by", "vendor", "--from", "2021-01-12"]).expect(0).stdout;
    assert_eq!(
        text,
        " vendor  devices  installations  products  weaknesses  end_of_support  change  installations
 v             3              3         1           0               0      +1             ▁█
"
    );
}

type Product = (String, Option<String>, Option<String>);
/// Nothing is known of the values of what a diff installs.
type Values = Option<(Option<i64>, Option<String>)>;

/// A snapshot as a diff sees it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    devices: BTreeMap<String, [Option<String>; 3]>,
    products: BTreeMap<Product, BTreeMap<Option<String>, Values>>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn product(row: &Value) -> Product {
    (text(&row["DeviceId"]).unwrap(), text(&row["SoftwareVendor"]), text(&row["SoftwareName"]))
}

impl Model {
    fn of(records: &[Value]) -> Self {
        let mut model = Self::default();
        for record in records {
            let device = model.devices.entry(text(&record["DeviceId"]).unwrap()).or_default();
            for (value, name) in device.iter_mut().zip(["DeviceName", "OSPlatform", "RbacGroupName"]) {
                *value = value.take().max(text(&record[name]));
            }
            let versions = model.products.entry(product(record)).or_default();
            let values = versions.entry(text(&record["SoftwareVersion"])).or_insert(Some((None, None)));
            let (weaknesses, status) = values.take().unwrap();
            *values = Some((
                weaknesses.max(record["NumberOfWeaknesses"].as_i64()),
                status.max(text(&record["EndOfSupportStatus"])),
            ));
        }
        model
    }

    /// Does what the change says, and insists that it can be done.
    fn apply(&mut self, change: &Value) {
        let id = text(&change["DeviceId"]).unwrap();
        let [old, new] = ["OldValue", "NewValue"].map(|name| text(&change[name]));
        let [old_version, new_version] = ["OldVersion", "NewVersion"].map(|name| text(&change[name]));
        let kind = change["Change"].as_str().unwrap();
        if let Some(index) = ["device_renamed", "device_platform_changed", "device_moved"]
            .iter()
            .position(|device| *device == kind)
        {
            let value = &mut self.devices.get_mut(&id).unwrap()[index];
            assert_eq!(std::mem::replace(value, new), old);
            return;
        }
        let versions = || product(change);
        match kind {
            "device_appeared" => {
                let values = ["DeviceName", "OSPlatform", "RbacGroupName"].map(|name| text(&change[name]));
                assert_eq!(self.devices.insert(id, values), None);
            }
            "device_disappeared" => assert!(self.devices.remove(&id).is_some()),
            "installed" | "removed" | "version_changed" => {
                let versions = self.products.entry(versions()).or_default();
                if kind != "installed" {
                    assert!(versions.remove(&old_version).is_some());
                }
                if kind != "removed" {
                    assert_eq!(versions.insert(new_version, None), None);
                }
            }
            "weaknesses_changed" | "end_of_support_changed" => {
                let versions = self.products.get_mut(&versions()).unwrap();
                let (weaknesses, status) = versions.get_mut(&old_version).unwrap().as_mut().unwrap();
                if kind == "weaknesses_changed" {
                    let new = new.map(|number| number.parse().unwrap());
                    assert_eq!(std::mem::replace(weaknesses, new).map(|number| number.to_string()), old);
                } else {
                    assert_eq!(std::mem::replace(status, new), old);
                }
            }
            other => panic!("a change of kind {other}"),
        }
    }

    /// Takes from `other` what no diff says, and leaves out products without versions.
    fn complete(&mut self, other: &Self) {
        self.products.retain(|_, versions| !versions.is_empty());
        for (product, versions) in &mut self.products {
            for (version, values) in versions.iter_mut().filter(|(_, values)| values.is_none()) {
                *values =
                    other.products.get(product).and_then(|versions| versions.get(version).cloned().flatten());
            }
        }
    }
}

prop_compose! {
    /// Few values, so that keys repeat, meet and part.
    fn any_record()(
        device in 0..4u8,
        name in prop::option::of("[ab]"),
        platform in prop::sample::select(vec![None, Some("Windows11"), Some("__HIVE_DEFAULT_PARTITION__")]),
        group in prop::option::weighted(0.9, Just("Office")),
        vendor in prop::option::weighted(0.8, "[vw]"),
        product in prop::option::weighted(0.8, "[pq]"),
        version in prop::option::weighted(0.9, "1|01|2|10|1\\.2|1\\.10|a1"),
        weaknesses in prop::option::of(0..3i32),
        status in prop::sample::select(vec![None, Some("None"), Some("EOS Version")]),
    ) -> Value {
        json!({
            "DeviceId": format!("d{device}"), "DeviceName": name, "OSPlatform": platform, "RbacGroupName": group,
            "SoftwareVendor": vendor, "SoftwareName": product, "SoftwareVersion": version,
            "NumberOfWeaknesses": weaknesses, "EndOfSupportStatus": status,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn diff_applied_to_the_old_snapshot_gives_the_new_one(
        days in prop::collection::vec(prop::collection::vec(any_record(), 1..25), 3),
    ) {
        let sandbox = Sandbox::new();
        let mut questions = Vec::new();
        for (day, records) in (0..).zip(&days) {
            publish(&sandbox, day, records);
        }
        for (day, pair) in (0..).zip(days.windows(2)) {
            let mut model = Model::of(&pair[0]);
            let new = Model::of(&pair[1]);
            for change in changes_of(&sandbox, day, day + 1, &[]) {
                model.apply(&change);
            }
            model.complete(&new);
            prop_assert_eq!(&model, &new);
            let file = format!("{day}.parquet");
            let (from, to) = (date_of(day), date_of(day + 1));
            sandbox.run("diff", &["--from", &from, "--to", &to, "--out", &file]).expect(0);
            questions.push(json!({"diff": file, "from": from, "to": to}));
        }
        check_with_duckdb(&sandbox, &questions);
    }
}
