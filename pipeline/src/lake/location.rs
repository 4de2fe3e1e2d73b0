//! What `--lake` and the environment say: takes a path or a URL, gives a folder or a store to ask.
//!
//! Each store's usual variables count, as the library reads them. On Azure, where they hold no key, no
//! signature and no token, the program signs in as it does for the API; the variables of that identity
//! (`AZURE_CLIENT_ID` and its like) are its own and never the library's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::CredentialProvider;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::http::Connector;
use super::store::{self, Store};
use super::{LakeError, local};
use crate::fetch::token::Tokens;
use crate::fetch::{AuthMethod, Credentials};

/// What every Azure storage account takes tokens for, in all clouds.
const AZURE_STORAGE_SCOPE: &str = "https://storage.azure.com/.default";

const DEFAULT_AUTHORITY: &str = "https://login.microsoftonline.com";

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
    /// Reads a location. Asks nobody.
    pub(super) fn parse(location: &Path) -> Result<Self, LakeError> {
        let text = location.to_string_lossy();
        if text.is_empty() {
            return Err(bad(location, "is empty"));
        }
        let Some(scheme) = url_scheme(&text) else { return Ok(Self::Disk(location.to_path_buf())) };
        let url = Url::parse(&text).map_err(|_| bad(location, "is no URL"))?;
        if scheme.eq_ignore_ascii_case("file") {
            let folder = url.to_file_path().map_err(|()| bad(location, "is no local file URL"))?;
            return Ok(Self::Disk(folder));
        }
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return Err(bad(location, "holds more than a place: credentials belong into the environment"));
        }
        let unsupported = || bad(location, &format!("has the scheme {scheme}, which is not supported"));
        let (kind, path) = ObjectStoreScheme::parse(&url).map_err(|_| unsupported())?;
        let cannot =
            |error: object_store::Error| bad(location, &format!("leads nowhere: {}", store::explain(&error)));
        let (objects, multipart) = match kind {
            ObjectStoreScheme::MicrosoftAzure => both(azure(location, &url)?.build().map_err(cannot)?),
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(url.as_str());
                both(builder.with_http_connector(Connector).with_retry(retry()).build().map_err(cannot)?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                both(builder.with_http_connector(Connector).with_retry(retry()).build().map_err(cannot)?)
            }
            _ => return Err(unsupported()),
        };
        let root = PathBuf::from(url.as_str().trim_end_matches('/'));
        let started = Store::try_new(root.clone(), path, objects, multipart);
        Ok(Self::Store(started.map_err(local::io_error("start the network for", &root))?))
    }
}

/// A location that cannot be used, without what follows its place.
pub(super) fn bad(location: &Path, reason: &str) -> LakeError {
    let text = location.to_string_lossy();
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let shown = match Url::parse(shown) {
        Ok(url) if url.password().is_some() => format!("{}://…", url.scheme()),
        _ => shown.to_owned(),
    };
    LakeError::BadLocation { location: shown, reason: reason.to_owned() }
}

/// Returns `s3` for `s3://…`, nothing for a path.
fn url_scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

fn both<S: ObjectStore + MultipartStore>(store: S) -> (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) {
    let store = Arc::new(store);
    (store.clone(), store)
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

fn azure(location: &Path, url: &Url) -> Result<MicrosoftAzureBuilder, LakeError> {
    let mut builder = MicrosoftAzureBuilder::new().with_http_connector(Connector).with_retry(retry());
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        let is_storage = name.starts_with("AZURE_STORAGE_") || name == "AZURE_SKIP_SIGNATURE";
        if let (true, false, Ok(key)) =
            (is_storage, value.trim().is_empty(), name.to_ascii_lowercase().parse::<AzureConfigKey>())
        {
            builder = builder.with_config(key, value);
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
    if has_credentials.iter().any(is_set) {
        return Ok(builder);
    }
    let authority = std::env::var("AZURE_AUTHORITY_HOST").ok().filter(|host| !host.trim().is_empty());
    let authority = authority.unwrap_or_else(|| DEFAULT_AUTHORITY.to_owned());
    let authority =
        Url::parse(&authority).map_err(|_| bad(location, "needs AZURE_AUTHORITY_HOST to be a URL"))?;
    let scope = AZURE_STORAGE_SCOPE.to_owned();
    let tokens = Tokens::try_new(&authority, scope, AuthMethod::Auto, Credentials::from_env())
        .map_err(|error| bad(location, &format!("cannot be signed in to: {error}")))?;
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
