//! `report`: its figures against DuckDB, `trend` and `diff`, and what the command promises about the page's file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::DateTime;
use fixtures::{Dataset, Tenant, TenantOptions};
use pipeline::cancel::Cancel;
use pipeline::history::roles::Roles;
use pipeline::lake::Lake;
use pipeline::page::data::{Note, PageData};
use pipeline::page::read;
use pipeline::page::request::{PageRequest, Since};
use serde_json::{Value, json};

use crate::history::{date_of, lake_of_days, publish, publish_days, record};
use crate::stores::{Kind, Store, python};
use crate::support::{Run, Sandbox};

fn tenant(dataset: Dataset, day: u32) -> Tenant {
    let options = TenantOptions { dataset, devices: 40, parts: 2, ..TenantOptions::default() };
    Tenant::new(options.on_day(day))
}

/// Publishes a snapshot of a dataset.
fn publish_tenant(sandbox: &Sandbox, dataset: Dataset, day: u32) {
    let folder = sandbox.path().join(format!("{}-{day}", dataset.name()));
    tenant(dataset, day).write_to_dir(&folder).unwrap();
    let args = ["-q", "--dataset", dataset.name(), "--from", folder.to_str().unwrap()];
    sandbox.run("ingest", &args).expect(0);
}

fn lake_of_all(days: &[u32]) -> Sandbox {
    let sandbox = Sandbox::new();
    for (day, dataset) in days.iter().flat_map(|day| Dataset::ALL.map(|dataset| (*day, dataset))) {
        publish_tenant(&sandbox, dataset, day);
    }
    sandbox
}

fn request() -> PageRequest {
    PageRequest {
        date: None,
        since: Since::Days(365),
        num_devices: 0,
        memory_bytes: 1 << 30,
        made_at: DateTime::from_timestamp(1_611_000_000, 0).unwrap(),
    }
}

fn page_of(sandbox: &Sandbox, request: &PageRequest) -> PageData {
    read::read(&Lake::open(sandbox.lake()).unwrap(), request, |_| {}, &Cancel::default()).unwrap()
}

/// Makes the page and its data, and returns the data.
fn write_page(sandbox: &Sandbox, num_devices: usize) -> PageData {
    let run =
        sandbox.run("report", &["--with-devices", &num_devices.to_string(), "--progress", "none"]).expect(0);
    assert!(run.stdout.starts_with("report.html: "), "{}", run.stdout);
    let page = page_of(sandbox, &PageRequest { num_devices, ..request() });
    fs::write(sandbox.path().join("page.json"), serde_json::to_string(&page).unwrap()).unwrap();
    page
}

#[test]
fn figures_are_those_of_duckdb_on_three_lakes() {
    let (one_dataset, _) = lake_of_days(60, &[0, 1, 35]);
    let all = lake_of_all(&[0, 5]);
    let (one_snapshot, _) = lake_of_days(30, &[3]);
    let lakes = [(&one_dataset, 0), (&all, 7), (&one_snapshot, 3)];
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/readers/report.py"));
    for (sandbox, num_devices) in lakes {
        let page = write_page(sandbox, num_devices);
        check_with_trend_and_diff(sandbox, &page);
        command.arg(sandbox.lake()).args(["page.json", "report.html"].map(|name| sandbox.path().join(name)));
    }
    let run = Run::of(command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap()).expect(0);
    assert!(run.stdout.starts_with("3 pages, "), "{}", run.stdout);
    let of = |sandbox| page_of(sandbox, &request());
    let (one_dataset, all, one_snapshot) = (of(&one_dataset), of(&all), of(&one_snapshot));
    assert_eq!((one_dataset.figures.len(), all.figures.len(), one_snapshot.figures.len()), (5, 10, 5));
    assert!(one_dataset.figures.iter().all(|figure| figure.month_before.is_some()));
    assert!(one_snapshot.changes.is_empty() && one_snapshot.flows.is_empty());
    assert_eq!(all.changes.len(), 9);
    let sections =
        [all.support.len(), all.exposure.len(), all.products.len(), all.expiries.len(), all.risks.len()];
    assert_eq!(sections, [1, 1, 2, 1, 1]);
    assert!(all.devices.is_none());
    assert!(
        one_snapshot.head.notes.contains(&Note::OneSnapshot { dataset: "software_inventory".to_owned() })
    );
    let missing = |note: &Note| matches!(note, Note::MissingDays { days: 33, .. });
    assert!(one_dataset.head.notes.iter().any(missing), "{:?}", one_dataset.head.notes);
}

/// The page's flows and changes are those of `trend --changes` and `diff`.
fn check_with_trend_and_diff(sandbox: &Sandbox, page: &PageData) {
    for flow in &page.flows {
        let args = ["--changes", "--json", "--dataset", &flow.dataset];
        let answer = sandbox.run("trend", &args).expect(0).report();
        let expected: Vec<_> = answer["pairs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| {
                let date = |name: &str| pair[name].as_str().unwrap()[..10].to_owned();
                let count = |kind: &str| pair["changes"][kind].as_u64().unwrap();
                (date("from"), date("to"), count(&flow.added), count(&flow.removed))
            })
            .collect();
        let found =
            flow.days.iter().map(|day| (day.from.to_string(), day.date.to_string(), day.added, day.removed));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!(answer["counted"], 0, "the page has counted them");
    }
    for changes in &page.changes {
        let summary = sandbox.run("diff", &["--json", "--dataset", &changes.dataset]).expect(0).report();
        assert_eq!(changes.kinds.len(), summary["changes"].as_object().unwrap().len());
        for kind in &changes.kinds {
            let found = json!({
                "total": kind.total, "on_known_devices": kind.on_known_devices,
                "on_new_devices": kind.on_new_devices, "on_gone_devices": kind.on_gone_devices,
            });
            assert_eq!(found, summary["changes"][&kind.kind], "{} {}", changes.dataset, kind.kind);
        }
        let product_kinds = changes.kinds.iter().filter(|kind| !kind.is_of_devices);
        let num_changes: u64 = product_kinds.map(|kind| kind.total).sum();
        if changes.left_out == 0 && !changes.name_columns.is_empty() {
            assert_eq!(changes.products.iter().map(|product| product.changes).sum::<u64>(), num_changes);
        }
        // The same products, if a product is known by all of its columns.
        let roles = Roles::of(schema::Dataset::find(&changes.dataset).unwrap()).unwrap();
        let products = summary["products"].as_array().unwrap();
        let is_whole = roles.product.len() == changes.name_columns.len();
        for (found, expected) in changes.products.iter().zip(products).filter(|_| is_whole) {
            let names = changes.name_columns.iter().map(|column| &expected[column]);
            assert_eq!(json!(found.name), names.cloned().collect::<Value>());
            assert_eq!(
                (json!(found.changes), json!(found.devices)),
                (expected["changes"].clone(), expected["devices"].clone())
            );
        }
    }
}

#[test]
fn page_of_little_memory_and_of_a_cache_is_the_same() {
    let sandbox = lake_of_all(&[0, 5]);
    let first = page_of(&sandbox, &request());
    let cache = sandbox.lake().join("_defender/software_inventory/figures.ndjson");
    let kept = fs::read_to_string(&cache).unwrap();
    assert_eq!(kept.lines().count(), 2);
    assert_eq!(page_of(&sandbox, &request()), first);
    // Far less than the least that the command takes: everything is read in many turns.
    assert_eq!(page_of(&sandbox, &PageRequest { memory_bytes: 1 << 18, ..request() }), first);
    for damaged in [kept.replacen("\"devices\":", "\"devices\":1", 1), String::new(), "[[[".repeat(1000)] {
        fs::write(&cache, damaged).unwrap();
        sandbox.run("verify", &["-q"]).expect(0);
        assert_eq!(page_of(&sandbox, &request()), first);
        assert_eq!(fs::read_to_string(&cache).unwrap(), kept);
    }
    sandbox.run("expire", &["--keep-days", "1", "--yes"]).expect(0);
    let later = page_of(&sandbox, &request());
    assert_eq!(later.figures[0].series, first.figures[0].series[1..]);
    sandbox.run("verify", &["-q"]).expect(0);
}

#[test]
fn counted_snapshots_are_not_read_again() {
    let (sandbox, _) = lake_of_days(20, &[0, 1, 2, 3]);
    let first = page_of(&sandbox, &request());
    for day in [0, 1] {
        let folder = format!("software_inventory/snapshot_date={}", date_of(day));
        fs::remove_dir_all(sandbox.lake().join(folder)).unwrap();
    }
    assert_eq!(page_of(&sandbox, &request()), first);
    fs::remove_file(sandbox.lake().join("_defender/software_inventory/figures.ndjson")).unwrap();
    let error = sandbox.run("report", &["--progress", "none"]).expect(6);
    assert!(error.error().contains("snapshot_date=2021-01-1"), "{}", error.error());
    assert!(!sandbox.path().join("report.html").exists(), "nothing is written if it fails");
}

#[test]
fn date_and_since_select_the_snapshots() {
    let sandbox = lake_of_all(&[0]);
    for (dataset, day) in [
        (Dataset::SoftwareInventory, 1),
        (Dataset::SoftwareInventory, 3),
        (Dataset::SoftwareVulnerabilities, 2),
        (Dataset::SoftwareInventory, 4),
    ] {
        publish_tenant(&sandbox, dataset, day);
    }
    let day = |day: u32| date_of(day).parse().unwrap();
    let page = page_of(&sandbox, &PageRequest { date: Some(day(3)), since: Since::Days(2), ..request() });
    assert_eq!((page.head.date, page.head.since), (day(3), day(1)));
    let dates = |name: &str| -> Vec<String> {
        let figure = page.figures.iter().find(|figure| figure.name == name).unwrap();
        figure.series.iter().map(|point| point.date.to_string()).collect()
    };
    assert_eq!(dates("devices"), [date_of(1), date_of(3)]);
    assert_eq!(dates("critical"), [date_of(2)], "the newest that is not after the date");
    let before = page.figures.iter().map(|figure| figure.before.map(|point| point.date.to_string()));
    let before: Vec<_> = before.collect();
    assert_eq!(before[0], Some(date_of(1)));
    assert_eq!(before[5], Some(date_of(0)), "also if it is before the history");
    assert_eq!(before.last(), Some(&None));
    let behind =
        |days: u64| move |note: &Note| matches!(note, Note::Behind { days: found, .. } if *found == days);
    assert_eq!(page.head.notes.iter().filter(|note| behind(1)(note)).count(), 1);
    assert_eq!(page.head.notes.iter().filter(|note| behind(3)(note)).count(), 7);
    let page = page_of(&sandbox, &PageRequest { since: Since::Date(day(4)), ..request() });
    assert_eq!(page.figures[0].series.len(), 1);
    assert!(page.head.notes.iter().any(|note| matches!(note, Note::Stale { days: 3, .. })));
}

#[test]
fn wrong_usage_is_told_and_writes_nothing() {
    let sandbox = Sandbox::new();
    let error = sandbox.run("report", &[]).expect(2);
    assert_eq!(
        error.error(),
        "error: the lake has no snapshots; hint: run ingest first, or name another lake with --lake"
    );
    publish(&sandbox, 0, &[record("d", "v", "a", "1", &json!({}))]);
    let check = |args: &[&str], expected: &str| {
        let run = sandbox.run("report", args).expect(2);
        assert!(run.error().contains(expected), "{args:?}: {}", run.error());
        assert_eq!(run.stdout, "");
    };
    check(
        &["--date", "2021-01-12"],
        "the lake has no snapshot of 2021-01-12; the nearest is of 2021-01-11; hint: run snapshots to list them",
    );
    check(
        &["--since", "soon"],
        "'--since <DATE|DAYS>': expected a date such as 2021-01-11, or a number of days such as 90",
    );
    check(&["--with-devices", "all"], "'--with-devices <N>': expected a whole number");
    check(&["--memory", "1MiB"], "--memory: expected at least ");
    check(&["--out", "nowhere/page.html"], "cannot write nowhere/page.html");
    assert!(!sandbox.path().join("report.html").exists());

    // A page that is there stays until the next one is whole.
    let out = sandbox.path().join("page.html");
    fs::write(&out, "the page before").unwrap();
    sandbox.run("report", &["--date", "2021-01-12", "--out", "page.html"]).expect(2);
    assert_eq!(fs::read_to_string(&out).unwrap(), "the page before");
    let run = sandbox.run("report", &["--out", "page.html", "--since", "2020-01-01"]).expect(0);
    assert!(
        run.stdout.starts_with("page.html: ") && run.stdout.ends_with(", as of 2021-01-11\n"),
        "{}",
        run.stdout
    );
    assert!(fs::read_to_string(&out).unwrap().starts_with("<!doctype html>"));
    let left: Vec<_> =
        fs::read_dir(sandbox.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".defender-lake-")), "{left:?}");
}

#[test]
fn no_device_is_named_unless_it_is_asked_for() {
    let sandbox = lake_of_all(&[0, 1]);
    sandbox.run("report", &["-q"]).expect(0);
    let text = fs::read_to_string(sandbox.path().join("report.html")).unwrap().to_lowercase();
    let mut names = Vec::new();
    for dataset in Dataset::ALL {
        for day in [0, 1] {
            let folder = sandbox.path().join(format!("{}-{day}", dataset.name()));
            let parts = tenant(dataset, day).part_files(&folder);
            names.extend(values_in_lines(&parts, &["DeviceName", "DeviceId"]));
            // What a path is: more than a separator and a word.
            let paths = values_in_lines(&parts, &["DiskPaths", "RegistryPaths", "RegistryPath", "Path"]);
            names.extend(paths.into_iter().filter(|path| path.len() > 8));
        }
    }
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 200, "{}", names.len());
    let found: Vec<_> = names.iter().filter(|name| text.contains(&name.to_lowercase())).collect();
    assert!(found.is_empty(), "{found:?}");

    sandbox.run("report", &["-q", "--with-devices", "3"]).expect(0);
    let text = fs::read_to_string(sandbox.path().join("report.html")).unwrap();
    let page = page_of(&sandbox, &PageRequest { num_devices: 3, ..request() });
    let devices = page.devices.unwrap().devices;
    assert_eq!(devices.len(), 3);
    assert!(devices.iter().all(|device| text.contains(device.name.as_deref().unwrap())));
}

/// Values of some properties in the records of parts.
fn values_in_lines(parts: &[PathBuf], properties: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    for path in parts {
        let mut text = String::new();
        let file = fs::File::open(path).unwrap();
        std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
        for record in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            for property in properties {
                match &record[*property] {
                    Value::String(value) => values.push(value.clone()),
                    Value::Array(list) => {
                        values.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => {}
                }
            }
        }
    }
    values
}

#[test]
fn names_of_products_are_text_on_the_page() {
    let sandbox = Sandbox::new();
    let names =
        ["</script><script>alert(1)</script>", "<!--<script>", "a & \"b\" 'c'", "</style>", "\u{2028}]]>"];
    for day in [0, 1] {
        let records: Vec<_> =
            names.iter().map(|name| record("d", name, name, &format!("{name}{day}"), &json!({}))).collect();
        publish(&sandbox, day, &records);
    }
    sandbox.run("report", &["-q"]).expect(0);
    let text = fs::read_to_string(sandbox.path().join("report.html")).unwrap();
    for name in &names[..2] {
        assert!(!text.contains(name), "{name}");
    }
    assert!(!text.contains("alert(1)</script>") && !text.contains("</style>0"));
}

#[test]
fn page_of_a_lake_in_a_store_has_the_same_figures() {
    let (on_disk, _) = lake_of_days(20, &[0, 1]);
    on_disk.run("report", &["-q"]).expect(0);
    let expected = figures(&on_disk);
    assert_eq!(expected.len(), 5);
    for store in [Store::start(Kind::Azure), Store::start(Kind::S3).delta()] {
        let ingest = || {
            let mut command = store.command("ingest");
            command.args(store.is_delta.then_some(["--table", "delta"]).into_iter().flatten());
            command
        };
        publish_days(&ingest, store.sandbox.path(), 20, &[0, 1]);
        for _ in 0..2 {
            Run::of(store.command("report").arg("-q").output().unwrap()).expect(0);
            assert_eq!(figures(&store.sandbox), expected);
        }
        assert!(store.list().contains_key("_defender/software_inventory/figures.ndjson"));
        store.run("verify", &["-q"]).expect(0);
    }
}

/// The figures on the page, as they stand there.
fn figures(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path().join("report.html")).unwrap();
    let figures = text.split("data-figure=\"").skip(1).map(|figure| {
        let (name, rest) = figure.split_once('"').unwrap();
        let value = rest.split_once("value=\"").unwrap().1.split_once('"').unwrap().0;
        format!("{name} {value}")
    });
    let mut figures: Vec<_> = figures.collect();
    figures.sort_unstable();
    figures.dedup();
    figures
}
