//! The devices with most findings, by name: only if they are asked for.
//!
//! Takes the tables; gives the devices of the first that ranks them, vulnerabilities before others.

use std::collections::HashMap;

use super::data::{Device, Devices};
use super::request::PageRequest;
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::counts::{self, Figure};
use crate::history::roles::Roles;
use crate::history::{HistoryError, SnapshotReader};

/// Returns the devices that were asked for.
pub(super) fn read(
    tables: &[TableSnapshots],
    request: &PageRequest,
    cancel: &Cancel,
) -> Result<Option<Devices>, HistoryError> {
    let ranks = |table: &&TableSnapshots| table.report.device_measure.is_some();
    let exposed = tables.iter().filter(ranks).find(|table| table.report.exposure.is_some());
    let table = exposed.or_else(|| tables.iter().find(ranks)).filter(|_| request.num_devices > 0);
    let Some((table, measure)) = table.and_then(|table| Some((table, table.report.device_measure?))) else {
        return Ok(None);
    };
    let roles = table.roles;
    let newest = table.open(cancel)?;
    let counted = counts::count(roles, &newest, &[roles.device], request.memory_bytes, cancel)?;
    let mut ranked: Vec<(i64, &str)> = counted
        .iter()
        .filter_map(|(values, counts)| match counts.figure(roles, measure) {
            Some(Figure::Count(count)) if count > 0 => Some((count, values[0].as_deref()?)),
            _ => None,
        })
        .collect();
    ranked.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    ranked.truncate(request.num_devices);
    let described = describe(roles, &newest, &ranked, cancel)?;
    let devices = ranked.iter().zip(described).map(|((findings, _), [name, platform, group])| Device {
        name,
        platform,
        group,
        findings: *findings,
    });
    Ok(Some(Devices {
        dataset: table.dataset().to_owned(),
        counted: measure.to_owned(),
        devices: devices.collect(),
    }))
}

/// Returns name, platform and group of each device; the largest, as a diff does, if its rows disagree.
fn describe(
    roles: Roles,
    newest: &SnapshotReader<'_>,
    ranked: &[(i64, &str)],
    cancel: &Cancel,
) -> Result<Vec<[Option<String>; 3]>, HistoryError> {
    let positions: HashMap<&str, usize> = ranked.iter().map(|(_, id)| *id).zip(0..).collect();
    let described_by = [roles.device_name, roles.platform, roles.group];
    let columns: Vec<_> = described_by.into_iter().flatten().chain([roles.device]).collect();
    let found = newest.visit(
        &columns,
        |_| true,
        cancel,
        |found: &mut Vec<[Option<String>; 3]>, rows| {
            found.resize(ranked.len(), [const { None }; 3]);
            let ids = rows.text(roles.device);
            let wanted = ids.map(|id| id.and_then(|id| positions.get(id).copied()));
            let texts = described_by.map(|column| column.map(|column| rows.text(column)));
            for (row, code) in ids.codes().iter().enumerate() {
                let Some(position) = wanted[*code as usize] else { continue };
                for (known, text) in found[position].iter_mut().zip(&texts) {
                    let value = text.as_ref().and_then(|text| text.value(text.codes()[row]));
                    if value > known.as_deref() {
                        *known = value.map(str::to_owned);
                    }
                }
            }
            Ok(())
        },
    )?;
    let mut described = vec![[const { None }; 3]; ranked.len()];
    for of_thread in found {
        for (device, other) in described.iter_mut().zip(of_thread) {
            for (known, value) in device.iter_mut().zip(other) {
                *known = known.take().max(value);
            }
        }
    }
    Ok(described)
}
