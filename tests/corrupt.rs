//! Every corrupt file through the real program: the whole message, and that nothing of it was published.

use crate::samples::{FIXTURES, ingest_args, outcome, published_rejects, rejects_of};
use crate::support::{Run, Sandbox};

/// A sandbox whose lake holds an earlier snapshot.
fn lake_with_a_snapshot() -> Sandbox {
    let sandbox = Sandbox::new();
    let sample = format!("{FIXTURES}/samples/software-inventory/array.json");
    sandbox.run("ingest", &["--generated-time", "2021-01-10T11:01:00Z", "--from", &sample]).expect(0);
    sandbox
}

fn corrupt(file: &str) -> String {
    format!("{FIXTURES}/corrupt/{file}")
}

/// Ingests a damaged part beside a whole one: the error, and the lake as it was.
#[track_caller]
fn check_damage(file: &str, expected: &str) {
    let hint = "replace the file with a complete one, or leave it out of --from";
    check_damage_beside(&[WHOLE], file, expected, hint);
}

const WHOLE: &str = "files-route.ndjson";

/// Ingests a damaged part beside samples that are whole.
#[track_caller]
fn check_damage_beside(whole: &[&str], file: &str, expected: &str, hint: &str) {
    let sandbox = lake_with_a_snapshot();
    let before = sandbox.lake_listing();
    let mut paths = vec![corrupt(file)];
    paths.extend(whole.iter().map(|sample| format!("{FIXTURES}/samples/software-inventory/{sample}")));
    let run = sandbox.run("ingest", &ingest_args(&paths, &["--max-rejects", "50%"])).expect(4);
    run.check_failed_report(4);
    let path = &paths[0];
    assert_eq!(run.error(), format!("error: part {path} is damaged: {expected}; hint: {hint}"));
    assert_eq!(sandbox.lake_listing(), before);
    assert_eq!(sandbox.staged_runs(), [""; 0]);
}

/// Ingests something else than an export, beside a part of one and alone.
#[track_caller]
fn check_not_an_export(file: &str, found: &str, hint: &str) {
    let expected = format!("the part is {found}; expected JSON records in UTF-8");
    check_damage_beside(&[WHOLE], file, &expected, hint);
    check_damage_beside(&[], file, &expected, hint);
}

const ANOTHER_ANSWER: &str =
    "download the part again: a server or proxy has answered with this instead of the export";

#[test]
fn zip_archive_publishes_nothing() {
    check_not_an_export(
        "zip-archive.json.gz",
        "a zip archive",
        "unpack it and pass the files that are in it",
    );
}

#[test]
fn gzip_inside_gzip_publishes_nothing() {
    check_not_an_export(
        "gzip-inside-gzip.json.gz",
        "gzip inside gzip",
        "decompress it once, as with `gzip -d`",
    );
}

#[test]
fn html_publishes_nothing() {
    check_not_an_export("html.json.gz", "HTML", ANOTHER_ANSWER);
}

#[test]
fn xml_publishes_nothing() {
    check_not_an_export("xml-error.json", "XML", ANOTHER_ANSWER);
}

#[test]
fn json_error_body_publishes_nothing() {
    check_not_an_export("json-error.json", "a JSON error body", ANOTHER_ANSWER);
}

#[test]
fn utf_16_publishes_nothing() {
    let hint = "convert it, as with `iconv -f UTF-16 -t UTF-8`, or write it as UTF-8";
    check_not_an_export("utf-16.json", "UTF-16", hint);
}

#[test]
fn part_without_a_row_beside_rows_publishes_nothing() {
    let sandbox = lake_with_a_snapshot();
    let before = sandbox.lake_listing();
    let paths = [corrupt("all-rejected.ndjson"), format!("{FIXTURES}/samples/software-inventory/{WHOLE}")];
    let run = sandbox.run("ingest", &ingest_args(&paths, &["--max-rejects", "50%"])).expect(4);
    let expected =
        format!("error: part {} is damaged: 3 of its 3 records were rejected, line 1: no DeviceId", paths[0]);
    let hint = "see their reasons there; leave the part out if it does not belong to the export";
    assert_eq!(check_kept_rejects(&sandbox, &run, &expected, hint).len(), 3);
    assert_eq!(sandbox.lake_listing(), before);
    assert_eq!(sandbox.staged_runs(), [""; 0]);
}

/// Checks an error that names the rejects file kept in the work dir; returns its lines.
#[track_caller]
fn check_kept_rejects(sandbox: &Sandbox, run: &Run, message: &str, hint: &str) -> Vec<String> {
    run.check_failed_report(run.code);
    let (found, rest) = run.error().split_once("; the rejects are in ").unwrap();
    assert_eq!(found, message);
    let (path, found) = rest.split_once("; hint: ").unwrap();
    assert_eq!(found, hint);
    assert!(path.starts_with(sandbox.work_dir().to_str().unwrap()), "{path}");
    rejects_of(path.as_ref())
}

/// With no row in any part, the limit alone decides.
#[test]
fn part_without_a_row_is_too_many_rejects_if_alone() {
    check_rejects("all-rejected.ndjson", 3, 3);
}

/// Ingests a part with some records rejected, beside one of 2,000 rows.
fn ingest_partly_rejected(rejected: usize, records: usize, limit: &str, is_alone: bool) -> Run {
    let sandbox = lake_with_a_snapshot();
    let before = sandbox.lake_listing();
    let part = |name: &str, rejected: usize, records: usize| {
        let record = |index: usize| {
            let id = if index < records - rejected { format!("d{index}") } else { String::new() };
            format!("{{\"DeviceId\":\"{id}\"}}\n")
        };
        let path = sandbox.path().join(name);
        std::fs::write(&path, (0..records).map(record).collect::<String>()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut paths = vec![part("partly.json", rejected, records)];
    if !is_alone {
        paths.push(part("whole.json", 0, 2000));
    }
    let run = sandbox.run("ingest", &ingest_args(&paths, &["--max-rejects", limit]));
    if run.code != 0 {
        assert_eq!(sandbox.lake_listing(), before);
        assert_eq!(sandbox.staged_runs(), [""; 0]);
        let expected = format!(
            "error: part {} is damaged: {rejected} of its {records} records were rejected, line {}: DeviceId is empty",
            paths[0],
            records - rejected + 1
        );
        let hint = "see their reasons there; raise --max-rejects above 10% to publish without them";
        assert_eq!(check_kept_rejects(&sandbox, &run, &expected, hint).len(), rejected);
    }
    run
}

#[test]
fn part_with_a_tenth_rejected_publishes_nothing() {
    ingest_partly_rejected(11, 101, "10%", false).expect(4);
    ingest_partly_rejected(11, 101, "1%", true).expect(4);
    // A tenth of all records, as a number.
    ingest_partly_rejected(11, 101, "210", false).expect(4);
    // What is spread over all parts, and what is in a small one, only counts for all.
    ingest_partly_rejected(10, 100, "10%", false).expect(0);
    ingest_partly_rejected(11, 100, "10%", false).expect(0);
    ingest_partly_rejected(11, 110, "10%", false).expect(0);
}

#[test]
fn part_with_a_tenth_rejected_passes_a_larger_limit() {
    ingest_partly_rejected(60, 101, "10.1%", false).expect(0);
    ingest_partly_rejected(11, 101, "211", false).expect(0);
    ingest_partly_rejected(60, 101, "60%", true).expect(0);
}

/// Dates as PowerShell writes them: fields are rejected, and a whole column is null.
#[test]
fn column_that_rejects_made_null_is_warned_of() {
    let sandbox = Sandbox::new();
    let (dates, other) =
        (corrupt("powershell-dates.ndjson"), format!("{FIXTURES}/samples/software-inventory/{WHOLE}"));
    let run = sandbox.run("ingest", &ingest_args(&[other, dates.clone()], &[])).expect(0);
    let warnings: Vec<_> = run.stderr.lines().filter_map(|line| line.split_once("WARN ")).collect();
    let expected = ["EndOfSupportDate", "SoftwareFirstSeenTimestamp"].map(|column| {
        format!(
            "the column is null in every row of the part: its values were rejected column=\"{column}\" \
             part=\"{dates}\" num_parts=1"
        )
    });
    assert_eq!(warnings.iter().map(|(_, text)| *text).collect::<Vec<_>>(), expected);
}

#[test]
fn truncated_part_publishes_nothing() {
    check_damage("truncated.json.gz", "gzip is damaged: after 876 bytes of JSON: incomplete deflate stream");
}

#[test]
fn part_with_bad_checksum_publishes_nothing() {
    check_damage(
        "bad-crc.json.gz",
        "gzip is damaged: after 2021 bytes of JSON: corrupt gzip stream does not have a matching checksum",
    );
}

#[test]
fn part_with_wrong_length_publishes_nothing() {
    check_damage(
        "wrong-length.json.gz",
        "gzip is damaged: after 435 bytes of JSON: corrupt gzip stream does not have a matching checksum",
    );
}

#[test]
fn part_with_bytes_behind_its_gzip_publishes_nothing() {
    check_damage("trailing-bytes.json.gz", "gzip is damaged: after 435 bytes of JSON: invalid gzip header");
}

#[test]
fn part_whose_second_member_is_cut_publishes_nothing() {
    check_damage(
        "second-member-cut.json.gz",
        "gzip is damaged: after 722 bytes of JSON: incomplete deflate stream",
    );
}

#[test]
fn empty_body_is_not_an_empty_part() {
    check_damage("empty-body.json.gz", "the part is empty: no bytes, not even of compression");
}

#[test]
fn array_without_its_end_publishes_nothing() {
    check_damage(
        "array-not-closed.json",
        "the array that begins the part is not closed when the part ends, after 294 bytes of JSON",
    );
}

#[test]
fn page_without_its_end_publishes_nothing() {
    check_damage(
        "page-not-closed.json",
        "the page that begins the part is not closed when the part ends, after 323 bytes of JSON",
    );
}

#[test]
fn text_after_an_array_publishes_nothing() {
    check_damage("text-after-array.json", "line 2, byte 151: text after the array that begins the part");
}

#[test]
fn text_after_a_page_publishes_nothing() {
    check_damage("text-after-page.json", "line 2, byte 161: text after the page that begins the part");
}

#[test]
fn answer_for_one_entity_is_not_a_page() {
    check_damage("page-of-one-entity.json", "line 1, byte 126: the page has no `value`");
}

#[test]
fn page_whose_value_is_not_an_array_publishes_nothing() {
    check_damage("page-value-no-array.json", "line 1, byte 30: the page has a `value` that is not an array");
}

#[test]
fn page_with_two_values_publishes_nothing() {
    check_damage("page-with-two-values.json", "line 1, byte 168: the page has a second `value`");
}

#[test]
fn page_that_is_not_json_publishes_nothing() {
    check_damage("page-not-json.json", "line 1, byte 22: the page is not JSON");
}

/// If all parts of an export are empty, the service is at fault, not the tenant.
#[test]
fn export_without_records_publishes_nothing() {
    let sandbox = lake_with_a_snapshot();
    let before = sandbox.lake_listing();
    let paths = [format!("{FIXTURES}/samples/software-inventory/nothing.json.gz")];
    let run = sandbox.run("ingest", &ingest_args(&paths, &[])).expect(4);
    assert_eq!(
        run.error(),
        "error: the export of 20210111T110100Z has no records; nothing was published; hint: check \
         that --from names the files of the export"
    );
    assert_eq!(sandbox.lake_listing(), before);
}

/// Ingests a part with rejected records, `rejected` of `records`: once with a limit that is one too
/// low, once with one that is just met. Returns what the latter made of it.
#[track_caller]
fn check_rejects(file: &str, rejected: u64, records: u64) -> String {
    let sandbox = lake_with_a_snapshot();
    let before = sandbox.lake_listing();
    let paths = [corrupt(file)];
    let too_low = (rejected - 1).to_string();
    let too_small_a_share = format!("{:.6}%", (rejected * 100) as f64 / records as f64 - 0.000_001);
    let mut kept = Vec::new();
    for limit in [&too_low, &too_small_a_share] {
        let run = sandbox.run("ingest", &ingest_args(&paths, &["--max-rejects", limit])).expect(5);
        let expected = format!("error: {rejected} of {records} records were rejected, more than {limit}");
        let hint = "see their reasons there; raise --max-rejects to publish without them";
        kept.push(check_kept_rejects(&sandbox, &run, &expected, hint));
        assert_eq!(sandbox.lake_listing(), before);
        assert_eq!(sandbox.staged_runs(), [""; 0]);
    }
    let fresh = Sandbox::new();
    let limit = rejected.to_string();
    let run = fresh.run("ingest", &ingest_args(&paths, &["--max-rejects", &limit]));
    if rejected == records {
        // Every record was rejected, so the snapshot is empty.
        return kept.swap_remove(0).join("\n");
    }
    let report = run.expect(0).report();
    assert_eq!(report["totals"]["rejected_records"], rejected);
    assert_eq!(report["totals"]["records"], records);
    let published = rejects_of(&published_rejects(&fresh));
    assert_eq!(kept, [published.clone(), published]);
    fresh.run("verify", &[]).expect(0);
    outcome(&fresh, &report)
}

#[test]
fn line_that_is_not_json_is_rejected() {
    insta::assert_snapshot!(check_rejects("not-json.ndjson", 1, 3));
}

#[test]
fn line_that_is_not_an_object_is_rejected() {
    insta::assert_snapshot!(check_rejects("not-objects.ndjson", 4, 6));
}

#[test]
fn line_that_is_cut_off_at_the_end_is_rejected() {
    insta::assert_snapshot!(check_rejects("cut-line.ndjson", 1, 3));
}

#[test]
fn line_that_is_cut_off_takes_no_other_with_it() {
    insta::assert_snapshot!(check_rejects("line-without-end.ndjson", 1, 3));
}

#[test]
fn form_feed_is_rejected() {
    insta::assert_snapshot!(check_rejects("form-feed.ndjson", 1, 3));
}

#[test]
fn bytes_that_are_not_utf8_are_rejected_and_kept() {
    insta::assert_snapshot!(check_rejects("not-utf8.ndjson", 1, 3));
}

#[test]
fn surrogate_without_its_pair_is_rejected() {
    insta::assert_snapshot!(check_rejects("lone-surrogate.ndjson", 2, 4));
}

#[test]
fn record_that_nests_too_deep_is_rejected() {
    insta::assert_snapshot!(check_rejects("too-deep.ndjson", 1, 2));
}

#[test]
fn record_without_usable_device_id_is_rejected() {
    insta::assert_snapshot!(check_rejects("no-device-id.ndjson", 7, 8));
}

/// Rejected fields are not rejected records: they pass any `--max-rejects`.
#[track_caller]
fn check_field_rejects(file: &str) -> String {
    let sandbox = Sandbox::new();
    let paths = [corrupt(file)];
    let report = sandbox.run("ingest", &ingest_args(&paths, &["--max-rejects", "0"])).expect(0).report();
    sandbox.run("verify", &[]).expect(0);
    outcome(&sandbox, &report)
}

#[test]
fn unconvertible_values_are_null_and_rejected() {
    insta::assert_snapshot!(check_field_rejects("wrong-values.ndjson"));
}

#[test]
fn platform_too_long_for_a_directory_is_rejected() {
    insta::assert_snapshot!(check_field_rejects("platform-too-long.ndjson"));
}
