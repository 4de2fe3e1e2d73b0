//! Finds the columns of a part that are null in every row because of rejects.

use super::field_map::MAX_PROPERTIES;
use super::value::JsonValue;

/// A bit for each property.
type PropertyBits = u64;

const _: () = assert!(MAX_PROPERTIES <= PropertyBits::BITS as usize, "each has its bit");

/// Which properties of a part are null in every row so far, and of which of them values were rejected.
#[derive(Debug)]
pub struct LostColumns {
    without_value: PropertyBits,
    with_reject: PropertyBits,
}

impl LostColumns {
    /// Begins without rows.
    pub fn new(num_properties: usize) -> Self {
        Self { without_value: (1 << num_properties) - 1, with_reject: 0 }
    }

    /// Properties that are null in every row so far.
    pub fn without_value(&self) -> impl Iterator<Item = usize> + use<> {
        bits(self.without_value)
    }

    /// Notes that a row has a value of the property.
    pub fn note_value(&mut self, property: usize) {
        self.without_value &= !(1 << property);
    }

    /// Notes the values of a row.
    pub fn note_row(&mut self, values: &[JsonValue<'_>]) {
        for property in self.without_value() {
            if !matches!(values[property], JsonValue::Null) {
                self.note_value(property);
            }
        }
    }

    /// Notes that a value of the property was rejected.
    pub fn note_reject(&mut self, property: usize) {
        self.with_reject |= 1 << property;
    }

    /// Properties that are null in every row, some of them by a reject.
    pub fn lost(&self) -> impl Iterator<Item = usize> + use<> {
        bits(self.without_value & self.with_reject)
    }
}

fn bits(mut rest: PropertyBits) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = rest.trailing_zeros();
        rest &= rest.checked_sub(1)?;
        Some(bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_a_value_and_with_a_reject_are_lost() {
        let mut columns = LostColumns::new(4);
        assert_eq!(columns.without_value().collect::<Vec<_>>(), [0, 1, 2, 3]);
        columns.note_row(&[JsonValue::Text(""), JsonValue::Null, JsonValue::Null, JsonValue::Null]);
        for property in [1, 2] {
            columns.note_reject(property);
        }
        assert_eq!(columns.lost().collect::<Vec<_>>(), [1, 2]);
        columns.note_row(&[JsonValue::Null, JsonValue::Null, JsonValue::Int32(0), JsonValue::Null]);
        assert_eq!(columns.lost().collect::<Vec<_>>(), [1]);
        columns.note_value(1);
        assert_eq!(columns.lost().count(), 0);
        assert_eq!(columns.without_value().collect::<Vec<_>>(), [3]);
    }
}
