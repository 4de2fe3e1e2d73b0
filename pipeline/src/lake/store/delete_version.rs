//! Deletes one version of an object, or what is not an object yet, which `object_store` has no methods for.
//!
//! All three services support a condition on DELETE. The library is told to request the object's head with that
//! condition, and the connector sends a DELETE to the same URL instead: URL, retries and credentials remain the
//! library's. Signatures cover the method, so the request is signed again.
//!
//! A server that ignores the condition deletes any version, as it would without one.

use std::sync::{Arc, OnceLock};

use chrono::DateTime;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{
    CredentialProvider, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
};
use object_store::path::Path as Key;
use object_store::{Error, GetOptions, ObjectStore, Result, UpdateVersion};

/// The header of the condition at Google.
const GENERATION: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// Deletes one version of an object.
#[async_trait::async_trait]
pub(crate) trait DeleteVersion: Send + Sync {
    /// Returns whether the object no longer exists; false if it has another version by now.
    async fn delete_version(&self, key: &Key, version: &UpdateVersion) -> Result<bool>;

    /// Drops the chunks that were sent to `key`, where chunks belong to a name, unless an object is there.
    async fn delete_chunks(&self, key: &Key) -> Result<()>;
}

tokio::task_local! {
    /// The deletion that the current request stands for.
    static DELETION: Deletion;
}

#[derive(Debug, Clone)]
struct Deletion {
    generation: Option<String>,
    status: Arc<OnceLock<StatusCode>>,
}

/// [`DeleteVersion`] for the library's stores.
#[derive(Debug)]
pub(crate) struct DeleteByHead(pub Arc<dyn ObjectStore>);

#[async_trait::async_trait]
impl DeleteVersion for DeleteByHead {
    async fn delete_version(&self, key: &Key, version: &UpdateVersion) -> Result<bool> {
        let options = GetOptions { if_match: version.e_tag.clone(), ..GetOptions::default() };
        Ok(self.delete(key, version.version.clone(), options).await? != StatusCode::PRECONDITION_FAILED)
    }

    /// Every object is younger than the condition wants it, and chunks that are none yet have no age.
    async fn delete_chunks(&self, key: &Key) -> Result<()> {
        let options = GetOptions { if_unmodified_since: Some(DateTime::UNIX_EPOCH), ..GetOptions::default() };
        self.delete(key, None, options).await.map(|_| ())
    }
}

impl DeleteByHead {
    /// Deletes an object on the conditions of `options`; returns the status of the response.
    async fn delete(&self, key: &Key, generation: Option<String>, options: GetOptions) -> Result<StatusCode> {
        let deletion = Deletion { generation, status: Arc::default() };
        let options = GetOptions { head: true, ..options };
        let answer = DELETION.scope(deletion.clone(), self.0.get_opts(key, options)).await;
        match (deletion.status.get(), answer) {
            (Some(status), _) => Ok(*status),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => {
                let source = "the request was not sent as a deletion".into();
                Err(Error::Generic { store: "deletion", source })
            }
        }
    }
}

/// Signs requests whose signature covers the method.
#[derive(Debug)]
pub(crate) enum Signer {
    Azure { credentials: Arc<dyn CredentialProvider<Credential = AzureCredential>>, account: String },
    Aws { credentials: Arc<dyn CredentialProvider<Credential = AwsCredential>>, region: String },
}

impl Signer {
    async fn sign(&self, request: &mut HttpRequest) -> Result<()> {
        match self {
            Self::Azure { credentials, account } => {
                AzureAuthorizer::new(&*credentials.get_credential().await?, account).try_authorize(request)
            }
            Self::Aws { credentials, region } => {
                AwsAuthorizer::new(&*credentials.get_credential().await?, "s3", region)
                    .try_authorize(request, None)
            }
        }
    }
}

/// Turns a HEAD request into a DELETE if it stands for a deletion.
pub(crate) async fn as_deletion(request: HttpRequest, signer: Option<&Signer>) -> Result<HttpRequest> {
    let Ok(deletion) = DELETION.try_with(Clone::clone) else { return Ok(request) };
    if request.method() != Method::HEAD {
        return Ok(request);
    }
    let (head, _) = request.into_parts();
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = head.uri;
    for name in [IF_MATCH, IF_UNMODIFIED_SINCE] {
        if let Some(condition) = head.headers.get(&name) {
            request.headers_mut().insert(name, condition.clone());
        }
    }
    if let Some(generation) = deletion.generation.and_then(|text| HeaderValue::from_str(&text).ok()) {
        request.headers_mut().insert(GENERATION, generation);
    }
    match (head.headers.get(AUTHORIZATION), signer) {
        // A token is valid for every method.
        (Some(token), _) if token.as_bytes().starts_with(b"Bearer ") => {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
            for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ms-")) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        (Some(_), Some(signer)) => signer.sign(&mut request).await?,
        // A SAS in the URL, or none.
        _ => {}
    }
    Ok(request)
}

/// Keeps the response to a deletion, and returns one that ends the library's request.
pub(crate) fn keep_response(mut response: HttpResponse) -> HttpResponse {
    let Ok(deletion) = DELETION.try_with(Clone::clone) else { return response };
    let status = response.status();
    if status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED) {
        let _ = deletion.status.set(status);
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() =
            HttpResponseBody::new(http_body_util::Empty::new().map_err(|never| match never {}));
    } else if status == StatusCode::CONFLICT {
        // Two conditional requests at once: the library retries.
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
