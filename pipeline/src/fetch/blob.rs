//! Downloads from blob storage: no authorisation, no cookies, whole or from an offset.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{Method, Response, StatusCode, header};

use super::{
    FetchError, RedactedUrl, ServiceError,
    api::{parse_http_date, status_error},
    http::{BLOB_READ_TIMEOUT, HttpClient, check_trust, transport_error},
};

/// A client that sends nothing but the signed URL.
#[derive(Debug, Clone)]
pub struct BlobClient {
    http: HttpClient,
}

/// Where a download goes on.
#[derive(Debug, Clone, Copy)]
pub struct Resume<'a> {
    /// Bytes that are here already.
    pub offset: u64,
    /// The blob that they are of.
    pub etag: &'a str,
}

/// A download that has begun.
#[derive(Debug)]
pub struct BlobDownload {
    url: RedactedUrl,
    response: Response,
    /// Offset of the first byte: that of [`Resume`], or 0 where the server sends the whole.
    pub offset: u64,
    /// Size of the whole blob, where announced.
    pub total_bytes: Option<u64>,
    /// Strong entity tag: what a download can go on with.
    pub etag: Option<String>,
    /// MD5 of the whole blob, base64, where announced.
    pub md5: Option<String>,
    /// `Date` of the answer.
    pub date: Option<DateTime<Utc>>,
    /// `x-ms-copy-status`: `pending` while the service still copies the blob into place.
    pub copy_status: Option<String>,
}

impl BlobClient {
    /// Sets the client up.
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up.
    pub fn try_new() -> Result<Self, FetchError> {
        Ok(Self { http: HttpClient::try_new(BLOB_READ_TIMEOUT)? })
    }

    /// Begins a download, `resume` of one that stopped.
    ///
    /// # Errors
    ///
    /// Where the server cannot be reached or refuses; [`FetchError::Changed`] where the blob is not the
    /// one that `resume` is of.
    pub async fn open(
        &self,
        url: &RedactedUrl,
        resume: Option<Resume<'_>>,
    ) -> Result<BlobDownload, FetchError> {
        check_trust(url.as_url())?;
        let mut request = self.http.request(Method::GET, url.as_url());
        if let Some(Resume { offset, etag }) = resume {
            request =
                request.header(header::RANGE, format!("bytes={offset}-")).header(header::IF_MATCH, etag);
        }
        let response = request.send().await.map_err(|err| transport_error(url.clone(), err))?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let date = text("date").and_then(|date| parse_http_date(&date));
        let etag = text("etag").filter(|etag| !etag.starts_with("W/"));
        let copy_status = text("x-ms-copy-status").map(|status| super::secret::quotable(&status));
        match (response.status(), resume) {
            (StatusCode::OK, _) => Ok(BlobDownload {
                offset: 0,
                total_bytes: response.content_length(),
                md5: text("content-md5"),
                url: url.clone(),
                etag,
                date,
                copy_status,
                response,
            }),
            (StatusCode::PARTIAL_CONTENT, Some(Resume { offset, .. })) => {
                let range = text("content-range").and_then(|range| parse_content_range(&range));
                let Some((start, total_bytes)) = range.filter(|(start, _)| *start == offset) else {
                    return Err(FetchError::Changed { url: url.clone() });
                };
                Ok(BlobDownload {
                    offset: start,
                    total_bytes,
                    // `Content-MD5` would be that of the range here.
                    md5: text("x-ms-blob-content-md5"),
                    url: url.clone(),
                    etag,
                    date,
                    copy_status,
                    response,
                })
            }
            (StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                Err(FetchError::Changed { url: url.clone() })
            }
            (StatusCode::FORBIDDEN, _) => {
                let service = ServiceError::read(response).await;
                let is_out_of_time = service.is_out_of_time;
                Err(FetchError::SignatureRefused { url: url.clone(), service, is_out_of_time })
            }
            _ => Err(status_error(url.as_url(), response).await),
        }
    }
}

impl BlobDownload {
    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    ///
    /// Where the transfer fails or falls silent.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.response.chunk().await.map_err(|err| transport_error(self.url.clone(), err))
    }
}

/// `bytes 5-9/10` → first offset and size of the whole.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_gives_start_and_total() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("lines 5-9/10"), None);
    }
}
