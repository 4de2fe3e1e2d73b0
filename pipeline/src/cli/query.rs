//! The options of `query`, in every build.

use std::path::PathBuf;

use clap::ValueEnum;

use super::history::MemoryOption;
#[cfg(feature = "query")]
use crate::history::output::OutputFormat;

/// The end of `--help`.
pub(super) const ENGINE: &str = if cfg!(feature = "query") {
    "Only the files and columns that the query needs are read; conditions on partition columns leave out files."
} else {
    "This build has no SQL engine: query prints how to get one, and how to ask DuckDB instead."
};

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "doc comments are the help, as it is printed")]
pub(super) struct QueryOptions {
    /// SQL to run; tables are named as `defender-lake schema` names them
    pub(super) sql: String,
    /// Read this lake: a path or URL [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL")]
    pub(super) lake: Option<String>,
    /// Set the output format [default: table, or by the extension of --out]
    #[arg(long, value_enum)]
    format: Option<QueryFormat>,
    /// Write the result to a file
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) memory: MemoryOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum QueryFormat {
    /// The first 100 rows as a table
    Table,
    /// CSV with a header
    Csv,
    /// One JSON object per line
    Json,
    /// Parquet
    Parquet,
}

#[cfg(feature = "query")]
impl QueryOptions {
    /// The format of the answer, if it is not a table for people.
    pub(super) fn output_format(&self) -> Option<OutputFormat> {
        match self.format? {
            QueryFormat::Table => None,
            QueryFormat::Csv => Some(OutputFormat::Csv),
            QueryFormat::Json => Some(OutputFormat::Ndjson),
            QueryFormat::Parquet => Some(OutputFormat::Parquet),
        }
    }
}
