//! Takes booleans; gives a column chunk, a bit each.

use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;

use super::column_chunk::ChunkWriter;
use super::levels::{Levels, Page};

/// Encodes a column chunk of `values`, none of them null.
pub(super) fn encode(
    values: &[bool],
    levels: Levels<'_>,
    pages: &[Page],
    mut chunk: ChunkWriter<'_, bool>,
) -> Result<ColumnCloseResult, ParquetError> {
    for page in pages {
        let values = &values[page.values.clone()];
        let range = (!values.is_empty()).then(|| (!values.contains(&false), values.contains(&true)));
        chunk.data_page(page, levels, range, 0, Encoding::PLAIN, |out| {
            let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
            out.extend(values.chunks(8).map(byte));
        })?;
    }
    chunk.finish(None)
}
