//! A connection to a store that stalls: everything is held from one request on, until it is released.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Longer than any run takes to get to the request.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// A proxy in front of a port. It lives as long as the test's process.
pub struct StallProxy {
    pub port: u16,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that are still to be let through before the connection stalls.
    num_before: usize,
    is_held: bool,
    is_released: bool,
}

impl StallProxy {
    /// Holds the line from the request on that has `needle` in its first line, after `num_before` others of
    /// the kind.
    pub fn start(to: u16, method: &'static str, needle: &'static str, num_before: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let line =
            Arc::new(Line { state: Mutex::new(State { num_before, ..State::default() }), ..Line::default() });
        let shared = line.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(store)) = (client, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                let (Ok(from_store), Ok(to_client)) = (store.try_clone(), client.try_clone()) else {
                    continue;
                };
                let (requests, answers) = (shared.clone(), shared.clone());
                std::thread::spawn(move || {
                    copy(client, store, |bytes| requests.pass(is_request(bytes, method, needle)));
                });
                std::thread::spawn(move || copy(from_store, to_client, |_| answers.pass(false)));
            }
        });
        Self { port, line }
    }

    /// Waits until the connection stalls.
    #[track_caller]
    pub fn wait_until_held(&self) {
        let state = self.line.state.lock().unwrap();
        let (state, _) =
            self.line.changed.wait_timeout_while(state, MAX_WAIT, |state| !state.is_held).unwrap();
        assert!(state.is_held, "the request was never made");
    }

    /// Lets everything through that was held.
    pub fn release(&self) {
        self.line.state.lock().unwrap().is_released = true;
        self.line.changed.notify_all();
    }
}

impl Line {
    fn pass(&self, is_wanted: bool) {
        let mut state = self.state.lock().unwrap();
        if is_wanted && !state.is_held {
            if state.num_before == 0 {
                state.is_held = true;
                self.changed.notify_all();
            } else {
                state.num_before -= 1;
            }
        }
        drop(self.changed.wait_while(state, |state| state.is_held && !state.is_released).unwrap());
    }
}

/// Whether these bytes begin a request of this method with `needle` in its address.
fn is_request(bytes: &[u8], method: &str, needle: &str) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.starts_with(method) && line.contains(needle)
}

fn copy(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(num_read) = from.read(&mut buffer) {
        before(&buffer[..num_read]);
        if num_read == 0 || to.write_all(&buffer[..num_read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
