//! Checks generated times.

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use super::error::IngestError;
use super::time_problem::TimeProblem;
use crate::manifest::Route;
use crate::source::Export;

/// How far a generated time may be ahead of the clock: clocks differ and time zones get mixed up.
const MAX_AHEAD: TimeDelta = TimeDelta::days(2);

/// Checks a generated time against the years that a snapshot's name can have, and against the clock.
pub(super) fn check_generated_time(
    export: &Export,
    allow_future: bool,
    now: DateTime<Utc>,
) -> Result<(), IngestError> {
    let generated_time = export.generated_time;
    let problem = if !is_year_of_four_digits(generated_time) {
        TimeProblem::Year
    } else if !allow_future && generated_time - now > MAX_AHEAD {
        TimeProblem::Future { now }
    } else {
        return Ok(());
    };
    Err(IngestError::GeneratedTime { generated_time, problem, is_local: export.route == Route::Local })
}

/// Whether the year has four digits, as the name of a snapshot requires.
pub fn is_year_of_four_digits(time: DateTime<Utc>) -> bool {
    (1..=9999).contains(&time.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_time_is_checked_against_the_clock() {
        let check = |text: &str, allow_future: bool, expected: Option<&str>| {
            let export = Export {
                route: Route::Files,
                generated_time: text.parse().unwrap(),
                generated_time_from: crate::manifest::GeneratedTimeFrom::Path,
                num_parts: None,
                num_bytes: None,
            };
            let now = "2021-01-11T11:01:00Z".parse().unwrap();
            let result = check_generated_time(&export, allow_future, now);
            assert_eq!(result.err().map(|error| error.to_string()).as_deref(), expected, "{text}");
        };
        check("0001-01-01T00:00:00Z", false, None);
        check("2021-01-13T11:01:00Z", false, None);
        let ahead = "generated time 2021-01-13T11:01:01Z: more than two days ahead of the clock, \
                     2021-01-11T11:01:00Z";
        check("2021-01-13T11:01:01Z", false, Some(ahead));
        check("9999-12-31T23:59:59Z", true, None);
        let year = |text| format!("generated time {text}: expected a year from 0001 to 9999");
        check("+10000-01-01T00:00:00Z", true, Some(&year("+10000-01-01T00:00:00Z")));
        check("0000-01-01T00:00:00Z", false, Some(&year("0000-01-01T00:00:00Z")));
    }
}
