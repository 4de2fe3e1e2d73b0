//! Decodes the parts given as arguments and prints what was counted: the workload for a profiler.
//!
//! ```text
//! tenant --devices 300 --parts 1 --out /tmp/tenant
//! valgrind --tool=callgrind target/release/examples/decode $(find /tmp/tenant -type f)
//! ```

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;

use chrono::DateTime;
use codec::batch_layout::{BatchLayout, BatchOptions};
use codec::part_reader::PartReader;
use codec::row_group::{RowGroupLimits, RowGroups};

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let layout = BatchLayout::new(schema::DATASETS[0], DateTime::UNIX_EPOCH, BatchOptions::default());
    let limits = RowGroupLimits { max_open_bytes: 96 << 20, ..RowGroupLimits::none() };
    let row_groups = Arc::new(RowGroups::new(Arc::new(layout), limits));
    for path in std::env::args().skip(1) {
        let mut reader = PartReader::with_row_groups(File::open(&path)?, Arc::clone(&row_groups))?;
        while reader.decode_some(|reject| drop(black_box(reject)))? {
            while let Some(due) = reader.next_due()? {
                due.write(|_, batch| drop(black_box(batch.clone())));
            }
        }
        println!("{path}: {:?}", reader.counts());
    }
    black_box(row_groups.finish());
    Ok(())
}
