//! The door of decoding: takes a part's bytes, gives record batches by partition, rejects, and counts.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chrono::DateTime;
//! use codec::batch_layout::{BatchLayout, BatchOptions};
//! use codec::part_reader::PartReader;
//!
//! let layout = BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, BatchOptions::default());
//! let part = br#"{"DeviceId":"d1","OSPlatform":"Linux"} {"DeviceId":1} {"OSPlatform":"macOS"}"#;
//! let mut reader = PartReader::try_new(&part[..], Arc::new(layout))?;
//!
//! let mut rejects = Vec::new();
//! let mut num_rows = 0;
//! for batch in reader.batches(|reject| rejects.push(reject.reason)) {
//!     let (partition, batch) = batch?;
//!     assert!([None, Some("Linux")].contains(&partition.value()));
//!     num_rows += batch.num_rows();
//! }
//! assert_eq!((num_rows, rejects), (2, vec!["no DeviceId".to_owned()]));
//! assert_eq!(reader.counts().records, 3);
//! # Ok::<(), codec::decode::DecodeError>(())
//! ```
//!
//! One thread reads a part as above. Several threads that read the parts of one export gather their rows in
//! the same [`RowGroups`]: see [`PartReader::with_row_groups`].

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::batch_layout::BatchLayout;
use crate::decode::column::Columns;
use crate::decode::reject::Reject;
use crate::decode::{DecodeCounts, DecodeError, PartDecoder, ReadingWork, RowSink};
use crate::memory_pool::MemoryPool;
use crate::partition::PartitionKey;
use crate::row_group::{Batcher, DueRowGroup, LastRowGroup, RowGroupLimits, RowGroups};
use crate::rows::Rows;
use crate::spill::{NoSpill, SpillFile};

/// Bytes that the open batches of one part may hold together.
const MAX_OPEN_BYTES: usize = 96 << 20;

/// Reads one part, plain or gzip.
#[derive(Debug)]
pub struct PartReader<R, F: SpillFile = NoSpill> {
    decoder: PartDecoder<R>,
    batcher: Batcher<F>,
    row_groups: Arc<RowGroups<F>>,
    is_untouched: bool,
}

impl<R: Read> PartReader<R> {
    /// Reads the first bytes of a part whose batches are laid out by `layout`. A batch has
    /// [`MAX_ROWS`](crate::decode::column::MAX_ROWS) at most.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Empty`] and [`DecodeError::Open`].
    pub fn try_new(reader: R, layout: Arc<BatchLayout>) -> Result<Self, DecodeError> {
        let limits = RowGroupLimits { max_open_bytes: MAX_OPEN_BYTES, ..RowGroupLimits::none() };
        Self::with_row_groups(reader, Arc::new(RowGroups::new(layout, limits)))
    }

    /// Returns the batches of the part, each of one partition, and gives rejects to `on_reject` as they come.
    /// After an error it ends, and the batches before it must not be used.
    pub fn batches<J: FnMut(Reject)>(&mut self, on_reject: J) -> Batches<'_, R, J> {
        Batches { part: self, on_reject, at: At::Decoding(true) }
    }
}

impl<R: Read, F: SpillFile> PartReader<R, F> {
    /// Reads the first bytes of a part whose rows go to the row groups of several threads: those that are due
    /// come from [`Self::next_due`], the others from [`RowGroups::finish`] once all parts are read.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Empty`] and [`DecodeError::Open`].
    pub fn with_row_groups(reader: R, row_groups: Arc<RowGroups<F>>) -> Result<Self, DecodeError> {
        let field_map = Arc::clone(row_groups.layout().field_map());
        Ok(Self {
            decoder: PartDecoder::try_new(reader, field_map)?,
            batcher: row_groups.batcher(),
            row_groups,
            is_untouched: true,
        })
    }

    /// Takes turns with the readers that share `turns` in reading records that need a large buffer. A turn lasts
    /// until the next call of [`Self::decode_some`].
    #[must_use]
    pub fn with_turns(mut self, turns: MemoryPool) -> Self {
        self.decoder = self.decoder.with_turns(turns);
        self
    }

    /// Reads with a text buffer of the given size. The result does not depend on it.
    #[must_use]
    pub fn with_buffer_bytes(mut self, buffer_bytes: usize) -> Self {
        self.decoder = self.decoder.with_buffer_bytes(buffer_bytes);
        self
    }

    /// Has the rest of the part read and inflated by another thread, a megabyte ahead at most: `start` is given what that
    /// thread is to do.
    #[must_use]
    pub fn with_read_ahead(mut self, start: impl FnOnce(ReadingWork)) -> Self
    where
        R: Send + 'static,
    {
        self.decoder = self.decoder.with_read_ahead(start);
        self
    }

    /// Decodes about a megabyte of text; returns false at the end of the part. Take what is due before the next
    /// call: see [`Self::next_due`].
    ///
    /// # Errors
    ///
    /// The part is damaged; the rows that came of it must not be used.
    pub fn decode_some(&mut self, on_reject: impl FnMut(Reject)) -> Result<bool, DecodeError> {
        let Self { decoder, batcher, is_untouched, .. } = self;
        decoder.decode_some(&mut PartSink { batcher, is_untouched, on_reject })
    }

    /// Takes a row group that is due: one that is full, or the largest if all together hold more than they may.
    /// Call it until there is none, and write each before the next is asked for.
    ///
    /// # Errors
    ///
    /// Rows cannot be spilled.
    pub fn next_due(&mut self) -> Result<Option<DueRowGroup>, F::Error> {
        self.batcher.next_due()
    }

    /// Whether no row and no reject came of the part.
    pub fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// Returns the counts so far; complete at the end of the part.
    pub fn counts(&self) -> DecodeCounts {
        self.decoder.counts()
    }

    /// Undocumented names so far, with the number of rows that had each.
    pub fn undocumented(&self) -> impl Iterator<Item = (&str, u64)> {
        self.decoder.undocumented()
    }

    /// Columns that are null in every row so far because the records' values for them were rejected.
    pub fn lost_columns(&self) -> impl Iterator<Item = &'static str> {
        self.decoder.lost_columns()
    }
}

/// Sends rows to their partition's columns.
struct PartSink<'r, F: SpillFile, J> {
    batcher: &'r mut Batcher<F>,
    is_untouched: &'r mut bool,
    on_reject: J,
}

impl<F: SpillFile, J: FnMut(Reject)> RowSink for PartSink<'_, F, J> {
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        *self.is_untouched = false;
        self.batcher.columns(partition)
    }

    fn reject(&mut self, reject: Reject) {
        *self.is_untouched = false;
        (self.on_reject)(reject);
    }
}

/// The batches of one part: see [`PartReader::batches`].
#[derive(Debug)]
pub struct Batches<'r, R, J> {
    part: &'r mut PartReader<R>,
    on_reject: J,
    at: At,
}

/// How far the batches of a part have come.
#[derive(Debug)]
enum At {
    /// Whether there is more to decode.
    Decoding(bool),
    /// The part has ended: the batches that were not due.
    Rest(Vec<LastRowGroup>),
}

impl<R: Read, J: FnMut(Reject)> Iterator for Batches<'_, R, J> {
    type Item = Result<(PartitionKey, RecordBatch), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let more = match &mut self.at {
                At::Decoding(more) => more,
                At::Rest(rest) => {
                    let mut batch = None;
                    let take = |key, rows: Rows| {
                        batch = Some((key, rows.into_batch()));
                        Ok::<_, Infallible>(())
                    };
                    let Ok(()) = rest.pop()?.write(take, |_| Ok(()));
                    return batch.map(Ok);
                }
            };
            let Ok(due) = self.part.next_due();
            if let Some(due) = due {
                return Some(Ok(due.write(|key, rows| (key, rows.into_batch()))));
            }
            if *more {
                match self.part.decode_some(&mut self.on_reject) {
                    Ok(is_more) => *more = is_more,
                    Err(error) => {
                        self.at = At::Rest(Vec::new());
                        return Some(Err(error));
                    }
                }
            } else {
                self.at = At::Rest(self.part.row_groups.finish());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Date32Type, UInt32Type};
    use arrow_array::{Array, ArrayRef};
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::batch_layout::{BatchOptions, RowOrder, TextType};

    const PART: &str = concat!(
        r#"{"DeviceId":"d1","OSPlatform":"Linux","SoftwareName":"zsh","DiskPaths":["/a","\u002fb",null]}"#,
        "\n",
        r#"{"DeviceId":"d2","OSPlatform":"macOS","SoftwareName":"zsh","DiskPaths":[],"x":1}"#,
        "\n",
        r#"{"DeviceId":"d3","SoftwareName":"bash","NumberOfWeaknesses":"many"}"#,
        "\n",
        r#"{"DeviceId":"d1","OSPlatform":"Linux","SoftwareName":"bash"}"#,
        "\n[1]\n",
    );

    #[test]
    fn rows_of_a_device_are_gathered() {
        let rows = ["d1", "d2", "d1", "d3", "d2", "d1"];
        let records: Vec<String> = rows.iter().map(|id| format!(r#"{{"DeviceId":"{id}"}}"#)).collect();
        let part = records.join("\n");
        let devices = |order| {
            let options = BatchOptions { order, ..BatchOptions::default() };
            let layout = Arc::new(BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, options));
            let mut reader = PartReader::try_new(part.as_bytes(), layout).unwrap();
            let (_, batch) = reader.batches(|reject| panic!("{reject:?}")).next().unwrap().unwrap();
            texts(batch.column_by_name("DeviceId").unwrap()).into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(devices(RowOrder::Clustered), ["d1", "d1", "d1", "d2", "d2", "d3"]);
        assert_eq!(devices(RowOrder::AsRead), rows);
    }

    fn read(options: BatchOptions) -> Vec<(PartitionKey, RecordBatch)> {
        let generated_time: DateTime<Utc> = "2021-01-11T23:01:00Z".parse().unwrap();
        let layout = Arc::new(BatchLayout::new(schema::DATASETS[0], generated_time, options));
        let mut reader = PartReader::try_new(PART.as_bytes(), Arc::clone(&layout)).unwrap();
        let mut rejects = Vec::new();
        let batches = reader.batches(|reject| rejects.push((reject.line, reject.field)));
        let mut batches: Vec<_> = batches.map(|batch| batch.unwrap()).collect();
        assert_eq!(rejects, [(3, Some("NumberOfWeaknesses")), (5, None)]);
        assert_eq!((reader.counts().records, reader.counts().rejected_records), (5, 1));
        assert_eq!(reader.undocumented().collect::<Vec<_>>(), [("x", 1)]);
        assert_eq!(reader.lost_columns().collect::<Vec<_>>(), ["NumberOfWeaknesses"]);
        assert!(!reader.is_untouched());
        assert!(batches.iter().all(|(_, batch)| batch.schema() == *layout.schema()));
        batches.sort_by(|(one, _), (other, _)| one.cmp(other));
        batches
    }

    /// The texts of a column, of either type.
    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        let values = array.as_dictionary_opt::<UInt32Type>().map_or(array, |texts| texts.values());
        let values = values.as_string::<i32>();
        let key = |row| {
            array.as_dictionary_opt::<UInt32Type>().map_or(row, |texts| texts.keys().value(row) as usize)
        };
        let text = |row| array.is_valid(row).then(|| values.value(key(row)).to_owned());
        (0..array.len()).map(text).collect()
    }

    #[test]
    fn plain_text_is_that_of_dictionaries() {
        let options = |text| BatchOptions { text, extra_fields: true, ..BatchOptions::default() };
        let (plain, dictionaries) = (read(options(TextType::Plain)), read(options(TextType::Dictionary)));
        for ((key, plain), (other_key, dictionaries)) in plain.iter().zip(&dictionaries) {
            assert_eq!(key, other_key);
            for name in ["DeviceId", "SoftwareName", "DeviceName", "ExtraFields"] {
                let columns = [plain, dictionaries].map(|batch| batch.column_by_name(name).unwrap());
                assert_eq!(texts(columns[0]), texts(columns[1]), "{name}");
            }
            let [lists, other] = [plain, dictionaries]
                .map(|batch| batch.column_by_name("DiskPaths").unwrap().as_list::<i32>());
            assert_eq!(lists.offsets(), other.offsets());
            assert_eq!(lists.nulls(), other.nulls());
            assert_eq!(texts(lists.values()), texts(other.values()));
        }
        assert_eq!(plain.len(), 3);
        let paths = plain[1].1.column_by_name("DiskPaths").unwrap().as_list::<i32>();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(texts(paths.values()), [text("/a"), text("/b"), None]);
    }

    #[test]
    fn partition_columns_have_the_value_of_the_key() {
        for text in [TextType::Plain, TextType::Dictionary] {
            let batches = read(BatchOptions { text, partition_columns: true, ..BatchOptions::default() });
            let keys: Vec<_> = batches.iter().map(|(key, _)| key.value()).collect();
            assert_eq!(keys, [None, Some("Linux"), Some("macOS")]);
            for (key, batch) in &batches {
                let platforms = texts(batch.column_by_name("OSPlatform").unwrap());
                assert_eq!(platforms, vec![key.value().map(str::to_owned); batch.num_rows()]);
                let dates = batch.column_by_name("snapshot_date").unwrap().as_primitive::<Date32Type>();
                assert!(dates.iter().all(|date| date == Some(18638)), "2021-01-11");
            }
        }
    }

    #[test]
    fn rows_are_clustered_or_as_read() {
        let names = |order| {
            let batches = read(BatchOptions { order, ..BatchOptions::default() });
            texts(batches[1].1.column_by_name("SoftwareName").unwrap())
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(RowOrder::Clustered), ["bash", "zsh"]);
        assert_eq!(names(RowOrder::AsRead), ["zsh", "bash"]);
    }

    #[test]
    fn rest_of_a_part_is_read_ahead() {
        const NUM_RECORDS: usize = 80_000;
        let part = (0..NUM_RECORDS)
            .map(|row| format!("{{\"DeviceId\":\"{row:06}\"}}"))
            .collect::<Vec<_>>()
            .join("\n");
        let num_bytes = part.len() as u64;
        let layout = BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, BatchOptions::default());
        let mut reader = PartReader::try_new(std::io::Cursor::new(part), Arc::new(layout)).unwrap();
        let on_reject = |reject| panic!("{reject:?}");
        assert!(reader.decode_some(on_reject).unwrap());
        assert!(reader.counts().json_bytes < num_bytes);
        let mut thread = None;
        reader = reader.with_read_ahead(|work| thread = Some(std::thread::spawn(work)));
        while reader.decode_some(on_reject).unwrap() {}
        thread.unwrap().join().unwrap();
        assert_eq!(reader.counts().records, NUM_RECORDS as u64);
        let batches = reader.batches(on_reject).map(|batch| batch.unwrap().1.num_rows());
        assert_eq!(batches.sum::<usize>(), NUM_RECORDS);
    }

    #[test]
    fn damaged_part_ends_with_its_error() {
        let layout = BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, BatchOptions::default());
        let mut reader = PartReader::try_new(&b"[{\"DeviceId\":\"d\"}"[..], Arc::new(layout)).unwrap();
        let mut batches = reader.batches(|reject| panic!("{reject:?}"));
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }
}
