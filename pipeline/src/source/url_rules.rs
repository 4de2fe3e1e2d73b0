//! The download URLs that may be requested, checked before anything is sent.
//!
//! The listing is foreign text. Blob hosts differ by region and change (pipeline/docs/service.md#hosts), so
//! they are matched by a configured suffix and never derived from the API's host.

use url::{Host, Url};

use crate::http::is_loopback;

/// The hosts that parts may be fetched from.
#[derive(Debug, Clone)]
pub(super) struct UrlRules {
    suffixes: Vec<String>,
    is_loopback_allowed: bool,
}

impl UrlRules {
    /// Takes suffixes such as `blob.core.windows.net`, with or without a leading dot. Loopback is allowed if the API
    /// itself is there.
    pub(super) fn new(suffixes: &[String], api_is_loopback: bool) -> Self {
        let suffixes = suffixes
            .iter()
            .map(|suffix| suffix.trim().trim_start_matches('.').to_ascii_lowercase())
            .filter(|suffix| !suffix.is_empty())
            .collect();
        Self { suffixes, is_loopback_allowed: api_is_loopback }
    }

    /// Returns the reason why `url` is refused, `None` if it is allowed.
    pub(super) fn refusal(&self, url: &Url) -> Option<&'static str> {
        if !url.username().is_empty() || url.password().is_some() {
            return Some("a download url must not contain userinfo");
        }
        if url.path().trim_matches('/').is_empty() {
            return Some("the path is empty");
        }
        if is_loopback(url) {
            let is_http = matches!(url.scheme(), "http" | "https");
            return (!self.is_loopback_allowed || !is_http).then_some("the host is not allowed");
        }
        if url.scheme() != "https" {
            return Some("only https is allowed");
        }
        if url.port().is_some() {
            return Some("only the default port is allowed");
        }
        let is_allowed = match url.host() {
            Some(Host::Domain(host)) => self.suffixes.iter().any(|suffix| {
                // Ends at a label boundary: `evilblob.core.windows.net` has another owner.
                host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
            Some(address) => self.suffixes.contains(&address.to_string()),
            None => false,
        };
        (!is_allowed).then_some("the host is not allowed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_hosts_over_https() {
        let rules = |api_is_loopback| {
            UrlRules::new(
                &[".blob.core.windows.net".into(), String::new(), "10.1.2.3".into()],
                api_is_loopback,
            )
        };
        let check = |url: &str, outside: bool, on_loopback: bool| {
            let url = Url::parse(url).unwrap();
            assert_eq!(rules(false).refusal(&url).is_none(), outside, "{url}");
            assert_eq!(rules(true).refusal(&url).is_none(), on_loopback, "{url}");
        };
        check("https://a.blob.core.windows.net/p?sig=x", true, true);
        check("https://A.BLOB.core.windows.net:443/p", true, true);
        check("https://blob.core.windows.net/p", true, true);
        check("https://10.1.2.3/p", true, true);
        check("http://127.0.0.1:81/p", false, true);
        check("http://localhost:81/p", false, true);
        check("http://a.blob.core.windows.net/p", false, false);
        check("https://evilblob.core.windows.net/p", false, false);
        check("https://blob.core.windows.net.evil.example/p", false, false);
        check("https://a.blob.core.windows.net:8443/p", false, false);
        check("https://a.blob.core.windows.net@evil.example/p", false, false);
        check("https://u:p@a.blob.core.windows.net/p", false, false);
        check("https://a.blob.core.windows.net/", false, false);
        check("https://evil.example/blob.core.windows.net", false, false);
        check("file:///etc/passwd", false, false);
        check("ftp://127.0.0.1/p", false, false);
    }
}
