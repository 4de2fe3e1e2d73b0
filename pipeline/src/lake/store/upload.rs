//! Multipart uploads, which a store shows only once they are completed.

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
use crate::lake::error::{LakeError, io_error, optional};

/// Size of a chunk: all stores require at least 5 MiB, and the same size for all chunks but the last.
const CHUNK_BYTES: u64 = 8 << 20;

/// Maximum number of chunks of an upload: the limit of S3.
const MAX_CHUNKS: u64 = 10_000;

/// Maximum number of chunks in flight: more are not faster. Row groups no longer take memory at that time.
const MAX_CHUNKS_IN_FLIGHT: u64 = 8;

/// How often a transfer checks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// A file being uploaded, invisible until completed.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Path of the object.
    pub path: PathBuf,
    /// The store's id of the upload.
    pub id: String,
    /// The store's ids of the chunks, once they are sent.
    pub chunks: Vec<String>,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file if other runs upload to the same path, where an object of the same size proves nothing.
    pub sha256: Option<String>,
}

/// Why an upload was not completed.
#[derive(Debug)]
pub(crate) struct IncompleteError {
    pub error: LakeError,
    /// Whether the store no longer knows the upload, so that it can never be completed.
    pub is_gone: bool,
}

impl Store {
    /// Starts an upload for each of `files`, a path and its size; if one fails, aborts the others.
    pub(crate) fn begin(&self, files: Vec<(PathBuf, u64)>) -> Result<Vec<Upload>, LakeError> {
        let requests = files.into_iter().map(|(path, bytes)| async move {
            let id = self.objects.multipart.create_multipart(&self.key(&path)?).await;
            let id = id.map_err(store_error("start the upload of", &path))?;
            Ok(Upload { path, id, chunks: Vec::new(), bytes, sha256: None })
        });
        let begun: Vec<Result<_, LakeError>> =
            self.block_on(stream::iter(requests).buffered(REQUESTS_IN_FLIGHT).collect());
        let (mut uploads, mut failure) = (Vec::new(), None);
        for one in begun {
            match one {
                Ok(upload) => uploads.push(upload),
                Err(error) => failure = Some(error),
            }
        }
        let Some(failure) = failure else { return Ok(uploads) };
        // Best effort: no journal names them yet, and without bytes they cost nothing.
        let _ = self.abort(&uploads);
        Err(failure)
    }

    /// Sends all chunks of `uploads`, each from its file in `sources`. Calls `on_bytes` with the bytes sent and all
    /// bytes, after every chunk.
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
        let mut chunks = Vec::new();
        for (index, upload) in uploads.iter_mut().enumerate() {
            let chunk_bytes = chunk_bytes(upload.bytes);
            let num_chunks = upload.bytes.div_ceil(chunk_bytes).max(1);
            upload.chunks = vec![String::new(); usize::try_from(num_chunks).unwrap_or(usize::MAX)];
            chunks.extend((0..num_chunks).map(|chunk| (index, chunk, chunk * chunk_bytes)));
        }
        let shared: &[Upload] = uploads;
        let sent = chunks.into_iter().map(|(index, chunk, start)| async move {
            let (upload, source) = (&shared[index], &sources[index]);
            let num_bytes = chunk_bytes(upload.bytes).min(upload.bytes - start);
            let source = source.try_clone().map_err(io_error("read", &upload.path))?;
            let id = self.send_chunk(upload, source, chunk, start, num_bytes).await?;
            Ok::<_, LakeError>((index, chunk, num_bytes, id))
        });
        let largest = shared.iter().map(|upload| chunk_bytes(upload.bytes)).max().unwrap_or(CHUNK_BYTES);
        let num_in_flight = (self.upload_bytes / largest).clamp(1, MAX_CHUNKS_IN_FLIGHT);
        let num_in_flight = usize::try_from(num_in_flight).expect("a handful");
        let mut done = Vec::new();
        let stopped = || LakeError::Cancelled { path: self.root.clone() };
        // The first tick may come after a small file is sent.
        if cancelled() {
            return Err(stopped());
        }
        self.block_on(async {
            let mut sent = std::pin::pin!(stream::iter(sent).buffer_unordered(num_in_flight));
            let mut ticks = tokio::time::interval(CANCEL_POLL);
            loop {
                tokio::select! {
                    biased;
                    _ = ticks.tick() => if cancelled() {
                        return Err(stopped());
                    },
                    chunk = sent.next() => match chunk.transpose()? {
                        Some((index, chunk, num_bytes, id)) => {
                            done_bytes += num_bytes;
                            on_bytes(done_bytes, total_bytes);
                            done.push((index, chunk, id));
                        }
                        None => return Ok(()),
                    },
                }
            }
        })?;
        for (index, chunk, id) in done {
            uploads[index].chunks[usize::try_from(chunk).expect("an index of the list")] = id;
        }
        Ok(())
    }

    async fn send_chunk(
        &self,
        upload: &Upload,
        source: File,
        chunk: u64,
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
        let bytes = read.map_err(io_error("read the staged file of", &upload.path))?;
        let key = self.key(&upload.path)?;
        let index = usize::try_from(chunk).expect("at most MAX_CHUNKS");
        let sent = self.objects.multipart.put_part(&key, &upload.id, index, bytes.into()).await;
        Ok(sent.map_err(store_error("write", &upload.path))?.content_id)
    }

    /// Completes uploads, which makes their objects visible; tries all of them even if some fail. An upload that an
    /// earlier attempt has completed counts as completed.
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
            let chunks = upload.chunks.iter().map(|id| PartId { content_id: id.clone() }).collect();
            let completed = self.objects.multipart.complete_multipart(&key, &upload.id, chunks).await;
            let Err(error) = completed.map_err(store_error("complete", &upload.path)) else { return Ok(()) };
            if error.is_transient() && attempts < MAX_ATTEMPTS {
                pause(attempts).await;
                continue;
            }
            // The store no longer knows the upload if a response was lost, or if another run has completed it.
            return match self.is_whole(&key, upload).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(IncompleteError { is_gone: error.is_refused(), error }),
                Err(_) => Err(failed(error)),
            };
        }
    }

    /// Whether an upload's object exists and is complete.
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

    /// Aborts uploads. What is completed stays.
    pub(crate) fn abort(&self, uploads: &[Upload]) -> Result<(), LakeError> {
        if self.objects.chunks_by_name {
            return self.drop_chunks(uploads);
        }
        self.each(uploads.iter().map(|upload| async move {
            let key = self.key(&upload.path)?;
            let aborted = self.objects.multipart.abort_multipart(&key, &upload.id).await;
            // Other errors mean that it was completed or aborted before.
            match aborted.map_err(store_error("abort", &upload.path)) {
                Err(error) if error.is_transient() => Err(error),
                _ => Ok(()),
            }
        }))
        .map(|_| ())
    }

    /// Drops the chunks of uploads that are not completed. Azure has no request for that, and keeps chunks for a week; it
    /// drops them if their blob is deleted, which has no other content and is visible to no reader. `AzCopy` does so too.
    fn drop_chunks(&self, uploads: &[Upload]) -> Result<(), LakeError> {
        let (shared, own): (Vec<_>, Vec<_>) = uploads.iter().partition(|upload| upload.sha256.is_some());
        // No request completes one after this: an upload that is aborted belongs to a change that is never decided.
        let uncommitted = self.each(own.iter().map(|upload| async {
            let found = self.objects.whole.head(&self.key(&upload.path)?).await;
            let found = optional(found.map_err(store_error("read", &upload.path)))?;
            Ok(found.is_none().then(|| upload.path.clone()))
        }))?;
        self.delete_all(&uncommitted.into_iter().flatten().collect::<Vec<_>>())?;
        // Other runs make objects of the same name: it is the store that must find none.
        self.each(shared.iter().map(|upload| async {
            let dropped = self.objects.delete_version.delete_chunks(&self.key(&upload.path)?).await;
            dropped.map_err(store_error("abort", &upload.path))
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

/// Returns the size of all chunks of an upload but the last.
fn chunk_bytes(bytes: u64) -> u64 {
    CHUNK_BYTES.max(bytes.div_ceil(MAX_CHUNKS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::Place;
    use crate::lake::lease_times::LeaseTimes;
    use crate::lake::local;
    use crate::lake::store::faulty::Faulty;

    #[test]
    fn upload_of_several_chunks_is_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let faulty = Faulty::new();
        let lake = faulty.lake(temp.path(), LeaseTimes::IMPATIENT);
        let table = lake.table(schema::DATASETS[0]);
        let Place::Store(store) = table.place() else { panic!("the lake is in a store") };
        let bytes: Vec<u8> = (0..251).cycle().take(usize::try_from(2 * CHUNK_BYTES + 1).unwrap()).collect();
        std::fs::write(temp.path().join("staged"), &bytes).unwrap();
        let source = File::open(temp.path().join("staged")).unwrap();
        let path = store.root().join("table/file");
        let mut uploads = store.begin(vec![(path.clone(), bytes.len() as u64)]).unwrap();
        let reported = std::cell::RefCell::new(Vec::new());
        store
            .send(&mut uploads, &[source], &|done, total| reported.borrow_mut().push((done, total)), &|| {
                false
            })
            .unwrap();
        assert_eq!(uploads[0].chunks.len(), 3);
        assert_eq!(reported.borrow().len(), 4);
        assert_eq!(reported.borrow().last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
        assert!(faulty.list_tree().is_empty(), "invisible until completed");
        store.complete(&uploads).unwrap();
        assert!(faulty.list_tree()["some/lake/table/file"] == bytes);
        store.complete(&uploads).unwrap();
        let mut fetched = Vec::new();
        io::Read::read_to_end(&mut store.fetch(&path).unwrap(), &mut fetched).unwrap();
        assert!(fetched == bytes);
        assert_eq!(local::list_names(temp.path()).unwrap(), ["staged"], "a fetched file has no name");
    }

    #[test]
    fn large_files_have_larger_chunks() {
        assert_eq!(chunk_bytes(0), CHUNK_BYTES);
        assert_eq!(chunk_bytes(CHUNK_BYTES * MAX_CHUNKS), CHUNK_BYTES);
        let terabyte = 1 << 40;
        assert!(chunk_bytes(terabyte) * MAX_CHUNKS >= terabyte);
        assert!(terabyte.div_ceil(chunk_bytes(terabyte)) <= MAX_CHUNKS);
    }
}
