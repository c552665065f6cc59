//! One request over the wire: sends it, reads its answer, says how it ended and when things came.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    account::{Ending, FailureCause},
    run::LoadConfig,
    sse::{Scanner, error_code},
};

/// Bytes of an answer that is not a stream; a long one has some 4 bytes a token.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Longest prompt that is really sent; the exact count is in a header that forewarm's engine reads.
const MAX_FILLER_BYTES: usize = 64;

/// Longest that a connection may lie idle and be used again: well below the idle time after which servers close
/// one (Node 5 s, uvicorn 5 s, hyper 30 s), for a request sent into a closing connection has an unknown fate.
const MAX_IDLE: Duration = Duration::from_secs(3);

/// Connections to one server, kept between requests.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The one used last is at the end.
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// What came of a request, in time on the wall.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    /// From the moment it was due to the first token.
    pub(crate) ttft: Option<Duration>,
    /// From the moment it was due to the end.
    pub(crate) e2e: Duration,
    /// Mean time between two tokens.
    pub(crate) inter_token: Option<Duration>,
    /// As the gateway says, in modelled seconds.
    pub(crate) queue_wait_seconds: Option<f64>,
}

impl Client {
    /// Sends one request and follows it to its end, for `deadline` at most.
    pub(crate) async fn send(&self, config: &LoadConfig, input: u32, output: u32, due: Instant) -> Outcome {
        let mut seen = Seen::default();
        let exchange = self.exchange(config, input, output, &mut seen);
        let ending = match tokio::time::timeout(config.deadline, exchange).await {
            Ok(ending) => ending,
            // No answer, or one that stopped: nobody said anything honest.
            Err(_) => Ending::Lost,
        };
        let since_due = |at: Instant| at.saturating_duration_since(due);
        let inter_token = match (seen.first, seen.last, seen.tokens) {
            (Some(first), Some(last), tokens @ 2..) => Some((last - first) / (tokens - 1)),
            _ => None,
        };
        Outcome {
            ending,
            ttft: seen.first.map(since_due),
            e2e: due.elapsed(),
            inter_token,
            queue_wait_seconds: seen.queue_wait_seconds,
        }
    }

    async fn exchange(&self, config: &LoadConfig, input: u32, output: u32, seen: &mut Seen) -> Ending {
        let request = request(config, input, output);
        let Ok((response, sender)) = self.begin(config, request).await else {
            return Ending::Failed(FailureCause::GatewayDied);
        };
        seen.queue_wait_seconds = response
            .headers()
            .get("x-forewarm-queue-wait-seconds")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if response.status() != StatusCode::OK {
            return self.error(response, sender).await;
        }
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let ending = if is_stream {
            stream(response.into_body(), seen).await
        } else {
            whole(response.into_body(), seen).await
        };
        if ending == Ending::Succeeded {
            self.put_back(sender);
        }
        ending
    }

    async fn begin(
        &self,
        config: &LoadConfig,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), ()> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                // Only a request of which no byte was written may go over another connection: any other may
                // have been accepted already, and to send it again would hide that its answer never came.
                Err(mut error) => request = error.take_message().ok_or(())?,
            }
        }
        let stream = TcpStream::connect(&config.target).await.map_err(|_| ())?;
        stream.set_nodelay(true).map_err(|_| ())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection ended");
            }
        });
        let response = sender.send_request(request).await.map_err(|_| ())?;
        Ok((response, sender))
    }

    async fn error(&self, response: Response<Incoming>, sender: SendRequest<Full<Bytes>>) -> Ending {
        let status = response.status();
        let accepted = response.headers().contains_key("x-forewarm-accepted");
        let Ok(body) = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await else {
            return Ending::Lost;
        };
        self.put_back(sender);
        let refuses = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if refuses && !accepted {
            Ending::Refused
        } else {
            Ending::Failed(FailureCause::from_code(&error_code(&body.to_bytes())))
        }
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // When the youngest is too old, all are.
        match idle.pop() {
            Some(youngest) if youngest.since.elapsed() < MAX_IDLE => Some(youngest.sender),
            Some(_) | None => {
                idle.clear();
                None
            }
        }
    }

    fn put_back(&self, sender: SendRequest<Full<Bytes>>) {
        let idle = Idle { sender, since: Instant::now() };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }
}

/// When things came.
#[derive(Default)]
struct Seen {
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: u32,
    queue_wait_seconds: Option<f64>,
}

async fn stream(mut body: Incoming, seen: &mut Seen) -> Ending {
    let mut scanner = Scanner::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        let Some(data) = frame.data_ref() else { continue };
        let tokens = scanner.push(data);
        if tokens > 0 {
            let now = Instant::now();
            seen.first.get_or_insert(now);
            seen.last = Some(now);
            seen.tokens += tokens;
        }
    }
    match (scanner.error, scanner.done) {
        (Some(code), _) => Ending::Failed(FailureCause::from_code(&code)),
        (None, true) => Ending::Succeeded,
        (None, false) => Ending::Lost,
    }
}

async fn whole(body: Incoming, seen: &mut Seen) -> Ending {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await.map(|body| body.to_bytes()) {
        Ok(bytes) if bytes.starts_with(b"{") => {
            seen.first = Some(Instant::now());
            Ending::Succeeded
        }
        Ok(_) => Ending::Failed(FailureCause::UpstreamError),
        // A broken connection is how a gateway says that an answer that had begun is not whole.
        Err(_) => Ending::Failed(FailureCause::ReplicaDiedMidStream),
    }
}

fn request(config: &LoadConfig, input: u32, output: u32) -> Request<Full<Bytes>> {
    let filler =
        if config.full_prompts { input as usize * 4 } else { MAX_FILLER_BYTES.min(input as usize * 4) };
    let body = serde_json::json!({
        "model": config.model,
        "messages": [{"role": "user", "content": "word".repeat(filler / 4)}],
        "max_tokens": output.max(1),
        "ignore_eos": true,
        "stream": config.stream,
    });
    let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/v1/chat/completions");
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert("x-forewarm-input-tokens", http::HeaderValue::from(input));
    if let Ok(host) = config.target.parse() {
        headers.insert(header::HOST, host);
    }
    request
}
