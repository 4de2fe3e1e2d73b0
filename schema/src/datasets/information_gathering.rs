//! What Defender gathered about devices: antivirus, mitigations, TLS and more, in a bag of states.

use super::columns::{
    SEEN, device_id, device_name, generated_time, group_id, group_name, json, os_platform, os_version,
    timestamp,
};
use super::permissions::VULNERABILITY_READ;
use super::roles::DEVICE_ROLES;
use crate::{ComparedColumn, Dataset, HistoryRoles, Layout, ReportRoles, Routes};

const LEARN: &str = "Microsoft Learn, export information gathering assessment";

/// Information gathering: one row per device.
pub static INFORMATION_GATHERING: Dataset = Dataset {
    name: "information_gathering",
    version: 1,
    doc: "One row per device with a bag of states that Defender gathered: antivirus, mitigations, TLS and more.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-information-gathering",
    routes: Routes { files: Some("machines/InfoGatheringExport"), json: None },
    permission: VULNERABILITY_READ,
    key: &["DeviceId"],
    partition_by: Some("OSPlatform"),
    may_be_empty: false,
    layout: Layout { cluster_by: &[], bloom: &["DeviceId"], uncompressed: &[] },
    history: Some(HistoryRoles {
        compared: &[ComparedColumn { column: "OSVersion", kind: "os_version_changed" }],
        ..DEVICE_ROLES
    }),
    report: ReportRoles::NONE,
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, SEEN),
        group_id(4, SEEN),
        os_version(5, SEEN),
        timestamp(
            6,
            "Timestamp",
            "When the states were gathered; the source has no zone, read as UTC.",
            SEEN,
        ),
        timestamp(
            7,
            "LastSeenTime",
            "When the device was last seen; the source has no zone, read as UTC.",
            SEEN,
        ),
        json(
            8,
            "DeviceGatheredInfo",
            "The states by name, one JSON object; some values are JSON in a string again.",
            SEEN,
        ),
        generated_time(9, LEARN),
        os_platform(11, SEEN),
    ],
};
