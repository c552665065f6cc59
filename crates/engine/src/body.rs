//! The bodies the engine answers with.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::api::StreamPieces;
use crate::core::{Reached, Ticket};

/// An answer's body.
pub(crate) enum EngineBody {
    /// All of it at once.
    Full(Option<Bytes>),
    /// Tokens as they come.
    Stream(Box<TokenStream>),
}

/// A streamed answer. Dropping it, as the server does when the client leaves, takes the request out of the engine.
pub(crate) struct TokenStream {
    ticket: Ticket,
    pieces: StreamPieces,
    sent: u32,
    done: bool,
    handler: &'static str,
    since: Instant,
}

impl Drop for TokenStream {
    /// Counts the HTTP request when its stream ends, as vLLM's middleware does.
    fn drop(&mut self) {
        self.ticket.core().record_http(self.handler, "POST", 200, self.since.elapsed().as_secs_f64());
    }
}

impl EngineBody {
    pub(crate) fn full(content: impl Into<Bytes>) -> Self {
        Self::Full(Some(content.into()).filter(|content: &Bytes| !content.is_empty()))
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Stream(stream) => stream.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(content) => content.is_none(),
            Self::Stream(stream) => stream.done,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(content) => SizeHint::with_exact(content.as_ref().map_or(0, |c| c.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl TokenStream {
    /// `since` is when the HTTP request came.
    pub(crate) fn new(ticket: Ticket, pieces: StreamPieces, handler: &'static str, since: Instant) -> Self {
        Self { ticket, pieces, sent: 0, done: false, handler, since }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let Reached { tokens, finished } = self.ticket.poll(cx);
        if tokens == self.sent && !finished {
            return Poll::Pending;
        }
        let piece = self.pieces.next(self.sent, tokens, finished);
        self.sent = tokens;
        self.done = finished;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
