//! The options that select a lake and a table in it.

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
    /// Read this lake: a path or URL [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    pub(super) lake: Option<String>,
    /// Select the table by its dataset [default: software-inventory]
    #[arg(long, value_name = "NAME")]
    pub(super) dataset: Option<String>,
}

impl TableOptions {
    pub(super) fn open(&self) -> CommandResult<Table> {
        let dataset = find_dataset(self.dataset.as_deref())?;
        Ok(open_lake(self.lake.as_deref())?.table(dataset))
    }
}

/// Opens the lake that `--lake` names, else that of the environment, else the default.
pub(super) fn open_lake(lake: Option<&str>) -> CommandResult<Lake> {
    let lake = Lake::open(lake_or_default(lake))?;
    let work_dir = default_work_dir().unwrap_or_else(|_| environment::temp_dir());
    Ok(lake.with_work_dir(&work_dir))
}

/// Returns the dataset that `--dataset` names, with `-` or `_`.
///
/// # Errors
///
/// The name is unknown.
pub(super) fn find_dataset(name: Option<&str>) -> Result<&'static Dataset, ConfigError> {
    let name = name.unwrap_or("software-inventory");
    Dataset::find(name).ok_or_else(|| {
        let known: Vec<_> = schema::DATASETS.iter().map(|dataset| dataset.cli_name()).collect();
        invalid("--dataset", format!("unknown dataset, expected one of: {}", known.join(", ")))
    })
}

/// The variable that `--lake` defaults to.
pub(super) const LAKE_VARIABLE: &str = "DEFENDER_LAKE";

pub(super) const DEFAULT_LAKE: &str = "./lake";

/// Returns the lake that `--lake` names, else that of the environment, else the default.
pub(super) fn lake_or_default(lake: Option<&str>) -> String {
    lake.map(str::to_owned)
        .or_else(|| environment::variable(LAKE_VARIABLE))
        .unwrap_or_else(|| DEFAULT_LAKE.to_owned())
}

/// Returns `defender-lake` in the XDG cache folder.
pub(super) fn default_work_dir() -> Result<PathBuf, ConfigError> {
    let folders = etcetera::base_strategy::choose_base_strategy()
        .map_err(|_| invalid("--work-dir", "required: this user has no home folder for a cache"))?;
    Ok(folders.cache_dir().join("defender-lake"))
}
