//! A replica that costs as little as can be: it knows the requests of this benchmark and no others.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior},
};

use crate::client::message_end;

/// Events of a stream, the last of which is followed by `[DONE]`.
pub(crate) const EVENTS: usize = 200;
/// Time between two events of a stream.
pub(crate) const EVENT_GAP: Duration = Duration::from_millis(20);

/// An answer of about a hundred tokens.
const ANSWER: &str = r#"{"id":"chatcmpl-0123456789","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"A replica that is asked for nothing answers with something of the usual length, so that whoever passes it on has as much to do as with any other answer: a few hundred bytes of JSON in one piece, with the usage after it."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":48,"total_tokens":68}}"#;

/// The events of a stream as vLLM writes them, each a chunk. No two are alike: LiteLLM cuts streams that repeat
/// themselves.
fn events() -> Vec<String> {
    let event = |number: usize| {
        let data = format!(
            r#"{{"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{{"index":0,"delta":{{"content":" token{number:03}"}},"logprobs":null,"finish_reason":null}}]}}"#
        );
        let event = format!("data: {data}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    (0..EVENTS).map(event).collect()
}

/// The replica.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

/// When requests came, as long as somebody wants to know.
#[derive(Default)]
struct Seen {
    wanted: AtomicBool,
    at: Mutex<Vec<Instant>>,
}

impl Upstream {
    /// Listens and serves on this runtime.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let upstream = Self { address: listener.local_addr()?, seen: Arc::default() };
        let seen = Arc::clone(&upstream.seen);
        let events: Arc<[String]> = events().into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, events) = (Arc::clone(&seen), Arc::clone(&events));
                // A proxy that hangs up is done with it.
                tokio::spawn(async move { drop(serve(stream, &seen, &events).await) });
            }
        });
        Ok(upstream)
    }

    /// Notes from now on when requests come.
    pub(crate) fn watch(&self) {
        self.seen.wanted.store(true, Relaxed);
    }

    /// When requests came.
    pub(crate) fn seen(&self) -> Vec<Instant> {
        self.seen.wanted.store(false, Relaxed);
        std::mem::take(&mut *self.seen.at.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut stream: TcpStream, seen: &Seen, events: &[String]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let length = ANSWER.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ANSWER}"
    );
    let mut read = Vec::with_capacity(4_096);
    loop {
        let end = loop {
            if let Some(end) = message_end(&read) {
                break end;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        if seen.wanted.load(Relaxed) {
            seen.at.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
        if wants_stream(&read[..end]) {
            tell(&mut stream, events).await?;
        } else {
            stream.write_all(answer.as_bytes()).await?;
        }
        read.drain(..end);
    }
}

async fn tell(stream: &mut TcpStream, events: &[String]) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut due = tokio::time::interval(EVENT_GAP);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for event in events {
        due.tick().await;
        stream.write_all(event.as_bytes()).await?;
    }
    stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await
}

/// Whether the body says so, with or without a space.
fn wants_stream(request: &[u8]) -> bool {
    let says = |words: &[u8]| request.windows(words.len()).any(|window| window == words);
    says(b"\"stream\":true") || says(b"\"stream\": true")
}
