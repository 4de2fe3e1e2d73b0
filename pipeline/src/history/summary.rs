//! Summary of a diff: counts by kind, the products with most changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use schema::Status;
use serde::Serialize;

use super::change_filter::ChangeFilter;
use super::diff::{Change, Presence};
use super::roles::{DeviceChangeKind, Roles};
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
    fn new(roles: Roles, values: &[Option<&str>]) -> Self {
        let labels = roles.product.iter().map(|column| roles.label(column));
        Self(labels.zip(values.iter().map(|value| value.map(str::to_owned))).collect())
    }

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

/// The counts of every product, found by a hash of its values.
#[derive(Debug, Default)]
struct ProductTable {
    counts: HashTable<ProductCounts>,
}

#[derive(Debug)]
struct ProductCounts {
    product: Vec<Option<Box<str>>>,
    /// In the order of [`Roles::product_kinds`].
    by_kind: Vec<u64>,
    devices: u64,
    /// Number of the last device that was counted.
    last_device: u64,
}

impl ProductTable {
    fn entry(&mut self, product: &[Option<&str>], num_kinds: usize) -> &mut ProductCounts {
        const HASH: FixedState = FixedState::with_seed(3);
        let is_same =
            |counts: &ProductCounts| counts.product.iter().map(Option::as_deref).eq(product.iter().copied());
        let hash = |product: &mut dyn Iterator<Item = Option<&str>>| {
            let mut hasher = HASH.build_hasher();
            product.for_each(|value| value.hash(&mut hasher));
            hasher.finish()
        };
        let own_hash = |counts: &ProductCounts| hash(&mut counts.product.iter().map(Option::as_deref));
        let entry = self.counts.entry(hash(&mut product.iter().copied()), is_same, own_hash);
        let entry = entry.or_insert_with(|| ProductCounts {
            product: product.iter().map(|value| value.map(Into::into)).collect(),
            by_kind: vec![0; num_kinds],
            devices: 0,
            last_device: 0,
        });
        entry.into_mut()
    }
}

impl ProductCounts {
    fn add(&mut self, kind: usize, device: u64) {
        self.by_kind[kind] += 1;
        if self.last_device != device {
            self.last_device = device;
            self.devices += 1;
        }
    }
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
    all_products: ProductTable,
    /// The device of the last change, and how many there were so far.
    #[serde(skip)]
    last_device: Box<str>,
    #[serde(skip)]
    num_devices: u64,
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
            all_products: ProductTable::default(),
            last_device: Box::default(),
            num_devices: 0,
            all_end_of_support: BTreeMap::new(),
        }
    }

    /// Counts a change. Changes come as [`super::diff::Diff::run`] gives them: those of a device one after the other,
    /// ordered by product.
    ///
    /// # Panics
    ///
    /// If a change has an unknown kind: a mistake of ours.
    pub fn add(&mut self, change: &Change<'_>) {
        let roles = self.roles;
        let counts = self.changes.get_mut(change.kind).expect("a declared kind");
        counts.total += 1;
        match change.presence() {
            Presence::Both => counts.on_known_devices += 1,
            Presence::New => counts.on_new_devices += 1,
            Presence::Gone => counts.on_gone_devices += 1,
        }
        if DeviceChangeKind::ALL.iter().any(|kind| kind.name() == change.kind) {
            return;
        }
        if *self.last_device != *change.device.id {
            self.last_device = change.device.id.clone();
            self.num_devices += 1;
        }
        let kinds = roles.product_kinds();
        let index = kinds.iter().position(|kind| *kind == change.kind).expect("a declared kind");
        self.all_products.entry(change.product, kinds.len()).add(index, self.num_devices);
        let has_ended =
            |value: Option<&str>, status: Status| value.is_some_and(|value| value.starts_with(status.prefix));
        if let Some(status) = roles.status
            && roles.status_kind() == Some(change.kind)
            && has_ended(change.new_value, status)
            && !has_ended(change.old_value, status)
        {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let product = Product::new(roles, change.product);
            let key = (product, text(change.new_version), text(change.new_value));
            *self.all_end_of_support.entry(key).or_default() += 1;
        }
    }
    /// Selects the rows of the tables, after all changes were added.
    pub fn finish(&mut self) {
        // A row that is its device has no product.
        if self.roles.product.is_empty() {
            self.all_products = ProductTable::default();
        }
        let kinds = self.roles.product_kinds();
        let products = std::mem::take(&mut self.all_products).counts.into_iter().map(|counts| {
            let product = counts.product.iter().map(Option::as_deref).collect::<Vec<_>>();
            ProductChanges {
                product: Product::new(self.roles, &product),
                changes: counts.by_kind.iter().sum(),
                by_kind: kinds.iter().copied().zip(counts.by_kind).collect(),
                devices: counts.devices,
            }
        });
        self.products = products.collect();
        self.products.sort_unstable_by(|one, other| {
            other.changes.cmp(&one.changes).then_with(|| one.product.cmp(&other.product))
        });
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
