//! Takes texts of rows that stay in their order; gives their pages, before their row group is complete.
//!
//! Long texts that do not repeat need no dictionary, and so no other row: compressed at once they are neither copied from
//! buffer to buffer nor held in memory until their row group has all its rows.

use arrow_buffer::NullBuffer;
use bytes::Bytes;

use super::byte_array::{LEN_BYTES, push};
use super::column_chunk::PageCompressor;
use super::levels::{Levels, Page};
use super::properties::{MAX_PAGE_BYTES, MAX_PAGE_ROWS};
use crate::rows::EarlyPage;

/// Encodes pages with the same buffers.
pub(crate) struct EarlyEncoder {
    compressor: PageCompressor,
}

impl std::fmt::Debug for EarlyEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyEncoder").finish_non_exhaustive()
    }
}

impl EarlyEncoder {
    pub(crate) fn new() -> Self {
        Self { compressor: PageCompressor::for_long_texts() }
    }

    /// Encodes texts, some perhaps null, as pages of about the same size, each of them larger than [`MAX_PAGE_BYTES`] and
    /// less than twice as large, if there is so much text.
    pub(crate) fn encode(&mut self, texts: &[Option<&[u8]>]) -> Vec<EarlyPage> {
        let len = |text: Option<&[u8]>| LEN_BYTES + text.map_or(0, <[u8]>::len);
        let all_bytes: usize = texts.iter().copied().map(len).sum();
        let page_bytes = all_bytes / (all_bytes / MAX_PAGE_BYTES).max(1);
        let mut pages = Vec::new();
        let (mut start, mut num_bytes) = (0, 0);
        for (row, text) in texts.iter().enumerate() {
            if num_bytes >= page_bytes || row - start == MAX_PAGE_ROWS {
                pages.push(self.page(&texts[start..row]));
                (start, num_bytes) = (row, 0);
            }
            num_bytes += len(*text);
        }
        if start < texts.len() {
            pages.push(self.page(&texts[start..]));
        }
        pages
    }

    fn page(&mut self, texts: &[Option<&[u8]>]) -> EarlyPage {
        let nulls: NullBuffer = texts.iter().map(Option::is_some).collect();
        let page = Page {
            num_rows: texts.len(),
            levels: 0..texts.len(),
            values: 0..texts.len() - nulls.null_count(),
        };
        let content = self.compressor.compress(|out| {
            Levels::Optional(Some(&nulls)).encode(&page, out);
            texts.iter().flatten().for_each(|text| push(text, out));
        });
        EarlyPage {
            content: Bytes::copy_from_slice(content.bytes),
            uncompressed_bytes: content.uncompressed_bytes,
            num_rows: page.num_rows,
            num_nulls: page.num_nulls(),
            num_text_bytes: texts.iter().flatten().map(|text| text.len()).sum(),
        }
    }
}
