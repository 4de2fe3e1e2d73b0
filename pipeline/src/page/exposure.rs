//! The vulnerabilities of a table: how severe and exploitable they are, how old, of which CVEs and products.
//!
//! Takes a table's newest snapshot, reads it once. Rows that say nothing but that the device is there are left out, as
//! `trend` leaves them out.

use std::collections::{BTreeMap, HashMap};

use schema::ExposureRoles;

use super::data::{AgeBucket, Cve, Exposure, VulnerableProduct};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::cube::{self, Cube, CubeRequest, Dimension, RollUpRequest};
use crate::history::{HistoryError, SnapshotReader};

/// CVEs and products that are shown, at most.
const MAX_CVES: usize = 50;
const MAX_PRODUCTS: usize = 50;

/// Least age of each bucket, in days; the next one's is the end.
const AGES: [u32; 6] = [0, 8, 31, 91, 181, 366];

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The values of a dimension in the order of the page, the worst first.
struct Ranks {
    values: Vec<Option<String>>,
    positions: HashMap<Option<String>, usize>,
}

impl Ranks {
    /// Orders values: the known ones, then others by their text, then null.
    fn new(found: impl Iterator<Item = Option<String>>, known: &[&str]) -> Self {
        let rank = |value: &Option<String>| match value {
            Some(text) => known.iter().position(|known| *known == text.as_str()).unwrap_or(known.len()),
            None => usize::MAX,
        };
        let mut values: Vec<_> = found.collect();
        values.sort_unstable_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.cmp(other)));
        values.dedup();
        let positions = values.iter().cloned().zip(0..).collect();
        Self { values, positions }
    }

    fn of(&self, value: Option<&str>) -> usize {
        self.positions[&value.map(str::to_owned)]
    }
}

/// Returns the vulnerabilities of a table, if it declares them.
pub(super) fn read(
    table: &TableSnapshots,
    newest: &SnapshotReader<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<Exposure>, HistoryError> {
    let Some(roles) = table.report.exposure else { return Ok(None) };
    let now = newest.generated_time().timestamp_micros();
    let mut dimensions = vec![
        Dimension::Text(roles.severity),
        Dimension::Text(roles.exploitability),
        Dimension::Text(roles.finding),
        Dimension::Float(roles.score),
        Dimension::NumberClass(
            roles.first_seen,
            Box::new(move |time| Some(time.map(|time| age_bucket(now, time)))),
        ),
        Dimension::NumberClass(roles.update_available, Box::new(Some)),
    ];
    let names: Vec<_> = (dimensions.len()..).take(table.report.name.len()).collect();
    dimensions.extend(table.report.name.iter().map(|column| Dimension::Text(column)));
    if let Some(column) = table.roles.only_with {
        dimensions.push(Dimension::TextClass(column, Box::new(|text| text.map(|_| 0))));
    }
    let with_name = |others: &[usize]| names.iter().chain(others).copied().collect::<Vec<_>>();
    let rollup = |dimensions: Vec<usize>| RollUpRequest { dimensions, devices: false };
    let with_devices = |dimensions: Vec<usize>| RollUpRequest { dimensions, devices: true };
    let request = CubeRequest {
        device: table.roles.device,
        dimensions,
        sum: None,
        rollups: vec![
            rollup(vec![SEVERITY, EXPLOITABILITY]),
            rollup(vec![SEVERITY, AGE]),
            with_devices(vec![FINDING]),
            rollup(vec![FINDING, SEVERITY, EXPLOITABILITY, SCORE, UPDATE]),
            with_devices(with_name(&[])),
            rollup(with_name(&[FINDING])),
            rollup(with_name(&[SEVERITY, EXPLOITABILITY, UPDATE])),
        ],
    };
    let cube = cube::read(newest, &request, memory_bytes, cancel)?;
    Ok(Some(exposure(table, &cube, roles)))
}

/// Positions of the dimensions.
const SEVERITY: usize = 0;
const EXPLOITABILITY: usize = 1;
const FINDING: usize = 2;
const SCORE: usize = 3;
const AGE: usize = 4;
const UPDATE: usize = 5;

/// Positions of the roll-ups.
const MATRIX: usize = 0;
const AGES_BY_SEVERITY: usize = 1;
const FINDINGS: usize = 2;
const FINDING_FACTS: usize = 3;
const PRODUCTS: usize = 4;
const PRODUCT_FINDINGS: usize = 5;
const PRODUCT_FACTS: usize = 6;

/// Returns the position of an age in [`AGES`]; what was first seen after the snapshot was made is new.
fn age_bucket(now: i64, first_seen: i64) -> i64 {
    let days = now.saturating_sub(first_seen).div_euclid(DAY_MICROS);
    let bucket = AGES.iter().rposition(|least| i64::from(*least) <= days).unwrap_or(0);
    i64::try_from(bucket).expect("few buckets")
}

fn exposure(table: &TableSnapshots, cube: &Cube, roles: ExposureRoles) -> Exposure {
    let found =
        |index: usize| cube.cells(MATRIX).map(move |(values, _)| values[index].text().map(str::to_owned));
    let severities = Ranks::new(found(0), roles.severities);
    let known: Vec<_> = roles.exploitable.iter().chain(roles.not_exploitable).copied().collect();
    let exploitabilities = Ranks::new(found(1), &known);
    let is_exploitable = |value: Option<&str>| value.is_some_and(|value| roles.exploitable.contains(&value));
    let mut matrix = vec![vec![0; exploitabilities.values.len()]; severities.values.len()];
    for (values, counts) in cube.cells(MATRIX) {
        matrix[severities.of(values[0].text())][exploitabilities.of(values[1].text())] += counts.rows;
    }
    let mut cves = cves(cube, &severities, &exploitabilities);
    let num_cves = cves.len() as u64;
    cves.sort_unstable_by(|one, other| {
        let worst = |cve: &Cve| (cve.severity, cve.exploitability);
        other
            .devices
            .cmp(&one.devices)
            .then(worst(one).cmp(&worst(other)))
            .then_with(|| one.id.cmp(&other.id))
    });
    cves.truncate(MAX_CVES);
    let mut products = products(cube, table.report.name.len(), roles);
    let num_products = products.len() as u64;
    products.sort_unstable_by(|one, other| {
        other.findings.cmp(&one.findings).then_with(|| one.name.cmp(&other.name))
    });
    products.truncate(MAX_PRODUCTS);
    Exposure {
        dataset: table.dataset().to_owned(),
        is_exploitable: exploitabilities
            .values
            .iter()
            .map(|value| is_exploitable(value.as_deref()))
            .collect(),
        ages: ages(cube, &severities),
        severities: severities.values,
        exploitabilities: exploitabilities.values,
        matrix,
        cves,
        num_cves,
        products,
        num_products,
        name_columns: table.name_columns(),
    }
}

/// Returns the findings of each age; of an unknown one only if there are any.
fn ages(cube: &Cube, severities: &Ranks) -> Vec<AgeBucket> {
    let ends = AGES[1..].iter().map(|next| Some(next - 1)).chain([None]);
    let known = AGES.iter().zip(ends).map(|(least, most)| (Some(*least), most));
    let mut buckets: Vec<_> = known
        .chain([(None, None)])
        .map(|(from_days, to_days)| AgeBucket {
            from_days,
            to_days,
            by_severity: vec![0; severities.values.len()],
        })
        .collect();
    for (values, counts) in cube.cells(AGES_BY_SEVERITY) {
        let bucket = values[1].number().and_then(|bucket| usize::try_from(bucket).ok()).unwrap_or(AGES.len());
        buckets[bucket].by_severity[severities.of(values[0].text())] += counts.rows;
    }
    if buckets[AGES.len()].by_severity.iter().all(|findings| *findings == 0) {
        buckets.pop();
    }
    buckets
}

fn cves(cube: &Cube, severities: &Ranks, exploitabilities: &Ranks) -> Vec<Cve> {
    let mut cves: BTreeMap<&str, Cve> = BTreeMap::new();
    for (values, counts) in cube.cells(FINDINGS) {
        let Some(id) = values[0].text() else { continue };
        cves.insert(
            id,
            Cve {
                id: id.to_owned(),
                severity: severities.values.len(),
                exploitability: exploitabilities.values.len(),
                score: None,
                devices: counts.devices,
                findings: counts.rows,
                findings_with_update: 0,
            },
        );
    }
    for (values, counts) in cube.cells(FINDING_FACTS) {
        let Some(cve) = values[0].text().and_then(|id| cves.get_mut(id)) else { continue };
        cve.severity = cve.severity.min(severities.of(values[1].text()));
        cve.exploitability = cve.exploitability.min(exploitabilities.of(values[2].text()));
        let score = values[3].float();
        cve.score = match (cve.score, score) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        if values[4].number() == Some(1) {
            cve.findings_with_update += counts.rows;
        }
    }
    cves.into_values().collect()
}

fn products(cube: &Cube, num_names: usize, roles: ExposureRoles) -> Vec<VulnerableProduct> {
    let name_of = |values: &[&cube::DimensionValue]| {
        values[..num_names].iter().map(|value| value.text().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut products: BTreeMap<Vec<Option<String>>, VulnerableProduct> = BTreeMap::new();
    for (values, counts) in cube.cells(PRODUCTS) {
        let name = name_of(&values);
        let product = VulnerableProduct {
            name: name.clone(),
            findings: counts.rows,
            critical: 0,
            exploitable: 0,
            cves: 0,
            devices: counts.devices,
            findings_with_update: 0,
        };
        products.insert(name, product);
    }
    for (values, _) in cube.cells(PRODUCT_FINDINGS) {
        products.entry(name_of(&values)).and_modify(|product| product.cves += 1);
    }
    for (values, counts) in cube.cells(PRODUCT_FACTS) {
        let [severity, exploitability, update] = values[num_names..] else { continue };
        products.entry(name_of(&values)).and_modify(|product| {
            if severity.text().is_some_and(|value| roles.severities.first() == Some(&value)) {
                product.critical += counts.rows;
            }
            if exploitability.text().is_some_and(|value| roles.exploitable.contains(&value)) {
                product.exploitable += counts.rows;
            }
            if update.number() == Some(1) {
                product.findings_with_update += counts.rows;
            }
        });
    }
    products.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_whole_days() {
        let check = |micros: i64, expected: i64| assert_eq!(age_bucket(0, -micros), expected, "{micros}");
        check(0, 0);
        check(-DAY_MICROS, 0);
        check(8 * DAY_MICROS - 1, 0);
        check(8 * DAY_MICROS, 1);
        check(365 * DAY_MICROS, 4);
        check(366 * DAY_MICROS, 5);
        check(i64::MAX, 5);
    }
}
