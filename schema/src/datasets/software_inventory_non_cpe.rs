//! Installed software that has no Common Platform Enumeration, per device.

use super::columns::{
    METADATA, device_id, device_name, generated_time, group_id, group_name, os_platform, registry_paths,
    software_last_seen, text, with_aliases,
};
use super::permissions::SOFTWARE_READ;
use super::roles::DEVICE_ROLES;
use crate::{
    Alias, ChangeWords, Counted, Dataset, HistoryRoles, Layout, Measure, ProductRoles, ReportRoles, Routes,
};

const LEARN: &str = "Microsoft Learn, export non product code software inventory assessment";

/// Software inventory without CPE: one row per device and installed version of a product.
pub static SOFTWARE_INVENTORY_NON_CPE: Dataset = Dataset {
    name: "software_inventory_non_cpe",
    version: 1,
    doc: "One row per device and installed version of a product that has no CPE.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-non-cpe-software-inventory",
    routes: Routes {
        files: Some("machines/SoftwareInventoryNonCpeExport"),
        json: Some("machines/SoftwareInventoryNoProductCodeByMachine"),
    },
    permission: SOFTWARE_READ,
    key: &["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion"],
    partition_by: Some("OSPlatform"),
    may_be_empty: false,
    layout: Layout {
        cluster_by: &["SoftwareVendor", "SoftwareName", "SoftwareVersion"],
        bloom: &["DeviceId", "SoftwareName"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        product: &["SoftwareVendor", "SoftwareName"],
        version: Some("SoftwareVersion"),
        measures: &[
            Measure { name: "installations", counted: Counted::Rows },
            Measure { name: "products", counted: Counted::Products },
        ],
        main_measure: "installations",
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
        name: &["SoftwareVendor", "SoftwareName"],
        products: Some(ProductRoles { weaknesses: None }),
        ..ReportRoles::NONE
    },
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, LEARN),
        group_id(4, LEARN),
        text(5, "SoftwareVendor", "Name of the software vendor, as the installer wrote it.", LEARN),
        text(6, "SoftwareName", "Name of the software product, as the installer wrote it.", LEARN),
        text(7, "SoftwareVersion", "Version of the software product, as the installer wrote it.", LEARN),
        software_last_seen(8, LEARN),
        // The service gives one key a record, in a property of its own.
        with_aliases(
            registry_paths(9, &[13], METADATA),
            &[Alias { name: "RegistryPath", is_single_element: true }],
        ),
        generated_time(10, LEARN),
        os_platform(12, LEARN),
    ],
};
