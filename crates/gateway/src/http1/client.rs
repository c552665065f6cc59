//! A client's HTTP/1.1 connection: one request after the other.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Http1Error, poll_read,
    read::{has_no_body, one_content_length},
    request::Request,
    write::{self, Framing, LAST_CHUNK},
};
use crate::{
    answer::{Body, BodyError, Response},
    date,
    decimal::Decimal,
    message::{RequestHead, ResponseHead},
    receive::Source,
};

/// Bytes of an answer that wait for its client; beyond them no more is asked for.
const MAX_UNSENT: usize = 64 << 10;
/// Room behind a head for what is usually sent with it.
const JOINED: usize = 1 << 10;
/// Longest time that what a client still sends is passed over when its connection is to end. Hung up on while it sends, it may
/// lose the answer that says why.
const LINGER: Duration = Duration::from_secs(1);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection.
pub(crate) struct FromClient<S> {
    stream: S,
    request: Request,
    unsent: Unsent,
    /// Whether another request may come.
    keeps: bool,
}

/// What is written and not sent.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// Whether some may wait in the connection's TLS.
    is_held: bool,
}

/// A body that is being sent.
struct Sending {
    /// `None`: all of it was taken.
    body: Option<Body>,
    framing: Framing,
    /// Why it breaks off, once what came before is sent: a client that is hung up on without a word knows less.
    breaks: Option<BodyError>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FromClient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, request: Request::none(), unsent: Unsent::default(), keeps: true }
    }

    /// The head of the next request; `None` when no more come.
    ///
    /// # Errors
    /// When what comes is none. Nothing more can be read then.
    pub(crate) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<RequestHead>, Http1Error>> {
        let Self { stream, request, .. } = self;
        // A client need not wait for one answer before it sends the next request.
        let mut head = if request.is_all_seen() { Ok(None) } else { request.head(&[]) };
        while let Ok(None) = head {
            head = match ready!(poll_read(stream, context, |came| match came {
                [] if request.is_all_seen() => None,
                [] => Some(Err(Http1Error::Closed)),
                came => Some(request.head(came)),
            }))? {
                Some(head) => head,
                None => return Poll::Ready(Ok(None)),
            };
        }
        self.keeps = head.is_ok() && request.keeps;
        Poll::Ready(head)
    }

    /// Returns when the client has hung up. To be asked when all of its request was read.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { stream, request, .. } = self;
        // One that sends much ahead is looked at again when it has its answer.
        while !request.is_full() {
            let is_gone = ready!(poll_read(stream, context, |came| {
                request.unread(came);
                came.is_empty()
            }));
            if is_gone.unwrap_or(true) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Sends the answer to the request that was read last; `is_last` says that the connection is to end with it.
    ///
    /// # Errors
    /// When the client has hung up, or the answer broke off. It must not be given another then.
    pub(crate) async fn send(&mut self, response: Response, is_last: bool) -> Result<(), BodyError> {
        let Response { mut head, body } = response;
        if head.headers.get("date").is_none() {
            head.headers.push("date", &date::now());
        }
        let framing = self.framing(&mut head, &body);
        self.keeps &= !is_last && self.request.is_read() && framing != Framing::Close;
        let connection = match (self.keeps, self.request.is_http_11) {
            (false, _) => Some("close"),
            // It has to be told that what it asked for is so.
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        };
        write::response(&mut self.unsent.bytes, &head, framing, connection, JOINED);
        drop(head);
        let has_more = !matches!(framing, Framing::None) && !body.is_end_stream();
        let mut sending = Sending { body: has_more.then_some(body), framing, breaks: None };
        if !has_more {
            sending.breaks = sending.end(&mut self.unsent.bytes).err();
        }
        poll_fn(|context| self.poll_send(&mut sending, context)).await
    }

    /// How the end of an answer is said. Whoever wrote its head may have said how long its body is.
    fn framing(&self, head: &mut ResponseHead, body: &Body) -> Framing {
        let ResponseHead { status, headers, .. } = head;
        let is_no_body = has_no_body(*status, &self.request.method);
        let mut length = one_content_length(headers);
        // To another request than a HEAD, the body that is not sent is not the one whose length could be said.
        if length.is_none() && (!is_no_body || self.request.method == Method::HEAD) {
            length = body.size_hint().exact();
            if let Some(length) = length {
                headers.push("content-length", Decimal::whole(length).as_bytes());
            }
        }
        if status.is_informational() || *status == StatusCode::NO_CONTENT {
            headers.remove("content-length");
        }
        match length {
            _ if is_no_body => Framing::None,
            Some(length) => Framing::Length(length),
            None if self.request.is_http_11 => Framing::Chunked,
            None => Framing::Close,
        }
    }

    fn poll_send(&mut self, sending: &mut Sending, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            let taken = sending.poll_take(&mut self.unsent.bytes, context);
            let waits = taken.is_pending();
            if let Poll::Ready(Err(why)) = taken {
                (sending.body, sending.breaks) = (None, Some(why));
            }
            ready!(self.unsent.poll_send(&mut self.stream, context))?;
            if sending.body.is_none() {
                return Poll::Ready(sending.breaks.take().map_or(Ok(()), Err));
            }
            if waits {
                if self.request.is_read() && self.poll_gone(context).is_ready() {
                    return Poll::Ready(Err(Http1Error::Closed.into()));
                }
                return Poll::Pending;
            }
        }
    }

    /// Whether another request may come.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        let all_seen = self.request.is_read() && self.request.is_all_seen();
        if self.stream.shutdown().await.is_err() || all_seen {
            return;
        }
        let passed_over = poll_fn(|context| {
            loop {
                if !matches!(ready!(poll_read(&mut self.stream, context, |came| came.len())), Ok(1..)) {
                    return Poll::Ready(());
                }
            }
        });
        // Whoever goes on for longer does not listen.
        drop(tokio::time::timeout(LINGER, passed_over).await);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Source for FromClient<S> {
    fn announced(&self) -> u64 {
        self.request.announced()
    }

    fn is_end(&self) -> bool {
        self.request.is_end()
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Self { stream, request, unsent, .. } = self;
        let first = request.first();
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(first)));
        }
        while !request.is_read() {
            if mem::take(&mut request.expects) {
                unsent.bytes.extend_from_slice(CONTINUE);
            }
            // Who has not been told to send does not send.
            ready!(unsent.poll_send(stream, context))?;
            let came = ready!(poll_read(stream, context, |came| match came {
                [] => Err(Http1Error::Closed),
                came => request.data(came).map_err(Http1Error::from),
            }))?;
            if !matches!(&came, Ok(data) if data.is_empty()) {
                return Poll::Ready(Some(came.map_err(BodyError::from)));
            }
        }
        Poll::Ready(None)
    }
}

impl Unsent {
    /// Sends all of it.
    fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, &self.bytes[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.sent, self.is_held) = (self.sent + sent, true);
        }
        if self.is_held {
            // A stream that waits for its next event has no room for the last one.
            (self.bytes, self.sent) = (Vec::new(), 0);
            ready!(Pin::new(stream).poll_flush(context))?;
            self.is_held = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sending {
    /// Takes what there is of the body; pending when more is awaited.
    fn poll_take(&mut self, out: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while let Some(body) = &mut self.body
            && out.len() < MAX_UNSENT
        {
            let frame = ready!(Pin::new(&mut *body).poll_frame(context));
            let is_end = frame.is_none() || body.is_end_stream();
            let data = frame.transpose()?.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
            self.write(out, &data)?;
            if is_end {
                self.body = None;
                self.end(out)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<(), BodyError> {
        match &mut self.framing {
            Framing::Chunked => write::chunk(out, data),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or("the answer is longer than it said")?;
                out.extend_from_slice(data);
            }
            Framing::Close => out.extend_from_slice(data),
            Framing::None => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self.framing {
            Framing::Chunked => out.extend_from_slice(LAST_CHUNK),
            Framing::Length(1..) => return Err("the answer is shorter than it said".into()),
            Framing::Length(0) | Framing::Close | Framing::None => {}
        }
        Ok(())
    }
}
