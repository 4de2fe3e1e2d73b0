//! Takes columns of rows as they are decoded; gives record batches, each one row group of a partition.
//!
//! Rows are routed as they come, so that nothing is ever split or copied again by partition. Open
//! row groups are shared by all threads: one takes a partition's columns for a stretch of rows, and
//! puts them back. They are bounded in rows each, and in bytes all together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;
use chrono::{DateTime, Utc};
use schema::{Column, ColumnType, Origin};

use crate::decode::binding::Binding;
use crate::decode::columns::{self, Columns, Finished};
use crate::partition::PartitionKey;

/// Rows of which those of one product stand together. Exports have a device's rows together, and
/// its products in no order: who asks for a product then reads every page of every column. Sorting
/// whole row groups would help that question more, and the one for all of a device would pay for it.
/// A multiple of what DuckDB takes at a time, 2,048 rows. Figures: README, Benchmarks.
const BLOCK_ROWS: usize = 15 * 2048;

/// How a dataset's columns become batches.
#[derive(Debug)]
pub struct BatchLayout<'b> {
    binding: &'b Binding,
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
    /// Where the binding is of another dataset than it says: a mistake of ours.
    pub fn new(binding: &'b Binding, generated_time: DateTime<Utc>) -> Self {
        let dataset = binding.dataset();
        let filled = |column: &'static Column| match column.origin {
            Origin::Property => Filled::Property(binding.property_of(column).expect("a property is bound")),
            Origin::Export => Filled::GeneratedTime,
            Origin::Undocumented => Filled::ExtraFields,
        };
        let position = |name: &&str| {
            let mut properties = binding.properties().iter();
            properties.position(|column| column.name == *name).expect("schema's tests hold this")
        };
        let extra = binding.captures_extra_fields().then_some(&schema::EXTRA_FIELDS);
        Self {
            binding,
            file_schema: schema::arrow::file_schema(dataset, binding.captures_extra_fields()),
            schema: schema::arrow::batch_schema(dataset, binding.captures_extra_fields()),
            fields: dataset.file_columns().chain(extra).map(filled).collect(),
            cluster_by: dataset.cluster_by.iter().map(position).collect(),
            generated_time,
        }
    }

    /// The Arrow schema of the files.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    fn batch(&self, columns: &mut Columns) -> RecordBatch {
        let order = self.order(columns);
        let Finished { mut properties, extra_fields, num_rows } = columns.finish(&order);
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
pub struct RowGroups<'b> {
    layout: &'b BatchLayout<'b>,
    idle: Mutex<Idle>,
    max_bytes: usize,
}

/// Those that no thread is adding to.
#[derive(Debug, Default)]
struct Idle {
    partitions: HashMap<PartitionKey, Vec<Columns>>,
    num_bytes: usize,
}

impl<'b> RowGroups<'b> {
    /// Begins with none. They may hold about `max_bytes` together before the largest is closed early.
    pub fn new(layout: &'b BatchLayout<'b>, max_bytes: usize) -> Self {
        Self { layout, idle: Mutex::default(), max_bytes }
    }

    /// Row groups for one thread to add to.
    pub fn batcher(&self) -> Batcher<'_> {
        Batcher { row_groups: self, held: Vec::new(), index: HashMap::new(), last: 0 }
    }

    /// Takes all that are left, those of one partition that fit into one row group together; no
    /// thread may be adding to one.
    pub fn finish(self) -> Vec<LastRowGroup<'b>> {
        let Idle { partitions, .. } = self.idle.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<LastRowGroup<'b>> = Vec::new();
        for (key, mut all) in partitions {
            let first = last.len();
            all.sort_unstable_by_key(|columns| std::cmp::Reverse(columns.num_rows()));
            for columns in all.into_iter().filter(|columns| columns.num_rows() > 0) {
                let fits = |group: &&mut LastRowGroup<'b>| {
                    group.num_rows() + columns.num_rows() <= columns::MAX_ROWS
                };
                match last[first..].iter_mut().find(fits) {
                    Some(group) => group.columns.push(columns),
                    None => last.push(LastRowGroup {
                        layout: self.layout,
                        key: key.clone(),
                        columns: vec![columns],
                    }),
                }
            }
        }
        last
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A thread that panicked ends the run; what it left behind is never published.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What several threads have gathered for one row group in the end.
#[derive(Debug)]
pub struct LastRowGroup<'b> {
    layout: &'b BatchLayout<'b>,
    key: PartitionKey,
    /// The largest first.
    columns: Vec<Columns>,
}

impl LastRowGroup<'_> {
    fn num_rows(&self) -> usize {
        self.columns.iter().map(Columns::num_rows).sum()
    }

    /// Makes a batch of it.
    pub fn into_batch(self) -> (PartitionKey, RecordBatch) {
        let mut all = self.columns.into_iter();
        let mut columns = all.next().unwrap_or_else(|| Columns::new(self.layout.binding));
        all.for_each(|other| columns.append(other));
        (self.key, self.layout.batch(&mut columns))
    }
}

/// The row groups that one thread is adding to.
#[derive(Debug)]
pub struct Batcher<'g> {
    row_groups: &'g RowGroups<'g>,
    held: Vec<(PartitionKey, Columns)>,
    index: HashMap<PartitionKey, usize>,
    /// The last row's: a device's rows stand together, so the next row mostly has it too.
    last: usize,
}

impl Batcher<'_> {
    /// The columns that a row with this partition goes to.
    pub fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        if self.held.get(self.last).is_none_or(|(key, _)| key.value() != partition) {
            self.last = self.hold(PartitionKey::new(partition));
        }
        &mut self.held[self.last].1
    }

    fn hold(&mut self, key: PartitionKey) -> usize {
        if let Some(held) = self.index.get(&key) {
            return *held;
        }
        let columns = self.row_groups.idle().take(&key);
        let columns = columns.unwrap_or_else(|| Columns::new(self.row_groups.layout.binding));
        self.index.insert(key.clone(), self.held.len());
        self.held.push((key, columns));
        self.held.len() - 1
    }

    /// Gives back what is held, and takes the row groups that are due: those that are full, and the
    /// largest where all together hold more than they may. Call it between stretches of rows.
    pub fn take(&mut self) -> Vec<(PartitionKey, RecordBatch)> {
        self.index.clear();
        let layout = self.row_groups.layout;
        let mut due = Vec::new();
        for (key, mut columns) in self.held.drain(..) {
            if columns.num_rows() >= columns::MAX_ROWS {
                due.push((key.clone(), layout.batch(&mut columns)));
            }
            self.row_groups.idle().put(key, columns);
        }
        loop {
            let mut idle = self.row_groups.idle();
            if idle.num_bytes <= self.row_groups.max_bytes {
                return due;
            }
            let Some((key, mut columns)) = idle.take_largest() else { return due };
            drop(idle);
            // What is left of a full one is only memory.
            if columns.num_rows() > 0 {
                due.push((key, layout.batch(&mut columns)));
            }
        }
    }
}

impl Drop for Batcher<'_> {
    fn drop(&mut self) {
        let mut idle = self.row_groups.idle();
        self.held.drain(..).for_each(|(key, columns)| idle.put(key, columns));
    }
}

impl Idle {
    /// The columns of a partition that have most rows.
    fn take(&mut self, key: &PartitionKey) -> Option<Columns> {
        let all = self.partitions.get_mut(key)?;
        let most = (0..all.len()).max_by_key(|position| all[*position].num_rows())?;
        let columns = all.swap_remove(most);
        self.num_bytes -= columns.num_bytes();
        Some(columns)
    }

    fn put(&mut self, key: PartitionKey, columns: Columns) {
        self.num_bytes += columns.num_bytes();
        self.partitions.entry(key).or_default().push(columns);
    }

    fn take_largest(&mut self) -> Option<(PartitionKey, Columns)> {
        let size = |all: &Vec<Columns>| all.iter().map(Columns::num_bytes).max();
        let (key, all) = self.partitions.iter_mut().max_by_key(|(_, all)| size(all))?;
        let largest = (0..all.len()).max_by_key(|position| all[*position].num_bytes())?;
        let (key, columns) = (key.clone(), all.swap_remove(largest));
        self.num_bytes -= columns.num_bytes();
        Some((key, columns))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, UInt32Type};

    use super::*;
    use crate::decode::cell::{Cell, List};

    /// A device's row: its product, and a path of that name where it has a number.
    fn push(
        batcher: &mut Batcher<'_>,
        binding: &Binding,
        device: &str,
        product: Option<&str>,
        number: Option<i32>,
    ) {
        let path = [product.map(Cow::Borrowed), None];
        let cell = |column: &&'static Column| match (column.name, product) {
            ("DeviceId", _) => Cell::Text(device),
            ("SoftwareName", Some(product)) => Cell::Text(product),
            ("NumberOfWeaknesses", _) => number.map_or(Cell::Null, Cell::Int32),
            ("DiskPaths", _) if number.is_some() => Cell::List(List::Texts(&path)),
            _ => Cell::Null,
        };
        let cells: Vec<_> = binding.properties().iter().map(cell).collect();
        let extra_fields = (device == "d3").then_some("{}");
        batcher.columns(Some("Linux")).push(&cells, extra_fields);
    }

    fn text(column: &dyn Array, row: usize) -> Option<&str> {
        let column = column.as_dictionary::<UInt32Type>();
        column.key(row).map(|key| column.values().as_string::<i32>().value(key))
    }

    #[test]
    fn what_threads_gathered_is_one_row_group_ordered_by_product() {
        let binding = Binding::new(schema::DATASETS[0], true);
        let layout = BatchLayout::new(&binding, DateTime::UNIX_EPOCH);
        let row_groups = RowGroups::new(&layout, usize::MAX);
        let (mut one, mut other) = (row_groups.batcher(), row_groups.batcher());
        push(&mut one, &binding, "d1", Some("zsh"), Some(7));
        push(&mut one, &binding, "d2", Some("bash"), None);
        push(&mut one, &binding, "d1", Some("zsh"), None);
        push(&mut other, &binding, "d3", Some("bash"), Some(1));
        push(&mut other, &binding, "d3", None, None);
        assert!(one.take().is_empty() && other.take().is_empty(), "none is due");
        drop((one, other));
        let mut last = row_groups.finish();
        assert_eq!(last.len(), 1);
        let (key, batch) = last.remove(0).into_batch();
        assert_eq!(key.value(), Some("Linux"));
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

    #[test]
    fn the_largest_row_group_is_due_where_all_hold_too_much() {
        let binding = Binding::new(schema::DATASETS[0], false);
        let layout = BatchLayout::new(&binding, DateTime::UNIX_EPOCH);
        let row_groups = RowGroups::new(&layout, 0);
        let mut batcher = row_groups.batcher();
        push(&mut batcher, &binding, "d1", Some("zsh"), None);
        let due = batcher.take();
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].1.num_rows(), 1);
        drop(batcher);
        assert!(row_groups.finish().is_empty());
    }
}
