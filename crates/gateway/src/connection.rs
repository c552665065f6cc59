//! One client's connection: TLS or not, HTTP/1.1 or HTTP/2, until it ends or the gateway says goodbye.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::Alarm,
    answer::{Body, Response, error},
    clock,
    forwarded::Origin,
    http1::{BadHead, FromClient, Http1Error},
    message::RequestHead,
    pace::{Pace, Paced, pumped},
    server::Front,
};

/// Bytes of headers that a request may have over HTTP/2.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Streams that a client may reset before they were looked at, and that we may reset for what it sends; beyond
/// that the connection ends (CVE-2023-44487 and CVE-2025-8671).
const MAX_RESETS: usize = 20;
const MAX_OUR_RESETS: usize = 256;
/// Bytes that one request, and all of a connection, may send ahead: a body of 30 MiB need not wait for each
/// acknowledgement.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of an answer that wait in the gateway for one HTTP/2 client.
const MAX_SEND_BYTES: usize = 128 << 10;
/// An HTTP/2 connection that says nothing is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that an HTTP/2 connection may go without a new request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The preface of HTTP/2 begins so, and no method of HTTP/1.1 does.
const HTTP2: &[u8; 2] = b"PR";
/// How long an idle HTTP/1.1 connection is kept when the gateway stops. It cannot be told to go: a request may be on
/// its way already, and would fail. Until then each answer says that it is the last.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// Who sends a request.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) origin: Arc<Origin>,
    pub(crate) pace: Pace,
}

/// Serves a connection.
pub(crate) async fn serve(
    front: Arc<Front>,
    stream: TcpStream,
    peer: SocketAddr,
    closing: CancellationToken,
) {
    // A task has room for whatever its future may hold at any time: TLS, the most of all, makes its own where it is spoken.
    match front.tls.as_ref().map(|tls| tls.acceptor()) {
        Some(acceptor) => Box::pin(encrypted(front, acceptor, stream, peer, closing)).await,
        None => plain(front, stream, peer, closing).await,
    }
}

async fn plain(front: Arc<Front>, stream: TcpStream, peer: SocketAddr, closing: CancellationToken) {
    let mut start = [0; HTTP2.len()];
    // Whatever is wrong with the connection, serving it finds out.
    tokio::select! {
        _ = stream.peek(&mut start) => {}
        () = tokio::time::sleep(front.config.read_timeout) => return,
        () = last_chance(&closing) => return,
    }
    let pace = Pace::default();
    let stream = Paced::new(stream, front.config.send_timeout, pace.clone());
    let origin = Arc::new(Origin::new(peer, false));
    Connection { front, origin, pace, closing }.speak(stream, &start == HTTP2).await;
}

async fn encrypted(
    front: Arc<Front>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    closing: CancellationToken,
) {
    let pace = Pace::default();
    let stream = Paced::new(stream, front.config.send_timeout, pace.clone());
    match tokio::time::timeout(front.config.read_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let origin = Arc::new(Origin::new(peer, true));
            Connection { front, origin, pace, closing }.speak(stream, is_http2).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a client's TLS handshake failed"),
        Err(_) => tracing::debug!("a client's TLS handshake took too long"),
    }
}

/// Returns when the gateway stops and has waited long enough for what may be on its way.
async fn last_chance(closing: &CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(LAST_CHANCE).await;
}

struct Connection {
    front: Arc<Front>,
    origin: Arc<Origin>,
    pace: Pace,
    closing: CancellationToken,
}

impl Connection {
    /// Each protocol on its own, so that neither takes the room of the other.
    fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_http2: bool,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let ended = |ended: hyper::Result<()>| {
            if let Err(error) = ended {
                tracing::trace!(%error, "a client's connection ended");
            }
        };
        match is_http2 {
            true => Box::pin(self.http2(stream).map(ended)),
            false => Box::pin(self.http1(stream)),
        }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { front, origin, pace, closing } = self;
        let mut connection = FromClient::new(stream);
        let mut patience = Patience::new(front.config.read_timeout, &closing);
        while let Some(head) = patience.head(&mut connection).await {
            let response = match head {
                Ok(head) => {
                    let client = Client { origin: Arc::clone(&origin), pace: pace.clone() };
                    // A connection keeps the room of what it awaits; this one is gone once an answer begins.
                    let Some(response) = Box::pin(answer(&front, head, &mut connection, client)).await else {
                        return;
                    };
                    response
                }
                Err(bad) => unreadable(&bad),
            };
            if let Err(error) = connection.send(response, closing.is_cancelled()).await {
                return tracing::trace!(%error, "a client's connection ended");
            }
            if !connection.keeps() {
                break;
            }
        }
        connection.close().await;
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> hyper::Result<()> {
        let Self { front, origin, closing, .. } = self;
        let (read_timeout, send_timeout) = (front.config.read_timeout, front.config.send_timeout);
        let begun = Arc::new(AtomicU64::new(0));
        let begins = Arc::clone(&begun);
        let service = service_fn(move |request: Request<Incoming>| {
            let (front, pace) = (Arc::clone(&front), Pace::default());
            let client = Client { origin: Arc::clone(&origin), pace: pace.clone() };
            begins.fetch_add(1, Relaxed);
            async move {
                let (parts, body) = request.into_parts();
                let response = front.answer(parts.into(), body, client).await;
                let response: http::Response<Body> = response.into();
                Ok::<_, Infallible>(response.map(|body| pumped(body, send_timeout, pace)))
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_OUR_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BYTES)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let (mut seen, mut patience) = (0, read_timeout);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = closing.cancelled() => break,
                () = tokio::time::sleep(patience) => match begun.load(Relaxed) {
                    // It may not even have said hello in full.
                    0 => return Ok(()),
                    now if now == seen => break,
                    now => (seen, patience) = (now, IDLE_TIMEOUT),
                },
            }
        }
        // Two GOAWAY frames: the client begins no more, and what it had begun is served.
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

/// The answer to a request; `None` when the client hangs up before it begins.
async fn answer(
    front: &Front,
    head: RequestHead,
    connection: &mut FromClient<impl AsyncRead + AsyncWrite + Unpin>,
    client: Client,
) -> Option<Response> {
    let pass = match front.greet(&head) {
        Ok(pass) => pass,
        Err(response) => return Some(*response),
    };
    let body = front.receive(connection).await;
    let under_way = match front.forward(head, body, client, pass) {
        Ok(under_way) => under_way,
        Err(response) => return Some(*response),
    };
    let mut answer = pin!(under_way.answer());
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => connection.poll_gone(context).map(|()| None),
    })
    .await
}

/// What a client is told that speaks something else.
fn unreadable(bad: &Http1Error) -> Response {
    let (status, code) = match bad {
        Http1Error::LongHead | Http1Error::Head(BadHead::Syntax(httparse::Error::TooManyHeaders)) => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large")
        }
        Http1Error::Head(_) | Http1Error::Chunk(_) | Http1Error::Io(_) | Http1Error::Closed => {
            (StatusCode::BAD_REQUEST, "request_unreadable")
        }
    };
    error(status, "invalid_request_error", code, &bad.to_string())
}

/// How long the next request on a connection is waited for.
struct Patience<'a> {
    read_timeout: Duration,
    closing: &'a CancellationToken,
    alarm: Alarm,
    last_chance: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    /// Who asked to be woken when the gateway stops. It asks once, not again with each request: it takes a lock.
    asked: Option<Waker>,
}

impl<'a> Patience<'a> {
    fn new(read_timeout: Duration, closing: &'a CancellationToken) -> Self {
        let last_chance = Box::pin(last_chance(closing));
        Self { read_timeout, closing, alarm: Alarm::default(), last_chance, asked: None }
    }

    /// The next request; `None` when there is none, or it does not come in time.
    async fn head(
        &mut self,
        connection: &mut FromClient<impl AsyncRead + AsyncWrite + Unpin>,
    ) -> Option<Result<RequestHead, Http1Error>> {
        // A span that is too long for the clock is as good as for ever.
        let until = clock::now().checked_add(self.read_timeout);
        poll_fn(|context| {
            match connection.poll_head(context) {
                Poll::Ready(Ok(head)) => return Poll::Ready(head.map(Ok)),
                // Whoever has gone hears nothing.
                Poll::Ready(Err(Http1Error::Io(_) | Http1Error::Closed)) => return Poll::Ready(None),
                Poll::Ready(Err(bad)) => return Poll::Ready(Some(Err(bad))),
                Poll::Pending => {}
            }
            if until.is_some_and(|until| self.alarm.poll(until, context).is_ready()) {
                return Poll::Ready(None);
            }
            let is_known = self.asked.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if is_known && !self.closing.is_cancelled() {
                return Poll::Pending;
            }
            self.asked = Some(context.waker().clone());
            self.last_chance.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}
