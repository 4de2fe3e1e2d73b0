//! Installed software that has a Common Platform Enumeration, per device.

use crate::Origin::Export;
use crate::Presence::{Optional, Required};
use crate::{
    ChangeWords, Column, ColumnType, ComparedColumn, Counted, Dataset, HistoryRoles, Layout, Measure,
    Permission, Routes, Status,
};

use super::{list, property};

const LEARN: &str = "Microsoft Learn, export software inventory assessment";
const WIRE: &str = "Microsoft Learn, export software inventory assessment; values as seen in exports";

/// Software inventory: one row per device and installed version of a product.
pub static SOFTWARE_INVENTORY: Dataset = Dataset {
    name: "software_inventory",
    version: 1,
    doc: "One row per device and installed version of a product that has a CPE.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-software-inventory",
    routes: Routes {
        files: Some("machines/SoftwareInventoryExport"),
        json: Some("machines/SoftwareInventoryByMachine"),
    },
    permission: Permission { application: "Software.Read.All", delegated: "Software.Read" },
    key: &["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion"],
    partition_by: Some("OSPlatform"),
    may_be_empty: false,
    layout: Layout {
        cluster_by: &["SoftwareVendor", "SoftwareName", "SoftwareVersion"],
        bloom: &["DeviceId", "SoftwareName"],
        // Questions for a product or a device read all of these, and are a tenth faster for it, at 3 % of
        // the bytes of all columns.
        uncompressed: &["DeviceId", "DeviceName", "SoftwareVendor", "SoftwareName"],
    },
    history: Some(HistoryRoles {
        device: "DeviceId",
        device_name: Some("DeviceName"),
        group: Some("RbacGroupName"),
        platform: Some("OSPlatform"),
        product: &["SoftwareVendor", "SoftwareName"],
        version: Some("SoftwareVersion"),
        only_with: None,
        compared: &[
            ComparedColumn { column: "NumberOfWeaknesses", kind: "weaknesses_changed" },
            ComparedColumn { column: "EndOfSupportStatus", kind: "end_of_support_changed" },
        ],
        measures: &[
            Measure { name: "installations", counted: Counted::Rows },
            Measure { name: "products", counted: Counted::Products },
            Measure { name: "weaknesses", counted: Counted::Sum("NumberOfWeaknesses") },
            Measure { name: "end_of_support", counted: Counted::Status },
        ],
        main_measure: "installations",
        // "Upcoming…" says that support will end.
        status: Some(Status { column: "EndOfSupportStatus", prefix: "EOS", title: "newly out of support" }),
        words: ChangeWords { added: "installed", removed: "removed", version_changed: "version_changed" },
        filters: &[
            ("vendor", "SoftwareVendor"),
            ("product", "SoftwareName"),
            ("platform", "OSPlatform"),
            ("group", "RbacGroupName"),
        ],
    }),
    columns: &[
        property(
            1,
            "DeviceId",
            ColumnType::Utf8,
            Required,
            "Unique identifier of the device in the service.",
            LEARN,
        ),
        property(
            2,
            "DeviceName",
            ColumnType::Utf8,
            Optional,
            "Fully qualified domain name of the device; a short name on some platforms.",
            WIRE,
        ),
        property(
            3,
            "RbacGroupName",
            ColumnType::Utf8,
            Optional,
            "Role-based access group; `Unassigned` for a device without one, `None` where the organisation has none.",
            LEARN,
        ),
        property(4, "SoftwareVendor", ColumnType::Utf8, Optional, "Name of the software vendor.", LEARN),
        property(5, "SoftwareName", ColumnType::Utf8, Optional, "Name of the software product.", LEARN),
        property(6, "SoftwareVersion", ColumnType::Utf8, Optional, "Version of the software product.", LEARN),
        property(
            7,
            "NumberOfWeaknesses",
            ColumnType::Int32,
            Optional,
            "Weaknesses known of this software on this device.",
            LEARN,
        ),
        list(
            8,
            &[16],
            "DiskPaths",
            "Paths on disk that show the installation; an empty list is not null.",
            LEARN,
        ),
        list(
            9,
            &[17],
            "RegistryPaths",
            "Registry keys that show the installation; an empty list is not null.",
            LEARN,
        ),
        property(
            10,
            "SoftwareFirstSeenTimestamp",
            ColumnType::TimestampMicros,
            Optional,
            "When the software was first seen on the device; the source has no zone, read as UTC.",
            WIRE,
        ),
        property(
            11,
            "EndOfSupportStatus",
            ColumnType::Utf8,
            Optional,
            "End of support as the service words it: `None`, `EOS Version`, `Upcoming EOS Version`, `EOS Software`, `Upcoming EOS Software`, or newer wordings.",
            WIRE,
        ),
        property(
            12,
            "EndOfSupportDate",
            ColumnType::Date32,
            Optional,
            "Date on which support ends or ended.",
            WIRE,
        ),
        Column {
            name: "GeneratedTime",
            field_id: 13,
            child_ids: &[],
            column_type: ColumnType::TimestampMicros,
            presence: Required,
            origin: Export,
            aliases: &[],
            doc: "When the service generated the export that the row is from.",
            source: LEARN,
        },
        property(
            15,
            "OSPlatform",
            ColumnType::Utf8,
            Optional,
            "Platform of the device's operating system; an open set, null where the service gives none.",
            WIRE,
        ),
    ],
};
