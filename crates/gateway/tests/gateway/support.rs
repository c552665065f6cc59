//! A gateway, replicas whose every byte a test writes, and a client: all on 127.0.0.1.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{Concurrency, Endpoint, PoolPlan, PoolReport, QueueLimits, Tenants},
};
use forewarm_gateway::{Gateway, GatewayConfig, GatewayHandle, Reloader};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const BODY: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
pub(crate) const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
/// Beyond this a test hangs: it fails instead. No test's outcome depends on it otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway with one scaler, `s`, for the model `m`.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) handle: GatewayHandle,
    pub(crate) reloader: Reloader,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    _guard: DropGuard,
}

pub(crate) fn config() -> GatewayConfig {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    GatewayConfig { control: Some(local), ..GatewayConfig::new(local) }
}

pub(crate) fn scaler() -> ScalerId {
    ScalerId::from("s")
}

pub(crate) fn plan(endpoints: Vec<Endpoint>) -> PoolPlan {
    PoolPlan {
        scaler: scaler(),
        models: vec!["m".to_owned()],
        endpoints,
        ready_in_seconds: None,
        routing: Default::default(),
        queue: QueueLimits {
            max_requests: 100,
            max_bytes: 1 << 20,
            timeout: Duration::from_secs(600),
            cold_start_timeout: Duration::from_secs(600),
            ttft_objective: None,
            tenants: Tenants::default(),
        },
        concurrency: Concurrency::default(),
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: GatewayConfig) -> Self {
        let gateway = Gateway::bind(config).await.expect("a free port");
        let address = gateway.local_addr().unwrap();
        let control = gateway.control_addr().unwrap().unwrap();
        let (handle, reloader, stop) = (gateway.handle(), gateway.reloader(), CancellationToken::new());
        let running = tokio::spawn(gateway.run(stop.clone()));
        Self { address, control, handle, reloader, _guard: stop.clone().drop_guard(), stop, running }
    }

    pub(crate) fn apply(&self, endpoints: Vec<Endpoint>) {
        assert!(self.handle.apply(&plan(endpoints)));
    }

    pub(crate) fn report(&self) -> PoolReport {
        self.handle.report(&scaler()).unwrap()
    }

    /// Waits, by the gateway's own events, until a report is as it should be.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&PoolReport) -> bool) -> PoolReport {
        let reports = async {
            loop {
                let report = self.report();
                if is(&report) {
                    return report;
                }
                self.handle.changed(&scaler()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, reports).await {
            Ok(report) => report,
            Err(_) => panic!("never: {what}; it stays {:?}", self.report()),
        }
    }

    /// Sends a chat request from a task of its own.
    pub(crate) fn chat(&self) -> JoinHandle<Reply> {
        self.post(CHAT, BODY, &[])
    }

    pub(crate) fn post(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> JoinHandle<Reply> {
        let mut request = Request::post(path).header("host", "gateway");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let address = self.address;
        tokio::spawn(async move { send(address, request).await })
    }

    /// Sends so many chat requests, each queued before the next one.
    pub(crate) async fn queue(&self, count: u64) -> Vec<JoinHandle<Reply>> {
        let mut replies = Vec::new();
        for _ in 0..count {
            let before = self.report().arrived_total;
            replies.push(self.chat());
            self.until("an arrival", |report| report.arrived_total > before).await;
        }
        replies
    }
}

/// With `start_paused`: the clock stands still but for `tokio::time::advance`, also while nothing but sockets is
/// waited for, until this is dropped.
pub(crate) struct StoppedClock {
    _held: std::sync::mpsc::Sender<()>,
}

impl StoppedClock {
    pub(crate) fn new() -> Self {
        let (held, end) = std::sync::mpsc::channel();
        // Tokio's paused clock does not advance by itself while a blocking task runs.
        tokio::task::spawn_blocking(move || end.recv());
        Self { _held: held }
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, Request::get(path).header("host", "gateway").body(Full::default()).unwrap()).await
}

/// Sends a request on a connection of its own, which breaks when the reply is dropped.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    let response = answer.expect("an answer in time").expect("an answer");
    let (parts, body) = response.into_parts();
    Reply { status: parts.status, headers: parts.headers, body, _connection: connection }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose head has come.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: AbortOnDrop,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The next bytes; `None` at an honest end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("more in time")?;
        Some(frame.unwrap().into_data().unwrap())
    }

    /// Everything, or an error if the connection broke before the end.
    pub(crate) async fn whole(self) -> Result<Bytes, hyper::Error> {
        let whole = tokio::time::timeout(PATIENCE, self.body.collect()).await;
        whole.expect("the end in time").map(http_body_util::Collected::to_bytes)
    }

    pub(crate) async fn text(self) -> String {
        String::from_utf8(self.whole().await.unwrap().to_vec()).unwrap()
    }

    /// The `code` of an error in OpenAI's shape.
    pub(crate) async fn error_code(self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.text().await).unwrap();
        let error = value["error"].as_object().unwrap();
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"], "OpenAI's shape");
        error["code"].as_str().unwrap().to_owned()
    }
}

/// A replica: hands every request to the test, which answers as it likes.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    accepting: JoinHandle<()>,
}

/// A request at a replica. Dropping it breaks the connection.
pub(crate) struct Call {
    pub(crate) head: String,
    pub(crate) body: String,
    stream: TcpStream,
    calls: mpsc::UnboundedSender<Call>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(read_call(stream, sender.clone()));
            }
        });
        Self { address, calls, accepting }
    }

    pub(crate) fn endpoint(&self, name: &str, max_concurrency: u32) -> Endpoint {
        Endpoint {
            replica: ReplicaId::from(name),
            address: self.address.to_string(),
            max_concurrency,
            kv_tokens: None,
            draining: false,
        }
    }

    pub(crate) fn draining(&self, name: &str) -> Endpoint {
        Endpoint { draining: true, ..self.endpoint(name, 1) }
    }

    /// The next request.
    pub(crate) async fn call(&mut self) -> Call {
        let call = tokio::time::timeout(PATIENCE, self.calls.recv()).await;
        call.expect("a request in time").unwrap()
    }

    /// The next request, however long it takes.
    pub(crate) async fn next(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    /// Whether a request has come that was not looked at.
    pub(crate) fn has_call(&mut self) -> bool {
        !self.calls.is_empty()
    }

    /// Stops listening; what is connected stays.
    pub(crate) async fn close(&mut self) {
        self.accepting.abort();
        drop((&mut self.accepting).await);
    }
}

async fn read_call(mut stream: TcpStream, calls: mpsc::UnboundedSender<Call>) {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                let body = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
                drop(calls.clone().send(Call { head, body, stream, calls }));
                return;
            }
        }
        match stream.read_buf(&mut read).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}

impl Call {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Whether the gateway took the bytes.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.write(chunk).await;
    }

    /// A whole answer; the connection stays for the next request.
    pub(crate) async fn answer(mut self, status: &str, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.keep();
    }

    /// The rest of a chunked stream; the connection stays for the next request.
    pub(crate) async fn done(mut self) {
        self.chunk("data: [DONE]\n\n").await;
        self.write("0\r\n\r\n").await;
        self.keep();
    }

    /// A whole stream with one event.
    pub(crate) async fn stream(mut self) {
        self.write(EVENTS).await;
        self.chunk("data: {}\n\n").await;
        self.done().await;
    }

    fn keep(self) {
        tokio::spawn(read_call(self.stream, self.calls));
    }

    /// Breaks the connection with a reset instead of an end.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Returns when the gateway has closed the connection.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        drop(read.expect("the end of the connection in time"));
    }
}
