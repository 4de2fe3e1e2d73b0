//! The base URL of a service, as a person types it.

use url::Url;

use super::is_private;
use crate::redact;

/// Expected form of a service's base URL.
pub const EXPECTED: &str =
    "an https URL without user, query and fragment, such as https://login.microsoftonline.com";

/// Reads a service's base URL. A host without a scheme is reached over https, as Azure's own tools have it.
///
/// # Errors
///
/// Returns the expected form.
pub fn parse_base_url(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).ok().filter(|url| {
        is_private(url)
            && !redact::holds_secret(text)
            && url
                .host_str()
                .is_some_and(|host| host.chars().all(|c| c.is_alphanumeric() || "-._[]:".contains(c)))
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.ok_or_else(|| format!("expected {EXPECTED} (plain http is for this machine only)"))
}
