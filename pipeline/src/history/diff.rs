//! Changes between two snapshots, one row a change.
//!
//! Takes two snapshots; gives the changes as frames, ordered by device.
//!
//! 1. `devices` reads every device of both snapshots, three columns of all rows.
//! 2. `fingerprints` finds the products of devices that could have changed. It reads all rows as dictionary
//!    keys, and rules nearly all of them out.
//! 3. `merge` compares the rows of those products, in Polars. If they exceed the memory limit, it compares
//!    one range of devices after the other.
//!
//! Rows with the same key count as one. If their values differ, the largest one counts; null is the smallest.
//! Null equals null everywhere.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use arrow_array::{Array, Int32Array};
use foldhash::quality::RandomState;
use polars::prelude::*;

use super::HistoryError;
use super::change_filter::ChangeFilter;
use super::devices::{self, Device, DeviceHistory, Devices};
use super::fingerprints::{self, Fingerprints, Touched};
use super::merge::{own_columns, product_changes};
use super::roles::{
    CHANGE, DeviceChangeKind, NEW_GENERATED_TIME, NEW_VALUE, NEW_VERSION, OLD_GENERATED_TIME, OLD_VALUE,
    OLD_VERSION, Roles,
};
use super::rows::{RowGroupColumns, SnapshotReader, TextColumn, ValueColumn};
use crate::cancel::Cancel;
use crate::manifest::DataFile;

/// A column beside [`Roles::change_columns`]: whether the device is in both snapshots (`both`), only in the new one
/// (`new`) or only in the old one (`gone`).
pub const PRESENCE: &str = "presence";

/// Memory for comparing a row that could have changed, at most: its text, the tables of joins and groups, and
/// its changes.
const BYTES_PER_TOUCHED_ROW: u64 = 1_000;

/// Hash of the row key; values are not hashed to be found again. The seed is random, so that no input is known
/// to collide.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

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

impl Diff<'_> {
    /// Finds the changes and gives them to `take`, a frame of [`Roles::change_columns`] and [`PRESENCE`] at a time
    /// and at least one, ordered by device, vendor, name, kind and versions.
    ///
    /// # Errors
    ///
    /// A snapshot that cannot be read, an interruption, or what `take` returns.
    pub fn run(
        &self,
        cancel: &Cancel,
        mut take: impl FnMut(DataFrame) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let devices = devices::read(self.roles, self.old, self.new, self.filter, cancel)?;
        let touched = self.touched(&devices, cancel)?;
        let ids: Vec<&str> = devices.keys().map(AsRef::as_ref).collect();
        let touched_bytes = 2 * touched.len() as u64 * BYTES_PER_TOUCHED_ROW;
        let num_ranges = touched_bytes.div_ceil(self.memory_bytes / 2).max(1);
        let range_len = ids.len().div_ceil(usize::try_from(num_ranges).unwrap_or(usize::MAX)).max(1);
        let mut ranges: Vec<&[&str]> = ids.chunks(range_len).collect();
        if ranges.is_empty() {
            ranges.push(&[]);
        }
        for range in ranges {
            let selection = Selection { diff: self, devices: &devices, range, touched: &touched };
            take(selection.changes(cancel)?)?;
        }
        Ok(())
    }

    /// Finds the products of devices that could have changed, in as many passes as the memory limit needs.
    fn touched(&self, devices: &Devices, cancel: &Cancel) -> Result<Touched, HistoryError> {
        let [old_rows, new_rows] = [self.old, self.new].map(SnapshotReader::num_rows);
        let table_bytes = old_rows.max(new_rows) * fingerprints::BYTES_PER_PRODUCT;
        let num_turns = table_bytes.div_ceil(self.memory_bytes / 2).max(1);
        let mut touched = Touched::default();
        for turn in 0..num_turns {
            let fingerprints = Fingerprints::with_capacity(old_rows.max(new_rows) / num_turns);
            let in_turn = |product: u64| num_turns == 1 || product % num_turns == turn;
            for (source, is_old) in [(self.old, true), (self.new, false)] {
                let wanted = |file: &DataFile| self.reads(devices, is_old, file);
                let columns = self.roles.row_columns();
                source.visit(&columns, wanted, cancel, |rows: &mut fingerprints::HashedRows, group| {
                    let keys = Keys::of(self.roles, group, self.filter, |id| devices.contains_key(id));
                    let values = keys.hashed_values();
                    for row in 0..group.num_rows() {
                        if let Some(product) = keys.product(row).filter(|product| in_turn(*product)) {
                            let mut hasher = HASH.build_hasher();
                            for column in &values {
                                hasher.write_u64(column.hash(row));
                            }
                            rows.push(product, hasher.finish());
                        }
                    }
                    if is_old {
                        fingerprints.add(rows);
                    } else {
                        fingerprints.subtract(rows);
                    }
                    Ok(())
                })?;
            }
            touched.extend(fingerprints.into_touched());
        }
        Ok(touched)
    }

    /// Whether the file can have rows of selected devices, by its platform.
    fn reads(&self, devices: &Devices, is_old: bool, file: &DataFile) -> bool {
        let is_there = |history: &DeviceHistory| {
            let device = if is_old { &history.old } else { &history.new };
            device.as_ref().is_some_and(|device| device.is_on(file.os_platform.as_deref()))
        };
        let is_filtered = self.filter.has(self.roles.platform) || self.filter.has(self.roles.group);
        !is_filtered || devices.values().any(is_there)
    }
}

/// The columns of a row group that products are told apart and compared by.
struct Keys {
    id: TextColumn,
    product: Vec<TextColumn>,
    version: Option<TextColumn>,
    compared: Vec<ValueColumn>,
    /// Hashes of the values of device and product, `None` for those that are filtered out.
    hashes: Vec<Vec<Option<u64>>>,
}

impl Keys {
    fn of(
        roles: Roles,
        group: &RowGroupColumns<'_>,
        filter: &ChangeFilter,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Self {
        let id = group.text(roles.device);
        let product: Vec<_> = roles.product.iter().map(|column| group.text(column)).collect();
        let hash = |column: &TextColumn, is_wanted: &dyn Fn(Option<&str>) -> bool| {
            column.map(|value| is_wanted(value).then(|| HASH.hash_one(value)))
        };
        let mut hashes = vec![hash(&id, &|id| id.is_some_and(&is_wanted))];
        for (name, column) in roles.product.iter().zip(&product) {
            hashes.push(hash(column, &|value| filter.allows(Some(name), value)));
        }
        Self {
            id,
            product,
            version: roles.version.map(|column| group.text(column)),
            compared: roles.compared.iter().map(|compared| group.values(compared.column)).collect(),
            hashes,
        }
    }

    /// Returns the hash of the row's device and product; `None` if any of them is filtered out.
    fn product(&self, row: usize) -> Option<u64> {
        let mut hasher = HASH.build_hasher();
        for (column, hashes) in std::iter::once(&self.id).chain(&self.product).zip(&self.hashes) {
            hasher.write_u64(hashes[column.codes()[row]]?);
        }
        Some(hasher.finish())
    }

    /// Returns version and compared values, hashed.
    fn hashed_values(&self) -> Vec<HashedValues<'_>> {
        let text = |column| HashedValues::text(column);
        let compared = self.compared.iter().map(|column| match column {
            ValueColumn::Text(column) => HashedValues::text(column),
            ValueColumn::Integers(values) => HashedValues::Integers(values),
        });
        self.version.iter().map(text).chain(compared).collect()
    }
}

/// A column whose values are hashed row by row.
enum HashedValues<'c> {
    /// By code.
    Text {
        column: &'c TextColumn,
        hashes: Vec<u64>,
    },
    Integers(&'c Int32Array),
}

impl<'c> HashedValues<'c> {
    fn text(column: &'c TextColumn) -> Self {
        Self::Text { column, hashes: column.map(|value| HASH.hash_one(value)) }
    }

    fn hash(&self, row: usize) -> u64 {
        match self {
            Self::Text { column, hashes } => hashes[column.codes()[row]],
            Self::Integers(values) => HASH.hash_one(values.is_valid(row).then(|| values.value(row))),
        }
    }
}

/// Kind, device, old and new value.
type DeviceChange<'a> = (DeviceChangeKind, &'a str, Option<&'a str>, Option<&'a str>);

/// A range of devices and the products on them that could have changed.
struct Selection<'a> {
    diff: &'a Diff<'a>,
    devices: &'a Devices,
    range: &'a [&'a str],
    touched: &'a Touched,
}

impl Selection<'_> {
    fn changes(&self, cancel: &Cancel) -> Result<DataFrame, HistoryError> {
        let roles = self.diff.roles;
        let mut parts = vec![self.device_changes()?.lazy()];
        if !self.touched.is_empty() {
            let [old, new] = [self.read(true, cancel)?, self.read(false, cancel)?];
            parts.extend(product_changes(roles, old, new)?);
        }
        let attributes = self.attributes()?.lazy();
        let time = |source: &SnapshotReader<'_>| {
            let micros = source.generated_time().timestamp_micros();
            lit(micros).cast(DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)))
        };
        let mut order = roles.product_columns();
        order.extend([CHANGE, OLD_VERSION, NEW_VERSION]);
        let mut selected = roles.change_columns();
        selected.push(PRESENCE);
        let changes = concat(parts, UnionArgs::default())?
            .join(attributes, [col(roles.device)], [col(roles.device)], JoinArgs::new(JoinType::Left))
            .with_columns([
                time(self.diff.old).alias(OLD_GENERATED_TIME),
                time(self.diff.new).alias(NEW_GENERATED_TIME),
            ])
            .sort(order, SortMultipleOptions::default())
            .select(selected.into_iter().map(col).collect::<Vec<_>>())
            .collect()?;
        Ok(changes)
    }

    /// Reads the rows of one snapshot whose product could have changed.
    fn read(&self, is_old: bool, cancel: &Cancel) -> Result<DataFrame, HistoryError> {
        let source = if is_old { self.diff.old } else { self.diff.new };
        let (first, last) = (self.range.first(), self.range.last());
        let in_range =
            |id: &str| first.is_some_and(|first| id >= *first) && last.is_some_and(|last| id <= *last);
        let wanted = |file: &DataFile| self.diff.reads(self.devices, is_old, file);
        let roles = self.diff.roles;
        let columns = roles.row_columns();
        let frames = source.visit(&columns, wanted, cancel, |frames: &mut Vec<DataFrame>, group| {
            let keys =
                Keys::of(roles, group, self.diff.filter, |id| in_range(id) && self.devices.contains_key(id));
            let chosen: Vec<usize> = (0..group.num_rows())
                .filter(|row| keys.product(*row).is_some_and(|product| self.touched.contains(product)))
                .collect();
            let text = |name: &str, column: &TextColumn| {
                let values = chosen.iter().map(|row| column.value(column.codes()[*row]));
                StringChunked::from_iter_options(name.into(), values).into_column()
            };
            let mut series = vec![text(roles.device, &keys.id)];
            series.extend(roles.product.iter().zip(&keys.product).map(|(name, column)| text(name, column)));
            series.extend(roles.version.iter().zip(&keys.version).map(|(name, column)| text(name, column)));
            series.extend(roles.compared.iter().zip(&keys.compared).map(|(compared, values)| match values {
                ValueColumn::Text(column) => text(compared.column, column),
                ValueColumn::Integers(values) => {
                    let numbers = chosen.iter().map(|row| values.is_valid(*row).then(|| values.value(*row)));
                    Int32Chunked::from_iter_options(compared.column.into(), numbers).into_column()
                }
            }));
            frames.push(DataFrame::new(chosen.len(), series)?);
            Ok(())
        })?;
        let mut frames = frames.into_iter().flatten();
        let Some(mut rows) = frames.next() else { return Ok(self.no_rows()) };
        for frame in frames {
            rows.vstack_mut_owned(frame)?;
        }
        Ok(rows)
    }

    fn histories(&self) -> impl Iterator<Item = (&str, &DeviceHistory)> {
        self.range.iter().filter_map(|id| Some((*id, self.devices.get(*id)?)))
    }

    /// Returns the columns of a change that describe its device.
    fn attributes(&self) -> PolarsResult<DataFrame> {
        let column = |name: &str, value: &dyn Fn(&DeviceHistory) -> Option<String>| {
            let values = self.histories().map(|(_, history)| value(history));
            StringChunked::from_iter_options(name.into(), values).into_column()
        };
        let shown = |value: &dyn Fn(&Device) -> &Option<Box<str>>, history: &DeviceHistory| {
            value(history.shown()).as_deref().map(str::to_owned)
        };
        let schema::HistoryRoles { device_name, platform, group, device, .. } = *self.diff.roles;
        let ids = self.range.iter().copied();
        let mut columns = vec![StringChunked::from_iter_values(device.into(), ids).into_column()];
        columns
            .extend(device_name.map(|name| column(name, &|history| shown(&|device| &device.name, history))));
        columns
            .extend(platform.map(|name| column(name, &|history| shown(&|device| &device.platform, history))));
        columns.extend(group.map(|name| column(name, &|history| shown(&|device| &device.group, history))));
        columns.push(column(PRESENCE, &|history| {
            let presence = match (&history.old, &history.new) {
                (Some(_), Some(_)) => "both",
                (None, _) => "new",
                (_, None) => "gone",
            };
            Some(presence.to_owned())
        }));
        DataFrame::new(self.range.len(), columns)
    }

    /// Returns the changes of devices themselves.
    fn device_changes(&self) -> PolarsResult<DataFrame> {
        let roles = self.diff.roles;
        let wanted = roles.product.iter().all(|column| self.diff.filter.allows(Some(column), None));
        let mut changes: Vec<DeviceChange<'_>> = Vec::new();
        for (id, history) in self.histories().filter(|_| wanted) {
            match (&history.old, &history.new) {
                (None, _) => changes.push((DeviceChangeKind::Appeared, id, None, None)),
                (_, None) => changes.push((DeviceChangeKind::Disappeared, id, None, None)),
                (Some(old), Some(new)) => {
                    let values = [
                        (DeviceChangeKind::Renamed, &old.name, &new.name),
                        (DeviceChangeKind::Moved, &old.group, &new.group),
                        (DeviceChangeKind::PlatformChanged, &old.platform, &new.platform),
                    ];
                    changes.extend(
                        values
                            .into_iter()
                            .filter(|(_, old, new)| old != new)
                            .map(|(kind, old, new)| (kind, id, old.as_deref(), new.as_deref())),
                    );
                }
            }
        }
        let nothing = |name: &str| Column::full_null(name.into(), changes.len(), &DataType::String);
        let text = |name: &str, value: &dyn Fn(&DeviceChange<'_>) -> Option<String>| {
            StringChunked::from_iter_options(name.into(), changes.iter().map(value)).into_column()
        };
        let columns = own_columns(roles).into_iter().map(|name| match name {
            CHANGE => text(name, &|change| Some(change.0.name().to_owned())),
            OLD_VALUE => text(name, &|change| change.2.map(str::to_owned)),
            NEW_VALUE => text(name, &|change| change.3.map(str::to_owned)),
            name if name == roles.device => text(name, &|change| Some(change.1.to_owned())),
            name => nothing(name),
        });
        DataFrame::new(changes.len(), columns.collect())
    }

    /// Returns the rows of a snapshot without any.
    fn no_rows(&self) -> DataFrame {
        let roles = self.diff.roles;
        let is_integer = |name: &str| roles.is_integer(name);
        let fields = roles.row_columns().into_iter().map(|name| {
            Field::new(name.into(), if is_integer(name) { DataType::Int32 } else { DataType::String })
        });
        DataFrame::empty_with_schema(&fields.collect())
    }
}
