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
