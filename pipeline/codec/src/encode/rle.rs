//! Takes small integers and the bits that one takes; gives Parquet's hybrid of runs and bit-packed groups.
//!
//! A run is a length and a value. Values that change are packed in groups of eight, the first value in the
//! lowest bits. Each group is decided by itself: a run begins if all eight values are equal, and is
//! written as one if it is long enough to outweigh its headers.

/// Values that are packed together.
const GROUP: usize = 8;

/// Returns the bits that values up to `max` take.
pub(super) fn bit_width(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// Appends `values`, none of which takes more than `width` bits.
pub(super) fn encode<T: Copy + Eq + Into<u32>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    let min_run = min_run(width);
    // What is between `literal` and `at` is to be packed.
    let (mut literal, mut at) = (0, 0);
    while let Some(group) = values[at..].first_chunk::<GROUP>() {
        if !is_run(group) {
            at += GROUP;
            continue;
        }
        let len = run_len(&values[at..]);
        if len < min_run {
            at += len / GROUP * GROUP;
            continue;
        }
        encode_groups(&values[literal..at], width, out);
        encode_run(values[at], len, width, out);
        at += len;
        literal = at;
    }
    match values[literal..] {
        [] => {}
        [first, ref rest @ ..] if rest.len() < GROUP && rest.iter().all(|value| *value == first) => {
            encode_run(first, rest.len() + 1, width, out);
        }
        ref rest => encode_groups(rest, width, out),
    }
}

/// Appends the first `len` of `bits`, lowest first, as values of one bit.
pub(super) fn encode_bits(bits: &[u8], len: usize, out: &mut Vec<u8>) {
    let min_run = min_run(1) / GROUP;
    let bits = &bits[..len.div_ceil(GROUP)];
    // The last byte belongs to a run only if it is whole.
    let num_whole = len / GROUP;
    let (mut literal, mut at) = (0, 0);
    while at < num_whole {
        let byte = bits[at];
        if byte != 0 && byte != u8::MAX {
            at += 1;
            continue;
        }
        let num_bytes = bits[at..num_whole].iter().take_while(|other| **other == byte).count();
        if num_bytes < min_run {
            at += num_bytes;
            continue;
        }
        encode_packed(&bits[literal..at], out);
        encode_run(u32::from(byte & 1), num_bytes * GROUP, 1, out);
        at += num_bytes;
        literal = at;
    }
    encode_packed(&bits[literal..], out);
}

/// Appends `value` `len` times.
pub(super) fn encode_run(value: impl Into<u32>, len: usize, width: u32, out: &mut Vec<u8>) {
    encode_varint((len as u64) << 1, out);
    out.extend_from_slice(&value.into().to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Returns how many equal values are cheaper as a run than packed: a run costs its header, its
/// value, and the header of the packed groups that it interrupts.
fn min_run(width: u32) -> usize {
    const HEADER_BYTES: u32 = 3;
    match width {
        0 => GROUP,
        width => {
            let packed = (8 * (HEADER_BYTES + width.div_ceil(8))).div_ceil(width);
            (packed as usize).next_multiple_of(GROUP)
        }
    }
}

fn is_run<T: Copy + Eq + Into<u32>>(group: &[T; GROUP]) -> bool {
    let first = group[0].into();
    group.iter().fold(0, |differing, value| differing | (first ^ (*value).into())) == 0
}

fn run_len<T: Copy + Eq + Into<u32>>(values: &[T]) -> usize {
    let first = values[0];
    let groups = values.as_chunks::<GROUP>().0;
    let whole = groups.iter().take_while(|group| group[0] == first && is_run(group)).count() * GROUP;
    whole + values[whole..].iter().take_while(|value| **value == first).count()
}

/// Appends `values` as packed groups, the last one filled up with zeros.
fn encode_groups<T: Copy + Into<u32>>(values: &[T], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    encode_varint((values.len().div_ceil(GROUP) as u64) << 1 | 1, out);
    let (groups, rest) = values.as_chunks::<GROUP>();
    pack(groups, width, out);
    if !rest.is_empty() {
        let mut group = [0; GROUP];
        for (to, from) in group.iter_mut().zip(rest) {
            *to = (*from).into();
        }
        pack(&[group], width, out);
    }
}

/// Appends groups of one bit, which are packed already.
fn encode_packed(packed: &[u8], out: &mut Vec<u8>) {
    if !packed.is_empty() {
        encode_varint((packed.len() as u64) << 1 | 1, out);
        out.extend_from_slice(packed);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn encode_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Packs groups with a loop for each width, so that all shifts are known to the compiler.
fn pack<T: Copy + Into<u32>>(groups: &[[T; GROUP]], width: u32, out: &mut Vec<u8>) {
    macro_rules! widths {
        ($($width:literal)*) => {
            match width {
                0 => {}
                $($width => pack_width::<T, $width>(groups, out),)*
                _ => unreachable!("values have 32 bits"),
            }
        };
    }
    widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half at a time")]
fn pack_width<T: Copy + Into<u32>, const WIDTH: usize>(groups: &[[T; GROUP]], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + groups.len() * WIDTH, 0);
    for (group, packed) in groups.iter().zip(out[start..].as_chunks_mut::<WIDTH>().0) {
        // One word more, for what is written after the last value.
        let mut words = [0; 4 * (GROUP + 1)];
        let (mut word, mut num_bits, mut at) = (0, 0, 0);
        for value in group {
            word |= u64::from((*value).into()) << num_bits;
            num_bits += WIDTH;
            if num_bits >= 32 {
                words[at..at + 4].copy_from_slice(&(word as u32).to_le_bytes());
                at += 4;
                word >>= 32;
                num_bits -= 32;
            }
        }
        words[at..at + 4].copy_from_slice(&(word as u32).to_le_bytes());
        packed.copy_from_slice(&words[..WIDTH]);
    }
}
