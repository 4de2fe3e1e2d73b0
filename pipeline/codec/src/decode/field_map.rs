//! Takes a dataset's declaration; gives what decoding needs of it, looked up by name on the wire.

use std::collections::HashMap;

use schema::{Column, Dataset, Origin, Presence};

/// Most properties that a dataset may declare; rows are gathered in an array of this length.
pub const MAX_PROPERTIES: usize = 32;

/// Distinct undocumented names counted one by one in a part; further ones share [`OTHER_NAMES`].
/// Exports have a handful; more of them must not take more memory.
const MAX_UNDOCUMENTED_NAMES: usize = 1024;

/// Longest undocumented name counted by itself, in bytes.
const MAX_UNDOCUMENTED_NAME_BYTES: usize = 256;

/// Stands in the manifest for the undocumented names that are not counted one by one.
pub const OTHER_NAMES: &str = "(other names)";

/// Spellings of names remembered in a part.
const MAX_SPELLINGS: usize = 4096;

/// A dataset as the decoder sees it.
#[derive(Debug)]
pub struct FieldMap {
    dataset: &'static Dataset,
    properties: Vec<&'static Column>,
    by_lower_name: HashMap<String, usize>,
    required: usize,
    partition: Option<usize>,
    capture_extra_fields: bool,
}

impl FieldMap {
    /// Prepares `dataset`; with `capture_extra_fields`, undocumented fields become a column.
    ///
    /// # Panics
    ///
    /// If the declaration breaks what the tests of crate `schema` check.
    pub fn new(dataset: &'static Dataset, capture_extra_fields: bool) -> Self {
        let properties: Vec<_> = dataset.properties().collect();
        assert!(properties.len() <= MAX_PROPERTIES, "{} declares too many properties", dataset.name);
        let position = |wanted: &dyn Fn(&Column) -> bool| {
            properties.iter().position(|column| wanted(column)).expect("schema's tests hold this")
        };
        Self {
            dataset,
            by_lower_name: properties
                .iter()
                .enumerate()
                .flat_map(|(index, column)| {
                    let aliases = column.aliases.iter().map(|alias| alias.name);
                    aliases.chain([column.name]).map(move |name| (name.to_ascii_lowercase(), index))
                })
                .collect(),
            required: position(&|column| column.presence == Presence::Required),
            partition: dataset.partition_by.map(|name| position(&|column| column.name == name)),
            properties,
            capture_extra_fields,
        }
    }

    /// The dataset.
    pub fn dataset(&self) -> &'static Dataset {
        self.dataset
    }

    /// The columns that properties fill; values are in this order.
    pub fn properties(&self) -> &[&'static Column] {
        &self.properties
    }

    /// Index of the property without which there is no row.
    pub fn required(&self) -> usize {
        self.required
    }

    /// Whether there is one row for each value of the required property.
    pub fn is_row_a_device(&self) -> bool {
        self.dataset.key == [self.properties[self.required].name]
    }

    /// Index of the property that names the partition, if the dataset has such a column.
    pub fn partition(&self) -> Option<usize> {
        self.partition
    }

    /// Whether undocumented fields become a column.
    pub fn captures_extra_fields(&self) -> bool {
        self.capture_extra_fields
    }

    /// Index of the property that fills `column`; `None` for one that the export fills.
    pub fn property_of(&self, column: &Column) -> Option<usize> {
        (column.origin == Origin::Property)
            .then(|| self.properties.iter().position(|property| property.name == column.name))
            .flatten()
    }

    fn resolve(&self, name: &str) -> Option<usize> {
        self.by_lower_name.get(&name.to_ascii_lowercase()).copied()
    }
}

/// Index in [`Target::Undocumented`] of the names that are not counted one by one.
pub const OTHER_NAMES_INDEX: usize = 0;

/// The meaning of a name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The property with this index.
    Property(usize),
    /// An undocumented field; the index counts it.
    Undocumented(usize),
}

/// The names that a part has used, resolved once for each spelling, and how many rows had each
/// undocumented one.
#[derive(Debug)]
pub struct Names {
    spellings: HashMap<Box<str>, Target>,
    undocumented: Vec<(Box<str>, u64)>,
}

impl Names {
    /// Begins with no name known.
    pub fn new() -> Self {
        Self { spellings: HashMap::new(), undocumented: vec![(OTHER_NAMES.into(), 0)] }
    }

    /// Resolves a name as written.
    pub fn resolve(&mut self, field_map: &FieldMap, name: &str) -> Target {
        if let Some(target) = self.spellings.get(name) {
            return *target;
        }
        let target = match field_map.resolve(name) {
            Some(index) => Target::Property(index),
            None if name.len() > MAX_UNDOCUMENTED_NAME_BYTES
                || self.undocumented.len() > MAX_UNDOCUMENTED_NAMES
                || self.spellings.len() >= MAX_SPELLINGS =>
            {
                return Target::Undocumented(OTHER_NAMES_INDEX);
            }
            None => {
                self.undocumented.push((name.into(), 0));
                Target::Undocumented(self.undocumented.len() - 1)
            }
        };
        if self.spellings.len() < MAX_SPELLINGS {
            self.spellings.insert(name.into(), target);
        }
        target
    }

    /// Counts rows with the undocumented field.
    pub fn count(&mut self, undocumented: usize, num_rows: u64) {
        self.undocumented[undocumented].1 += num_rows;
    }

    /// Names and counts of those that occurred.
    pub fn undocumented(&self) -> impl Iterator<Item = (&str, u64)> {
        self.undocumented.iter().map(|(name, count)| (name.as_ref(), *count)).filter(|(_, count)| *count > 0)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}
