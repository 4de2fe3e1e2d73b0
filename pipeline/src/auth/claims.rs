//! The claims of a token: its audience and permissions. Read to explain a refusal, and to tell which datasets the token
//! permits; they are not verified.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use schema::Permission;
use serde::Deserialize;

use crate::http::Secret;
use crate::http::secret::quotable;

/// The audiences that the API accepts, by cloud (pipeline/docs/service.md#signing-in): the resource kept its name
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

/// Most permissions that an error names.
const MAX_NAMED: usize = 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Audience and permissions of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// `aud`.
    audience: String,
    /// `roles`: permissions of an application.
    roles: Vec<String>,
    /// `scp`: delegated permissions of a signed-in user; `None` for an application.
    scopes: Option<Vec<String>>,
}

impl TokenClaims {
    /// Reads the claims of a token. Returns `None` if it is opaque.
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
        let fit = |names: Vec<String>| names.iter().map(|name| quotable(name)).collect();
        Some(Self {
            audience: quotable(&claims.aud),
            roles: fit(claims.roles),
            scopes: claims.scp.map(|scopes| fit(scopes.split_whitespace().map(str::to_owned).collect())),
        })
    }

    /// Returns whether the token has the permission.
    pub fn permits(&self, permission: &Permission) -> bool {
        let (needed, held) = self.needed_and_held(permission);
        held.iter().any(|name| name == needed)
    }

    /// Returns the name of the permission that this kind of token needs, and those that it has.
    fn needed_and_held(&self, permission: &Permission) -> (&'static str, &[String]) {
        match &self.scopes {
            Some(scopes) => (permission.delegated, scopes),
            None => (permission.application, &self.roles),
        }
    }

    /// Returns the suggested fix for a refusal of this token with `status`.
    pub fn explain(&self, status: u16, permission: &Permission) -> String {
        let audience = self.audience.trim_end_matches('/');
        if !KNOWN_AUDIENCES.iter().any(|known| known.eq_ignore_ascii_case(audience)) {
            return format!(
                "check --scope and --cloud: the token is for {}, which this API does not accept (the scope of the \
                 worldwide cloud is {}/.default, independent of --api-url)",
                self.audience, KNOWN_AUDIENCES[0],
            );
        }
        if status == 401 {
            return "check --login-url and --cloud, and run again later: a new token was refused too".into();
        }
        let (needed, held) = self.needed_and_held(permission);
        if self.permits(permission) {
            return format!(
                "check that the tenant has Defender Vulnerability Management, and that Defender's own roles let the \
                 caller see its devices: the token has {needed} and the right audience"
            );
        }
        let who = if self.scopes.is_some() { "the signed-in user's token" } else { "the application" };
        let shown = &held[..held.len().min(MAX_NAMED)];
        let has = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
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
    fn refusal_is_explained_by_claims() {
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
            "the token is for https://api.security.microsoft.com, which this API does not accept",
        );
    }

    #[test]
    fn permission_is_a_role_or_a_scope() {
        let check = |claims: &str, expected: bool| {
            let token =
                Secret::new(format!("e30.{}.c2ln", BASE64.encode(format!("{{\"aud\":\"a\",{claims}}}"))));
            assert_eq!(TokenClaims::read(&token).unwrap().permits(&PERMISSION), expected, "{claims}");
        };
        check(r#""roles":["Machine.Read.All","Software.Read.All"]"#, true);
        check(r#""roles":["Software.Read"]"#, false);
        check(r#""roles":[]"#, false);
        check(r#""scp":"Machine.Read Software.Read""#, true);
        check(r#""scp":"Machine.Read","roles":["Software.Read.All"]"#, false);
        let many: Vec<_> = (0..2 * MAX_NAMED).map(|number| format!("\"Other{number}\"")).collect();
        check(&format!(r#""roles":[{},"Software.Read.All"]"#, many.join(",")), true);
    }

    #[test]
    fn unreadable_token_has_no_claims() {
        for text in ["", "opaque", "a.b.c", "a.e30.c", "a.!!!.c"] {
            assert_eq!(TokenClaims::read(&Secret::new(text)), None, "{text}");
        }
    }

    #[test]
    fn foreign_text_is_sanitised() {
        let text = explain(r#"{"aud":"a\u001b[2J eyJhbGciOi"}"#);
        assert!(!text.contains('\u{1b}') && !text.contains("eyJ"), "{text}");
    }
}
