//! What changed from one snapshot to another, one row a change.
//!
//! Takes two snapshots; gives the changes as frames, in the order of devices, and touches nothing.
//!
//! 1. `devices`: every device of both, three columns of all rows.
//! 2. `fingerprints`: which products of which devices could have changed. All
//!    rows are read, as numbers into dictionaries, and nearly all are done with.
//! 3. The rows of those products are read, exactly, and compared by Polars. Where they are more than
//!    the memory is for, by ranges of devices, one after the other.
//!
//! Rows of one key (device, vendor, name, version) count as one; where their values differ, the
//! largest holds, and any value holds against null. Null equals null everywhere.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use arrow_array::Array;
use foldhash::quality::RandomState;
use polars::prelude::*;

use super::HistoryError;
use super::change_filter::{ChangeFilter, FilterField};
use super::devices::{self, Device, DeviceHistory, Devices};
use super::fingerprints::{self, Fingerprints, Touched};
use super::merge::software_changes;
use super::rows::{RowGroupColumns, SnapshotReader, TextColumn};
use crate::cancel::Cancel;
use crate::manifest::DataFile;

/// The columns of a change, in their order.
pub const COLUMNS: [&str; 13] = [
    "Change",
    "DeviceId",
    "DeviceName",
    "OSPlatform",
    "RbacGroupName",
    "SoftwareVendor",
    "SoftwareName",
    "OldVersion",
    "NewVersion",
    "OldValue",
    "NewValue",
    "OldGeneratedTime",
    "NewGeneratedTime",
];

/// A column beside [`COLUMNS`]: whether the device is in both snapshots (`both`), only in the new one
/// (`new`) or only in the old one (`gone`).
pub const PRESENCE: &str = "presence";

/// The kinds of change, in the order of reports.
pub const KINDS: [&str; 10] = [
    "installed",
    "removed",
    "version_changed",
    "weaknesses_changed",
    "end_of_support_changed",
    "device_appeared",
    "device_disappeared",
    "device_renamed",
    "device_moved",
    "device_platform_changed",
];

/// Columns that rows are compared by.
const SOFTWARE_COLUMNS: [&str; 6] = [
    "DeviceId",
    "SoftwareVendor",
    "SoftwareName",
    "SoftwareVersion",
    "NumberOfWeaknesses",
    "EndOfSupportStatus",
];

/// What comparing a row that could have changed takes at most: its text, tables of joins and groups,
/// and its changes.
const BYTES_PER_TOUCHED_ROW: u64 = 1_000;

/// Of a row's values: which row it is, never which value. Nobody knows beforehand which values collide.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// What is to be compared, and how.
#[derive(Debug)]
pub struct Diff<'a> {
    /// The snapshot before.
    pub old: &'a SnapshotReader<'a>,
    /// The snapshot after.
    pub new: &'a SnapshotReader<'a>,
    /// Which changes are wanted.
    pub filter: &'a ChangeFilter,
    /// What the comparison may take.
    pub memory_bytes: u64,
}

impl Diff<'_> {
    /// Finds the changes and gives them to `take`, a frame of [`COLUMNS`] and [`PRESENCE`] at a time
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
        let devices = devices::read(self.old, self.new, self.filter, cancel)?;
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

    /// The products of devices that could have changed, read in as many turns as the memory asks for.
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
                source.visit(
                    &SOFTWARE_COLUMNS,
                    wanted,
                    cancel,
                    |rows: &mut fingerprints::HashedRows, group| {
                        let keys = Keys::of(group, self.filter, |id| devices.contains_key(id));
                        let [versions, statuses] = [&keys.version, &keys.status]
                            .map(|column| column.map(|value| HASH.hash_one(value)));
                        let weaknesses = group.numbers("NumberOfWeaknesses");
                        for row in 0..group.num_rows() {
                            let Some(product) = keys.product(row).filter(|product| in_turn(*product)) else {
                                continue;
                            };
                            let number = weaknesses.is_valid(row).then(|| weaknesses.value(row));
                            let version = versions[keys.version.codes()[row]];
                            let status = statuses[keys.status.codes()[row]];
                            rows.push(product, HASH.hash_one((version, number, status)));
                        }
                        if is_old {
                            fingerprints.add(rows);
                        } else {
                            fingerprints.subtract(rows);
                        }
                        Ok(())
                    },
                )?;
            }
            touched.extend(fingerprints.into_touched());
        }
        Ok(touched)
    }

    /// Whether the file has rows of devices that are wanted, as far as its platform says.
    fn reads(&self, devices: &Devices, is_old: bool, file: &DataFile) -> bool {
        let is_there = |history: &DeviceHistory| {
            let device = if is_old { &history.old } else { &history.new };
            device.as_ref().is_some_and(|device| device.is_on(file.os_platform.as_deref()))
        };
        let is_filtered = self.filter.has(FilterField::Platform) || self.filter.has(FilterField::Group);
        !is_filtered || devices.values().any(is_there)
    }
}

/// The columns of a row group that installations are told apart by.
struct Keys {
    id: TextColumn,
    vendor: TextColumn,
    name: TextColumn,
    version: TextColumn,
    status: TextColumn,
    /// Hashes of each column's values, nothing for those that are not wanted.
    hashes: [Vec<Option<u64>>; 3],
}

impl Keys {
    fn of(group: &RowGroupColumns<'_>, filter: &ChangeFilter, is_wanted: impl Fn(&str) -> bool) -> Self {
        let [id, vendor, name, version, status] =
            ["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion", "EndOfSupportStatus"]
                .map(|column| group.text(column));
        let hash = |column: &TextColumn, is_wanted: &dyn Fn(Option<&str>) -> bool| {
            column.map(|value| is_wanted(value).then(|| HASH.hash_one(value)))
        };
        let hashes = [
            hash(&id, &|id| id.is_some_and(&is_wanted)),
            hash(&vendor, &|vendor| filter.allows(FilterField::Vendor, vendor)),
            hash(&name, &|name| filter.allows(FilterField::Product, name)),
        ];
        Self { id, vendor, name, version, status, hashes }
    }

    /// The hash of the row's device, vendor and name; nothing where any of them is not wanted.
    fn product(&self, row: usize) -> Option<u64> {
        let [ids, vendors, names] = &self.hashes;
        let id = ids[self.id.codes()[row]]?;
        let vendor = vendors[self.vendor.codes()[row]]?;
        let name = names[self.name.codes()[row]]?;
        Some(HASH.hash_one((id, vendor, name)))
    }
}

/// Kind, device, old and new value.
type DeviceChange<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>);

/// A range of devices, with all that could have changed on them.
struct Selection<'a> {
    diff: &'a Diff<'a>,
    devices: &'a Devices,
    range: &'a [&'a str],
    touched: &'a Touched,
}

impl Selection<'_> {
    fn changes(&self, cancel: &Cancel) -> Result<DataFrame, HistoryError> {
        let mut parts = vec![self.device_changes()?.lazy()];
        if !self.touched.is_empty() {
            let [old, new] = [self.read(true, cancel)?, self.read(false, cancel)?];
            parts.extend(software_changes(old, new)?);
        }
        let attributes = self.attributes()?.lazy();
        let time = |source: &SnapshotReader<'_>| {
            let micros = source.generated_time().timestamp_micros();
            lit(micros).cast(DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)))
        };
        let changes = concat(parts, UnionArgs::default())?
            .join(attributes, [col("DeviceId")], [col("DeviceId")], JoinArgs::new(JoinType::Left))
            .with_columns([
                time(self.diff.old).alias("OldGeneratedTime"),
                time(self.diff.new).alias("NewGeneratedTime"),
            ])
            .sort(
                ["DeviceId", "SoftwareVendor", "SoftwareName", "Change", "OldVersion", "NewVersion"],
                SortMultipleOptions::default(),
            )
            .select(COLUMNS.iter().chain([&PRESENCE]).map(|name| col(*name)).collect::<Vec<_>>())
            .collect()?;
        Ok(changes)
    }

    /// The rows of one snapshot whose product could have changed.
    fn read(&self, is_old: bool, cancel: &Cancel) -> Result<DataFrame, HistoryError> {
        let source = if is_old { self.diff.old } else { self.diff.new };
        let (first, last) = (self.range.first(), self.range.last());
        let in_range =
            |id: &str| first.is_some_and(|first| id >= *first) && last.is_some_and(|last| id <= *last);
        let wanted = |file: &DataFile| self.diff.reads(self.devices, is_old, file);
        let frames =
            source.visit(&SOFTWARE_COLUMNS, wanted, cancel, |frames: &mut Vec<DataFrame>, group| {
                let keys =
                    Keys::of(group, self.diff.filter, |id| in_range(id) && self.devices.contains_key(id));
                let chosen: Vec<usize> = (0..group.num_rows())
                    .filter(|row| keys.product(*row).is_some_and(|product| self.touched.contains(product)))
                    .collect();
                let text = |name: &str, column: &TextColumn| {
                    let values = chosen.iter().map(|row| column.value(column.codes()[*row]));
                    StringChunked::from_iter_options(name.into(), values).into_column()
                };
                let weaknesses = group.numbers("NumberOfWeaknesses");
                let numbers =
                    chosen.iter().map(|row| weaknesses.is_valid(*row).then(|| weaknesses.value(*row)));
                frames.push(DataFrame::new(
                    chosen.len(),
                    vec![
                        text("DeviceId", &keys.id),
                        text("SoftwareVendor", &keys.vendor),
                        text("SoftwareName", &keys.name),
                        text("SoftwareVersion", &keys.version),
                        Int32Chunked::from_iter_options("NumberOfWeaknesses".into(), numbers).into_column(),
                        text("EndOfSupportStatus", &keys.status),
                    ],
                )?);
                Ok(())
            })?;
        let mut rows = no_software();
        for frame in frames.into_iter().flatten() {
            rows.vstack_mut_owned(frame)?;
        }
        Ok(rows)
    }

    fn histories(&self) -> impl Iterator<Item = (&str, &DeviceHistory)> {
        self.range.iter().filter_map(|id| Some((*id, self.devices.get(*id)?)))
    }

    /// What each change says of its device.
    fn attributes(&self) -> PolarsResult<DataFrame> {
        let column = |name: &str, value: &dyn Fn(&DeviceHistory) -> Option<String>| {
            let values = self.histories().map(|(_, history)| value(history));
            StringChunked::from_iter_options(name.into(), values).into_column()
        };
        let shown = |value: &dyn Fn(&Device) -> &Option<Box<str>>, history: &DeviceHistory| {
            value(history.shown()).as_deref().map(str::to_owned)
        };
        DataFrame::new(
            self.range.len(),
            vec![
                StringChunked::from_iter_values("DeviceId".into(), self.range.iter().copied()).into_column(),
                column("DeviceName", &|history| shown(&|device| &device.name, history)),
                column("OSPlatform", &|history| shown(&|device| &device.platform, history)),
                column("RbacGroupName", &|history| shown(&|device| &device.group, history)),
                column(PRESENCE, &|history| {
                    let presence = match (&history.old, &history.new) {
                        (Some(_), Some(_)) => "both",
                        (None, _) => "new",
                        (_, None) => "gone",
                    };
                    Some(presence.to_owned())
                }),
            ],
        )
    }

    /// Devices that came, went, or have become others.
    fn device_changes(&self) -> PolarsResult<DataFrame> {
        let filter = self.diff.filter;
        let wanted = filter.allows(FilterField::Vendor, None) && filter.allows(FilterField::Product, None);
        let mut changes: Vec<DeviceChange<'_>> = Vec::new();
        for (id, history) in self.histories().filter(|_| wanted) {
            match (&history.old, &history.new) {
                (None, _) => changes.push(("device_appeared", id, None, None)),
                (_, None) => changes.push(("device_disappeared", id, None, None)),
                (Some(old), Some(new)) => {
                    let values = [
                        ("device_renamed", &old.name, &new.name),
                        ("device_moved", &old.group, &new.group),
                        ("device_platform_changed", &old.platform, &new.platform),
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
        DataFrame::new(
            changes.len(),
            vec![
                text("Change", &|change| Some(change.0.to_owned())),
                text("DeviceId", &|change| Some(change.1.to_owned())),
                nothing("SoftwareVendor"),
                nothing("SoftwareName"),
                nothing("OldVersion"),
                nothing("NewVersion"),
                text("OldValue", &|change| change.2.map(str::to_owned)),
                text("NewValue", &|change| change.3.map(str::to_owned)),
            ],
        )
    }
}

fn no_software() -> DataFrame {
    let fields = SOFTWARE_COLUMNS.map(|name| {
        let is_number = name == "NumberOfWeaknesses";
        Field::new(name.into(), if is_number { DataType::Int32 } else { DataType::String })
    });
    DataFrame::empty_with_schema(&fields.into_iter().collect())
}
