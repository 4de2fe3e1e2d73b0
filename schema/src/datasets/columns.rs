//! Takes what a declaration says of a column; gives the column. The columns that several datasets have are here, with
//! what they mean. A declaration numbers its columns itself: a field id belongs to one dataset.

use crate::{Alias, Column, ColumnType, Origin, Presence, StructMember};

/// Source of columns that the service's own description of its API has.
pub(super) const METADATA: &str = "metadata of the service's API";
/// Source of columns that are in no documentation.
pub(super) const SEEN: &str = "seen in exports; not documented";

/// A property of the record with the column's name, which may be null.
const fn property(
    field_id: i32,
    name: &'static str,
    column_type: ColumnType,
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column {
        name,
        field_id,
        child_ids: &[],
        column_type,
        presence: Presence::Optional,
        origin: Origin::Property,
        aliases: &[],
        doc,
        source,
    }
}

pub(super) const fn text(id: i32, name: &'static str, doc: &'static str, source: &'static str) -> Column {
    property(id, name, ColumnType::Utf8, doc, source)
}

pub(super) const fn int32(id: i32, name: &'static str, doc: &'static str, source: &'static str) -> Column {
    property(id, name, ColumnType::Int32, doc, source)
}

pub(super) const fn float64(id: i32, name: &'static str, doc: &'static str, source: &'static str) -> Column {
    property(id, name, ColumnType::Float64, doc, source)
}

pub(super) const fn boolean(id: i32, name: &'static str, doc: &'static str, source: &'static str) -> Column {
    property(id, name, ColumnType::Boolean, doc, source)
}

pub(super) const fn timestamp(
    id: i32,
    name: &'static str,
    doc: &'static str,
    source: &'static str,
) -> Column {
    property(id, name, ColumnType::TimestampMicros, doc, source)
}

pub(super) const fn json(id: i32, name: &'static str, doc: &'static str, source: &'static str) -> Column {
    property(id, name, ColumnType::Json, doc, source)
}

/// A list of text; `ids` are those of the column and of its elements.
pub(super) const fn list(
    id: i32,
    child_ids: &'static [i32],
    name: &'static str,
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column { child_ids, ..property(id, name, ColumnType::Utf8List, doc, source) }
}

/// A list of structs; `child_ids` are those of the element, then of its members.
pub(super) const fn struct_list(
    id: i32,
    child_ids: &'static [i32],
    name: &'static str,
    members: &'static [StructMember],
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column { child_ids, ..property(id, name, ColumnType::StructList(members), doc, source) }
}

/// The same column, which has other names on the wire too.
pub(super) const fn with_aliases(column: Column, aliases: &'static [Alias]) -> Column {
    Column { aliases, ..column }
}

/// Another name for the whole value.
pub(super) const fn alias(name: &'static str) -> Alias {
    Alias { name, is_single_element: false }
}

pub(super) const fn device_id(id: i32, source: &'static str) -> Column {
    Column {
        presence: Presence::Required,
        ..text(id, "DeviceId", "Unique identifier of the device in the service.", source)
    }
}

pub(super) const fn device_name(id: i32, source: &'static str) -> Column {
    let doc = "Fully qualified domain name of the device; a short name on some platforms.";
    text(id, "DeviceName", doc, source)
}

pub(super) const fn group_name(id: i32, source: &'static str) -> Column {
    let doc = "Role-based access group; `Unassigned` for a device without one, `None` where the organisation has none.";
    text(id, "RbacGroupName", doc, source)
}

pub(super) const fn group_id(id: i32, source: &'static str) -> Column {
    let doc = "Number of the role-based access group; 0 for a device without one.";
    property(id, "RbacGroupId", ColumnType::Int64, doc, source)
}

pub(super) const fn os_platform(id: i32, source: &'static str) -> Column {
    let doc = "Platform of the device's operating system; an open set, null where the service gives none.";
    text(id, "OSPlatform", doc, source)
}

pub(super) const fn os_version(id: i32, source: &'static str) -> Column {
    text(id, "OSVersion", "Version of the device's operating system, as the service words it.", source)
}

/// The column with the export's own time, which every dataset has.
pub(super) const fn generated_time(id: i32, source: &'static str) -> Column {
    let doc = "When the service generated the export that the row is from.";
    Column {
        presence: Presence::Required,
        origin: Origin::Export,
        ..timestamp(id, "GeneratedTime", doc, source)
    }
}

pub(super) const fn row_id(id: i32, source: &'static str) -> Column {
    text(
        id,
        "Id",
        "Identifier of the row in the service; its layout varies, it is not to be taken apart.",
        source,
    )
}

pub(super) const fn software_vendor(id: i32, source: &'static str) -> Column {
    text(id, "SoftwareVendor", "Name of the software vendor.", source)
}

pub(super) const fn software_name(id: i32, source: &'static str) -> Column {
    text(id, "SoftwareName", "Name of the software product.", source)
}

pub(super) const fn software_version(id: i32, source: &'static str) -> Column {
    text(id, "SoftwareVersion", "Version of the software product.", source)
}

pub(super) const fn disk_paths(id: i32, child_ids: &'static [i32], source: &'static str) -> Column {
    let doc = "Paths on disk that show the installation; an empty list is not null.";
    list(id, child_ids, "DiskPaths", doc, source)
}

pub(super) const fn registry_paths(id: i32, child_ids: &'static [i32], source: &'static str) -> Column {
    let doc = "Registry keys that show the installation; an empty list is not null.";
    list(id, child_ids, "RegistryPaths", doc, source)
}

pub(super) const fn software_last_seen(id: i32, source: &'static str) -> Column {
    let doc = "When the software was last seen on the device; the source has no zone, read as UTC.";
    timestamp(id, "SoftwareLastSeenTimestamp", doc, source)
}

pub(super) const fn end_of_support_status(id: i32, source: &'static str) -> Column {
    let doc = "End of support as the service words it: `None`, `EOS Version`, `Upcoming EOS Version`, `EOS Software`, `Upcoming EOS Software`, or newer wordings.";
    text(id, "EndOfSupportStatus", doc, source)
}

pub(super) const fn end_of_support_date(id: i32, source: &'static str) -> Column {
    property(id, "EndOfSupportDate", ColumnType::Date32, "Date on which support ends or ended.", source)
}

pub(super) const fn product_category(id: i32, source: &'static str) -> Column {
    text(id, "ProductCategory", "Category of the product, as the service words it.", source)
}

pub(super) const fn recommendation_reference(id: i32, source: &'static str) -> Column {
    let doc = "Reference to the security recommendation that the row belongs to.";
    text(id, "RecommendationReference", doc, source)
}
