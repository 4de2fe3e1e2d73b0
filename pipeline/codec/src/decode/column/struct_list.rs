//! A column of lists of structs: where the structs of each list are, and a column for each member. Lists that are
//! written alike share their structs.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::NullBufferBuilder;
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use schema::{ColumnType, StructMember};

use super::json::is_json_of_one_line;
use super::primitive::{append_nulls, ordered_nulls};
use super::spill_format::{Bytes, put};
use super::string::plain;
use super::text_map::TextMap;
use super::unpredicted::Unpredicted;
use crate::decode::coerce::struct_list;
use crate::decode::json::JsonKind;
use crate::decode::spans::Span;
use crate::decode::value::{CoercedValue, JsonValue};

/// Stands for a list that is null among the lengths of lists.
const NULL_LIST: u32 = u32::MAX;

/// The values of one member of all structs.
pub(super) trait Member: Sized {
    fn new(column_type: ColumnType) -> Self;
    fn push(&mut self, value: JsonValue<'_>);
    fn num_bytes(&self) -> usize;
    fn append(&mut self, other: Self);
    fn finish(&mut self, order: &[u32]) -> ArrayRef;
    fn write_to(&self, out: &mut Vec<u8>);
    fn read_from(&mut self, bytes: &mut Bytes<'_>);
}

/// Lists of structs, whose members are columns `M`.
#[derive(Debug)]
pub(super) struct StructListColumn<M> {
    declared: &'static [StructMember],
    members: Vec<M>,
    /// Of the structs, whose values are in `members`.
    struct_nulls: NullBufferBuilder,
    lists: Vec<List>,
    /// The list of a value as it is on the wire.
    of_values: TextMap<List>,
}

/// The structs of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List {
    start: u32,
    /// How many, or [`NULL_LIST`].
    len: u32,
}

impl List {
    const NULL: Self = Self { start: 0, len: NULL_LIST };

    fn structs(self) -> Range<u32> {
        if self == Self::NULL { 0..0 } else { self.start..self.start + self.len }
    }
}

impl<M: Member> StructListColumn<M> {
    pub(super) fn new(declared: &'static [StructMember]) -> Self {
        Self {
            declared,
            members: declared.iter().map(|member| M::new(member.column_type)).collect(),
            struct_nulls: NullBufferBuilder::new(0),
            lists: Vec::new(),
            of_values: TextMap::new(),
        }
    }

    /// Adds values of consecutive records up to the first that is not just as declared; returns how many.
    pub(super) fn push_spans(&mut self, text: &[u8], values: &[Span]) -> usize {
        for (row, value) in values.iter().enumerate() {
            let list = if *value == Span::NULL { Ok(List::NULL) } else { self.list(value.of(text)) };
            match list {
                Ok(list) => self.lists.push(list),
                Err(Unpredicted) => return row,
            }
        }
        values.len()
    }

    fn list(&mut self, value: &[u8]) -> Result<List, Unpredicted> {
        let do_repeat = self.of_values.is_of_use();
        if !do_repeat {
            self.of_values.forget();
        } else if let Some(list) = self.of_values.get(value) {
            return Ok(list);
        }
        if JsonKind::of(value) != JsonKind::Array || !is_json_of_one_line(value) {
            return Err(Unpredicted);
        }
        let converted = struct_list("", self.declared, JsonKind::Array, value);
        let list = match converted.value.as_json_value() {
            JsonValue::Structs(structs) if converted.is_unchanged() => self.add(structs),
            _ => return Err(Unpredicted),
        };
        if do_repeat {
            self.of_values.insert(value, list);
        }
        Ok(list)
    }

    fn add(&mut self, structs: &[Option<Vec<CoercedValue<'_>>>]) -> List {
        let start = self.num_structs();
        for values in structs {
            self.struct_nulls.append(values.is_some());
            for (index, member) in self.members.iter_mut().enumerate() {
                member.push(values.as_ref().map_or(JsonValue::Null, |values| values[index].as_json_value()));
            }
        }
        List { start, len: self.num_structs() - start }
    }

    fn num_structs(&self) -> u32 {
        u32::try_from(self.struct_nulls.len()).expect("fewer structs than bytes")
    }

    pub(super) fn push(&mut self, structs: &[Option<Vec<CoercedValue<'_>>>]) {
        let list = self.add(structs);
        self.lists.push(list);
    }

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.lists.extend(std::iter::repeat_n(List::NULL, num_rows));
    }

    /// Structs that no list has any more stay.
    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.lists.truncate(num_rows);
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.members.iter().map(M::num_bytes).sum::<usize>()
            + self.lists.capacity() * size_of::<List>()
            + self.struct_nulls.allocated_size() / 8
            + self.of_values.num_bytes()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        let num_structs = self.num_structs();
        let list = |list: &List| match *list {
            List::NULL => List::NULL,
            List { start, len } => List { start: num_structs + start, len },
        };
        self.lists.extend(other.lists.iter().map(list));
        append_nulls(&mut self.struct_nulls, &mut other.struct_nulls);
        for (member, other) in self.members.iter_mut().zip(other.members) {
            member.append(other);
        }
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> ListArray {
        let lists = std::mem::take(&mut self.lists);
        self.of_values.forget();
        let mut structs: Vec<u32> = Vec::with_capacity(self.struct_nulls.len());
        let mut ends = Vec::with_capacity(lists.len() + 1);
        ends.push(0);
        for row in order {
            structs.extend(lists[*row as usize].structs());
            ends.push(i32::try_from(structs.len()).expect("fewer structs than bytes"));
        }
        let data_type = schema::arrow::data_type(ColumnType::StructList(self.declared));
        let DataType::List(element) = data_type else { unreachable!("a list is a list") };
        let DataType::Struct(fields) = element.data_type() else { unreachable!("of structs") };
        let members = self.members.iter_mut().zip(fields);
        let arrays =
            members.map(|(member, field)| plain(member.finish(&structs), field.data_type())).collect();
        let struct_nulls = ordered_nulls(&mut self.struct_nulls, &structs);
        let structs = StructArray::try_new_with_length(fields.clone(), arrays, struct_nulls, structs.len());
        let structs = Arc::new(structs.expect("members are as declared"));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let is_valid = |at| lists[order[at] as usize] != List::NULL;
        let nulls = NullBuffer::from(BooleanBuffer::collect_bool(order.len(), is_valid));
        ListArray::new(element, offsets, structs, Some(nulls).filter(|nulls| nulls.null_count() > 0))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.members.iter().for_each(|member| member.write_to(out));
        put(self.struct_nulls.len(), out);
        (0..self.struct_nulls.len()).for_each(|at| out.push(u8::from(self.struct_nulls.is_valid(at))));
        put(self.lists.len(), out);
        for List { start, len } in &self.lists {
            put(*start as usize, out);
            put(*len as usize, out);
        }
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        self.members.iter_mut().for_each(|member| member.read_from(bytes));
        let num_structs = bytes.number();
        bytes.take(num_structs).iter().for_each(|is_valid| self.struct_nulls.append(*is_valid == 1));
        for _ in 0..bytes.number() {
            self.lists.push(List { start: bytes.word(), len: bytes.word() });
        }
    }
}
