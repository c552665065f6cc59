//! One client's request, followed to its end, whichever it is.

use std::{
    io::ErrorKind,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::{
    replica::NUMBER,
    wire::{Head, Reader},
};

/// Longest that a connection may lie idle and be used again: well below the gateway's own limit.
const MAX_IDLE: Duration = Duration::from_secs(3);
/// One client in so many asks for comments while it waits.
const KEEPALIVE: u64 = 4;
/// Without an honest end by then, a request is lost: twice as long as the gateway lets it wait.
const DEADLINE: Duration = Duration::from_secs(180);

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) tokens: u32,
    pub(crate) stream: bool,
    /// When the client hangs up, if it does.
    pub(crate) leaves_after: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The whole answer, and nothing but it.
    Succeeded,
    /// An honest refusal: it says why, and when to come again.
    Refused,
    /// An honest error, by its `code`.
    Failed(String),
    /// The client hung up.
    Left,
    /// Anything else, and what.
    Lost(String),
}

/// Connections to the gateway.
pub(crate) struct Client {
    gateway: String,
    idle: Mutex<Vec<(Reader<TcpStream>, Instant)>>,
}

impl Client {
    pub(crate) fn new(gateway: String) -> Self {
        Self { gateway, idle: Mutex::new(Vec::new()) }
    }

    pub(crate) async fn send(&self, ask: Ask) -> End {
        let leaves = async {
            match ask.leaves_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = tokio::time::timeout(DEADLINE, self.exchange(ask)) => match end {
                Ok(Ok(end)) => end,
                Ok(Err(error)) => End::Lost(error.to_string()),
                Err(_) => End::Lost("no end in time".to_owned()),
            },
            () = leaves => End::Left,
        }
    }

    async fn exchange(&self, ask: Ask) -> std::io::Result<End> {
        while let Some(connection) = self.idle() {
            // A server may close an idle connection when it likes: then it has not read the request.
            if let Some(end) = exchange(self, connection, ask).await? {
                return Ok(end);
            }
        }
        let stream = TcpStream::connect(&self.gateway).await?;
        stream.set_nodelay(true)?;
        let end = exchange(self, Reader::new(stream), ask).await?;
        Ok(end.unwrap_or_else(|| End::Lost("no answer".to_owned())))
    }

    fn idle(&self) -> Option<Reader<TcpStream>> {
        let (connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        (since.elapsed() < MAX_IDLE).then_some(connection)
    }
}

/// Sends a request over a connection and follows it; `None` where the connection ended without a word.
async fn exchange(
    client: &Client,
    mut connection: Reader<TcpStream>,
    ask: Ask,
) -> std::io::Result<Option<End>> {
    let sent = connection.stream().write_all(request(ask).as_bytes()).await;
    let head = match sent {
        Ok(()) => connection.head().await,
        Err(error) => Err(error),
    };
    let head = match head {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (mut framing, mut body) = (head.framing(), Vec::new());
    let is_whole = loop {
        match connection.piece(&mut framing).await {
            Ok(piece) => {
                body.extend_from_slice(&piece.data);
                if piece.is_last {
                    break true;
                }
            }
            Err(_) => break false,
        }
    };
    let body = String::from_utf8_lossy(&body);
    let end = if head.second_word() != "200" {
        error(&head, &body)
    } else if is_stream(&head) {
        stream(&body, ask.tokens)
    } else if is_whole {
        document(&body, ask.tokens)
    } else {
        // Only a broken connection says that an answer in one piece is not whole.
        End::Failed("replica_died_mid_stream".to_owned())
    };
    if is_whole && head.header("connection") != Some("close") {
        client.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
    }
    Ok(Some(end))
}

fn request(ask: Ask) -> String {
    let Ask { number, tokens, stream, .. } = ask;
    let body = format!(
        r#"{{"model":"m","stream":{stream},"max_tokens":{tokens},"ignore_eos":true,"messages":[{{"role":"user","content":"{number}"}}]}}"#
    );
    let length = body.len();
    let comments = if number % KEEPALIVE == 0 { "x-forewarm-keepalive: 20\r\n" } else { "" };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\n\
         {NUMBER}: {number}\r\n{comments}content-length: {length}\r\n\r\n{body}"
    )
}

fn is_stream(head: &Head) -> bool {
    head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// An error with a status: refused without a place, or failed with one.
fn error(head: &Head, body: &str) -> End {
    let error: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(code) = error["error"]["code"].as_str() else {
        return End::Lost(format!("{} without a code: {body}", head.second_word()));
    };
    let says_when = head.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    match (head.second_word(), head.header("x-forewarm-accepted")) {
        ("429" | "503", None) if says_when >= Some(1) => End::Refused,
        ("429" | "503", None) => End::Lost(format!("`{code}` does not say when to come again")),
        (_, _) => End::Failed(code.to_owned()),
    }
}

/// A stream has each of its tokens once, and then says that it is done; or it says what went wrong.
fn stream(body: &str, tokens: u32) -> End {
    let mut seen = 0;
    let mut done = false;
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if done {
            return End::Lost(format!("more after [DONE]: {data}"));
        }
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        if let Some(code) = event["error"]["code"].as_str() {
            return End::Failed(code.to_owned());
        }
        let text = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        seen += u32::from(!text.is_empty());
    }
    match (done, seen == tokens) {
        (true, true) => End::Succeeded,
        (true, false) => End::Lost(format!("{seen} tokens instead of {tokens}")),
        (false, _) => End::Lost("a stream without an end".to_owned()),
    }
}

fn document(body: &str, tokens: u32) -> End {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    match answer["usage"]["completion_tokens"].as_u64() {
        Some(seen) if seen == u64::from(tokens) => End::Succeeded,
        seen => End::Lost(format!("{seen:?} tokens instead of {tokens}")),
    }
}
