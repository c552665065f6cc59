//! Keeps a client informed while its stream waits: comments, which every reader of event streams passes over.
//!
//! The head of the answer is sent with the first comment, so what goes wrong afterwards is said in an event. A
//! request that is answered before its first comment is due gets its answer as if it had not asked.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use crate::{
    answer::{ACCEPTED, Body, BodyError, Response},
    queue::Ticket,
    scaler::Scaler,
    sse::is_event_stream,
};

/// Shortest time between two comments: each counts who stands in front, and thousands may wait.
const LEAST: Duration = Duration::from_secs(5);
/// Longest: most proxies cut a silent connection after a minute or a few.
const MOST: Duration = Duration::from_secs(3_600);
/// Bytes of an error that is passed on in an event.
const MOST_ERROR_BYTES: usize = 64 << 10;

/// An answer that is awaited.
pub(crate) type Awaited = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Where a request is, for whoever wants to know while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Option<Ticket>>);

impl Standing {
    pub(crate) fn set(&self, ticket: Option<Ticket>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ticket;
    }

    fn get(&self) -> Option<Ticket> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client wishes; `default` where it says nothing, and where what it says is no number.
pub(crate) fn wished(seconds: Option<f64>, default: Option<Duration>) -> Option<Duration> {
    let interval = match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok().filter(|interval| !interval.is_zero())?,
        None => default?,
    };
    Some(interval.clamp(LEAST, MOST))
}

/// Waits for the answer for one interval; then begins one that waits on, and says so.
pub(crate) async fn hold(
    mut answer: Awaited,
    scaler: Arc<Scaler>,
    standing: Arc<Standing>,
    interval: Duration,
) -> Response {
    if let Ok(answer) = tokio::time::timeout(interval, &mut answer).await {
        return answer;
    }
    let pause = Box::pin(tokio::time::sleep(Duration::ZERO));
    let held = Held { state: State::Waits(answer), scaler, standing, interval, pause };
    let mut response = Response::new(StatusCode::OK, held.boxed_unsync());
    let headers = &mut response.head.headers;
    headers.push("content-type", b"text/event-stream");
    headers.push("cache-control", b"no-cache");
    headers.push(ACCEPTED, b"true");
    response
}

/// The body of an answer that has yet to begin.
struct Held {
    state: State,
    scaler: Arc<Scaler>,
    standing: Arc<Standing>,
    interval: Duration,
    pause: Pin<Box<Sleep>>,
}

enum State {
    Waits(Awaited),
    /// The answer as it comes.
    Streams(Body),
    /// An answer that is no stream, as far as it has come.
    Collects(Body, BytesMut),
    Over,
}

impl Held {
    fn comment(&self) -> Bytes {
        let mut comment = String::from(": forewarm ");
        match self.standing.get().map(|ticket| self.scaler.ahead(ticket)) {
            Some(ahead) => comment.push_str(&format!("queued position={}", ahead + 1)),
            None => comment.push_str("at a replica"),
        }
        if let Some(eta) = self.scaler.ready_in() {
            comment.push_str(&format!(" eta={:.0}s", eta.as_secs_f64().ceil()));
        }
        comment.push_str("\n\n");
        Bytes::from(comment)
    }
}

/// One event with these words, whatever they are.
fn event(words: &[u8]) -> Bytes {
    let mut event = BytesMut::new();
    for line in words.split(|&byte| byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.extend_from_slice(b"\n");
    }
    event.extend_from_slice(b"\n");
    event.freeze()
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let this = &mut *self;
            match &mut this.state {
                State::Waits(answer) => match answer.as_mut().poll(context) {
                    Poll::Ready(Response { head, body }) => {
                        this.state = match head.status.is_success() && is_event_stream(&head.headers) {
                            true => State::Streams(body),
                            false => State::Collects(body, BytesMut::new()),
                        };
                    }
                    Poll::Pending => {
                        std::task::ready!(this.pause.as_mut().poll(context));
                        let next = tokio::time::Instant::now() + this.interval;
                        this.pause.as_mut().reset(next);
                        return Poll::Ready(Some(Ok(Frame::data(this.comment()))));
                    }
                },
                State::Streams(body) => return Pin::new(body).poll_frame(context),
                State::Collects(body, words) => {
                    let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                    match frame {
                        Some(Ok(frame)) => {
                            let data = frame.into_data().unwrap_or_default();
                            let room = MOST_ERROR_BYTES.saturating_sub(words.len());
                            words.extend_from_slice(&data[..data.len().min(room)]);
                        }
                        Some(Err(error)) => {
                            this.state = State::Over;
                            return Poll::Ready(Some(Err(error)));
                        }
                        None => {
                            let event = event(words);
                            this.state = State::Over;
                            return Poll::Ready(Some(Ok(Frame::data(event))));
                        }
                    }
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}
