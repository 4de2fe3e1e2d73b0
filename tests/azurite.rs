//! Parts on a real blob server: Microsoft's own Azurite, which checks signatures, their times, ranges and conditions by
//! itself. The emulator only lists what is there.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use fixtures::{At, Emulator, Fault, PartFormat, Tenant, TenantOptions};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::support::{Sandbox, unlimited};

/// Azurite's account and its key, which everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const VERSION: &str = "2021-12-02";
const CONTAINER: &str = "tvm-export";

pub struct Azurite {
    pub port: u16,
    /// Unless `make test` has started one for all tests.
    own: Option<(Child, tempfile::TempDir)>,
}

impl Azurite {
    pub fn start() -> Self {
        if let Some(port) = shared_port("DEFENDER_LAKE_AZURITE_PORT") {
            return Self { port, own: None };
        }
        let program = std::env::var_os("AZURITE").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../node_modules/.bin/azurite")),
            PathBuf::from,
        );
        // The program for blobs alone is its neighbour, and starts faster.
        let program = program.with_file_name("azurite-blob");
        assert!(
            program.exists(),
            "no Azurite at {}: `make test` sets it up, or name its program in AZURITE",
            program.display()
        );
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port in between; then Azurite says so and the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let azurite = Self { port, own: Some((child, folder)) };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return azurite;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("Azurite did not begin to listen within a minute");
    }

    /// Makes a container that everybody may read.
    pub fn create_public(&self, container: &str) {
        self.create(container, Some(("x-ms-blob-public-access", "container")));
    }

    fn create(&self, container: &str, header: Option<(&str, &str)>) {
        self.send("PUT", &format!("/{ACCOUNT}/{container}?restype=container"), header, &[]);
    }

    pub fn put(&self, path: &str, body: &[u8]) {
        self.send("PUT", path, Some(("x-ms-blob-type", "BlockBlob")), body);
    }

    pub fn delete(&self, path: &str) {
        self.send("DELETE", path, None, &[]);
    }

    /// A request with the account's key, over a plain connection: a client library would be more than this is.
    fn send(&self, method: &str, path_and_query: &str, header: Option<(&str, &str)>, body: &[u8]) {
        let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut headers = vec![("x-ms-date", date.as_str()), ("x-ms-version", VERSION)];
        // In the order of their names, as they are signed.
        if let Some(header) = header {
            headers.insert(0, header);
        }
        let canonical_headers: String = headers.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name}:{value}");
            text
        });
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let mut resource = format!("/{ACCOUNT}{path}");
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let _ = write!(resource, "\n{}", pair.replace('=', ":"));
        }
        let length = if body.is_empty() { String::new() } else { body.len().to_string() };
        let text = format!("{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{canonical_headers}{resource}");
        let head: String = headers.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, "{name}: {value}\r\n");
            text
        });
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} {path_and_query} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{head}Authorization: SharedKey {ACCOUNT}:{}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            sign(&text),
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// Uploads a tenant's parts below the container, without its name in front of their paths.
    fn upload(&self, tenant: &Tenant) {
        for index in 0..tenant.num_parts() {
            let mut part = Vec::new();
            tenant.write_part(index, PartFormat::GZIP, &mut part).unwrap();
            self.put(&format!("/{ACCOUNT}/{}", tenant.part_path(index)), &part);
        }
    }

    /// Signed URLs of a tenant's parts.
    fn urls(&self, tenant: &Tenant, start: DateTime<Utc>, expiry: DateTime<Utc>) -> Vec<String> {
        (0..tenant.num_parts()).map(|index| self.url(&tenant.part_path(index), start, expiry)).collect()
    }

    fn url(&self, path: &str, start: DateTime<Utc>, expiry: DateTime<Utc>) -> String {
        let time = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (start, expiry) = (time(start), time(expiry));
        // What a service SAS of this version signs: permissions, times, resource, and many that are not given.
        let text = format!("r\n{start}\n{expiry}\n/blob/{ACCOUNT}/{path}\n\n\n\n{VERSION}\nb\n\n\n\n\n\n\n");
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("sv", VERSION)
            .append_pair("st", &start)
            .append_pair("se", &expiry)
            .append_pair("sr", "b")
            .append_pair("sp", "r")
            .append_pair("sig", &sign(&text))
            .finish();
        format!("http://127.0.0.1:{}/{ACCOUNT}/{path}?{query}", self.port)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let Some((child, _)) = &mut self.own else { return };
        // Gone already is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The port of a server that `tests/stores/serve.py` has started for all tests.
pub fn shared_port(variable: &str) -> Option<u16> {
    std::env::var(variable).ok().map(|port| port.parse().expect("a port"))
}

fn sign(text: &str) -> String {
    let key = BASE64_STANDARD.decode(KEY).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(text.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

fn tenant() -> Tenant {
    Tenant::new(TenantOptions { devices: 60, parts: 6, ..TenantOptions::default() })
}

/// A run against both: signatures that are valid, that expired once, and that expire every time; then a run that resumes.
#[test]
fn azurite_parts_are_signed_expired_and_resumed() {
    let (azurite, emulator, tenant) = (Azurite::start(), unlimited(tenant()), tenant());
    azurite.create(CONTAINER, None);
    azurite.upload(&tenant);
    let (hour, now) = (TimeDelta::hours(1), Utc::now());
    let good = azurite.urls(&tenant, now - hour, now + hour);
    let expired = azurite.urls(&tenant, now - hour * 2, now - hour);

    // Signatures that hold.
    emulator.list_urls(Some(good.clone()));
    let sandbox = Sandbox::new();
    let report = sandbox.ingest_via(&emulator, &["--json"]).expect(0).report();
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());
    assert!(report["parts"][0]["md5"].is_string(), "{report}");

    // Some that have ended: its own 403, one more listing, and a whole snapshot.
    let mixed = good.iter().zip(&expired).enumerate();
    let mixed =
        mixed.map(|(index, (good, expired))| if index % 2 == 0 { good } else { expired }.clone()).collect();
    emulator.script(At::List, 1, Fault::ExportFiles(mixed));
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&emulator, &[]).expect(0);
    assert!(run.stderr.contains("403: AuthorizationFailure"), "{}", run.stderr);
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());

    // All of them, every time.
    let failing = unlimited(tenant.clone());
    failing.list_urls(Some(expired));
    let sandbox = Sandbox::new();
    let run = sandbox.ingest_via(&failing, &[]).expect(4);
    assert!(run.error().contains("403: AuthorizationFailure"), "{}", run.error());
    assert!(!run.stderr.contains("sig="));

    resumes_by_range_with_if_match(&azurite, &emulator, &tenant);
}

/// Parts cut short in the spool, as a killed run leaves them, are taken up by range; one that was replaced since is
/// started again.
fn resumes_by_range_with_if_match(azurite: &Azurite, emulator: &Emulator, tenant: &Tenant) {
    let sandbox = Sandbox::new();
    sandbox.ingest_via(emulator, &["--keep-parts"]).expect(0);
    let spool = sandbox.work_dir().join("software_inventory/20210111T110100Z");
    // A killed run has not said that they are to be kept.
    std::fs::remove_file(spool.join(".kept")).unwrap();
    let mut parts: Vec<_> = std::fs::read_dir(&spool)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "part"))
        .collect();
    parts.sort();
    for (index, path) in parts.iter().take(3).enumerate() {
        let facts_path = path.with_extension("json");
        let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(&facts_path).unwrap()).unwrap();
        let name = facts["name"].as_str().unwrap();
        let etag = if index == 2 { "\"0xANOTHER\"".to_owned() } else { etag(azurite, name) };
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path.with_extension("part.partial"), &bytes[..bytes.len() / 2]).unwrap();
        let note = serde_json::json!({ "name": name, "etag": etag });
        std::fs::write(path.with_extension("partial.json"), note.to_string()).unwrap();
        std::fs::remove_file(facts_path).unwrap();
        std::fs::remove_file(path).unwrap();
    }
    let run = sandbox.ingest_via(emulator, &["--if-published", "replace"]).expect(0);
    assert_eq!(sandbox.rows().len() as u64, tenant.num_records());
    assert_eq!(run.stderr.matches("the blob changed during the download").count(), 1, "{}", run.stderr);
}

/// The blob's entity tag, as the server gives it.
fn etag(azurite: &Azurite, name: &str) -> String {
    let now = Utc::now();
    let path = name.strip_prefix(&format!("{ACCOUNT}/")).unwrap();
    let url = azurite.url(path, now - TimeDelta::hours(1), now + TimeDelta::hours(1));
    let path_and_query = url.split_once("127.0.0.1:").unwrap().1.split_once('/').unwrap().1;
    let mut stream = TcpStream::connect(("127.0.0.1", azurite.port)).unwrap();
    write!(stream, "HEAD /{path_and_query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("etag:"))
        .unwrap_or_else(|| panic!("{answer}"));
    line.split_once(':').unwrap().1.trim().to_owned()
}
