//! Takes columns of rows as they are decoded; gives record batches, each one row group of a partition.
//!
//! Rows are routed as they come, so that nothing is ever split or copied again by partition. Open
//! row groups are shared by all threads: one takes a partition's columns for a stretch of rows, and
//! puts them back. They are bounded in rows each, and in bytes all together; if there are more, the
//! largest is written, or spilled if its rows are too few for a row group.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;
use chrono::{DateTime, Utc};
use schema::{Column, ColumnType, Origin};

use crate::decode::column::{self, Columns, FinishedColumns};
use crate::decode::field_map::FieldMap;
use crate::memory_pool::{MemoryPool, Reservation, encode_cost};
use crate::partition::PartitionKey;
use crate::spill::{NoSpill, Spill, SpillFile, SpilledRows};

/// Rows of which those of one product stand together. Exports have a device's rows together, and
/// its products in no order: who asks for a product then reads every page of every column. Sorting
/// whole row groups would help that question more, and the one for all of a device would pay for it.
/// A multiple of what DuckDB takes at a time, 2,048 rows. Figures: pipeline/benches/RESULTS.md#queries.
const BLOCK_ROWS: usize = 15 * 2048;

/// Rows that a row group has at least unless it is the last, or its rows are large.
pub const MIN_ROW_GROUP_ROWS: usize = 50_000;

/// The share of what all may hold, as a divisor, from which on few rows are enough for a row group.
const LARGE_SHARE: usize = 2;

/// How a dataset's columns become batches.
#[derive(Debug)]
pub struct BatchLayout<'b> {
    field_map: &'b FieldMap,
    file_schema: SchemaRef,
    /// That of the files, with text as dictionaries.
    schema: SchemaRef,
    fields: Vec<Filled>,
    /// Properties that rows are ordered by inside a block, the coarsest first.
    cluster_by: Vec<usize>,
    generated_time: DateTime<Utc>,
}

/// What fills a column of the files.
#[derive(Debug, Clone, Copy)]
enum Filled {
    Property(usize),
    GeneratedTime,
    ExtraFields,
}

impl<'b> BatchLayout<'b> {
    /// Lays out the files of one export.
    ///
    /// # Panics
    ///
    /// Where the field_map is of another dataset than it says: a mistake of ours.
    pub fn new(field_map: &'b FieldMap, generated_time: DateTime<Utc>) -> Self {
        let dataset = field_map.dataset();
        let filled = |column: &'static Column| match column.origin {
            Origin::Property => Filled::Property(field_map.property_of(column).expect("a property is bound")),
            Origin::Export => Filled::GeneratedTime,
            Origin::Undocumented => Filled::ExtraFields,
        };
        let position = |name: &&str| {
            let mut properties = field_map.properties().iter();
            properties.position(|column| column.name == *name).expect("schema's tests hold this")
        };
        let extra = field_map.captures_extra_fields().then_some(&schema::EXTRA_FIELDS);
        Self {
            field_map,
            file_schema: schema::arrow::file_schema(dataset, field_map.captures_extra_fields()),
            schema: schema::arrow::batch_schema(dataset, field_map.captures_extra_fields()),
            fields: dataset.file_columns().chain(extra).map(filled).collect(),
            cluster_by: dataset.layout.cluster_by.iter().map(position).collect(),
            generated_time,
        }
    }

    /// The Arrow schema of the files.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    fn batch(&self, columns: &mut Columns) -> RecordBatch {
        let order = self.order(columns);
        let FinishedColumns { mut properties, extra_fields, num_rows } = columns.finish(&order);
        let columns = self
            .fields
            .iter()
            .map(|filled| match filled {
                Filled::Property(index) => properties[*index].take().expect("each fills one column"),
                Filled::ExtraFields => Arc::clone(&extra_fields),
                Filled::GeneratedTime => self.generated_times(num_rows),
            })
            .collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("columns follow the schema")
    }

    /// Where each row of the batch is taken from.
    fn order(&self, columns: &Columns) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(columns.num_rows()).collect();
        let mut sorted = vec![0; order.len().min(BLOCK_ROWS)];
        // Stable sorts from the finest column to the coarsest, each by counting.
        for property in self.cluster_by.iter().rev() {
            let (ranks, num_ranks) = columns.ranks(*property);
            let mut ends = vec![0; num_ranks];
            for block in order.chunks_mut(BLOCK_ROWS) {
                ends.fill(0);
                for row in &*block {
                    ends[ranks[*row as usize] as usize] += 1;
                }
                let mut end = 0;
                for count in &mut ends {
                    end += *count;
                    *count = end;
                }
                for row in block.iter().rev() {
                    let end = &mut ends[ranks[*row as usize] as usize];
                    *end -= 1;
                    sorted[*end] = *row;
                }
                block.copy_from_slice(&sorted[..block.len()]);
            }
        }
        order
    }

    fn generated_times(&self, num_rows: usize) -> ArrayRef {
        let micros = self.generated_time.timestamp_micros();
        let data_type = schema::arrow::data_type(ColumnType::TimestampMicros);
        Arc::new(TimestampMicrosecondArray::from_value(micros, num_rows).with_data_type(data_type))
    }
}

/// Row groups that are being gathered, shared by all threads.
#[derive(Debug)]
pub struct RowGroups<'b, F = NoSpill> {
    layout: &'b BatchLayout<'b>,
    idle: Mutex<Idle>,
    /// One thread at a time waits for room to encode, so that no more than one row group does.
    leaving: Mutex<()>,
    limits: RowGroupLimits,
    /// Where rows go that are too few for a row group when there is no room for them. Without it they
    /// become row groups all the same.
    spill: Option<Arc<Spill<F>>>,
}

/// What row groups may take.
#[derive(Debug)]
pub struct RowGroupLimits {
    /// Bytes of those that are open, about, before the largest is closed early.
    pub max_open_bytes: usize,
    /// What those that are encoded take, see [`encode_cost`].
    pub encode_room: MemoryPool,
}

impl RowGroupLimits {
    /// Without a bound.
    pub fn none() -> Self {
        Self { max_open_bytes: usize::MAX, encode_room: MemoryPool::new(usize::MAX) }
    }
}

/// Those that are not full, by partition.
#[derive(Debug, Default)]
struct Idle {
    partitions: HashMap<PartitionKey, Gathered>,
    /// Of all of them, and of those that threads are adding to, as they were when they were taken.
    num_bytes: usize,
}

/// What there is of one partition.
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
    pub batch: RecordBatch,
    /// What it takes until it is written.
    room: Reservation,
}

impl DueRowGroup {
    /// Gives `write` the rows, and their memory back after that.
    pub fn write<T>(self, write: impl FnOnce(PartitionKey, &RecordBatch) -> T) -> T {
        let Self { key, batch, room } = self;
        let written = write(key, &batch);
        drop(batch);
        drop(room);
        written
    }
}

impl<'b> RowGroups<'b> {
    /// Begins with none.
    pub fn new(layout: &'b BatchLayout<'b>, limits: RowGroupLimits) -> Self {
        Self { layout, idle: Mutex::default(), leaving: Mutex::default(), limits, spill: None }
    }

    /// Spills rows that are too few for a row group to `file` when there is no room for them.
    pub fn with_spill<F: SpillFile>(self, file: F) -> RowGroups<'b, F> {
        let Self { layout, idle, leaving, limits, spill: _ } = self;
        RowGroups { layout, idle, leaving, limits, spill: Some(Arc::new(Spill::new(file))) }
    }
}

impl<'b, F: SpillFile> RowGroups<'b, F> {
    /// Row groups for one thread to add to.
    pub fn batcher(&self) -> Batcher<'_, F> {
        Batcher { row_groups: self, held: Vec::new(), index: HashMap::new(), last: 0 }
    }

    /// Counts the partitions that rows came for.
    pub fn num_partitions(&self) -> usize {
        self.idle().partitions.len()
    }

    /// Takes all that are left, those of one partition that fit into one row group together; no
    /// thread may be adding to one.
    pub fn finish(self) -> Vec<LastRowGroup<'b, F>> {
        let Self { layout, idle, limits, spill, .. } = self;
        let Idle { partitions, .. } = idle.into_inner().unwrap_or_else(PoisonError::into_inner);
        let limits = Arc::new(limits);
        let mut last = Vec::new();
        for (key, Gathered { columns, spilled }) in partitions {
            let columns = columns.into_iter().filter(|columns| columns.num_rows() > 0).map(Rows::Columns);
            let rows: Vec<_> = columns.chain(spilled.into_iter().map(Rows::Spilled)).collect();
            let groups = pack(rows, limits.max_open_bytes);
            let num_left = Arc::new(AtomicUsize::new(groups.len()));
            last.extend(groups.into_iter().map(|rows| LastRowGroup {
                layout,
                limits: Arc::clone(&limits),
                spill: spill.clone(),
                key: key.clone(),
                rows,
                num_left: Arc::clone(&num_left),
            }));
        }
        last
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A thread that panicked ends the run; what it left behind is never published.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a batch of columns once there is room to encode it.
    fn due(&self, key: PartitionKey, columns: &mut Columns) -> DueRowGroup {
        let room = self.limits.encode_room.take(encode_cost(columns.num_bytes()));
        DueRowGroup { key, batch: self.layout.batch(columns), room }
    }

    /// Whether the rows are enough for a row group, or what they take is.
    fn are_enough(&self, columns: &Columns) -> bool {
        let max_bytes = self.limits.max_open_bytes / LARGE_SHARE;
        columns.num_rows() >= MIN_ROW_GROUP_ROWS || columns.num_bytes() >= max_bytes
    }
}

/// Rows that are left of a partition, wherever they are.
#[derive(Debug)]
enum Rows {
    Columns(Columns),
    Spilled(SpilledRows),
}

impl Rows {
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
fn pack(mut rows: Vec<Rows>, max_bytes: usize) -> Vec<Vec<Rows>> {
    rows.sort_by_key(|rows| std::cmp::Reverse(rows.num_rows()));
    let mut groups: Vec<(usize, usize, Vec<Rows>)> = Vec::new();
    for rows in rows {
        let (num_rows, num_bytes) = (rows.num_rows(), rows.columns_bytes());
        let fits = |group: &&mut (usize, usize, Vec<Rows>)| {
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

/// What several threads have gathered for one row group in the end.
#[derive(Debug)]
pub struct LastRowGroup<'b, F = NoSpill> {
    layout: &'b BatchLayout<'b>,
    limits: Arc<RowGroupLimits>,
    spill: Option<Arc<Spill<F>>>,
    key: PartitionKey,
    /// The largest first.
    rows: Vec<Rows>,
    /// Row groups of the partition that are not written.
    num_left: Arc<AtomicUsize>,
}

impl<F: SpillFile> LastRowGroup<'_, F> {
    /// Makes a batch of it once there is room to encode it, gives it to `write`, and calls `close` if it was
    /// the last of its partition.
    ///
    /// # Errors
    ///
    /// What the disk says that rows were spilled to, or what `write` or `close` return.
    ///
    /// # Panics
    ///
    /// If rows were spilled to nowhere: a mistake of ours.
    pub fn write<E: From<F::Error>>(
        self,
        write: impl FnOnce(PartitionKey, &RecordBatch) -> Result<(), E>,
        close: impl FnOnce(&PartitionKey) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { layout, limits, spill, key, rows, num_left } = self;
        let room = limits.encode_room.take(encode_cost(rows.iter().map(Rows::columns_bytes).sum()));
        let mut all: Option<Columns> = None;
        for rows in rows {
            let columns = match rows {
                Rows::Columns(columns) => columns,
                Rows::Spilled(spilled) => {
                    let spill = spill.as_ref().expect("there are rows in it");
                    let mut columns = Columns::new(layout.field_map);
                    spill.read(&spilled, &mut columns)?;
                    columns
                }
            };
            match &mut all {
                Some(all) => all.append(columns),
                none => *none = Some(columns),
            }
        }
        let batch = layout.batch(&mut all.expect("a row group has rows"));
        let partition = key.clone();
        DueRowGroup { key, batch, room }.write(write)?;
        if num_left.fetch_sub(1, Ordering::AcqRel) == 1 { close(&partition) } else { Ok(()) }
    }
}

/// The row groups that one thread is adding to.
#[derive(Debug)]
pub struct Batcher<'g, F: SpillFile = NoSpill> {
    row_groups: &'g RowGroups<'g, F>,
    held: Vec<Held>,
    index: HashMap<PartitionKey, usize>,
    /// The last row's: a device's rows stand together, so the next row mostly has it too.
    last: usize,
}

#[derive(Debug)]
struct Held {
    key: PartitionKey,
    columns: Columns,
    /// What the columns held when they were taken.
    counted_bytes: usize,
}

impl<F: SpillFile> Batcher<'_, F> {
    /// The columns that a row with this partition goes to.
    pub fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
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
        let columns = columns.unwrap_or_else(|| Columns::new(self.row_groups.layout.field_map));
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
    /// What the disk says that rows are spilled to.
    pub fn next_due(&mut self) -> Result<Option<DueRowGroup>, F::Error> {
        self.index.clear();
        let row_groups = self.row_groups;
        while let Some(mut held) = self.held.pop() {
            let due = (held.columns.num_rows() >= column::MAX_ROWS).then(|| {
                let _alone = row_groups.leaving.lock().unwrap_or_else(PoisonError::into_inner);
                row_groups.due(held.key.clone(), &mut held.columns)
            });
            row_groups.idle().put(held);
            if due.is_some() {
                return Ok(due);
            }
        }
        let is_over = || row_groups.idle().num_bytes > row_groups.limits.max_open_bytes;
        if !is_over() {
            return Ok(None);
        }
        let _alone = row_groups.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        while is_over() {
            let largest = row_groups.idle().take_largest();
            let Some((key, mut columns)) = largest else { break };
            // What is left of a full one is only memory.
            if columns.num_rows() == 0 {
                continue;
            }
            match &row_groups.spill {
                Some(spill) if !row_groups.are_enough(&columns) => {
                    let spilled = spill.write(&columns)?;
                    row_groups.idle().partitions.entry(key).or_default().spilled.push(spilled);
                }
                _ => return Ok(Some(row_groups.due(key, &mut columns))),
            }
        }
        Ok(None)
    }
}

impl<F: SpillFile> Drop for Batcher<'_, F> {
    fn drop(&mut self) {
        let mut idle = self.row_groups.idle();
        self.held.drain(..).for_each(|held| idle.put(held));
    }
}

impl Idle {
    /// The columns of a partition that have most rows.
    fn take(&mut self, key: &PartitionKey) -> Option<Columns> {
        let all = &mut self.partitions.get_mut(key)?.columns;
        let most = (0..all.len()).max_by_key(|position| all[*position].num_rows())?;
        Some(all.swap_remove(most))
    }

    fn put(&mut self, Held { key, columns, counted_bytes }: Held) {
        if columns.num_rows() == 0 && counted_bytes == 0 {
            // Asked for, and then no row came: there is no such partition.
            return;
        }
        self.num_bytes = self.num_bytes + columns.num_bytes() - counted_bytes;
        self.partitions.entry(key).or_default().columns.push(columns);
    }

    fn take_largest(&mut self) -> Option<(PartitionKey, Columns)> {
        let size = |all: &Gathered| all.columns.iter().map(Columns::num_bytes).max();
        let (key, all) = self.partitions.iter_mut().max_by_key(|(_, all)| size(all))?;
        let all = &mut all.columns;
        let largest = (0..all.len()).max_by_key(|position| all[*position].num_bytes())?;
        let (key, columns) = (key.clone(), all.swap_remove(largest));
        self.num_bytes -= columns.num_bytes();
        Some((key, columns))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, UInt32Type};

    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::decode::value::{JsonValue, List};

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
        batcher: &mut Batcher<'_>,
        field_map: &FieldMap,
        device: &str,
        product: Option<&str>,
        number: Option<i32>,
    ) {
        push_to("Linux", batcher, field_map, device, product, number);
    }

    /// A device's row: its product, and a path of that name where it has a number.
    fn push_to<F: SpillFile>(
        platform: &str,
        batcher: &mut Batcher<'_, F>,
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
    fn what_threads_gathered_is_one_row_group_ordered_by_product() {
        let field_map = FieldMap::new(schema::DATASETS[0], true);
        let layout = BatchLayout::new(&field_map, DateTime::UNIX_EPOCH);
        let row_groups = RowGroups::new(&layout, RowGroupLimits::none());
        let (mut one, mut other) = (row_groups.batcher(), row_groups.batcher());
        push(&mut one, &field_map, "d1", Some("zsh"), Some(7));
        push(&mut one, &field_map, "d2", Some("bash"), None);
        push(&mut one, &field_map, "d1", Some("zsh"), None);
        push(&mut other, &field_map, "d3", Some("bash"), Some(1));
        push(&mut other, &field_map, "d3", None, None);
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

    /// What a last row group gives to be written, and the partition that is to be closed after it.
    fn written<F: SpillFile<Error: std::fmt::Debug>>(
        last: LastRowGroup<'_, F>,
    ) -> (RecordBatch, Option<String>) {
        let (mut batch, mut closed) = (None, None);
        let write = |_, given: &RecordBatch| {
            batch = Some(given.clone());
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
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        let layout = BatchLayout::new(&field_map, DateTime::UNIX_EPOCH);
        let limits = RowGroupLimits { max_open_bytes: 0, ..RowGroupLimits::none() };
        let row_groups = RowGroups::new(&layout, limits);
        let mut batcher = row_groups.batcher();
        push(&mut batcher, &field_map, "d1", Some("zsh"), None);
        let due = batcher.next_due().unwrap().expect("it is over");
        assert_eq!(due.write(|_, batch| batch.num_rows()), 1);
        assert!(batcher.next_due().unwrap().is_none());
        drop(batcher);
        assert!(row_groups.finish().is_empty());
    }

    #[test]
    fn few_rows_are_spilled_and_come_back_as_one_row_group() {
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        let layout = BatchLayout::new(&field_map, DateTime::UNIX_EPOCH);
        let max_open_bytes = 5 * Columns::new(&field_map).num_bytes();
        let limits = RowGroupLimits { max_open_bytes, ..RowGroupLimits::none() };
        let row_groups = RowGroups::new(&layout, limits).with_spill(TempFile(tempfile::tempfile().unwrap()));
        let mut batcher = row_groups.batcher();
        let devices: Vec<String> = (0..600).map(|device| format!("d{device:04}")).collect();
        for (device, number) in devices.iter().zip(0_usize..) {
            let product = [Some("zsh"), Some("bash"), None][number % 3];
            push_to(["a", "b", "c", "d"][number % 4], &mut batcher, &field_map, device, product, None);
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
        let rows = |num_rows: &usize| Rows::Spilled(SpilledRows::nowhere(*num_rows, 10 * num_rows));
        let check = |sizes: &[usize], max_bytes: usize, expected: &[usize]| {
            let groups = pack(sizes.iter().map(rows).collect(), max_bytes);
            let sums: Vec<usize> =
                groups.iter().map(|group| group.iter().map(Rows::num_rows).sum()).collect();
            assert_eq!(sums, expected);
        };
        check(&[1, 122_880, 60_000, 62_880, 5], usize::MAX, &[122_880, 122_880, 6]);
        check(&[100, 50, 50], 1500, &[150, 50]);
        check(&[100, 100], 1, &[100, 100]);
        check(&[], usize::MAX, &[]);
    }
}
