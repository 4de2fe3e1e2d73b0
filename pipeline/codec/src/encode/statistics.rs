//! Takes the minimum and maximum of each page; gives the statistics by which readers skip pages and row groups.
//!
//! Long text is cut, as Parquet's own writer does: a truncated bound is still a bound.

use std::cmp::Ordering;

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

    /// How many values of a page are not a number, if some could be.
    const NAN_COUNT: Option<i64> = None;

    /// Returns bytes that are not greater.
    fn lower_bound(self) -> Vec<u8>;

    /// Returns bytes that are not less.
    fn upper_bound(self) -> Vec<u8>;

    /// Compares two bounds as readers do.
    fn compare_bounds(one: &[u8], other: &[u8]) -> Ordering;

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

            fn compare_bounds(one: &[u8], other: &[u8]) -> Ordering {
                let number =
                    |bound: &[u8]| <$number>::from_le_bytes(bound.try_into().expect("its own bytes"));
                number(one).cmp(&number(other))
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

impl Value for bool {
    const TYPE: Type = Type::BOOLEAN;

    fn lower_bound(self) -> Vec<u8> {
        vec![u8::from(self)]
    }

    fn upper_bound(self) -> Vec<u8> {
        self.lower_bound()
    }

    fn compare_bounds(one: &[u8], other: &[u8]) -> Ordering {
        one.cmp(other)
    }

    fn statistics(range: Option<(Self, Self)>, num_nulls: u64) -> Statistics {
        let (min, max) = range.unzip();
        ValueStatistics::new(min, max, None, Some(num_nulls), false)
            .with_backwards_compatible_min_max(true)
            .into()
    }
}

/// Finite. Of the two zeros the lesser is a lower bound and the greater an upper one, as Parquet wants it: readers
/// take them for equal or not.
impl Value for f64 {
    const TYPE: Type = Type::DOUBLE;

    const NAN_COUNT: Option<i64> = Some(0);

    fn lower_bound(self) -> Vec<u8> {
        (if self == 0.0 { -0.0 } else { self }).to_le_bytes().to_vec()
    }

    fn upper_bound(self) -> Vec<u8> {
        (if self == 0.0 { 0.0 } else { self }).to_le_bytes().to_vec()
    }

    fn compare_bounds(one: &[u8], other: &[u8]) -> Ordering {
        let number = |bound: &[u8]| Self::from_le_bytes(bound.try_into().expect("its own bytes"));
        number(one).total_cmp(&number(other))
    }

    fn statistics(range: Option<(Self, Self)>, num_nulls: u64) -> Statistics {
        let (min, max) = range.unzip();
        let bound = |bytes: Vec<u8>| Self::from_le_bytes(bytes.try_into().expect("its own bytes"));
        let (min, max) = (min.map(|min| bound(min.lower_bound())), max.map(|max| bound(max.upper_bound())));
        ValueStatistics::new(min, max, None, Some(num_nulls), false)
            .with_backwards_compatible_min_max(true)
            .with_nan_count(min.map(|_| 0))
            .into()
    }
}

impl Value for &str {
    const TYPE: Type = Type::BYTE_ARRAY;

    fn lower_bound(self) -> Vec<u8> {
        cut(self).as_bytes().to_vec()
    }

    fn upper_bound(self) -> Vec<u8> {
        match cut(self) {
            whole if whole.len() == self.len() => whole.as_bytes().to_vec(),
            // If nothing is greater than what was kept, it is not truncated.
            kept => successor(kept).unwrap_or_else(|| self.as_bytes().to_vec()),
        }
    }

    fn compare_bounds(one: &[u8], other: &[u8]) -> Ordering {
        one.cmp(other)
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
    /// Bounds of the last page that had values, as the index lists them: those that are cut may be in another
    /// order than the values.
    last: Option<(Vec<u8>, Vec<u8>)>,
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

    /// Statistics that say how many values are null, and nothing of those that are not.
    pub(super) fn without_bounds() -> Self {
        let mut statistics = Self::new();
        statistics.index.to_invalid();
        statistics
    }

    /// Whether it has the minimum and maximum of values.
    pub(super) fn has_bounds(&self) -> bool {
        self.index.valid()
    }

    /// Adds a page: its minimum and maximum, or `None` if all is null or there are no bounds.
    pub(super) fn add(
        &mut self,
        range: Option<(V, V)>,
        num_nulls: usize,
        [repetition, definition]: &[Option<LevelHistogram>; 2],
    ) {
        self.num_nulls += num_nulls as u64;
        if !self.has_bounds() {
            return;
        }
        match range {
            None => self.index.append(true, Vec::new(), Vec::new(), num_nulls as i64, V::NAN_COUNT),
            Some((min, max)) => {
                let (lower, upper) = (min.lower_bound(), max.upper_bound());
                if let Some((last_lower, last_upper)) = &self.last {
                    let orders =
                        [V::compare_bounds(last_lower, &lower), V::compare_bounds(last_upper, &upper)];
                    self.is_ascending &= orders.iter().all(|order| order.is_le());
                    self.is_descending &= orders.iter().all(|order| order.is_ge());
                }
                self.last = Some((lower.clone(), upper.clone()));
                self.range = Some(match self.range {
                    None => (min, max),
                    Some((least, greatest)) => {
                        (if min < least { min } else { least }, if max > greatest { max } else { greatest })
                    }
                });
                self.index.append(false, lower, upper, num_nulls as i64, V::NAN_COUNT);
            }
        }
        self.index.append_histograms(repetition, definition);
    }

    /// Returns the statistics of the chunk and of its pages, whose are none without bounds.
    pub(super) fn finish(mut self) -> Result<(Statistics, Option<ColumnIndexMetaData>), ParquetError> {
        self.index.set_boundary_order(match (self.is_ascending, self.is_descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        let index = self.has_bounds().then(|| self.index.build()).transpose()?;
        Ok((V::statistics(self.range, self.num_nulls), index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The order that the index of pages with these bounds claims.
    fn order<V: Value>(pages: &[Option<(V, V)>]) -> BoundaryOrder {
        let mut statistics = ColumnStatistics::new();
        for page in pages {
            statistics.add(*page, 1, &[None, None]);
        }
        statistics.finish().unwrap().1.unwrap().get_boundary_order().unwrap()
    }

    #[test]
    fn order_is_that_of_the_listed_bounds() {
        let check = |pages: &[Option<(i32, i32)>], expected| assert_eq!(order(pages), expected);
        check(&[], BoundaryOrder::ASCENDING);
        check(&[Some((-1, 255)), None, Some((0, 256))], BoundaryOrder::ASCENDING);
        check(&[Some((0, 256)), None, Some((-1, 255))], BoundaryOrder::DESCENDING);
        check(&[Some((0, 5)), Some((1, 4))], BoundaryOrder::UNORDERED);

        // Greater than the first by its last character alone, which the first one's bound skips over.
        let cut = format!("{}\u{7f}\u{7f}z", "a".repeat(62));
        let whole = format!("{}\u{80}", "a".repeat(62));
        assert!(cut < whole && cut.as_str().upper_bound() > whole.as_str().upper_bound());
        let [cut, whole] = [cut.as_str(), whole.as_str()];
        assert_eq!(order(&[Some((cut, cut)), Some((whole, whole))]), BoundaryOrder::UNORDERED);
        assert_eq!(order(&[Some(("a", whole)), Some(("a", cut))]), BoundaryOrder::ASCENDING);
    }

    proptest! {
        #[test]
        fn claimed_order_holds_for_listed_bounds(
            texts in prop::collection::vec(("[a\u{7f}\u{80}\u{7ff}]{0,3}", 55..66_usize, "[a\u{7f}\u{80}z]{0,3}", any::<bool>()), 1..6),
            is_sorted in any::<bool>(),
        ) {
            let mut texts: Vec<_> = texts
                .into_iter()
                .map(|(start, width, end, is_null)| (format!("{start}{}{end}", "a".repeat(width)), is_null))
                .collect();
            if is_sorted {
                texts.sort();
            }
            let pages: Vec<_> =
                texts.iter().map(|(text, is_null)| (!is_null).then_some((text.as_str(), text.as_str()))).collect();
            let bounds: Vec<_> =
                pages.iter().flatten().map(|(min, max)| (min.lower_bound(), max.upper_bound())).collect();
            let ascends = bounds.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1);
            let descends = bounds.windows(2).all(|pair| pair[0].0 >= pair[1].0 && pair[0].1 >= pair[1].1);
            let expected = match (ascends, descends) {
                (true, _) => BoundaryOrder::ASCENDING,
                (false, true) => BoundaryOrder::DESCENDING,
                (false, false) => BoundaryOrder::UNORDERED,
            };
            prop_assert_eq!(order(&pages), expected);
        }
    }
}
