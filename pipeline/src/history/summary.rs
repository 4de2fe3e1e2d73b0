//! Summary of a diff: counts by kind, the products with most changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use polars::prelude::*;
use serde::Serialize;

use super::HistoryError;
use super::change_filter::ChangeFilter;
use super::diff::PRESENCE;
use super::roles::{CHANGE, NEW_VALUE, NEW_VERSION, OLD_VALUE, Roles};
use crate::display::{count, grouped, named, table, time_cell};
use crate::printable::printable;

/// Rows of each table of a summary, at most.
const MOST_NAMED: usize = 10;

/// Number of changes of one kind, by whether their device is in both snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// All.
    pub total: u64,
    /// On devices that are in both snapshots.
    pub on_known_devices: u64,
    /// On devices that only the new snapshot has.
    pub on_new_devices: u64,
    /// On devices that only the old snapshot has.
    pub on_gone_devices: u64,
}

/// The values of a product's columns, with the names that people call them by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Product(Vec<(&'static str, Option<String>)>);

impl Serialize for Product {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Product {
    fn cells(&self) -> Vec<String> {
        self.0.iter().map(|(_, value)| named(value.as_deref())).collect()
    }
}

/// Changes of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProductChanges {
    /// The product.
    #[serde(flatten)]
    pub product: Product,
    /// Number of changes of all kinds.
    pub changes: u64,
    /// By kind, without the kinds of devices.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Devices that have any of them.
    pub devices: u64,
}

/// A version whose support has ended since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndOfSupport {
    /// The product.
    #[serde(flatten)]
    pub product: Product,
    /// The version.
    pub version: Option<String>,
    /// Status in the new snapshot.
    pub status: Option<String>,
    /// Devices on which it became so.
    pub devices: u64,
}

/// A snapshot that was compared.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// When the service generated it.
    #[serde(with = "crate::manifest::rfc3339_seconds")]
    pub generated_time: DateTime<Utc>,
    /// Its rows.
    pub rows: u64,
}

/// The counts of a diff.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Table name.
    pub dataset: &'static str,
    /// The old snapshot.
    pub from: Compared,
    /// The new snapshot.
    pub to: Compared,
    /// The filter of `--where`.
    #[serde(rename = "where")]
    pub filter: ChangeFilter,
    /// Counts by kind, every kind included.
    pub changes: BTreeMap<&'static str, ChangeCounts>,
    /// The products with most changes.
    pub products: Vec<ProductChanges>,
    /// Newly out of support, by devices.
    pub end_of_support: Vec<EndOfSupport>,
    /// File with all changes.
    pub out: Option<String>,
    #[serde(skip)]
    roles: Roles,
    #[serde(skip)]
    all_products: BTreeMap<Product, ProductChanges>,
    #[serde(skip)]
    all_end_of_support: BTreeMap<(Product, Option<String>, Option<String>), u64>,
}

impl Summary {
    /// Creates an empty summary.
    pub fn new(roles: Roles, from: Compared, to: Compared, filter: ChangeFilter) -> Self {
        Self {
            dataset: roles.dataset_name(),
            roles,
            from,
            to,
            filter,
            changes: roles.kinds().into_iter().map(|kind| (kind, ChangeCounts::default())).collect(),
            products: Vec::new(),
            end_of_support: Vec::new(),
            out: None,
            all_products: BTreeMap::new(),
            all_end_of_support: BTreeMap::new(),
        }
    }

    /// Counts the changes of a frame. All changes of a device are in one frame.
    ///
    /// # Errors
    ///
    /// What the engine says.
    ///
    /// # Panics
    ///
    /// If a change has an unknown kind: a mistake of ours.
    pub fn add(&mut self, changes: &DataFrame) -> Result<(), HistoryError> {
        let lazy = || changes.clone().lazy();
        let roles = self.roles;
        let counts = lazy().group_by([col(CHANGE), col(PRESENCE)]).agg([len().alias("changes")]).collect()?;
        for row in FrameRows::of(&counts) {
            let (kind, presence, number) = (row.text(0)?, row.text(1)?, row.number(2)?);
            let mut known = self.changes.iter_mut();
            let counts = known.find(|(known, _)| Some(**known) == kind.as_deref());
            let (_, counts) = counts.expect("a declared kind");
            counts.total += number;
            match presence.as_deref() {
                Some("new") => counts.on_new_devices += number,
                Some("gone") => counts.on_gone_devices += number,
                _ => counts.on_known_devices += number,
            }
        }
        let kinds = roles.product_kinds();
        let num_names = roles.product.len();
        let product = |row: &FrameRows<'_>| {
            let names = roles.product.iter().enumerate();
            let value = |(index, column): (usize, &&'static str)| Ok((roles.label(column), row.text(index)?));
            names.map(value).collect::<PolarsResult<Vec<_>>>().map(Product)
        };
        let by_kind = kinds.iter().map(|kind| col(CHANGE).eq(lit(*kind)).sum().alias(*kind));
        let mut numbers = vec![len().alias("changes"), col(roles.device).n_unique().alias("devices")];
        numbers.extend(by_kind);
        let is_of_product = kinds.iter().map(|kind| col(CHANGE).eq(lit(*kind))).reduce(Expr::or);
        let products = lazy()
            .filter(is_of_product.unwrap_or_else(|| lit(false)))
            .group_by(roles.product.iter().map(|column| col(*column)).collect::<Vec<_>>())
            .agg(numbers)
            .collect()?;
        for row in FrameRows::of(&products) {
            let changes = self.all_products.entry(product(&row)?).or_default();
            changes.changes += row.number(num_names)?;
            changes.devices += row.number(num_names + 1)?;
            for (index, kind) in kinds.iter().enumerate() {
                *changes.by_kind.entry(kind).or_default() += row.number(num_names + 2 + index)?;
            }
        }
        let (Some(status), Some(kind)) = (roles.status, roles.status_kind()) else { return Ok(()) };
        let has_ended = |value: &str| col(value).str().starts_with(lit(status.prefix));
        let ended = has_ended(NEW_VALUE)
            .and(has_ended(OLD_VALUE).fill_null(lit(false)).not())
            .and(col(CHANGE).eq(lit(kind)));
        let version = roles.version.map_or_else(|| lit(NULL).cast(DataType::String), |_| col(NEW_VERSION));
        let mut by: Vec<_> = roles.product.iter().map(|column| col(*column)).collect();
        by.extend([version.alias(NEW_VERSION), col(NEW_VALUE)]);
        let ended = lazy()
            .filter(ended)
            .group_by(by)
            .agg([col(roles.device).n_unique().alias("devices")])
            .collect()?;
        for row in FrameRows::of(&ended) {
            let key = (product(&row)?, row.text(num_names)?, row.text(num_names + 1)?);
            *self.all_end_of_support.entry(key).or_default() += row.number(num_names + 2)?;
        }
        Ok(())
    }

    /// Selects the rows of the tables, after all frames were added.
    pub fn finish(&mut self) {
        let products = std::mem::take(&mut self.all_products);
        self.products =
            products.into_iter().map(|(product, changes)| ProductChanges { product, ..changes }).collect();
        self.products.sort_by_key(|product| std::cmp::Reverse(product.changes));
        self.products.truncate(MOST_NAMED);
        let ended = std::mem::take(&mut self.all_end_of_support);
        self.end_of_support = ended
            .into_iter()
            .map(|((product, version, status), devices)| EndOfSupport { product, version, status, devices })
            .collect();
        self.end_of_support.sort_by_key(|software| std::cmp::Reverse(software.devices));
        self.end_of_support.truncate(MOST_NAMED);
    }

    /// Returns the summary for people.
    pub fn text(&self) -> String {
        let date = |compared: &Compared| time_cell(&compared.generated_time);
        let total: u64 = self.changes.values().map(|counts| counts.total).sum();
        let mut text = format!(
            "{}: {} from {} to {}\n",
            self.dataset,
            count(total, "change"),
            date(&self.from),
            date(&self.to)
        );
        if total > 0 {
            let header = ["change", "total", "known devices", "new devices", "gone devices"];
            let kinds = self.roles.kinds().into_iter().map(|kind| (kind, self.changes[kind]));
            let rows = kinds.filter(|(_, counts)| counts.total > 0);
            let rows = rows.map(|(kind, counts)| {
                let numbers =
                    [counts.total, counts.on_known_devices, counts.on_new_devices, counts.on_gone_devices];
                std::iter::once(kind.to_owned()).chain(numbers.map(grouped)).collect()
            });
            let _ = write!(text, "\n{}", table(&header, 1, rows));
        }
        let names: Vec<_> = self.roles.product.iter().map(|column| self.roles.label(column)).collect();
        if !self.products.is_empty() {
            text.push_str("\nproducts with most changes\n");
            let kinds = self.roles.product_kinds();
            let mut header = names.clone();
            header.push("changes");
            header.extend(kinds.iter().map(|kind| kind.trim_end_matches("_changed")));
            header.push("devices");
            let rows = self.products.iter().map(|product| {
                let mut cells = product.product.cells();
                cells.push(grouped(product.changes));
                cells.extend(
                    kinds.iter().map(|kind| grouped(product.by_kind.get(kind).copied().unwrap_or(0))),
                );
                cells.push(grouped(product.devices));
                cells
            });
            text.push_str(&table(&header, names.len(), rows));
        }
        if !self.end_of_support.is_empty() {
            let title = self.roles.status.map_or("", |status| status.title);
            let _ = write!(text, "\n{title}\n");
            let rows = self.end_of_support.iter().map(|software| {
                let mut cells = software.product.cells();
                cells.extend([&software.version, &software.status].map(|text| named(text.as_deref())));
                cells.push(grouped(software.devices));
                cells
            });
            let mut header = names.clone();
            header.extend(["version", "status", "devices"]);
            text.push_str(&table(&header, names.len() + 2, rows));
        }
        if let Some(out) = &self.out {
            let _ = writeln!(text, "\nall changes: {}", printable(out));
        }
        text
    }
}

/// A small frame, row by row.
pub(super) struct FrameRows<'a> {
    frame: &'a DataFrame,
    row: usize,
}

impl<'a> FrameRows<'a> {
    pub(super) fn of(frame: &'a DataFrame) -> impl Iterator<Item = Self> {
        (0..frame.height()).map(move |row| Self { frame, row })
    }

    pub(super) fn text(&self, column: usize) -> PolarsResult<Option<String>> {
        Ok(match self.value(column)? {
            AnyValue::Null => None,
            value => Some(value.get_str().unwrap_or_default().to_owned()),
        })
    }

    pub(super) fn number(&self, column: usize) -> PolarsResult<u64> {
        Ok(self.value(column)?.extract().unwrap_or(0))
    }

    pub(super) fn cell(&self, column: usize) -> PolarsResult<String> {
        Ok(super::text::cell(&self.value(column)?))
    }

    fn value(&self, column: usize) -> PolarsResult<AnyValue<'a>> {
        self.frame.columns()[column].get(self.row)
    }
}
