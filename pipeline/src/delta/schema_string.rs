//! The table's columns as Delta's `schemaString`, derived from the dataset's declaration.

use schema::{Column, ColumnType, Dataset, EXTRA_FIELDS, Presence, StructMember};
use serde_json::{Value, json};

/// Returns the names of the partition columns, in order.
pub(super) fn partition_columns(dataset: &Dataset) -> Vec<String> {
    dataset.partition_columns().map(|column| column.name.to_owned()).collect()
}

/// Returns the schema of a new table. Columns that its files lack are added with the first file that has them,
/// by [`with_columns_of`].
pub(super) fn schema_of(dataset: &Dataset, extra_fields: bool) -> String {
    let fields: Vec<_> = columns(dataset, extra_fields).map(|column| field(column, false)).collect();
    json!({ "type": "struct", "fields": fields }).to_string()
}

/// Adds the dataset's columns that `schema` lacks, nullable, since older files have none.
/// Returns `None` if it lacks none.
///
/// # Errors
///
/// Describes why our files do not fit the schema.
pub(super) fn with_columns_of(
    dataset: &Dataset,
    extra_fields: bool,
    schema: &str,
) -> Result<Option<String>, String> {
    let mut schema: Value =
        serde_json::from_str(schema).map_err(|error| format!("its schema is not JSON: {error}"))?;
    let Some(fields) = schema.get_mut("fields").and_then(Value::as_array_mut) else {
        return Err("its schema has no fields".to_owned());
    };
    let mut is_changed = false;
    for column in columns(dataset, extra_fields) {
        // Two names that differ by case alone are one column to the readers of Delta tables.
        let name = |field: &Value| field["name"].as_str().unwrap_or_default().to_owned();
        match fields.iter().find(|field| name(field).eq_ignore_ascii_case(column.name)) {
            None => {
                fields.push(field(column, true));
                is_changed = true;
            }
            Some(found) if name(found) != column.name => {
                return Err(format!("its column {} is {} in our files", name(found), column.name));
            }
            Some(found) if found["type"] == data_type(column.column_type) => {}
            Some(found) => {
                return Err(format!("its column {} is of type {}", column.name, found["type"]));
            }
        }
    }
    let known: Vec<_> = columns(dataset, true).map(|column| column.name).collect();
    let is_foreign = |field: &&Value| !known.iter().any(|name| field["name"] == *name);
    if let Some(required) = fields.iter().filter(is_foreign).find(|field| field["nullable"] != true) {
        return Err(format!("its column {} is required, and our files have none", required["name"]));
    }
    Ok(is_changed.then(|| schema.to_string()))
}

fn columns(dataset: &Dataset, extra_fields: bool) -> impl Iterator<Item = &'static Column> {
    let extra = extra_fields.then_some(&EXTRA_FIELDS);
    dataset.file_columns().chain(extra).chain(dataset.partition_columns())
}

fn field(column: &Column, is_nullable: bool) -> Value {
    json!({
        "name": column.name,
        "type": data_type(column.column_type),
        "nullable": is_nullable || column.presence == Presence::Optional,
        "metadata": { "comment": column.doc },
    })
}

fn data_type(column_type: ColumnType) -> Value {
    match column_type {
        ColumnType::Utf8 | ColumnType::Json => json!("string"),
        ColumnType::Int32 => json!("integer"),
        ColumnType::Int64 => json!("long"),
        ColumnType::Float64 => json!("double"),
        ColumnType::Boolean => json!("boolean"),
        ColumnType::Date32 => json!("date"),
        ColumnType::TimestampMicros => json!("timestamp"),
        ColumnType::Utf8List => json!({ "type": "array", "elementType": "string", "containsNull": true }),
        ColumnType::StructList(members) => {
            let member = |member: &StructMember| {
                json!({
                    "name": member.name,
                    "type": data_type(member.column_type),
                    "nullable": true,
                    "metadata": {},
                })
            };
            let element =
                json!({ "type": "struct", "fields": members.iter().map(member).collect::<Vec<_>>() });
            json!({ "type": "array", "elementType": element, "containsNull": true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::datasets::software_inventory::SOFTWARE_INVENTORY;

    #[test]
    fn new_schema_has_every_column_once_with_its_doc() {
        let schema: Value = serde_json::from_str(&schema_of(&SOFTWARE_INVENTORY, false)).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        assert_eq!(fields.len(), SOFTWARE_INVENTORY.columns.len() + 1);
        assert_eq!(fields[0]["nullable"], false);
        assert_eq!(fields[0]["metadata"]["comment"], SOFTWARE_INVENTORY.columns[0].doc);
        let last: Vec<_> = fields[fields.len() - 2..].iter().map(|field| &field["name"]).collect();
        assert_eq!(last, ["snapshot_date", "OSPlatform"]);
    }

    #[test]
    fn missing_columns_are_added_nullable_others_must_fit() {
        let dataset = &SOFTWARE_INVENTORY;
        let plain = schema_of(dataset, false);
        assert_eq!(with_columns_of(dataset, false, &plain), Ok(None));
        let wider = with_columns_of(dataset, true, &plain).unwrap().unwrap();
        let last = serde_json::from_str::<Value>(&wider).unwrap()["fields"].as_array().unwrap().len();
        assert_eq!(last, dataset.columns.len() + 2);
        assert_eq!(with_columns_of(dataset, true, &wider), Ok(None));
        assert_eq!(with_columns_of(dataset, false, &wider), Ok(None));

        let other_type = plain.replace("\"integer\"", "\"long\"");
        let error = with_columns_of(dataset, false, &other_type).unwrap_err();
        assert_eq!(error, "its column NumberOfWeaknesses is of type \"long\"");
        let other_case = plain.replace("\"DeviceName\"", "\"devicename\"");
        let error = with_columns_of(dataset, false, &other_case).unwrap_err();
        assert_eq!(error, "its column devicename is DeviceName in our files");
        let foreign = wider.replace("ExtraFields", "theirs");
        assert_eq!(with_columns_of(dataset, false, &foreign), Ok(None));
        let mut required: Value = serde_json::from_str(&foreign).unwrap();
        required["fields"].as_array_mut().unwrap().last_mut().unwrap()["nullable"] = json!(false);
        let error = with_columns_of(dataset, false, &required.to_string()).unwrap_err();
        assert!(error.contains("theirs\" is required"), "{error}");
    }
}
