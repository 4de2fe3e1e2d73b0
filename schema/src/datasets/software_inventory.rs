//! Installed software that has a Common Platform Enumeration, per device.

use crate::{
    Column, ColumnType, Dataset,
    Origin::{Export, Property},
    Permission,
    Presence::{self, Optional, Required},
};

const LEARN: &str = "Microsoft Learn, export software inventory assessment";
const WIRE: &str = "Microsoft Learn, export software inventory assessment; values as seen in exports";

const fn property(
    name: &'static str,
    column_type: ColumnType,
    presence: Presence,
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column { name, column_type, presence, origin: Property, doc, source }
}

/// Software inventory: one row per device and installed version of a product.
pub static SOFTWARE_INVENTORY: Dataset = Dataset {
    name: "software_inventory",
    version: 1,
    doc: "One row per device and installed version of a product that has a CPE.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-software-inventory",
    files_export: "machines/SoftwareInventoryExport",
    json_pages: "machines/SoftwareInventoryByMachine",
    permission: Permission { application: "Software.Read.All", delegated: "Software.Read" },
    key: &["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion"],
    partition_by: &["OSPlatform"],
    cluster_by: &["SoftwareVendor", "SoftwareName", "SoftwareVersion"],
    columns: &[
        property(
            "DeviceId",
            ColumnType::Utf8,
            Required,
            "Unique identifier of the device in the service.",
            LEARN,
        ),
        property(
            "DeviceName",
            ColumnType::Utf8,
            Optional,
            "Fully qualified domain name of the device; a short name on some platforms.",
            WIRE,
        ),
        property(
            "RbacGroupName",
            ColumnType::Utf8,
            Optional,
            "Role-based access group; `Unassigned` for a device without one, `None` where the organisation has none.",
            LEARN,
        ),
        property("SoftwareVendor", ColumnType::Utf8, Optional, "Name of the software vendor.", LEARN),
        property("SoftwareName", ColumnType::Utf8, Optional, "Name of the software product.", LEARN),
        property("SoftwareVersion", ColumnType::Utf8, Optional, "Version of the software product.", LEARN),
        property(
            "NumberOfWeaknesses",
            ColumnType::Int32,
            Optional,
            "Weaknesses known of this software on this device.",
            LEARN,
        ),
        property(
            "DiskPaths",
            ColumnType::Utf8List,
            Optional,
            "Paths on disk that show the installation; an empty list is not null.",
            LEARN,
        ),
        property(
            "RegistryPaths",
            ColumnType::Utf8List,
            Optional,
            "Registry keys that show the installation; an empty list is not null.",
            LEARN,
        ),
        property(
            "SoftwareFirstSeenTimestamp",
            ColumnType::TimestampMicros,
            Optional,
            "When the software was first seen on the device; the source has no zone, read as UTC.",
            WIRE,
        ),
        property(
            "EndOfSupportStatus",
            ColumnType::Utf8,
            Optional,
            "End of support as the service words it: `None`, `EOS Version`, `Upcoming EOS Version`, `EOS Software`, `Upcoming EOS Software`, or newer wordings.",
            WIRE,
        ),
        property(
            "EndOfSupportDate",
            ColumnType::Date32,
            Optional,
            "Date on which support ends or ended.",
            WIRE,
        ),
        Column {
            name: "GeneratedTime",
            column_type: ColumnType::TimestampMicros,
            presence: Required,
            origin: Export,
            doc: "When the service generated the export that the row is from.",
            source: LEARN,
        },
        property(
            "OSPlatform",
            ColumnType::Utf8,
            Optional,
            "Platform of the device's operating system; an open set, null where the service gives none.",
            WIRE,
        ),
    ],
};
