//! Every sample through the real program: the whole of what the lake, the manifest and the rejects hold of it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::oracle::agreement::{Reading, decode_part};
use crate::oracle::{Decoded, Row};
use crate::support::Sandbox;

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures");

/// Arguments that ingest local files of no dated folder, and report.
pub fn ingest_args<'a>(paths: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["--generated-time", "2021-01-11T11:01:00Z", "--json"];
    args.extend_from_slice(more);
    args.push("--from");
    args.extend(paths.iter().map(String::as_str));
    args
}

/// The lines of a rejects file, without the folder of the part's name.
pub fn rejects_of(path: &Path) -> Vec<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(|line| line.replace(&format!("{FIXTURES}/"), "")).collect()
}

/// The place of the rejects of the one snapshot that a lake holds.
pub fn published_rejects(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.lake().join("_defender/software_inventory/snapshots/20210111T110100Z/rejects.ndjson.gz")
}

/// Everything that a run has made of its parts, as text.
pub fn outcome(sandbox: &Sandbox, report: &Value) -> String {
    let mut text = String::new();
    let mut section = |name: &str, lines: Vec<String>| {
        text.extend([name, "\n"]);
        for line in lines {
            text.extend(["  ", &line, "\n"]);
        }
    };
    section("rows", sandbox.rows());
    let counts = |facts: &Value| {
        let names =
            ["json_bytes", "records", "rejected_records", "field_rejects", "coerced", "duplicate_names"];
        let counts: Vec<_> = names.map(|name| format!("{name} {}", facts[name])).into();
        counts.join(", ")
    };
    section("parts", report["parts"].as_array().unwrap().iter().map(counts).collect());
    let undocumented = report["undocumented_fields"].as_object().unwrap();
    section("undocumented", undocumented.iter().map(|(name, count)| format!("{name:?} {count}")).collect());
    let rejects = published_rejects(sandbox);
    section("rejects", if rejects.exists() { rejects_of(&rejects) } else { Vec::new() });
    text
}

fn check_with(samples: &[&str], more: &[&str]) -> String {
    let sandbox = Sandbox::new();
    let paths: Vec<_> =
        samples.iter().map(|sample| format!("{FIXTURES}/samples/software-inventory/{sample}")).collect();
    let report = sandbox.run("ingest", &ingest_args(&paths, more)).expect(0).report();
    assert_eq!(report["outcome"], "published");
    sandbox.run("verify", &[]).expect(0);
    outcome(&sandbox, &report)
}

/// Ingests one sample and shows what became of it.
fn check(sample: &str) -> String {
    check_with(&[sample], &[])
}

#[test]
fn files_route_lines_become_rows() {
    insta::assert_snapshot!(check("files-route.ndjson"));
}

#[test]
fn documented_json_page_becomes_rows() {
    insta::assert_snapshot!(check("json-page.json"));
}

#[test]
fn page_members_may_stand_around_the_records() {
    insta::assert_snapshot!(check("page-members-around-value.json"));
}

#[test]
fn array_becomes_rows() {
    insta::assert_snapshot!(check("array.json"));
}

#[test]
fn objects_may_span_lines() {
    insta::assert_snapshot!(check("objects-over-lines.json"));
}

#[test]
fn objects_may_follow_each_other_on_a_line() {
    insta::assert_snapshot!(check("objects-without-newlines.json"));
}

#[test]
fn bom_carriage_returns_and_blank_lines_are_skipped() {
    insta::assert_snapshot!(check("bom-crlf-blank-lines.ndjson"));
}

#[test]
fn only_newlines_end_a_record() {
    insta::assert_snapshot!(check("line-separators.ndjson"));
}

#[test]
fn names_match_in_any_case() {
    insta::assert_snapshot!(check("names-in-any-case.ndjson"));
}

#[test]
fn last_of_a_name_given_twice_wins() {
    insta::assert_snapshot!(check("names-given-twice.ndjson"));
}

#[test]
fn undocumented_fields_are_counted() {
    insta::assert_snapshot!(check("undocumented-nested.ndjson"));
}

#[test]
fn undocumented_fields_are_captured_as_they_came() {
    insta::assert_snapshot!(check_with(&["undocumented-nested.ndjson"], &["--extra-fields", "capture"]));
}

#[test]
fn values_of_other_types_are_coerced_and_counted() {
    insta::assert_snapshot!(check("values-coerced.ndjson"));
}

#[test]
fn values_that_say_nothing_are_null_without_a_reject() {
    insta::assert_snapshot!(check("values-null.ndjson"));
}

#[test]
fn every_timestamp_form_is_read() {
    insta::assert_snapshot!(check("timestamps.ndjson"));
}

#[test]
fn every_documented_date_form_is_read() {
    insta::assert_snapshot!(check("dates-both-forms.ndjson"));
}

#[test]
fn empty_lists_stay_apart_from_null() {
    insta::assert_snapshot!(check("lists-empty-absent-null.ndjson"));
}

#[test]
fn escapes_become_the_characters_they_stand_for() {
    insta::assert_snapshot!(check("escapes.ndjson"));
}

#[test]
fn rows_without_platform_go_to_the_null_partition() {
    insta::assert_snapshot!(check("no-osplatform.ndjson"));
}

#[test]
fn gzip_members_are_read_one_after_the_other() {
    insta::assert_snapshot!(check("two-members-one-stored.json.gz"));
}

#[test]
fn gzip_of_nothing_is_a_part_without_records() {
    insta::assert_snapshot!(check_with(&["array.json", "nothing.json.gz"], &[]));
}

/// Decodes a sample of a dataset.
fn decoded(dataset: &'static str, sample: &str) -> (Decoded, Vec<String>) {
    let path = format!("{FIXTURES}/samples/{}/{sample}", dataset.replace('_', "-"));
    let part = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let reading =
        Reading { dataset, buffer_bytes: 1 << 20, gzip: false, capture_extra_fields: true, plain_text: true };
    decode_part(&part, reading).unwrap()
}

/// The rows of a sample, and what was counted.
fn shown(dataset: &'static str, sample: &str) -> String {
    let (decoded, reasons) = decoded(dataset, sample);
    let mut lines: Vec<_> = decoded.rows.iter().map(|row| format!("{row:?}")).collect();
    lines.extend(reasons.iter().map(|reason| format!("reject: {reason}")));
    lines.push(format!("coerced {}, duplicate names {}", decoded.coerced, decoded.duplicate_names));
    lines.push(format!("undocumented {:?}", decoded.undocumented));
    lines.join("\n")
}

/// The datasets that are not [`check`]ed by the program.
fn other_datasets() -> impl Iterator<Item = &'static schema::Dataset> {
    schema::DATASETS.iter().copied().filter(|dataset| dataset.name != "software_inventory")
}

#[test]
fn lines_of_every_dataset_become_rows() {
    let shown: Vec<_> = other_datasets()
        .map(|dataset| format!("{}\n{}", dataset.name, shown(dataset.name, "files-route.ndjson")))
        .collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

/// The columns that only the records of files have are listed beside the dataset.
#[test]
fn both_routes_give_the_same_rows() {
    let mut of_one_route = Vec::new();
    for dataset in other_datasets().filter(|dataset| dataset.routes.json.is_some()) {
        let [files, pages] =
            ["files-route.ndjson", "json-page.json"].map(|sample| decoded(dataset.name, sample).0);
        for part in [&files, &pages] {
            assert_eq!((part.rows.len(), part.rejects.len(), part.coerced), (2, 0, 0), "{}", dataset.name);
            assert_eq!((part.duplicate_names, part.undocumented.len()), (0, 0), "{}", dataset.name);
        }
        let mut only_in_files = BTreeSet::new();
        for (of_files, of_pages) in files.rows.iter().zip(&pages.rows) {
            let is_missing = |name: &&str| !of_pages.contains_key(name);
            only_in_files.extend(of_files.keys().copied().filter(is_missing));
            let mut of_both: Row = of_files.clone();
            of_both.retain(|name, _| of_pages.contains_key(name));
            assert_eq!(of_both, *of_pages, "{}", dataset.name);
        }
        of_one_route.push(format!("{}: {only_in_files:?}", dataset.name));
    }
    insta::assert_snapshot!(of_one_route.join("\n"));
}

#[test]
fn booleans_and_numbers_of_every_form_are_read() {
    insta::assert_snapshot!(shown("software_vulnerabilities", "values-of-other-types.ndjson"));
}

#[test]
fn permissions_are_structs_however_they_come() {
    insta::assert_snapshot!(shown("browser_extensions", "permissions.ndjson"));
}

#[test]
fn last_of_a_name_and_its_alias_wins() {
    insta::assert_snapshot!(shown("certificates", "names-of-both-routes.ndjson"));
}

#[test]
fn a_single_registry_path_is_a_list_of_one() {
    insta::assert_snapshot!(shown("software_inventory_non_cpe", "registry-paths.ndjson"));
}

#[test]
fn json_of_every_kind_becomes_text() {
    insta::assert_snapshot!(shown("information_gathering", "json-of-every-kind.ndjson"));
}

/// Both ended in a panic: an empty text first seen when a chunk of texts is full, or before one longer than that.
#[test]
fn texts_as_long_as_a_chunk_become_rows() {
    const CHUNK_BYTES: usize = 1 << 17;
    for lens in [[CHUNK_BYTES, 0, CHUNK_BYTES, 0], [0, CHUNK_BYTES + 1, 0, 1]] {
        let sandbox = Sandbox::new();
        let record = |(index, len): (usize, &usize)| {
            format!("{{\"DeviceId\":\"d{index}\",\"SoftwareName\":\"{}\"}}\n", "x".repeat(*len))
        };
        let path = sandbox.path().join("part.json");
        std::fs::write(&path, lens.iter().enumerate().map(record).collect::<String>()).unwrap();
        let paths = [path.to_str().unwrap().to_owned()];
        let report = sandbox.run("ingest", &ingest_args(&paths, &[])).expect(0).report();
        assert_eq!(report["totals"]["rows"], 4);
        sandbox.run("verify", &[]).expect(0);
    }
}

/// Directory, manifest and row of every platform that a directory's name could trip over.
#[test]
fn platforms_have_one_directory_each() {
    let sandbox = Sandbox::new();
    let paths = [format!("{FIXTURES}/samples/software-inventory/partition-values.ndjson")];
    let report = sandbox.run("ingest", &ingest_args(&paths, &[])).expect(0).report();
    let mut shown: Vec<_> = sandbox
        .data_files()
        .into_iter()
        .map(|(path, file)| {
            assert!(path.exists(), "{}", path.display());
            let directory = path.parent().unwrap();
            let date = directory.parent().unwrap();
            assert_eq!(date, sandbox.lake().join("software_inventory/snapshot_date=2021-01-11"));
            let directory = directory.file_name().unwrap().to_str().unwrap();
            format!("{directory} {} {}\n", file["os_platform"], file["rows"])
        })
        .collect();
    shown.sort_unstable();
    insta::assert_snapshot!(shown.concat());
    assert_eq!(report["totals"]["field_rejects"], 0);
}

/// Many platforms, each with rows, stay within a small budget.
#[test]
fn hundreds_of_platforms_fit_the_memory_budget() {
    let tenant = fixtures::Tenant::new(fixtures::TenantOptions {
        devices: 600,
        extra_platforms: 300,
        ..fixtures::TenantOptions::default()
    });
    let parts = Sandbox::new();
    tenant.write_to_dir(parts.path()).unwrap();
    let sandbox = Sandbox::new();
    let from = parts.path().to_str().unwrap();
    let mut command = sandbox.command("ingest");
    command.args(["--json", "--threads", "2", "--memory", "128MiB", "--from", from]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (output, peak_bytes) = wait_measured(child);
    let report: Value = serde_json::from_slice(&output).unwrap();
    let expected = tenant.expected();
    assert_eq!(report["totals"]["rows"], expected.records);
    let mut directories: Vec<_> =
        sandbox.data_files().iter().map(|(path, _)| path.parent().unwrap().to_owned()).collect();
    directories.sort_unstable();
    directories.dedup();
    assert_eq!(directories.len(), expected.records_per_platform.len());
    assert!(directories.len() >= 300, "{}", directories.len());
    assert!(peak_bytes <= 128 << 20, "{peak_bytes} bytes at the peak");
}

/// Waits for a child and returns what it printed, and the most memory that it was seen to hold.
fn wait_measured(mut child: std::process::Child) -> (Vec<u8>, u64) {
    let status = format!("/proc/{}/status", child.id());
    let mut stdout = child.stdout.take().unwrap();
    let output = std::thread::spawn(move || {
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).map(|_| output).unwrap()
    });
    let mut peak_kib = 0;
    loop {
        // `VmHWM` is the peak so far: the last look before the end has it but for the last moment.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return (output.join().unwrap(), peak_kib * 1024);
        }
        std::thread::yield_now();
    }
}
