//! What a token says of itself: for whom it is and what it allows. Read to explain a refusal and for
//! nothing else; whether any of it is true, only the API can tell.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use schema::Permission;
use serde::Deserialize;

use crate::http::{Secret, secret::quotable};

/// The audiences that the API takes, by cloud (pipeline/docs/service.md#signing-in): the resource kept its name
/// when the host got a new one. Last, the id of the application `WindowsDefenderATP`, which version 2 tokens
/// have instead.
const KNOWN_AUDIENCES: [&str; 6] = [
    "https://api.securitycenter.microsoft.com",
    "https://api.securitycenter.windows.com",
    "https://securitycenter.onmicrosoft.com/windowsatpservice",
    "https://api-gcc.securitycenter.microsoft.us",
    "https://api-gov.securitycenter.microsoft.us",
    "fc780465-2017-40d4-a0c5-307022471b92",
];

/// Permissions that an error names, at most.
const MAX_NAMED: usize = 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// For whom a token is and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `aud`.
    audience: String,
    /// `roles`: what an application may do.
    roles: Vec<String>,
    /// `scp`: what an application may do for the user who signed in; `None` where nobody did.
    scopes: Option<Vec<String>>,
}

impl TokenClaims {
    /// Reads the token, where it is one that can be read.
    pub fn read(token: &Secret) -> Option<Self> {
        #[derive(Deserialize)]
        struct Claims {
            aud: String,
            #[serde(default)]
            roles: Vec<String>,
            scp: Option<String>,
        }
        let payload = token.expose().split('.').nth(1)?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
        let fit = |names: Vec<String>| names.iter().take(MAX_NAMED).map(|name| quotable(name)).collect();
        Some(Self {
            audience: quotable(&claims.aud),
            roles: fit(claims.roles),
            scopes: claims.scp.map(|scopes| fit(scopes.split_whitespace().map(str::to_owned).collect())),
        })
    }

    /// Why the API may have refused this token, and what to do about it.
    pub fn explain(&self, status: u16, permission: &Permission) -> String {
        let audience = self.audience.trim_end_matches('/');
        if !KNOWN_AUDIENCES.iter().any(|known| known.eq_ignore_ascii_case(audience)) {
            return format!(
                "the token is for {}, which is not the audience that this API takes: check --scope and \
                 --cloud (worldwide it is {}/.default, whatever the host of --api-url)",
                self.audience, KNOWN_AUDIENCES[0],
            );
        }
        if status == 401 {
            return "a new token is refused as well: check --login-url and --cloud, and run again later"
                .into();
        }
        let (who, needed, held) = match &self.scopes {
            Some(scopes) => ("the signed-in user's token", permission.delegated, scopes),
            None => ("the application", permission.application, &self.roles),
        };
        if held.iter().any(|name| name == needed) {
            return format!(
                "the token has {needed} and is for the right audience: check that the tenant has Defender \
                 Vulnerability Management, and that Defender's own roles let the caller see its devices"
            );
        }
        let has = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
        format!(
            "{who} needs the permission {needed} of WindowsDefenderATP, with admin consent; it has: {has}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMISSION: Permission =
        Permission { application: "Software.Read.All", delegated: "Software.Read" };

    fn explain(claims: &str) -> String {
        let token = Secret::new(format!("e30.{}.c2ln", BASE64.encode(claims)));
        TokenClaims::read(&token).unwrap().explain(403, &PERMISSION)
    }

    #[test]
    fn a_refusal_is_explained_by_the_token() {
        let check = |claims: &str, expected: &str| {
            let text = explain(claims);
            assert!(text.contains(expected), "{text}");
        };
        let aud = r#""aud":"https://api.securitycenter.microsoft.com/""#;
        check(
            &format!(r#"{{{aud},"roles":["Machine.Read.All","Alert.Read.All"]}}"#),
            "the application needs the permission Software.Read.All of WindowsDefenderATP, with admin consent; \
             it has: Machine.Read.All, Alert.Read.All",
        );
        check(&format!("{{{aud}}}"), "it has: none");
        check(
            &format!(r#"{{{aud},"scp":"Machine.Read User.Read"}}"#),
            "the signed-in user's token needs the permission Software.Read of WindowsDefenderATP, with admin \
             consent; it has: Machine.Read, User.Read",
        );
        check(&format!(r#"{{{aud},"roles":["Software.Read.All"]}}"#), "Vulnerability Management");
        check(
            r#"{"aud":"https://api.security.microsoft.com","roles":["Software.Read.All"]}"#,
            "the token is for https://api.security.microsoft.com, which is not the audience",
        );
    }

    #[test]
    fn what_is_no_readable_token_says_nothing() {
        for text in ["", "opaque", "a.b.c", "a.e30.c", "a.!!!.c"] {
            assert_eq!(TokenClaims::read(&Secret::new(text)), None, "{text}");
        }
    }

    #[test]
    fn foreign_text_is_made_fit_to_show() {
        let text = explain(r#"{"aud":"a\u001b[2J eyJhbGciOi"}"#);
        assert!(!text.contains('\u{1b}') && !text.contains("eyJ"), "{text}");
    }
}
