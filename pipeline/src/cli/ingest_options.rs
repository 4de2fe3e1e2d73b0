//! Takes the options of `ingest`, as typed or from the environment and the configuration file; gives a
//! validated [`IngestConfig`].

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use url::Url;

use super::config_file::{base_url_of_file, explain};
use super::log::LogOptions;
use super::table_options::{DEFAULT_LAKE, LAKE_VARIABLE, default_work_dir, parse_datasets};
use super::usage_error::{ConfigError, expectation, invalid};
use crate::auth::{AuthMethod, Credentials};
use crate::environment;
use crate::fetch::cloud::{Cloud, Preset};
use crate::fetch::{MinThroughput, RetryPolicy};
use crate::http::base_url::parse_base_url;
use crate::ingest::{
    DatasetChoice, IfPublished, IngestConfig, MIN_MEMORY_BYTES, MaxRejects, is_year_of_four_digits,
};
use crate::lake::TableKind;
use crate::memory::MemoryBudget;
use crate::redact;
use crate::source::{ApiConfig, ApiRoute, RouteConfig, ServiceConfig, SourceConfig};

/// The options of `ingest`. The configuration file has the same names.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(
    clippy::doc_markdown,
    clippy::struct_excessive_bools,
    reason = "doc comments are the help, as it is printed, and each bool is a switch"
)]
pub struct IngestOptions {
    /// Fetch parts as files from signed download URLs, or as pages of the JSON API [default: files if the dataset has
    /// them]
    #[arg(long, value_enum, conflicts_with = "from", help_heading = "Source")]
    pub via: Option<ApiRoute>,
    /// Read parts of one dataset from disk instead: files, folders or globs
    #[arg(long, value_name = "PATH|GLOB", num_args = 1.., help_heading = "Source")]
    pub from: Vec<String>,
    /// Set the generated time of the parts given with --from [default: from a YYYY-MM-DD/HHMM folder in their paths]
    #[arg(long, value_name = "RFC3339", help_heading = "Source")]
    pub generated_time: Option<DateTime<Utc>>,
    /// Accept a generated time more than two days ahead of the clock
    #[arg(long, help_heading = "Source")]
    pub allow_future: bool,
    /// Ingest these datasets, one after the other, or all that the token permits [env: DEFENDER_DATASET]
    /// [default: software-inventory]
    #[arg(long, value_name = "NAME[,NAME…]|all", help_heading = "Source")]
    pub dataset: Option<String>,
    /// Use the API, login, scope and blob hosts of this Microsoft cloud [default: worldwide]
    #[arg(long, value_enum, help_heading = "Service")]
    pub cloud: Option<Cloud>,
    /// Set the base URL of the API [env: DEFENDER_API_URL] [default: by --cloud]
    #[arg(long, value_name = "URL", value_parser = parse_base_url, help_heading = "Service")]
    #[serde(deserialize_with = "base_url_of_file")]
    pub api_url: Option<Url>,
    /// Set the authority that issues tokens [env: AZURE_AUTHORITY_HOST] [default: by --cloud]
    #[arg(long, value_name = "URL", value_parser = parse_base_url, help_heading = "Service")]
    #[serde(deserialize_with = "base_url_of_file")]
    pub login_url: Option<Url>,
    /// Set the scope of the token [default: by --cloud]
    #[arg(long, value_name = "SCOPE", help_heading = "Service")]
    pub scope: Option<String>,
    /// Choose how to sign in; credentials come from the standard AZURE_* variables [default: auto]
    #[arg(long, value_enum, help_heading = "Service")]
    pub auth: Option<AuthMethod>,
    /// Allow downloads from hosts with this suffix only; repeatable [default: by --cloud]
    #[arg(long, value_name = "SUFFIX", help_heading = "Service")]
    pub blob_host: Vec<String>,
    /// Request download URLs valid for 1 to 24 hours; some calls of the service allow at most 6 [default: 6]
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true, help_heading = "Service")]
    pub sas_valid_hours: Option<u8>,
    /// Request 1 to 200000 rows per JSON page [default: 50000]
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true, help_heading = "Service")]
    pub page_size: Option<u32>,
    /// Write to this lake: a path, or abfss://, az://, s3:// or gs:// with credentials in the environment
    /// [env: DEFENDER_LAKE] [default: ./lake]
    #[arg(long, value_name = "PATH|URL", help_heading = "Lake")]
    pub lake: Option<String>,
    /// Publish plain Parquet files or a Delta table; a plain table is converted in place [default: what the table is]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub table: Option<TableKind>,
    /// Choose what to do if the snapshot is already in the lake [default: skip]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub if_published: Option<IfPublished>,
    /// Publish nothing if more records than this are rejected, a number or a percentage. At 10% or less, a part
    /// with more than 100 records of which more than 10% are rejected counts as damaged [default: 0.1%]
    #[arg(long, value_name = "N|P%", allow_negative_numbers = true, help_heading = "Lake")]
    pub max_rejects: Option<MaxRejects>,
    /// Drop undocumented fields after counting them by name, or capture them in a column [default: drop]
    #[arg(long, value_enum, help_heading = "Lake")]
    pub extra_fields: Option<ExtraFieldsMode>,
    /// Spool downloaded parts here, so that a rerun resumes, and files on their way to an object store
    /// [default: defender-lake in the user's cache folder]
    #[arg(long, value_name = "PATH", help_heading = "Resources")]
    pub work_dir: Option<PathBuf>,
    /// Keep the raw parts in the spool after publishing
    #[arg(long, help_heading = "Resources")]
    pub keep_parts: bool,
    /// Decode and encode on N threads; fewer if --memory is small [default: the number of cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Resources")]
    pub threads: Option<NonZeroUsize>,
    /// Download N parts at a time; fewer if --memory is small [default: 8]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Resources")]
    pub downloads: Option<NonZeroUsize>,
    /// Limit the resident memory of the run, plus 96 MiB for the program itself; at least 64MiB [default: 1GiB]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, help_heading = "Resources")]
    pub memory: Option<ByteSize>,
    /// Print what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the run report as a JSON object on stdout; with several datasets one a line, in the order taken
    #[arg(long)]
    pub json: bool,
    /// Read options from this TOML file; flags and environment variables take precedence
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    #[expect(missing_docs, reason = "a doc comment here would become the help of the command")]
    pub log: LogOptions,
}

/// What to do with undocumented fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtraFieldsMode {
    /// Count them by name in the manifest
    #[default]
    Drop,
    /// Count them, and keep them as JSON text in column `ExtraFields`
    Capture,
}

impl IngestOptions {
    /// Fills in missing options from the environment, then from the configuration file that `--config` names,
    /// if any. `read` reads that file.
    ///
    /// # Errors
    ///
    /// A variable is not valid, or the file cannot be read or is not valid.
    pub fn with_environment_and_file(
        mut self,
        read: impl FnOnce(&std::path::Path) -> std::io::Result<String>,
    ) -> Result<Self, ConfigError> {
        for (option, name) in
            [(&mut self.api_url, "DEFENDER_API_URL"), (&mut self.login_url, "AZURE_AUTHORITY_HOST")]
        {
            if let (None, Some(text)) = (&option, environment::variable(name)) {
                *option = Some(parse_base_url(&text).map_err(|reason| invalid(name, reason))?);
            }
        }
        self.lake = self.lake.or_else(|| environment::variable(LAKE_VARIABLE));
        self.dataset = self.dataset.or_else(|| environment::variable("DEFENDER_DATASET"));
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = read(&path).map_err(|source| ConfigError::ReadFile { path: path.clone(), source })?;
        let file = toml::from_str(&text).map_err(|error| explain(path, &text, &error))?;
        Ok(self.or(file))
    }

    fn or(self, file: Self) -> Self {
        let list = |given: Vec<String>, file: Vec<String>| if given.is_empty() { file } else { given };
        Self {
            // A source on the command line replaces that of the file, of either kind.
            via: self.via.or(if self.from.is_empty() { file.via } else { None }),
            from: if self.via.is_some() { self.from } else { list(self.from, file.from) },
            generated_time: self.generated_time.or(file.generated_time),
            allow_future: self.allow_future || file.allow_future,
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

    /// Validates all options, also those of other routes, and fills in the defaults.
    ///
    /// # Errors
    ///
    /// `ConfigError::Option` for the first invalid option.
    pub fn to_config(&self) -> Result<IngestConfig, ConfigError> {
        let memory_bytes = self.memory.unwrap_or(ByteSize::gib(1)).as_u64();
        if memory_bytes < MIN_MEMORY_BYTES {
            return Err(invalid("--memory", format!("expected at least {}", ByteSize(MIN_MEMORY_BYTES))));
        }
        if let Some(path) = &self.work_dir {
            check_text("--work-dir", &path.to_string_lossy())?;
        }
        let memory = MemoryBudget::new(memory_bytes);
        let one = NonZeroUsize::MIN;
        Ok(IngestConfig {
            datasets: self.datasets()?,
            lake: self.lake.clone().unwrap_or_else(|| DEFAULT_LAKE.to_owned()),
            source: SourceConfig {
                route: self.route()?,
                downloads: memory.num_downloads(self.downloads.unwrap_or(one.saturating_add(7))),
                api_retry: RetryPolicy::API,
                part_retry: RetryPolicy::PART,
                min_throughput: MinThroughput::DEFAULT,
                // Set by an emulator without call rates.
                unlimited_calls: environment::variable("DEFENDER_CALL_RATE")
                    .is_some_and(|rate| rate == "unlimited"),
            },
            work_dir: match &self.work_dir {
                Some(path) => path.clone(),
                None => default_work_dir()?,
            },
            table: self.table,
            if_published: self.if_published.unwrap_or_default(),
            max_rejects: self.max_rejects.unwrap_or_default(),
            capture_extra_fields: self.extra_fields == Some(ExtraFieldsMode::Capture),
            keep_parts: self.keep_parts,
            allow_future: self.allow_future,
            threads: self.threads.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(one)),
            memory,
            dry_run: self.dry_run,
        })
    }

    fn datasets(&self) -> Result<DatasetChoice, ConfigError> {
        let choice = parse_datasets(self.dataset.as_deref())?;
        if !self.from.is_empty() && choice.is_several() {
            return Err(invalid("--from", "requires exactly one dataset; name it with --dataset"));
        }
        Ok(choice)
    }

    fn sas_valid_hours(&self) -> Result<u8, ConfigError> {
        let hours = self.sas_valid_hours.unwrap_or(6);
        if (1..=24).contains(&hours) {
            Ok(hours)
        } else {
            Err(invalid("--sas-valid-hours", "expected 1 to 24"))
        }
    }

    fn page_size(&self) -> Result<u32, ConfigError> {
        let rows = self.page_size.unwrap_or(50_000);
        if (1..=200_000).contains(&rows) {
            Ok(rows)
        } else {
            Err(invalid("--page-size", "expected 1 to 200000"))
        }
    }

    fn scope(&self, preset: &Preset) -> Result<String, ConfigError> {
        let Some(scope) = &self.scope else { return Ok(preset.scope.to_owned()) };
        check_text("--scope", scope)?;
        if scope.is_empty() || scope.contains(|c: char| c.is_whitespace() || "?#@".contains(c)) {
            return Err(invalid("--scope", format!("expected a scope such as {}", preset.scope)));
        }
        Ok(scope.clone())
    }

    fn blob_hosts(&self, preset: &Preset) -> Result<Vec<String>, ConfigError> {
        let is_host = |host: &String| {
            let host = host.trim_start_matches('.');
            !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._[]:".contains(c))
        };
        if !self.blob_host.iter().all(is_host) {
            return Err(invalid(
                "--blob-host",
                "expected a host or the end of one, such as blob.core.windows.net",
            ));
        }
        if self.blob_host.is_empty() {
            return Ok(preset.blob_hosts.iter().map(|&host| host.to_owned()).collect());
        }
        Ok(self.blob_host.clone())
    }

    fn route(&self) -> Result<RouteConfig, ConfigError> {
        let preset = self.cloud.unwrap_or_default().preset();
        let (sas_valid_hours, page_size) = (self.sas_valid_hours()?, self.page_size()?);
        let (scope, blob_hosts) = (self.scope(&preset)?, self.blob_hosts(&preset)?);
        if let Some(time) = self.generated_time
            && !is_year_of_four_digits(time)
        {
            return Err(invalid("--generated-time", format!("expected {}", expectation("generated-time"))));
        }
        if !self.from.is_empty() {
            if self.via.is_some() {
                return Err(invalid("--from", "cannot be used with --via"));
            }
            check_paths("--from", &self.from)?;
            return Ok(RouteConfig::Local {
                patterns: self.from.clone(),
                generated_time: self.generated_time,
            });
        }
        if self.generated_time.is_some() {
            return Err(invalid(
                "--generated-time",
                "requires --from; the service reports the generated time of its exports",
            ));
        }
        let url = |given: &Option<Url>, preset: &str| {
            given.clone().unwrap_or_else(|| Url::parse(preset).expect("presets are URLs"))
        };
        let api = ApiConfig {
            api_url: url(&self.api_url, preset.api_url),
            sister_hosts: preset.sister_hosts,
            login_url: url(&self.login_url, preset.login_url),
            scope,
            auth: self.auth.unwrap_or_default(),
            credentials: Credentials::from_env(),
        };
        let via = self.via;
        Ok(RouteConfig::Service(Box::new(ServiceConfig { api, via, sas_valid_hours, blob_hosts, page_size })))
    }
}

/// Rejects URLs in place of paths, and paths that contain a secret.
pub(super) fn check_paths(option: &'static str, paths: &[String]) -> Result<(), ConfigError> {
    for path in paths {
        if path.contains("://") {
            return Err(invalid(option, "expected files, folders or globs on this machine, found a URL"));
        }
        check_text(option, path)?;
    }
    Ok(())
}

/// Rejects text that would be printed and contains a secret.
fn check_text(option: &'static str, text: &str) -> Result<(), ConfigError> {
    if redact::holds_secret(text) {
        return Err(invalid(option, "must not contain credentials; set them in the environment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> IngestOptions {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_override_the_file_and_the_file_defaults() {
        let flags = IngestOptions { lake: Some("flag".into()), ..Default::default() };
        let merged = flags.or(file("lake = \"file\"\nmax-rejects = \"5\"\nmemory = \"256MiB\""));
        let config = merged.to_config().unwrap();
        assert_eq!(config.lake, "flag");
        assert_eq!(config.max_rejects, MaxRejects::Count(5));
        assert_eq!(config.memory, MemoryBudget::new(256 << 20));
        assert_eq!(config.source.downloads.get(), 8);
    }

    #[test]
    fn source_of_flags_replaces_that_of_the_file() {
        let from = IngestOptions { from: vec!["a".into()], ..Default::default() };
        assert!(matches!(from.or(file("via = \"json\"")).route(), Ok(RouteConfig::Local { .. })));
        let via = IngestOptions { via: Some(ApiRoute::Json), ..Default::default() };
        let Ok(RouteConfig::Service(service)) = via.or(file("from = [\"a\"]")).route() else {
            panic!("a route")
        };
        assert_eq!(service.via, Some(ApiRoute::Json));
    }

    #[test]
    fn values_out_of_range_name_their_option() {
        let names = schema::DATASETS.iter().map(|dataset| dataset.cli_name()).collect::<Vec<_>>().join(", ");
        for (text, expected) in [
            ("sas-valid-hours = 25", "--sas-valid-hours: expected 1 to 24"),
            ("via = \"json\"\npage-size = 0", "--page-size: expected 1 to 200000"),
            ("memory = \"1MiB\"", "--memory: expected at least 64.0 MiB"),
            ("dataset = \"x\"", &format!("--dataset: unknown dataset, expected all or some of: {names}")),
            (
                "dataset = \"all\"\nfrom = [\"x\"]",
                "--from: requires exactly one dataset; name it with --dataset",
            ),
            (
                "generated-time = \"2021-01-11T11:01:00Z\"",
                "--generated-time: requires --from; the service reports the generated time of its exports",
            ),
        ] {
            assert_eq!(file(text).to_config().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn values_are_checked_for_every_route() {
        for text in
            ["page-size = 0", "sas-valid-hours = 25", "blob-host = [\"\"]", "scope = \"a b\"", "memory = 1"]
        {
            for route in ["", "via = \"json\"\n", "from = [\"x\"]\n"] {
                assert!(file(&format!("{route}{text}")).to_config().is_err(), "{route}{text}");
            }
        }
    }

    #[test]
    fn values_with_credentials_are_not_printed() {
        let credentials = "must not contain credentials; set them in the environment";
        for (text, expected) in [
            (
                "from = [\"https://h/p?sig=hunter2\"]",
                "--from: expected files, folders or globs on this machine, found a URL",
            ),
            ("from = [\"h/p?sig=hunter2\"]", &format!("--from: {credentials}")),
            ("work-dir = \"w?sig=hunter2\"", &format!("--work-dir: {credentials}")),
            ("scope = \"https://h/?sig=hunter2\"", &format!("--scope: {credentials}")),
        ] {
            assert_eq!(file(text).to_config().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn years_have_four_digits() {
        let generated_time = |text: &str| Some(text.parse().unwrap());
        for (text, is_year) in [
            ("0001-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("+10000-01-01T00:00:00Z", false),
            ("0000-12-31T23:59:59Z", false),
            ("-0001-01-01T00:00:00Z", false),
        ] {
            let options = IngestOptions {
                from: vec!["x".into()],
                generated_time: generated_time(text),
                ..Default::default()
            };
            let expected =
                "--generated-time: expected a time of the years 0001 to 9999, such as 2021-01-11T11:01:00Z";
            let error = options.to_config().err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), (!is_year).then_some(expected), "{text}");
        }
    }

    #[test]
    fn hosts_without_a_scheme_are_https() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse_base_url(text).ok().map(|url| url.to_string()).as_deref(), expected, "{text}");
        };
        check("login.microsoftonline.com", Some("https://login.microsoftonline.com/"));
        check("login.microsoftonline.us/ ", Some("https://login.microsoftonline.us/"));
        check("localhost:8080", Some("https://localhost:8080/"));
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080/"));
        for text in [
            "http://h",
            "ftp://h",
            "https://u:p@h",
            "https://u@h",
            "https://h?sig=s",
            "https://h#s",
            "AccountName=a;AccountKey=s",
            "",
            "https://",
        ] {
            check(text, None);
        }
    }
}
