//! The fastest path: takes records that are written as those before them; gives their rows.
//!
//! One program writes all exports: names come in one order, with the same white space, and records
//! differ only in which of them are left out. The bytes between two values are therefore predicted from
//! the records before, and values are expected right behind them (the idea of Mison and of Fad.js).
//! First this finds the values of many records, whatever their partitions; then each column of a partition
//! reads its own.
//!
//! All input is still validated: the bytes between values are equal to those that a parser has read
//! there before, and each text is validated itself or equal to one that was. Anything else does not
//! match: nothing has changed then, and simd-json's tape reads the record, from which the template
//! learns.

use schema::ColumnType;

use super::column::MAX_ROWS;
use super::column::dictionary::Lookups;
use super::field_map::{FieldMap, Names, OTHER_NAMES_INDEX, Target};
use super::json::Reader;
use super::lost_columns::LostColumns;
use super::record_partitions::RecordPartitions;
use super::row_sink::RowSink;
use super::spans::{MAX_SPAN_RECORDS, RecordSpans, Span};
use super::value_end;
use crate::byte_search::{Prefix, begins_alike, content_len};

/// Longest text that is read at a time, and so of a record that is predicted.
const MAX_RUN_BYTES: usize = 1024 * 1024;

/// Most members that are predicted, one bit each.
const MAX_MEMBERS: usize = u64::BITS as usize;

/// Records of another order after which the template stops learning, which costs as much as parsing.
const MAX_FORGOTTEN: u32 = 256;

/// Records that were read one after the other.
#[derive(Debug)]
pub struct MatchedRecords {
    /// Bytes from the start of the first record to the end of the last.
    pub len: usize,
    /// Line feeds among them.
    pub num_lines: u64,
    /// How many records.
    pub num_rows: usize,
    /// Whether the columns of a partition take no more.
    pub is_full: bool,
}

/// What became of the records that were found.
#[derive(Debug, Clone, Copy)]
struct Pushed {
    /// How many are rows, from the first on.
    num_rows: usize,
    is_full: bool,
    /// Whether it is an unpredicted value that the next one has.
    is_unpredicted: bool,
}

/// Predicts the bytes between the values of the next records.
#[derive(Debug)]
pub struct RecordTemplate {
    /// Every member seen, in their order. A record has some of them.
    members: Vec<TemplateMember>,
    /// The slots that they have, a bit for each.
    all_slots: u64,
    /// By property, the slot of its values.
    slots: Vec<Option<usize>>,
    /// From the last value to the end.
    tail: Prefix,
    num_forgotten: u32,
    spans: RecordSpans,
    partitions: RecordPartitions,
    /// The spans with the records of each partition together.
    by_partition: RecordSpans,
    lookups: Lookups,
    /// Most records to read next: few after an unpredicted value, so that not many are found in vain.
    max_rows: usize,
}

#[derive(Debug, Clone)]
struct TemplateMember {
    /// From the comma or brace before the name, without it, to the value: `"DeviceName":`.
    lead: Prefix,
    target: Target,
    value: ValueKind,
    /// Which values of the records are its: the first member of one target says it for all.
    slot: usize,
}

/// The documented kind of a member's value, beside null.
#[derive(Debug, Clone, Copy)]
enum ValueKind {
    String,
    Strings,
    Integer,
    Scalar,
    Any,
    Undocumented,
}

impl Default for RecordTemplate {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            all_slots: 0,
            slots: Vec::new(),
            tail: Prefix::new(b""),
            num_forgotten: 0,
            spans: RecordSpans::default(),
            partitions: RecordPartitions::default(),
            by_partition: RecordSpans::default(),
            lookups: Lookups::default(),
            max_rows: MAX_SPAN_RECORDS,
        }
    }
}

impl RecordTemplate {
    /// Reads records from the start of `text` on into the columns of their partitions, until one was
    /// not predicted. With `are_lines`, each is a line of its own; else commas are between them.
    /// Returns `None` if the first record does not match; nothing has changed then.
    pub fn decode(
        &mut self,
        text: &[u8],
        are_lines: bool,
        sink: &mut impl RowSink,
        field_map: &FieldMap,
        names: &mut Names,
    ) -> Option<MatchedRecords> {
        let text = &text[..text.len().min(MAX_RUN_BYTES)];
        self.find(text, are_lines, field_map);
        if self.spans.ends().is_empty() {
            return None;
        }
        let Pushed { num_rows, is_full, is_unpredicted } = self.push(text, sink);
        self.max_rows = if is_unpredicted { 1 } else { MAX_SPAN_RECORDS.min(2 * self.max_rows) };
        let last = num_rows.checked_sub(1)?;
        for (slot, member) in self.members.iter().enumerate() {
            if let Target::Undocumented(index) = member.target
                && member.slot == slot
            {
                let values = self.spans.values(slot, 0..num_rows).iter();
                names.count(index, values.filter(|value| **value != Span::NULL).count() as u64);
            }
        }
        let num_lines = if are_lines { last as u64 } else { 0 };
        Some(MatchedRecords { len: self.spans.ends()[last], num_lines, num_rows, is_full })
    }

    /// Adds the records that were found to the columns of their partitions, up to the first that has an
    /// unpredicted value or whose columns are full.
    fn push(&mut self, text: &[u8], sink: &mut impl RowSink) -> Pushed {
        let Self { spans, partitions, by_partition, slots, lookups, .. } = self;
        let spans = match partitions.gather() {
            None => &*spans,
            Some(order) => {
                spans.reorder(order, by_partition);
                by_partition
            }
        };
        let mut pushed = Pushed { num_rows: partitions.num_records(), is_full: false, is_unpredicted: false };
        for index in 0..partitions.groups().len() {
            let group = &partitions.groups()[index];
            let columns = sink.columns(partitions.value(group.partition));
            let num_wanted = partitions.num_before(group, pushed.num_rows);
            let num_possible = num_wanted.min(MAX_ROWS - columns.num_rows());
            let records = group.start..group.start + num_possible;
            let num_rows = columns.push_spans(text, spans, records, slots, lookups);
            pushed.is_full |= columns.num_rows() >= MAX_ROWS;
            pushed.is_unpredicted |= num_rows < num_possible;
            if num_rows < num_wanted {
                pushed.num_rows = partitions.record(group.start + num_rows);
            }
            partitions.groups_mut()[index].num_rows = num_rows;
        }
        // Records of other partitions that come behind it are read again.
        for group in partitions.groups() {
            let num_kept = partitions.num_before(group, pushed.num_rows);
            if num_kept < group.num_rows {
                let columns = sink.columns(partitions.value(group.partition));
                columns.truncate(columns.num_rows() - (group.num_rows - num_kept));
            }
        }
        pushed
    }

    /// Notes which properties have a value in the last records, of which `num_rows` became rows.
    pub fn note_values(&self, num_rows: usize, field_map: &FieldMap, lost_columns: &mut LostColumns) {
        for property in lost_columns.without_value() {
            let Some(slot) = self.slots[property] else { continue };
            // Empty text is a value of text alone.
            let column_type = field_map.properties()[property].column_type;
            let is_text = matches!(
                column_type,
                ColumnType::Utf8 | ColumnType::Json | ColumnType::Utf8List | ColumnType::StructList(_)
            );
            let is_value = |value: &Span| *value != Span::NULL && (is_text || !value.is_empty());
            if self.spans.values(slot, 0..num_rows).iter().any(is_value) {
                lost_columns.note_value(property);
            }
        }
    }

    /// Finds the values of some records, none if the first does not match.
    fn find(&mut self, text: &[u8], are_lines: bool, field_map: &FieldMap) {
        self.spans.begin(self.members.len());
        self.partitions.begin();
        let mut at = 0;
        while self.spans.ends().len() < self.max_rows {
            let Some(end) = self.find_record(text, at, are_lines, field_map) else { break };
            self.spans.end_record(end);
            at = match text[end..] {
                [b'\n', b'{', ..] if are_lines => end + 1,
                [b'\r', b'\n', b'{', ..] if are_lines => end + 2,
                [b',', b'{', ..] if !are_lines => end + 1,
                _ => break,
            };
        }
    }

    /// Finds the values of the record at `at`, and its partition; returns where it ends.
    #[inline]
    fn find_record(&mut self, text: &[u8], at: usize, is_line: bool, field_map: &FieldMap) -> Option<usize> {
        if text.get(at) != Some(&b'{') {
            return None;
        }
        let end = find_values(&self.members, self.all_slots, &mut self.spans, text, at)?;
        if !self.tail.begins(&text[end..]) {
            return None;
        }
        let end = end + self.tail.len();
        if is_line && !matches!(text[end..], [b'\n', ..] | [b'\r', b'\n', ..]) {
            return None;
        }
        let mut values = |property: usize| {
            self.slots[property].map_or((Span::NULL, Span::NULL), |slot| {
                let (previous, value) = self.spans.next_value(slot);
                (previous, *value)
            })
        };
        if !is_some_text(values(field_map.required()).1) {
            return None;
        }
        let (previous, value) = field_map.partition().map_or((Span::NULL, Span::NULL), values);
        if value == previous && self.partitions.num_records() > 0 {
            self.partitions.push_same();
        } else {
            self.partitions.push(value, text, field_map)?;
        }
        Some(end)
    }

    /// Whether a record was learnt.
    pub fn is_learnt(&self) -> bool {
        !self.members.is_empty()
    }

    /// Learns from `record`, which a parser has read.
    pub fn learn(&mut self, record: &[u8], field_map: &FieldMap, names: &mut Names) {
        if self.num_forgotten > MAX_FORGOTTEN {
            return;
        }
        let Some((members, tail)) = take_apart(record, field_map, names) else { return };
        let tail = Prefix::new(&tail);
        if self.tail != tail || !self.merge(&members) {
            self.num_forgotten += u32::from(!self.members.is_empty());
            self.members = members;
            self.tail = tail;
        }
        for index in 0..self.members.len() {
            self.members[index].slot = self.slot(self.members[index].target).unwrap_or(index);
        }
        self.all_slots = self.members.iter().fold(0, |all, member| all | 1 << member.slot);
        let property = |index| self.slot(Target::Property(index));
        self.slots = (0..field_map.properties().len()).map(property).collect();
    }

    /// The first member of a target.
    fn slot(&self, target: Target) -> Option<usize> {
        self.members.iter().position(|member| member.target == target)
    }

    /// Adds the members of a record to those that are known; false where their order is another.
    fn merge(&mut self, members: &[TemplateMember]) -> bool {
        let position = |known: &[TemplateMember], member: &TemplateMember| {
            known.iter().position(|k| k.lead == member.lead)
        };
        let known: Vec<_> = members.iter().filter_map(|member| position(&self.members, member)).collect();
        let num_new = members.len() - known.len();
        if !known.is_sorted() || self.members.len() + num_new > MAX_MEMBERS {
            return false;
        }
        let mut next = 0;
        for member in members {
            next = 1 + position(&self.members, member).unwrap_or_else(|| {
                self.members.insert(next, member.clone());
                next
            });
        }
        true
    }
}

fn is_some_text(value: Span) -> bool {
    value != Span::NULL && !value.is_empty()
}

/// Finds the values of the record whose brace is at `at`; returns where the last one ends.
#[inline]
fn find_values(
    members: &[TemplateMember],
    mut unseen: u64,
    spans: &mut RecordSpans,
    text: &[u8],
    mut at: usize,
) -> Option<usize> {
    let mut rest_members = members.iter();
    loop {
        // Behind the brace or comma.
        let rest = &text[at + 1..];
        let member = rest_members.find(|member| member.lead.begins(rest))?;
        at += 1 + member.lead.len();
        let slot = member.slot;
        if unseen & (1 << slot) == 0 {
            return None;
        }
        unseen ^= 1 << slot;
        let (previous, value) = spans.next_value(slot);
        at = match member.value {
            ValueKind::String => string(text, at, previous, value)?,
            ValueKind::Strings => strings(text, at, spans, slot)?,
            ValueKind::Integer => integer(text, at, value)?,
            ValueKind::Scalar => value_end::scalar(text, at, previous, value)?,
            ValueKind::Any => value_end::any(text, at, previous, value)?,
            ValueKind::Undocumented => undocumented(text, at, previous, value)?,
        };
        if text.get(at) != Some(&b',') {
            break;
        }
    }
    while unseen != 0 {
        *spans.next_value(unseen.trailing_zeros() as usize).1 = Span::NULL;
        unseen &= unseen - 1;
    }
    Some(at)
}

/// Reads `null` at `at`; returns where it ends.
#[inline]
fn null(text: &[u8], at: usize, value: &mut Span) -> Option<usize> {
    const NULL: &[u8] = b"null";
    *value = Span::NULL;
    text[at..].starts_with(NULL).then_some(at + NULL.len())
}

/// Finds the content of the string at `at`, `previous` if it is equal; returns where the string ends.
#[expect(clippy::inline_always, reason = "a call costs as much as the comparison")]
#[inline(always)]
fn string(text: &[u8], at: usize, previous: Span, value: &mut Span) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return null(text, at, value);
    }
    let start = at + 1;
    let rest = &text[start..];
    // A device's records stand together: half of their values are those of the record before.
    if rest.get(previous.len()) == Some(&b'"')
        && begins_alike(rest, &text[previous.start()..], previous.len())
    {
        *value = previous;
        return Some(start + previous.len() + 1);
    }
    let len = content_len(rest)?;
    *value = Span::new(start, len);
    Some(start + len + 1)
}

/// Finds the list of strings at `at`, as the span of its elements, those of the record before if they are equal; returns
/// where it ends.
#[inline]
fn strings(text: &[u8], mut at: usize, spans: &mut RecordSpans, slot: usize) -> Option<usize> {
    let (previous, value) = spans.next_value(slot);
    if text.get(at) != Some(&b'[') {
        return null(text, at, value);
    }
    if let Some(list) = written_list(previous, spans.elements(slot))
        && begins_alike(&text[at..], &text[list.start()..], list.len())
    {
        *spans.next_value(slot).1 = previous;
        return Some(at + list.len());
    }
    at += 1;
    let elements = spans.elements_mut(slot);
    let first = elements.len();
    if text.get(at) == Some(&b']') {
        at += 1;
    } else {
        loop {
            let mut element = Span::NULL;
            let end = string(text, at, Span::NULL, &mut element)?;
            elements.push(element);
            at = end + 1;
            match text.get(end) {
                Some(b',') => {}
                Some(b']') => break,
                _ => return None,
            }
        }
    }
    let list = Span::new(first, elements.len() - first);
    *spans.next_value(slot).1 = list;
    Some(at)
}

/// Returns where a list lies in the text, from bracket to bracket, if a string is its first element and its last.
#[inline]
fn written_list(previous: Span, elements: &[Span]) -> Option<Span> {
    if previous == Span::NULL {
        return None;
    }
    let elements = &elements[previous.start()..][..previous.len()];
    let (first, last) = (*elements.first()?, *elements.last()?);
    if first == Span::NULL || last == Span::NULL {
        return None;
    }
    // A bracket and a quote are before the first content and behind the last.
    let (start, end) = (first.start() - 2, last.start() + last.len() + 2);
    Some(Span::new(start, end - start))
}

/// Finds the digits at `at`; returns where they end.
#[inline]
fn integer(text: &[u8], at: usize, value: &mut Span) -> Option<usize> {
    let len = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return null(text, at, value);
    }
    *value = Span::new(at, len);
    Some(at + len)
}

/// Finds any value at `at`, `previous` if it is equal; returns where it ends.
#[inline]
fn undocumented(text: &[u8], at: usize, previous: Span, value: &mut Span) -> Option<usize> {
    if let Some(end) = value_end::same(text, at, previous, value) {
        return Some(end);
    }
    let mut reader = Reader::new(&text[at..]);
    // The record's object is around it.
    let (_, raw) = reader.value(1).ok()?;
    if reader.position() != raw.len() || memchr::memchr(b'\n', raw).is_some() {
        return None;
    }
    *value = Span::new(at, raw.len());
    Some(at + raw.len())
}

fn value_kind(target: Target, field_map: &FieldMap) -> ValueKind {
    match target {
        Target::Undocumented(_) => ValueKind::Undocumented,
        Target::Property(property) => match field_map.properties()[property].column_type {
            ColumnType::Utf8 | ColumnType::TimestampMicros | ColumnType::Date32 => ValueKind::String,
            ColumnType::Utf8List => ValueKind::Strings,
            ColumnType::Int32 | ColumnType::Int64 => ValueKind::Integer,
            ColumnType::Float64 | ColumnType::Boolean => ValueKind::Scalar,
            ColumnType::Json | ColumnType::StructList(_) => ValueKind::Any,
        },
    }
}

/// Returns the members of a record and what follows the last; `None` if it cannot be predicted.
fn take_apart(
    record: &[u8],
    field_map: &FieldMap,
    names: &mut Names,
) -> Option<(Vec<TemplateMember>, Vec<u8>)> {
    let mut reader = Reader::new(record.strip_prefix(b"{")?);
    let record = &record[1..];
    let mut members = Vec::new();
    let tail;
    loop {
        let start = reader.position();
        reader.skip_whitespace();
        if record.get(reader.position()) != Some(&b'"') {
            return None;
        }
        let name = reader.string().ok()?;
        reader.pass(b':')?;
        reader.skip_whitespace();
        let lead = &record[start..reader.position()];
        reader.value(1).ok()?;
        let target = names.resolve(field_map, &name);
        let is_predictable = match target {
            Target::Property(_) => true,
            Target::Undocumented(index) => index != OTHER_NAMES_INDEX && !field_map.captures_extra_fields(),
        };
        if !is_predictable || members.len() == MAX_MEMBERS || memchr::memchr(b'\n', lead).is_some() {
            return None;
        }
        let value = value_kind(target, field_map);
        members.push(TemplateMember { lead: Prefix::new(lead), target, value, slot: members.len() });
        let end = reader.position();
        if reader.pass(b',').is_none() {
            tail = &record[end..];
            break;
        }
    }
    (memchr::memchr(b'\n', tail).is_none()).then(|| (members, tail.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::ArrayRef;
    use arrow_schema::DataType;

    use super::super::column::{self, Columns};
    use super::super::reject::Reject;
    use super::*;

    struct Fixture {
        template: RecordTemplate,
        field_map: FieldMap,
        names: Names,
        sink: Partitions,
    }

    /// Columns by partition.
    #[derive(Default)]
    struct Partitions(BTreeMap<Option<String>, Columns>);

    impl RowSink for Partitions {
        fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
            let new = || Columns::new(&FieldMap::new(schema::DATASETS[0], false));
            self.0.entry(partition.map(str::to_owned)).or_insert_with(new)
        }

        fn reject(&mut self, reject: Reject) {
            panic!("{reject:?}");
        }
    }

    impl Fixture {
        /// Begins with what one record looks like.
        fn from(record: &str) -> Self {
            let field_map = FieldMap::new(schema::DATASETS[0], false);
            let mut this = Self {
                template: RecordTemplate::default(),
                field_map,
                names: Names::new(),
                sink: Partitions::default(),
            };
            this.learn(record);
            this
        }

        fn learn(&mut self, record: &str) {
            self.template.learn(record.as_bytes(), &self.field_map, &mut self.names);
        }

        /// Returns the bytes and the number of the records that match.
        fn decode(&mut self, text: &str, are_lines: bool) -> Option<(usize, usize)> {
            let Self { template, field_map, names, sink } = self;
            let matched = template.decode(text.as_bytes(), are_lines, sink, field_map, names)?;
            Some((matched.len, matched.num_rows))
        }

        fn num_rows(&self) -> Vec<(Option<&str>, usize)> {
            self.sink.0.iter().map(|(key, columns)| (key.as_deref(), columns.num_rows())).collect()
        }

        /// The columns of each partition. Texts that no row has any more may be left in a dictionary.
        fn rows(self) -> Vec<(Option<String>, Vec<Option<ArrayRef>>)> {
            let plain = |array: ArrayRef| {
                let data_type = match array.data_type() {
                    DataType::Dictionary(_, _) => DataType::Utf8,
                    DataType::List(_) => DataType::new_list(DataType::Utf8, true),
                    other => other.clone(),
                };
                column::plain(array, &data_type)
            };
            let rows = self.sink.0.into_iter().map(|(key, mut columns)| {
                let order: Vec<u32> = (0..).take(columns.num_rows()).collect();
                let properties = columns.finish(&order).properties.into_iter();
                (key, properties.map(|array| array.map(plain)).collect())
            });
            rows.collect()
        }
    }

    const RECORD: &str =
        r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":1,"x":[1],"DiskPaths":["/a"]}"#;

    #[test]
    fn similar_records_are_read_together() {
        let without = r#"{"DeviceId":"b","OSPlatform":"Linux","x":{"y":"}"}}"#;
        let text = format!("{RECORD}\n{RECORD}\r\n{without}\n{RECORD}\n");
        let mut predicted = Fixture::from(RECORD);
        assert_eq!(predicted.decode(&text, true).unwrap(), (text.len() - 1, 4));
        assert_eq!(predicted.num_rows(), [(Some("Linux"), 4)]);
        assert_eq!(predicted.names.undocumented().collect::<Vec<_>>(), [("x", 4)]);
        let text = format!("{RECORD},{without}]");
        assert_eq!(predicted.decode(&text, false).unwrap(), (text.len() - 1, 2));
    }

    #[test]
    fn members_that_were_left_out_before_are_learnt() {
        let mut predicted = Fixture::from(r#"{"DeviceId":"a","OSPlatform":"Linux"}"#);
        let text = format!("{RECORD}\n");
        assert_eq!(predicted.decode(&text, true), None);
        predicted.learn(RECORD);
        assert_eq!(predicted.decode(&text, true).unwrap(), (RECORD.len(), 1));
        let other_order = r#"{"OSPlatform":"Linux","DeviceId":"a"}"#;
        predicted.learn(other_order);
        assert_eq!(predicted.decode(&format!("{other_order}\n"), true).unwrap(), (other_order.len(), 1));
    }

    /// Has every kind of value.
    const FULL: &str = r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":1,"DiskPaths":["/a","/b"],"SoftwareFirstSeenTimestamp":"2021-01-11 00:00:00"}"#;

    /// A value of [`FULL`], and what is unpredicted in its place.
    const UNPREDICTED: [(&str, &str); 4] = [
        (r#""NumberOfWeaknesses":1"#, r#""NumberOfWeaknesses":01"#),
        (r#""/b""#, r#""\x""#),
        ("2021-01-11", "2021-02-30"),
        (r#""DeviceId":"a""#, r#""DeviceId":"\ud800""#),
    ];

    #[test]
    fn reading_ends_before_an_unpredicted_value() {
        for (valid, unpredicted) in UNPREDICTED {
            let broken = FULL.replace(valid, unpredicted);
            let text = format!("{FULL}\n{FULL}\n{broken}\n{FULL}\n");
            let mut predicted = Fixture::from(FULL);
            let len = 2 * FULL.len() + 1;
            assert_eq!(predicted.decode(&text, true).unwrap(), (len, 2), "{broken}");
            assert_eq!(predicted.decode(&text[len + 1..], true), None, "{broken}");
            let rest = &text[text.len() - FULL.len() - 1..];
            assert_eq!(predicted.decode(rest, true).unwrap(), (FULL.len(), 1));
            // As if the broken one had never been there.
            let mut expected = Fixture::from(FULL);
            expected.decode(&format!("{FULL}\n{FULL}\n{FULL}\n"), true).unwrap();
            assert!(predicted.rows() == expected.rows(), "{broken}");
        }
    }

    /// A record of a platform, whose device and paths tell it from others.
    fn record(platform: &str, number: usize) -> String {
        let device = FULL.replace(r#""a""#, &format!("\"d{number}\""));
        let paths = (0..number % 3).map(|path| format!("\"/{number}/{path}\"")).collect::<Vec<_>>().join(",");
        device.replace(r#""/a","/b""#, &paths).replace("\"Linux\"", platform)
    }

    const PLATFORMS: [&str; 5] = ["\"Linux\"", "\"macOS\"", "null", "\"Windows 11\"", "\"\""];

    #[test]
    fn partitions_may_change_in_every_record() {
        let records: Vec<String> = (0..400).map(|number| record(PLATFORMS[number * 7 % 5], number)).collect();
        let text = records.join("\n") + "\n";
        let mut mixed = Fixture::from(FULL);
        assert_eq!(mixed.decode(&text, true).unwrap(), (text.len() - 1, 400));
        let partitions = [(None, 160), (Some("Linux"), 80), (Some("Windows 11"), 80), (Some("macOS"), 80)];
        assert_eq!(mixed.num_rows(), partitions);
        let mut one_by_one = Fixture::from(FULL);
        for record in &records {
            assert_eq!(one_by_one.decode(&format!("{record}\n"), true).unwrap(), (record.len(), 1));
        }
        assert!(mixed.rows() == one_by_one.rows());
    }

    #[test]
    fn unpredicted_value_ends_every_partition() {
        for (valid, unpredicted) in UNPREDICTED {
            // The first is of the partition that is read first, the others of later ones.
            for broken in [201, 202, 203, 204] {
                let records: Vec<String> =
                    (0..400).map(|number| record(PLATFORMS[number % 5], number)).collect();
                let valid =
                    valid.replace("\"a\"", &format!("\"d{broken}\"")).replace("/b", &format!("/{broken}/1"));
                let mut text = records.join("\n") + "\n";
                let len = records[..broken].join("\n").len();
                let rest = text.split_off(len + 1);
                let rest = rest.replacen(&valid, unpredicted, 1);
                if rest.starts_with(&records[broken]) {
                    // It has no path to be changed.
                    continue;
                }
                let mut mixed = Fixture::from(FULL);
                assert_eq!(mixed.decode(&(text + &rest), true).unwrap(), (len, broken), "{unpredicted}");
                let mut expected = Fixture::from(FULL);
                expected.decode(&(records[..broken].join("\n") + "\n"), true).unwrap();
                assert!(mixed.rows() == expected.rows(), "{unpredicted} in {broken}");
            }
        }
    }

    #[test]
    fn full_columns_end_every_partition() {
        let mut mixed = Fixture::from(FULL);
        let linux = vec![FULL; MAX_SPAN_RECORDS].join("\n") + "\n";
        while mixed.num_rows().first().map_or(0, |first| first.1) + 2 * MAX_SPAN_RECORDS <= MAX_ROWS {
            mixed.decode(&linux, true).unwrap();
        }
        let num_linux = mixed.num_rows()[0].1;
        let records: Vec<String> = (0..600).map(|number| record(PLATFORMS[number % 2], number)).collect();
        let (mut rest, mut num_rows) = (records.join("\n") + "\n", 0);
        while num_rows < records.len() && mixed.sink.columns(Some("Linux")).num_rows() < MAX_ROWS {
            let (len, num_read) = mixed.decode(&rest, true).unwrap();
            rest.drain(..=len);
            num_rows += num_read;
            let num_linux_read = num_rows.div_ceil(2);
            assert_eq!(
                mixed.num_rows(),
                [(Some("Linux"), num_linux + num_linux_read), (Some("macOS"), num_rows / 2)]
            );
        }
        // Until they are full, and not a record further.
        let rest_of_linux = vec![FULL; MAX_SPAN_RECORDS].join("\n") + "\n";
        loop {
            let before = mixed.sink.columns(Some("Linux")).num_rows();
            if before == MAX_ROWS {
                break;
            }
            let text = format!("{}\n{rest_of_linux}", record("\"macOS\"", 1));
            mixed.decode(&text, true).unwrap();
        }
        assert_eq!(mixed.num_rows()[0], (Some("Linux"), MAX_ROWS));
    }

    /// Records that are partly as the one before, whose members come and go, read all at once and each alone.
    #[test]
    fn what_is_as_before_is_read_as_if_it_were_not() {
        let members = [
            [r#""DeviceId":"a""#, r#""DeviceId":"ab""#],
            [r#""OSPlatform":"Linux""#, r#""OSPlatform":null"#],
            [r#""NumberOfWeaknesses":1"#, r#""NumberOfWeaknesses":12"#],
            [r#""x":[1]"#, r#""x":[1,2]"#],
            [r#""DiskPaths":["/a","/b"]"#, r#""DiskPaths":["/a"]"#],
            [r#""RegistryPaths":[]"#, r#""RegistryPaths":[null,"/a"]"#],
        ];
        let whole = format!("{{{}}}", members.map(|[member, _]| member).join(","));
        // Each member is the one or the other, or left out; the first is not.
        let record = |mut number: usize| {
            let shown = members.iter().enumerate().filter_map(|(index, member)| {
                let digit = number % 3;
                number /= 3;
                if index == 0 { Some(member[digit % 2]) } else { member.get(digit).copied() }
            });
            format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
        };
        let records: Vec<String> = (0..900).map(|step| record(step / 3 * 7 + step % 3 / 2)).collect();
        let text = records.join("\n") + "\n";
        let (mut together, mut one_by_one) = (Fixture::from(&whole), Fixture::from(&whole));
        assert_eq!(together.decode(&text, true).unwrap(), (text.len() - 1, records.len()));
        for record in &records {
            assert_eq!(one_by_one.decode(&format!("{record}\n"), true).unwrap(), (record.len(), 1));
        }
        let counted =
            |fixture: &Fixture| fixture.names.undocumented().map(|(_, count)| count).collect::<Vec<_>>();
        assert_eq!(counted(&together), counted(&one_by_one));
        assert!(together.rows() == one_by_one.rows());
    }

    #[test]
    fn mismatch_leaves_nothing_behind() {
        let mut predicted = Fixture::from(RECORD);
        let long = "x".repeat(300);
        for record in [
            r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":1.5}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":01}"#,
            r#"{"DeviceId":"","OSPlatform":"Linux"}"#,
            r#"{"OSPlatform":"Linux"}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux"} "#,
            r#"{"DeviceId":"a","OSPlatform":"Lin\u0075x"}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","DiskPaths":["/a" ]}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","DiskPaths":["/a""#,
            &RECORD.replace("Linux", &long),
        ] {
            assert_eq!(predicted.decode(&format!("{record}\n"), true), None, "{record}");
        }
        assert!(predicted.num_rows().iter().all(|(_, num_rows)| *num_rows == 0));
        assert_eq!(predicted.names.undocumented().count(), 0);
        let invalid = format!("{RECORD}\n{}\n", RECORD.replace("/a", r"\x"));
        assert_eq!(predicted.decode(&invalid, true).unwrap(), (RECORD.len(), 1));
        assert_eq!(predicted.decode(&invalid[RECORD.len() + 1..], true), None);
        assert_eq!(predicted.num_rows(), [(Some("Linux"), 1)]);
        assert_eq!(predicted.names.undocumented().collect::<Vec<_>>(), [("x", 1)]);
    }
}
