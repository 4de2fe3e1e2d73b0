//! Throughput of each stage over the same part, in bytes of decompressed JSON, with `arrow-json` as
//! the control: `cargo bench -p codec`.
//!
//! The data is the synthetic tenant, seed 1; no IO but memory.

use std::io::{Cursor, Read, sink};
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use chrono::DateTime;
use codec::batch_layout::{BatchLayout, BatchOptions};
use codec::decode::framing::{Framer, NextRecord, Position};
use codec::decode::inflate::Inflate;
use codec::encode::RowGroupEncoder;
use codec::part_reader::PartReader;
use divan::Bencher;
use divan::counter::BytesCount;
use fixtures::{PartFormat, Tenant, TenantOptions};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

/// About 72 MB of JSON and 120,000 records: row groups of thousands of rows, not of a handful.
const DEVICES: u32 = 1000;

/// Devices if the stages are run as tests, unoptimised and once each.
const TEST_DEVICES: u32 = 10;

/// Of a tenth of a second each, about.
const SAMPLES: u32 = 30;

struct Part {
    plain: Vec<u8>,
    gzip: Vec<u8>,
}

static PART: LazyLock<Part> = LazyLock::new(|| {
    // `cargo bench` passes `--bench`; test runners do not.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let devices = if is_bench { DEVICES } else { TEST_DEVICES };
    let tenant = Tenant::new(TenantOptions { devices, parts: 1, ..TenantOptions::default() });
    let written = |format| {
        let mut bytes = Vec::new();
        tenant.write_part(0, format, &mut bytes).expect("memory takes what is written");
        bytes
    };
    Part { plain: written(PartFormat::Plain), gzip: written(PartFormat::GZIP) }
});

static LAYOUT: LazyLock<Arc<BatchLayout>> = LazyLock::new(|| {
    Arc::new(BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, BatchOptions::default()))
});

fn main() {
    // Not within the first sample.
    LazyLock::force(&PART);
    divan::main();
}

/// Throughput of every stage is in bytes of JSON.
fn bytes() -> BytesCount {
    BytesCount::new(PART.plain.len())
}

/// gzip to text: what nothing can be faster than.
#[divan::bench(sample_count = SAMPLES)]
fn inflate(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        let mut text = Inflate::try_new(&PART.gzip[..]).expect("memory is read").expect("there are bytes");
        std::io::copy(&mut text.by_ref(), &mut sink()).expect("the part is whole")
    });
}

/// Text to records.
#[divan::bench(sample_count = SAMPLES)]
fn framing(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        let mut framer = Framer::new(&PART.plain[..]);
        let mut num_bytes = 0;
        while framer.seek().expect("the part is whole") != Position::End {
            let NextRecord::Frame(frame) = framer.frame().expect("the part is whole") else {
                panic!("the tenant has no records that are too long")
            };
            num_bytes += framer.bytes(&frame).len();
            framer.consume(&frame);
        }
        num_bytes
    });
}

fn batches(part: &[u8]) -> Vec<RecordBatch> {
    let mut reader = PartReader::try_new(part, Arc::clone(&LAYOUT)).expect("memory is read");
    let batches = reader.batches(|reject| panic!("the tenant has no rejects: {reject:?}"));
    batches.map(|batch| batch.expect("the part is whole").1).collect()
}

/// Text to columns, as batches of whole row groups.
#[divan::bench(sample_count = SAMPLES)]
fn decode(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| batches(&PART.plain));
}

/// A whole part: gzip to batches.
#[divan::bench(sample_count = SAMPLES)]
fn inflate_and_decode(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| batches(&PART.gzip));
}

/// The control: text to batches by `arrow-json`, dates left as text since it does not read these forms.
#[divan::bench(sample_count = SAMPLES)]
fn decode_by_arrow_json(bencher: Bencher<'_, '_>) {
    let declared = schema::arrow::file_schema(schema::DATASETS[0], false);
    let fields: Vec<Field> = declared
        .fields()
        .iter()
        .filter(|field| field.name() != "GeneratedTime")
        .map(|field| match field.data_type() {
            DataType::Timestamp(..) | DataType::Date32 => Field::new(field.name(), DataType::Utf8, true),
            data_type => Field::new(field.name(), data_type.clone(), true),
        })
        .chain([Field::new("OSPlatform", DataType::Utf8, true)])
        .collect();
    let schema = Arc::new(Schema::new(fields));
    bencher.counter(bytes()).bench(|| {
        arrow_json::ReaderBuilder::new(Arc::clone(&schema))
            .with_batch_size(16 * 1024)
            .build(Cursor::new(&PART.plain))
            .expect("the schema is supported")
            .map(|batch| batch.expect("the part is whole").num_rows())
            .sum::<usize>()
    });
}

/// Batches to row groups of a Parquet file.
#[divan::bench(sample_count = SAMPLES)]
fn encode(bencher: Bencher<'_, '_>) {
    let batches = batches(&PART.plain);
    let schema = ArrowSchemaConverter::new().convert(LAYOUT.file_schema()).expect("the schema is supported");
    let mut encoder = RowGroupEncoder::new(Arc::new(schema.clone()), schema::DATASETS[0]);
    bencher.counter(bytes()).bench_local(|| {
        let mut file = SerializedFileWriter::new(sink(), schema.root_schema_ptr(), Arc::default())
            .expect("memory takes what is written");
        for batch in &batches {
            let mut row_group = encoder.encode(batch.clone().into()).expect("sizes are small");
            row_group.append_to(&mut file).expect("memory takes what is written");
            encoder.reuse(row_group);
        }
        file.finish().expect("memory takes what is written")
    });
}

/// The control: the same row groups by the library's writer, with its defaults but for zstd.
#[divan::bench(sample_count = SAMPLES)]
fn encode_by_library(bencher: Bencher<'_, '_>) {
    let batches = batches(&PART.plain);
    let level = ZstdLevel::try_new(1).expect("zstd has level 1");
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    bencher.counter(bytes()).bench(|| {
        let schema = batches[0].schema();
        let mut file =
            ArrowWriter::try_new(sink(), schema, Some(properties.clone())).expect("the schema is supported");
        for batch in &batches {
            file.write(batch).expect("memory takes what is written");
            file.flush().expect("memory takes what is written");
        }
        file.close().expect("memory takes what is written")
    });
}
