//! All nine datasets, each by every route that it has: what the declarations and the emulator say of the same calls, and
//! that the same rows come out, which are those of the oracle.

use std::collections::BTreeSet;
use std::fs::File;

use fixtures::{At, Clock, Emulator, EmulatorOptions, ExportCalls, Fault, PartFormat, Tenant, TenantOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schema::{Dataset, Origin};
use serde_json::{Value, json};

use crate::oracle::agreement::{dataset, to_value};
use crate::oracle::{self, Row};
use crate::support::{Sandbox, unlimited};

/// Columns that only one route has, by what is known of the service.
struct OneRoute {
    dataset: &'static str,
    files: &'static [&'static str],
    json: &'static [&'static str],
}

const ONE_ROUTE: [OneRoute; 5] = [
    OneRoute { dataset: "software_inventory", files: &["SoftwareLastSeenTimestamp"], json: &[] },
    OneRoute {
        dataset: "software_vulnerabilities",
        files: &["IsOnboarded", "CveBatchTitle", "CveBatchUrl"],
        json: &["EndOfSupportStatus", "EndOfSupportDate", "CveMitigationStatus"],
    },
    OneRoute { dataset: "secure_configurations", files: &["Context"], json: &[] },
    OneRoute { dataset: "browser_extensions", files: &["DeviceName", "Permissions"], json: &[] },
    OneRoute { dataset: "certificates", files: &["IsSelfSigned"], json: &[] },
];

/// A small export, the same devices whatever the dataset.
fn small_tenant(dataset: &Dataset) -> Tenant {
    Tenant::new(TenantOptions {
        dataset: dataset.name.parse().unwrap(),
        devices: 20,
        parts: 5,
        ..TenantOptions::default()
    })
}

/// The rows of the only snapshot of a dataset's table, without its generated time, in an order that depends on nothing but
/// the rows.
fn rows(sandbox: &Sandbox, dataset: &'static Dataset) -> Vec<Row> {
    let run = sandbox.run("snapshots", &["--dataset", dataset.name, "--json"]).expect(0);
    let manifests: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let [manifest] = &manifests[..] else { panic!("one snapshot: {}", run.stdout) };
    let mut rows = Vec::new();
    for file in manifest["files"].as_array().unwrap() {
        let path = sandbox.lake().join(dataset.name).join(file["path"].as_str().unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            for index in 0..batch.num_rows() {
                let mut row = Row::new();
                for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
                    let column = dataset.column(field.name()).unwrap();
                    if column.origin == Origin::Property {
                        row.extend(to_value(array, index).map(|value| (column.name, value)));
                    }
                }
                if let (Some(name), Some(value)) = (dataset.partition_by, file["os_platform"].as_str()) {
                    row.insert(name, oracle::Value::Text(value.to_owned()));
                }
                rows.push(row);
            }
        }
    }
    let totals = &manifest["totals"];
    assert_eq!(totals["rows"], rows.len(), "{manifest}");
    assert_eq!([&totals["field_rejects"], &totals["rejected_records"]], [0, 0], "{manifest}");
    assert_eq!(manifest["undocumented_fields"], json!({}), "{manifest}");
    sorted(rows)
}

/// The rows of all parts by the oracle.
fn rows_by_oracle(tenant: &Tenant, dataset: &'static Dataset) -> Vec<Row> {
    let mut rows = Vec::new();
    for index in 0..tenant.num_parts() {
        let mut text = Vec::new();
        tenant.write_part(index, PartFormat::Plain, &mut text).unwrap();
        rows.extend(oracle::decode(&text, dataset, false).unwrap().rows);
    }
    sorted(rows)
}

/// The rows without some columns.
fn without(rows: &[Row], columns: &[&str]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        row.retain(|name, _| !columns.contains(name));
    }
    sorted(rows)
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

/// Fails with the first rows that differ, not with thousands.
#[track_caller]
fn check_same(found: &[Row], expected: &[Row], what: &str) {
    let first = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(first.is_none(), "{what}: {first:#?}");
    assert_eq!(found.len(), expected.len(), "{what}");
}

/// Ingests a dataset by every route.
fn check_routes(name: &str) {
    let dataset = dataset(name);
    let tenant = small_tenant(dataset);
    let emulator = unlimited(tenant.clone());
    let [files, local, pages] = [(); 3].map(|()| Sandbox::new());
    files.ingest_via(&emulator, &["--dataset", name]).expect(0);
    let by_files = rows(&files, dataset);
    check_same(&by_files, &rows_by_oracle(&tenant, dataset), "the files route and the oracle");

    let parts = local.path().join("parts");
    tenant.write_to_dir(&parts).unwrap();
    local.run("ingest", &["--dataset", name, "--from", parts.to_str().unwrap()]).expect(0);
    check_same(&rows(&local, dataset), &by_files, "local parts and the files route");

    let page_size = (tenant.num_records() / 3).max(1).to_string();
    let run = pages.ingest_via(&emulator, &["--dataset", name, "--via", "json", "--page-size", &page_size]);
    if dataset.routes.json.is_some() {
        run.expect(0);
        let by_json = rows(&pages, dataset);
        let one_route = ONE_ROUTE.iter().find(|one_route| one_route.dataset == name);
        let (files_only, json_only) = one_route.map_or((&[][..], &[][..]), |found| (found.files, found.json));
        let one_route = [files_only, json_only].concat();
        check_same(
            &without(&by_json, &one_route),
            &without(&by_files, &one_route),
            "the JSON route and the files route",
        );
        for (rows, absent) in [(&by_json, files_only), (&by_files, json_only)] {
            for column in absent {
                assert!(rows.iter().all(|row| !row.contains_key(*column)), "{column} is of one route");
            }
        }
    } else {
        let run = run.expect(2);
        assert!(run.stderr.contains("has no JSON route"), "{}", run.stderr);
        assert!(run.stderr.contains("--via files"), "{}", run.stderr);
    }
}

macro_rules! by_every_route {
    ($($dataset:ident)*) => {
        mod same_rows_by_every_route {
            $(#[test] fn $dataset() { super::check_routes(stringify!($dataset)); })*
        }

        const DATASETS: &[&str] = &[$(stringify!($dataset)),*];
    };
}

by_every_route! {
    software_inventory
    software_inventory_non_cpe
    software_vulnerabilities
    secure_configurations
    security_baselines
    browser_extensions
    certificates
    hardware_firmware
    information_gathering
}

#[test]
fn every_declared_dataset_is_tried() {
    let declared: BTreeSet<_> = schema::DATASETS.iter().map(|dataset| dataset.name).collect();
    assert_eq!(declared, DATASETS.iter().copied().collect::<BTreeSet<_>>());
    let served: BTreeSet<_> = fixtures::Dataset::ALL.map(fixtures::Dataset::name).into();
    assert_eq!(declared, served);
}

/// Holds `schema` and `fixtures` together, which share nothing.
#[test]
fn declarations_name_the_services_calls() {
    for declared in schema::DATASETS {
        let served: fixtures::Dataset = declared.name.parse().unwrap();
        let calls = ExportCalls::of(served);
        assert_eq!(declared.routes.files, Some(calls.list), "{served}");
        assert_eq!(declared.routes.json, calls.page, "{served}");
        assert_eq!(declared.permission.application, calls.application_permission, "{served}");
        assert_eq!(declared.permission.delegated, calls.delegated_permission, "{served}");
        assert_eq!(declared.partition_by.is_some(), served.has_platform(), "{served}");
        assert_eq!(declared.may_be_empty, served.may_be_empty(), "{served}");
    }
}

#[test]
fn flat_paths_do_not_name_a_generated_time() {
    let dataset = dataset("software_vulnerabilities");
    let tenant = small_tenant(dataset);
    let emulator = unlimited(tenant.clone());
    let [files, flat] = [(); 2].map(|()| Sandbox::new());
    files.ingest_via(&emulator, &["--dataset", dataset.name]).expect(0);
    // One base name in every group, whose folder is spelled in two ways.
    for index in 0..tenant.num_parts() {
        let equals = if index % 2 == 0 { "=" } else { "%3D" };
        let folder = format!("flat-va/2021-01-11/1101/json/_RbacGroupId{equals}{index}");
        let folder = flat.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let part = File::create(folder.join("part-000.c000.json.gz")).unwrap();
        tenant.write_part(index, PartFormat::GZIP, part).unwrap();
    }
    let ingest = ["--dataset", dataset.name, "--from", "flat-va"];
    let run = flat.run("ingest", &ingest).expect(2);
    assert!(run.stderr.contains("unknown generated time"), "{}", run.stderr);
    assert!(run.stderr.contains("--generated-time"), "{}", run.stderr);
    flat.run("ingest", &[&ingest[..], &["--generated-time", "2021-01-11T11:01:00Z"]].concat()).expect(0);
    check_same(&rows(&flat, dataset), &rows(&files, dataset), "flat paths and the files route");
}

#[test]
fn export_on_one_page_is_dated_by_its_response() {
    let dataset = dataset("hardware_firmware");
    let now = "2021-01-11T11:55:51Z";
    let clock = Clock::stopped_at(now.parse().unwrap());
    let options = EmulatorOptions { clock, rate_limits: None, ..EmulatorOptions::new(small_tenant(dataset)) };
    let emulator = Emulator::start(options);
    let sandbox = Sandbox::new();
    let run =
        sandbox.ingest_via(&emulator, &["--dataset", dataset.name, "--via", "json", "--json"]).expect(0);
    let report = run.report();
    assert_eq!(report["generated_time_from"], "response_date", "{report}");
    assert_eq!(report["generated_time"], now, "{report}");
    assert_eq!(report["totals"]["parts"], 1, "{report}");
}

/// One run in which not all is well: what the token does not permit, what the tenant has no licence for, an export of
/// nothing, and a part that is damaged however often it is fetched.
#[test]
fn datasets_of_a_run_end_each_in_its_own_way() {
    let tenant = small_tenant(dataset("software_inventory"));
    let emulator = Emulator::start(EmulatorOptions {
        rate_limits: None,
        roles: vec!["Software.Read.All".to_owned(), "Vulnerability.Read.All".to_owned()],
        empty: vec![fixtures::Dataset::Certificates],
        ..EmulatorOptions::new(tenant)
    });
    let always = |dataset, at, fault| emulator.script_for(dataset, at, u32::MAX, fault);
    always(fixtures::Dataset::BrowserExtensions, At::List, Fault::FeatureDisabled);
    // Damage that a new listing does not mend, and that no one waits minutes for.
    let no_record = Fault::Body("{\"SoftwareName\":\"a\"}\n{}\n".to_owned());
    always(fixtures::Dataset::SoftwareVulnerabilities, At::Part(1), no_record);
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(4);
    let reports: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = reports
        .iter()
        .map(|report| [&report["dataset"], &report["outcome"]].map(|text| text.as_str().unwrap()))
        .collect();
    let expected = [
        ["software_inventory", "published"],
        ["software_inventory_non_cpe", "published"],
        ["software_vulnerabilities", "failed"],
        ["secure_configurations", "published"],
        ["security_baselines", "not_permitted"],
        ["browser_extensions", "not_permitted"],
        ["certificates", "empty"],
        ["hardware_firmware", "published"],
        ["information_gathering", "published"],
    ];
    assert_eq!(outcomes, expected);
    let failed = &reports[2];
    assert_eq!(failed["exit_code"], 4, "{failed}");
    let damage = "is damaged: 2 of its 2 records were rejected, line 1: no DeviceId; the rejects are in ";
    assert!(failed["error"].as_str().unwrap().contains(damage), "{failed}");
    assert!(failed["hint"].is_string(), "{failed}");
    let line = run.error();
    assert!(line.starts_with("error: software_vulnerabilities: part tvm-export/"), "{line}");
    assert!(line.contains(damage) && line.contains("; hint: "), "{line}");
    for not_permitted in &reports[4..6] {
        assert!(not_permitted["hint"].is_string(), "{not_permitted}");
    }

    // What failed has left nothing, and all others are whole.
    let published: Vec<_> =
        expected.iter().filter(|[_, outcome]| *outcome == "published").map(|[name, _]| *name).collect();
    let mut tables: Vec<_> = std::fs::read_dir(sandbox.lake())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "_defender")
        .collect();
    tables.sort_unstable();
    let mut sorted = published.clone();
    sorted.sort_unstable();
    assert_eq!(tables, sorted);
    sandbox.run("verify", &["--dataset", "all", "--keys"]).expect(0);

    // Once the part is whole, only that dataset is new.
    emulator.clear_faults();
    always(fixtures::Dataset::BrowserExtensions, At::List, Fault::FeatureDisabled);
    let run = sandbox.ingest_via(&emulator, &["--dataset", "all", "--json"]).expect(0);
    for (line, [name, first]) in run.stdout.lines().zip(expected) {
        let report: Value = serde_json::from_str(line).unwrap();
        let then = match first {
            "published" => "skipped",
            "failed" => "published",
            as_before => as_before,
        };
        assert_eq!([&report["dataset"], &report["outcome"]], [name, then], "{report}");
    }
}
