//! What the datasets are: their columns, types and keys, declared once as plain data.
//!
//! Everything that must agree on a dataset derives from its one declaration in
//! [`datasets`]: the Arrow schema of the files ([`arrow`]), the names a decoder binds
//! ([`Dataset::properties`]), the DDL that engines read the lake with ([`ddl`]), and the
//! documentation ([`docs`]). Adding a dataset is adding one declaration to [`DATASETS`].
//!
//! This crate does no IO and knows neither JSON text nor Parquet.

pub mod datasets;

pub mod arrow;
pub mod ddl;
pub mod docs;
pub mod generated;

use datasets::software_inventory::SOFTWARE_INVENTORY;

/// Every dataset, in the order of the documentation.
pub static DATASETS: &[&Dataset] = &[&SOFTWARE_INVENTORY];

/// The partition column that every dataset has, first: the UTC date of the export's generated time.
pub const SNAPSHOT_DATE: Column = Column {
    name: "snapshot_date",
    column_type: ColumnType::Date32,
    presence: Presence::Required,
    origin: Origin::Export,
    doc: "UTC date of the export's generated time.",
    source: "defender-lake",
};

/// The column that `--extra-fields capture` adds to the data files.
pub const EXTRA_FIELDS: Column = Column {
    name: "ExtraFields",
    column_type: ColumnType::Utf8,
    presence: Presence::Optional,
    origin: Origin::Undocumented,
    doc: "Undocumented fields of the record as one JSON object; null where there are none.",
    source: "defender-lake",
};

/// One table that we publish, as the service documents it.
#[derive(Debug)]
pub struct Dataset {
    /// Table name in the lake, `snake_case`.
    pub name: &'static str,
    /// Version of this declaration; a renamed or retyped column raises it.
    pub version: u32,
    /// One sentence: what a row is.
    pub doc: &'static str,
    /// The documentation that the declaration follows.
    pub source: &'static str,
    /// Path of the listing call that answers with signed download URLs, relative to `<api>/api/`.
    pub files_export: &'static str,
    /// Path of the paged JSON call, relative to `<api>/api/`.
    pub json_pages: &'static str,
    /// What the caller must be allowed.
    pub permission: Permission,
    /// Columns that together identify a row, by documentation.
    pub key: &'static [&'static str],
    /// Partition columns after [`SNAPSHOT_DATE`]; declared in `columns`, absent from the data files.
    pub partition_by: &'static [&'static str],
    /// Text columns that rows of one kind agree in, the coarsest first: rows that agree stand together
    /// in the data files, as far as that costs nothing else.
    pub cluster_by: &'static [&'static str],
    /// All columns but [`SNAPSHOT_DATE`], in the order of the data files.
    pub columns: &'static [Column],
}

/// The permission that a dataset's calls need, under its two names.
#[derive(Debug)]
pub struct Permission {
    /// Name of the application permission (a role of the token).
    pub application: &'static str,
    /// Name of the delegated permission (a scope of the token).
    pub delegated: &'static str,
}

/// One column of a dataset.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name in the lake, and of the property on the wire (matched there without regard to case).
    pub name: &'static str,
    /// Type of its values.
    pub column_type: ColumnType,
    /// Whether a row can lack it.
    pub presence: Presence,
    /// Where its values come from.
    pub origin: Origin,
    /// What it means, one sentence.
    pub doc: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// Type of a column's values. Every derivation is one `match` over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Utf8,
    /// Signed 32-bit integer.
    Int32,
    /// List of UTF-8 text; elements may be null, `[]` and null differ.
    Utf8List,
    /// Instant in microseconds since the epoch, UTC.
    TimestampMicros,
    /// Days since the epoch.
    Date32,
}

/// Whether a column may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every row has a value.
    Required,
    /// A row may have none.
    Optional,
}

/// Where a column's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A property of the record with the column's name.
    Property,
    /// The export itself: one value for all rows of a snapshot.
    Export,
    /// The record's properties that no column claims.
    Undocumented,
}

impl Dataset {
    /// Finds a dataset by its name, given as in the lake (`software_inventory`) or as on the
    /// command line (`software-inventory`).
    ///
    /// ```
    /// let dataset = schema::Dataset::find("software-inventory").expect("declared");
    /// assert_eq!(dataset.name, "software_inventory");
    /// ```
    pub fn find(name: &str) -> Option<&'static Dataset> {
        DATASETS.iter().copied().find(|dataset| dataset.name == name.replace('-', "_"))
    }

    /// The name as the command line spells it: `software-inventory`.
    pub fn cli_name(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The columns that are stored in the data files, in their order: all but the partition columns.
    pub fn file_columns(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|column| !self.partition_by.contains(&column.name))
    }

    /// The columns that a record's properties fill, partition columns included: what a decoder binds.
    pub fn properties(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|column| column.origin == Origin::Property)
    }

    /// The partition columns in directory order, [`SNAPSHOT_DATE`] first.
    pub fn partition_columns(&self) -> impl Iterator<Item = &'static Column> {
        std::iter::once(&SNAPSHOT_DATE).chain(
            self.partition_by
                .iter()
                .filter_map(|name| self.columns.iter().find(|column| column.name == *name)),
        )
    }
}

impl Column {
    /// The documentation line: what the column means, and who says so.
    pub fn doc_line(&self) -> String {
        format!("{} [{}]", self.doc, self.source)
    }
}

impl ColumnType {
    /// Short name for people: what a value is.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "string",
            Self::Int32 => "int32",
            Self::Utf8List => "list of string",
            Self::TimestampMicros => "timestamp(us, UTC)",
            Self::Date32 => "date32",
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_consistent() {
        for dataset in DATASETS {
            let mut names: Vec<_> = dataset
                .columns
                .iter()
                .chain([&SNAPSHOT_DATE, &EXTRA_FIELDS])
                .map(|column| column.name.to_ascii_lowercase())
                .collect();
            let num_columns = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), num_columns, "names are unique without case");
            for name in dataset.key.iter().chain(dataset.partition_by).chain(dataset.cluster_by) {
                assert!(dataset.columns.iter().any(|column| column.name == *name), "{name} is declared");
            }
            for column in dataset.columns {
                assert!(column.doc.ends_with('.'), "{} has a doc line", column.name);
                assert!(!column.source.is_empty(), "{} names its source", column.name);
            }
            let required: Vec<_> =
                dataset.properties().filter(|column| column.presence == Presence::Required).collect();
            assert_eq!(required.len(), 1, "one property makes a record usable");
            assert_eq!(required[0].column_type, ColumnType::Utf8);
            for name in dataset.partition_by {
                let column = dataset.columns.iter().find(|c| c.name == *name).unwrap();
                assert_eq!(column.column_type, ColumnType::Utf8, "directory names are text");
            }
            for name in dataset.cluster_by {
                let column = dataset.file_columns().find(|c| c.name == *name).expect("in the files");
                assert_eq!((column.column_type, column.origin), (ColumnType::Utf8, Origin::Property));
            }
        }
    }

    #[test]
    fn names_are_found_in_both_spellings() {
        assert!(Dataset::find("software_inventory").is_some());
        assert!(Dataset::find("software-inventory").is_some());
        assert!(Dataset::find("SoftwareInventory").is_none());
    }
}
