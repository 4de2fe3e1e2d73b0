//! Decodes the parts given as arguments and prints what was counted: the workload for a profiler.
//!
//! ```text
//! tenant --devices 300 --parts 1 --out /tmp/tenant
//! valgrind --tool=callgrind target/release/examples/decode $(find /tmp/tenant -type f)
//! ```

use std::error::Error;
use std::fs::File;
use std::hint::black_box;

use pipeline::decode::binding::Binding;
use pipeline::decode::cell::Cell;
use pipeline::decode::reject::Reject;
use pipeline::decode::{PartDecoder, Sink};

struct Discard;

impl Sink for Discard {
    fn row(&mut self, cells: &[Cell<'_>], extra_fields: Option<&str>) {
        black_box((cells, extra_fields));
    }

    fn reject(&mut self, reject: Reject) {
        black_box(reject);
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn main() -> Result<(), Box<dyn Error>> {
    let binding = Binding::new(schema::DATASETS[0], false);
    for path in std::env::args().skip(1) {
        let mut decoder = PartDecoder::try_new(File::open(&path)?, &binding)?;
        while decoder.decode_some(&mut Discard)? {}
        println!("{path}: {:?}", decoder.counts());
    }
    Ok(())
}
