//! Takes the least and greatest value of each page; gives what readers skip pages and row groups by.
//!
//! Text is cut where it is long, as Parquet's own writer does: a bound that is cut stays a bound.

use parquet::basic::{BoundaryOrder, Type};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnIndexBuilder, LevelHistogram};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// Bytes of text that a bound keeps: the library's default.
const MAX_BOUND_BYTES: usize = 64;

/// A value that has an order and bounds.
pub(super) trait Value: Copy + PartialOrd {
    /// Its type in Parquet.
    const TYPE: Type;

    /// Returns bytes that are not greater.
    fn lower_bound(self) -> Vec<u8>;

    /// Returns bytes that are not less.
    fn upper_bound(self) -> Vec<u8>;

    /// Returns the statistics of a column chunk with these bounds, or with no values at all.
    fn statistics(range: Option<(Self, Self)>, num_nulls: u64) -> Statistics;
}

/// A number bounds itself. The library's trait that its statistics are generic over is private.
macro_rules! number_has_bounds {
    ($number:ty, $type:ident) => {
        impl Value for $number {
            const TYPE: Type = Type::$type;

            fn lower_bound(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }

            fn upper_bound(self) -> Vec<u8> {
                self.lower_bound()
            }

            fn statistics(range: Option<(Self, Self)>, num_nulls: u64) -> Statistics {
                let (min, max) = range.unzip();
                ValueStatistics::new(min, max, None, Some(num_nulls), false)
                    .with_backwards_compatible_min_max(true)
                    .into()
            }
        }
    };
}

number_has_bounds!(i32, INT32);
number_has_bounds!(i64, INT64);

impl Value for &str {
    const TYPE: Type = Type::BYTE_ARRAY;

    fn lower_bound(self) -> Vec<u8> {
        cut(self).as_bytes().to_vec()
    }

    fn upper_bound(self) -> Vec<u8> {
        match cut(self) {
            whole if whole.len() == self.len() => whole.as_bytes().to_vec(),
            // Where nothing is greater than what was kept, it stays whole.
            kept => successor(kept).unwrap_or_else(|| self.as_bytes().to_vec()),
        }
    }

    fn statistics(range: Option<(Self, Self)>, num_nulls: u64) -> Statistics {
        let (min, max) = range.unzip();
        let lower = min.map(|min| ByteArray::from(min.lower_bound()));
        let upper = max.map(|max| ByteArray::from(max.upper_bound()));
        let is_exact = |bound: &Option<ByteArray>, value: Option<&str>| {
            bound.as_ref().map(ByteArray::data) == value.map(str::as_bytes)
        };
        let (min_is_exact, max_is_exact) = (is_exact(&lower, min), is_exact(&upper, max));
        let statistics = ValueStatistics::new(lower, upper, None, Some(num_nulls), false);
        match range {
            None => statistics.into(),
            Some(_) => statistics.with_min_is_exact(min_is_exact).with_max_is_exact(max_is_exact).into(),
        }
    }
}

/// Returns the longest prefix that a bound may keep, of whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_BOUND_BYTES)]
}

/// Returns the least text that is as long, or shorter, and greater than all that begin with `prefix`.
/// A character is followed only by one of as many bytes.
fn successor(prefix: &str) -> Option<Vec<u8>> {
    prefix.char_indices().rev().find_map(|(position, character)| {
        let next = char::from_u32(u32::from(character) + 1)?;
        (next.len_utf8() == character.len_utf8()).then(|| {
            let mut greater = prefix[..position].to_owned();
            greater.push(next);
            greater.into_bytes()
        })
    })
}

/// Statistics of a column chunk, gathered page by page.
pub(super) struct ColumnStatistics<V> {
    range: Option<(V, V)>,
    num_nulls: u64,
    /// Bounds of the last page that had values.
    last: Option<(V, V)>,
    is_ascending: bool,
    is_descending: bool,
    index: ColumnIndexBuilder,
}

impl<V: Value> ColumnStatistics<V> {
    pub(super) fn new() -> Self {
        Self {
            range: None,
            num_nulls: 0,
            last: None,
            is_ascending: true,
            is_descending: true,
            index: ColumnIndexBuilder::new(V::TYPE),
        }
    }

    /// Adds a page: its least and greatest value, or none where all is null.
    pub(super) fn add(
        &mut self,
        range: Option<(V, V)>,
        num_nulls: usize,
        [repetition, definition]: &[Option<LevelHistogram>; 2],
    ) {
        self.num_nulls += num_nulls as u64;
        match range {
            None => self.index.append(true, Vec::new(), Vec::new(), num_nulls as i64, None),
            Some((min, max)) => {
                if let Some((last_min, last_max)) = self.last {
                    self.is_ascending &= last_min <= min && last_max <= max;
                    self.is_descending &= min <= last_min && max <= last_max;
                }
                self.last = range;
                self.range = Some(match self.range {
                    None => (min, max),
                    Some((least, greatest)) => {
                        (if min < least { min } else { least }, if max > greatest { max } else { greatest })
                    }
                });
                self.index.append(false, min.lower_bound(), max.upper_bound(), num_nulls as i64, None);
            }
        }
        self.index.append_histograms(repetition, definition);
    }

    /// Returns the statistics of the chunk and of its pages.
    pub(super) fn finish(mut self) -> Result<(Statistics, ColumnIndexMetaData), ParquetError> {
        self.index.set_boundary_order(match (self.is_ascending, self.is_descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        Ok((V::statistics(self.range, self.num_nulls), self.index.build()?))
    }
}
