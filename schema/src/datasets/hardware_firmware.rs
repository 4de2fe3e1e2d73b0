//! Hardware and firmware of devices.

use super::columns::{device_id, device_name, generated_time, group_id, group_name, json, text};
use super::permissions::SOFTWARE_READ;
use super::roles::DEVICE_ROLES;
use crate::{Counted, Dataset, HistoryRoles, Layout, Measure, ReportRoles, Routes};

const LEARN: &str = "Microsoft Learn, export hardware and firmware assessment";

/// Hardware and firmware: one row per device and component.
pub static HARDWARE_FIRMWARE: Dataset = Dataset {
    name: "hardware_firmware",
    version: 1,
    doc: "One row per device and component: the model of the device, its firmware and its processor.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/export-firmware-hardware-assessment",
    routes: Routes {
        files: Some("machines/HardwareFirmwareInventoryExport"),
        json: Some("machines/HardwareFirmwareInventoryByMachine"),
    },
    permission: SOFTWARE_READ,
    key: &["DeviceId", "ComponentType", "ComponentName"],
    // The service gives no platform.
    partition_by: None,
    may_be_empty: true,
    layout: Layout {
        cluster_by: &["ComponentType", "Manufacturer", "ComponentName"],
        bloom: &["DeviceId", "ComponentName"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        platform: None,
        product: &["ComponentType", "ComponentName"],
        version: Some("ComponentVersion"),
        measures: &[
            Measure { name: "components", counted: Counted::Rows },
            Measure { name: "models", counted: Counted::Distinct(&["Manufacturer", "ComponentName"]) },
        ],
        main_measure: "components",
        filters: &[("type", "ComponentType"), ("component", "ComponentName"), ("group", "RbacGroupName")],
        ..DEVICE_ROLES
    }),
    report: ReportRoles { name: &["ComponentType", "ComponentName"], ..ReportRoles::NONE },
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, LEARN),
        group_id(4, LEARN),
        text(5, "ComponentType", "Kind of component: `Hardware`, `Bios`, `Processor`, or newer ones.", LEARN),
        text(6, "Manufacturer", "Manufacturer of the component.", LEARN),
        text(7, "ComponentName", "Name of the component: the model, the BIOS, the processor.", LEARN),
        text(8, "ComponentVersion", "Version of the component; empty or null where it has none.", LEARN),
        json(
            9,
            "AdditionalFields",
            "What else the service knows of the component, as one JSON object.",
            LEARN,
        ),
        generated_time(10, LEARN),
    ],
};
