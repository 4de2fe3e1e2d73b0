//! Takes 64-bit floats; gives a column chunk: a dictionary if it is smaller, or the numbers themselves.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;

use super::column_chunk::ChunkWriter;
use super::levels::{Levels, Page};
use super::primitive::push_bytes;
use super::rle;

/// Most numbers of a dictionary; scores have a hundred.
const MAX_DISTINCT: usize = 4096;

/// Buffers that columns use one after the other.
#[derive(Debug, Default)]
pub(super) struct FloatEncoder {
    /// The key of each number, by its bits: zero has two.
    known: HashMap<u64, u32, RandomState>,
    distinct: Vec<f64>,
    keys: Vec<u32>,
}

impl FloatEncoder {
    pub(super) fn num_bytes(&self) -> usize {
        self.known.allocation_size()
            + self.distinct.capacity() * size_of::<f64>()
            + self.keys.capacity() * size_of::<u32>()
    }

    /// Encodes a column chunk of `values`, none of them null and all finite.
    pub(super) fn encode(
        &mut self,
        values: &[f64],
        levels: Levels<'_>,
        pages: &[Page],
        mut chunk: ChunkWriter<'_, f64>,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let has_dictionary = self.find_keys(values);
        if has_dictionary {
            let distinct = &self.distinct;
            chunk
                .dictionary_page(distinct.len(), false, |out| push_bytes(distinct, f64::to_le_bytes, out))?;
        }
        let width = rle::bit_width(self.distinct.len().saturating_sub(1) as u32);
        for page in pages {
            let range = range(&values[page.values.clone()]);
            if has_dictionary {
                let keys = &self.keys[page.values.clone()];
                chunk.data_page(page, levels, range, 0, Encoding::RLE_DICTIONARY, |out| {
                    out.push(width as u8);
                    if width == 0 {
                        rle::encode_run(0_u32, keys.len(), width, out);
                    } else {
                        rle::encode(keys, width, out);
                    }
                })?;
            } else {
                chunk.data_page(page, levels, range, 0, Encoding::PLAIN, |out| {
                    push_bytes(&values[page.values.clone()], f64::to_le_bytes, out);
                })?;
            }
        }
        chunk.finish(None)
    }

    /// Gives each value a key; false if a dictionary is no smaller than the values.
    fn find_keys(&mut self, values: &[f64]) -> bool {
        self.known.clear();
        self.distinct.clear();
        self.keys.clear();
        let mut last = None;
        for value in values {
            let bits = value.to_bits();
            let key = match last {
                Some((last, key)) if last == bits => key,
                _ => *self.known.entry(bits).or_insert_with(|| {
                    self.distinct.push(*value);
                    self.distinct.len() as u32 - 1
                }),
            };
            if self.distinct.len() > MAX_DISTINCT {
                return false;
            }
            last = Some((bits, key));
            self.keys.push(key);
        }
        let key_bits = rle::bit_width(self.distinct.len().saturating_sub(1) as u32) as usize;
        let dictionary_bytes = self.distinct.len() * size_of::<f64>() + (values.len() * key_bits).div_ceil(8);
        dictionary_bytes < size_of_val(values)
    }
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value))))
}
