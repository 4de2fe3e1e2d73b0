//! A pool of memory, in bytes: threads reserve what they need, and wait until it is free.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Returns the memory that a row group takes while it is encoded, if its columns hold `columns_bytes`: the columns, the
/// longest of them in its new order, a page before and after compression, and the pages that no file has yet.
pub fn encode_cost(columns_bytes: usize) -> usize {
    columns_bytes.saturating_mul(3)
}

/// A number of bytes that threads may reserve together; a reservation waits until enough are free.
#[derive(Debug, Clone)]
pub struct MemoryPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Reserved bytes, freed on drop.
#[derive(Debug)]
#[must_use = "a reservation is freed on drop"]
pub struct Reservation {
    pool: MemoryPool,
    bytes: usize,
}

impl MemoryPool {
    /// Starts with all of `capacity` free.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared { capacity, free: Mutex::new(capacity), freed: Condvar::new() }))
    }

    /// Reserves `bytes`, waiting until they are free. More than the capacity counts as all of it.
    pub fn take(&self, bytes: usize) -> Reservation {
        let Shared { capacity, free, freed } = &*self.0;
        let bytes = bytes.min(*capacity);
        let guard = free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = freed.wait_while(guard, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *guard -= bytes;
        Reservation { pool: self.clone(), bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Shared { free, freed, .. } = &*self.pool.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn bytes_are_reserved_once_and_all_get_theirs() {
        let pool = MemoryPool::new(10);
        let (in_use, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let take = || {
            let mut sum = 0;
            while let bytes @ 1..200 = next.fetch_add(1, Ordering::SeqCst) + 1 {
                let taken = pool.take(bytes % 13);
                let counted = (bytes % 13).min(10);
                assert!(in_use.fetch_add(counted, Ordering::SeqCst) + counted <= 10);
                in_use.fetch_sub(counted, Ordering::SeqCst);
                drop(taken);
                sum += 1;
            }
            sum
        };
        let taken = std::thread::scope(|scope| {
            [(); 4].map(|()| scope.spawn(take)).map(|thread| thread.join().unwrap())
        });
        assert_eq!(taken.iter().sum::<usize>(), 199);
        drop(pool.take(usize::MAX));
    }
}
