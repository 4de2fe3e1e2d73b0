//! What to read and how: the route, and the bounds of requests and retries.

use std::{num::NonZeroUsize, path::Path};

use chrono::{DateTime, Utc};
use schema::Dataset;

use super::SourceError;
use crate::fetch::api::{ApiClient, ApiConfig, BudgetConfig};
use crate::fetch::budget::{CallRate, Keeping};
use crate::fetch::{MinThroughput, RetryPolicy};
use crate::http::is_loopback;
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

impl SourceConfig {
    /// Returns the client of the dataset's call for `route`, at the documented rate of that call.
    pub(super) fn client(
        &self,
        api: &ApiConfig,
        dataset: &'static Dataset,
        route: Route,
        work_dir: &Path,
        keeping: Keeping,
    ) -> Result<ApiClient, SourceError> {
        let (path, documented_rate) = match route {
            Route::Files => (dataset.routes.files, CallRate::LISTINGS),
            Route::Json => (dataset.routes.json, CallRate::PAGES),
            Route::Local => (None, CallRate::UNLIMITED),
        };
        let path = path.ok_or(SourceError::NoRoute { dataset: dataset.name, route })?;
        let is_unlimited = self.unlimited_calls && is_loopback(&api.api_url);
        let rate = if is_unlimited { CallRate::UNLIMITED } else { documented_rate };
        let budget = BudgetConfig { work_dir, path, rate, keeping };
        Ok(ApiClient::try_new(api, self.api_retry, &dataset.permission, budget)?)
    }
}

/// The three routes.
#[derive(Debug, Clone)]
pub enum RouteConfig {
    /// Signed download URLs of the files export.
    Files {
        /// The API.
        api: ApiConfig,
        /// Lifetime to ask for.
        sas_valid_hours: u8,
        /// Suffixes of the hosts that parts may be fetched from.
        blob_hosts: Vec<String>,
    },
    /// Pages of the JSON API.
    Json {
        /// The API.
        api: ApiConfig,
        /// Records to ask for on a page.
        page_size: u32,
    },
    /// Files on this machine.
    Local {
        /// Files, folders and globs.
        patterns: Vec<String>,
        /// The snapshot's time; `None` to read it from the paths.
        generated_time: Option<DateTime<Utc>>,
    },
}
