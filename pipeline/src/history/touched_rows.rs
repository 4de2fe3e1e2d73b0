//! The rows of keys that could have changed, as numbers that have the order of the values.
//!
//! Takes the rows of both snapshots as they are read, on any thread; gives tables of numbers. Each distinct value of a
//! column is kept once, and 0 stands for null.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashTable};
use schema::ColumnType;

use super::rows::{RowColumns, ValueColumn};
use super::{value, version_order};

/// Finds values in tables; equal hashes are never taken for equal values.
const HASH: FixedState = FixedState::with_seed(2);

/// A column of touched rows.
#[derive(Debug, Clone, Copy)]
pub struct CellColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type, not a list.
    pub column_type: ColumnType,
    /// Whether its order is that of versions.
    pub is_version: bool,
}

/// The distinct values of each column, numbered from 1 on as they are met.
#[derive(Debug)]
pub struct Values {
    columns: Vec<CellColumn>,
    values: Vec<Mutex<ColumnValues>>,
}

#[derive(Debug, Default)]
struct ColumnValues {
    texts: Vec<Box<str>>,
    text_numbers: HashTable<u32>,
    numbers: Vec<u64>,
    number_numbers: HashMap<u64, u32, FixedState>,
}

/// Rows of one snapshot.
#[derive(Debug, Default)]
pub struct TouchedRows {
    /// The device of each row.
    pub devices: Vec<u32>,
    /// A number for each column of each row, row after row.
    cells: Vec<u32>,
}

/// Some rows of a batch, and room that is used again.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Positions of the rows in the batch.
    pub rows: Vec<usize>,
    numbers: Vec<u32>,
}

impl Values {
    /// Creates tables without values.
    pub fn new(columns: Vec<CellColumn>) -> Self {
        let values = columns.iter().map(|_| Mutex::default()).collect();
        Self { columns, values }
    }

    /// Adds the chosen rows of a batch to `made`, without their devices.
    pub fn add(&self, batch: &RowColumns<'_>, chosen: &mut Chosen, made: &mut TouchedRows) {
        if chosen.rows.is_empty() {
            return;
        }
        let num_columns = self.columns.len();
        let start = made.cells.len();
        made.cells.resize(start + chosen.rows.len() * num_columns, 0);
        for (index, (column, values)) in self.columns.iter().zip(&self.values).enumerate() {
            // A thread that panicked ends the program, so poisoning does not matter.
            let lock = || values.lock().unwrap_or_else(PoisonError::into_inner);
            let cells = made.cells[start + index..].iter_mut().step_by(num_columns);
            match batch.values(column.name) {
                ValueColumn::Text(text) => {
                    const UNKNOWN: u32 = u32::MAX;
                    chosen.numbers.clear();
                    chosen.numbers.resize(text.num_codes(), UNKNOWN);
                    let mut values = lock();
                    for (cell, row) in cells.zip(&chosen.rows) {
                        let code = text.codes()[*row];
                        let number = &mut chosen.numbers[code as usize];
                        if *number == UNKNOWN {
                            *number = text.value(code).map_or(0, |value| values.text_number(value));
                        }
                        *cell = *number;
                    }
                }
                ValueColumn::Numbers(numbers) => {
                    let mut values = lock();
                    for (cell, row) in cells.zip(&chosen.rows) {
                        *cell = numbers.number(*row).map_or(0, |number| values.number_number(number));
                    }
                }
            }
        }
    }

    /// Brings the numbers of all rows into the order of their values, and returns the values in it.
    pub fn ranked(self, rows: [&mut TouchedRows; 2]) -> RankedValues {
        let mut ranks = Vec::new();
        let mut columns = Vec::new();
        for (column, values) in self.columns.iter().zip(self.values) {
            let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
            let (of_column, ranked) = values.ranked(*column);
            ranks.push(of_column);
            columns.push(ranked);
        }
        for rows in rows {
            for cells in rows.cells.chunks_exact_mut(ranks.len().max(1)) {
                cells.iter_mut().zip(&ranks).for_each(|(cell, ranks)| *cell = ranks[*cell as usize]);
            }
        }
        RankedValues { columns }
    }
}

impl ColumnValues {
    fn text_number(&mut self, value: &str) -> u32 {
        let Self { texts, text_numbers, .. } = self;
        let text_of = |number: u32| &*texts[number as usize - 1];
        let hash = HASH.hash_one(value);
        let known = text_numbers.find(hash, |number| text_of(*number) == value);
        if let Some(number) = known {
            return *number;
        }
        let number = next_number(texts.len());
        text_numbers.insert_unique(hash, number, |number| HASH.hash_one(text_of(*number)));
        texts.push(value.into());
        number
    }

    fn number_number(&mut self, value: u64) -> u32 {
        let next = next_number(self.numbers.len());
        *self.number_numbers.entry(value).or_insert_with(|| {
            self.numbers.push(value);
            next
        })
    }

    /// Returns the rank of each number, and the values by rank.
    fn ranked(self, column: CellColumn) -> (Vec<u32>, RankedColumn) {
        let mut ranks = vec![0; 1 + self.texts.len().max(self.numbers.len())];
        drop(self.text_numbers);
        // A column is of one type, but for snapshots that lack it.
        if self.numbers.is_empty() {
            let mut order: Vec<(u32, Box<str>)> = (1..).zip(self.texts).collect();
            if column.is_version {
                order.sort_unstable_by(|(_, one), (_, other)| version_order::compare(one, other));
            } else {
                order.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
            }
            let values = (1..).zip(order).map(|(rank, (number, value))| {
                ranks[number as usize] = rank;
                value
            });
            let values = values.collect();
            return (ranks, RankedColumn::Texts(values));
        }
        let mut order: Vec<(u64, u32)> = self.numbers.into_iter().zip(1..).collect();
        order.sort_unstable();
        let values = (1..).zip(order).map(|(rank, (value, number))| {
            ranks[number as usize] = rank;
            value
        });
        let values = values.collect();
        (ranks, RankedColumn::Numbers(values, column.column_type))
    }
}

fn next_number(len: usize) -> u32 {
    u32::try_from(len + 1).expect("fewer values than fit into memory")
}

impl TouchedRows {
    /// Appends rows.
    pub fn append(&mut self, mut other: Self) {
        if self.devices.is_empty() {
            *self = other;
        } else {
            self.devices.append(&mut other.devices);
            self.cells.append(&mut other.cells);
        }
    }

    /// Returns the numbers of a row.
    pub fn cells(&self, row: u32, num_columns: usize) -> &[u32] {
        let start = row as usize * num_columns;
        &self.cells[start..start + num_columns]
    }

    /// Returns the rows by device: those of device `d` are `rows[starts[d]..starts[d + 1]]`.
    pub fn by_device(&self, num_devices: usize) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0_u32; num_devices + 1];
        for device in &self.devices {
            starts[*device as usize + 1] += 1;
        }
        for device in 0..num_devices {
            starts[device + 1] += starts[device];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; self.devices.len()];
        for (row, device) in (0..).zip(&self.devices) {
            let next = &mut next[*device as usize];
            rows[*next as usize] = row;
            *next += 1;
        }
        (starts, rows)
    }
}

/// The values of each column, by their numbers.
#[derive(Debug)]
pub struct RankedValues {
    columns: Vec<RankedColumn>,
}

#[derive(Debug)]
enum RankedColumn {
    Texts(Vec<Box<str>>),
    Numbers(Vec<u64>, ColumnType),
}

impl RankedValues {
    /// Returns the value of a text column.
    pub fn text(&self, column: usize, rank: u32) -> Option<&str> {
        let index = (rank as usize).checked_sub(1)?;
        match &self.columns[column] {
            RankedColumn::Texts(texts) => Some(&texts[index]),
            RankedColumn::Numbers(..) => None,
        }
    }

    /// Writes the value of a column as text into `text`, and returns it.
    pub fn shown<'t>(&'t self, column: usize, rank: u32, text: &'t mut String) -> Option<&'t str> {
        match &self.columns[column] {
            RankedColumn::Texts(_) => self.text(column, rank),
            RankedColumn::Numbers(numbers, column_type) => {
                let index = (rank as usize).checked_sub(1)?;
                *text = value::text(numbers[index], *column_type);
                Some(text)
            }
        }
    }

    /// Compares two values of a text column by their bytes, whatever the order of their numbers.
    pub fn compare_text(&self, column: usize, one: u32, other: u32) -> Ordering {
        self.text(column, one).cmp(&self.text(column, other))
    }
}
