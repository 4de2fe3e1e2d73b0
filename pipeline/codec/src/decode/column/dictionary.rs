//! Takes the content of JSON strings as it stands in the text; gives each different one a key.
//!
//! Columns repeat themselves: a text is validated, and unescaped, once for a whole row group and
//! then only compared. Two spellings of one text (`A`, `\u0041`) are two entries. A column whose contents do not repeat is
//! not looked up: each value is an entry then.

use std::hash::{BuildHasher, Hasher};

use arrow_array::StringArray;
use arrow_array::builder::make_view;
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use foldhash::fast::RandomState;

use crate::byte_search::{
    ROOM_BYTES, begins_alike, first_word, has_escaped_backslashes, unescape_backslashes,
};
use crate::decode::arena::Arena;
use crate::decode::json::{self, Reader};
use crate::decode::spans::Span;

/// The content is not that of a JSON string: bad Unicode, a control character, an invalid escape.
#[derive(Debug)]
pub struct Invalid;

/// Contents that are looked up together.
const MAX_LOOKUPS: usize = 512;

/// Rows after which it is asked whether contents repeat.
const TRIAL_ROWS: usize = 8192;

/// One of so many rows has a content of another if they do.
const LEAST_REPEATS: usize = 64;

/// Stands for null among keys.
pub const NULL_KEY: u32 = u32::MAX;

/// Distinct contents of one column and row group, in the order of their first occurrence.
#[derive(Debug)]
pub struct Dictionary {
    /// Open addressing: an entry lies at its hash's place or behind, before the next free slot. A
    /// power of two of slots, three quarters of them used at most; none at first.
    slots: Vec<Slot>,
    hasher: RandomState,
    /// Where each entry begins among all, and the end of the last.
    offsets: Vec<i32>,
    contents: Arena,
    has_escapes: bool,
    repeats: Repeats,
}

/// Whether contents repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// It is not known after so many rows.
    Unknown { num_rows: usize },
    /// Equal contents have one key.
    Yes,
    /// Contents are not looked up.
    No,
}

/// What [`Dictionary::intern_all`] works with, to be used again for whichever dictionary.
#[derive(Debug, Default)]
pub struct Lookups {
    lookups: Vec<Lookup>,
    /// For the keys of lists' elements, which are not always those of a column.
    pub element_keys: Vec<u32>,
}

/// All that a lookup needs but the content itself: it waits for memory twice, not four times.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    key: u32,
    content: Span,
}

impl Slot {
    /// No content is that long.
    const FREE: Self = Self { hash: 0, key: NULL_KEY, content: Span::NULL };

    /// Whether it is of `content`, whose hash is given; `contents` are those of the dictionary.
    #[inline]
    fn holds(&self, hash: u32, content: Content<'_>, contents: &Arena) -> bool {
        self.hash == hash
            && self.content.len() == content.len
            && begins_alike(content.text, contents.at(self.content.start()), content.len)
    }
}

/// The content of a string, and what stands behind it.
#[derive(Debug, Clone, Copy)]
struct Content<'t> {
    text: &'t [u8],
    len: usize,
}

impl<'t> Content<'t> {
    #[inline]
    fn at(span: Span, text: &'t [u8]) -> Self {
        Self { text: &text[span.start()..], len: span.len() }
    }
}

/// A content that is looked up, and what lies at its hash's place.
#[derive(Debug, Clone, Copy)]
struct Lookup {
    span: Span,
    hash: u32,
    num_repeats: u32,
    slot: Slot,
}

impl Dictionary {
    /// Begins with no entry and no memory.
    pub fn new() -> Self {
        Self::with(Repeats::Unknown { num_rows: 0 })
    }

    /// Begins without, and gives equal contents one key, however few there are.
    pub fn exact() -> Self {
        Self::with(Repeats::Yes)
    }

    fn with(repeats: Repeats) -> Self {
        Self {
            slots: Vec::new(),
            hasher: RandomState::default(),
            offsets: vec![0],
            contents: Arena::default(),
            has_escapes: false,
            repeats,
        }
    }

    /// Appends the key of each span's content to `keys`, null for null.
    ///
    /// Hashes all, then looks where all of them should be, then compares all: a large dictionary is
    /// far from the core, and in a loop of nothing else one wait for memory is that of many lookups.
    ///
    /// # Errors
    ///
    /// If a new content is [`Invalid`]; those before it have their keys then.
    pub fn intern_all(
        &mut self,
        text: &[u8],
        spans: &[Span],
        keys: &mut Vec<u32>,
        Lookups { lookups, .. }: &mut Lookups,
    ) -> Result<(), Invalid> {
        for spans in spans.chunks(MAX_LOOKUPS) {
            if self.repeats == Repeats::No {
                self.append_some(text, spans, keys)?;
            } else {
                self.intern_some(text, spans, keys, lookups)?;
                self.try_out(spans.len());
            }
        }
        Ok(())
    }

    /// Counts rows that were looked up until it is known whether that is of use.
    fn try_out(&mut self, num_rows: usize) {
        let Repeats::Unknown { num_rows: num_before } = self.repeats else { return };
        let num_rows = num_before + num_rows;
        let num_found = num_rows.saturating_sub(self.num_entries());
        if num_rows < TRIAL_ROWS {
            self.repeats = Repeats::Unknown { num_rows };
        } else if num_found >= num_rows / LEAST_REPEATS {
            self.repeats = Repeats::Yes;
        } else {
            self.forgo_lookups();
        }
    }

    /// Makes an entry of each content that is not the one before.
    fn append_some(&mut self, text: &[u8], spans: &[Span], keys: &mut Vec<u32>) -> Result<(), Invalid> {
        let mut last = (Span::NULL, NULL_KEY);
        for span in spans {
            if *span != last.0 {
                let key = if *span == Span::NULL { NULL_KEY } else { self.append(span.of(text))?.0 };
                last = (*span, key);
            }
            keys.push(last.1);
        }
        Ok(())
    }

    fn intern_some(
        &mut self,
        text: &[u8],
        spans: &[Span],
        keys: &mut Vec<u32>,
        lookups: &mut Vec<Lookup>,
    ) -> Result<(), Invalid> {
        lookups.clear();
        for span in spans {
            match lookups.last_mut() {
                Some(last) if last.span == *span => last.num_repeats += 1,
                _ => lookups.push(Lookup {
                    span: *span,
                    hash: self.hash(span.of(text)),
                    num_repeats: 1,
                    slot: Slot::FREE,
                }),
            }
        }
        if let Some(mask) = self.slots.len().checked_sub(1) {
            let slots = &self.slots[..=mask];
            for lookup in &mut *lookups {
                lookup.slot = slots[lookup.hash as usize & mask];
            }
        }
        lookups.iter().try_for_each(|lookup| {
            let key = if lookup.span == Span::NULL {
                NULL_KEY
            } else {
                let content = Content::at(lookup.span, text);
                if lookup.slot.holds(lookup.hash, content, &self.contents) {
                    lookup.slot.key
                } else {
                    self.find(content, lookup.hash)?
                }
            };
            keys.extend(std::iter::repeat_n(key, lookup.num_repeats as usize));
            Ok(())
        })
    }

    /// The key of `content`, the bytes between the quotes of a JSON string. A new one is validated, and every one is
    /// new if contents do not repeat.
    ///
    /// # Errors
    ///
    /// [`Invalid`], and nothing has changed.
    ///
    /// # Panics
    ///
    /// Beyond 2 GiB of distinct text; a row group has far less.
    pub fn intern(&mut self, content: &[u8]) -> Result<u32, Invalid> {
        if self.repeats == Repeats::No {
            return Ok(self.append(content)?.0);
        }
        self.find(Content { text: content, len: content.len() }, self.hash(content))
    }

    #[inline]
    fn hash(&self, content: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(content);
        #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
        let hash = hasher.finish() as u32;
        hash
    }

    fn find(&mut self, content: Content<'_>, hash: u32) -> Result<u32, Invalid> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut place = hash as usize & mask;
        while let Some(slot) = self.slots.get(place)
            && slot.key != NULL_KEY
        {
            if slot.holds(hash, content, &self.contents) {
                return Ok(slot.key);
            }
            place = (place + 1) & mask;
        }
        self.insert(&content.text[..content.len], hash)
    }

    #[cold]
    fn insert(&mut self, content: &[u8], hash: u32) -> Result<u32, Invalid> {
        let num_entries = self.num_entries();
        let (key, content) = self.append(content)?;
        if num_entries >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        self.place(Slot { hash, key, content });
        Ok(key)
    }

    /// Makes an entry; returns its key, and its place among the contents.
    fn append(&mut self, content: &[u8]) -> Result<(u32, Span), Invalid> {
        self.has_escapes |= check(content)?;
        let num_entries = self.num_entries();
        let key = u32::try_from(num_entries).expect("fewer entries than bytes");
        let end = position(self.offsets[num_entries]) + content.len();
        self.offsets.push(i32::try_from(end).expect("a row group's text is below 2 GiB"));
        Ok((key, Span::new(self.contents.push(content), content.len())))
    }

    fn grow(&mut self) {
        /// A cache line, four times.
        const LEAST_SLOTS: usize = 16;
        let num_slots = (2 * self.slots.len()).max(LEAST_SLOTS);
        let slots = std::mem::replace(&mut self.slots, vec![Slot::FREE; num_slots]);
        slots.into_iter().filter(|slot| slot.key != NULL_KEY).for_each(|slot| self.place(slot));
    }

    /// Puts a slot where it belongs; there is room.
    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut place = slot.hash as usize & mask;
        while self.slots[place].key != NULL_KEY {
            place = (place + 1) & mask;
        }
        self.slots[place] = slot;
    }

    /// Returns the key of a text, which is not escaped as JSON.
    pub fn intern_text(&mut self, text: &str) -> u32 {
        let is_content = text.bytes().all(|byte| !matches!(byte, 0..=0x1f | b'"' | b'\\'));
        let key = if is_content {
            self.intern(text.as_bytes())
        } else {
            let quoted = serde_json::to_string(text).expect("text is JSON text");
            self.intern(&quoted.as_bytes()[1..quoted.len() - 1])
        };
        key.expect("text is valid")
    }

    /// The keys here of the entries of `other`, in their order.
    pub fn intern_entries(&mut self, other: Self) -> Vec<u32> {
        if other.repeats == Repeats::No && self.repeats != Repeats::Yes {
            self.forgo_lookups();
        }
        if self.repeats == Repeats::No {
            return self.append_entries(other);
        }
        let intern = |content| self.intern(content).expect("its entries are valid");
        other.entries().map(intern).collect()
    }

    /// Takes over all entries of `other` as they are.
    fn append_entries(&mut self, other: Self) -> Vec<u32> {
        let end = self.offsets[self.num_entries()];
        let first = u32::try_from(self.num_entries()).expect("fewer entries than bytes");
        let keys = (first..).take(other.num_entries()).collect();
        let shifted = |offset: &i32| end.checked_add(*offset).expect("a row group's text is below 2 GiB");
        self.offsets.extend(other.offsets[1..].iter().map(shifted));
        self.contents.append(other.contents);
        self.has_escapes |= other.has_escapes;
        keys
    }

    /// Whether each value is an entry.
    pub fn is_distinct(&self) -> bool {
        self.repeats == Repeats::No
    }

    /// Makes an entry of each further value.
    pub fn forgo_lookups(&mut self) {
        self.repeats = Repeats::No;
        self.slots = Vec::new();
    }

    /// The content of each entry, in the order of the keys.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.texts(lens(&self.offsets))
    }

    /// The place of each entry among all, from one on.
    pub fn ranks(&self) -> Vec<u32> {
        let entries: Vec<&[u8]> = self.entries().collect();
        // Most are ordered by their first bytes, without a look at the text.
        let mut keys: Vec<(u64, u32)> = entries.iter().map(|entry| first_word(entry)).zip(0..).collect();
        keys.sort_unstable_by(|(word, key), (other_word, other)| {
            let rest = || entries[*key as usize].cmp(entries[*other as usize]);
            word.cmp(other_word).then_with(rest)
        });
        let mut ranks = vec![0; entries.len()];
        (1..).zip(keys).for_each(|(rank, (_, key))| ranks[key as usize] = rank);
        ranks
    }

    /// Counts the entries.
    pub fn num_entries(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.offsets.capacity() * size_of::<i32>()
            + self.contents.num_bytes()
    }

    /// Bytes that the entries take, without what is there for further ones.
    pub fn used_bytes(&self) -> usize {
        /// At most half of the slots are free behind an entry's.
        const ENTRY_BYTES: usize = 2 * size_of::<Slot>() + size_of::<i32>();
        let num_entries = self.num_entries();
        position(self.offsets[num_entries]) + num_entries * ENTRY_BYTES
    }

    /// Takes all entries as they lie, and a view of each, if each value is one and none has escapes; none are left then.
    #[expect(clippy::cast_possible_truncation, reason = "places have 32 bits")]
    pub fn take_views(&mut self) -> Option<(Vec<u128>, Vec<Buffer>)> {
        if self.repeats != Repeats::No || self.has_escapes {
            return None;
        }
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let view = |(chunk, start, text): (usize, usize, &[u8])| make_view(text, chunk as u32, start as u32);
        let views = self.contents.places(lens(&offsets)).map(view).collect();
        Some((views, self.contents.take_chunks().into_iter().map(Buffer::from_vec).collect()))
    }

    /// Takes all entries, unescaped; none are left.
    pub fn finish(&mut self) -> StringArray {
        self.slots.fill(Slot::FREE);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let (offsets, bytes) = if std::mem::take(&mut self.has_escapes) {
            unescape(&offsets, &std::mem::take(&mut self.contents))
        } else {
            (offsets, self.contents.take())
        };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from_vec(bytes), None).expect("entries are valid text")
    }
}

/// Returns whether `content`, the content of a JSON string, has escapes. Nearly all of it is printable ASCII
/// with at most an escaped backslash; any other with a backslash is read by [`Reader`].
#[expect(clippy::needless_bitwise_bool, reason = "a content is looked at at once, without a jump")]
fn check(content: &[u8]) -> Result<bool, Invalid> {
    if let Some(has_backslash) = has_escaped_backslashes(content) {
        return Ok(has_backslash);
    }
    if !content.contains(&b'\\') {
        let must_be_escaped = |any, byte: &u8| any | (*byte < 0x20) | (*byte == b'"');
        let is_plain = !content.iter().fold(false, must_be_escaped) && std::str::from_utf8(content).is_ok();
        return if is_plain { Ok(false) } else { Err(Invalid) };
    }
    let quoted = quote(content);
    let mut reader = Reader::new(&quoted);
    reader.string().map_err(|_| Invalid)?;
    if reader.position() == quoted.len() { Ok(true) } else { Err(Invalid) }
}

fn quote(content: &[u8]) -> Vec<u8> {
    [br#"""#, content, br#"""#].concat()
}

/// An offset of Arrow as a position.
pub fn position(offset: i32) -> usize {
    usize::try_from(offset).expect("offsets are not negative")
}

fn lens(offsets: &[i32]) -> impl Iterator<Item = usize> {
    offsets.windows(2).map(|ends| position(ends[1] - ends[0]))
}

/// Unescapes every entry.
fn unescape(offsets: &[i32], contents: &Arena) -> (Vec<i32>, Vec<u8>) {
    // Unescaping only shortens, and what is written at once may go on behind the end.
    let mut texts = vec![0; position(offsets[offsets.len() - 1]) + ROOM_BYTES];
    let mut ends = Vec::with_capacity(offsets.len());
    let mut len = 0;
    ends.push(0);
    for content in contents.texts(lens(offsets)) {
        len += unescape_backslashes(content, &mut texts[len..]).unwrap_or_else(|| {
            let quoted = quote(content);
            let text = json::unescape(&quoted);
            texts[len..][..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        });
        ends.push(i32::try_from(len).expect("unescaping only shortens"));
    }
    texts.truncate(len);
    (ends, texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(dictionary: &mut Dictionary) -> Vec<String> {
        dictionary.finish().iter().map(|text| text.unwrap().to_owned()).collect()
    }

    #[test]
    fn each_content_has_one_key_and_comes_out_unescaped() {
        let mut dictionary = Dictionary::new();
        let contents: [&[u8]; 8] = [
            b"",
            b"a",
            br"C:\\Program Files\\a.exe",
            br#"\"\u00e9\ud83d\ude00\n"#,
            "\u{e9}\u{7f}".as_bytes(),
            br"\\",
            br"\\\\x\/",
            b"0123456789012345678901234567890123456789",
        ];
        for round in 0..2 {
            for (key, content) in contents.iter().enumerate() {
                assert_eq!(dictionary.intern(content).unwrap() as usize, key, "round {round}");
            }
        }
        assert_eq!(dictionary.intern_text("a"), 1);
        assert_eq!(dictionary.intern_text(r"C:\Program Files\a.exe"), 2);
        let expected = [
            "",
            "a",
            r"C:\Program Files\a.exe",
            "\"\u{e9}\u{1f600}\n",
            "\u{e9}\u{7f}",
            r"\",
            r"\\x/",
            "0123456789012345678901234567890123456789",
        ];
        assert_eq!(texts(&mut dictionary), expected);
        assert_eq!(dictionary.intern(b"anew").unwrap(), 0);
        assert_eq!(texts(&mut dictionary), ["anew"]);
    }

    #[test]
    fn invalid_content_of_a_string_is_rejected() {
        let mut dictionary = Dictionary::new();
        let contents: [&[u8]; 9] = [
            b"a\x1f",
            b"\xff",
            b"\xed\xa0\x80",
            br"\",
            br"\x",
            br"\u12",
            br"\ud800",
            br"\ud800\u0041",
            br#"a"b"#,
        ];
        for content in contents {
            assert!(dictionary.intern(content).is_err(), "{}", content.escape_ascii());
        }
        assert_eq!(dictionary.intern(b"first").unwrap(), 0);
    }

    #[test]
    fn contents_that_do_not_repeat_are_not_looked_up() {
        const WIDTH: usize = 8;
        let text: Vec<u8> =
            (0..2 * TRIAL_ROWS).flat_map(|row| format!("{row:0WIDTH$}").into_bytes()).collect();
        let spans = |every: usize| (0..2 * TRIAL_ROWS).map(move |row| Span::new(row / every * WIDTH, WIDTH));
        let interned = |mut dictionary: Dictionary, every: usize| {
            let (mut keys, spans) = (Vec::new(), spans(every).collect::<Vec<_>>());
            dictionary.intern_all(&text, &spans, &mut keys, &mut Lookups::default()).unwrap();
            (dictionary, keys)
        };
        for (dictionary, is_distinct) in [(Dictionary::new(), true), (Dictionary::exact(), false)] {
            let (dictionary, keys) = interned(dictionary, 1);
            assert_eq!(dictionary.is_distinct(), is_distinct);
            assert!((0..).zip(&keys).all(|(key, found)| key == *found));
            let mut other = Dictionary::new();
            other.intern(br"\\").unwrap();
            assert_eq!(other.intern_entries(dictionary)[TRIAL_ROWS + 5] as usize, 1 + TRIAL_ROWS + 5);
            assert_eq!(other.is_distinct(), is_distinct);
            assert_eq!(other.intern(b"last").unwrap() as usize, 1 + 2 * TRIAL_ROWS);
            let texts = texts(&mut other);
            assert_eq!(
                (&*texts[0], &*texts[1 + 777], &*texts[1 + 2 * TRIAL_ROWS]),
                (r"\", "00000777", "last")
            );
        }
        let (dictionary, keys) = interned(Dictionary::new(), 2);
        assert!(!dictionary.is_distinct() && keys[2 * TRIAL_ROWS - 1] as usize == TRIAL_ROWS - 1);
    }

    /// The program ended in a panic at both.
    #[test]
    fn empty_content_has_a_key_at_every_edge_of_a_chunk() {
        const CHUNK: usize = 1 << 17;
        let full = |byte: u8| vec![byte; CHUNK];
        for contents in [
            [full(b'x'), Vec::new(), full(b'y'), b"z".to_vec()],
            [Vec::new(), vec![b'x'; CHUNK + 1], b"z".to_vec(), full(b'y')],
        ] {
            let mut dictionary = Dictionary::new();
            for round in 0..2 {
                for (key, content) in contents.iter().enumerate() {
                    assert_eq!(dictionary.intern(content).unwrap() as usize, key, "round {round}");
                }
            }
            assert_eq!(dictionary.ranks().len(), contents.len());
            let expected: Vec<_> =
                contents.iter().map(|content| String::from_utf8(content.clone()).unwrap()).collect();
            assert_eq!(texts(&mut dictionary), expected);
        }
    }
}
