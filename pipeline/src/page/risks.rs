//! What has a high risk in a table's newest snapshot.
//!
//! Takes the snapshot, reads it once; gives what has a high risk, most devices first.

use std::collections::BTreeMap;

use super::data::{Risk, Risks};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::cube::{self, CubeRequest, Dimension, DimensionValue, RollUpRequest};
use crate::history::{HistoryError, SnapshotReader};

/// Things that are shown, at most.
const MAX_ITEMS: usize = 100;

/// Returns what has a high risk in a table, if it declares that.
pub(super) fn read(
    table: &TableSnapshots,
    newest: &SnapshotReader<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<Risks>, HistoryError> {
    let Some(roles) = table.report.risk else { return Ok(None) };
    let rank = |text: Option<&str>| {
        let rank = roles.high.iter().position(|high| text == Some(*high))?;
        i64::try_from(rank).ok()
    };
    let rollup = |dimensions: &[usize], devices| RollUpRequest { dimensions: dimensions.to_vec(), devices };
    let request = CubeRequest {
        device: table.roles.device,
        dimensions: vec![
            Dimension::Text(roles.id),
            Dimension::Text(roles.place),
            Dimension::TextClass(roles.risk, Box::new(rank)),
            Dimension::Text(roles.name),
            Dimension::NumberClass(roles.active, Box::new(Some)),
        ],
        sum: None,
        rollups: vec![rollup(&[0, 1, 2], true), rollup(&[0, 1, 2, 3], false), rollup(&[0, 1, 2, 4], true)],
    };
    let cube = cube::read(newest, &request, memory_bytes, cancel)?;
    let text = |value: &DimensionValue| value.text().map(str::to_owned);
    let key = |values: &[&DimensionValue]| (text(values[0]), text(values[1]), values[2].number());
    let mut rows = 0;
    let mut items: BTreeMap<_, Risk> = BTreeMap::new();
    for (values, counts) in cube.cells(0) {
        rows += counts.rows;
        let rank = values[2].number().and_then(|rank| usize::try_from(rank).ok());
        let item = Risk {
            id: text(values[0]),
            name: None,
            place: text(values[1]),
            risk: rank.and_then(|rank| roles.high.get(rank)).map(|risk| (*risk).to_owned()),
            devices: counts.devices,
            active_devices: 0,
        };
        items.insert(key(&values), item);
    }
    for (values, _) in cube.cells(1) {
        // Rows that disagree: the last name.
        items.entry(key(&values)).and_modify(|item| item.name = item.name.take().max(text(values[3])));
    }
    for (values, counts) in cube.cells(2).filter(|(values, _)| values[3].number() == Some(1)) {
        items.entry(key(&values)).and_modify(|item| item.active_devices = counts.devices);
    }
    let mut items: Vec<_> = items.into_values().collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.devices));
    let left_out = items.len().saturating_sub(MAX_ITEMS) as u64;
    items.truncate(MAX_ITEMS);
    Ok(Some(Risks { dataset: table.dataset().to_owned(), rows, items, left_out }))
}
