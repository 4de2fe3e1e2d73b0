//! The exports of a run's datasets: takes a [`SourceConfig`] and gives the [`Source`] of each dataset. All have one token,
//! which is asked for once and renewed when it runs out, and each call has a rate of its own.

use std::{path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use schema::Dataset;

use super::{
    ApiRoute, Export, FilesExport, JsonPages, LocalFiles, RouteConfig, ServiceConfig, Source, SourceConfig,
    SourceError, files_export,
};
use crate::auth::{TokenClaims, Tokens};
use crate::fetch::api::{ApiClient, BudgetConfig, sign_in};
use crate::fetch::budget::{CallRate, Keeping};
use crate::http::is_loopback;
use crate::manifest::Route;
use crate::spool::Spool;

/// The sources of a run.
#[derive(Debug)]
pub struct Sources<'c> {
    config: &'c SourceConfig,
    work_dir: &'c Path,
    place: Place<'c>,
}

/// Where parts come from, and what its sources share.
#[derive(Debug)]
enum Place<'c> {
    Service(&'c ServiceConfig, Arc<Tokens>),
    Local { patterns: &'c [String], generated_time: Option<DateTime<Utc>> },
}

impl<'c> Sources<'c> {
    /// Prepares the sources. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Fails if secrets would be sent unencrypted to the API or the authority.
    pub fn try_new(config: &'c SourceConfig, work_dir: &'c Path) -> Result<Self, SourceError> {
        let place = match &config.route {
            RouteConfig::Service(service) => Place::Service(service, Arc::new(service.api.tokens()?)),
            RouteConfig::Local { patterns, generated_time } => {
                Place::Local { patterns, generated_time: *generated_time }
            }
        };
        Ok(Self { config, work_dir, place })
    }

    /// Signs in, unless the parts are on this machine, and returns the claims of the token if they can be read.
    ///
    /// # Errors
    ///
    /// Fails if no token can be obtained.
    pub async fn sign_in(&self) -> Result<Option<TokenClaims>, SourceError> {
        let Place::Service(_, tokens) = &self.place else { return Ok(None) };
        let token = sign_in(tokens, &mut self.config.api_retry.start()).await?;
        Ok(TokenClaims::read(&token))
    }

    /// Returns the route that a dataset is taken by.
    ///
    /// # Errors
    ///
    /// Fails if the dataset lacks the route that is asked for.
    pub fn route_of(&self, dataset: &'static Dataset) -> Result<Route, SourceError> {
        match &self.place {
            Place::Service(service, _) => Ok(service.route_of(dataset)?.0.into()),
            Place::Local { .. } => Ok(Route::Local),
        }
    }

    /// Lists the export: which snapshot it is, and whether it is complete. Makes one API call, retries aside.
    /// The JSON route's first page goes into the spool, and so does what local pipes give. Waits while another
    /// run uses the same spool, and until the pipes' writers have closed them.
    ///
    /// # Errors
    ///
    /// Fails if the export cannot be listed or has no parts.
    ///
    /// # Panics
    ///
    /// Never: a listing that is recorded has a source.
    pub async fn open(&self, dataset: &'static Dataset) -> Result<(Export, Source), SourceError> {
        let (export, source) = self.list(dataset, Keeping::Recorded).await?;
        Ok((export, source.expect("a listing that is recorded can be delivered")))
    }

    /// Lists the export without writing anything, for a dry run.
    ///
    /// # Errors
    ///
    /// As [`Sources::open`].
    pub async fn plan(&self, dataset: &'static Dataset) -> Result<Export, SourceError> {
        Ok(self.list(dataset, Keeping::ReadOnly).await?.0)
    }

    /// Lists the export. The source is `None` with [`Keeping::ReadOnly`].
    async fn list(
        &self,
        dataset: &'static Dataset,
        keeping: Keeping,
    ) -> Result<(Export, Option<Source>), SourceError> {
        let kept_in = (keeping == Keeping::Recorded).then_some(self.work_dir);
        let (service, tokens) = match &self.place {
            Place::Service(service, tokens) => (service, tokens),
            Place::Local { patterns, generated_time } => {
                let listed = LocalFiles::list(patterns.to_vec(), *generated_time, dataset.name, kept_in);
                let (export, files) = listed.await?;
                return Ok((export, files.map(Source::Local)));
            }
        };
        let config = self.config;
        let (route, path) = service.route_of(dataset)?;
        let documented_rate = match route {
            ApiRoute::Files => CallRate::LISTINGS,
            ApiRoute::Json => CallRate::PAGES,
        };
        let is_unlimited = config.unlimited_calls && is_loopback(&service.api.api_url);
        let rate = if is_unlimited { CallRate::UNLIMITED } else { documented_rate };
        let budget = BudgetConfig { work_dir: self.work_dir, path, rate, keeping };
        let tokens = Arc::clone(tokens);
        let client = ApiClient::try_new(&service.api, tokens, config.api_retry, &dataset.permission, budget)?;
        match route {
            ApiRoute::Files => {
                let files = files_export::list(client, service.sas_valid_hours, &service.blob_hosts).await?;
                let (export, lister, listing) = files;
                let Some(work_dir) = kept_in else { return Ok((export, None)) };
                let spool = Spool::open(work_dir, dataset.name, export.snapshot_id()).await?;
                let files = FilesExport::try_new(config, lister, listing, spool)?;
                Ok((export, Some(Source::Files(files))))
            }
            ApiRoute::Json => {
                let listed =
                    JsonPages::list(config, client, service.page_size, dataset.name, kept_in).await?;
                let (export, pages) = listed;
                Ok((export, pages.map(|pages| Source::Json(Box::new(pages)))))
            }
        }
    }
}
