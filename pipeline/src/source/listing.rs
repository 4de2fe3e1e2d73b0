//! The listing of the files route: takes the service's response, gives the snapshot's time and the signed URLs of
//! its parts, each checked before a request is sent to it.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;
use url::Url;

use super::SourceError;
use super::url_rules::UrlRules;
use crate::fetch::FetchError;
use crate::fetch::api::ApiClient;
use crate::http::{RedactedUrl, read_bounded};

/// Largest listing that is read. A signed URL has some 700 bytes, so this holds more than 300,000.
const MAX_LISTING_BYTES: usize = 256 * 1024 * 1024;
/// Most parts of one export. At least one for each device group and Spark task: thousands are real.
const MAX_PARTS: usize = 500_000;

/// Requests listings of one export.
#[derive(Debug)]
pub(super) struct Lister {
    pub client: ApiClient,
    sas_valid_hours: u8,
    url: Url,
    rules: UrlRules,
}

/// One listing.
#[derive(Debug)]
pub(super) struct Listing {
    pub generated_time: DateTime<Utc>,
    /// In the order of the listing, without duplicate parts in any spelling.
    pub urls: Vec<RedactedUrl>,
}

impl Lister {
    pub(super) fn new(client: ApiClient, sas_valid_hours: u8, blob_hosts: &[String]) -> Self {
        let url = client.url(("sasValidHours", sas_valid_hours.into()));
        let rules = UrlRules::new(blob_hosts, client.is_loopback());
        Self { client, sas_valid_hours, url, rules }
    }

    /// Requests a listing: one call, retries aside.
    pub(super) async fn list(&self) -> Result<Listing, SourceError> {
        let mut retry = self.client.start_retry();
        let url = RedactedUrl::from(&self.url);
        let body = loop {
            let response = self.client.get(&self.url, &mut retry).await;
            let response = response.map_err(|err| match err {
                FetchError::Status { status: 400, .. } => SourceError::ValueRefused {
                    option: "--sas-valid-hours",
                    value: self.sas_valid_hours.into(),
                    refusal: Box::new(err),
                },
                err => err.into(),
            })?;
            match read_bounded(response, &url, MAX_LISTING_BYTES).await {
                Ok(body) => break body,
                Err(err) => retry.wait(err.into()).await?,
            }
        };
        parse(&body, &url, &self.rules)
    }
}

/// `{"exportFiles":[…],"generatedTime":"…"}`; `@odata.context` may be absent and more may be there
/// (pipeline/docs/service.md#listings-and-pages).
fn parse(body: &[u8], url: &RedactedUrl, rules: &UrlRules) -> Result<Listing, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ListingResponse {
        export_files: Vec<String>,
        generated_time: Option<String>,
    }
    let bad = |problem: String| SourceError::BadListing { url: url.clone(), problem };
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let answer: ListingResponse = serde_json::from_slice(body).map_err(|err| {
        // Only the position: the parser's message quotes values, which are signed URLs.
        bad(format!("unexpected json at line {} column {}", err.line(), err.column()))
    })?;
    if answer.export_files.is_empty() {
        return Err(SourceError::EmptyExport);
    }
    if answer.export_files.len() > MAX_PARTS {
        return Err(SourceError::TooManyParts { url: url.clone(), max_parts: MAX_PARTS });
    }
    let time = answer.generated_time.as_deref().and_then(parse_generated_time);
    let generated_time = time.ok_or_else(|| bad("`generatedTime` is missing or not a time".into()))?;

    let mut urls = Vec::with_capacity(answer.export_files.len());
    for (index, text) in answer.export_files.iter().enumerate() {
        let url = Url::parse(text).map_err(|_| bad(format!("file {index} is not a url")))?;
        if let Some(reason) = rules.refusal(&url) {
            return Err(SourceError::UrlRefused { url: url.into(), reason });
        }
        urls.push(RedactedUrl::from(url));
    }
    // Whole paths: two parts may have one base name (pipeline/docs/service.md#paths-of-parts).
    let mut parts: HashMap<_, &RedactedUrl> = HashMap::with_capacity(urls.len());
    for url in &urls {
        if let Some(first) = parts.insert(url.part_key(), url) {
            let (name, again) = (first.part_name().to_owned(), url.part_name().to_owned());
            return Err(SourceError::DuplicatePart { name, again });
        }
    }
    Ok(Listing { generated_time, urls })
}

/// RFC 3339 with or without a fraction (both are seen, pipeline/docs/service.md#listings-and-pages); without a
/// zone it is UTC.
fn parse_generated_time(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let bare = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc());
    zoned.or_else(|_| bare()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::{Diagnostic, ExitCode};

    fn parse(body: &str) -> Result<(DateTime<Utc>, Vec<RedactedUrl>), SourceError> {
        let rules = UrlRules::new(&["blob.core.windows.net".into()], false);
        let url = Url::parse("https://api.example/api/x?sasValidHours=6").unwrap();
        let listing = super::parse(body.as_bytes(), &url.into(), &rules)?;
        Ok((listing.generated_time, listing.urls))
    }

    fn listing(urls: &[&str], time: &str) -> String {
        format!(
            r#"{{"exportFiles":{},"more":[1],"generatedTime":"{time}"}}"#,
            serde_json::to_string(urls).unwrap()
        )
    }

    #[test]
    fn parts_are_named_by_their_whole_path() {
        let base = "https://x.blob.core.windows.net/tvm-export/2021-01-11/1101";
        let urls = [
            format!("{base}/_RbacGroupId=4/part-0.json.gz?sig=a"),
            format!("{base}/_RbacGroupId%3D5/part-0.json.gz?sig=b"),
        ];
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let (time, urls) = parse(&listing(&urls, "2021-01-11T11:01:00.123Z")).unwrap();
        assert_eq!(time.timestamp_millis(), 1_610_362_860_123);
        let names: Vec<_> = urls.iter().map(RedactedUrl::part_name).collect();
        assert_eq!(
            names,
            [
                "tvm-export/2021-01-11/1101/_RbacGroupId=4/part-0.json.gz",
                "tvm-export/2021-01-11/1101/_RbacGroupId%3D5/part-0.json.gz",
            ]
        );
    }

    #[test]
    fn invalid_listing_is_refused_without_being_quoted() {
        let url = "https://x.blob.core.windows.net/p?sig=SECRET";
        let time = "2021-01-11T11:01:00Z";
        let check = |body: &str, expected: &str| {
            let err = parse(body).unwrap_err();
            assert_eq!(err.to_string(), expected);
            assert!(!format!("{err:?}").contains("SECRET"), "{err:?}");
            assert_eq!(err.exit_code(), ExitCode::Source);
        };
        check(&listing(&[], time), "the export lists no files; nothing published");
        let twice = listing(&[url, &url.replace("SECRET", "OTHER")], time);
        check(&twice, "the export lists p twice");
        let spelled = |path: &str| format!("https://x.blob.core.windows.net/{path}?sig=SECRET");
        let twice = listing(&[&spelled("OrgId=1/p"), &spelled("OrgId%3d1/p")], time);
        check(&twice, "the export lists OrgId=1/p twice, also spelled OrgId%3d1/p");
        check(
            &listing(&[url, "nonsense"], time),
            "GET https://api.example/api/x: invalid listing: file 1 is not a url",
        );
        check(
            &listing(&["https://evil.example/p?sig=SECRET"], time),
            "part https://evil.example/p is not fetched: the host is not allowed",
        );
        check(
            &listing(&[url], "yesterday"),
            "GET https://api.example/api/x: invalid listing: `generatedTime` is missing or not a time",
        );
        check(
            &format!(r#"{{"exportFiles":"{url}"}}"#),
            "GET https://api.example/api/x: invalid listing: unexpected json at line 1 column 61",
        );
        assert!(parse("{}").is_err());
    }

    #[test]
    fn listing_of_100_000_parts_is_accepted() {
        let urls: Vec<_> = (0..100_000)
            .map(|n| format!("https://x.blob.core.windows.net/c/part-{n}?sv=1&sig=abc"))
            .collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let (_, urls) = parse(&listing(&urls, "2021-01-11T11:01:00")).unwrap();
        assert_eq!(urls.len(), 100_000);
    }
}
