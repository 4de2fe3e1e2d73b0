//! Takes options as typed, from flags, environment and file; gives a validated [`IngestConfig`].

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use etcetera::BaseStrategy;
use schema::Dataset;
use serde::Deserialize;
use url::Url;

use crate::fetch::token::{AuthMethod, Credentials};
use crate::fetch::{RateFloor, RetryPolicy};
use crate::ingest::{IfPublished, IngestConfig, MIN_MEMORY_BYTES, MaxRejects};
use crate::lake::TableKind;
use crate::progress::ProgressMode;
use crate::source::{ApiConfig, RouteConfig, SourceConfig};

/// Why options do not make a run. Each is a usage error.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("the configuration file {} is not valid", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A value is out of range or contradicts another.
    #[error("{option}: {reason}")]
    Option {
        /// The option as on the command line.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

fn invalid(option: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Option { option, reason: reason.into() }
}

/// The options of `ingest`. The configuration file has the same names.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IngestOptions {
    /// How the parts come: signed download URLs, or pages of the JSON API [default: files]
    #[arg(long, value_enum, conflicts_with = "from", help_heading = "Source")]
    pub via: Option<Via>,
    /// Parts already on disk: files, folders or globs
    #[arg(long, value_name = "PATH|GLOB", num_args = 1.., help_heading = "Source")]
    pub from: Vec<String>,
    /// When the service generated the parts given with --from [default: from a YYYY-MM-DD/HHMM folder in their paths]
    #[arg(long, value_name = "RFC3339", help_heading = "Source")]
    pub generated_time: Option<DateTime<Utc>>,
    /// Which export [default: software-inventory]
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub dataset: Option<String>,
    /// Preset of API, login, scope and blob hosts [default: worldwide]
    #[arg(long, value_enum, help_heading = "Service")]
    pub cloud: Option<Cloud>,
    /// Base of the API [default: by --cloud]
    #[arg(long, value_name = "URL", env = "DEFENDER_API_URL", help_heading = "Service")]
    pub api_url: Option<Url>,
    /// Authority that tokens come from [default: by --cloud]
    #[arg(long, value_name = "URL", env = "AZURE_AUTHORITY_HOST", help_heading = "Service")]
    pub login_url: Option<Url>,
    /// Audience of the token [default: by --cloud]
    #[arg(long, value_name = "SCOPE", help_heading = "Service")]
    pub scope: Option<String>,
    /// How to prove who we are, with the standard AZURE_* variables [default: auto]
    #[arg(long, value_enum, help_heading = "Service")]
    pub auth: Option<Auth>,
    /// Suffix of hosts that parts may be fetched from; repeatable [default: by --cloud]
    #[arg(long, value_name = "SUFFIX", help_heading = "Service")]
    pub blob_host: Vec<String>,
    /// Lifetime to ask for download URLs, 1 to 24 hours [default: 6]
    #[arg(long, value_name = "HOURS", help_heading = "Service")]
    pub sas_valid_hours: Option<u8>,
    /// Rows of a JSON page, 1 to 200000 [default: 50000]
    #[arg(long, value_name = "ROWS", help_heading = "Service")]
    pub page_size: Option<u32>,
    /// Where the tables live: a path, or abfss://, az://, s3:// or gs:// with credentials in the environment
    /// [default: ./lake]
    #[arg(long, value_name = "PATH|URL", env = "DEFENDER_LAKE", help_heading = "Lake")]
    pub lake: Option<String>,
    /// Plain Parquet files, or a Delta table; a plain table becomes one in place [default: what the table is]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub table: Option<TableKind>,
    /// What to do when the snapshot is already in the lake [default: skip]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub if_published: Option<IfPublished>,
    /// Publish nothing if more records than this are rejected, a number or a share. With 10% or less, a part with
    /// more than 100 records of which more than 10% are rejected is damaged too [default: 0.1%]
    #[arg(long, value_name = "N|P%", help_heading = "Lake")]
    pub max_rejects: Option<MaxRejects>,
    /// Undocumented fields: counted by name only, or kept in a column too [default: drop]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub extra_fields: Option<ExtraFields>,
    /// Spool of downloaded parts, what makes a rerun resume; also of files on their way to an object store
    /// [default: defender-lake in the user's cache folder]
    #[arg(long, value_name = "PATH", help_heading = "Resources")]
    pub work_dir: Option<PathBuf>,
    /// Leave the raw parts in the spool after publishing
    #[arg(long, help_heading = "Resources")]
    pub keep_parts: bool,
    /// Threads that decode and encode [default: the number of cores]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub threads: Option<NonZeroUsize>,
    /// Parts downloaded at the same time [default: 8]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub downloads: Option<NonZeroUsize>,
    /// Memory that the run stays inside [default: 1GiB]
    #[arg(long, value_name = "BYTES", help_heading = "Resources")]
    pub memory: Option<ByteSize>,
    /// Say what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one run report as JSON on stdout, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// Read options from this TOML file; flags and environment come first
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    #[expect(missing_docs, reason = "a doc comment here would become the help of the command")]
    pub log: LogOptions,
}

/// What is shown on stderr.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct LogOptions {
    /// How progress is shown: bars on a terminal, else a log line now and then [default: auto]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub progress: ProgressMode,
    /// Only errors on stderr, no summary
    #[arg(short, long, help_heading = "Output", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for all
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Form of the log on stderr [default: text]
    #[arg(long, value_enum, default_value_t, hide_default_value = true, help_heading = "Output")]
    pub log_format: LogFormat,
}

impl LogOptions {
    /// How progress is shown on the stderr that there is.
    pub fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::None } else { self.progress.resolve() }
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The routes of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// Signed download URLs
    #[default]
    Files,
    /// Pages
    Json,
}

/// What happens to undocumented fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtraFields {
    /// Counted by name in the manifest
    #[default]
    Drop,
    /// Counted, and kept as JSON text in column `ExtraFields`
    Capture,
}

/// `AuthMethod` as the command line and the file spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "documented on AuthMethod; docs here would be printed in the help")]
pub enum Auth {
    #[default]
    Auto,
    ClientSecret,
    ClientCertificate,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
}

impl From<Auth> for AuthMethod {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Auto => Self::Auto,
            Auth::ClientSecret => Self::ClientSecret,
            Auth::ClientCertificate => Self::ClientCertificate,
            Auth::WorkloadIdentity => Self::WorkloadIdentity,
            Auth::ManagedIdentity => Self::ManagedIdentity,
            Auth::AzureCli => Self::AzureCli,
        }
    }
}

/// Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "their names say what they are, and docs would be printed in the help")]
pub enum Cloud {
    #[default]
    Worldwide,
    Gcc,
    GccHigh,
    Dod,
}

/// What a cloud presets; each part can be given by itself.
struct Preset {
    api_url: &'static str,
    login_url: &'static str,
    scope: &'static str,
    blob_hosts: &'static [&'static str],
}

impl Cloud {
    fn preset(self) -> Preset {
        match self {
            // The host moved to api.security.microsoft.com, the audience of tokens did not.
            Self::Worldwide => Preset {
                api_url: "https://api.security.microsoft.com",
                login_url: "https://login.microsoftonline.com",
                scope: "https://api.securitycenter.microsoft.com/.default",
                blob_hosts: &["blob.core.windows.net"],
            },
            // Microsoft documents the hosts of the government clouds, but not their scopes nor where
            // their exports are stored: those two follow the pattern of the others.
            Self::Gcc => Preset {
                api_url: "https://api-gcc.securitycenter.microsoft.us",
                login_url: "https://login.microsoftonline.com",
                scope: "https://api-gcc.securitycenter.microsoft.us/.default",
                blob_hosts: &["blob.core.usgovcloudapi.net", "blob.core.windows.net"],
            },
            Self::GccHigh | Self::Dod => Preset {
                api_url: "https://api-gov.securitycenter.microsoft.us",
                login_url: "https://login.microsoftonline.us",
                scope: "https://api-gov.securitycenter.microsoft.us/.default",
                blob_hosts: &["blob.core.usgovcloudapi.net"],
            },
        }
    }
}

impl IngestOptions {
    /// Fills what was not given from the configuration file that `--config` names, if any.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not valid.
    pub fn with_file(self) -> Result<Self, ConfigError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::ReadFile { path: path.clone(), source })?;
        let file: Self = toml::from_str(&text).map_err(|source| ConfigError::ParseFile { path, source })?;
        Ok(self.or(file))
    }

    fn or(self, file: Self) -> Self {
        let list = |given: Vec<String>, file: Vec<String>| if given.is_empty() { file } else { given };
        Self {
            // A source given on the command line replaces the file's, whatever its kind.
            via: self.via.or(if self.from.is_empty() { file.via } else { None }),
            from: if self.via.is_some() { self.from } else { list(self.from, file.from) },
            generated_time: self.generated_time.or(file.generated_time),
            dataset: self.dataset.or(file.dataset),
            cloud: self.cloud.or(file.cloud),
            api_url: self.api_url.or(file.api_url),
            login_url: self.login_url.or(file.login_url),
            scope: self.scope.or(file.scope),
            auth: self.auth.or(file.auth),
            blob_host: list(self.blob_host, file.blob_host),
            sas_valid_hours: self.sas_valid_hours.or(file.sas_valid_hours),
            page_size: self.page_size.or(file.page_size),
            lake: self.lake.or(file.lake),
            table: self.table.or(file.table),
            if_published: self.if_published.or(file.if_published),
            max_rejects: self.max_rejects.or(file.max_rejects),
            extra_fields: self.extra_fields.or(file.extra_fields),
            work_dir: self.work_dir.or(file.work_dir),
            keep_parts: self.keep_parts || file.keep_parts,
            threads: self.threads.or(file.threads),
            downloads: self.downloads.or(file.downloads),
            memory: self.memory.or(file.memory),
            dry_run: self.dry_run || file.dry_run,
            json: self.json || file.json,
            config: self.config,
            log: self.log,
        }
    }

    /// Validates the options and fills in the defaults.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Option`] for the first that is wrong.
    pub fn to_config(&self) -> Result<IngestConfig, ConfigError> {
        let memory_bytes = self.memory.unwrap_or(ByteSize::gib(1)).as_u64();
        if memory_bytes < MIN_MEMORY_BYTES {
            return Err(invalid("--memory", format!("expected at least {}", ByteSize(MIN_MEMORY_BYTES))));
        }
        let one = NonZeroUsize::MIN;
        Ok(IngestConfig {
            dataset: find_dataset(self.dataset.as_deref())?,
            lake: lake_or_default(self.lake.as_deref()),
            source: SourceConfig {
                route: self.route()?,
                downloads: self.downloads.unwrap_or(one.saturating_add(7)),
                api_retry: RetryPolicy::API,
                part_retry: RetryPolicy::PART,
                rate_floor: RateFloor::DEFAULT,
                // Set by an emulator that keeps no rates; means nothing to the service itself.
                unlimited_calls: std::env::var("DEFENDER_CALL_RATE").is_ok_and(|rate| rate == "unlimited"),
            },
            work_dir: match &self.work_dir {
                Some(path) => path.clone(),
                None => default_work_dir()?,
            },
            table: self.table,
            if_published: self.if_published.unwrap_or_default(),
            max_rejects: self.max_rejects.unwrap_or_default(),
            capture_extra_fields: self.extra_fields == Some(ExtraFields::Capture),
            keep_parts: self.keep_parts,
            threads: self.threads.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(one)),
            memory_bytes,
            dry_run: self.dry_run,
        })
    }

    fn route(&self) -> Result<RouteConfig, ConfigError> {
        if !self.from.is_empty() {
            if self.via.is_some() {
                return Err(invalid("--from", "cannot be used with --via"));
            }
            return Ok(RouteConfig::Local {
                patterns: self.from.clone(),
                generated_time: self.generated_time,
            });
        }
        if self.generated_time.is_some() {
            return Err(invalid(
                "--generated-time",
                "goes with --from; the service says by itself when it generated an export",
            ));
        }
        let preset = self.cloud.unwrap_or_default().preset();
        let url = |given: &Option<Url>, preset: &str| {
            given.clone().unwrap_or_else(|| Url::parse(preset).expect("presets are URLs"))
        };
        let api = ApiConfig {
            api_url: url(&self.api_url, preset.api_url),
            login_url: url(&self.login_url, preset.login_url),
            scope: self.scope.clone().unwrap_or_else(|| preset.scope.to_owned()),
            auth: self.auth.unwrap_or_default().into(),
            credentials: Credentials::from_env(),
        };
        match self.via.unwrap_or_default() {
            Via::Files => {
                let sas_valid_hours = self.sas_valid_hours.unwrap_or(6);
                if !(1..=24).contains(&sas_valid_hours) {
                    return Err(invalid("--sas-valid-hours", "expected 1 to 24"));
                }
                let blob_hosts = if self.blob_host.is_empty() {
                    preset.blob_hosts.iter().map(|&host| host.to_owned()).collect()
                } else {
                    self.blob_host.clone()
                };
                Ok(RouteConfig::Files { api, sas_valid_hours, blob_hosts })
            }
            Via::Json => {
                let page_size = self.page_size.unwrap_or(50_000);
                if !(1..=200_000).contains(&page_size) {
                    return Err(invalid("--page-size", "expected 1 to 200000"));
                }
                Ok(RouteConfig::Json { api, page_size })
            }
        }
    }
}

/// Finds the dataset that `--dataset` names.
///
/// # Errors
///
/// There is none of that name.
pub fn find_dataset(name: Option<&str>) -> Result<&'static Dataset, ConfigError> {
    let name = name.unwrap_or("software-inventory");
    Dataset::find(name).ok_or_else(|| {
        let known: Vec<_> = schema::DATASETS.iter().map(|dataset| dataset.cli_name()).collect();
        invalid("--dataset", format!("there is no dataset {name:?}; known: {}", known.join(", ")))
    })
}

/// The lake that `--lake` names.
pub fn lake_or_default(lake: Option<&str>) -> String {
    lake.unwrap_or("./lake").to_owned()
}

/// `defender-lake` in the XDG cache folder.
pub(crate) fn default_work_dir() -> Result<PathBuf, ConfigError> {
    let folders = etcetera::base_strategy::choose_base_strategy().map_err(|_| {
        invalid("--work-dir", "must be given: this user has no home folder to keep a cache in")
    })?;
    Ok(folders.cache_dir().join("defender-lake"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> IngestOptions {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let flags = IngestOptions { lake: Some("flag".into()), ..Default::default() };
        let merged = flags.or(file("lake = \"file\"\nmax-rejects = \"5\"\nmemory = \"256MiB\""));
        let config = merged.to_config().unwrap();
        assert_eq!(config.lake, "flag");
        assert_eq!(config.max_rejects, MaxRejects::Count(5));
        assert_eq!(config.memory_bytes, 256 << 20);
        assert_eq!(config.source.downloads.get(), 8);
    }

    #[test]
    fn source_on_the_command_line_replaces_the_files() {
        let from = IngestOptions { from: vec!["a".into()], ..Default::default() };
        assert!(matches!(from.or(file("via = \"json\"")).route(), Ok(RouteConfig::Local { .. })));
        let via = IngestOptions { via: Some(Via::Json), ..Default::default() };
        assert!(matches!(via.or(file("from = [\"a\"]")).route(), Ok(RouteConfig::Json { .. })));
    }

    #[test]
    fn values_out_of_range_name_their_option() {
        for (text, expected) in [
            ("sas-valid-hours = 25", "--sas-valid-hours: expected 1 to 24"),
            ("via = \"json\"\npage-size = 0", "--page-size: expected 1 to 200000"),
            ("memory = \"1MiB\"", "--memory: expected at least 64.0 MiB"),
            ("dataset = \"x\"", "--dataset: there is no dataset \"x\"; known: software-inventory"),
            (
                "generated-time = \"2021-01-11T11:01:00Z\"",
                "--generated-time: goes with --from; the service says by itself when it generated an export",
            ),
        ] {
            assert_eq!(file(text).to_config().unwrap_err().to_string(), expected);
        }
        assert!(toml::from_str::<IngestOptions>("client-secret = \"x\"").is_err());
    }
}
