//! Sources against a scripted service on loopback.

mod downloads;
mod listings;
mod local;
mod pages;
mod proofs;
mod redelivery;
mod server;
mod sign_in;

use self::server::{Reply, TestServer, reply};
use super::*;
use crate::auth::{AuthMethod, Credentials};
use crate::exit_code::{Diagnostic, ExitCode};
use crate::fetch::api::ApiConfig;
use crate::fetch::{MinThroughput, RetryPolicy};
use crate::http::Secret;
use crate::manifest::{GeneratedTimeFrom, Proof, Route};
use base64::prelude::*;
use chrono::Utc;
use schema::Dataset;
use std::{num::NonZeroUsize, path::Path, sync::atomic::Ordering, time::Duration};
use tokio::sync::mpsc;
use url::Url;

const LISTING: &str = "/api/machines/SoftwareInventoryExport";
const PAGES: &str = "/api/machines/SoftwareInventoryByMachine";
const TOKEN: &str = "/tenant-1/oauth2/v2.0/token";
const SECRETS: [&str; 3] = ["hunter2", "TOKEN-", "SIGNATURE"];

fn dataset() -> &'static Dataset {
    Dataset::find("software-inventory").unwrap()
}

fn sources<'c>(config: &'c SourceConfig, work_dir: &'c Path) -> Sources<'c> {
    Sources::try_new(config, work_dir).unwrap()
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

    fn service(api: ApiConfig, via: Option<ApiRoute>) -> RouteConfig {
        RouteConfig::Service(Box::new(ServiceConfig {
            api,
            via,
            sas_valid_hours: 6,
            blob_hosts: vec![],
            page_size: 2,
        }))
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
        Self::config(Self::service(self.api(), None))
    }

    fn json(&self) -> SourceConfig {
        Self::config(Self::service(self.api(), Some(ApiRoute::Json)))
    }

    /// What the parts of a run were proved by.
    async fn proofs(&self, config: &SourceConfig) -> Result<Vec<Proof>, SourceError> {
        let (_, source) = Sources::try_new(config, self.work_dir.path())?.open(dataset()).await?;
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
        let (export, source) = Sources::try_new(config, self.work_dir.path())?.open(dataset()).await?;
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

fn page(record: &str, next_link: Option<&str>) -> Reply {
    let link = next_link.map(|link| format!(r#","@odata.nextLink":"{link}""#)).unwrap_or_default();
    let date = "Mon, 25 Jan 2021 02:17:31 GMT";
    reply(200, format!(r#"{{"@odata.context":"c","value":["{record}"]{link}}}"#)).header("date", date)
}
