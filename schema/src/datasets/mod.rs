//! One file per dataset, each one `pub static` and nothing else.

pub mod software_inventory;
