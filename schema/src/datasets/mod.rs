//! One file per dataset, each one `pub static` and nothing else; what several of them share is in files of its own.

mod columns;
mod permissions;
mod roles;

pub mod browser_extensions;
pub mod certificates;
pub mod hardware_firmware;
pub mod information_gathering;
pub mod secure_configurations;
pub mod security_baselines;
pub mod software_inventory;
pub mod software_inventory_non_cpe;
pub mod software_vulnerabilities;

use crate::Dataset;

/// Every dataset, in the order of the documentation. The first is the one that commands take by default.
pub static DATASETS: &[&Dataset] = &[
    &software_inventory::SOFTWARE_INVENTORY,
    &software_inventory_non_cpe::SOFTWARE_INVENTORY_NON_CPE,
    &software_vulnerabilities::SOFTWARE_VULNERABILITIES,
    &secure_configurations::SECURE_CONFIGURATIONS,
    &security_baselines::SECURITY_BASELINES,
    &browser_extensions::BROWSER_EXTENSIONS,
    &certificates::CERTIFICATES,
    &hardware_firmware::HARDWARE_FIRMWARE,
    &information_gathering::INFORMATION_GATHERING,
];
