//! A column of lists of structs: where each list ends, and a column for each member.

use std::sync::Arc;

use arrow_array::builder::NullBufferBuilder;
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use schema::{ColumnType, StructMember};

use super::dictionary::position;
use super::primitive::{append_nulls, ordered_nulls};
use super::spill_format::{Bytes, put};
use super::string::plain;
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
    fn truncate(&mut self, num_values: usize);
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
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl<M: Member> StructListColumn<M> {
    pub(super) fn new(declared: &'static [StructMember]) -> Self {
        Self {
            declared,
            members: declared.iter().map(|member| M::new(member.column_type)).collect(),
            struct_nulls: NullBufferBuilder::new(0),
            offsets: vec![0],
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Adds values of consecutive records, which have been read as JSON, up to the first that is not just as
    /// declared; returns how many.
    pub(super) fn push_spans(&mut self, text: &[u8], values: &[Span]) -> usize {
        for (row, value) in values.iter().enumerate() {
            if *value == Span::NULL {
                self.push_null();
                continue;
            }
            let value = value.of(text);
            if JsonKind::of(value) != JsonKind::Array {
                return row;
            }
            let converted = struct_list("", self.declared, JsonKind::Array, value);
            match converted.value.as_json_value() {
                JsonValue::Structs(structs) if converted.is_unchanged() => self.push(structs),
                _ => return row,
            }
        }
        values.len()
    }

    pub(super) fn push(&mut self, structs: &[Option<Vec<CoercedValue<'_>>>]) {
        for values in structs {
            self.struct_nulls.append(values.is_some());
            for (index, member) in self.members.iter_mut().enumerate() {
                member.push(values.as_ref().map_or(JsonValue::Null, |values| values[index].as_json_value()));
            }
        }
        self.push_offset();
        self.nulls.append_non_null();
    }

    pub(super) fn push_null(&mut self) {
        self.push_offset();
        self.nulls.append_null();
    }

    fn push_offset(&mut self) {
        self.offsets.push(i32::try_from(self.struct_nulls.len()).expect("fewer structs than bytes"));
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        self.offsets.truncate(num_rows + 1);
        self.nulls.truncate(num_rows);
        let num_structs = position(self.offsets[num_rows]);
        self.struct_nulls.truncate(num_structs);
        self.members.iter_mut().for_each(|member| member.truncate(num_structs));
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.members.iter().map(M::num_bytes).sum::<usize>()
            + self.offsets.capacity() * size_of::<i32>()
            + (self.nulls.allocated_size() + self.struct_nulls.allocated_size()) / 8
    }

    pub(super) fn append(&mut self, mut other: Self) {
        let start = self.offsets[self.offsets.len() - 1];
        self.offsets.extend(other.offsets[1..].iter().map(|offset| start + offset));
        append_nulls(&mut self.nulls, &mut other.nulls);
        append_nulls(&mut self.struct_nulls, &mut other.struct_nulls);
        for (member, other) in self.members.iter_mut().zip(other.members) {
            member.append(other);
        }
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> ListArray {
        let mut structs: Vec<u32> = Vec::with_capacity(self.struct_nulls.len());
        let mut ends = Vec::with_capacity(self.offsets.len());
        ends.push(0);
        for row in order {
            let (start, end) = (self.offsets[*row as usize], self.offsets[*row as usize + 1]);
            structs.extend((start..end).map(i32::cast_unsigned));
            ends.push(ends[ends.len() - 1] + (end - start));
        }
        self.offsets.truncate(1);
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
        ListArray::new(element, offsets, structs, ordered_nulls(&mut self.nulls, order))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.members.iter().for_each(|member| member.write_to(out));
        put(self.struct_nulls.len(), out);
        (0..self.struct_nulls.len()).for_each(|at| out.push(u8::from(self.struct_nulls.is_valid(at))));
        put(self.offsets.len() - 1, out);
        for (row, ends) in self.offsets.windows(2).enumerate() {
            let is_valid = self.nulls.is_valid(row);
            put(if is_valid { position(ends[1] - ends[0]) } else { NULL_LIST as usize }, out);
        }
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        self.members.iter_mut().for_each(|member| member.read_from(bytes));
        let num_structs = bytes.number();
        bytes.take(num_structs).iter().for_each(|is_valid| self.struct_nulls.append(*is_valid == 1));
        let mut end = 0;
        for _ in 0..bytes.number() {
            let len = bytes.word();
            self.nulls.append(len != NULL_LIST);
            end += if len == NULL_LIST { 0 } else { len };
            self.offsets.push(i32::try_from(end).expect("fewer structs than bytes"));
        }
    }
}
