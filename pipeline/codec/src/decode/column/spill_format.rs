//! The numbers and bytes that columns are written as. What repeats is written once: less is copied to the system and back.

use crate::byte_search::common_len;

/// How words are written.
const RUNS: u32 = 0;
const HALF_WORDS: u32 = 1;
const WORDS: u32 = 2;

pub(super) fn put(number: usize, out: &mut Vec<u8>) {
    let number = u32::try_from(number).expect("a row group is far smaller");
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends words: runs of equal ones, or all, as 16 bits each if that is enough but for [`u32::MAX`].
pub(super) fn put_words(words: &[u32], out: &mut Vec<u8>) {
    put(words.len(), out);
    let num_runs = words.windows(2).filter(|two| two[0] != two[1]).count() + 1;
    let are_halves = words.iter().all(|word| word.wrapping_add(1) < u32::from(u16::MAX));
    if 2 * num_runs < words.len() / if are_halves { 2 } else { 1 } {
        put(RUNS as usize, out);
        for run in words.chunk_by(|word, next| word == next) {
            out.extend_from_slice(&run[0].to_le_bytes());
            put(run.len(), out);
        }
    } else if are_halves {
        put(HALF_WORDS as usize, out);
        out.extend(words.iter().flat_map(|word| low_half(*word).to_le_bytes()));
    } else {
        put(WORDS as usize, out);
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "all ones stay all ones, others are small")]
fn low_half(word: u32) -> u16 {
    word as u16
}

/// Appends texts, of each what it does not begin with as the one before does.
pub(super) fn put_texts<'t>(num_texts: usize, texts: impl Iterator<Item = &'t [u8]>, out: &mut Vec<u8>) {
    put(num_texts, out);
    let mut last: &[u8] = &[];
    for text in texts {
        let num_same = common_len(text, last, usize::MAX);
        put(num_same, out);
        put(text.len() - num_same, out);
        out.extend_from_slice(&text[num_same..]);
        last = text;
    }
}

/// Bytes that are being read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> &'a [u8; LEN] {
        self.take(LEN).try_into().expect("as many as were taken")
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from_le_bytes(*self.array())
    }

    pub(super) fn number(&mut self) -> usize {
        self.word() as usize
    }

    /// Reads words that [`put_words`] wrote.
    pub(super) fn words(&mut self) -> Vec<u32> {
        let num_words = self.number();
        let mut words = Vec::with_capacity(num_words);
        match self.word() {
            RUNS => {
                while words.len() < num_words {
                    let word = self.word();
                    words.extend(std::iter::repeat_n(word, self.number()));
                }
            }
            HALF_WORDS => {
                let halves = self.take(num_words * size_of::<u16>()).as_chunks().0.iter();
                words.extend(halves.map(|half| match u16::from_le_bytes(*half) {
                    u16::MAX => u32::MAX,
                    half => u32::from(half),
                }));
            }
            _ => {
                let all = self.take(num_words * size_of::<u32>()).as_chunks().0.iter();
                words.extend(all.map(|word| u32::from_le_bytes(*word)));
            }
        }
        words
    }

    /// Reads texts that [`put_texts`] wrote, and gives each to `take`; returns how many they are.
    pub(super) fn texts(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let num_texts = self.number();
        let mut text = Vec::new();
        for _ in 0..num_texts {
            text.truncate(self.number());
            let len = self.number();
            text.extend_from_slice(self.take(len));
            take(&text);
        }
        num_texts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_and_texts_come_back(
            runs in prop::collection::vec((prop_oneof![0_u32..5, Just(u32::MAX), 65_530_u32..65_540, any::<u32>()], 0_usize..9), 0..40),
            are_small in any::<bool>(),
            texts in prop::collection::vec("[ab]{0,70}", 0..9),
        ) {
            let is_taken = |(word, _): &&(u32, usize)| !are_small || *word < 65_534;
            let words: Vec<u32> = runs.iter().filter(is_taken).flat_map(|(word, len)| std::iter::repeat_n(*word, *len)).collect();
            let mut out = Vec::new();
            put_words(&words, &mut out);
            put_texts(texts.len(), texts.iter().map(String::as_bytes), &mut out);
            let mut bytes = Bytes(&out);
            prop_assert_eq!(bytes.words(), words);
            let mut found = Vec::new();
            prop_assert_eq!(bytes.texts(|text| found.push(text.to_vec())), texts.len());
            prop_assert!(found.iter().eq(texts.iter().map(String::as_bytes)) && bytes.0.is_empty());
        }
    }
}
