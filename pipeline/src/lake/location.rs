//! Reads `--lake` and the environment: takes a path or a URL, gives a folder or an object store's client.
//!
//! Each store's usual variables apply, as `object_store` reads them. On Azure, if they hold no key, SAS or token, the
//! program signs in as it does for the API; the variables of that identity (`AZURE_CLIENT_ID` and the like) are
//! read by `auth` and never by `object_store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::CredentialProvider;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ObjectStoreScheme, RetryConfig};
use percent_encoding::percent_decode_str;
use url::Url;

use super::error::{LakeError, io_error};
use super::store::connector::Connector;
use super::store::delete_version::Signer;
use super::store::{self, Objects, Store};
use crate::auth::{AuthMethod, Credentials, Tokens};
use crate::environment::Variables;
use crate::http::base_url::parse_base_url;
use crate::http::error_chain;
use crate::redact;

/// The scope of tokens for Azure storage, the same in all clouds.
const AZURE_STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

const DEFAULT_AUTHORITY: &str = "https://login.microsoftonline.com";

/// The default of `object_store`.
const DEFAULT_AWS_REGION: &str = "us-east-1";

/// How long a request is retried. All attempts share one signature, which could expire after a longer time.
const RETRY_TIMEOUT: Duration = Duration::from_mins(4);

/// Retries within that time.
const MAX_RETRIES: usize = 10;

/// The prefixes of the variables of each kind of store.
const AWS: &str = "AWS_";
const AZURE: &str = "AZURE_";
const GOOGLE: &str = "GOOGLE_";
const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";

/// A lake's location, opened.
#[derive(Debug)]
pub(super) enum Location {
    Disk(PathBuf),
    Store(Store),
}

impl Location {
    /// Reads a location and the variables of its store. Sends no request.
    pub(super) fn parse(location: &Path, variables: &Variables) -> Result<Self, LakeError> {
        let (root, url, kind, prefix) = match LocationText::read(location)? {
            LocationText::Disk(root) => return Ok(Self::Disk(root)),
            LocationText::Store { root, url, kind, prefix } => (root, url, kind, prefix),
        };
        let cannot = |error: object_store::Error| invalid(location, &store::explain(&error));
        let connector = Connector::default();
        let sign = |signer| connector.signer.set(signer).expect("set once, here");
        let objects = match kind {
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = azure(&url, variables)?.with_http_connector(connector.clone());
                let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
                let azure = builder.build().map_err(cannot)?;
                sign(Signer::Azure { credentials: azure.credentials().clone(), account });
                Objects::of_azure(azure)
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = aws(&url, variables).with_http_connector(connector.clone());
                let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
                let region = region.unwrap_or_else(|| DEFAULT_AWS_REGION.to_owned());
                let s3 = builder.build().map_err(cannot)?;
                sign(Signer::Aws { credentials: s3.credentials().clone(), region });
                Objects::of(s3)
            }
            ObjectStoreScheme::GoogleCloudStorage => Objects::of(
                gcp(&url, variables).with_http_connector(connector.clone()).build().map_err(cannot)?,
            ),
            _ => return Err(invalid(location, UNSUPPORTED)),
        };
        let started = Store::try_new(root.clone(), prefix, objects);
        Ok(Self::Store(started.map_err(io_error("start the network for", &root))?))
    }
}

/// Checks a lake's location by itself, without the environment and without a request.
///
/// # Errors
///
/// [`LakeError::InvalidLocation`].
pub fn check_location(location: impl AsRef<Path>) -> Result<(), LakeError> {
    LocationText::read(location.as_ref()).map(|_| ())
}

/// Returns those of this process's variables that lead to the lake's store, for another process that writes to it; none for
/// a lake on a disk.
///
/// # Errors
///
/// [`LakeError::InvalidLocation`].
pub fn store_variables(location: impl AsRef<Path>) -> Result<Variables, LakeError> {
    let LocationText::Store { kind, .. } = LocationText::read(location.as_ref())? else {
        return Ok(Variables::default());
    };
    let is_wanted = |name: &str| match kind {
        ObjectStoreScheme::AmazonS3 => name.starts_with(AWS),
        ObjectStoreScheme::MicrosoftAzure => name.starts_with(AZURE),
        ObjectStoreScheme::GoogleCloudStorage => name.starts_with(GOOGLE) || name == SERVICE_ACCOUNT,
        _ => false,
    };
    Ok(Variables::of_process().only(is_wanted))
}

/// Returns the location as another process finds it: a path on a disk is absolute.
///
/// # Errors
///
/// [`LakeError::InvalidLocation`], and a working directory that is gone.
pub fn absolute_location(location: impl AsRef<Path>) -> Result<PathBuf, LakeError> {
    let location = location.as_ref();
    match LocationText::read(location)? {
        LocationText::Disk(root) => std::path::absolute(&root).map_err(io_error("find", &root)),
        LocationText::Store { .. } => Ok(location.to_path_buf()),
    }
}

/// A location, parsed.
enum LocationText {
    Disk(PathBuf),
    Store {
        /// As typed, without trailing slashes.
        root: PathBuf,
        /// The URL of the bucket or container.
        url: Url,
        kind: ObjectStoreScheme,
        /// The lake's prefix in the store.
        prefix: Key,
    },
}

impl LocationText {
    fn read(location: &Path) -> Result<Self, LakeError> {
        let text = location.to_string_lossy();
        let invalid = |reason: &str| invalid(location, reason);
        if text.trim().is_empty() {
            return Err(invalid("must not be empty"));
        }
        if redact::holds_secret(&text) {
            return Err(invalid(NO_CREDENTIALS));
        }
        let Some((scheme, rest)) = split_scheme(&text) else {
            return match text.split_once(':') {
                Some((scheme, _)) if is_store_scheme(scheme) => Err(invalid("not a URL: `//` is missing")),
                _ => Ok(Self::Disk(location.to_path_buf())),
            };
        };
        if rest.contains(['?', '#']) {
            return Err(invalid("must not contain `?` or `#`; set credentials in the environment"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some((user, _)) = authority.rsplit_once('@')
            && (user.contains(':') || !redact::takes_container(&scheme))
        {
            return Err(invalid(NO_CREDENTIALS));
        }
        if scheme == "file" {
            let url = Url::parse(&text).map_err(|_| invalid("not a URL"))?;
            return Ok(Self::Disk(
                url.to_file_path().map_err(|()| invalid("not the URL of a local folder"))?,
            ));
        }
        let is_web = scheme == "https";
        if !is_web && !is_store_scheme(&scheme) {
            return Err(invalid(&format!("the scheme {scheme} is not supported")));
        }
        if authority.is_empty() {
            return Err(invalid("the bucket or container is missing"));
        }
        let path = path.trim_end_matches('/');
        check_folders(path, is_web).map_err(invalid)?;
        // `object_store` reads the container of an https URL from the path. All other URLs have it before the
        // path, which is kept away from the library: keys are not URLs, and `%20` is three characters of one.
        let container_path = if is_web { path } else { "" };
        let url = Url::parse(&format!("{scheme}://{authority}/{container_path}"))
            .map_err(|_| invalid("not a URL"))?;
        let (kind, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| invalid(UNSUPPORTED))?;
        if kind == ObjectStoreScheme::Http {
            return Err(invalid(UNSUPPORTED));
        }
        let prefix = if is_web { Ok(prefix) } else { Key::parse(path) };
        let prefix = prefix.map_err(|_| invalid(INVALID_CHARACTERS))?;
        Ok(Self::Store { root: PathBuf::from(text.trim_end_matches('/')), url, kind, prefix })
    }
}

const UNSUPPORTED: &str = "not the URL of a supported object store";

const INVALID_CHARACTERS: &str = "contains characters that object keys cannot have";

const NO_CREDENTIALS: &str = "must not contain credentials; set them in the environment";

/// Returns the error of an invalid location, without what may be secret.
pub(super) fn invalid(location: &Path, reason: &str) -> LakeError {
    let location = redact::place(&location.to_string_lossy()).into_owned();
    LakeError::InvalidLocation { location, reason: reason.to_owned() }
}

/// Returns `s3` and `bucket/path` for `s3://bucket/path`, and nothing for a path.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn is_store_scheme(scheme: &str) -> bool {
    redact::takes_container(scheme)
        || ["s3", "s3a", "gs"].iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Checks that the folders of a store's path can be part of an object key.
fn check_folders(path: &str, is_web: bool) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    for folder in path.split('/') {
        let folder = if is_web { percent_decode_str(folder).decode_utf8_lossy() } else { folder.into() };
        if folder.is_empty() {
            return Err(
                "must not contain empty folder names (`//`), which are folders of their own in a store",
            );
        }
        if [".", ".."].contains(&folder.as_ref()) {
            return Err("must not contain `.` or `..`, which are ordinary names in a store");
        }
        if folder.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        if is_web && folder.contains(['/', '\\', '\u{fffd}']) {
            return Err(INVALID_CHARACTERS);
        }
    }
    Ok(())
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

/// Configures S3 from the environment. Empty variables count as unset, unlike in the library's own `from_env`.
fn aws(url: &Url, variables: &Variables) -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_retry(retry());
    let settings = settings(variables, AWS).filter_map(|(name, value)| Some((name.parse().ok()?, value)));
    settings.fold(builder, |builder, (key, value)| builder.with_config(key, value)).with_url(url.as_str())
}

fn gcp(url: &Url, variables: &Variables) -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::new().with_retry(retry());
    let builder = match variables.get(SERVICE_ACCOUNT) {
        Some(path) => builder.with_service_account_path(path),
        None => builder,
    };
    let settings = settings(variables, GOOGLE).filter_map(|(name, value)| Some((name.parse().ok()?, value)));
    settings.fold(builder, |builder, (key, value)| builder.with_config(key, value)).with_url(url.as_str())
}

/// Lists the variables that start with `prefix`, with their names in the library's lower case.
fn settings(variables: &Variables, prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let variables = variables.iter().filter(move |(name, _)| name.starts_with(prefix));
    variables.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
}

fn azure(url: &Url, variables: &Variables) -> Result<MicrosoftAzureBuilder, LakeError> {
    let mut builder = MicrosoftAzureBuilder::new().with_retry(retry());
    let mut unsupported = Vec::new();
    for (name, value) in settings(variables, AZURE) {
        let is_storage = name.starts_with("azure_storage_");
        match name.parse::<AzureConfigKey>() {
            Ok(key) if is_storage || name == "azure_skip_signature" => {
                builder = builder.with_config(key, value);
            }
            Err(_) if is_storage && name != "azure_storage_auth_mode" => {
                unsupported.push(name.to_ascii_uppercase());
            }
            _ => {}
        }
    }
    let builder = builder.with_url(url.as_str());
    let is_set = |key: &AzureConfigKey| builder.get_config_value(key).is_some_and(|value| value != "false");
    let has_credentials = [
        AzureConfigKey::AccessKey,
        AzureConfigKey::SasKey,
        AzureConfigKey::Token,
        AzureConfigKey::ClientSecret,
        AzureConfigKey::UseEmulator,
        AzureConfigKey::SkipSignature,
    ];
    let has_credentials = has_credentials.iter().any(is_set);
    let credentials = Credentials::of(variables);
    for name in unsupported {
        let is_secret =
            ["CONNECTION", "KEY", "SAS", "TOKEN", "SECRET"].iter().any(|word| name.contains(word));
        if is_secret && !has_credentials && !credentials.name_an_application() {
            return Err(LakeError::InvalidVariable {
                name,
                reason: "not supported".to_owned(),
                hint: "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, and AZURE_STORAGE_ACCOUNT_NAME with az://",
            });
        }
        tracing::warn!("{name} is not supported and ignored");
    }
    if has_credentials {
        return Ok(builder);
    }
    let authority = variables.get("AZURE_AUTHORITY_HOST");
    let authority = parse_base_url(authority.unwrap_or(DEFAULT_AUTHORITY)).map_err(|reason| {
        let hint = "set it to the authority's host, or unset it";
        LakeError::InvalidVariable { name: "AZURE_AUTHORITY_HOST".to_owned(), reason, hint }
    })?;
    let scope = AZURE_STORAGE_SCOPE.to_owned();
    let tokens = Tokens::try_new(&authority, scope, AuthMethod::Auto, credentials)
        .map_err(|error| invalid(Path::new(url.as_str()), &error_chain(&error)))?;
    Ok(builder.with_credentials(Arc::new(TokenProvider { tokens })))
}

/// The identity that the program signs in with, as credentials of the store.
#[derive(Debug)]
struct TokenProvider {
    tokens: Tokens,
}

#[async_trait::async_trait]
impl CredentialProvider for TokenProvider {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let failed =
            |error| object_store::Error::Unauthenticated { path: String::new(), source: Box::new(error) };
        let token = self.tokens.token().await.map_err(failed)?;
        Ok(Arc::new(AzureCredential::BearerToken(token.expose().to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(location: &str) -> String {
        match Location::parse(Path::new(location), &Variables::of_process()) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        }
    }

    #[test]
    fn invalid_locations_are_rejected_with_a_reason() {
        let check = |location: &str, expected: &str| {
            assert_eq!(error(location), format!("invalid lake location{expected}"), "{location}");
        };
        check("", " : must not be empty");
        let credentials = "must not contain credentials; set them in the environment";
        check("s3://KEY:SECRET@b/x", &format!(" s3://b/x: {credentials}"));
        check("s3://SECRET@b/x", &format!(" s3://b/x: {credentials}"));
        check("https://h/c?sig=SECRET", &format!(" https://h/c: {credentials}"));
        check("h/c?sv=1&sig=SECRET", &format!(" …: {credentials}"));
        check("AccountName=a;AccountKey=SECRET", &format!(" …: {credentials}"));
        let query = "must not contain `?` or `#`; set credentials in the environment";
        check("s3://b/x?SECRET", &format!(" s3://b/x: {query}"));
        check("gs://b/x#SECRET", &format!(" gs://b/x: {query}"));
        check("file:///x?SECRET", &format!(" file:///x: {query}"));
        check(
            "s3://b/a//b",
            " s3://b/a//b: must not contain empty folder names (`//`), which are folders of their own in a store",
        );
        check(
            "s3://b//a",
            " s3://b//a: must not contain empty folder names (`//`), which are folders of their own in a store",
        );
        let dots = "must not contain `.` or `..`, which are ordinary names in a store";
        for location in ["s3://b/x/../y", "az://c/..", "gs://b/./x", "abfss://c@a.dfs.core.windows.net/x/.."]
        {
            check(location, &format!(" {location}: {dots}"));
        }
        let web = "https://a.blob.core.windows.net/c/x/%2e%2E/y";
        check(web, &format!(" {web}: {dots}"));
        check(
            "https://a.blob.core.windows.net/c/x%2Fy",
            " https://a.blob.core.windows.net/c/x%2Fy: contains characters that object keys cannot have",
        );
        check("s3://b/a\u{1b}b", r" s3://b/a\u{1b}b: must not contain control characters");
        check("s3:///x", " s3:///x: the bucket or container is missing");
        check("s3:/b/x", " s3:/b/x: not a URL: `//` is missing");
        check("ftp://h/x", " ftp://h/x: the scheme ftp is not supported");
        check("http://h/x", " http://h/x: the scheme http is not supported");
        check("https://example.com/x", " https://example.com/x: not the URL of a supported object store");
    }

    #[test]
    fn keys_are_as_typed_and_web_urls_are_decoded() {
        let check = |location: &str, root: &str, expected: &str| {
            let location = Location::parse(Path::new(location), &Variables::of_process()).unwrap();
            let Location::Store(store) = location else { panic!("a store") };
            assert_eq!(store.root(), Path::new(root));
            let key = store.key(&store.root().join("table/OSPlatform=a%2Fb/x y")).unwrap();
            assert_eq!(key.as_ref(), format!("{expected}table/OSPlatform=a%2Fb/x y"));
        };
        check("gs://b", "gs://b", "");
        check("gs://b/a b/", "gs://b/a b", "a b/");
        check("gs://b/a%20b", "gs://b/a%20b", "a%20b/");
        check("GS://b/é/日本+&=@:!*'()", "GS://b/é/日本+&=@:!*'()", "é/日本+&=@:!*'()/");
        check("gs://b/..x/x..", "gs://b/..x/x..", "..x/x../");
    }
}
