//! Changes between two snapshots, one row a change.
//!
//! Takes two snapshots; gives the changes ordered by device.
//!
//! 1. One scan of both snapshots describes the devices, and finds the keys of each that could have changed
//!    (`fingerprints`). It reads all rows as dictionary keys, and rules nearly all of them out. If the sums exceed the
//!    memory limit, more scans follow, each for other devices.
//! 2. The rows of those keys are read (`touched_rows`) and compared device by device (`merge`), one range of devices after
//!    the other if they exceed the memory limit.
//!
//! Rows with the same key count as one. If their values differ, the largest one counts; null is the smallest.
//! Null equals null everywhere. A column that only one snapshot has is not compared.

use hashbrown::HashTable;

use super::HistoryError;
use super::change_filter::ChangeFilter;
use super::devices::{Description, DeviceHistory, DeviceTable};
use super::fingerprints::{self, HashedRow, KeySum};
use super::merge::{Changed, FoundChange, Merger, RowLayout};
use super::roles::{DeviceChangeKind, Roles};
use super::row_hash::{CodeTable, RowFilter, RowHasher, device_hash, row_hash, short_key};
use super::rows::{RowColumns, SnapshotReader, TextColumn};
use super::touched_rows::{CellColumn, Chosen, RankedValues, TouchedRows, Values};
use crate::cancel::Cancel;
use crate::manifest::DataFile;

/// Memory for comparing a row that could have changed, at most: its numbers, its place in the order, and the values
/// that no other row has.
const BYTES_PER_TOUCHED_ROW: u64 = 160;

/// A comparison of two snapshots.
#[derive(Debug)]
pub struct Diff<'a> {
    /// Roles of the columns.
    pub roles: Roles,
    /// The snapshot before.
    pub old: &'a SnapshotReader<'a>,
    /// The snapshot after.
    pub new: &'a SnapshotReader<'a>,
    /// Selects changes.
    pub filter: &'a ChangeFilter,
    /// Memory limit of the comparison.
    pub memory_bytes: u64,
}

/// Which of the snapshots has the device of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Both.
    Both,
    /// The new one alone.
    New,
    /// The old one alone.
    Gone,
}

/// A change.
#[derive(Debug)]
pub struct Change<'c> {
    /// The name of its kind.
    pub kind: &'static str,
    /// Its device.
    pub device: &'c DeviceHistory,
    /// The values of the product's columns, all null if the device itself has changed.
    pub product: &'c [Option<&'c str>],
    /// The version in the old snapshot.
    pub old_version: Option<&'c str>,
    /// The version in the new snapshot.
    pub new_version: Option<&'c str>,
    /// The value in the old snapshot.
    pub old_value: Option<&'c str>,
    /// The value in the new snapshot.
    pub new_value: Option<&'c str>,
}

impl Change<'_> {
    /// Returns which of the snapshots has the device.
    pub fn presence(&self) -> Presence {
        match (&self.device.old, &self.device.new) {
            (Some(_), Some(_)) => Presence::Both,
            (None, _) => Presence::New,
            (_, None) => Presence::Gone,
        }
    }
}

/// Counts the changes between two snapshots by kind, in the order of [`Roles::kinds`].
///
/// # Errors
///
/// What [`Diff::run`] returns.
///
/// # Panics
///
/// If a change has an unknown kind: a mistake of ours.
pub fn count(
    roles: Roles,
    old: &SnapshotReader<'_>,
    new: &SnapshotReader<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Vec<i64>, HistoryError> {
    let kinds = roles.kinds();
    let mut counts = vec![0; kinds.len()];
    let filter = ChangeFilter::default();
    let diff = Diff { roles, old, new, filter: &filter, memory_bytes };
    diff.find(cancel, |_, changes, _| {
        for change in changes {
            let index = kinds.iter().position(|kind| *kind == change.kind).expect("a declared kind");
            counts[index] += 1;
        }
        Ok(())
    })?;
    Ok(counts)
}

impl Diff<'_> {
    /// Finds the changes and gives them to `take`, ordered by device, product, kind and versions.
    ///
    /// # Errors
    ///
    /// A snapshot that cannot be read, an interruption, or what `take` returns.
    pub fn run(
        &self,
        cancel: &Cancel,
        mut take: impl FnMut(&Change<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let has_version = self.roles.version.is_some();
        let mut texts = [const { String::new() }; 2];
        self.find(cancel, |device, changes, range| {
            for change in changes {
                let num_product = self.roles.product.len();
                let mut product = vec![None; num_product];
                if let Some((is_old, row)) = change.product {
                    let cells = range.cells(is_old, row);
                    for (column, (value, number)) in product.iter_mut().zip(cells).enumerate() {
                        *value = range.values.text(column, *number);
                    }
                }
                let version =
                    |number: u32| has_version.then(|| range.values.text(num_product, number)).flatten();
                let [old_text, new_text] = &mut texts;
                let (old_value, new_value) = match change.changed {
                    Changed::Nothing => (None, None),
                    Changed::Value(column, [old, new]) => {
                        (range.values.shown(column, old, old_text), range.values.shown(column, new, new_text))
                    }
                    Changed::Device(kind) => {
                        let [old, new] = [&device.old, &device.new].map(|device| {
                            let device = device.as_ref()?;
                            match kind {
                                DeviceChangeKind::Renamed => device.name.as_deref(),
                                DeviceChangeKind::Moved => device.group.as_deref(),
                                _ => device.platform.as_deref(),
                            }
                        });
                        (old, new)
                    }
                };
                let [old_version, new_version] = change.versions.map(version);
                take(&Change {
                    kind: change.kind,
                    device,
                    product: &product,
                    old_version,
                    new_version,
                    old_value,
                    new_value,
                })?;
            }
            Ok(())
        })
    }

    /// Calls `take` with every device that has changes, and them.
    fn find(
        &self,
        cancel: &Cancel,
        mut take: impl FnMut(&DeviceHistory, &[FoundChange], &RangeRows<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let scan = Scan::try_new(self)?;
        let devices = scan.devices(cancel)?;
        let takes_device = self.roles.product.iter().all(|column| self.filter.allows(Some(column), None));
        let max_rows = usize::try_from(self.memory_bytes / 2 / BYTES_PER_TOUCHED_ROW).unwrap_or(usize::MAX);
        let mut rest = &devices[..];
        while !rest.is_empty() {
            let mut num_rows = 0;
            let fits = |device: &&DeviceHistory| {
                num_rows += 2 * device.touched.len();
                num_rows <= max_rows
            };
            let num_devices = rest.iter().take_while(fits).count().max(1);
            let (range, others) = rest.split_at(num_devices);
            rest = others;
            scan.compare(range, takes_device, cancel, &mut take)?;
        }
        Ok(())
    }
}

/// What is read of both snapshots.
struct Scan<'a> {
    diff: &'a Diff<'a>,
    /// Name, group and platform of a device.
    described_by: [Option<&'static str>; 3],
    /// Product and version.
    key: Vec<&'static str>,
    compared: Vec<&'static str>,
    layout: RowLayout,
}

/// What one scan looks for.
#[derive(Clone, Copy)]
struct Pass {
    /// Describes devices.
    devices: bool,
    /// Sums the rows of the devices of a turn, out of so many.
    sums: Option<(u64, u64)>,
    /// Only rows of these devices' platforms are read.
    only_known: bool,
}

impl<'a> Scan<'a> {
    fn try_new(diff: &'a Diff<'a>) -> Result<Self, HistoryError> {
        let roles = diff.roles;
        let [old, new] = [diff.old, diff.new];
        let in_both = |column: &str| old.has_column(column) && new.has_column(column);
        let key: Vec<_> = roles.product.iter().copied().chain(roles.version).collect();
        for snapshot in [old, new] {
            snapshot.check_columns(&[roles.device])?;
            snapshot.check_columns(&key)?;
        }
        let compared: Vec<_> = roles.compared.iter().filter(|compared| in_both(compared.column)).collect();
        let described = [roles.device_name, roles.group, roles.platform];
        let layout = RowLayout {
            num_product: roles.product.len(),
            has_version: roles.version.is_some(),
            compared: compared.iter().map(|compared| compared.kind).collect(),
            described: described.map(|column| column.is_some_and(in_both)),
        };
        Ok(Self {
            diff,
            described_by: described,
            key,
            compared: compared.iter().map(|compared| compared.column).collect(),
            layout,
        })
    }

    /// Returns the selected devices, ordered by id, with their keys that could have changed.
    fn devices(&self, cancel: &Cancel) -> Result<Vec<DeviceHistory>, HistoryError> {
        let Diff { roles, old, new, filter, memory_bytes, .. } = *self.diff;
        let sums_bytes = old.num_rows().max(new.num_rows()) * fingerprints::BYTES_PER_KEY;
        let num_turns = sums_bytes.div_ceil(memory_bytes / 2).max(1);
        let mut table = DeviceTable::default();
        // Devices that the filter leaves out need no sums.
        let is_filtered = filter.has(roles.platform) || filter.has(roles.group);
        if is_filtered {
            self.pass(Pass { devices: true, sums: None, only_known: false }, &mut table, cancel)?;
            table.retain(|device| device.is_wanted(roles, filter));
        }
        for turn in 0..num_turns {
            let devices = !is_filtered && turn == 0;
            let pass = Pass { devices, sums: Some((turn, num_turns)), only_known: is_filtered };
            self.pass(pass, &mut table, cancel)?;
            table.retain(|device| {
                let keys = device.sums.take_keys();
                if !keys.is_empty() {
                    device.touched = keys;
                }
                true
            });
        }
        Ok(table.into_devices())
    }

    fn pass(&self, pass: Pass, table: &mut DeviceTable, cancel: &Cancel) -> Result<(), HistoryError> {
        let roles = self.diff.roles;
        let mut columns = vec![roles.device];
        if pass.devices {
            columns.extend(self.described_by.iter().flatten());
        }
        if pass.sums.is_some() {
            columns.extend(self.key.iter().chain(&self.compared));
            columns.extend(roles.only_with);
        }
        for (snapshot, is_old) in [(self.diff.old, true), (self.diff.new, false)] {
            let mut wanted = vec![true; snapshot.files().len()];
            if pass.only_known {
                for (wanted, file) in wanted.iter_mut().zip(snapshot.files()) {
                    *wanted = table.any(|device| self.has_rows_in(device, is_old, file));
                }
            }
            let table = &*table;
            snapshot.visit(
                &columns,
                |index| wanted[index],
                cancel,
                |scanner: &mut Scanner, rows| {
                    scanner.scan(self, pass, is_old, rows, table);
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    /// Whether the file can have rows of the device, by its platform.
    fn has_rows_in(&self, device: &DeviceHistory, is_old: bool, file: &DataFile) -> bool {
        let device = if is_old { &device.old } else { &device.new };
        !self.diff.roles.is_partitioned_by_platform()
            || device.as_ref().is_some_and(|device| device.is_on(file.os_platform.as_deref()))
    }

    /// Compares a range of devices.
    fn compare(
        &self,
        devices: &[DeviceHistory],
        takes_device: bool,
        cancel: &Cancel,
        take: &mut impl FnMut(&DeviceHistory, &[FoundChange], &RangeRows<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let column = |name: &&'static str| CellColumn {
            name,
            column_type: self.diff.roles.column_type(name),
            is_version: self.diff.roles.version == Some(*name),
        };
        let values = Values::new(self.key.iter().chain(&self.compared).map(column).collect());
        let touched = TouchedDevices::new(devices);
        let mut old = self.read(true, &touched, &values, cancel)?;
        let mut new = self.read(false, &touched, &values, cancel)?;
        drop(touched);
        let values = values.ranked([&mut old, &mut new]);
        let range = RangeRows { values: &values, rows: [&old, &new], num_columns: self.layout.num_columns() };
        let [(old_starts, mut old_rows), (new_starts, mut new_rows)] =
            range.rows.map(|rows| rows.by_device(devices.len()));
        let mut merger = Merger::new(self.diff.roles, &self.layout, range.rows, &values);
        for (index, device) in devices.iter().enumerate() {
            if index % 1024 == 0 && cancel.is_cancelled() {
                return Err(HistoryError::Interrupted);
            }
            let of_device = |starts: &[u32]| starts[index] as usize..starts[index + 1] as usize;
            let rows = [&mut old_rows[of_device(&old_starts)], &mut new_rows[of_device(&new_starts)]];
            let changes = merger.changes(device, takes_device, rows);
            if !changes.is_empty() {
                take(device, changes, &range)?;
            }
        }
        Ok(())
    }

    /// Reads the rows of one snapshot whose key could have changed.
    fn read(
        &self,
        is_old: bool,
        touched: &TouchedDevices<'_>,
        values: &Values,
        cancel: &Cancel,
    ) -> Result<TouchedRows, HistoryError> {
        let mut rows = TouchedRows::default();
        if touched.is_empty() {
            return Ok(rows);
        }
        let Diff { roles, filter, .. } = *self.diff;
        let snapshot = if is_old { self.diff.old } else { self.diff.new };
        let is_filtered = filter.has(roles.platform) || filter.has(roles.group);
        let wanted: Vec<bool> = snapshot
            .files()
            .map(|file| {
                !is_filtered || touched.devices.iter().any(|device| self.has_rows_in(device, is_old, file))
            })
            .collect();
        let mut columns = vec![roles.device];
        columns.extend(self.key.iter().chain(&self.compared));
        columns.extend(roles.only_with);
        let read = snapshot.visit(
            &columns,
            |index| wanted[index],
            cancel,
            |reader: &mut TouchedReader, batch| {
                reader.read(self, batch, touched, values);
                Ok(())
            },
        )?;
        for reader in read {
            rows.append(reader.rows);
        }
        Ok(rows)
    }
}

/// Scans rows on one thread.
#[derive(Debug, Default)]
struct Scanner {
    device_hashes: CodeTable<u64>,
    key_hasher: RowHasher,
    value_hasher: RowHasher,
    filter: RowFilter,
    /// Codes of a device and of what a row says of it.
    said: Vec<(u32, [u32; 3])>,
    /// What the last row of a device says of it, by code.
    last_said: Vec<[u32; 3]>,
    /// End of a device's rows in `rows`, by code.
    ends: Vec<u32>,
    /// Rows by device.
    rows: Vec<HashedRow>,
    merged: Vec<KeySum>,
}

impl Scanner {
    fn scan(
        &mut self,
        scan: &Scan<'_>,
        pass: Pass,
        is_old: bool,
        rows: &RowColumns<'_>,
        table: &DeviceTable,
    ) {
        let roles = scan.diff.roles;
        let ids = rows.text(roles.device);
        let hashes = self.device_hashes.of(&ids, |id| device_hash(id.unwrap_or_default()));
        if pass.devices {
            let columns = scan.described_by.map(|column| column.map(|column| rows.text(column)));
            let code_of = |column: &Option<TextColumn>, row: usize| {
                column.as_ref().map_or(0, |column| column.codes()[row])
            };
            // A device's rows nearly always agree: what they say is looked at once.
            self.last_said.clear();
            self.last_said.resize(ids.num_codes(), [u32::MAX; 3]);
            self.said.clear();
            for (row, id) in ids.codes().iter().enumerate() {
                let said = [0, 1, 2].map(|index: usize| code_of(&columns[index], row));
                if std::mem::replace(&mut self.last_said[*id as usize], said) != said {
                    self.said.push((*id, said));
                }
            }
            for (id, said) in &self.said {
                let value =
                    |index: usize| columns[index].as_ref().and_then(|column| column.value(said[index]));
                let description = Description { name: value(0), group: value(1), platform: value(2) };
                table.change_or_insert(id_of(&ids, *id), hashes[*id as usize], |device| {
                    device.describe(description, is_old);
                });
            }
        }
        let Some((turn, num_turns)) = pass.sums else { return };
        let keys = self.key_hasher.hash(&scan.key, rows);
        let values = self.value_hasher.hash(&scan.compared, rows);
        let wanted = self.filter.wanted(roles, scan.diff.filter, rows);
        let is_wanted = |row: usize| wanted.is_none_or(|wanted| wanted[row]);
        self.ends.clear();
        self.ends.resize(ids.num_codes(), 0);
        for (row, id) in ids.codes().iter().enumerate() {
            self.ends[*id as usize] += u32::from(is_wanted(row));
        }
        let mut num_rows = 0;
        for (end, hash) in self.ends.iter_mut().zip(&*hashes) {
            let count = if hash % num_turns == turn { *end } else { 0 };
            *end = num_rows;
            num_rows += count;
        }
        self.rows.clear();
        self.rows.resize(num_rows as usize, (0, 0));
        for (row, id) in ids.codes().iter().enumerate() {
            if is_wanted(row) && (num_turns == 1 || hashes[*id as usize] % num_turns == turn) {
                let end = &mut self.ends[*id as usize];
                self.rows[*end as usize] = (short_key(keys[row]), row_hash(keys[row], values[row]));
                *end += 1;
            }
        }
        let mut start = 0;
        for (id, end) in (0..).zip(&self.ends) {
            let rows = start as usize..*end as usize;
            start = *end;
            if rows.is_empty() {
                continue;
            }
            let (rows, merged) = (&mut self.rows[rows], &mut self.merged);
            table.change(id_of(&ids, id), hashes[id as usize], |device| {
                device.sums.merge(rows, is_old, merged);
            });
        }
    }
}

/// Returns the id of a device; the column is never null.
fn id_of(ids: &TextColumn, code: u32) -> &str {
    ids.value(code).unwrap_or_default()
}

/// Devices of a range with keys that could have changed, found by a hash of their id.
struct TouchedDevices<'d> {
    devices: &'d [DeviceHistory],
    by_id: HashTable<u32>,
}

impl<'d> TouchedDevices<'d> {
    fn new(devices: &'d [DeviceHistory]) -> Self {
        let hash = |index: &u32| device_hash(&devices[*index as usize].id);
        let mut by_id = HashTable::new();
        for (index, device) in (0..).zip(devices) {
            if !device.touched.is_empty() {
                by_id.insert_unique(hash(&index), index, hash);
            }
        }
        Self { devices, by_id }
    }

    fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn find(&self, id: &str) -> Option<u32> {
        let is_same = |index: &u32| *self.devices[*index as usize].id == *id;
        self.by_id.find(device_hash(id), is_same).copied()
    }
}

/// A device of a batch, if it has keys that could have changed: its position, and a bit for each of the keys, by which
/// nearly all others are told apart.
#[derive(Debug, Clone, Copy)]
struct TouchedDevice {
    index: u32,
    keys: u64,
}

/// Reads touched rows on one thread.
#[derive(Debug, Default)]
struct TouchedReader {
    devices: CodeTable<TouchedDevice>,
    key_hasher: RowHasher,
    filter: RowFilter,
    chosen: Chosen,
    rows: TouchedRows,
}

impl TouchedReader {
    fn read(
        &mut self,
        scan: &Scan<'_>,
        batch: &RowColumns<'_>,
        touched: &TouchedDevices<'_>,
        values: &Values,
    ) {
        let ids = batch.text(scan.diff.roles.device);
        let devices = self.devices.of(&ids, |id| match touched.find(id.unwrap_or_default()) {
            None => TouchedDevice { index: 0, keys: 0 },
            Some(index) => {
                let keys = touched.devices[index as usize].touched.iter();
                TouchedDevice { index, keys: keys.fold(0, |bits, key| bits | 1 << (key % 64)) }
            }
        });
        let keys = self.key_hasher.hash(&scan.key, batch);
        let wanted = self.filter.wanted(scan.diff.roles, scan.diff.filter, batch);
        self.chosen.rows.clear();
        for (row, (id, key)) in ids.codes().iter().zip(keys).enumerate() {
            let device = devices[*id as usize];
            let key = short_key(*key);
            if device.keys >> (key % 64) & 1 == 1
                && wanted.is_none_or(|wanted| wanted[row])
                && touched.devices[device.index as usize].touched.binary_search(&key).is_ok()
            {
                self.chosen.rows.push(row);
                self.rows.devices.push(device.index);
            }
        }
        values.add(batch, &mut self.chosen, &mut self.rows);
    }
}

/// The touched rows of a range of devices.
struct RangeRows<'r> {
    values: &'r RankedValues,
    rows: [&'r TouchedRows; 2],
    num_columns: usize,
}

impl RangeRows<'_> {
    fn cells(&self, is_old: bool, row: u32) -> &[u32] {
        self.rows[usize::from(!is_old)].cells(row, self.num_columns)
    }
}
