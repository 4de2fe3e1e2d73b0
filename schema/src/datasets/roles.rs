//! Roles of the columns that all datasets have; a declaration adds what is its own.

use crate::{ChangeWords, Condition, Counted, HistoryRoles, Is, Measure};

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

/// The checks that apply to a device.
pub(super) const CHECKS: Measure = Measure {
    name: "checks",
    counted: Counted::Where(&[Condition { column: "IsApplicable", is: Is::Boolean(true) }]),
};

/// Those of them that it does not pass.
pub(super) const NONCOMPLIANT: Measure = Measure {
    name: "noncompliant",
    counted: Counted::Where(&[
        Condition { column: "IsApplicable", is: Is::Boolean(true) },
        Condition { column: "IsCompliant", is: Is::Boolean(false) },
    ]),
};

/// The share that it passes.
pub(super) const COMPLIANCE_RATE: Measure =
    Measure { name: "compliance_rate", counted: Counted::Share { of: "checks", but: "noncompliant" } };
