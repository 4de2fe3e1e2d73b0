//! Calls to the API: bearer token, one renewal, throttling, retries.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use reqwest::{Method, Response, StatusCode, header};
use schema::Permission;
use url::Url;

use super::budget::{CallBudget, CallRate, Keeping};
use super::retry::Retry;
use super::server_clock::ServerClock;
use super::{FetchError, RetryPolicy, ServiceError};
use crate::auth::{AuthMethod, Credentials, TokenClaims, Tokens};
use crate::http::{
    API_READ_TIMEOUT, HttpClient, HttpError, RedactedUrl, Secret, check_trust, is_private, transport_error,
};

/// Longest time that one call waits for its rate limit: enough for the minute's window. Beyond it the scheduler
/// should start the run again.
const MAX_THROTTLED: Duration = Duration::from_secs(75);
/// Most waits of one call, so that an endless `Retry-After: 0` ends.
const MAX_TIMES_THROTTLED: u32 = 8;
/// Up to this much, and a tenth of the wait, is added to it.
const MIN_JITTER: Duration = Duration::from_millis(50);
/// Wait after a 429 without `Retry-After`.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A longer `Retry-After` is cut to this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Address of the API, and how to sign in.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Base of the service, without `/api`.
    pub api_url: Url,
    /// The cloud's other API hosts, to which its links may lead; what begins with a dot is the end of many.
    /// Nothing is sent to them.
    pub sister_hosts: &'static [&'static str],
    /// The authority that issues tokens.
    pub login_url: Url,
    /// Scope of the token.
    pub scope: String,
    /// How to sign in.
    pub auth: AuthMethod,
    /// Credentials of the environment.
    pub credentials: Credentials,
}

impl ApiConfig {
    /// Prepares the tokens of a run, which all its clients share. Requests none yet.
    ///
    /// # Errors
    ///
    /// Fails if secrets would be sent unencrypted to the API or the authority.
    pub fn tokens(&self) -> Result<Tokens, FetchError> {
        if !is_private(&self.api_url) {
            return Err(HttpError::NotPrivate { url: (&self.api_url).into() }.into());
        }
        Ok(Tokens::try_new(&self.login_url, self.scope.clone(), self.auth, self.credentials.clone())?)
    }
}

/// Returns the token to send, after retries if the authority is down.
///
/// # Errors
///
/// Fails if none can be obtained.
pub async fn sign_in(tokens: &Tokens, retry: &mut Retry) -> Result<Secret, FetchError> {
    loop {
        match tokens.token().await {
            Ok(token) => return Ok(token),
            Err(err) => retry.wait(err.into()).await?,
        }
    }
}

/// A client for one API, used for calls of one permission.
#[derive(Debug)]
pub struct ApiClient {
    http: HttpClient,
    base: RedactedUrl,
    /// The API, as its path below `/api`.
    path: &'static str,
    sister_hosts: &'static [&'static str],
    tokens: Arc<Tokens>,
    retry: RetryPolicy,
    budget: CallBudget,
    clock: ServerClock,
    permission: &'static Permission,
}

/// Where an API's calls are counted, and its rate limit.
#[derive(Debug, Clone, Copy)]
pub struct BudgetConfig<'a> {
    /// The work dir, which later runs share.
    pub work_dir: &'a Path,
    /// The API, as its path below `/api`.
    pub path: &'static str,
    /// Its rate limit.
    pub rate: CallRate,
    /// Whether calls are recorded.
    pub keeping: Keeping,
}

impl ApiClient {
    /// Creates the client. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Fails if no HTTP client can be made.
    pub fn try_new(
        config: &ApiConfig,
        tokens: Arc<Tokens>,
        retry: RetryPolicy,
        permission: &'static Permission,
        budget: BudgetConfig<'_>,
    ) -> Result<Self, FetchError> {
        // The service counts by application and tenant; all who sign in by other means are one caller.
        let Credentials { tenant_id, client_id, .. } = &config.credentials;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let key = format!("{} {} {} {}", config.api_url, budget.path, name(tenant_id), name(client_id));
        Ok(Self {
            budget: CallBudget::new(budget.work_dir, &key, budget.rate, budget.keeping),
            clock: ServerClock::default(),
            http: HttpClient::try_new(API_READ_TIMEOUT)?,
            base: (&config.api_url).into(),
            path: budget.path,
            sister_hosts: config.sister_hosts,
            tokens,
            retry,
            permission,
        })
    }

    /// Returns the service's clock, as estimated from its responses.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Returns whether the API is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.base.is_loopback()
    }

    /// Returns the URL of a call: `<base>/api/<path>?<name>=<value>`.
    pub fn url(&self, (name, value): (&str, u32)) -> Url {
        let mut url = self.base.as_url().clone();
        url.set_path(&format!("{}/api/{}", url.path().trim_end_matches('/'), self.path));
        url.set_query(Some(&format!("{name}={value}")));
        url.set_fragment(None);
        url
    }

    /// Returns a link of the service as it is followed. Links lead to any host of the service, regional and legacy
    /// ones included (pipeline/docs/service.md#failures-of-the-api): their path and query
    /// are the same at the API's own origin, and the token is sent there only. Any other link is returned
    /// unchanged, for [`ApiClient::get`] to refuse.
    pub fn at_own_origin(&self, mut link: Url) -> Url {
        // The fragment is never sent: two links that differ only in it are equal.
        link.set_fragment(None);
        let is_plain = link.scheme() == "https"
            && link.port().is_none()
            && link.username().is_empty()
            && link.password().is_none();
        let is_sister = link.host_str().is_some_and(|host| {
            self.sister_hosts.iter().any(|sister| match sister.strip_prefix('.') {
                Some(_) => host.ends_with(sister),
                None => host == *sister,
            })
        });
        let base = self.base.as_url();
        if link.origin() == base.origin() || !is_plain || !is_sister {
            return link;
        }
        let mut own = base.clone();
        own.set_path(&format!("{}{}", base.path().trim_end_matches('/'), link.path()));
        own.set_query(link.query());
        own.set_fragment(None);
        own
    }

    /// Starts the retry budget of one request.
    pub fn start_retry(&self) -> Retry {
        self.retry.start()
    }

    /// Requests `url` until the response has status 200 or `retry` is used up. Does not read the body.
    ///
    /// # Errors
    ///
    /// Fails before sending if `url` is not at the API's own origin, and with every permanent error of the service.
    pub async fn get(&self, url: &Url, retry: &mut Retry) -> Result<Response, FetchError> {
        let base = self.base.as_url();
        if url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::ForeignOrigin { url: url.into(), api: self.base.clone() });
        }
        check_trust(url)?;
        let mut renewed = false;
        let mut throttled = Throttled::default();
        loop {
            let token = sign_in(&self.tokens, retry).await?;
            loop {
                let now = Utc::now();
                let Some(delay) = self.budget.take(now)? else { break };
                wait_for_budget(url, now, delay, &mut throttled).await?;
            }
            let request = self.http.request(Method::GET, url).bearer_auth(token.expose());
            let response = match request.send().await {
                Ok(response) => response,
                Err(err) => {
                    retry.wait(transport_error(url, err).into()).await?;
                    continue;
                }
            };
            let now = Utc::now();
            let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
            if let Some(date) = date.and_then(parse_http_date) {
                self.clock.observe(date, now);
            }
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::UNAUTHORIZED if !renewed => {
                    // The token may have expired early or been revoked
                    // (pipeline/docs/service.md#failures-of-the-api): request one new token.
                    renewed = true;
                    tracing::warn!(url = %RedactedUrl::from(url), "token refused, requesting a new one");
                    self.tokens.forget(&token).await;
                }
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(FetchError::NotAuthorised {
                        url: url.into(),
                        status: status.as_u16(),
                        service: ServiceError::read(response).await,
                        permission: self.permission,
                        claims: TokenClaims::read(&token).map(Box::new),
                    });
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    // An earlier attempt only gets another 429 (pipeline/docs/service.md#rate-limits).
                    // The date form is by the service's clock.
                    let delay = retry_after(&response, self.clock.at(now)).unwrap_or(DEFAULT_RETRY_AFTER);
                    self.budget.block(now, now + TimeDelta::from_std(delay).unwrap_or_default())?;
                    wait_for_budget(url, now, delay, &mut throttled).await?;
                }
                _ => retry.wait(status_error(url, response).await).await?,
            }
        }
    }
}

/// Time that one call has waited for its rate limit.
#[derive(Debug, Default)]
struct Throttled {
    total: Duration,
    times: u32,
}

/// Waits for `delay` and a little more, so that several runs do not retry at the same moment.
///
/// # Errors
///
/// [`FetchError::Throttled`] if that is longer than a run waits, `throttled` included.
async fn wait_for_budget(
    url: &Url,
    now: DateTime<Utc>,
    delay: Duration,
    throttled: &mut Throttled,
) -> Result<(), FetchError> {
    if throttled.total + delay > MAX_THROTTLED || throttled.times == MAX_TIMES_THROTTLED {
        let retry_at = now + TimeDelta::from_std(delay).unwrap_or_default();
        // Rounded up to a whole second.
        let retry_at = (retry_at + TimeDelta::milliseconds(999)).trunc_subsecs(0);
        return Err(FetchError::Throttled { url: url.into(), retry_at });
    }
    throttled.total += delay;
    throttled.times += 1;
    let jitter = getrandom::u32().unwrap_or(0) >> 16;
    let delay = delay + (delay / 10 + MIN_JITTER) * jitter / (1 << 16);
    tracing::warn!(url = %RedactedUrl::from(url), ?delay, "call rate limit reached, waiting");
    tokio::time::sleep(delay).await;
    Ok(())
}

/// Returns the error of a response that the client does not handle itself.
pub(super) async fn status_error(url: &Url, response: Response) -> FetchError {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let host = location
            .and_then(|location| url.join(location).ok())
            .and_then(|target| target.host_str().map(str::to_owned));
        return FetchError::Redirected { url: url.into(), status: status.as_u16(), host };
    }
    let service = ServiceError::read(response).await;
    FetchError::Status { url: url.into(), status: status.as_u16(), service }
}

/// `Retry-After` as seconds or as an HTTP date.
fn retry_after(response: &Response, now: DateTime<Utc>) -> Option<Duration> {
    parse_retry_after(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let delay = match text.parse() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => (parse_http_date(text)? - now).to_std().unwrap_or(Duration::ZERO),
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

/// `Tue, 15 Nov 1994 08:12:31 GMT`.
pub fn parse_http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text.trim()).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = parse_http_date("Tue, 15 Nov 1994 08:12:31 GMT").unwrap();
        let check = |text, expected: Option<u64>| {
            assert_eq!(parse_retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("Tue, 15 Nov 1994 08:12:41 GMT", Some(10));
        check("Tue, 15 Nov 1994 08:12:01 GMT", Some(0));
        check("99999999999", Some(86_400));
        check("soon", None);
        check("-1", None);
    }
}
