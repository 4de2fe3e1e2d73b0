//! The numbers and bytes that columns are written as.

pub(super) fn put(number: usize, out: &mut Vec<u8>) {
    let number = u32::try_from(number).expect("a row group is far smaller");
    out.extend_from_slice(&number.to_le_bytes());
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
}
