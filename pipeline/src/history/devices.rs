//! The devices of two snapshots and their attributes in both.
//!
//! Every row of a device repeats its attributes. If they differ, the largest value counts; null is the smallest.

use std::collections::btree_map::{BTreeMap, Entry};

use super::HistoryError;
use super::change_filter::ChangeFilter;
use super::roles::Roles;
use super::rows::{SnapshotReader, TextColumn};
use crate::cancel::Cancel;

/// A device's attributes in one snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: Option<Box<str>>,
    /// Its group.
    pub group: Option<Box<str>>,
    /// Its platform.
    pub platform: Option<Box<str>>,
    /// All platforms that it has rows of, if there are several.
    other_platforms: Vec<Option<Box<str>>>,
}

impl Device {
    /// Whether it has rows of `platform`.
    pub fn is_on(&self, platform: Option<&str>) -> bool {
        self.platform.as_deref() == platform
            || self.other_platforms.iter().any(|other| other.as_deref() == platform)
    }

    fn merge(&mut self, other: Self) {
        if self.platform != other.platform || !other.other_platforms.is_empty() {
            self.other_platforms.extend([self.platform.clone(), other.platform.clone()]);
            self.other_platforms.extend(other.other_platforms);
            self.other_platforms.sort_unstable();
            self.other_platforms.dedup();
        }
        merge(&mut self.name, other.name);
        merge(&mut self.group, other.group);
        merge(&mut self.platform, other.platform);
    }
}

/// Keeps the larger value; null is less than any text.
fn merge(value: &mut Option<Box<str>>, other: Option<Box<str>>) {
    if other > *value {
        *value = other;
    }
}

/// A device in two snapshots; at least one has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceHistory {
    /// In the old one.
    pub old: Option<Device>,
    /// In the new one.
    pub new: Option<Device>,
}

impl DeviceHistory {
    /// Returns its attributes as changes show them: of the new snapshot, or of the old one if it is gone.
    pub fn shown(&self) -> &Device {
        static NOTHING: Device =
            Device { name: None, group: None, platform: None, other_platforms: Vec::new() };
        self.new.as_ref().or(self.old.as_ref()).unwrap_or(&NOTHING)
    }

    /// Whether the filter selects its changes.
    fn is_wanted(&self, roles: Roles, filter: &ChangeFilter) -> bool {
        let shown = self.shown();
        filter.allows(roles.platform, shown.platform.as_deref())
            && filter.allows(roles.group, shown.group.as_deref())
    }
}

/// Devices by id.
pub type Devices = BTreeMap<Box<str>, DeviceHistory>;

/// Reads the devices of both snapshots whose changes the filter selects.
///
/// # Errors
///
/// What [`SnapshotReader::visit`] returns.
pub fn read(
    roles: Roles,
    old: &SnapshotReader<'_>,
    new: &SnapshotReader<'_>,
    filter: &ChangeFilter,
    cancel: &Cancel,
) -> Result<Devices, HistoryError> {
    let mut devices = Devices::new();
    for (id, device) in read_one(roles, old, cancel)? {
        devices.entry(id).or_default().old = Some(device);
    }
    for (id, device) in read_one(roles, new, cancel)? {
        devices.entry(id).or_default().new = Some(device);
    }
    devices.retain(|_, history| history.is_wanted(roles, filter));
    Ok(devices)
}

fn read_one(
    roles: Roles,
    reader: &SnapshotReader<'_>,
    cancel: &Cancel,
) -> Result<BTreeMap<Box<str>, Device>, HistoryError> {
    const NOT_SEEN: (usize, usize) = (usize::MAX, usize::MAX);
    let described_by = [roles.device_name, roles.group];
    let columns: Vec<_> = std::iter::once(roles.device).chain(described_by.into_iter().flatten()).collect();
    let by_thread = reader.visit(
        &columns,
        |_| true,
        cancel,
        |found: &mut BTreeMap<_, _>, rows| {
            let ids = rows.text(roles.device);
            let [names, groups] = described_by.map(|column| column.map(|column| rows.text(column)));
            let code = |column: &Option<TextColumn>, row: usize| {
                column.as_ref().map_or(0, |column| column.codes()[row])
            };
            let value = |column: &Option<TextColumn>, code: usize| {
                column.as_ref().and_then(|column| column.value(code)).map(Into::into)
            };
            // A device's rows nearly always agree: what they say is looked at once.
            let mut seen = vec![NOT_SEEN; ids.num_codes()];
            for (row, id) in ids.codes().iter().enumerate() {
                let (name, group) = (code(&names, row), code(&groups, row));
                if seen[*id] == (name, group) {
                    continue;
                }
                seen[*id] = (name, group);
                let device = Device {
                    name: value(&names, name),
                    group: value(&groups, group),
                    platform: rows.platform.map(Into::into),
                    other_platforms: Vec::new(),
                };
                insert(found, ids.value(*id).unwrap_or_default().into(), device);
            }
            Ok(())
        },
    )?;
    let mut devices = BTreeMap::new();
    for (id, device) in by_thread.into_iter().flatten() {
        insert(&mut devices, id, device);
    }
    Ok(devices)
}

fn insert(devices: &mut BTreeMap<Box<str>, Device>, id: Box<str>, device: Device) {
    match devices.entry(id) {
        Entry::Vacant(entry) => {
            entry.insert(device);
        }
        Entry::Occupied(mut entry) => entry.get_mut().merge(device),
    }
}
