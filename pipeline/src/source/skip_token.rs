//! The snapshot of a page, from the `TimePath` in the `$skiptoken` of its link.
//!
//! The token is Base64 of `{"ExportDefinition":{"TimePath":"2021-01-25/0200/"},…}`
//! (pipeline/docs/service.md#skip-tokens, decoded from the documentation's own examples). It is read for the
//! time and never built; a token in another format gives no time.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Deserialize;
use url::Url;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the time of the snapshot that `link` continues, if its `$skiptoken` says.
pub(super) fn snapshot_time(link: &Url) -> Option<DateTime<Utc>> {
    let (_, token) = link.query_pairs().find(|(name, _)| name.eq_ignore_ascii_case("$skiptoken"))?;
    // In a query an unescaped `+` is decoded as a space.
    let token: String = token
        .chars()
        .map(|c| match c {
            ' ' | '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    time_of_token(&BASE64.decode(token).ok()?)
}

fn time_of_token(json: &[u8]) -> Option<DateTime<Utc>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct SkipTokenFields {
        export_definition: Definition,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Definition {
        time_path: String,
    }
    let token: SkipTokenFields = serde_json::from_slice(json).ok()?;
    let (date, time) = token.export_definition.time_path.trim_matches('/').split_once('/')?;
    time_of_folders(date, time)
}

/// Returns the time of two nested folders `2021-01-25`, `0200`, in UTC.
pub(super) fn time_of_folders(date: &str, time: &str) -> Option<DateTime<Utc>> {
    let is_form = date.len() == 10 && time.len() == 4 && time.bytes().all(|byte| byte.is_ascii_digit());
    if !is_form {
        return None;
    }
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let time = NaiveTime::parse_from_str(time, "%H%M").ok()?;
    Some(date.and_time(time).and_utc())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn all_forms_of_base64_give_the_time() {
        let check = |token: &str, expected: Option<&str>| {
            let url = Url::parse(&format!("https://h/api/x?pagesize=5&{token}")).unwrap();
            let time = snapshot_time(&url).map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string());
            assert_eq!(time.as_deref(), expected, "{token}");
        };
        // `>>>` and `???` make `+` and `/` in Base64.
        let json = r#"{"ExportDefinition":{"TimePath":"2021-01-25/0200/"},"A":">>>???","LineStoppedAt":5}"#;
        let time = Some("2021-01-25 02:00:00");
        let standard = BASE64_STANDARD.encode(json);
        assert!(standard.contains('+') || standard.contains('/'), "{standard}");
        check(&format!("$skiptoken={standard}"), time);
        check(&format!("%24skiptoken={}", standard.replace('+', "%2B").replace('=', "%3D")), time);
        check(&format!("$skipToken={}", BASE64_URL_SAFE.encode(json)), time);
        check(&format!("$skiptoken={}", BASE64_URL_SAFE_NO_PAD.encode(json)), time);
        check("$skiptoken=%%%", None);
        check("skip=1", None);
        check(&format!("$skiptoken={}", BASE64_STANDARD.encode(r#"{"ExportDefinition":{}}"#)), None);
        check(&format!("$skiptoken={}", BASE64_STANDARD.encode(json.replace("0200", "2561"))), None);
    }

    #[test]
    fn folders_are_of_one_exact_form() {
        assert!(time_of_folders("2022-03-20", "1318").is_some());
        for (date, time) in
            [("2022-3-20", "1318"), ("2022-03-20", "118"), ("2022-13-20", "0000"), ("2022-03-20", "2400")]
        {
            assert_eq!(time_of_folders(date, time), None, "{date}/{time}");
        }
    }
}
