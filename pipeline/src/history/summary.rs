//! What a diff comes to: the counts that a person looks at first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use polars::prelude::*;
use serde::Serialize;

use super::HistoryError;
use super::change_filter::ChangeFilter;
use super::diff::{KINDS, PRESENCE};
use crate::display::{count, grouped, named, table, time_cell};
use crate::printable::printable;

/// Products, and software out of support, that a summary names.
const MOST_NAMED: usize = 10;

/// How a status of the service begins where support has ended. "Upcoming…" says that it will; the set is open.
pub const END_OF_SUPPORT: &str = "EOS";

fn is_end_of_support(status: Expr) -> Expr {
    status.str().starts_with(lit(END_OF_SUPPORT))
}

/// Changes of one kind, by whether their device is in both snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// All.
    pub total: u64,
    /// On devices that are in both snapshots.
    pub on_known_devices: u64,
    /// On devices that are in the new one alone.
    pub on_new_devices: u64,
    /// On devices that are in the old one alone.
    pub on_gone_devices: u64,
}

/// Changes of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProductChanges {
    /// `SoftwareVendor`.
    pub vendor: Option<String>,
    /// `SoftwareName`.
    pub product: Option<String>,
    /// All kinds.
    pub changes: u64,
    /// By kind, the kinds of software alone.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Devices that have any of them.
    pub devices: u64,
}

/// A version whose support has ended since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndOfSupport {
    /// `SoftwareVendor`.
    pub vendor: Option<String>,
    /// `SoftwareName`.
    pub product: Option<String>,
    /// `SoftwareVersion`.
    pub version: Option<String>,
    /// What the new snapshot says.
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
    /// Which changes were wanted.
    #[serde(rename = "where")]
    pub filter: ChangeFilter,
    /// ChangeCounts by kind; every kind is there.
    pub changes: BTreeMap<&'static str, ChangeCounts>,
    /// The products with most changes.
    pub products: Vec<ProductChanges>,
    /// Newly out of support, by devices.
    pub end_of_support: Vec<EndOfSupport>,
    /// Where all changes are.
    pub out: Option<String>,
    #[serde(skip)]
    all_products: BTreeMap<(Option<String>, Option<String>), ProductChanges>,
    #[serde(skip)]
    all_end_of_support: BTreeMap<[Option<String>; 4], u64>,
}

impl Summary {
    /// A summary of nothing yet.
    pub fn new(dataset: &'static str, from: Compared, to: Compared, filter: ChangeFilter) -> Self {
        Self {
            dataset,
            from,
            to,
            filter,
            changes: KINDS.iter().map(|kind| (*kind, ChangeCounts::default())).collect(),
            products: Vec::new(),
            end_of_support: Vec::new(),
            out: None,
            all_products: BTreeMap::new(),
            all_end_of_support: BTreeMap::new(),
        }
    }

    /// ChangeCounts the changes of a frame. All changes of a device are in one frame.
    ///
    /// # Errors
    ///
    /// What the engine says.
    ///
    /// # Panics
    ///
    /// A change is of no kind of ours.
    pub fn add(&mut self, changes: &DataFrame) -> Result<(), HistoryError> {
        let lazy = || changes.clone().lazy();
        let counts =
            lazy().group_by([col("Change"), col(PRESENCE)]).agg([len().alias("changes")]).collect()?;
        for row in FrameRows::of(&counts) {
            let (kind, presence, number) = (row.text(0)?, row.text(1)?, row.number(2)?);
            let kind = KINDS.iter().find(|known| Some(**known) == kind.as_deref());
            let counts = self.changes.entry(kind.expect("a kind of ours")).or_default();
            counts.total += number;
            match presence.as_deref() {
                Some("new") => counts.on_new_devices += number,
                Some("gone") => counts.on_gone_devices += number,
                _ => counts.on_known_devices += number,
            }
        }
        let software = KINDS.iter().filter(|kind| !kind.starts_with("device_"));
        let by_kind = software.clone().map(|kind| col("Change").eq(lit(*kind)).sum().alias(*kind));
        let mut numbers = vec![len().alias("changes"), col("DeviceId").n_unique().alias("devices")];
        numbers.extend(by_kind);
        let products = lazy()
            .filter(col("Change").str().starts_with(lit("device_")).not())
            .group_by([col("SoftwareVendor"), col("SoftwareName")])
            .agg(numbers)
            .collect()?;
        for row in FrameRows::of(&products) {
            let (vendor, product) = (row.text(0)?, row.text(1)?);
            let changes = self.all_products.entry((vendor, product)).or_default();
            changes.changes += row.number(2)?;
            changes.devices += row.number(3)?;
            for (index, kind) in software.clone().enumerate() {
                *changes.by_kind.entry(kind).or_default() += row.number(4 + index)?;
            }
        }
        let ended = is_end_of_support(col("NewValue"))
            .and(is_end_of_support(col("OldValue")).fill_null(lit(false)).not())
            .and(col("Change").eq(lit("end_of_support_changed")));
        let ended = lazy()
            .filter(ended)
            .group_by(["SoftwareVendor", "SoftwareName", "NewVersion", "NewValue"].map(col))
            .agg([col("DeviceId").n_unique().alias("devices")])
            .collect()?;
        for row in FrameRows::of(&ended) {
            let key = [row.text(0)?, row.text(1)?, row.text(2)?, row.text(3)?];
            *self.all_end_of_support.entry(key).or_default() += row.number(4)?;
        }
        Ok(())
    }

    /// Chooses what is named, once all is counted.
    pub fn finish(&mut self) {
        let products = std::mem::take(&mut self.all_products);
        self.products = products
            .into_iter()
            .map(|((vendor, product), changes)| ProductChanges { vendor, product, ..changes })
            .collect();
        self.products.sort_by_key(|product| std::cmp::Reverse(product.changes));
        self.products.truncate(MOST_NAMED);
        let ended = std::mem::take(&mut self.all_end_of_support);
        self.end_of_support = ended
            .into_iter()
            .map(|([vendor, product, version, status], devices)| EndOfSupport {
                vendor,
                product,
                version,
                status,
                devices,
            })
            .collect();
        self.end_of_support.sort_by_key(|software| std::cmp::Reverse(software.devices));
        self.end_of_support.truncate(MOST_NAMED);
    }

    /// The summary for people.
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
            let rows =
                KINDS.iter().map(|kind| (kind, self.changes[kind])).filter(|(_, counts)| counts.total > 0);
            let rows = rows.map(|(kind, counts)| {
                let numbers =
                    [counts.total, counts.on_known_devices, counts.on_new_devices, counts.on_gone_devices];
                std::iter::once((*kind).to_owned()).chain(numbers.map(grouped)).collect()
            });
            let _ = write!(text, "\n{}", table(&header, 1, rows));
        }
        if !self.products.is_empty() {
            text.push_str("\nproducts with most changes\n");
            let kinds = KINDS.iter().filter(|kind| !kind.starts_with("device_"));
            let header: Vec<_> = ["vendor", "product", "changes"]
                .into_iter()
                .chain(kinds.clone().map(|kind| kind.trim_end_matches("_changed")))
                .chain(["devices"])
                .collect();
            let rows = self.products.iter().map(|product| {
                let mut cells = vec![named(product.vendor.as_deref()), named(product.product.as_deref())];
                cells.push(grouped(product.changes));
                cells.extend(
                    kinds.clone().map(|kind| grouped(product.by_kind.get(kind).copied().unwrap_or(0))),
                );
                cells.push(grouped(product.devices));
                cells
            });
            text.push_str(&table(&header, 2, rows));
        }
        if !self.end_of_support.is_empty() {
            text.push_str("\nnewly out of support\n");
            let rows = self.end_of_support.iter().map(|software| {
                let texts = [&software.vendor, &software.product, &software.version, &software.status];
                let mut cells: Vec<_> = texts.map(|text| named(text.as_deref())).into();
                cells.push(grouped(software.devices));
                cells
            });
            text.push_str(&table(&["vendor", "product", "version", "status", "devices"], 4, rows));
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
