//! Bytes of many texts, in chunks: what has been added never moves, and no more memory is held than
//! is used, but for the rest of a chunk.

/// Bytes of a chunk; only a longer text makes a longer one.
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 17;

/// Texts, one behind the other.
#[derive(Debug, Default)]
pub struct Arena {
    /// Each as full as texts allow that are not divided, none of them empty. The first grows, the
    /// others do not.
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    /// Adds a text; returns its place. The empty text takes none: any place is one of it, and a chunk
    /// that is exactly full has no other.
    ///
    /// # Panics
    ///
    /// Beyond 4 GiB.
    pub fn push(&mut self, text: &[u8]) -> usize {
        if text.is_empty() {
            return 0;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() + text.len() > CHUNK_BYTES) {
            let capacity = if self.chunks.is_empty() { text.len() } else { text.len().max(CHUNK_BYTES) };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let place = index << CHUNK_BITS | chunk.len();
        assert!(u32::try_from(place).is_ok(), "fewer than 4 GiB");
        chunk.extend_from_slice(text);
        place
    }

    /// Adds all texts of `other` behind those that there are.
    pub fn append(&mut self, mut other: Self) {
        self.chunks.append(&mut other.chunks);
    }

    /// The bytes from a place on: a text, and what may stand behind it.
    #[inline]
    pub fn at(&self, place: usize) -> &[u8] {
        match self.chunks.get(place >> CHUNK_BITS) {
            Some(chunk) => &chunk[place & (CHUNK_BYTES - 1)..],
            // The empty text alone has a place in no chunk.
            None => &[],
        }
    }

    /// All texts, in the order in which they were added, given the length of each.
    pub fn texts(&self, lens: impl Iterator<Item = usize>) -> impl Iterator<Item = &[u8]> {
        let mut chunks = self.chunks.iter();
        let mut rest: &[u8] = &[];
        lens.map(move |len| {
            if len > rest.len() {
                rest = chunks.next().expect("a text is whole in a chunk");
            }
            let (text, behind) = rest.split_at(len);
            rest = behind;
            text
        })
    }

    /// Each text as [`Self::texts`] has it, with the number of its chunk and where it begins there.
    pub fn places(&self, lens: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, usize, &[u8])> {
        let (mut chunk, mut start) = (0, 0);
        lens.map(move |len| {
            let fits = |chunk: &Vec<u8>| start + len <= chunk.len();
            // The empty text alone may be in no chunk.
            if len > 0 && !self.chunks.get(chunk).is_some_and(fits) {
                (chunk, start) = (chunk + 1, 0);
            }
            let text = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[start..][..len]);
            let place = (chunk, start, text);
            start += len;
            place
        })
    }

    /// Takes all texts in the chunks that [`Self::places`] numbers; none are left.
    pub fn take_chunks(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.chunks)
    }

    /// Memory held.
    pub fn num_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    /// Takes all texts, one behind the other; none are left.
    pub fn take(&mut self) -> Vec<u8> {
        let chunks = std::mem::take(&mut self.chunks);
        match <[_; 1]>::try_from(chunks) {
            Ok([chunk]) => chunk,
            Err(chunks) => {
                let mut texts = Vec::with_capacity(chunks.iter().map(Vec::len).sum());
                // Each is gone once it is copied: a column of long texts is not there twice.
                for chunk in chunks {
                    texts.extend_from_slice(&chunk);
                }
                texts
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(lens: &[usize]) {
        let texts: Vec<Vec<u8>> = (1..=255).cycle().zip(lens).map(|(byte, len)| vec![byte; *len]).collect();
        let mut arena = Arena::default();
        assert_eq!(arena.texts(std::iter::empty()).count(), 0);
        for _ in 0..2 {
            let places: Vec<usize> = texts.iter().map(|text| arena.push(text)).collect();
            for (text, place) in texts.iter().zip(places) {
                assert!(arena.at(place).starts_with(text), "{lens:?}");
            }
            assert!(arena.texts(lens.iter().copied()).eq(texts.iter().map(|text| &text[..])), "{lens:?}");
            let found: Vec<_> = arena.places(lens.iter().copied()).collect();
            assert!(
                found.iter().map(|(_, _, text)| *text).eq(texts.iter().map(|text| &text[..])),
                "{lens:?}"
            );
            for (chunk, start, text) in found {
                assert!(text.is_empty() || arena.chunks[chunk][start..].starts_with(text), "{lens:?}");
            }
            assert!(arena.num_bytes() >= texts.concat().len());
            assert_eq!(arena.take(), texts.concat());
            assert_eq!(arena.num_bytes(), 0);
        }
        let (mut one, mut other) = (Arena::default(), Arena::default());
        for (index, text) in texts.iter().enumerate() {
            let arena = if index < texts.len() / 2 { &mut one } else { &mut other };
            arena.push(text);
        }
        one.append(other);
        assert!(one.texts(lens.iter().copied()).eq(texts.iter().map(|text| &text[..])), "{lens:?}");
        assert_eq!(one.take(), texts.concat());
        arena.push(b"alone");
        assert_eq!(arena.take(), b"alone");
    }

    #[test]
    fn texts_come_back_whole() {
        check(&[0, 1, CHUNK_BYTES - 1, 0, 1, 3 * CHUNK_BYTES, 5, 0, CHUNK_BYTES, 0, 70_000, 70_000, 0]);
    }

    #[test]
    fn empty_texts_come_back_at_every_edge_of_a_chunk() {
        check(&[0]);
        check(&[0, 0, CHUNK_BYTES, 0]);
        check(&[CHUNK_BYTES, 0, CHUNK_BYTES, 0]);
        check(&[0, CHUNK_BYTES + 1, 0, CHUNK_BYTES + 1]);
        check(&[CHUNK_BYTES + 1, 0, CHUNK_BYTES + 1, 0, 1]);
        check(&[CHUNK_BYTES - 1, 1, 0, 1, CHUNK_BYTES - 1, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn texts_of_any_lengths_come_back_whole(
            lens in prop::collection::vec(
                prop_oneof![
                    3 => Just(0_usize),
                    1 => 1..4_usize,
                    1 => CHUNK_BYTES / 2 - 1..CHUNK_BYTES / 2 + 2,
                    2 => CHUNK_BYTES - 2..CHUNK_BYTES + 3,
                    1 => Just(2 * CHUNK_BYTES),
                ],
                0..12,
            ),
        ) {
            check(&lens);
        }
    }
}
