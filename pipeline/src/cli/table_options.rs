//! The options that select a lake and a table in it.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use schema::Dataset;

use super::command_error::CommandResult;
use super::output::say;
use super::usage_error::{ConfigError, invalid};
use crate::environment;
use crate::exit_code::ExitCode;
use crate::ingest::DatasetChoice;
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

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct TablesOptions {
    /// Read this lake: a path or URL [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    pub(super) lake: Option<String>,
    /// Select the table by its dataset, or every table that the lake holds [default: software-inventory]
    #[arg(long, value_name = "NAME|all")]
    pub(super) dataset: Option<String>,
}

impl TablesOptions {
    pub(super) fn open(&self) -> CommandResult<Tables> {
        let lake = open_lake(self.lake.as_deref())?;
        let tables = tables(&lake, self.dataset.as_deref())?;
        Ok(Tables { tables, is_all: self.dataset.as_deref() == Some(ALL) })
    }
}

/// Returns the table of a dataset, or every table that the lake holds.
pub(super) fn tables(lake: &Lake, dataset: Option<&str>) -> CommandResult<Vec<Table>> {
    if dataset == Some(ALL) {
        return Ok(lake.datasets()?.into_iter().map(|dataset| lake.table(dataset)).collect());
    }
    Ok(vec![lake.table(find_dataset(dataset)?)])
}

/// The tables that a command is about.
pub(super) struct Tables {
    tables: Vec<Table>,
    /// Whether they are all that the lake holds: what is printed then says which one it is about.
    is_all: bool,
}

impl Tables {
    /// Runs `task` on each table, as [`Tables::each`] does.
    pub(super) fn for_each<'t>(
        &'t self,
        mut task: impl FnMut(&'t Table) -> CommandResult<()>,
    ) -> CommandResult {
        self.each(self.tables.iter().map(|table| (table, ())), |table, ()| task(table))
    }

    /// Runs `task` on tables, each with something of it. Of all tables, one that fails does not stop the others: its error
    /// is printed, and the exit code is that of the first. An interruption ends them all.
    pub(super) fn each<'t, T>(
        &self,
        items: impl IntoIterator<Item = (&'t Table, T)>,
        mut task: impl FnMut(&'t Table, T) -> CommandResult<()>,
    ) -> CommandResult {
        let mut code = ExitCode::Success;
        for (table, item) in items {
            let error = match task(table, item) {
                Ok(()) => continue,
                Err(error) if self.is_all => error,
                Err(error) => return Err(error),
            };
            say("error", &format!("{}: {error}", table.dataset().name));
            if error.exit_code() == ExitCode::Interrupted {
                return Ok(ExitCode::Interrupted);
            }
            if code == ExitCode::Success {
                code = error.exit_code();
            }
        }
        Ok(code)
    }

    /// Whether they are all that the lake holds.
    pub(super) fn is_all(&self) -> bool {
        self.is_all
    }

    /// Returns a heading for what is printed about one of all tables, and nothing for the only one.
    pub(super) fn heading(&self, table: &Table) -> String {
        if self.is_all { format!("{}\n", table.dataset().name) } else { String::new() }
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
    Dataset::find(name.unwrap_or(DEFAULT_DATASET)).ok_or_else(|| unknown_dataset("one of"))
}

/// Returns the datasets that `--dataset` names, each once, in the order given; or all.
///
/// # Errors
///
/// A name is unknown, or there is none.
pub(super) fn parse_datasets(names: Option<&str>) -> Result<DatasetChoice, ConfigError> {
    let names = names.unwrap_or(DEFAULT_DATASET);
    if names.trim() == ALL {
        return Ok(DatasetChoice::All);
    }
    let mut datasets: Vec<&'static Dataset> = Vec::new();
    for name in names.split(',') {
        let dataset = Dataset::find(name.trim()).ok_or_else(|| unknown_dataset("all or some of"))?;
        if !datasets.iter().any(|known| known.name == dataset.name) {
            datasets.push(dataset);
        }
    }
    Ok(DatasetChoice::Named(datasets))
}

fn unknown_dataset(number: &str) -> ConfigError {
    let known: Vec<_> = schema::DATASETS.iter().map(|dataset| dataset.cli_name()).collect();
    invalid("--dataset", format!("unknown dataset, expected {number}: {}", known.join(", ")))
}

const DEFAULT_DATASET: &str = "software-inventory";

/// The value of `--dataset` that takes every dataset.
const ALL: &str = "all";

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
