//! Takes bytes from the service and its blob storage: requests, retries, tokens. Takes URLs, gives
//! bounded answers and bodies; never touches the disk, never shows a bare URL.
//!
//! Two clients that know nothing of each other: [`api`] sends the bearer token, to the API's own
//! origin only; [`blob`] sends no authorisation at all, because blob storage refuses a signed URL that
//! comes with a bearer token (pipeline/docs/service.md#signed-urls).
//!
//! # What goes wrong, and what becomes of the run
//!
//! Exit 0 means that the run gets over it. With every other code the lake is as it was, whole parts are
//! kept for the next run, and one line says what to do. Tests are in `tests/`, where no other place is
//! named; pipeline/docs/service.md#failures says what is behind them.
//!
//! | what went wrong | what we do | exit | test |
//! |---|---|---|---|
//! | nothing to sign in with | name each way and what it lacks | 3 | `auth::where_nothing_works_each_way_says_why` |
//! | the authority refuses | say its `AADSTS` line; never step over to another identity | 3 | `auth::a_wrong_secret_is_not_stepped_over` |
//! | the authority is down | ask again with backoff, 5 times | 0, then 4 | `auth::an_authority_that_is_down_is_asked_again` |
//! | 401 mid-run | one new token, once a call | 0, then 3 | `auth::a_token_refused_mid_run_is_renewed_once` |
//! | 403: a role is missing | name it and those that the token has | 3 | `auth::a_missing_role_is_named_beside_those_the_token_has`, `auth::a_signed_in_user_is_told_the_delegated_permission` |
//! | 403: wrong audience | say which one the token is for | 3 | `auth::a_wrong_audience_is_told_apart` |
//! | 429 for a short while | wait as told, in seconds or until a date, and a little more | 0 | `faults::a_429_is_waited_for_as_it_says` |
//! | 429 for long | say when to come back, and do not ask before that in later runs either | 7 | `faults::a_429_for_long_says_when_to_come_back` |
//! | our own count of calls is at the limit | wait within the minute, else say when to come back | 0, then 7 | `faults::a_crash_loop_does_not_burn_the_budget` |
//! | the API is down | ask again with backoff, 5 times within 5 minutes | 0, then 4 | `faults::an_outage_ends_the_run_and_keeps_the_lake` |
//! | `exportFiles` is empty | publish nothing; yesterday stays | 4 | `faults::an_empty_export_publishes_nothing`, `faults::an_empty_export_leaves_yesterdays_snapshot_alone` |
//! | the listing is no listing, or too deep | say where, quote nothing | 4 | `faults::what_is_no_listing_is_said_without_being_quoted` |
//! | 100,000 parts | take them | 0 | `faults::a_listing_of_100_000_parts_is_taken`, `faults::many_small_parts_are_one_snapshot` |
//! | two parts with one base name, other paths than before | the whole path is the name, and is not read for meaning | 0 | `faults::parts_with_one_base_name_are_two_parts` |
//! | a part elsewhere than allowed, or not by https | refuse before a byte is sent | 4 | `faults::what_is_no_listing_is_said_without_being_quoted` |
//! | a server without a valid certificate | nothing is sent | 4 | `faults::a_server_that_nobody_vouches_for_gets_no_token` |
//! | a redirect | not followed | 4 | `faults::a_redirect_is_not_followed` |
//! | 200 and no bytes, copy pending | ask again with backoff, 10 times in some two minutes | 0, then 4 | `faults::a_part_that_is_still_copied_is_waited_for` |
//! | 404 after listing, 5xx, 429 of storage | the same | 0, then 4 | `faults::a_part_that_is_not_there_yet_is_waited_for` |
//! | reset, short transfer | go on by range, with `If-Match` | 0, then 4 | `faults::a_reset_goes_on_by_range` |
//! | less than a kilobyte a second for half a minute | the same | 0, then 4 | `faults::a_transfer_that_stalls_goes_on_by_range`, `faults::a_transfer_that_stalls_for_ever_ends_the_run` |
//! | the blob is another one than before | begin it anew | 0 | `azurite::…`, `source::tests::a_partial_part_of_another_blob_is_begun_anew` in the crate |
//! | `Content-MD5` differs | found before the first row is decoded: fetch that part again with backoff, 10 times in some two minutes | 0, then 4 | `faults::a_wrong_md5_is_fetched_again`, `faults::a_part_whose_md5_never_fits_is_named_and_the_others_are_kept` |
//! | a whole transfer of a cut or damaged gzip stream | the same; where decoding finds it after rows were read, fetch and check all parts, then start over, once | 0, then 4 | `faults::a_part_that_is_cut_before_its_first_row_is_fetched_again`, `faults::a_short_body_and_a_failed_crc_start_the_run_over_once`, `faults::a_part_that_stays_damaged_is_named_and_the_others_are_kept` |
//! | a whole transfer of what is not an export: HTML, XML, a JSON error, a zip archive, … | found before its first row: the same | 0, then 4 | `faults::a_part_that_is_no_export_is_fetched_again`, `faults::a_part_that_stays_html_is_named_and_the_others_are_kept` |
//! | a part without a row beside others with some, or mostly rejects | found once all are read: start over, once | 0, then 4 | `faults::a_part_without_a_row_is_fetched_again`, `faults::a_part_that_never_has_a_row_ends_the_run` |
//! | a body without length, chunks or checksum, which may be cut at a line's end | ask for all of it by range, then for its size (`HEAD`); gzip is proved by its trailer; anything else is refused | 0, then 4 | `faults::text_cut_at_a_line_without_length_is_made_whole`, `faults::text_that_nothing_proves_whole_is_refused`, `faults::gzip_without_length_is_proved_by_its_trailer` |
//! | one part stays bad | the others are still fetched; name the part | 4 | `source::tests::one_bad_part_leaves_the_others_in_the_spool` in the crate |
//! | a signature about to end | list again before it does, once for all parts | 0 | `faults::urls_about_to_expire_are_listed_again_before_they_do` |
//! | 403 of storage: it has ended, or is too new | list again, match by path; four refusals are the end | 0, then 4 | `faults::an_expired_url_is_listed_again`, `faults::a_url_that_is_refused_for_ever_ends_the_run`, `azurite::…` |
//! | 403 of storage by its code: the account's firewall, addresses, permissions; a URL without its signature | refuse at once: another listing changes nothing | 4 | `faults::a_firewall_of_the_account_is_not_taken_for_expiry`, `source::tests::storage_that_refuses_for_good_is_asked_once` in the crate |
//! | one part in two spellings (`OrgId=`, `OrgId%3D`) | one listing: refuse; two listings, or two runs: the same part | 4, 0 | `faults::a_part_listed_in_two_spellings_is_refused`, `faults::parts_in_another_spelling_are_taken_from_the_spool` |
//! | `--sas-valid-hours` or `--page-size` that the service refuses | say what it allows | 4 | `faults::a_lifetime_that_the_service_refuses_has_a_hint`, `source::tests::an_option_that_the_service_refuses_is_named` in the crate |
//! | a bearer token beside a signature | never sent | – | `sources::parts_are_fetched_without_bearer_and_api_calls_with_it` |
//! | a new snapshot between two listings | drop what was staged, start over on the new one, once | 0, then 4 | `faults::a_new_snapshot_in_between_starts_the_run_over`, `faults::a_snapshot_that_keeps_moving_ends_the_run` |
//! | our clock is off | say by how much, plan by the service's | 0 | `faults::a_clock_that_is_off_is_noticed` |
//! | a page breaks off | fetch it again | 0, then 4 | `faults::pages_that_break_off_are_fetched_again` |
//! | `nextLink` leads to another API host of the same cloud | follow path and query at the API's own origin | 0 | `faults::links_to_the_clouds_other_hosts_stay_at_the_api` |
//! | `nextLink` repeats, or leads elsewhere | refuse before the token is sent | 4 | `faults::links_that_lead_astray_are_not_followed` |
//! | the pages move to another snapshot | never mix | 4 | `source::tests::links_that_lead_astray_are_not_followed` in the crate, `faults::pages_stay_on_their_snapshot_when_a_new_one_is_generated` |
//! | killed at any moment | the next run takes what is whole, and goes on within a part | 0 | `resume::a_killed_run_resumes_by_parts_and_within_a_part`, `resume::pages_resume_at_the_last_whole_one`, `soak::…` |
//! | interrupted, also while a part is waited for | end in order | 130 | `faults::a_run_that_is_interrupted_while_it_waits_for_a_part_to_get_well_ends_at_once` |
//! | the spool was changed meanwhile, or holds what nobody looked at | size, CRC and the server's MD5 are checked; what differs is fetched again | 0 | `resume::what_the_spool_holds_is_checked_and_not_trusted`, `resume::what_the_spool_holds_is_held_against_the_servers_md5` |
//! | two runs at once | one publishes, the others wait and skip | 0 | `resume::two_runs_at_once_publish_one_snapshot` |
//! | the disk of the work dir is nearly full | say so before it is | 4 | `spool::tests::what_has_no_room_is_refused_in_words` in the crate |
//! | secrets | URLs and tokens that cannot print themselves; libraries' logs are capped | – | `secrets::…` |

pub mod api;
pub mod cloud;
pub mod blob;
pub mod budget;
pub mod retry;
pub mod stall;
pub mod server_clock;
pub mod service_error;

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use schema::Permission;

pub use self::{retry::RetryPolicy, service_error::ServiceError, stall::MinThroughput};
use crate::{
    auth::{AuthError, TokenClaims},
    exit_code::ExitCode,
    http::{HttpError, RedactedUrl},
};

/// Why bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request could not be sent, or its answer not be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A URL of the service points away from the API.
    #[error(
        "{url}: not at the API's own origin, {api}, nor at a host of its cloud; the token is not sent there"
    )]
    ForeignOrigin {
        /// Where it points.
        url: RedactedUrl,
        /// The API.
        api: RedactedUrl,
    },
    /// No token could be had.
    #[error(transparent)]
    Token(#[from] AuthError),
    /// The API does not accept the token.
    #[error("GET {url}: {status}: {service}")]
    NotAuthorised {
        /// What was asked for.
        url: RedactedUrl,
        /// 401 or 403.
        status: u16,
        /// The service's own words.
        service: ServiceError,
        /// What the caller must be allowed.
        permission: &'static Permission,
        /// What the token says of itself, where it can be read.
        claims: Option<Box<TokenClaims>>,
    },
    /// The call budget is used up for longer than a run waits: by the service's word or by our own count.
    #[error("GET {url}: the call rate is used up until {}", retry_at.to_rfc3339_opts(SecondsFormat::Secs, true))]
    Throttled {
        /// What was asked for.
        url: RedactedUrl,
        /// When the service will answer again.
        retry_at: DateTime<Utc>,
    },
    /// The record of earlier calls cannot be used.
    #[error("work dir: cannot use the record of calls {}", path.display())]
    Budget {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Blob storage does not take the signature of a download URL
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: 403: {service}{}", if *is_out_of_time { " (the download url has expired or is not valid yet)" } else { "" })]
    SignatureRefused {
        /// What was asked for.
        url: RedactedUrl,
        /// The service's own words.
        service: ServiceError,
        /// Whether it is a matter of time: then another listing helps.
        is_out_of_time: bool,
    },
    /// Blob storage refuses for good: another listing would not change it.
    #[error("GET {url}: {status}: {service}{}", if service.is_about_network() { ": the storage account refuses this network" } else { "" })]
    StorageRefused {
        /// What was asked for.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's own words.
        service: ServiceError,
    },
    /// The connection is open and next to nothing comes.
    #[error("GET {url}: the transfer has as good as stopped: {bytes} bytes in {window:?}")]
    Stalled {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        bytes: u64,
        /// In this time.
        window: Duration,
    },
    /// A redirect, which is never followed.
    #[error("GET {url}: {status} redirects to {}, which is not followed", host.as_deref().unwrap_or("nowhere"))]
    Redirected {
        /// What was asked for.
        url: RedactedUrl,
        /// The 3xx status.
        status: u16,
        /// The host it points to.
        host: Option<String>,
    },
    /// Any other status that is no success.
    #[error("GET {url}: {status}: {service}")]
    Status {
        /// What was asked for.
        url: RedactedUrl,
        /// The status.
        status: u16,
        /// The service's own words.
        service: ServiceError,
    },
    /// 200 without a body: the blob is listed but not there yet
    /// (pipeline/docs/service.md#failures-of-blob-storage).
    #[error("GET {url}: the answer is empty{}", copy_status.as_ref().map(|status| format!(" (copy {status})")).unwrap_or_default())]
    EmptyBody {
        /// What was asked for.
        url: RedactedUrl,
        /// `x-ms-copy-status`, where given.
        copy_status: Option<String>,
    },
    /// Fewer or more bytes than announced.
    #[error("GET {url}: {expected} bytes announced, {found} came")]
    WrongLength {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A body that ends with its connection, and nothing says that this was its end.
    #[error(
        "GET {url}: {found} bytes came, and nothing proves that they are the whole part: no length, no checksum, no chunks"
    )]
    Unproved {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        found: u64,
    },
    /// All bytes came, and they are not those of a whole part.
    #[error("GET {url}: what came is damaged: {reason}")]
    Damaged {
        /// What was asked for.
        url: RedactedUrl,
        /// What was found by whoever took the part.
        reason: String,
    },
    /// The blob changed while it was being downloaded: what came so far is of no use.
    #[error("GET {url}: the blob changed while it was downloaded")]
    Changed {
        /// What was asked for.
        url: RedactedUrl,
    },
    /// A page that ends too early although its transfer did not fail.
    #[error("GET {url}: the page ends too early, after {found} bytes")]
    CutPage {
        /// What was asked for.
        url: RedactedUrl,
        /// Bytes that came.
        found: u64,
    },
    /// Transient failures until the bounds were reached.
    #[error("gave up after {attempts} attempts in {:.1} s", elapsed.as_secs_f64())]
    GaveUp {
        /// Attempts made.
        attempts: u32,
        /// Time since the first began.
        elapsed: Duration,
        /// The last failure.
        source: Box<FetchError>,
    },
}

impl FetchError {
    /// Whether another attempt can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(err) => err.is_transient(),
            Self::EmptyBody { .. }
            | Self::WrongLength { .. }
            | Self::Damaged { .. }
            | Self::Changed { .. }
            | Self::SignatureRefused { .. }
            | Self::Stalled { .. }
            | Self::CutPage { .. } => true,
            // 404: listed, and still being copied into place
            // (pipeline/docs/service.md#failures-of-blob-storage). 408 and 429 say so themselves.
            Self::Status { status, .. } => matches!(status, 404 | 408 | 429 | 500..),
            Self::Token(err) => err.is_transient(),
            Self::ForeignOrigin { .. }
            | Self::NotAuthorised { .. }
            | Self::Throttled { .. }
            | Self::Budget { .. }
            | Self::Redirected { .. }
            | Self::StorageRefused { .. }
            | Self::Unproved { .. }
            | Self::GaveUp { .. } => false,
        }
    }

    /// How a run that fails with this ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Http(err) => err.exit_code(),
            Self::Token(err) => err.exit_code(),
            Self::NotAuthorised { .. } => ExitCode::NotAuthorised,
            Self::Throttled { .. } => ExitCode::Budget,
            Self::GaveUp { source, .. } => source.exit_code(),
            _ => ExitCode::Source,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Token(err) => err.hint(),
            Self::Http(err) => err.hint(),
            Self::NotAuthorised { status, permission, claims: Some(claims), .. } => {
                Some(claims.explain(*status, permission))
            }
            Self::NotAuthorised { permission, claims: None, .. } => Some(format!(
                "the application needs the permission {} of WindowsDefenderATP, with admin consent \
                 (a signed-in user: {}); where it has that, check --scope and --cloud",
                permission.application, permission.delegated,
            )),
            Self::Throttled { retry_at, .. } => {
                Some(format!("run again after {}", retry_at.to_rfc3339_opts(SecondsFormat::Secs, true)))
            }
            Self::Budget { .. } => Some("check --work-dir".into()),
            Self::SignatureRefused { is_out_of_time: true, .. } => {
                Some("run again to list the export again".into())
            }
            Self::SignatureRefused { .. } => Some(
                "the url's time is not over: look whether a proxy changes or refuses it, then run again"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_network() => Some(
                "run where the account's firewall lets requests in; a vpn, a private endpoint or a proxy in \
                 between may be what it refuses"
                    .into(),
            ),
            Self::StorageRefused { service, .. } if service.is_about_anonymity() => {
                Some("storage saw no signature: look whether a proxy cuts the query off download urls".into())
            }
            Self::StorageRefused { .. } => Some("run again to list the export again".into()),
            Self::Unproved { .. } => Some(
                "a proxy in between drops the length: let it pass Content-Length or route around it \
                 (NO_PROXY), or download the parts by other means and pass them with --from"
                    .into(),
            ),
            Self::ForeignOrigin { .. } => Some(
                "if that host is the service's own, pass it with --api-url or --cloud, or take the export \
                 by --via files"
                    .into(),
            ),
            Self::GaveUp { source, .. } => source.hint().or_else(|| Some("run again later".into())),
            _ => None,
        }
    }
}
