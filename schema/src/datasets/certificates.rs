//! Certificates of the stores of devices.

use super::columns::{
    alias, boolean, device_id, device_name, generated_time, group_id, group_name, int32, json, text,
    timestamp, with_aliases,
};
use super::permissions::VULNERABILITY_READ;
use super::roles::DEVICE_ROLES;
use crate::{
    Condition, Counted, Dataset, ExpiryRoles, HistoryRoles, Is, Layout, Measure, ReportRoles, Routes,
};

const LEARN: &str = "Microsoft Learn, export certificate inventory assessment";

/// Certificates: one row per device, certificate and path of a store.
pub static CERTIFICATES: Dataset = Dataset {
    name: "certificates",
    version: 1,
    doc: "One row per device, certificate and path in a certificate store of the machine.",
    source: "https://learn.microsoft.com/en-us/defender-endpoint/api/export-certificate-inventory-assessment",
    routes: Routes {
        files: Some("machines/CertificateAssessmentExport"),
        json: Some("machines/CertificateAssessmentByMachine"),
    },
    permission: VULNERABILITY_READ,
    key: &["DeviceId", "Thumbprint", "Path"],
    // The service gives no platform.
    partition_by: None,
    may_be_empty: true,
    layout: Layout {
        cluster_by: &["Thumbprint"],
        bloom: &["DeviceId", "Thumbprint", "SerialNumber"],
        uncompressed: &[],
    },
    history: Some(HistoryRoles {
        platform: None,
        product: &["Thumbprint", "Path"],
        measures: &[
            Measure { name: "certificates", counted: Counted::Rows },
            Measure {
                name: "expired",
                counted: Counted::Where(&[Condition { column: "ExpirationDate", is: Is::Past }]),
            },
            Measure {
                name: "expiring",
                counted: Counted::Where(&[Condition { column: "ExpirationDate", is: Is::WithinDays(30) }]),
            },
        ],
        main_measure: "certificates",
        filters: &[("thumbprint", "Thumbprint"), ("path", "Path"), ("group", "RbacGroupName")],
        ..DEVICE_ROLES
    }),
    report: ReportRoles {
        name: &["Thumbprint"],
        expiry: Some(ExpiryRoles {
            id: "Thumbprint",
            name: "IssuedTo",
            name_member: "CommonName",
            expires: "ExpirationDate",
            expired: "expired",
        }),
        ..ReportRoles::NONE
    },
    columns: &[
        device_id(1, LEARN),
        device_name(2, LEARN),
        group_name(3, LEARN),
        group_id(4, LEARN),
        text(5, "Thumbprint", "SHA-1 of the certificate, hexadecimal.", LEARN),
        text(6, "Path", "Where the certificate is: store and thumbprint.", LEARN),
        text(
            7,
            "SignatureAlgorithm",
            "Algorithm of the signature, such as `sha256RSA`; may be empty.",
            LEARN,
        ),
        with_aliases(
            int32(8, "KeySize", "Length of the key in bits; 0 where it is not known.", LEARN),
            &[alias("KeyLength")],
        ),
        with_aliases(
            timestamp(9, "ExpirationDate", "When the certificate expires or expired.", LEARN),
            &[alias("NotAfter")],
        ),
        with_aliases(
            timestamp(10, "IssueDate", "From when on the certificate is valid.", LEARN),
            &[alias("NotBefore")],
        ),
        text(11, "SubjectType", "What the certificate is for: `CA`, `End Entity`, or newer wordings.", LEARN),
        text(12, "SerialNumber", "Serial number of the certificate, hexadecimal.", LEARN),
        with_aliases(
            json(13, "IssuedTo", "Subject, as JSON with its `CommonName`, or as plain text.", LEARN),
            &[alias("SubjectObject")],
        ),
        with_aliases(
            json(14, "IssuedBy", "Issuer, as JSON with its `CommonName`, or as plain text.", LEARN),
            &[alias("IssuerObject")],
        ),
        with_aliases(json(15, "KeyUsage", "What the key may be used for.", LEARN), &[alias("KeyUsageArray")]),
        with_aliases(
            json(16, "ExtendedKeyUsage", "What else the key may be used for.", LEARN),
            &[alias("ExtendedKeyUsageArray")],
        ),
        boolean(17, "IsSelfSigned", "Whether the certificate is its own issuer's.", LEARN),
        generated_time(18, LEARN),
    ],
};
