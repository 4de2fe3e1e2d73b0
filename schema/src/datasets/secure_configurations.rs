//! Checks of secure configuration, per device.

use super::columns::{
    SEEN, boolean, device_id, device_name, float64, generated_time, group_id, group_name, json, os_platform,
    os_version, recommendation_reference, text, timestamp,
};
use super::permissions::VULNERABILITY_READ;
use super::roles::{CHECKS, COMPLIANCE_RATE, DEVICE_ROLES, NONCOMPLIANT};
use crate::{Better, ComparedColumn, Dataset, HistoryRoles, Layout, ReportFigure, ReportRoles, Routes};

const LEARN: &str = "Microsoft Learn, export secure configuration assessment";

/// Secure configurations: one row per device and configuration check.
pub static SECURE_CONFIGURATIONS: Dataset = Dataset {
    name: "secure_configurations",
    version: 1,
    doc: "One row per device and configuration check, those that do not apply to the device included.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-secure-config",
    routes: Routes {
        files: Some("machines/SecureConfigurationsAssessmentExport"),
        json: Some("machines/SecureConfigurationsAssessmentByMachine"),
    },
    permission: VULNERABILITY_READ,
    key: &["DeviceId", "ConfigurationId"],
    partition_by: Some("OSPlatform"),
    may_be_empty: false,
    layout: Layout {
        cluster_by: &["ConfigurationCategory", "ConfigurationSubcategory", "ConfigurationId"],
        bloom: &["DeviceId"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        product: &["ConfigurationId"],
        compared: &[
            ComparedColumn { column: "IsCompliant", kind: "compliance_changed" },
            ComparedColumn { column: "IsApplicable", kind: "applicability_changed" },
        ],
        measures: &[CHECKS, NONCOMPLIANT, COMPLIANCE_RATE],
        main_measure: "noncompliant",
        filters: &[
            ("configuration", "ConfigurationId"),
            ("platform", "OSPlatform"),
            ("group", "RbacGroupName"),
        ],
        ..DEVICE_ROLES
    }),
    report: ReportRoles {
        figures: &[ReportFigure {
            name: "compliance_rate",
            title: "Compliant configurations",
            measure: "compliance_rate",
            better: Better::More,
        }],
        name: &["ConfigurationId"],
        ..ReportRoles::NONE
    },
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, LEARN),
        group_id(4, LEARN),
        os_version(5, LEARN),
        timestamp(
            6,
            "Timestamp",
            "When the service last saw the configuration of the device; read as UTC where it has no zone.",
            LEARN,
        ),
        text(7, "ConfigurationId", "Identifier of the check, such as `scid-2010`.", LEARN),
        text(8, "ConfigurationName", "Display name of the check.", LEARN),
        text(
            9,
            "ConfigurationCategory",
            "Category of the check: `Application`, `OS`, `Network`, `Accounts`, `Security controls`, or newer ones.",
            LEARN,
        ),
        text(10, "ConfigurationSubcategory", "Part of the category; may be empty.", LEARN),
        float64(11, "ConfigurationImpact", "Weight of the check in the score of the tenant, 1 to 10.", LEARN),
        boolean(
            12,
            "IsCompliant",
            "Whether the device complies; says nothing where the check does not apply.",
            LEARN,
        ),
        boolean(13, "IsApplicable", "Whether the check applies to the device.", LEARN),
        boolean(
            14,
            "IsExpectedUserImpact",
            "Whether users of the device are expected to notice if the configuration is applied.",
            LEARN,
        ),
        recommendation_reference(15, LEARN),
        json(
            16,
            "Context",
            "Measured values, by which the device was judged; on the files route only.",
            SEEN,
        ),
        generated_time(17, LEARN),
        os_platform(19, LEARN),
    ],
};
