//! The decoder agrees with the oracle of the integration tests on any part: with any
//! buffer, plain or compressed, dropping or capturing undocumented fields.
//!
//! Input: one byte that says how to read, then the text of a part.

#![no_main]

#[path = "../../../../tests/oracle/mod.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use oracle::agreement::{Reading, check, decode_part};

fuzz_target!(|input: &[u8]| {
    let Some((&how, text)) = input.split_first() else { return };
    let capture_extra_fields = how & 1 == 0;
    let sizes = [1 + usize::from(how >> 2), 1 << 20];
    for buffer_bytes in sizes {
        check(
            text,
            Reading { buffer_bytes, gzip: how & 2 == 0, capture_extra_fields, plain_text: how & 4 == 0 },
        );
    }
    // As it came: whether it begins as gzip or not, it must not panic, hang or eat memory.
    if text.first() == Some(&0x1f) {
        let _ = decode_part(
            text,
            Reading { buffer_bytes: sizes[0], gzip: false, capture_extra_fields, plain_text: how & 4 == 0 },
        );
    }
});
