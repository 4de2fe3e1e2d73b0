//! Decodes the parts given as arguments and prints what was counted: the workload for a profiler.
//!
//! ```text
//! tenant --devices 300 --parts 1 --out /tmp/tenant
//! valgrind --tool=callgrind target/release/examples/decode $(find /tmp/tenant -type f)
//! ```

use std::error::Error;
use std::fs::File;
use std::hint::black_box;

use chrono::DateTime;
use codec::decode::column::Columns;
use codec::decode::field_map::FieldMap;
use codec::decode::reject::Reject;
use codec::decode::{PartDecoder, Sink};
use codec::row_group::{BatchLayout, Batcher, RowGroupLimits, RowGroups};

struct Batches<'g>(Batcher<'g>);

impl Sink for Batches<'_> {
    fn columns(&mut self, partition: Option<&str>) -> &mut Columns {
        self.0.columns(partition)
    }

    fn reject(&mut self, reject: Reject) {
        black_box(reject);
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let field_map = FieldMap::new(schema::DATASETS[0], false);
    let layout = BatchLayout::new(&field_map, DateTime::UNIX_EPOCH);
    let row_groups =
        RowGroups::new(&layout, RowGroupLimits { max_open_bytes: 96 << 20, ..RowGroupLimits::none() });
    for path in std::env::args().skip(1) {
        let mut sink = Batches(row_groups.batcher());
        let mut decoder = PartDecoder::try_new(File::open(&path)?, &field_map)?;
        while decoder.decode_some(&mut sink)? {
            while let Some(due) = sink.0.next_due()? {
                due.write(|_, batch| drop(black_box(batch.clone())));
            }
        }
        println!("{path}: {:?}", decoder.counts());
    }
    black_box(row_groups.finish());
    Ok(())
}
