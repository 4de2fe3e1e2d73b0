//! Downloads from blob storage, whole or from an offset, without authorisation or cookies.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{Method, Response, StatusCode, header};

use super::api::{parse_http_date, status_error};
use super::{FetchError, ServiceError};
use crate::http::secret::quotable;
use crate::http::{BLOB_READ_TIMEOUT, HttpClient, RedactedUrl, check_trust, transport_error};

/// A client that sends only the signed URL.
#[derive(Debug, Clone)]
pub struct BlobClient {
    http: HttpClient,
}

/// The range of a request.
#[derive(Debug, Clone, Copy)]
pub enum Range<'a> {
    /// The rest of an interrupted download.
    From {
        /// Bytes that were received already.
        offset: u64,
        /// Entity tag of their blob.
        etag: &'a str,
    },
    /// The whole blob: the response states its size, even if that to a plain request does not.
    Whole,
}

impl Range<'_> {
    fn offset(self) -> u64 {
        match self {
            Self::From { offset, .. } => offset,
            Self::Whole => 0,
        }
    }
}

/// Properties of a blob, from a `HEAD` request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Size.
    pub total_bytes: Option<u64>,
    /// Strong entity tag.
    pub etag: Option<String>,
    /// MD5, base64.
    pub md5: Option<String>,
}

/// A started download.
#[derive(Debug)]
pub struct BlobDownload {
    url: RedactedUrl,
    response: Response,
    /// Offset of the first byte: that of [`Range`], or 0 if the server sends the whole blob.
    pub offset: u64,
    /// Size of the whole blob, if announced.
    pub total_bytes: Option<u64>,
    /// Whether the body is in chunks, which mark its end.
    pub is_chunked: bool,
    /// Strong entity tag, needed to resume a download.
    pub etag: Option<String>,
    /// MD5 of the whole blob, base64, if announced.
    pub md5: Option<String>,
    /// `Date` of the response.
    pub date: Option<DateTime<Utc>>,
    /// `x-ms-copy-status`: `pending` while the service still copies the blob into place.
    pub copy_status: Option<String>,
}

impl BlobClient {
    /// Creates the client.
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up.
    pub fn try_new() -> Result<Self, FetchError> {
        Ok(Self { http: HttpClient::try_new(BLOB_READ_TIMEOUT)? })
    }

    /// Starts a download of `range`, or of the whole blob.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot be reached or refuses; [`FetchError::Changed`] if the blob is not the
    /// one of `range`.
    pub async fn open(
        &self,
        url: &RedactedUrl,
        range: Option<Range<'_>>,
    ) -> Result<BlobDownload, FetchError> {
        check_trust(url.as_url())?;
        let mut request = self.http.request(Method::GET, url.as_url());
        if let Some(range) = range {
            request = request.header(header::RANGE, format!("bytes={}-", range.offset()));
        }
        if let Some(Range::From { etag, .. }) = range {
            request = request.header(header::IF_MATCH, etag);
        }
        let response = request.send().await.map_err(|err| transport_error(url.clone(), err))?;
        let text = |name: &str| text(&response, name);
        let date = text("date").and_then(|date| parse_http_date(&date));
        let etag = strong_etag(&response);
        let copy_status = text("x-ms-copy-status").map(|status| quotable(&status));
        let is_chunked = is_chunked(&response);
        match (response.status(), range) {
            (StatusCode::OK, _) => Ok(BlobDownload {
                offset: 0,
                total_bytes: response.content_length(),
                md5: text("content-md5"),
                url: url.clone(),
                is_chunked,
                etag,
                date,
                copy_status,
                response,
            }),
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                let sent = text("content-range").and_then(|range| parse_content_range(&range));
                let is_of_other_blob =
                    matches!((range, &etag), (Range::From { etag, .. }, Some(sent)) if etag != sent.as_str());
                let Some((start, total_bytes)) = sent.filter(|(start, _)| *start == range.offset()) else {
                    return Err(FetchError::Changed { url: url.clone() });
                };
                if is_of_other_blob {
                    return Err(FetchError::Changed { url: url.clone() });
                }
                Ok(BlobDownload {
                    offset: start,
                    total_bytes,
                    // `Content-MD5` would be that of the range here.
                    md5: text("x-ms-blob-content-md5"),
                    url: url.clone(),
                    // Chunks end with the range, which may end before the blob.
                    is_chunked: false,
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

    /// Returns the properties of the blob. They are empty if storage cannot be reached or does not state them.
    pub async fn announced(&self, url: &RedactedUrl) -> Announced {
        let Ok(response) = self.http.request(Method::HEAD, url.as_url()).send().await else {
            return Announced::default();
        };
        if response.status() != StatusCode::OK {
            return Announced::default();
        }
        // From the header: the body of the response is empty. Servers that do not know the size send 0.
        let total_bytes = text(&response, "content-length").and_then(|length| length.parse().ok());
        Announced {
            total_bytes: total_bytes.filter(|bytes| *bytes > 0),
            etag: strong_etag(&response),
            md5: text(&response, "content-md5"),
        }
    }
}

fn text(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn strong_etag(response: &Response) -> Option<String> {
    text(response, "etag").filter(|etag| !etag.starts_with("W/"))
}

/// Returns whether the last transfer encoding is `chunked`: a truncated body is an error then.
pub(crate) fn is_chunked(response: &Response) -> bool {
    let last = response.headers().get_all(header::TRANSFER_ENCODING).iter().next_back();
    last.and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"))
}

impl BlobDownload {
    /// Returns the next bytes, `None` at the end.
    ///
    /// # Errors
    ///
    /// Fails if the transfer fails or times out.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.response.chunk().await.map_err(|err| transport_error(self.url.clone(), err).into())
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
