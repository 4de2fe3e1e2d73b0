//! Decodes the parts given as arguments, encodes their row groups if asked to, and prints what was counted and how
//! fast it was, in decompressed bytes: the workload for a profiler, on one thread.
//!
//! ```text
//! tenant --devices 300 --parts 1 --out /tmp/tenant
//! valgrind --tool=callgrind target/release/examples/decode $(find /tmp/tenant -type f)
//! decode --dataset certificates --encode $(find /tmp/certificates -type f)
//! ```

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::sink;
use std::sync::Arc;
use std::time::Instant;

use chrono::DateTime;
use codec::batch_layout::{BatchLayout, BatchOptions};
use codec::encode::RowGroupEncoder;
use codec::part_reader::PartReader;
use codec::row_group::{RowGroupLimits, RowGroups};
use codec::rows::Rows;
use parquet::arrow::ArrowSchemaConverter;
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use schema::Dataset;

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut dataset = schema::DATASETS[0];
    let mut is_encoded = false;
    let mut paths = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--dataset" => {
                let name = arguments.next().unwrap_or_default();
                let is_named = |dataset: &&&Dataset| dataset.name == name || dataset.cli_name() == name;
                dataset =
                    schema::DATASETS.iter().find(is_named).ok_or_else(|| format!("no dataset {name}"))?;
            }
            "--encode" => is_encoded = true,
            _ => paths.push(argument),
        }
    }

    let layout = Arc::new(BatchLayout::new(dataset, DateTime::UNIX_EPOCH, BatchOptions::default()));
    let parquet_schema = Arc::new(ArrowSchemaConverter::new().convert(layout.file_schema())?);
    let mut encoder = RowGroupEncoder::new(Arc::clone(&parquet_schema), dataset);
    let mut file = SerializedFileWriter::new(sink(), parquet_schema.root_schema_ptr(), Arc::default())?;
    let mut write = |rows: Rows| -> Result<(), ParquetError> {
        if is_encoded {
            let mut row_group = encoder.encode(rows)?;
            row_group.append_to(&mut file)?;
            encoder.reuse(row_group);
        } else {
            black_box(rows.into_batch());
        }
        Ok(())
    };

    let limits = RowGroupLimits { max_open_bytes: 96 << 20, ..RowGroupLimits::none() };
    let row_groups = RowGroups::new(layout, limits);
    let row_groups = Arc::new(if is_encoded { row_groups.with_early_pages() } else { row_groups });
    let before = Instant::now();
    let mut num_bytes = 0;
    for path in paths {
        let mut reader = PartReader::with_row_groups(File::open(&path)?, Arc::clone(&row_groups))?;
        while reader.decode_some(|reject| drop(black_box(reject)))? {
            while let Some(due) = reader.next_due()? {
                due.write(|_, rows| write(rows))?;
            }
        }
        println!("{path}: {:?}", reader.counts());
        num_bytes += reader.counts().json_bytes;
    }
    for last in row_groups.finish() {
        last.write(|_, rows| write(rows).map_err(Box::<dyn Error>::from), |_| Ok(()))?;
    }
    let seconds = before.elapsed().as_secs_f64();
    let file_bytes = file.bytes_written();
    println!(
        "{}: {seconds:.3} s, {:.0} MB/s of JSON, {file_bytes} bytes written",
        dataset.name,
        num_bytes as f64 / 1e6 / seconds
    );
    Ok(())
}
