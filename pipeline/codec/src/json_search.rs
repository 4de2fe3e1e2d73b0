//! Takes JSON text; gives where a string or a bracket is closed, and the text of a string. A block at a time, by masks
//! with a bit for each of its bytes. Validates nothing but what it says.

use wide::u8x32;

use crate::byte_search::{BLOCK, mask};

/// Which bytes are escaped, block by block.
#[derive(Debug, Default)]
struct Escapes {
    /// Whether the first byte of the next block is: zero or one.
    is_next: u32,
}

impl Escapes {
    /// The bytes of a block that have a backslash before them that is not escaped itself, given its backslashes.
    #[inline]
    fn next(&mut self, backslashes: u32) -> u32 {
        const EVEN: u32 = 0x5555_5555;
        let backslashes = backslashes & !self.is_next;
        let behind = backslashes << 1 | self.is_next;
        // The carry of an addition runs through each run of backslashes: of those that begin at an odd place it
        // flips which of their followers are escaped.
        let odd_starts = backslashes & !EVEN & !behind;
        let (runs, is_carried) = odd_starts.overflowing_add(backslashes);
        self.is_next = u32::from(is_carried);
        (EVEN ^ (runs << 1)) & behind
    }
}

/// Returns the length of a JSON string's content, given what follows its opening quote; `None` if it does not end.
/// For content with many escaped quotes: JSON text within a string.
pub fn content_len(text: &[u8]) -> Option<usize> {
    let mut state = Escapes::default();
    let mut in_block = |block: &[u8; BLOCK]| {
        let block = u8x32::new(*block);
        let escaped = state.next(mask(block, b'\\'));
        mask(block, b'"') & !escaped
    };
    let (blocks, rest) = text.as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        let quotes = in_block(block);
        if quotes != 0 {
            return Some(index * BLOCK + quotes.trailing_zeros() as usize);
        }
    }
    let quotes = in_block(&padded(rest));
    (quotes != 0).then(|| text.len() - rest.len() + quotes.trailing_zeros() as usize)
}

/// Returns where the array or object at the start of `text` is closed, if it is valid; some place or none if it is not.
pub fn closing_bracket(text: &[u8]) -> Option<usize> {
    let mut state = Escapes::default();
    // All ones inside of a string.
    let mut string = 0;
    let mut depth = 0;
    let (blocks, rest) = text.as_chunks();
    let last = padded(rest);
    for (index, block) in blocks.iter().chain([&last]).enumerate() {
        let block = u8x32::new(*block);
        let escaped = state.next(mask(block, b'\\'));
        let strings = inside(mask(block, b'"') & !escaped) ^ string;
        string = if strings >> (BLOCK - 1) == 1 { u32::MAX } else { 0 };
        // Brackets and braces differ in one bit.
        let either = block | u8x32::splat(0x20);
        let mut closing = mask(either, b'}') & !strings;
        let mut opening = mask(either, b'{') & !strings;
        if closing.count_ones() < depth {
            depth = depth - closing.count_ones() + opening.count_ones();
            continue;
        }
        while closing != 0 {
            let before = (closing & closing.wrapping_neg()) - 1;
            depth += (opening & before).count_ones();
            opening &= !before;
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(index * BLOCK + closing.trailing_zeros() as usize);
            }
            closing &= closing - 1;
        }
        depth += opening.count_ones();
    }
    None
}

/// For each bit whether an odd number of `quotes` are at it or below it.
#[inline]
fn inside(quotes: u32) -> u32 {
    (0..u32::BITS.ilog2()).fold(quotes, |inside, bits| inside ^ (inside << (1 << bits)))
}

fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// By the letter behind a backslash, what the two stand for; zero if that is more than a letter, or nothing.
const ESCAPED: [u8; 256] = {
    let mut escaped = [0; 256];
    let pairs = *b"\"\"\\\\//b\x08f\x0cn\nr\rt\t";
    let mut at = 0;
    while at < pairs.len() {
        escaped[pairs[at] as usize] = pairs[at + 1];
        at += 2;
    }
    escaped
};

/// Writes the content of a JSON string to `text`, unescaped. `None` if it has control characters, or an escape that is
/// not of a single letter: `text` is then of no use. Whether it is UTF-8, and without quotes, is not looked at.
pub fn unescape_letters(content: &[u8], text: &mut Vec<u8>) -> Option<()> {
    // Unescaping only shortens, and a block is written at once.
    text.resize(content.len() + BLOCK, 0);
    // Of the content what is copied already, and of the text what is written.
    let (mut from, mut len) = (0, 0);
    let mut start = 0;
    // What is copied from within the block may go on behind it for another.
    while let Some([block, _]) = content[start..].first_chunk::<{ 2 * BLOCK }>().map(|two| two.as_chunks().0)
    {
        let block = u8x32::new(*block);
        if has_control(block) {
            return None;
        }
        let mut backslashes = mask(block, b'\\');
        if from > start {
            backslashes &= !1;
        }
        while backslashes != 0 {
            let bit = backslashes.trailing_zeros();
            let backslash = start + bit as usize;
            copy_block(content, from, text, len);
            len += backslash - from;
            text[len] = unescaped_letter(content, backslash)?;
            len += 1;
            from = backslash + 2;
            // The letter too, which may be a backslash.
            backslashes &= !(0b11 << bit);
        }
        start += BLOCK;
        if from < start {
            copy_block(content, from, text, len);
            len += start - from;
            from = start;
        }
    }
    while let Some(byte) = content.get(from) {
        (text[len], from) = match byte {
            0..0x20 => return None,
            b'\\' => (unescaped_letter(content, from)?, from + 2),
            byte => (*byte, from + 1),
        };
        len += 1;
    }
    text.truncate(len);
    Some(())
}

#[inline]
fn has_control(block: u8x32) -> bool {
    block.max(u8x32::splat(b' ')).simd_ne(block).to_bitmask() != 0
}

#[inline]
fn copy_block(content: &[u8], from: usize, text: &mut [u8], len: usize) {
    text[len..][..BLOCK].copy_from_slice(&content[from..][..BLOCK]);
}

/// What the backslash at `at` and the letter behind it stand for.
#[inline]
fn unescaped_letter(content: &[u8], at: usize) -> Option<u8> {
    let letter = ESCAPED[usize::from(*content.get(at + 1)?)];
    (letter != 0).then_some(letter)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    proptest! {
        #[test]
        fn strings_end_where_a_parser_ends(text in vec(select(br#"a"\!"#.to_vec()), 0..200)) {
            let mut is_escaped = false;
            let end = text.iter().position(|byte| {
                let is_end = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            prop_assert_eq!(content_len(&text), end);
        }

        #[test]
        fn letters_are_unescaped_as_by_a_parser(
            pieces in vec(
                select(vec![
                    "a", "b\u{e9}c", "0123456789", r"\\", r#"\""#, r"\/", r"\n", r"\b", r"\f", r"\r", r"\t", r"\\\\",
                ]),
                0..60,
            ),
            odd in prop::option::of((select(vec![r"\x", r"\", r"\u0041", "\n", "\u{7f}"]), any::<prop::sample::Index>())),
        ) {
            let mut pieces = pieces;
            if let Some((odd, at)) = odd {
                pieces.insert(at.index(pieces.len() + 1), odd);
            }
            let content = pieces.concat();
            // A quote behind two backslashes is the end.
            prop_assume!(content_len(format!("{content}\"").as_bytes()) == Some(content.len()));
            let mut text = b"left over".to_vec();
            let unescaped =
                unescape_letters(content.as_bytes(), &mut text).map(|()| String::from_utf8(text).unwrap());
            let parsed: Option<String> = serde_json::from_str(&format!("\"{content}\"")).ok();
            prop_assert!(unescaped == parsed || unescaped.is_none() && content.contains(r"\u"));
        }

        #[test]
        fn brackets_are_closed_where_a_parser_ends(
            pieces in vec(
                select(vec!["[", "]", "{", "}", r#""a""#, ",", ":", r#""a ] long \"}\\" "#, r#""[""#, r#""\\\"""#, "1"]),
                0..80,
            ),
        ) {
            let text = format!("[{}", pieces.concat());
            let (mut depth, mut is_string, mut is_escaped) = (0, false, false);
            let end = text.bytes().position(|byte| {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' => is_escaped = is_string,
                    b'"' => is_string = !is_string,
                    b'[' | b'{' if !is_string => depth += 1,
                    b']' | b'}' if !is_string => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            prop_assert_eq!(closing_bracket(text.as_bytes()), end);
        }
    }

    #[test]
    fn long_runs_of_backslashes_end_or_go_on() {
        for num_backslashes in 0..80 {
            for before in [0, 1, 3, 27, 28, 29, 31, 32, 33, 64] {
                let content = format!("{}{}", "x".repeat(before), "\\".repeat(num_backslashes));
                let text = format!("{content}\"{}\"", "y".repeat(40));
                let end = if num_backslashes % 2 == 0 { content.len() } else { content.len() + 41 };
                assert_eq!(content_len(text.as_bytes()), Some(end), "{text}");
            }
        }
    }
}
