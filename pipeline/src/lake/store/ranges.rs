//! Fetches ranges of objects into local files, several at a time.
//!
//! Takes objects with their ranges; writes each range at its own offset. What is not fetched stays a hole of the
//! file, which takes no space on the disk. Never reads an object that it was not asked for.

use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::GetOptions;

use super::{Store, store_error};
use crate::cancel::Cancel;
use crate::lake::error::{LakeError, io_error};

/// Requests in flight, at most: as many as downloads of `ingest`, for the same reason.
const FETCHES_IN_FLIGHT: usize = 8;

/// Bytes of a request, at most, so that one large file is fetched by several.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

/// Bytes between two ranges that are fetched with them, at most: cheaper than a request of their own.
const MAX_GAP_BYTES: u64 = 1 << 20;

/// Ranges of an object and the local file that takes them.
#[derive(Debug)]
pub(crate) struct ObjectRanges<'a> {
    /// The object, by its path in the lake.
    pub(crate) path: &'a Path,
    /// In any order.
    pub(crate) ranges: Vec<Range<u64>>,
    /// The file's path. It is created if it does not exist, and keeps its other bytes.
    pub(crate) to: &'a Path,
}

impl Store {
    /// Fetches all ranges, each at its own offset.
    ///
    /// # Errors
    ///
    /// The first range that cannot be read or written, or an interruption.
    pub(crate) fn fetch_ranges(
        &self,
        objects: &[ObjectRanges<'_>],
        cancel: &Cancel,
    ) -> Result<(), LakeError> {
        let requests = objects
            .iter()
            .flat_map(|object| coalesce(object.ranges.clone()).into_iter().map(move |range| (object, range)));
        let fetches = requests.map(|(object, range)| async move {
            let (path, key) = (object.path, self.key(object.path)?);
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(object.to).map_err(io_error("create", object.to))?;
            let wanted = GetOptions::new().with_range(Some(range.clone()));
            let got = self.objects.whole.get_opts(&key, wanted).await.map_err(store_error("read", path))?;
            let mut offset = range.start;
            let mut bytes = got.into_stream();
            while let Some(some) = bytes.try_next().await.map_err(store_error("read", path))? {
                if cancel.is_cancelled() {
                    return Err(LakeError::Cancelled { path: path.to_path_buf() });
                }
                file.write_all_at(&some, offset).map_err(io_error("write", object.to))?;
                offset += some.len() as u64;
            }
            Ok(())
        });
        self.block_on(stream::iter(fetches).buffer_unordered(FETCHES_IN_FLIGHT).try_collect())
    }
}

/// Returns the ranges of requests that cover `ranges`, as [`Store::fetch_ranges`] makes them.
pub(crate) fn coalesce(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(MAX_GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => runs.push(range),
        }
    }
    let mut requests = Vec::new();
    for run in runs {
        let mut start = run.start;
        while start < run.end {
            let end = run.end.min(start.saturating_add(MAX_REQUEST_BYTES));
            requests.push(start..end);
            start = end;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_one_request_and_large_ones_several() {
        let check = |ranges: &[(u64, u64)], expected: &[(u64, u64)]| {
            let requests = coalesce(ranges.iter().map(|(start, end)| *start..*end).collect());
            let found: Vec<_> = requests.into_iter().map(|range| (range.start, range.end)).collect();
            assert_eq!(found, expected);
        };
        check(&[], &[]);
        check(&[(5, 5)], &[]);
        check(&[(10, 20), (0, 5)], &[(0, 20)]);
        check(&[(0, 5), (2, 4)], &[(0, 5)]);
        let far = 5 + MAX_GAP_BYTES;
        check(&[(0, 5), (far, far + 1)], &[(0, far + 1)]);
        check(&[(0, 5), (far + 1, far + 2)], &[(0, 5), (far + 1, far + 2)]);
        let two = MAX_REQUEST_BYTES + 7;
        check(&[(0, two)], &[(0, MAX_REQUEST_BYTES), (MAX_REQUEST_BYTES, two)]);
    }
}
