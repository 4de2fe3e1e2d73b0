//! What to read and how: the route, and the bounds of requests and retries.

use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};
use schema::{Dataset, Routes};

use super::SourceError;
use crate::fetch::api::ApiConfig;
use crate::fetch::{MinThroughput, RetryPolicy};
use crate::manifest::Route;

/// What to read, from which route and within which bounds.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The route.
    pub route: RouteConfig,
    /// Parts that are downloaded at the same time.
    pub downloads: NonZeroUsize,
    /// Bounds of the retries of API calls.
    pub api_retry: RetryPolicy,
    /// Bounds of the retries of parts and pages.
    pub part_retry: RetryPolicy,
    /// Slower transfers have stalled.
    pub min_throughput: MinThroughput,
    /// Whether the rate limits of the service are ignored for an API on this machine, which is an emulator.
    pub unlimited_calls: bool,
}

/// The bounds of downloads.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct DownloadBounds {
    /// Parts that are downloaded at the same time.
    pub downloads: NonZeroUsize,
    /// Bounds of the retries of a part.
    pub retry: RetryPolicy,
    /// Slower transfers have stalled.
    pub min_throughput: MinThroughput,
}

impl DownloadBounds {
    /// Returns the bounds of a source.
    pub fn of(config: &SourceConfig) -> Self {
        let SourceConfig { downloads, part_retry, min_throughput, .. } = *config;
        Self { downloads, retry: part_retry, min_throughput }
    }
}

/// Where parts come from.
#[derive(Debug, Clone)]
pub enum RouteConfig {
    /// The service.
    Service(Box<ServiceConfig>),
    /// Files on this machine.
    Local {
        /// Files, folders and globs.
        patterns: Vec<String>,
        /// The snapshot's time; `None` to read it from the paths.
        generated_time: Option<DateTime<Utc>>,
    },
}

/// How to call the service.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The API.
    pub api: ApiConfig,
    /// The route; `None` for files wherever a dataset has them, else JSON.
    pub via: Option<ApiRoute>,
    /// Lifetime to ask for, of the files route's download URLs.
    pub sas_valid_hours: u8,
    /// Suffixes of the hosts that parts may be fetched from.
    pub blob_hosts: Vec<String>,
    /// Records to ask for on a page of the JSON route.
    pub page_size: u32,
}

/// A route of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiRoute {
    /// Signed download URLs of the files export.
    Files,
    /// Pages of the JSON API.
    Json,
}

impl From<ApiRoute> for Route {
    fn from(route: ApiRoute) -> Self {
        match route {
            ApiRoute::Files => Self::Files,
            ApiRoute::Json => Self::Json,
        }
    }
}

impl ServiceConfig {
    /// Returns the route that a dataset is taken by, and the path of its call.
    ///
    /// # Errors
    ///
    /// Fails if the dataset lacks the route that is asked for.
    pub fn route_of(&self, dataset: &'static Dataset) -> Result<(ApiRoute, &'static str), SourceError> {
        let Routes { files, json } = dataset.routes;
        let files = files.map(|path| (ApiRoute::Files, path));
        let json = json.map(|path| (ApiRoute::Json, path));
        let found = match self.via {
            Some(ApiRoute::Files) => files,
            Some(ApiRoute::Json) => json,
            None => files.or(json),
        };
        let wanted = self.via.unwrap_or(ApiRoute::Files);
        found.ok_or(SourceError::NoRoute { dataset: dataset.name, route: wanted.into() })
    }
}
