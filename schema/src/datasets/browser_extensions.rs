//! Extensions of browsers, per device.

use super::columns::{
    METADATA, boolean, device_id, device_name, generated_time, group_id, group_name, struct_list, text,
    timestamp,
};
use super::permissions::SOFTWARE_READ;
use super::roles::DEVICE_ROLES;
use crate::{
    ChangeWords, ColumnType, ComparedColumn, Condition, Counted, Dataset, HistoryRoles, Is, Layout, Measure,
    ReportRoles, RiskRoles, Routes, StructMember,
};

const LEARN: &str = "Microsoft Learn, export browser extensions assessment";

const PERMISSION: &[StructMember] = &[
    StructMember { name: "Id", column_type: ColumnType::Utf8 },
    StructMember { name: "IsRequired", column_type: ColumnType::Boolean },
    StructMember { name: "Risk", column_type: ColumnType::Utf8 },
];

/// Browser extensions: one row per device, browser and extension.
pub static BROWSER_EXTENSIONS: Dataset = Dataset {
    name: "browser_extensions",
    version: 1,
    doc: "One row per device, browser and extension.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-browser-extensions",
    routes: Routes {
        files: Some("machines/BrowserExtensionsInventoryExport"),
        json: Some("machines/BrowserExtensionsInventoryByMachine"),
    },
    permission: SOFTWARE_READ,
    key: &["DeviceId", "BrowserName", "ExtensionId"],
    // The service gives no platform.
    partition_by: None,
    may_be_empty: true,
    layout: Layout {
        cluster_by: &["BrowserName", "ExtensionId", "ExtensionVersion"],
        bloom: &["DeviceId", "ExtensionId"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        platform: None,
        product: &["BrowserName", "ExtensionId"],
        version: Some("ExtensionVersion"),
        compared: &[
            ComparedColumn { column: "ExtensionRisk", kind: "risk_changed" },
            ComparedColumn { column: "IsActivated", kind: "activation_changed" },
        ],
        measures: &[
            Measure { name: "installations", counted: Counted::Rows },
            Measure { name: "extensions", counted: Counted::Distinct(&["ExtensionId"]) },
            Measure {
                name: "high_risk",
                counted: Counted::Where(&[Condition {
                    column: "ExtensionRisk",
                    is: Is::OneOf(&["High", "Critical"]),
                }]),
            },
        ],
        main_measure: "installations",
        words: ChangeWords { added: "installed", removed: "removed", version_changed: "version_changed" },
        filters: &[("browser", "BrowserName"), ("extension", "ExtensionId"), ("group", "RbacGroupName")],
        ..DEVICE_ROLES
    }),
    report: ReportRoles {
        name: &["BrowserName", "ExtensionId"],
        risk: Some(RiskRoles {
            id: "ExtensionId",
            name: "ExtensionName",
            place: "BrowserName",
            risk: "ExtensionRisk",
            high: &["Critical", "High"],
            active: "IsActivated",
        }),
        ..ReportRoles::NONE
    },
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, LEARN),
        group_id(4, LEARN),
        text(5, "BrowserName", "Browser, such as `chrome`, `edge` or `firefox`.", LEARN),
        text(6, "ExtensionId", "Identifier of the extension in its browser's store.", LEARN),
        text(7, "ExtensionName", "Name of the extension.", LEARN),
        text(8, "ExtensionDescription", "What the extension says of itself.", LEARN),
        text(9, "ExtensionVersion", "Version of the extension.", LEARN),
        text(
            10,
            "ExtensionRisk",
            "Highest risk of the permissions of the extension: `None`, `Low`, `Medium`, `High`, `Critical`.",
            LEARN,
        ),
        text(11, "ExtensionVendor", "Vendor of the extension.", METADATA),
        boolean(12, "IsActivated", "Whether the extension is switched on.", LEARN),
        timestamp(13, "InstallationTime", "When the extension was installed.", LEARN),
        struct_list(
            14,
            &[17, 18, 19, 20],
            "Permissions",
            PERMISSION,
            "Permissions of the extension, with the risk of each; on the files route only.",
            LEARN,
        ),
        generated_time(15, LEARN),
    ],
};
