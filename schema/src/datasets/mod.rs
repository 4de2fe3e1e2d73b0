//! One file per dataset, each one `pub static` and nothing else.

pub mod software_inventory;

use crate::{Column, ColumnType, Origin, Presence};

/// A property of the record with the column's name.
const fn property(
    field_id: i32,
    name: &'static str,
    column_type: ColumnType,
    presence: Presence,
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column {
        name,
        field_id,
        child_ids: &[],
        column_type,
        presence,
        origin: Origin::Property,
        aliases: &[],
        doc,
        source,
    }
}

/// A property that is a list of text, nullable.
const fn list(
    field_id: i32,
    element_ids: &'static [i32],
    name: &'static str,
    doc: &'static str,
    source: &'static str,
) -> Column {
    Column {
        child_ids: element_ids,
        ..property(field_id, name, ColumnType::Utf8List, Presence::Optional, doc, source)
    }
}
