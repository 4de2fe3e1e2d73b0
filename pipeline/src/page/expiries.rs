//! What expires within 90 days of a table's newest snapshot.
//!
//! Takes the snapshot, reads it once; gives what expires, the next first. A name that holds a device's is left out: the
//! certificate of a host is named for it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use schema::ExpiryRoles;

use super::data::{Expiries, Expiry};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::counts::Figure;
use crate::history::cube::{self, CubeRequest, Dimension, RollUpRequest};
use crate::history::trend::Trend;
use crate::history::{HistoryError, SnapshotReader};

/// Days that it looks ahead.
const DAYS_AHEAD: u32 = 90;

/// Things that are shown, at most.
const MAX_ITEMS: usize = 100;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Returns what expires soon in a table, if it declares that.
pub(super) fn read(
    table: &TableSnapshots,
    newest: &SnapshotReader<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<Expiries>, HistoryError> {
    let Some(roles) = table.report.expiry else { return Ok(None) };
    let now = newest.generated_time().timestamp_micros();
    let end = now.saturating_add(i64::from(DAYS_AHEAD) * DAY_MICROS);
    let within = move |time: Option<i64>| time.filter(|time| *time >= now && *time < end).map(Some);
    let rollup = |dimensions: &[usize], devices| RollUpRequest { dimensions: dimensions.to_vec(), devices };
    let request = CubeRequest {
        device: table.roles.device,
        dimensions: vec![
            Dimension::Text(roles.id),
            Dimension::Text(roles.name),
            Dimension::NumberClass(roles.expires, Box::new(within)),
        ],
        sum: None,
        rollups: vec![rollup(&[0], true), rollup(&[0, 1, 2], false)],
    };
    let cube = cube::read(newest, &request, memory_bytes, cancel)?;
    let mut items: BTreeMap<Option<String>, Expiry> = BTreeMap::new();
    for (values, _) in cube.cells(1) {
        let id = values[0].text().map(str::to_owned);
        let name = values[1].text().map(|text| name_of(text, roles));
        let time = values[2].number().unwrap_or(now);
        let Some(expires) = DateTime::from_timestamp_micros(time) else { continue };
        let days = time.saturating_sub(now).div_euclid(DAY_MICROS).unsigned_abs();
        let new = Expiry { id: id.clone(), name, expires, days, devices: 0 };
        let item = items.entry(id).or_insert_with(|| new.clone());
        // Rows that disagree: the earliest time, and the last name.
        if new.expires < item.expires {
            (item.expires, item.days) = (new.expires, new.days);
        }
        item.name = item.name.take().max(new.name);
    }
    for (values, counts) in cube.cells(0) {
        items.entry(values[0].text().map(str::to_owned)).and_modify(|item| item.devices = counts.devices);
    }
    let mut items: Vec<_> = items.into_values().collect();
    items.sort_by_key(|item| item.expires);
    let left_out = items.len().saturating_sub(MAX_ITEMS) as u64;
    items.truncate(MAX_ITEMS);
    withhold_devices(table, newest, &mut items, cancel)?;
    Ok(Some(Expiries {
        dataset: table.dataset().to_owned(),
        expired: expired(table, roles, memory_bytes, cancel)?,
        items,
        left_out,
        days_ahead: DAYS_AHEAD,
    }))
}

fn expired(
    table: &TableSnapshots,
    roles: ExpiryRoles,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<u64, HistoryError> {
    let (published, newest) = (&table.published, [table.newest]);
    let trend = Trend::read_cached(&table.table, published, &newest, memory_bytes, |_| {}, cancel)?;
    let figure = trend.counts().find_map(|(.., counts)| counts.figure(table.roles, roles.expired));
    Ok(match figure {
        Some(Figure::Count(count)) => count.unsigned_abs(),
        _ => 0,
    })
}

/// Returns the name in a JSON object, or the text as it is.
fn name_of(text: &str, roles: ExpiryRoles) -> String {
    let object = serde_json::from_str::<serde_json::Value>(text).ok();
    let member = object.as_ref().and_then(|object| object.get(roles.name_member)?.as_str());
    member.unwrap_or(text).to_owned()
}

/// Removes names that hold the name of a device of the table.
fn withhold_devices(
    table: &TableSnapshots,
    reader: &SnapshotReader<'_>,
    items: &mut [Expiry],
    cancel: &Cancel,
) -> Result<(), HistoryError> {
    let Some(column) = table.roles.device_name else { return Ok(()) };
    let words: BTreeSet<String> =
        items.iter().filter_map(|item| item.name.as_deref()).flat_map(words_of).collect();
    let found = reader.visit(
        &[column],
        |_| true,
        cancel,
        |found: &mut BTreeSet<String>, rows| {
            for name in rows.text(column).map(|name| name.map(str::to_lowercase)).into_iter().flatten() {
                let host = name.split('.').next().unwrap_or_default().to_owned();
                found.extend([host, name].into_iter().filter(|name| words.contains(name)));
            }
            Ok(())
        },
    )?;
    let is_device = |word: &String| found.iter().any(|found| found.contains(word));
    for item in items {
        item.name.take_if(|name| words_of(name).any(|word| is_device(&word)));
    }
    Ok(())
}

/// Returns what may be a device's name in a text: its words, and parts of words between hyphens.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let text = text.to_lowercase();
    let mut words = vec![text.clone()];
    for word in text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
        words.push(word.to_owned());
        for label in word.split('.') {
            let starts = std::iter::once(0).chain(label.match_indices('-').map(|(at, _)| at + 1));
            for start in starts {
                let rest = &label[start..];
                let ends = rest.match_indices('-').map(|(at, _)| at).chain([rest.len()]);
                words.extend(ends.map(|end| rest[..end].to_owned()));
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_every_name_of_a_host() {
        let words: BTreeSet<_> = words_of("CN=Desk-12.lab.contoso.com, O=Contoso-DC01-CA").collect();
        for name in ["desk-12.lab.contoso.com", "desk-12", "dc01", "contoso-dc01", "dc01-ca"] {
            assert!(words.contains(name), "{name}: {words:?}");
        }
        assert!(!words.contains("c01"));
    }
}
