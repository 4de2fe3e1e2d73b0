use std::time::Duration;

use base64::prelude::*;
use tokio::sync::mpsc;
use url::Url;

use super::{
    test_server::{Reply, TestServer, reply},
    *,
};
use crate::{
    auth::{AuthMethod, Credentials},
    exit_code::ExitCode,
    http::Secret,
    manifest::Proof,
};

const LISTING: &str = "/api/machines/SoftwareInventoryExport";
const PAGES: &str = "/api/machines/SoftwareInventoryByMachine";
const TOKEN: &str = "/tenant-1/oauth2/v2.0/token";
const SECRETS: [&str; 3] = ["hunter2", "TOKEN-", "SIGNATURE"];

fn dataset() -> &'static Dataset {
    Dataset::find("software-inventory").unwrap()
}

/// An API, its authority and its blob storage, each on a port of its own.
struct World {
    api: TestServer,
    login: TestServer,
    blobs: TestServer,
    work_dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            api: TestServer::start().await,
            login: TestServer::start().await,
            blobs: TestServer::start().await,
            work_dir: tempfile::tempdir().unwrap(),
        };
        world.login.on(TOKEN, [token("TOKEN-1", 3600), token("TOKEN-2", 3600)]);
        world
    }

    fn list(&self, paths: &[&str]) {
        let urls: Vec<_> = paths.iter().map(|path| self.blobs.at(&format!("{path}?sig=SIGNATURE"))).collect();
        let body = serde_json::json!({ "exportFiles": urls, "generatedTime": "2021-01-11T11:01:00.000Z" });
        self.api.on(LISTING, [reply(200, body.to_string())]);
    }

    fn api(&self) -> ApiConfig {
        ApiConfig {
            api_url: self.api.url().clone(),
            sister_hosts: &["api.securitycenter.example", ".api.security.example"],
            login_url: self.login.url().clone(),
            scope: "https://api.securitycenter.microsoft.com/.default".into(),
            auth: AuthMethod::Auto,
            credentials: Credentials {
                tenant_id: Some("tenant-1".into()),
                client_id: Some("client-1".into()),
                client_secret: Some(Secret::new("hunter2")),
                ..Credentials::default()
            },
        }
    }

    fn config(route: RouteConfig) -> SourceConfig {
        let retry = RetryPolicy {
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
            max_attempts: 4,
            max_elapsed: Duration::from_mins(1),
        };
        let downloads = NonZeroUsize::new(3).unwrap();
        let min_throughput = MinThroughput { window: Duration::from_millis(300), min_bytes: 1 };
        SourceConfig {
            route,
            downloads,
            api_retry: retry,
            part_retry: retry,
            min_throughput,
            unlimited_calls: true,
        }
    }

    fn files(&self) -> SourceConfig {
        Self::config(RouteConfig::Files { api: self.api(), sas_valid_hours: 6, blob_hosts: vec![] })
    }

    fn json(&self) -> SourceConfig {
        Self::config(RouteConfig::Json { api: self.api(), page_size: 2 })
    }

    /// What the parts of a run were proved by.
    async fn proofs(&self, config: &SourceConfig) -> Result<Vec<Proof>, SourceError> {
        let (_, source) = Source::open(config, dataset(), self.work_dir.path()).await?;
        let (sender, mut receiver) = mpsc::channel(64);
        let delivery = tokio::spawn(source.deliver(sender, Arc::default()));
        let mut proofs = Vec::new();
        while let Some(part) = receiver.recv().await {
            part.open().unwrap();
            proofs.push((part.index, part.proof));
        }
        delivery.await.unwrap()?;
        proofs.sort_by_key(|(index, _)| *index);
        Ok(proofs.into_iter().map(|(_, proof)| proof).collect())
    }

    async fn run(&self, config: &SourceConfig) -> Result<(Export, Vec<(String, String)>), SourceError> {
        let (export, source) = Source::open(config, dataset(), self.work_dir.path()).await?;
        Ok((export, deliver(source).await?))
    }

    /// Runs to an error, and looks for secrets in all that it can show.
    async fn fails(&self, config: &SourceConfig) -> SourceError {
        let err = self.run(config).await.unwrap_err();
        let shown = format!("{err:?} {} {:?} {config:?}", chain(&err), err.hint());
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
        err
    }

    fn assert_no_secret_at_rest(&self) {
        let mut folders = vec![self.work_dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mut shown = path.display().to_string();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    shown.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
                }
                for secret in SECRETS {
                    assert!(!shown.contains(secret), "{secret} is in {shown}");
                }
            }
        }
    }
}

/// As the program prints it.
fn chain(err: &SourceError) -> String {
    let errors = std::iter::successors(Some(err as &dyn std::error::Error), |err| err.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn token(token: &str, expires_in: u32) -> Reply {
    reply(200, format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{token}"}}"#))
}

async fn deliver(source: Source) -> Result<Vec<(String, String)>, SourceError> {
    let (sender, mut receiver) = mpsc::channel(1);
    let progress = Arc::new(FetchProgress::default());
    let delivery = tokio::spawn(source.deliver(sender, progress.clone()));
    let mut parts = Vec::new();
    let mut bytes = 0;
    while let Some(part) = receiver.recv().await {
        match part.open() {
            Ok(file) => {
                bytes += part.bytes;
                let text = std::io::read_to_string(file).unwrap();
                parts.push((part.index, part.name, text));
            }
            Err(damage) => assert!(part.reject(&damage)),
        }
    }
    delivery.await.unwrap()?;
    assert_eq!(progress.bytes.load(Ordering::Relaxed), bytes);
    assert_eq!(progress.parts.load(Ordering::Relaxed), parts.len() as u64);
    parts.sort();
    Ok(parts.into_iter().map(|(_, name, text)| (name, text)).collect())
}

fn part(name: &str, text: &str) -> (String, String) {
    (name.into(), text.into())
}

fn md5(text: &str) -> String {
    use md5::{Digest, Md5};
    BASE64_STANDARD.encode(Md5::digest(text))
}

#[tokio::test]
async fn parts_are_listed_downloaded_and_taken_over_by_a_rerun() {
    let world = World::new().await;
    world.list(&["/c/g=1/part-0", "/c/g=2/part-0"]);
    world.blobs.on("/c/g=1/part-0", [reply(200, "one").header("content-md5", md5("one"))]);
    world.blobs.on("/c/g=2/part-0", [reply(200, "two")]);
    let expected = [part("c/g=1/part-0", "one"), part("c/g=2/part-0", "two")];

    let (export, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, expected);
    assert_eq!(export.snapshot_id().to_string(), "20210111T110100Z");
    assert_eq!((export.route, export.num_parts), (Route::Files, Some(2)));

    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, expected);
    assert_eq!(world.blobs.all_requests().len(), 2, "nothing is downloaded twice");

    // Who sees which secret.
    for request in world.api.requests(LISTING) {
        assert!(
            request.starts_with("GET /api/machines/SoftwareInventoryExport?sasValidHours=6 "),
            "{request}"
        );
        assert!(request.contains("authorization: bearer token-"), "{request}");
    }
    for request in world.blobs.all_requests() {
        assert!(request.contains("?sig=SIGNATURE"), "{request}");
        assert!(!request.contains("authorization") && !request.contains("cookie"), "{request}");
    }
    let login = world.login.requests(TOKEN).remove(0);
    for text in
        ["client_id=client-1", "client_secret=hunter2", "grant_type=client_credentials", "securitycenter"]
    {
        assert!(login.contains(text), "{login}");
    }
    world.assert_no_secret_at_rest();
}

#[tokio::test]
async fn a_plan_touches_nothing() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    assert_eq!(
        Source::plan(&world.files(), dataset(), world.work_dir.path()).await.unwrap().num_parts,
        Some(1)
    );
    assert_eq!(std::fs::read_dir(world.work_dir.path()).unwrap().count(), 0);
    assert!(world.blobs.all_requests().is_empty());
}

#[tokio::test]
async fn broken_downloads_are_tried_again() {
    let text = "0123456789";
    let empty = reply(200, "").header("x-ms-copy-status", "pending");
    let cases: [(&str, Vec<Reply>); 6] = [
        ("empty", vec![empty, reply(200, text)]),
        ("not there yet", vec![reply(404, "<Error><Code>BlobNotFound</Code></Error>"), reply(200, text)]),
        ("busy", vec![reply(503, ""), reply(500, ""), reply(200, text)]),
        ("short", vec![reply(200, text).cut_at(4), reply(200, text)]),
        ("damaged", vec![reply(200, "012345678X").header("content-md5", md5(text)), reply(200, text)]),
        (
            "replaced",
            vec![reply(200, text).header("etag", "\"1\"").cut_at(4), reply(412, ""), reply(200, text)],
        ),
    ];
    for (name, replies) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        let num_replies = replies.len();
        world.blobs.on("/c/p", replies);
        let (_, parts) = world.run(&world.files()).await.unwrap();
        assert_eq!(parts, [part("c/p", text)], "{name}");
        assert_eq!(world.blobs.all_requests().len(), num_replies, "{name}");
    }
}

/// As of a part that was gzip: nothing here decodes it.
const GZIP: &[u8] = b"\x1f\x8b\x08 and more";

#[tokio::test]
async fn each_part_says_what_proves_it_whole() {
    let world = World::new().await;
    let text = "0123456789";
    let cases = [
        ("/c/md5", reply(200, text).header("content-md5", md5(text)), Proof::Md5),
        ("/c/md5-alone", reply(200, text).header("content-md5", md5(text)).unframed(), Proof::Md5),
        ("/c/gzip", reply(200, GZIP), Proof::Gzip),
        ("/c/gzip-alone", reply(200, GZIP).unframed(), Proof::Gzip),
        ("/c/length", reply(200, text), Proof::Length),
        ("/c/chunked", reply(200, text).chunked(), Proof::Chunked),
    ];
    world.list(&cases.each_ref().map(|(path, ..)| *path));
    for (path, reply, _) in &cases {
        world.blobs.on(path, [reply.clone()]);
    }
    let expected = cases.each_ref().map(|(.., proof)| *proof);
    assert_eq!(world.proofs(&world.files()).await.unwrap(), expected);
    assert_eq!(world.proofs(&world.files()).await.unwrap(), expected, "from the spool");
    for request in world.blobs.all_requests() {
        assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
    }

    world.api.on(PAGES, [page("a", Some(&world.api.at("/api/2"))).chunked()]);
    world.api.on("/api/2", [page("b", Some(&world.api.at("/api/3"))).unframed()]);
    world.api.on("/api/3", [page("c", None)]);
    let expected = [Proof::Chunked, Proof::Json, Proof::Length];
    assert_eq!(world.proofs(&world.json()).await.unwrap(), expected);
}

/// What the server answers to `GET`, what it says of the size to `HEAD`, and what becomes of the part.
type UnframedCase = (&'static str, Vec<Reply>, Option<&'static str>, Result<Proof, &'static str>);

#[tokio::test]
async fn text_without_framing_is_proved_or_refused() {
    let (text, cut) = ("line 1\nline 2\n", "line 1\n");
    let plain = |text: &str| reply(200, text).unframed();
    let range = |text: &str| {
        let range = format!("bytes 0-{}/{}", text.len() - 1, text.len());
        reply(206, text).header("content-range", range).unframed()
    };
    let unproved = "bytes came, and nothing proves that they are the whole part";
    let cases: [UnframedCase; 10] = [
        ("HEAD says as much", vec![plain(text)], Some(text), Ok(Proof::Length)),
        ("HEAD says more, the range too", vec![plain(cut), range(text)], Some(text), Ok(Proof::Length)),
        ("no HEAD, a range", vec![plain(cut), range(text)], None, Ok(Proof::Length)),
        ("no HEAD, a length by range", vec![plain(cut), reply(200, text)], None, Ok(Proof::Length)),
        ("no HEAD, chunks by range", vec![plain(cut), reply(200, text).chunked()], None, Ok(Proof::Chunked)),
        ("HEAD lies, the range does not", vec![plain(cut), range(text)], Some(cut), Ok(Proof::Length)),
        ("HEAD says nothing", vec![plain(text)], Some(""), Err(unproved)),
        ("nothing says anything", vec![plain(cut)], None, Err(unproved)),
        ("cut each time", vec![plain(cut)], Some(text), Err("14 bytes announced, 7 came")),
        (
            "the range is cut",
            vec![plain(cut), range(text).cut_at(3)],
            None,
            Err("14 bytes announced, 3 came"),
        ),
    ];
    for (name, replies, head, expected) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", replies);
        if let Some(head) = head {
            world.blobs.on_head("/c/p", reply(200, head));
        }
        match expected {
            Ok(proof) => assert_eq!(world.proofs(&world.files()).await.unwrap(), [proof], "{name}"),
            Err(expected) => {
                let err = world.fails(&world.files()).await;
                assert!(chain(&err).contains(expected), "{name}: {}", chain(&err));
                assert_eq!(err.to_string(), "part c/p could not be fetched", "{name}");
                assert_eq!(err.exit_code(), ExitCode::Source, "{name}");
                assert!(err.hint().is_some(), "{name}");
            }
        }
        // Nothing of it is taken for whole by the next run.
        world.blobs.on("/c/p", [reply(200, text)]);
        assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", text)], "{name}");
    }
}

#[tokio::test]
async fn gzip_without_framing_is_asked_for_its_size() {
    // Cut between two members it would look whole.
    let world = World::new().await;
    world.list(&["/c/p"]);
    let whole = [GZIP, GZIP].concat();
    world.blobs.on("/c/p", [reply(200, GZIP).unframed(), reply(200, whole.clone())]);
    world.blobs.on_head("/c/p", reply(200, whole.clone()));
    assert_eq!(world.proofs(&world.files()).await.unwrap(), [Proof::Gzip]);
    assert_eq!(world.blobs.requests("/c/p").len(), 2);

    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, GZIP).unframed()]);
    world.blobs.on_head("/c/p", reply(200, whole));
    let err = world.fails(&world.files()).await;
    assert!(
        chain(&err).contains("22 bytes announced, 11 came") || chain(&err).contains("announced"),
        "{}",
        chain(&err)
    );
}

#[tokio::test]
async fn a_chunked_body_that_is_cut_is_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world
        .blobs
        .on("/c/p", [reply(200, "0123456789").chunked().cut_at(4), reply(200, "0123456789").chunked()]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "0123456789")]);
}

#[tokio::test]
async fn a_range_of_another_blob_begins_the_part_again() {
    let first = || reply(200, "0123456789").header("etag", "\"e1\"").cut_at(4);
    let range =
        |range: &str, etag: &str| reply(206, "456789").header("content-range", range).header("etag", etag);
    for other in [range("bytes 4-9/12", "\"e1\""), range("bytes 4-9/10", "\"e2\"")] {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", [first(), other, reply(200, "abcdefghij")]);
        assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "abcdefghij")]);
    }
    // Without a size of its own, a range is held against the one that was announced first.
    let world = World::new().await;
    world.list(&["/c/p"]);
    let short = reply(206, "45").header("content-range", "bytes 4-5/*").header("etag", "\"e1\"");
    let rest = reply(206, "6789").header("content-range", "bytes 6-9/*").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first(), short, rest]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "0123456789")]);
}

#[tokio::test]
async fn spooled_parts_without_proof_are_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, "old"), reply(200, "new")]);
    let (_, source) = Source::open(&world.files(), dataset(), world.work_dir.path()).await.unwrap();
    let folder = source.spool().unwrap().dir().to_owned();
    deliver(source).await.unwrap();
    let facts = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let facts = facts.into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let text = std::fs::read_to_string(&facts).unwrap();
    assert!(text.contains(r#","proof":"length""#), "{text}");
    std::fs::write(&facts, text.replace(r#","proof":"length""#, "")).unwrap();
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "new")]);
}

#[tokio::test]
async fn a_part_in_another_spelling_is_not_fetched_again() {
    let world = World::new().await;
    world.list(&["/c/OrgId=1/p"]);
    world.blobs.on("/c/OrgId=1/p", [reply(200, "x")]);
    world.blobs.on("/c/OrgId%3d1/p", [reply(200, "x")]);
    world.run(&world.files()).await.unwrap();
    world.list(&["/c/OrgId%3d1/p"]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/OrgId=1/p", "x")]);
    assert_eq!(world.blobs.all_requests().len(), 1);

    world.list(&["/c/OrgId%3D1/p", "/c/OrgId=1/p"]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export lists c/OrgId%3D1/p twice, also spelled c/OrgId=1/p");
    assert_eq!(err.exit_code(), ExitCode::Source);
}

#[tokio::test]
async fn a_relist_in_another_spelling_is_of_the_same_parts() {
    let world = World::new().await;
    let listing = |path: &str| {
        let url = world.blobs.at(&format!("{path}?sig=SIGNATURE"));
        let body = serde_json::json!({ "exportFiles": [url], "generatedTime": "2021-01-11T11:01:00Z" });
        reply(200, body.to_string())
    };
    world.api.on(LISTING, [listing("/c/OrgId=1/p"), listing("/c/OrgId%3D1/p")]);
    let expired = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the \
                   specified time frame</AuthenticationErrorDetail></Error>";
    world.blobs.on("/c/OrgId=1/p", [reply(403, expired)]);
    world.blobs.on("/c/OrgId%3D1/p", [reply(200, "x")]);
    assert_eq!(world.run(&world.files()).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn storage_that_refuses_for_good_is_asked_once() {
    let coded = |status, code: &str| reply(status, "").header("x-ms-error-code", code);
    let xml = |status, code: &str| reply(status, format!("\u{feff}<Error><Code>{code}</Code></Error>"));
    let network = ": the storage account refuses this network";
    let cases = [
        (coded(403, "AuthorizationFailure"), "403: AuthorizationFailure", network),
        (xml(403, "AuthorizationFailure"), "403: AuthorizationFailure", network),
        (xml(403, "AuthorizationSourceIPMismatch"), "403: AuthorizationSourceIPMismatch", network),
        (coded(403, "IpAuthorizationFailure"), "403: IpAuthorizationFailure", network),
        (coded(403, "AuthorizationPermissionMismatch"), "403: AuthorizationPermissionMismatch", ""),
        (coded(409, "PublicAccessNotPermitted"), "409: PublicAccessNotPermitted", ""),
        (coded(401, "NoAuthenticationInformation"), "401: NoAuthenticationInformation", ""),
    ];
    for (refusal, expected, reason) in cases {
        let world = World::new().await;
        world.list(&["/c/p"]);
        world.blobs.on("/c/p", [refusal]);
        let err = world.fails(&world.files()).await;
        assert!(chain(&err).ends_with(&format!("/c/p: {expected}{reason}")), "{}", chain(&err));
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert_eq!(world.api.requests(LISTING).len(), 1, "{expected}");
        assert_eq!(world.blobs.all_requests().len(), 1, "{expected}");
        let hint = err.hint().unwrap();
        let expected_hint = match (reason, expected) {
            ("", "403: AuthorizationPermissionMismatch") => {
                "run again to list the export again; whole parts are kept"
            }
            ("", _) => {
                "storage saw no signature: look whether a proxy cuts the query off download urls; whole parts are kept"
            }
            _ => {
                "run where the account's firewall lets requests in; a vpn, a private endpoint or a proxy in between \
                  may be what it refuses; whole parts are kept"
            }
        };
        assert_eq!(hint, expected_hint);
    }
}

#[tokio::test]
async fn a_refusal_by_time_lists_as_often_as_it_helps() {
    let end =
        |hours: i64| (Utc::now() + chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let failed = || reply(403, "<Error><Code>AuthenticationFailed</Code></Error>");
    let firewall = || reply(403, "").header("x-ms-error-code", "AuthorizationFailure");
    // Refusals, hours that the URLs have left, then listings and requests.
    let cases = [
        ("too new for a clock", failed(), 1, 2, 4),
        ("a proxy's page", reply(403, "<html>"), 1, 1, 4),
        ("ended, and a firewall that lasts", firewall(), -1, 3, 4),
    ];
    for (name, refusal, hours, num_listings, num_requests) in cases {
        let world = World::new().await;
        let url = world.blobs.at(&format!("/c/p?se={}&sig=SIGNATURE", end(hours)));
        let body = serde_json::json!({ "exportFiles": [url], "generatedTime": "2021-01-11T11:01:00Z" });
        world.api.on(LISTING, [reply(200, body.to_string())]);
        world.blobs.on("/c/p", [refusal]);
        let err = world.fails(&world.files()).await;
        assert_eq!(err.exit_code(), ExitCode::Source, "{name}");
        assert_eq!(world.api.requests(LISTING).len(), num_listings, "{name}");
        assert_eq!(world.blobs.all_requests().len(), num_requests, "{name}");
        assert!(err.hint().is_some(), "{name}");
    }
}

#[tokio::test]
async fn an_option_that_the_service_refuses_is_named() {
    let world = World::new().await;
    let refusal = || reply(400, r#"{"error":{"code":"InvalidInput","message":"Invalid value."}}"#);
    world.api.on(LISTING, [refusal()]);
    world.api.on(PAGES, [refusal()]);
    for (config, expected) in [
        (
            World::config(RouteConfig::Files { api: world.api(), sas_valid_hours: 24, blob_hosts: vec![] }),
            "several of the service's calls now allow 6 hours at most: pass --sas-valid-hours 6 instead of 24",
        ),
        (world.files(), "if the service does not allow --sas-valid-hours 6, pass a lower value"),
        (world.json(), "if the service does not allow --page-size 2, pass a lower value"),
    ] {
        let err = world.fails(&config).await;
        assert!(err.to_string().ends_with("400: InvalidInput: Invalid value."), "{err}");
        assert_eq!(err.hint().unwrap(), expected);
        assert_eq!(err.exit_code(), ExitCode::Source);
        let planned = Source::plan(&config, dataset(), world.work_dir.path()).await.unwrap_err();
        assert_eq!(planned.hint().unwrap(), expected);
    }
}

#[tokio::test]
async fn links_to_hosts_of_the_cloud_stay_at_the_origin() {
    let world = World::new().await;
    let token = skip_token("2021-01-25/0200/", 1);
    let query = format!("pagesize=2&$skiptoken={token}");
    world.api.on(PAGES, [page("a", Some(&format!("https://api.securitycenter.example/api/2?{query}")))]);
    world.api.on("/api/2", [page("b", Some(&format!("https://EU.api.security.example/api/3?{query}#x")))]);
    world.api.on("/api/3", [page("c", None)]);
    let (_, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!(parts.len(), 3);
    let request = world.api.requests("/api/2").remove(0);
    assert!(request.starts_with(&format!("GET /api/2?{query} ")), "{request}");
    assert!(request.contains("authorization: bearer token-"), "{request}");

    // The same page again, however its link is written.
    std::fs::remove_dir_all(world.work_dir.path().join("software_inventory")).unwrap();
    world.api.on("/api/3", [page("c", Some(&format!("https://us.api.security.example/api/3?{query}#y")))]);
    let err = world.fails(&world.json()).await;
    assert!(err.to_string().contains("`@odata.nextLink` was followed before"), "{err}");
    world.api.on("/api/3", [page("c", Some(&world.api.at(&format!("{PAGES}?pageSize=2"))))]);
    let err = world.fails(&world.json()).await;
    assert!(err.to_string().contains("page-00002.json: `@odata.nextLink` was followed before"), "{err}");

    for astray in [
        "https://api.security.example/api/2",
        "https://xapi.securitycenter.example/api/2",
        "https://api.securitycenter.example.evil.example/api/2",
        "https://evil.example/api.securitycenter.example/2",
        "http://api.securitycenter.example/api/2",
        "https://api.securitycenter.example:8443/api/2",
        "https://u:p@api.securitycenter.example/api/2",
        "https://api.securitycenter.example@evil.example/api/2",
    ] {
        world.api.on(PAGES, [page("a", Some(astray))]);
        let err = world.fails(&world.json()).await;
        assert!(err.to_string().contains("not at the API's own origin"), "{astray}: {err}");
        assert!(!format!("{err:?}").contains("u:p@"), "{err:?}");
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert!(err.hint().unwrap().contains("--api-url"), "{astray}");
    }
    for astray in ["/api/2", "?$skiptoken=1", "//api.securitycenter.example/api/2", "3"] {
        world.api.on(PAGES, [page("a", Some(astray))]);
        let err = world.fails(&world.json()).await;
        assert_eq!(err.to_string(), "page-00000.json: `@odata.nextLink` is no absolute url", "{astray}");
        assert!(err.hint().is_some());
    }
}

fn local(patterns: &[&Path]) -> SourceConfig {
    World::config(RouteConfig::Local {
        patterns: patterns.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
        generated_time: "2021-01-11T11:01:00Z".parse().ok(),
    })
}

fn make_pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_are_read_once_and_leave_nothing() {
    let (work_dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    make_pipe(&one);
    make_pipe(&other);
    std::fs::write(folder.path().join("file"), "file").unwrap();
    // A writer that opens them in the other order, and sends more than a pipe holds.
    let text = "0123456789".repeat(100_000);
    let writer = std::thread::spawn({
        let (one, other, text) = (one.clone(), other.clone(), text.clone());
        move || {
            std::fs::write(other, &text).unwrap();
            std::fs::write(one, "one").unwrap();
        }
    });
    let config = local(&[&one, &other, &folder.path().join("file"), &one]);
    let planned = Source::plan(&config, dataset(), work_dir.path()).await.unwrap();
    assert_eq!((planned.num_parts, planned.num_bytes), (Some(3), None), "nothing is read for a plan");
    let (export, source) = Source::open(&config, dataset(), work_dir.path()).await.unwrap();
    writer.join().unwrap();
    assert_eq!((export.num_parts, export.num_bytes), (Some(3), Some(1_000_007)));
    let parts = deliver(source).await.unwrap();
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let expected = [
        part(&name(&folder.path().join("file")), "file"),
        part(&name(&one), "one"),
        part(&name(&other), &text),
    ];
    assert_eq!(parts, expected);
    assert_eq!(std::fs::read_dir(work_dir.path().join("software_inventory")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_without_a_writer_can_be_left() {
    let (work_dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let config = local(&[&pipe]);
    let opening = Source::open(&config, dataset(), work_dir.path());
    assert!(tokio::time::timeout(Duration::from_mins(10), opening).await.is_err());
    let left = std::fs::read_dir(work_dir.path().join("software_inventory"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    let reading = read_small_file(&pipe, 10);
    assert!(tokio::time::timeout(Duration::from_mins(10), reading).await.is_err());
}

#[tokio::test]
async fn small_files_are_bounded_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "0123456789").unwrap();
    assert_eq!(read_small_file(&file, 10).await.unwrap(), b"0123456789");
    let text = async |path: &Path| read_small_file(path, 9).await.unwrap_err().to_string();
    assert_eq!(text(&file).await, "larger than 9 bytes");
    assert_eq!(text(Path::new("/dev/zero")).await, "is not a regular file");
    assert_eq!(text(folder.path()).await, "is not a regular file");
}

#[tokio::test]
async fn a_transfer_that_stalls_goes_on_by_range() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let first = reply(200, "0123456789").header("etag", "\"e1\"").header("content-md5", md5("0123456789"));
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first.stalls_at(4), rest]);
    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, [part("c/p", "0123456789")]);
    assert!(world.blobs.all_requests()[1].contains("range: bytes=4-\r\n"));

    world.blobs.on("/c/p", [reply(200, "0123456789").stalls_at(4)]);
    world.api.on(
        LISTING,
        [reply(
            200,
            serde_json::json!({
                "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-12T11:01:00Z"
            })
            .to_string(),
        )],
    );
    let err = world.fails(&world.files()).await;
    assert!(chain(&err).contains("as good as stopped"), "{}", chain(&err));
    assert_eq!(err.exit_code(), ExitCode::Source);
}

#[tokio::test]
async fn a_partial_part_goes_on_in_the_next_run() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let text = "0123456789";
    let whole = || reply(200, text).header("etag", "\"e1\"").header("content-md5", md5(text));
    world.blobs.on("/c/p", [whole().cut_at(4), reply(400, "")]);
    world.fails(&world.files()).await;
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [rest]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", text)]);
    let requests = world.blobs.all_requests();
    assert!(requests[2].contains("range: bytes=4-\r\n"), "{}", requests[2]);
    assert!(requests[2].contains("if-match: \"e1\"\r\n"), "{}", requests[2]);
    world.assert_no_secret_at_rest();
}

#[tokio::test]
async fn a_partial_part_of_another_blob_is_begun_anew() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let old = reply(200, "old-bytes!").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [old.cut_at(4), reply(400, "")]);
    world.fails(&world.files()).await;
    let new = reply(200, "new").header("etag", "\"e2\"").header("content-md5", md5("new"));
    world.blobs.on("/c/p", [reply(412, ""), new]);
    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/p", "new")]);
}

#[tokio::test]
async fn urls_are_renewed_by_their_path() {
    let world = World::new().await;
    let end =
        |secs: i64| (Utc::now() + chrono::TimeDelta::seconds(secs)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let listing = |ends_in: i64, paths: &[&str]| {
        let at = |path: &&str| world.blobs.at(&format!("{path}?se={}&sig=SIGNATURE{ends_in}", end(ends_in)));
        let urls: Vec<_> = paths.iter().map(at).collect();
        reply(
            200,
            serde_json::json!({ "exportFiles": urls, "generatedTime": "2021-01-11T11:01:00Z" }).to_string(),
        )
    };
    // The first part takes so long that the others' URLs are in the second half of their life by then; the
    // new listing has them in another order.
    world.api.on(LISTING, [listing(3, &["/a/p", "/b/p"]), listing(7200, &["/b/p", "/a/p"])]);
    let busy = || reply(503, "");
    world.blobs.on("/a/p", [busy(), busy(), reply(200, "a").after(Duration::from_secs(2))]);
    world.blobs.on("/b/p", [reply(200, "b")]);
    let mut config = world.files();
    config.downloads = NonZeroUsize::MIN;
    config.min_throughput.window = Duration::from_secs(10);
    let (_, parts) = world.run(&config).await.unwrap();
    assert_eq!(parts, [part("a/p", "a"), part("b/p", "b")]);
    assert_eq!(world.api.requests(LISTING).len(), 2);
    assert!(world.blobs.requests("/b/p")[0].contains("sig=SIGNATURE7200"));
}

#[tokio::test]
async fn another_snapshot_in_between_ends_the_delivery() {
    let world = World::new().await;
    let listing = |time: &str, paths: &[&str]| {
        let urls: Vec<_> =
            paths.iter().map(|path| world.blobs.at(&format!("{path}?sig=SIGNATURE"))).collect();
        reply(200, serde_json::json!({ "exportFiles": urls, "generatedTime": time }).to_string())
    };
    let expired = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in the \
                   specified key time frame</AuthenticationErrorDetail></Error>";
    world.blobs.on("/c/p", [reply(403, expired)]);
    let first = || listing("2021-01-11T11:01:00Z", &["/c/p"]);
    world.api.on(LISTING, [first(), listing("2021-01-11T17:01:00Z", &["/c/p"])]);
    let err = world.fails(&world.files()).await;
    assert!(err.is_other_snapshot());
    assert_eq!(
        err.to_string(),
        "the export was generated anew while it was downloaded: 2021-01-11T17:01:00Z is listed in place of \
         2021-01-11T11:01:00Z; snapshots are never mixed"
    );
    assert_eq!(err.exit_code(), ExitCode::Source);
    world.api.on(LISTING, [first(), listing("2021-01-11T11:01:00Z", &["/c/p", "/c/q"])]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export lists c/q now and did not before");
    assert!(err.is_other_snapshot());
}

#[tokio::test]
async fn a_download_goes_on_by_range() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let first = reply(200, "0123456789").header("etag", "\"e1\"").header("content-md5", md5("0123456789"));
    let rest = reply(206, "456789").header("content-range", "bytes 4-9/10").header("etag", "\"e1\"");
    world.blobs.on("/c/p", [first.cut_at(4), rest]);
    let (_, parts) = world.run(&world.files()).await.unwrap();
    assert_eq!(parts, [part("c/p", "0123456789")]);
    let requests = world.blobs.all_requests();
    assert!(!requests[0].contains("range:"), "{}", requests[0]);
    assert!(requests[1].contains("range: bytes=4-\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("if-match: \"e1\"\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn one_bad_part_leaves_the_others_in_the_spool() {
    let expired = "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code>\
                   <Message>sig=SIGNATURE</Message></Error>";
    let cases: [(Reply, &str, usize); 5] = [
        (reply(403, expired), "403: AuthenticationFailed", 4),
        (reply(200, ""), "the answer is empty", 4),
        (reply(200, "x").header("content-md5", md5("y")), "what came is damaged: Content-MD5 is ", 4),
        (reply(200, "xyz").cut_at(1), "the transfer failed", 4),
        (
            reply(302, "").header("location", "https://evil.example/?sig=SIGNATURE"),
            "redirects to evil.example",
            1,
        ),
    ];
    for (bad, expected, num_attempts) in cases {
        let world = World::new().await;
        world.list(&["/c/bad", "/c/a", "/c/b", "/c/c", "/c/d"]);
        world.blobs.on("/c/bad", [bad]);
        for name in ["a", "b", "c", "d"] {
            world.blobs.on(&format!("/c/{name}"), [reply(200, name)]);
        }
        let err = world.fails(&world.files()).await;
        assert_eq!(err.to_string(), "part c/bad could not be fetched");
        assert_eq!(err.exit_code(), ExitCode::Source);
        let chain = chain(&err);
        assert!(chain.contains(expected), "{chain}");
        assert_eq!(world.blobs.requests("/c/bad").len(), num_attempts, "{expected}");

        world.blobs.on("/c/bad", [reply(200, "bad")]);
        assert_eq!(world.run(&world.files()).await.unwrap().1.len(), 5);
        assert_eq!(world.blobs.requests("/c/d").len(), 1, "was whole");
    }
}

#[tokio::test]
async fn parts_on_other_hosts_are_never_asked_for() {
    let world = World::new().await;
    let body =
        r#"{"exportFiles":["http://evil.example/p?sig=SIGNATURE"],"generatedTime":"2021-01-11T11:01:00Z"}"#;
    world.api.on(LISTING, [reply(200, body)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "part http://evil.example/p is not fetched: only https is allowed");
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert!(err.hint().unwrap().contains("--blob-host"));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    world.blobs.on("/c/p", [reply(200, "x")]);
    let listing = world.api.at(LISTING);
    assert!(listing.ends_with(LISTING));
    let body = serde_json::json!({
        "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-11T11:01:00Z"
    });
    world.api.on(LISTING, [reply(401, ""), reply(200, body.to_string())]);
    world.run(&world.files()).await.unwrap();
    let requests = world.api.requests(LISTING);
    assert!(requests[0].contains("bearer token-1") && requests[1].contains("bearer token-2"), "{requests:?}");

    world.api.on(
        LISTING,
        [reply(
            401,
            r#"{"error":{"code":"Unauthorized","message":"bad TOKEN-9 eyJ.a"}}"#.replace("TOKEN-9 ", ""),
        )],
    );
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("401: Unauthorized: bad …"), "{err}");
    assert_eq!(world.api.requests(LISTING).len(), 4, "one renewal");
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = World::new().await;
    world.api.on(LISTING, [reply(403, r#"{"error":{"code":"Forbidden","message":"no","target":"t-1"}}"#)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("403: Forbidden: no (target t-1)"), "{err}");
    let hint = err.hint().unwrap();
    assert!(hint.contains("Software.Read.All") && hint.contains("Software.Read)"), "{hint}");
    assert_eq!(world.api.requests(LISTING).len(), 1);
}

#[tokio::test]
async fn no_token_is_no_listing() {
    let world = World::new().await;
    world.login.on(
        TOKEN,
        [reply(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}"#,
        )],
    );
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert!(err.to_string().ends_with("/: 401: AADSTS7000215: Invalid client secret provided."), "{err}");

    let mut api = world.api();
    api.credentials.tenant_id = None;
    let route = RouteConfig::Files { api, sas_valid_hours: 6, blob_hosts: vec![] };
    let err = world.fails(&World::config(route)).await;
    assert_eq!(err.exit_code(), ExitCode::NotAuthorised);
    assert_eq!(err.to_string(), "no credentials: AZURE_TENANT_ID not set");
    assert!(world.api.all_requests().is_empty());

    let mut api = world.api();
    api.login_url = Url::parse("http://login.example/").unwrap();
    let route = RouteConfig::Files { api, sas_valid_hours: 6, blob_hosts: vec![] };
    let err = world.fails(&World::config(route)).await;
    assert_eq!(err.exit_code(), ExitCode::Usage);

    world.login.on(TOKEN, [reply(503, ""), reply(503, ""), token("TOKEN-1", 3600)]);
    world.list(&["/c/p"]);
    assert!(Source::plan(&world.files(), dataset(), world.work_dir.path()).await.is_ok());
}

#[tokio::test]
async fn throttling_is_waited_for_or_reported() {
    let world = World::new().await;
    world.list(&["/c/p"]);
    let listing = serde_json::json!({
        "exportFiles": [world.blobs.at("/c/p?sig=SIGNATURE")], "generatedTime": "2021-01-11T11:01:00Z"
    });
    let throttled =
        |secs: &str| reply(429, r#"{"error":{"code":"TooManyRequests"}}"#).header("retry-after", secs);
    world.api.on(LISTING, [throttled("0"), throttled("0"), reply(500, ""), reply(200, listing.to_string())]);
    assert!(Source::plan(&world.files(), dataset(), world.work_dir.path()).await.is_ok());

    world.api.on(LISTING, [throttled("3000")]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::Budget);
    assert!(err.to_string().contains("the call rate is used up until 20"), "{err}");
    let num_calls = world.api.requests(LISTING).len();
    assert_eq!(world.fails(&world.files()).await.exit_code(), ExitCode::Budget);
    assert_eq!(world.api.requests(LISTING).len(), num_calls, "not asked again before that time");

    let world = World::new().await;

    world.api.on(LISTING, [throttled("0")]);
    assert_eq!(world.fails(&world.files()).await.exit_code(), ExitCode::Budget, "no endless waiting");

    world.api.on(LISTING, [reply(503, r#"{"error":{"code":"Busy"}}"#)]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert!(err.to_string().starts_with("gave up after 4 attempts"), "{err}");
}

#[tokio::test]
async fn answers_of_too_many_headers_are_not_read() {
    let world = World::new().await;
    let many = |reply: Reply| (0..5000).fold(reply, |reply, n| reply.header(&format!("x-{n}"), "y"));
    world.api.on(LISTING, [many(reply(200, "{}"))]);
    let err = world.fails(&world.files()).await;
    assert!(chain(&err).contains("the transfer failed"), "{}", chain(&err));
    assert_eq!(err.exit_code(), ExitCode::Source);
}

#[tokio::test]
async fn an_empty_export_and_redirects_end_the_run() {
    let world = World::new().await;
    world.list(&[]);
    let err = world.fails(&world.files()).await;
    assert_eq!(err.to_string(), "the export lists no files; nothing published");
    assert_eq!(err.exit_code(), ExitCode::Source);

    world.api.on(LISTING, [reply(307, "").header("location", world.blobs.at("/x?sig=SIGNATURE"))]);
    let err = world.fails(&world.files()).await;
    assert!(err.to_string().ends_with("307 redirects to 127.0.0.1, which is not followed"), "{err}");
    assert!(world.blobs.all_requests().is_empty());
}

fn skip_token(time_path: &str, index: u32) -> String {
    let json = serde_json::json!({ "ExportDefinition": { "TimePath": time_path }, "ExportFileIndex": index });
    BASE64_STANDARD.encode(json.to_string())
}

fn page(record: &str, next_link: Option<&str>) -> Reply {
    let link = next_link.map(|link| format!(r#","@odata.nextLink":"{link}""#)).unwrap_or_default();
    let date = "Mon, 25 Jan 2021 02:17:31 GMT";
    reply(200, format!(r#"{{"@odata.context":"c","value":["{record}"]{link}}}"#)).header("date", date)
}

#[tokio::test]
async fn pages_are_followed_and_resumed() {
    let world = World::new().await;
    let link = |n| world.api.at(&format!("/api/next{n}?$skiptoken={}", skip_token("2021-01-25/0200/", n)));
    world.api.on(PAGES, [page("a", Some(&link(1)))]);
    world.api.on("/api/next1", [page("b", Some(&link(2))).cut_at(30), page("b", Some(&link(2)))]);
    world.api.on("/api/next2", [page("c", None)]);
    let (export, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!((export.route, export.num_parts), (Route::Json, None));
    assert_eq!(export.snapshot_id().to_string(), "20210125T020000Z");
    assert_eq!(export.generated_time_from, GeneratedTimeFrom::SkipToken);
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["page-00000.json", "page-00001.json", "page-00002.json"]);
    assert!(parts[2].1.contains(r#"["c"]"#));
    assert!(world.api.requests(PAGES)[0].starts_with(&format!("GET {PAGES}?pageSize=2 ")));
    world.assert_no_secret_at_rest();

    let (_, again) = world.run(&world.json()).await.unwrap();
    assert_eq!(again, parts);
    assert_eq!(world.api.requests("/api/next2").len(), 1, "taken over from the spool");
    assert_eq!(world.login.requests(TOKEN).len(), 2, "one token a run");
}

#[tokio::test]
async fn a_single_page_is_of_its_date() {
    let world = World::new().await;
    world.api.on(PAGES, [page("a", None)]);
    let (export, parts) = world.run(&world.json()).await.unwrap();
    assert_eq!(export.snapshot_id().to_string(), "20210125T021731Z");
    assert_eq!(export.generated_time_from, GeneratedTimeFrom::ResponseDate);
    assert_eq!(parts.len(), 1);
    let planned = Source::plan(&world.json(), dataset(), world.work_dir.path()).await.unwrap();
    assert_eq!(planned, export);
}

#[tokio::test]
async fn links_that_lead_astray_are_not_followed() {
    let world = World::new().await;
    let own = |n, time| world.api.at(&format!("/api/next{n}?$skiptoken={}", skip_token(time, n)));
    let now = "2021-01-25/0200/";
    let check = async |expected: &str| {
        let err = world.fails(&world.json()).await;
        assert_eq!(err.exit_code(), ExitCode::Source);
        assert!(err.to_string().contains(expected), "{err}");
    };

    // Another port is another origin: the bearer must not get there.
    let foreign = world.blobs.at(&format!("/api/next1?$skiptoken={}", skip_token(now, 1)));
    world.api.on(PAGES, [page("a", Some(&foreign))]);
    check("not at the API's own origin").await;
    assert!(world.blobs.all_requests().is_empty());

    world.api.on(PAGES, [page("a", Some(&own(1, now)))]);
    world.api.on("/api/next1", [page("b", Some(&own(1, now)))]);
    check("page-00001.json: `@odata.nextLink` was followed before").await;

    world.api.on(PAGES, [page("a", Some(&own(2, now)))]);
    world.api.on("/api/next2", [page("b", Some(&own(3, "2021-01-25/0800/")))]);
    check("page-00001.json is of the snapshot 2021-01-25T08:00:00Z, the pages before it of 2021-01-25T02:00:00Z").await;
    assert!(world.api.requests("/api/next3").is_empty());

    world.api.on(PAGES, [page("a", Some("/api/relative"))]);
    check("no absolute url").await;

    world.api.on(PAGES, [reply(200, r#"{"error":{"code":"x"}}"#)]);
    check("it has no `value`").await;

    world.api.on(PAGES, [reply(200, r#"{"value":["#)]);
    check("gave up after 4 attempts").await;
    let left = std::fs::read_dir(world.work_dir.path().join("software_inventory")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with("incoming")), "{left:?}");
}

#[tokio::test]
async fn a_receiver_that_leaves_ends_the_delivery() {
    let world = World::new().await;
    world.list(&["/c/a", "/c/b", "/c/c"]);
    for name in ["/c/a", "/c/b", "/c/c"] {
        world.blobs.on(name, [reply(200, "x")]);
    }
    let (_, source) = Source::open(&world.files(), dataset(), world.work_dir.path()).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    source.deliver(sender, Arc::default()).await.unwrap();
}

/// A delivery of parts `a`, `b` and `c`, one download at a time, that nobody has looked at yet.
struct Out {
    world: World,
    delivery: tokio::task::JoinHandle<Result<(), SourceError>>,
    parts: Vec<StoredPart>,
    receiver: mpsc::Receiver<StoredPart>,
    progress: Arc<FetchProgress>,
}

impl Out {
    async fn new() -> Self {
        let world = World::new().await;
        world.list(&["/c/a", "/c/b", "/c/c"]);
        for name in ["/c/a", "/c/b", "/c/c"] {
            world.blobs.on(name, [reply(200, name)]);
        }
        let mut config = world.files();
        config.downloads = NonZeroUsize::MIN;
        let (_, source) = Source::open(&config, dataset(), world.work_dir.path()).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let progress = Arc::new(FetchProgress::default());
        let delivery = tokio::spawn(source.deliver(sender, progress.clone()));
        let mut parts = Vec::new();
        while parts.len() < 3 {
            parts.push(receiver.recv().await.unwrap());
        }
        parts.sort_by_key(|part| part.index);
        Self { world, delivery, parts, receiver, progress }
    }
}

fn damage() -> std::io::Error {
    std::io::Error::other("no gzip")
}

#[tokio::test]
async fn parts_that_are_out_hold_no_download_and_may_come_back() {
    let Out { world, delivery, mut parts, mut receiver, progress } = Out::new().await;
    assert!(!delivery.is_finished(), "any of them may come back");
    assert!(parts.remove(1).reject(&damage()));
    drop(parts);
    let again = receiver.recv().await.unwrap();
    assert_eq!(again.name, "c/b");
    assert_eq!(std::io::read_to_string(again.open().unwrap()).unwrap(), "/c/b");
    drop(again);
    assert!(receiver.recv().await.is_none());
    delivery.await.unwrap().unwrap();
    let num_requests = ["/c/a", "/c/b", "/c/c"].map(|path| world.blobs.requests(path).len());
    assert_eq!(num_requests, [1, 2, 1]);
    let FetchProgress { bytes, parts } = &*progress;
    assert_eq!((bytes.load(Ordering::Relaxed), parts.load(Ordering::Relaxed)), (12, 3));
}

#[tokio::test]
async fn a_part_that_comes_back_for_ever_is_given_up() {
    let Out { world, delivery, parts, mut receiver, .. } = Out::new().await;
    for part in parts {
        assert!(part.reject(&damage()));
    }
    let mut num_deliveries = 3;
    while let Some(part) = receiver.recv().await {
        num_deliveries += 1;
        if part.name != "c/c" {
            assert!(part.reject(&damage()));
        }
    }
    assert_eq!(num_deliveries, 4 + 4 + 2, "four attempts at each of two, and two at the third");
    let err = delivery.await.unwrap().unwrap_err();
    assert_eq!(err.to_string(), "part c/a could not be fetched, nor one other");
    let chain = chain(&err);
    assert!(chain.contains(": gave up after 4 attempts in "), "{chain}");
    assert!(chain.ends_with("/c/a: what came is damaged: no gzip"), "{chain}");
    assert_eq!(err.exit_code(), ExitCode::Source);
    assert_eq!(world.blobs.requests("/c/c").len(), 2);
}

#[tokio::test]
async fn a_part_that_is_out_when_the_run_is_cancelled_holds_nothing_up() {
    let Out { delivery, mut parts, receiver, .. } = Out::new().await;
    delivery.abort();
    assert!(delivery.await.unwrap_err().is_cancelled());
    assert!(!parts.remove(0).reject(&damage()), "nobody fetches it");
    drop((parts, receiver));
}

#[tokio::test]
async fn a_part_of_an_earlier_run_is_held_against_the_servers_md5() {
    let world = World::new().await;
    world.list(&["/c/a", "/c/b"]);
    world.blobs.on("/c/a", [reply(200, "A").header("content-md5", md5("a")), reply(200, "a")]);
    world.blobs.on("/c/b", [reply(200, "b").header("content-md5", md5("b"))]);
    let (_, source) = Source::open(&world.files(), dataset(), world.work_dir.path()).await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let delivery = tokio::spawn(source.deliver(sender, Arc::default()));
    // Ends before anybody looks at them.
    let parts = [receiver.recv().await.unwrap(), receiver.recv().await.unwrap()];
    delivery.abort();
    assert!(delivery.await.is_err());
    drop((parts, receiver));

    assert_eq!(world.run(&world.files()).await.unwrap().1, [part("c/a", "a"), part("c/b", "b")]);
    assert_eq!(world.blobs.requests("/c/a").len(), 2);
    assert_eq!(world.blobs.requests("/c/b").len(), 1, "was whole");
}

#[tokio::test]
async fn a_page_goes_to_the_disk_as_it_comes() {
    const SENT: usize = 6 << 20;
    let world = World::new().await;
    world.api.on(PAGES, [reply(200, format!(r#"{{"value":["{}"]}}"#, "x".repeat(SENT))).stalls_at(SENT)]);
    let mut config = world.json();
    config.min_throughput.window = Duration::from_mins(1);
    let work_dir = world.work_dir.path().to_owned();
    let opening = tokio::spawn(async move { Source::open(&config, dataset(), &work_dir).await.is_ok() });
    let folder = world.work_dir.path().join("software_inventory");
    let at_rest = || {
        let files = std::fs::read_dir(&folder).into_iter().flatten();
        files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap_or(0)
    };
    // The end of the page never comes; what did is with the disk, but for the last batch.
    while at_rest() < SENT as u64 - (1 << 20) {
        assert!(!opening.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    opening.abort();
}

#[tokio::test]
async fn the_spool_goes_when_it_is_removed() {
    let world = World::new().await;
    world.list(&["/c/a"]);
    world.blobs.on("/c/a", [reply(200, "x")]);
    let (_, source) = Source::open(&world.files(), dataset(), world.work_dir.path()).await.unwrap();
    let spool = source.spool().unwrap();
    deliver(source).await.unwrap();
    assert_eq!(std::fs::read_dir(spool.dir()).unwrap().count(), 2);
    spool.remove().unwrap();
    assert_eq!(std::fs::read_dir(world.work_dir.path().join("software_inventory")).unwrap().count(), 0);
}
