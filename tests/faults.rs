//! What goes wrong between the service and the spool: each fault, what becomes of the run, and that the lake is whole or
//! as it was. The table of all of them is in the docs of `pipeline::fetch`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fixtures::{At, Clock, Emulator, EmulatorOptions, Fault, PartFormat, RetryAfter, Tenant, TenantOptions};
use pipeline::exit_code::{Diagnostic, ExitCode};
use pipeline::http::error_chain;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Run, Sandbox, tenant, unlimited};

/// An emulator of six small parts.
fn emulator() -> Emulator {
    unlimited(six_parts())
}

fn six_parts() -> Tenant {
    Tenant::new(TenantOptions { devices: 12, parts: 6, ..TenantOptions::default() })
}

/// Downloads of the part at a position, with their statuses.
fn downloads(emulator: &Emulator, index: u32) -> Vec<(u16, Option<String>)> {
    downloads_of(&six_parts(), emulator, index)
}

fn downloads_of(tenant: &Tenant, emulator: &Emulator, index: u32) -> Vec<(u16, Option<String>)> {
    let path = format!("/{}", tenant.part_path(index));
    let calls = emulator.calls().into_iter();
    calls.filter(|call| call.path.replace("%3D", "=") == path).map(|call| (call.status, call.range)).collect()
}

fn listings(emulator: &Emulator) -> usize {
    emulator.calls().iter().filter(|call| call.path.ends_with("Export")).count()
}

/// Runs into a fault and gets over it: the lake is as it is without.
#[track_caller]
fn survives(emulator: &Emulator, args: &[&str]) -> (Sandbox, Run) {
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(emulator, args).expect(0);
    assert_eq!(sandbox.rows().len() as u64, six_parts().num_records());
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());
    let spools = std::fs::read_dir(sandbox.work_dir().join("software_inventory")).unwrap();
    assert_eq!(spools.count(), 0, "nothing is left in the spool");
    (sandbox, run)
}

/// Runs into a fault and ends with `code`, having published nothing; and what is said.
#[track_caller]
fn fails(emulator: &Emulator, args: &[&str], code: i32) -> String {
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(emulator, args).expect(code);
    let lake = sandbox.lake_listing();
    assert!(lake.keys().all(|name| !name.contains("snapshot_date")), "{lake:?}");
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());
    let error = run.error();
    assert!(error.contains("; hint: "), "{error}");
    error.to_owned()
}

fn check_error(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_part_that_is_still_copied_is_waited_for() {
    let emulator = emulator();
    emulator.script(At::Part(2), 2, Fault::Empty);
    survives(&emulator, &[]);
    assert_eq!(downloads(&emulator, 2).len(), 3);
}

#[test]
fn a_part_that_is_not_there_yet_is_waited_for() {
    let emulator = emulator();
    emulator.script(At::Part(0), 1, Fault::Status(404));
    emulator.script(At::Part(1), 1, Fault::Status(503));
    emulator.script(At::Part(2), 1, Fault::Status(500));
    emulator.script(At::Part(3), 1, Fault::Throttled(RetryAfter::Secs(1)));
    survives(&emulator, &[]);
    assert_eq!(downloads(&emulator, 0).iter().map(|call| call.0).collect::<Vec<_>>(), [404, 200]);
}

#[test]
fn a_reset_goes_on_by_range() {
    let emulator = emulator();
    emulator.script(At::Part(4), 1, Fault::Reset { after_bytes: 3000 });
    survives(&emulator, &[]);
    let (status, range) = downloads(&emulator, 4)[1].clone();
    assert_eq!(status, 206);
    assert!(range.unwrap().starts_with("bytes="));
}

#[test]
fn a_transfer_that_stalls_goes_on_by_range() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    emulator.script(At::Part(4), 1, Fault::Stall { after_bytes: 3000 });
    sandbox.ingest_impatiently(&emulator).unwrap();
    assert_eq!(sandbox.rows().len() as u64, six_parts().num_records());
    assert_eq!(downloads(&emulator, 4), [(200, None), (206, Some("bytes=3000-".to_owned()))]);
}

#[test]
fn a_transfer_that_stalls_for_ever_ends_the_run() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    emulator.script(At::Part(4), u32::MAX, Fault::Stall { after_bytes: 100 });
    let error = sandbox.ingest_impatiently(&emulator).unwrap_err();
    check_error(&error_chain(&error), &[&six_parts().part_path(4), "stalled: 0 bytes in 300ms"]);
    assert_eq!(error.exit_code(), ExitCode::Source);
}

#[test]
fn a_wrong_md5_is_fetched_again() {
    let emulator = emulator();
    emulator.script(At::Part(1), 1, Fault::WrongMd5);
    let (_, run) = survives(&emulator, &[]);
    assert_eq!(downloads(&emulator, 1), [(200, None), (200, None)]);
    // Found before its first row was read: nothing had to be taken back.
    assert!(!run.stderr.contains("starting over"), "{}", run.stderr);
    assert_eq!(listings(&emulator), 1);
    for index in [0, 2, 3, 4, 5] {
        assert_eq!(downloads(&emulator, index).len(), 1, "part {index}");
    }
}

/// A part that is damaged however often it is fetched ends a run that names it, when there is a snapshot already.
#[track_caller]
fn names_the_part(fault: Fault, expected: &str) {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let before = sandbox.lake_listing();
    emulator.regenerate(later());
    emulator.script(At::Part(3), u32::MAX, fault);
    let error = sandbox.ingest_impatiently(&emulator).unwrap_err();
    let tenant = Tenant::new(TenantOptions { generated_time: later(), ..six_parts().options().clone() });
    let name = format!("part {} could not be fetched: gave up after 4 attempts", tenant.part_path(3));
    check_error(&error_chain(&error), &[&name, "damaged part", expected]);
    assert_eq!(error.exit_code(), ExitCode::Source);
    assert_eq!(error.hint().unwrap(), "run again later; completed parts are kept");
    assert!(!format!("{error:?}").contains("sig="), "{error:?}");
    assert_eq!(sandbox.lake_listing(), before);
    assert_eq!(listings(&emulator), 2, "no second round");

    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let num_downloads = |index| downloads_of(&tenant, &emulator, index).len();
    assert_eq!([0, 1, 2, 3, 4, 5].map(num_downloads), [1, 1, 1, 5, 1, 1]);
}

#[test]
fn part_with_a_wrong_md5_is_named_others_are_kept() {
    names_the_part(Fault::WrongMd5, "MD5 mismatch: expected AAAAAAAAAAAAAAAAAAAAAA==, found ");
}

#[test]
fn part_that_stays_damaged_is_named_others_are_kept() {
    names_the_part(Fault::Short { bytes: 2000 }, "gzip is damaged: after ");
}

#[test]
fn part_that_stays_html_is_named_others_are_kept() {
    names_the_part(
        Fault::Body("<html>nope</html>\n".to_owned()),
        "the part is HTML; expected JSON records in UTF-8",
    );
}

#[test]
fn a_part_that_stays_an_error_body_is_named() {
    let body = r#"{"error":{"code":"InternalServerError","message":"x"}}"#;
    let expected = "the part is a JSON error body; expected JSON records in UTF-8";
    names_the_part(Fault::Body(body.to_owned()), expected);
}

#[test]
fn part_that_is_not_an_export_is_fetched_again() {
    for body in ["PK\x03\x04", "<?xml version=\"1.0\"?><Error/>", r#"{"error":{}}"#, "upstream connect error"]
    {
        let emulator = emulator();
        emulator.script(At::Part(1), 1, Fault::Body(body.to_owned()));
        let (_, run) = survives(&emulator, &[]);
        assert_eq!(downloads(&emulator, 1).len(), 2);
        // Nothing of it was among the others.
        assert!(!run.stderr.contains("starting over"), "{}", run.stderr);
        assert_eq!(listings(&emulator), 1);
    }
}

#[test]
fn a_part_without_a_row_is_fetched_again() {
    let emulator = emulator();
    emulator.script(At::Part(1), 1, Fault::Body("{\"SoftwareName\":\"a\"}\n".to_owned()));
    let (_, run) = survives(&emulator, &[]);
    assert!(run.stderr.contains("starting over from a new listing"), "{}", run.stderr);
    assert_eq!((downloads(&emulator, 1).len(), listings(&emulator)), (2, 2));
    assert_eq!(downloads(&emulator, 0).len(), 1);
}

#[test]
fn a_part_that_never_has_a_row_ends_the_run() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let before = sandbox.lake_listing();
    emulator.regenerate(later());
    emulator.script(At::Part(1), u32::MAX, Fault::Body("{\"SoftwareName\":\"a\"}\n{}\n".to_owned()));
    let run = sandbox.ingest_via(&emulator, &["--max-rejects", "50%"]).expect(4);
    let tenant = Tenant::new(TenantOptions { generated_time: later(), ..six_parts().options().clone() });
    let (message, rejects) = run.error().split_once("; the rejects are in ").unwrap();
    let expected = "is damaged: 2 of its 2 records were rejected, line 1: no DeviceId";
    assert_eq!(message, format!("error: part {} {expected}", tenant.part_path(1)));
    let (rejects, hint) = rejects.split_once("; hint: ").unwrap();
    assert_eq!(hint, "see their reasons there; leave the part out if it does not belong to the export");
    // Of both rounds, the last one's.
    let folder = std::fs::read_dir(sandbox.work_dir().join("software_inventory")).unwrap();
    let files = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "gz"));
    assert_eq!(files.collect::<Vec<_>>(), [std::path::Path::new(rejects)]);
    assert_eq!(sandbox.lake_listing(), before);
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());
    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!([0, 1].map(|index| downloads_of(&tenant, &emulator, index).len()), [1, 3]);
}

#[test]
fn a_page_without_a_row_is_fetched_again() {
    let emulator = emulator();
    emulator.script(At::Page, 1, Fault::Nothing);
    emulator.script(At::Page, 1, Fault::Body(r#"{"value":[{"a":1},{}]}"#.to_owned()));
    let (_, run) = survives(&emulator, &["--via", "json", "--page-size", "500"]);
    assert!(run.stderr.contains("starting over from a new listing"), "{}", run.stderr);
}

#[test]
fn interrupted_wait_for_a_damaged_part_ends_at_once() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    emulator.script(At::Part(1), u32::MAX, Fault::WrongMd5);
    let mut child = sandbox.spawn_ingest(&emulator, &[]);
    while downloads(&emulator, 1).len() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).expect(130);
    assert!(run.error().contains("interrupted"), "{}", run.error());
    assert!(downloads(&emulator, 1).len() <= 4, "it did not go on until it gave up");
    assert_eq!(sandbox.staged_runs(), Vec::<String>::new());

    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, six_parts().num_records());
    assert_eq!(downloads(&emulator, 0).len(), 1);
}

/// An emulator whose parts are lines of text: nothing in them says whether they are whole.
fn plain_emulator() -> Emulator {
    Emulator::start(EmulatorOptions {
        rate_limits: None,
        part_format: PartFormat::Plain,
        ..EmulatorOptions::new(six_parts())
    })
}

/// Where the second line of a part ends.
fn two_lines(index: u32) -> u64 {
    let mut part = Vec::new();
    six_parts().write_part(index, PartFormat::Plain, &mut part).unwrap();
    let ends = part.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u64 + 1);
    ends.take(2).last().unwrap()
}

#[test]
fn text_cut_at_a_line_without_length_is_made_whole() {
    let emulator = plain_emulator();
    emulator.script(At::Part(3), u32::MAX, Fault::Unframed { bytes: two_lines(3) });
    let (sandbox, _) = survives(&emulator, &[]);
    let parts = sandbox.manifests()[0]["parts"].clone();
    let proofs: Vec<_> =
        parts.as_array().unwrap().iter().map(|part| part["proof"].as_str().unwrap()).collect();
    // The range says the digest of the whole too.
    assert_eq!(proofs, ["md5"; 6]);
    assert_eq!(downloads(&emulator, 3).last().unwrap(), &(206, Some("bytes=0-".to_owned())));
}

#[test]
fn text_that_nothing_proves_whole_is_refused() {
    let (emulator, sandbox) = (plain_emulator(), Sandbox::new());
    emulator.script(At::Part(3), u32::MAX, Fault::Unprovable { bytes: two_lines(3) });
    let error = sandbox.ingest_via(&emulator, &[]).expect(4).error().to_owned();
    let name = six_parts().part_path(3);
    check_error(
        &error,
        &[
            &format!("error: part {name} could not be fetched: GET http://127.0.0.1:"),
            &format!(
                "received {} bytes without length, checksum or chunked encoding; they may not be the whole part",
                two_lines(3)
            ),
            "; hint: configure the proxy to pass Content-Length, bypass it with NO_PROXY, or download the parts by other \
             means and pass them with --from; completed parts are kept",
        ],
    );
    assert!(sandbox.manifests().is_empty());
    emulator.clear_faults();
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, six_parts().num_records());
    assert_eq!(downloads(&emulator, 2).len(), 1, "whole ones are kept");
}

#[test]
fn gzip_without_length_is_proved_by_its_trailer() {
    let emulator = emulator();
    emulator.script(At::Part(3), u32::MAX, Fault::Unprovable { bytes: u64::MAX });
    let (sandbox, _) = survives(&emulator, &[]);
    let manifest = &sandbox.manifests()[0];
    assert_eq!(
        (&manifest["parts"][3]["proof"], &manifest["parts"][2]["proof"]),
        (&"gzip".into(), &"md5".into())
    );

    let emulator = self::emulator();
    emulator.script(At::Part(3), u32::MAX, Fault::Unprovable { bytes: 2000 });
    let error = Sandbox::new().ingest_impatiently(&emulator).unwrap_err();
    check_error(&error_chain(&error), &[&six_parts().part_path(3), "damaged part: gzip is damaged"]);
    assert_eq!(error.exit_code(), ExitCode::Source);
}

#[test]
fn pages_say_what_proves_them_whole() {
    let emulator = emulator();
    emulator.script(At::Page, 1, Fault::Nothing);
    emulator.script(At::Page, 1, Fault::Unframed { bytes: 2000 });
    emulator.script(At::Page, 1, Fault::Unframed { bytes: u64::MAX });
    let (sandbox, _) = survives(&emulator, &["--via", "json", "--page-size", "500"]);
    let parts = sandbox.manifests()[0]["parts"].clone();
    let proofs: Vec<_> =
        parts.as_array().unwrap().iter().map(|part| part["proof"].as_str().unwrap()).collect();
    assert_eq!(proofs[..2], ["chunked", "json"]);
    assert!(proofs[2..].iter().all(|proof| *proof == "chunked"), "{proofs:?}");
}

/// The URLs of the emulator's parts, with the `=` of their paths escaped as `escape`.
fn spelled(emulator: &Emulator, escape: &str) -> Vec<String> {
    let spell = |url: String| {
        let (path, query) = url.split_once('?').unwrap();
        format!("{}?{query}", path.replace('=', escape))
    };
    emulator.signed_urls().into_iter().map(spell).collect()
}

#[test]
fn a_part_listed_in_two_spellings_is_refused() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    let (mut urls, escaped) = (emulator.signed_urls(), spelled(&emulator, "%3D"));
    urls.push(escaped[2].clone());
    emulator.list_urls(Some(urls));
    let error = sandbox.ingest_via(&emulator, &[]).expect(4).error().to_owned();
    let path = six_parts().part_path(2);
    let expected = format!(
        "error: the export lists {path} twice, also spelled {}; hint: run again later",
        path.replace('=', "%3D")
    );
    assert_eq!(error, expected);
    assert!(sandbox.manifests().is_empty());
}

#[test]
fn parts_in_another_spelling_are_taken_from_the_spool() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    emulator.script(At::Part(4), u32::MAX, Fault::Status(400));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    emulator.clear_faults();
    emulator.list_urls(Some(spelled(&emulator, "%3d")));
    sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, six_parts().num_records());
    let blobs = emulator.calls().into_iter().filter(|call| call.path.starts_with("/tvm-export/"));
    let escaped: Vec<_> = blobs.filter(|call| call.path.contains("%3d")).collect();
    assert_eq!(escaped.len(), 1, "only the one that failed: {escaped:?}");
}

#[test]
fn a_firewall_of_the_account_is_not_taken_for_expiry() {
    for code in ["AuthorizationFailure", "AuthorizationSourceIPMismatch"] {
        let emulator = emulator();
        emulator.script(At::AnyPart, u32::MAX, Fault::StorageError(403, code));
        let error = fails(&emulator, &["--downloads", "1"], 4);
        check_error(
            &error,
            &[
                &six_parts().part_path(0),
                &format!(
                    ": 403: {code}: the storage account refuses this network; hint: run from a network that the account's firewall"
                ),
            ],
        );
        assert_eq!(listings(&emulator), 1);
        assert_eq!(emulator.calls().iter().filter(|call| call.path.contains("/tvm-export/")).count(), 1);
    }
}

#[test]
fn a_lifetime_that_the_service_refuses_has_a_hint() {
    let emulator = Emulator::start(six_parts());
    let error = fails(&emulator, &["--sas-valid-hours", "12"], 4);
    check_error(
        &error,
        &[
            "400: InvalidInput: sasValidHours must be between 1 and 6.",
            "hint: pass --sas-valid-hours 6 instead of 12: several of the service's calls allow 6 hours at most",
        ],
    );
    survives(&emulator, &["--sas-valid-hours", "6"]);
}

#[test]
fn part_cut_before_its_first_row_is_fetched_again() {
    let emulator = emulator();
    emulator.script(At::Part(3), 1, Fault::Short { bytes: 20 });
    let (_, run) = survives(&emulator, &[]);
    assert!(!run.stderr.contains("starting over"), "{}", run.stderr);
    assert_eq!(downloads(&emulator, 3).len(), 2);
}

#[test]
fn short_body_or_bad_crc_starts_the_run_over_once() {
    // Large enough that rows are out before the damage is met.
    let tenant = Tenant::new(TenantOptions { devices: 120, parts: 3, ..TenantOptions::default() });
    let num_bytes = |index| {
        let mut part = Vec::new();
        tenant.write_part(index, PartFormat::GZIP, &mut part).unwrap();
        part.len() as u64
    };
    let emulator = unlimited(tenant.clone());
    emulator.script(At::Part(0), 1, Fault::Short { bytes: num_bytes(0) - 100 });
    emulator.script(At::Part(2), 1, Fault::Damaged { at_byte: num_bytes(2) - 8 });
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());
    assert!(run.stderr.contains("starting over from a new listing"), "{}", run.stderr);
    assert_eq!(listings(&emulator), 2, "once, for both");
    let num_downloads = |index| downloads_of(&tenant, &emulator, index).len();
    assert_eq!([0, 1, 2].map(num_downloads), [2, 1, 2]);
}

#[test]
fn an_expired_url_is_listed_again() {
    let emulator = emulator();
    emulator.script(At::Part(2), 1, Fault::SasExpired);
    emulator.script(At::Part(3), 1, Fault::SasExpired);
    survives(&emulator, &[]);
    assert!((2..=3).contains(&listings(&emulator)), "once for all, or twice");
}

#[test]
fn urls_about_to_expire_are_listed_again() {
    let options = EmulatorOptions {
        sas_lifetime: Some(TimeDelta::seconds(3)),
        rate_limits: None,
        ..EmulatorOptions::new(six_parts())
    };
    let emulator = Emulator::start(options);
    // The first part takes some seconds, one after the other.
    emulator.script(At::Part(0), 3, Fault::Status(503));
    survives(&emulator, &["--downloads", "1"]);
    assert!(listings(&emulator) >= 2);
    assert!(emulator.calls().iter().all(|call| call.status != 403), "none was used after its end");
}

#[test]
fn a_url_that_is_refused_for_ever_ends_the_run() {
    let emulator = emulator();
    emulator.script(At::Part(2), u32::MAX, Fault::SasExpired);
    let error = fails(&emulator, &[], 4);
    check_error(
        &error,
        &[
            &six_parts().part_path(2),
            "403: AuthenticationFailed (the download url has expired or is not valid yet)",
        ],
    );
    assert!(downloads(&emulator, 2).len() <= 4);
}

fn later() -> DateTime<Utc> {
    TenantOptions::default().generated_time + TimeDelta::hours(6)
}

#[test]
fn a_new_snapshot_in_between_starts_the_run_over() {
    let emulator = emulator();
    emulator.script(At::Part(2), 1, Fault::SasExpired);
    emulator.script(At::List, 1, Fault::Nothing);
    emulator.script(At::List, 1, Fault::NewSnapshot(later()));
    let (sandbox, run) = survives(&emulator, &["--json"]);
    assert_eq!(run.report()["generated_time"], "2021-01-11T17:01:00Z");
    assert_eq!(sandbox.manifests().len(), 1);
    let parts = sandbox.manifests()[0]["parts"].to_string();
    assert!(!parts.contains("/1101/"), "snapshots are never mixed: {parts}");
}

#[test]
fn a_snapshot_that_keeps_moving_ends_the_run() {
    let emulator = emulator();
    emulator.script(At::AnyPart, u32::MAX, Fault::SasExpired);
    for hours in 0..6 {
        emulator.script(At::List, 1, Fault::NewSnapshot(later() + TimeDelta::hours(hours)));
    }
    let error = fails(&emulator, &[], 4);
    check_error(&error, &["the export was regenerated during the download", "hint: run again later"]);
    assert_eq!(listings(&emulator), 4, "two rounds");
}

#[test]
fn an_empty_export_publishes_nothing() {
    let emulator = emulator();
    emulator.script(At::List, 1, Fault::ExportFiles(vec![]));
    let error = fails(&emulator, &[], 4);
    check_error(&error, &["the export lists no files; nothing published", "run again later"]);
}

#[test]
fn an_empty_export_leaves_yesterdays_snapshot_alone() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let before = sandbox.lake_listing();
    emulator.regenerate(later());
    emulator.script(At::List, 1, Fault::ExportFiles(vec![]));
    sandbox.ingest_via(&emulator, &[]).expect(4);
    assert_eq!(sandbox.lake_listing(), before);
}

#[test]
fn invalid_listing_is_not_quoted() {
    for (body, expected) in [
        ("<html>", "unexpected json at line 1 column 1"),
        (r#"{"exportFiles":["x?sig=LEAK"]}"#, "`generatedTime` is missing"),
        (r#"{"exportFiles":"#, "unexpected json"),
        (
            r#"{"exportFiles":["https://evil.example/p?sig=LEAK"],"generatedTime":"2021-01-11T11:01:00Z"}"#,
            "evil.example/p is not fetched: the host is not allowed",
        ),
        (
            r#"{"exportFiles":["http://a.blob.core.windows.net/p?sig=LEAK"],"generatedTime":"2021-01-11T11:01:00Z"}"#,
            "only https is allowed",
        ),
    ] {
        let emulator = emulator();
        emulator.script(At::List, 1, Fault::Body(body.to_owned()));
        let sandbox = Sandbox::new();
        let run = sandbox.ingest_via(&emulator, &["-vv"]).expect(4);
        check_error(run.error(), &[expected]);
        assert!(!run.stderr.contains("LEAK"), "{}", run.stderr);
    }
    let emulator = emulator();
    emulator.script(At::List, 1, Fault::Body(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))));
    check_error(&fails_without_hint(&emulator), &["unexpected json"]);
}

fn fails_without_hint(emulator: &Emulator) -> String {
    Sandbox::new().ingest_via(emulator, &[]).expect(4).error().to_owned()
}

#[test]
fn a_redirect_is_not_followed() {
    let emulator = emulator();
    emulator.script(At::List, 1, Fault::Redirect("https://evil.example/?token".to_owned()));
    check_error(
        &fails_without_hint(&emulator),
        &["302 redirects to evil.example; redirects are not followed"],
    );
    emulator.script(At::Part(1), 1, Fault::Redirect("https://evil.example/?sig=1".to_owned()));
    check_error(
        &fails_without_hint(&emulator),
        &["302 redirects to evil.example; redirects are not followed"],
    );
}

#[test]
fn a_listing_of_100_000_parts_is_taken() {
    let emulator = emulator();
    let urls = (0..100_000).map(|n| format!("{}/c/part-{n}.json.gz?sv=1&sig=x", emulator.api_url()));
    emulator.list_urls(Some(urls.collect()));
    let run = Sandbox::new().ingest_via(&emulator, &["--dry-run", "--json"]).expect(0);
    assert_eq!(run.report()["num_parts"], 100_000);
}

#[test]
fn many_small_parts_are_one_snapshot() {
    let tenant = Tenant::new(TenantOptions { devices: 20, parts: 1500, ..TenantOptions::default() });
    let (emulator, sandbox) = (unlimited(tenant.clone()), Sandbox::new());
    let report = sandbox.ingest_via(&emulator, &["--json"]).expect(0).report();
    assert_eq!(report["totals"]["parts"], 1500);
    assert_eq!(report["totals"]["rows"], tenant.num_records());
}

#[test]
fn parts_with_one_base_name_are_two_parts() {
    let tenant = Tenant::new(TenantOptions { devices: 40, parts: 40, ..TenantOptions::default() });
    let names: Vec<_> = (0..40).map(|index| tenant.part_path(index)).collect();
    let base = |name: &String| name.rsplit('/').next().unwrap().to_owned();
    let base_names: std::collections::BTreeSet<_> = names.iter().map(base).collect();
    assert!(base_names.len() < names.len(), "the tenant has such parts");
    let sandbox = Sandbox::new();
    sandbox.ingest_via(&unlimited(tenant.clone()), &[]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());
}

#[test]
fn an_outage_ends_the_run_and_keeps_the_lake() {
    let emulator = emulator();
    emulator.script(At::List, u32::MAX, Fault::Status(503));
    let error = fails(&emulator, &[], 4);
    check_error(&error, &["gave up after 5 attempts", "503: InternalServerError", "hint: run again later"]);
}

#[test]
fn a_429_is_waited_for_as_it_says() {
    for retry_after in [RetryAfter::Secs(1), RetryAfter::Date(1)] {
        let emulator = emulator();
        emulator.script(At::List, 1, Fault::Throttled(retry_after));
        let started = std::time::Instant::now();
        let (_, run) = survives(&emulator, &[]);
        assert!(run.stderr.contains("call rate limit reached, waiting"), "{}", run.stderr);
        assert!(started.elapsed().as_millis() >= 1000 || retry_after == RetryAfter::Date(1));
    }
}

#[test]
fn a_429_for_long_says_when_to_come_back() {
    for retry_after in [RetryAfter::Secs(1800), RetryAfter::Date(1800)] {
        let (emulator, sandbox) = (emulator(), Sandbox::new());
        emulator.script(At::List, 1, Fault::Throttled(retry_after));
        let run = sandbox.ingest_via(&emulator, &[]).expect(7);
        let (_, text) = run.error().rsplit_once("hint: run again after ").unwrap();
        let retry_at: DateTime<Utc> = text.parse().unwrap();
        let wait = (retry_at - Utc::now()).num_seconds();
        assert!((1700..=1801).contains(&wait), "{wait}");
        // A scheduler that comes back at once is told the same, and the service is not asked.
        let again = sandbox.ingest_via(&emulator, &[]).expect(7);
        assert!(again.error().ends_with(&format!("run again after {text}")), "{}", again.error());
        assert_eq!(listings(&emulator), 1);
    }
}

#[test]
fn a_crash_loop_does_not_burn_the_budget() {
    let (emulator, sandbox) = (Emulator::start(tenant(3)), Sandbox::new());
    // As runs of the last half hour would have left it.
    sandbox.ingest_via(&emulator, &[]).expect(0);
    let calls = sandbox.work_dir().join("calls");
    let records = std::fs::read_dir(calls).unwrap().map(|entry| entry.unwrap().path());
    let record =
        records.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    let half_an_hour_ago = (Utc::now() - TimeDelta::minutes(30)).timestamp_millis();
    std::fs::write(&record, serde_json::json!({ "calls": vec![half_an_hour_ago; 20] }).to_string()).unwrap();
    let num_calls = emulator.calls().len();
    for _ in 0..3 {
        let run = sandbox.ingest_via(&emulator, &[]).expect(7);
        let (_, text) = run.error().rsplit_once("hint: run again after ").unwrap();
        let wait = (text.parse::<DateTime<Utc>>().unwrap() - Utc::now()).num_minutes();
        assert!((28..=30).contains(&wait), "{wait}");
    }
    let listed = emulator.calls().split_off(num_calls);
    assert!(listed.iter().all(|call| !call.path.starts_with("/api/")), "{listed:?}");
}

#[test]
fn a_clock_that_is_off_is_noticed() {
    for hours in [-3, 5] {
        let clock = Clock::ahead_by(TimeDelta::hours(hours));
        let emulator = Emulator::start(EmulatorOptions { clock, ..EmulatorOptions::new(six_parts()) });
        let (_, run) = survives(&emulator, &["--sas-valid-hours", "1"]);
        assert!(run.stderr.contains("skew_secs="), "{}", run.stderr);
        assert_eq!(listings(&emulator), 1, "planned by the service's clock");
    }
}

#[test]
fn pages_that_break_off_are_fetched_again() {
    let emulator = emulator();
    emulator.script(At::Page, 1, Fault::Reset { after_bytes: 2000 });
    emulator.script(At::Page, 1, Fault::Short { bytes: 2000 });
    emulator.script(At::Page, 1, Fault::Status(502));
    survives(&emulator, &["--via", "json", "--page-size", "500"]);
}

#[test]
fn links_that_lead_astray_are_not_followed() {
    let emulator = emulator();
    let json = ["--via", "json", "--page-size", "500"];
    emulator.script(At::Page, 1, Fault::NextLink("https://evil.example/api?$skiptoken=1".to_owned()));
    let error = Sandbox::new().ingest_via(&emulator, &json).expect(4).error().to_owned();
    check_error(
        &error,
        &[
            "https://evil.example/api: expected the API's origin http",
            "; hint: pass that host with --api-url or --cloud if it belongs to the service, or use --via files",
        ],
    );
    emulator.script(At::Page, 1, Fault::Nothing);
    emulator.script(At::Page, u32::MAX, Fault::NextLinkToItself);
    check_error(&fails(&emulator, &json, 4), &["was already followed; the pages would never end"]);
    emulator.clear_faults();
    emulator.script(At::Page, u32::MAX, Fault::Body(r#"{"error":{"code":"x"}}"#.to_owned()));
    check_error(&fails(&emulator, &json, 4), &["invalid page: `value` is missing"]);
    let deep = format!(r#"{{"value":[{{"DeviceId":{}1{}}}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    emulator.clear_faults();
    emulator.script(At::Page, u32::MAX, Fault::Body(deep));
    check_error(&fails(&emulator, &json, 5), &["1 of 1 records were rejected"]);
}

#[test]
fn links_to_the_clouds_other_hosts_stay_at_the_api() {
    for host in [
        "api.securitycenter.microsoft.com",
        "eu.api.security.microsoft.com",
        "api-us.securitycenter.windows.com",
    ] {
        let emulator = emulator();
        // The documentation's own example leads to a host that is not the one that was called.
        let token = "eyJFeHBvcnREZWZpbml0aW9uIjp7IlRpbWVQYXRoIjoiMjAyMS0wMS0xMS8xMTAxLyJ9LCJFeHBvcnRGaWxlSW5kZXgiOjAs\
                     IkxpbmVTdG9wcGVkQXQiOjV9";
        let link =
            format!("https://{host}/api/machines/SoftwareInventoryByMachine?pagesize=5&$skiptoken={token}");
        emulator.script(At::Page, 1, Fault::NextLink(link.clone()));
        emulator.script(At::Page, 1, Fault::NextLink(String::new()));
        let args = ["--via", "json", "--page-size", "5", "--json"];
        let report = Sandbox::new().ingest_via(&emulator, &args).expect(0).report();
        assert_eq!(report["totals"]["records"], 10, "{host}");
        // A host of another cloud is none of this one's.
        emulator.script(At::Page, 1, Fault::NextLink(link));
        let args = [
            "--via",
            "json",
            "--page-size",
            "5",
            "--cloud",
            "gcc",
            "--scope",
            "https://api.securitycenter.microsoft.com/.default",
        ];
        check_error(
            &fails(&emulator, &args, 4),
            &[&format!("https://{host}/api/machines"), "expected the API's origin"],
        );
    }
}

#[test]
fn pages_stay_on_their_snapshot_if_it_is_replaced() {
    let emulator = emulator();
    emulator.script(At::Page, 1, Fault::Nothing);
    emulator.script(At::Page, 1, Fault::NewSnapshot(later()));
    let (sandbox, _) = survives(&emulator, &["--via", "json", "--page-size", "300"]);
    assert_eq!(sandbox.manifests()[0]["generated_time"], "2021-01-11T11:01:00Z");
}

/// Speaks TLS with a certificate that no authority has signed, and counts what it receives.
fn stranger() -> (String, std::thread::JoinHandle<usize>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    use std::io::Read as _;

    let pem = Emulator::STRANGERS_PEM.as_bytes();
    let (certificate, key) =
        (CertificateDer::from_pem_slice(pem).unwrap(), PrivateKeyDer::from_pem_slice(pem).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut sent = Vec::new();
        // Once: a certificate is the same the next time.
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
        // Ends with the client's alert.
        let _ = rustls::Stream::new(&mut connection, &mut stream).read_to_end(&mut sent);
        sent.len()
    });
    (url, server)
}

#[test]
fn untrusted_server_gets_no_token() {
    let (emulator, (url, server)) = (emulator(), stranger());
    let error = fails(&emulator, &["--api-url", &url], 4);
    check_error(&error, &["transfer failed", "invalid peer certificate"]);
    assert_eq!(server.join().unwrap(), 0, "bytes that came through");
}
