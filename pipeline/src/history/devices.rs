//! The devices of two snapshots: their attributes in both, and their keys that could have changed.
//!
//! Every row of a device repeats its attributes. If they differ, the largest value counts; null is the smallest.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashTable;

use super::change_filter::ChangeFilter;
use super::fingerprints::KeySums;
use super::roles::Roles;

/// Shards of the table, each with a lock.
const SHARDS: usize = 64;

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
    other_platforms: Box<[Option<Box<str>>]>,
}

/// What a row says of its device.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// Its name.
    pub name: Option<&'a str>,
    /// Its group.
    pub group: Option<&'a str>,
    /// Its platform.
    pub platform: Option<&'a str>,
}

impl Device {
    fn new(row: Description<'_>) -> Self {
        Self {
            name: row.name.map(Into::into),
            group: row.group.map(Into::into),
            platform: row.platform.map(Into::into),
            other_platforms: Box::default(),
        }
    }

    /// Whether it has rows of `platform`.
    pub fn is_on(&self, platform: Option<&str>) -> bool {
        self.platform.as_deref() == platform
            || self.other_platforms.iter().any(|other| other.as_deref() == platform)
    }

    fn add(&mut self, row: Description<'_>) {
        if !self.is_on(row.platform) {
            let mut platforms = std::mem::take(&mut self.other_platforms).into_vec();
            platforms.extend([self.platform.clone(), row.platform.map(Into::into)]);
            platforms.sort_unstable();
            platforms.dedup();
            self.other_platforms = platforms.into();
        }
        keep_larger(&mut self.name, row.name);
        keep_larger(&mut self.group, row.group);
        keep_larger(&mut self.platform, row.platform);
    }
}

/// Keeps the larger value; null is less than any text.
fn keep_larger(value: &mut Option<Box<str>>, other: Option<&str>) {
    if other > value.as_deref() {
        *value = other.map(Into::into);
    }
}

/// A device in two snapshots; at least one has it.
#[derive(Debug, Default)]
pub struct DeviceHistory {
    /// Its id.
    pub id: Box<str>,
    hash: u64,
    /// In the old one.
    pub old: Option<Device>,
    /// In the new one.
    pub new: Option<Device>,
    /// Sums of its rows.
    pub sums: KeySums,
    /// The keys that could have changed, in order.
    pub touched: Box<[u32]>,
}

impl DeviceHistory {
    /// Adds what a row says of the device.
    pub fn describe(&mut self, row: Description<'_>, is_old: bool) {
        let device = if is_old { &mut self.old } else { &mut self.new };
        match device {
            Some(device) => device.add(row),
            None => *device = Some(Device::new(row)),
        }
    }

    /// Returns its attributes as changes show them: of the new snapshot, or of the old one if it is gone.
    ///
    /// # Panics
    ///
    /// If it was never described: a mistake of ours.
    pub fn shown(&self) -> &Device {
        self.new.as_ref().or(self.old.as_ref()).expect("a device is described when it is found")
    }

    /// Whether the filter selects its changes.
    pub fn is_wanted(&self, roles: Roles, filter: &ChangeFilter) -> bool {
        let shown = self.shown();
        filter.allows(roles.platform, shown.platform.as_deref())
            && filter.allows(roles.group, shown.group.as_deref())
    }
}

/// Devices by id, found by a hash of it.
#[derive(Debug)]
pub struct DeviceTable {
    shards: Vec<Mutex<HashTable<DeviceHistory>>>,
}

impl Default for DeviceTable {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }
}

impl DeviceTable {
    /// Calls `change` with a device, if it is there.
    pub fn change(&self, id: &str, hash: u64, change: impl FnOnce(&mut DeviceHistory)) {
        // A thread that panicked ends the program, so poisoning does not matter.
        let mut shard = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = shard.find_mut(hash, |device| *device.id == *id) {
            change(device);
        }
    }

    /// Calls `change` with a device, a new one if it is not there.
    pub fn change_or_insert(&self, id: &str, hash: u64, change: impl FnOnce(&mut DeviceHistory)) {
        let mut shard = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entry(hash, |device| *device.id == *id, |device| device.hash);
        let mut entry =
            entry.or_insert_with(|| DeviceHistory { id: id.into(), hash, ..DeviceHistory::default() });
        change(entry.get_mut());
    }

    /// Calls `change` with every device and keeps those for which it returns true.
    pub fn retain(&mut self, mut change: impl FnMut(&mut DeviceHistory) -> bool) {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            shard.retain(&mut change);
        }
    }

    /// Whether `is_so` holds for any device.
    pub fn any(&mut self, mut is_so: impl FnMut(&DeviceHistory) -> bool) -> bool {
        self.shards
            .iter_mut()
            .any(|shard| shard.get_mut().unwrap_or_else(PoisonError::into_inner).iter().any(&mut is_so))
    }

    /// Returns the devices ordered by id.
    pub fn into_devices(self) -> Vec<DeviceHistory> {
        let shards = self.shards.into_iter();
        let mut devices: Vec<_> =
            shards.flat_map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        devices.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        devices
    }

    /// Uses bits that the shards' tables use neither for an entry's position nor for its tag.
    fn shard(&self, hash: u64) -> &Mutex<HashTable<DeviceHistory>> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}
