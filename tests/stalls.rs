//! Runs on an object store that are suspended at one request for longer than the lease, while another run publishes:
//! what was decided stands, what was not leaves nothing, and no run removes what another has written.

use std::process::Stdio;

use crate::stores::{Kind, StallProxy, Store};
use crate::support::Run;

const NOON: &str = "2021-01-11T12:00:00Z";
const EVENING: &str = "2021-01-11T18:00:00Z";
const NEXT_DAY: &str = "2021-01-12T12:00:00Z";

/// A request that the proxy holds.
#[derive(Debug, Clone, Copy)]
struct At {
    method: &'static str,
    needle: &'static str,
    num_before: usize,
}

/// The first version of a file that is put: the claim of a manifest.
const CLAIM: At = At { method: "PUT", needle: "/manifest.json", num_before: 0 };
const MANIFEST: At = At { num_before: 1, ..CLAIM };
/// The journal's first version is open, and its second is the decision.
const DECISION: At = At { method: "PUT", needle: "/journal.json", num_before: 1 };
const SUCCESS: At = At { method: "PUT", needle: "/_SUCCESS", num_before: 0 };
const LOG: At = At { method: "PUT", needle: "/_delta_log/", num_before: 0 };

impl Store {
    /// Starts `command`'s run with one request held; calls `meanwhile` while the run is suspended, and returns how the
    /// run ended.
    fn stalled(&self, mut command: std::process::Command, at: At, meanwhile: impl FnOnce()) -> Run {
        let proxy = StallProxy::start(self.port(), at.method, at.needle, at.num_before);
        command.envs(self.env(Some(proxy.port)));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        proxy.wait_until_held();
        meanwhile();
        proxy.release();
        Run::of(child.wait_with_output().unwrap())
    }

    fn times(&self) -> Vec<String> {
        self.manifests().iter().map(|one| one["generated_time"].as_str().unwrap().to_owned()).collect()
    }

    /// A run of `EVENING` is suspended, and another day's is published meanwhile.
    fn check_ingest(&self, at: At, is_decided: bool) {
        let command = self.ingest_command(EVENING, &["--json"]);
        let stalled = self.stalled(command, at, || {
            self.ingest(NEXT_DAY, &[]).expect(0);
        });
        if is_decided {
            assert_eq!(stalled.expect(0).report()["outcome"], "published");
        } else {
            let stalled = stalled.expect(6);
            assert!(stalled.error().contains("another run took over"), "{at:?}: {}", stalled.error());
        }
        let expected: &[&str] = if is_decided { &[EVENING, NEXT_DAY] } else { &[NEXT_DAY] };
        let mut times = self.times();
        times.retain(|time| time != NOON);
        assert_eq!(times, expected, "{at:?}");
        self.run("verify", &["--keys"]).expect(0);
        // The date can be published, and staging is empty.
        self.ingest(EVENING, &["--if-published", "replace"]).expect(0);
        assert_eq!(self.times(), [EVENING, NEXT_DAY]);
        self.check_whole();
    }
}

#[test]
fn stall_before_the_decision_publishes_nothing() {
    for at in [CLAIM, DECISION] {
        Store::start(Kind::S3).check_ingest(at, false);
    }
}

#[test]
fn stall_before_the_decision_keeps_the_old_files() {
    let store = Store::start(Kind::S3);
    store.ingest(NOON, &[]).expect(0);
    let command = store.ingest_command(EVENING, &[]);
    let stalled = store.stalled(command, DECISION, || {
        store.ingest(NEXT_DAY, &[]).expect(0);
    });
    stalled.expect(6);
    assert_eq!(store.times(), [NOON, NEXT_DAY]);
    store.check_whole();
}

#[test]
fn stall_after_the_decision_is_recovered() {
    for at in [MANIFEST, SUCCESS] {
        let store = Store::start(Kind::S3);
        store.ingest(NOON, &[]).expect(0);
        store.check_ingest(at, true);
    }
}

#[test]
fn stall_before_the_delta_commit_is_recovered() {
    let store = Store::start(Kind::S3).delta();
    store.ingest(NOON, &[]).expect(0);
    store.check_ingest(LOG, true);
}

#[test]
fn stall_during_a_conversion_loses_nothing() {
    let plain = Store::start(Kind::S3);
    plain.ingest(NOON, &[]).expect(0);
    plain.delta().check_ingest(LOG, true);
}

#[test]
fn late_success_is_not_put_over_a_newer_snapshot() {
    let store = Store::start(Kind::S3);
    let command = store.ingest_command(NOON, &["--json"]);
    let stalled = store.stalled(command, SUCCESS, || {
        store.ingest(EVENING, &[]).expect(0);
    });
    stalled.expect(0);
    assert_eq!(store.times(), [EVENING]);
    store.check_whole();
}

#[test]
fn late_expiry_keeps_the_same_snapshot_ingested_again() {
    let manifest = At { method: "DELETE", needle: "/manifest.json", num_before: 0 };
    let success = At { method: "DELETE", needle: "/_SUCCESS", num_before: 0 };
    for (store, at, is_decided) in [
        (Store::start(Kind::S3), DECISION, false),
        (Store::start(Kind::S3), success, true),
        (Store::start(Kind::S3).delta(), manifest, true),
    ] {
        store.ingest(NOON, &[]).expect(0);
        store.ingest(NEXT_DAY, &[]).expect(0);
        let mut command = store.command("expire");
        command.args(["--keep-days", "1", "--yes", "--yes-remove-most"]).stdin(Stdio::null());
        let stalled = store.stalled(command, at, || {
            store.ingest(NOON, &[]).expect(0);
        });
        stalled.expect(if is_decided { 0 } else { 6 });
        assert_eq!(store.times(), [NOON, NEXT_DAY], "{at:?}");
        store.ingest(NOON, &["--if-published", "replace"]).expect(0);
        store.check_whole();
    }
}

#[test]
fn late_completion_on_azure_leaves_no_file() {
    let store = Store::start(Kind::Azure);
    store.check_ingest(At { method: "PUT", needle: "comp=blocklist", num_before: 0 }, true);
}

/// Data files and rejects are sent then; a name of rejects is one that other runs use too.
#[test]
fn killed_before_the_decision_leaves_no_chunks() {
    let store = Store::start(Kind::Azure);
    let proxy = StallProxy::start(store.port(), DECISION.method, DECISION.needle, DECISION.num_before);
    let rejects = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/corrupt/wrong-values.ndjson");
    let mut command = store.command("ingest");
    command.args(["--from", rejects, "--generated-time", EVENING, "--max-rejects", "100%"]);
    let mut child = command.envs(store.env(Some(proxy.port))).stdin(Stdio::null()).spawn().unwrap();
    proxy.wait_until_held();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.num_uploads() > 1, "{}", store.num_uploads());
    store.ingest(NEXT_DAY, &[]).expect(0);
    assert_eq!(store.num_uploads(), 0);
    assert_eq!(store.times(), [NEXT_DAY]);
    store.check_whole();
}

/// An empty store that answers every change with this status.
fn refusing_store(status: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || answer(&client.unwrap(), status));
        }
    });
    port
}

fn answer(mut client: &std::net::TcpStream, status: &str) {
    use std::io::{BufRead, Read, Write};
    let mut reader = std::io::BufReader::new(client.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length = length.map_or(0, |length| length.parse().unwrap());
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        let (status, body) = match head.split(' ').next().unwrap() {
            "GET" if head.contains("list-type") => ("200 OK", empty),
            "GET" | "HEAD" => ("404 Not Found", ""),
            _ => (status, "<Error><Code>Odd</Code><Message>it says no</Message></Error>"),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if client.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn store_that_refuses_the_lock_is_not_waited_for() {
    for status in ["400 Bad Request", "405 Method Not Allowed", "411 Length Required", "501 Not Implemented"]
    {
        let store = Store::start(Kind::Disk);
        let mut command = store.ingest_command(NOON, &[]);
        command.env("DEFENDER_LAKE", "s3://lake/some/lake").envs([
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "none".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", refusing_store(status))),
        ]);
        let run = Run::of(command.output().unwrap()).expect(6);
        let error = run.error();
        assert!(error.contains("cannot create s3://lake/some/lake/_defender/"), "{error}");
        assert!(
            error.contains(status) && error.contains("it says no") && error.contains("hint: "),
            "{error}"
        );
    }
}
