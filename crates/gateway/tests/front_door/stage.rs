//! A gateway, replicas that play an answer, and a client that reads every byte.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use forewarm_core::{
    ScalerId,
    pool::{Endpoint, PoolPlan, PoolReport, QueueLimits},
};
use forewarm_gateway::{Gateway, GatewayConfig, GatewayHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
pub(crate) const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// Longest wait for anything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway for one scaler.
pub(crate) struct Stage {
    address: SocketAddr,
    pub(crate) control: String,
    handle: GatewayHandle,
    _running: DropGuard,
}

/// What a plan says besides its endpoints.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_requests: u32,
    pub(crate) timeout: Duration,
    pub(crate) ready_in: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_requests: 100, timeout: PATIENCE, ready_in: None }
    }
}

pub(crate) fn pool_plan(endpoints: &[Endpoint], limits: Limits) -> PoolPlan {
    PoolPlan {
        scaler: ScalerId::from("s"),
        models: vec!["m".to_owned()],
        endpoints: endpoints.to_vec(),
        ready_in_seconds: limits.ready_in,
        queue: QueueLimits {
            max_requests: limits.max_requests,
            max_bytes: 1 << 20,
            timeout: limits.timeout,
            cold_start_timeout: PATIENCE,
        },
    }
}

/// A request with this prompt.
pub(crate) fn request(prompt: &str) -> String {
    let body = format!("{{\"model\":\"m\",\"stream\":true,\"prompt\":\"{prompt}\"}}");
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of an answer, its chunks put together.
fn body(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_owned();
    }
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    body
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = GatewayConfig { control: Some(any), max_body_bytes: 1 << 20, ..GatewayConfig::new(any) };
        let gateway = Gateway::bind(config).await.unwrap();
        let (address, control) = (gateway.local_addr().unwrap(), gateway.control_addr().unwrap().unwrap());
        let handle = gateway.handle();
        let stop = CancellationToken::new();
        tokio::spawn(gateway.run(stop.clone()));
        Self { address, control: control.to_string(), handle, _running: stop.drop_guard() }
    }

    pub(crate) fn plan(&self, endpoints: &[Endpoint], limits: Limits) {
        self.handle.apply(&pool_plan(endpoints, limits));
    }

    pub(crate) fn report(&self) -> PoolReport {
        self.handle.report(&ScalerId::from("s")).unwrap()
    }

    /// Waits until the report satisfies the predicate, by the gateway's own events.
    pub(crate) async fn until(&self, predicate: impl Fn(&PoolReport) -> bool) {
        let wait = async {
            while !predicate(&self.report()) {
                self.handle.changed(&ScalerId::from("s")).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "in vain: {:?}", self.report());
    }

    /// Sends a request; the whole answer, its body without the chunks' framing.
    pub(crate) fn post(&self, request: String) -> impl Future<Output = String> + Send + 'static {
        let address = self.address;
        async move { exchange(address, &request).await }
    }

    pub(crate) async fn send(&self, request: &str) -> String {
        exchange(self.address, request).await
    }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let read = async {
        // A refusal may close the connection while the request is still being written.
        drop(reader.read_to_end(&mut answer).await);
    };
    let write = async { drop(writer.write_all(request.as_bytes()).await) };
    let both = async { tokio::join!(read, write) };
    assert!(tokio::time::timeout(PATIENCE, both).await.is_ok(), "no end of the answer");
    let answer = String::from_utf8(answer).unwrap();
    match answer.split_once("\r\n\r\n") {
        Some((head, _)) => format!("{head}\r\n\r\n{}", body(&answer)),
        None => answer,
    }
}

/// What a replica does with every request.
pub(crate) enum Answer {
    /// Sends this and closes.
    Bytes(String),
    /// Sends this and goes silent.
    Hang(String),
}

impl Answer {
    pub(crate) fn whole_stream(tokens: usize) -> Self {
        Answer::Bytes(format!("{STREAM}{}{DONE}", TOKEN.repeat(tokens)))
    }
}

/// A replica that plays an answer.
pub(crate) struct Replica {
    address: String,
    seen: Arc<Mutex<Seen>>,
    asked: watch::Receiver<usize>,
}

#[derive(Default)]
struct Seen {
    prompts: Vec<String>,
    now: usize,
    most_at_once: usize,
}

impl Replica {
    pub(crate) async fn start(answer: Answer) -> Self {
        let (bytes, hang) = match answer {
            Answer::Bytes(bytes) => (bytes, false),
            Answer::Hang(bytes) => (bytes, true),
        };
        Self::play(bytes, String::new(), if hang { Some(None) } else { None }).await
    }

    /// A replica that begins a stream, and ends it when told to.
    pub(crate) async fn start_held() -> (Self, oneshot::Sender<()>) {
        let (go_on, wait) = oneshot::channel();
        let replica = Self::play(format!("{STREAM}{TOKEN}"), DONE.to_owned(), Some(Some(wait))).await;
        (replica, go_on)
    }

    /// Sends `first`; then waits for ever or for the channel if there is one, sends `rest`, and closes.
    async fn play(first: String, rest: String, wait: Option<Option<oneshot::Receiver<()>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (tell, asked) = watch::channel(0);
        let (shared, wait) = (Arc::clone(&seen), Arc::new(tokio::sync::Mutex::new(wait)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (first, rest) = (first.clone(), rest.clone());
                let (shared, wait, tell) = (Arc::clone(&shared), Arc::clone(&wait), tell.clone());
                tokio::spawn(async move {
                    serve(stream, &first, &rest, &shared, &wait, &tell).await;
                });
            }
        });
        Self { address, seen, asked }
    }

    pub(crate) fn endpoint(&self, name: &str, max_concurrency: u32) -> Endpoint {
        Endpoint { replica: name.into(), address: self.address.clone(), max_concurrency, draining: false }
    }

    /// Prompts in the order they came, and the most requests at once.
    pub(crate) fn seen(&self) -> (Vec<String>, usize) {
        let seen = self.seen.lock().unwrap();
        (seen.prompts.clone(), seen.most_at_once)
    }

    /// Waits until a request has come.
    pub(crate) async fn until_asked(&self) {
        let mut asked = self.asked.clone();
        tokio::time::timeout(PATIENCE, asked.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    }
}

async fn serve(
    mut stream: TcpStream,
    first: &str,
    rest: &str,
    seen: &Mutex<Seen>,
    wait: &tokio::sync::Mutex<Option<Option<oneshot::Receiver<()>>>>,
    tell: &watch::Sender<usize>,
) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(b"\"}") {
        match stream.read(&mut buffer).await {
            // A probe, or a client that left.
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let prompt = text.rsplit("\"prompt\":\"").next().unwrap().trim_end_matches("\"}").to_owned();
    {
        let mut seen = seen.lock().unwrap();
        seen.prompts.push(prompt);
        seen.now += 1;
        seen.most_at_once = seen.most_at_once.max(seen.now);
    }
    drop(stream.write_all(first.as_bytes()).await);
    tell.send_modify(|count| *count += 1);
    match wait.lock().await.take() {
        None => {}
        Some(None) => {
            // Until the other side closes.
            while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
        }
        Some(Some(go_on)) => drop(go_on.await),
    }
    drop(stream.write_all(rest.as_bytes()).await);
    seen.lock().unwrap().now -= 1;
}

/// An address where nobody listens.
pub(crate) async fn closed_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}
