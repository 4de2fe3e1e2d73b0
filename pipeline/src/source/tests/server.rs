//! A scripted server on loopback: what it answers is a list, what it was asked is another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection breaks.
    cut_at: Option<usize>,
    /// Whether the connection stays open instead.
    is_stalling: bool,
    /// Wait before the body.
    delay: Duration,
    framing: Framing,
}

/// How an answer says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    /// Each chunk has one byte.
    Chunked,
    /// Not at all: with the connection.
    Close,
}

pub(super) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
        cut_at: None,
        is_stalling: false,
        delay: Duration::ZERO,
        framing: Framing::Length,
    }
}

impl Reply {
    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Announces the whole body and breaks the connection after `bytes` of it.
    pub(super) fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }

    /// Announces the whole body and sends nothing more after `bytes` of it.
    pub(super) fn stalls_at(self, bytes: usize) -> Self {
        Self { is_stalling: true, ..self.cut_at(bytes) }
    }

    /// Does not announce the body's length, which ends with the connection.
    pub(super) fn unframed(self) -> Self {
        Self { framing: Framing::Close, ..self }
    }

    /// Sends the body in chunks.
    pub(super) fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// Sends the body after a while.
    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Script = Arc<Mutex<HashMap<String, Vec<Reply>>>>;

/// The server; stops when dropped.
#[derive(Debug)]
pub(super) struct TestServer {
    url: Url,
    script: Script,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (script, requests) = (Script::default(), Arc::<Mutex<Vec<String>>>::default());
        let task = tokio::spawn({
            let (script, requests) = (script.clone(), requests.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, script.clone(), requests.clone()));
                }
            }
        });
        Self { url, script, requests, task }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn at(&self, path_and_query: &str) -> String {
        self.url.join(path_and_query).unwrap().to_string()
    }

    /// Answers requests for `path` (without query) in this order; the last answer stays.
    pub(super) fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().insert(path.into(), replies.into_iter().collect());
    }

    /// Answers `HEAD` for `path`, which is not allowed else.
    pub(super) fn on_head(&self, path: &str, reply: Reply) {
        self.on(&format!("HEAD {path}"), [reply]);
    }

    /// The heads of the requests for `path`, in lower case but for the first line.
    pub(super) fn requests(&self, path: &str) -> Vec<String> {
        let is_for = |head: &&String| head.split([' ', '?']).nth(1) == Some(path);
        self.requests.lock().unwrap().iter().filter(is_for).cloned().collect()
    }

    /// Everything that was asked.
    pub(super) fn all_requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, script: Script, requests: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let head_len = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&request[..head_len]).into_owned();
    let (first_line, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.to_ascii_lowercase();
    let body_len = headers
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse::<usize>().unwrap());
    while request.len() < head_len + body_len {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let body = String::from_utf8_lossy(&request[head_len..]);
    let is_head = first_line.starts_with("HEAD ");
    let path = first_line.split([' ', '?']).nth(1).unwrap();
    let path = if is_head { format!("HEAD {path}") } else { path.to_owned() };
    let reply = {
        requests.lock().unwrap().push(format!("{first_line}\n{headers}\n{body}"));
        match script.lock().unwrap().get_mut(&path) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None if is_head => reply(405, "").unframed(),
            None => reply(404, ""),
        }
    };
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let framing = match reply.framing {
        Framing::Length => format!("content-length: {}\r\n", reply.body.len()),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Close => String::new(),
    };
    let text =
        format!("HTTP/1.1 {} x\r\nconnection: close\r\n{framing}{}\r\n", reply.status, headers.concat());
    let sent = &reply.body[..reply.cut_at.unwrap_or(reply.body.len())];
    let sent = match reply.framing {
        _ if is_head => Vec::new(),
        Framing::Chunked => {
            let mut chunks: Vec<u8> =
                sent.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).collect();
            if reply.cut_at.is_none() {
                chunks.extend(b"0\r\n\r\n");
            }
            chunks
        }
        Framing::Length | Framing::Close => sent.to_vec(),
    };
    let _ = stream.write_all(text.as_bytes()).await;
    tokio::time::sleep(reply.delay).await;
    let _ = stream.write_all(&sent).await;
    if reply.is_stalling {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}
