//! The stores that a lake can be in, as the conformance tests need them: started, read without the program, damaged.

mod fault_proxy;
mod stall_proxy;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipeline::http::HttpClient;
use reqwest::Method;
use tokio::runtime::Runtime;
use url::Url;

pub use self::fault_proxy::FaultProxy;
pub use self::stall_proxy::StallProxy;
use crate::azurite::{ACCOUNT, Azurite, KEY, shared_port};
use crate::support::Sandbox;

/// The key of the S3 server's account; it takes any.
const S3_KEY: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

/// What must never be shown.
pub const SECRETS: [&str; 2] = [KEY, S3_KEY];

/// Where the lake is within its container or bucket.
const PREFIX: &str = "some/lake";

/// A lake somewhere, empty.
pub struct Store {
    pub sandbox: Sandbox,
    /// Whether its table is to be a Delta table.
    pub is_delta: bool,
    /// Its container or bucket, which no other test has.
    pub container: String,
    place: Place,
    client: HttpClient,
    runtime: Runtime,
}

enum Place {
    Disk,
    Azure(Azurite),
    S3(Moto),
}

/// The kinds of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Azure,
    S3,
}

impl Store {
    pub fn start(kind: Kind) -> Self {
        let place = match kind {
            Kind::Disk => Place::Disk,
            Kind::Azure => Place::Azure(Azurite::start()),
            Kind::S3 => Place::S3(Moto::start()),
        };
        let client = HttpClient::try_direct(Duration::from_secs(5), Duration::from_mins(1)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let container = format!("lake{:016x}", RandomState::new().hash_one(()));
        let store = Self { sandbox: Sandbox::new(), is_delta: false, container, place, client, runtime };
        match &store.place {
            Place::Disk => {}
            Place::Azure(azurite) => azurite.create_public(&store.container),
            Place::S3(_) => assert_eq!(store.send(Method::PUT, "", &[], b"").0, 200),
        }
        store
    }

    /// The same with a Delta table.
    pub fn delta(self) -> Self {
        Self { is_delta: true, ..self }
    }

    /// What `--lake` takes.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Disk => self.sandbox.lake().to_str().unwrap().to_owned(),
            Place::Azure(_) => format!("az://{}/{PREFIX}", self.container),
            Place::S3(_) => format!("s3://{}/{PREFIX}", self.container),
        }
    }

    /// The port that the store listens on.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Disk => panic!("a disk has no port"),
            Place::Azure(azurite) => azurite.port,
            Place::S3(moto) => moto.port,
        }
    }

    /// Environment variables with which [`Self::url`] leads here, through `port` if given.
    pub fn env(&self, port: Option<u16>) -> Vec<(&'static str, String)> {
        match &self.place {
            Place::Disk => Vec::new(),
            Place::Azure(azurite) => vec![
                ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
                ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
                (
                    "AZURE_STORAGE_ENDPOINT",
                    format!("http://127.0.0.1:{}/{ACCOUNT}", port.unwrap_or(azurite.port)),
                ),
            ],
            Place::S3(moto) => vec![
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", S3_KEY.to_owned()),
                ("AWS_REGION", "us-east-1".to_owned()),
                ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", port.unwrap_or(moto.port))),
            ],
        }
    }

    /// The program on this lake. The lease of a killed run expires after two seconds.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = self.sandbox.command(subcommand);
        command.env("DEFENDER_LAKE", self.url()).envs(self.env(None)).env("DEFENDER_LEASE_SECS", "2");
        command.env("XDG_CACHE_HOME", self.sandbox.path().join("cache"));
        command
    }

    /// Every object of the lake: path → size.
    pub fn list(&self) -> BTreeMap<String, u64> {
        self.list_with(&[])
    }

    /// The same with these parameters more in the request.
    fn list_with(&self, more: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let (query, name, size): (&[(&str, &str)], _, _) = match &self.place {
            Place::Disk => return list_disk(&self.sandbox.lake()),
            Place::Azure(_) => (&[("restype", "container"), ("comp", "list")], "Name", "Content-Length"),
            Place::S3(_) => (&[("list-type", "2")], "Key", "Size"),
        };
        let (status, body) = self.send(Method::GET, "", &[query, more].concat(), b"");
        assert_eq!(status, 200);
        let text = String::from_utf8(body).unwrap();
        let values = |tag: &str| -> Vec<String> {
            let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
            text.split(&start).skip(1).map(|rest| rest.split(&end).next().unwrap().to_owned()).collect()
        };
        assert!(!text.contains("<NextMarker>h") && !text.contains("<IsTruncated>true"), "one page holds all");
        let names =
            values(name).into_iter().filter_map(|name| Some(name.strip_prefix(PREFIX)?[1..].to_owned()));
        names.zip(values(size)).map(|(name, size)| (name, size.parse().unwrap())).collect()
    }

    /// Number of uploads that are neither completed nor aborted; on Azure of those that have sent something.
    pub fn num_uploads(&self) -> usize {
        match &self.place {
            Place::Disk => 0,
            Place::Azure(_) => self.list_with(&[("include", "uncommittedblobs")]).len() - self.list().len(),
            Place::S3(_) => {
                let (status, body) = self.send(Method::GET, "", &[("uploads", "")], b"");
                assert_eq!(status, 200);
                String::from_utf8(body).unwrap().matches("<UploadId>").count()
            }
        }
    }

    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        if let Place::Disk = self.place {
            return std::fs::read(self.sandbox.lake().join(path)).ok();
        }
        match self.send(Method::GET, path, &[], b"") {
            (200, body) => Some(body),
            (404, _) => None,
            (status, body) => panic!("{path}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    pub fn put(&self, path: &str, body: &[u8]) {
        match &self.place {
            Place::Disk => {
                let path = self.sandbox.lake().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, body).unwrap();
            }
            Place::Azure(azurite) => {
                azurite.put(&format!("/{ACCOUNT}/{}/{PREFIX}/{path}", self.container), body);
            }
            Place::S3(_) => assert_eq!(self.send(Method::PUT, path, &[], body).0, 200),
        }
    }

    pub fn delete(&self, path: &str) {
        match &self.place {
            Place::Disk => std::fs::remove_file(self.sandbox.lake().join(path)).unwrap(),
            Place::Azure(azurite) => {
                azurite.delete(&format!("/{ACCOUNT}/{}/{PREFIX}/{path}", self.container));
            }
            Place::S3(_) => assert_eq!(self.send(Method::DELETE, path, &[], b"").0, 204),
        }
    }

    /// A request that the program does not make.
    fn send(&self, method: Method, path: &str, query: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let container = match &self.place {
            Place::Disk => panic!("a disk takes no requests"),
            Place::Azure(azurite) => {
                format!("http://127.0.0.1:{}/{ACCOUNT}/{}", azurite.port, self.container)
            }
            Place::S3(moto) => format!("http://127.0.0.1:{}/{}", moto.port, self.container),
        };
        let place = if path.is_empty() { container } else { format!("{container}/{PREFIX}/{path}") };
        let mut url = Url::parse(&place).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.runtime.block_on(async {
            // moto wants credentials and accepts any.
            let credential = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20210111/us-east-1/s3/aws4_request, \
                              SignedHeaders=host, Signature=none";
            let mut request = self.client.request(method, &url).body(body.to_vec());
            if let Place::S3(_) = self.place {
                request = request.header("Authorization", credential);
            }
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }
}

fn list_disk(root: &std::path::Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, metadata.len());
            }
        }
    }
    files
}

/// The Python that `make test` installs.
pub fn python() -> PathBuf {
    std::env::var_os("DEFENDER_LAKE_PYTHON").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python")),
        PathBuf::from,
    )
}

/// An S3 server: moto's, in Python.
struct Moto {
    port: u16,
    /// Unless `make test` has started one for all tests.
    own: Option<Child>,
}

impl Moto {
    fn start() -> Self {
        if let Some(port) = shared_port("DEFENDER_LAKE_MOTO_PORT") {
            return Self { port, own: None };
        }
        // Another process may take the port in between; then moto says so and the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { port, own: Some(child) };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return moto;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("moto did not listen within a minute; `make test` installs it");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let Some(child) = &mut self.own else { return };
        let _ = child.kill();
        let _ = child.wait();
    }
}
