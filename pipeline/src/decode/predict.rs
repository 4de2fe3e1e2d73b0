//! The fastest path: takes a record that is written as those before it; gives its row.
//!
//! Exports are written by one program: names come in one order, with the same white space, and
//! which of them are left out is all that differs. What stands between two values is therefore
//! predicted from the records before, byte for byte, and values are read where they must begin
//! (the idea of Mison and of Fad.js). Nothing is taken on trust: what stands between values is
//! equal to what a parser has read there before; a text is equal to one that has been validated,
//! or is validated itself. Whatever was not predicted is a [`Miss`]: nothing has happened then, and
//! the record goes to simd-json's tape, from which the prediction learns.

use super::binding::{Binding, Names, OTHER_NAMES_INDEX, Target};
use super::columns::{Columns, MAX_ROWS, Surprise};
use super::dictionary::begins_with;
use super::json::Reader;
use crate::partition;

/// Longest text of a run, and so of a record that is predicted.
const MAX_RUN_BYTES: usize = 1024 * 1024;

/// Most records of a run: what lies between reading them and looking up their strings stays in a
/// core's second-level cache.
const MAX_RUN_ROWS: usize = 512;

/// Most members that are predicted.
const MAX_MEMBERS: usize = 64;

/// Records of another order after which there is none to learn. It costs as much as parsing.
const MAX_FORGOTTEN: u32 = 256;

/// Records that were read one after the other.
#[derive(Debug)]
pub struct Run {
    /// Bytes from the start of the first record to the end of the last.
    pub len: usize,
    /// Line feeds among them.
    pub num_lines: u64,
    /// How many records.
    pub num_rows: usize,
}

/// Why no record was read; the columns are as before.
#[derive(Debug)]
pub enum Miss<'t> {
    /// The first one is not as predicted.
    Surprise,
    /// The first one is of another partition than the columns, and fit to name one.
    Partition(Option<&'t str>),
    /// A string in one of these bytes is invalid.
    Invalid(usize),
}

impl From<Surprise> for Miss<'_> {
    fn from(_: Surprise) -> Self {
        Self::Surprise
    }
}

/// What the next record will look like.
#[derive(Debug, Default)]
pub struct Predictor {
    /// Every member seen, in their order. A record has some of them.
    members: Vec<Member>,
    /// From the last value to the end.
    tail: Vec<u8>,
    num_forgotten: u32,
    /// The undocumented members of the run's rows, and of the row that is being read.
    undocumented: Vec<usize>,
}

#[derive(Debug)]
struct Member {
    /// From the comma or brace before the name, without it, to the value: `"DeviceName":`.
    lead: Box<[u8]>,
    target: Target,
    /// Text of an undocumented member's last value, which a parser has read.
    last: Vec<u8>,
}

impl Predictor {
    /// Reads records from the start of `text` on into `columns`, which are of `partition`, until one
    /// was not predicted. With `are_lines`, each is a line of its own; else commas are between them.
    ///
    /// # Errors
    ///
    /// [`Miss`] where there is none, and nothing has changed.
    pub fn decode<'t>(
        &mut self,
        text: &'t [u8],
        are_lines: bool,
        partition: Option<&str>,
        columns: &mut Columns,
        binding: &Binding,
        names: &mut Names,
    ) -> Result<Run, Miss<'t>> {
        let text = &text[..text.len().min(MAX_RUN_BYTES)];
        let separators: &[&[u8]] = if are_lines { &[b"\n{", b"\r\n{"] } else { &[b",{"] };
        self.undocumented.clear();
        let (mut at, mut len, mut num_rows) = (0, 0, 0);
        loop {
            let num_undocumented = self.undocumented.len();
            match self.read(text, at, are_lines, partition, columns, binding) {
                Ok(end) => {
                    columns.end_row();
                    num_rows += 1;
                    len = end;
                }
                Err(miss) => {
                    columns.undo_row();
                    self.undocumented.truncate(num_undocumented);
                    if num_rows == 0 {
                        return Err(miss);
                    }
                    break;
                }
            }
            let rest = &text[len..];
            let separator = separators.iter().find(|separator| rest.starts_with(separator));
            match separator {
                Some(separator) if num_rows < MAX_RUN_ROWS && columns.num_rows() < MAX_ROWS => {
                    at = len + separator.len() - 1;
                }
                _ => break,
            }
        }
        columns.end_run(text).map_err(|_| Miss::Invalid(len))?;
        for index in &self.undocumented {
            names.count(*index);
        }
        let num_lines = if are_lines { num_rows as u64 - 1 } else { 0 };
        Ok(Run { len, num_lines, num_rows })
    }

    /// Reads the record at `at`; returns where it ends.
    #[inline]
    fn read<'t>(
        &mut self,
        text: &'t [u8],
        mut at: usize,
        is_line: bool,
        partition: Option<&str>,
        columns: &mut Columns,
        binding: &Binding,
    ) -> Result<usize, Miss<'t>> {
        let num_undocumented = self.undocumented.len();
        if text.get(at) != Some(&b'{') {
            return Err(Miss::Surprise);
        }
        let mut found_partition = None;
        at += 1;
        let mut next = 0;
        loop {
            let rest = &text[at..];
            let skipped = self.members[next..].iter().position(|member| begins_with(rest, &member.lead));
            let Some(skipped) = skipped else { return Err(Miss::Surprise) };
            next += skipped;
            let member = &mut self.members[next];
            at += member.lead.len();
            match member.target {
                Target::Property(property) if property == binding.partition() => {
                    if found_partition.is_some() {
                        return Err(Miss::Surprise);
                    }
                    let (platform, len) = read_partition(&text[at..], partition)?;
                    found_partition = Some(platform);
                    at += len;
                }
                Target::Property(property) => at = columns.read(property, text, at)?,
                Target::Undocumented(index) => {
                    if self.undocumented[num_undocumented..].contains(&index) {
                        return Err(Miss::Surprise);
                    }
                    self.undocumented.push(index);
                    at += member.pass_over(&text[at..])?;
                }
            }
            next += 1;
            if text.get(at) != Some(&b',') {
                break;
            }
            at += 1;
        }
        let rest = &text[at..];
        if !rest.starts_with(&self.tail) {
            return Err(Miss::Surprise);
        }
        at += self.tail.len();
        if is_line && !matches!(text[at..], [b'\n', ..] | [b'\r', b'\n', ..]) {
            return Err(Miss::Surprise);
        }
        if !columns.has_text(binding.required()) {
            return Err(Miss::Surprise);
        }
        match found_partition.flatten().filter(|platform| !platform.is_empty()) {
            // Escapes and what must be escaped are not compared with a value that has neither.
            Some(found) if !found.iter().all(|byte| *byte > 0x1f && *byte != b'\\') => Err(Miss::Surprise),
            found if found == partition.map(str::as_bytes) => Ok(at),
            None => Err(Miss::Partition(None)),
            Some(found) => match std::str::from_utf8(found) {
                Ok(found) if fits_directory(binding, found) => Err(Miss::Partition(Some(found))),
                _ => Err(Miss::Surprise),
            },
        }
    }

    /// Learns from `record`, which a parser has read.
    pub fn learn(&mut self, record: &[u8], binding: &Binding, names: &mut Names) {
        if self.num_forgotten > MAX_FORGOTTEN {
            return;
        }
        let Some((members, tail)) = take_apart(record, binding, names) else { return };
        if self.tail != tail || !self.merge(&members) {
            self.num_forgotten += u32::from(!self.members.is_empty());
            self.members = members;
            self.tail = tail;
        }
    }

    /// Adds the members of a record to those that are known; false where their order is another.
    fn merge(&mut self, members: &[Member]) -> bool {
        let position = |known: &[Member], member: &Member| known.iter().position(|k| k.lead == member.lead);
        let known: Vec<_> = members.iter().filter_map(|member| position(&self.members, member)).collect();
        let num_new = members.len() - known.len();
        if !known.is_sorted() || self.members.len() + num_new > MAX_MEMBERS {
            return false;
        }
        let mut next = 0;
        for member in members {
            next = 1 + position(&self.members, member).unwrap_or_else(|| {
                let (lead, target) = (member.lead.clone(), member.target);
                self.members.insert(next, Member { lead, target, last: Vec::new() });
                next
            });
        }
        true
    }
}

impl Member {
    /// Passes over the value of an undocumented member at the start of `text`.
    fn pass_over(&mut self, text: &[u8]) -> Result<usize, Surprise> {
        let len = self.last.len();
        // The value before ended here, unless it was a number and this one is longer.
        if len > 0 && begins_with(text, &self.last) && matches!(text.get(len), Some(b',' | b'}')) {
            return Ok(len);
        }
        let mut reader = Reader::new(text);
        // The record's object is around it.
        let (_, value) = reader.value(1).map_err(|_| Surprise)?;
        if reader.position() != value.len() || memchr::memchr(b'\n', value).is_some() {
            return Err(Surprise);
        }
        self.last.clear();
        self.last.extend_from_slice(value);
        Ok(value.len())
    }
}

/// Reads the value that names the partition: its content where it is text, and its length.
fn read_partition<'t>(
    text: &'t [u8],
    partition: Option<&str>,
) -> Result<(Option<&'t [u8]>, usize), Surprise> {
    let Some((b'"', rest)) = text.split_first() else {
        return if text.starts_with(b"null") { Ok((None, b"null".len())) } else { Err(Surprise) };
    };
    if let Some(partition) = partition
        && rest.get(partition.len()) == Some(&b'"')
        && rest.starts_with(partition.as_bytes())
    {
        return Ok((Some(&rest[..partition.len()]), partition.len() + 2));
    }
    let len = memchr::memchr(b'"', rest).ok_or(Surprise)?;
    Ok((Some(&rest[..len]), len + 2))
}

fn fits_directory(binding: &Binding, value: &str) -> bool {
    partition::fits_directory(binding.properties()[binding.partition()].name, value)
}

/// The members of a record and what follows the last; `None` where it cannot be predicted.
fn take_apart(record: &[u8], binding: &Binding, names: &mut Names) -> Option<(Vec<Member>, Vec<u8>)> {
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
        let target = names.resolve(binding, &name);
        let is_predictable = match target {
            Target::Property(_) => true,
            Target::Undocumented(index) => index != OTHER_NAMES_INDEX && !binding.captures_extra_fields(),
        };
        if !is_predictable || members.len() == MAX_MEMBERS || memchr::memchr(b'\n', lead).is_some() {
            return None;
        }
        members.push(Member { lead: lead.into(), target, last: Vec::new() });
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
    use super::*;

    struct Predicted {
        predictor: Predictor,
        binding: Binding,
        names: Names,
        columns: Columns,
    }

    impl Predicted {
        /// Begins with what one record looks like.
        fn from(record: &str) -> Self {
            let binding = Binding::new(schema::DATASETS[0], false);
            let columns = Columns::new(&binding);
            let mut this = Self { predictor: Predictor::default(), binding, names: Names::new(), columns };
            this.learn(record);
            this
        }

        fn learn(&mut self, record: &str) {
            self.predictor.learn(record.as_bytes(), &self.binding, &mut self.names);
        }

        fn decode<'t>(&mut self, text: &'t str, are_lines: bool) -> Result<(usize, usize), Miss<'t>> {
            let Self { predictor, binding, names, columns } = self;
            let run = predictor.decode(text.as_bytes(), are_lines, Some("Linux"), columns, binding, names)?;
            Ok((run.len, run.num_rows))
        }
    }

    const RECORD: &str =
        r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":1,"x":[1],"DiskPaths":["/a"]}"#;

    #[test]
    fn records_that_are_alike_are_one_run() {
        let without = r#"{"DeviceId":"b","OSPlatform":"Linux","x":{"y":"}"}}"#;
        let text = format!("{RECORD}\n{RECORD}\r\n{without}\n{RECORD}\n");
        let mut predicted = Predicted::from(RECORD);
        assert_eq!(predicted.decode(&text, true).unwrap(), (text.len() - 1, 4));
        assert_eq!(predicted.columns.num_rows(), 4);
        assert_eq!(predicted.names.undocumented().collect::<Vec<_>>(), [("x", 4)]);
        let text = format!("{RECORD},{without}]");
        assert_eq!(predicted.decode(&text, false).unwrap(), (text.len() - 1, 2));
    }

    #[test]
    fn members_that_were_left_out_before_are_learnt() {
        let mut predicted = Predicted::from(r#"{"DeviceId":"a","OSPlatform":"Linux"}"#);
        let text = format!("{RECORD}\n");
        assert!(matches!(predicted.decode(&text, true), Err(Miss::Surprise)));
        predicted.learn(RECORD);
        assert_eq!(predicted.decode(&text, true).unwrap(), (RECORD.len(), 1));
        let other_order = r#"{"OSPlatform":"Linux","DeviceId":"a"}"#;
        predicted.learn(other_order);
        assert_eq!(predicted.decode(&format!("{other_order}\n"), true).unwrap(), (other_order.len(), 1));
    }

    #[test]
    fn a_miss_leaves_nothing_behind() {
        let mut predicted = Predicted::from(RECORD);
        for record in [
            r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":1.5}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","NumberOfWeaknesses":01}"#,
            r#"{"DeviceId":"","OSPlatform":"Linux"}"#,
            r#"{"OSPlatform":"Linux"}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux"} "#,
            r#"{"DeviceId":"a","OSPlatform":"Lin\u0075x"}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","DiskPaths":["/a" ]}"#,
            r#"{"DeviceId":"a","OSPlatform":"Linux","DiskPaths":["/a""#,
        ] {
            assert!(
                matches!(predicted.decode(&format!("{record}\n"), true), Err(Miss::Surprise)),
                "{record}"
            );
        }
        let other = "{\"DeviceId\":\"a\",\"OSPlatform\":\"macOS\"}\n";
        assert!(matches!(predicted.decode(other, true), Err(Miss::Partition(Some("macOS")))));
        let invalid = format!("{RECORD}\n{}\n", RECORD.replace("/a", r"\x"));
        assert!(
            matches!(predicted.decode(&invalid, true), Err(Miss::Invalid(len)) if len == invalid.len() - 1)
        );
        assert_eq!(predicted.columns.num_rows(), 0);
        assert_eq!(predicted.columns.finish(&[]).num_rows, 0);
        assert_eq!(predicted.names.undocumented().count(), 0);
    }
}
