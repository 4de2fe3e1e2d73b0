//! The slow path: takes any record; gives its row with what was coerced in it, or why it is rejected. The only
//! place that decides on the coercions and rejects of pipeline/docs/lake.md#values.

use std::borrow::Cow;

use schema::{Column, ColumnType, StructMember};

use super::field_map::{FieldMap, Names, Target};
use super::integer;
use super::json::{JsonError, JsonKind, MAX_DEPTH, Reader, ascii, finite, unescape};
use super::timestamp::{self, ParsedTime};
use super::value::{CoercedValue, JsonValue};
use crate::partition;

/// A record as a row, owned.
#[derive(Debug)]
pub struct CoercedRow<'a> {
    values: Vec<CoercedValue<'a>>,
    /// Undocumented fields as one JSON object, if they are captured and there are any.
    pub extra_fields: Option<String>,
    /// Properties whose value could not become one of their column: index and reason.
    pub field_rejects: Vec<(usize, String)>,
    /// Values converted from another JSON type.
    pub num_coerced: u64,
    /// Names given again.
    pub num_duplicate_names: u64,
}

impl CoercedRow<'_> {
    /// Whether the row has exactly the values of the record: nothing was coerced or rejected.
    pub fn is_unchanged(&self) -> bool {
        self.num_coerced == 0
            && self.num_duplicate_names == 0
            && self.field_rejects.is_empty()
            && self.extra_fields.is_none()
    }

    /// Returns the values, in the order of the field map's properties.
    pub fn json_values(&self) -> Vec<JsonValue<'_>> {
        self.values.iter().map(CoercedValue::as_json_value).collect()
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
    let mut slots: Vec<Option<LastValue<'_>>> = vec![None; field_map.properties().len()];
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
                let is_single_element = is_single_element(field_map.properties()[index], &name);
                slots[index] = Some(LastValue { kind, text, is_single_element });
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
        Some(LastValue { kind: JsonKind::String, text, .. }) if text.len() > br#""""#.len() => {}
        Some(LastValue { kind: JsonKind::Number, .. }) => {}
        None | Some(LastValue { kind: JsonKind::Null, .. }) => return Err(format!("no {}", required.name)),
        Some(LastValue { kind: JsonKind::String, .. }) => return Err(format!("{} is empty", required.name)),
        Some(LastValue { kind, .. }) => return Err(format!("{} is {}", required.name, kind.as_str())),
    }

    let mut row = CoercedRow {
        values: Vec::with_capacity(slots.len()),
        extra_fields: None,
        field_rejects: Vec::new(),
        num_coerced: 0,
        num_duplicate_names,
    };
    let mut undocumented_members = Vec::new();
    for (index, (column, slot)) in field_map.properties().iter().zip(&slots).enumerate() {
        let converted = match slot {
            None => Ok(Converted::plain(JsonValue::Null)),
            Some(LastValue { kind, text, is_single_element }) => {
                convert(Path::of(column), column.column_type, *kind, text).map(|mut converted| {
                    if *is_single_element && *kind == JsonKind::String {
                        converted.num_coerced = 0;
                    }
                    converted
                })
            }
        };
        let converted = converted.and_then(|converted| match &converted.value {
            CoercedValue::Text(value)
                if Some(index) == field_map.partition() && !partition::fits_directory(column.name, value) =>
            {
                Err(format!("{}: too long to name a directory", column.name))
            }
            _ => Ok(converted),
        });
        row.values.push(match converted {
            Ok(converted) => {
                row.num_coerced += converted.num_coerced;
                row.num_duplicate_names += converted.num_duplicate_names;
                row.field_rejects.extend(converted.rejects.into_iter().map(|reason| (index, reason)));
                for name in converted.undocumented {
                    if let Target::Undocumented(index) = names.resolve(field_map, &name) {
                        undocumented_members.push(index);
                    }
                }
                converted.value
            }
            Err(reason) => {
                row.field_rejects.push((index, reason));
                CoercedValue::Plain(JsonValue::Null)
            }
        });
    }
    if field_map.captures_extra_fields() && !undocumented.is_empty() {
        row.extra_fields = Some(extra_fields(&undocumented));
    }
    undocumented_members.extend(undocumented.iter().map(|field| field.index));
    undocumented_members.sort_unstable();
    undocumented_members.dedup();
    for index in undocumented_members {
        names.count(index, 1);
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

/// Returns in words why text is not a JSON object that could be a row.
pub fn reason(error: JsonError) -> String {
    match error {
        JsonError::Incomplete => "not JSON: ends inside a value".to_owned(),
        JsonError::Unexpected { at, expected } => format!("not JSON: expected {expected} at byte {at}"),
        JsonError::NotUnicode { at } => format!("invalid Unicode at byte {at}"),
        JsonError::TooDeep { at } => format!("nests deeper than {MAX_DEPTH} at byte {at}"),
    }
}

/// The last value that a record has for a property.
#[derive(Debug, Clone, Copy)]
struct LastValue<'a> {
    kind: JsonKind,
    text: &'a [u8],
    /// Whether its name is that of one element.
    is_single_element: bool,
}

/// Whether a property's name on the wire is an alias that holds one element of the column's list.
fn is_single_element(column: &Column, name: &str) -> bool {
    column.aliases.iter().any(|alias| alias.is_single_element && alias.name.eq_ignore_ascii_case(name))
}

/// Where a value belongs.
#[derive(Debug, Clone, Copy)]
struct Path<'p> {
    column: &'p str,
    /// Position in the column's list, and the struct's member.
    member: Option<(usize, &'p str)>,
}

impl<'p> Path<'p> {
    fn of(column: &'p Column) -> Self {
        Self { column: column.name, member: None }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.member {
            None => f.write_str(self.column),
            Some((index, member)) => write!(f, "{}[{index}].{member}", self.column),
        }
    }
}

/// A value of its column's type, and how it was made.
#[derive(Debug)]
pub(super) struct Converted<'a> {
    pub(super) value: CoercedValue<'a>,
    num_coerced: u64,
    num_duplicate_names: u64,
    /// Why something inside of it became null.
    rejects: Vec<String>,
    /// Names inside of it that no member of a struct claims.
    undocumented: Vec<String>,
}

impl<'a> Converted<'a> {
    fn new(value: CoercedValue<'a>, num_coerced: u64) -> Self {
        Self { value, num_coerced, num_duplicate_names: 0, rejects: Vec::new(), undocumented: Vec::new() }
    }

    fn plain(value: JsonValue<'a>) -> Self {
        Self::new(CoercedValue::Plain(value), 0)
    }

    fn coerced(value: CoercedValue<'a>) -> Self {
        Self::new(value, 1)
    }

    fn coerced_if(is_coerced: bool, value: JsonValue<'a>) -> Self {
        Self::new(CoercedValue::Plain(value), u64::from(is_coerced))
    }

    /// Whether it was converted without a coercion, reject or count.
    pub(super) fn is_unchanged(&self) -> bool {
        self.num_coerced == 0
            && self.num_duplicate_names == 0
            && self.rejects.is_empty()
            && self.undocumented.is_empty()
    }
}

/// Converts one value to its column's type; the reason if it cannot be.
fn convert<'a>(
    path: Path<'_>,
    column_type: ColumnType,
    kind: JsonKind,
    text: &'a [u8],
) -> Result<Converted<'a>, String> {
    if kind == JsonKind::Null {
        return Ok(Converted::plain(JsonValue::Null));
    }
    let wrong_kind = || Err(format!("{path}: expected {column_type}, found {}", kind.as_str()));
    match (column_type, kind) {
        (ColumnType::Utf8, JsonKind::String) => Ok(Converted::new(CoercedValue::Text(unescape(text)), 0)),
        (ColumnType::Utf8, JsonKind::Number) => {
            Ok(Converted::coerced(CoercedValue::Text(ascii(text).into())))
        }
        (ColumnType::Int32, _) => int(path, kind, text, 32, JsonValue::Int32).unwrap_or_else(wrong_kind),
        (ColumnType::Int64, _) => int(path, kind, text, 64, JsonValue::Int64).unwrap_or_else(wrong_kind),
        (ColumnType::Float64, _) => float(path, kind, text).unwrap_or_else(wrong_kind),
        (ColumnType::Boolean, _) => boolean(path, kind, text).unwrap_or_else(wrong_kind),
        (ColumnType::TimestampMicros, JsonKind::String) => {
            time(path, text, JsonValue::Micros).map(Converted::plain)
        }
        (ColumnType::Date32, JsonKind::String) => {
            time(path, text, |micros| JsonValue::Days(timestamp::days(micros))).map(Converted::plain)
        }
        (ColumnType::TimestampMicros | ColumnType::Date32, JsonKind::Object) if is_empty_object(text) => {
            Ok(Converted::plain(JsonValue::Null))
        }
        (ColumnType::Json, _) => Ok(Converted::new(CoercedValue::Text(json_text(kind, text)), 0)),
        (ColumnType::Utf8List, JsonKind::Array) => list(path, text),
        (ColumnType::Utf8List, JsonKind::String) => {
            Ok(Converted::coerced(CoercedValue::List { text, num_elements: 1 }))
        }
        (ColumnType::StructList(members), JsonKind::Array | JsonKind::String) => {
            Ok(struct_list(path.column, members, kind, text))
        }
        _ => wrong_kind(),
    }
}

/// Converts to an integer of `num_bits`; `None` if the value is of another kind.
fn int<'a, T: TryFrom<i128> + std::str::FromStr>(
    path: Path<'_>,
    kind: JsonKind,
    text: &'a [u8],
    num_bits: u32,
    value: impl FnOnce(T) -> JsonValue<'a>,
) -> Option<Result<Converted<'a>, String>> {
    Some(match kind {
        JsonKind::Number => match integer::from_number(text) {
            Some(number) => Ok(Converted::coerced_if(!integer::is_plain(text), value(number))),
            None => Err(format!("{path}: not an integer of {num_bits} bits")),
        },
        JsonKind::String => match &*unescape(text) {
            "" => Ok(Converted::plain(JsonValue::Null)),
            digits => match integer::from_digits(digits) {
                Some(number) => Ok(Converted::coerced_if(true, value(number))),
                None => Err(format!("{path}: text is not an integer of {num_bits} bits")),
            },
        },
        _ => return None,
    })
}

/// Converts to a 64-bit float; `None` if the value is of another kind.
fn float<'a>(path: Path<'_>, kind: JsonKind, text: &[u8]) -> Option<Result<Converted<'a>, String>> {
    Some(match kind {
        JsonKind::Number => match finite(ascii(text)) {
            Some(number) => Ok(Converted::plain(JsonValue::Float64(number))),
            None => Err(format!("{path}: not a finite number of 64 bits")),
        },
        JsonKind::String => match &*unescape(text) {
            "" => Ok(Converted::plain(JsonValue::Null)),
            number => match finite(number).filter(|_| is_json_number(number)) {
                Some(number) => Ok(Converted::coerced_if(true, JsonValue::Float64(number))),
                None => Err(format!("{path}: text is not a finite number of 64 bits")),
            },
        },
        _ => return None,
    })
}

fn is_json_number(text: &str) -> bool {
    let mut reader = Reader::new(text.as_bytes());
    matches!(reader.value(0), Ok((JsonKind::Number, number)) if number.len() == text.len())
}

/// Converts to a boolean; `None` if the value is of another kind.
fn boolean<'a>(path: Path<'_>, kind: JsonKind, text: &[u8]) -> Option<Result<Converted<'a>, String>> {
    let coerced = |value| Ok(Converted::coerced_if(true, JsonValue::Boolean(value)));
    Some(match kind {
        JsonKind::Bool => Ok(Converted::plain(JsonValue::Boolean(text == b"true"))),
        JsonKind::Number => match text {
            b"1" | b"1.0" => coerced(true),
            b"0" | b"0.0" => coerced(false),
            _ => Err(format!("{path}: a number other than 0 and 1 is not a boolean")),
        },
        JsonKind::String => match &*unescape(text).to_ascii_lowercase() {
            "true" | "1" => coerced(true),
            "false" | "0" => coerced(false),
            "unknown" | "-" | "" => Ok(Converted::plain(JsonValue::Null)),
            _ => Err(format!("{path}: text is not a boolean")),
        },
        _ => return None,
    })
}

/// The text of a JSON column: an object or array without its white space, a string's own text, and anything else
/// as it is.
pub(super) fn json_text(kind: JsonKind, text: &[u8]) -> Cow<'_, str> {
    let utf8 = |text| std::str::from_utf8(text).expect("the record has been read before");
    match kind {
        JsonKind::String => unescape(text),
        JsonKind::Object | JsonKind::Array
            if text.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) =>
        {
            let mut is_inside = false;
            let mut is_escaped = false;
            let kept = utf8(text).chars().filter(|character| {
                let is_kept = is_inside || !matches!(character, ' ' | '\t' | '\r' | '\n');
                match character {
                    _ if is_escaped => is_escaped = false,
                    '\\' => is_escaped = is_inside,
                    '"' => is_inside = !is_inside,
                    _ => {}
                }
                is_kept
            });
            Cow::Owned(kept.collect())
        }
        _ => Cow::Borrowed(utf8(text)),
    }
}

/// Converts an array, or a string in its place, to structs.
pub(super) fn struct_list<'a>(
    column: &str,
    members: &[StructMember],
    kind: JsonKind,
    text: &'a [u8],
) -> Converted<'a> {
    let mut structs = Vec::new();
    let mut converted = Converted::new(CoercedValue::Plain(JsonValue::Null), 0);
    let mut element = |kind: JsonKind, text: &'a [u8]| {
        let index = structs.len();
        structs.push(match kind {
            JsonKind::Null => None,
            JsonKind::Object => Some(struct_of(column, index, members, text, &mut converted)),
            JsonKind::String => {
                converted.num_coerced += 1;
                let mut values: Vec<_> =
                    members.iter().map(|_| CoercedValue::Plain(JsonValue::Null)).collect();
                if let Some(first) = members.first() {
                    values[0] = member(column, index, first, kind, text, &mut converted);
                }
                Some(values)
            }
            _ => {
                converted
                    .rejects
                    .push(format!("{column}[{index}]: expected object, found {}", kind.as_str()));
                None
            }
        });
    };
    if kind == JsonKind::Array {
        Reader::new(text).array(0, element).expect("the record has been read before");
    } else {
        element(kind, text);
    }
    converted.value = CoercedValue::Structs(structs);
    converted
}

fn struct_of<'a>(
    column: &str,
    index: usize,
    members: &[StructMember],
    text: &'a [u8],
    converted: &mut Converted<'a>,
) -> Vec<CoercedValue<'a>> {
    let mut slots: Vec<Option<(JsonKind, &'a [u8])>> = vec![None; members.len()];
    let mut num_duplicate_names = 0;
    let mut undocumented = Vec::new();
    Reader::new(text)
        .object(0, |name, kind, text| {
            match members.iter().position(|member| member.name.eq_ignore_ascii_case(&name)) {
                Some(position) => {
                    num_duplicate_names += u64::from(slots[position].is_some());
                    slots[position] = Some((kind, text));
                }
                None => undocumented.push(format!("{column}.{name}")),
            }
        })
        .expect("the record has been read before");
    converted.num_duplicate_names += num_duplicate_names;
    converted.undocumented.append(&mut undocumented);
    let value = |(declared, slot): (&StructMember, Option<(JsonKind, &'a [u8])>)| match slot {
        None => CoercedValue::Plain(JsonValue::Null),
        Some((kind, text)) => member(column, index, declared, kind, text, converted),
    };
    members.iter().zip(slots).map(value).collect()
}

fn member<'a>(
    column: &str,
    index: usize,
    member: &StructMember,
    kind: JsonKind,
    text: &'a [u8],
    converted: &mut Converted<'a>,
) -> CoercedValue<'a> {
    let path = Path { column, member: Some((index, member.name)) };
    match convert(path, member.column_type, kind, text) {
        Ok(value) => {
            converted.num_coerced += value.num_coerced;
            value.value
        }
        Err(reason) => {
            converted.rejects.push(reason);
            CoercedValue::Plain(JsonValue::Null)
        }
    }
}

fn time<'a>(
    path: Path<'_>,
    text: &[u8],
    value: impl FnOnce(i64) -> JsonValue<'a>,
) -> Result<JsonValue<'a>, String> {
    match timestamp::parse(unescape(text).as_bytes()) {
        ParsedTime::Micros(micros) => Ok(value(micros)),
        ParsedTime::Null => Ok(JsonValue::Null),
        ParsedTime::Invalid => Err(format!("{path}: text is not a date or timestamp")),
    }
}

fn list<'a>(path: Path<'_>, text: &'a [u8]) -> Result<Converted<'a>, String> {
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
        None => Ok(Converted::new(CoercedValue::List { text, num_elements }, num_coerced)),
        Some((index, kind)) => Err(format!("{path}[{index}]: expected string, found {}", kind.as_str())),
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
