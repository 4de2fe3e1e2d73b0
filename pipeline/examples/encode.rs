//! Decodes the parts given as arguments into batches of whole row groups, encodes them, and prints
//! how long that took: the workload for a profiler.
//!
//! ```text
//! tenant --devices 11000 --parts 16 --out /tmp/tenant
//! perf record target/release/examples/encode ours $(find /tmp/tenant -type f)
//! ```
//!
//! `library` in the place of `ours` encodes with the library's own writer.

use std::error::Error;
use std::fs::File;
use std::io::sink;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use chrono::DateTime;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use pipeline::batch::{BatchLayout, Batcher};
use pipeline::decode::binding::Binding;
use pipeline::decode::cell::Cell;
use pipeline::decode::reject::Reject;
use pipeline::decode::{PartDecoder, Sink};
use pipeline::write::RowGroupEncoder;

struct Batches<'b> {
    batcher: Batcher<'b>,
}

impl Sink for Batches<'_> {
    fn row(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        self.batcher.push(cells, extra_fields);
    }

    fn reject(&mut self, _: Reject) {}
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let encoder = arguments.next().unwrap_or_default();
    let rounds: usize = arguments.next().as_deref().unwrap_or("5").parse()?;
    let binding = Binding::new(schema::DATASETS[0], false);
    let layout = BatchLayout::new(&binding, DateTime::UNIX_EPOCH);
    let mut batches = Batches { batcher: Batcher::new(&layout, usize::MAX) };
    let mut taken = Vec::new();
    for path in arguments {
        let mut decoder = PartDecoder::try_new(File::open(&path)?, &binding)?;
        while decoder.decode_some(&mut batches)? {
            taken.extend(batches.batcher.take());
        }
    }
    taken.extend(batches.batcher.take_all());
    let batches: Vec<RecordBatch> = taken.into_iter().map(|(_, batch)| batch).collect();
    let num_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();

    for _ in 0..rounds {
        let start = Instant::now();
        let num_bytes = match encoder.as_str() {
            "library" => with_library(&batches)?,
            _ => with_ours(&layout, &batches)?,
        };
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{num_rows} rows, {} row groups, {num_bytes} bytes, {seconds:.3} s, {:.1} ns a row",
            batches.len(),
            seconds * 1e9 / num_rows as f64
        );
    }
    Ok(())
}

fn with_ours(layout: &BatchLayout<'_>, batches: &[RecordBatch]) -> Result<usize, Box<dyn Error>> {
    let schema = Arc::new(ArrowSchemaConverter::new().convert(layout.schema())?);
    let mut file = SerializedFileWriter::new(sink(), schema.root_schema_ptr(), Arc::default())?;
    let mut encoder = RowGroupEncoder::new(schema);
    for batch in batches {
        let mut row_group = encoder.encode(batch)?;
        row_group.append_to(&mut file)?;
        encoder.reuse(row_group);
    }
    file.finish()?;
    Ok(file.bytes_written())
}

fn with_library(batches: &[RecordBatch]) -> Result<usize, Box<dyn Error>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_page_size_limit(4 << 20)
        .build();
    let mut file = ArrowWriter::try_new(sink(), batches[0].schema(), Some(properties))?;
    for batch in batches {
        file.write(batch)?;
        file.flush()?;
    }
    file.finish()?;
    Ok(file.bytes_written())
}
