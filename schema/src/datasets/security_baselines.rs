//! Checks of the tenant's security baseline profiles, per device.

use super::columns::{
    METADATA, boolean, device_id, device_name, generated_time, group_id, group_name, list, os_platform,
    os_version, row_id, text, timestamp,
};
use super::roles::{CHECKS, COMPLIANCE_RATE, DEVICE_ROLES, NONCOMPLIANT};
use crate::{
    ComparedColumn, Condition, Counted, Dataset, HistoryRoles, Is, Layout, Measure, Permission, ReportRoles,
    Routes,
};

const LEARN: &str = "Microsoft Learn, export security baselines assessment";

/// Security baselines: one row per device, baseline profile and setting.
pub static SECURITY_BASELINES: Dataset = Dataset {
    name: "security_baselines",
    version: 1,
    doc: "One row per device, baseline profile of the tenant and setting of its benchmark.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/export-security-baseline-assessment",
    routes: Routes {
        files: Some("machines/BaselineComplianceAssessmentExport"),
        json: Some("machines/BaselineComplianceAssessmentByMachine"),
    },
    permission: Permission {
        application: "SecurityBaselinesAssessment.Read.All",
        delegated: "SecurityBaselinesAssessment.Read",
    },
    key: &["DeviceId", "ProfileId", "ConfigurationId"],
    partition_by: Some("OSPlatform"),
    // A tenant without baseline profiles has none.
    may_be_empty: true,
    layout: Layout { cluster_by: &["ProfileId", "ConfigurationId"], bloom: &["DeviceId"], uncompressed: &[] },
    history: Some(HistoryRoles {
        product: &["ProfileId", "ConfigurationId"],
        compared: &[
            ComparedColumn { column: "IsCompliant", kind: "compliance_changed" },
            ComparedColumn { column: "IsExempt", kind: "exemption_changed" },
        ],
        measures: &[
            CHECKS,
            NONCOMPLIANT,
            Measure {
                name: "exempt",
                counted: Counted::Where(&[Condition { column: "IsExempt", is: Is::Boolean(true) }]),
            },
            COMPLIANCE_RATE,
        ],
        main_measure: "noncompliant",
        filters: &[
            ("profile", "ProfileId"),
            ("configuration", "ConfigurationId"),
            ("platform", "OSPlatform"),
            ("group", "RbacGroupName"),
        ],
        ..DEVICE_ROLES
    }),
    report: ReportRoles { name: &["ProfileId", "ConfigurationId"], ..ReportRoles::NONE },
    columns: &[
        row_id(1, LEARN),
        device_id(2, LEARN),
        device_name(3, LEARN),
        group_name(4, LEARN),
        group_id(5, LEARN),
        os_version(6, LEARN),
        text(7, "ProfileId", "Identifier of the baseline profile.", LEARN),
        text(
            8,
            "ConfigurationId",
            "Number of the setting in its benchmark, such as `1.1.1`; none of secure configurations' identifiers.",
            LEARN,
        ),
        boolean(9, "IsApplicable", "Whether the setting applies to the device.", LEARN),
        boolean(
            10,
            "IsCompliant",
            "Whether the device complies; null where it was not judged or the setting does not apply.",
            METADATA,
        ),
        boolean(11, "IsExempt", "Whether an exception for the device was approved.", METADATA),
        list(12, &[22], "RecommendedValue", "Values that the benchmark recommends.", LEARN),
        list(13, &[23], "CurrentValue", "Values found on the device, by position those of `Source`.", LEARN),
        list(14, &[24], "RawValue", "Values found on the device, as they were read.", METADATA),
        list(15, &[25], "Source", "Registry paths or policies that the values were read from.", LEARN),
        timestamp(16, "DataCollectionTimeOffset", "When the values were read on the device.", LEARN),
        timestamp(17, "ComplianceCalculationTimeOffset", "When compliance was judged.", LEARN),
        text(18, "ComplianceEvaluationDetails", "Details of how compliance was judged.", METADATA),
        generated_time(19, LEARN),
        os_platform(21, LEARN),
    ],
};
