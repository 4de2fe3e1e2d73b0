//! Between the program and the services: CA certificates, corporate ones too, and proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use fixtures::{Emulator, EmulatorOptions, Tenant, TenantOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::support::{Run, Sandbox, unlimited};

/// The certificate of a made-up authority; made for this and used nowhere else.
const AUTHORITY_PEM: &str = include_str!("../fixtures/identity/authority.pem");
/// Key and certificate that it has given to 127.0.0.1.
const SERVER_PEM: &str = include_str!("../fixtures/identity/server.pem");

/// A server that speaks TLS in front of the emulator, and counts connections.
struct TlsServer {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl TlsServer {
    fn start(emulator: &Emulator) -> Self {
        let pem = SERVER_PEM.as_bytes();
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let origin = emulator.api_url().strip_prefix("http://").unwrap().to_owned();
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let origin = origin.clone();
                let stream = rustls::StreamOwned::new(connection, stream.unwrap());
                // Fails where the client does not trust us.
                std::thread::spawn(move || forward(stream, &origin));
            }
        });
        Self { url, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Passes one request on, and its answer back.
fn forward(mut client: impl Read + Write, origin: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let length =
        text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    let first_line = head.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut server = TcpStream::connect(origin)?;
    server
        .write_all(&[&head[..first_line], b"Connection: close\r\n", &head[first_line..], &body].concat())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.flush()
}

/// A proxy that opens no way; what it was asked for goes to the channel.
fn proxy() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let _ = sender.send(first.trim_end_matches(" HTTP/1.1").to_owned());
            let _ =
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, asked)
}

fn emulator() -> Emulator {
    unlimited(Tenant::new(TenantOptions { devices: 3, parts: 1, ..TenantOptions::default() }))
}

fn run(command: &mut Command) -> Run {
    for name in
        ["SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
    {
        if command.get_envs().all(|(set, _)| set != name) {
            command.env_remove(name);
        }
    }
    Run::of(command.output().unwrap())
}

/// A machine without CA certificates: `SSL_CERT_FILE` names this.
fn empty_file(sandbox: &Sandbox) -> std::path::PathBuf {
    let path = sandbox.path().join("empty.pem");
    std::fs::write(&path, "").unwrap();
    path
}

fn s3(command: &mut Command, endpoint: &str) {
    command.env("DEFENDER_LAKE", "s3://lake/x").env("AWS_ENDPOINT_URL", endpoint);
    command.envs([("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y"), ("AWS_REGION", "us-east-1")]);
}

fn azure(command: &mut Command, endpoint: &str) {
    command.env("DEFENDER_LAKE", "az://lake/x").env("AZURE_STORAGE_ENDPOINT", endpoint);
    command.env("AZURE_STORAGE_ACCOUNT_NAME", "account");
}

#[test]
fn http_to_this_machine_takes_no_ca_bundle() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    let mut command = sandbox.ingest_command(&emulator, &[]);
    run(command.env("SSL_CERT_FILE", empty_file(&sandbox)).env("SSL_CERT_DIR", "/nowhere")).expect(0);
    assert_eq!(sandbox.manifests().len(), 1);
}

#[test]
fn missing_ca_bundle_is_named_and_nothing_is_sent() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    let server = TlsServer::start(&emulator);
    let url = &server.url;
    let without = |command: &mut Command, code: i32, said: &str| {
        command.env("SSL_CERT_FILE", empty_file(&sandbox)).env("SSL_CERT_DIR", "/nowhere");
        let run = run(command).expect(code);
        let expected = format!("{said}; hint: install ca-certificates or set SSL_CERT_FILE");
        assert!(run.error().ends_with(&expected), "{}", run.error());
        assert!(!run.stderr.contains("retrying"), "{}", run.stderr);
        assert_eq!(server.connections(), 0);
    };
    let none = "no CA certificates found on this machine";
    let ingest = |args: &[&str]| sandbox.ingest_command(&emulator, args);
    without(
        &mut ingest(&["--api-url", url]),
        4,
        &format!("error: GET {url}/api/machines/SoftwareInventoryExport: {none}"),
    );
    without(&mut ingest(&["--login-url", url]), 4, &format!("error: POST {url}/: {none}"));
    let mut snapshots = sandbox.command("snapshots");
    s3(&mut snapshots, url);
    without(&mut snapshots, 6, &format!("HTTP error: {none}"));
    let mut snapshots = sandbox.command("snapshots");
    azure(&mut snapshots, url);
    without(snapshots.env("AZURE_STORAGE_ACCOUNT_KEY", "eA=="), 6, &format!("HTTP error: {none}"));
    let mut snapshots = sandbox.command("snapshots");
    azure(&mut snapshots, emulator.api_url());
    snapshots.envs(emulator.env()).env("AZURE_AUTHORITY_HOST", url);
    without(&mut snapshots, 6, &format!("POST {url}/: {none}"));
}

#[test]
fn refused_certificate_is_not_asked_again() {
    let tenant = Tenant::new(TenantOptions { devices: 3, parts: 1, ..TenantOptions::default() });
    let plain = unlimited(tenant.clone());
    let sandbox = Sandbox::new();
    // The authority of another server.
    let others = sandbox.path().join("others.pem");
    std::fs::write(&others, Emulator::STRANGERS_PEM).unwrap();
    let hint =
        "; hint: install ca-certificates or set SSL_CERT_FILE to a file that also has your organisation's CA";
    let check = |server: &TlsServer, command: &mut Command, code: i32| {
        let run = run(command.env("SSL_CERT_FILE", &others)).expect(code);
        assert!(run.error().contains("invalid peer certificate: UnknownIssuer"), "{}", run.error());
        assert!(run.error().contains(hint), "{}", run.error());
        assert!(!run.stderr.contains("retrying"), "{}", run.stderr);
        assert_eq!(server.connections(), 1, "{}", run.error());
    };
    let server = TlsServer::start(&plain);
    check(&server, &mut sandbox.ingest_command(&plain, &["--api-url", &server.url]), 4);
    let server = TlsServer::start(&plain);
    check(&server, &mut sandbox.ingest_command(&plain, &["--login-url", &server.url]), 4);
    let server = TlsServer::start(&plain);
    let mut snapshots = sandbox.command("snapshots");
    s3(&mut snapshots, &server.url);
    check(&server, &mut snapshots, 6);
    let server = TlsServer::start(&plain);
    let options = EmulatorOptions { blob_origin: Some(server.url.clone()), ..EmulatorOptions::new(tenant) };
    let parts_elsewhere = Emulator::start(options);
    check(&server, &mut sandbox.ingest_command(&parts_elsewhere, &["--blob-host", "127.0.0.1"]), 4);
}

#[test]
fn authority_in_ssl_cert_file_is_trusted() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    let server = TlsServer::start(&emulator);
    let bundle = sandbox.path().join("bundle.pem");
    std::fs::write(&bundle, [Emulator::STRANGERS_PEM, AUTHORITY_PEM].concat()).unwrap();
    let args = ["--api-url", &server.url, "--login-url", &server.url];
    let with = |name: &str, path: &Path| {
        let mut command = sandbox.ingest_command(&emulator, &args);
        run(command.args(["--if-published", "replace"]).env("SSL_CERT_FILE", "").env(name, path)).expect(0);
    };
    with("SSL_CERT_FILE", &bundle);
    let folder = sandbox.path().join("certificates");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&bundle, folder.join("a.pem")).unwrap();
    with("SSL_CERT_DIR", &folder);
    assert_eq!(sandbox.manifests().len(), 1);
}

#[test]
fn proxies_see_https_and_never_this_machine() {
    let (emulator, sandbox) = (emulator(), Sandbox::new());
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (url, asked) = proxy();
        let mut snapshots = sandbox.command("snapshots");
        azure(&mut snapshots, "https://store.invalid");
        snapshots.envs(emulator.env()).env("AZURE_AUTHORITY_HOST", "https://login.invalid");
        // An empty variable is not another proxy.
        run(snapshots.env("NO_PROXY", "").env(name, &url)).expect(6);
        assert_eq!(asked.try_iter().next().unwrap(), "CONNECT login.invalid:443");
    }
    let (url, asked) = proxy();
    let mut command = sandbox.ingest_command(&emulator, &[]);
    run(command.env("HTTP_PROXY", &url).env("http_proxy", &url).env("ALL_PROXY", &url)).expect(0);
    assert_eq!(asked.try_iter().count(), 0);
}
