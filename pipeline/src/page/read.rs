//! Reads what the page shows.
//!
//! Takes a lake and what was asked for; gives the page's data. Figures of earlier snapshots come from the tables' caches,
//! everything else from the newest snapshot and the one before it.

use super::data::PageData;
use super::products::Room;
use super::request::{PageProgress, PageRequest};
use super::tables::{PageTables, TableSnapshots};
use super::{changes, devices, expiries, exposure, figures, products, risks};
use crate::cancel::Cancel;
use crate::history::HistoryError;
use crate::lake::Lake;

/// Reads the page's data.
///
/// # Errors
///
/// [`HistoryError::EmptyLake`], [`HistoryError::NoSnapshotOn`], a snapshot that cannot be read, or an interruption.
pub fn read(
    lake: &Lake,
    request: &PageRequest,
    mut on_progress: impl FnMut(PageProgress),
    cancel: &Cancel,
) -> Result<PageData, HistoryError> {
    let tables = PageTables::read(lake, request)?;
    let total_bytes = tables.tables.iter().map(TableSnapshots::work_bytes).sum();
    let mut bytes = 0;
    let mut done = |table: &TableSnapshots, more: u64| {
        bytes += more;
        on_progress(PageProgress { total_bytes, bytes, dataset: table.dataset() });
    };
    let mut page = PageData {
        head: tables.head(lake, request),
        figures: Vec::new(),
        flows: Vec::new(),
        changes: Vec::new(),
        support: Vec::new(),
        exposure: Vec::new(),
        products: Vec::new(),
        platforms: None,
        groups: None,
        expiries: Vec::new(),
        risks: Vec::new(),
        devices: None,
    };
    let memory_bytes = request.memory_bytes;
    let mut by_platform = figures::Breakdowns::default();
    let mut by_group = figures::Breakdowns::default();
    let mut room = Room::new(tables.tables.iter().filter(|table| table.report.products.is_some()).count());
    for table in &tables.tables {
        done(table, 0);
        let newest = table.open(cancel)?;
        page.figures.extend(figures::read(table, memory_bytes, |bytes| done(table, bytes), cancel)?);
        by_platform.add(table, &newest, table.roles.platform, memory_bytes, cancel)?;
        by_group.add(table, &newest, table.roles.group, memory_bytes, cancel)?;
        page.flows.extend(changes::flow(table, memory_bytes, |bytes| done(table, bytes), cancel)?);
        page.changes.extend(changes::since_before(table, &newest, memory_bytes, cancel)?);
        let (products, support) = products::read(table, &newest, memory_bytes, &mut room, cancel)?;
        page.products.extend(products);
        page.support.extend(support);
        page.exposure.extend(exposure::read(table, &newest, memory_bytes, cancel)?);
        page.expiries.extend(expiries::read(table, &newest, memory_bytes, cancel)?);
        page.risks.extend(risks::read(table, &newest, memory_bytes, cancel)?);
        done(table, table.newest_bytes());
    }
    page.platforms = by_platform.finish();
    page.groups = by_group.finish();
    page.devices = devices::read(&tables.tables, request, cancel)?;
    Ok(page)
}
