//! Takes keys into text; gives a column chunk: a dictionary of the texts that are used, or the texts themselves.
//!
//! Nothing is hashed and no text is compared but to find the bounds of a page. Keys are looked at
//! once to mark what they use; then it is known which of the two is smaller.

use arrow_array::StringArray;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;

use super::column_chunk::ChunkWriter;
use super::levels::{Levels, Page};
use super::properties::{ColumnLayout, MAX_PAGE_BYTES};
use super::rle;
use crate::byte_search::first_word;

/// Bytes before a text that is stored as it is.
pub(super) const LEN_BYTES: usize = 4;

/// Buffers that columns use one after the other.
#[derive(Debug, Default)]
pub(super) struct TextEncoder {
    entries: Vec<Entry>,
    /// The entries that a page uses, in the order of their first use there.
    used: Vec<u32>,
    keys: Vec<u32>,
}

/// Facts about one text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The last page that used it, counted from 1; later its key in the dictionary.
    mark: u32,
    len: u32,
}

/// Facts about the texts of a page.
#[derive(Debug, Clone, Copy)]
struct PageText<'t> {
    bounds: Option<(&'t str, &'t str)>,
    max_key: u32,
    num_bytes: usize,
}

/// The texts of a chunk and the keys of its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'c> {
    pub dictionary: &'c StringArray,
    pub keys: &'c [u32],
    pub levels: Levels<'c>,
}

impl TextEncoder {
    pub(super) fn num_bytes(&self) -> usize {
        let keys = self.used.capacity() + self.keys.capacity();
        self.entries.capacity() * size_of::<Entry>() + keys * size_of::<u32>()
    }

    /// Encodes a column chunk, laid out as its writer's is.
    pub(super) fn encode<'c>(
        &mut self,
        Texts { dictionary: texts, keys, levels }: Texts<'c>,
        mut pages: Vec<Page>,
        ColumnLayout { bloom_filter_fpp, has_bounds, .. }: ColumnLayout,
        mut chunk: ChunkWriter<'_, &'c str>,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let lens = texts.value_offsets().windows(2).map(|ends| (ends[1] - ends[0]) as u32);
        self.entries.clear();
        self.entries.extend(lens.map(|len| Entry { mark: 0, len }));
        let mut page_texts: Vec<PageText<'c>> = Vec::with_capacity(pages.len());
        for page in &pages {
            let mark = page_texts.len() as u32 + 1;
            page_texts.push(self.mark_used(texts, &keys[page.values.clone()], mark, has_bounds));
        }

        let used = || self.entries.iter().zip(texts).filter(|(entry, _)| entry.mark > 0);
        let num_used = used().count();
        let bloom_filter = match bloom_filter_fpp {
            None => None,
            Some(fpp) => {
                let mut filter = Sbbf::new_with_ndv_fpp(num_used as u64, fpp)?;
                used().filter_map(|(_, text)| text).for_each(|text| filter.insert(text));
                Some(filter)
            }
        };

        let dictionary_bytes: usize = used().map(|(entry, _)| entry.len as usize + LEN_BYTES).sum();
        let key_bits = rle::bit_width(num_used.saturating_sub(1) as u32) as usize;
        let plain_bytes: usize =
            page_texts.iter().map(|page| page.num_bytes).sum::<usize>() + keys.len() * LEN_BYTES;
        if dictionary_bytes + (keys.len() * key_bits).div_ceil(8) < plain_bytes {
            chunk.dictionary_page(num_used, false, |out| {
                out.reserve(dictionary_bytes);
                used().filter_map(|(_, text)| text).for_each(|text| push(text.as_bytes(), out));
            })?;
            let is_remapped = num_used < self.entries.len();
            if is_remapped {
                let used = self.entries.iter_mut().filter(|entry| entry.mark > 0);
                used.zip(0..).for_each(|(entry, key)| entry.mark = key);
            }
            for (page, text) in pages.iter().zip(&page_texts) {
                let keys = &keys[page.values.clone()];
                let (keys, max_key) = if is_remapped {
                    self.keys.clear();
                    self.keys.extend(keys.iter().map(|key| self.entries[*key as usize].mark));
                    (&self.keys[..], self.entries.get(text.max_key as usize).map_or(0, |entry| entry.mark))
                } else {
                    (keys, text.max_key)
                };
                chunk.data_page(
                    page,
                    levels,
                    text.bounds,
                    text.num_bytes,
                    Encoding::RLE_DICTIONARY,
                    |out| {
                        // No wider than this page needs.
                        let width = rle::bit_width(max_key);
                        out.push(width as u8);
                        rle::encode(keys, width, out);
                    },
                )?;
            }
        } else {
            if page_texts.iter().any(|page| page.num_bytes > MAX_PAGE_BYTES) {
                let value_bytes = |value: usize| self.entries[keys[value] as usize].len as usize + LEN_BYTES;
                pages =
                    pages.iter().flat_map(|page| levels.split(page, MAX_PAGE_BYTES, value_bytes)).collect();
                let first_mark = page_texts.len() as u32 + 1;
                page_texts = pages
                    .iter()
                    .zip(first_mark..)
                    .map(|(page, mark)| self.mark_used(texts, &keys[page.values.clone()], mark, has_bounds))
                    .collect();
            }
            for (page, text) in pages.iter().zip(&page_texts) {
                chunk.data_page(page, levels, text.bounds, text.num_bytes, Encoding::PLAIN, |out| {
                    keys[page.values.clone()]
                        .iter()
                        .for_each(|key| push(texts.value(*key as usize).as_bytes(), out));
                })?;
            }
        }
        chunk.finish(bloom_filter)
    }

    /// Marks what a page uses, and finds its bounds among that if it is to have some.
    fn mark_used<'t>(
        &mut self,
        texts: &'t StringArray,
        keys: &[u32],
        mark: u32,
        has_bounds: bool,
    ) -> PageText<'t> {
        self.used.resize(self.used.len().max(keys.len()), 0);
        let mut num_used = 0;
        let mut num_bytes = 0;
        for key in keys {
            let entry = &mut self.entries[*key as usize];
            num_bytes += entry.len as usize;
            // No branch: what was used before is written over by the next.
            self.used[num_used] = *key;
            num_used += usize::from(entry.mark != mark);
            entry.mark = mark;
        }
        let Some((first, rest)) = self.used[..num_used].split_first() else {
            return PageText { bounds: None, max_key: 0, num_bytes };
        };
        if !has_bounds {
            let max_key = rest.iter().fold(*first, |max, key| max.max(*key));
            return PageText { bounds: None, max_key, num_bytes };
        }
        let first_text = texts.value(*first as usize);
        let first_text = (first_word(first_text.as_bytes()), first_text);
        let (mut min, mut max) = (first_text, first_text);
        let mut max_key = *first;
        for key in rest {
            let text = texts.value(*key as usize);
            let text = (first_word(text.as_bytes()), text);
            if text < min {
                min = text;
            } else if text > max {
                max = text;
            }
            max_key = max_key.max(*key);
        }
        let (min, max) = (min.1, max.1);
        PageText { bounds: Some((min, max)), max_key, num_bytes }
    }
}

/// Encodes a column chunk of texts that do not repeat, none of them null, without a dictionary; laid out as its writer's is.
/// `text` gives a text by its position.
pub(super) fn encode_distinct<'c>(
    text: impl Fn(usize) -> &'c [u8],
    levels: Levels<'_>,
    mut pages: Vec<Page>,
    ColumnLayout { bloom_filter_fpp, has_bounds, .. }: ColumnLayout,
    mut chunk: ChunkWriter<'_, &'c str>,
) -> Result<ColumnCloseResult, ParquetError> {
    let len = |value| text(value).len();
    let num_bytes = |page: &Page| page.values.clone().map(len).sum::<usize>();
    if pages.iter().any(|page| num_bytes(page) > MAX_PAGE_BYTES) {
        let split = |page| levels.split(page, MAX_PAGE_BYTES, |value| len(value) + LEN_BYTES);
        pages = pages.iter().flat_map(split).collect();
    }
    for page in &pages {
        let range = if has_bounds { bounds(page.values.clone().map(&text)) } else { None };
        chunk.data_page(page, levels, range, num_bytes(page), Encoding::PLAIN, |out| {
            page.values.clone().for_each(|value| push(text(value), out));
        })?;
    }
    let bloom_filter = match bloom_filter_fpp {
        None => None,
        Some(fpp) => {
            let num_values = pages.last().map_or(0, |page| page.values.end);
            let mut filter = Sbbf::new_with_ndv_fpp(num_values as u64, fpp)?;
            (0..num_values).for_each(|value| filter.insert(text(value)));
            Some(filter)
        }
    };
    chunk.finish(bloom_filter)
}

/// Returns the least and the greatest of some texts.
fn bounds<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Option<(&'t str, &'t str)> {
    let mut texts = texts.map(|text| (first_word(text), text));
    let first = texts.next()?;
    let (mut min, mut max) = (first, first);
    for text in texts {
        if text < min {
            min = text;
        } else if text > max {
            max = text;
        }
    }
    let [min, max] = [min.1, max.1].map(|text| std::str::from_utf8(text).expect("texts are valid"));
    Some((min, max))
}

/// Appends a text as it is.
pub(super) fn push(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}
