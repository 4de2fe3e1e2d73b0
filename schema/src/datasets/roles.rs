//! Roles of the columns that all datasets have; a declaration adds what is its own.

use crate::{ChangeWords, HistoryRoles};

/// The roles of the columns that describe a device, and of no other column.
pub(super) const DEVICE_ROLES: HistoryRoles = HistoryRoles {
    device: "DeviceId",
    device_name: Some("DeviceName"),
    group: Some("RbacGroupName"),
    platform: Some("OSPlatform"),
    product: &[],
    version: None,
    only_with: None,
    compared: &[],
    measures: &[],
    main_measure: "devices",
    status: None,
    words: ChangeWords { added: "added", removed: "removed", version_changed: "version_changed" },
    filters: &[("platform", "OSPlatform"), ("group", "RbacGroupName")],
};
