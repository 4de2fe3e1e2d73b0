//! Whole parts through the decoder: shapes, containers, buffers of any size.

use std::fmt::Write as _;
use std::io::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_schema::DataType;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::column::Columns;
use super::*;

/// Collects rows as text and rejects as `line@offset reason`.
#[derive(Debug, Default, PartialEq)]
struct Collected {
    rows: Vec<String>,
    rejects: Vec<String>,
}

/// One set of columns for all partitions: rows stay in their order.
struct Collect {
    columns: Columns,
    partitions: Vec<(usize, Option<String>)>,
    rejects: Vec<String>,
}

impl RowSink for Collect {
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        self.partitions.push((self.columns.num_rows(), partition.map(str::to_owned)));
        &mut self.columns
    }

    fn reject(&mut self, reject: Reject) {
        self.rejects.push(format!("{}@{} {}", reject.line, reject.offset, reject.reason));
    }
}

impl Collect {
    fn collected(mut self) -> Collected {
        let order: Vec<u32> = (0..).take(self.columns.num_rows()).collect();
        let finished = self.columns.finish(&order);
        let show = |row: usize| {
            let mut shown: Vec<String> = Vec::new();
            for column in finished.properties.iter().flatten() {
                shown.extend(value(column, row));
            }
            // The last call before the row was pushed named its partition.
            let partition = self.partitions.iter().rev().find(|(num_rows, _)| *num_rows <= row);
            shown.extend(partition.and_then(|(_, partition)| partition.clone()));
            shown.join(" ")
        };
        Collected { rows: (0..finished.num_rows).map(show).collect(), rejects: self.rejects }
    }
}

fn value(column: &dyn Array, row: usize) -> Option<String> {
    let text = |column: &dyn Array, row: usize| {
        let column = column.as_dictionary_opt::<UInt32Type>()?;
        column.key(row).map(|key| column.values().as_string::<i32>().value(key).to_owned())
    };
    match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Dictionary(..) => text(column, row).map(|text| format!("Text({text:?})")),
        DataType::List(_) => {
            let elements = column.as_list::<i32>().value(row);
            let shown: Vec<_> =
                (0..elements.len()).map(|index| format!("{:?},", text(&elements, index))).collect();
            Some(shown.concat())
        }
        other => panic!("no test has values of {other}"),
    }
}

fn decode_with(bytes: &[u8], buffer_bytes: usize) -> Result<(Collected, DecodeCounts), DecodeError> {
    let field_map = Arc::new(FieldMap::new(schema::DATASETS[0], false));
    let mut decoder = PartDecoder::try_new(bytes, Arc::clone(&field_map))?.with_buffer_bytes(buffer_bytes);
    let mut collect =
        Collect { columns: Columns::new(&field_map), partitions: Vec::new(), rejects: Vec::new() };
    while decoder.decode_some(&mut collect)? {}
    Ok((collect.collected(), decoder.counts()))
}

/// Decodes `text` with every small buffer size and checks rows and rejects.
#[track_caller]
fn check(text: &str, rows: &[&str], rejects: &[&str]) {
    let whole = decode_with(text.as_bytes(), 1 << 20).unwrap();
    assert_eq!(whole.0.rows, rows, "rows of {text}");
    assert_eq!(whole.0.rejects, rejects, "rejects of {text}");
    assert_eq!(whole.1.json_bytes, text.len() as u64);
    assert_eq!(whole.1.records, whole.0.rows.len() as u64 + whole.1.rejected_records);
    for buffer_bytes in (1..40).chain([64, 100, 333]) {
        let other = decode_with(text.as_bytes(), buffer_bytes).unwrap();
        assert_eq!(other, whole, "buffer of {buffer_bytes} bytes, {text}");
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

#[track_caller]
fn check_damage(bytes: &[u8], expected: &str) {
    for buffer_bytes in [1, 7, 1 << 20] {
        let error = decode_with(bytes, buffer_bytes).unwrap_err();
        assert_eq!(chain(&error), expected);
    }
}

const A: &str = r#"{"DeviceId":"a"}"#;
const B: &str = r#"{"deviceid":"b","x":[{"y":"}\""}]}"#;
const ROWS: [&str; 2] = [r#"Text("a")"#, r#"Text("b")"#];

#[test]
fn records_come_in_every_shape() {
    check(&format!("{A}\n{B}\n"), &ROWS, &[]);
    check(&format!("{A}\n{B}"), &ROWS, &[]);
    check(&format!("\u{feff}\r\n {A} \r\n\n\t{B}\r\n\r\n"), &ROWS, &[]);
    check(&format!("{A}{B}"), &ROWS, &[]);
    check(&format!("{A} {B}\n"), &ROWS, &[]);
    check("{\n  \"DeviceId\":\n  \"a\"\n}\n{\n\"DeviceId\" : \"b\"\n,\n\"x\":[\n{}]}", &ROWS, &[]);
    check(&format!("[{A},{B}]"), &ROWS, &[]);
    check(&format!(" [\n{A},\n{B}\n]\n "), &ROWS, &[]);
    check("[]", &[], &[]);
    check(" \n ", &[], &[]);
    check(
        &format!(
            r#"{{"@odata.context":"x","value":[{A},{B}],"@odata.nextLink":"https://h/?a=1&$skiptoken=b"}}"#
        ),
        &ROWS,
        &[],
    );
    check(&format!(r#"{{ "value" : [ {A} , {B} ] , "@odata.context" : {{"value":[1]}} }} "#), &ROWS, &[]);
    check(r#"{"value":[]}"#, &[], &[]);
    check(r#"{"value":1,"DeviceId":"a"}"#, &ROWS[..1], &[]);
}

#[test]
fn line_separators_of_unicode_are_text() {
    check("{\"DeviceId\":\"a\u{2028}\u{85}b\"}\n", &["Text(\"a\\u{2028}\\u{85}b\")"], &[]);
}

/// White space to ASCII is not always white space to JSON: such a line never ended.
#[test]
fn form_feed_is_text_of_its_record() {
    let reason = "not JSON: expected a JSON value at byte 0";
    check(&format!("{A}\u{c}\n{B}"), &ROWS, &[&format!("1@16 {reason}")]);
    check("{\u{c}\"value\":[]}", &[], &["1@0 not JSON: expected a name in double quotes at byte 1"]);
}

#[test]
fn lines_that_nest_into_each_other_end_in_time() {
    let mut text = "{\"a\":[\n".repeat(200_000);
    text.push_str(A);
    let (collected, counts) = decode_with(text.as_bytes(), 1 << 20).unwrap();
    assert_eq!((collected.rows.len(), counts.rejected_records), (1, 200_000));
}

#[test]
fn broken_record_takes_no_other_with_it() {
    let broken = |text: &str, reject: &str| {
        check(&format!("{A}\n{text}\n{B}\n"), &ROWS, &[&format!("2@17 {reject}")]);
    };
    broken(r#"{"DeviceId":"x"#, "not JSON: ends inside a value");
    broken(r#"{"DeviceId":"x","n":12"#, "not JSON: ends inside a value");
    broken(r#"{"DeviceId":"x","#, "not JSON: ends inside a value");
    broken(r#"{"DeviceId":"x","n":"#, "not JSON: ends inside a value");
    broken(r#"{"DeviceId":"x","n":["#, "not JSON: ends inside a value");
    broken(r#"{"DeviceId":"x" "n":1}"#, "not JSON: expected `,` or `}` after a value at byte 16");
    broken("hello", "not JSON: expected a JSON value at byte 0");
    broken("[1,2]", "not a JSON object but an array");
    broken("null", "not a JSON object but null");
    broken(r#"{"n":1}"#, "no DeviceId");
    broken(r#"{"DeviceId":"\ud800"}"#, "invalid Unicode at byte 13");
    check(&format!("{A}TRAILER\n{B}"), &ROWS, &["1@16 not JSON: expected a JSON value at byte 0"]);
    check(
        &format!("{A},\n{B},"),
        &ROWS,
        &["1@16 not JSON: expected a JSON value at byte 0", "2@52 not JSON: expected a JSON value at byte 0"],
    );
    check(&format!("[{A},1,{B}]"), &ROWS, &["1@18 not a JSON object but a number"]);
    check(
        &format!("[\n{A},\n{{\"a\" 1}},\n{B}\n]"),
        &ROWS,
        &["3@20 not JSON: expected `:` after a name at byte 5"],
    );
}

#[test]
fn depth_is_bounded_without_touching_the_stack() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"DeviceId\":\"a\",\"x\":{open}{close}}}\n")
    };
    check(&nested(127), &ROWS[..1], &[]);
    check(&nested(128), &[], &["1@0 nests deeper than 128 at byte 147"]);
    let deep = format!("{}\n{A}\n", "{\"a\":[".repeat(200_000));
    let (collected, counts) = decode_with(deep.as_bytes(), 1 << 20).unwrap();
    assert_eq!((collected.rows.len(), counts.rejected_records), (1, 1));
}

#[test]
fn field_rejects_and_coercions_are_counted() {
    let text = format!(
        "{}\n{}\n",
        r#"{"DeviceId":1,"SoftwareVersion":1.10,"NumberOfWeaknesses":"many","DiskPaths":true}"#,
        r#"{"DeviceId":"a","DeviceId":"b","DiskPaths":["p",null,3]}"#
    );
    check(
        &text,
        &[r#"Text("1") Text("1.10")"#, r#"Text("b") Some("p"),None,Some("3"),"#],
        &[
            "1@0 NumberOfWeaknesses: text is not an integer of 32 bits",
            "1@0 DiskPaths: expected list of string, found a boolean",
        ],
    );
    let (_, counts) = decode_with(text.as_bytes(), 4096).unwrap();
    assert_eq!((counts.coerced, counts.field_rejects, counts.duplicate_names), (3, 2, 1));
}

#[test]
fn bytes_that_are_not_utf8_reject_their_record() {
    let mut text = format!("{A}\n").into_bytes();
    text.extend_from_slice(b"{\"DeviceId\":\"\xff\"}\n");
    text.extend_from_slice(B.as_bytes());
    let (collected, _) = decode_with(&text, 64).unwrap();
    assert_eq!(collected.rows, ROWS);
    assert_eq!(collected.rejects, ["2@17 invalid Unicode at byte 13"]);
}

#[test]
fn one_zero_is_a_reject_and_not_wide_text() {
    let reason = "not JSON: expected a name in double quotes at byte 1";
    check(&format!("{{\0}}\n{A}"), &ROWS[..1], &[&format!("1@0 {reason}")]);
}

/// One among others is a reject, in its place.
#[test]
fn error_body_before_other_records_is_a_reject() {
    let error = r#"{"error":{"code":"x"}}"#;
    check(&format!("{error}\n{A}\n{error}\n"), &ROWS[..1], &["1@0 no DeviceId", "3@40 no DeviceId"]);
    check(
        &format!("{error}\nhello"),
        &[],
        &["1@0 no DeviceId", "2@23 not JSON: expected a JSON value at byte 0"],
    );
}

#[test]
fn columns_that_are_null_by_rejects_alone_are_named() {
    let lost = |text: &str| {
        let field_map = Arc::new(FieldMap::new(schema::DATASETS[0], false));
        let mut decoder = PartDecoder::try_new(text.as_bytes(), Arc::clone(&field_map)).unwrap();
        let mut collect =
            Collect { columns: Columns::new(&field_map), partitions: Vec::new(), rejects: Vec::new() };
        while decoder.decode_some(&mut collect).unwrap() {}
        decoder.lost_columns().collect::<Vec<_>>()
    };
    let rejected = r#"{"DeviceId":"a","EndOfSupportDate":"/Date(1)/","DiskPaths":1}"#;
    let empty = r#"{"DeviceId":"a","EndOfSupportDate":"","DiskPaths":null}"#;
    let filled = r#"{"DeviceId":"a","EndOfSupportDate":"2021-01-11","DiskPaths":[]}"#;
    let both = ["DiskPaths", "EndOfSupportDate"];
    assert_eq!(lost(&format!("{rejected}\n")), both);
    assert_eq!(lost(&format!("{empty}\n{empty}\n{empty}\n{rejected}\n")), both);
    assert_eq!(lost(&format!("{A}\n{rejected}\n{empty}\n{empty}\n")), both);
    assert_eq!(lost(&format!("{rejected}\n{filled}\n")), [""; 0]);
    assert_eq!(lost(&format!("{empty}\n{empty}\n{filled}\n{rejected}\n")), [""; 0]);
    assert_eq!(lost(&format!("{filled}\n{filled}\n{rejected}\n")), [""; 0]);
    assert_eq!(lost(&format!("{empty}\n{A}\n")), [""; 0]);
}

#[test]
fn record_longer_than_the_limit_is_passed_over() {
    let long = "x".repeat(framing::MAX_RECORD_BYTES);
    let record = format!(r#"{{"DeviceId":"{long}"}}"#);
    let reason = format!("longer than 16777216 bytes: {}; raw holds the first 16777216", record.len());
    for (text, offset) in [
        (format!("{A}\n{record}\n{B}\n"), 17),
        (format!("{A}{record}{B}\n"), 16),
        (format!("[{A},{record},{B}]"), 18),
        (format!("{A}\n{record}  \n{B}"), 17),
    ] {
        let (collected, counts) = decode_with(text.as_bytes(), 1 << 16).unwrap();
        assert_eq!(collected.rows, ROWS);
        let line = if text.starts_with(&format!("{A}\n")) { 2 } else { 1 };
        assert_eq!(collected.rejects, [format!("{line}@{offset} {reason}")]);
        assert_eq!(counts.json_bytes, text.len() as u64);
    }
    // In an array, one that breaks beyond the limit is as long as what was read of it, and the line.
    let breaks = format!("{{\"DeviceId\":\n\"{long}\" x}}");
    let text = format!("[{A},{breaks}\n{B}]");
    let reason = format!("longer than 16777216 bytes: {}; raw holds the first 16777216", breaks.len());
    for buffer_bytes in [1 << 16, 17 << 20, 40 << 20] {
        let (collected, _) = decode_with(text.as_bytes(), buffer_bytes).unwrap();
        assert_eq!(
            (&collected.rows[..], &collected.rejects[..]),
            (&ROWS.map(str::to_owned)[..], &[format!("1@18 {reason}")][..])
        );
    }
    let just_fits = format!(r#"{{"DeviceId":"a","x":"{}"}}"#, "x".repeat(framing::MAX_RECORD_BYTES - 23));
    assert_eq!(just_fits.len(), framing::MAX_RECORD_BYTES);
    for text in [format!("{just_fits}\n{B}"), format!("[{just_fits},{B}]"), format!("{just_fits}{B}")] {
        assert_eq!(decode_with(text.as_bytes(), 1 << 16).unwrap().0.rows, ROWS);
    }
}

#[test]
fn containers_are_told_by_their_content() {
    let text = format!("{A}\n{B}\n");
    let mut two_members = gzip(format!("{A}\n{{\"devi").as_bytes());
    two_members.extend(gzip(&B.as_bytes()[6..]));
    let (halves, _) = decode_with(&two_members, 1 << 20).unwrap();
    assert_eq!(halves.rows, ROWS);
    for part in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
        let (collected, counts) = decode_with(&part, 1 << 20).unwrap();
        assert_eq!(collected.rows, ROWS);
        assert_eq!(counts.json_bytes, text.len() as u64);
    }
    assert_eq!(decode_with(&gzip(b""), 16).unwrap().1, DecodeCounts::default());
}

#[test]
fn damage_is_an_error_and_never_a_shorter_part() {
    let whole = gzip(format!("{A}\n{B}\n").as_bytes());
    check_damage(b"", "the part is empty: no bytes, not even of compression");
    let foreign = |part: &[u8], found: &str| {
        check_damage(part, &format!("the part is {found}; expected JSON records in UTF-8"));
        check_damage(&gzip(part), &format!("the part is {found}; expected JSON records in UTF-8"));
    };
    foreign(b"PK\x03\x04\x14\0", "a zip archive");
    check_damage(&gzip(&whole), "the part is gzip inside gzip; expected JSON records in UTF-8");
    foreign(b"\xef\xbb\xbf\r\n <html>nope</html>\n", "HTML");
    foreign(b"\xef\xbb\xbf<?xml version=\"1.0\"?><Error/>", "XML");
    foreign(b"\xff\xfe{\0\"\0", "UTF-16");
    foreign(b"\n\0{\0\"\0", "UTF-16");
    foreign(b"{\0\"\0", "UTF-16");
    foreign(b"null", "plain text");
    foreign(b"\"text\"", "plain text");
    foreign(b"\xef\xbb\xbf\xef\xbb\xbf{}", "plain text");
    foreign(b"\x0c", "plain text");
    for text in [
        r#"{"error":{"code":"TooManyRequests","message":"x"}}"#,
        "[ {\"error\":{}} ]\n",
        r#"{"value":[{"Message":"x"}]}"#,
    ] {
        foreign(text.as_bytes(), "a JSON error body");
    }
    for len in [3, 12, whole.len() - 9, whole.len() - 1] {
        let error = decode_with(&whole[..len], 1 << 16).unwrap_err();
        assert!(chain(&error).starts_with("gzip is damaged: after "), "{}", chain(&error));
    }
    let mut trailing = whole.clone();
    trailing.extend_from_slice(b"garbage behind it");
    check_damage(&trailing, "gzip is damaged: after 52 bytes of JSON: invalid gzip header");
    let mut bad_crc = whole.clone();
    let at = bad_crc.len() - 8;
    bad_crc[at] ^= 1;
    check_damage(
        &bad_crc,
        "gzip is damaged: after 52 bytes of JSON: corrupt gzip stream does not have a matching checksum",
    );
    check_damage(
        b"[{},",
        "the array that begins the part is not closed when the part ends, after 4 bytes of JSON",
    );
    check_damage(
        b"{\"value\":[{}]",
        "the page that begins the part is not closed when the part ends, after 13 bytes of JSON",
    );
    check_damage(b"[] []", "line 1, byte 3: text after the array that begins the part");
    check_damage(b"{\"value\":[]\n} x", "line 2, byte 14: text after the page that begins the part");
    let page = |text: &str, expected: &str| check_damage(text.as_bytes(), expected);
    page(r#"{"value":[] 1}"#, "line 1, byte 12: the page is not JSON");
    page(r#"{"value":[],}"#, "line 1, byte 12: the page is not JSON");
    page(r#"{"@odata.context":"x",,"value":[]}"#, "line 1, byte 22: the page is not JSON");
    page(r#"{"@odata.context":}"#, "line 1, byte 18: the page is not JSON");
    page(r#"{"@odata.context" 1}"#, "line 1, byte 18: the page is not JSON");
    page(r#"{"value":[],"value":[{}]}"#, "line 1, byte 20: the page has a second `value`");
    page(
        r#"{"@odata.context":"x","value":{}}"#,
        "line 1, byte 30: the page has a `value` that is not an array",
    );
    // The answer of a call for one entity: its fields are not members of a page.
    page(r#"{"@odata.context":"x","DeviceId":"a"}"#, "line 1, byte 36: the page has no `value`");
    let unclosed = |text: &str| {
        let expected = "the page that begins the part is not closed when the part ends, after";
        page(text, &format!("{expected} {} bytes of JSON", text.len()));
    };
    for text in [
        r#"{"@odata.context""#,
        r#"{"@odata.context":"#,
        r#"{"@odata.context":"x"#,
        r#"{"@odata.context":"x""#,
        r#"{"@odata.context":"x","va"#,
        r#"{"@odata.context":"x","value":[]"#,
    ] {
        unclosed(text);
    }
}
