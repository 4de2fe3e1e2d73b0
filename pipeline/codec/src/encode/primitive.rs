//! Takes numbers; gives a column chunk: a dictionary if it is smaller and they lie close together,
//! or the numbers themselves.

use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;

use super::column_chunk::ChunkWriter;
use super::levels::{Levels, Page};
use super::rle;
use super::statistics::Value;

/// The largest difference of two numbers in a dictionary, in steps. They are found by their difference to the least,
/// without hashing.
pub(super) const MAX_SPAN: u64 = 65_536;

/// A step of integers and dates.
pub(super) const ONE: u64 = 1;

/// A step of instants in microseconds: the service tells most of them in whole seconds.
pub(super) const SECOND: u64 = 1_000_000;

/// A number that is stored as it is in memory.
pub(super) trait Number: Value + Default + Ord {
    /// Bytes of one.
    const BYTES: usize = size_of::<Self>();

    /// Returns the difference to one that is not greater.
    fn span(self, min: Self) -> u64;

    /// Returns the number that is `span` greater.
    fn plus(self, span: u64) -> Self;

    /// Appends numbers as they are.
    fn push_all(numbers: &[Self], out: &mut Vec<u8>);
}

impl Number for i32 {
    fn span(self, min: Self) -> u64 {
        u64::from(self.abs_diff(min))
    }

    fn plus(self, span: u64) -> Self {
        self.wrapping_add_unsigned(span as u32)
    }

    fn push_all(numbers: &[Self], out: &mut Vec<u8>) {
        push_bytes(numbers, Self::to_le_bytes, out);
    }
}

impl Number for i64 {
    fn span(self, min: Self) -> u64 {
        self.abs_diff(min)
    }

    fn plus(self, span: u64) -> Self {
        self.wrapping_add_unsigned(span)
    }

    fn push_all(numbers: &[Self], out: &mut Vec<u8>) {
        push_bytes(numbers, Self::to_le_bytes, out);
    }
}

pub(super) fn push_bytes<N: Copy, const BYTES: usize>(
    numbers: &[N],
    to_bytes: fn(N) -> [u8; BYTES],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + numbers.len() * BYTES, 0);
    for (bytes, number) in out[start..].as_chunks_mut().0.iter_mut().zip(numbers) {
        *bytes = to_bytes(*number);
    }
}

/// Buffers that columns use one after the other.
#[derive(Debug, Default)]
pub(super) struct NumberEncoder {
    /// For each difference to the least number: whether it is used, later its key.
    table: Vec<u32>,
    keys: Vec<u32>,
}

impl NumberEncoder {
    pub(super) fn num_bytes(&self) -> usize {
        (self.table.capacity() + self.keys.capacity()) * size_of::<u32>()
    }

    /// Encodes a column chunk of `values`, none of them null; in a dictionary if they differ by steps of `STEP` only, and
    /// [`MAX_SPAN`] of them at most.
    pub(super) fn encode<N: Number, const STEP: u64>(
        &mut self,
        values: &[N],
        levels: Levels<'_>,
        pages: &[Page],
        mut chunk: ChunkWriter<'_, N>,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let ranges: Vec<_> = pages.iter().map(|page| range(&values[page.values.clone()])).collect();
        let least = ranges.iter().flatten().map(|(min, _)| *min).min();
        let greatest = ranges.iter().flatten().map(|(_, max)| *max).max();
        let dictionary =
            least.zip(greatest).and_then(|(min, max)| Some((min, self.table::<N, STEP>(values, min, max)?)));
        match dictionary {
            Some((min, num_used)) => {
                chunk.dictionary_page(num_used, true, |out| {
                    let used = self.table.iter().zip(0..).filter(|(is_used, _)| **is_used > 0);
                    used.for_each(|(_, steps)| N::push_all(&[min.plus(steps * STEP)], out));
                })?;
                self.table.iter_mut().fold(0, |key, entry| key + std::mem::replace(entry, key));
                let width = rle::bit_width(num_used as u32 - 1);
                for (page, range) in pages.iter().zip(ranges) {
                    let values = &values[page.values.clone()];
                    chunk.data_page(page, levels, range, 0, Encoding::RLE_DICTIONARY, |out| {
                        out.push(width as u8);
                        if width == 0 {
                            rle::encode_run(0_u32, values.len(), width, out);
                            return;
                        }
                        self.keys.clear();
                        self.keys
                            .extend(values.iter().map(|value| self.table[(value.span(min) / STEP) as usize]));
                        rle::encode(&self.keys, width, out);
                    })?;
                }
            }
            None => {
                for (page, range) in pages.iter().zip(ranges) {
                    chunk.data_page(page, levels, range, 0, Encoding::PLAIN, |out| {
                        N::push_all(&values[page.values.clone()], out);
                    })?;
                }
            }
        }
        chunk.finish(None)
    }

    /// Marks what is used and returns how many that are, if a dictionary of them is smaller.
    fn table<N: Number, const STEP: u64>(&mut self, values: &[N], min: N, max: N) -> Option<usize> {
        let span = max.span(min);
        if span / STEP > MAX_SPAN || !span.is_multiple_of(STEP) {
            return None;
        }
        self.table.clear();
        if span == 0 {
            self.table.push(1);
        } else {
            if STEP > 1 && repeat(values) {
                return None;
            }
            self.table.resize((span / STEP) as usize + 1, 0);
            let mut rests = 0;
            for value in values {
                let span = value.span(min);
                rests |= span % STEP;
                self.table[(span / STEP) as usize] = 1;
            }
            if rests > 0 {
                return None;
            }
        }
        let num_used = self.table.iter().sum::<u32>() as usize;
        let key_bits = rle::bit_width(num_used as u32 - 1) as usize;
        let dictionary_bytes = num_used * N::BYTES + (values.len() * key_bits).div_ceil(8);
        (dictionary_bytes < values.len() * N::BYTES).then_some(num_used)
    }
}

fn range<N: Number>(values: &[N]) -> Option<(N, N)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value))))
}

/// Whether values stand beside equal ones: zstd makes less of those than a dictionary and its keys take.
fn repeat<N: Number>(values: &[N]) -> bool {
    /// So many tell: those of a page are alike.
    const MAX_SAMPLE: usize = 1024;
    let sample = &values[..values.len().min(MAX_SAMPLE)];
    let num_repeated = sample.windows(2).filter(|pair| pair[0] == pair[1]).count();
    num_repeated > sample.len() / 8
}
