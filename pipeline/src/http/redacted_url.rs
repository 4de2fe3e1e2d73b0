//! A URL that cannot print its secrets.
//!
//! The query of a download URL is a signature that anyone can use (Elastic's agent once logged whole
//! SAS URLs, pipeline/docs/service.md#signed-urls), and userinfo is a password. Only scheme, host and path are
//! ever shown.

use std::fmt;

use url::{Host, Url};

use crate::snapshot::PartKey;

/// A [`Url`] whose text forms hold scheme, host and path only.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedUrl(Box<Url>);

impl RedactedUrl {
    /// The whole URL, for sending a request and nothing else.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns the whole URL with its signature, for a task of the same run and nothing else.
    pub fn to_wire(&self) -> String {
        self.0.to_string()
    }

    /// Reads what [`RedactedUrl::to_wire`] wrote; `None` if it is not a URL.
    pub fn from_wire(text: &str) -> Option<Self> {
        Url::parse(text).ok().map(Self::from)
    }

    /// The path as written, without the leading `/` and without the query: a part's name.
    pub fn part_name(&self) -> &str {
        self.0.path().strip_prefix('/').unwrap_or(self.0.path())
    }

    /// Returns the key of [`RedactedUrl::part_name`], equal for all its spellings.
    pub fn part_key(&self) -> PartKey {
        PartKey::of(self.part_name())
    }

    /// Returns whether the URL points to this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl From<Url> for RedactedUrl {
    fn from(url: Url) -> Self {
        Self(Box::new(url))
    }
}

impl From<&Url> for RedactedUrl {
    fn from(url: &Url) -> Self {
        Self(Box::new(url.clone()))
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or(""))?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns whether `url` points to this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether `url` may carry a secret: https, or http to this machine.
pub fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_userinfo_and_fragment_are_never_shown() {
        let url = Url::parse("https://user:pass@host.example:8443/a/b?sv=1&sig=SECRET#frag").unwrap();
        let redacted = RedactedUrl::from(url);
        assert_eq!(format!("{redacted} {redacted:?}"), {
            let shown = "https://host.example:8443/a/b";
            format!("{shown} {shown}")
        });
        assert_eq!(redacted.part_name(), "a/b");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:9/", true),
            ("http://LOCALHOST/", true),
            ("http://localhost.example/", false),
            ("http://128.0.0.1/", false),
            ("http://127.0.0.1.example/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
