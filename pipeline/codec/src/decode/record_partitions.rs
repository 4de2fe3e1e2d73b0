//! Takes the partition values of records as they lie in the text; gives the records of each partition together, in
//! their order.

use super::column::dictionary::Dictionary;
use super::field_map::FieldMap;
use super::spans::Span;
use crate::partition::fits_directory;

/// Most values that are remembered from block to block; a tenant has a handful of platforms.
const MAX_REMEMBERED: usize = 1024;

/// As many records on average as are worth a group of their own: fewer are put in order first, which copies
/// all spans.
const LEAST_TOGETHER: usize = 32;

/// The null partition.
const NULL_PARTITION: u32 = 0;

/// The partitions of records that follow each other in a text.
#[derive(Debug)]
pub struct RecordPartitions {
    contents: Dictionary,
    /// By key of the content, the value if it can name a directory.
    values: Vec<Option<Box<str>>>,
    /// Of each record, [`NULL_PARTITION`] or one more than the key of its value.
    partitions: Vec<u32>,
    groups: Vec<RecordGroup>,
    /// The records, those of one group behind each other; empty if they stay as they are.
    order: Vec<u32>,
    /// By partition, where its next record goes.
    places: Vec<u32>,
}

/// Records of one partition.
#[derive(Debug)]
pub struct RecordGroup {
    /// See [`RecordPartitions::value`].
    pub partition: u32,
    /// Where they begin among all records, in the order of [`RecordPartitions::gather`].
    pub start: usize,
    end: usize,
    /// How many of them have become rows.
    pub num_rows: usize,
}

impl Default for RecordPartitions {
    fn default() -> Self {
        Self {
            contents: Dictionary::new(),
            values: Vec::new(),
            partitions: Vec::new(),
            groups: Vec::new(),
            order: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl RecordPartitions {
    /// Begins without records.
    pub fn begin(&mut self) {
        self.partitions.clear();
        if self.values.len() > MAX_REMEMBERED {
            *self = Self::default();
        }
    }

    /// Counts the records.
    pub fn num_records(&self) -> usize {
        self.partitions.len()
    }

    /// Adds a record of the same partition as the one before, which there is.
    #[inline]
    pub fn push_same(&mut self) {
        self.partitions.push(self.partitions[self.partitions.len() - 1]);
    }

    /// Adds a record, given its value; `None` if no directory can be named after it as it stands there: what has
    /// escapes, or what must be escaped, is left to the parser.
    pub fn push(&mut self, value: Span, text: &[u8], field_map: &FieldMap) -> Option<()> {
        let content = value.of(text);
        let partition = if content.is_empty() {
            NULL_PARTITION
        } else {
            let key = self.contents.intern(content).ok()?;
            if key as usize == self.values.len() {
                self.values.push(usable(content, field_map));
            }
            self.values[key as usize].as_ref()?;
            key + 1
        };
        self.partitions.push(partition);
        Some(())
    }

    /// The value of a partition.
    pub fn value(&self, partition: u32) -> Option<&str> {
        match partition {
            NULL_PARTITION => None,
            partition => self.values[partition as usize - 1].as_deref(),
        }
    }

    /// Puts records of one partition together, all of them or those that stand together; returns their order,
    /// `None` if they stay as they are.
    pub fn gather(&mut self) -> Option<&[u32]> {
        self.groups.clear();
        self.order.clear();
        let mut start = 0;
        for same in self.partitions.chunk_by(|one, other| one == other) {
            let end = start + same.len();
            self.groups.push(RecordGroup { partition: same[0], start, end, num_rows: 0 });
            start = end;
        }
        if self.groups.len() * LEAST_TOGETHER <= self.partitions.len() {
            return None;
        }
        self.groups.clear();
        self.places.clear();
        self.places.resize(self.values.len() + 1, 0);
        self.partitions.iter().for_each(|partition| self.places[*partition as usize] += 1);
        let mut end = 0;
        for (partition, place) in (0..).zip(&mut self.places) {
            let (start, num_records) = (end, *place);
            if num_records > 0 {
                end += num_records;
                let [start, end] = [start, end].map(|place| place as usize);
                self.groups.push(RecordGroup { partition, start, end, num_rows: 0 });
            }
            *place = start;
        }
        self.order.resize(self.partitions.len(), 0);
        for (record, partition) in (0..).zip(&self.partitions) {
            let place = &mut self.places[*partition as usize];
            self.order[*place as usize] = record;
            *place += 1;
        }
        Some(&self.order)
    }

    /// The groups, once records are gathered.
    pub fn groups(&self) -> &[RecordGroup] {
        &self.groups
    }

    /// The same, to note how many records have become rows.
    pub fn groups_mut(&mut self) -> &mut [RecordGroup] {
        &mut self.groups
    }

    /// Which record is at a place of the order.
    pub fn record(&self, place: usize) -> usize {
        self.order.get(place).map_or(place, |record| *record as usize)
    }

    /// Counts the records of a group that come before `record`.
    pub fn num_before(&self, group: &RecordGroup, record: usize) -> usize {
        match self.order.get(group.start..group.end) {
            Some(records) => records.partition_point(|other| (*other as usize) < record),
            None => record.clamp(group.start, group.end) - group.start,
        }
    }
}

/// The value of a content that has no escapes and can name a directory.
fn usable(content: &[u8], field_map: &FieldMap) -> Option<Box<str>> {
    let column = field_map.properties()[field_map.partition()?];
    let value = std::str::from_utf8(content).ok().filter(|_| !content.contains(&b'\\'))?;
    fits_directory(column.name, value).then(|| value.into())
}
