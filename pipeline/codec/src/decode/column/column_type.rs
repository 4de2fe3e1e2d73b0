//! Which of the declared types have a column.

use schema::ColumnType;

/// Whether there is a column for values of a type.
pub(in crate::decode) fn can_hold(column_type: ColumnType) -> bool {
    match column_type {
        ColumnType::Utf8
        | ColumnType::Utf8List
        | ColumnType::Int32
        | ColumnType::TimestampMicros
        | ColumnType::Date32 => true,
        ColumnType::Int64
        | ColumnType::Float64
        | ColumnType::Boolean
        | ColumnType::Json
        | ColumnType::StructList(_) => false,
    }
}
