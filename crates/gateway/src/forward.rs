//! One request, from its arrival to the first byte of its answer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::{
    account::Cause,
    answer::{ACCEPTED, Body, failure, refusal},
    relay::Relay,
    scaler::{Scaler, Slot},
    upstream::{SendError, Sender},
    wait::{OutOfPatience, Patience},
};

/// Tries of one request at replicas, before it is called an upstream error. Each is at another replica
/// where there is one, and waits for a slot like everybody.
const MAX_ATTEMPTS: u32 = 6;
/// Bytes read of an error answer to see whether the replica is starting or stopping.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Highest value a client may ask for in `X-Request-Timeout` or `X-Scale-Up-Timeout`.
const MAX_ASKED_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why a try gave no answer; every one of these is worth another.
enum Failed {
    /// Nobody listens there.
    Refused(String),
    /// It ended before its first byte.
    Ended(String),
    /// It is starting or stopping.
    NotServing(StatusCode),
    /// The controller says that it is gone.
    Gone,
}

/// A request with its body at hand, so that it can be sent again.
pub(crate) struct Forward {
    request: Request<Full<Bytes>>,
    bytes: usize,
    patience: Patience,
}

impl Forward {
    /// Prepares a request for its way to a replica.
    pub(crate) fn new(scaler: &Scaler, parts: http::request::Parts, body: Bytes, client: IpAddr) -> Self {
        let (warm, cold) = scaler.timeouts();
        let asked = |name: &str, default: Duration| {
            let text = parts.headers.get(name).and_then(|value| value.to_str().ok());
            let seconds = text.and_then(|text| text.trim().parse::<f64>().ok());
            let asked = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            // Asked for in modelled seconds, as everything else.
            asked.map_or(default, |asked| {
                let per_second = scaler.modelled(Duration::from_secs(1));
                asked.min(MAX_ASKED_TIMEOUT).div_f64(per_second)
            })
        };
        let patience = Patience::new(asked("x-request-timeout", warm), asked("x-scale-up-timeout", cold));
        let bytes = body.len();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method;
        *request.uri_mut() =
            parts.uri.path_and_query().map_or_else(http::Uri::default, |path| path.clone().into());
        *request.headers_mut() = end_to_end(parts.headers);
        let forwarded = match request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok()) {
            Some(before) => format!("{before}, {client}"),
            None => client.to_string(),
        };
        if let Ok(value) = HeaderValue::try_from(forwarded) {
            request.headers_mut().insert("x-forwarded-for", value);
        }
        // Set anew by the client connection, from the body's length.
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request.headers_mut().remove(header::EXPECT);
        Self { request, bytes, patience }
    }

    /// Waits for a slot, sends, and sends again elsewhere, until an answer begins or patience ends.
    /// Everything that happens is counted here or by the [`Relay`] it returns.
    pub(crate) async fn run(mut self, scaler: &Arc<Scaler>) -> Response<Body> {
        scaler.account.arrive();
        let Ok((mut ticket, mut granted)) = scaler.enqueue(self.bytes) else {
            scaler.account.refuse();
            let message = "the queue is full; come again later";
            return refusal(StatusCode::TOO_MANY_REQUESTS, "queue_full", message, scaler.retry_after());
        };
        let mut left = ClientLeft::new(scaler);
        let mut last = String::new();
        for _ in 0..MAX_ATTEMPTS {
            let slot = match self.patience.wait(scaler, ticket, granted).await {
                Ok(slot) => slot,
                Err(out) => return left.counted(|| self.out_of_patience(scaler, out)),
            };
            let queue_wait = self.patience.since.elapsed();
            let replica = slot.replica.clone();
            if let Ok(value) = HeaderValue::try_from(slot.connections.address()) {
                self.request.headers_mut().insert(header::HOST, value);
            }
            match self.attempt(scaler, slot).await {
                Ok(response) => {
                    // The relay counts from here on.
                    return left.counted(|| self.label(scaler, response, replica.as_str(), queue_wait));
                }
                Err(failed) => {
                    last = describe(&failed, replica.as_str());
                    tracing::debug!(scaler = scaler.id.as_str(), why = last, "trying again");
                }
            }
            scaler.account.retry();
            (ticket, granted) = scaler.enqueue_again(self.bytes, replica, self.patience.since);
        }
        scaler.cancel(ticket);
        left.counted(|| {
            scaler.account.fail(Cause::UpstreamError);
            failure(
                Cause::UpstreamError,
                &format!("{MAX_ATTEMPTS} tries at replicas failed; the last one: {last}"),
            )
        })
    }

    async fn attempt(&self, scaler: &Arc<Scaler>, slot: Slot) -> Result<Response<Body>, Failed> {
        let gone = slot.gone.clone();
        let answer = tokio::select! {
            answer = self.answer(&slot) => answer,
            () = gone.cancelled() => Err(Failed::Gone),
        };
        match answer {
            Ok(Answer::Begun { parts, first, rest, is_stream, sender }) => {
                let relay = Relay::new(rest, first, is_stream, Arc::clone(scaler), slot, sender);
                Ok(Response::from_parts(parts, relay.boxed_unsync()))
            }
            Ok(Answer::Whole(response)) => {
                scaler.account.succeed();
                Ok(response)
            }
            Err(failed) => {
                if matches!(failed, Failed::Refused(_) | Failed::NotServing(_)) {
                    slot.suspend();
                }
                Err(failed)
            }
        }
    }

    /// Sends the request and waits for the first frame of the answer: until then it can be sent again.
    async fn answer(&self, slot: &Slot) -> Result<Answer, Failed> {
        let (response, sender) = slot.connections.send(&self.request).await.map_err(|error| match error {
            SendError::Connect(error) => Failed::Refused(error.to_string()),
            SendError::Closed(error) => Failed::Ended(error.to_string()),
        })?;
        let (mut parts, mut body) = response.into_parts();
        parts.headers = end_to_end(parts.headers);
        if matches!(parts.status, StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE) {
            return judge_error(parts, body).await;
        }
        let first = match body.frame().await {
            Some(Ok(frame)) => Some(frame),
            Some(Err(error)) => return Err(Failed::Ended(error.to_string())),
            None => None,
        };
        let is_stream = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if is_stream && first.is_none() {
            return Err(Failed::Ended("the stream ended before its first event".to_owned()));
        }
        Ok(Answer::Begun { parts, first, rest: body, is_stream, sender })
    }

    fn out_of_patience(&self, scaler: &Scaler, out: OutOfPatience) -> Response<Body> {
        scaler.account.fail(Cause::Deadline);
        let waited = scaler.modelled(self.patience.since.elapsed());
        let message = match out {
            OutOfPatience::Warm => format!("no replica had a slot free within {waited:.0} s"),
            OutOfPatience::Cold => format!("no replica became ready within {waited:.0} s"),
        };
        let mut response = failure(Cause::Deadline, &message);
        let seconds = scaler.retry_after().as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    /// Tells the client where its answer comes from, and how long it waited for it, in modelled seconds.
    fn label(
        &self,
        scaler: &Scaler,
        mut response: Response<Body>,
        replica: &str,
        wait: Duration,
    ) -> Response<Body> {
        let headers = response.headers_mut();
        headers.insert(ACCEPTED, HeaderValue::from_static("true"));
        let cold = if self.patience.was_cold { "true" } else { "false" };
        headers.insert("x-forewarm-cold-start", HeaderValue::from_static(cold));
        let wait = format!("{:.6}", scaler.modelled(wait));
        for (name, value) in
            [("x-forewarm-queue-wait-seconds", wait.as_str()), ("x-forewarm-replica", replica)]
        {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// An answer whose first byte is there.
enum Answer {
    Begun {
        parts: http::response::Parts,
        first: Option<Frame<Bytes>>,
        rest: Incoming,
        is_stream: bool,
        sender: Sender,
    },
    Whole(Response<Body>),
}

/// A replica that is starting or stopping says so with 503 or 500; any other error is the client's to see.
async fn judge_error(parts: http::response::Parts, body: Incoming) -> Result<Answer, Failed> {
    let limited = http_body_util::Limited::new(body, MAX_ERROR_BYTES);
    let bytes = limited.collect().await.map_err(|error| Failed::Ended(error.to_string()))?.to_bytes();
    let says = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    // llama.cpp while loading; vLLM after SIGTERM, and beyond its admission limit.
    let passing = [b"Loading model".as_slice(), b"after shutdown", b"shutting down", b"currently busy"];
    if passing.into_iter().any(says) {
        return Err(Failed::NotServing(parts.status));
    }
    Ok(Answer::Whole(Response::from_parts(parts, crate::answer::full(bytes))))
}

fn describe(failed: &Failed, replica: &str) -> String {
    match failed {
        Failed::Refused(error) => format!("`{replica}` takes no connection: {error}"),
        Failed::Ended(error) => format!("`{replica}` ended before its first byte: {error}"),
        Failed::NotServing(status) => format!("`{replica}` is starting or stopping ({status})"),
        Failed::Gone => format!("`{replica}` is gone"),
    }
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}

/// Counts a client that leaves before its answer began: then the future is dropped where it waits.
struct ClientLeft<'a> {
    scaler: Option<&'a Scaler>,
}

impl<'a> ClientLeft<'a> {
    fn new(scaler: &'a Scaler) -> Self {
        Self { scaler: Some(scaler) }
    }

    /// Somebody else counts.
    fn counted<T>(&mut self, outcome: impl FnOnce() -> T) -> T {
        self.scaler = None;
        outcome()
    }
}

impl Drop for ClientLeft<'_> {
    fn drop(&mut self) {
        if let Some(scaler) = self.scaler {
            scaler.account.fail(Cause::ClientLeft);
        }
    }
}
