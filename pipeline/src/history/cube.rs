//! Rows, sums and distinct devices of a snapshot by several groups of columns at once, from one streaming read.
//!
//! Takes an open snapshot, the dimensions that its rows are told apart by, and the roll-ups that are wanted of them; gives
//! the exact counts of each. Rows that a dimension leaves out are in none. The snapshot is read in as many turns, each for
//! other devices, as its rows ask for; if a turn exceeds the memory limit all the same, they begin again and are twice as
//! many. A column that a file lacks is null.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::numbers::Numbers;
use super::row_hash::CodeTable;
use super::rows::{RowColumns, SnapshotReader};
use super::value::signed_number;
use super::{HistoryError, value};
use crate::cancel::Cancel;
use crate::threads;

/// Dimensions of a cube, at most.
pub const MAX_DIMENSIONS: usize = 10;

/// Dimensions of a roll-up, at most.
pub const MAX_ROLLED: usize = 6;

/// Bytes of a pair of cell and device: its own, and its cell once more while devices are counted. A row makes one pair at
/// most.
const BYTES_PER_PAIR: usize = size_of::<Pair>() + size_of::<u32>();

/// Pairs that are allocated at once: what is there is never copied to a larger place.
const PAIRS_PER_CHUNK: usize = 1 << 12;

/// Bytes of a cell in a thread's table and in the one of all threads, with the room that tables keep free.
const BYTES_PER_CELL: usize = 280;

/// Assigns devices to turns, and finds cells in tables; equal hashes are never taken for equal values.
const HASH: FixedState = FixedState::with_seed(1);

/// Stands for rows that are left out.
const LEFT_OUT: u32 = u32::MAX;

/// What a text is counted as; `None` leaves the row out.
pub type TextClass<'a> = Box<dyn Fn(Option<&str>) -> Option<i64> + Sync + 'a>;

/// What a number is counted as; `None` leaves the row out. Times are microseconds, dates days since the epoch, a boolean
/// is 0 or 1.
pub type NumberClass<'a> = Box<dyn Fn(Option<i64>) -> Option<Option<i64>> + Sync + 'a>;

/// What rows are told apart by.
pub enum Dimension<'a> {
    /// A text column's values.
    Text(&'static str),
    /// Classes of a text column's values.
    TextClass(&'static str, TextClass<'a>),
    /// Classes of the values of a column of integers, times, dates or booleans.
    NumberClass(&'static str, NumberClass<'a>),
    /// The values of a column of floating point numbers.
    Float(&'static str),
}

impl Dimension<'_> {
    fn column(&self) -> &'static str {
        match self {
            Self::Text(column)
            | Self::TextClass(column, _)
            | Self::NumberClass(column, _)
            | Self::Float(column) => column,
        }
    }
}

/// A value of a dimension.
#[derive(Debug, Clone, PartialEq)]
pub enum DimensionValue {
    /// Of [`Dimension::Text`].
    Text(Option<Box<str>>),
    /// Of [`Dimension::TextClass`] and [`Dimension::NumberClass`].
    Number(Option<i64>),
    /// Of [`Dimension::Float`].
    Float(Option<f64>),
}

impl DimensionValue {
    /// Returns the text; nothing if it is null, or no text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.as_deref(),
            Self::Number(_) | Self::Float(_) => None,
        }
    }

    /// Returns the number; nothing if it is null, or none.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => *number,
            Self::Text(_) | Self::Float(_) => None,
        }
    }

    /// Returns the floating point number; nothing if it is null, or none.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => *number,
            Self::Text(_) | Self::Number(_) => None,
        }
    }
}

/// What is counted.
#[derive(Debug)]
pub struct CubeRequest<'a> {
    /// Column that identifies a device.
    pub device: &'static str,
    /// What rows are told apart by, [`MAX_DIMENSIONS`] at most.
    pub dimensions: Vec<Dimension<'a>>,
    /// Column of 32-bit integers that is summed.
    pub sum: Option<&'static str>,
    /// What is wanted of them.
    pub rollups: Vec<RollUpRequest>,
}

/// A roll-up: the rows that agree in some dimensions.
#[derive(Debug, Clone)]
pub struct RollUpRequest {
    /// Positions of the dimensions, [`MAX_ROLLED`] at most.
    pub dimensions: Vec<usize>,
    /// Whether devices are counted.
    pub devices: bool,
}

impl std::fmt::Debug for Dimension<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dimension").field(&self.column()).finish()
    }
}

/// The counts of a snapshot.
#[derive(Debug)]
pub struct Cube {
    /// Values by dimension and number.
    values: Vec<Vec<DimensionValue>>,
    /// As in the request.
    rollups: Vec<RollUp>,
    requested: Vec<RollUpRequest>,
}

/// The counts of a roll-up.
#[derive(Debug, Default)]
struct RollUp {
    numbers: HashMap<[u32; MAX_ROLLED], u32, FixedState>,
    counts: Vec<CellCounts>,
}

/// The counts of the rows that agree in a roll-up's dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CellCounts {
    /// Rows.
    pub rows: u64,
    /// Distinct devices, if they are counted.
    pub devices: u64,
    /// Sum of the requested column.
    pub sum: i64,
}

impl Cube {
    /// Returns the counts of a roll-up, by the values of its dimensions in their order; in no order.
    pub fn cells(&self, rollup: usize) -> impl Iterator<Item = (Vec<&DimensionValue>, CellCounts)> {
        let RollUp { numbers, counts } = &self.rollups[rollup];
        let dimensions = &self.requested[rollup].dimensions;
        numbers.iter().map(move |(key, number)| {
            let values = dimensions
                .iter()
                .zip(key)
                .map(|(dimension, value)| &self.values[*dimension][*value as usize]);
            (values.collect(), counts[*number as usize])
        })
    }
}

type CellKey = [u32; MAX_DIMENSIONS];

/// The numbers of a dimension's values, shared by all threads.
#[derive(Debug)]
enum ValueNumbers {
    Text(Numbers),
    /// By the number of the value.
    Number(Mutex<HashMap<Option<i64>, u32, FixedState>>),
}

impl ValueNumbers {
    fn of(dimension: &Dimension<'_>) -> Self {
        match dimension {
            Dimension::Text(_) => Self::Text(Numbers::default()),
            _ => Self::Number(Mutex::default()),
        }
    }

    fn of_text(&self, text: Option<&str>) -> u32 {
        match self {
            Self::Text(numbers) => numbers.of(&[text]),
            Self::Number(_) => unreachable!("the dimension is one of text"),
        }
    }

    fn of_number(&self, number: Option<i64>) -> u32 {
        let Self::Number(numbers) = self else { unreachable!("the dimension is one of numbers") };
        // A thread that panicked ends the program, so poisoning does not matter.
        let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(numbers.len()).expect("fewer values than fit into memory");
        *numbers.entry(number).or_insert(next)
    }

    /// Returns the values by their numbers.
    fn into_values(self, dimension: &Dimension<'_>) -> Vec<DimensionValue> {
        let mut values: Vec<(u32, DimensionValue)> = match self {
            Self::Text(numbers) => {
                let entries = numbers.into_entries();
                entries
                    .map(|(mut text, number)| (number, DimensionValue::Text(text.swap_remove(0))))
                    .collect()
            }
            Self::Number(numbers) => {
                let numbers = numbers.into_inner().unwrap_or_else(PoisonError::into_inner);
                let value = |value: Option<i64>| match dimension {
                    Dimension::Float(_) => {
                        DimensionValue::Float(value.map(|value| value::float(value.cast_unsigned())))
                    }
                    _ => DimensionValue::Number(value),
                };
                numbers.into_iter().map(|(number, index)| (index, value(number))).collect()
            }
        };
        values.sort_unstable_by_key(|(number, _)| *number);
        values.into_iter().map(|(_, value)| value).collect()
    }
}

/// What one thread has counted in a turn.
#[derive(Debug, Default)]
struct Tally {
    /// By dimension.
    columns: Vec<ColumnNumbers>,
    device_of_code: CodeTable<Option<u32>>,
    numbers: HashMap<CellKey, u32, FixedState>,
    keys: Vec<CellKey>,
    cells: Vec<CellCounts>,
    /// All but the last are full.
    pairs: Vec<Vec<Pair>>,
}

/// A device that has rows of a cell.
#[derive(Debug, Clone, Copy)]
struct Pair {
    device: u32,
    cell: u32,
}

/// The numbers of the values of a batch's rows.
#[derive(Debug, Default)]
struct ColumnNumbers {
    of_code: CodeTable<u32>,
    of_row: Vec<u32>,
    known: HashMap<Option<u64>, u32, FixedState>,
}

impl Tally {
    fn bytes(&self) -> usize {
        let in_last = self.pairs.last().map_or(0, Vec::len);
        let num_pairs = self.pairs.len().saturating_sub(1) * PAIRS_PER_CHUNK + in_last;
        num_pairs * BYTES_PER_PAIR + self.cells.len() * BYTES_PER_CELL
    }

    fn count(
        &mut self,
        request: &CubeRequest<'_>,
        values: &[ValueNumbers],
        rows: &RowColumns<'_>,
        device: impl FnMut(Option<&str>) -> Option<u32>,
    ) {
        self.columns.resize_with(request.dimensions.len(), ColumnNumbers::default);
        for ((dimension, values), column) in request.dimensions.iter().zip(values).zip(&mut self.columns) {
            column.number(dimension, values, rows);
        }
        let sums = request.sum.and_then(|column| rows.numbers(column));
        let zero = signed_number(0);
        let ids = rows.text(request.device);
        let devices = self.device_of_code.of(&ids, device);
        for (row, code) in ids.codes().iter().enumerate() {
            let Some(device) = devices[*code as usize] else { continue };
            let mut key = [0; MAX_DIMENSIONS];
            for (value, column) in key.iter_mut().zip(&self.columns) {
                *value = column.of_row[row];
            }
            if key.contains(&LEFT_OUT) {
                continue;
            }
            let cell = match self.numbers.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let number = u32::try_from(self.keys.len()).expect("fewer cells than fit into memory");
                    self.keys.push(key);
                    self.cells.push(CellCounts::default());
                    *new.insert(number)
                }
            };
            let counts = &mut self.cells[cell as usize];
            counts.rows += 1;
            if let Some(sums) = &sums {
                counts.sum += sums.number(row).unwrap_or(zero).wrapping_sub(zero).cast_signed();
            }
            if self.pairs.last().is_none_or(|chunk| chunk.len() == PAIRS_PER_CHUNK) {
                self.pairs.push(Vec::with_capacity(PAIRS_PER_CHUNK));
            }
            self.pairs.last_mut().expect("there is one by now").push(Pair { device, cell });
        }
    }
}

impl ColumnNumbers {
    fn number(&mut self, dimension: &Dimension<'_>, values: &ValueNumbers, rows: &RowColumns<'_>) {
        self.of_row.clear();
        match dimension {
            Dimension::Text(name) => {
                let column = rows.text(name);
                let of_code = self.of_code.of(&column, |text| values.of_text(text));
                self.of_row.extend(column.codes().iter().map(|code| of_code[*code as usize]));
            }
            Dimension::TextClass(name, class) => {
                let column = rows.text(name);
                let number = |text: Option<&str>| match class(text) {
                    Some(class) => values.of_number(Some(class)),
                    None => LEFT_OUT,
                };
                let of_code = self.of_code.of(&column, number);
                self.of_row.extend(column.codes().iter().map(|code| of_code[*code as usize]));
            }
            Dimension::NumberClass(name, class) => {
                let number = |value: Option<u64>| {
                    let value = value.map(|value| value.wrapping_sub(zero_of(rows, name)).cast_signed());
                    class(value).map_or(LEFT_OUT, |class| values.of_number(class))
                };
                self.number_rows(name, rows, number);
            }
            Dimension::Float(name) => {
                self.number_rows(name, rows, |value| values.of_number(value.map(u64::cast_signed)));
            }
        }
    }

    fn number_rows(&mut self, name: &str, rows: &RowColumns<'_>, number: impl Fn(Option<u64>) -> u32) {
        /// Distinct values that are kept, at most: times differ in nearly every row.
        const MAX_KNOWN: usize = 1 << 16;
        let Some(column) = rows.numbers(name) else {
            self.of_row.resize(rows.num_rows(), number(None));
            return;
        };
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        for row in 0..rows.num_rows() {
            let value = column.number(row);
            self.of_row.push(*self.known.entry(value).or_insert_with(|| number(value)));
        }
    }
}

/// Returns what stands for zero in a column of integers: booleans are 0 and 1, others have the order of signed numbers.
fn zero_of(rows: &RowColumns<'_>, name: &str) -> u64 {
    if rows.is_boolean(name) { 0 } else { signed_number(0) }
}

/// Counts the rows of a snapshot.
///
/// # Errors
///
/// What [`SnapshotReader::visit`] returns.
///
/// # Panics
///
/// If there are more dimensions than a cube has.
pub fn read(
    reader: &SnapshotReader<'_>,
    request: &CubeRequest<'_>,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Cube, HistoryError> {
    assert!(
        request.dimensions.len() <= MAX_DIMENSIONS
            && request.rollups.iter().all(|rollup| rollup.dimensions.len() <= MAX_ROLLED)
    );
    reader.check_columns(&[request.device])?;
    let row_bytes = reader.num_rows() * BYTES_PER_PAIR as u64;
    let mut num_turns = row_bytes.div_ceil((memory_bytes / 2).max(1)).max(1);
    loop {
        if let Some(cube) = read_in_turns(reader, request, num_turns, memory_bytes, cancel)? {
            return Ok(cube);
        }
        num_turns *= 2;
    }
}

/// Counts in so many turns; returns nothing if they exceed the memory limit.
fn read_in_turns(
    reader: &SnapshotReader<'_>,
    request: &CubeRequest<'_>,
    num_turns: u64,
    memory_bytes: u64,
    cancel: &Cancel,
) -> Result<Option<Cube>, HistoryError> {
    let mut columns = vec![request.device];
    columns.extend(request.dimensions.iter().map(Dimension::column).chain(request.sum));
    columns.sort_unstable();
    columns.dedup();
    let values: Vec<_> = request.dimensions.iter().map(ValueNumbers::of).collect();
    let mut rollups: Vec<_> = request.rollups.iter().map(|_| RollUp::default()).collect();
    // Half of it for what all turns have found, the devices, and the batches of the read.
    let max_bytes = usize::try_from(memory_bytes / 2).unwrap_or(usize::MAX);
    // In so many turns all rows fit even if each is a cell of its own: one that does not holds a device of too many rows.
    let most_bytes = reader.num_rows() * (BYTES_PER_PAIR + BYTES_PER_CELL) as u64;
    let is_last_try = num_turns >= 4 * most_bytes.div_ceil(max_bytes.max(1) as u64);
    for turn in 0..num_turns {
        let devices = Numbers::default();
        let is_in_turn = |id: Option<&str>| num_turns == 1 || HASH.hash_one(id) % num_turns == turn;
        let num_bytes = AtomicUsize::new(0);
        let is_too_much = || num_bytes.load(Ordering::Relaxed) > max_bytes && !is_last_try;
        let tallies = reader.visit(
            &columns,
            |_| true,
            cancel,
            |tally: &mut Tally, rows| {
                let before = tally.bytes();
                tally.count(request, &values, rows, |id| is_in_turn(id).then(|| devices.of(&[id])));
                num_bytes.fetch_add(tally.bytes() - before, Ordering::Relaxed);
                // Ends the read.
                if is_too_much() { Err(HistoryError::Interrupted) } else { Ok(()) }
            },
        );
        if is_too_much() {
            return Ok(None);
        }
        roll_up(request, tallies?, devices.len(), &mut rollups);
    }
    let values = values.into_iter().zip(&request.dimensions);
    let values = values.map(|(values, dimension)| values.into_values(dimension)).collect();
    Ok(Some(Cube { values, rollups, requested: request.rollups.clone() }))
}

/// Adds what the threads have counted in a turn to the roll-ups.
fn roll_up(request: &CubeRequest<'_>, tallies: Vec<Tally>, num_devices: usize, rollups: &mut [RollUp]) {
    let mut numbers: HashMap<CellKey, u32, FixedState> = HashMap::default();
    // By roll-up, then by cell.
    let mut rolled: Vec<Vec<u32>> = rollups.iter().map(|_| Vec::new()).collect();
    let mut counted = Vec::with_capacity(tallies.len());
    for Tally { keys, cells, pairs, .. } in tallies {
        let mut number_of = Vec::with_capacity(keys.len());
        for (key, counts) in keys.iter().zip(&cells) {
            let next = u32::try_from(numbers.len()).expect("fewer cells than fit into memory");
            let number = *numbers.entry(*key).or_insert(next);
            number_of.push(number);
            for ((wanted, rollup), rolled) in request.rollups.iter().zip(&mut *rollups).zip(&mut rolled) {
                if number == next {
                    rolled.push(rollup.number(key, &wanted.dimensions));
                }
                let total = &mut rollup.counts[rolled[number as usize] as usize];
                total.rows += counts.rows;
                total.sum += counts.sum;
            }
        }
        counted.push((number_of, pairs));
    }
    drop(numbers);
    let wanted: Vec<usize> = (0..rollups.len()).filter(|index| request.rollups[*index].devices).collect();
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let devices_at_once = num_devices.div_ceil(num_threads).max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut devices: Vec<_> = wanted.iter().map(|index| vec![0; rollups[*index].counts.len()]).collect();
        loop {
            let start = next.fetch_add(devices_at_once, Ordering::Relaxed);
            if start >= num_devices {
                return devices;
            }
            let of_devices = CellsOfDevices::new(&counted, start..num_devices.min(start + devices_at_once));
            for (index, devices) in wanted.iter().zip(&mut devices) {
                of_devices.count(&rolled[*index], devices);
            }
        }
    };
    for of_thread in threads::on_threads(num_threads, work) {
        for (index, devices) in wanted.iter().zip(of_thread) {
            for (counts, devices) in rollups[*index].counts.iter_mut().zip(devices) {
                counts.devices += u64::from(devices);
            }
        }
    }
}

/// The cells of some devices, those of a device together.
struct CellsOfDevices {
    cells: Vec<u32>,
    /// Where those of each device end.
    ends: Vec<usize>,
}

impl CellsOfDevices {
    /// Sorts what the threads have counted of the devices: the numbers of their cells, and pairs.
    fn new(counted: &[(Vec<u32>, Vec<Vec<Pair>>)], devices: Range<usize>) -> Self {
        let index = |pair: &Pair| {
            let index = (pair.device as usize).checked_sub(devices.start)?;
            (index < devices.len()).then_some(index)
        };
        let mut ends = vec![0; devices.len()];
        for index in counted.iter().flat_map(|(_, chunks)| chunks.iter().flatten()).filter_map(index) {
            ends[index] += 1;
        }
        // Where they begin, until they are all there.
        let mut num_cells = 0;
        for end in &mut ends {
            num_cells += std::mem::replace(end, num_cells);
        }
        let mut cells = vec![0; num_cells];
        for (number_of, chunks) in counted {
            for pair in chunks.iter().flatten() {
                if let Some(index) = index(pair) {
                    cells[ends[index]] = number_of[pair.cell as usize];
                    ends[index] += 1;
                }
            }
        }
        Self { cells, ends }
    }

    /// Adds the devices of each cell of a roll-up; `rolled` has its number by that of the cell of all dimensions.
    fn count(&self, rolled: &[u32], devices: &mut [u32]) {
        // The device that was counted last.
        let mut last_device = vec![usize::MAX; devices.len()];
        let mut start = 0;
        for (device, end) in self.ends.iter().enumerate() {
            for cell in &self.cells[start..*end] {
                let number = rolled[*cell as usize] as usize;
                if std::mem::replace(&mut last_device[number], device) != device {
                    devices[number] += 1;
                }
            }
            start = *end;
        }
    }
}

impl RollUp {
    fn number(&mut self, key: &CellKey, dimensions: &[usize]) -> u32 {
        let mut rolled = [0; MAX_ROLLED];
        for (value, dimension) in rolled.iter_mut().zip(dimensions) {
            *value = key[*dimension];
        }
        let next = u32::try_from(self.counts.len()).expect("fewer cells than fit into memory");
        let number = *self.numbers.entry(rolled).or_insert(next);
        if number == next {
            self.counts.push(CellCounts::default());
        }
        number
    }
}
