//! An unreliable connection to a store: requests are cut, answered with 503, or slow, chosen by a seed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A proxy in front of a port, until dropped.
pub struct FaultProxy {
    pub port: u16,
    is_stopped: Arc<AtomicBool>,
    num_faults: Arc<AtomicU32>,
}

/// What happens to one connection.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Whole,
    /// Cut when so many bytes have come from the store.
    CutAnswer(usize),
    /// Cut when so many bytes have gone to the store.
    CutRequest(usize),
    Unavailable,
    Slow,
}

impl FaultProxy {
    pub fn start(to: u16, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_stopped, num_faults) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, faults) = (is_stopped.clone(), num_faults.clone());
        std::thread::spawn(move || {
            let mut random = Pcg32::seed_from_u64(seed);
            for client in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), Ok(store)) = (client, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                let size = (random.next_u32() % 4000) as usize;
                let fate = match random.next_u32() % 10 {
                    0 => Fate::CutAnswer(size),
                    1 => Fate::CutRequest(size),
                    2 => Fate::Unavailable,
                    3 => Fate::Slow,
                    _ => Fate::Whole,
                };
                faults.fetch_add(u32::from(!matches!(fate, Fate::Whole)), Ordering::Relaxed);
                std::thread::spawn(move || connect(client, store, fate));
            }
        });
        Self { port, is_stopped, num_faults }
    }

    /// Connections that something happened to.
    pub fn num_faults(&self) -> u32 {
        self.num_faults.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn connect(mut client: TcpStream, store: TcpStream, fate: Fate) {
    if let Fate::Unavailable = fate {
        let mut head = [0; 16 << 10];
        let _ = client.read(&mut head);
        let _ = client.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = client.shutdown(Shutdown::Write);
        // What is still on its way is taken, else the answer is lost with it.
        while client.read(&mut head).is_ok_and(|num_read| num_read > 0) {}
        return;
    }
    let (Ok(from_client), Ok(to_store)) = (client.try_clone(), store.try_clone()) else { return };
    std::thread::spawn(move || {
        let limit = if let Fate::CutRequest(limit) = fate { limit } else { usize::MAX };
        copy(from_client, to_store, limit, Duration::ZERO);
    });
    let limit = if let Fate::CutAnswer(limit) = fate { limit } else { usize::MAX };
    let pause = Duration::from_millis(if let Fate::Slow = fate { 20 } else { 0 });
    copy(store, client, limit, pause);
}

/// Copies until the end or the limit, and then cuts both.
fn copy(mut from: TcpStream, mut to: TcpStream, limit: usize, pause: Duration) {
    let mut buffer = [0; 16 << 10];
    let mut num_copied = 0;
    while let Ok(num_read) = from.read(&mut buffer) {
        let num_passed = num_read.min(limit - num_copied);
        if num_read == 0 || to.write_all(&buffer[..num_passed]).is_err() || num_passed < num_read {
            break;
        }
        num_copied += num_read;
        std::thread::sleep(pause);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
