//! The products of a table, with their versions, platforms and groups, and when their support ends.
//!
//! Takes a table's newest snapshot, reads it twice; gives every product that there is room for on the page, most devices
//! first. One read counts by platform and one by group: together they tell the versions of products apart seven times as
//! often, for which no figure asks.

use std::collections::HashMap;
use std::hash::Hash;

use chrono::{Days, NaiveDate};

use super::data::{EndOfSupport, Product, ProductDetail, Products, Support};
use super::tables::TableSnapshots;
use crate::cancel::Cancel;
use crate::history::cube::{self, CellCounts, Cube, CubeRequest, Dimension, DimensionValue, RollUpRequest};
use crate::history::{HistoryError, SnapshotReader};

/// Days that the timeline of support looks ahead.
const DAYS_AHEAD: u32 = 180;

/// Versions out of support, and versions of which support will end, that are shown at most.
const MAX_VERSIONS: usize = 100;

/// Versions, platforms and groups of a product that are told, at most.
const MAX_DETAILS: usize = 8;

/// Bytes of all products on the page, at most and mostly less: four fifths of what the page may have, the other sections
/// come on top.
const PRODUCTS_BYTES: usize = 2_400_000;

/// Bytes of a product's numbers and punctuation, and of an entry of its details.
const PRODUCT_BYTES: usize = 40;
const DETAIL_BYTES: usize = 12;

/// The room that is left for products, shared by all tables that have them.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    num_tables: usize,
}

impl Room {
    /// Returns the room for so many tables.
    pub(super) fn new(num_tables: usize) -> Self {
        Self { bytes: PRODUCTS_BYTES, num_tables }
    }

    /// Takes a table's share.
    fn take(&mut self) -> usize {
        let share = self.bytes / self.num_tables.max(1);
        self.num_tables = self.num_tables.saturating_sub(1);
        self.bytes -= share;
        share
    }
}

/// The positions of the dimensions in the cube.
struct Dimensions {
    name: Vec<usize>,
    version: Option<usize>,
    platform: Option<usize>,
    support: Option<SupportDimensions>,
}

#[derive(Clone, Copy)]
struct SupportDimensions {
    status: usize,
    has_ended: usize,
    end_date: usize,
}

/// The positions of the roll-ups in the cube.
struct RollUps {
    products: usize,
    versions: Option<usize>,
    by_platform: Option<usize>,
    platforms: Option<usize>,
    support: Option<SupportRollUps>,
}

#[derive(Clone, Copy)]
struct SupportRollUps {
    ended: usize,
    ended_products: usize,
    versions: usize,
}

/// Returns the products and the support of a table, as far as it declares them.
pub(super) fn read(
    table: &TableSnapshots,
    newest: &SnapshotReader<'_>,
    memory_bytes: u64,
    room: &mut Room,
    cancel: &Cancel,
) -> Result<(Option<Products>, Option<Support>), HistoryError> {
    if table.report.products.is_none() && table.report.support.is_none() {
        return Ok((None, None));
    }
    let mut request = CubeRequest {
        device: table.roles.device,
        dimensions: Vec::new(),
        sum: table.report.products.and_then(|roles| roles.weaknesses),
        rollups: Vec::new(),
    };
    let dimensions = add_dimensions(table, &mut request);
    let rollups = add_rollups(&dimensions, &mut request);
    let cube = cube::read(newest, &request, memory_bytes, cancel)?;
    let products = if table.report.products.is_some() {
        let groups = Groups::read(table, newest, memory_bytes, cancel)?;
        Some(products(table, &cube, &dimensions, &rollups, groups, room))
    } else {
        None
    };
    let support = rollups.support.map(|rollups| support(table, &cube, dimensions.name.len(), rollups));
    Ok((products, support))
}

fn add_dimensions(table: &TableSnapshots, request: &mut CubeRequest<'_>) -> Dimensions {
    let (roles, report) = (table.roles, table.report);
    let mut add = |dimension| {
        request.dimensions.push(dimension);
        request.dimensions.len() - 1
    };
    let dimensions = Dimensions {
        name: report.name.iter().map(|column| add(Dimension::Text(column))).collect(),
        version: roles.version.map(|column| add(Dimension::Text(column))),
        platform: roles.platform.map(|column| add(Dimension::Text(column))),
        support: report.support.zip(roles.status).map(|(support, status)| SupportDimensions {
            status: add(Dimension::Text(status.column)),
            has_ended: add(Dimension::TextClass(
                status.column,
                Box::new(move |text| {
                    Some(i64::from(text.is_some_and(|text| text.starts_with(status.prefix))))
                }),
            )),
            end_date: add(Dimension::NumberClass(support.end_date, Box::new(Some))),
        }),
    };
    request.dimensions.extend(only_with(table));
    dimensions
}

/// Returns the dimension that leaves out rows without a product.
fn only_with(table: &TableSnapshots) -> Option<Dimension<'static>> {
    let column = table.roles.only_with?;
    Some(Dimension::TextClass(column, Box::new(|text| text.map(|_| 0))))
}

fn add_rollups(dimensions: &Dimensions, request: &mut CubeRequest<'_>) -> RollUps {
    let mut add = |dimensions: Vec<usize>, devices| {
        request.rollups.push(RollUpRequest { dimensions, devices });
        request.rollups.len() - 1
    };
    let named = |others: &[usize]| dimensions.name.iter().chain(others).copied().collect::<Vec<_>>();
    RollUps {
        products: add(named(&[]), true),
        versions: dimensions.version.map(|version| add(named(&[version]), true)),
        by_platform: dimensions.platform.map(|platform| add(named(&[platform]), true)),
        platforms: dimensions.platform.map(|platform| add(vec![platform], true)),
        support: dimensions.support.zip(dimensions.version).map(|(support, version)| SupportRollUps {
            ended: add(vec![support.has_ended], true),
            ended_products: add(named(&[support.has_ended]), false),
            versions: add(named(&[version, support.status, support.has_ended, support.end_date]), true),
        }),
    }
}

/// Text values by address: the same value of a cube has the same one.
type NameKey = Vec<*const DimensionValue>;

fn name_key(values: &[&DimensionValue]) -> NameKey {
    values.iter().map(|value| std::ptr::from_ref(*value)).collect()
}

fn text(value: &DimensionValue) -> Option<String> {
    value.text().map(str::to_owned)
}

fn texts(values: &[&DimensionValue]) -> Vec<Option<String>> {
    values.iter().map(|value| text(value)).collect()
}

/// Returns the values of a roll-up of one dimension, most devices first, and the position of each.
fn ranked(cube: &Cube, rollup: Option<usize>) -> (Vec<Option<String>>, HashMap<Option<String>, u32>) {
    let Some(rollup) = rollup else { return (Vec::new(), HashMap::new()) };
    let mut values: Vec<_> =
        cube.cells(rollup).map(|(values, counts)| (counts.devices, text(values[0]))).collect();
    values.sort_unstable_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
    let positions = values.iter().cloned().zip(0..).collect();
    (values, positions)
}

/// What is known of a product beside its own counts.
#[derive(Default)]
struct Found {
    versions: Vec<(Option<String>, u64)>,
    platforms: Vec<(u32, u64)>,
    ended: u64,
}

/// The groups of a table.
#[derive(Default)]
struct Groups {
    /// Most devices first.
    groups: Vec<Option<String>>,
    /// By product: positions of groups, and the devices of each.
    of_products: HashMap<Vec<Option<String>>, Vec<(u32, u64)>>,
}

impl Groups {
    fn read(
        table: &TableSnapshots,
        newest: &SnapshotReader<'_>,
        memory_bytes: u64,
        cancel: &Cancel,
    ) -> Result<Self, HistoryError> {
        let Some(group) = table.roles.group else { return Ok(Self::default()) };
        let num_names = table.report.name.len();
        let columns = table.report.name.iter().copied().chain([group]);
        let request = CubeRequest {
            device: table.roles.device,
            dimensions: columns.map(Dimension::Text).chain(only_with(table)).collect(),
            sum: None,
            rollups: vec![
                RollUpRequest { dimensions: vec![num_names], devices: true },
                RollUpRequest { dimensions: (0..=num_names).collect(), devices: true },
            ],
        };
        let cube = cube::read(newest, &request, memory_bytes, cancel)?;
        let (groups, positions) = ranked(&cube, Some(0));
        let mut of_products: HashMap<_, Vec<_>> = HashMap::new();
        for (values, counts) in cube.cells(1) {
            let (names, group) = values.split_at(num_names);
            of_products.entry(texts(names)).or_default().push((positions[&text(group[0])], counts.devices));
        }
        Ok(Self { groups, of_products })
    }
}

fn products(
    table: &TableSnapshots,
    cube: &Cube,
    dimensions: &Dimensions,
    rollups: &RollUps,
    Groups { groups, mut of_products }: Groups,
    room: &mut Room,
) -> Products {
    let num_names = dimensions.name.len();
    let (platforms, platform_positions) = ranked(cube, rollups.platforms);
    let mut found: HashMap<NameKey, Found> = HashMap::new();
    let mut each = |rollup: Option<usize>, add: &mut dyn FnMut(&mut Found, &DimensionValue, CellCounts)| {
        for (values, counts) in rollup.into_iter().flat_map(|rollup| cube.cells(rollup)) {
            add(found.entry(name_key(&values[..num_names])).or_default(), values[num_names], counts);
        }
    };
    each(rollups.versions, &mut |found, version, counts| {
        found.versions.push((text(version), counts.devices));
    });
    each(rollups.by_platform, &mut |found, platform, counts| {
        found.platforms.push((platform_positions[&text(platform)], counts.devices));
    });
    each(rollups.support.map(|support| support.ended_products), &mut |found, has_ended, counts| {
        if has_ended.number() == Some(1) {
            found.ended += counts.rows;
        }
    });
    let product = |(values, counts): (Vec<&DimensionValue>, CellCounts)| {
        let found = found.remove(&name_key(&values)).unwrap_or_default();
        let name = texts(&values);
        let num_versions = found.versions.iter().filter(|(version, _)| version.is_some()).count() as u64;
        Product {
            devices: counts.devices,
            installations: counts.rows,
            num_versions,
            weaknesses: counts.sum,
            ended: found.ended,
            detail: Some(ProductDetail {
                versions: most(found.versions),
                platforms: most(found.platforms),
                groups: most(of_products.remove(&name).unwrap_or_default()),
            }),
            name,
        }
    };
    let mut products: Vec<_> = cube.cells(rollups.products).map(product).collect();
    products.sort_unstable_by(|one, other| {
        other.devices.cmp(&one.devices).then_with(|| one.name.cmp(&other.name))
    });
    let num_products = products.len() as u64;
    fit(&mut products, room.take());
    Products {
        dataset: table.dataset().to_owned(),
        name_columns: table.name_columns(),
        platforms,
        groups,
        has_weaknesses: table.report.products.is_some_and(|roles| roles.weaknesses.is_some()),
        has_support: rollups.support.is_some(),
        left_out: num_products - products.len() as u64,
        without_detail: products.iter().filter(|product| product.detail.is_none()).count() as u64,
        num_products,
        products,
    }
}

/// Returns the entries with most devices.
fn most<T: Ord + Hash>(mut entries: Vec<(T, u64)>) -> Vec<(T, u64)> {
    entries.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    entries.truncate(MAX_DETAILS);
    entries
}

/// Leaves out what there is no room for: details of the products on the fewest devices, then those products. Three
/// quarters of the room are for names, if all do not fit.
fn fit(products: &mut Vec<Product>, room: usize) {
    let text_bytes = |text: &Option<String>| text.as_ref().map_or(0, |text| page_bytes(text));
    let name_bytes = |product: &Product| product.name.iter().map(text_bytes).sum::<usize>() + PRODUCT_BYTES;
    let all_names: usize = products.iter().map(name_bytes).sum();
    let mut names_room = all_names.min(room / 4 * 3);
    let mut details_room = room - names_room;
    let num_listed = products.iter().take_while(|product| take(&mut names_room, name_bytes(product))).count();
    products.truncate(num_listed);
    for product in products {
        let Some(detail) = &product.detail else { continue };
        let versions: usize =
            detail.versions.iter().map(|(version, _)| text_bytes(version) + DETAIL_BYTES).sum();
        let others = (detail.platforms.len() + detail.groups.len()) * DETAIL_BYTES;
        if !take(&mut details_room, versions + others) {
            details_room = 0;
            product.detail = None;
        }
    }
}

/// Returns the bytes of a text in the page, where it is in a string of a script.
fn page_bytes(text: &str) -> usize {
    /// Of `\\u{2028}`, at most.
    const ESCAPED: usize = 10;
    let is_escaped = |c: &char| c.is_control() || "<>&'\"\\\u{2028}\u{2029}".contains(*c);
    text.len() + text.chars().filter(is_escaped).count() * (ESCAPED - 1)
}

/// Takes so many bytes of the room, if it has them.
fn take(room: &mut usize, bytes: usize) -> bool {
    let rest = room.checked_sub(bytes);
    *room = rest.unwrap_or(*room);
    rest.is_some()
}

fn support(table: &TableSnapshots, cube: &Cube, num_names: usize, rollups: SupportRollUps) -> Support {
    let today = table.date();
    let last_day = today.checked_add_days(Days::new(DAYS_AHEAD.into())).unwrap_or(NaiveDate::MAX);
    let (mut ended, mut ending) = (Vec::new(), Vec::new());
    for (values, counts) in cube.cells(rollups.versions) {
        let [version, status, has_ended, date] = values[num_names..] else { continue };
        let date = date.number().and_then(|days| NaiveDate::from_epoch_days(i32::try_from(days).ok()?));
        let version = EndOfSupport {
            name: texts(&values[..num_names]),
            version: text(version),
            status: text(status),
            date,
            devices: counts.devices,
            installations: counts.rows,
        };
        if has_ended.number() == Some(1) {
            ended.push(version);
        } else if date.is_some_and(|date| date >= today && date <= last_day) {
            ending.push(version);
        }
    }
    let by_name = |one: &EndOfSupport, other: &EndOfSupport| {
        (&one.name, &one.version, &one.status, one.date).cmp(&(
            &other.name,
            &other.version,
            &other.status,
            other.date,
        ))
    };
    ended.sort_unstable_by(|one, other| other.devices.cmp(&one.devices).then_with(|| by_name(one, other)));
    ending.sort_unstable_by(|one, other| {
        one.date.cmp(&other.date).then(other.devices.cmp(&one.devices)).then_with(|| by_name(one, other))
    });
    let left_out = |versions: &[EndOfSupport]| versions.len().saturating_sub(MAX_VERSIONS) as u64;
    let (ended_left_out, ending_left_out) = (left_out(&ended), left_out(&ending));
    ended.truncate(MAX_VERSIONS);
    ending.truncate(MAX_VERSIONS);
    let all_ended = cube.cells(rollups.ended).find(|(values, _)| values[0].number() == Some(1));
    let all_ended = all_ended.map_or_else(CellCounts::default, |(_, counts)| counts);
    Support {
        dataset: table.dataset().to_owned(),
        name_columns: table.name_columns(),
        devices: all_ended.devices,
        installations: all_ended.rows,
        ended,
        ended_left_out,
        ending,
        ending_left_out,
        days_ahead: DAYS_AHEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::render;
    use super::super::sample::sample;
    use super::*;

    fn product(name: &str, devices: u64) -> Product {
        Product {
            name: vec![Some(name.to_owned())],
            devices,
            installations: devices,
            num_versions: 1,
            weaknesses: 0,
            ended: 0,
            detail: Some(ProductDetail {
                versions: vec![(Some("1.".repeat(20)), devices)],
                ..Default::default()
            }),
        }
    }

    #[test]
    fn page_of_very_many_products_is_bounded() {
        for name in ["product_with_a_name", "<\u{2028}\"&>", "日本語の製品名"] {
            let entries: Vec<_> = (0..8).map(|index| (index, 1)).collect();
            let detail = ProductDetail {
                versions: (0..8).map(|index| (Some(format!("{name} {index}")), 10)).collect(),
                platforms: entries.clone(),
                groups: entries,
            };
            let mut products: Vec<_> = (0..50_000)
                .map(|index| Product {
                    name: vec![Some(name.to_owned()), Some(format!("{name} {index}"))],
                    detail: Some(detail.clone()),
                    ..product(name, 300_000)
                })
                .collect();
            fit(&mut products, PRODUCTS_BYTES);
            assert!(products.len() > 5_000, "{}", products.len());
            let mut page = sample();
            page.products[0].platforms.resize(8, None);
            page.products[0].groups.resize(8, None);
            page.products[0].products = products;
            let html = render(&page);
            assert!(html.len() < 3_000_000, "{name}: {}", html.len());
        }
    }

    #[test]
    fn products_without_room_are_left_out() {
        let all = || (0..10).map(|index| product("name", 10 - index)).collect::<Vec<_>>();
        let check = |room: usize, num_listed: usize, num_detailed: usize| {
            let mut products = all();
            fit(&mut products, room);
            let detailed = products.iter().filter(|product| product.detail.is_some());
            assert_eq!((products.len(), detailed.count()), (num_listed, num_detailed), "{room}");
            assert!(
                products
                    .iter()
                    .map(|product| product.devices)
                    .eq((0..).map(|index| 10 - index).take(num_listed))
            );
        };
        check(10_000, 10, 10);
        check(900, 10, 8);
        check(580, 9, 2);
        check(100, 1, 0);
        check(0, 0, 0);
    }
}
