//! Takes columns of rows as they are decoded; gives record batches, each one row group of a partition.
//!
//! A row goes to its partition's columns right away, so that nothing is split or copied by partition
//! later. Threads share the open row groups: each takes a partition's columns, adds rows, and puts them
//! back. Rows are bounded per row group, bytes over all of them; beyond that the largest row group that has enough rows is
//! written, or the largest is spilled. Pages of columns that need no other rows are encoded as they fill.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, BinaryViewArray};
use arrow_schema::SchemaRef;

use crate::batch_layout::BatchLayout;
use crate::decode::column::{self, Columns};
use crate::encode::{EarlyEncoder, MAX_PAGE_BYTES};
use crate::memory_pool::{MemoryPool, Reservation, encode_cost};
use crate::partition::PartitionKey;
use crate::rows::{RowColumns, Rows};
use crate::spill::{NoSpill, Spill, SpillFile, SpilledRows};

/// Rows that a row group has at least unless it is the last, or its rows are large.
pub const MIN_ROW_GROUP_ROWS: usize = 50_000;

/// The share of `max_open_bytes`, as a divisor, from which on few rows are enough for a row group.
const LARGE_SHARE: usize = 2;

/// Open row groups, shared by all threads.
#[derive(Debug)]
pub struct RowGroups<F = NoSpill> {
    layout: Arc<BatchLayout>,
    idle: Arc<Mutex<Idle>>,
    /// One thread at a time waits for room to encode, so that no more than one row group does.
    leaving: Mutex<()>,
    limits: RowGroupLimits,
    /// Takes the rows that are too few for a row group if they do not fit into memory. Without it they
    /// become row groups all the same.
    spill: Option<Spill<F>>,
    /// Encoders that no thread is using, if pages are encoded early.
    early_encoders: Option<Mutex<Vec<EarlyEncoder>>>,
}

/// Limits on the memory of row groups.
#[derive(Debug)]
pub struct RowGroupLimits {
    /// Bytes of those that are open, about, before the largest is closed early.
    pub max_open_bytes: usize,
    /// Memory for row groups that are being encoded, see [`encode_cost`].
    pub encode_room: MemoryPool,
}

impl RowGroupLimits {
    /// Sets no limits.
    pub fn none() -> Self {
        Self { max_open_bytes: usize::MAX, encode_room: MemoryPool::new(usize::MAX) }
    }
}

/// Those that are not full, by partition.
#[derive(Debug, Default)]
struct Idle {
    partitions: HashMap<PartitionKey, Gathered>,
    /// Without rows, for the next ones of a partition: they have memory.
    spare: Vec<(PartitionKey, Columns)>,
    /// Of all of them, and of those that threads are adding to, as they were when they were taken.
    num_bytes: usize,
}

impl Idle {
    fn of(idle: &Mutex<Self>) -> MutexGuard<'_, Self> {
        // A thread that panicked ends the run; its rows are never published.
        idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open rows of one partition.
#[derive(Debug, Default)]
struct Gathered {
    /// Those that no thread is adding to.
    columns: Vec<Columns>,
    spilled: Vec<SpilledRows>,
}

/// A row group that is to be written.
#[derive(Debug)]
pub struct DueRowGroup {
    /// Its partition.
    pub key: PartitionKey,
    /// Its rows.
    pub rows: Rows,
    /// Its memory until it is written.
    room: Reservation,
}

impl DueRowGroup {
    /// Gives `write` the rows, and their memory back after that.
    pub fn write<T>(self, write: impl FnOnce(PartitionKey, Rows) -> T) -> T {
        let Self { key, rows, room } = self;
        let written = write(key, rows);
        drop(room);
        written
    }
}

/// The rows of a row group, whose columns are put in order one after the other.
#[derive(Debug)]
struct GatheredRows {
    layout: Arc<BatchLayout>,
    key: PartitionKey,
    columns: Columns,
    /// Which row each of them is, once the first column was taken.
    order: Option<Vec<u32>>,
    /// Columns that are not taken.
    num_left: usize,
    /// Gets the columns when all are taken, if there are further rows to come.
    idle: Option<Arc<Mutex<Idle>>>,
}

impl RowColumns for GatheredRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.layout.schema())
    }

    fn num_rows(&self) -> usize {
        self.columns.num_rows()
    }

    fn take(&mut self, index: usize) -> ArrayRef {
        let Self { layout, key, columns, order, num_left, .. } = self;
        let order = order.get_or_insert_with(|| layout.order(columns));
        *num_left -= 1;
        layout.take(index, key, columns, order)
    }

    fn take_views(&mut self, index: usize) -> Option<BinaryViewArray> {
        let Self { layout, columns, order, num_left, .. } = self;
        let order = order.get_or_insert_with(|| layout.order(columns));
        let views = layout.take_views(index, columns, order)?;
        *num_left -= 1;
        Some(views)
    }
}

impl Drop for GatheredRows {
    fn drop(&mut self) {
        if let Some(idle) = &self.idle
            && self.num_left == 0
        {
            Idle::of(idle).put_spare(self.key.clone(), self.columns.take_memory());
        }
    }
}

impl RowGroups {
    /// Begins with none.
    pub fn new(layout: Arc<BatchLayout>, limits: RowGroupLimits) -> Self {
        Self {
            layout,
            idle: Arc::default(),
            leaving: Mutex::default(),
            limits,
            spill: None,
            early_encoders: None,
        }
    }

    /// Encodes pages before their row group is complete where the layout lets it. All rows must go to an encoder then: the
    /// batches lack what is encoded.
    #[must_use]
    pub fn with_early_pages(self) -> Self {
        Self { early_encoders: Some(Mutex::default()), ..self }
    }

    /// Spills rows that are too few for a row group to `file` if they do not fit into memory.
    pub fn with_spill<F: SpillFile>(self, file: F) -> RowGroups<F> {
        let Self { layout, idle, leaving, limits, spill: _, early_encoders } = self;
        RowGroups { layout, idle, leaving, limits, spill: Some(Spill::new(file)), early_encoders }
    }
}

impl<F: SpillFile> RowGroups<F> {
    /// Row groups for one thread to add to.
    pub(crate) fn batcher(self: &Arc<Self>) -> Batcher<F> {
        Batcher { row_groups: Arc::clone(self), held: Vec::new(), index: HashMap::new(), last: 0 }
    }

    /// How batches are laid out.
    pub(crate) fn layout(&self) -> &Arc<BatchLayout> {
        &self.layout
    }

    /// Counts the partitions that rows came for.
    pub fn num_partitions(&self) -> usize {
        self.idle().partitions.len()
    }

    /// Takes all that are left, those of one partition that fit into one row group together, the
    /// largest first; no thread may be adding to one.
    pub fn finish(self: &Arc<Self>) -> Vec<LastRowGroup<F>> {
        let Idle { partitions, .. } = std::mem::take(&mut *self.idle());
        let mut last = Vec::new();
        for (key, Gathered { columns, spilled }) in partitions {
            let columns =
                columns.into_iter().filter(|columns| columns.num_rows() > 0).map(RestOfRows::Columns);
            let rows: Vec<_> = columns.chain(spilled.into_iter().map(RestOfRows::Spilled)).collect();
            let groups = pack(rows, self.limits.max_open_bytes);
            let num_left = Arc::new(AtomicUsize::new(groups.len()));
            last.extend(groups.into_iter().map(|rows| LastRowGroup {
                row_groups: Arc::clone(self),
                key: key.clone(),
                rows,
                num_left: Arc::clone(&num_left),
            }));
        }
        last.sort_by_cached_key(|group| {
            std::cmp::Reverse(group.rows.iter().map(RestOfRows::num_rows).sum::<usize>())
        });
        last
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        Idle::of(&self.idle)
    }

    /// Makes a row group of columns once there is room to encode it.
    fn due(&self, key: PartitionKey, columns: Columns) -> DueRowGroup {
        let room = self.limits.encode_room.take(encode_cost(columns.num_bytes()));
        let rows = self.rows(key.clone(), columns, Some(Arc::clone(&self.idle)));
        DueRowGroup { key, rows, room }
    }

    fn rows(&self, key: PartitionKey, mut columns: Columns, idle: Option<Arc<Mutex<Idle>>>) -> Rows {
        for property in self.early_properties() {
            if columns.has_early_pages(*property) {
                self.encode_early(&mut columns, *property);
            }
        }
        let layout = Arc::clone(&self.layout);
        let early = layout.take_early(&mut columns);
        let num_left = layout.schema().fields().len() - early.len();
        Rows::new(Box::new(GatheredRows { layout, key, columns, order: None, num_left, idle }), early)
    }

    /// Properties whose pages are encoded early.
    fn early_properties(&self) -> &[usize] {
        if self.early_encoders.is_some() { self.layout.early_properties() } else { &[] }
    }

    /// Encodes what fills a page.
    fn encode_full_pages(&self, columns: &mut Columns) {
        for property in self.early_properties() {
            if columns.bytes_to_encode(*property) >= MAX_PAGE_BYTES {
                self.encode_early(columns, *property);
            }
        }
    }

    /// Encodes all that is not encoded of a property.
    fn encode_early(&self, columns: &mut Columns, property: usize) {
        let Some(encoders) = &self.early_encoders else { return };
        let lock = || encoders.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lock().pop();
        let mut encoder = idle.unwrap_or_else(EarlyEncoder::new);
        columns.encode_early(property, |texts| encoder.encode(texts));
        lock().push(encoder);
    }

    /// Adds the rows of `other` to `columns`.
    fn append(&self, columns: &mut Columns, mut other: Columns) {
        for property in self.early_properties() {
            // Encoded rows stand before those that are not.
            if columns.has_early_pages(*property) || other.has_early_pages(*property) {
                self.encode_early(columns, *property);
                self.encode_early(&mut other, *property);
            }
        }
        columns.append(other);
    }

    /// Whether the rows, or their bytes, are enough for a row group.
    fn are_enough(&self, columns: &Columns) -> bool {
        let max_bytes = self.limits.max_open_bytes / LARGE_SHARE;
        columns.num_rows() >= MIN_ROW_GROUP_ROWS || columns.num_bytes() >= max_bytes
    }
}

/// Rows that are left of a partition, in memory or on disk.
#[derive(Debug)]
enum RestOfRows {
    Columns(Columns),
    Spilled(SpilledRows),
}

impl RestOfRows {
    fn num_rows(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.num_rows(),
            Self::Spilled(spilled) => spilled.num_rows,
        }
    }

    fn columns_bytes(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.num_bytes(),
            Self::Spilled(spilled) => spilled.columns_bytes,
        }
    }
}

/// Puts together what fits into one row group: the first that has room takes it, the largest first, so that
/// any two row groups have more rows together than one may have, unless it is for their bytes.
fn pack(mut rows: Vec<RestOfRows>, max_bytes: usize) -> Vec<Vec<RestOfRows>> {
    rows.sort_by_key(|rows| std::cmp::Reverse(rows.num_rows()));
    let mut groups: Vec<(usize, usize, Vec<RestOfRows>)> = Vec::new();
    for rows in rows {
        let (num_rows, num_bytes) = (rows.num_rows(), rows.columns_bytes());
        let fits = |group: &&mut (usize, usize, Vec<RestOfRows>)| {
            group.0 + num_rows <= column::MAX_ROWS && group.1.saturating_add(num_bytes) <= max_bytes
        };
        match groups.iter_mut().find(fits) {
            Some(group) => {
                group.0 += num_rows;
                group.1 += num_bytes;
                group.2.push(rows);
            }
            None => groups.push((num_rows, num_bytes, vec![rows])),
        }
    }
    groups.into_iter().map(|(_, _, rows)| rows).collect()
}

/// A row group of rows that several threads have left.
#[derive(Debug)]
pub struct LastRowGroup<F = NoSpill> {
    row_groups: Arc<RowGroups<F>>,
    key: PartitionKey,
    /// The largest first.
    rows: Vec<RestOfRows>,
    /// Row groups of the partition that are not written.
    num_left: Arc<AtomicUsize>,
}

impl<F: SpillFile> LastRowGroup<F> {
    /// Puts its rows together once there is room to encode them, gives them to `write`, and calls `close` if it was
    /// the last of its partition.
    ///
    /// # Errors
    ///
    /// Fails if spilled rows cannot be read, or as `write` or `close` do.
    ///
    /// # Panics
    ///
    /// If there are spilled rows and no spill file: a bug.
    pub fn write<E: From<F::Error>>(
        self,
        write: impl FnOnce(PartitionKey, Rows) -> Result<(), E>,
        close: impl FnOnce(&PartitionKey) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { row_groups, key, rows, num_left } = self;
        let RowGroups { layout, limits, spill, .. } = &*row_groups;
        let room = limits.encode_room.take(encode_cost(rows.iter().map(RestOfRows::columns_bytes).sum()));
        let mut all: Option<Columns> = None;
        for rows in rows {
            let columns = match rows {
                RestOfRows::Columns(columns) => columns,
                RestOfRows::Spilled(spilled) => {
                    let spill = spill.as_ref().expect("there are rows in it");
                    let mut columns = Columns::new(layout.field_map());
                    spill.read(&spilled, &mut columns)?;
                    columns
                }
            };
            match &mut all {
                Some(all) => row_groups.append(all, columns),
                none => *none = Some(columns),
            }
        }
        let rows = row_groups.rows(key.clone(), all.expect("a row group has rows"), None);
        let partition = key.clone();
        DueRowGroup { key, rows, room }.write(write)?;
        if num_left.fetch_sub(1, Ordering::AcqRel) == 1 { close(&partition) } else { Ok(()) }
    }
}

/// The row groups that one thread is adding to.
#[derive(Debug)]
pub(crate) struct Batcher<F: SpillFile = NoSpill> {
    row_groups: Arc<RowGroups<F>>,
    held: Vec<Held>,
    index: HashMap<PartitionKey, usize>,
    /// The last row's: a device's rows stand together, so the next row mostly has it too.
    last: usize,
}

#[derive(Debug)]
struct Held {
    key: PartitionKey,
    columns: Columns,
    /// Bytes of the columns when they were taken.
    counted_bytes: usize,
}

impl<F: SpillFile> Batcher<F> {
    /// The columns that a row with this partition goes to.
    pub(crate) fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        if self.held.get(self.last).is_none_or(|held| held.key.value() != partition) {
            self.last = self.hold(PartitionKey::new(partition));
        }
        &mut self.held[self.last].columns
    }

    fn hold(&mut self, key: PartitionKey) -> usize {
        if let Some(held) = self.index.get(&key) {
            return *held;
        }
        let columns = self.row_groups.idle().take(&key);
        let counted_bytes = columns.as_ref().map_or(0, Columns::num_bytes);
        let columns = columns.unwrap_or_else(|| Columns::new(self.row_groups.layout.field_map()));
        self.index.insert(key.clone(), self.held.len());
        self.held.push(Held { key, columns, counted_bytes });
        self.held.len() - 1
    }

    /// Gives back what is held, and takes a row group that is due: one that is full, or the largest if all
    /// together hold more than they may. Call it between stretches of rows until there is none; write each
    /// before the next is asked for.
    ///
    /// # Errors
    ///
    /// Fails if rows cannot be spilled.
    pub(crate) fn next_due(&mut self) -> Result<Option<DueRowGroup>, F::Error> {
        self.index.clear();
        let row_groups = &self.row_groups;
        while let Some(mut held) = self.held.pop() {
            row_groups.encode_full_pages(&mut held.columns);
            if held.columns.num_rows() < column::MAX_ROWS {
                row_groups.idle().put(held);
                continue;
            }
            let Held { key, columns, counted_bytes } = held;
            row_groups.idle().leave(&key, counted_bytes);
            let _alone = row_groups.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(Some(row_groups.due(key, columns)));
        }
        let is_over = || row_groups.idle().num_bytes > row_groups.limits.max_open_bytes;
        if !is_over() {
            return Ok(None);
        }
        let _alone = row_groups.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        while is_over() {
            let mut idle = row_groups.idle();
            if idle.drop_spare() {
                continue;
            }
            let are_enough = |columns: &Columns| row_groups.are_enough(columns);
            let Some((key, columns)) = idle.take_largest(are_enough) else { break };
            drop(idle);
            match &row_groups.spill {
                Some(spill) if !row_groups.are_enough(&columns) => {
                    let spilled = spill.write(&columns)?;
                    row_groups.idle().partitions.entry(key).or_default().spilled.push(spilled);
                }
                _ => return Ok(Some(row_groups.due(key, columns))),
            }
        }
        Ok(None)
    }
}

impl<F: SpillFile> Drop for Batcher<F> {
    fn drop(&mut self) {
        let mut idle = self.row_groups.idle();
        self.held.drain(..).for_each(|held| idle.put(held));
    }
}

impl Idle {
    /// The columns of a partition that have most rows, else some without.
    fn take(&mut self, key: &PartitionKey) -> Option<Columns> {
        let all = self.partitions.get_mut(key).map(|gathered| &mut gathered.columns);
        let most = |all: &Vec<Columns>| (0..all.len()).max_by_key(|position| all[*position].num_rows());
        if let Some((position, all)) = all.and_then(|all| Some((most(all)?, all))) {
            return Some(all.swap_remove(position));
        }
        let position = self.spare.iter().position(|(of, _)| of == key)?;
        Some(self.spare.swap_remove(position).1)
    }

    fn put(&mut self, Held { key, columns, counted_bytes }: Held) {
        self.num_bytes -= counted_bytes;
        if columns.num_rows() == 0 {
            // No row came for these columns: the partition may not exist.
            self.put_spare(key, columns);
            return;
        }
        self.num_bytes += columns.num_bytes();
        self.partitions.entry(key).or_default().columns.push(columns);
    }

    fn put_spare(&mut self, key: PartitionKey, columns: Columns) {
        self.num_bytes += columns.num_bytes();
        self.spare.push((key, columns));
    }

    /// Frees the memory of some columns without rows; false if there are none.
    fn drop_spare(&mut self) -> bool {
        let spare = self.spare.pop();
        self.num_bytes -= spare.as_ref().map_or(0, |(_, columns)| columns.num_bytes());
        spare.is_some()
    }

    /// Notes that columns of a partition go to be written, counted with so many bytes.
    fn leave(&mut self, key: &PartitionKey, counted_bytes: usize) {
        self.num_bytes -= counted_bytes;
        self.partitions.entry(key.clone()).or_default();
    }

    /// The largest that are enough for a row group, else the largest.
    fn take_largest(&mut self, are_enough: impl Fn(&Columns) -> bool) -> Option<(PartitionKey, Columns)> {
        let size = |columns: &Columns| (are_enough(columns), columns.num_bytes());
        let largest = |all: &Gathered| all.columns.iter().map(size).max();
        let (key, all) = self.partitions.iter_mut().max_by_key(|(_, all)| largest(all))?;
        let all = &mut all.columns;
        let largest = (0..all.len()).max_by_key(|position| size(&all[*position]))?;
        let (key, columns) = (key.clone(), all.swap_remove(largest));
        self.num_bytes -= columns.num_bytes();
        Some((key, columns))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, UInt32Type};
    use arrow_array::{Array, RecordBatch};

    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use chrono::DateTime;
    use schema::Column;

    use crate::batch_layout::BatchOptions;
    use crate::decode::field_map::FieldMap;
    use crate::decode::value::{JsonValue, List};

    fn layout(extra_fields: bool) -> Arc<BatchLayout> {
        let options = BatchOptions { extra_fields, ..BatchOptions::default() };
        Arc::new(BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, options))
    }

    #[derive(Debug)]
    struct TempFile(File);

    impl SpillFile for TempFile {
        type Error = std::io::Error;

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
            self.0.write_all_at(bytes, offset)
        }

        fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
            self.0.read_exact_at(bytes, offset)
        }
    }

    fn push(
        batcher: &mut Batcher,
        field_map: &FieldMap,
        device: &str,
        product: Option<&str>,
        number: Option<i32>,
    ) {
        push_to("Linux", batcher, field_map, device, product, number);
    }

    /// A device's row: its product, and a path of that name if it has a number.
    fn push_to<F: SpillFile>(
        platform: &str,
        batcher: &mut Batcher<F>,
        field_map: &FieldMap,
        device: &str,
        product: Option<&str>,
        number: Option<i32>,
    ) {
        let path = product.map_or("[null,null]".to_owned(), |product| format!(r#"["{product}",null]"#));
        let value = |column: &&'static Column| match (column.name, product) {
            ("DeviceId", _) => JsonValue::Text(device),
            ("SoftwareName", Some(product)) => JsonValue::Text(product),
            ("NumberOfWeaknesses", _) => number.map_or(JsonValue::Null, JsonValue::Int32),
            ("DiskPaths", _) if number.is_some() => {
                JsonValue::List(List::Json { text: path.as_bytes(), num_elements: 2 })
            }
            _ => JsonValue::Null,
        };
        let values: Vec<_> = field_map.properties().iter().map(value).collect();
        let extra_fields = (device == "d3").then_some("{}");
        batcher.columns(Some(platform)).push(&values, extra_fields);
    }

    fn text(column: &dyn Array, row: usize) -> Option<&str> {
        let column = column.as_dictionary::<UInt32Type>();
        column.key(row).map(|key| column.values().as_string::<i32>().value(key))
    }

    #[test]
    fn rows_of_two_threads_are_one_clustered_row_group() {
        let layout = layout(true);
        let field_map = layout.field_map();
        let row_groups = Arc::new(RowGroups::new(Arc::clone(&layout), RowGroupLimits::none()));
        let (mut one, mut other) = (row_groups.batcher(), row_groups.batcher());
        push(&mut one, field_map, "d1", Some("zsh"), Some(7));
        push(&mut one, field_map, "d2", Some("bash"), None);
        push(&mut one, field_map, "d1", Some("zsh"), None);
        push(&mut other, field_map, "d3", Some("bash"), Some(1));
        push(&mut other, field_map, "d3", None, None);
        assert!(one.next_due().unwrap().is_none() && other.next_due().unwrap().is_none(), "none is due");
        drop((one, other));
        let mut last = row_groups.finish();
        assert_eq!(last.len(), 1);
        let (batch, closed) = written(last.remove(0));
        assert_eq!(closed.as_deref(), Some("Linux"));
        let column = |name| batch.column_by_name(name).unwrap();
        let numbers = column("NumberOfWeaknesses").as_primitive::<Int32Type>();
        let paths = column("DiskPaths").as_list::<i32>();
        let rows: Vec<_> = (0..batch.num_rows())
            .map(|row| {
                let path = paths.is_valid(row).then(|| paths.value(row));
                assert!(path.as_ref().is_none_or(|path| path.len() == 2 && path.is_null(1)));
                (
                    text(column("SoftwareName"), row),
                    text(column("DeviceId"), row).unwrap(),
                    numbers.is_valid(row).then(|| numbers.value(row)),
                    path.and_then(|path| text(&path, 0).map(str::to_owned)),
                    text(column("ExtraFields"), row),
                )
            })
            .collect();
        let path = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows,
            [
                (None, "d3", None, None, Some("{}")),
                (Some("bash"), "d2", None, None, None),
                (Some("bash"), "d3", Some(1), path("bash"), Some("{}")),
                (Some("zsh"), "d1", Some(7), path("zsh"), None),
                (Some("zsh"), "d1", None, None, None),
            ]
        );
    }

    /// Returns the batch of a last row group, and the partition that is closed after it.
    fn written<F: SpillFile<Error: std::fmt::Debug>>(last: LastRowGroup<F>) -> (RecordBatch, Option<String>) {
        let (mut batch, mut closed) = (None, None);
        let write = |_, given: Rows| {
            batch = Some(given.into_batch());
            Ok::<_, F::Error>(())
        };
        let close = |key: &PartitionKey| {
            closed = key.value().map(str::to_owned);
            Ok(())
        };
        last.write(write, close).unwrap();
        (batch.unwrap(), closed)
    }

    #[test]
    fn largest_row_group_is_due_if_all_hold_too_much() {
        let layout = layout(false);
        let field_map = layout.field_map();
        let limits = RowGroupLimits { max_open_bytes: 0, ..RowGroupLimits::none() };
        let row_groups = Arc::new(RowGroups::new(Arc::clone(&layout), limits));
        let mut batcher = row_groups.batcher();
        push(&mut batcher, field_map, "d1", Some("zsh"), None);
        let due = batcher.next_due().unwrap().expect("it is over");
        assert_eq!(due.write(|_, rows| rows.num_rows()), 1);
        assert!(batcher.next_due().unwrap().is_none());
        drop(batcher);
        assert!(row_groups.finish().is_empty());
    }

    #[test]
    fn spilled_rows_come_back_as_one_row_group() {
        let layout = layout(false);
        let field_map = layout.field_map();
        let max_open_bytes = 5 * Columns::new(field_map).num_bytes();
        let limits = RowGroupLimits { max_open_bytes, ..RowGroupLimits::none() };
        let row_groups = RowGroups::new(Arc::clone(&layout), limits);
        let row_groups = Arc::new(row_groups.with_spill(TempFile(tempfile::tempfile().unwrap())));
        let mut batcher = row_groups.batcher();
        let devices: Vec<String> = (0..600).map(|device| format!("d{device:04}")).collect();
        for (device, number) in devices.iter().zip(0_usize..) {
            let product = [Some("zsh"), Some("bash"), None][number % 3];
            push_to(["a", "b", "c", "d"][number % 4], &mut batcher, field_map, device, product, None);
            let due = batcher.next_due().unwrap();
            assert!(due.is_none(), "too few for a row group");
            assert!(row_groups.idle().num_bytes <= max_open_bytes);
        }
        assert_eq!(row_groups.num_partitions(), 4);
        drop(batcher);
        let last = row_groups.finish();
        assert_eq!(last.len(), 4);
        let mut found = Vec::new();
        for group in last {
            assert!(group.rows.len() > 1, "some were spilled");
            let (batch, closed) = written(group);
            assert!(closed.is_some() && batch.num_rows() == 150, "{closed:?}");
            let ids = batch.column_by_name("DeviceId").unwrap();
            found.extend((0..batch.num_rows()).map(|row| text(ids, row).unwrap().to_owned()));
        }
        found.sort_unstable();
        assert_eq!(found, devices);
    }

    #[test]
    fn packed_row_groups_are_full_in_pairs() {
        let rows = |num_rows: &usize| RestOfRows::Spilled(SpilledRows::nowhere(*num_rows, 10 * num_rows));
        let check = |sizes: &[usize], max_bytes: usize, expected: &[usize]| {
            let groups = pack(sizes.iter().map(rows).collect(), max_bytes);
            let sums: Vec<usize> =
                groups.iter().map(|group| group.iter().map(RestOfRows::num_rows).sum()).collect();
            assert_eq!(sums, expected);
        };
        check(&[1, 122_880, 60_000, 62_880, 5], usize::MAX, &[122_880, 122_880, 6]);
        check(&[100, 50, 50], 1500, &[150, 50]);
        check(&[100, 100], 1, &[100, 100]);
        check(&[], usize::MAX, &[]);
    }
}
