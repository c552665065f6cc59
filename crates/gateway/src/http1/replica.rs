//! An HTTP/1.1 connection to a replica, for one request at a time.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderValue;
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_rustls::client::TlsStream;

use super::{Http1Error, answer::Answer, poll_read, write};
use crate::{message::ResponseHead, outgoing::Outgoing};

/// Bytes of a body up to which it is copied behind its head: to send one piece costs the system less than two.
const JOINED: usize = 8 << 10;

/// A connection.
pub(crate) struct ToReplica {
    stream: Stream,
    unsent: Unsent,
    pub(super) answer: Answer,
}

/// What of a request is not sent.
#[derive(Default)]
struct Unsent {
    head: Vec<u8>,
    body: Bytes,
    /// How many bytes of both are sent.
    sent: usize,
    /// Whether it waits in the connection's TLS.
    is_held: bool,
    /// Why nothing of it can be sent.
    failed: Option<io::Error>,
}

impl ToReplica {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    pub(crate) fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Stream::Tls(Box::new(stream)))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, unsent: Unsent::default(), answer: Answer::none() }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is none. The connection is of no use any more then.
    pub(crate) async fn send(
        &mut self,
        request: &Outgoing,
        host: Option<&HeaderValue>,
    ) -> Result<ResponseHead, Http1Error> {
        self.unsent = Unsent::new(request, host);
        self.answer = Answer::to(request.method().clone());
        poll_fn(|context| self.poll_head(context)).await
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Http1Error>> {
        let Self { stream, unsent, answer } = self;
        loop {
            unsent.poll_send(stream, context);
            let came = match ready!(stream.poll_read(context, |came| match came {
                [] => answer.end().map(|()| None),
                came => answer.head(came),
            })) {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(response))) => Ok(response),
                Ok(Err(Http1Error::Closed)) => Err(Http1Error::Closed),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(error) => Err(error.into()),
            };
            // Who refuses a request may answer before all of it is there, and hang up; without an answer it is known best
            // why nothing could be sent.
            return Poll::Ready(came.map_err(|error| unsent.failed.take().map_or(error, Into::into)));
        }
    }

    /// The next of the body of its answer; `None` at its end. After an error there is nothing more.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Http1Error>>> {
        let Self { stream, unsent, answer } = self;
        let first = answer.first();
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(first)));
        }
        while !answer.is_read() {
            unsent.poll_send(stream, context);
            let came = ready!(stream.poll_read(context, |came| match came {
                [] => answer.end().map(|()| Bytes::new()),
                came => answer.data(came),
            }));
            match came {
                Ok(Ok(data)) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(data)),
                Err(error) => {
                    // Nothing more comes, whatever was to come.
                    drop(answer.end());
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
        Poll::Ready(None)
    }

    /// Whether all of the answer was taken.
    pub(crate) fn is_end(&self) -> bool {
        self.answer.is_end()
    }

    /// Whether all of the last request was sent and answered, and the replica keeps the connection.
    pub(crate) fn may_be_followed(&self) -> bool {
        self.answer.may_be_followed() && self.unsent.is_sent()
    }

    /// Whether it can take a request: the last one is over, and the replica has not hung up. It wakes nobody until it is used
    /// again.
    pub(crate) fn is_free(&mut self) -> bool {
        // What comes unasked is the answer to no request.
        let is_silent = |stream: &mut Stream| {
            stream.poll_read(&mut Context::from_waker(Waker::noop()), |_| ()).is_pending()
        };
        self.may_be_followed() && is_silent(&mut self.stream)
    }
}

impl fmt::Debug for ToReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What passes is nobody's business.
        f.debug_struct("ToReplica").finish_non_exhaustive()
    }
}

impl Unsent {
    fn new(request: &Outgoing, host: Option<&HeaderValue>) -> Self {
        let body = request.body();
        if body.len() > JOINED {
            let head = write::request(request, host, 0);
            return Self { head, body: body.clone(), ..Self::default() };
        }
        let mut head = write::request(request, host, body.len());
        head.extend_from_slice(body);
        Self { head, ..Self::default() }
    }

    fn is_sent(&self) -> bool {
        self.head.is_empty() && self.body.is_empty() && !self.is_held && self.failed.is_none()
    }

    /// Sends what can be sent.
    fn poll_send(&mut self, stream: &mut Stream, context: &mut Context<'_>) {
        while self.sent < self.head.len() + self.body.len() {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            match stream.poll_write(context, head, body) {
                Poll::Pending => return,
                Poll::Ready(Ok(sent)) if sent > 0 => {
                    self.sent += sent;
                    self.is_held = matches!(stream, Stream::Tls(_));
                }
                Poll::Ready(sent) => {
                    return self.fail(sent.map_or_else(|error| error, |_| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        if self.sent > 0 {
            // They hold what they are a part of: the body, all that was read with it from the client.
            (self.head, self.body, self.sent) = (Vec::new(), Bytes::new(), 0);
        }
        if self.is_held
            && let Poll::Ready(flushed) = stream.poll_flush(context)
        {
            self.is_held = false;
            if let Err(error) = flushed {
                self.fail(error);
            }
        }
    }

    fn fail(&mut self, why: io::Error) {
        *self = Self { failed: Some(why), ..Self::default() };
    }
}

/// What it goes over.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn poll_read<T>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match self {
            Stream::Plain(stream) => poll_read(stream, context, take),
            Stream::Tls(stream) => poll_read(stream, context, take),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, head: &[u8], body: &[u8]) -> Poll<io::Result<usize>> {
        let both = [IoSlice::new(head), IoSlice::new(body)];
        match self {
            Stream::Plain(stream) if body.is_empty() => Pin::new(stream).poll_write(context, head),
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, &both),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, &both),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
