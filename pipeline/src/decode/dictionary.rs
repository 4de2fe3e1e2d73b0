//! Takes the content of JSON strings as it stands in the text; gives each different one a key.
//!
//! Columns repeat themselves: a text is validated, and unescaped, once for a whole row group and
//! then only compared. Two spellings of one text (`A`, `\u0041`) are two entries.

use std::hash::{BuildHasher, Hasher};

use arrow_array::StringArray;
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::json::{self, Reader};

/// The content is no JSON string: bad Unicode, a control character, no escape of JSON.
#[derive(Debug)]
pub struct Invalid;

/// Where a string's content lies in the text that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Stands for no string.
    pub const NULL: Self = Self { start: 0, len: u32::MAX };

    /// Takes positions in a text of less than 4 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "texts are far smaller")]
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    /// Whether the string is `""`.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The content; empty for [`Self::NULL`].
    #[inline]
    pub fn of(self, text: &[u8]) -> &[u8] {
        if self == Self::NULL { &[] } else { &text[self.start as usize..][..self.len as usize] }
    }
}

/// Stands for null among keys.
pub const NULL_KEY: u32 = u32::MAX;

/// Distinct contents of one column and row group, in the order of their first occurrence.
#[derive(Debug)]
pub struct Dictionary {
    table: HashTable<Slot>,
    hasher: RandomState,
    /// Where each entry begins in `bytes`, and the end of the last.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    has_escapes: bool,
    hashes: Vec<u32>,
}

/// All that a lookup needs but the content itself: it waits for memory twice, not four times.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    key: u32,
    content: Span,
}

/// hashbrown takes its position from the low bits of a hash and its tag from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Dictionary {
    /// Begins with no entry and no memory.
    pub fn new() -> Self {
        Self {
            table: HashTable::new(),
            hasher: RandomState::default(),
            offsets: vec![0],
            bytes: Vec::new(),
            has_escapes: false,
            hashes: Vec::new(),
        }
    }

    /// Appends the key of each span's content to `keys`, null for null.
    ///
    /// Hashes all, then looks all up: the lookups of a large dictionary wait for memory, and in a
    /// loop of nothing else they wait together.
    ///
    /// # Errors
    ///
    /// Where a new content is [`Invalid`]; those before it have their keys then.
    pub fn intern_all(&mut self, text: &[u8], spans: &[Span], keys: &mut Vec<u32>) -> Result<(), Invalid> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let mut last = Span::NULL;
        hashes.extend(spans.iter().map(|span| {
            let is_new = std::mem::replace(&mut last, *span) != *span;
            if is_new { self.hash(span.of(text)) } else { 0 }
        }));
        let (mut last, mut last_key) = (Span::NULL, NULL_KEY);
        let interned = spans.iter().zip(&hashes).try_for_each(|(span, hash)| {
            if *span != last {
                last = *span;
                last_key = if last == Span::NULL { NULL_KEY } else { self.find(last.of(text), *hash)? };
            }
            keys.push(last_key);
            Ok(())
        });
        self.hashes = hashes;
        interned
    }

    /// The key of `content`, the bytes between the quotes of a JSON string. A new one is validated.
    ///
    /// # Errors
    ///
    /// [`Invalid`], and nothing has changed.
    ///
    /// # Panics
    ///
    /// Beyond 2 GiB of distinct text, far over what a row group is given.
    pub fn intern(&mut self, content: &[u8]) -> Result<u32, Invalid> {
        self.find(content, self.hash(content))
    }

    #[inline]
    fn hash(&self, content: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(content);
        #[expect(clippy::cast_possible_truncation, reason = "half of the hash is enough")]
        let hash = hasher.finish() as u32;
        hash
    }

    #[inline]
    fn find(&mut self, content: &[u8], hash: u32) -> Result<u32, Invalid> {
        let bytes = &self.bytes;
        let is_same = |slot: &Slot| {
            slot.hash == hash
                && slot.content.len as usize == content.len()
                && begins_with(content, slot.content.of(bytes))
        };
        match self.table.find(spread(hash), is_same) {
            Some(slot) => Ok(slot.key),
            None => self.insert(content, hash),
        }
    }

    #[cold]
    fn insert(&mut self, content: &[u8], hash: u32) -> Result<u32, Invalid> {
        self.has_escapes |= check(content)?;
        let key = u32::try_from(self.offsets.len() - 1).expect("fewer entries than bytes");
        let slot = Slot { hash, key, content: Span::new(self.bytes.len(), content.len()) };
        self.bytes.extend_from_slice(content);
        self.offsets.push(i32::try_from(self.bytes.len()).expect("a row group's text is below 2 GiB"));
        self.table.insert_unique(spread(hash), slot, |slot| spread(slot.hash));
        Ok(key)
    }

    /// The key of a text that is no JSON.
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
    pub fn intern_entries(&mut self, other: &Self) -> Vec<u32> {
        let intern = |content| self.intern(content).expect("its entries are valid");
        other.entries().map(intern).collect()
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let span = |ends: &[i32]| &self.bytes[position(ends[0])..position(ends[1])];
        self.offsets.windows(2).map(span)
    }

    /// The place of each entry among all, from one on.
    pub fn ranks(&self) -> Vec<u32> {
        let entries: Vec<&[u8]> = self.entries().collect();
        let mut keys: Vec<u32> = (0..).take(entries.len()).collect();
        keys.sort_unstable_by_key(|key| entries[*key as usize]);
        let mut ranks = vec![0; entries.len()];
        (1..).zip(keys).for_each(|(rank, key)| ranks[key as usize] = rank);
        ranks
    }

    /// Bytes held.
    pub fn num_bytes(&self) -> usize {
        self.table.allocation_size() + self.offsets.capacity() * size_of::<i32>() + self.bytes.capacity()
    }

    /// Takes all entries, unescaped, and begins anew.
    pub fn finish(&mut self) -> StringArray {
        self.table.clear();
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let (offsets, bytes) = if std::mem::take(&mut self.has_escapes) {
            let unescaped = unescape(offsets, &self.bytes);
            // Its memory has been paid for: the next row group has about as much text.
            self.bytes.clear();
            unescaped
        } else {
            (offsets, std::mem::take(&mut self.bytes))
        };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from_vec(bytes), None).expect("entries are valid text")
    }
}

/// As `text.starts_with(prefix)`, without a call where the prefix is short, as most are.
#[inline]
pub fn begins_with(text: &[u8], prefix: &[u8]) -> bool {
    let Some(text) = text.get(..prefix.len()) else { return false };
    match prefix.len() {
        8..16 => has_ends_of::<8>(text, prefix),
        16..=32 => has_ends_of::<16>(text, prefix),
        33..=64 => has_ends_of::<32>(text, prefix),
        65..=128 => has_ends_of::<64>(text, prefix),
        _ => text == prefix,
    }
}

/// Whether two texts of one length, of `N` to twice as many bytes, are equal: their first and their
/// last block cover them.
fn has_ends_of<const N: usize>(text: &[u8], other: &[u8]) -> bool {
    text.first_chunk::<N>() == other.first_chunk() && text.last_chunk::<N>() == other.last_chunk()
}

/// Whether `content` has escapes, where it is the content of a JSON string. Nearly all of it is
/// printable ASCII with at most an escaped backslash; anything else is the careful reader's.
fn check(content: &[u8]) -> Result<bool, Invalid> {
    let is_printable = content.iter().fold(true, |all, byte| all & (0x20..0x80).contains(byte));
    if is_printable {
        let mut rest = content;
        loop {
            match memchr::memchr2(b'\\', b'"', rest) {
                None => return Ok(rest.len() < content.len()),
                Some(at) if rest[at..].starts_with(br"\\") => rest = &rest[at + 2..],
                Some(_) => break,
            }
        }
    }
    let quoted = quote(content);
    let mut reader = Reader::new(&quoted);
    match reader.string() {
        Ok(_) if reader.position() == quoted.len() => Ok(content.contains(&b'\\')),
        _ => Err(Invalid),
    }
}

fn quote(content: &[u8]) -> Vec<u8> {
    [br#"""#, content, br#"""#].concat()
}

/// An offset of Arrow as a position.
pub fn position(offset: i32) -> usize {
    usize::try_from(offset).expect("offsets are not negative")
}

/// Unescapes every entry.
fn unescape(mut offsets: Vec<i32>, bytes: &[u8]) -> (Vec<i32>, Vec<u8>) {
    let mut texts = Vec::with_capacity(bytes.len());
    let mut start = 0;
    for offset in &mut offsets[1..] {
        let end = position(*offset);
        unescape_into(&mut texts, &bytes[start..end]);
        start = end;
        *offset = i32::try_from(texts.len()).expect("unescaping only shortens");
    }
    (offsets, texts)
}

fn unescape_into(texts: &mut Vec<u8>, content: &[u8]) {
    let start = texts.len();
    let mut rest = content;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        if !rest[at..].starts_with(br"\\") {
            texts.truncate(start);
            texts.extend_from_slice(json::unescape(&quote(content)).as_bytes());
            return;
        }
        texts.extend_from_slice(&rest[..=at]);
        rest = &rest[at + 2..];
    }
    texts.extend_from_slice(rest);
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
    fn what_is_no_content_of_a_string_is_refused() {
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
}
