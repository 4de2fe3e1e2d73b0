//! The command line: parses it, runs the command and prints its error. The only module that knows clap.

mod ingest;
mod snapshots;
mod verify;
mod expire;
mod diff;
mod trend;
mod report;
mod query;
#[cfg(feature = "query")]
mod run_query;
#[cfg(any(not(feature = "query"), test))]
mod duckdb_line;
mod schema;
mod history;
mod ingest_summary;
mod ingest_options;
mod call;
mod table_files;
mod choices;
mod table_options;
mod config_file;
mod runtime;
mod log;
mod output;
mod command_error;
mod usage_error;
mod clap_error;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

pub use self::call::{FoundParts, IngestCall, find_dataset, find_parts, ingest, ingest_config, manifests};
pub use self::command_error::CommandError;
pub use self::ingest_options::IngestOptions;
pub use self::table_files::{TableFiles, table_files};

use self::command_error::CommandResult;
use self::output::{print_data, say};
use crate::exit_code::ExitCode;
use crate::ingest::cluster::Cluster;
use crate::panics;

/// Exit codes, as `--help` lists them.
const EXIT_CODES: &str = "\
Exit codes:
  0    published, or nothing to do
  1    internal error
  2    usage error
  3    not authorised
  4    the source did not deliver a whole snapshot
  5    too many rejects
  6    the lake could not be written, verify found damage, or --if-published fail
  7    rate budget used up; retry after the time printed
  130  interrupted
With every non-zero code the lake is unchanged. Of several datasets, the code is that of the first that failed, and the
tables of the others are published.";

/// Ingest Microsoft Defender's device exports into a lake of Parquet snapshots
#[derive(Debug, Parser)]
#[command(name = "defender-lake", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ingest exports and publish each as a snapshot
    #[command(after_help = EXIT_CODES)]
    Ingest(Box<IngestOptions>),
    /// List published snapshots
    Snapshots(snapshots::SnapshotsOptions),
    /// Re-read published snapshots and check them against their manifests
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Remove old snapshots permanently
    #[command(after_help = EXIT_CODES)]
    Expire(expire::ExpireOptions),
    /// Show what changed between two snapshots
    #[command(after_help = diff::WHERE)]
    Diff(diff::DiffOptions),
    /// Show how counts developed across snapshots
    Trend(trend::TrendOptions),
    /// Write a page about a lake: one HTML file
    Report(report::ReportOptions),
    /// Run SQL over the tables of a lake
    #[command(after_help = query::ENGINE)]
    Query(query::QueryOptions),
    /// Print the schema of a dataset, or the DDL of a view over it
    Schema(schema::SchemaOptions),
    /// Print shell completions
    Completions {
        /// Shell to print completions for
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_from(std::env::args_os())
}

/// Parses a command line, whose first argument is the program's name, runs the command, prints its error if it fails, and
/// returns its exit code. Call it once in a process.
pub fn run_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_on(None, args)
}

/// As [`run_from`]; what `ingest` reads is read by the tasks of a cluster, if there is one.
pub fn run_on(cluster: Option<&dyn Cluster>, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    panics::install_hook();
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let typed = args.get(1).and_then(|name| name.to_str());
            return clap_error::print(&error, &Cli::command(), typed);
        }
    };
    let result = panics::catch(|| run_command(cli.command, cluster));
    let result = match (result, panics::recorded()) {
        // An error after a panic is a consequence of the panic.
        (Err(panicked), _) | (Ok(Err(_)), Some(panicked)) => Err(CommandError::internal(&panicked)),
        (Ok(result), _) => result,
    };
    result.unwrap_or_else(|error| {
        let code = error.exit_code();
        if code != ExitCode::Success {
            say("error", &error.to_string());
        }
        code
    })
}

fn run_command(command: Command, cluster: Option<&dyn Cluster>) -> CommandResult {
    match command {
        Command::Ingest(options) => ingest::run(*options, cluster),
        Command::Snapshots(options) => snapshots::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Expire(options) => expire::run(&options),
        Command::Diff(options) => diff::run(&options),
        Command::Trend(options) => trend::run(&options),
        Command::Report(options) => report::run(&options),
        #[cfg(feature = "query")]
        Command::Query(options) => run_query::run(&options),
        #[cfg(not(feature = "query"))]
        Command::Query(options) => duckdb_line::run(&options),
        Command::Schema(options) => schema::run(&options),
        Command::Completions { shell } => print_data(&completions(shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "defender-lake", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
