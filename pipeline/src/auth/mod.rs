//! Bearer tokens for the API, kept until shortly before they end: from the authority by `azure_identity`,
//! from the machine's identity service and the Azure CLI by code of ours.
//!
//! The library accepts https authorities only, on purpose, and is built without an HTTP client: its requests go
//! through our transport, which sends them to the configured authority and to no other host. That allows an
//! emulator on loopback to issue tokens.

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
pub use self::claims::TokenClaims;
pub use self::credentials::{AuthMethod, Credentials, MachineIdentity};
pub use self::error::AuthError;
use crate::http::{HttpError, Secret, is_private};

/// A token is renewed so long before it expires that it does not expire during a call.
const RENEW_BEFORE_END: TimeDelta = TimeDelta::minutes(5);

/// Gives the token, from memory until it has to be renewed.
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
    /// Prepares tokens for `scope` from the authority `login_url`. Requests none yet.
    ///
    /// # Errors
    ///
    /// Fails if `login_url` would carry the secret unencrypted.
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

    /// Returns the token to send. Concurrent callers wait for one request.
    ///
    /// # Errors
    ///
    /// Fails if none can be obtained.
    pub async fn token(&self) -> Result<Secret, AuthError> {
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| Utc::now() < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let access = self.chain.request().await?;
        let now = Utc::now();
        let ends_at = DateTime::from_timestamp(access.expires_on.unix_timestamp(), 0).unwrap_or(now);
        // A token with a lifetime of minutes is used for most of it.
        let before_end = RENEW_BEFORE_END.min((ends_at - now) / 4);
        let token = Token { secret: Secret::new(access.token.secret()), renew_at: ends_at - before_end };
        let secret = token.secret.clone();
        *cached = Some(token);
        Ok(secret)
    }

    /// Forgets `refused`, so that the next [`Tokens::token`] is a new one. A newer one is kept.
    pub async fn forget(&self, refused: &Secret) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|token| token.secret == *refused) {
            *cached = None;
        }
    }
}
