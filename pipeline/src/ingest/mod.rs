//! Runs an ingest: takes an [`IngestConfig`], takes its datasets one after the other and returns how each ended. The only
//! module that knows all stages.
//!
//! Each dataset is published or not by itself: lists its export, decides whether to publish it, runs the stages on threads,
//! and starts over if the service has a new snapshot or a part was damaged. Moves parts, batches and files without looking
//! inside them.

mod config;
mod max_rejects;
mod generated_time;
mod time_problem;
mod choice;
mod context;
mod start_over;
mod portion_job;
mod written_portion;
mod workers;
mod portion;
mod assemble;
pub mod cluster;
mod publish;
mod rounds;
mod taken;
mod error;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;

pub use self::config::{DatasetChoice, IfPublished, IngestConfig, MIN_MEMORY_BYTES};
pub use self::error::IngestError;
pub use self::generated_time::is_year_of_four_digits;
pub use self::max_rejects::MaxRejects;
pub use self::taken::{Position, RunEvent, TakenDataset, exit_code};
pub use self::time_problem::TimeProblem;

use self::choice::{Chosen, check_any_permitted, choose};
use self::cluster::Cluster;
use self::context::Session;
use self::rounds::take;
use crate::cancel::Cancel;
use crate::lake::Lake;
use crate::panics;
use crate::progress::Progress;
use crate::report::RunReport;
use crate::source::Sources;

/// Runs an ingest of one or several datasets. `observe` is told when each begins and how it ended. One that fails does not
/// stop the others; a request to end the run does.
///
/// # Errors
///
/// [`IngestError`], before any dataset was taken: of options that do not fit the datasets, or without a token. If the token
/// permits none of [`DatasetChoice::All`].
pub fn ingest(
    config: &IngestConfig,
    runtime: &Runtime,
    cancel: &Cancel,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Vec<TakenDataset>, IngestError> {
    ingest_on(None, config, runtime, cancel, observe)
}

/// Runs an ingest whose parts are read by the tasks of a cluster, if there is one; see [`cluster`]. Pages of the JSON route are
/// read on this machine all the same, as each names the next.
///
/// # Errors
///
/// As [`ingest`], and [`IngestError::NotOnCluster`].
pub fn ingest_on(
    cluster: Option<&dyn Cluster>,
    config: &IngestConfig,
    runtime: &Runtime,
    cancel: &Cancel,
    observe: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Vec<TakenDataset>, IngestError> {
    if cluster.is_some() && config.keep_parts {
        return Err(IngestError::NotOnCluster { option: "--keep-parts" });
    }
    Lake::open(&config.lake)?;
    let sources = Sources::try_new(&config.source, &config.work_dir)?;
    let chosen = choose(&config.datasets, &sources, runtime, cancel)?;
    let num_datasets = chosen.iter().filter(|chosen| chosen.lacks.is_none()).count();
    let mut number = 0;
    let mut taken = Vec::new();
    for Chosen { dataset, lacks } in chosen {
        let started = Instant::now();
        let result = if let Some(hint) = lacks {
            Ok(RunReport::not_permitted(&config.lake, dataset, hint))
        } else {
            number += 1;
            let progress = Arc::new(Progress::default());
            let position = Position { dataset: dataset.name, number, num_datasets };
            if config.datasets.is_several() {
                tracing::info!(dataset = dataset.name, number, num_datasets, "taking dataset");
            }
            observe(RunEvent::Begins { position, progress: &progress });
            let session =
                Session { config, sources: &sources, dataset, runtime, progress: &progress, cancel, cluster };
            let result = panics::catch(|| take(&session)).unwrap_or_else(|panicked| Err(panicked.into()));
            // An error after a panic is a consequence of the panic.
            match (result, panics::take_recorded()) {
                (Err(_), Some(panicked)) => Err(panicked.into()),
                (result, _) => result,
            }
        };
        let ended = TakenDataset { dataset, result, elapsed: started.elapsed() };
        observe(RunEvent::Ends(&ended));
        let is_interrupted = matches!(ended.result, Err(IngestError::Interrupted));
        taken.push(ended);
        if is_interrupted {
            break;
        }
    }
    check_any_permitted(&taken)?;
    Ok(taken)
}
