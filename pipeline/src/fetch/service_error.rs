//! The error that a service sends: `{"error":{"code","message","target"}}` from the API and an XML
//! document from blob storage (pipeline/docs/service.md#failures). Both are foreign text: bounded and made fit
//! to show.

use std::fmt;

use reqwest::Response;
use serde::Deserialize;

use crate::http::read_error_body;
use crate::http::secret::quotable;

/// Longest error body that is read. Real ones have some hundred bytes.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// The service's error, as far as it sent one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceError {
    /// `Forbidden`, `AuthenticationFailed`, …
    pub code: Option<String>,
    /// The first line of the message.
    pub message: Option<String>,
    /// The API's correlation id, which Microsoft's support asks for.
    pub target: Option<String>,
    /// Whether storage says that the signature is expired or not valid yet.
    pub is_out_of_time: bool,
}

impl ServiceError {
    /// Reads the body of an error response.
    pub async fn read(response: Response) -> Self {
        // Storage sends its code in a header too, which survives a proxy that replaces the body by a page of its
        // own.
        let code =
            response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).map(quotable);
        let said = Self::parse(&read_error_body(response, MAX_ERROR_BYTES).await);
        Self { code: code.filter(|code| !code.is_empty()).or(said.code), ..said }
    }

    /// Returns whether the API says that the tenant lacks a feature or a licence. The documentation names the code; what a
    /// tenant without a licence gets is not known, so that the message counts too.
    pub fn is_about_feature(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        self.has_code(&["DisabledFeature"])
            || ["license", "licence", "feature", "subscription"].iter().any(|word| message.contains(word))
    }

    /// Returns whether storage refuses the network that the request comes from: by the account's firewall, or by a
    /// signature for other addresses. Neither time nor another listing changes that.
    pub fn is_about_network(&self) -> bool {
        /// <https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes>, and what
        /// the firewall of an account answers to a signed URL.
        const CODES: [&str; 3] =
            ["AuthorizationFailure", "AuthorizationSourceIPMismatch", "IpAuthorizationFailure"];
        self.has_code(&CODES)
    }

    /// Returns whether storage refuses the request for good, for another reason than network or time.
    pub fn is_final(&self) -> bool {
        const CODES: [&str; 10] = [
            "AccountIsDisabled",
            "AuthorizationPermissionMismatch",
            "AuthorizationProtocolMismatch",
            "AuthorizationResourceTypeMismatch",
            "AuthorizationServiceMismatch",
            "FeatureVersionMismatch",
            "InsufficientAccountPermissions",
            "KeyBasedAuthenticationNotPermitted",
            "NoAuthenticationInformation",
            "PublicAccessNotPermitted",
        ];
        self.has_code(&CODES)
    }

    /// Returns whether storage saw a request without a signature.
    pub fn is_about_anonymity(&self) -> bool {
        self.has_code(&["NoAuthenticationInformation", "PublicAccessNotPermitted"])
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            error: Body,
        }
        #[derive(Deserialize)]
        struct Body {
            code: Option<String>,
            message: Option<String>,
            target: Option<String>,
        }
        // Azure storage may begin its XML with a byte order mark
        // (pipeline/docs/service.md#failures-of-blob-storage).
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let fit = |text: Option<String>| text.map(|text| quotable(&text)).filter(|text| !text.is_empty());
        if let Ok(Envelope { error }) = serde_json::from_slice(body) {
            return Self {
                code: fit(error.code),
                message: fit(error.message),
                target: fit(error.target),
                is_out_of_time: false,
            };
        }
        // Only the code: Azure's details quote the request, times and signed fields included.
        let text = String::from_utf8_lossy(body);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        Self {
            code: fit(code.map(|(code, _)| code.to_owned())),
            // `in the specified time frame` of an account's key, `key time frame` of a user delegation key.
            is_out_of_time: text.contains("Signature not valid in the specified"),
            ..Self::default()
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_deref().unwrap_or("no reason given"))?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(target) = &self.target {
            write!(f, " (target {target})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_services_are_understood() {
        let check = |body: &str, expected: &str| {
            assert_eq!(ServiceError::parse(body.as_bytes()).to_string(), expected);
        };
        check(
            r#"{"error":{"code":"Forbidden","message":"Missing roles.\nmore","target":"|7d2.a1"}}"#,
            "Forbidden: Missing roles. (target |7d2.a1)",
        );
        check(r#"{"error":{"code":"TooManyRequests"}}"#, "TooManyRequests");
        check(
            "\u{feff}<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>x sig=1</Message></Error>",
            "AuthenticationFailed",
        );
        check("", "no reason given");
        check("<html>", "no reason given");
        check(r#"{"error":"text"}"#, "no reason given");
    }

    #[test]
    fn missing_feature_is_told_by_code_or_message() {
        let check = |code: &str, message: &str, expected: bool| {
            let body = serde_json::json!({ "error": { "code": code, "message": message } });
            assert_eq!(
                ServiceError::parse(body.to_string().as_bytes()).is_about_feature(),
                expected,
                "{body}"
            );
        };
        check("DisabledFeature", "", true);
        check("Forbidden", "Tenant has no active License for this API.", true);
        check("Forbidden", "The feature is not enabled.", true);
        check("Forbidden", "Missing application roles. API required roles: Software.Read.All.", false);
        check("", "", false);
    }
}
