//! Row groups as readers find them, compared with those that the library writes.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "any number is random enough"
)]

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter, RowSelection,
    RowSelector,
};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, ProjectionMask};
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use schema::ColumnType;

use super::properties::{MAX_LIST_PAGE_ROWS, MAX_PAGE_BYTES, MAX_PAGE_ROWS};
use super::{RowGroupEncoder, rle};
use crate::tests::EVERY_TYPE;

/// A generator that gives the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }

    fn percent(&mut self, share: u32) -> bool {
        self.below(100) < share as usize
    }
}

/// Shape of a random batch.
#[derive(Debug, Clone)]
struct Shape {
    seed: u64,
    num_rows: usize,
    null_percent: u32,
    /// Entries of each dictionary.
    num_texts: usize,
    /// Those from here on are not used.
    num_used: usize,
    text: Text,
    max_list_len: usize,
    max_run_len: usize,
    order: Order,
}

#[derive(Debug, Clone, Copy)]
enum Text {
    /// Two letters, so that entries repeat.
    Short,
    /// Characters of all lengths, around the length at which bounds are cut.
    NonAscii,
    /// Characters that nothing follows.
    Last,
    Long,
    /// Like paths: different behind what they share.
    Path,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Random,
    Ascending,
    Descending,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let num_rows = prop_oneof![
        1 => Just(0_usize),
        1 => Just(1),
        6 => 2..200_usize,
        1 => Just(MAX_PAGE_ROWS),
        2 => MAX_PAGE_ROWS + 1..3 * MAX_PAGE_ROWS,
        1 => MAX_LIST_PAGE_ROWS..2 * MAX_LIST_PAGE_ROWS,
    ];
    let null_percent = prop_oneof![Just(0), Just(0), Just(3), Just(50), Just(97), Just(100)];
    let num_texts = prop_oneof![1..5_usize, 1..300_usize, 1..70_000_usize];
    let text = prop_oneof![
        Just(Text::Short),
        Just(Text::NonAscii),
        Just(Text::Last),
        Just(Text::Long),
        Just(Text::Path)
    ];
    let order = prop_oneof![Just(Order::Random), Just(Order::Ascending), Just(Order::Descending)];
    (any::<u64>(), num_rows, null_percent, num_texts, 1..=100_usize, text, 0..6_usize, 1..60_usize, order)
        .prop_map(
            |(seed, num_rows, null_percent, num_texts, used, text, max_list_len, max_run_len, order)| Shape {
                seed,
                num_rows,
                null_percent,
                num_texts,
                num_used: (num_texts * used).div_ceil(100),
                text,
                max_list_len,
                max_run_len,
                order,
            },
        )
}

impl Shape {
    fn text(&self, random: &mut Random) -> String {
        let characters = |random: &mut Random, from: &[char], len: usize| -> String {
            (0..len).map(|_| from[random.below(from.len())]).collect()
        };
        match self.text {
            Text::Short => characters(random, &['a', 'b', 'c', 'd'], 2),
            Text::NonAscii => {
                let len = 12 + random.below(60);
                characters(random, &['a', 'ß', '語', '𝄞', '\u{7f}', '\u{7ff}', '\u{d7ff}'], len)
            }
            Text::Last => {
                let len = 1 + random.below(70);
                characters(random, &['\u{10ffff}', '\u{10ffff}', '\u{ffff}'], len)
            }
            Text::Long => {
                let len = random.below(400) * if self.num_rows <= 200 && random.percent(5) { 100 } else { 1 };
                characters(random, &['x', 'y', 'é'], len)
            }
            Text::Path => format!("C:\\Program Files\\{}\\{}.exe", random.below(40), random.below(100_000)),
        }
    }

    fn dictionary(&self, random: &mut Random) -> StringArray {
        // Long texts are few: what is tested does not need them to be many.
        let num_texts =
            if matches!(self.text, Text::Long) { self.num_texts.min(500) } else { self.num_texts };
        let mut texts: Vec<String> = (0..num_texts).map(|_| self.text(random)).collect();
        match self.order {
            Order::Random => {}
            Order::Ascending => texts.sort(),
            Order::Descending => texts.sort_by(|a, b| b.cmp(a)),
        }
        StringArray::from_iter_values(texts)
    }

    /// Numbers below `bound` in runs, in the wanted order.
    fn positions(&self, random: &mut Random, len: usize, bound: usize) -> Vec<usize> {
        let mut positions = Vec::with_capacity(len);
        while positions.len() < len {
            let run = (1 + random.below(self.max_run_len)).min(len - positions.len());
            let position = random.below(bound);
            positions.extend(std::iter::repeat_n(position, run));
        }
        if !matches!(self.order, Order::Random) {
            positions.sort_unstable();
        }
        positions
    }

    fn nulls(&self, random: &mut Random, len: usize) -> Option<NullBuffer> {
        (self.null_percent > 0).then(|| (0..len).map(|_| !random.percent(self.null_percent)).collect())
    }

    fn texts(
        &self,
        random: &mut Random,
        len: usize,
        nulls: Option<NullBuffer>,
    ) -> DictionaryArray<UInt32Type> {
        let texts = self.dictionary(random);
        let bound = self.num_used.min(texts.len());
        let keys = self.positions(random, len, bound).into_iter().map(|key| key as u32).collect();
        DictionaryArray::new(UInt32Array::new(keys, nulls), Arc::new(texts))
    }

    fn lists(&self, random: &mut Random) -> ListArray {
        let lens: Vec<usize> = (0..self.num_rows).map(|_| random.below(self.max_list_len + 1)).collect();
        let num_elements = lens.iter().sum();
        let nulls = self.nulls(random, num_elements);
        let elements = self.texts(random, num_elements, nulls);
        // A null list may have elements: they do not count.
        let nulls = self.nulls(random, self.num_rows);
        ListArray::new(
            schema::arrow::batch_list_element(),
            OffsetBuffer::from_lengths(lens),
            Arc::new(elements),
            nulls,
        )
    }

    fn batch(&self) -> RecordBatch {
        let random = &mut Random(self.seed);
        let len = self.num_rows;
        let span = [1, 2, 300, 65_537, 65_538, 1 << 31][random.below(6)];
        let ints = self.positions(random, len, span).into_iter().map(|value| (value as i32).wrapping_mul(-1));
        let ints = ints.collect::<ScalarBuffer<i32>>();
        let least = [0, i64::MIN, i64::MAX - 65_536, -65_535][random.below(4)];
        let longs = self.positions(random, len, span.min(65_537)).into_iter();
        let longs = longs.map(|value| least + value as i64).collect::<ScalarBuffer<i64>>();
        let days = self.positions(random, len, 4000).into_iter().map(|value| value as i32 + 15_000).collect();
        let (span, unit) =
            [(1 << 40, 1), (3, 1_000_000), (300, 1_000_000), (65_537, 1_000_000), (65_538, 1_000_000)]
                [random.below(5)];
        let least = [-7, i64::MIN, i64::MAX - (1 << 40)][random.below(3)];
        let micros = self.positions(random, len, span).into_iter();
        let micros = micros.map(|value| least + value as i64 * unit).collect();
        // With both zeros.
        let (span, unit) = [(1, 0.0), (3, 0.0), (100, 0.1), (5000, -0.5), (1 << 30, 1e-300)][random.below(5)];
        let floats =
            self.positions(random, len, span).into_iter().map(|value| (value as f64 - 1.0) * unit).collect();
        let booleans = self.positions(random, len, 2).into_iter().map(|value| value == 1).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.texts(random, len, None)),
            {
                let nulls = self.nulls(random, len);
                Arc::new(self.texts(random, len, nulls))
            },
            Arc::new(self.lists(random)),
            Arc::new(Int32Array::new(ints, self.nulls(random, len))),
            Arc::new(Int64Array::new(longs, self.nulls(random, len))),
            Arc::new(Date32Array::new(days, self.nulls(random, len))),
            Arc::new(TimestampMicrosecondArray::new(micros, self.nulls(random, len)).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from_value(1_610_362_860_000_000, len).with_timezone("UTC")),
            Arc::new(Float64Array::new(floats, self.nulls(random, len))),
            Arc::new(BooleanArray::new(booleans, self.nulls(random, len))),
        ];
        let fields = file_schema();
        let fields: Vec<Field> = fields
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }
}

/// A file with a column of each kind.
fn file_schema() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("list", DataType::List(schema::arrow::list_element()), true),
        Field::new("int", DataType::Int32, true),
        Field::new("long", DataType::Int64, true),
        Field::new("date", DataType::Date32, true),
        Field::new("seen_at", instant.clone(), true),
        Field::new("generated_at", instant, false),
        Field::new("float", DataType::Float64, true),
        Field::new("boolean", DataType::Boolean, true),
    ]))
}

/// The same rows without dictionaries.
fn plain(batch: &RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Dictionary(_, _) => {
            let texts = column.as_dictionary::<UInt32Type>();
            let texts = texts.downcast_dict::<StringArray>().unwrap();
            Arc::new(texts.into_iter().collect::<StringArray>()) as ArrayRef
        }
        DataType::List(_) => {
            let mut builder =
                ListBuilder::new(StringBuilder::new()).with_field(schema::arrow::list_element());
            for list in column.as_list::<i32>() {
                if let Some(list) = &list {
                    let texts = list.as_dictionary::<UInt32Type>().downcast_dict::<StringArray>().unwrap();
                    texts.into_iter().for_each(|text| builder.values().append_option(text));
                }
                builder.append(list.is_some());
            }
            Arc::new(builder.finish())
        }
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(file_schema(), columns.collect()).unwrap()
}

/// Writes each batch as a row group.
fn encoded(batches: &[RecordBatch]) -> Bytes {
    let schema = Arc::new(ArrowSchemaConverter::new().convert(&file_schema()).unwrap());
    let mut properties = WriterProperties::builder().build();
    parquet::arrow::add_encoded_arrow_schema_to_metadata(&file_schema(), &mut properties);
    let mut file =
        SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), Arc::new(properties)).unwrap();
    let mut encoder = RowGroupEncoder::new(schema, &EVERY_TYPE);
    for batch in batches {
        let mut row_group = encoder.encode(batch.clone().into()).unwrap();
        row_group.append_to(&mut file).unwrap();
        encoder.reuse(row_group);
    }
    file.into_inner().unwrap().into()
}

/// Writes rows as the library does, with pages of as many rows.
fn written_by_library(batch: &RecordBatch) -> Bytes {
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(MAX_PAGE_ROWS)
        .set_column_data_page_row_count_limit(
            ColumnPath::from(vec!["list".to_owned(), "list".to_owned(), "element".to_owned()]),
            MAX_LIST_PAGE_ROWS,
        )
        .set_write_batch_size(MAX_PAGE_ROWS)
        .set_data_page_size_limit(usize::MAX)
        .set_dictionary_page_size_limit(usize::MAX)
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    file.into()
}

fn footer(file: &Bytes) -> ParquetMetaData {
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(file)
        .unwrap()
}

fn reader(file: &Bytes) -> ParquetRecordBatchReaderBuilder<Bytes> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options)
        .unwrap()
        .with_batch_size(1 << 20)
}

/// Reads everything that a reader gives as one batch, or none.
fn read(reader: ParquetRecordBatchReaderBuilder<Bytes>) -> Option<RecordBatch> {
    let mut batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert!(batches.len() <= 1, "a reader gives as many rows as are asked for");
    batches.pop()
}

fn check_round_trip(batch: &RecordBatch) -> Bytes {
    let file = encoded(std::slice::from_ref(batch));
    let expected = plain(batch);
    let found = read(reader(&file));
    match found {
        None => assert_eq!(expected.num_rows(), 0),
        Some(found) => {
            assert_eq!(found.schema().fields(), file_schema().fields());
            assert_eq!(found, expected);
        }
    }
    file
}

/// Compares what the footers say, the library's being of the same rows.
fn check_described_alike(ours: &Bytes, library: &Bytes) {
    let (ours, library) = (footer(ours), footer(library));
    let (ours_group, library_group) = (ours.row_group(0), library.row_group(0));
    assert_eq!(ours_group.num_rows(), library_group.num_rows());
    for index in 0..ours_group.num_columns() {
        let (column, expected) = (ours_group.column(index), library_group.column(index));
        let name = column.column_path().string();
        assert_eq!(column.statistics(), expected.statistics(), "{name}");
        assert_eq!(column.num_values(), expected.num_values(), "{name}");
        assert_eq!(column.definition_level_histogram(), expected.definition_level_histogram(), "{name}");
        assert_eq!(column.repetition_level_histogram(), expected.repetition_level_histogram(), "{name}");
        assert_eq!(
            column.unencoded_byte_array_data_bytes(),
            expected.unencoded_byte_array_data_bytes(),
            "{name}"
        );
        let pages = page_rows(&ours, index);
        if column.column_descr().max_rep_level() == 0 && column.dictionary_page_offset().is_some() {
            assert_eq!(pages, page_rows(&library, index), "{name}");
        }
        if pages == page_rows(&library, index) && !is_misjudged_by_library(column_index(&ours, index), &pages)
        {
            assert_eq!(column_index(&ours, index), column_index(&library, index), "{name}");
        }
    }
}

fn column_index(footer: &ParquetMetaData, column: usize) -> &ColumnIndexMetaData {
    footer.page_index().expect("an index").column_index(0, column).expect("a column index")
}

/// Rows of each page.
fn page_rows(footer: &ParquetMetaData, column: usize) -> Vec<i64> {
    let offset_index =
        footer.page_index().expect("an index").offset_index(0, column).expect("an offset index");
    let first_rows = offset_index.page_locations().iter().map(|page| page.first_row_index);
    let ends = first_rows.clone().skip(1).chain([footer.row_group(0).num_rows()]);
    first_rows.zip(ends).map(|(first, end)| end - first).collect()
}

/// The library takes a page for null if it has as many nulls as rows, which for lists is
/// another thing.
fn is_misjudged_by_library(index: &ColumnIndexMetaData, page_rows: &[i64]) -> bool {
    (0..page_rows.len())
        .any(|page| index.is_null_page(page) != (index.null_count(page) == Some(page_rows[page])))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn readers_and_the_library_find_the_same_rows(shape in shapes()) {
        let batch = shape.batch();
        let file = check_round_trip(&batch);
        if batch.num_rows() > 0 {
            check_described_alike(&file, &written_by_library(&plain(&batch)));
        }
    }

    #[test]
    fn slices_of_a_batch_are_row_groups_of_their_own(shape in shapes(), at in 0..=100_usize) {
        let batch = shape.batch();
        let at = batch.num_rows() * at / 100;
        let slices = [batch.slice(at, batch.num_rows() - at), batch.slice(0, at)];
        let file = encoded(&slices);
        for (row_group, slice) in slices.iter().enumerate() {
            match read(reader(&file).with_row_groups(vec![row_group])) {
                None => prop_assert_eq!(slice.num_rows(), 0),
                Some(found) => prop_assert_eq!(found, plain(slice)),
            }
        }
    }

    #[test]
    fn selected_rows_are_found_by_the_page_index(shape in shapes(), from in 0..100_usize, to in 0..=100_usize) {
        let batch = shape.batch();
        let [from, to] = [from.min(to), to].map(|share| batch.num_rows() * share / 100);
        let file = encoded(std::slice::from_ref(&batch));
        let selection = RowSelection::from(vec![RowSelector::skip(from), RowSelector::select(to - from)]);
        match read(reader(&file).with_row_selection(selection)) {
            None => prop_assert_eq!(from, to),
            Some(found) => prop_assert_eq!(found, plain(&batch).slice(from, to - from)),
        }
    }

    #[test]
    fn rows_that_a_predicate_takes_are_found(shape in shapes(), divisor in 2..9_i32) {
        let expected = plain(&shape.batch());
        let file = encoded(&[shape.batch()]);
        let is_taken = move |value: Option<i32>| value.is_some_and(|value| value % divisor == 0);
        let mask = ProjectionMask::columns(reader(&file).parquet_schema(), ["int"]);
        let predicate = ArrowPredicateFn::new(mask, move |batch| {
            Ok(batch.column(0).as_primitive::<Int32Type>().iter().map(|value| Some(is_taken(value))).collect::<BooleanArray>())
        });
        let found = read(reader(&file).with_row_filter(RowFilter::new(vec![Box::new(predicate)])));
        let rows: Vec<usize> = (0..expected.num_rows())
            .filter(|row| {
                let ints = expected.column(3).as_primitive::<Int32Type>();
                is_taken(ints.is_valid(*row).then(|| ints.value(*row)))
            })
            .collect();
        prop_assert_eq!(found.as_ref().map_or(0, RecordBatch::num_rows), rows.len());
        for (position, row) in rows.iter().enumerate().step_by(rows.len() / 100 + 1) {
            prop_assert_eq!(found.as_ref().unwrap().slice(position, 1), expected.slice(*row, 1));
        }
    }

    #[test]
    fn values_of_any_width_come_back(width in 0..=32_u32, seed in any::<u64>(), len in 0..2000_usize, max_run in 1..80_usize) {
        let mut random = Random(seed);
        let mask = u32::MAX.checked_shr(32 - width).unwrap_or(0);
        let mut values = Vec::new();
        while values.len() < len {
            let run = 1 + random.below(max_run);
            values.extend(std::iter::repeat_n(random.next() as u32 & mask, run));
        }
        let mut encoded = Vec::new();
        rle::encode(&values, width, &mut encoded);
        prop_assert_eq!(hybrid_decoded(&encoded, width, values.len()), values);
    }

    #[test]
    fn bits_come_back(seed in any::<u64>(), len in 0..2000_usize, max_run in 1..400_usize) {
        let mut random = Random(seed);
        let mut values = Vec::new();
        while values.len() < len {
            let run = 1 + random.below(max_run);
            values.extend(std::iter::repeat_n(random.below(2) as u32, run));
        }
        let bits: Vec<u8> = values
            .chunks(8)
            .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8))
            .collect();
        let mut encoded = Vec::new();
        rle::encode_bits(&bits, values.len(), &mut encoded);
        prop_assert_eq!(hybrid_decoded(&encoded, 1, values.len()), values);
    }
}

/// Decodes by the letter of the format. Nothing is left over but what fills the last group.
fn hybrid_decoded(mut encoded: &[u8], width: u32, len: usize) -> Vec<u32> {
    let width = width as usize;
    let mut values = Vec::new();
    while !encoded.is_empty() {
        let end = encoded.iter().position(|byte| *byte < 0x80).unwrap();
        let header =
            encoded[..=end].iter().rev().fold(0, |header, byte| header << 7 | usize::from(byte & 0x7f));
        encoded = &encoded[end + 1..];
        let num_values = header >> 1;
        assert!(num_values > 0, "no run is empty");
        if header & 1 == 0 {
            let (value, rest) = encoded.split_at(width.div_ceil(8));
            let value = value.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            values.extend(std::iter::repeat_n(value, num_values));
            encoded = rest;
        } else {
            let (packed, rest) = encoded.split_at(num_values * width);
            let bit = |bit: usize| u32::from(packed[bit / 8] >> (bit % 8) & 1);
            values.extend(
                (0..num_values * 8)
                    .map(|value| (0..width).fold(0, |sum, place| sum | bit(value * width + place) << place)),
            );
            encoded = rest;
        }
    }
    assert!(values.len() >= len && values.len() < len + 8);
    assert!(values[len..].iter().all(|value| *value == 0));
    values.truncate(len);
    values
}

/// A batch whose text has the given keys and texts; the rest is as simple as can be.
fn batch_of(texts: Vec<String>, keys: Vec<Option<u32>>) -> RecordBatch {
    let len = keys.len();
    let shape = Shape {
        seed: 1,
        num_rows: len,
        null_percent: 0,
        num_texts: 1,
        num_used: 1,
        text: Text::Short,
        max_list_len: 0,
        max_run_len: 1,
        order: Order::Random,
    };
    let batch = shape.batch();
    let mut columns = batch.columns().to_vec();
    let texts = Arc::new(StringArray::from(texts));
    columns[1] = Arc::new(DictionaryArray::new(UInt32Array::from(keys), texts));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn check_encodings(batch: &RecordBatch, has_dictionary: bool, page_rows_expected: &[i64]) {
    let file = check_round_trip(batch);
    check_described_alike(&file, &written_by_library(&plain(batch)));
    let footer = footer(&file);
    let column = footer.row_group(0).column(1);
    assert_eq!(column.dictionary_page_offset().is_some(), has_dictionary);
    assert_eq!(column.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY), has_dictionary);
    assert_eq!(page_rows(&footer, 1), page_rows_expected);
}

#[test]
fn repeated_text_is_a_dictionary_of_used_texts() {
    let texts: Vec<String> = (0..1000).map(|text| format!("text {text} {}", "x".repeat(2000))).collect();
    let keys = (0..30_000).map(|row| Some(row / 7 % 10 * 3)).collect();
    let batch = batch_of(texts, keys);
    check_encodings(&batch, true, &[4096, 4096, 4096, 4096, 4096, 4096, 4096, 1328]);
    let file = encoded(&[batch]);
    assert!(footer(&file).row_group(0).column(1).uncompressed_size() < 40_000, "unused text is not stored");
}

#[test]
fn distinct_text_is_plain_in_pages_bounded_in_bytes() {
    let texts: Vec<String> = (0..3000).map(|text| format!("{text:0400}")).collect();
    let keys = (0..3000).map(Some).collect();
    let rows_per_page = (MAX_PAGE_BYTES / 404) as i64;
    check_encodings(&batch_of(texts, keys), false, &[rows_per_page, 3000 - rows_per_page]);
}

#[test]
fn a_row_larger_than_a_page_has_one_of_its_own() {
    let texts = vec!["a".to_owned(), "b".repeat(MAX_PAGE_BYTES * 2), "c".to_owned()];
    check_encodings(&batch_of(texts, vec![Some(0), Some(1), None, Some(2)]), false, &[1, 1, 2]);
}

#[test]
fn nulls_need_no_dictionary() {
    check_encodings(&batch_of(vec!["unused".to_owned()], vec![None; 4097]), false, &[4096, 1]);
}

#[test]
fn constant_column_takes_little_space() {
    let keys = vec![Some(0); 122_880];
    let batch = batch_of(vec!["constant".to_owned()], keys);
    let file = check_round_trip(&batch);
    let footer = footer(&file);
    for index in [1, 7] {
        let column = footer.row_group(0).column(index);
        assert!(column.dictionary_page_offset().is_some(), "{}", column.column_path());
        // 30 pages of little but their headers.
        assert!(column.compressed_size() < 1500, "{}: {}", column.column_path(), column.compressed_size());
    }
}

#[test]
fn repeated_numbers_are_a_dictionary() {
    let rows = 0..10_000_i64;
    let mut columns = batch_of(vec!["a".to_owned()], vec![Some(0); 10_000]).columns().to_vec();
    let schema = batch_of(vec!["a".to_owned()], vec![Some(0)]).schema();
    columns[4] = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row % 7)));
    columns[8] = Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| (row % 100) as f64 / 10.0)));
    let file = check_round_trip(&RecordBatch::try_new(schema, columns).unwrap());
    let footer = footer(&file);
    for (index, num_bits) in [(4, 3), (8, 7)] {
        let column = footer.row_group(0).column(index);
        assert!(column.dictionary_page_offset().is_some(), "{}", column.column_path());
        let most = rows.end * num_bits / 8 + 1500;
        assert!(
            column.uncompressed_size() < most,
            "{}: {}",
            column.column_path(),
            column.uncompressed_size()
        );
    }
}

#[test]
fn instants_in_seconds_are_a_dictionary() {
    let schema = batch_of(vec!["a".to_owned()], vec![Some(0)]).schema();
    let check = |instant: fn(i64) -> i64, has_dictionary: bool| {
        let mut columns = batch_of(vec!["a".to_owned()], vec![Some(0); 50_000]).columns().to_vec();
        let instants = TimestampMicrosecondArray::from_iter_values((0..50_000).map(instant));
        columns[6] = Arc::new(instants.with_timezone("UTC"));
        let file = check_round_trip(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap());
        let column = footer(&file).row_group(0).column(6).clone();
        assert_eq!(column.dictionary_page_offset().is_some(), has_dictionary);
    };
    check(|row| row * 7919 % 10_000 * 1_000_000 - 5, true);
    check(|row| row * 7919 % 10_000 * 1_000_000 + row % 2, false);
    // Equal ones stand together.
    check(|row| row / 4 * 7919 % 10_000 * 1_000_000, false);
    check(|row| row * 7919 % 100_000 * 1_000_000, false);
}

#[test]
fn json_has_no_bounds() {
    let json = EVERY_TYPE.columns.iter().filter(|column| column.column_type == ColumnType::Json);
    let json: Vec<_> = json.map(|column| column.name).collect();
    let texts = DictionaryArray::<UInt32Type>::from_iter([Some("{}"), None, Some("[1]"), Some("{}")]);
    let fields = [json[0], "Other"].map(|name| Field::new(name, DataType::Utf8, true));
    let file_schema = Arc::new(Schema::new(fields.to_vec()));
    let batch_fields = fields.map(|field| field.with_data_type(schema::arrow::dictionary()));
    let columns: Vec<ArrayRef> = vec![Arc::new(texts.clone()), Arc::new(texts)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(batch_fields.to_vec())), columns).unwrap();
    let schema = Arc::new(ArrowSchemaConverter::new().convert(&file_schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), Arc::default()).unwrap();
    let mut encoder = RowGroupEncoder::new(schema, &EVERY_TYPE);
    encoder.encode(batch.into()).unwrap().append_to(&mut file).unwrap();
    let file = Bytes::from(file.into_inner().unwrap());
    let footer = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&file)
        .unwrap();
    for (index, has_bounds) in [(0, false), (1, true)] {
        let statistics = footer.row_group(0).column(index).statistics().unwrap();
        assert_eq!(statistics.null_count_opt(), Some(1));
        assert_eq!(statistics.min_bytes_opt().is_some(), has_bounds);
        assert_eq!(statistics.max_bytes_opt().is_some(), has_bounds);
        assert_eq!(footer.row_group(0).column(index).column_index_offset().is_some(), has_bounds);
    }
    let found: Vec<_> = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let texts = found[0].column(0).as_string::<i32>();
    assert_eq!(texts.iter().collect::<Vec<_>>(), [Some("{}"), None, Some("[1]"), Some("{}")]);
}

#[test]
fn bloom_filter_holds_used_texts_and_few_others() {
    let texts: Vec<String> = (0..2000).map(|text| format!("text {text}")).collect();
    let batch = batch_of(texts, (0..5000).map(|row| Some(row % 1000)).collect());
    let schema = Arc::new(ArrowSchemaConverter::new().convert(&file_schema()).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), Arc::default()).unwrap();
    let mut encoder = RowGroupEncoder::new(schema, &EVERY_TYPE);
    encoder.layouts[1].bloom_filter_fpp = Some(0.01);
    encoder.encode(batch.into()).unwrap().append_to(&mut file).unwrap();
    let reader = reader(&file.into_inner().unwrap().into());
    let filter = reader.get_row_group_column_bloom_filter(0, 1).unwrap().expect("a filter");
    let is_known = |text: &u32| filter.check(format!("text {text}").as_str());
    assert!((0..1000).all(|text| is_known(&text)));
    assert!((1000..2000).filter(is_known).count() < 50);
    assert!(reader.get_row_group_column_bloom_filter(0, 0).unwrap().is_none());
}
