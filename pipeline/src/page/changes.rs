//! What changed: over time, and since the snapshot before.
//!
//! Takes a table's snapshots; gives what `trend --changes` and `diff` say of them.

use std::collections::HashMap;

use super::data::{Changes, Flow, FlowDay, KindChanges, ProductChanges};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::change_filter::ChangeFilter;
use crate::history::changes_over_time::ChangesOverTime;
use crate::history::diff::{Change, Diff, Presence};
use crate::history::{HistoryError, SnapshotReader};

/// Products with changes that are shown, at most.
const MAX_PRODUCTS: usize = 20;

/// Returns what came and went between consecutive snapshots. `done` is called with the bytes of those that were compared.
pub(super) fn flow(
    table: &TableSnapshots,
    memory_bytes: u64,
    mut done: impl FnMut(u64),
    cancel: &Cancel,
) -> Result<Option<Flow>, HistoryError> {
    if !table.has_flow() {
        return Ok(None);
    }
    let counted = |position: usize| done(table.bytes(position));
    let changes = ChangesOverTime::read(
        &table.table,
        &table.published,
        table.history.clone(),
        memory_bytes,
        counted,
        cancel,
    )?;
    let words = table.roles.words;
    let days = changes.counts(words.added).zip(changes.counts(words.removed));
    let days = days.map(|((from, to, added), (.., removed))| FlowDay {
        from: from.date_naive(),
        date: to.date_naive(),
        added: added.unsigned_abs(),
        removed: removed.unsigned_abs(),
    });
    Ok(Some(Flow {
        dataset: table.dataset().to_owned(),
        added: words.added.to_owned(),
        removed: words.removed.to_owned(),
        days: days.collect(),
    }))
}

/// Returns what changed since the snapshot before, if there is one.
pub(super) fn since_before(
    table: &TableSnapshots,
    new: &SnapshotReader<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<Changes>, HistoryError> {
    let Some(before) = table.before() else { return Ok(None) };
    let old = SnapshotReader::open(&table.table, &table.published[before], cancel)?;
    let filter = ChangeFilter::default();
    let mut tally = Tally::new(table);
    let diff = Diff { roles: table.roles, old: &old, new, filter: &filter, memory_bytes };
    diff.run(cancel, |change| {
        tally.add(change);
        Ok(())
    })?;
    let mut products: Vec<_> = tally.products.into_iter().collect();
    products.sort_unstable_by(|(name, counts), (other_name, other)| {
        other.changes.cmp(&counts.changes).then_with(|| name.cmp(other_name))
    });
    let left_out = products.len().saturating_sub(MAX_PRODUCTS) as u64;
    products.truncate(MAX_PRODUCTS);
    let products = products.into_iter().map(|(name, counts)| ProductChanges {
        name,
        changes: counts.changes,
        devices: counts.devices,
        by_kind: counts.by_kind,
    });
    Ok(Some(Changes {
        dataset: table.dataset().to_owned(),
        from: table.published[before].id.date(),
        to: table.date(),
        kinds: tally.kinds,
        products: products.collect(),
        name_columns: table.name_columns(),
        left_out,
    }))
}

/// The changes that were counted so far.
struct Tally {
    kinds: Vec<KindChanges>,
    num_product_kinds: usize,
    /// Positions of the columns that name a product.
    name: Vec<usize>,
    products: HashMap<Vec<Option<String>>, ProductTally>,
    /// Device of the last change of a product, and how many there were.
    last_device: Box<str>,
    num_devices: u64,
}

#[derive(Default)]
struct ProductTally {
    changes: u64,
    devices: u64,
    by_kind: Vec<u64>,
    /// Number of the last device that was counted.
    last_device: u64,
}

impl Tally {
    fn new(table: &TableSnapshots) -> Self {
        let roles = table.roles;
        let num_product_kinds = roles.product_kinds().len();
        let kinds = roles.kinds().into_iter().enumerate().map(|(index, kind)| KindChanges {
            kind: kind.to_owned(),
            is_of_devices: index >= num_product_kinds,
            total: 0,
            on_known_devices: 0,
            on_new_devices: 0,
            on_gone_devices: 0,
        });
        let position = |name: &&str| roles.product.iter().position(|column| column == name);
        Self {
            kinds: kinds.collect(),
            num_product_kinds,
            name: table.report.name.iter().filter_map(position).collect(),
            products: HashMap::new(),
            last_device: Box::default(),
            num_devices: 0,
        }
    }

    /// Counts a change. Those of a device come one after the other.
    fn add(&mut self, change: &Change<'_>) {
        let kind = self.kinds.iter().position(|known| known.kind == change.kind).expect("a declared kind");
        let counts = &mut self.kinds[kind];
        counts.total += 1;
        match change.presence() {
            Presence::Both => counts.on_known_devices += 1,
            Presence::New => counts.on_new_devices += 1,
            Presence::Gone => counts.on_gone_devices += 1,
        }
        if counts.is_of_devices || self.name.is_empty() {
            return;
        }
        if *self.last_device != *change.device.id {
            self.last_device = change.device.id.clone();
            self.num_devices += 1;
        }
        let name = self.name.iter().map(|column| change.product[*column].map(str::to_owned)).collect();
        let product = self.products.entry(name).or_default();
        product.by_kind.resize(self.num_product_kinds, 0);
        product.by_kind[kind] += 1;
        product.changes += 1;
        if product.last_device != self.num_devices {
            product.last_device = self.num_devices;
            product.devices += 1;
        }
    }
}
