//! Bearer tokens for the API, kept until shortly before they end: from the authority by `azure_identity`,
//! from the machine's identity service and the Azure CLI by code of ours.
//!
//! The library takes https authorities only, on purpose, and brings no HTTP client of its own here: its
//! requests go through a transport of ours, which sends them to the configured authority and nowhere
//! else. That is what lets an emulator on loopback issue tokens.

mod azure_cli;
mod certificate;
mod chain;
mod claims;
mod credentials;
mod error;
mod managed_identity;
mod transport;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use url::Url;

use self::chain::Chain;
pub use self::{
    claims::TokenClaims,
    credentials::{AuthMethod, Credentials, MachineIdentity},
    error::AuthError,
};
use crate::http::{HttpError, Secret, is_private};

/// A token is renewed so long before its end that no call begins with one that ends under way.
const RENEW_BEFORE_END: TimeDelta = TimeDelta::minutes(5);

/// Gives the token, from memory while it lasts.
#[derive(Debug)]
pub struct Tokens {
    chain: Chain,
    cached: Mutex<Option<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: Secret,
    renew_at: DateTime<Utc>,
}

impl Tokens {
    /// Tokens for `scope` from the authority `login_url`. Asks for none yet.
    ///
    /// # Errors
    ///
    /// Where `login_url` would carry the secret in the clear.
    pub fn try_new(
        login_url: &Url,
        scope: String,
        method: AuthMethod,
        credentials: Credentials,
    ) -> Result<Self, HttpError> {
        if !is_private(login_url) {
            return Err(HttpError::NotPrivate { url: login_url.into() });
        }
        let chain = Chain::try_new(login_url, scope, method, credentials)?;
        Ok(Self { chain, cached: Mutex::new(None) })
    }

    /// The token to send. Concurrent callers wait for one request.
    ///
    /// # Errors
    ///
    /// Where none can be had.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| Utc::now() < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let access = self.chain.request().await?;
        let now = Utc::now();
        let ends_at = DateTime::from_timestamp(access.expires_on.unix_timestamp(), 0).unwrap_or(now);
        // One that lives for minutes only is still good for most of them.
        let before_end = RENEW_BEFORE_END.min((ends_at - now) / 4);
        let token = Token { secret: Secret::new(access.token.secret()), renew_at: ends_at - before_end };
        let secret = token.secret.clone();
        *cached = Some(token);
        Ok(secret)
    }

    /// Forgets `refused`, so that the next [`Tokens::token`] is a new one; a newer one is kept.
    pub async fn forget(&self, refused: &Secret) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|token| token.secret == *refused) {
            *cached = None;
        }
    }
}
