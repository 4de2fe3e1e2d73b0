//! The careful path: takes any record; gives its row with what had to be done to it, or why it is
//! rejected. Every coercion and every reject of pipeline/docs/lake.md#values is decided here and nowhere else.

use std::borrow::Cow;

use schema::{Column, ColumnType};

use super::field_map::{FieldMap, Names, Target};
use super::integer;
use super::json::{JsonError, JsonKind, MAX_DEPTH, Reader, ascii, unescape};
use super::timestamp::{self, ParsedTime};
use super::value::{JsonValue, List};
use crate::partition;

/// A record as a row, owned.
#[derive(Debug)]
pub struct CoercedRow<'a> {
    values: Vec<Value<'a>>,
    /// Undocumented fields as one JSON object, where they are captured and there are any.
    pub extra_fields: Option<String>,
    /// Properties whose value could not become one of their column: index and reason.
    pub field_rejects: Vec<(usize, String)>,
    /// Values converted from another JSON type.
    pub num_coerced: u64,
    /// Names given again.
    pub num_duplicate_names: u64,
}

#[derive(Debug)]
enum Value<'a> {
    Plain(JsonValue<'a>),
    Text(Cow<'a, str>),
    List { text: &'a [u8], num_elements: usize },
}

impl CoercedRow<'_> {
    /// The cells, in the order of the field_map's properties.
    pub fn json_values(&self) -> Vec<JsonValue<'_>> {
        self.values
            .iter()
            .map(|value| match value {
                Value::Plain(value) => *value,
                Value::Text(text) => JsonValue::Text(text),
                Value::List { text, num_elements } => {
                    JsonValue::List(List::Json { text, num_elements: *num_elements })
                }
            })
            .collect()
    }
}

/// A field that no column claims: its last value.
struct Undocumented<'a> {
    name: Cow<'a, str>,
    /// Which count it is under.
    index: usize,
    text: &'a [u8],
}

/// Decodes `record`, given without white space around it.
///
/// # Errors
///
/// The reason why the record cannot be a row, in words.
pub fn decode<'a>(
    record: &'a [u8],
    field_map: &FieldMap,
    names: &mut Names,
) -> Result<CoercedRow<'a>, String> {
    let mut slots: Vec<Option<(JsonKind, &[u8])>> = vec![None; field_map.properties().len()];
    let mut undocumented: Vec<Undocumented<'_>> = Vec::new();
    let mut num_duplicate_names = 0;
    let mut reader = Reader::new(record);
    if record.first() != Some(&b'{') {
        return Err(match reader.value(0) {
            Ok((kind, _)) if reader.position() == record.len() => {
                format!("not a JSON object but {}", kind.as_str())
            }
            Ok(_) => "not a JSON object".to_owned(),
            Err(error) => reason(error),
        });
    }
    reader
        .object(0, |name, kind, text| match names.resolve(field_map, &name) {
            Target::Property(index) => {
                num_duplicate_names += u64::from(slots[index].is_some());
                slots[index] = Some((kind, text));
            }
            Target::Undocumented(index) => undocumented.push(Undocumented { name, index, text }),
        })
        .map_err(reason)?;
    if reader.position() != record.len() {
        return Err(format!("not one JSON object: text after it at byte {}", reader.position()));
    }

    num_duplicate_names += keep_last_of_each_name(&mut undocumented);

    let required = field_map.properties()[field_map.required()];
    match slots[field_map.required()] {
        Some((JsonKind::String, text)) if text.len() > br#""""#.len() => {}
        Some((JsonKind::Number, _)) => {}
        None | Some((JsonKind::Null, _)) => return Err(format!("no {}", required.name)),
        Some((JsonKind::String, _)) => return Err(format!("{} is empty", required.name)),
        Some((kind, _)) => return Err(format!("{} is {}", required.name, kind.as_str())),
    }

    let mut row = CoercedRow {
        values: Vec::with_capacity(slots.len()),
        extra_fields: None,
        field_rejects: Vec::new(),
        num_coerced: 0,
        num_duplicate_names,
    };
    for (index, (column, slot)) in field_map.properties().iter().zip(&slots).enumerate() {
        let converted = match slot {
            None => Ok(Converted::plain(JsonValue::Null)),
            Some((kind, text)) => convert(column, *kind, text),
        };
        let converted = converted.and_then(|converted| match &converted.value {
            Value::Text(value)
                if index == field_map.partition() && !partition::fits_directory(column.name, value) =>
            {
                Err(format!("{}: too long to name a directory", column.name))
            }
            _ => Ok(converted),
        });
        row.values.push(match converted {
            Ok(converted) => {
                row.num_coerced += converted.num_coerced;
                converted.value
            }
            Err(reason) => {
                row.field_rejects.push((index, reason));
                Value::Plain(JsonValue::Null)
            }
        });
    }
    if field_map.captures_extra_fields() && !undocumented.is_empty() {
        row.extra_fields = Some(extra_fields(&undocumented));
    }
    undocumented.sort_by_key(|field| field.index);
    undocumented.dedup_by_key(|field| field.index);
    for field in undocumented {
        names.count(field.index, 1);
    }
    Ok(row)
}

/// Keeps each name once, in its first place with its last value; returns how many more there were. A map would
/// take many times what the names of a large record take.
fn keep_last_of_each_name(fields: &mut Vec<Undocumented<'_>>) -> u64 {
    let mut order: Vec<u32> = (0..).take(fields.len()).collect();
    let name = |field: &u32| &fields[*field as usize].name;
    order.sort_unstable_by(|one, other| name(one).cmp(name(other)).then(one.cmp(other)));
    let same_names: Vec<(u32, u32)> = order
        .chunk_by(|one, other| name(one) == name(other))
        .filter(|same| same.len() > 1)
        .flat_map(|same| same[1..].iter().map(|again| (same[0], *again)))
        .collect();
    for (first, again) in &same_names {
        fields[*first as usize].text = fields[*again as usize].text;
    }
    if !same_names.is_empty() {
        let mut is_kept = vec![true; fields.len()];
        for (_, again) in &same_names {
            is_kept[*again as usize] = false;
        }
        let mut is_kept = is_kept.into_iter();
        fields.retain(|_| is_kept.next().unwrap_or(true));
    }
    same_names.len() as u64
}

/// Says in words why text is no JSON object that could be a row.
pub fn reason(error: JsonError) -> String {
    match error {
        JsonError::Incomplete => "not JSON: ends inside a value".to_owned(),
        JsonError::Unexpected { at, expected } => format!("not JSON: expected {expected} at byte {at}"),
        JsonError::NotUnicode { at } => format!("invalid Unicode at byte {at}"),
        JsonError::TooDeep { at } => format!("nests deeper than {MAX_DEPTH} at byte {at}"),
    }
}

struct Converted<'a> {
    value: Value<'a>,
    num_coerced: u64,
}

impl<'a> Converted<'a> {
    fn plain(value: JsonValue<'a>) -> Self {
        Self { value: Value::Plain(value), num_coerced: 0 }
    }

    fn coerced(value: Value<'a>) -> Self {
        Self { value, num_coerced: 1 }
    }
}

/// Converts one value to its column's type; the reason where it cannot be.
fn convert<'a>(column: &Column, kind: JsonKind, text: &'a [u8]) -> Result<Converted<'a>, String> {
    if kind == JsonKind::Null {
        return Ok(Converted::plain(JsonValue::Null));
    }
    let wrong_kind =
        || Err(format!("{}: expected {}, found {}", column.name, column.column_type, kind.as_str()));
    match (column.column_type, kind) {
        (ColumnType::Utf8, JsonKind::String) => {
            Ok(Converted { value: Value::Text(unescape(text)), num_coerced: 0 })
        }
        (ColumnType::Utf8, JsonKind::Number) => Ok(Converted::coerced(Value::Text(ascii(text).into()))),
        (ColumnType::Int32, JsonKind::Number) => match integer::from_number(text) {
            Some(number) if integer::is_plain(text) => Ok(Converted::plain(JsonValue::Int32(number))),
            Some(number) => Ok(Converted::coerced(Value::Plain(JsonValue::Int32(number)))),
            None => Err(format!("{}: not an integer of 32 bits", column.name)),
        },
        (ColumnType::Int32, JsonKind::String) => match &*unescape(text) {
            "" => Ok(Converted::plain(JsonValue::Null)),
            digits => match integer::from_digits(digits) {
                Some(number) => Ok(Converted::coerced(Value::Plain(JsonValue::Int32(number)))),
                None => Err(format!("{}: text is not an integer of 32 bits", column.name)),
            },
        },
        (ColumnType::TimestampMicros, JsonKind::String) => {
            time(column, text, JsonValue::Micros).map(Converted::plain)
        }
        (ColumnType::Date32, JsonKind::String) => {
            time(column, text, |micros| JsonValue::Days(timestamp::days(micros))).map(Converted::plain)
        }
        (ColumnType::TimestampMicros | ColumnType::Date32, JsonKind::Object) if is_empty_object(text) => {
            Ok(Converted::plain(JsonValue::Null))
        }
        (ColumnType::Utf8List, JsonKind::Array) => list(column, text),
        (ColumnType::Utf8List, JsonKind::String) => {
            Ok(Converted::coerced(Value::List { text, num_elements: 1 }))
        }
        _ => wrong_kind(),
    }
}

fn time<'a>(
    column: &Column,
    text: &[u8],
    value: impl FnOnce(i64) -> JsonValue<'a>,
) -> Result<JsonValue<'a>, String> {
    match timestamp::parse(unescape(text).as_bytes()) {
        ParsedTime::Micros(micros) => Ok(value(micros)),
        ParsedTime::Null => Ok(JsonValue::Null),
        ParsedTime::Invalid => Err(format!("{}: text is not a date or timestamp", column.name)),
    }
}

fn list<'a>(column: &Column, text: &'a [u8]) -> Result<Converted<'a>, String> {
    let mut num_elements = 0;
    let mut num_coerced = 0;
    let mut wrong = None;
    Reader::new(text)
        .array(0, |kind, _| {
            match kind {
                JsonKind::Null | JsonKind::String => {}
                JsonKind::Number | JsonKind::Bool => num_coerced += 1,
                kind => drop(wrong.get_or_insert((num_elements, kind))),
            }
            num_elements += 1;
        })
        .expect("the record has been read before");
    match wrong {
        None => Ok(Converted { value: Value::List { text, num_elements }, num_coerced }),
        Some((index, kind)) => {
            Err(format!("{}[{index}]: expected string, found {}", column.name, kind.as_str()))
        }
    }
}

fn is_empty_object(text: &[u8]) -> bool {
    text[1..].trim_ascii_start() == b"}"
}

/// Writes undocumented fields as a JSON object, their values as they came.
fn extra_fields(fields: &[Undocumented<'_>]) -> String {
    let mut object = String::from("{");
    for field in fields {
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(&serde_json::to_string(&field.name).expect("text is JSON text"));
        object.push(':');
        object.push_str(std::str::from_utf8(field.text).expect("the record has been read before"));
    }
    object.push('}');
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `{"DeviceId":"d",<member>}` and shows the property's value, or the field reject.
    fn check(member: &str, expected: &str) {
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        let record = format!(r#"{{"DeviceId":"d",{member}}}"#);
        let row = decode(record.as_bytes(), &field_map, &mut Names::new()).unwrap();
        let name: String = member[1..].chars().take_while(|c| *c != '"').collect();
        let index = field_map.properties().iter().position(|c| c.name.eq_ignore_ascii_case(&name)).unwrap();
        let shown = match (&row.field_rejects[..], row.json_values()[index]) {
            ([(_, reason)], JsonValue::Null) => reason.clone(),
            (_, JsonValue::List(list)) => {
                let mut texts = Vec::new();
                list.for_each(|text| texts.push(text.map(str::to_owned)));
                format!("{texts:?} coerced {}", row.num_coerced)
            }
            (_, value) => format!("{value:?} coerced {}", row.num_coerced),
        };
        assert_eq!(shown, expected, "{member}");
    }

    #[test]
    fn values_become_their_column_or_say_why_not() {
        check(r#""NumberOfWeaknesses":3"#, "Int32(3) coerced 0");
        check(r#""NumberOfWeaknesses":3.0"#, "Int32(3) coerced 1");
        check(r#""NumberOfWeaknesses":"3""#, "Int32(3) coerced 1");
        check(r#""NumberOfWeaknesses":"""#, "Null coerced 0");
        check(r#""NumberOfWeaknesses":3.5"#, "NumberOfWeaknesses: not an integer of 32 bits");
        check(r#""NumberOfWeaknesses":4294967296"#, "NumberOfWeaknesses: not an integer of 32 bits");
        check(r#""NumberOfWeaknesses":"many""#, "NumberOfWeaknesses: text is not an integer of 32 bits");
        check(r#""NumberOfWeaknesses":true"#, "NumberOfWeaknesses: expected int32, found a boolean");
        check(r#""SoftwareVersion":81.10"#, r#"Text("81.10") coerced 1"#);
        check(r#""SoftwareVersion":"""#, r#"Text("") coerced 0"#);
        check(r#""SoftwareVersion":false"#, "SoftwareVersion: expected string, found a boolean");
        check(r#""SoftwareVersion":[]"#, "SoftwareVersion: expected string, found an array");
        check(r#""DiskPaths":["a",null,"b"]"#, r#"[Some("a"), None, Some("b")] coerced 0"#);
        check(r#""DiskPaths":[]"#, "[] coerced 0");
        check(r#""DiskPaths":"a""#, r#"[Some("a")] coerced 1"#);
        check(r#""DiskPaths":[1,2.50]"#, r#"[Some("1"), Some("2.50")] coerced 2"#);
        check(r#""DiskPaths":["a",true,false]"#, r#"[Some("a"), Some("true"), Some("false")] coerced 2"#);
        check(r#""DiskPaths":["a",{}]"#, "DiskPaths[1]: expected string, found an object");
        check(r#""DiskPaths":true"#, "DiskPaths: expected list of string, found a boolean");
        check(r#""NumberOfWeaknesses":"3.0""#, "NumberOfWeaknesses: text is not an integer of 32 bits");
        check(r#""NumberOfWeaknesses":"+3""#, "NumberOfWeaknesses: text is not an integer of 32 bits");
        check(r#""NumberOfWeaknesses":" 3""#, "NumberOfWeaknesses: text is not an integer of 32 bits");
        check(r#""DiskPaths":1"#, "DiskPaths: expected list of string, found a number");
        check(r#""EndOfSupportDate":"2020-12-30""#, "Days(18626) coerced 0");
        check(r#""EndOfSupportDate":"2020-12-30T23:30:00-01:00""#, "Days(18627) coerced 0");
        check(r#""EndOfSupportDate":{ }"#, "Null coerced 0");
        check(r#""EndOfSupportDate":"0001-01-01T00:00:00Z""#, "Null coerced 0");
        check(r#""EndOfSupportDate":"2021-02-30""#, "EndOfSupportDate: text is not a date or timestamp");
        check(r#""EndOfSupportDate":{"a":1}"#, "EndOfSupportDate: expected date32, found an object");
        check(r#""softwarefirstseentimestamp":"1970-01-01 00:00:01""#, "Micros(1000000) coerced 0");
        check(r#""softwarefirstseentimestamp":"1970-01-01 1:00:01""#, "Micros(3601000000) coerced 0");
        let long = "x".repeat(300);
        check(&format!(r#""OsPlatform":"{long}""#), "OSPlatform: too long to name a directory");
    }

    #[test]
    fn records_that_cannot_be_rows_say_why() {
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        for (record, expected) in [
            ("[]", "not a JSON object but an array"),
            ("12", "not a JSON object but a number"),
            ("1 2", "not a JSON object"),
            ("hello", "not JSON: expected a JSON value at byte 0"),
            ("{}", "no DeviceId"),
            (r#"{"DeviceId":null}"#, "no DeviceId"),
            (r#"{"DeviceId":""}"#, "DeviceId is empty"),
            (r#"{"DeviceId":true}"#, "DeviceId is a boolean"),
            (r#"{"DeviceId":"a","DeviceId":{}}"#, "DeviceId is an object"),
            (r#"{"DeviceId":"a""#, "not JSON: ends inside a value"),
            (r#"{"DeviceId":"\ud800"}"#, "invalid Unicode at byte 13"),
        ] {
            let decoded = decode(record.as_bytes(), &field_map, &mut Names::new());
            assert_eq!(decoded.map(|_| ()), Err(expected.to_owned()), "{record}");
        }
    }

    #[test]
    fn last_of_a_name_given_twice_wins_and_is_counted() {
        let field_map = FieldMap::new(schema::DATASETS[0], true);
        let mut names = Names::new();
        let record = r#"{"deviceid":1,"DeviceId":"d","x":1,"x":{"y":[2]},"X":null}"#;
        let row = decode(record.as_bytes(), &field_map, &mut names).unwrap();
        assert_eq!(row.num_duplicate_names, 2);
        assert!(matches!(row.json_values()[field_map.required()], JsonValue::Text("d")));
        assert_eq!(row.extra_fields.as_deref(), Some(r#"{"x":{"y":[2]},"X":null}"#));
        assert_eq!(names.undocumented().collect::<Vec<_>>(), [("x", 1), ("X", 1)]);
    }
}
