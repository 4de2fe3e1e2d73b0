//! What the page shows, section by section: plain values without text of the page's own.
//!
//! Counted as `trend` and `diff` count. A section of a table that the lake lacks is empty or `None`. Text from the lake is
//! as the service wrote it, never escaped; `None` is null. Lists are complete if their `left_out` is 0; they are ordered
//! as the page shows them first. No field holds a device's name or path but those of [`PageData::devices`].

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// A page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageData {
    /// What the page rests on.
    pub head: Head,
    /// The key figures, in their order: those of tables that the lake has.
    pub figures: Vec<Figure>,
    /// What came and went between consecutive snapshots, a table each. The lines over time are [`Figure::series`].
    pub flows: Vec<Flow>,
    /// What changed since the snapshot before, a table each; none of a table with one snapshot.
    pub changes: Vec<Changes>,
    /// Support that has ended or will end, a table each.
    pub support: Vec<Support>,
    /// Vulnerabilities, a table each.
    pub exposure: Vec<Exposure>,
    /// Products, a table each.
    pub products: Vec<Products>,
    /// Figures by platform.
    pub platforms: Option<Breakdown>,
    /// Figures by device group.
    pub groups: Option<Breakdown>,
    /// What expires soon, such as certificates, a table each.
    pub expiries: Vec<Expiries>,
    /// What has a high risk, such as browser extensions, a table each.
    pub risks: Vec<Risks>,
    /// Devices with most findings by name, if asked for: the only place with names of devices.
    pub devices: Option<Devices>,
}

/// What the page rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Path or URL of the lake, as given.
    pub lake: String,
    /// The newest generated time among the snapshots that the page is about.
    pub generated_time: DateTime<Utc>,
    /// When the page was made: ages count until then.
    pub made_at: DateTime<Utc>,
    /// Version of the program.
    pub tool_version: String,
    /// The date that the page is about.
    pub date: NaiveDate,
    /// First date of the history that the page shows.
    pub since: NaiveDate,
    /// The tables, each with the snapshot that its sections are about.
    pub datasets: Vec<DatasetFacts>,
    /// What a reader should know before believing the figures; mostly empty.
    pub notes: Vec<Note>,
}

/// A table and its snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Name of the table: `software_inventory`.
    pub dataset: String,
    /// Date of the snapshot.
    pub date: NaiveDate,
    /// When the service generated it.
    pub generated_time: DateTime<Utc>,
    /// Its rows.
    pub rows: u64,
    /// Snapshots of the history that the page shows, this one included.
    pub num_snapshots: u64,
    /// Date of the first of them.
    pub first_date: NaiveDate,
    /// Days without a snapshot between the first of them and this one.
    pub num_missing_days: u64,
}

/// What a reader should know before believing the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The newest snapshot is old: the page is about the newest date, and it is more than two days ago.
    Stale {
        /// When the service generated it.
        generated_time: DateTime<Utc>,
        /// Whole days since.
        days: u64,
    },
    /// A table has no snapshot of the page's date; its sections are about an older one.
    Behind {
        /// The table.
        dataset: String,
        /// Date of its snapshot.
        date: NaiveDate,
        /// Days before the page's date.
        days: u64,
    },
    /// Days without a snapshot in the history of a table.
    MissingDays {
        /// The table.
        dataset: String,
        /// The days from first to last, oldest first.
        gaps: Vec<DayRange>,
        /// All of them together.
        days: u64,
    },
    /// Records or fields that were rejected when the snapshot was ingested.
    Rejects {
        /// The table.
        dataset: String,
        /// Records that are not in the table.
        records: u64,
        /// Fields that are null instead of their value.
        fields: u64,
    },
    /// Fields of the records that the table has no column for.
    UndocumentedFields {
        /// The table.
        dataset: String,
        /// Names as written, and in how many records they were.
        fields: BTreeMap<String, u64>,
    },
    /// The table of the page's date was newly ingested and its history holds this snapshot alone: nothing to compare.
    OneSnapshot {
        /// The table.
        dataset: String,
    },
}

/// Days that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayRange {
    /// The first.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

/// A key figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name, as in `data-figure`: `devices`.
    pub name: String,
    /// What it counts, in few words: `Vulnerabilities`.
    pub title: String,
    /// Table that it is of.
    pub dataset: String,
    /// Date of the snapshot.
    pub date: NaiveDate,
    /// The value on that date.
    pub value: FigureValue,
    /// The snapshot before, if there is one.
    pub before: Option<Point>,
    /// The newest snapshot that is at least 30 days older, if there is one.
    pub month_before: Option<Point>,
    /// Its history, oldest first, the value itself last: one point a snapshot. A day without a snapshot has no point.
    pub series: Vec<Point>,
    /// Which direction is good news.
    pub better: Better,
}

impl Figure {
    /// Returns the value for programs: digits of a count, a decimal fraction, empty for nothing.
    pub fn raw(&self) -> String {
        match self.value {
            FigureValue::Count(count) => count.to_string(),
            FigureValue::Share(share) => share.map_or_else(String::new, |share| share.to_string()),
        }
    }
}

/// The value of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureValue {
    /// A count.
    Count(i64),
    /// A share from 0 to 1; `None` if there is nothing to have a share of.
    Share(Option<f64>),
}

/// A value on a date.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Date of the snapshot.
    pub date: NaiveDate,
    /// The value.
    pub value: FigureValue,
}

/// Which direction of a figure is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
    /// Neither.
    Neither,
}

/// What came and went in a table, by consecutive snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The table.
    pub dataset: String,
    /// Word for what came: `installed`, `found`.
    pub added: String,
    /// Word for what went: `removed`, `fixed`.
    pub removed: String,
    /// A pair of consecutive snapshots each, oldest first.
    pub days: Vec<FlowDay>,
}

/// What came and went between two consecutive snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowDay {
    /// Date of the older snapshot: more than a day before `date` if days are missing.
    pub from: NaiveDate,
    /// Date of the newer snapshot.
    pub date: NaiveDate,
    /// What came.
    pub added: u64,
    /// What went.
    pub removed: u64,
}

/// What changed in a table since the snapshot before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The table.
    pub dataset: String,
    /// Date of the older snapshot.
    pub from: NaiveDate,
    /// Date of the newer one.
    pub to: NaiveDate,
    /// All kinds, those without a change too, in the order of `diff`.
    pub kinds: Vec<KindChanges>,
    /// The things with most changes, most first: products, or what the table has instead.
    pub products: Vec<ProductChanges>,
    /// Columns of [`ProductChanges::name`]: `vendor`, `product`.
    pub name_columns: Vec<String>,
    /// How many more things have changes.
    pub left_out: u64,
}

/// Changes of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindChanges {
    /// Name of the kind: `version_changed`.
    pub kind: String,
    /// Whether it is a change of a device as such.
    pub is_of_devices: bool,
    /// All.
    pub total: u64,
    /// On devices that are in both snapshots.
    pub on_known_devices: u64,
    /// On devices that only the new snapshot has.
    pub on_new_devices: u64,
    /// On devices that only the old snapshot has.
    pub on_gone_devices: u64,
}

/// Changes of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductChanges {
    /// The product's name, a value for each of [`Changes::name_columns`].
    pub name: Vec<Option<String>>,
    /// Changes of all kinds.
    pub changes: u64,
    /// Devices that have any of them.
    pub devices: u64,
    /// By kind, in the order of [`Changes::kinds`] without those of devices.
    pub by_kind: Vec<u64>,
}

/// Support that has ended, or will end within 180 days, in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// The table.
    pub dataset: String,
    /// Columns of [`EndOfSupport::name`]: `vendor`, `product`.
    pub name_columns: Vec<String>,
    /// Devices with something out of support.
    pub devices: u64,
    /// Installations out of support: the figure `end_of_support`.
    pub installations: u64,
    /// What is out of support now, most devices first.
    pub ended: Vec<EndOfSupport>,
    /// How much more is out of support.
    pub ended_left_out: u64,
    /// What ends within the days, by its date: not out of support yet, with a date from the snapshot's on.
    pub ending: Vec<EndOfSupport>,
    /// How much more will end.
    pub ending_left_out: u64,
    /// Days that [`Support::ending`] looks ahead: 180.
    pub days_ahead: u32,
}

/// A version whose support has ended or will end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndOfSupport {
    /// The product's name, a value for each of [`Support::name_columns`].
    pub name: Vec<Option<String>>,
    /// The version.
    pub version: Option<String>,
    /// The status as the service words it: `EOS Version`.
    pub status: Option<String>,
    /// When support ended or ends.
    pub date: Option<NaiveDate>,
    /// Devices that have it.
    pub devices: u64,
    /// Its rows.
    pub installations: u64,
}

/// The vulnerabilities of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// The table.
    pub dataset: String,
    /// Severities that there are, the worst first; unknown wordings and null after the known ones.
    pub severities: Vec<Option<String>>,
    /// Levels of exploitability that there are, the worst first; unknown wordings and null after the known ones.
    pub exploitabilities: Vec<Option<String>>,
    /// For each of `exploitabilities`, whether it says that there is an exploit.
    pub is_exploitable: Vec<bool>,
    /// Findings by severity, then by exploitability: `matrix[severity][exploitability]`.
    pub matrix: Vec<Vec<u64>>,
    /// CVEs on most devices, the worst first: by devices.
    pub cves: Vec<Cve>,
    /// All CVEs: the measure `cves`.
    pub num_cves: u64,
    /// Open findings by how long ago they were first seen, the newest first.
    pub ages: Vec<AgeBucket>,
    /// Products with most findings.
    pub products: Vec<VulnerableProduct>,
    /// All products with findings.
    pub num_products: u64,
    /// Columns of [`VulnerableProduct::name`].
    pub name_columns: Vec<String>,
}

/// A CVE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cve {
    /// Its identifier.
    pub id: String,
    /// Position in [`Exposure::severities`]: the worst that rows have.
    pub severity: usize,
    /// Position in [`Exposure::exploitabilities`]: the worst that rows have.
    pub exploitability: usize,
    /// The highest CVSS score that rows have.
    pub score: Option<f64>,
    /// Devices that have it.
    pub devices: u64,
    /// Its findings.
    pub findings: u64,
    /// Findings with a security update.
    pub findings_with_update: u64,
}

/// Findings of an age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeBucket {
    /// Least age in days; `None`: it is not known when they were first seen.
    pub from_days: Option<u32>,
    /// Most days, inclusive; `None`: any.
    pub to_days: Option<u32>,
    /// Findings for each of [`Exposure::severities`].
    pub by_severity: Vec<u64>,
}

/// A product with vulnerabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VulnerableProduct {
    /// The product's name, a value for each of [`Exposure::name_columns`].
    pub name: Vec<Option<String>>,
    /// Findings.
    pub findings: u64,
    /// Findings of the worst severity: the measure `critical`.
    pub critical: u64,
    /// Findings with an exploit: the measure `exploitable`.
    pub exploitable: u64,
    /// CVEs.
    pub cves: u64,
    /// Devices.
    pub devices: u64,
    /// Findings with a security update: an update exists for all, some or none.
    pub findings_with_update: u64,
}

/// All products of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Products {
    /// The table.
    pub dataset: String,
    /// Columns of [`Product::name`]: `vendor`, `product`.
    pub name_columns: Vec<String>,
    /// Platforms, most devices first; empty if the table has none.
    pub platforms: Vec<Option<String>>,
    /// Device groups, most devices first.
    pub groups: Vec<Option<String>>,
    /// Whether [`Product::weaknesses`] are known.
    pub has_weaknesses: bool,
    /// Whether [`Product::ended`] is known.
    pub has_support: bool,
    /// Products, most devices first.
    pub products: Vec<Product>,
    /// All products: the figure `products`.
    pub num_products: u64,
    /// Products that are not listed, those on the fewest devices, for the page's size.
    pub left_out: u64,
    /// Listed products without [`Product::detail`], for the page's size.
    pub without_detail: u64,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its name, a value for each of [`Products::name_columns`].
    pub name: Vec<Option<String>>,
    /// Devices that have it.
    pub devices: u64,
    /// Its rows.
    pub installations: u64,
    /// Versions that are told apart.
    pub num_versions: u64,
    /// Sum of its weaknesses.
    pub weaknesses: i64,
    /// Installations out of support.
    pub ended: u64,
    /// Where it is and in which versions.
    pub detail: Option<ProductDetail>,
}

/// Where a product is and in which versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDetail {
    /// Versions on most devices, most first, and how many devices have each. Of the others only
    /// [`Product::num_versions`] is known.
    pub versions: Vec<(Option<String>, u64)>,
    /// Positions in [`Products::platforms`] and devices, most first.
    pub platforms: Vec<(u32, u64)>,
    /// Positions in [`Products::groups`] and devices, most first.
    pub groups: Vec<(u32, u64)>,
}

/// Figures by a property of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// The figures: columns of the table.
    pub figures: Vec<BreakdownFigure>,
    /// A value each, most devices first.
    pub rows: Vec<BreakdownRow>,
    /// How many more values there are.
    pub left_out: u64,
}

/// A figure that is known by a property of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakdownFigure {
    /// Name: `devices`.
    pub name: String,
    /// What it counts, in few words.
    pub title: String,
    /// Table that it is of.
    pub dataset: String,
}

/// The figures of a platform or group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakdownRow {
    /// The platform or group.
    pub value: Option<String>,
    /// Its figures in the order of [`Breakdown::figures`]; `None` if the table has no row of it.
    pub figures: Vec<Option<FigureValue>>,
}

/// What expires soon in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiries {
    /// The table.
    pub dataset: String,
    /// Rows that expired before the snapshot.
    pub expired: u64,
    /// What expires within the days, the next first.
    pub items: Vec<Expiry>,
    /// How many more expire within the days.
    pub left_out: u64,
    /// Days that it looks ahead: 90.
    pub days_ahead: u32,
}

/// Something that expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Its identifier: a certificate's thumbprint.
    pub id: Option<String>,
    /// Its name: the common name of the subject if it has one, else the text as it is. `None` too if it names a device, as
    /// the certificate of a host does.
    pub name: Option<String>,
    /// When it expires.
    pub expires: DateTime<Utc>,
    /// Whole days from the snapshot's time until then.
    pub days: u64,
    /// Devices that have it.
    pub devices: u64,
}

/// What has a high risk in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risks {
    /// The table.
    pub dataset: String,
    /// Rows with a high risk: the measure `high_risk`.
    pub rows: u64,
    /// What it is, most devices first.
    pub items: Vec<Risk>,
    /// How many more there are.
    pub left_out: u64,
}

/// Something with a high risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// Its identifier.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Where it runs: a browser.
    pub place: Option<String>,
    /// Its risk as the service words it: `High`, `Critical`.
    pub risk: Option<String>,
    /// Devices that have it.
    pub devices: u64,
    /// Devices on which it is switched on.
    pub active_devices: u64,
}

/// The devices with most findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// The table of the findings: vulnerabilities, or the table of the figures.
    pub dataset: String,
    /// Name of what is counted: `findings`, `weaknesses`.
    pub counted: String,
    /// Most findings first, as many as were asked for.
    pub devices: Vec<Device>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: Option<String>,
    /// Its platform.
    pub platform: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its findings.
    pub findings: i64,
}
