//! Column chunks that are wholly dictionary-encoded, without their rows: the entries of the dictionary, and the codes
//! of the values.
//!
//! Takes a file and the metadata of one of its column chunks. Gives nothing if the chunk is encoded in another way: its
//! rows are read then. Never trusts a page: a code without an entry is damage.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;

/// A column chunk with its dictionary read. A chunk of nulls has neither dictionary nor codes.
pub struct DictionaryChunk<R: ChunkReader> {
    pages: Option<SerializedPageReader<R>>,
    is_nullable: bool,
    num_rows: usize,
    num_nulls: u64,
    dictionary: Bytes,
    num_entries: usize,
}

impl<R: ChunkReader> std::fmt::Debug for DictionaryChunk<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DictionaryChunk").field("num_entries", &self.num_entries).finish_non_exhaustive()
    }
}

impl<R: ChunkReader> DictionaryChunk<R> {
    /// Reads the dictionary of a chunk of `num_rows` rows.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn open(
        file: &Arc<R>,
        chunk: &ColumnChunkMetaData,
        num_rows: usize,
    ) -> Result<Option<Self>, ParquetError> {
        let column = chunk.column_descr();
        let is_nullable = column.max_def_level() == 1;
        let num_nulls = match chunk.statistics().and_then(Statistics::null_count_opt) {
            _ if column.max_rep_level() > 0 || column.max_def_level() > 1 => return Ok(None),
            Some(num_nulls) => num_nulls,
            None if is_nullable => return Ok(None),
            None => 0,
        };
        let mut opened =
            Self { pages: None, is_nullable, num_rows, num_nulls, dictionary: Bytes::new(), num_entries: 0 };
        if num_nulls == num_rows as u64 {
            return Ok(Some(opened));
        }
        let mut encodings = chunk.page_encoding_stats_mask().into_iter();
        if !encodings.any(|encodings| encodings.is_only(Encoding::RLE_DICTIONARY)) {
            return Ok(None);
        }
        let mut pages = SerializedPageReader::new(Arc::clone(file), chunk, num_rows, None)?;
        let Some(Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, .. }) =
            pages.get_next_page()?
        else {
            return Ok(None);
        };
        opened.pages = Some(pages);
        opened.dictionary = buf;
        opened.num_entries = num_values as usize;
        Ok(Some(opened))
    }

    /// Returns the number of rows without a value.
    pub fn num_nulls(&self) -> u64 {
        self.num_nulls
    }

    /// Returns the number of entries.
    pub fn num_entries(&self) -> usize {
        self.num_entries
    }

    /// Returns the entries of a dictionary of text.
    ///
    /// # Errors
    ///
    /// The page is damaged.
    pub fn texts(&self) -> Result<Vec<&str>, ParquetError> {
        let mut rest: &[u8] = &self.dictionary;
        let mut next = || {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        (0..self.num_entries).map(|_| next()).collect::<Option<_>>().ok_or_else(damaged)
    }

    /// Returns the entries of a dictionary of integers of `N` bytes.
    ///
    /// # Errors
    ///
    /// The page is damaged.
    pub fn integers<const N: usize>(
        &self,
        number: impl Fn([u8; N]) -> i64,
    ) -> Result<Vec<i64>, ParquetError> {
        let (numbers, _) = self.dictionary.as_chunks::<N>();
        let numbers = numbers.get(..self.num_entries).ok_or_else(damaged)?;
        Ok(numbers.iter().map(|bytes| number(*bytes)).collect())
    }

    /// Returns how often each entry occurs, and null after them.
    ///
    /// # Errors
    ///
    /// What [`DictionaryChunk::for_each_code`] returns.
    pub fn occurrences(&mut self) -> Result<Vec<u64>, ParquetError> {
        let mut occurrences = vec![0; self.num_entries + 1];
        self.for_each_code(|code, times| occurrences[code as usize] += times as u64)?;
        Ok(occurrences)
    }

    /// Calls `give` with the code of each row's value, and how many times it follows; null is the number of entries.
    ///
    /// # Errors
    ///
    /// A page cannot be read or is damaged.
    pub fn for_each_code(&mut self, mut give: impl FnMut(u32, usize)) -> Result<(), ParquetError> {
        let null = u32::try_from(self.num_entries).map_err(|_| damaged())?;
        let Some(pages) = &mut self.pages else {
            give(null, usize::try_from(self.num_nulls).unwrap_or(0));
            return Ok(());
        };
        let (mut levels, mut codes) = (Vec::new(), Vec::new());
        let mut num_rows = 0;
        while let Some(page) = pages.get_next_page()? {
            let Page::DataPage { buf, num_values, encoding: Encoding::RLE_DICTIONARY, .. } = page else {
                return Err(damaged());
            };
            num_rows += num_values as usize;
            levels.clear();
            codes.clear();
            decode_page(&buf, num_values as usize, self.is_nullable, &mut levels, &mut codes)
                .ok_or_else(damaged)?;
            if codes.iter().any(|code| *code >= null) {
                return Err(damaged());
            }
            let mut codes = codes.iter();
            for (level, times) in &levels {
                if *level == 0 {
                    give(null, *times);
                } else {
                    codes.by_ref().take(*times).for_each(|code| give(*code, 1));
                }
            }
        }
        if num_rows == self.num_rows { Ok(()) } else { Err(damaged()) }
    }
}

fn damaged() -> ParquetError {
    ParquetError::General("a page of a dictionary-encoded column is damaged".to_owned())
}

/// Decodes a data page: how many rows follow each other with a value, level 1, and without, and the codes of the
/// values. Returns nothing if it is damaged.
fn decode_page(
    mut page: &[u8],
    num_rows: usize,
    is_nullable: bool,
    levels: &mut Vec<(u32, usize)>,
    codes: &mut Vec<u32>,
) -> Option<()> {
    if is_nullable {
        let (len, rest) = page.split_first_chunk::<4>()?;
        let (encoded, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        decode(encoded, 1, num_rows, |level, times| match levels.last_mut() {
            Some((last, num_rows)) if *last == level => *num_rows += times,
            _ => levels.push((level, times)),
        })?;
        page = rest;
    } else {
        levels.push((1, num_rows));
    }
    let num_values = levels.iter().filter(|(level, _)| *level == 1).map(|(_, times)| times).sum();
    if num_values == 0 {
        return Some(());
    }
    let (width, page) = page.split_first()?;
    decode(page, usize::from(*width), num_values, |code, times| codes.resize(codes.len() + times, code))
}

/// Decodes `num_values` values of `width` bits of Parquet's hybrid of runs and packed bits.
fn decode(mut bytes: &[u8], width: usize, num_values: usize, mut give: impl FnMut(u32, usize)) -> Option<()> {
    if width > 32 {
        return None;
    }
    let mask = (1 << width) - 1;
    // The bytes after a value's own are masked out, so those of what follows do.
    let value_at = |bytes: &[u8], bit: usize| {
        let from = bytes.get(bit / 8..)?;
        let word = from.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word[..from.len()].copy_from_slice(from);
            word
        });
        u32::try_from(u64::from_le_bytes(word) >> (bit % 8) & mask).ok()
    };
    let mut left = num_values;
    while left > 0 {
        let header = varint(&mut bytes)?;
        let len = usize::try_from(header >> 1).ok()?;
        let num_bytes = if header & 1 == 0 {
            let times = len.min(left);
            give(value_at(bytes, 0)?, times);
            left -= times;
            width.div_ceil(8)
        } else {
            let num_packed = len.checked_mul(8)?.min(left);
            for index in 0..num_packed {
                give(value_at(bytes, index * width)?, 1);
            }
            left -= num_packed;
            len.checked_mul(width)?
        };
        bytes = bytes.get(num_bytes..)?;
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], width: usize, num_values: usize) -> Option<Vec<u32>> {
        let mut values = Vec::new();
        decode(bytes, width, num_values, |value, times| values.resize(values.len() + times, value))?;
        Some(values)
    }

    #[test]
    fn runs_and_packed_bits_are_decoded() {
        // The specification's example: 0 to 7 of 3 bits.
        let packed = [0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(decoded(&packed, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(decoded(&packed, 3, 5).unwrap(), [0, 1, 2, 3, 4], "the rest is padding");
        let run_of_300 = [0xd8, 0x04, 0x01, 0x02];
        assert_eq!(decoded(&run_of_300, 10, 300).unwrap(), [0x201; 300]);
        assert_eq!(decoded(&[[6, 5, 0, 0].as_slice(), &packed].concat()[..2], 3, 3).unwrap(), [5; 3]);
        assert_eq!(decoded(&[[6, 5].as_slice(), &packed].concat(), 3, 5).unwrap(), [5, 5, 5, 0, 1]);
        assert_eq!(decoded(&[4], 0, 2).unwrap(), [0, 0]);
    }

    #[test]
    fn damaged_pages_are_refused() {
        for (bytes, width) in [(&[][..], 3), (&[0x03, 0x88], 3), (&[0xff; 12], 3), (&[0x02, 0, 0, 0, 0], 33)]
        {
            assert_eq!(decoded(bytes, width, 8), None, "{bytes:?}");
        }
        assert_eq!(decode_page(&[9, 0, 0, 0, 2], 1, true, &mut Vec::new(), &mut Vec::new()), None);
    }
}
