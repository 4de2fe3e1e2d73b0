//! Throughput of each stage over the same part, in bytes of decompressed JSON, with `arrow-json` as
//! the control: `cargo bench -p pipeline`.
//!
//! The data is the synthetic tenant, seed 1; no IO but memory.

use std::io::{Cursor, Read, sink};
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use chrono::DateTime;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use fixtures::{PartFormat, Tenant, TenantOptions};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use pipeline::batch::{BatchLayout, Batcher};
use pipeline::decode::binding::Binding;
use pipeline::decode::cell::Cell;
use pipeline::decode::framing::{Framer, Next};
use pipeline::decode::inflate::Inflate;
use pipeline::decode::reject::Reject;
use pipeline::decode::{PartDecoder, Sink};
use pipeline::partition::PartitionKey;
use pipeline::write::RowGroupEncoder;

/// About 18 MB of JSON and 30,000 records: more than any cache holds.
const DEVICES: u32 = 250;

struct Part {
    plain: Vec<u8>,
    gzip: Vec<u8>,
}

static PART: LazyLock<Part> = LazyLock::new(|| {
    let tenant = Tenant::new(TenantOptions { devices: DEVICES, parts: 1, ..TenantOptions::default() });
    let written = |format| {
        let mut bytes = Vec::new();
        tenant.write_part(0, format, &mut bytes).expect("memory takes what is written");
        bytes
    };
    Part { plain: written(PartFormat::Plain), gzip: written(PartFormat::GZIP) }
});

static BINDING: LazyLock<Binding> = LazyLock::new(|| Binding::new(schema::DATASETS[0], false));
static LAYOUT: LazyLock<BatchLayout<'static>> =
    LazyLock::new(|| BatchLayout::new(&BINDING, DateTime::UNIX_EPOCH));

fn main() {
    LazyLock::force(&PART);
    divan::main();
}

/// Throughput is counted in bytes of JSON, whatever a stage takes.
fn bytes() -> BytesCount {
    BytesCount::new(PART.plain.len())
}

/// gzip to text: what nothing can be faster than.
#[divan::bench]
fn inflate(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        let mut text = Inflate::try_new(&PART.gzip[..]).expect("memory is read").expect("there are bytes");
        std::io::copy(&mut text.by_ref(), &mut sink()).expect("the part is whole")
    });
}

/// Text to records.
#[divan::bench]
fn framing(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        let mut framer = Framer::new(&PART.plain[..]);
        let mut num_bytes = 0;
        while let Next::Frame(frame) = framer.next_record().expect("the part is whole") {
            num_bytes += framer.bytes(&frame).len();
            framer.consume(&frame);
        }
        num_bytes
    });
}

/// Counts what it is given.
#[derive(Default)]
struct Count {
    rows: u64,
}

impl Sink for Count {
    fn row(&mut self, cells: &[Cell<'_>], _: Option<&str>) {
        black_box(cells);
        self.rows += 1;
    }

    fn reject(&mut self, reject: Reject) {
        panic!("the tenant has no rejects: {reject:?}");
    }
}

/// Text to cells.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(|| {
        let mut decoder = PartDecoder::try_new(&PART.plain[..], &BINDING).expect("the part is whole");
        let mut count = Count::default();
        while decoder.decode_some(&mut count).expect("the part is whole") {}
        count.rows
    });
}

/// Cells to batches of their partition.
struct Batches {
    batcher: Batcher<'static>,
    batches: Vec<(PartitionKey, RecordBatch)>,
}

impl Sink for Batches {
    fn row(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        self.batcher.push(cells, extra_fields);
    }

    fn reject(&mut self, reject: Reject) {
        panic!("the tenant has no rejects: {reject:?}");
    }
}

fn batches() -> Vec<(PartitionKey, RecordBatch)> {
    let mut decoder = PartDecoder::try_new(&PART.plain[..], &BINDING).expect("the part is whole");
    let mut sink = Batches { batcher: Batcher::new(&LAYOUT, 16 << 20), batches: Vec::new() };
    while decoder.decode_some(&mut sink).expect("the part is whole") {
        let due = sink.batcher.take();
        sink.batches.extend(due);
    }
    sink.batches.extend(sink.batcher.take_all());
    sink.batches
}

/// Text to batches.
#[divan::bench]
fn decode_and_batch(bencher: Bencher<'_, '_>) {
    bencher.counter(bytes()).bench(batches);
}

/// The control: text to batches by `arrow-json`, dates left as text since it does not read these forms.
#[divan::bench]
fn arrow_json(bencher: Bencher<'_, '_>) {
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

/// Batches to Parquet.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let batches = batches();
    let schema = ArrowSchemaConverter::new().convert(LAYOUT.schema()).expect("the schema is supported");
    let schema = Arc::new(schema);
    let mut encoder = RowGroupEncoder::new(Arc::clone(&schema));
    bencher.counter(bytes()).bench_local(|| {
        let mut file = SerializedFileWriter::new(sink(), schema.root_schema_ptr(), Arc::default())
            .expect("memory takes what is written");
        for (_, batch) in &batches {
            let mut row_group = encoder.encode(batch).expect("the rows fit into a page");
            row_group.append_to(&mut file).expect("memory takes what is written");
            encoder.reuse(row_group);
        }
        file.close().expect("memory takes what is written")
    });
}

/// The control: the same batches to Parquet with the library's own writer, and its defaults but for zstd.
#[divan::bench]
fn arrow_writer(bencher: Bencher<'_, '_>) {
    let batches = batches();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("zstd has level 1")))
        .build();
    bencher.counter(bytes()).bench(|| {
        let schema = batches[0].1.schema();
        let mut writer =
            ArrowWriter::try_new(sink(), schema, Some(properties.clone())).expect("the schema is supported");
        for (_, batch) in &batches {
            writer.write(batch).expect("memory takes what is written");
            writer.flush().expect("memory takes what is written");
        }
        writer.close().expect("memory takes what is written")
    });
}
