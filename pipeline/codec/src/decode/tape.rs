//! The fast path for what was not predicted: takes a record that is just as documented; gives its row
//! from simd-json's tape.
//!
//! Knows no rejects and no coercions. Whatever it does not expect (a name given twice, a number
//! where text belongs, text that is not JSON) is a [`Surprise`]: nothing has happened then, and
//! the record goes to `careful.rs`, the one place where such things are decided.

use schema::ColumnType;
use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::column::Surprise;
use super::field_map::{Binding, MAX_PROPERTIES, Names, OTHER_NAMES_INDEX, Target};
use super::timestamp::{self, ParsedTime};
use super::value::{Cell, List};
use crate::partition;

/// Longest record that goes on the tape, which takes many times the record's size.
const MAX_TAPE_RECORD_BYTES: usize = 128 * 1024;

/// Deeper records are left to the careful path, whose limit is the documented one.
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
    /// Decodes `record`, whole and without white space around it, and gives its cells to `row`.
    pub fn decode<T>(
        &mut self,
        record: &[u8],
        binding: &Binding,
        names: &mut Names,
        row: impl FnOnce(&[Cell<'_>]) -> T,
    ) -> Result<T, Surprise> {
        if record.len() > MAX_TAPE_RECORD_BYTES {
            return Err(Surprise);
        }
        // simd-json unescapes in place, and the record must stay as it was for the careful path.
        self.scratch.clear();
        self.scratch.extend_from_slice(record);
        self.scratch.resize(record.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape::null()).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.scratch, record.len(), &mut self.buffers, &mut tape);
        let result = match parsed {
            Ok(()) => {
                let mut members = Members {
                    binding,
                    names,
                    expected: &mut self.expected,
                    undocumented: &mut self.undocumented,
                };
                members.row(&tape.0, row)
            }
            Err(_) => Err(Surprise),
        };
        self.tape = tape.reset();
        result
    }
}

struct Members<'m> {
    binding: &'m Binding,
    names: &'m mut Names,
    expected: &'m mut Vec<(Box<str>, Target)>,
    undocumented: &'m mut Vec<usize>,
}

impl Members<'_> {
    fn row<T>(&mut self, nodes: &[Node<'_>], row: impl FnOnce(&[Cell<'_>]) -> T) -> Result<T, Surprise> {
        let Some(Node::Object { len, .. }) = nodes.first() else { return Err(Surprise) };
        self.undocumented.clear();
        let mut slots = [0_usize; MAX_PROPERTIES];
        let mut at = 1;
        for position in 0..*len {
            let Node::String(name) = nodes[at] else { return Err(Surprise) };
            match self.target(position, name) {
                Target::Property(index) if slots[index] == 0 => slots[index] = at + 1,
                Target::Undocumented(index)
                    if index != OTHER_NAMES_INDEX
                        && !self.undocumented.contains(&index)
                        && !self.binding.captures_extra_fields() =>
                {
                    self.undocumented.push(index);
                }
                _ => return Err(Surprise),
            }
            at += 1 + num_nodes(&nodes[at + 1]);
        }
        let mut cells = [Cell::Null; MAX_PROPERTIES];
        let cells = &mut cells[..self.binding.properties().len()];
        for ((cell, column), slot) in cells.iter_mut().zip(self.binding.properties()).zip(slots) {
            // Slot 0 is the object itself: the record does not have the property.
            if slot != 0 {
                *cell = to_cell(column.column_type, &nodes[slot..])?;
            }
        }
        match cells[self.binding.required()] {
            Cell::Text(text) if !text.is_empty() => {}
            _ => return Err(Surprise),
        }
        let partition = self.binding.partition();
        if let Cell::Text(value) = cells[partition]
            && !partition::fits_directory(self.binding.properties()[partition].name, value)
        {
            return Err(Surprise);
        }
        for index in self.undocumented.drain(..) {
            self.names.count(index, 1);
        }
        Ok(row(cells))
    }

    fn target(&mut self, position: usize, name: &str) -> Target {
        match self.expected.get(position) {
            Some((expected, target)) if **expected == *name => return *target,
            _ => {}
        }
        let target = self.names.resolve(self.binding, name);
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
fn to_cell<'a>(column_type: ColumnType, nodes: &'a [Node<'a>]) -> Result<Cell<'a>, Surprise> {
    let value = &nodes[0];
    if matches!(value, Node::Static(StaticNode::Null)) {
        return Ok(Cell::Null);
    }
    match (column_type, value) {
        (ColumnType::Utf8, Node::String(text)) => Ok(Cell::Text(text)),
        (ColumnType::Int32, Node::Static(StaticNode::I64(number))) => {
            i32::try_from(*number).map(Cell::Int32).map_err(|_| Surprise)
        }
        (ColumnType::Int32, Node::Static(StaticNode::U64(number))) => {
            i32::try_from(*number).map(Cell::Int32).map_err(|_| Surprise)
        }
        (ColumnType::TimestampMicros, Node::String(text)) => match timestamp::parse(text.as_bytes()) {
            ParsedTime::Micros(micros) => Ok(Cell::Micros(micros)),
            ParsedTime::Null => Ok(Cell::Null),
            ParsedTime::Invalid => Err(Surprise),
        },
        (ColumnType::Date32, Node::String(text)) => match timestamp::parse(text.as_bytes()) {
            ParsedTime::Micros(micros) => Ok(Cell::Days(timestamp::days(micros))),
            ParsedTime::Null => Ok(Cell::Null),
            ParsedTime::Invalid => Err(Surprise),
        },
        (ColumnType::Utf8List, Node::Array { len, count }) => {
            let elements = &nodes[1..=*count];
            let plain = |node: &Node<'_>| matches!(node, Node::String(_) | Node::Static(StaticNode::Null));
            if elements.len() == *len && elements.iter().all(plain) {
                Ok(Cell::List(List::Nodes(elements)))
            } else {
                Err(Surprise)
            }
        }
        _ => Err(Surprise),
    }
}
