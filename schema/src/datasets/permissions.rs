//! Permissions that several datasets need.

use crate::Permission;

pub(super) const SOFTWARE_READ: Permission =
    Permission { application: "Software.Read.All", delegated: "Software.Read" };
pub(super) const VULNERABILITY_READ: Permission =
    Permission { application: "Vulnerability.Read.All", delegated: "Vulnerability.Read" };
