//! Talks plain HTTP/1.1 to an engine, so that tests see the bytes.

use std::net::SocketAddr;

use forewarm_engine::{Engine, EngineConfig, EngineProfile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// An engine on a free port, with the token that stands for SIGTERM.
pub(crate) async fn start(config: EngineConfig) -> (Engine, CancellationToken) {
    let shutdown = CancellationToken::new();
    let engine = Engine::start(on_free_port(config), shutdown.clone()).await.unwrap();
    (engine, shutdown)
}

pub(crate) fn on_free_port(config: EngineConfig) -> EngineConfig {
    EngineConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config }
}

/// A simple engine, a thousand times as fast as real.
pub(crate) fn fast(slots: u32) -> EngineConfig {
    EngineConfig {
        model: "tiny".into(),
        profile: EngineProfile::simple(slots),
        speed: 1000.0,
        ..EngineConfig::default()
    }
}

/// A simple engine on which nothing finishes during a test.
pub(crate) fn frozen(slots: u32) -> EngineConfig {
    EngineConfig { speed: 0.001, ..fast(slots) }
}

/// One connection to an engine.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer with a known length.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Announces a body without sending it.
    pub(crate) async fn send_head(&mut self, method: &str, path: &str, headers: &str, length: usize) {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
    }

    /// Receives until what came contains `wanted`, and returns all that came so far.
    pub(crate) async fn receive_until(&mut self, wanted: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if text.contains(wanted) {
                return text;
            }
            assert!(self.receive_some().await > 0, "the connection ended before {wanted:?}: {text}");
        }
    }

    async fn receive_some(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        self.received.extend_from_slice(&buffer[..count]);
        count
    }

    /// Waits for the end of the connection.
    pub(crate) async fn receive_end(&mut self) {
        while self.receive_some().await > 0 {}
    }

    /// Receives one whole answer, of known length or in chunks.
    pub(crate) async fn answer(&mut self) -> Answer {
        let text = self.receive_until("\r\n\r\n").await;
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let head = head.to_owned();
        let start = head.len() + 4;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = match length {
            Some(length) => {
                while self.received.len() < start + length {
                    assert!(self.receive_some().await > 0, "the connection ended within an answer");
                }
                let rest = self.received.split_off(start + length);
                let body = String::from_utf8(self.received[start..].to_vec()).unwrap();
                self.received = rest;
                body
            }
            None => {
                self.receive_until("\r\n0\r\n\r\n").await;
                let body = unchunk(&self.received[start..]);
                self.received.clear();
                body
            }
        };
        Answer { status, head, body }
    }
}

fn unchunk(mut rest: &[u8]) -> String {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).unwrap(), 16).unwrap();
        if size == 0 {
            return String::from_utf8(body).unwrap();
        }
        body.extend_from_slice(&rest[line_end + 2..line_end + 2 + size]);
        rest = &rest[line_end + 4 + size..];
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(method, path, headers, body).await;
    client.answer().await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, "", "").await
}

/// The value of one series, given as `name{labels}` or a part of it that is unique.
pub(crate) async fn metric(address: SocketAddr, series: &str) -> f64 {
    let page = get(address, "/metrics").await.body;
    let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Asks until the series has this value.
pub(crate) async fn wait_for_metric(address: SocketAddr, series: &str, value: f64) {
    while metric(address, series).await != value {
        tokio::task::yield_now().await;
    }
}
