//! Compares and searches text a block at a time, without calls and without branches on lengths, which are
//! unpredictable.

use wide::u8x32;

/// Bytes compared or searched at once.
pub const BLOCK: usize = 32;

/// Which bytes of a block are `byte`, a bit each.
#[inline]
pub fn mask(block: u8x32, byte: u8) -> u32 {
    block.simd_eq(u8x32::splat(byte)).to_bitmask()
}

/// What text may begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    text: Box<[u8]>,
    /// Its first bytes, and a mask of those that there are.
    block: [u8; BLOCK],
    mask: [u8; BLOCK],
}

impl Prefix {
    /// Takes what text may begin with.
    pub fn new(text: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        block.iter_mut().zip(text).for_each(|(byte, of_text)| *byte = *of_text);
        Self { text: text.into(), block, mask: MASKS[text.len().min(BLOCK)] }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether `text` begins with it.
    #[expect(clippy::inline_always, reason = "a call costs as much as the comparison")]
    #[inline(always)]
    pub fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk() {
            Some(block) if self.text.len() <= BLOCK => are_same(block, &self.block, &self.mask),
            _ => text.starts_with(&self.text),
        }
    }
}

/// Whether `text` begins with the first `len` bytes of `other`, which has them.
#[expect(clippy::inline_always, reason = "a call costs as much as the comparison")]
#[inline(always)]
pub fn begins_alike(text: &[u8], other: &[u8], len: usize) -> bool {
    match (text.first_chunk(), other.first_chunk()) {
        (Some(block), Some(other)) if len <= BLOCK => are_same(block, other, &MASKS[len]),
        _ => text.starts_with(&other[..len]),
    }
}

/// Returns how many bytes `text` and `other` begin with alike; if those are at least `enough`, perhaps fewer than that are.
#[inline]
pub fn common_len(text: &[u8], other: &[u8], enough: usize) -> usize {
    let mut len = 0;
    while len < enough {
        let (Some(block), Some(of_other)) = (text[len..].first_chunk(), other[len..].first_chunk()) else {
            let are_alike = |(one, other): &(&u8, &u8)| one == other;
            return len + text[len..].iter().zip(&other[len..]).take_while(are_alike).count();
        };
        let alike = u8x32::new(*block).simd_eq(u8x32::new(*of_other)).to_bitmask().trailing_ones() as usize;
        len += alike;
        if alike < BLOCK {
            break;
        }
    }
    len
}

/// By length, ones where bytes are compared.
const MASKS: [[u8; BLOCK]; BLOCK + 1] = {
    let mut masks = [[0; BLOCK]; BLOCK + 1];
    let mut len = 0;
    while len <= BLOCK {
        let mut at = 0;
        while at < len {
            masks[len][at] = 0xff;
            at += 1;
        }
        len += 1;
    }
    masks
};

/// Whether two blocks are equal in the bytes of the mask.
#[inline]
fn are_same(block: &[u8; BLOCK], other: &[u8; BLOCK], mask: &[u8; BLOCK]) -> bool {
    let mut differences = 0;
    for at in 0..BLOCK {
        differences |= (block[at] ^ other[at]) & mask[at];
    }
    differences == 0
}

/// Returns the beginning of a text as a number: of two texts with different ones, the lesser is less.
#[inline]
pub fn first_word(text: &[u8]) -> u64 {
    let mut word = [0; size_of::<u64>()];
    match text.first_chunk() {
        Some(beginning) => word = *beginning,
        None => word[..text.len()].copy_from_slice(text),
    }
    u64::from_be_bytes(word)
}

/// Returns the length of a JSON string's content, given what follows its opening quote; `None` if it does not
/// end.
#[inline]
pub fn content_len(text: &[u8]) -> Option<usize> {
    let len = find_quote(text)?;
    if len > 0 && text[len - 1] == b'\\' { escaped_content_len(text, len) } else { Some(len) }
}

/// As [`content_len`], if a backslash is before the quote at `quote`.
#[inline(never)]
fn escaped_content_len(text: &[u8], mut quote: usize) -> Option<usize> {
    // A quote behind an odd number of backslashes is one of them escaped.
    while text[..quote].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
        quote += 1 + find_quote(&text[quote + 1..])?;
    }
    Some(quote)
}

fn find_quote(text: &[u8]) -> Option<usize> {
    let (blocks, rest) = text.as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        let quotes = mask(u8x32::new(*block), b'"');
        if quotes != 0 {
            return Some(index * BLOCK + quotes.trailing_zeros() as usize);
        }
    }
    let at = rest.iter().position(|byte| *byte == b'"')?;
    Some(text.len() - rest.len() + at)
}

/// Bytes behind a text that [`unescape_backslashes`] may write over.
pub const ROOM_BYTES: usize = BLOCK;

/// Writes `content` to the start of `text`, a backslash for each two of them; returns how many bytes
/// that are. `None` if a backslash stands alone. `text` has room for `content` and [`ROOM_BYTES`].
#[inline]
pub fn unescape_backslashes(content: &[u8], text: &mut [u8]) -> Option<usize> {
    let (mut at, mut len) = (0, 0);
    while let Some(block) = content[at..].first_chunk::<BLOCK>() {
        text[len..][..BLOCK].copy_from_slice(block);
        let backslashes = mask(u8x32::new(*block), b'\\');
        if backslashes == 0 {
            at += BLOCK;
            len += BLOCK;
            continue;
        }
        let num_kept = backslashes.trailing_zeros() as usize + 1;
        at += num_kept;
        len += num_kept;
        if content.get(at) != Some(&b'\\') {
            return None;
        }
        at += 1;
    }
    while let Some(byte) = content.get(at) {
        text[len] = *byte;
        at += 1;
        len += 1;
        if *byte == b'\\' {
            if content.get(at) != Some(byte) {
                return None;
            }
            at += 1;
        }
    }
    Some(len)
}

/// Whether `content` has a backslash; `None` if a backslash is not one of two, or if it has a quote or anything
/// else than printable ASCII.
pub fn has_escaped_backslashes(content: &[u8]) -> Option<bool> {
    let (mut all_backslashes, mut is_second) = (0, false);
    let (blocks, rest) = content.as_chunks();
    // It ends in a blank, so that no pair of backslashes goes on behind it.
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for block in blocks.iter().chain([&last]) {
        let bytes = u8x32::new(*block);
        let is_printable = bytes.max(u8x32::splat(b' ')).min(u8x32::splat(0x7f)).simd_eq(bytes);
        if !(is_printable & bytes.simd_ne(u8x32::splat(b'"'))).all() {
            return None;
        }
        let mut backslashes = mask(bytes, b'\\');
        all_backslashes |= backslashes;
        if is_second {
            is_second = false;
            if backslashes & 1 == 0 {
                return None;
            }
            backslashes &= !1;
        }
        while backslashes != 0 {
            let first = backslashes & backslashes.wrapping_neg();
            let second = first << 1;
            is_second = second == 0;
            if backslashes & second != second {
                return None;
            }
            backslashes &= !(first | second);
        }
    }
    Some(all_backslashes != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn comparing_and_searching_are_as_a_byte_at_a_time(
            text in proptest::collection::vec(proptest::sample::select(vec![b'a', b'"', b'\\', b'\x80', b'!', b'#']), 0..200),
            cut in 0_usize..200,
            change in 0_usize..200,
        ) {
            let cut = cut.min(text.len());
            let mut other = text.clone();
            if let Some(byte) = other.get_mut(change) { *byte ^= 1 }
            proptest::prop_assert!(Prefix::new(&text[..cut]).begins(&text));
            proptest::prop_assert_eq!(Prefix::new(&other[..cut]).begins(&text), text.starts_with(&other[..cut]));
            proptest::prop_assert!(!Prefix::new(&[&text[..cut], b"b"].concat()).begins(&text[..cut]));
            proptest::prop_assert_eq!(begins_alike(&text, &other, cut), text.starts_with(&other[..cut]));
            let num_alike = text.iter().zip(&other).take_while(|(one, other)| one == other).count();
            proptest::prop_assert_eq!(common_len(&text, &other, usize::MAX), num_alike);
            let common = common_len(&text, &other, cut);
            proptest::prop_assert!(common == num_alike || (cut..num_alike).contains(&common));
            let mut is_escaped = false;
            let end = text.iter().position(|byte| {
                let is_end = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            proptest::prop_assert_eq!(content_len(&text), end);
            let content = String::from_utf8_lossy(&text).replace('"', "");
            let content = content.as_bytes();
            let mut unescaped = vec![0; content.len() + ROOM_BYTES];
            let len = unescape_backslashes(content, &mut unescaped);
            let is_alone = content.split(|byte| *byte != b'\\').any(|backslashes| backslashes.len() % 2 == 1);
            proptest::prop_assert_eq!(len.is_none(), is_alone);
            if let Some(len) = len {
                let expected = String::from_utf8_lossy(content).replace(r"\\", r"\");
                proptest::prop_assert_eq!(&unescaped[..len], expected.as_bytes());
            }
        }

        #[test]
        fn paths_are_looked_at_as_a_byte_at_a_time(
            pieces in proptest::collection::vec(proptest::sample::select(vec!["C:", r"\\", "Program Files", "x"]), 0..60),
            odd in proptest::option::of(proptest::sample::select(vec![r"\", "\"", "\x1f", "\u{7f}", "\u{80}"])),
            place in 0_usize..60,
        ) {
            let mut pieces = pieces;
            pieces.extend(odd);
            let last = pieces.len().saturating_sub(1);
            if last > 0 {
                pieces.swap(last, place.min(last));
            }
            let path = pieces.concat();
            let is_alone = path.split(|byte| byte != '\\').any(|backslashes| backslashes.len() % 2 == 1);
            let is_plain = !is_alone && path.bytes().all(|byte| matches!(byte, b' '..=0x7f) && byte != b'"');
            let expected = is_plain.then(|| path.contains('\\'));
            proptest::prop_assert_eq!(has_escaped_backslashes(path.as_bytes()), expected);
        }
    }
}
