//! The Arrow schema of a dataset's data files.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::{Column, ColumnType, Dataset, EXTRA_FIELDS, Presence, StructMember};

/// Returns the schema of the data files: the columns in declared order without the partition
/// columns, and [`EXTRA_FIELDS`] last when `extra_fields` is set.
///
/// ```
/// let schema = schema::arrow::file_schema(schema::DATASETS[0], false);
/// assert_eq!(schema.field(0).name(), "DeviceId");
/// assert!(schema.field_with_name("OSPlatform").is_err(), "partition columns are not in the files");
/// ```
pub fn file_schema(dataset: &Dataset, extra_fields: bool) -> SchemaRef {
    let extra = extra_fields.then_some(&EXTRA_FIELDS);
    let fields: Vec<Field> = dataset.file_columns().chain(extra).map(field).collect();
    Arc::new(Schema::new(fields))
}

/// Key in a field's metadata under which Parquet's readers and writers for Arrow keep the field's id.
const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// Returns [`file_schema`] with the declared field ids, those of list elements and struct members
/// included: the schema that data files are written with. Files of earlier versions have no ids, and
/// readers that go by names read them together.
///
/// ```
/// let schema = schema::arrow::file_schema_with_ids(schema::DATASETS[0], false);
/// assert_eq!(schema.field(0).metadata().get("PARQUET:field_id").map(String::as_str), Some("1"));
/// ```
pub fn file_schema_with_ids(dataset: &Dataset, extra_fields: bool) -> SchemaRef {
    let extra = extra_fields.then_some(&EXTRA_FIELDS);
    let with_ids = |column: &Column| {
        let mut child_ids = column.child_ids.iter();
        let data_type = with_child_ids(field(column).data_type(), &mut child_ids);
        with_id(field(column).with_data_type(data_type), column.field_id)
    };
    Arc::new(Schema::new(dataset.file_columns().chain(extra).map(with_ids).collect::<Vec<_>>()))
}

fn with_id(field: Field, id: i32) -> Field {
    field.with_metadata([(FIELD_ID_KEY.to_owned(), id.to_string())])
}

/// Numbers what is inside of a type from the outside inwards.
fn with_child_ids<'i>(data_type: &DataType, ids: &mut impl Iterator<Item = &'i i32>) -> DataType {
    let mut number = |field: &Arc<Field>| {
        let id = *ids.next().expect("a column declares an id for each child");
        let data_type = with_child_ids(field.data_type(), ids);
        Arc::new(with_id(field.as_ref().clone().with_data_type(data_type), id))
    };
    match data_type {
        DataType::List(element) => DataType::List(number(element)),
        DataType::Struct(members) => DataType::Struct(members.iter().map(number).collect()),
        other => other.clone(),
    }
}

/// Returns a type without the ids of what is inside of it, to be compared with [`data_type`].
pub fn without_field_ids(data_type: &DataType) -> DataType {
    let strip = |field: &Arc<Field>| {
        Arc::new(Field::new(field.name(), without_field_ids(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::List(element) => DataType::List(strip(element)),
        DataType::Struct(members) => DataType::Struct(members.iter().map(strip).collect()),
        other => other.clone(),
    }
}

/// Returns the schema of record batches on their way into data files: that of [`file_schema`] with
/// text in dictionaries, so that a writer need not find again what repeats.
///
/// ```
/// let schema = schema::arrow::batch_schema(schema::DATASETS[0], false);
/// assert_eq!(schema.field(0).data_type(), &schema::arrow::dictionary());
/// ```
pub fn batch_schema(dataset: &Dataset, extra_fields: bool) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 => field.as_ref().clone().with_data_type(dictionary()),
        DataType::List(element) if *element.data_type() == DataType::Utf8 => {
            field.as_ref().clone().with_data_type(DataType::List(batch_list_element()))
        }
        _ => field.as_ref().clone(),
    };
    Arc::new(Schema::new(file_schema(dataset, extra_fields).fields().iter().map(field).collect::<Vec<_>>()))
}

/// Returns the type of text in record batches.
pub fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// Returns the field of a list's elements in record batches.
pub fn batch_list_element() -> Arc<Field> {
    Arc::new(list_element().as_ref().clone().with_data_type(dictionary()))
}

/// Returns the Arrow field of one column.
pub fn field(column: &Column) -> Field {
    Field::new(column.name, data_type(column.column_type), column.presence == Presence::Optional)
}

/// Returns the Arrow type of a column type. The child of a list is named `element`, as the
/// Parquet specification wants it; readers of the same table then agree on its path.
pub fn data_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Utf8 | ColumnType::Json => DataType::Utf8,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date32 => DataType::Date32,
        ColumnType::TimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Utf8List => DataType::List(list_element()),
        ColumnType::StructList(members) => {
            let element = DataType::Struct(members.iter().map(member_field).collect());
            DataType::List(Arc::new(Field::new(LIST_ELEMENT, element, true)))
        }
    }
}

const LIST_ELEMENT: &str = "element";

fn member_field(member: &StructMember) -> Field {
    Field::new(member.name, data_type(member.column_type), true)
}

/// Returns the field of a list's elements: nullable text named `element`.
pub fn list_element() -> Arc<Field> {
    Arc::new(Field::new(LIST_ELEMENT, DataType::Utf8, true))
}
