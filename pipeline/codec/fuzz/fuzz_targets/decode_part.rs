//! The decoder agrees with the oracle of the integration tests on any part: with any
//! buffer, plain or compressed, dropping or capturing undocumented fields.
//!
//! Input: one byte that says how to read and as which dataset, then the text of a part. It is read as the first
//! dataset too.

#![no_main]

#[path = "../../../../tests/oracle/mod.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use oracle::agreement::{Reading, check, decode_part};

fuzz_target!(|input: &[u8]| {
    let Some((&how, text)) = input.split_first() else { return };
    let capture_extra_fields = how & 1 == 0;
    let first = schema::DATASETS[0].name;
    let dataset = schema::DATASETS[usize::from(how >> 2) % schema::DATASETS.len()].name;
    let small = 1 + usize::from(how >> 2);
    let reading = Reading {
        dataset: first,
        buffer_bytes: small,
        gzip: how & 2 == 0,
        capture_extra_fields,
        plain_text: how & 4 == 0,
    };
    let large = 1 << 20;
    check(text, reading);
    check(text, Reading { dataset, buffer_bytes: large, ..reading });
    if dataset != first {
        check(text, Reading { buffer_bytes: large, ..reading });
    }
    // As it came: whether it begins as gzip or not, it must not panic, hang or eat memory.
    if text.first() == Some(&0x1f) {
        let _ = decode_part(text, Reading { gzip: false, ..reading });
    }
});
