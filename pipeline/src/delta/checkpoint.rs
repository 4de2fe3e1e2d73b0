//! Checkpoints: the state of a log as one Parquet file, so that readers need not read every commit.
//!
//! Takes and gives [`Line`]s, each a row. Writes the classic form in one file; reads other writers' too, in
//! several files and with more columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, Field, Fields};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::{Field as Cell, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::action::{Add, Line, MetaData, Remove, Txn};

/// The columns that are read; others hold what needs a table feature.
const COLUMNS: [&str; 5] = ["protocol", "metaData", "txn", "add", "remove"];

/// Reads the lines of one file of a checkpoint.
///
/// # Errors
///
/// Describes what is damaged.
pub(super) fn read(file: Bytes) -> Result<Vec<Line>, String> {
    read_rows(file).map_err(|error| error.to_string())
}

fn read_rows(file: Bytes) -> Result<Vec<Line>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields().iter().filter(|field| COLUMNS.contains(&field.name()));
    let columns = Type::group_type_builder(schema.name()).with_fields(fields.cloned().collect()).build()?;
    let rows = reader.get_row_iter(Some(columns))?;
    rows.map(|row| {
        serde_json::from_value(group(&row?)).map_err(|error| ParquetError::External(Box::new(error)))
    })
    .collect()
}

/// Returns a row, or a group within it, as the object that a line of JSON would have.
fn group(row: &Row) -> Value {
    row.get_column_iter().map(|(name, cell)| (name.clone(), value(cell))).collect::<Map<_, _>>().into()
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Bool(value) => (*value).into(),
        Cell::Int(value) => (*value).into(),
        Cell::Long(value) => (*value).into(),
        Cell::Str(value) => value.clone().into(),
        Cell::Group(row) => group(row),
        Cell::ListInternal(list) => list.elements().iter().map(value).collect::<Vec<_>>().into(),
        Cell::MapInternal(map) => {
            let entry = |(key, cell): &(Cell, Cell)| match key {
                Cell::Str(key) => Some((key.clone(), value(cell))),
                _ => None,
            };
            map.entries().iter().filter_map(entry).collect::<Map<_, _>>().into()
        }
        // No type of what we read; parsed statistics, which repeat those in JSON, have them.
        _ => Value::Null,
    }
}

/// Writes lines as one checkpoint.
///
/// # Errors
///
/// None that the lines could cause.
pub(super) fn write(lines: &[Line]) -> Result<Vec<u8>, ParquetError> {
    let batch = batch(lines)?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn batch(lines: &[Line]) -> Result<RecordBatch, ArrowError> {
    let protocols = rows(lines, |line| line.protocol.as_ref());
    let protocol = structure(
        &protocols,
        vec![
            ("minReaderVersion", integers(&protocols, |row| row.min_reader_version)),
            ("minWriterVersion", integers(&protocols, |row| row.min_writer_version)),
        ],
    );
    let txns = rows(lines, |line| line.txn.as_ref());
    let txn = structure(
        &txns,
        vec![
            ("appId", texts(&txns, |row: &Txn| Some(&row.app_id))),
            ("version", longs(&txns, |row| Some(row.version))),
            ("lastUpdated", longs(&txns, |row| row.last_updated)),
        ],
    );
    RecordBatch::try_from_iter_with_nullable([
        ("txn", txn, true),
        ("add", adds(lines), true),
        ("remove", removes(lines), true),
        ("metaData", meta_data(lines), true),
        ("protocol", protocol, true),
    ])
}

fn meta_data(lines: &[Line]) -> ArrayRef {
    let rows = rows(lines, |line| line.meta_data.as_ref());
    let formats: Vec<_> = rows.iter().map(|row| row.map(|row| &row.format)).collect();
    let format = structure(
        &formats,
        vec![
            ("provider", texts(&formats, |format| Some(&format.provider))),
            ("options", maps(&formats, |format| Some(&format.options))),
        ],
    );
    let text = |of: fn(&MetaData) -> Option<&String>| texts(&rows, of);
    structure(
        &rows,
        vec![
            ("id", text(|row| Some(&row.id))),
            ("name", text(|row| row.name.as_ref())),
            ("description", text(|row| row.description.as_ref())),
            ("format", format),
            ("schemaString", text(|row| Some(&row.schema_string))),
            ("partitionColumns", lists(&rows, |row| &row.partition_columns)),
            ("configuration", maps(&rows, |row| Some(&row.configuration))),
            ("createdTime", longs(&rows, |row| row.created_time)),
        ],
    )
}

fn adds(lines: &[Line]) -> ArrayRef {
    let rows = rows(lines, |line| line.add.as_ref());
    structure(
        &rows,
        vec![
            ("path", texts(&rows, |row: &Add| Some(&row.path))),
            ("partitionValues", maps(&rows, |row| Some(&row.partition_values))),
            ("size", longs(&rows, |row| Some(row.size))),
            ("modificationTime", longs(&rows, |row| Some(row.modification_time))),
            ("dataChange", booleans(&rows, |row| Some(row.data_change))),
            ("stats", texts(&rows, |row| row.stats.as_ref())),
        ],
    )
}

fn removes(lines: &[Line]) -> ArrayRef {
    let rows = rows(lines, |line| line.remove.as_ref());
    structure(
        &rows,
        vec![
            ("path", texts(&rows, |row: &Remove| Some(&row.path))),
            ("deletionTimestamp", longs(&rows, |row| row.deletion_timestamp)),
            ("dataChange", booleans(&rows, |row| Some(row.data_change))),
            ("extendedFileMetadata", booleans(&rows, |row| row.extended_file_metadata)),
            ("partitionValues", maps(&rows, |row| row.partition_values.as_ref())),
            ("size", longs(&rows, |row| row.size)),
        ],
    )
}

/// What each line holds of one kind.
fn rows<T>(lines: &[Line], of: impl Fn(&Line) -> Option<&T>) -> Vec<Option<&T>> {
    lines.iter().map(of).collect()
}

fn structure<T>(rows: &[Option<T>], columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array))
        .unzip();
    let valid: NullBuffer = rows.iter().map(Option::is_some).collect();
    Arc::new(StructArray::new(Fields::from(fields), arrays, Some(valid)))
}

fn texts<T>(rows: &[Option<&T>], of: impl Fn(&T) -> Option<&String>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.and_then(&of)).collect::<StringArray>())
}

fn integers<T>(rows: &[Option<&T>], of: impl Fn(&T) -> i32) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.map(&of)).collect::<Int32Array>())
}

fn longs<T>(rows: &[Option<&T>], of: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.and_then(&of)).collect::<Int64Array>())
}

fn booleans<T>(rows: &[Option<&T>], of: impl Fn(&T) -> Option<bool>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| row.and_then(&of)).collect::<BooleanArray>())
}

fn lists<T>(rows: &[Option<&T>], of: impl Fn(&T) -> &Vec<String>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new())
        .with_field(Field::new_list_field(arrow_schema::DataType::Utf8, true));
    for row in rows {
        builder.append_option(row.map(|row| of(row).iter().map(Some)));
    }
    Arc::new(builder.finish())
}

fn maps<T>(rows: &[Option<&T>], of: impl Fn(&T) -> Option<&BTreeMap<String, Option<String>>>) -> ArrayRef {
    let names =
        MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let map = row.and_then(&of);
        for (key, value) in map.into_iter().flatten() {
            builder.keys().append_value(key);
            builder.values().append_option(value.as_ref());
        }
        builder.append(map.is_some()).expect("as many values as keys");
    }
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::action::{Protocol, StorageFormat};

    #[test]
    fn lines_come_back_as_they_were() {
        let values = BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some("x/y".to_owned()))]);
        let add = Add {
            path: "a%20b".to_owned(),
            partition_values: values.clone(),
            size: 1,
            modification_time: 2,
            data_change: false,
            stats: Some("{}".to_owned()),
        };
        let remove = add.to_remove(3);
        let meta_data = MetaData {
            id: "id".to_owned(),
            name: None,
            description: Some(String::new()),
            format: StorageFormat { provider: "parquet".to_owned(), options: BTreeMap::new() },
            schema_string: "{}".to_owned(),
            partition_columns: vec!["a".to_owned(), "b".to_owned()],
            configuration: values,
            created_time: Some(4),
        };
        let txn = Txn { app_id: "app".to_owned(), version: 5, last_updated: None };
        let lines = [
            Line { protocol: Some(Protocol::OURS), ..Line::default() },
            Line { meta_data: Some(meta_data), ..Line::default() },
            Line { txn: Some(txn), ..Line::default() },
            Line { remove: Some(Remove { partition_values: None, ..remove }), ..Line::default() },
            Line { add: Some(Add { stats: None, ..add.clone() }), ..Line::default() },
            Line { add: Some(add), ..Line::default() },
        ];
        let file = write(&lines).unwrap();
        assert_eq!(read(Bytes::from(file)).unwrap(), lines);
        assert_eq!(read(Bytes::from(write(&[]).unwrap())).unwrap(), []);
        assert!(read(Bytes::from_static(b"PAR1 or not")).is_err());
    }
}
