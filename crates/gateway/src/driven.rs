//! An HTTP/1.1 connection to a replica that moves only while somebody who uses it polls it: it has no task of its
//! own, so that what comes from a replica wakes the task that passes it on, and nobody in between.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::inner_waker::InnerWaker;

/// Headers an answer may have.
const MAX_HEADERS: usize = 100;

/// A connection, for one request at a time.
pub(crate) struct Driven {
    sender: SendRequest<Full<Bytes>>,
    connection: Moving,
    waker: InnerWaker,
}

/// What moves the bytes; `None`: it has ended.
struct Moving(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

impl Moving {
    /// Moves what can be moved. How it ended, if it has, is told by whatever waits for it.
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && let Poll::Ready(ended) = connection.as_mut().poll(context)
        {
            self.0 = None;
            if let Err(error) = ended {
                tracing::trace!(%error, "a connection to a replica ended");
            }
        }
    }
}

impl Driven {
    pub(crate) async fn handshake(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self { sender, connection: Moving(Some(Box::pin(connection))), waker: InnerWaker::default() })
    }

    /// Returns when it can take a request: when it has seen the last answer's end.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        let Self { sender, connection, waker } = self;
        poll_fn(|context| {
            waker.poll(context, |context| {
                connection.poll(context);
                sender.poll_ready(context)
            })
        })
        .await
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send_request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, connection, waker } = self;
        let mut answer = pin!(sender.send_request(request));
        poll_fn(|context| {
            waker.poll(context, |context| {
                connection.poll(context);
                answer.as_mut().poll(context)
            })
        })
        .await
    }

    /// The next of the body of its answer.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.waker.poll(context, |context| {
            self.connection.poll(context);
            Pin::new(&mut *body).poll_frame(context)
        })
    }

    /// Wakes nobody until it is used again.
    pub(crate) fn rest(&mut self) {
        self.waker.forget();
    }

    /// Whether one that rests was closed by the replica.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.connection.poll(&mut Context::from_waker(Waker::noop()));
        self.connection.0.is_none()
    }
}

impl fmt::Debug for Driven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").field("sender", &self.sender).finish_non_exhaustive()
    }
}
