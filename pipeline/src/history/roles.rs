//! The roles of a dataset's columns in `diff` and `trend`, by which all other files here know them.
//!
//! Takes the roles that the dataset declares; gives the columns and kinds that follow from them.

use std::ops::Deref;

use schema::{ColumnType, Counted, Dataset, HistoryRoles, Measure};

use super::HistoryError;

/// Column with the kind of a change.
pub const CHANGE: &str = "Change";
/// Column with the version in the old snapshot.
pub const OLD_VERSION: &str = "OldVersion";
/// Column with the version in the new snapshot.
pub const NEW_VERSION: &str = "NewVersion";
/// Column with the value in the old snapshot.
pub const OLD_VALUE: &str = "OldValue";
/// Column with the value in the new snapshot.
pub const NEW_VALUE: &str = "NewValue";
/// Column with the generated time of the old snapshot.
pub const OLD_GENERATED_TIME: &str = "OldGeneratedTime";
/// Column with the generated time of the new snapshot.
pub const NEW_GENERATED_TIME: &str = "NewGeneratedTime";

/// A change of a device, of any dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChangeKind {
    /// Only the new snapshot has it.
    Appeared,
    /// Only the old snapshot has it.
    Disappeared,
    /// Its name changed.
    Renamed,
    /// Its group changed.
    Moved,
    /// Its platform changed.
    PlatformChanged,
}

impl DeviceChangeKind {
    /// All, in the order of reports.
    pub const ALL: [Self; 5] =
        [Self::Appeared, Self::Disappeared, Self::Renamed, Self::Moved, Self::PlatformChanged];

    /// Returns the name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Appeared => "device_appeared",
            Self::Disappeared => "device_disappeared",
            Self::Renamed => "device_renamed",
            Self::Moved => "device_moved",
            Self::PlatformChanged => "device_platform_changed",
        }
    }
}

/// A dataset and the roles of its columns.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    dataset: &'static Dataset,
    declared: &'static HistoryRoles,
}

impl Deref for Roles {
    type Target = HistoryRoles;

    fn deref(&self) -> &HistoryRoles {
        self.declared
    }
}

impl Roles {
    /// Returns the roles that a dataset declares.
    ///
    /// # Errors
    ///
    /// [`HistoryError::NoHistory`].
    pub fn of(dataset: &'static Dataset) -> Result<Self, HistoryError> {
        let declared = dataset.history.as_ref();
        let declared = declared.ok_or(HistoryError::NoHistory { dataset: dataset.name })?;
        Ok(Self { dataset, declared })
    }

    /// Returns the name of the dataset's table.
    pub fn dataset_name(&self) -> &'static str {
        self.dataset.name
    }

    /// Returns the column with the generated time.
    pub fn generated_time(&self) -> &'static str {
        self.dataset.generated_time().name
    }

    /// Returns the columns of a change, in their order.
    pub fn change_columns(&self) -> Vec<&'static str> {
        let mut columns = vec![CHANGE, self.device];
        columns.extend([self.device_name, self.platform, self.group].into_iter().flatten());
        columns.extend(self.product);
        columns.extend(self.version_columns());
        columns.extend([OLD_VALUE, NEW_VALUE, OLD_GENERATED_TIME, NEW_GENERATED_TIME]);
        columns
    }

    /// Returns the columns of a change with its versions, none if products have no version.
    pub fn version_columns(&self) -> Vec<&'static str> {
        if self.version.is_some() { vec![OLD_VERSION, NEW_VERSION] } else { Vec::new() }
    }

    /// Returns the kinds of change of products, in the order of reports.
    pub fn product_kinds(&self) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        // Without a key of its own, a row is added and removed with its device.
        if !self.product.is_empty() || self.version.is_some() {
            kinds.extend([self.words.added, self.words.removed]);
        }
        kinds.extend(self.version.map(|_| self.words.version_changed));
        kinds.extend(self.compared.iter().map(|compared| compared.kind));
        kinds
    }

    /// Returns all kinds of change, in the order of reports.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = self.product_kinds();
        kinds.extend(DeviceChangeKind::ALL.map(DeviceChangeKind::name));
        kinds
    }

    /// Returns the columns that identify a product of a device.
    pub fn product_columns(&self) -> Vec<&'static str> {
        std::iter::once(self.device).chain(self.product.iter().copied()).collect()
    }

    /// Returns [`HistoryRoles::product`], for as long as the program runs.
    pub fn declared_product(self) -> &'static [&'static str] {
        self.declared.product
    }

    /// Returns the columns whose distinct values a measure counts.
    pub fn distinct_columns(self, counted: Counted) -> &'static [&'static str] {
        match counted {
            Counted::Products => self.declared_product(),
            Counted::Distinct(columns) => columns,
            _ => &[],
        }
    }

    /// Returns the type of a column.
    ///
    /// # Panics
    ///
    /// If it is not declared; tests hold every declaration to that.
    pub fn column_type(&self, column: &str) -> ColumnType {
        self.dataset.column(column).expect("tests hold this").column_type
    }

    /// Whether all rows of a file have one platform.
    pub fn is_partitioned_by_platform(&self) -> bool {
        self.platform.is_some() && self.platform == self.dataset.partition_by
    }

    /// Returns the kind of a change of the status, if the status is compared.
    pub fn status_kind(&self) -> Option<&'static str> {
        let status = self.status?;
        self.compared.iter().find(|compared| compared.column == status.column).map(|compared| compared.kind)
    }

    /// Returns the name that people filter and group by for a column, or the column's own.
    pub fn label(&self, column: &'static str) -> &'static str {
        self.filters.iter().find(|(_, known)| *known == column).map_or(column, |(name, _)| *name)
    }

    /// Returns the names of a snapshot's counts without the shares, which follow from them; devices first.
    pub fn counted_names(&self) -> Vec<&'static str> {
        let is_counted = |measure: &&Measure| !matches!(measure.counted, Counted::Share { .. });
        let measures = self.measures.iter().filter(is_counted).map(|measure| measure.name);
        std::iter::once(DEVICES).chain(measures).collect()
    }

    /// Returns the names of a snapshot's counts, devices first.
    pub fn measure_names(&self) -> Vec<&'static str> {
        std::iter::once(DEVICES).chain(self.measures.iter().map(|measure| measure.name)).collect()
    }
}

/// The count that every dataset has.
pub const DEVICES: &str = "devices";
