//! Which lake, and which table in it.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use schema::Dataset;

use super::command_error::CommandResult;
use super::usage_error::{ConfigError, invalid};
use crate::environment;
use crate::lake::{Lake, Table};

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct TableOptions {
    /// Where the tables live [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    pub(super) lake: Option<String>,
    /// Which table [default: software-inventory]
    #[arg(long, value_name = "NAME")]
    pub(super) dataset: Option<String>,
}

impl TableOptions {
    pub(super) fn open(&self) -> CommandResult<Table> {
        let dataset = find_dataset(self.dataset.as_deref())?;
        let lake = Lake::open(lake_or_default(self.lake.as_deref()))?;
        let work_dir = default_work_dir().unwrap_or_else(|_| environment::temp_dir());
        Ok(lake.with_work_dir(&work_dir).table(dataset))
    }
}

/// Finds the dataset that `--dataset` names, with `-` or `_`.
///
/// # Errors
///
/// There is none of that name.
pub(super) fn find_dataset(name: Option<&str>) -> Result<&'static Dataset, ConfigError> {
    let name = name.unwrap_or("software-inventory");
    Dataset::find(name).ok_or_else(|| {
        let known: Vec<_> = schema::DATASETS.iter().map(|dataset| dataset.cli_name()).collect();
        invalid("--dataset", format!("there is no dataset of that name; known: {}", known.join(", ")))
    })
}

/// The variable that says where the lake is.
pub(super) const LAKE_VARIABLE: &str = "DEFENDER_LAKE";

pub(super) const DEFAULT_LAKE: &str = "./lake";

/// The lake that `--lake` names, else the environment.
pub(super) fn lake_or_default(lake: Option<&str>) -> String {
    lake.map(str::to_owned)
        .or_else(|| environment::variable(LAKE_VARIABLE))
        .unwrap_or_else(|| DEFAULT_LAKE.to_owned())
}

/// `defender-lake` in the XDG cache folder.
pub(super) fn default_work_dir() -> Result<PathBuf, ConfigError> {
    let folders = etcetera::base_strategy::choose_base_strategy().map_err(|_| {
        invalid("--work-dir", "must be given: this user has no home folder to keep a cache in")
    })?;
    Ok(folders.cache_dir().join("defender-lake"))
}
