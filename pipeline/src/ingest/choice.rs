//! Which datasets a run takes: those that were named, or all that the token permits.

use std::collections::BTreeMap;

use schema::{DATASETS, Dataset};
use tokio::runtime::Runtime;

use super::config::DatasetChoice;
use super::context::wait;
use super::error::IngestError;
use super::taken::TakenDataset;
use crate::cancel::Cancel;
use crate::report::RunOutcome;
use crate::source::Sources;

/// A dataset that was chosen.
pub(super) struct Chosen {
    pub(super) dataset: &'static Dataset,
    /// What to do about its missing permission, if it is not to be taken.
    pub(super) lacks: Option<String>,
}

/// Signs in and returns the datasets in the order in which they are taken.
pub(super) fn choose(
    choice: &DatasetChoice,
    sources: &Sources<'_>,
    runtime: &Runtime,
    cancel: &Cancel,
) -> Result<Vec<Chosen>, IngestError> {
    let named = match choice {
        DatasetChoice::Named(datasets) => {
            for dataset in datasets {
                sources.route_of(dataset)?;
            }
            Some(datasets)
        }
        DatasetChoice::All => None,
    };
    let claims = wait(runtime, cancel, sources.sign_in())??;
    if let Some(datasets) = named {
        return Ok(datasets.iter().map(|dataset| Chosen { dataset, lacks: None }).collect());
    }
    let (with_route, without): (Vec<_>, Vec<_>) =
        DATASETS.iter().copied().partition(|dataset| sources.route_of(dataset).is_ok());
    if !without.is_empty() {
        let datasets = without.iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", ");
        tracing::info!(datasets, "left out: not on the route of --via");
    }
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let chosen = with_route.into_iter().map(|dataset| {
        // If the token cannot be read, the service tells.
        let claims = claims.as_ref().filter(|claims| !claims.permits(&dataset.permission));
        if claims.is_some() {
            lacking.entry(dataset.permission.application).or_default().push(dataset.name);
        }
        Chosen { dataset, lacks: claims.map(|claims| claims.explain(FORBIDDEN, &dataset.permission)) }
    });
    let chosen = chosen.collect();
    for (permission, datasets) in lacking {
        tracing::info!(
            datasets = datasets.join(", "),
            permission,
            "left out: the token lacks the permission"
        );
    }
    Ok(chosen)
}

/// The status with which the service refuses a call without its permission.
const FORBIDDEN: u16 = 403;

/// Fails if every dataset ended as not permitted.
pub(super) fn check_any_permitted(taken: &[TakenDataset]) -> Result<(), IngestError> {
    let missing = |taken: &TakenDataset| match &taken.result {
        Ok(report) if report.outcome == RunOutcome::NotPermitted => report.hint().map(str::to_owned),
        _ => None,
    };
    let hints: Option<Vec<_>> = taken.iter().map(missing).collect();
    match hints.and_then(|hints| hints.into_iter().next()) {
        Some(hint) => Err(IngestError::NonePermitted { hint }),
        None => Ok(()),
    }
}
