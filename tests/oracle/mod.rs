//! A second decoder, slow and obvious: takes a part's whole text; gives its rows and rejects by
//! pipeline/docs/lake.md.
//!
//! Knows nothing of `pipeline`: records are found with the whole text at hand, values are read by
//! `serde_json` and `chrono`. What it shares with the real decoder is that page and the declarations of the
//! datasets, so if the two differ, one of them is wrong.
//!
//! Left out: reasons of rejects, and the bounds on distinct undocumented names.

#![allow(dead_code, reason = "each of the tests and fuzz targets uses its part")]

pub mod agreement;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use schema::{Column, ColumnType, Dataset, Presence, StructMember};
use serde_json::value::RawValue;

/// Longest record that becomes a row.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting of a record.
const MAX_DEPTH: usize = 128;
/// Most brackets that a value over several lines has open at the end of one.
const MAX_OPEN_AT_LINE_END: usize = 256;
/// A longer undocumented name is counted with the others.
const MAX_UNDOCUMENTED_NAME_BYTES: usize = 256;
/// Text that is looked at to tell a page from a record.
const PAGE_LOOK_AHEAD_BYTES: usize = 4096;
/// Longest name of a directory.
const MAX_DIRECTORY_NAME_BYTES: usize = 255;

/// A value of a row.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// JSON too.
    Text(String),
    /// Of 32 bits or of 64.
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Option<String>>),
    /// Of each struct its members.
    Structs(Vec<Option<Vec<Option<Value>>>>),
    Time(DateTime<Utc>),
    Date(NaiveDate),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::List(elements) => f.debug_list().entries(elements.iter().map(Null)).finish(),
            Self::Structs(elements) => write!(f, "{elements:?}"),
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Date(date) => write!(f, "{date:?}"),
        }
    }
}

struct Null<'a>(&'a Option<String>);

impl fmt::Debug for Null<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, "{text:?}"),
            None => f.write_str("null"),
        }
    }
}

/// A row: the columns that are not null by name, and `ExtraFields`.
pub type Row = BTreeMap<&'static str, Value>;

/// Name of the column of captured fields.
pub const EXTRA_FIELDS: &str = "ExtraFields";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    pub line: u64,
    pub offset: u64,
    /// `None`: the record is rejected.
    pub field: Option<&'static str>,
    pub raw: Vec<u8>,
}

/// What a part holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    pub rows: Vec<Row>,
    pub rejects: Vec<Reject>,
    pub records: u64,
    pub rejected_records: u64,
    pub field_rejects: u64,
    pub coerced: u64,
    pub duplicate_names: u64,
    pub undocumented: BTreeMap<String, u64>,
}

/// The part is damaged.
#[derive(Debug, PartialEq, Eq)]
pub enum Damage {
    NotAnExport,
    Unclosed,
    Trailing,
    Page,
}

/// Decodes the whole text of a part.
pub fn decode(text: &[u8], dataset: &Dataset, capture_extra_fields: bool) -> Result<Decoded, Damage> {
    let mut decoded = Decoded::default();
    let pieces = pieces(text)?;
    if let [piece] = &pieces[..]
        && is_error_body(&text[piece.start..piece.end], dataset)
    {
        return Err(Damage::NotAnExport);
    }
    for piece in pieces {
        let line = text[..piece.start].split(|byte| *byte == b'\n').count() as u64;
        let raw = trim_end(&text[piece.start..piece.end]);
        let reject =
            |field, raw: &[u8]| Reject { line, offset: piece.start as u64, field, raw: raw.to_vec() };
        decoded.records += 1;
        let record = if piece.too_long { None } else { read_record(raw, dataset, capture_extra_fields) };
        let Some(record) = record else {
            decoded.rejected_records += 1;
            decoded.rejects.push(reject(None, &raw[..raw.len().min(MAX_RECORD_BYTES)]));
            continue;
        };
        decoded.coerced += record.coerced;
        decoded.duplicate_names += record.duplicate_names;
        decoded.field_rejects += record.field_rejects.len() as u64;
        decoded.rejects.extend(record.field_rejects.into_iter().map(|column| reject(Some(column), raw)));
        for name in record.undocumented {
            *decoded.undocumented.entry(name).or_default() += 1;
        }
        decoded.rows.push(record.row);
    }
    Ok(decoded)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim_end(text: &[u8]) -> &[u8] {
    let len = text.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &text[..len]
}

/// Returns the position of the next byte that is not white space.
fn skip_space(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(|byte| !is_space(*byte)).map_or(text.len(), |len| from + len)
}

fn line_end(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |len| from + len)
}

/// One record's place in the text.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    too_long: bool,
}

fn pieces(text: &[u8]) -> Result<Vec<Piece>, Damage> {
    let mut pieces = Vec::new();
    let mut at = skip_space(text, if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 });
    match text[at..] {
        [] => return Ok(pieces),
        // Text of two or four bytes a letter.
        [b'{' | b'[', 0, _, 0, ..] => return Err(Damage::NotAnExport),
        [b'{' | b'[', ..] => {}
        _ => return Err(Damage::NotAnExport),
    }
    if text.get(at) == Some(&b'[') {
        at = array(text, at + 1, &mut pieces)?;
        return if skip_space(text, at) == text.len() { Ok(pieces) } else { Err(Damage::Trailing) };
    }
    if begins_page(&text[at..]) {
        at = page(text, at + 1, &mut pieces)?;
        return if skip_space(text, at) == text.len() { Ok(pieces) } else { Err(Damage::Trailing) };
    }
    while at < text.len() {
        let piece = piece(text, at, true);
        at = skip_space(text, piece.end);
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Takes the records of an array whose bracket is passed; commas between them are not insisted on.
fn array(text: &[u8], mut at: usize, pieces: &mut Vec<Piece>) -> Result<usize, Damage> {
    loop {
        at = skip_space(text, at);
        match text.get(at) {
            None => return Err(Damage::Unclosed),
            Some(b',') => at += 1,
            Some(b']') => return Ok(at + 1),
            Some(_) => {
                let piece = piece(text, at, false);
                at = piece.end;
                pieces.push(piece);
            }
        }
    }
}

fn begins_page(text: &[u8]) -> bool {
    let text = &text[..text.len().min(PAGE_LOOK_AHEAD_BYTES)];
    let after = |at: usize, token: &[u8]| {
        let at = skip_space(text, at);
        text[at..].starts_with(token).then_some(at + token.len())
    };
    let Some(name) = after(0, b"{").and_then(|at| after(at, b"\"")) else { return false };
    let Some(name_len) = text[name..].iter().position(|byte| *byte == b'"') else { return false };
    let behind = name + name_len + 1;
    match &text[name..name + name_len] {
        b"value" => after(behind, b":").and_then(|at| after(at, b"[")).is_some(),
        b"@odata.context" | b"@odata.count" | b"@odata.nextLink" | b"@odata.deltaLink" => true,
        _ => false,
    }
}

/// Takes the records of a page whose brace is passed: an object with exactly one array `value`.
fn page(text: &[u8], mut at: usize, pieces: &mut Vec<Piece>) -> Result<usize, Damage> {
    let mut has_value = false;
    let token = |at: usize| -> Result<(usize, u8), Damage> {
        let at = skip_space(text, at);
        text.get(at).map(|byte| (at, *byte)).ok_or(Damage::Unclosed)
    };
    let whole = |at: usize| structure(text, at).map_err(|_| Damage::Page);
    loop {
        let (name, quote) = token(at)?;
        if quote != b'"' {
            return Err(Damage::Page);
        }
        let name_end = whole(name)?;
        let (colon, byte) = token(name_end)?;
        if byte != b':' {
            return Err(Damage::Page);
        }
        let (value, bracket) = token(colon + 1)?;
        at = if &text[name..name_end] != b"\"value\"" {
            whole(value)?
        } else if bracket == b'[' && !has_value {
            has_value = true;
            array(text, value + 1, pieces)?
        } else {
            return Err(Damage::Page);
        };
        let (end, byte) = token(at)?;
        at = end + 1;
        match byte {
            b',' => {}
            b'}' if has_value => return Ok(at),
            _ => return Err(Damage::Page),
        }
    }
}

/// The record at `start`: the whole value there, or the rest of the line where none is. By itself
/// only an object is a record, and one over several lines only within the length of a record.
fn piece(text: &[u8], start: usize, by_itself: bool) -> Piece {
    let line_end = line_end(text, start);
    let rest_of_line = Piece { start, end: line_end, too_long: line_end - start > MAX_RECORD_BYTES };
    if by_itself && text[start] != b'{' {
        return rest_of_line;
    }
    match structure(text, start) {
        Ok(end) if end - start <= MAX_RECORD_BYTES => Piece { start, end, too_long: false },
        Ok(end) if !by_itself || end <= line_end => Piece { start, end, too_long: true },
        Err(at) if !by_itself && at - start > MAX_RECORD_BYTES => {
            Piece { start, end: self::line_end(text, at), too_long: true }
        }
        Ok(_) | Err(_) => rest_of_line,
    }
}

/// Finds where the value at `start` ends, or where its structure breaks: brackets, commas, colons,
/// strings without line feeds, and words of letters, digits, `+`, `-` and `.`.
fn structure(text: &[u8], start: usize) -> Result<usize, usize> {
    let mut open: Vec<u8> = Vec::new();
    let mut before = b' ';
    let mut at = start;
    loop {
        let next = skip_space(text, at);
        if open.len() > MAX_OPEN_AT_LINE_END
            && let Some(newline) = text[at..next].iter().position(|byte| *byte == b'\n')
        {
            return Err(at + newline);
        }
        at = next;
        let byte = *text.get(at).ok_or(at)?;
        let inside = open.last().copied().unwrap_or(b' ');
        // `k` stands for a name, `v` for a value that has ended.
        let may_be_name = inside == b'{' && matches!(before, b'{' | b',');
        let may_be_value = match inside {
            b'{' => before == b':',
            b'[' => matches!(before, b'[' | b','),
            _ => true,
        };
        let token = at;
        at += 1;
        before = match byte {
            b'"' if may_be_name || may_be_value => {
                at = string(text, at)?;
                if may_be_name { b'k' } else { b'v' }
            }
            b':' if before == b'k' => b':',
            b',' if before == b'v' => b',',
            b'{' | b'[' if may_be_value => {
                open.push(byte);
                byte
            }
            b'}' if inside == b'{' && matches!(before, b'{' | b'v') => {
                open.pop();
                b'v'
            }
            b']' if inside == b'[' && matches!(before, b'[' | b'v') => {
                open.pop();
                b'v'
            }
            byte if may_be_value && is_word(byte) => {
                at += text[at..].iter().take_while(|byte| is_word(**byte)).count();
                if at == text.len() {
                    return Err(at);
                }
                b'v'
            }
            _ => return Err(token),
        };
        if open.is_empty() {
            return Ok(at);
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

/// Finds where the string ends whose quote is passed.
fn string(text: &[u8], mut at: usize) -> Result<usize, usize> {
    loop {
        match (text.get(at), text.get(at + 1)) {
            (None | Some(b'\n'), _) => return Err(at),
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'\n')) => return Err(at + 1),
            (Some(b'\\'), _) => at += 2,
            _ => at += 1,
        }
        at = at.min(text.len());
    }
}

struct Record {
    row: Row,
    coerced: u64,
    duplicate_names: u64,
    field_rejects: Vec<&'static str>,
    undocumented: BTreeSet<String>,
}

/// The column of a name on the wire, and whether the name is one of a single element of its list.
fn column_of(dataset: &Dataset, name: &str) -> Option<(&'static Column, bool)> {
    dataset.properties().find_map(|column| {
        let alias = column.aliases.iter().find(|alias| alias.name.eq_ignore_ascii_case(name));
        let is_it = column.name.eq_ignore_ascii_case(name) || alias.is_some();
        is_it.then_some((column, alias.is_some_and(|alias| alias.is_single_element)))
    })
}

/// Whether a record is what an API answers with an error: names of that, and none of a column.
fn is_error_body(raw: &[u8], dataset: &Dataset) -> bool {
    const NAMES: &[&str] = &[
        "error",
        "errors",
        "odata.error",
        "message",
        "code",
        "statuscode",
        "errorcode",
        "error_description",
    ];
    let Ok(text) = std::str::from_utf8(trim_end(raw)) else { return false };
    let Ok(Members(members)) = serde_json::from_str(text) else { return false };
    let names: Vec<String> = members.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let is_column = |name: &String| column_of(dataset, name).is_some();
    names.iter().any(|name| NAMES.contains(&name.as_str()))
        && !names.iter().any(is_column)
        && depth(text) <= MAX_DEPTH
        && members.iter().all(|(_, value)| validate(value).is_some())
}

/// The members of an object in their order, names given twice included.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Reads one record; `None` if it is rejected.
fn read_record(raw: &[u8], dataset: &Dataset, capture_extra_fields: bool) -> Option<Record> {
    let text = std::str::from_utf8(raw).ok()?;
    if depth(text) > MAX_DEPTH {
        return None;
    }
    let Members(members) = serde_json::from_str(text).ok()?;
    let mut known: BTreeMap<&'static str, (&RawValue, bool)> = BTreeMap::new();
    let mut extra: Vec<(&str, &RawValue)> = Vec::new();
    let mut duplicate_names = 0;
    for (name, value) in &members {
        validate(value)?;
        if let Some((column, is_single_element)) = column_of(dataset, name) {
            duplicate_names += u64::from(known.insert(column.name, (value, is_single_element)).is_some());
        } else if let Some((_, earlier)) = extra.iter_mut().find(|(known, _)| known == name) {
            duplicate_names += 1;
            *earlier = value;
        } else {
            extra.push((name, value));
        }
    }
    let required = dataset.properties().find(|column| column.presence == Presence::Required)?;
    match read(known.get(required.name)?.0) {
        Json::Text(text) if !text.is_empty() => {}
        Json::Number(_) => {}
        _ => return None,
    }
    let mut record = Record {
        row: Row::new(),
        coerced: 0,
        duplicate_names,
        field_rejects: Vec::new(),
        undocumented: BTreeSet::new(),
    };
    for column in dataset.properties() {
        let Some((value, is_single_element)) = known.get(column.name) else { continue };
        let is_plain_element = *is_single_element && matches!(read(value), Json::Text(_));
        if dataset.partition_by == Some(column.name)
            && let Json::Text(text) | Json::Number(text) = read(value)
            && directory_name_bytes(column.name, &text) > MAX_DIRECTORY_NAME_BYTES
        {
            record.field_rejects.push(column.name);
            continue;
        }
        let converted = match (column.column_type, read(value)) {
            (ColumnType::StructList(members), Json::Array(elements)) => {
                Ok(structs(column.name, members, &elements, &mut record))
            }
            (ColumnType::StructList(members), Json::Text(_)) => {
                Ok(structs(column.name, members, &[(*value).to_owned()], &mut record))
            }
            (column_type, _) => convert(column_type, value),
        };
        match converted {
            Ok((value, coerced)) => {
                record.coerced += if is_plain_element { 0 } else { coerced };
                record.row.extend(value.map(|value| (column.name, value)));
            }
            Err(FieldReject) => record.field_rejects.push(column.name),
        }
    }
    if capture_extra_fields && !extra.is_empty() {
        let members: Vec<_> = extra
            .iter()
            .map(|(name, value)| format!("{}:{}", serde_json::Value::from(*name), value.get()))
            .collect();
        record.row.insert(EXTRA_FIELDS, Value::Text(format!("{{{}}}", members.join(","))));
    }
    for (name, _) in extra {
        note_undocumented(name.to_owned(), &mut record);
    }
    Some(record)
}

fn note_undocumented(name: String, record: &mut Record) {
    let is_counted = name.len() <= MAX_UNDOCUMENTED_NAME_BYTES;
    record.undocumented.insert(if is_counted { name } else { "(other names)".to_owned() });
}

/// Reads a list of structs; what it counts goes to the record.
fn structs(
    column: &'static str,
    members: &'static [StructMember],
    elements: &[Box<RawValue>],
    record: &mut Record,
) -> (Option<Value>, u64) {
    let mut coerced = 0;
    let mut list = Vec::new();
    for element in elements {
        // By member, what is read of it.
        let mut given: Vec<Option<Box<RawValue>>> = members.iter().map(|_| None).collect();
        match read(element) {
            Json::Object(Members(fields)) => {
                for (name, value) in fields {
                    match members.iter().position(|member| member.name.eq_ignore_ascii_case(&name)) {
                        Some(index) => {
                            record.duplicate_names += u64::from(given[index].replace(value).is_some());
                        }
                        None => note_undocumented(format!("{column}.{name}"), record),
                    }
                }
            }
            Json::Text(_) => {
                coerced += 1;
                given[0] = Some(element.clone());
            }
            Json::Null => {
                list.push(None);
                continue;
            }
            _ => {
                record.field_rejects.push(column);
                list.push(None);
                continue;
            }
        }
        let mut values = Vec::new();
        for (member, value) in members.iter().zip(given) {
            let converted = value.map_or(Ok((None, 0)), |value| convert(member.column_type, &value));
            if let Ok((value, num_coerced)) = converted {
                coerced += num_coerced;
                values.push(value);
            } else {
                record.field_rejects.push(column);
                values.push(None);
            }
        }
        list.push(Some(values));
    }
    (Some(Value::Structs(list)), coerced)
}

/// Deepest nesting of JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// A value, one level deep.
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Box<RawValue>>),
    Object(Members),
}

fn read(value: &RawValue) -> Json {
    try_read(value).expect("validated")
}

fn try_read(value: &RawValue) -> Option<Json> {
    let text = value.get();
    Some(match text.as_bytes()[0] {
        b'n' => Json::Null,
        b't' | b'f' => Json::Bool(text == "true"),
        b'"' => Json::Text(serde_json::from_str(text).ok()?),
        b'[' => Json::Array(serde_json::from_str(text).ok()?),
        b'{' => Json::Object(serde_json::from_str(text).ok()?),
        _ => Json::Number(text.to_owned()),
    })
}

/// Reads a value down to its leaves: `RawValue` takes a surrogate without its pair.
fn validate(value: &RawValue) -> Option<()> {
    match try_read(value)? {
        Json::Array(elements) => elements.iter().try_for_each(|value| validate(value)),
        Json::Object(Members(members)) => members.iter().try_for_each(|(_, value)| validate(value)),
        _ => Some(()),
    }
}

struct FieldReject;

/// The value that JSON becomes, null or not, and how many values were coerced on the way.
fn convert(column_type: ColumnType, json: &RawValue) -> Result<(Option<Value>, u64), FieldReject> {
    use ColumnType as Type;
    let value = |value| Ok((Some(value), 0));
    let coerced = |value| Ok((Some(value), 1));
    match (column_type, read(json)) {
        (_, Json::Null) => Ok((None, 0)),
        (Type::Utf8 | Type::Json, Json::Text(text)) => value(Value::Text(text)),
        (Type::Utf8, Json::Number(text)) => coerced(Value::Text(text)),
        (Type::Json, _) => value(Value::Text(without_space(json.get()))),
        (Type::Boolean, Json::Bool(boolean)) => value(Value::Boolean(boolean)),
        (Type::Boolean, Json::Number(text)) => match &*text {
            "1" | "1.0" => coerced(Value::Boolean(true)),
            "0" | "0.0" => coerced(Value::Boolean(false)),
            _ => Err(FieldReject),
        },
        (Type::Boolean, Json::Text(text)) => match &*text.to_ascii_lowercase() {
            "true" | "1" => coerced(Value::Boolean(true)),
            "false" | "0" => coerced(Value::Boolean(false)),
            "unknown" | "-" | "" => Ok((None, 0)),
            _ => Err(FieldReject),
        },
        (
            Type::Int32 | Type::Int64 | Type::Float64 | Type::TimestampMicros | Type::Date32,
            Json::Text(text),
        ) if text.is_empty() => Ok((None, 0)),
        (Type::Int32 | Type::Int64, Json::Number(text)) => {
            let number = integer(column_type, &text).ok_or(FieldReject)?;
            Ok((Some(Value::Integer(number)), u64::from(text.contains(['.', 'e', 'E']))))
        }
        (Type::Int32 | Type::Int64, Json::Text(text)) => {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            if digits.is_empty() || !digits.chars().all(|digit| digit.is_ascii_digit()) {
                return Err(FieldReject);
            }
            coerced(Value::Integer(integer(column_type, &text).ok_or(FieldReject)?))
        }
        (Type::Float64, Json::Number(text)) => value(Value::Float(float(&text)?)),
        (Type::Float64, Json::Text(text)) => {
            let is_json = matches!(serde_json::from_str::<&RawValue>(&text), Ok(json) if json.get() == text);
            if !is_json || !text.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') {
                return Err(FieldReject);
            }
            coerced(Value::Float(float(&text)?))
        }
        (Type::TimestampMicros, Json::Text(text)) => Ok((time(&text)?.map(Value::Time), 0)),
        (Type::Date32, Json::Text(text)) => Ok((time(&text)?.map(|time| Value::Date(time.date_naive())), 0)),
        (Type::TimestampMicros | Type::Date32, Json::Object(Members(members))) if members.is_empty() => {
            Ok((None, 0))
        }
        (Type::Utf8List, Json::Text(text)) => coerced(Value::List(vec![Some(text)])),
        (Type::Utf8List, Json::Array(elements)) => {
            let mut num_coerced = 0;
            let mut list = Vec::new();
            for element in elements {
                list.push(match read(&element) {
                    Json::Null => None,
                    Json::Text(text) => Some(text),
                    Json::Number(text) => {
                        num_coerced += 1;
                        Some(text)
                    }
                    Json::Bool(boolean) => {
                        num_coerced += 1;
                        Some(boolean.to_string())
                    }
                    _ => return Err(FieldReject),
                });
            }
            Ok((Some(Value::List(list)), num_coerced))
        }
        _ => Err(FieldReject),
    }
}

/// JSON without white space between its tokens.
fn without_space(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let end = start + 1 + string_len(&rest[start + 1..]);
        kept.extend(rest[..start].chars().filter(|letter| !letter.is_ascii_whitespace()));
        kept.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    kept.extend(rest.chars().filter(|letter| !letter.is_ascii_whitespace()));
    kept
}

/// The bytes of a string's content with the quote that ends it.
fn string_len(text: &str) -> usize {
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn float(text: &str) -> Result<f64, FieldReject> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(FieldReject)
}

/// The integer that a decimal number is exactly: written out, its fraction is all zeros.
fn integer(column_type: ColumnType, text: &str) -> Option<i64> {
    let number = whole(text)?;
    if column_type == ColumnType::Int32 { i32::try_from(number).ok().map(i64::from) } else { Some(number) }
}

fn whole(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.chars().chain(fraction.chars()).all(|digit| digit == '0') {
        return Some(0);
    }
    let exponent: i32 = exponent.parse().ok()?;
    let shift = exponent.unsigned_abs() as usize;
    if shift > text.len() + 20 {
        return None;
    }
    let zeros = "0".repeat(shift);
    let (whole, fraction) = (format!("{zeros}{whole}"), format!("{fraction}{zeros}"));
    let (whole, fraction) = if exponent < 0 {
        let (kept, moved) = whole.split_at(whole.len() - shift);
        (kept.to_owned(), format!("{moved}{fraction}"))
    } else {
        let (moved, kept) = fraction.split_at(shift);
        (format!("{whole}{moved}"), kept.to_owned())
    };
    if fraction.chars().any(|digit| digit != '0') {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if whole.is_empty() { Some(0) } else { format!("{sign}{whole}").parse().ok() }
}

/// Parses a timestamp of pipeline/docs/service.md#timestamps; `None` for the year 0001.
fn time(text: &str) -> Result<Option<DateTime<Utc>>, FieldReject> {
    let mut padded = text.to_owned();
    if text.find(':') == Some(12) && text.is_char_boundary(11) {
        padded.insert(11, '0');
    }
    let text = padded.as_str();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let number = |from: usize, len: usize| text[from..from + len].parse::<u32>().map_err(|_| FieldReject);
    let (date_shape, rest) = shape.split_at_checked(10).ok_or(FieldReject)?;
    if date_shape != "0000-00-00" {
        return Err(FieldReject);
    }
    let year = i32::try_from(number(0, 4)?).expect("four digits");
    let date = NaiveDate::from_ymd_opt(year, number(5, 2)?, number(8, 2)?).ok_or(FieldReject)?;
    let mut time = date.and_hms_opt(0, 0, 0).expect("midnight");
    if !rest.is_empty() {
        let (clock, rest) = rest.split_at_checked(9).ok_or(FieldReject)?;
        if !["T00:00:00", "t00:00:00", " 00:00:00"].contains(&clock) {
            return Err(FieldReject);
        }
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        time = date.and_hms_opt(hour, minute, second).ok_or(FieldReject)?;
        let mut zone = rest;
        if let Some(fraction) = rest.strip_prefix('.') {
            zone = fraction.trim_start_matches('0');
            let len = fraction.len() - zone.len();
            if len == 0 {
                return Err(FieldReject);
            }
            let digits = format!("{:0<6.6}", &text[20..20 + len]);
            time += Duration::microseconds(digits.parse().expect("six digits"));
        }
        let zone_at = text.len() - zone.len();
        match zone {
            "" | "Z" | "z" => {}
            "+00:00" | "-00:00" => {
                let (hours, minutes) = (number(zone_at + 1, 2)?, number(zone_at + 4, 2)?);
                if hours > 23 || minutes > 59 {
                    return Err(FieldReject);
                }
                let offset = Duration::minutes(i64::from(hours * 60 + minutes));
                time = if zone.starts_with('+') { time - offset } else { time + offset };
            }
            _ => return Err(FieldReject),
        }
    }
    Ok((year != 1).then(|| time.and_utc()))
}

/// Length of `column=value` with Hive's escapes; the few short values that are escaped besides fit.
fn directory_name_bytes(column: &str, value: &str) -> usize {
    let escaped = |c: char| c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c);
    column.len() + 1 + value.chars().map(|c| if escaped(c) { 3 } else { c.len_utf8() }).sum::<usize>()
}
