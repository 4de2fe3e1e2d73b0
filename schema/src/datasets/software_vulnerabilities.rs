//! Known vulnerabilities of installed software, per device.

use super::columns::{
    METADATA, SEEN, boolean, device_id, device_name, disk_paths, end_of_support_date, end_of_support_status,
    float64, generated_time, group_id, group_name, os_platform, os_version, product_category,
    recommendation_reference, registry_paths, row_id, software_name, software_vendor, software_version, text,
    timestamp,
};
use super::permissions::VULNERABILITY_READ;
use super::roles::DEVICE_ROLES;
use crate::{
    Better, ChangeWords, ComparedColumn, Condition, Counted, Dataset, ExposureRoles, HistoryRoles, Is,
    Layout, Measure, ReportFigure, ReportRoles, Routes,
};

const LEARN: &str = "Microsoft Learn, export software vulnerabilities assessment";

/// Software vulnerabilities: one row per device, installed version of a product and CVE.
pub static SOFTWARE_VULNERABILITIES: Dataset = Dataset {
    name: "software_vulnerabilities",
    version: 1,
    doc: "One row per device, installed version of a product and CVE; without a CVE where none is known of it.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/get-assessment-software-vulnerabilities",
    routes: Routes {
        files: Some("machines/SoftwareVulnerabilitiesExport"),
        json: Some("machines/SoftwareVulnerabilitiesByMachine"),
    },
    permission: VULNERABILITY_READ,
    key: &["DeviceId", "SoftwareVendor", "SoftwareName", "SoftwareVersion", "CveId"],
    partition_by: Some("OSPlatform"),
    may_be_empty: false,
    layout: Layout {
        cluster_by: &["SoftwareVendor", "SoftwareName", "SoftwareVersion", "CveId"],
        bloom: &["DeviceId", "SoftwareName", "CveId"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        // Another version is another finding: what an upgrade fixes is fixed.
        product: &["SoftwareVendor", "SoftwareName", "SoftwareVersion", "CveId"],
        only_with: Some("CveId"),
        compared: &[
            ComparedColumn { column: "CvssScore", kind: "cvss_score_changed" },
            ComparedColumn { column: "VulnerabilitySeverityLevel", kind: "severity_changed" },
            ComparedColumn { column: "ExploitabilityLevel", kind: "exploitability_changed" },
            ComparedColumn { column: "RecommendedSecurityUpdate", kind: "update_changed" },
        ],
        measures: &[
            Measure { name: "findings", counted: Counted::Rows },
            Measure { name: "cves", counted: Counted::Distinct(&["CveId"]) },
            Measure {
                name: "critical",
                counted: Counted::Where(&[Condition {
                    column: "VulnerabilitySeverityLevel",
                    is: Is::OneOf(&["Critical"]),
                }]),
            },
            Measure {
                name: "high",
                counted: Counted::Where(&[Condition {
                    column: "VulnerabilitySeverityLevel",
                    is: Is::OneOf(&["High"]),
                }]),
            },
            Measure {
                name: "exploitable",
                counted: Counted::Where(&[Condition {
                    column: "ExploitabilityLevel",
                    is: Is::OneOf(&["ExploitIsPublic", "ExploitIsVerified", "ExploitIsInKit"]),
                }]),
            },
        ],
        main_measure: "findings",
        words: ChangeWords { added: "found", removed: "fixed", version_changed: "version_changed" },
        filters: &[
            ("vendor", "SoftwareVendor"),
            ("product", "SoftwareName"),
            ("version", "SoftwareVersion"),
            ("cve", "CveId"),
            ("platform", "OSPlatform"),
            ("group", "RbacGroupName"),
        ],
        ..DEVICE_ROLES
    }),
    report: ReportRoles {
        figures: &[
            ReportFigure {
                name: "vulnerabilities",
                title: "Vulnerabilities",
                measure: "findings",
                better: Better::Less,
            },
            ReportFigure { name: "critical", title: "Critical", measure: "critical", better: Better::Less },
            ReportFigure { name: "high", title: "High", measure: "high", better: Better::Less },
            ReportFigure {
                name: "exploitable",
                title: "With an exploit",
                measure: "exploitable",
                better: Better::Less,
            },
        ],
        name: &["SoftwareVendor", "SoftwareName"],
        exposure: Some(ExposureRoles {
            finding: "CveId",
            severity: "VulnerabilitySeverityLevel",
            severities: &["Critical", "High", "Medium", "Low"],
            exploitability: "ExploitabilityLevel",
            exploitable: &["ExploitIsInKit", "ExploitIsVerified", "ExploitIsPublic"],
            not_exploitable: &["NoExploit"],
            score: "CvssScore",
            first_seen: "FirstSeenTimestamp",
            update_available: "SecurityUpdateAvailable",
        }),
        device_measure: Some("findings"),
        ..ReportRoles::NONE
    },
    columns: &[
        row_id(1, LEARN),
        device_id(2, LEARN),
        device_name(3, LEARN),
        group_name(4, LEARN),
        group_id(5, LEARN),
        os_version(6, LEARN),
        text(7, "OSArchitecture", "Architecture of the device's operating system, such as `x64`.", LEARN),
        software_vendor(8, LEARN),
        software_name(9, LEARN),
        software_version(10, LEARN),
        text(
            11,
            "CveId",
            "CVE, or the service's own number of a vulnerability without one; null if none is known of the product.",
            LEARN,
        ),
        float64(12, "CvssScore", "CVSS score of the CVE.", LEARN),
        text(
            13,
            "VulnerabilitySeverityLevel",
            "Severity of the CVE as the service words it: `Low`, `Medium`, `High`, `Critical`; null without a CVE.",
            LEARN,
        ),
        text(
            14,
            "ExploitabilityLevel",
            "Exploitability as the service words it: `NoExploit`, `ExploitIsPublic`, `ExploitIsVerified`, `ExploitIsInKit`, or newer wordings.",
            LEARN,
        ),
        boolean(15, "IsOnboarded", "Whether the device is onboarded; on the files route only.", SEEN),
        timestamp(
            16,
            "FirstSeenTimestamp",
            "When the CVE of the product was first seen on the device, whatever the version; the source has no zone, read as UTC.",
            LEARN,
        ),
        timestamp(
            17,
            "LastSeenTimestamp",
            "When the software was last reported on the device; the source has no zone, read as UTC.",
            LEARN,
        ),
        recommendation_reference(18, LEARN),
        boolean(19, "SecurityUpdateAvailable", "Whether there is a security update for the software.", LEARN),
        text(20, "RecommendedSecurityUpdate", "Title of the security update that fixes the CVE.", LEARN),
        text(
            21,
            "RecommendedSecurityUpdateId",
            "Identifier of the security update, such as the number of its KB article.",
            LEARN,
        ),
        text(22, "RecommendedSecurityUpdateUrl", "Address of the security update.", LEARN),
        text(
            23,
            "CveBatchTitle",
            "Title of the bulletin that the CVE came with; on the files route only.",
            SEEN,
        ),
        text(
            24,
            "CveBatchUrl",
            "Address of the bulletin that the CVE came with; on the files route only.",
            SEEN,
        ),
        disk_paths(25, &[34], LEARN),
        registry_paths(26, &[35], LEARN),
        end_of_support_status(27, METADATA),
        end_of_support_date(28, METADATA),
        text(
            29,
            "CveMitigationStatus",
            "Status of a mitigation of the CVE, as the service words it.",
            METADATA,
        ),
        product_category(30, METADATA),
        generated_time(31, LEARN),
        os_platform(33, LEARN),
    ],
};
