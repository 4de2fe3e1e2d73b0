//! Uploads in parts, which a store shows only once they are completed.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use sha2::{Digest, Sha256};

use super::{MAX_ATTEMPTS, REQUESTS_IN_FLIGHT, Store, pause, store_error};
use crate::lake::error::{LakeError, io_error};

/// Bytes of a part of an upload: all stores take at least 5 MiB, and all parts but the last alike.
const PART_BYTES: u64 = 8 << 20;

/// Parts of one upload, at most: S3 takes no more.
const MAX_PARTS: u64 = 10_000;

/// Parts in flight, at most: more are no faster. By then row groups are written and gone.
const MAX_PARTS_IN_FLIGHT: u64 = 8;
/// How often a transfer looks whether it was told to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// A file on its way into the store, invisible until completed.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Where it will be.
    pub path: PathBuf,
    /// How the store calls it.
    pub id: String,
    /// How the store calls its parts, once they are there.
    pub parts: Vec<String>,
    /// Size of the whole.
    pub bytes: u64,
    /// Digest of the whole, if other runs use the same name: then an object there proves nothing.
    pub sha256: Option<String>,
}

/// Why an upload was not completed.
#[derive(Debug)]
pub(crate) struct IncompleteError {
    pub error: LakeError,
    /// Whether the store does not have the upload any more, so that no one can complete it.
    pub is_gone: bool,
}

impl Store {
    /// Begins an upload for each of `files`, a path and its size.
    pub(crate) fn begin(&self, files: Vec<(PathBuf, u64)>) -> Result<Vec<Upload>, LakeError> {
        self.each(files.into_iter().map(|(path, bytes)| async move {
            let id = self.objects.multipart.create_multipart(&self.key(&path)?).await;
            let id = id.map_err(store_error("begin", &path))?;
            Ok(Upload { path, id, parts: Vec::new(), bytes, sha256: None })
        }))
    }

    /// Sends all parts of `uploads`, each from its file in `sources`. `on_bytes` is told the bytes that are
    /// through and all bytes, part by part.
    pub(crate) fn send(
        &self,
        uploads: &mut [Upload],
        sources: &[File],
        on_bytes: &dyn Fn(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), LakeError> {
        let total_bytes = uploads.iter().map(|upload| upload.bytes).sum();
        let mut done_bytes = 0;
        on_bytes(done_bytes, total_bytes);
        let mut parts = Vec::new();
        for (index, upload) in uploads.iter_mut().enumerate() {
            let part_bytes = part_bytes(upload.bytes);
            let num_parts = upload.bytes.div_ceil(part_bytes).max(1);
            upload.parts = vec![String::new(); usize::try_from(num_parts).unwrap_or(usize::MAX)];
            parts.extend((0..num_parts).map(|part| (index, part, part * part_bytes)));
        }
        let shared: &[Upload] = uploads;
        let sent = parts.into_iter().map(|(index, part, start)| async move {
            let (upload, source) = (&shared[index], &sources[index]);
            let num_bytes = part_bytes(upload.bytes).min(upload.bytes - start);
            let source = source.try_clone().map_err(io_error("read", &upload.path))?;
            let id = self.send_part(upload, source, part, start, num_bytes).await?;
            Ok::<_, LakeError>((index, part, num_bytes, id))
        });
        let largest = shared.iter().map(|upload| part_bytes(upload.bytes)).max().unwrap_or(PART_BYTES);
        let num_in_flight = (self.upload_bytes / largest).clamp(1, MAX_PARTS_IN_FLIGHT);
        let num_in_flight = usize::try_from(num_in_flight).expect("a handful");
        let mut done = Vec::new();
        self.block_on(async {
            let mut sent = std::pin::pin!(stream::iter(sent).buffer_unordered(num_in_flight));
            let mut ticks = tokio::time::interval(CANCEL_POLL);
            loop {
                tokio::select! {
                    part = sent.next() => match part.transpose()? {
                        Some((index, part, num_bytes, id)) => {
                            done_bytes += num_bytes;
                            on_bytes(done_bytes, total_bytes);
                            done.push((index, part, id));
                        }
                        None => return Ok(()),
                    },
                    _ = ticks.tick() => if cancelled() {
                        return Err(LakeError::Cancelled { path: self.root.clone() });
                    },
                }
            }
        })?;
        for (index, part, id) in done {
            uploads[index].parts[usize::try_from(part).expect("an index of the list")] = id;
        }
        Ok(())
    }

    async fn send_part(
        &self,
        upload: &Upload,
        source: File,
        part: u64,
        start: u64,
        num_bytes: u64,
    ) -> Result<String, LakeError> {
        let read = move || {
            let mut bytes = vec![0; usize::try_from(num_bytes).map_err(io::Error::other)?];
            source.read_exact_at(&mut bytes, start)?;
            Ok(Bytes::from(bytes))
        };
        let read =
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let bytes = read.map_err(io_error("read what is staged for", &upload.path))?;
        let key = self.key(&upload.path)?;
        let index = usize::try_from(part).expect("below the most of an upload");
        let sent = self.objects.multipart.put_part(&key, &upload.id, index, bytes.into()).await;
        Ok(sent.map_err(store_error("write", &upload.path))?.content_id)
    }

    /// Makes whole files of uploads, and visible; all that can be. One that is there by an earlier attempt is
    /// well.
    pub(crate) fn complete(&self, uploads: &[Upload]) -> Result<(), IncompleteError> {
        let requests = uploads.iter().map(|upload| self.complete_one(upload));
        let results: Vec<_> = self.block_on(stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).collect());
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        let is_gone = failed.iter().any(|failure: &IncompleteError| failure.is_gone);
        match failed.into_iter().max_by_key(|failure| failure.is_gone) {
            Some(failure) => Err(IncompleteError { is_gone, ..failure }),
            None => Ok(()),
        }
    }

    async fn complete_one(&self, upload: &Upload) -> Result<(), IncompleteError> {
        let failed = |error| IncompleteError { error, is_gone: false };
        let key = self.key(&upload.path).map_err(failed)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let parts = upload.parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
            let completed = self.objects.multipart.complete_multipart(&key, &upload.id, parts).await;
            let Err(error) = completed.map_err(store_error("complete", &upload.path)) else { return Ok(()) };
            if error.is_transient() && attempts < MAX_ATTEMPTS {
                pause(attempts).await;
                continue;
            }
            // No such upload any more, each store in its words: an answer was lost, or it was a run before.
            return match self.is_whole(&key, upload).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(IncompleteError { is_gone: error.is_refused(), error }),
                Err(_) => Err(failed(error)),
            };
        }
    }

    /// Whether an upload's object is in its place.
    async fn is_whole(&self, key: &Key, upload: &Upload) -> object_store::Result<bool> {
        match self.objects.whole.head(key).await {
            Ok(found) if found.size == upload.bytes => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let Some(sha256) = &upload.sha256 else { return Ok(true) };
        let mut digest = Sha256::new();
        let mut bytes = self.objects.whole.get(key).await?.into_stream();
        while let Some(some) = bytes.try_next().await? {
            digest.update(&some);
        }
        Ok(crate::digest::hex(&digest.finalize()) == *sha256)
    }

    /// Gives uploads up. What the store cannot drop by itself it drops in time, and shows to nobody.
    pub(crate) fn abort(&self, uploads: &[Upload]) -> Result<(), LakeError> {
        self.each(uploads.iter().map(|upload| async move {
            let key = self.key(&upload.path)?;
            let aborted = self.objects.multipart.abort_multipart(&key, &upload.id).await;
            // Completed or given up before, in the words of each store.
            match aborted.map_err(store_error("give up", &upload.path)) {
                Err(error) if error.is_transient() => Err(error),
                _ => Ok(()),
            }
        }))
        .map(|_| ())
    }

    /// Carries out requests, several at a time.
    fn each<T>(
        &self,
        requests: impl Iterator<Item = impl Future<Output = Result<T, LakeError>>>,
    ) -> Result<Vec<T>, LakeError> {
        self.block_on(stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).try_collect())
    }
}

/// All parts of an upload have this size, but the last.
fn part_bytes(bytes: u64) -> u64 {
    PART_BYTES.max(bytes.div_ceil(MAX_PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::Place;
    use crate::lake::lease_times::LeaseTimes;
    use crate::lake::local;
    use crate::lake::store::faulty::Faulty;

    #[test]
    fn upload_of_several_parts_is_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let faulty = Faulty::new();
        let lake = faulty.lake(temp.path(), LeaseTimes::IMPATIENT);
        let table = lake.table(schema::DATASETS[0]);
        let Place::Store(store) = table.place() else { panic!("it is one") };
        let bytes: Vec<u8> = (0..251).cycle().take(usize::try_from(2 * PART_BYTES + 1).unwrap()).collect();
        std::fs::write(temp.path().join("staged"), &bytes).unwrap();
        let source = File::open(temp.path().join("staged")).unwrap();
        let path = store.root().join("table/file");
        let mut uploads = store.begin(vec![(path.clone(), bytes.len() as u64)]).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        store
            .send(&mut uploads, &[source], &|done, total| told.borrow_mut().push((done, total)), &|| false)
            .unwrap();
        assert_eq!(uploads[0].parts.len(), 3);
        assert_eq!(told.borrow().len(), 4);
        assert_eq!(told.borrow().last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
        assert!(faulty.picture().is_empty(), "nobody sees it");
        store.complete(&uploads).unwrap();
        assert!(faulty.picture()["some/lake/table/file"] == bytes);
        store.complete(&uploads).unwrap();
        let mut fetched = Vec::new();
        io::Read::read_to_end(&mut store.fetch(&path).unwrap(), &mut fetched).unwrap();
        assert!(fetched == bytes);
        assert_eq!(local::list_names(temp.path()).unwrap(), ["staged"], "what was fetched has no name");
    }

    #[test]
    fn large_files_have_larger_parts() {
        assert_eq!(part_bytes(0), PART_BYTES);
        assert_eq!(part_bytes(PART_BYTES * MAX_PARTS), PART_BYTES);
        let terabyte = 1 << 40;
        assert!(part_bytes(terabyte) * MAX_PARTS >= terabyte);
        assert!(terabyte.div_ceil(part_bytes(terabyte)) <= MAX_PARTS);
    }
}
