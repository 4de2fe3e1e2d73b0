//! Table features that a table requires of its writers by properties and column metadata.
//!
//! Takes a table's properties and columns; gives the first feature that we do not support. Tables with a newer
//! protocol or table features are rejected. By the protocol most features need a newer writer version, but
//! other writers have set them in tables of older ones.

use std::collections::BTreeMap;

use serde_json::Value;

/// Table properties that enable a feature if they are `true`, and the reason for an error.
const PROPERTIES: &[(&str, &str)] = &[
    ("delta.enableChangeDataFeed", "it has a change data feed"),
    ("delta.enableDeletionVectors", "it has deletion vectors"),
    ("delta.enableRowTracking", "it tracks rows"),
    ("delta.enableInCommitTimestamps", "it has timestamps in its commits"),
    ("delta.enableIcebergCompatV1", "it is compatible with Iceberg"),
    ("delta.enableIcebergCompatV2", "it is compatible with Iceberg"),
];

/// Column metadata that enables a feature, and the reason for an error.
const COLUMN_METADATA: &[(&str, &str)] = &[
    ("delta.invariants", "its columns have invariants"),
    ("delta.generationExpression", "it has generated columns"),
    ("delta.identity.", "it has identity columns"),
    ("delta.columnMapping.", "its columns are mapped to other names"),
];

type Properties = BTreeMap<String, Option<String>>;

/// Returns whether files may only be added.
pub(super) fn is_append_only(properties: &Properties) -> bool {
    is_true(properties, "delta.appendOnly")
}

/// Returns what the table's properties ask for, if it is something that we do not keep to.
pub(super) fn in_properties(properties: &Properties) -> Option<String> {
    if let Some(name) = properties.keys().find_map(|key| key.strip_prefix("delta.constraints.")) {
        return Some(format!("it has the constraint {name:?}"));
    }
    let mapping = properties.get("delta.columnMapping.mode").and_then(Option::as_deref);
    if mapping.is_some_and(|mode| !mode.eq_ignore_ascii_case("none")) {
        return Some("its columns are mapped to other names".to_owned());
    }
    PROPERTIES.iter().find(|(key, _)| is_true(properties, key)).map(|(_, reason)| (*reason).to_owned())
}

/// Returns what the table's columns ask for, if it is something that we do not keep to.
pub(super) fn in_columns(schema: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    COLUMN_METADATA.iter().find(|(key, _)| has_metadata(&schema, key)).map(|(_, reason)| (*reason).to_owned())
}

fn is_true(properties: &Properties, key: &str) -> bool {
    let value = properties.get(key).and_then(Option::as_deref);
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Whether a field of this type, or of a type within it, has metadata whose key begins with `prefix`.
fn has_metadata(data_type: &Value, prefix: &str) -> bool {
    match data_type {
        Value::Object(members) => members.iter().any(|(name, member)| match (name.as_str(), member) {
            ("metadata", Value::Object(metadata)) => metadata.keys().any(|key| key.starts_with(prefix)),
            (_, member) => has_metadata(member, prefix),
        }),
        Value::Array(elements) => elements.iter().any(|element| has_metadata(element, prefix)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn properties_that_ask_for_more_are_named() {
        let check = |key: &str, value: &str, expected: Option<&str>| {
            let properties = Properties::from([(key.to_owned(), Some(value.to_owned()))]);
            assert_eq!(in_properties(&properties).as_deref(), expected, "{key}={value}");
        };
        check(
            "delta.constraints.positive",
            "NumberOfWeaknesses >= 0",
            Some("it has the constraint \"positive\""),
        );
        check("delta.enableChangeDataFeed", "TRUE", Some("it has a change data feed"));
        check("delta.enableChangeDataFeed", "false", None);
        check("delta.columnMapping.mode", "name", Some("its columns are mapped to other names"));
        check("delta.columnMapping.mode", "none", None);
        check("delta.logRetentionDuration", "interval 30 days", None);
        check("delta.appendOnly", "true", None);
    }

    #[test]
    fn metadata_of_nested_columns_is_looked_at() {
        let schema = |metadata: Value| {
            let nested = json!({ "type": "struct", "fields": [{ "name": "b", "type": "long", "metadata": metadata }] });
            let array = json!({ "type": "array", "elementType": nested, "containsNull": true });
            json!({ "type": "struct", "fields": [{ "name": "a", "type": array, "metadata": {} }] })
                .to_string()
        };
        assert_eq!(in_columns(&schema(json!({ "comment": "delta.invariants" }))), None);
        let check = |key: &str, expected: &str| {
            assert_eq!(in_columns(&schema(json!({ key: "x" }))).as_deref(), Some(expected));
        };
        check("delta.invariants", "its columns have invariants");
        check("delta.generationExpression", "it has generated columns");
        check("delta.identity.start", "it has identity columns");
        check("delta.columnMapping.id", "its columns are mapped to other names");
    }
}
