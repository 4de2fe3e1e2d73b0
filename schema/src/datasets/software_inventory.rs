//! Installed software that has a Common Platform Enumeration, per device.

use super::columns::{
    METADATA, SEEN, device_id, device_name, disk_paths, end_of_support_date, end_of_support_status,
    generated_time, group_id, group_name, int32, list, os_platform, product_category, registry_paths,
    software_last_seen, software_name, software_vendor, software_version, timestamp,
};
use super::permissions::SOFTWARE_READ;
use super::roles::DEVICE_ROLES;
use crate::{
    Better, ChangeWords, ComparedColumn, Counted, Dataset, HistoryRoles, Layout, Measure, ProductRoles,
    ReportFigure, ReportRoles, Routes, Status, SupportRoles,
};

const LEARN: &str = "Microsoft Learn, export software inventory assessment";
const WIRE: &str = "Microsoft Learn, export software inventory assessment; values as seen in exports";

/// Software inventory: one row per device and installed version of a product.
pub static SOFTWARE_INVENTORY: Dataset = Dataset {
    name: "software_inventory",
    version: 2,
    doc: "One row per device and installed version of a product that has a CPE.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-software-inventory",
    routes: Routes {
        files: Some("machines/SoftwareInventoryExport"),
        json: Some("machines/SoftwareInventoryByMachine"),
    },
    permission: SOFTWARE_READ,
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
        product: &["SoftwareVendor", "SoftwareName"],
        version: Some("SoftwareVersion"),
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
        ..DEVICE_ROLES
    }),
    report: ReportRoles {
        figures: &[
            ReportFigure { name: "devices", title: "Devices", measure: "devices", better: Better::Neither },
            ReportFigure {
                name: "installations",
                title: "Installations",
                measure: "installations",
                better: Better::Neither,
            },
            ReportFigure {
                name: "products",
                title: "Products",
                measure: "products",
                better: Better::Neither,
            },
            ReportFigure {
                name: "weaknesses",
                title: "Weaknesses",
                measure: "weaknesses",
                better: Better::Less,
            },
            ReportFigure {
                name: "end_of_support",
                title: "Out of support",
                measure: "end_of_support",
                better: Better::Less,
            },
        ],
        name: &["SoftwareVendor", "SoftwareName"],
        products: Some(ProductRoles { weaknesses: Some("NumberOfWeaknesses") }),
        support: Some(SupportRoles { end_date: "EndOfSupportDate" }),
        device_measure: Some("weaknesses"),
        ..ReportRoles::NONE
    },
    columns: &[
        device_id(1, LEARN),
        device_name(2, WIRE),
        group_name(3, LEARN),
        software_vendor(4, LEARN),
        software_name(5, LEARN),
        software_version(6, LEARN),
        int32(7, "NumberOfWeaknesses", "Weaknesses known of this software on this device.", LEARN),
        disk_paths(8, &[16], LEARN),
        registry_paths(9, &[17], LEARN),
        timestamp(
            10,
            "SoftwareFirstSeenTimestamp",
            "When the software was first seen on the device; the source has no zone, read as UTC.",
            WIRE,
        ),
        end_of_support_status(11, WIRE),
        end_of_support_date(12, WIRE),
        generated_time(13, LEARN),
        // Version 2.
        group_id(18, LEARN),
        software_last_seen(19, SEEN),
        list(20, &[21], "SoftwareTags", "Tags of the product, as the service words them.", METADATA),
        product_category(22, METADATA),
        os_platform(15, WIRE),
    ],
};
