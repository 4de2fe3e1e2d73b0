//! The three sources: what each sends, and that all give the same table.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Sandbox, rows_of, tenant, unlimited};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/samples/software-inventory");

#[test]
fn same_tenant_through_every_source_gives_the_same_table() {
    let tenant = tenant(300);
    let emulator = unlimited(tenant.clone());
    let parts = Sandbox::new();
    tenant.write_to_dir(parts.path()).unwrap();

    let files = Sandbox::new();
    let report = files.ingest_via(&emulator, &["--json"]).expect(0).report();
    assert_eq!(report["route"], "files");
    assert_eq!(report["generated_time_from"], "listing");
    let json = Sandbox::new();
    let report =
        json.ingest_via(&emulator, &["--json", "--via", "json", "--page-size", "7000"]).expect(0).report();
    assert_eq!(report["route"], "json");
    assert_eq!(report["generated_time_from"], "skip_token");
    let local = Sandbox::new();
    let from = parts.path().to_str().unwrap();
    let report = local.run("ingest", &["--json", "--from", from]).expect(0).report();
    assert_eq!(report["route"], "local");
    assert_eq!(report["generated_time_from"], "path");

    let expected = tenant.expected();
    let rows = files.rows();
    assert_eq!(rows.len() as u64, expected.records);
    assert_eq!(rows, json.rows());
    assert_eq!(rows, local.rows());
    for (platform, num_rows) in &expected.records_per_platform {
        let manifest = &files.manifests()[0];
        let of_platform = |file: &&Value| file["os_platform"].as_str() == platform.as_deref();
        let found: u64 = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_platform)
            .map(|file| file["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(found, *num_rows, "{platform:?}");
    }
}

#[test]
fn parts_are_fetched_without_bearer_and_api_calls_with_it() {
    let emulator = unlimited(tenant(60));
    Sandbox::new().ingest_via(&emulator, &[]).expect(0);
    let calls = emulator.calls();
    let blobs: Vec<_> = calls.iter().filter(|call| call.path.contains("tvm-export")).collect();
    assert_eq!(blobs.len(), 8);
    assert!(blobs.iter().all(|call| !call.has_authorization));
    let listings: Vec<_> = calls.iter().filter(|call| call.path.starts_with("/api/")).collect();
    assert_eq!(listings.len(), 1, "one listing: the service allows twenty an hour");
    assert!(listings[0].has_authorization);
}

#[test]
fn single_page_without_skip_token_takes_the_time_of_the_response() {
    let emulator = unlimited(tenant(20));
    let sandbox = Sandbox::new();
    let report = sandbox.ingest_via(&emulator, &["--json", "--via", "json"]).expect(0).report();
    assert_eq!(report["generated_time_from"], "response_date");
    assert_eq!(report["totals"]["parts"], 1);
}

/// What a tenant that is spelt by hand sends is what the declaration reads: a misspelt property in
/// either would leave its column empty here.
#[test]
fn tenant_fills_every_column_and_leaves_every_optional_one_null() {
    let emulator = unlimited(tenant(500));
    for route in ["files", "json"] {
        let sandbox = Sandbox::new();
        let report = sandbox.ingest_via(&emulator, &["--json", "--via", route]).expect(0).report();
        let undocumented: BTreeSet<&str> =
            report["undocumented_fields"].as_object().unwrap().keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = match route {
            "files" => ["RbacGroupId", "SoftwareLastSeenTimestamp"].into(),
            _ => BTreeSet::new(),
        };
        assert_eq!(undocumented, expected, "{route}");

        let rows: Vec<_> = sandbox.data_files().iter().flat_map(|(path, _)| rows_of(path)).collect();
        for (index, column) in schema::DATASETS[0].file_columns().enumerate() {
            let name = column.name;
            assert!(rows.iter().any(|row| row[index] != "-"), "{name} has a value, {route}");
            let optional = column.presence == schema::Presence::Optional;
            assert_eq!(
                rows.iter().any(|row| row[index] == "-"),
                optional,
                "{name} is null somewhere, {route}"
            );
        }
        assert!(sandbox.data_files().iter().any(|(_, file)| file["os_platform"].is_null()), "{route}");
        assert!(sandbox.data_files().iter().any(|(_, file)| file["os_platform"].is_string()), "{route}");
    }
}

#[test]
fn dates_timestamps_and_lists_are_what_the_wire_says() {
    let sandbox = Sandbox::new();
    let time = ["--generated-time", "2021-01-11T11:01:00Z"];
    for sample in ["dates-both-forms.ndjson", "lists-empty-absent-null.ndjson"] {
        let path = format!("{SAMPLES}/{sample}");
        let args = [&["--from", path.as_str(), "--if-published", "replace"], &time[..]].concat();
        sandbox.run("ingest", &args).expect(0);
        let rows = sandbox.rows().join("\n");
        if sample.starts_with("dates") {
            assert!(rows.contains("|2021-05-11|"), "{rows}");
            assert!(rows.contains("|2020-12-30|"), "{rows}");
            assert!(rows.contains("+00:00|"), "{rows}");
        } else {
            assert!(rows.contains("|[]|") && rows.contains("|-|"), "{rows}");
        }
    }
}

#[test]
fn local_parts_of_unknown_or_mixed_time_are_a_usage_error() {
    let sandbox = Sandbox::new();
    let sample = format!("{SAMPLES}/files-route.ndjson");
    let unknown = sandbox.run("ingest", &["--from", &sample]).expect(2);
    assert!(unknown.error().contains("--generated-time"), "{}", unknown.error());

    let parts = Sandbox::new();
    for folder in ["2021-01-11/1101", "2021-01-12/0501"] {
        let folder = parts.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(&sample, folder.join("part.json")).unwrap();
    }
    let mixed = sandbox.run("ingest", &["--from", parts.path().to_str().unwrap()]).expect(2);
    assert!(mixed.error().contains("2021-01-11/1101"), "{}", mixed.error());
    assert!(sandbox.lake_listing().is_empty());
}
