//! Takes validity and list offsets; gives pages of rows, and the levels that say which of them have values.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ListArray};
use arrow_buffer::NullBuffer;
use parquet::file::metadata::LevelHistogram;

use super::properties::{MAX_LIST_PAGE_ROWS, MAX_PAGE_ROWS, MAX_PAGE_VALUES};
use super::rle;

/// Rows that stand together, as positions among the levels and among the values of their column.
/// A row without lists has one level; a level that is not null has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub num_rows: usize,
    pub levels: Range<usize>,
    pub values: Range<usize>,
}

/// The levels of a column chunk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Levels<'c> {
    /// Every row has a value.
    Required,
    /// A row may be null; without a buffer none is.
    Optional(Option<&'c NullBuffer>),
    /// A row is a list.
    List(&'c ListLevels),
}

/// Levels of a column of lists: of each element, and of each list that has none.
#[derive(Debug, Default)]
pub(super) struct ListLevels {
    /// 0 begins a row, 1 goes on with its list.
    repetition: Vec<u8>,
    /// The maximum is a value, below it stand: null for an element, a list without elements, null
    /// for a list.
    definition: Vec<u8>,
    max_definition: u8,
}

impl Page {
    /// Counts levels that have no value.
    pub(super) fn num_nulls(&self) -> usize {
        self.levels.len() - self.values.len()
    }
}

impl Levels<'_> {
    /// Appends the levels of a page as a data page has them: repetition, definition, each behind
    /// its length, and neither if it is the same for any row.
    pub(super) fn encode(&self, page: &Page, out: &mut Vec<u8>) {
        match self {
            Self::Required => {}
            Self::Optional(nulls) => with_len(out, |out| {
                let len = page.levels.len();
                match nulls {
                    Some(nulls) if page.num_nulls() > 0 => {
                        let bits: Vec<u8> = nulls
                            .slice(page.levels.start, len)
                            .inner()
                            .bit_chunks()
                            .iter_padded()
                            .flat_map(u64::to_le_bytes)
                            .collect();
                        rle::encode_bits(&bits, len, out);
                    }
                    _ => rle::encode_run(1_u32, len, 1, out),
                }
            }),
            Self::List(lists) => {
                let width = rle::bit_width(u32::from(lists.max_definition));
                with_len(out, |out| rle::encode(&lists.repetition[page.levels.clone()], 1, out));
                with_len(out, |out| rle::encode(&lists.definition[page.levels.clone()], width, out));
            }
        }
    }

    /// Counts each level of a page: repetition, definition.
    pub(super) fn histograms(&self, page: &Page) -> [Option<LevelHistogram>; 2] {
        let num_values = page.values.len() as i64;
        match self {
            Self::Required => [None, None],
            Self::Optional(_) => [None, Some(vec![page.num_nulls() as i64, num_values].into())],
            Self::List(lists) => {
                let num_levels = page.levels.len() as i64;
                let num_rows = page.num_rows as i64;
                let definition = &lists.definition[page.levels.clone()];
                let mut counts: Vec<i64> =
                    (0..lists.max_definition).map(|level| count(definition, level)).collect();
                counts.push(num_values);
                [Some(vec![num_rows, num_levels - num_rows].into()), Some(counts.into())]
            }
        }
    }

    /// Splits a page between rows so that none takes more than `max_bytes` of values and no row is
    /// alone for nothing. `value_bytes` gives the bytes of a value by its position.
    pub(super) fn split(
        &self,
        page: &Page,
        max_bytes: usize,
        value_bytes: impl Fn(usize) -> usize,
    ) -> Vec<Page> {
        let mut pages = Vec::new();
        let begin = |level, value| Page { num_rows: 0, levels: level..level, values: value..value };
        let mut open = begin(page.levels.start, page.values.start);
        let mut num_bytes = 0;
        let mut level = page.levels.start;
        let mut value = page.values.start;
        while level < page.levels.end {
            let row_end = self.row_end(level, page.levels.end);
            let num_values = (level..row_end).filter(|level| self.is_value(*level)).count();
            let row_bytes: usize = (value..value + num_values).map(&value_bytes).sum();
            if num_bytes + row_bytes > max_bytes && open.num_rows > 0 {
                pages.push(std::mem::replace(&mut open, begin(level, value)));
                num_bytes = 0;
            }
            (level, value) = (row_end, value + num_values);
            num_bytes += row_bytes;
            open.num_rows += 1;
            open.levels.end = level;
            open.values.end = value;
        }
        pages.push(open);
        pages
    }

    fn row_end(&self, row: usize, end: usize) -> usize {
        match self {
            Self::Required | Self::Optional(_) => row + 1,
            Self::List(lists) => {
                let rest = &lists.repetition[row + 1..end];
                row + 1 + rest.iter().take_while(|level| **level > 0).count()
            }
        }
    }

    fn is_value(&self, level: usize) -> bool {
        match self {
            Self::Required | Self::Optional(None) => true,
            Self::Optional(Some(nulls)) => nulls.is_valid(level),
            Self::List(lists) => lists.definition[level] == lists.max_definition,
        }
    }
}

/// Divides a column without lists into pages.
pub(super) fn pages(num_rows: usize, nulls: Option<&NullBuffer>) -> Vec<Page> {
    let mut num_values = 0;
    (0..num_rows)
        .step_by(MAX_PAGE_ROWS)
        .map(|start| {
            let len = MAX_PAGE_ROWS.min(num_rows - start);
            let num_nulls = nulls.map_or(0, |nulls| nulls.slice(start, len).null_count());
            let values = num_values..num_values + len - num_nulls;
            num_values = values.end;
            Page { num_rows: len, levels: start..start + len, values }
        })
        .collect()
}

/// Copies the values that are not null.
pub(super) fn compact<T: Copy + Default>(values: &[T], nulls: &NullBuffer, out: &mut Vec<T>) {
    const WORD: usize = u64::BITS as usize;
    out.clear();
    out.resize(values.len(), T::default());
    let mut len = 0;
    for (values, word) in values.chunks(WORD).zip(nulls.inner().bit_chunks().iter_padded()) {
        if word == u64::MAX {
            out[len..len + WORD].copy_from_slice(values);
            len += WORD;
        } else if word != 0 {
            for (bit, value) in values.iter().enumerate() {
                // A null is written over by the next value.
                out[len] = *value;
                len += (word >> bit & 1) as usize;
            }
        }
    }
    out.truncate(len);
}

impl ListLevels {
    pub(super) fn num_bytes(&self) -> usize {
        self.repetition.capacity() + self.definition.capacity()
    }

    /// Takes over the levels of `lists`; returns their pages, and the keys of their elements that are
    /// not null in the order of the rows, in `buffer` if they do not stand together already.
    pub(super) fn fill<'c>(
        &mut self,
        lists: &'c ListArray,
        max_definition: i16,
        buffer: &'c mut Vec<u32>,
    ) -> (Vec<Page>, &'c [u32]) {
        let offsets = lists.value_offsets();
        let nulls = lists.nulls().filter(|nulls| nulls.null_count() > 0);
        assert!(nulls.is_none() || max_definition == 3, "a required list is not null");
        let range = offsets[0] as usize..offsets[lists.len()] as usize;
        let max_definition = max_definition as u8;
        self.max_definition = max_definition;
        self.repetition.clear();
        self.repetition.resize(range.len() + lists.len(), 1);
        self.definition.clear();
        self.definition.resize(range.len() + lists.len(), max_definition);
        let mut pages = match nulls {
            None => self.fill_rows(offsets, |_| false),
            Some(nulls) => self.fill_rows(offsets, |row| nulls.is_null(row)),
        };
        let (num_levels, num_elements) =
            pages.last().map_or((0, 0), |page| (page.levels.end, page.values.end));
        self.repetition.truncate(num_levels);
        self.definition.truncate(num_levels);

        let elements = lists.values().as_dictionary::<UInt32Type>().keys();
        let element_nulls = elements.nulls().filter(|nulls| nulls.null_count() > 0);
        if num_elements < range.len() {
            // A null list may have elements: they are not there.
            let rows = (0..lists.len()).filter(|row| lists.is_valid(*row));
            let found = rows.flat_map(|row| offsets[row] as usize..offsets[row + 1] as usize);
            if let Some(nulls) = element_nulls {
                self.mark_nulls(&found.clone().map(|element| nulls.is_valid(element)).collect(), &mut pages);
            }
            buffer.clear();
            buffer.extend(
                found.filter(|element| elements.is_valid(*element)).map(|element| elements.value(element)),
            );
            return (pages, buffer);
        }
        let keys = &elements.values()[range.clone()];
        let Some(nulls) = element_nulls else { return (pages, keys) };
        let nulls = nulls.slice(range.start, range.len());
        self.mark_nulls(&nulls, &mut pages);
        compact(keys, &nulls, buffer);
        (pages, buffer)
    }

    /// Sets the levels of all rows as if no element were null; returns the pages.
    fn fill_rows(&mut self, offsets: &[i32], is_null: impl Fn(usize) -> bool) -> Vec<Page> {
        let num_rows = offsets.len() - 1;
        let mut pages = Vec::with_capacity(num_rows.div_ceil(MAX_LIST_PAGE_ROWS));
        let (mut row, mut level, mut value) = (0, 0, 0);
        while row < num_rows {
            let (first_row, first_level, first_value) = (row, level, value);
            while row < num_rows.min(first_row + MAX_LIST_PAGE_ROWS) {
                let is_null = is_null(row);
                let len = if is_null { 0 } else { (offsets[row + 1] - offsets[row]) as usize };
                if level - first_level + len > MAX_PAGE_VALUES && row > first_row {
                    break;
                }
                self.repetition[level] = 0;
                // Without a branch: no processor could foresee it.
                let empty = self.max_definition - 2 - u8::from(is_null);
                self.definition[level] = if len == 0 { empty } else { self.max_definition };
                level += len.max(1);
                value += len;
                row += 1;
            }
            pages.push(Page {
                num_rows: row - first_row,
                levels: first_level..level,
                values: first_value..value,
            });
        }
        pages
    }

    /// Sets the levels of elements that are null, and takes them from the pages' values.
    fn mark_nulls(&mut self, nulls: &NullBuffer, pages: &mut [Page]) {
        let mut element = 0;
        for definition in &mut self.definition {
            if *definition == self.max_definition {
                *definition -= u8::from(nulls.is_null(element));
                element += 1;
            }
        }
        let mut num_values = 0;
        for page in pages {
            let start = num_values;
            num_values += page.values.len() - nulls.slice(page.values.start, page.values.len()).null_count();
            page.values = start..num_values;
        }
    }
}

fn with_len(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn count(levels: &[u8], level: u8) -> i64 {
    // By stretches, so that the sums fit into what is compared.
    levels
        .chunks(usize::from(u8::MAX))
        .map(|levels| i64::from(levels.iter().map(|other| u8::from(*other == level)).sum::<u8>()))
        .sum()
}
