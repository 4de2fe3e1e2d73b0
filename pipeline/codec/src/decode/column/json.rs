//! A column of JSON text, whose values may be of any JSON kind on the wire: texts, each once while they repeat, and a
//! key a row.

use arrow_array::types::UInt32Type;
use arrow_array::{DictionaryArray, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::dictionary::{NULL_KEY, position};
use super::spill_format::{Bytes, put};
use super::string::dictionary_array;
use super::text_map::TextMap;
use super::unpredicted::Unpredicted;
use crate::decode::arena::Arena;
use crate::decode::coerce::json_text;
use crate::decode::json::{JsonKind, Reader};
use crate::decode::spans::Span;
use crate::json_search::unescape_letters;
use crate::rows::EarlyPage;

/// JSON text: one key each.
#[derive(Debug)]
pub(super) struct JsonColumn {
    texts: Arena,
    /// Where each text begins among all, and the end of the last.
    offsets: Vec<i32>,
    keys: Vec<u32>,
    /// The key of a value as it is on the wire.
    of_values: TextMap<u32>,
    /// The key of a text.
    of_texts: TextMap<u32>,
    /// A value's text.
    text: Vec<u8>,
    /// The first rows, if they are encoded already: no text and no key is theirs.
    early: Vec<EarlyPage>,
}

impl JsonColumn {
    pub(super) fn new() -> Self {
        Self {
            texts: Arena::default(),
            offsets: vec![0],
            keys: Vec::new(),
            of_values: TextMap::new(),
            of_texts: TextMap::new(),
            text: Vec::new(),
            early: Vec::new(),
        }
    }

    /// Adds values of consecutive records up to the first that is not JSON; returns how many.
    pub(super) fn push_spans(&mut self, text: &[u8], values: &[Span]) -> usize {
        for (row, value) in values.iter().enumerate() {
            let key = if *value == Span::NULL { Ok(NULL_KEY) } else { self.key(value.of(text)) };
            match key {
                Ok(key) => self.keys.push(key),
                Err(Unpredicted) => return row,
            }
        }
        values.len()
    }

    fn key(&mut self, value: &[u8]) -> Result<u32, Unpredicted> {
        let do_repeat = self.of_values.is_of_use();
        if do_repeat && let Some(key) = self.of_values.get(value) {
            return Ok(key);
        }
        let mut text = std::mem::take(&mut self.text);
        let key = read(value, &mut text).map(|()| self.intern(&text, do_repeat));
        self.text = text;
        if do_repeat && let Ok(key) = key {
            self.of_values.insert(value, key);
        }
        key
    }

    /// The key of a text, a new one if they do not repeat.
    fn intern(&mut self, text: &[u8], do_repeat: bool) -> u32 {
        if !do_repeat {
            self.of_values.forget();
            self.of_texts.forget();
        } else if let Some(key) = self.of_texts.get(text) {
            return key;
        }
        let key = u32::try_from(self.num_texts()).expect("fewer texts than rows");
        self.texts.push(text);
        let end = position(self.offsets[self.num_texts()]) + text.len();
        self.offsets.push(i32::try_from(end).expect("a row group's text is below 2 GiB"));
        if do_repeat {
            self.of_texts.insert(text, key);
        }
        key
    }

    fn num_texts(&self) -> usize {
        self.offsets.len() - 1
    }

    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.texts(self.offsets.windows(2).map(|ends| position(ends[1] - ends[0])))
    }

    pub(super) fn push(&mut self, text: &str) {
        let do_repeat = self.of_values.is_of_use();
        let key = self.intern(text.as_bytes(), do_repeat);
        self.keys.push(key);
    }

    pub(super) fn push_nulls(&mut self, num_rows: usize) {
        self.keys.extend(std::iter::repeat_n(NULL_KEY, num_rows));
    }

    pub(super) fn truncate(&mut self, num_rows: usize) {
        let num_early = self.early.iter().map(|page| page.num_rows).sum::<usize>();
        self.keys.truncate(num_rows.checked_sub(num_early).expect("what is encoded stays"));
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.texts.num_bytes()
            + (self.offsets.capacity() + self.keys.capacity()) * size_of::<u32>()
            + self.of_values.num_bytes()
            + self.of_texts.num_bytes()
            + self.text.capacity()
            + self.early.iter().map(|page| page.content.len() + size_of::<EarlyPage>()).sum::<usize>()
    }

    /// Bytes of the texts that are not encoded, none if they repeat.
    pub(super) fn bytes_to_encode(&self) -> usize {
        if self.of_values.is_of_use() { 0 } else { position(self.offsets[self.num_texts()]) }
    }

    pub(super) fn has_early_pages(&self) -> bool {
        !self.early.is_empty()
    }

    pub(super) fn take_early_pages(&mut self) -> Vec<EarlyPage> {
        std::mem::take(&mut self.early)
    }

    /// Encodes the rows that are not.
    pub(super) fn encode_early(&mut self, encode: impl FnOnce(&[Option<&[u8]>]) -> Vec<EarlyPage>) {
        let texts: Vec<&[u8]> = self.texts().collect();
        // Null has a key that no text has.
        let rows: Vec<_> = self.keys.iter().map(|key| texts.get(*key as usize).copied()).collect();
        let pages = encode(&rows);
        self.early.extend(pages);
        self.of_values.forget();
        self.of_texts.forget();
        self.texts = Arena::default();
        self.offsets.truncate(1);
        self.keys.clear();
    }

    pub(super) fn append(&mut self, mut other: Self) {
        assert!(self.keys.is_empty() || other.early.is_empty(), "what stands before encoded rows is encoded");
        self.early.append(&mut other.early);
        let do_repeat = self.of_values.is_of_use() && other.of_values.is_of_use();
        let keys: Vec<u32> = other.texts().map(|text| self.intern(text, do_repeat)).collect();
        let key = |key: &u32| if *key == NULL_KEY { NULL_KEY } else { keys[*key as usize] };
        self.keys.extend(other.keys.iter().map(key));
    }

    pub(super) fn finish(&mut self, order: &[u32]) -> DictionaryArray<UInt32Type> {
        self.of_values.forget();
        self.of_texts.forget();
        let mut keys = std::mem::take(&mut self.keys);
        assert!(keys.is_empty() || keys.len() == order.len(), "all rows are encoded or none");
        keys.resize(order.len(), NULL_KEY);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let texts = StringArray::try_new(offsets, Buffer::from_vec(self.texts.take()), None);
        let keys = order.iter().map(|row| keys[*row as usize]).collect();
        dictionary_array(keys, texts.expect("texts are valid"))
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        put(self.early.len(), out);
        for EarlyPage { content, uncompressed_bytes, num_rows, num_nulls, num_text_bytes } in &self.early {
            for number in [content.len(), *uncompressed_bytes, *num_rows, *num_nulls, *num_text_bytes] {
                put(number, out);
            }
            out.extend_from_slice(content);
        }
        put(usize::from(self.of_values.is_of_use()), out);
        put(self.num_texts(), out);
        self.texts().for_each(|text| put(text.len(), out));
        self.texts().for_each(|text| out.extend_from_slice(text));
        put(self.keys.len(), out);
        self.keys.iter().for_each(|key| out.extend_from_slice(&key.to_le_bytes()));
    }

    pub(super) fn read_from(&mut self, bytes: &mut Bytes<'_>) {
        for _ in 0..bytes.number() {
            let [len, uncompressed_bytes, num_rows, num_nulls, num_text_bytes] =
                std::array::from_fn(|_| bytes.number());
            let content = bytes::Bytes::copy_from_slice(bytes.take(len));
            self.early.push(EarlyPage { content, uncompressed_bytes, num_rows, num_nulls, num_text_bytes });
        }
        let do_repeat = bytes.number() == 1;
        let num_texts = bytes.number();
        let lens: Vec<usize> = (0..num_texts).map(|_| bytes.number()).collect();
        let keys: Vec<u32> = lens.into_iter().map(|len| self.intern(bytes.take(len), do_repeat)).collect();
        let num_keys = bytes.number();
        self.keys.extend((0..num_keys).map(|_| {
            let key = bytes.word();
            if key == NULL_KEY { NULL_KEY } else { keys[key as usize] }
        }));
    }
}

/// Reads a value as its text.
fn read(value: &[u8], text: &mut Vec<u8>) -> Result<(), Unpredicted> {
    if let [b'"', content @ .., b'"'] = value
        && unescape_letters(content, text).is_some()
    {
        return if std::str::from_utf8(text).is_ok() { Ok(()) } else { Err(Unpredicted) };
    }
    if !is_json_of_one_line(value) {
        return Err(Unpredicted);
    }
    text.clear();
    text.extend_from_slice(json_text(JsonKind::of(value), value).as_bytes());
    Ok(())
}

/// Whether a value of a record is JSON, and on one line: a record over several is left to the parser.
pub(super) fn is_json_of_one_line(value: &[u8]) -> bool {
    let mut reader = Reader::new(value);
    // The record's object is around it.
    reader.value(1).is_ok() && reader.position() == value.len() && memchr::memchr(b'\n', value).is_none()
}
