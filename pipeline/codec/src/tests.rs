//! Values of every type, from a part's bytes to a Parquet file and back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use bytes::Bytes;
use chrono::DateTime;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::writer::SerializedFileWriter;
use schema::{
    Alias, Column, ColumnType, Dataset, Layout, Origin, Permission, Presence, ReportRoles, Routes,
    StructMember,
};

use crate::batch_layout::{BatchLayout, BatchOptions, RowOrder, TextType};
use crate::encode::{RowGroupEncoder, properties};
use crate::part_reader::PartReader;
use crate::row_group::{RowGroupLimits, RowGroups};
use crate::rows::Rows;

const fn column(name: &'static str, field_id: i32, column_type: ColumnType) -> Column {
    Column {
        name,
        field_id,
        child_ids: &[],
        column_type,
        presence: Presence::Optional,
        origin: Origin::Property,
        aliases: &[],
        doc: "A column.",
        source: "this test",
    }
}

const MEMBERS: &[StructMember] = &[
    StructMember { name: "Name", column_type: ColumnType::Utf8 },
    StructMember { name: "Size", column_type: ColumnType::Int64 },
    StructMember { name: "IsRequired", column_type: ColumnType::Boolean },
];

/// A column of every type, and no partition column.
pub(crate) static EVERY_TYPE: Dataset = Dataset {
    name: "every_type",
    version: 1,
    doc: "One row per test.",
    source: "this test",
    routes: Routes { files: None, json: None },
    permission: Permission { application: "None", delegated: "None" },
    key: &["Id"],
    partition_by: None,
    may_be_empty: true,
    layout: Layout { cluster_by: &[], bloom: &[], uncompressed: &["Id"] },
    history: None,
    report: ReportRoles::NONE,
    columns: &[
        Column { presence: Presence::Required, ..column("Id", 1, ColumnType::Utf8) },
        column("Int", 2, ColumnType::Int32),
        column("Long", 3, ColumnType::Int64),
        column("Float", 4, ColumnType::Float64),
        column("Boolean", 5, ColumnType::Boolean),
        column("Date", 6, ColumnType::Date32),
        column("Time", 7, ColumnType::TimestampMicros),
        column("Json", 8, ColumnType::Json),
        Column {
            child_ids: &[10],
            aliases: &[Alias { name: "Path", is_single_element: true }],
            ..column("Paths", 9, ColumnType::Utf8List)
        },
        Column { child_ids: &[12, 13, 14, 15], ..column("Parts", 11, ColumnType::StructList(MEMBERS)) },
    ],
};

fn show(column: &dyn Array, row: usize, out: &mut String) {
    if column.is_null(row) {
        return out.push_str("null");
    }
    match column.data_type() {
        DataType::Utf8 => write!(out, "{:?}", column.as_string::<i32>().value(row)),
        DataType::Int32 => write!(out, "{}", column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(out, "{}", column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => write!(out, "{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => write!(out, "{}", column.as_boolean().value(row)),
        DataType::Date32 => write!(out, "{}d", column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => {
            write!(out, "{}us", column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::List(_) => {
            out.push('[');
            let elements = column.as_list::<i32>().value(row);
            for element in 0..elements.len() {
                show(&elements, element, out);
                out.push(';');
            }
            write!(out, "]")
        }
        DataType::Struct(_) => {
            out.push('{');
            for member in column.as_struct().columns() {
                show(member, row, out);
                out.push(',');
            }
            write!(out, "}}")
        }
        other => panic!("no column is {other}"),
    }
    .unwrap();
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    let row = |row| {
        let mut text = String::new();
        for column in batch.columns() {
            show(column, row, &mut text);
            text.push(' ');
        }
        text.trim_end().to_owned()
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Rows, rejects and counts of a part.
#[derive(Debug, Default, PartialEq)]
struct Read {
    rows: Vec<String>,
    rejects: Vec<String>,
    num_coerced: u64,
    num_duplicate_names: u64,
    undocumented: Vec<(String, u64)>,
}

/// Decodes a part, writes its rows to a file, and checks that they are in there.
fn read(part: &str) -> Read {
    let options = |text| BatchOptions { text, order: RowOrder::AsRead, ..BatchOptions::default() };
    let layout = |text| Arc::new(BatchLayout::new(&EVERY_TYPE, DateTime::UNIX_EPOCH, options(text)));
    let mut read = Read::default();
    let mut reader = PartReader::try_new(part.as_bytes(), layout(TextType::Plain)).unwrap();
    for batch in reader.batches(|reject| read.rejects.push(reject.reason)) {
        let (key, batch) = batch.unwrap();
        assert_eq!(key.value(), None);
        read.rows.extend(shown(&batch));
    }
    let counts = reader.counts();
    (read.num_coerced, read.num_duplicate_names) = (counts.coerced, counts.duplicate_names);
    read.undocumented = reader.undocumented().map(|(name, count)| (name.to_owned(), count)).collect();

    let layout = layout(TextType::Dictionary);
    let schema = ArrowSchemaConverter::new().convert(layout.file_schema()).unwrap();
    let properties = properties::properties(&EVERY_TYPE, layout.file_schema(), "a snapshot");
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), properties).unwrap();
    let mut encoder = RowGroupEncoder::new(Arc::new(schema), &EVERY_TYPE);
    let mut reader = PartReader::try_new(part.as_bytes(), layout).unwrap();
    for batch in reader.batches(drop) {
        let mut row_group = encoder.encode(batch.unwrap().1.into()).unwrap();
        row_group.append_to(&mut file).unwrap();
        assert!(row_group.footer_bytes() == 0, "it is in the file");
        encoder.reuse(row_group);
    }
    let file = Bytes::from(file.into_inner().unwrap());
    let found = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let found: Vec<String> = found.flat_map(|batch| shown(&batch.unwrap())).collect();
    assert_eq!(found, read.rows, "read back");
    read
}

#[test]
fn every_type_goes_to_a_file_and_back() {
    let full = r#"{"Id":"a","Int":-1,"Long":9007199254740993,"Float":1e-1,"Boolean":true,"Date":"1970-01-02","Time":"1970-01-01 00:00:01","Json":{"a":[1.50,"x y"]},"Paths":["p",null],"Parts":[{"Name":"n","Size":5,"IsRequired":false},null,{}]}"#;
    let none = r#"{"Id":"b","Int":null,"Long":null,"Float":null,"Boolean":null,"Date":null,"Time":null,"Json":null,"Paths":null,"Parts":null}"#;
    let other = r#"{"Id":"c","Float":3,"Boolean":false,"Json":"x \"y","Paths":[],"Parts":[]}"#;
    let part = [full, full, none, other, full, none, other, r#"{"Id":"d"}"#].join("\n");
    let read = read(&(part + "\n"));
    let full = r#""a" -1 9007199254740993 0.1 true 1d 1000000us "{\"a\":[1.50,\"x y\"]}" ["p";null;] [{"n",5,false,};null;{null,null,null,};]"#;
    let none = r#""b" null null null null null null null null null"#;
    let other = r#""c" null null 3.0 false null null "x \"y" [] []"#;
    let last = r#""d" null null null null null null null null null"#;
    assert_eq!(read.rows, [full, full, none, other, full, none, other, last]);
    assert_eq!(read, Read { rows: read.rows.clone(), ..Read::default() });
}

/// Checks what becomes of a value, alone and behind records that are as declared.
#[track_caller]
fn check(member: &str, column: usize, expected: &str, num_coerced: u64) {
    let record = format!("{{\"Id\":\"a\",{member}}}\n");
    let plain = r#"{"Id":"a","Long":1,"Float":1,"Boolean":true,"Json":1,"Parts":[]}"#;
    for num_before in [0, 3] {
        let part = format!("{plain}\n").repeat(num_before) + &record;
        let read = read(&part);
        let mut rejects = read.rejects;
        let shown = match rejects.pop() {
            Some(reject) => reject,
            None => read.rows[num_before].split(' ').nth(column).unwrap().to_owned(),
        };
        assert_eq!((&*shown, read.num_coerced), (expected, num_coerced), "{member}");
    }
}

#[test]
fn values_become_their_type_or_say_why_not() {
    check(r#""Long":9223372036854775807"#, 2, "9223372036854775807", 0);
    check(r#""Long":-3"#, 2, "-3", 0);
    check(r#""Long":9007199254740993.0"#, 2, "9007199254740993", 1);
    check(r#""Long":"12345678901""#, 2, "12345678901", 1);
    check(r#""Long":9223372036854775808"#, 2, "Long: not an integer of 64 bits", 0);
    check(r#""Long":true"#, 2, "Long: expected int64, found a boolean", 0);
    check(r#""Float":1e-400"#, 3, "0.0", 0);
    check(r#""Float":-1.5"#, 3, "-1.5", 0);
    check(r#""Float":"2.50""#, 3, "2.5", 1);
    check(r#""Float":"""#, 3, "null", 0);
    check(r#""Float":1e400"#, 3, "Float: not a finite number of 64 bits", 0);
    check(r#""Float":"inf""#, 3, "Float: text is not a finite number of 64 bits", 0);
    check(r#""Boolean":"TRUE""#, 4, "true", 1);
    check(r#""Boolean":0.0"#, 4, "false", 1);
    check(r#""Boolean":"Unknown""#, 4, "null", 0);
    check(r#""Boolean":2"#, 4, "Boolean: a number other than 0 and 1 is not a boolean", 0);
    check(r#""Boolean":"yes""#, 4, "Boolean: text is not a boolean", 0);
    check(r#""Json":[ 1.0 ,"a b\"\\" , {} ]"#, 7, r#""[1.0,\"a"#, 0);
    check(r#""Json":1.50"#, 7, r#""1.50""#, 0);
    check(r#""Json":"""#, 7, r#""""#, 0);
    check(r#""Path":"p""#, 8, r#"["p";]"#, 0);
    check(r#""Paths":"p""#, 8, r#"["p";]"#, 1);
    check(r#""Parts":["n"]"#, 9, r#"[{"n",null,null,};]"#, 1);
    check(r#""Parts":"n""#, 9, r#"[{"n",null,null,};]"#, 1);
    check(r#""Parts":[{"size":"7"}]"#, 9, "[{null,7,null,};]", 1);
    check(r#""Parts":[null,{"IsRequired":"maybe"}]"#, 9, "Parts[1].IsRequired: text is not a boolean", 0);
    check(r#""Parts":[7]"#, 9, "Parts[0]: expected object, found a number", 0);
    check(r#""Parts":{}"#, 9, "Parts: expected list of struct, found an object", 0);
}

#[test]
fn names_inside_of_structs_are_counted() {
    let record =
        r#"{"Id":"a","Parts":[{"Other":1,"Name":"x","name":"y"},{"Other":2}],"paths":[],"Path":"p"}"#;
    let read = read(&format!("{record}\n{record}\n"));
    assert_eq!(read.undocumented, [("Parts.Other".to_owned(), 2)]);
    assert_eq!(read.num_duplicate_names, 4);
    let row = r#""a" null null null null null null null ["p";] [{"y",null,null,};{null,null,null,};]"#;
    assert_eq!(read.rows, [row, row]);
}

/// Checks a part of records that differ in one member alone, behind one that the template learns from.
#[track_caller]
fn check_alike(values: &[(&str, &str)], name: &str, column: usize, num_coerced: u64) {
    let record = |value: &str| format!("{{\"Id\":\"a\",\"{name}\":{value},\"Int\":1}}\n");
    let part: String = values.iter().cycle().take(3 * values.len()).map(|(value, _)| record(value)).collect();
    let read = read(&part);
    let shown = |row: &String| row.strip_prefix("\"a\" ").map(str::to_owned);
    let found: Vec<_> = read.rows.iter().map(|row| shown(row).unwrap()).collect();
    let expected: Vec<_> = (0..found.len())
        .map(|row| {
            let mut columns = ["1", "null", "null", "null", "null", "null", "null", "null", "null"];
            columns[column - 1] = values[row % values.len()].1;
            columns.join(" ")
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!((read.rejects.len(), read.num_coerced), (0, num_coerced));
}

#[test]
fn values_of_every_kind_are_found_in_alike_records() {
    let json = [
        (r#""""#, r#""""#),
        (r#""a\\""#, r#""a\\""#),
        (r#""{\"a\":\"{\\\"b\\\":1}\",\"c\":\"\\\\\"}""#, r#""{\"a\":\"{\\\"b\\\":1}\",\"c\":\"\\\\\"}""#),
        (r#""\u00e9\ud83d\ude00\/""#, "\"\u{e9}\u{1f600}/\""),
        ("null", "null"),
        (r#"{"a":"}"}"#, r#""{\"a\":\"}\"}""#),
        (r#"{"a":{"b":[1,[2,{"c":"]"}]]},"d":[]}"#, r#""{\"a\":{\"b\":[1,[2,{\"c\":\"]\"}]]},\"d\":[]}""#),
        (r#"[["0","4.18.1"]]"#, r#""[[\"0\",\"4.18.1\"]]""#),
        (r#"[ "a", {} ]"#, r#""[\"a\",{}]""#),
        (r#"["["]"#, r#""[\"[\"]""#),
        ("true", "\"true\""),
        ("-1.50e3", "\"-1.50e3\""),
    ];
    check_alike(&json, "Json", 7, 0);
    let parts = [
        (r#"[{"Name":"a]","Size":1},{"Name":"b"}]"#, r#"[{"a]",1,null,};{"b",null,null,};]"#),
        (r#"[{"Name":"[{"}]"#, r#"[{"[{",null,null,};]"#),
        ("[]", "[]"),
        ("null", "null"),
        ("[null,{}]", "[null;{null,null,null,};]"),
    ];
    check_alike(&parts, "Parts", 9, 0);
    let floats = [
        ("7", "7.0"),
        ("7.0", "7.0"),
        ("null", "null"),
        ("-0.5", "-0.5"),
        ("5e-324", "5e-324"),
        ("0", "0.0"),
    ];
    check_alike(&floats, "Float", 3, 0);
    let booleans = [("true", "true"), ("false", "false"), ("null", "null"), ("\"Unknown\"", "null")];
    check_alike(&booleans, "Boolean", 4, 0);
    check_alike(&[("true", "true"), ("\"False\"", "false")], "Boolean", 4, 3);
}

#[test]
fn what_only_looks_like_a_value_is_rejected() {
    for (name, value) in [
        ("Float", "01"),
        ("Float", "1."),
        ("Float", "+1"),
        ("Float", "inf"),
        ("Boolean", "tru"),
        ("Boolean", "truetrue"),
        ("Json", "nulll"),
        ("Json", "{\"a\":1]"),
        ("Json", "[1,]"),
        ("Json", "\"\\x\""),
        ("Json", "\"\\ud800\""),
        ("Json", "\"\t\""),
        ("Json", "{\"a\":\"\\ud800\"}"),
        ("Parts", "[{\"Name\":\"n\"}}]"),
        ("Parts", "[{\"Other\":01}]"),
    ] {
        let record = |value| format!("{{\"Id\":\"a\",\"{name}\":{value},\"Int\":1}}\n");
        let read = read(&(record("null").repeat(3) + &record(value) + &record("null")));
        assert_eq!((read.rows.len(), read.rejects.len()), (4, 1), "{value}: {:?}", read.rejects);
    }
}

/// More distinct values than are looked up in vain, beside ones that repeat.
#[test]
fn json_that_never_repeats_is_read_as_it_is() {
    let long = "x".repeat(400);
    let value = |row: usize| {
        let id = row % 7;
        format!(r#"{{"Id":"{id}","Json":"{{\"{long}\":{row}}}","Parts":[{{"Name":"{long}","Size":{row}}}]}}"#)
    };
    let part: String = (0..5000).map(|row| value(row) + "\n").collect();
    let read = read(&part);
    for (row, shown) in read.rows.iter().enumerate() {
        let (id, nulls) = (row % 7, ["null"; 6].join(" "));
        let expected = format!(r#""{id}" {nulls} "{{\"{long}\":{row}}}" null [{{"{long}",{row},null,}};]"#);
        assert_eq!(*shown, expected);
    }
    assert!(read.rejects.is_empty());
}

/// Of two threads: long JSON whose pages are encoded as they fill, and JSON that repeats, whose are not.
#[test]
fn json_that_is_encoded_early_is_read_back() {
    const NUM_RECORDS: usize = 4000;
    let json = |id: usize| match id % 10 {
        0 => None,
        1..8 => Some(format!(r#"{{"n":{id},"x":"{}"}}"#, "state".repeat(200 + id % 9))),
        _ => Some(r#"{"n":1}"#.to_owned()),
    };
    let part = |ids: std::ops::Range<usize>| {
        let record = |id| match json(id) {
            Some(text) => format!(r#"{{"Id":"{id}","Json":{text},"Int":{id}}}"#),
            None => format!(r#"{{"Id":"{id}","Int":{id}}}"#),
        };
        ids.map(record).collect::<Vec<_>>().join("\n")
    };
    let parts = [0..NUM_RECORDS, NUM_RECORDS..2 * NUM_RECORDS].map(part);
    let layout = Arc::new(BatchLayout::new(&EVERY_TYPE, DateTime::UNIX_EPOCH, BatchOptions::default()));
    let schema = Arc::new(ArrowSchemaConverter::new().convert(layout.file_schema()).unwrap());
    let properties = properties::properties(&EVERY_TYPE, layout.file_schema(), "a snapshot");
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), properties).unwrap();
    let index = layout.file_schema().index_of("Json").unwrap();
    let row_groups = Arc::new(RowGroups::new(layout, RowGroupLimits::none()).with_early_pages());
    let mut readers = parts
        .each_ref()
        .map(|part| PartReader::with_row_groups(part.as_bytes(), Arc::clone(&row_groups)).unwrap());
    let mut is_more = true;
    while is_more {
        let more = readers.each_mut().map(|reader| {
            let more = reader.decode_some(|reject| panic!("{reject:?}")).unwrap();
            assert!(reader.next_due().unwrap().is_none(), "few rows");
            more
        });
        is_more = more.contains(&true);
    }
    drop(readers);
    let mut num_pages = Vec::new();
    for last in row_groups.finish() {
        let write = |_, rows: Rows| {
            num_pages.push(rows.early_pages(index).map_or(0, <[_]>::len));
            let mut encoder = RowGroupEncoder::new(Arc::clone(&schema), &EVERY_TYPE);
            encoder.encode(rows).unwrap().append_to(&mut file).unwrap();
            Ok::<_, Infallible>(())
        };
        last.write(write, |_| Ok(())).unwrap();
    }
    assert!(num_pages.len() == 1 && num_pages[0] > 3, "some before all rows had come: {num_pages:?}");

    let file = Bytes::from(file.into_inner().unwrap());
    let mut found = BTreeMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let text = |name| batch.column_by_name(name).unwrap().as_string::<i32>().iter();
        let ids = text("Id").map(|id| id.unwrap().parse::<usize>().unwrap());
        found.extend(ids.zip(text("Json").map(|json| json.map(str::to_owned))));
        let ints = batch.column_by_name("Int").unwrap().as_primitive::<Int32Type>();
        assert!(text("Id").zip(ints).all(|(id, int)| id.unwrap() == int.unwrap().to_string()));
    }
    assert!(found == (0..2 * NUM_RECORDS).map(|id| (id, json(id))).collect());
}

/// Texts that are not looked up, some of them null, with and without a bloom filter and one that must be unescaped.
#[test]
fn texts_that_do_not_repeat_are_read_back() {
    const NUM_RECORDS: usize = 20_000;
    let dataset = schema::DATASETS.iter().find(|dataset| dataset.name == "software_vulnerabilities").unwrap();
    for escaped in [None, Some(12_345)] {
        let id = |row: usize| match row {
            _ if row % 100 == 7 => None,
            _ if Some(row) == escaped => Some(format!(r"\\{row}")),
            _ => Some(format!("{}_{}_{row}", row % 50, "x".repeat(row % 90))),
        };
        let record = |row: usize| {
            let id = id(row).map(|id| format!(r#""Id":"{id}","#)).unwrap_or_default();
            format!(r#"{{{id}"DeviceId":"{}","SoftwareName":"{}","CveId":"{row}"}}"#, row % 50, row % 7)
        };
        let part = (0..NUM_RECORDS).map(record).collect::<Vec<_>>().join("\n");
        let layout = Arc::new(BatchLayout::new(dataset, DateTime::UNIX_EPOCH, BatchOptions::default()));
        let schema = Arc::new(ArrowSchemaConverter::new().convert(layout.file_schema()).unwrap());
        let properties = properties::properties(dataset, layout.file_schema(), "a snapshot");
        let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), properties).unwrap();
        let row_groups = Arc::new(RowGroups::new(layout, RowGroupLimits::none()));
        let mut reader = PartReader::with_row_groups(part.as_bytes(), Arc::clone(&row_groups)).unwrap();
        while reader.decode_some(|reject| panic!("{reject:?}")).unwrap() {
            assert!(reader.next_due().unwrap().is_none(), "few rows");
        }
        drop(reader);
        for last in row_groups.finish() {
            let write = |_, rows: Rows| {
                let mut encoder = RowGroupEncoder::new(Arc::clone(&schema), dataset);
                encoder.encode(rows).unwrap().append_to(&mut file).unwrap();
                Ok::<_, Infallible>(())
            };
            last.write(write, |_| Ok(())).unwrap();
        }
        let file = Bytes::from(file.into_inner().unwrap());
        let mut num_rows = 0;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text = |name| batch.column_by_name(name).unwrap().as_string::<i32>().iter();
            for ((found, name), cve) in text("Id").zip(text("SoftwareName")).zip(text("CveId")) {
                let row: usize = cve.unwrap().parse().unwrap();
                let expected = id(row).map(|id| id.replace(r"\\", r"\"));
                assert_eq!(found.map(str::to_owned), expected);
                assert_eq!(name.unwrap(), (row % 7).to_string());
            }
            num_rows += batch.num_rows();
        }
        assert_eq!(num_rows, NUM_RECORDS);
    }
}
