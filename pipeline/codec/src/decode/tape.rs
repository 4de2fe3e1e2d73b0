//! The fast path for records that the template does not match: takes a record that is just as documented; gives its row
//! from simd-json's tape.
//!
//! Knows neither rejects nor coercions. Anything that it does not expect (a name given twice, a number in
//! place of text, text that is not JSON) is [`Unpredicted`]: nothing has changed then, and the record
//! takes the slow path, `coerce.rs`, which alone decides on such things.

use schema::ColumnType;
use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::column::Unpredicted;
use super::field_map::{FieldMap, MAX_PROPERTIES, Names, OTHER_NAMES_INDEX, Target};
use super::timestamp::{self, ParsedTime};
use super::value::{JsonValue, List};
use crate::partition;

/// Longest record that goes on the tape, which takes many times the record's size.
const MAX_TAPE_RECORD_BYTES: usize = 128 * 1024;

/// Deeper records are left to the slow path, whose limit is the documented one.
const MAX_TAPE_DEPTH: usize = 64;

/// Parses records one after the other, reusing its buffers.
pub struct TapeReader {
    buffers: Buffers,
    tape: Tape<'static>,
    scratch: Vec<u8>,
    /// Name and target of each member of the last record: the next one mostly has the same.
    expected: Vec<(Box<str>, Target)>,
    undocumented: Vec<usize>,
}

impl std::fmt::Debug for TapeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapeReader").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Default for TapeReader {
    /// Begins with small buffers; they grow with the records.
    fn default() -> Self {
        Self {
            buffers: Buffers::with_max_depth(4096, MAX_TAPE_DEPTH),
            tape: Tape::null(),
            scratch: Vec::new(),
            expected: Vec::new(),
            undocumented: Vec::new(),
        }
    }
}

impl TapeReader {
    /// Decodes `record`, whole and without white space around it, and gives its values to `row`.
    pub fn decode<T>(
        &mut self,
        record: &[u8],
        field_map: &FieldMap,
        names: &mut Names,
        row: impl FnOnce(&[JsonValue<'_>]) -> T,
    ) -> Result<T, Unpredicted> {
        if record.len() > MAX_TAPE_RECORD_BYTES {
            return Err(Unpredicted);
        }
        // simd-json unescapes in place, and the record must stay as it was for the slow path.
        self.scratch.clear();
        self.scratch.extend_from_slice(record);
        self.scratch.resize(record.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape::null()).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.scratch, record.len(), &mut self.buffers, &mut tape);
        let result = match parsed {
            Ok(()) => {
                let mut members = Members {
                    field_map,
                    names,
                    expected: &mut self.expected,
                    undocumented: &mut self.undocumented,
                };
                members.row(&tape.0, row)
            }
            Err(_) => Err(Unpredicted),
        };
        self.tape = tape.reset();
        result
    }
}

struct Members<'m> {
    field_map: &'m FieldMap,
    names: &'m mut Names,
    expected: &'m mut Vec<(Box<str>, Target)>,
    undocumented: &'m mut Vec<usize>,
}

impl Members<'_> {
    fn row<T>(
        &mut self,
        nodes: &[Node<'_>],
        row: impl FnOnce(&[JsonValue<'_>]) -> T,
    ) -> Result<T, Unpredicted> {
        let Some(Node::Object { len, .. }) = nodes.first() else { return Err(Unpredicted) };
        self.undocumented.clear();
        let mut slots = [0_usize; MAX_PROPERTIES];
        let mut at = 1;
        for position in 0..*len {
            let Node::String(name) = nodes[at] else { return Err(Unpredicted) };
            match self.target(position, name) {
                Target::Property(index) if slots[index] == 0 => slots[index] = at + 1,
                Target::Undocumented(index)
                    if index != OTHER_NAMES_INDEX
                        && !self.undocumented.contains(&index)
                        && !self.field_map.captures_extra_fields() =>
                {
                    self.undocumented.push(index);
                }
                _ => return Err(Unpredicted),
            }
            at += 1 + num_nodes(&nodes[at + 1]);
        }
        let mut values = [JsonValue::Null; MAX_PROPERTIES];
        let values = &mut values[..self.field_map.properties().len()];
        for ((value, column), slot) in values.iter_mut().zip(self.field_map.properties()).zip(slots) {
            // Slot 0 is the object itself: the record does not have the property.
            if slot != 0 {
                *value = to_json_value(column.column_type, &nodes[slot..])?;
            }
        }
        match values[self.field_map.required()] {
            JsonValue::Text(text) if !text.is_empty() => {}
            _ => return Err(Unpredicted),
        }
        if let Some(partition) = self.field_map.partition()
            && let JsonValue::Text(value) = values[partition]
            && !partition::fits_directory(self.field_map.properties()[partition].name, value)
        {
            return Err(Unpredicted);
        }
        for index in self.undocumented.drain(..) {
            self.names.count(index, 1);
        }
        Ok(row(values))
    }

    fn target(&mut self, position: usize, name: &str) -> Target {
        match self.expected.get(position) {
            Some((expected, target)) if **expected == *name => return *target,
            _ => {}
        }
        let target = self.names.resolve(self.field_map, name);
        if target != Target::Undocumented(OTHER_NAMES_INDEX) {
            self.expected.truncate(position);
            if self.expected.len() == position {
                self.expected.push((name.into(), target));
            }
        }
        target
    }
}

/// How many nodes a value takes on the tape, itself included.
fn num_nodes(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        _ => 1,
    }
}

/// Converts the value at the start of `nodes`.
fn to_json_value<'a>(column_type: ColumnType, nodes: &'a [Node<'a>]) -> Result<JsonValue<'a>, Unpredicted> {
    let value = &nodes[0];
    if matches!(value, Node::Static(StaticNode::Null)) {
        return Ok(JsonValue::Null);
    }
    match (column_type, value) {
        (ColumnType::Utf8 | ColumnType::Json, Node::String(text)) => Ok(JsonValue::Text(text)),
        (ColumnType::Int32, Node::Static(StaticNode::I64(number))) => {
            i32::try_from(*number).map(JsonValue::Int32).map_err(|_| Unpredicted)
        }
        (ColumnType::Int32, Node::Static(StaticNode::U64(number))) => {
            i32::try_from(*number).map(JsonValue::Int32).map_err(|_| Unpredicted)
        }
        (ColumnType::Int64, Node::Static(StaticNode::I64(number))) => Ok(JsonValue::Int64(*number)),
        (ColumnType::Int64, Node::Static(StaticNode::U64(number))) => {
            i64::try_from(*number).map(JsonValue::Int64).map_err(|_| Unpredicted)
        }
        (ColumnType::Boolean, Node::Static(StaticNode::Bool(value))) => Ok(JsonValue::Boolean(*value)),
        (ColumnType::TimestampMicros, Node::String(text)) => match timestamp::parse(text.as_bytes()) {
            ParsedTime::Micros(micros) => Ok(JsonValue::Micros(micros)),
            ParsedTime::Null => Ok(JsonValue::Null),
            ParsedTime::Invalid => Err(Unpredicted),
        },
        (ColumnType::Date32, Node::String(text)) => match timestamp::parse(text.as_bytes()) {
            ParsedTime::Micros(micros) => Ok(JsonValue::Days(timestamp::days(micros))),
            ParsedTime::Null => Ok(JsonValue::Null),
            ParsedTime::Invalid => Err(Unpredicted),
        },
        (ColumnType::Utf8List, Node::Array { len, count }) => {
            let elements = &nodes[1..=*count];
            let plain = |node: &Node<'_>| matches!(node, Node::String(_) | Node::Static(StaticNode::Null));
            if elements.len() == *len && elements.iter().all(plain) {
                Ok(JsonValue::List(List::Nodes(elements)))
            } else {
                Err(Unpredicted)
            }
        }
        _ => Err(Unpredicted),
    }
}
