//! What `--lake` and the environment say: takes a path or a URL, gives a folder or a store to ask.
//!
//! Each store's usual variables count, as the library reads them. On Azure, where they hold no key, no
//! signature and no token, the program signs in as it does for the API; the variables of that identity
//! (`AZURE_CLIENT_ID` and its like) are its own and never the library's.

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
use crate::http::base_url::parse_base_url;
use crate::http::error_chain;
use crate::{environment, redact};

/// What every Azure storage account takes tokens for, in all clouds.
const AZURE_STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

const DEFAULT_AUTHORITY: &str = "https://login.microsoftonline.com";

/// What the library takes too if none is named.
const DEFAULT_AWS_REGION: &str = "us-east-1";

/// A request is sent again for so long. Longer, and a signature that is made once for all attempts can end.
const RETRY_TIMEOUT: Duration = Duration::from_mins(4);

/// Attempts beyond the first, within that time.
const MAX_RETRIES: usize = 10;

/// Where a lake is, by its location.
#[derive(Debug)]
pub(super) enum Location {
    Disk(PathBuf),
    Store(Store),
}

impl Location {
    /// Reads a location and what the environment has for it. Asks nobody.
    pub(super) fn parse(location: &Path) -> Result<Self, LakeError> {
        let (root, url, kind, prefix) = match Written::read(location)? {
            Written::Disk(root) => return Ok(Self::Disk(root)),
            Written::Store { root, url, kind, prefix } => (root, url, kind, prefix),
        };
        let cannot = |error: object_store::Error| bad(location, &store::explain(&error));
        let connector = Connector::default();
        let sign = |signer| connector.signer.set(signer).expect("set once, here");
        let objects = match kind {
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = azure(&url)?.with_http_connector(connector.clone());
                let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
                let azure = builder.build().map_err(cannot)?;
                sign(Signer::Azure { credentials: azure.credentials().clone(), account });
                Objects::of(azure)
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = aws(&url).with_http_connector(connector.clone());
                let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
                let region = region.unwrap_or_else(|| DEFAULT_AWS_REGION.to_owned());
                let s3 = builder.build().map_err(cannot)?;
                sign(Signer::Aws { credentials: s3.credentials().clone(), region });
                Objects::of(s3)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                Objects::of(gcp(&url).with_http_connector(connector.clone()).build().map_err(cannot)?)
            }
            _ => return Err(bad(location, UNSUPPORTED)),
        };
        let started = Store::try_new(root.clone(), prefix, objects);
        Ok(Self::Store(started.map_err(io_error("start the network for", &root))?))
    }
}

/// Checks that a lake can have the location, without the environment and without asking anyone.
///
/// # Errors
///
/// [`LakeError::BadLocation`].
pub fn check_location(location: impl AsRef<Path>) -> Result<(), LakeError> {
    Written::read(location.as_ref()).map(|_| ())
}

/// What a location says by itself.
enum Written {
    Disk(PathBuf),
    Store {
        /// As typed, without slashes at its end.
        root: PathBuf,
        /// What names the bucket or container.
        url: Url,
        kind: ObjectStoreScheme,
        /// The lake's place in the store.
        prefix: Key,
    },
}

impl Written {
    fn read(location: &Path) -> Result<Self, LakeError> {
        let text = location.to_string_lossy();
        let bad = |reason: &str| bad(location, reason);
        if text.trim().is_empty() {
            return Err(bad("is empty"));
        }
        if redact::holds_secret(&text) {
            return Err(bad(NO_CREDENTIALS));
        }
        let Some((scheme, rest)) = split_scheme(&text) else {
            return match text.split_once(':') {
                Some((scheme, _)) if is_store_scheme(scheme) => Err(bad("is not a URL: `//` is missing")),
                _ => Ok(Self::Disk(location.to_path_buf())),
            };
        };
        if rest.contains(['?', '#']) {
            return Err(bad("must not contain `?` or `#`: credentials are set in the environment"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some((user, _)) = authority.rsplit_once('@')
            && (user.contains(':') || !redact::takes_container(&scheme))
        {
            return Err(bad(NO_CREDENTIALS));
        }
        if scheme == "file" {
            let url = Url::parse(&text).map_err(|_| bad("is not a URL"))?;
            return Ok(Self::Disk(url.to_file_path().map_err(|()| bad("is not the URL of a local folder"))?));
        }
        let is_web = scheme == "https";
        if !is_web && !is_store_scheme(&scheme) {
            return Err(bad(&format!("the scheme {scheme} is not supported")));
        }
        if authority.is_empty() {
            return Err(bad("names no bucket or container"));
        }
        let path = path.trim_end_matches('/');
        check_folders(path, is_web).map_err(bad)?;
        // Of a web URL the library takes the container from the path. Of the others all that it needs stands
        // before the path: keys are not URLs, and `%20` is three of their characters.
        let of_library = if is_web { path } else { "" };
        let url =
            Url::parse(&format!("{scheme}://{authority}/{of_library}")).map_err(|_| bad("is not a URL"))?;
        let (kind, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| bad(UNSUPPORTED))?;
        if kind == ObjectStoreScheme::Http {
            return Err(bad(UNSUPPORTED));
        }
        let prefix = if is_web { Ok(prefix) } else { Key::parse(path) };
        let prefix = prefix.map_err(|_| bad("holds characters that no key can have"))?;
        Ok(Self::Store { root: PathBuf::from(text.trim_end_matches('/')), url, kind, prefix })
    }
}

const UNSUPPORTED: &str = "is not the URL of a store that is supported";

const NO_CREDENTIALS: &str = "must not contain credentials; set them in the environment";

/// A location that cannot be used, without what may be secret.
pub(super) fn bad(location: &Path, reason: &str) -> LakeError {
    let location = redact::place(&location.to_string_lossy()).into_owned();
    LakeError::BadLocation { location, reason: reason.to_owned() }
}

/// Returns `s3` and `bucket/path` for `s3://bucket/path`, nothing for a path.
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

/// Holds the folders of a store's path against what keys can be made of.
fn check_folders(path: &str, is_web: bool) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    for folder in path.split('/') {
        let folder = if is_web { percent_decode_str(folder).decode_utf8_lossy() } else { folder.into() };
        if folder.is_empty() {
            return Err("has an empty folder name (`//`), which is a folder of its own in a store");
        }
        if [".", ".."].contains(&folder.as_ref()) {
            return Err("must not contain `.` or `..`, which are names like others in a store");
        }
        if folder.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        if is_web && folder.contains(['/', '\\', '\u{fffd}']) {
            return Err("holds characters that no key can have");
        }
    }
    Ok(())
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

/// S3 as the environment has it. Empty variables are absent, which the library's own reading does not know.
fn aws(url: &Url) -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_retry(retry());
    let settings = settings("AWS_").filter_map(|(name, value)| Some((name.parse().ok()?, value)));
    settings.fold(builder, |builder, (key, value)| builder.with_config(key, value)).with_url(url.as_str())
}

fn gcp(url: &Url) -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::new().with_retry(retry());
    let builder = match environment::variable("SERVICE_ACCOUNT") {
        Some(path) => builder.with_service_account_path(path),
        None => builder,
    };
    let settings = settings("GOOGLE_").filter_map(|(name, value)| Some((name.parse().ok()?, value)));
    settings.fold(builder, |builder, (key, value)| builder.with_config(key, value)).with_url(url.as_str())
}

/// The variables that begin with `prefix`, their names as the library spells them.
fn settings(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let variables = environment::variables().filter(move |(name, _)| name.starts_with(prefix));
    variables.map(|(name, value)| (name.to_ascii_lowercase(), value))
}

fn azure(url: &Url) -> Result<MicrosoftAzureBuilder, LakeError> {
    let mut builder = MicrosoftAzureBuilder::new().with_retry(retry());
    let mut unread = Vec::new();
    for (name, value) in settings("AZURE_") {
        let is_storage = name.starts_with("azure_storage_");
        match name.parse::<AzureConfigKey>() {
            Ok(key) if is_storage || name == "azure_skip_signature" => {
                builder = builder.with_config(key, value);
            }
            Err(_) if is_storage && name != "azure_storage_auth_mode" => {
                unread.push(name.to_ascii_uppercase());
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
    let credentials = Credentials::from_env();
    for name in unread {
        let is_secret =
            ["CONNECTION", "KEY", "SAS", "TOKEN", "SECRET"].iter().any(|word| name.contains(word));
        if is_secret && !has_credentials && !credentials.name_an_application() {
            return Err(LakeError::BadVariable {
                name,
                reason: "is not read".to_owned(),
                hint: "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, and AZURE_STORAGE_ACCOUNT_NAME with az://",
            });
        }
        tracing::warn!("{name} is not read");
    }
    if has_credentials {
        return Ok(builder);
    }
    let authority = environment::variable("AZURE_AUTHORITY_HOST");
    let authority = parse_base_url(authority.as_deref().unwrap_or(DEFAULT_AUTHORITY)).map_err(|reason| {
        let hint = "set it to the authority's host, or unset it";
        LakeError::BadVariable {
            name: "AZURE_AUTHORITY_HOST".to_owned(),
            reason: format!("is not valid: {reason}"),
            hint,
        }
    })?;
    let scope = AZURE_STORAGE_SCOPE.to_owned();
    let tokens = Tokens::try_new(&authority, scope, AuthMethod::Auto, credentials)
        .map_err(|error| bad(Path::new(url.as_str()), &error_chain(&error)))?;
    Ok(builder.with_credentials(Arc::new(Identity { tokens })))
}

/// The program's own identity, for the store.
#[derive(Debug)]
struct Identity {
    tokens: Tokens,
}

#[async_trait::async_trait]
impl CredentialProvider for Identity {
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
        match Location::parse(Path::new(location)) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        }
    }

    #[test]
    fn locations_that_cannot_be_say_why() {
        let check = |location: &str, expected: &str| {
            assert_eq!(error(location), format!("invalid lake location{expected}"), "{location}");
        };
        check("", " : is empty");
        let credentials = "must not contain credentials; set them in the environment";
        check("s3://KEY:SECRET@b/x", &format!(" s3://b/x: {credentials}"));
        check("s3://SECRET@b/x", &format!(" s3://b/x: {credentials}"));
        check("https://h/c?sig=SECRET", &format!(" https://h/c: {credentials}"));
        check("h/c?sv=1&sig=SECRET", &format!(" …: {credentials}"));
        check("AccountName=a;AccountKey=SECRET", &format!(" …: {credentials}"));
        let query = "must not contain `?` or `#`: credentials are set in the environment";
        check("s3://b/x?SECRET", &format!(" s3://b/x: {query}"));
        check("gs://b/x#SECRET", &format!(" gs://b/x: {query}"));
        check("file:///x?SECRET", &format!(" file:///x: {query}"));
        check(
            "s3://b/a//b",
            " s3://b/a//b: has an empty folder name (`//`), which is a folder of its own in a store",
        );
        check(
            "s3://b//a",
            " s3://b//a: has an empty folder name (`//`), which is a folder of its own in a store",
        );
        let dots = "must not contain `.` or `..`, which are names like others in a store";
        for location in ["s3://b/x/../y", "az://c/..", "gs://b/./x", "abfss://c@a.dfs.core.windows.net/x/.."]
        {
            check(location, &format!(" {location}: {dots}"));
        }
        let web = "https://a.blob.core.windows.net/c/x/%2e%2E/y";
        check(web, &format!(" {web}: {dots}"));
        check(
            "https://a.blob.core.windows.net/c/x%2Fy",
            " https://a.blob.core.windows.net/c/x%2Fy: holds characters that no key can have",
        );
        check("s3://b/a\u{1b}b", r" s3://b/a\u{1b}b: must not contain control characters");
        check("s3:///x", " s3:///x: names no bucket or container");
        check("s3:/b/x", " s3:/b/x: is not a URL: `//` is missing");
        check("ftp://h/x", " ftp://h/x: the scheme ftp is not supported");
        check("http://h/x", " http://h/x: the scheme http is not supported");
        check("https://example.com/x", " https://example.com/x: is not the URL of a store that is supported");
    }

    #[test]
    fn keys_are_as_typed_and_web_urls_are_decoded() {
        let check = |location: &str, root: &str, expected: &str| {
            let location = Location::parse(Path::new(location)).unwrap();
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
