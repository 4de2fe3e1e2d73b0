//! Compares the rows of a device: keys in one snapshot alone, and keys with other values in both.
//!
//! Takes the rows of both snapshots, whose values are numbers of their order; gives the changes in the order of reports.
//! Both sides are sorted by product and version and walked side by side. Of one product, the versions that only the
//! old snapshot has are paired with those that only the new one has, lowest with lowest; what is left over was removed
//! or added. Rows with the same key count as one, with the largest of their values.

use std::cmp::Ordering;
use std::ops::Range;

use super::devices::DeviceHistory;
use super::roles::{DeviceChangeKind, Roles};
use super::touched_rows::{RankedValues, TouchedRows};

/// How touched rows are laid out: the columns of the product, then the version if there is one, then the values that are
/// compared.
#[derive(Debug)]
pub struct RowLayout {
    /// Number of columns of the product.
    pub num_product: usize,
    /// Whether a version follows.
    pub has_version: bool,
    /// The kind of a change of each compared value.
    pub compared: Vec<&'static str>,
    /// Whether both snapshots have name, group and platform of devices.
    pub described: [bool; 3],
}

impl RowLayout {
    /// Returns the number of columns that are the key.
    pub fn num_key(&self) -> usize {
        self.num_product + usize::from(self.has_version)
    }

    /// Returns the number of columns.
    pub fn num_columns(&self) -> usize {
        self.num_key() + self.compared.len()
    }
}

/// A change of a device, by numbers.
#[derive(Debug, Clone)]
pub struct FoundChange {
    /// The name of its kind.
    pub kind: &'static str,
    /// A row with the product: whether it is in the old snapshot, and its position. Nothing for the device itself.
    pub product: Option<(bool, u32)>,
    /// The versions, 0 if there is none.
    pub versions: [u32; 2],
    /// What has another value, if that is the change.
    pub changed: Changed,
}

/// What has another value.
#[derive(Debug, Clone, Copy)]
pub enum Changed {
    /// Nothing: the key itself is the change.
    Nothing,
    /// A column of the rows, with the numbers of both values.
    Value(usize, [u32; 2]),
    /// Name, group or platform of the device.
    Device(DeviceChangeKind),
}

/// Merges the rows of devices, and keeps room that is used again.
#[derive(Debug)]
pub struct Merger<'m> {
    roles: Roles,
    layout: &'m RowLayout,
    rows: [&'m TouchedRows; 2],
    values: &'m RankedValues,
    /// Keys of each side, each with its largest values.
    keys: [Keys; 2],
    found: Vec<FoundChange>,
}

/// The keys of a device on one side.
#[derive(Debug, Default)]
struct Keys {
    /// A row of each key.
    rows: Vec<u32>,
    /// The largest values of each key, one key after the other.
    values: Vec<u32>,
}

impl<'m> Merger<'m> {
    /// Creates a merger of old and new rows.
    pub fn new(
        roles: Roles,
        layout: &'m RowLayout,
        rows: [&'m TouchedRows; 2],
        values: &'m RankedValues,
    ) -> Self {
        Self { roles, layout, rows, values, keys: Default::default(), found: Vec::new() }
    }

    /// Returns the changes of a device in order, given its rows on both sides, which are put in order.
    pub fn changes(
        &mut self,
        device: &DeviceHistory,
        takes_device: bool,
        rows: [&mut [u32]; 2],
    ) -> &[FoundChange] {
        self.found.clear();
        for (side, rows) in rows.into_iter().enumerate() {
            self.read_keys(side, rows);
        }
        self.merge();
        if takes_device {
            self.add_device(device);
        }
        let Self { found, values, layout, rows, .. } = self;
        found.sort_unstable_by(|one, other| order(one, other, values, layout, *rows));
        found
    }

    fn cells(&self, side: usize, row: u32) -> &'m [u32] {
        self.rows[side].cells(row, self.layout.num_columns())
    }

    fn read_keys(&mut self, side: usize, rows: &mut [u32]) {
        let (table, num_columns, num_key) =
            (self.rows[side], self.layout.num_columns(), self.layout.num_key());
        let key = |row: u32| &table.cells(row, num_columns)[..num_key];
        rows.sort_unstable_by(|one, other| key(*one).cmp(key(*other)));
        let keys = &mut self.keys[side];
        keys.rows.clear();
        keys.values.clear();
        for same in rows.chunk_by(|one, other| key(*one) == key(*other)) {
            let start = keys.values.len();
            keys.rows.push(same[0]);
            keys.values.extend(&table.cells(same[0], num_columns)[num_key..]);
            for row in &same[1..] {
                let others = &table.cells(*row, num_columns)[num_key..];
                keys.values[start..]
                    .iter_mut()
                    .zip(others)
                    .for_each(|(value, other)| *value = (*value).max(*other));
            }
        }
    }

    fn merge(&mut self) {
        let sides = std::mem::take(&mut self.keys);
        let mut left = [0; 2];
        while let Some(product) = self.first_product(&sides, left) {
            let same = [0, 1].map(|side| {
                let start = left[side];
                let is_same = |row: &&u32| self.product(side, **row) == product;
                left[side] += sides[side].rows[start..].iter().take_while(is_same).count();
                start..left[side]
            });
            self.merge_product(&sides, same);
        }
        self.keys = sides;
    }

    fn product(&self, side: usize, row: u32) -> &'m [u32] {
        &self.cells(side, row)[..self.layout.num_product]
    }

    /// Returns the first product of those that are left on either side.
    fn first_product(&self, sides: &[Keys; 2], left: [usize; 2]) -> Option<&'m [u32]> {
        let first = [0, 1].map(|side| sides[side].rows.get(left[side]).map(|row| self.product(side, *row)));
        match first {
            [Some(old), Some(new)] => Some(old.min(new)),
            [old, new] => old.or(new),
        }
    }

    /// The version's number, 0 without one.
    fn version(&self, side: usize, row: u32) -> u32 {
        if self.layout.has_version { self.cells(side, row)[self.layout.num_product] } else { 0 }
    }

    /// Compares the keys of one product, which are in the order of versions on both sides.
    fn merge_product(&mut self, sides: &[Keys; 2], [mut old, mut new]: [Range<usize>; 2]) {
        let [mut removed, mut added] = [Vec::new(), Vec::new()];
        loop {
            let version = |side: usize, keys: &Range<usize>| self.version(side, sides[side].rows[keys.start]);
            let order = match (old.is_empty(), new.is_empty()) {
                (false, false) => version(0, &old).cmp(&version(1, &new)),
                (false, true) => Ordering::Less,
                (true, false) => Ordering::Greater,
                (true, true) => break,
            };
            if order.is_eq() {
                self.compare(sides, [old.start, new.start]);
            } else if order.is_lt() {
                removed.push(sides[0].rows[old.start]);
            } else {
                added.push(sides[1].rows[new.start]);
            }
            old.start += usize::from(order.is_le());
            new.start += usize::from(order.is_ge());
        }
        // A row that is its device appears and disappears with it.
        if self.layout.num_key() == 0 {
            return;
        }
        let words = self.roles.words;
        for place in 0..removed.len().max(added.len()) {
            let pair = [removed.get(place), added.get(place)].map(Option::<&u32>::copied);
            let versions = [0, 1].map(|side| pair[side].map_or(0, |row| self.version(side, row)));
            let (kind, product) = match pair {
                [Some(_), Some(new)] => (words.version_changed, (false, new)),
                [Some(old), None] => (words.removed, (true, old)),
                [None, Some(new)] => (words.added, (false, new)),
                [None, None] => unreachable!("one of them is longer"),
            };
            self.found.push(FoundChange {
                kind,
                product: Some(product),
                versions,
                changed: Changed::Nothing,
            });
        }
    }

    fn compare(&mut self, sides: &[Keys; 2], keys: [usize; 2]) {
        let row = sides[1].rows[keys[1]];
        let version = self.version(1, row);
        let num_values = self.layout.compared.len();
        for (index, kind) in self.layout.compared.iter().enumerate() {
            let values = [0, 1].map(|side| sides[side].values[keys[side] * num_values + index]);
            if values[0] != values[1] {
                self.found.push(FoundChange {
                    kind,
                    product: Some((false, row)),
                    versions: [version, version],
                    changed: Changed::Value(self.layout.num_key() + index, values),
                });
            }
        }
    }

    /// Adds the changes of the device itself.
    fn add_device(&mut self, device: &DeviceHistory) {
        let mut add = |kind: DeviceChangeKind| {
            let changed = match kind {
                DeviceChangeKind::Appeared | DeviceChangeKind::Disappeared => Changed::Nothing,
                kind => Changed::Device(kind),
            };
            self.found.push(FoundChange { kind: kind.name(), product: None, versions: [0, 0], changed });
        };
        match (&device.old, &device.new) {
            (None, _) => add(DeviceChangeKind::Appeared),
            (_, None) => add(DeviceChangeKind::Disappeared),
            (Some(old), Some(new)) => {
                let differs = [
                    (DeviceChangeKind::Renamed, old.name != new.name),
                    (DeviceChangeKind::Moved, old.group != new.group),
                    (DeviceChangeKind::PlatformChanged, old.platform != new.platform),
                ];
                for ((kind, differs), is_described) in differs.into_iter().zip(self.layout.described) {
                    if differs && is_described {
                        add(kind);
                    }
                }
            }
        }
    }
}

/// The order of reports: by product, the name of the kind and the text of the versions; null comes first.
fn order(
    one: &FoundChange,
    other: &FoundChange,
    values: &RankedValues,
    layout: &RowLayout,
    rows: [&TouchedRows; 2],
) -> Ordering {
    let product_of = |change: &FoundChange, column: usize| {
        let (is_old, row) = change.product?;
        // A product that is null is like that of a device, which has none.
        Some(rows[usize::from(!is_old)].cells(row, layout.num_columns())[column]).filter(|number| *number > 0)
    };
    let by_product = (0..layout.num_product)
        .map(|column| product_of(one, column).cmp(&product_of(other, column)))
        .find(|order| order.is_ne());
    let by_version = |side: usize| {
        if layout.has_version {
            values.compare_text(layout.num_product, one.versions[side], other.versions[side])
        } else {
            Ordering::Equal
        }
    };
    by_product
        .unwrap_or(Ordering::Equal)
        .then_with(|| one.kind.cmp(other.kind))
        .then_with(|| by_version(0))
        .then_with(|| by_version(1))
}
